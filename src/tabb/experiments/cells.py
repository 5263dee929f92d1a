"""Cells of `tabb.experiments.extraction`: several folders of them as one table, if they were measured alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabb.errors import UsageError
from tabb.files import read_json

TEMPERATURE = 0.5
"""IQL's β on these data"""
SETTINGS = ("updates", "target_rows", "evaluations", "episodes", "backbone", "model")
"""what cells of one table were all measured with; the critic and IQL's β are in the names of their policies"""


def check_same(cells: Mapping[Path, Mapping[str, Any]], allowed: Collection[str] = ()) -> None:
    """Raise `UsageError` if cells of one table differ in a setting, unless it is `allowed` to differ.

    Cells from before a setting was written tell nothing of it.
    """
    for name in (name for name in SETTINGS if name not in allowed):
        told = [(file, cell[name]) for file, cell in cells.items() if name in cell]
        for file, value in told:
            first, same = told[0]
            if value != same:
                raise UsageError(
                    f"{file}: {name} is {value}, but {first} has {same}; print two tables, or allow {name!r} to differ"
                )


def merged(folders: Sequence[Path], allowed: Collection[str] = ()) -> list[dict[str, Any]]:
    """The cells of all folders, those of one task, target, seed and length together; other critics are in the names.

    Raises `UsageError` if two files say different things of one policy, or for other settings (`check_same`).
    """
    files = {file: read_json(file) for folder in folders for file in folder.glob("*.json")}
    check_same(files, allowed)
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    said: dict[tuple[Any, ...], tuple[Path, float]] = {}
    for file, cell in sorted(files.items()):
        key = tuple(cell[name] for name in ("task", "target", "seed", "updates", "target_rows"))
        critic = "" if cell["critic"] == "target-only" else f"{cell['critic']} ({cell['critic_source']}): "
        beta = cell.get("temperature", TEMPERATURE)
        critic += "" if beta == TEMPERATURE else f"β {beta:g}: "
        one = cells.setdefault(
            key, {name: cell[name] for name in ("task", "target", "seed", "returns")} | {"scores": {}}
        )
        scores = {critic + name: score for name, score in cell["scores"].items()}
        for what, value in ({"returns": cell["returns"]} | scores).items():
            first, same = said.setdefault((*key, what), (file, value))
            if value != same:
                raise UsageError(
                    f"{file}: {what} is {value:.4g}, but {first} says {same:.4g} of the same cell; leave one out"
                )
        one["scores"] |= scores
    return list(cells.values())


def gain_interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of differences, one for each target, with a 95% interval by bootstrap over targets."""
    draws = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def table(folders: Sequence[Path], allowed: Collection[str] = ()) -> str:
    """The cells of the folders as a Markdown table, and means over those cells that have every policy.

    Below them is how far each policy is above the first: the mean over tasks and targets (of which seeds are averaged
    first) with a 95% interval by bootstrap over them.
    """
    cells = merged(folders, allowed)
    names = list(dict.fromkeys(name for cell in cells for name in cell["scores"]))
    lines = [f"| task | target data | seed | the data | {' | '.join(names)} |", "|---" * (4 + len(names)) + "|"]
    for cell in cells:
        scores = [f"{cell['scores'][name]:z.1f}" if name in cell["scores"] else "-" for name in names]
        start = f"| {cell['task']} | {cell['target']} | {cell['seed']} | {cell['returns']:.1f} |"
        lines.append(f"{start} {' | '.join(scores)} |")
    whole = [cell for cell in cells if all(name in cell["scores"] for name in names)]
    if not whole:
        return "\n".join(lines)
    targets = sorted({(cell["task"], cell["target"]) for cell in whole})

    def by_target(name: str) -> NDArray[np.float64]:
        groups = [[cell for cell in whole if (cell["task"], cell["target"]) == target] for target in targets]
        return np.array([np.mean([cell["scores"][name] for cell in group]) for group in groups])

    values = {name: by_target(name) for name in names}
    means = " | ".join(f"{values[name].mean():z.1f}" for name in names)
    data = np.mean([cell["returns"] for cell in whole])
    lines.append(f"| mean of the {len(whole)} with all policies | | | {data:.1f} | {means} |")
    gains = []
    for name in names[1:]:
        gain, low, high = gain_interval(values[name] - values[names[0]])
        gains.append(f"{gain:+z.1f} [{low:+z.1f}, {high:+z.1f}]")
    lines.append(f"| above {names[0]} | | | | | {' | '.join(gains)} |")
    return "\n".join(lines)
