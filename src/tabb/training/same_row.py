"""Runs that stand in one row of a table must be the same but for their seed and the rows that it draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabb.errors import RunError
from tabb.files import read_json
from tabb.plain import plain, rule_from_plain
from tabb.provenance import EXTRAS, comparable
from tabb.registry import learner_name
from tabb.training.config import settings_from
from tabb.training.spec import RunSpec, differences
from tabb.training.starting_weights import Start, same_start

BY_SEED = "rows_seed"
"""the setting that may go with the seed"""


def check_same_row(root: Path, spec: RunSpec) -> None:
    """Raise `RunError` (one line) where a run below `root` has the learner of `spec`, but other constants, settings,
    data files, task or environment: the table of `root` would show both as seeds of one method.
    """
    for file, config in _runs(root.rglob("config.json"), spec.learner):
        _refuse(file.parent, spec.learner, [name for name in differences(config, spec) if BY_SEED not in name])


def check_seeds_alike(
    folder: Path, config: Mapping[str, Any], seeds: Sequence[int], start: Start | None = None
) -> None:
    """Raise `RunError` (one line) where a run of another seed in `folder` has the learner of `config`, but differs.

    `start` is where the weights of these seeds come from.
    """
    learner = _learner(config) or ""
    own = {folder / f"seed{seed}" for seed in seeds}
    for file, other in _runs(folder.glob("seed*/config.json"), learner):
        if file.parent not in own:
            starts = [] if same_start(other, start) else ["start"]
            _refuse(file.parent, learner, [*_differences(other, config), *starts])


def _runs(files: Iterator[Path], learner: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(files):
        config = read_json(file)
        if _learner(config) == learner:
            yield file, config


def _learner(config: Any) -> str | None:
    """The learner of a `config.json`; None for another program's file of that name."""
    if not isinstance(config, Mapping) or not isinstance(config.get("rule"), Mapping):
        return None
    backbone = (config.get("settings") or {}).get("backbone") or {}
    return learner_name(config["rule"].get("name", ""), backbone.get("name"))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    configs = [dict(one), dict(other)]
    for config in configs:
        # Read and written again: what a run from before did not have yet has its default.
        config["rule"] = plain(rule_from_plain(config["rule"]))
        config["settings"] = plain(settings_from(config))
    drawn = [config["settings"].pop(BY_SEED) for config in configs]
    settings = configs[0]["settings"]
    limited = [domain for domain in ("source", "target") if drawn[0] != drawn[1] and settings[f"{domain}_rows"]]
    data = comparable(*(config.get("data") or {} for config in configs))
    for each in data:
        if EXTRAS in each:  # those of the rows that a seed draws differ as the rows do
            each[EXTRAS] = {domain: of for domain, of in each[EXTRAS].items() if domain not in limited}
        for domain in limited:
            each.pop(domain, None)
            each.pop("held_out", None)
    for part in ("rule", "settings"):
        first, second = (config[part] for config in configs)
        yield from (f"{part} {name}" for name in {**first, **second} if first.get(name) != second.get(name))
    if configs[0].get("task") != configs[1].get("task"):
        yield "task"
    if (one.get("origin") or {}).get("env") != (other.get("origin") or {}).get("env"):
        yield "env"
    yield from (f"{name} data" for name in {**data[0], **data[1]} if data[0].get(name) != data[1].get(name))


def _refuse(folder: Path, learner: str, names: Sequence[str]) -> None:
    if names:
        raise RunError(
            f"{folder}: is a run of {learner} that differs in {names[0]}, and one table would show both as seeds of "
            "the same method; choose another folder"
        )
