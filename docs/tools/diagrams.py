"""Draws the pictures that explain: what TBM measures, how data flow, what one update does; docs/pictures/*.png.

    python docs/tools/diagrams.py                 draw all
    python docs/tools/diagrams.py one-update      draw one

Lengths are in pixels of a page 700 wide. The background is white, so that dark pages show a card.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.evaluation.figures import new_figure, save_png
from tabb.rules import RULES, TABB
from tabb.rules.rule import UPDATE_SEAMS, filled_seams
from tabb.rules.soft_weights import soft_weight

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
WIDTH = 700
INK, SOFT, LINE, PANEL = "#1c2430", "#5b6673", "#b8c0c8", "#f3f5f7"
SOURCE, TARGET = "#c85a00", "#0060a0"
"""colours of the domains, those of `tabb report`"""
MONO = {"family": "monospace"}


def canvas(height: int) -> tuple[Any, Any]:
    """A white figure of 700 by `height` pixels, and axes over all of it whose unit is a pixel, y upwards."""
    figure = new_figure(figsize=(WIDTH / 100, height / 100), dpi=200, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def write(axes: Any, x: float, y: float, words: str, size: float = 13, **style: Any) -> Any:
    """Text of `size` pixels at (x, y), from its left end and the middle of its height unless `style` says otherwise."""
    return axes.text(x, y, words, **({"fontsize": size * 0.72, "color": INK, "va": "center"} | style))


def lines(axes: Any, x: float, y: float, words: str, size: float = 12, **style: Any) -> None:
    """Lines of text, evenly spaced around the height y: Matplotlib spaces them by what hangs below each."""
    told = words.split("\n")
    for place, line in enumerate(told):
        at = y + size * 1.35 * ((len(told) - 1) / 2 - place)
        write(axes, x, at, line, size, **({"va": "center_baseline", "color": SOFT} | style))


def box(axes: Any, x: float, y: float, width: float, height: float, edge: str = LINE, face: str = "white") -> None:
    """A rounded box with its lower left corner at (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=6"
    axes.add_patch(FancyBboxPatch((x, y), width, height, shape, edgecolor=edge, facecolor=face, linewidth=1.1))


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str = SOFT, **style: Any) -> None:
    """An arrow from one point to another."""
    look = {"arrowstyle": "-|>,head_width=0.22,head_length=0.45", "color": colour, "linewidth": 1.4} | style
    axes.annotate("", xy=end, xytext=start, arrowprops={"shrinkA": 0, "shrinkB": 0} | look)


# --- What TBM measures ---

STEPS = {
    "A": ((0.20, 0.64), (0.36, 0.86), (0.84, 0.76)),
    "B": ((0.30, 0.475), (0.64, 0.48), (0.68, 0.30)),
}
"""s, s' of the source and the target's predicted s' of two source rows, in a space of two dimensions"""
LABELS = {"A": ((0.39, 0.91), (0.87, 0.81)), "B": ((0.66, 0.54), (0.71, 0.265))}
"""where s' and the predicted s' are written"""
SAID = {"A": "far apart,\nyet worth the same", "B": "close together,\nyet worth less"}
REWARD, DISCOUNT = 1.0, 0.99
DASHED = (0, (3, 1.5))


def example_value(x: Any, y: Any) -> Any:
    """A value function for the picture: high above a cliff that runs across the space, low below it."""
    cliff = 0.35 + 0.06 * np.sin(5 * np.asarray(x))
    return 16 + 60 / (1 + np.exp(-(y - cliff) / 0.025)) + 8 * y + 4 * np.asarray(x)


def two_backups() -> Any:
    """Two source rows in state space and their backups: one leads elsewhere to the same value, the other does not."""
    figure, axes = canvas(370)
    space = figure.add_axes((14 / 700, 62 / 370, 370 / 700, 272 / 370))
    space.set(xlim=(0, 1), ylim=(0.1, 1), xticks=[], yticks=[])
    grid = np.meshgrid(np.linspace(0, 1, 200), np.linspace(0.1, 1, 200))
    value = example_value(*grid)
    levels = np.linspace(14, 90, 20)
    space.contourf(*grid, value, levels=levels, cmap="Greys_r", vmin=-90, vmax=92)
    space.contour(*grid, value, levels=levels, colors="white", linewidths=0.5)
    for spine in space.spines.values():
        spine.set_color(LINE)
    write(axes, 14, 352, "Two steps (lighter: a higher value $V$)", 13, weight="bold")
    write(space, 0.97, 0.145, "low $V$: the robot falls", 12.5, ha="right")
    backups = {}
    for name, (state, own, predicted) in STEPS.items():
        for end, colour, line, label, at in (
            (own, SOURCE, "-", "$s'$", LABELS[name][0]),
            (predicted, TARGET, DASHED, r"$\hat s'$", LABELS[name][1]),
        ):
            near = [start + 0.9 * (stop - start) for start, stop in zip(state, end, strict=True)]
            space.plot(*zip(state, near, strict=True), color=colour, linewidth=2, linestyle=line)
            arrow(space, (near[0], near[1]), end, colour, shrinkB=3)
            space.plot(*end, "o", color=colour, markersize=5)
            write(space, *at, label, 15, color=colour)
        space.plot(*state, "o", color=INK, markersize=5)
        write(space, state[0] - 0.03, state[1], f"row {name}", 13, ha="right", weight="bold")
        backups[name] = [REWARD + DISCOUNT * float(example_value(*end)) for end in (own, predicted)]
    _bars(figure, axes, backups)
    for x, colour, line, words in (
        (14, SOURCE, "-", "source, as logged:  $b = r + \\gamma\\,V(s')$"),
        (330, TARGET, DASHED, r"target, as predicted:  $\hat b = \hat r + \gamma\,V(\hat s')$"),
    ):
        axes.plot([x, x + 30], [28, 28], color=colour, linewidth=2, linestyle=line)
        write(axes, x + 40, 28, words, 13)
    return figure


def _bars(figure: Any, axes: Any, backups: dict[str, list[float]]) -> None:
    """Both backups of each row as bars, the gap between them, and the weight that TABB's defaults make of it."""
    left, width, across = 410, 280, 2.4
    bars = figure.add_axes((left / 700, 126 / 370, width / 700, 208 / 370))
    bars.set(xlim=(0, across), ylim=(0, 112), yticks=[], xticks=[])
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.spines["bottom"].set_color(LINE)
    gaps = jnp.array([abs(predicted - own) for own, predicted in backups.values()], jnp.float32)
    rule = TABB()
    weights = np.asarray(soft_weight(gaps, rule.temperature, jnp.mean(gaps), rule.least_weight))
    write(axes, left, 352, "Their backups", 13, weight="bold")
    for place, (name, (own, predicted)) in enumerate(backups.items()):
        first = place * 1.25 + 0.2
        second, gap = first + 0.36, first + 0.6
        bars.bar([first, second], [own, predicted], 0.3, color=[SOURCE, TARGET])
        write(bars, first, own + 8, "$b$", 15, ha="center", color=SOURCE)
        write(bars, second, predicted + 8, r"$\hat b$", 15, ha="center", color=TARGET)
        for height, start in ((own, first), (predicted, second)):
            bars.plot([start + 0.15, gap + 0.05], [height, height], color=INK, linewidth=0.8, linestyle=":")
        if gaps[place] > 10:
            arrow(bars, (gap, own), (gap, predicted), INK, arrowstyle="<|-|>,head_width=0.18,head_length=0.35")
        write(bars, gap + 0.07, (own + predicted) / 2, f"TBM\n{gaps[place]:.0f}", 12, weight="bold", linespacing=1.2)
        middle = left + width * (first + 0.3) / across
        lines(axes, middle, 98, f"row {name}: {SAID[name]}", 12.5, ha="center", color=INK)
        write(axes, middle, 68, f"weight {weights[place]:.2f}", 13, ha="center", weight="bold")


# --- How data flow ---


def data_flow() -> Any:
    """From log files to a policy and what is said of it, with the command of each step."""
    figure, axes = canvas(310)
    middle = 155
    for y, colour, name, words in (
        (middle + 22, SOURCE, "source log", "many rows,\nother dynamics"),
        (middle - 98, TARGET, "target log", "few rows of the\nrobot that matters"),
    ):
        box(axes, 10, y, 132, 76, colour)
        write(axes, 20, y + 58, name, 14, weight="bold", color=colour)
        lines(axes, 20, y + 25, words)
    box(axes, 174, middle - 65, 104, 130)
    write(axes, 184, middle + 46, "audit", 14, weight="bold")
    lines(axes, 184, middle + 4, "finds false\nsteps, units,\ntime limits")
    write(axes, 184, middle - 46, "tabb audit", 12, **MONO)
    arrow(axes, (142, middle + 60), (174, middle + 40), SOURCE)
    arrow(axes, (142, middle - 60), (174, middle - 40), TARGET)
    arrow(axes, (278, middle), (308, middle))
    box(axes, 308, 14, 158, 282, INK, PANEL)
    write(axes, 318, 276, "learner", 14, weight="bold")
    write(axes, 318, 32, "tabb train", 12, **MONO)
    for y, name, words in (
        (166, "rule", "fitted once, then\nweighs source rows"),
        (54, "backbone", "IQL, TD3+BC, ...:\nmany updates"),
    ):
        box(axes, 318, y, 138, 88)
        write(axes, 327, y + 68, name, 13, weight="bold")
        lines(axes, 327, y + 30, words)
    write(axes, 387, 154, "×", 15, ha="center", weight="bold")
    outputs = (
        ("policy", "observations in, actions out", "tabb export"),
        ("score", "in the target's simulator", "tabb evaluate"),
        ("rank", "from held-out target rows", "tabb select"),
        ("row scores", "which source rows to trust", "tabb score"),
        ("report", "all of it on one page", "tabb report"),
    )
    for place, (name, words, command) in enumerate(outputs):
        y = 248 - place * 58.5
        box(axes, 498, y, 192, 48)
        write(axes, 507, y + 33, name, 13, weight="bold", va="center_baseline")
        write(axes, 682, y + 33, command, 12, ha="right", va="center_baseline", **MONO)
        write(axes, 507, y + 14, words, 12, color=SOFT)
        arrow(axes, (466, y + 24), (498, y + 24))
    return figure


# --- One update ---

MEANINGS = {
    "select": "which source rows stay",
    "represent": "what V and Q see of a state",
    "observe": "train the rule's own networks",
    "weigh": "the weight of each row in the losses",
    "next_value": "edit V(s')",
    "reward": "edit rewards",
    "backup": "edit backups",
    "critic_loss": "the loss of a critic's error",
    "critic_term": "a further term for the critics",
    "actor_term": "a further term for the policy",
}
BACKBONE_STEPS = {
    "weigh": "the backbone updates V",
    "critic_term": "the backbone updates Q",
    "actor_term": "the backbone updates the policy",
}
"""what the backbone does after a seam; without a network for V the first falls away"""


def rules_with(seam: str) -> str:
    """Names of the registered rules that fill a seam; `represent` is filled through what V and Q see."""
    seams = {"represent", "see_state", "see_action"} if seam == "represent" else {seam}
    return ", ".join(name for name, rule in RULES.items() if seams & set(filled_seams(rule)))


def one_update() -> Any:
    """The seams of one update in their order, what each is for, and which rules fill it."""
    rows = [(seam, textwrap.wrap(rules_with(seam) or "-", 36, break_on_hyphens=False)) for seam in UPDATE_SEAMS]
    height = 74 + sum(12 + 16 * len(names) for _, names in rows) + 34 * len(BACKBONE_STEPS)
    figure, axes = canvas(height)
    y = height - 22
    write(axes, 14, y, "a batch", 13, weight="bold")
    for x, colour, words in ((126, SOURCE, "source rows"), (272, TARGET, "target rows")):
        box(axes, x, y - 12, 138, 24, colour, colour)
        write(axes, x + 69, y, words, 12, ha="center", color="white", weight="bold")
    y -= 30
    for x, words in ((14, "seam"), (126, "what a rule can do there"), (424, "rules that do")):
        write(axes, x, y, words, 12, color=SOFT)
    y -= 16
    for seam, names in rows:
        tall = 12 + 16 * len(names)
        write(axes, 14, y - tall / 2, seam, 13, va="center_baseline", **MONO)
        write(axes, 126, y - tall / 2, MEANINGS[seam], 13, va="center_baseline")
        lines(axes, 424, y - tall / 2, "\n".join(names))
        y -= tall
        if seam in BACKBONE_STEPS:
            box(axes, 10, y - 29, WIDTH - 20, 24, INK, INK)
            write(axes, WIDTH / 2, y - 17, BACKBONE_STEPS[seam], 13, ha="center", color="white", weight="bold")
            y -= 34
        else:
            axes.plot([14, WIDTH - 14], [y, y], color=LINE, linewidth=0.6)
    return figure


DRAWN: dict[str, Callable[[], Any]] = {"two-backups": two_backups, "data-flow": data_flow, "one-update": one_update}
"""what draws each picture, by its file's name without `.png`"""


def pixels(figure: Any) -> NDArray[np.uint8]:
    """The figure as it is saved, [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or DRAWN:
        save_png(DRAWN[name](), PICTURES / f"{name}.png")
