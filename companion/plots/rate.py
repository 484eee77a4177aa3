"""Figures of the second page of chapter 3."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREY, VERMILION, arrow, node


def narrow_codes(mean: Tensor, widths: list[float], gaps: list[float]) -> Figure:
    """The same codes in one dimension with several widths: each code, their mean q(z), and the prior.

    Args:
        mean: where the codes lie, shape (n,).
        widths: standard deviation of the codes, one for each panel.
        gaps: KL(q(z) ‖ p(z)) in nats, one for each panel.
    """
    z = torch.linspace(-4, 4, 1601, dtype=mean.dtype)
    figure, axes = plt.subplots(1, len(widths), figsize=(3.2 * len(widths), 2.5), sharex=True)
    for axis, s, gap in zip(axes, widths, gaps, strict=True):
        each = (-0.5 * ((z[:, None] - mean) / s).square()).exp() / (s * (2 * torch.pi) ** 0.5)
        axis.plot(z, each / len(mean), color=GREY, lw=0.7)
        axis.fill_between(z, each.mean(1), color=BLUE, alpha=0.25, lw=0)
        axis.plot(z, each.mean(1), color=BLUE, lw=1.6)
        axis.plot(z, (-0.5 * z**2).exp() / (2 * torch.pi) ** 0.5, color=VERMILION, lw=1.6, ls="--")
        axis.set(xlabel="$z$", yticks=[], title=rf"$s={s:g}$:  $\mathrm{{KL}}={gap:.2f}$")
        axis.spines["left"].set_visible(False)
    return figure


def sigma_sweep(sigma2: list[float], rebuilt: list[float], drawn: list[float]) -> Figure:
    """Legible shares of reconstructions (left) and of draws from the prior (right) against σ², each to its scale."""
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.6))
    titles = r"$g_\theta(m_\phi(x))$", r"$g_\theta(z),\ z \sim p(z)$"
    for axis, shares, colour, title in zip(axes, (rebuilt, drawn), (BLUE, VERMILION), titles, strict=True):
        axis.plot(sigma2, shares, "o-", color=colour)
        axis.set(xscale="log", xlabel=r"$\sigma^2$", ylim=(0, 1.15 * max(shares)), title=title)
    return figure


def hierarchy() -> Figure:
    """A VAE with two levels of z: solid arrows generate, dashed ones infer."""
    figure, axis = plt.subplots(figsize=(5.4, 2.0))
    axis.set(xlim=(0.3, 6.1), ylim=(0.1, 2.4), aspect="equal")
    axis.axis("off")
    for x, label in ((0.7, "$z_2$"), (3.2, "$z_1$"), (5.7, "$x$")):
        node(axis, x, 1, label, observed=label == "$x$")
    for x, label in ((0.7, r"$p(z_1\,|\,z_2)$"), (3.2, r"$p(x\,|\,z_1)$")):
        arrow(axis, (x + 0.27, 1.06), (x + 2.23, 1.06))
        axis.text(x + 1.25, 1.2, label, ha="center")
    arrow(axis, (5.46, 0.87), (3.44, 0.87), dashed=True)
    arrow(axis, (0.94, 0.87), (2.96, 0.87), dashed=True)
    axis.text(3.2, 0.4, r"$q(z_1\,|\,z_2,x)$", ha="center")
    arrow(axis, (5.7, 1.28), (0.7, 1.28), dashed=True, bend=0.2)
    axis.text(3.2, 2.0, r"$q(z_2\,|\,x)$", ha="center")
    return figure
