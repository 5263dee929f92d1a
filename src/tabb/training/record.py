"""A finished run in Python, and whether a folder holds the same run as another."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.errors import RunError
from tabb.evaluation.scores import Evaluation, final_score
from tabb.files import warn_once
from tabb.jax_switches import check_as_before
from tabb.plain import plain, rule_from_plain
from tabb.policy import Policy
from tabb.provenance import comparable
from tabb.rules import Rule
from tabb.training.config import settings_from
from tabb.training.folder import RunFolder
from tabb.training.held_out import HeldOutMeasures
from tabb.training.loop import Program


class Learned(NamedTuple):
    """All that a run has learned."""

    config: dict[str, Any]
    """What `config.json` says of the run."""
    program: Program
    models: Any
    """What the rule fitted before training."""
    state: Any
    """The backbone's state after the last update."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run."""

    policy: Policy
    rule: Rule
    seed: int
    evaluations: tuple[tuple[int, Evaluation], ...]
    """(updates done, evaluation), in order."""
    seconds: dict[str, float]
    """Wall time of each part: prepare, compile, train, evaluate, checkpoint."""
    folder: Path | None
    held_out: tuple[HeldOutMeasures, ...] = ()
    """What held-out target episodes say of the policies along the run, in order; empty if none were held out."""

    learned: Learned | None = dataclasses.field(default=None, repr=False, compare=False)
    """The networks and what the rule fitted, on the device: what `tabb.score_rows` reads."""

    def predict(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Actions of the policy after the last update, as `Policy.predict`."""
        return self.policy.predict(observation)

    @property
    def score(self) -> float | None:
        """Mean over the last three evaluations, never the best one; None without evaluations."""
        return final_score([evaluation.mean for _, evaluation in self.evaluations])


def evaluation_from(line: dict[str, Any]) -> Evaluation:
    """The evaluation that a line of metrics records."""
    scores = None if line["scores"] is None else tuple(line["scores"])
    return Evaluation(tuple(line["returns"]), tuple(line["lengths"]), scores, line["first_seed"])


def warn_of_another_machine(folder: RunFolder, environment: dict[str, Any]) -> None:
    """Issue a `MachineWarning` where an unfinished run was begun elsewhere: its results may then be rounded otherwise.

    Elsewhere means other versions, another device or, on a CPU, another number of cores.
    """
    if folder.result_file.exists():
        return

    def told(of: dict[str, Any]) -> dict[str, Any]:
        machine = ("device", "cores") if environment["device"].startswith("cpu") else ("device",)
        return {**(of.get("versions") or {}), **{name: of[name] for name in machine if name in of}}

    then, now = told(folder.config().get("environment") or {}), told(environment)
    changed = [f"{name} {value}, now {now[name]}" for name, value in then.items() if now.get(name, value) != value]
    if changed:
        warn_once(
            f"{folder.path}: was begun with {'; '.join(changed)}: what it ends with need not be what it would have "
            "ended with there"
        )


def check_same_run(folder: RunFolder, config: dict[str, Any]) -> None:
    """Raise `RunError` unless the folder's run has this rule, these settings and these data.

    Raises `UsageError` where it was started under other switches of JAX.
    """
    before = folder.config()
    check_as_before((before.get("environment") or {}).get("jax"), str(folder.path))
    # Read and written again: settings that a run from before did not have yet have their defaults.
    before["settings"] = plain(settings_from(before))
    with contextlib.suppress(RunError, KeyError):  # another rule than this one, whose class cannot be found
        before["rule"] = plain(rule_from_plain(before["rule"]))
    then, now = ((one.get("origin") or {}).get("env") for one in (before, config))
    if None not in (then, now) and then != now:
        raise RunError(f"{folder.path}: was evaluated in {then}, not in {now}; go on there, or choose another folder")
    # The same weights may lie elsewhere now.
    before, config = (
        one | {"start": {name: one["start"][name] for name in ("parts", "sha256")}} if one.get("start") else one
        for one in (before, config)
    )
    before["data"], data = comparable(before.get("data") or {}, config["data"])
    config = config | {"data": data}
    for part in ("rule", "settings", "task", "data", "start"):
        if before.get(part) != config.get(part):
            detail = ""
            if isinstance(config.get(part), dict):
                old = before.get(part) or {}
                name = next(key for key in {**old, **config[part]} if old.get(key) != config[part].get(key))
                detail = f" ({name})"
            raise RunError(
                f"{folder.path}: was started with another {part}{detail}; resume it as it was, or choose another folder"
            )
