"""Which files are tabb's own: it replaces only files that it wrote, and refuses where it cannot tell.

An experiment cannot be repeated: a mistyped `--out` must not destroy its data. Each kind of file is known by a mark or
by its shape, never by its name; files of earlier versions without a mark are known by their place in a run's folder as
well.
"""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tabb.errors import RunError, UsageError

GENERATOR = "tabb"
"""mark in the metadata of pages, pictures and films"""

RUN_FILES = (
    *("checkpoint.npz", "curve.png", "imitated.npz", "metrics.jsonl", "path-model.npz"),
    *("policies", "policy.npz", "prepared.npz", "result.json"),
    *("source-steps.hdf5", "source-steps.npz", "target-steps.hdf5", "target-steps.npz"),
)
_PLAN_FILES = (
    *("ablations.json", "ablations.png", "failed.json", "intervals.png", "profiles.png"),
    *("report.md", "scores.csv", "verdicts.json"),
)


def refuse_others(path: Path, kind: str) -> None:
    """Raise `UsageError` if `path` is there and is not a file of this kind that tabb wrote; empty files may go.

    `kind` is one of `KINDS`.
    """
    what, is_own = KINDS[kind]
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: is a folder, a pipe or a device; name a file")
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        return  # the writer says what is wrong with the path
    if not status.st_size:
        return
    try:
        own = is_own(path)
    except Exception:  # a file of any other kind, or damaged: zipfile, h5py and json raise a dozen types
        own = False
    if not own:
        raise UsageError(
            f"{path}: is there already and is not {what} that tabb wrote, so it is not replaced; name another file, or "
            "remove it yourself"
        )


def refuse_inside_run(folder: Path) -> None:
    """Raise `RunError` where runs would be put into the folder of a run, and tables would show both."""
    place = folder.resolve()
    for one in (place, *place.parents):
        if _is_run(one):
            where = "is the folder of a run" if one == place else f"lies in the folder of a run, {one}"
            raise RunError(f"{folder}: {where}, and runs get folders of their own; choose another folder")


def refuse_run_files(folder: Path) -> None:
    """Raise `RunError` where a new run would replace files of a folder that holds no run."""
    _refuse_names(folder, RUN_FILES, "run")


def refuse_plan_files(folder: Path) -> None:
    """Raise `RunError` where a new benchmark's results would replace files of a folder that holds no plan."""
    _refuse_names(folder, _PLAN_FILES, "plan")


def refuse_summary_files(folder: Path, plan: bool = True, answer: bool = False, trust: bool = False) -> None:
    """Raise where what `tabb train` writes beside its runs would replace files of others: before it trains, not after.

    There are the picture of all runs, failures with a `plan`, perhaps an `answer`, and what the demo says of `trust`.

    Raises:
        RunError: a file is there that only a plan has, and no plan.
        UsageError: a file of a kind that is known by itself, and tabb did not write it.
    """
    if not (folder / "plan.json").exists():
        _refuse_names(folder, ("failed.json",) * plan + ("trust.json",) * trust, "plan")
    pictures = ("comparison.png",) + ("trust.png",) * trust
    for name, kind in (*((name, "figure") for name in pictures), ("answer.json", "answer"), ("policy.npz", "policy")):
        if kind == "figure" or answer:
            refuse_others(folder / name, kind)


def _refuse_names(folder: Path, names: Iterable[str], what: str) -> None:
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise RunError(
            f"{folder}: holds {there[0]} but no {what} of tabb, which would replace that file; choose another folder"
        )


# --- How each kind is known ---


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of an npz file of tabb's."""
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(str(file["header"]))
        return header


def _is_policy(path: Path) -> bool:
    if (path.name == "policy.npz" and _is_run(path.parent)) or (
        path.parent.name == "policies" and _is_run(path.parent.parent)
    ):
        return True  # even if it is damaged: that must not keep the run from finishing
    return str(_header(path)["format"]).startswith("tabb-")


def _is_npz_of(path: Path, names: Collection[str]) -> bool:
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()} == set(names)


def is_steps_of_run(path: Path) -> bool:
    """Whether a file lies where a run keeps the steps that it took: earlier versions left no mark in it."""
    return path.name in RUN_FILES and path.name.endswith("-steps.npz") and _is_run(path.parent)


def _is_saved(path: Path) -> bool:
    return _holds_npz_key(path, "tabb_saved") or is_steps_of_run(path)


def _holds_npz_key(path: Path, name: str) -> bool:
    with zipfile.ZipFile(path) as archive:
        return f"{name}.npy" in archive.namelist()


def _is_table(path: Path) -> bool:
    """Whether a Parquet file has tabb's attributes."""
    from pyarrow import parquet

    return b"tabb" in (parquet.read_schema(path).metadata or {})


def _has_attributes(path: Path, *choices: Collection[str]) -> bool:
    """Whether an HDF5 file has all the attributes of one of the choices."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return any(set(names) <= set(file.attrs) for names in choices)


def _is_page(path: Path) -> bool:
    head, tail = _ends_of(path)
    return b'<meta name="generator" content="tabb' in head or b"<footer>Written by tabb " in tail


def _is_figure(path: Path) -> bool:
    head, _ = _ends_of(path)
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    by_matplotlib = b"Software\0Matplotlib" in head  # earlier versions left its mark
    return b"Software\0tabb" in head or (by_matplotlib and _holds_results(path.parent))


def _is_film(path: Path) -> bool:
    head, tail = _ends_of(path)
    film = head.startswith(b"GIF8") or head[4:8] == b"ftyp"
    marked = b"tabb film" in head or b"tabb film" in tail
    return film and (marked or (path.stem == "watch" and (path.parent / "policy.npz").is_file()))


def _is_onnx(path: Path) -> bool:
    return b"tabb-onnx-" in path.read_bytes()


def _is_stablehlo(path: Path) -> bool:
    described = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    return str(described["format"]).startswith("tabb-stablehlo-")


def _is_stablehlo_json(path: Path) -> bool:
    return str(json.loads(path.read_text(encoding="utf-8"))["format"]).startswith("tabb-stablehlo-")


def _json_with(*names: str, newer: tuple[str, ...] = ()) -> Callable[[Path], bool]:
    """Whether a JSON file is an object of exactly these names; those that are `newer` may be missing."""
    return lambda path: set(names) == set(json.loads(path.read_text(encoding="utf-8"))) - set(newer)


def _ends_of(path: Path) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file, in which marks stand."""
    with open(path, "rb") as file:
        head = file.read(4096)
        file.seek(max(0, path.stat().st_size - 4096))
        return head, file.read()


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run: its config names a rule and settings."""
    try:
        return {"rule", "settings"} <= set(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def _holds_results(folder: Path) -> bool:
    """Whether a folder holds a run, a plan, the table of a benchmark, or results of a figure."""
    tables = any((folder / name).is_file() for name in ("plan.json", "scores.csv"))
    return tables or _is_run(folder) or _has_runs(folder)


def _has_runs(folder: Path) -> bool:
    """Whether a folder holds results of figures, each of which says with which versions it was computed."""
    for file in folder.glob("*-seed*.json"):
        try:
            if "tabb-rl" in json.loads(file.read_text(encoding="utf-8"))["environment"]["versions"]:
                return True
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return False


KINDS: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "policy": ("a policy", _is_policy),
    "transitions": ("a file of transitions", _is_saved),
    "columns": ("a file of columns", lambda path: _holds_npz_key(path, "tabb")),
    "table": ("a table", _is_table),
    "data": ("a data set", lambda path: _has_attributes(path, ["content_sha256"], ["tabb_version", "task"])),
    "scores": (
        "a file of scores",
        lambda path: _has_attributes(path, ["tabb_scores"], ["run", "rule", "seed", "source_sha256", "versions"]),
    ),
    "page": ("a report", _is_page),
    "figure": ("a figure", _is_figure),
    "film": ("a film", _is_film),
    "onnx": ("a policy", _is_onnx),
    "stablehlo": ("a policy", _is_stablehlo),
    "stablehlo-json": ("a policy's description", _is_stablehlo_json),
    "audit": ("an audit", _json_with("files", "findings", "reports")),
    "manifest": ("a manifest", _json_with("command", "sets")),
    "rankings": ("a table of rankings", _json_with("environment", "tasks", "policies")),
    "planted-faults": ("a proof of the audit", _json_with("environment", "planted", "clean")),
    "answer": (
        "an answer",
        _json_with("learner", "policy", "logged", "target", "source", "lost", "close", newer=("source_seen",)),
    ),
    "own-ranking": ("a table of rankings", _json_with("rows", "runs")),
    "answers": ("a table of predictions", lambda path: _is_npz_of(path, ["next", "reward_hat", "terminal_hat"])),
}
"""What each kind of file is called, and how tabb's own are known."""
