"""Figures of chapter 1."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from companion.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, draw_image


def latent_plane(model: Any, x: Tensor) -> Figure:
    """The joint density over the (z, x) plane with f(z), the marginal at the right, posteriors below.

    Args:
        model: a `NonlinearGaussian`.
        x: the observations whose posteriors are drawn, shape (m,), m ≤ 3.
    """
    figure, axes = plt.subplots(
        2, 2, figsize=(6.6, 4.6), width_ratios=[2.6, 1], height_ratios=[2.2, 1], sharex="col", sharey="row"
    )
    (plane, right), (below, empty) = axes
    empty.axis("off")
    z, xs = torch.linspace(-3, 3, 301), torch.linspace(-4, 4, 321)
    joint = model.log_joint(xs[:, None], z).exp()
    plane.contourf(z, xs, joint, levels=joint.max() * torch.linspace(0.02, 1, 14), cmap="Greys")
    plane.plot(z, model.f(z), color=BLUE, lw=1)
    plane.annotate("$f(z)$", (2.3, float(model.f(torch.tensor(2.3))) - 0.75), color=BLUE)
    plane.set(ylim=(-4, 4), title="$p(z, x)$")
    plane.set_ylabel("$x$", rotation=0)
    right.fill_betweenx(xs, model.log_prob(xs).exp(), color=GREY, alpha=0.35, lw=0)
    right.set(xticks=[], title="$p(x)$")
    right.tick_params(labelleft=False)
    below.plot(z, model.prior().log_prob(z).exp(), color=GREY, ls="--", lw=1.2, label="$p(z)$")
    grid, density = model.posterior(x)
    for value, row, colour in zip(x.tolist(), density, (VERMILION, GREEN, PURPLE), strict=False):
        plane.axhline(value, color=colour, lw=1.2)
        right.axhline(value, color=colour, lw=1.2)
        below.plot(grid, row, color=colour, label=rf"$p(z\,|\,x={value:g})$")
    below.set(xlabel="$z$", xlim=(-3, 3), ylim=(0, None), yticks=[])
    empty.legend(*below.get_legend_handles_labels(), loc="upper left", fontsize=10, borderaxespad=0, handlelength=1.2)
    return figure


def letter_posteriors(x: Tensor, probs: list[Tensor], truth: Tensor, labels: list[str]) -> Figure:
    """One row per observation: the image, and the posterior of each of its three letters with the true one marked.

    Args:
        x: flat images, shape (m, side²).
        probs: for each letter the probabilities, shape (m, number of letters).
        truth: indices of the true letters, shape (3,).
        labels: one label per row.
    """
    figure, axes = plt.subplots(len(x), 4, figsize=(7.4, 1.15 * len(x)), width_ratios=[1, 2, 2, 2.6], squeeze=False)
    for place in range(3):
        axes[0, place + 1].set_title(rf"$p(z_{place + 1}\,|\,x)$")
    for row, image, label, *letters in zip(axes, x, labels, *probs, strict=True):
        draw_image(row[0], image)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for place, (axis, p) in enumerate(zip(row[1:], letters, strict=True)):
            colours = [VERMILION if index == truth[place] else BLUE for index in range(len(p))]
            axis.bar(range(len(p)), p, color=colours, width=0.8)
            axis.set(ylim=(0, 1), yticks=[0, 1], xticks=[], xlim=(-1, len(p)))
    return figure


def draw_mixture(axis: Axes, model: nn.Module, x: Tensor, groups: Tensor | None = None) -> None:
    """Points of the plane, coloured by group, and each component as its ellipse of two standard deviations.

    Args:
        model: a `GaussianMixture` with d = 2.
        x: points, shape (n, 2).
        groups: integer labels, shape (n,).
    """
    palette = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
    colours = GREY if groups is None else [palette[group] for group in groups.tolist()]
    axis.scatter(*x.T.cpu(), s=4, c=colours, lw=0, marker="s", antialiased=False)
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=model.mu.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    for mean, scale in zip(model.mu.cpu(), model.scale_tril.cpu(), strict=True):
        axis.plot(*(mean[:, None] + 2 * scale @ circle), color=INK, lw=1.2)
