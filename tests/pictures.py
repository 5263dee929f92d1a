"""Pictures that tests compare with those that are committed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pixels_of(file: Path):
    """The colours of a picture, [height, width, 3], as numbers that can be subtracted."""
    with Image.open(file) as picture:
        return np.array(picture.convert("RGB")).astype(float)


def share_of_far_pixels(one, other, levels: float):
    """The share of pixels in which a colour differs by more than so many levels of 255.

    Roughly alike is enough: other drivers and other versions of FreeType round colours and edges otherwise.
    """
    return (np.abs(np.asarray(one, float) - other).max(axis=2) > levels).mean()


def check_current(drawn, file: Path, levels: float, share: float, advice: str) -> None:
    """The picture `drawn` is the one in the file: all but so small a `share` of its pixels are within `levels`."""
    committed = pixels_of(file)
    assert np.shape(drawn) == committed.shape, advice
    assert share_of_far_pixels(drawn, committed, levels) < share, advice
