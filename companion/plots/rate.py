"""Figures of the second page of chapter 3."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREY, INK, VERMILION, arrow, node


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


def sigma_sweep(
    sigma2: list[float], rebuilt: list[float], drawn: list[float], rate: list[float], most: float
) -> Figure:
    """Legible shares (left) and the rate with a dashed line at `most` (right) against σ², on a logarithmic axis."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6))
    left.plot(sigma2, rebuilt, "o-", color=BLUE, label=r"$g(m(x))$")
    left.plot(sigma2, drawn, "s-", color=VERMILION, label=r"$g(z),\ z \sim p(z)$")
    left.set(xscale="log", xlabel=r"$\sigma^2$", ylim=(-0.02, 1.02))
    left.legend(fontsize=11)
    right.plot(sigma2, rate, "o-", color=INK)
    right.axhline(most, color=GREY, lw=1, ls="--")
    right.set(xscale="log", xlabel=r"$\sigma^2$", ylim=(0, None), title="$R$")
    return figure


def hierarchy() -> Figure:
    """A VAE with two levels of z: solid arrows generate, dashed ones infer."""
    figure, axis = plt.subplots(figsize=(5.4, 1.7))
    axis.set(xlim=(0, 6.4), ylim=(0, 2), aspect="equal")
    axis.axis("off")
    for x, label in ((0.7, "$z_2$"), (3.2, "$z_1$"), (5.7, "$x$")):
        node(axis, x, 1, label, observed=label == "$x$")
    for x, label in ((0.7, r"$p(z_1\,|\,z_2)$"), (3.2, r"$p(x\,|\,z_1)$")):
        arrow(axis, (x + 0.27, 1), (x + 2.23, 1))
        axis.text(x + 1.25, 1.2, label, ha="center")
    arrow(axis, (5.55, 0.77), (3.42, 0.83), dashed=True)
    arrow(axis, (0.92, 0.83), (2.98, 0.83), dashed=True)
    axis.text(2.0, 0.32, r"$q(z_1\,|\,z_2,x)$", ha="center")
    axis.annotate(
        "",
        (0.7, 1.28),
        (5.7, 1.28),
        arrowprops={
            "arrowstyle": "-|>",
            "color": VERMILION,
            "lw": 1.4,
            "ls": (0, (4, 2)),
            "connectionstyle": "arc3,rad=0.22",
        },
    )
    axis.text(3.2, 1.75, r"$q(z_2\,|\,x)$", ha="center")
    return figure
