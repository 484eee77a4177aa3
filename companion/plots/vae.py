"""Figures of chapter 3."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREEN, INK, VERMILION, arrow, node


def autoencoder_blocks() -> Figure:
    """An autoencoder: x is squeezed into one code ẑ and given back."""
    figure, axis = _blocks(6.7, 0.35)
    _block(axis, 0.5, "$x$", 2.0, 0.5, fill="#D9D9D9")
    _funnel(axis, 1.1, 2.7, 2.0, 0.9, r"$f_\phi$")
    _block(axis, 3.3, r"$\hat{z}$", 0.9, 0.5)
    _funnel(axis, 3.9, 5.5, 0.9, 2.0, r"$g_\theta$")
    _block(axis, 6.1, r"$\hat{x}$", 2.0, 0.5)
    for start, end in ((0.75, 1.1), (2.7, 3.05), (3.55, 3.9), (5.5, 5.85)):
        arrow(axis, (start, 1.5), (end, 1.5))
    return figure


def vae_blocks() -> Figure:
    """A VAE: the encoder gives a distribution over z, one z is drawn, the decoder gives a distribution over x."""
    figure, axis = _blocks(9.4, -0.25)
    _block(axis, 0.5, "$x$", 2.0, 0.5, fill="#D9D9D9")
    _funnel(axis, 1.1, 2.6, 2.0, 1.4, r"$q_\phi(z\,|\,x)$")
    _block(axis, 3.3, r"$m_\phi(x)$", 0.62, 0.9, y=1.95)
    _block(axis, 3.3, r"$s_\phi(x)$", 0.62, 0.9, y=1.05)
    _block(axis, 4.9, "$z$", 0.9, 0.5)
    _funnel(axis, 5.6, 7.1, 0.9, 2.0, r"$p_\theta(x\,|\,z)$")
    _block(axis, 7.75, r"$g_\theta(z)$", 2.0, 0.75)
    _block(axis, 8.95, r"$\tilde{x}$", 2.0, 0.5)
    node(axis, 4.1, 0.1, r"$\varepsilon$")
    axis.text(4.5, 0.05, r"$\mathcal{N}(0,I)$", va="center", fontsize=13)
    for start, end in (((0.75, 1.5), (1.1, 1.5)), ((5.15, 1.5), (5.6, 1.5)), ((7.1, 1.5), (7.37, 1.5))):
        arrow(axis, start, end)
    for y in (1.95, 1.05):
        arrow(axis, (2.6, y), (2.85, y))
        arrow(axis, (3.75, y), (4.65, 1.5 + 0.25 * (y - 1.5)))
    arrow(axis, (4.22, 0.34), (4.68, 1.03), dashed=True)
    arrow(axis, (8.13, 1.5), (8.7, 1.5), dashed=True)
    axis.text(4.85, 2.3, r"$m+s\odot\varepsilon$", ha="center", fontsize=14)
    return figure


def _blocks(width: float, bottom: float) -> tuple[Figure, Axes]:
    figure, axis = plt.subplots(figsize=(0.85 * width, 0.85 * (2.65 - bottom)))
    axis.set(xlim=(0.1, width - 0.1), ylim=(bottom, 2.65), aspect="equal")
    axis.axis("off")
    return figure, axis


def _block(axis: Axes, x: float, label: str, height: float, width: float, *, y: float = 1.5, fill: str = "w") -> None:
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(plt.Rectangle(corner, width, height, facecolor=fill, edgecolor=INK, linewidth=1.2))
    axis.text(x, y, label, ha="center", va="center", fontsize=15)


def _funnel(axis: Axes, left: float, right: float, before: float, after: float, label: str) -> None:
    corners = [(left, 1.5 + before / 2), (right, 1.5 + after / 2), (right, 1.5 - after / 2), (left, 1.5 - before / 2)]
    axis.add_patch(plt.Polygon(corners, facecolor="#DCEAF4", edgecolor=BLUE, linewidth=1.2))
    axis.text((left + right) / 2, 1.5, label, ha="center", va="center", fontsize=15)


def jamo_shares(shares: Tensor) -> Figure:
    """How much of each z_j's variance the three letters of the syllable explain, as stacked bars.

    Args:
        shares: shape (q, 3), entries between 0 and 1.
    """
    figure, axis = plt.subplots(figsize=(5.6, 2.9))
    bottom = torch.zeros(len(shares))
    for place, colour in enumerate((BLUE, VERMILION, GREEN)):
        axis.bar(range(1, len(shares) + 1), shares[:, place], 0.78, bottom, color=colour, label=f"$c_{place + 1}$")
        bottom = bottom + shares[:, place]
    axis.bar(range(1, len(shares) + 1), 1 - bottom, 0.78, bottom, color="#E4E4E4")
    axis.set(xlabel="$j$", xlim=(0.3, len(shares) + 0.7), ylim=(0, 1))
    axis.set_title(r"$\eta^2_j(c_a)$", loc="left", fontsize=15)
    axis.tick_params(labelsize=12)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.96), ncols=3, fontsize=15, handlelength=1)
    return figure


def rate_distortion(curves: list[Tensor], linear: Tensor, deep: Tensor, labels: list[str]) -> Figure:
    """Rate and distortion: two curves of a Gaussian, linear VAEs and deep ones.

    Args:
        curves: rate and distortion along the solid and the dashed curve, each of shape (2, m).
        linear, deep: points (rate, distortion), shape (k, 2).
        labels: one for each deep point.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.3))
    for curve, style in zip(curves, ("-", "--"), strict=True):
        axis.plot(*curve, color=INK, lw=1, ls=style)
    axis.plot(*linear.T, "o", color=BLUE, mfc="w", ms=7)
    axis.plot(*deep.T, "s", color=VERMILION, ms=5.5)
    solid = curves[0][:, curves[0][0].argsort()].tolist()
    for (rate, distortion), label in zip(deep.tolist(), labels, strict=True):
        above = distortion > np.interp(rate, *solid) + 0.1
        offset, side = ((5, 7), "left") if above else ((-5, -15), "right")  # away from both curves
        axis.annotate(label, (rate, distortion), offset, textcoords="offset points", fontsize=13, ha=side)
    axis.set(xlabel=r"$R$", xlim=(-0.5, 16), ylim=(0, None))
    axis.set_title(r"$\mathbb{E}\,\|x-\tilde{x}\|^2$", fontsize=14)
    axis.tick_params(labelsize=12)
    return figure
