"""Text on pictures, in Pillow's own font."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_INK, _SHADE, _ALARM = (255, 255, 255), (0, 0, 0, 165), (150, 25, 20, 215)


@functools.cache
def font(size: int) -> Any:
    """Pillow's own font at about `size` pixels."""
    return ImageFont.load_default(size)


def with_text(
    picture: NDArray[np.uint8], lines: tuple[str, ...], ending: str | None = None, size: int | None = None
) -> NDArray[np.uint8]:
    """The picture [H, W, 3] with lines of text on a dark strip at the top, and `ending` on a red strip at the bottom.

    Letters are `size` pixels high; the default suits the two lines of a film.
    """
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image, "RGBA")
    size = size or max(9, min(height // 24, width // 24))
    line_height = round(1.35 * size)
    draw.rectangle((0, 0, width, line_height * len(lines) + size // 2), fill=_SHADE)
    for number, text in enumerate(lines):
        draw.text((size // 2, size // 4 + number * line_height), text, fill=_INK, font=font(size))
    if ending is not None:
        draw.rectangle((0, height - line_height - size // 2, width, height), fill=_ALARM)
        draw.text((size // 2, height - line_height - size // 4), ending, fill=_INK, font=font(size))
    return np.array(image)
