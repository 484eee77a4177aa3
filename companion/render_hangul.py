"""Render `hangul.npz`, images of the 11,172 modern Hangul syllables, and `letters.npz`, shapes of the 51 letters.

    python companion/render_hangul.py FONT.ttf

The bundled files were rendered from NanumGothic (NanumGothic.ttf in Debian's package fonts-nanum), Copyright (c) 2010
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
#: The letters that stand alone, from ㄱ to ㅣ: 30 consonants and their pairs, 21 vowels.
LETTERS = "".join(chr(code) for code in range(0x3131, 0x3164))
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


def outlines(font: str | Path, letters: str = LETTERS) -> dict[str, np.ndarray]:
    """The shapes of `letters` as matplotlib's paths around the centre of their common box, in thousandths of an em.

    Returns:
        letters; lengths, the number of points of each; points, shape (sum of lengths, 2), int16; codes, uint8.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    shapes = [TextPath((0, 0), letter, size=1000, prop=FontProperties(fname=str(font))) for letter in letters]
    corners = np.concatenate([shape.vertices[shape.codes != shape.CLOSEPOLY] for shape in shapes])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    points = np.concatenate([shape.vertices - centre for shape in shapes])
    return {
        "letters": np.array(letters),
        "lengths": np.array([len(shape.codes) for shape in shapes], dtype=np.int16),
        "points": np.rint(points).astype(np.int16),
        "codes": np.concatenate([shape.codes for shape in shapes]).astype(np.uint8),
    }


def _common_box(font: ImageFont.FreeTypeFont) -> tuple[int, int, int, int]:
    boxes = np.array([font.getbbox(syllable) for syllable in SYLLABLES])
    return *boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(__file__).parent
    np.savez_compressed(folder / "hangul.npz", **{f"x{size}": render(sys.argv[1], size) for size in SIZES})
    np.savez_compressed(folder / "letters.npz", **outlines(sys.argv[1]))
