"""`tabb watch`: a film of policies."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tabb.commands.options import parse
from tabb.errors import UsageError
from tabb.shown import tenths


@dataclasses.dataclass(frozen=True)
class Options:
    """Which policies, where, and how the film looks."""

    policies: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """run folders (runs/.../seed0) or policy.npz files; several are shown side by side, in step"""
    task: str | None = None
    """the task; the one the policies were trained for if not given"""
    env: str | None = None
    """any Gymnasium environment id that draws pictures, instead of a task; that of the runs if they have no task"""
    out: Path | None = None
    """.mp4 or .gif file; watch.mp4 in the first policy's folder (watch.gif without the extra `watch`) if not given"""
    episodes: int = 10
    """episodes to run, as `tabb evaluate` does with the same number and seed"""
    film: tuple[int, ...] = (0,)
    """which of them to show, one after another, from 0"""
    seed: int = 10_000
    """first reset seed; episode k begins with seed + k"""
    steps: int | None = None
    """show at most this many steps of an episode; the episode itself is not cut"""
    engine: Literal["legacy", "native"] | None = None
    """physics: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's; or as the policies were trained"""
    size: str = "640x480"
    """width x height in pixels of one policy's panel"""
    fps: int = 25
    """pictures per second of film"""
    speed: float = 1.0
    """simulated seconds per second of film; 0.25 is slow motion"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb watch", "Film policies in their task or environment, without a display.")
    if not options.policies:
        raise UsageError("name a run folder or a policy.npz, such as runs/.../seed0")
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", options.size)
    if size is None:
        raise UsageError(f"--size {options.size}: give width x height in pixels, as 640x480")
    if options.task and options.env:
        raise UsageError(f"--task {options.task} with --env {options.env}: give one of them")
    from tabb.rendering import watch

    film = watch(
        options.policies,
        options.task,
        options.out,
        episodes=options.episodes,
        film=options.film,
        seed=options.seed,
        engine=options.engine,
        size=(int(size[1]), int(size[2])),
        fps=options.fps,
        speed=options.speed,
        steps=options.steps,
        env_factory=options.env,
    )
    rows = zip(film.labels, film.returns, film.lengths, film.terminal, strict=True)
    for label, returns, lengths, terminal in rows:
        for number, total, length, ended in zip(film.episodes, returns, lengths, terminal, strict=True):
            end = "ended" if ended else "time limit"
            print(f"{label}, episode {number}: return {tenths(total)}, {length} steps ({end})")
    print(f"film: {film.path} ({film.path.stat().st_size / 1000:,.0f} kB; {film.task}, seed {options.seed})")
    return 0
