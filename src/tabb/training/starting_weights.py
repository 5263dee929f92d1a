"""Start a run from the weights of a finished one: its policy, its critics, or both.

Networks see normalised observations, and two runs with other data have other normalisers. The first layer of each
network is therefore written anew, so that as a function of raw observations it is what it was:

    x = (o - m) / s,  x' = (o - m') / s'      the observation as the old run and the new run see it
    W' = W · s' / s                           rows of the observation; those of actions stay
    b' = b + ((m' - m) / s) W

What is tuned beside the policy, the price of its entropy, goes on with it. Optimisers begin anew, and so does the
learning rate's schedule.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tabb.action_bounds import ActionBounds, same_bounds
from tabb.backbones import Backbone
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.files import quoted
from tabb.networks import MLP, Normaliser
from tabb.plain import rule_from_plain
from tabb.policy import Policy
from tabb.training.checkpoint import load_tree
from tabb.training.config import backbone_of, settings_from
from tabb.training.folder import RunFolder
from tabb.training.loop import Program
from tabb.training.record import Run
from tabb.transitions import Transitions

PARTS = ("policy", "critic")
"""what a run can start from; the critic with V and the slow copies"""


def renormalised(network: MLP, before: Normaliser, after: Normaliser) -> MLP:
    """The same function of raw observations, for inputs that `after` normalises where `before` did.

    The network's first inputs are the observation; what follows (an action, a latent) stays as it is.
    """
    mean, scale, new_mean, new_scale = (
        np.asarray(values, np.float64) for values in (before.mean, before.scale, after.mean, after.scale)
    )
    weight, bias = np.array(network.weights[0], np.float64), np.asarray(network.biases[0], np.float64)
    size = len(mean)
    bias = bias + ((new_mean - mean) / scale) @ weight[:size]
    weight[:size] *= (new_scale / scale)[:, None]
    return dataclasses.replace(
        network,
        weights=(jnp.asarray(weight, jnp.float32), *network.weights[1:]),
        biases=(jnp.asarray(bias, jnp.float32), *network.biases[1:]),
    )


def going_on(backbone: Backbone, ended: Mapping[str, Any]) -> dict[str, Any]:
    """What the backbone tunes beside its policy, from the state that another run `ended` with.

    ln 0 of a run that wanted no entropy is left out: it could never change again.
    """
    return {name: ended[name] for name in backbone.tuned_numbers if np.isfinite(ended[name])}


class _OtherRun(NamedTuple):
    """The finished run that a run starts from."""

    path: Path
    checkpoint: Path
    normaliser: Normaliser
    sizes: Sizes
    state: Any
    """A fresh state of its program: what its checkpoint looks like."""
    names: list[str]
    """Fields of the state that are taken."""
    action_bounds: ActionBounds | None
    """What its actions were scaled by."""

    def check_layers(self, state: Any) -> None:
        """Raise `UsageError` where the networks that are taken have other layers than those of `state`."""
        for name in self.names:
            ours, theirs = _shapes(getattr(state, name)), _shapes(getattr(self.state, name))
            if ours != theirs:
                raise UsageError(
                    f"start={self.path}: its {name} has layers {theirs}, this run's {ours}; give both the same "
                    "backbone constants (hidden, layer_norm, policies)"
                )


@dataclasses.dataclass(frozen=True)
class Start:
    """The run, or the folder of runs, that new runs start from, and which of its parts they take."""

    path: Path
    """Absolute."""
    parts: tuple[str, ...]

    def folder(self, seed: int) -> RunFolder:
        """The run that the run of this seed starts from. Raises `UsageError` where there is no finished one."""
        one = RunFolder(self.path)
        folder = one if one.config_file.exists() else RunFolder(self.path / f"seed{seed}")
        if not folder.config_file.exists():
            raise UsageError(
                f"start={self.path}: is no run folder, and has no seed{seed} to start seed {seed} from; "
                "name a finished run, or put it back there"
            )
        if not folder.result_file.exists():
            raise UsageError(
                f"start={folder.path}: is not finished; go on with `tabb train --resume {quoted(folder.path)}` first"
            )
        for file in (folder.checkpoint_file, folder.policy_file):
            if not file.exists():
                raise UsageError(f"start={folder.path}: has no {file.name}; put it back, or start from another run")
        return folder

    def record(self, seed: int) -> dict[str, Any]:
        """What a run's record says of its start: the path that was given, the run, its parts, the weights' hash."""
        folder = self.folder(seed)
        digest = hashlib.sha256(folder.checkpoint_file.read_bytes()).hexdigest()
        return {"path": str(self.path), "run": str(folder.path), "parts": list(self.parts), "sha256": digest}

    def check(
        self,
        learner: Program,
        seeds: Sequence[int],
        sizes: Sizes | None = None,
        target: Transitions | None = None,
    ) -> None:
        """Raise `UsageError` where a seed has no finished run to start from, or one whose networks do not fit.

        `sizes` are those of the new run's data, `target` its target data; while they are unknown, all else is checked.
        """
        for seed in seeds:
            other = self._other_run(learner, seed)
            if sizes is not None and sizes != other.sizes:
                raise UsageError(
                    f"start={other.path}: has {_counts(other.sizes)}, this run's data {_counts(sizes)}; start from a "
                    "run on data of the same sizes"
                )
            if target is not None and not same_bounds(target.action_bounds, other.action_bounds):
                raise UsageError(
                    f"start={other.path}: acts in {other.action_bounds or '[-1, 1]'}, this run's data are scaled from "
                    f"{target.action_bounds or '[-1, 1]'}; start from a run with the same bounds of actions"
                )
            other.check_layers(learner.init(other.sizes, jax.random.key(0)))

    def weights(self, learner: Program, state: Any, normaliser: Normaliser, seed: int) -> Any:
        """The fresh `state` of a run with the parts of the other run, for observations that `normaliser` normalises.

        Raises `UsageError` where the other run's networks do not fit.
        """
        other = self._other_run(learner, seed)
        other.check_layers(state)
        fields = other.state._fields
        tuned = learner.backbone.tuned_numbers if "policy" in self.parts else ()
        # What the rule learned along the way comes last in the file, and its shapes are not known here.
        last = max(map(fields.index, (*other.names, *tuned)))
        loaded, _ = load_tree(other.checkpoint, tuple(other.state)[: last + 1], more=True)
        networks = jax.tree.map(
            lambda network: renormalised(network, other.normaliser, normaliser),
            {name: loaded[fields.index(name)] for name in other.names},
            is_leaf=lambda node: isinstance(node, MLP),
        )
        numbers = going_on(learner.backbone, dict(zip(fields, loaded, strict=False))) if tuned else {}
        return state._replace(**networks, **numbers)

    def normaliser(self, learner: Program, seed: int) -> Normaliser:
        """The one of the run that this seed starts from. Raises `UsageError` where that cannot be started from."""
        return self._other_run(learner, seed).normaliser

    def _other_run(self, learner: Program, seed: int) -> _OtherRun:
        """The run that this seed starts from. Raises `UsageError` for another backbone, and for features of a rule."""
        folder = self.folder(seed)
        config = folder.config()
        rule = rule_from_plain(config["rule"])
        settings = settings_from(config)
        backbone = backbone_of(settings, rule)
        if backbone.name != learner.backbone.name:
            raise UsageError(
                f"start={folder.path}: is a run of backbone {backbone.name}, not of {learner.backbone.name}; start "
                "from a run of the same backbone"
            )
        if not any(backbone.parts.values()):
            raise UsageError(
                f"start={folder.path}: backbone {backbone.name} does not start from another run's weights; train "
                "without --start"
            )
        if not any(backbone.parts[part] for part in self.parts):
            raise UsageError(f"start={folder.path}: backbone {backbone.name} has no critics; take the policy")
        for one in (rule, learner.rule):
            if "critic" in self.parts and one.changes_features:
                raise UsageError(
                    f"start={folder.path}: the critics of rule {one.name} see features of their own, which another "
                    "run does not have; take the policy alone"
                )
        policy = Policy.load(folder.policy_file)
        sizes = Sizes(policy.observation_size, policy.action_size)
        return _OtherRun(
            path=folder.path,
            checkpoint=folder.checkpoint_file,
            normaliser=Normaliser(jnp.asarray(policy.mean), jnp.asarray(policy.scale)),
            sizes=sizes,
            state=Program(backbone, rule, settings.updates).init(sizes, jax.random.key(0)),
            names=[name for part in self.parts for name in backbone.parts[part]],
            action_bounds=policy.action_bounds,
        )


def start_from(start: str | Path | Run, parts: Sequence[str] = PARTS) -> Start:
    """The start that a user names: a run or its folder, and its parts. Raises `UsageError` for what cannot be one."""
    if isinstance(start, Run):
        if start.folder is None:
            raise UsageError("start: this run has no folder, and its critics are kept there; train it with folder=...")
        start = start.folder
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    if not parts or not set(parts) <= set(PARTS):
        raise UsageError(f"start_parts={parts}: give one or more of {', '.join(PARTS)}")
    return Start(Path(start).resolve(), tuple(part for part in PARTS if part in parts))


def same_start(config: Mapping[str, Any], start: Start | None) -> bool:
    """Whether the run of this `config.json` started as its seed would from `start`: same parts, same weights.

    Weights are compared by their hash, wherever they lie now; where they are gone, by the path that was given.
    """
    recorded = config.get("start")
    if recorded is None or start is None:
        return recorded is None and start is None
    if recorded["parts"] != list(start.parts):
        return False
    try:
        return bool(recorded["sha256"] == start.record(config["seed"])["sha256"])
    except UsageError:
        return bool(recorded_path(recorded) == str(start.path))


def recorded_path(recorded: Mapping[str, Any]) -> str:
    """The path that was given, from what `Start.record` wrote."""
    path: str = recorded.get("path", recorded["run"])
    return path


def _shapes(tree: Any) -> list[Any]:
    """Layers of networks as sizes, with what stands between them."""
    networks = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, MLP))
    return [(network.activation, *(tuple(weight.shape) for weight in network.weights)) for network in networks]


def _counts(sizes: Sizes) -> str:
    return f"{sizes.observation} observation and {sizes.action} action entries"
