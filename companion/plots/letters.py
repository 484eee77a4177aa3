"""Hangul in figures without a Korean font, which neither Colab nor a bare Linux has."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import BboxImage
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D, Bbox, ScaledTranslation, Transform, TransformedBbox

from companion.data import CHOSEONG, JONGSEONG, JUNGSEONG, hangul, place, romanise

#: The letters of each place of a syllable in Latin script, in Unicode order; – is none: a silent ㅇ, or no final.
ROMAN = tuple(
    ["–" if letter == silent else romanise(letter) for letter in letters]
    for letters, silent in ((CHOSEONG, "ㅇ"), (JUNGSEONG, None), (JONGSEONG, ""))
)


def write(
    axis: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 14,
    color: str = "#222222",
    transform: Transform | None = None,
    shift: tuple[float, float] = (0, 0),
) -> None:
    """Draw Hangul with its centre at a point: letters as outlines, syllables as the book's images of 28×28 pixels.

    Args:
        axis: where to draw.
        x: the point, in data coordinates or those of `transform`.
        y: the point.
        text: letters, ㄱ to ㅣ, and syllables, 가 to 힣.
        size: side of a character in points.
        color: of the ink.
        transform: such as `axis.transAxes`.
        shift: moves the text, in points.

    Raises:
        ValueError: if a character is neither.
    """
    outlines, text = _outlines(), unicodedata.normalize("NFC", text)
    middle = (len(text) - 1) / 2
    for index, character in enumerate(text):
        where = Affine2D().scale(size / 72).translate(*((np.add(shift, [(index - middle) * size, 0])) / 72))
        where = where + axis.figure.dpi_scale_trans + ScaledTranslation(x, y, transform or axis.transData)
        if character in outlines:
            patch = PathPatch(outlines[character], facecolor=color, linewidth=0, transform=where, clip_on=False)
            axis.add_artist(patch)
            patch.set_clip_path(None)
        else:
            ink = _syllables()[place(character)].reshape(28, 28)
            pixels = np.empty((28, 28, 4), dtype=np.uint8)
            pixels[..., :3] = np.rint(255 * np.array(to_rgb(color)))
            pixels[..., 3] = np.rint(255 * ink)
            box = TransformedBbox(Bbox([[-0.5, -0.5], [0.5, 0.5]]), where)
            image = BboxImage(box, data=pixels, interpolation="antialiased", clip_on=False)
            axis.add_artist(image)


def letter_ticks(
    axis: Axes,
    which: str,
    letters: Sequence[str],
    at: Sequence[float] | None = None,
    *,
    names: Sequence[str] | None = None,
    size: float = 12,
) -> None:
    """Put letters of Hangul beside the ticks of an axis.

    Args:
        axis: where.
        which: "x" or "y".
        letters: such as `data.CHOSEONG`; the empty one, no final, is drawn as ∅.
        at: their positions, 0, 1, … if None.
        names: one to write behind each letter, such as `ROMAN[0]`.
        size: of a letter in points.

    Raises:
        ValueError: if `which` is neither "x" nor "y", or there are more or fewer positions than letters.
    """
    if which not in ("x", "y"):
        raise ValueError(f'which must be "x" or "y", got {which!r}')
    at = range(len(letters)) if at is None else at
    if len(at) != len(letters):
        raise ValueError(f"{len(letters)} letters, {len(at)} positions")
    line = axis.xaxis if which == "x" else axis.yaxis
    pad = 3.5 + size
    behind = [""] * len(letters) if names is None else names
    line.set_ticks(list(at), [name if letter else "∅" for letter, name in zip(letters, behind, strict=True)])
    axis.tick_params(which, length=2.5, pad=3.5 if names is None else pad)
    if names is None and all(letters):
        line.labelpad += size
    across = axis.get_xaxis_transform() if which == "x" else axis.get_yaxis_transform()
    for position, letter in zip(at, letters, strict=True):
        if letter:
            point = (position, 0) if which == "x" else (0, position)
            shift = (0, -3.5 - size / 2) if which == "x" else (-3.5 - size / 2, 0)
            write(axis, *point, letter, size=size, transform=across, shift=shift)


@cache
def _outlines() -> dict[str, Outline]:
    """Each letter's outline in a square of side 1 around the origin."""
    with np.load(Path(__file__).parent.parent / "letters.npz") as file:
        points, codes = file["points"] / 1000, file["codes"]
        ends = np.cumsum(file["lengths"])[:-1]
        parts = zip(np.split(points, ends), np.split(codes, ends), strict=True)
        return {letter: Outline(*part) for letter, part in zip(str(file["letters"]), parts, strict=True)}


@cache
def _syllables() -> np.ndarray:
    return hangul(28).x.numpy()
