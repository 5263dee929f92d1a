"""The main result, from cells of `tabb.experiments.extraction`: a table for the pages, and the README's picture.

    python docs/tools/extraction.py            draws docs/main-result.png

The cells are committed in benchmarks/results/extraction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from scores import RESULTS
from tabb.evaluation.figures import ENDS, new_figure, save_png
from tabb.experiments.cells import gain_interval, merged
from tabb.experiments.extraction import QUALITIES
from tabb.files import read_json

MAIN, CORRECTIVE, MATCHING, FEWER, REFITTED = (
    RESULTS / "extraction" / name for name in ("main", "corrective", "matching", "rows-1000", "rate-1e-2")
)
MIXED, UNITS, LATE = (RESULTS / "extraction" / name for name in ("mixed", "units", "units-late"))
DEFAULTS, TWO_MODELS = (RESULTS / "extraction" / name for name in ("defaults", "two-models"))
FEW_ROLLOUTS = RESULTS / "extraction" / "rollouts-16"
OTHERS = [RESULTS / "extraction" / name for name in ("others", "others-matching")]
PICTURE = Path(__file__).resolve().parents[1] / "main-result.png"
WORDS = {
    "logged": "IQL on target rows, as the field trains it",
    "best logged": "its policy imitates the best episodes alone",
    "logged x5": "five policy networks act as their mean",
    "best logged x5": "both, as tabb does",
}
"""policies of the experiment in words"""
HELD = {
    "best logged x5": "best episodes, five networks",
    "best clone matched x5": "held to the paths, model of target rows alone",
    "best clone matched:medium x5": "held to the paths, model of both domains",
}
"""policies that are held to logged paths, beside the one that is not"""
PICTURED = {
    "logged": "IQL on target rows, as the field trains it",
    "best logged x5": "the best episodes imitated by five networks",
    "best clone matched x5": "held to their paths in a model of target rows",
    "best clone matched:medium x5": "held to their paths in a model of both domains",
}
"""policies of the README's picture"""
ALONE = "best+0.01 clone matched x5"
"""the policy of target rows alone with all cures"""


def held_with(source: str) -> str:
    """The policy whose model knows source rows of this quality too."""
    return ALONE.replace("matched", f"matched:{source}")


TAKEN = {
    "alone": "target rows alone, with the same cures",
    "logged": "target rows alone, as the field trains it",
    "source": "the source's policy as it is",
    "held": "held to the paths in a model of both domains",
    "taken": "what `tabb train` takes",
}
"""what `tabb train` takes of two policies (`tabb.evaluation.choice`), beside its controls"""
CHOICES = {"medium": "choice", "expert": "choice-expert"}
"""where the choices between the source's policy and the target's are, by the quality of the source"""
COLOURS = ("#7f7f7f", "#56b4e9", "#0072b2", "#d55e00")


def cells_of(
    quality: str | None, cells: list[dict[str, Any]], names: Iterable[str] = tuple(WORDS)
) -> list[dict[str, Any]]:
    """The cells of one quality of target data, or all, that have the policies `names`."""
    return [
        cell
        for cell in cells
        if quality in (None, cell["target"]) and all(name in cell["scores"] for name in names)
    ]  # fmt: skip


def scores_of(cells: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """The score of a policy in each cell."""
    return np.array([cell["scores"][name] for cell in cells])


def summary() -> str:
    """Mean scores by quality of the target data, and over all with the gain over the first policy."""
    cells = merged([MAIN]) if MAIN.exists() else []
    if not cells:
        return "Not measured yet."
    names = list(WORDS)
    lines = [f"| target data | targets | the data's own mean | {' | '.join(WORDS.values())} |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for quality in (*QUALITIES, None):
        rows = cells_of(quality, cells)
        if rows:
            means = " | ".join(f"{scores_of(rows, name).mean():z.1f}" for name in names)
            data = np.mean([cell["returns"] for cell in rows])
            lines.append(f"| {quality or '**all**'} | {len(rows)} | {data:.1f} | {means} |")
    return "\n".join([*lines, gains(cells_of(None, cells), names)])


def corrective() -> str:
    """The cells of corrective rows by robot."""
    cells = merged([CORRECTIVE])
    return by_robot(cells, {name: name for name in cells[0]["scores"]})


def fewer() -> str:
    """Markdown: the policies that are held to their paths with 1,000 target rows, beside those with all of them."""
    cells, whole = merged([FEWER]), merged([MAIN, MATCHING])
    lines = [f"| target | rows | {' | '.join(HELD.values())} |", "|---" * (2 + len(HELD)) + "|"]
    for cell in cells:
        place = (cell["task"], cell["target"])
        (other,) = [one for one in whole if (one["task"], one["target"]) == place]
        for rows, scores in (("1,000", cell["scores"]), ("5,000", other["scores"])):
            shown = " | ".join(f"{scores[name]:z.1f}" for name in HELD)
            lines.append(f"| {', '.join(place)} | {rows} | {shown} |")
    return "\n".join(lines)


def refitted() -> str:
    """Markdown: policies that are held to their paths in a model fitted with today's rate, beside those of before."""
    (name,) = [name for name in HELD if name.endswith(":medium x5")]
    before = {(cell["task"], cell["target"]): cell["scores"][name] for cell in merged([MATCHING])}
    lines = ["| target | the log | rate of 0.001 | rate of 0.01 |", "|---" * 4 + "|"]
    pairs = []
    for cell in merged([REFITTED]):
        place = (cell["task"], cell["target"])
        pairs.append((before[place], cell["scores"][name]))
        shown = " | ".join(f"{score:z.1f}" for score in pairs[-1])
        lines.append(f"| {', '.join(place)} | {cell['returns']:z.1f} | {shown} |")
    old, new = np.array(pairs).T
    gain, low, high = gain_interval(new - old)
    lines.append(f"| *mean* | | {old.mean():z.1f} | {new.mean():z.1f} |")
    return "\n".join([*lines, "", f"Gain: {gain:+z.1f} [{low:+z.1f}, {high:+z.1f}]."])


def with_others(policy: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of a policy of the best episodes alone, and of one that imitates the others a little: mixed logs."""
    pair = f"best {policy}", f"best+0.01 {policy}"
    cells = cells_of("medium_expert", merged(OTHERS), pair)
    before, after = (scores_of(cells, name) for name in pair)
    return before, after


def others() -> str:
    """Markdown: policies that imitate the best episodes alone, beside those that imitate the others a little."""
    policies = {"": "clone x5", "held to the paths ": "clone matched:medium x5"}
    names = [f"best{little} {policy}" for policy in policies.values() for little in ("", "+0.01")]
    heads = ["best alone", "the others a hundredth", "held to the paths: best alone", "the others a hundredth"]
    lines = [f"| target | the log | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for cell in cells_of("medium_expert", merged(OTHERS), ()):
        scores = [cell["scores"].get(name) for name in names]
        shown = " | ".join("-" if score is None else f"{score:z.1f}" for score in scores)
        lines.append(f"| {cell['task']} | {cell['returns']:z.1f} | {shown} |")
    means, told = [], []
    for words, policy in policies.items():
        before, after = with_others(policy)
        gain, low, high = gain_interval(after - before)
        means += [f"{before.mean():z.1f}", f"{after.mean():z.1f}"]
        told.append(f"{words}{gain:+z.1f} [{low:+z.1f}, {high:+z.1f}] over {len(before)} targets")
    lines.append(f"| *mean of those measured* | | {' | '.join(means)} |")
    return "\n".join([*lines, "", f"Gain: {'; '.join(told)}."])


def matching() -> str:
    """The cells of trajectory matching by robot, and what the source adds to the model."""
    cells = [cell for cell in merged([MAIN, MATCHING]) if all(name in cell["scores"] for name in HELD)]
    if not cells:
        return "Not measured yet."
    _, alone, both = (scores_of(cells, name) for name in HELD)
    gain, low, high = gain_interval(both - alone)
    added = f"A model of both domains instead of target rows alone: {gain:+z.1f} [{low:+z.1f}, {high:+z.1f}]."
    return f"{by_robot(cells, HELD)}\n\n{added}"


def rollouts() -> str:
    """Markdown: runs whose policies are held to their paths by 64 rollouts an update, beside those by 16."""
    held = "best+0.01 clone matched{}:medium x5"
    many = {(cell["task"], cell["target"]): cell["scores"].get(held.format("")) for cell in merged(OTHERS)}
    rows = []
    for cell in merged([FEW_ROLLOUTS]):
        place = (cell["task"], cell["target"])
        rows.append((f"{', '.join(place)}, 10,000 updates", many[place], cell["scores"][held.format("/16")]))
    for file in sorted((RESULTS / "demo-rollouts-16").iterdir()):
        learner, seed = file.stem.split("-seed")
        words = f"the demo, {learner}, seed {seed}, 5,000 updates"
        rows.append((words, *(read_json(one)["score"] for one in (RESULTS / "demo" / file.name, file))))
    lines = ["| | 64 | 16 |", "|---|---|---|"]
    lines += [f"| {words} | {before:z.1f} | {after:z.1f} |" for words, before, after in rows]
    old, new = np.array([row[1:] for row in rows]).T
    return "\n".join([*lines, f"| *mean* | {old.mean():z.1f} | {new.mean():z.1f} |"])


def units() -> str:
    """Markdown: mixed logs with all cures, by the model: its source, its units, what counts at the end of its fit."""
    medium = held_with("medium")
    fits = [
        {(cell["task"], cell["seed"]): cell["scores"][medium] for cell in merged([folder])} for folder in (UNITS, LATE)
    ]
    heads = ("target rows alone", "expert source", "medium source", "target's units", "and target rows tenfold")
    lines = [f"| target | the log | as the field trains it | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    rows = []
    for cell in merged([MIXED]):
        scores = [cell["scores"].get(name) for name in ("logged", ALONE, held_with("expert"), medium)]
        scores += [fit.get((cell["task"], cell["seed"])) for fit in fits]
        shown = " | ".join("-" if score is None else f"{score:z.1f}" for score in scores)
        name = cell["task"] + (f", seed {cell['seed']}" if cell["seed"] else "")
        lines.append(f"| {name} | {cell['returns']:z.1f} | {shown} |")
        if cell["seed"] == 0:
            rows.append(scores)

    def told(words: str, after: int, before: int) -> str:
        pairs = np.array([(row[after], row[before]) for row in rows if None not in (row[after], row[before])])
        gained, low, high = gain_interval(pairs[:, 0] - pairs[:, 1])
        return f"{words} {gained:+z.1f} [{low:+z.1f}, {high:+z.1f}] over {len(pairs)} targets"

    added = (told("the expert source adds", 2, 1), told("the medium source", 3, 1), told("with all of it", 5, 1))
    return "\n".join([*lines, "", f"To target rows alone {', '.join(added)}."])


def two_models() -> str:
    """Markdown: policies held to their paths in a model of target rows alone, of both domains, and in either."""
    heads = ("target", "source", "target rows alone", "both domains", "half of the rollouts in each")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    rows = []
    for source in ("medium", "expert"):
        for cell in merged([TWO_MODELS / source]):
            before = newest(cell, ALONE), newest(cell, held_with(source))
            rows.append([*before, cell["scores"][held_with(f"alone+{source}")]])
            shown = " | ".join(f"{score:z.1f}" for score in rows[-1])
            lines.append(f"| {cell['task']}, {cell['target']} | {source} | {shown} |")
    means = " | ".join(f"{mean:z.1f}" for mean in np.mean(rows, axis=0))
    return "\n".join([*lines, f"| *mean* | | {means} |"])


def newest(cell: dict[str, Any], policy: str) -> float:
    """The score of a policy on a cell's data, as it was measured last; before, it imitated the best episodes alone."""
    now = [(folder, policy) for folder in (DEFAULTS, UNITS, MIXED)]
    for folder, name in [*now, (MATCHING, policy.replace("best+0.01", "best"))]:
        file = folder / f"{cell['task']}-{cell['target']}-seed{cell['seed']}.json"
        if file.exists() and name in (scores := read_json(file)["scores"]):
            return float(scores[name])
    raise KeyError(policy)


def with_taken(quality: str = "medium") -> list[dict[str, Any]]:
    """The cells of which a choice was made from a source of this quality, with the scores of `TAKEN`."""
    # A cell that was measured again, with today's defaults, counts as it is now.
    measured = {
        (cell["task"], cell["target"], cell["seed"]): cell
        for folders in ([MAIN, MATCHING], [DEFAULTS])
        for cell in merged(folders)
    }
    cells = []
    for cell in measured.values():
        file = RESULTS / CHOICES[quality] / f"{cell['task']}-{cell['target']}-seed{cell['seed']}.json"
        if not file.exists():
            continue
        choice, scores = read_json(file), cell["scores"]
        *_, target, source_policy = choice["policies"]
        held, source = target["true"], source_policy["true"]
        judged = {"logged": choice["logged"]}
        for name, policy in (("target", target), ("source", source_policy)):
            judged |= {f"{name}_{key}": policy[key] for key in ("model", "lost")}
        given = {
            "alone": scores.get(ALONE, scores.get("best clone matched x5")),
            "logged": scores.get("logged"),
            "source": source,
            "held": held,
        }
        if None not in given.values():
            given["taken"] = source if choice["chosen"] == "source" else held
            cells.append(cell | {"scores": given, "judged": judged})
    return cells


def far_below(cells: list[dict[str, Any]]) -> int:
    """How many of the policies that are taken are more than 10 below the better one of two controls."""
    ours, alone, source = (scores_of(cells, name) for name in ("taken", "alone", "source"))
    return int((ours < np.maximum(alone, source) - 10).sum())


def taken() -> str:
    """What the policy that is taken scores, by robot and by source, and how often it is far below a control."""
    by_source = {quality: with_taken(quality) for quality in CHOICES}
    tables = [f"With {quality} source data:\n\n{by_robot(cells, TAKEN)}" for quality, cells in by_source.items()]
    cells = [cell for part in by_source.values() for cell in part]
    return "\n\n".join(tables) + (
        "\n\nMore than 10 below the better one of target rows alone (with the same cures) and the source's policy: "
        f"{far_below(cells)} of {len(cells)}."
    )


def by_robot(cells: list[dict[str, Any]], words: dict[str, str]) -> str:
    """Mean scores of policies (by name, with words for each) by robot, and over all with the gain over the first."""
    names = list(words)
    heads = " | ".join(words.values())
    lines = [f"| robot | targets | the data's own mean | {heads} |", "|---" * (3 + len(names)) + "|"]
    robots = list(dict.fromkeys(cell["task"].split("-")[0] for cell in cells))
    for robot in (*robots, None):
        rows = [cell for cell in cells if robot in (None, cell["task"].split("-")[0])]
        means = " | ".join(f"{scores_of(rows, name).mean():z.1f}" for name in names)
        data = np.mean([cell["returns"] for cell in rows])
        lines.append(f"| {robot or '**all**'} | {len(rows)} | {data:.1f} | {means} |")
    return "\n".join([*lines, gains(cells, names)])


def gains(cells: list[dict[str, Any]], names: list[str]) -> str:
    """The last row of a table: how far each policy is above the first, with an interval over targets."""
    parts = []
    for name in names[1:]:
        gain, low, high = gain_interval(scores_of(cells, name) - scores_of(cells, names[0]))
        parts.append(f"{gain:+z.1f} [{low:+z.1f}, {high:+z.1f}]")
    return f"| gain, with 95% interval over targets | {len(cells)} | | | {' | '.join(parts)} |"


def draw(path: Path, cells: list[dict[str, Any]]) -> None:
    """Mean scores as bars by quality of the target data, the data's own mean as a line across each group."""
    figure = new_figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(PICTURED)
    labels = []
    for place, quality in enumerate((*QUALITIES, None)):
        rows = cells_of(quality, cells, PICTURED)
        if not rows:
            continue
        for i, (name, words) in enumerate(PICTURED.items()):
            values = scores_of(rows, name)
            at = place + (i - (len(PICTURED) - 1) / 2) * width
            axes.bar(at, values.mean(), width * 0.92, color=COLOURS[i], label=None if labels else words)
            axes.text(at, values.mean() + 1, f"{values.mean():.0f}", ha="center", va="bottom", fontsize=8)
        data = float(np.mean([cell["returns"] for cell in rows]))
        axes.plot(
            [place - 0.42, place + 0.42], [data, data], color="black", linewidth=1.4, linestyle="--",
            label=None if labels else "mean return of the logged data", **(ENDS | {"dash_capstyle": "butt"}),
        )  # fmt: skip
        name = quality.replace("_", " and ") if quality else "all"
        labels.append((place, f"{name}\n({len(rows)} targets)"))
    axes.set_xticks(*zip(*labels, strict=True))
    axes.set_xlabel("episodes in the log")
    axes.set_ylabel("score in the target domain")
    axes.set_ylim(0, 110)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    robots = {cell["task"].split("-")[0] for cell in cells_of(None, cells, PICTURED)}
    title = f"Policies from 5,000 logged transitions of the target robot ({len(robots)} robots; expert: 100)"
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(frameon=False, fontsize=9, ncols=2, loc="outside lower center")
    save_png(figure, path)


if __name__ == "__main__":
    draw(PICTURE, merged([MAIN, MATCHING]))
    print(summary())
