"""Data sets by name, wherever a file can be named: `otdf:...`, `d4rl:...` and `minari:...`."""

from __future__ import annotations

import os
from pathlib import Path

from tabb.data.checks import one_line
from tabb.errors import DataError

SCHEMES = ("otdf", "d4rl", "minari")


def locate(text: str) -> Path | None:
    """The local path of the data set that `text` names, fetched first if need be; None if it is no such name.

    - `otdf:hopper-gravity-0.5-medium`: a file of `tabb.data.published`, checked by its SHA-256;
    - `d4rl:hopper-medium-v2`: `hopper_medium-v2.hdf5` in `$TABB_DATA/d4rl` or where D4RL itself keeps downloads;
    - `minari:mujoco/hopper/medium-v0`: the folder where Minari keeps it; Minari downloads it if it is not there.

    Raises `UsageError` or `DataError` (one line) if there is no such data set or it cannot be had.
    """
    scheme, colon, name = text.partition(":")
    if not colon or scheme not in SCHEMES or os.path.exists(text):
        return None
    if scheme == "minari":
        from tabb.data.minari_sets import folder_of

        return folder_of(name)
    if scheme == "d4rl":
        return _d4rl(name)
    from tabb.data.download import fetch
    from tabb.data.published import lookup

    return fetch(lookup(text))


def _d4rl(name: str) -> Path:
    """D4RL's files are found, not fetched: tabb has no checksums of them to vouch for a download."""
    stem, dash, version = name.rpartition("-v")
    file = f"{stem.replace('-', '_')}{dash}{version}.hdf5"
    shelf = os.environ.get("TABB_DATA")
    own = os.environ.get("D4RL_DATASET_DIR")
    places = [Path(shelf).expanduser() / "d4rl"] if shelf else []
    places.append(Path(own) if own else Path("~/.d4rl/datasets").expanduser())
    for place in places:
        if (place / file).is_file():
            return place / file
    raise DataError(
        one_line(
            f"d4rl:{name}: no {file} in {' or '.join(map(str, places))}; tabb does not fetch D4RL's files (it knows no "
            "checksums of them): download it with D4RL, or give its path"
        )
    )
