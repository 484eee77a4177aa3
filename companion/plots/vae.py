"""Figures of chapter 3."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREEN, GREY, INK, VERMILION, arrow, node


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
    _block(axis, 3.3, r"$m_\phi(x)$", 0.62, 1.0, y=1.95)
    _block(axis, 3.3, r"$s_\phi(x)$", 0.62, 1.0, y=1.05)
    _block(axis, 4.9, "$z$", 0.9, 0.5)
    _funnel(axis, 5.6, 7.1, 0.9, 2.0, r"$p_\theta(x\,|\,z)$")
    _block(axis, 7.75, r"$g_\theta(z)$", 2.0, 0.75)
    _block(axis, 8.95, r"$\tilde{x}$", 2.0, 0.5)
    node(axis, 4.1, 0.1, r"$\varepsilon$")
    axis.text(4.5, 0.05, r"$\mathcal{N}(0,I)$", va="center", fontsize=14)
    for start, end in (((0.75, 1.5), (1.1, 1.5)), ((5.15, 1.5), (5.6, 1.5)), ((7.1, 1.5), (7.37, 1.5))):
        arrow(axis, start, end)
    for y in (1.95, 1.05):
        arrow(axis, (2.6, y), (2.8, y))
        arrow(axis, (3.8, y), (4.65, 1.5 + 0.25 * (y - 1.5)))
    arrow(axis, (4.22, 0.34), (4.68, 1.03), dashed=True)
    arrow(axis, (8.13, 1.5), (8.7, 1.5), dashed=True)
    axis.text(4.85, 2.3, r"$m+s\odot\varepsilon$", ha="center", fontsize=14)
    return figure


def training_blocks() -> Figure:
    """One step of training: data, minibatch, encoder, z, decoder, loss, and the gradients on their way back."""
    figure, axis = _blocks(9.9, 0.0)
    _block(axis, 0.8, "$x_1$\n$\\vdots$\n$x_N$", 2.0, 0.8, fill="#D9D9D9")
    _block(axis, 2.15, r"$\mathcal{B}$", 0.9, 0.6, fill="#D9D9D9")
    _funnel(axis, 2.9, 4.3, 2.0, 1.2, r"$q_\phi(z\,|\,x)$")
    _block(axis, 5.3, r"$m+s\odot\varepsilon$", 0.9, 1.5)
    _funnel(axis, 6.3, 7.7, 1.2, 2.0, r"$p_\theta(x\,|\,z)$")
    _block(axis, 8.9, r"$-\mathcal{L}$", 0.9, 1.1)
    for start, end in ((1.2, 1.85), (2.45, 2.9), (4.3, 4.55), (6.05, 6.3), (7.7, 8.35)):
        arrow(axis, (start, 1.5), (end, 1.5))
    axis.plot([8.9, 8.9, 3.6], [1.05, 0.2, 0.2], color=VERMILION, lw=1.4, ls=(0, (4, 2)))
    for x, y, label in ((7.0, 0.62, r"$\nabla_\theta$"), (3.6, 0.66, r"$\nabla_\phi$")):
        arrow(axis, (x, 0.2), (x, y), dashed=True)
        axis.text(x + 0.15, 0.36, label, va="center", fontsize=15)
    return figure


def elbo_bars(widths: list[float], elbo: list[Tensor], log_p: Tensor) -> Figure:
    """The bar log p(x) = ELBO + KL, divided in one place for each q.

    Args:
        widths: what distinguishes the q, one number each.
        elbo: the ELBO of each q, positive, in nats.
        log_p: log p(x), in nats.
    """
    figure, axis = plt.subplots(figsize=(5.6, 2.9))
    places, bounds = range(len(widths)), [float(bound) for bound in elbo]
    axis.bar(places, bounds, 0.62, color=BLUE, label=r"$\mathcal{L}$")
    gaps = [float(log_p) - bound for bound in bounds]
    axis.bar(places, gaps, 0.62, bounds, color="#C9C9C9", label="KL")
    axis.axhline(float(log_p), color=INK, lw=1, ls="--")
    end = len(widths) - 0.4, float(log_p)
    axis.annotate(r"$\log p(x)$", end, (0, 3), textcoords="offset points", va="bottom", fontsize=13)
    axis.set_xticks(places, [f"{width:g}" for width in widths])
    axis.set(xlabel="$c$", xlim=(-0.6, len(widths) + 0.5), ylim=(0, 1.15 * float(log_p)), ylabel="nat")
    axis.legend(loc="lower right", fontsize=13, handlelength=1)
    return figure


def reparameterised(eps: Tensor, targets: list[tuple[float, float]]) -> Figure:
    """Each ε slides to z = m + sε, one panel for each pair (m, s).

    Args:
        eps: draws from N(0, 1), shape (n,).
        targets: pairs (m, s).
    """
    figure, axes = plt.subplots(1, len(targets), figsize=(3.4 * len(targets), 2.7), squeeze=False)
    grid = np.linspace(-3.2, 3.8, 400)
    for axis, (m, s) in zip(axes[0], targets, strict=True):
        for mean, std, base, colour in ((0.0, 1.0, 1.6, GREY), (m, s, 0.0, BLUE)):
            density = np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
            axis.fill_between(grid, base, base + 0.8 * density, color=colour, alpha=0.3, lw=0)
            axis.axhline(base, color=INK, lw=0.7)
        for value in eps.tolist():
            axis.plot([value, m + s * value], [1.6, 0.0], color=VERMILION, lw=0.9, alpha=0.7)
        axis.plot(eps, torch.full_like(eps, 1.6), "o", color=INK, ms=4.5)
        axis.plot(m + s * eps, torch.zeros_like(eps), "o", color=BLUE, ms=4.5)
        axis.text(-3.1, 1.72, r"$\varepsilon$", fontsize=15)
        axis.text(-3.1, 0.12, "$z$", fontsize=15)
        axis.set(xlim=(-3.3, 3.8), ylim=(-0.1, 2.1), yticks=[])
        axis.spines["left"].set_visible(False)
    return figure


def _blocks(width: float, bottom: float) -> tuple[Figure, Axes]:
    figure, axis = plt.subplots(figsize=(0.72 * width, 0.72 * (2.65 - bottom)))
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
        shares: shape (d_z, 3), entries between 0 and 1.
    """
    figure, axis = plt.subplots(figsize=(5.6, 2.9))
    bottom = torch.zeros(len(shares))
    for place, colour in enumerate((BLUE, VERMILION, GREEN)):
        axis.bar(range(1, len(shares) + 1), shares[:, place], 0.78, bottom, color=colour, label=f"$y_{place + 1}$")
        bottom = bottom + shares[:, place]
    axis.bar(range(1, len(shares) + 1), 1 - bottom, 0.78, bottom, color="#E4E4E4")
    axis.set(xlabel="$j$", xlim=(0.3, len(shares) + 0.7), ylim=(0, 1))
    axis.set_title(r"$\kappa_j(y_a)$", loc="left", fontsize=15)
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
    solid, dashed = (curve[:, curve[0].argsort()].tolist() for curve in curves)
    for (rate, distortion), label in zip(deep.tolist(), labels, strict=True):
        below, above = distortion - np.interp(rate, *solid), np.interp(rate, *dashed) - distortion
        offset = (5, 7) if above > 0.7 else (9, -4)  # away from both curves
        offset, side = (offset, "left") if below > 0.1 else ((-5, -15), "right")
        axis.annotate(label, (rate, distortion), offset, textcoords="offset points", fontsize=13, ha=side)
    axis.set(xlabel=r"$R$", xlim=(-0.5, 16), ylim=(0, None))
    axis.set_title(r"$\mathbb{E}\,\|x-\tilde{x}\|^2$", fontsize=14)
    axis.tick_params(labelsize=12)
    return figure
