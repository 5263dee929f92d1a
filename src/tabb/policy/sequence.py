"""A policy that remembers its episode: it acts by the last K steps and by what it is asked for. NumPy alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.errors import RunError, UsageError
from tabb.networks import MLP, Normaliser
from tabb.policy.actor import Actor
from tabb.policy.tanh_policy import Layers, Policy, finite, forward, host_layers
from tabb.transformer import Steps, Transformer, init_transformer

NETWORK = "network."
"""before the names of the transformer's arrays in a file"""


def host_transformer(network: Transformer) -> Transformer:
    """The same network with NumPy's arrays."""
    copied: Transformer = jax.tree.map(lambda leaf: np.array(leaf, np.float32), network)
    return copied


def _names(network: Transformer) -> list[str]:
    """A name for each array of the network, in the order of `jax.tree.leaves`."""
    paths = jax.tree_util.tree_leaves_with_path(network)
    return [NETWORK + jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SequencePolicy(Policy):
    """tanh(transformer(last K steps)): its action depends on the episode so far, so it acts through an `actor`.

    `weights` and `biases` are the last layer's.
    """

    format: ClassVar[str] = "tabb-sequence-policy-1"
    remembers: ClassVar[bool] = True

    network: Transformer | None = None
    """With NumPy's arrays."""
    context: int = 1
    """K: steps that it looks at, the present one among them."""
    start: float = 0.0
    """The return that it is asked for."""
    unit: float = 1.0
    """Its network sees returns in this unit."""
    command: Layers | None = None
    """Where it is asked for something else in each step: a network of the standardised observation."""
    reward_offset: float = 0.0
    """Added to each reward, as the rewards that it learned from had it."""

    @classmethod
    def from_transformer(
        cls,
        network: Transformer,
        context: int,
        start: ArrayLike,
        unit: ArrayLike,
        command: MLP | None,
        normaliser: Normaliser,
        about: dict[str, Any] | None = None,
    ) -> SequencePolicy:
        """The policy of a learner's networks; copies the arrays to the host."""
        network = host_transformer(network)
        return cls(
            np.array(normaliser.mean, np.float32),
            np.array(normaliser.scale, np.float32),
            (network.head.weight,),
            (network.head.bias,),
            dict(about or {}),
            network,
            context,
            float(np.asarray(start)),
            float(np.asarray(unit)),
            None if command is None else host_layers(command),
        )

    def actor(self, episodes: int = 1) -> SequenceActor:
        """What acts in so many new episodes in step, and remembers them."""
        return SequenceActor(self, episodes)

    def act_scaled(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Raises `UsageError`: an observation alone does not say what to do."""
        raise UsageError(
            "this policy remembers its episode, so it cannot act by an observation alone; begin episodes with "
            "policy.actor(episodes) and call its act(observations) and told(actions, rewards)"
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self.network is not None
        arrays: dict[str, NDArray[Any]] = {"mean": self.mean, "scale": self.scale}
        arrays |= dict(zip(_names(self.network), jax.tree.leaves(self.network), strict=True))
        arrays |= {"heads": np.array(self.network.blocks[0].heads), "context": np.array(self.context)}
        arrays |= {name: np.array(getattr(self, name), np.float32) for name in ("start", "unit", "reward_offset")}
        if self.command is not None:
            for i, (weight, bias) in enumerate(zip(*self.command, strict=True)):
                arrays |= {f"command_weight_{i}": weight, f"command_bias_{i}": bias}
        return arrays

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> SequencePolicy:
        observation, width = arrays[f"{NETWORK}observation.weight"].shape
        sizes = (
            *(observation, arrays[f"{NETWORK}action.weight"].shape[0], width),
            sum(name.endswith(".query.weight") for name in arrays),
            *(int(arrays["heads"]), len(arrays[f"{NETWORK}time"])),
        )
        shapes = jax.eval_shape(lambda key: init_transformer(*sizes, key), jax.random.key(0))
        leaves = [arrays[name] for name in _names(shapes)]
        for name, leaf, shape in zip(_names(shapes), leaves, jax.tree.leaves(shapes), strict=True):
            if leaf.shape != shape.shape or leaf.dtype != np.float32:
                raise ValueError(f"{name} is {leaf.dtype} {leaf.shape}, not float32 {shape.shape}")
        network: Transformer = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
        commands = range(sum(name.startswith("command_weight_") for name in arrays))
        return cls(
            arrays["mean"],
            arrays["scale"],
            (network.head.weight,),
            (network.head.bias,),
            about,
            network,
            int(arrays["context"]),
            float(arrays["start"]),
            float(arrays["unit"]),
            (
                tuple(arrays[f"command_weight_{i}"] for i in commands),
                tuple(arrays[f"command_bias_{i}"] for i in commands),
            )
            if commands
            else None,
            float(arrays["reward_offset"]),
        )

    def _check(self, path: Path) -> None:
        assert self.network is not None
        head = self.network.head
        self._check_layers(path, (self.weights, self.biases), head.weight.shape[0])
        if self.command is not None:
            self._check_layers(path, self.command, self.observation_size)
        numbers = (np.array([self.start, self.unit, self.reward_offset]), *jax.tree.leaves(self.network))
        if not all(np.isfinite(array).all() for array in numbers):
            raise RunError(f"{path}: holds numbers that are not finite; the run that wrote it diverged")
        fits = self.network.observation.weight.shape[0] == self.observation_size
        if not fits or self.context < 1 or not self.unit > 0:
            raise RunError(f"{path}: its networks do not fit together; the file is damaged, copy it again")


class SequenceActor(Actor):
    """Acts in B episodes in step by what it was shown and told of the last K steps of each."""

    def __init__(self, policy: SequencePolicy, episodes: int) -> None:
        """`episodes` begin now."""
        if episodes < 1:
            raise UsageError(f"episodes={episodes}: must be at least 1")
        sizes = (policy.observation_size, policy.action_size)
        self._policy = policy
        self._time = 0
        self._left = np.full(episodes, policy.start, np.float64)
        self._conditions = np.zeros((episodes, 0), np.float32)
        self._observations, self._actions = (np.zeros((episodes, 0, size), np.float32) for size in sizes)
        self._waits = False
        """whether the step that was acted in is not done yet"""

    def act(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Actions [B, A] inside the bounds of the action space for raw observations [B, S].

        Raises:
            UsageError: other observations than one for each episode that goes on, a number in them that is masked,
            not finite, or so large that the networks overflow, or the step before is not done (`told`). The episode may
            then go on with another observation.
        """
        policy = self._policy
        assert policy.network is not None
        if self._waits:
            raise UsageError("the policy remembers its episode: say told(actions, rewards) after each act(...)")
        with np.errstate(over="ignore", invalid="ignore"):  # the error says it
            x = policy.standardised(observations)
            if x.shape[:-1] != self._left.shape:
                raise UsageError(
                    f"observations have shape {x.shape}: give one for each of the {len(self._left)} episodes that go "
                    f"on, [{len(self._left)}, {policy.observation_size}]"
                )
            if policy.command is None:
                condition = (self._left / policy.unit).astype(np.float32)
            else:
                condition = forward(policy.command, x)[:, 0]
            conditions = np.concatenate([self._conditions, condition[:, None]], axis=1)
            seen = np.concatenate([self._observations, x[:, None]], axis=1)
            nothing = np.zeros((len(x), 1, policy.action_size), np.float32)
            steps = conditions.shape[1]
            times = np.broadcast_to(np.arange(self._time - steps + 1, self._time + 1), (len(x), steps))
            window = Steps(
                conditions,
                seen,
                np.concatenate([self._actions, nothing], axis=1),
                times,
                np.ones((len(x), steps), np.float32),
            )
            actions = finite(np.tanh(policy.network(window, last=True)[:, 0]))
        self._conditions, self._observations, self._waits = conditions, seen, True  # nothing of what was refused
        return actions if policy.action_bounds is None else policy.action_bounds.restored(actions)

    def told(self, actions: ArrayLike, rewards: ArrayLike) -> None:
        """The step is done.

        Raises `UsageError` where none was acted in, for other shapes than [B, A] and [B], and for numbers that are not
        finite: the policy would remember them for the rest of the episode.
        """
        policy, count = self._policy, len(self._left)
        done, gained = np.asarray(actions, np.float32), np.asarray(rewards, np.float64)
        if not self._waits:
            raise UsageError("told(actions, rewards) without an act(observations) before it: act first")
        if done.shape != (count, policy.action_size) or gained.shape != (count,):
            raise UsageError(
                f"told of actions {done.shape} and rewards {gained.shape}: give {(count, policy.action_size)} and "
                f"{(count,)}"
            )
        for name, numbers in (("actions", done), ("rewards", gained)):
            if not np.isfinite(numbers).all():
                raise UsageError(f"told of {name} that hold NaN or infinity: give those of the step, as numbers")
        if policy.action_bounds is not None:
            done = policy.action_bounds.scaled(done)
        self._actions = np.concatenate([self._actions, done[:, None]], axis=1)
        self._left = self._left - gained - policy.reward_offset
        # The next step makes K of them.
        first = max(0, self._actions.shape[1] - policy.context + 1)
        self._conditions, self._observations, self._actions = (
            past[:, first:] for past in (self._conditions, self._observations, self._actions)
        )
        self._time += 1
        self._waits = False

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Only the episodes of these rows go on."""
        self._left, self._conditions = self._left[rows], self._conditions[rows]
        self._observations, self._actions = self._observations[rows], self._actions[rows]
