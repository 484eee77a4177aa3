"""Figures of the preface."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.data import CHOSEONG, JONGSEONG, JUNGSEONG, decompose, hangul, place, romanise
from companion.plots import BLUE, GREEN, GREY, INK, VERMILION, arrow, draw_image, node, write
from companion.plots.letters import ROMAN

#: Colours of a syllable's three places: initial, vowel, final.
PLACES = (BLUE, VERMILION, GREEN)
LETTERS = CHOSEONG, JUNGSEONG, JONGSEONG


def family_map() -> Figure:
    """How each family ties z to x: solid arrows generate, dashed ones infer (or, for diffusion, destroy)."""
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), gridspec_kw={"width_ratios": [2.3, 2.3, 2.5, 3.9]})
    for axis, title, width in zip(axes, ("PPCA", "VAE", "GAN", "Diffusion"), (2.3, 2.3, 2.5, 3.9), strict=True):
        axis.set(xlim=(0, width), ylim=(0, 3), aspect="equal")
        axis.set_title(title, fontsize=13)
        axis.axis("off")
    for axis, down, up in (
        (axes[0], r"$p(x\,|\,z)$", r"$p(z\,|\,x)$"),
        (axes[1], r"$p_\theta(x\,|\,z)$", r"$q_\phi(z\,|\,x)$"),
    ):
        node(axis, 1.15, 2.5, "$z$")
        node(axis, 1.15, 0.5, "$x$", observed=True)
        arrow(axis, (1.27, 2.2), (1.27, 0.8), down, (1.36, 1.5))
        arrow(axis, (1.03, 0.8), (1.03, 2.2), up, (0.94, 1.5), dashed=True)
    node(axes[2], 0.5, 2.5, "$z$")
    node(axes[2], 0.5, 0.5, "$x$", observed=True)
    arrow(axes[2], (0.5, 2.2), (0.5, 0.8), r"$G_\theta$", (0.6, 1.5))
    arrow(axes[2], (0.77, 0.5), (1.5, 0.5), colour=INK)
    axes[2].text(1.95, 0.5, r"$D_\phi(x)$", ha="center", va="center", bbox={"boxstyle": "round", "fc": "w", "ec": INK})
    for centre, label in ((0.35, "$x_0$"), (1.95, r"$x_t$"), (3.55, "$x_T$")):
        node(axes[3], centre, 1.5, label, observed=label == "$x_0$")
    for left in (0.35, 1.95):
        arrow(axes[3], (left + 0.27, 1.62), (left + 1.33, 1.62), dashed=True)
        arrow(axes[3], (left + 1.33, 1.38), (left + 0.27, 1.38))
    axes[3].text(1.95, 2.25, r"$q(x_t\,|\,x_{t-1})$", ha="center", va="center")
    axes[3].text(1.95, 0.75, r"$p_\theta(x_{t-1}\,|\,x_t)$", ha="center", va="center")
    for axis in axes:
        for text in axis.texts:
            text.set_fontsize(14)
    return figure


def syllable_parts(syllable: str = "한") -> Figure:
    """A syllable as its letters and their places: ㅎ + ㅏ + ㄴ = 한, h + a + n = han.

    Args:
        syllable: one whose vowel stands to the right and which has a final, so that the three places are those shaded.
    """
    letters = [names[index] for names, index in zip(LETTERS, decompose(syllable), strict=True)]
    figure, axis = plt.subplots(figsize=(5.4, 1.9))
    axis.set(xlim=(0, 8.1), ylim=(0, 2.85), aspect="equal")
    axis.axis("off")
    for middle, letter, colour in zip((0.8, 2.6, 4.4), letters, PLACES, strict=True):
        axis.add_patch(plt.Rectangle((middle - 0.55, 1.2), 1.1, 1.1, facecolor=colour, alpha=0.18, lw=0))
        write(axis, middle, 1.75, letter, size=40, color=colour)
        axis.text(middle, 0.75, romanise(letter), ha="center", va="center", fontsize=14, color=colour)
    for middle, sign in ((1.7, "+"), (3.5, "+"), (5.3, "=")):
        axis.text(middle, 1.75, sign, ha="center", va="center", fontsize=16)
    left, bottom, side = 5.95, 0.95, 1.85
    box = (left, left + side, bottom, bottom + side)
    axis.imshow(
        hangul(28).x[place(syllable)].reshape(28, 28), extent=box, vmin=0, vmax=1, interpolation="nearest", zorder=1
    )
    for (x, y, width, height), colour in zip(
        ((0, 0.3, 0.65, 0.7), (0.65, 0.3, 0.35, 0.7), (0, 0, 1, 0.3)), PLACES, strict=True
    ):
        corner = (left + side * x, bottom + side * y)
        axis.add_patch(plt.Rectangle(corner, side * width, side * height, facecolor=colour, alpha=0.28, lw=0, zorder=2))
    axis.add_patch(plt.Rectangle((left, bottom), side, side, fill=False, edgecolor=GREY, lw=0.6, zorder=3))
    axis.text(left + side / 2, 0.6, romanise(syllable), ha="center", va="center", fontsize=14)
    axis.set(xlim=(0, 8.1), ylim=(0.3, 2.85))
    return figure


def letter_table() -> Figure:
    """The 19 initials, the 21 vowels and the 27 finals (and none), each with its name in Latin script."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.5))
    for number, (axis, letters, names, colour) in enumerate(zip(axes, LETTERS, ROMAN, PLACES, strict=True), start=1):
        _table(axis, letters, names, colour)
        axis.set_title(f"$z_{number}$:  {len(letters)}", color=colour)
    return figure


def _table(axis: Axes, letters: Sequence[str], names: Sequence[str], colour: str) -> None:
    axis.set(xlim=(-0.5, 6.5), ylim=(3.6, -0.5))
    axis.axis("off")
    for index, (letter, name) in enumerate(zip(letters, names, strict=True)):
        row, column = divmod(index, 7)
        if letter:
            write(axis, column, row - 0.14, letter, size=18, color=colour)
            axis.text(column, row + 0.33, name, ha="center", va="center", fontsize=11)
        else:
            axis.text(column, row - 0.12, "∅", ha="center", va="center", fontsize=12, color=colour)


def look_alikes() -> Figure:
    """한 (han) and 햔 (hyan), which one stroke tells apart, and the vowels of 하 (ha), 호 (ho), 화 (hwa)."""
    syllables = "한햔하호화"
    figure, axes = plt.subplots(1, 5, figsize=(6.6, 1.75))
    x = hangul(28).x
    for axis, syllable in zip(axes, syllables, strict=True):
        draw_image(axis, x[place(syllable)])
        axis.spines[:].set(visible=True, color=GREY, linewidth=0.6)
        axis.set_title(romanise(syllable), fontsize=14)
    other = (x[place("한")] - x[place("햔")]).abs().reshape(28, 28) > 0.3
    for row, column in other.nonzero().tolist():
        axes[1].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=VERMILION, alpha=0.55, lw=0))
    for axis, syllable in zip(axes, syllables, strict=True):
        write(axis, 0.5, 0, JUNGSEONG[decompose(syllable)[1]], size=20, transform=axis.transAxes, shift=(0, -15))
    return figure
