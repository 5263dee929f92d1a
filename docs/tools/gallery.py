"""Draws every shift of the catalogue beside its unshifted robot: docs/gallery/*.png and the page docs/gallery.md.

    python docs/tools/gallery.py                  draw all pictures and write the page
    python docs/tools/gallery.py hopper pen       draw those robots' pictures only
    python docs/tools/gallery.py --page           write the page, without a renderer
    python docs/tools/gallery.py --check          fail if the page is not current or a picture is missing

Needs the extra `adroit`, and OpenGL as `tabb watch` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from gallery_scenes import HEIGHT, SWINGS, WIDTH, family, tile
from gallery_text import INTRODUCTION, NOTES, SHOWN, SHRUNK, changes
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.files import atomic
from tabb.rendering.text import with_text

DOCS = Path(__file__).resolve().parents[1]
PICTURES, PAGE = DOCS / "gallery", DOCS / "gallery.md"
ACROSS = 5
"""Pictures in a row."""


def strips() -> dict[str, list[Task]]:
    """Tasks of each picture file, by its name without `.png`; the unshifted task is first."""
    tasks_of: dict[str, list[Task]] = {}
    for task in ALL_TASKS.values():
        if task.shift is not None:
            maze = task.namespace == "tabb-antmaze"
            name = task.robot if maze else f"{task.robot}-{task.shift}"
            tasks_of.setdefault(name, [ALL_TASKS[task.robot]]).append(task)
    return tasks_of


def strip(tasks: list[Task]) -> NDArray[np.uint8]:
    """One picture of all these tasks, the unshifted one first, in rows of `ACROSS`."""
    tiles = [with_text(tile(task, tasks[1]), (_label(task),), size=16) for task in tasks]
    across = len(tiles) if len(tiles) <= ACROSS else (len(tiles) + 1) // 2
    tiles += [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * (-len(tiles) % across)
    rows = [np.concatenate(tiles[first : first + across], axis=1) for first in range(0, len(tiles), across)]
    return np.concatenate(rows)


def _label(task: Task) -> str:
    if task.namespace == "tabb-antmaze":
        return task.shift or "source"
    return "unshifted" if task.shift is None else task.level or "shifted"


def save(name: str, picture: NDArray[np.uint8]) -> None:
    """Write docs/gallery/NAME.png with 256 colours, which takes less than half of the bytes."""
    with atomic(PICTURES / f"{name}.png") as part:
        Image.fromarray(picture).quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            part, format="PNG", optimize=True
        )


def page() -> str:
    """The page in Markdown."""
    return "\n".join([INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    robot = None
    for name, tasks in strips().items():
        if tasks[0].robot != robot:
            robot = tasks[0].robot
            yield f"## {robot}\n"
        if tasks[0].namespace != "tabb-antmaze":
            yield f"### {name}\n"
        labels = ", ".join(_label(task) for task in tasks)
        yield f"![{name}: {labels}](gallery/{name}.png)\n"
        yield f"{_caption(name, tasks)}\n"
        yield "| task | what is changed |\n|---|---|"
        for task in tasks:
            yield f"| `{task.name}` | {changes(task)} |"
        yield ""


def _caption(name: str, tasks: list[Task]) -> str:
    kind = family(tasks[1])
    if kind == "motion":
        swing = SWINGS[tasks[0].robot]
        caption = (
            f"After {swing.steps} steps of the same actions (sines of size {swing.size:g} and {swing.period} steps, "
            "each joint a quarter behind the one before); pale: the start."
        )
    else:
        caption = SHOWN[kind]
    note = NOTES.get(name, "")
    if name.endswith("shrink-finger"):
        note = f"{note} {SHRUNK}".strip()
    return f"{caption} {note}".strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robots", nargs="*", help="draw those only; all if none is given")
    parser.add_argument("--page", action="store_true", help="write the page and draw nothing")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something is missing")
    options = parser.parse_args()
    robots = {tasks[0].robot for tasks in strips().values()}
    if unknown := set(options.robots) - robots:
        parser.error(f"unknown robot {', '.join(sorted(unknown))}: choose among {', '.join(sorted(robots))}")
    if options.check:
        missing = [name for name in strips() if not (PICTURES / f"{name}.png").is_file()]
        stale = PAGE.read_text(encoding="utf-8") != page()
        for problem in [f"{name}.png is missing" for name in missing] + ["docs/gallery.md is not current"] * stale:
            print(f"{problem}: python docs/tools/gallery.py", file=sys.stderr)
        return 1 if missing or stale else 0
    PICTURES.mkdir(exist_ok=True)
    for name, tasks in strips().items():
        if not options.page and (not options.robots or tasks[0].robot in options.robots):
            save(name, strip(tasks))
            print(f"{PICTURES / name}.png")
    with atomic(PAGE) as part:
        part.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
