"""A trained policy: raw observation in, action out, with the normaliser inside; needs NumPy alone to act."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.data.storage import atomic
from tabb.errors import RunError, UsageError
from tabb.networks import MLP, Normaliser

FORMAT = "tabb-policy-1"

UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile),
    *(KeyError, ValueError, TypeError, AttributeError),
    RuntimeError,  # a flipped bit can ask for an unknown zip method, or for a password
)
"""what NumPy, zipfile and json raise on a damaged file"""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Deterministic policy tanh(MLP((observation - mean) / scale)), float32.

    `about` says where it comes from (task, rule, seed, updates, versions); it travels in the saved file.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: tuple[NDArray[np.float32], ...]
    """Shape [in, out] each."""
    biases: tuple[NDArray[np.float32], ...]
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_networks(cls, network: MLP, normaliser: Normaliser, about: dict[str, Any] | None = None) -> Policy:
        """The policy of a learner's network; copies the arrays to the host."""
        if network.activation != "relu":
            raise UsageError(f"a policy needs relu networks, not {network.activation}")

        def host(array: Any) -> NDArray[np.float32]:
            # A copy: device memory may be given away to the next compiled call.
            return np.array(array, np.float32)

        return cls(
            host(normaliser.mean),
            host(normaliser.scale),
            tuple(map(host, network.weights)),
            tuple(map(host, network.biases)),
            dict(about or {}),
        )

    def __repr__(self) -> str:
        return f"Policy({self.observation_size} -> {self.action_size}, {self.about})"

    @property
    def observation_size(self) -> int:
        return self.weights[0].shape[0]

    @property
    def action_size(self) -> int:
        return self.weights[-1].shape[1]

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Actions in [-1, 1], shape [..., A], for raw observations of shape [..., S].

        Raises:
            UsageError: the last axis is not the observation size that the policy was trained with, or a number in it
            is not finite.
        """
        x = np.asarray(observation, np.float32)
        if x.ndim == 0 or x.shape[-1] != self.observation_size:
            raise UsageError(
                f"observation has shape {x.shape}: the policy takes [..., {self.observation_size}]"
                + (f" ({self.about['task']})" if self.about.get("task") else "")
            )
        if not np.isfinite(x).all():
            raise UsageError("observation holds NaN or infinity: a policy must not act on it; check the sensors")
        x = (x - self.mean) / self.scale
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight
            x += bias
            if i < last:
                np.maximum(x, 0.0, out=x)
        return np.tanh(x, out=x)

    def save(self, path: str | Path) -> Path:
        """Write the policy as `.npz` (whole or not at all). Raises `RunError` where that fails."""
        path = Path(path)
        arrays = {"mean": self.mean, "scale": self.scale}
        arrays |= {f"weight_{i}": weight for i, weight in enumerate(self.weights)}
        arrays |= {f"bias_{i}": bias for i, bias in enumerate(self.biases)}
        header = json.dumps({"format": FORMAT, "layers": len(self.weights), "about": self.about})
        with atomic(path) as part, open(part, "wb") as file:
            np.savez(file, allow_pickle=False, header=np.array(header), **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy written by `save`; nothing is unpickled.

        Raises:
            RunError: no such file, or not a policy, or a damaged one.
        """
        path = Path(path)
        if path.is_dir() and (path / "policy.npz").is_file():
            path = path / "policy.npz"  # a run folder
        elif path.is_dir():
            runs = sorted(file.parent.name for file in path.glob("*/policy.npz"))
            there = f"it holds runs: name one of {', '.join(runs)}" if runs else "give a policy.npz or a finished run"
            raise RunError(f"{path}: is a folder without a policy; {there}")
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] != FORMAT:
                    raise RunError(f"{path}: format {header['format']!r} is not {FORMAT!r}; use the tabb that wrote it")
                layers = range(int(header["layers"]))
                policy = cls(
                    file["mean"],
                    file["scale"],
                    tuple(file[f"weight_{i}"] for i in layers),
                    tuple(file[f"bias_{i}"] for i in layers),
                    header["about"],
                )
        except FileNotFoundError:
            raise RunError(f"{path}: no such policy; give a policy.npz or a finished run folder") from None
        except UNREADABLE as error:
            raise RunError(f"{path}: is not a tabb policy or is damaged ({error}); train or copy it again") from None
        policy._check(path)
        return policy

    def _check(self, path: Path) -> None:
        """Shapes that fit together and finite numbers, or `RunError`."""
        width = self.mean.size
        fits = all(array.dtype == np.float32 for array in (self.mean, self.scale, *self.weights, *self.biases))
        fits = fits and self.mean.shape == self.scale.shape == (width,) and len(self.weights) > 0
        for weight, bias in zip(self.weights, self.biases, strict=True):
            fits = fits and weight.ndim == 2 and weight.shape[0] == width and bias.shape == weight.shape[1:]
            width = bias.shape[0] if bias.ndim == 1 else -1
        if not fits:
            raise RunError(f"{path}: its layers do not fit together; the file is damaged, copy it again")
        if not all(np.isfinite(array).all() for array in (self.mean, self.scale, *self.weights, *self.biases)):
            raise RunError(f"{path}: holds numbers that are not finite; the run that wrote it diverged")
