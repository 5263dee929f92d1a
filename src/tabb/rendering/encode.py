"""Encodes pictures as a film: MP4 (H.264 by PyAV, extra `watch`) or GIF (by Pillow, which matplotlib installs)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tabb.errors import RunError, UsageError
from tabb.files import atomic
from tabb.own_files import GENERATOR, refuse_others

MARK = f"{GENERATOR} film"
"""comment in a film's metadata, by which it is known"""
Picture = NDArray[np.uint8]
_NEEDS_AV = '.mp4 films need the extra `watch`: pip install "tabb-rl[watch]"; .gif films do not'


def has_encoder() -> bool:
    """Whether MP4 can be written."""
    return importlib.util.find_spec("av") is not None


def check_out(out: Path) -> None:
    """Check that a film can be written to `out`, before anything is run.

    Raises:
        UsageError: `out` is a folder, ends in neither .mp4 nor .gif, or in .mp4 without the extra `watch`, or is there
            and is no film that tabb wrote.
        RunError: its folder does not exist.
    """
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; name a file in it, such as {out / 'watch.mp4'}")
    if out.suffix not in _WRITERS:
        raise UsageError(f"{out}: a film must end in {' or '.join(_WRITERS)}")
    if out.suffix == ".mp4" and not has_encoder():
        raise UsageError(_NEEDS_AV)
    if not out.parent.is_dir():
        raise RunError(f"{out}: cannot be written (no folder {out.parent}); make the folder or choose another")
    refuse_others(out, "film")


def write_film(out: Path, pictures: Iterable[Picture], fps: int) -> None:
    """Write pictures [H, W, 3] of one size as a film of `fps` pictures per second, atomically.

    Raises:
        UsageError, RunError: as in `check_out`; `RunError` also if the disk is full.
    """
    check_out(out)
    with atomic(out) as part:
        _WRITERS[out.suffix](part, pictures, fps)


def _write_mp4(part: Path, pictures: Iterable[Picture], fps: int) -> None:
    import av

    with av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as film:
        film.metadata["comment"] = MARK
        stream: Any = None
        for picture in pictures:
            picture = _even(picture)
            if stream is None:
                stream = film.add_stream("h264", rate=fps, options={"crf": "20"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"  # the format that browsers show
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())


def _even(picture: Picture) -> Picture:
    """The picture without its last row or column if their number is odd: H.264 stores colours per two by two pixels."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(picture[: height - height % 2, : width - width % 2])


def _write_gif(part: Path, pictures: Iterable[Picture], fps: int) -> None:
    # One palette, or colours would flicker from picture to picture; no dithering, as noise does not compress.
    rest = iter(pictures)
    first = next(rest)
    palette = _palette(first)
    few = (Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in chain([first], rest))
    film = next(few)
    film.save(part, format="GIF", save_all=True, append_images=few, duration=round(1000 / fps), loop=0, comment=MARK)


def _palette(picture: Picture) -> Image.Image:
    """The colours of a picture, and a coarse set of all colours for what comes later in the film."""
    own = Image.fromarray(picture).quantize(224).getpalette() or []
    spread = [part for colour in product((30, 128, 225), repeat=3) for part in colour]
    palette = Image.new("P", (1, 1))
    palette.putpalette(own[: 3 * 224] + spread)
    return palette


_WRITERS: dict[str, Callable[[Path, Iterable[Picture], int], None]] = {".mp4": _write_mp4, ".gif": _write_gif}
