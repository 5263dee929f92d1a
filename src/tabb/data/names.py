"""Data sets by name, wherever a file can be named: `otdf:...`, `d4rl:...`, `minari:...` and `lerobot:...`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabb.data.checks import one_line
from tabb.data.local_folders import named_shelves
from tabb.errors import DataError

SCHEMES = ("otdf", "d4rl", "minari", "lerobot")
MOST_PIECES = 16
"""most pieces between plus signs that are tried as one path"""


def parts_of(text: str) -> list[str]:
    """The files or names that stand in `text` with `+` between them; `\\+` is a plus in a name.

    Where a path itself has a plus in it ("c++ proj/a.hdf5"), the parts are what is there, if that makes sense of all.
    """
    if "+" not in text or os.path.exists(text):
        return [text]
    kept = "\0"
    pieces = text.replace("\\+", kept).split("+")
    plain = [piece.replace(kept, "+").strip() for piece in pieces]
    if all(_is_there(piece) for piece in plain):
        return plain
    return _parts_there([piece.replace(kept, "+") for piece in pieces]) or plain


def _is_there(part: str) -> bool:
    return bool(part) and (os.path.exists(part) or part.partition(":")[0] in SCHEMES)


def _parts_there(pieces: Sequence[str]) -> list[str] | None:
    """The pieces put together to paths that are all there, the first as short as can be; None if there is no way."""
    if not pieces:
        return []
    for count in range(1, min(len(pieces), MOST_PIECES) + 1):
        first = "+".join(pieces[:count]).strip()
        if _is_there(first) and (rest := _parts_there(pieces[count:])) is not None:
            return [first, *rest]
    return None


def joined(paths: Iterable[str | Path]) -> str:
    """Several files as one text that `parts_of` takes apart again."""
    return "+".join(str(path).replace("+", "\\+") for path in paths)


def locate(text: str) -> Path | None:
    """The local path of the data set that `text` names, fetched first if need be; None if it is no such name.

    - `otdf:hopper-gravity-0.5-medium`: a file of `tabb.data.published`, checked by its SHA-256;
    - `d4rl:hopper-medium-v2`: a file of `tabb.data.published_d4rl`, likewise, found in `$TABB_DATA/d4rl` or where D4RL
      itself keeps downloads; others of D4RL's files are found there too, but not fetched;
    - `minari:mujoco/hopper/medium-v0`: the folder where Minari keeps it; Minari downloads it if it is not there;
    - `lerobot:lerobot/pusht`: the folder where LeRobot keeps it, or the hub's client, which fetches it without videos.

    Raises `UsageError` or `DataError` (one line) if there is no such data set or it cannot be had.
    """
    scheme, colon, name = text.partition(":")
    if not colon or scheme not in SCHEMES or os.path.exists(text):
        return None
    if scheme == "minari":
        from tabb.data.minari_sets import folder_of

        return folder_of(name)
    if scheme == "lerobot":
        from tabb.data.lerobot import folder_of as lerobot_folder

        return lerobot_folder(name)
    from tabb.data.download import fetch
    from tabb.data.published import lookup
    from tabb.data.published_d4rl import published_d4rl

    if scheme == "d4rl" and text.replace("_", "-") not in {entry.name for entry in published_d4rl()}:
        return _d4rl(name)
    return fetch(lookup(text))


def _d4rl(name: str) -> Path:
    """A file of D4RL that tabb knows no checksum of, to vouch for a download: found, or not."""
    from tabb.data.download import d4rl_folder

    stem, dash, version = name.rpartition("-v")
    files = [f"{form}{dash}{version}.hdf5" for form in dict.fromkeys((stem, stem.replace("-", "_")))]
    places = [place for place in (*(shelf / "d4rl" for shelf in named_shelves()), d4rl_folder()) if place]
    for place in places:
        for file in files:
            if (place / file).is_file():
                return place / file
    there = " or ".join(map(str, places))
    raise DataError(
        one_line(
            f"d4rl:{name}: no {' or '.join(files)} in {there}; tabb knows no checksum of it, so it does not fetch it "
            "(`tabb data list` shows those that it does): download it with D4RL, or give its path"
        )
    )
