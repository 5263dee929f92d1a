"""Checkpoints: a pytree of arrays in one file, written whole or not at all, never unpickled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from tabb.errors import RunError
from tabb.files import atomic
from tabb.policy import UNREADABLE

T = TypeVar("T")


def save_tree(path: Path, tree: Any, header: dict[str, Any]) -> None:
    """Write the leaves of `tree`, in the order of `jax.tree.leaves`, with a JSON header; uncompressed.

    Raises `RunError` where the file cannot be written; an older file of that name then stays as it was.
    """
    leaves = {f"leaf_{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    with atomic(path) as part, open(part, "wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(json.dumps(header)), **leaves)


def load_header(path: Path) -> dict[str, Any]:
    """The header alone of what `save_tree` wrote. Raises `RunError` for a file that is missing or damaged."""
    with _opened(path) as file:
        header: dict[str, Any] = json.loads(str(file["header"]))
        return header


def load_tree(path: Path, template: T, more: bool = False) -> tuple[T, dict[str, Any]]:
    """Read what `save_tree` wrote into the structure of `template` (arrays or their shapes).

    With `more`, the file may hold more leaves after those of the template: it is then the beginning of a tree. Of an
    axis that has no entries in the template none is taken, however many the file has: earlier versions kept some.

    Raises:
        RunError: the file is missing, damaged, or of another learner than `template`.
    """
    wanted, structure = jax.tree.flatten(template)
    with _opened(path) as file:
        header = json.loads(str(file["header"]))
        names = sorted(name for name in file.files if name.startswith("leaf_"))
        leaves = [file[name] for name in (names[: len(wanted)] if more else names)]
    if len(leaves) == len(wanted):
        leaves = [_without_entries(leaf, want) for leaf, want in zip(leaves, wanted, strict=True)]
    fits = len(leaves) == len(wanted) and all(
        leaf.shape == want.shape and leaf.dtype == want.dtype for leaf, want in zip(leaves, wanted, strict=True)
    )
    if not fits:
        raise RunError(
            f"{path}: is of another learner, or was written by another version of tabb (config.json beside it says "
            "which); "
            "go on with the options and the version that the run was started with, or train anew"
        )
    return jax.tree.unflatten(structure, [jax.numpy.asarray(leaf) for leaf in leaves]), header


def _without_entries(leaf: np.ndarray, want: Any) -> np.ndarray:
    """The leaf with no entries along those axes on which `want` has none."""
    if 0 not in want.shape or leaf.ndim != len(want.shape):
        return leaf
    return leaf[tuple(slice(0) if size == 0 else slice(None) for size in want.shape)]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a file, while the block runs. Raises `RunError` where reading them fails."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint; start the run again without --resume") from None
    except UNREADABLE as error:
        raise RunError(f"{path}: is not a checkpoint or is damaged ({error}); start the run again") from None
