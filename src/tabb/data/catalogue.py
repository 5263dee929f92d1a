"""Where named data sets are: the folders of `$TABB_DATA`, and the small samples inside the package.

`$TABB_DATA/source/<robot>_<quality>.hdf5` holds source data and `$TABB_DATA/target/<task>_<quality>.hdf5`
target data, the task's dashes written as underscores: `hopper-gravity-0.5` ->
`hopper_gravity_0.5_medium.hdf5`. Where a folder has no such file, a downloaded file of OTDF (target) or D4RL
(source) stands for it.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tabb.data.checks import one_line
from tabb.data.local_folders import VARIABLE, shelves
from tabb.data.names import locate, parts_of
from tabb.errors import DataError, UsageError

if TYPE_CHECKING:
    from tabb.data.published_file import Published

Domain = Literal["source", "target"]

QUALITIES = ("medium", "medium_replay", "medium_expert", "expert")
D4RL_QUALITIES = ("human", "cloned", "play", "diverse")
"""Further qualities of D4RL's Adroit and AntMaze files."""
BUNDLED = "bundled"
"""The quality that names the sample inside the package."""

_BUNDLED_FOLDER = Path(__file__).parent / "bundled"
_BUNDLED_QUALITY = "medium"
_SUFFIXES = (".hdf5", ".h5", ".npz")


class Entry(NamedTuple):
    """One data set at hand."""

    domain: Domain
    task: str
    """Robot for source data (`hopper`), task for target data (`hopper-gravity-0.5`)."""
    quality: str
    path: Path
    bytes: int


def available() -> list[Entry]:
    """Every data set of `$TABB_DATA` and of the package, sorted by domain, task and quality.

    Tells domains by folder, and inside the package by task. Files named otherwise are not listed. Of files of the
    same name the first folder's counts. Raises `UsageError` (one line) if `TABB_DATA` names something that is not a
    folder that can be read.
    """
    entries = []
    roots = shelves()
    domains: tuple[Domain, ...] = ("source", "target")
    for domain in domains:
        by_name = {path.name: path for root in reversed(roots) for path in _files(root / domain)}
        entries += [_entry(path, domain, None) for path in by_name.values()]
    for path in _files(_BUNDLED_FOLDER):
        name = path.stem.removesuffix(f"_{_BUNDLED_QUALITY}")
        entries.append(_entry(path, "target" if "_" in name else "source", BUNDLED))
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry[:3])


def find(task: str, quality: str, domain: Domain) -> list[Path]:
    """Files of a named data set: that of $TABB_DATA, else a downloaded one of OTDF or D4RL. A source of `medium_expert`
    quality may be two files, the medium and the expert one: before a downloaded whole if both are in $TABB_DATA.

    `task` may be a robot for source data; of a task name the robot is what stands before the first dash.
    Raises `UsageError` for a quality or domain that does not exist and `DataError` for files that are not
    there, both in one line that says where was looked, what there is, and how to set `TABB_DATA`.
    """
    if domain not in ("source", "target"):
        raise UsageError(one_line(f"domain {domain!r} is unknown; use source or target"))
    if quality not in (*QUALITIES, *D4RL_QUALITIES, BUNDLED):
        raise UsageError(one_line(f"quality {quality!r} is unknown; use one of {_names()}"))
    name = (_robot(task) if domain == "source" else task).replace("-", "_")
    if quality == BUNDLED:
        path = _BUNDLED_FOLDER / f"{name}_{_BUNDLED_QUALITY}.hdf5"
        return [path] if path.is_file() else _missing(f"no bundled {domain} data for {task}", task, domain)
    folders = [root / domain for root in shelves()]
    wanted = f"{name}_{quality}.hdf5"
    if local := _in(folders, wanted):
        return [local]
    split = (domain, quality) == ("source", "medium_expert")
    halves = [f"{name}_medium.hdf5", f"{name}_expert.hdf5"] if split else []
    own = [part for half in halves if (part := _in(folders, half))]
    if split and len(own) == 2:
        return own
    if fetched := _fetched(wanted, domain):
        return [fetched]
    both = {half: _in(folders, half) or _fetched(half, domain) for half in halves}
    if split and all(both.values()):
        return [part for part in both.values() if part]
    if not folders:
        return _missing(f"{domain} data {wanted} of {task} cannot be looked for", task, domain)
    wanted = " and ".join(half for half, path in both.items() if path is None) or wanted
    return _missing(f"no {wanted} in {' or '.join(map(str, folders))}", task, domain)


def resolve(spec: str | Path, task: str, domain: Domain) -> list[Path]:
    """The files that `spec` names: an existing path, a name as in `tabb.data.names`, several joined with `+`, or a
    quality as in `find`.

    Raises as `find` does; also `DataError` for a path that does not exist.
    """
    text = str(spec)
    if text in (*QUALITIES, *D4RL_QUALITIES, BUNDLED):
        return find(task, text, domain)
    if text.strip() and os.path.exists(text):  # Path.exists raises on names that are too long
        return [Path(text)]
    parts = [locate(part) or Path(part) for part in map(str.strip, parts_of(text))]
    absent = [part for part in parts if str(part) == "." or not os.path.exists(part)]
    if not absent:
        return parts
    plus = " (`\\+` is a plus in a name)" if "+" in text else ""
    if absent[0].suffix or len(absent[0].parts) > 1:
        raise DataError(one_line(f"{absent[0]}: no such file; give a path{plus}, or one of {_names()}"))
    close = difflib.get_close_matches(text, (*QUALITIES, *D4RL_QUALITIES, BUNDLED), n=1)
    hint = f"did you mean {close[0]}? Else " if close else ""
    raise UsageError(
        one_line(f"{domain} data {text!r} is neither a file nor a quality; {hint}give a path, or one of {_names()}")
    )


def is_quality(text: str) -> bool:
    """Whether `resolve` takes `text` for a quality, known or not, and not for a path: a data set can be a folder."""
    known = text in (*QUALITIES, *D4RL_QUALITIES, BUNDLED)
    return known or (re.fullmatch("[a-z_]+", text) is not None and not os.path.exists(text))


def _robot(task: str) -> str:
    """What stands before the shift: `hopper`, or `antmaze-medium`, whose size is part of the robot."""
    return "-".join(task.split("-")[: 2 if task.startswith("antmaze-") else 1])


def _in(folders: list[Path], file: str) -> Path | None:
    """The first file of that name."""
    return next((folder / file for folder in folders if (folder / file).is_file()), None)


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(one_line(f"{folder}: cannot be listed ({error.strerror}); change its mode")) from None


def _entry(path: Path, domain: Domain, quality: str | None) -> Entry | None:
    # The longest quality first: hopper_medium_expert is not the expert data of a robot "hopper_medium".
    for suffix in sorted((*QUALITIES, *D4RL_QUALITIES), key=len, reverse=True):
        name = path.stem.removesuffix(f"_{suffix}")
        if name and name != path.stem:
            return Entry(domain, name.replace("_", "-"), quality or suffix, path, path.stat().st_size)
    return None


def _fetched(file: str, domain: Domain) -> Path | None:
    """What `tabb data get` or D4RL itself downloaded: OTDF's file of a target data set, D4RL's of a source data set."""
    from tabb.data.download import at_hand, fetch

    entry = _public(file, domain)
    return None if entry is None or at_hand(entry) is None else fetch(entry)


def _public(file: str, domain: Domain) -> Published | None:
    """The public data set that stands for `file` of $TABB_DATA: of D4RL's the latest version."""
    from tabb.data.published_d4rl import published_d4rl
    from tabb.data.published_otdf import published_otdf

    if domain == "target":
        return next((entry for entry in published_otdf() if entry.file == file), None)
    name = f"d4rl:{Path(file).stem.replace('_', '-')}-v"
    return max((entry for entry in published_d4rl() if entry.name.startswith(name)), default=None)


def _names() -> str:
    return ", ".join((*QUALITIES, *D4RL_QUALITIES, BUNDLED))


def _missing(problem: str, task: str, domain: Domain) -> list[Path]:
    """Raise the `DataError` that tells what there is of the robot instead, and how to make more known."""
    robot = _robot(task)
    entries = [entry for entry in available() if entry.domain == domain and _robot(entry.task) == robot]
    listed = ", ".join(sorted({f"{entry.task} {entry.quality}" for entry in entries}))
    value = os.environ.get(VARIABLE)
    advice = (
        f"{VARIABLE} is {value}; put the file there, add its folder (several: as in PATH), or give a path"
        if value
        else f"{VARIABLE} is not set: export {VARIABLE}=<folder with source/ and target/>, or give a path"
    )
    named = re.findall(r"[a-z0-9_.]+\.hdf5", problem)
    public = [entry.name for file in named if (entry := _public(file, domain))]
    fetch = f"; or fetch them: tabb data get {' '.join(public)}" if public else ""
    raise DataError(one_line(f"{problem}; {domain} data of {robot} at hand: {listed or 'none'}; {advice}{fetch}"))
