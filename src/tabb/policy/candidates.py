"""BCQ's policy: decode candidate actions, perturb them, take the one of the highest Q. NumPy alone, like `Policy`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.errors import RunError
from tabb.networks import MLP, Normaliser
from tabb.policy.tanh_policy import Layers, Policy, forward, host_layers


@dataclasses.dataclass(frozen=True, repr=False, eq=False)  # Policy's own: not a page of arrays
class CandidatePolicy(Policy):
    """argmax over k of Q(s, a_k), a_k = clip(ã_k + reach tanh(ξ(s, ã_k)), ±1), ã_k = tanh(decoder(s, z_k)).

    `weights` and `biases` are the decoder's. The latents z_k are drawn once, before training: BCQ draws them anew at
    each step, which would make the policy random.
    """

    format: ClassVar[str] = "tabb-candidate-policy-1"

    perturbation: Layers = ((), ())
    """ξ: (s, a) to a change of a."""
    critic: Layers = ((), ())
    """Q: (s, a) to a value."""
    latents: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Shape [k, z]."""
    reach: float = 0.0

    @classmethod
    def from_candidates(
        cls,
        decoder: MLP,
        perturbation: MLP,
        critic: MLP,
        latents: ArrayLike,
        reach: float,
        normaliser: Normaliser,
        about: dict[str, Any] | None = None,
    ) -> CandidatePolicy:
        """The policy of BCQ's networks; copies the arrays to the host."""
        return cls(
            np.array(normaliser.mean, np.float32),
            np.array(normaliser.scale, np.float32),
            *host_layers(decoder),
            dict(about or {}),
            host_layers(perturbation),
            host_layers(critic),
            np.array(latents, np.float32),
            float(reach),
        )

    def _act(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(self.latents)
        states = np.broadcast_to(x[..., None, :], (*x.shape[:-1], count, x.shape[-1]))
        latents = np.broadcast_to(self.latents, (*x.shape[:-1], *self.latents.shape))
        actions = np.tanh(forward((self.weights, self.biases), np.concatenate([states, latents], axis=-1)))
        change = np.tanh(forward(self.perturbation, np.concatenate([states, actions], axis=-1)))
        actions = np.clip(actions + np.float32(self.reach) * change, -1.0, 1.0)
        values = forward(self.critic, np.concatenate([states, actions], axis=-1))[..., 0]
        best = np.argmax(values, axis=-1)[..., None, None]
        return np.take_along_axis(actions, best, axis=-2)[..., 0, :]

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        arrays = super()._arrays() | {"latents": self.latents, "reach": np.array(self.reach, np.float32)}
        for name, (weights, biases) in (("perturbation", self.perturbation), ("critic", self.critic)):
            arrays |= {f"{name}_weight_{i}": weight for i, weight in enumerate(weights)}
            arrays |= {f"{name}_bias_{i}": bias for i, bias in enumerate(biases)}
        return arrays

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[np.float32]], about: dict[str, Any]) -> CandidatePolicy:
        plain = Policy._from_arrays(arrays, about)

        def layers(name: str) -> Layers:
            count = sum(key.startswith(f"{name}_weight_") for key in arrays)
            return (
                tuple(arrays[f"{name}_weight_{i}"] for i in range(count)),
                tuple(arrays[f"{name}_bias_{i}"] for i in range(count)),
            )

        return cls(
            plain.mean,
            plain.scale,
            plain.weights,
            plain.biases,
            about,
            layers("perturbation"),
            layers("critic"),
            arrays["latents"],
            float(arrays["reach"]),
        )

    def _check(self, path: Any) -> None:
        pair = self.observation_size + self.action_size
        latents = self.latents.shape[-1] if self.latents.ndim == 2 and len(self.latents) else -1
        self._check_layers(path, (self.weights, self.biases), self.observation_size + latents)
        for layers in (self.perturbation, self.critic):
            self._check_layers(path, layers, pair)
        if self.perturbation[1][-1].size != self.action_size or self.critic[1][-1].size != 1:
            raise RunError(f"{path}: its networks do not fit together; the file is damaged, copy it again")
