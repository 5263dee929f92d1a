"""Draws a robot before and after a shift, the same actions from the same state: docs/pictures/robots.png.

    python docs/tools/robots.py

The actions are some of the source log's own, from the bundled data. Needs OpenGL as `tabb watch` does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from diagrams import PICTURES, SOURCE, TARGET, WIDTH, canvas, pixels, write
from tabb.data import read
from tabb.data.catalogue import BUNDLED, resolve
from tabb.environments.make_robot import make_robot
from tabb.environments.tasks import get_task
from tabb.files import atomic
from tabb.rendering.painter import Camera, Painter, state_of

PICTURE = PICTURES / "robots.png"
TASK = "hopper-gravity-0.5"
FIRST, STEPS, EVERY = 1588, 90, 18
"""the row of the log from whose state the robots start, steps of each, and steps from one pose to the next"""
CAMERA = Camera((0.63, 0, 1.0), 2.85)
SIDE, HEIGHT, CAPTION, GAP = 345, 280, 52, 10
"""pixels: a robot's picture, the two lines above it, and what lies between two pictures"""
_FLOOR = (0.5, 0.56, 0.58, 1.0)


def motion(name: str) -> NDArray[np.uint8]:
    """What the log's actions do in a task, [2 HEIGHT, 2 SIDE, 3]: the last pose solid, those before it pale."""
    task = get_task(name)
    rows = read(resolve(BUNDLED, TASK, "source")).transitions[FIRST : FIRST + STEPS]
    env = make_robot(task)
    try:
        env.restore(rows.observation[0])
        poses = [state_of(env.model, env.data)]
        for step, action in enumerate(np.asarray(rows.action), start=1):
            env.step(action)
            if step % EVERY == 0:
                poses.append(state_of(env.model, env.data))
        floor = env.model.geom("floor")
        floor.matid, floor.rgba = -1, _FLOOR
        env.model.light_castshadow[:] = 0  # those of all poses would be one black bar
        with Painter(env.model, 2 * SIDE, 2 * HEIGHT) as painter:
            return painter.paint(poses[-1], CAMERA, ghosts=poses[:-1])
    finally:
        env.close()


def robots() -> NDArray[np.uint8]:
    """The picture: the source's robot beside the target's."""
    said = (
        (get_task(TASK).robot, SOURCE, "Source", "The ordinary hopper jumps and lands, as logged."),
        (TASK, TARGET, "Target", "The same actions at half gravity: still in the air."),
    )
    figure, axes = canvas(HEIGHT + CAPTION)
    for column, (task, colour, domain, words) in enumerate(said):
        left = column * (SIDE + GAP)
        axes.imshow(motion(task), extent=(left, left + SIDE, 0, HEIGHT), aspect="auto")
        write(axes, left, HEIGHT + 38, domain, 15, color=colour, fontweight="bold")
        write(axes, left, HEIGHT + 15, words, 13.5)
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT + CAPTION))
    return pixels(figure)


if __name__ == "__main__":
    with atomic(PICTURE) as part:  # 256 colours take less than half of the bytes
        Image.fromarray(np.ascontiguousarray(robots())).quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(part, format="PNG", optimize=True)
    print(PICTURE)
