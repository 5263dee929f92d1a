"""Fetching public data sets: whole and with the right checksum, or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tabb.data.checks import one_line
from tabb.data.local_folders import named_shelves
from tabb.data.published_file import Published
from tabb.errors import DataError, RunError, UsageError
from tabb.files import cache_folder

TIMEOUT = 30.0
"""seconds without an answer after which a server counts as not there"""

_CHUNK = 1 << 16


def folder() -> Path | None:
    """Where downloads are kept: `data` in $TABB_CACHE, else in `tabb` of the user's cache folder; None if `off`."""
    base = cache_folder()
    return None if base is None else base / "data"


def d4rl_folder() -> Path | None:
    """Where the package d4rl keeps downloads."""
    named = os.environ.get("D4RL_DATASET_DIR")
    try:
        return Path(named) if named else Path.home() / ".d4rl" / "datasets"
    except RuntimeError:
        return None


def at_hand(entry: Published) -> Path | None:
    """The local file of `entry`: in its folder of one of `$TABB_DATA`, else where D4RL keeps its own downloads, else
    among ours; None if there is none.

    Only its existence is looked at; `fetch` checks its content.
    """
    own = d4rl_folder() if entry.shelf == "d4rl" else None
    places = [*(shelf / entry.shelf for shelf in named_shelves()), own, folder()]
    return next((place / entry.file for place in places if place and (place / entry.file).is_file()), None)


def fetch(entry: Published, show: bool = True) -> Path:
    """The file of `entry`: the local one if its checksum is right, else downloaded.

    An own file of that name in `$TABB_DATA` with other content is an error, a damaged download is fetched again.
    To `show`, a bar (on a terminal) or a line goes to the standard error. Nothing half-written is ever left.

    Raises `DataError` (one line) if the server cannot be reached, has no such file or sends another content, and
    `UsageError` where there is no folder to download to.
    """
    local, place = at_hand(entry), folder()
    if local is not None:
        if _sha256(local) == entry.sha256:
            return local
        if local.parent != place:
            raise DataError(
                one_line(f"{local}: is not the published {entry.name} (SHA-256 differs); rename it, or give its path")
            )
    if place is None:
        raise UsageError(one_line(f"{entry.name}: no folder to download to; set TABB_CACHE to one"))
    _download(entry, place, show)
    return place / entry.file


def _download(entry: Published, place: Path, show: bool) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    host = urlsplit(entry.address).hostname
    with _Progress(entry, show) as progress:
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=TIMEOUT)
        try:
            pooch.retrieve(entry.address, f"sha256:{entry.sha256}", entry.file, place, downloader=downloader)
        except requests.HTTPError as error:
            problem = f"{host} answers {error}; fetch {entry.file} from elsewhere into $TABB_DATA/{entry.shelf}"
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.Timeout):
            problem = f"{host} cannot be reached, or broke off; check the network, or put {entry.file} into "
            problem += f"$TABB_DATA/{entry.shelf}"
        except requests.RequestException as error:
            problem = f"{entry.address} cannot be fetched ({type(error).__name__}); try again"
        except ValueError:  # pooch's word for another checksum, and `_Progress`'s for too many bytes
            problem = f"what {host} sent is not the published file (SHA-256 differs); it was not kept; try again"
        except OSError as error:
            raise RunError(one_line(f"{place}: cannot be written ({error.strerror or error}); free space")) from None
        else:
            return
    raise DataError(one_line(f"{entry.name}: {problem}"))


class _Progress:
    """What pooch tells of a download, as a bar or a line; stops a server that sends more than the file has."""

    def __init__(self, entry: Published, show: bool) -> None:
        self.total, self._entry, self._come, self._bar = entry.bytes, entry, 0, None
        if show and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(entry.name, total=entry.bytes)
        elif show:
            host = urlsplit(entry.address).hostname
            print(f"fetching {entry.name} ({entry.bytes / 1e6:.1f} MB) from {host}", file=sys.stderr, flush=True)

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, count: int) -> None:
        self._come += count
        if self._come > self._entry.bytes + 2 * _CHUNK:
            raise ValueError("more bytes than the published file has")
        if self._bar is not None:
            self._bar.update(self._task, completed=min(self._come, self._entry.bytes))

    def reset(self) -> None:
        self._come = 0

    def close(self) -> None:
        """pooch asks for it; the bar ends with its block."""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
