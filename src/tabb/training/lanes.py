"""Seeds that train together: one seed has no seed axis, several are stacked on a leading one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tabb.training.folder import RunFolder


class Lanes:
    """The seeds of one compiled program, in order, each with the folder of its run (or None)."""

    def __init__(self, seeds: Sequence[int], root: str | Path | None = None) -> None:
        """`root` holds the run folders, `root/seed0` and so on; None keeps nothing on disk."""
        self.seeds = list(seeds)
        self.folders = [None if root is None else run_folder(root, seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def stack(self, trees: Sequence[Any]) -> Any:
        """One tree per seed as the tree that the compiled program takes."""
        return trees[0] if len(self) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def split(self, tree: Any) -> list[Any]:
        """The inverse of `stack`."""
        if len(self) == 1:
            return [tree]
        leaves, structure = jax.tree.flatten(tree)
        return [jax.tree.unflatten(structure, [leaf[lane] for leaf in leaves]) for lane in range(len(self))]


def run_folder(root: str | Path, seed: int) -> RunFolder:
    """The folder of a seed's run."""
    return RunFolder(Path(root) / f"seed{seed}")


class Clock:
    """Wall time in seconds of each part of a run."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("prepare", "compile", "train", "evaluate", "checkpoint"), 0.0)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - started

    def add(self, seconds: dict[str, float]) -> None:
        """Add the time that the parts took before the run was stopped."""
        self.seconds = {part: spent + seconds.get(part, 0.0) for part, spent in self.seconds.items()}
