"""Render `hangul.npz`, the images of all 11,172 modern Hangul syllables: `python companion/render_hangul.py FONT.ttf`.

The bundled file was rendered from NanumGothic (NanumGothic.ttf in Debian's package fonts-nanum), Copyright (c) 2010
NAVER Corporation, SIL Open Font License 1.1. That licence binds the font, not what is drawn with it.
The package does not import this script, and only this script needs Pillow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZES = (16, 28)
SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4)]
#: Drawn this many times larger, then averaged: antialiasing that no version of a font hinter changes.
OVERSAMPLING = 8
#: Grey levels kept; they halve the file.
LEVELS = 16


def render(font: str | Path, size: int, syllables: Sequence[str] = SYLLABLES) -> np.ndarray:
    """Grey images of `syllables`, ink 255 on paper 0, all at one font size and on one baseline.

    The one box that holds every one of the 11,172 glyphs fills the image; each glyph keeps its place in it.

    Args:
        font: path of a TrueType font with Hangul.
        size: side of an image in pixels.
        syllables: what to draw.

    Returns:
        Images, shape (len(syllables), size²), uint8.
    """
    font, side = Path(font).expanduser(), size * OVERSAMPLING
    left, top, right, bottom = _common_box(ImageFont.truetype(font, side))
    fitted = ImageFont.truetype(font, side * (side - 2) // max(right - left, bottom - top))
    left, top, right, bottom = _common_box(fitted)
    corner = ((side - left - right) // 2, (side - top - bottom) // 2)
    images = np.empty((len(syllables), size * size), dtype=np.uint8)
    for row, syllable in enumerate(syllables):
        canvas = Image.new("L", (side, side))
        ImageDraw.Draw(canvas).text(corner, syllable, fill=255, font=fitted)
        blocks = np.asarray(canvas, dtype=np.float64).reshape(size, OVERSAMPLING, size, OVERSAMPLING)
        step = 255 // (LEVELS - 1)
        images[row] = (np.round(blocks.mean(axis=(1, 3)) / step) * step).ravel()
    return images


def _common_box(font: ImageFont.FreeTypeFont) -> tuple[int, int, int, int]:
    boxes = np.array([font.getbbox(syllable) for syllable in SYLLABLES])
    return *boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    np.savez_compressed(
        Path(__file__).with_name("hangul.npz"), **{f"x{size}": render(sys.argv[1], size) for size in SIZES}
    )
