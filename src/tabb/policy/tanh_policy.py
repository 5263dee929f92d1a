"""A trained policy: raw observation in, action out, with the normaliser inside; needs NumPy alone to act."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.action_bounds import ActionBounds, action_bounds
from tabb.errors import RunError, UsageError
from tabb.files import atomic, path_of, quoted
from tabb.float32 import spacing
from tabb.networks import MLP, Committee, Normaliser, members_of
from tabb.own_files import refuse_others
from tabb.policy.actor import Actor

UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(LookupError, ValueError, TypeError, AttributeError),
    RuntimeError,  # a flipped bit can ask for an unknown zip method, or for a password
)
"""what NumPy, zipfile and json raise on a damaged file"""


SEVERAL = "-several"
"""what is added to the format of a file that holds several networks"""
BOUNDED = "-bounded"
"""what is added to the format of a file that holds the bounds of the action space"""

COARSE = 1e-3
"""A column is coarse in float32 if that resolves no more than this share of its spread."""

Layers = tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.float32], ...]]
"""Weights [in, out] and biases [out] of a relu network, or [n, in, out] and [n, 1, out] of n that act as their mean."""


def host_layers(network: MLP | Committee) -> Layers:
    """The arrays of networks, copied to the host: device memory may be given away to the next compiled call.

    Raises `UsageError` for networks that are not relu.
    """
    members = members_of(network)
    if members[0].activation != "relu":
        raise UsageError(f"a policy needs relu networks, not {members[0].activation}")
    each = [
        (
            tuple(np.array(weight, np.float32) for weight in member.weights),
            tuple(np.array(bias, np.float32) for bias in member.biases),
        )
        for member in members
    ]
    if len(each) == 1:
        return each[0]
    weights, biases = zip(*each, strict=True)
    return tuple(map(np.stack, zip(*weights, strict=True))), tuple(
        np.stack(layer)[:, None] for layer in zip(*biases, strict=True)
    )


def networks_of(layers: Layers) -> tuple[Layers, ...]:
    """The layers of each network: weights [in, out] and biases [out]."""
    weights, biases = layers
    if weights[0].ndim == 2:
        return (layers,)
    return tuple(
        (tuple(weight[i] for weight in weights), tuple(bias[i, 0] for bias in biases)) for i in range(len(weights[0]))
    )


def forward(layers: Layers, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network's output [..., out] for inputs [..., in], before any squashing; the mean of several networks."""
    weights, _ = layers
    if not weights or weights[0].ndim == 2:
        return _through(layers, x)
    outputs = _through(layers, x.reshape(-1, x.shape[-1]))  # [n, rows, out]
    return (outputs.sum(axis=0) / len(outputs)).reshape(*x.shape[:-1], outputs.shape[-1])


def _through(layers: Layers, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs of all layers, of each network on its own."""
    weights, biases = layers
    last = len(weights) - 1
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = x @ weight
        x += bias
        if i < last:
            np.maximum(x, 0.0, out=x)
    return x


def finite(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """The actions of tanh, all of them finite; raises `UsageError` where a network overflowed."""
    if not math.isfinite(actions.sum()):  # numbers in [-1, 1] have a finite sum; to ask each takes twice as long
        raise UsageError(
            "observation is so far from the training data that the policy's networks overflow: a policy must not act "
            "on it; check the sensors and their units"
        )
    return actions


KINDS: dict[str, type[Policy]] = {}
"""Kinds of policy by the format of their file. A subclass enters itself."""


def why_no_policy(run: Path) -> str:
    """What to say of a run folder without a policy: whether it can be had, and how."""
    if not (run / "result.json").is_file():
        return f"is not finished; finish it with `tabb train --resume {quoted(run)}`"
    if (run / "checkpoint.npz").is_file():
        return f"has no policy.npz any more; make it anew with `tabb train --resume {quoted(run)}`"
    return "has neither policy.npz nor checkpoint.npz any more; put one back, or train the run again in another folder"


@dataclasses.dataclass(frozen=True, eq=False)  # arrays are not equal or unequal as a whole
class Policy:
    """Deterministic policy tanh(MLP((observation - mean) / scale)), float32, scaled to the bounds of the action space.

    Several networks act as the mean of their outputs, before tanh.

    `about` says where it comes from (task, rule, seed, updates, versions); it travels in the saved file.
    """

    format: ClassVar[str] = "tabb-policy-1"
    remembers: ClassVar[bool] = False
    """Whether its action depends on the steps before: then it acts through `actor` alone."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: tuple[NDArray[np.float32], ...]
    """Shape [in, out] each; of n networks [n, in, out]."""
    biases: tuple[NDArray[np.float32], ...]
    """Shape [out] each; of n networks [n, 1, out]."""
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    action_bounds: ActionBounds | None = dataclasses.field(default=None, kw_only=True)
    """What -1 and 1 are in the robot's units; None where it takes actions in [-1, 1]."""

    def __init_subclass__(cls) -> None:
        KINDS[cls.format] = cls

    @classmethod
    def from_networks(
        cls, network: MLP | Committee, normaliser: Normaliser, about: dict[str, Any] | None = None
    ) -> Policy:
        """The policy of a learner's network, or of several; copies the arrays to the host."""
        mean, scale = np.array(normaliser.mean, np.float32), np.array(normaliser.scale, np.float32)
        return cls(mean, scale, *host_layers(network), dict(about or {}))

    def as_network(self) -> MLP | Committee:
        """What `from_networks` made the policy of: a function of standardised observations, whose tanh is the action.

        In JAX.
        """
        layers = networks_of((self.weights, self.biases))
        members = tuple(MLP(tuple(map(jnp.asarray, one[0])), tuple(map(jnp.asarray, one[1]))) for one in layers)
        return members[0] if len(members) == 1 else Committee(members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.observation_size} -> {self.action_size}, {self.about})"

    @property
    def observation_size(self) -> int:
        return self.mean.size

    @property
    def action_size(self) -> int:
        return self.biases[-1].shape[-1]

    @property
    def networks(self) -> int:
        """How many networks act as their mean."""
        return len(networks_of((self.weights, self.biases)))

    @functools.cached_property
    def coarse_columns(self) -> NDArray[np.intp]:
        """Columns of the observation so far from 0 that float32 does not resolve them.

        `act` standardises them in double precision; what takes float32 observations needs an origin subtracted first.
        """
        return np.flatnonzero(spacing(self.mean) > COARSE * self.scale)

    def act(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Actions inside the bounds of the action space, shape [..., A], for raw observations of shape [..., S].

        The bounds are `action_bounds`, or [-1, 1] if that is None. Raises as `act_scaled` does.
        """
        actions = self.act_scaled(observation)
        return actions if self.action_bounds is None else self.action_bounds.restored(actions)

    def act_scaled(self, observation: ArrayLike) -> NDArray[np.float32]:
        """The same actions scaled to [-1, 1], as `tabb.Transitions` have them.

        Raises:
            UsageError: the last axis is not the observation size that the policy was trained with, or a number in it
            is masked, not finite, or so large that the networks overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # the error says it
            return finite(self._act(self.standardised(observation)))

    def standardised(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Raw observations [..., S] as the policy's networks see them. Raises as `act_scaled` does."""
        try:
            given = np.asarray(observation)
            if given.dtype.kind in "cSUmM":  # NumPy would drop an imaginary part, or read text as numbers
                raise TypeError(given.dtype)
            x = np.asarray(given, np.float32)
        except (TypeError, ValueError):
            raise UsageError(
                f"observation is {type(observation).__name__}: give an array of numbers [..., {self.observation_size}]"
            ) from None
        if x.ndim == 0 or x.shape[-1] != self.observation_size:
            raise UsageError(
                f"observation has shape {x.shape}: the policy takes [..., {self.observation_size}]"
                + (f" ({self.about['task']})" if self.about.get("task") else "")
            )
        if np.ma.is_masked(observation):
            raise UsageError("observation holds masked numbers: a policy must not act on them; check the sensors")
        if not np.isfinite(x).all():
            what = "numbers beyond float32" if np.isfinite(given.astype(np.float64)).all() else "NaN or infinity"
            raise UsageError(f"observation holds {what}: a policy must not act on it; check the sensors")
        standardised = (x - self.mean) / self.scale
        far = self.coarse_columns
        if far.size and given.dtype != np.float32:
            standardised[..., far] = (given[..., far] - self.mean[far].astype(np.float64)) / self.scale[far]
        return standardised

    def actor(self, episodes: int = 1) -> Actor:
        """What acts in so many new episodes in step. A policy that `remembers` keeps what it has seen of them there."""
        del episodes
        return Actor(self.act)

    def predict(self, observation: ArrayLike) -> NDArray[np.float32]:
        """The same as `act`, under the name that scikit-learn and d3rlpy have for it."""
        return self.act(observation)

    def _act(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions for standardised observations."""
        x = forward((self.weights, self.biases), x)
        return np.tanh(x, out=x)

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        arrays = {"mean": self.mean, "scale": self.scale}
        arrays |= {f"weight_{i}": weight for i, weight in enumerate(self.weights)}
        return arrays | {f"bias_{i}": bias for i, bias in enumerate(self.biases)}

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[np.float32]], about: dict[str, Any]) -> Policy:
        layers = range(sum(name.startswith("weight_") for name in arrays))
        return cls(
            arrays["mean"],
            arrays["scale"],
            tuple(arrays[f"weight_{i}"] for i in layers),
            tuple(arrays[f"bias_{i}"] for i in layers),
            about,
        )

    def save(self, path: str | Path) -> Path:
        """Write the policy as `.npz` (whole or not at all).

        Raises:
            RunError: the file cannot be written.
            UsageError: `path` is none, or is there and is no policy that tabb wrote.
        """
        path = path_of(path, "path")
        refuse_others(path, "policy")
        arrays, bounds = self._arrays(), self.action_bounds
        format = self.format + (SEVERAL if self.weights[0].ndim == 3 else "")
        if bounds is not None:  # whoever does not know of them must not take the file for one without
            format += BOUNDED
            arrays |= {"action_low": np.asarray(bounds.low), "action_high": np.asarray(bounds.high)}
        header = json.dumps({"format": format, "layers": len(self.weights), "about": self.about})
        with atomic(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, header=np.array(header), **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy written by `save`, of whichever kind; nothing is unpickled.

        Raises:
            RunError: no such file, or not a policy, or a damaged one.
            UsageError: `path` is none.
        """
        path = path_of(path, "path")
        if path.is_dir() and (path / "policy.npz").is_file():
            path = path / "policy.npz"  # a run folder
        elif path.is_dir():
            runs = sorted(file.parent.name for file in path.glob("*/policy.npz"))
            there = f"it holds runs: name one of {', '.join(runs)}" if runs else "give a policy.npz or a finished run"
            if (path / "config.json").is_file():
                raise RunError(f"{path}: {why_no_policy(path)}")
            raise RunError(f"{path}: is a folder without a policy; {there}")
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                kind = KINDS.get(str(header["format"]).removesuffix(BOUNDED).removesuffix(SEVERAL))
                if kind is None:
                    raise RunError(
                        f"{path}: format {header['format']!r} is not {Policy.format!r}; use the tabb that wrote it"
                    )
                arrays = {name: file[name] for name in file.files if name != "header"}
            low, high = (arrays.pop(name, None) for name in ("action_low", "action_high"))
            policy = kind._from_arrays(arrays, header["about"])
            if low is not None and high is not None:
                policy = dataclasses.replace(policy, action_bounds=action_bounds(low, high, policy.action_size))
            if len(policy.weights) != header["layers"]:
                raise ValueError(f"{len(policy.weights)} of {header['layers']} layers")
            policy._check(path)
        except FileNotFoundError:
            raise RunError(f"{path}: no such policy; give a policy.npz or a finished run folder") from None
        except UNREADABLE as error:
            # NumPy takes any other file for a pickle, and its advice is to load it all the same.
            why = "no npz archive" if "pickle" in str(error) else error
            raise RunError(f"{path}: is not a tabb policy or is damaged ({why}); train or copy it again") from None
        return policy

    def _check(self, path: Path) -> None:
        """Shapes that fit together and finite numbers, or `RunError`."""
        networks = self.weights[0].shape[:-2]
        self._check_layers(path, (self.weights, self.biases), self.observation_size, networks)

    def _check_layers(self, path: Path, layers: Layers, width: int, networks: tuple[int, ...] = ()) -> None:
        """`networks` is what stands before [in, out] in the shapes of weights: nothing, or their number."""
        weights, biases = layers
        everything = (self.mean, self.scale, *weights, *biases)
        fits = all(array.dtype == np.float32 for array in everything) and len(weights) > 0
        fits = fits and self.mean.shape == self.scale.shape == (self.mean.size,)
        fits = fits and len(networks) < 2 and 0 not in networks
        before = (*networks, 1) if networks else ()
        for weight, bias in zip(weights, biases, strict=True):
            fits = fits and bias.ndim > 0 and weight.shape == (*networks, width, bias.shape[-1])
            fits = fits and bias.shape == (*before, bias.shape[-1])
            width = bias.shape[-1] if bias.ndim else -1
        if not fits:
            raise RunError(f"{path}: its layers do not fit together; the file is damaged, copy it again")
        if not all(np.isfinite(array).all() for array in everything):
            raise RunError(f"{path}: holds numbers that are not finite; the run that wrote it diverged")


KINDS[Policy.format] = Policy
