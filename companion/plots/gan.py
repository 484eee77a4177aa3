"""Figures of chapter 4."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from companion.data import CHOSEONG, JUNGSEONG
from companion.plots import BLUE, GREEN, GREY, INK, VERMILION, arrow, letter_ticks, node
from companion.plots.letters import ROMAN


def gan_blocks(real: Tensor, made: Tensor) -> Figure:
    """The generator, which turns z into an x, and the discriminator, which turns any x into one number.

    Args:
        real: a flat image of the data.
        made: a flat image of the generator.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), gridspec_kw={"width_ratios": [1, 1.25]})
    for axis, width in zip(axes, (5.2, 6.5), strict=True):
        axis.set(xlim=(0, width), ylim=(0, 3), aspect="equal")
        axis.axis("off")
    left, right = axes
    node(left, 0.5, 1.5, "$z$")
    left.text(0.5, 0.95, r"$z\sim p(z)$", ha="center", va="center")
    _box(left, 2.25, 1.5, r"$G_\theta$", BLUE)
    _picture(left, made, 4.2, 1.5, r"$x=G_\theta(z)$", BLUE)
    arrow(left, (0.82, 1.5), (1.72, 1.5))
    arrow(left, (2.78, 1.5), (3.58, 1.5))
    _picture(right, real, 0.75, 2.25, r"$x\sim p_{\mathrm{data}}$", INK)
    _picture(right, made, 0.75, 0.55, r"$x\sim p_\theta$", BLUE)
    _box(right, 3.55, 1.4, r"$D_\phi$", VERMILION)
    for height in (2.25, 0.55):
        right.plot([1.4, 2.2, 2.2], [height, height, 1.4], color=INK, lw=1.2, solid_joinstyle="round")
    arrow(right, (2.2, 1.4), (3.0, 1.4), "$x$", (2.6, 1.62))
    arrow(right, (4.1, 1.4), (4.8, 1.4))
    right.text(4.95, 1.4, r"$D_\phi(x)\in(0,1)$", ha="left", va="center")
    right.text(2.35, 2.35, "$y=1$", va="center")
    right.text(2.35, 0.45, "$y=0$", va="center")
    return figure


def _box(axis: Axes, x: float, y: float, label: str, colour: str) -> None:
    axis.add_patch(plt.Rectangle((x - 0.5, y - 0.45), 1, 0.9, facecolor="white", edgecolor=colour, linewidth=1.6))
    axis.text(x, y, label, ha="center", va="center", fontsize=14, color=colour)


def _picture(axis: Axes, image: Tensor, x: float, y: float, label: str, colour: str) -> None:
    side = math.isqrt(image.numel())
    box = (x - 0.55, x + 0.55, y - 0.55, y + 0.55)
    pixels = image.detach().cpu().reshape(side, side).clamp(0, 1)
    axis.imshow(pixels, extent=box, vmin=0, vmax=1, interpolation="nearest", zorder=1)
    axis.add_patch(plt.Rectangle((box[0], box[2]), 1.1, 1.1, fill=False, edgecolor=colour, linewidth=1.2, zorder=2))
    axis.text(x, y - 0.72, label, ha="center", va="center", fontsize=11, color=colour)


def density_ratio(grid: Tensor, p: Tensor, q: Tensor, logit: Tensor) -> Figure:
    """Two densities with the best and the trained discriminator, and log p recovered from log q and the logit."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.3))
    left.fill_between(grid, p, color=INK, alpha=0.14, lw=0)
    left.fill_between(grid, q, color=BLUE, alpha=0.18, lw=0)
    left.plot(grid, p, color=INK, lw=1, label=r"$p_{\mathrm{data}}$")
    left.plot(grid, q, color=BLUE, lw=1, label=r"$p_\theta$")
    left.plot(grid, p / (p + q), color=VERMILION, lw=1.2, ls="--", label="$D^*$")
    left.plot(grid, logit.sigmoid(), color=VERMILION, lw=1.8, label="$D$")
    left.set(xlabel="$x$", ylim=(0, 1), xlim=(grid[0], grid[-1]))
    left.legend(fontsize=9, loc="upper right", handlelength=1.4)
    right.plot(grid, p.log(), color=INK, lw=1, ls="--", label=r"$\log p_{\mathrm{data}}$")
    right.plot(grid, q.log() + logit, color=VERMILION, label=r"$\log p_\theta+a$")
    right.set(xlabel="$x$", ylim=(-8, 0), xlim=(grid[0], grid[-1]))
    right.legend(fontsize=9, loc="lower center", handlelength=1.4)
    return figure


def vector_field(axis: Axes, field: Any, paths: list[tuple[Tensor, str]], reach: float, title: str) -> None:
    """Arrows of a planar flow (θ, ψ) ↦ (θ̇, ψ̇) with trajectories over it, each shape (steps, 2), in its colour."""
    line = torch.linspace(-reach, reach, 6)[1:-1]
    theta, psi = torch.meshgrid(line, line, indexing="xy")
    head = {"headwidth": 4, "headlength": 4, "headaxislength": 4}
    axis.quiver(theta, psi, *field(theta, psi), color="#9AA3AB", width=0.01, scale=8, pivot="mid", **head)
    for path, colour in paths:
        axis.plot(*path.T, "-", color=colour, lw=1.2)
        axis.plot(*path[0], "o", color=colour, ms=5)
    axis.plot(0, 0, "+", color=INK, ms=9)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel=r"$\theta$")
    axis.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axis.set_title(title, fontsize=10.5)


def landscape(
    axis: Axes,
    logit: Tensor,
    reach: float,
    real: Tensor,
    made: Tensor,
    title: str = "",
    *,
    modes: Tensor | None = None,
) -> None:
    """Where the discriminator says real (blue) or generated (vermilion), with their border D = ½ and points.

    Args:
        axis: to draw into.
        logit: the discriminator's logits on a square grid over [−reach, reach]², shape (m, m), first axis x_2.
        reach: half the side of the square.
        real: points, shape (n, 2), grey.
        made: points, shape (n, 2), dark.
        title: of the panel.
        modes: centres of equal modes around the origin, shape (K, 2). Each gets a bar that points outwards, whose
            length is the share of `made` nearest to it, and all together a dotted circle at the share 1/K.
    """
    box = (-reach, reach, -reach, reach)
    shades = LinearSegmentedColormap.from_list("D", [VERMILION, "white", BLUE], N=15)
    picture = {"extent": box, "origin": "lower", "interpolation": "bilinear", "vmin": 0, "vmax": 1}
    axis.imshow(logit.sigmoid().numpy(), cmap=shades, alpha=0.45, **picture)
    if logit.min() < 0 < logit.max():
        axis.contour(logit.numpy(), [0], extent=box, origin="lower", colors=INK, linewidths=0.7)
    axis.plot(*real.T, ".", color=GREY, ms=1.5, alpha=0.5, mew=0)
    axis.plot(*made.T, ".", color=INK, ms=2.2, mew=0)
    if modes is not None:
        _bars(axis, made, modes)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=10)
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)


def _bars(axis: Axes, made: Tensor, modes: Tensor) -> None:
    """The share of each mode as a bar outwards from it; a share of 1/K is 0.2 long, one above 3/K is cut."""
    unit = 0.2 * len(modes)
    share = torch.cdist(made, modes).argmin(1).bincount(minlength=len(modes)) / len(made)
    length = (unit * share).clamp(max=0.6)[:, None]
    direction = modes / modes.norm(dim=1, keepdim=True)
    start = modes + 0.1 * direction
    ends = torch.stack([start, start + length * direction], 1)
    axis.add_collection(LineCollection(ends.numpy(), colors=GREEN, linewidths=4))
    radius = modes.norm(dim=1).mean().item() + 0.3
    axis.add_patch(plt.Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=0.7, linestyle=":"))


def coverage(counts: Tensor, marked: Tensor, *, letters: bool = False) -> Figure:
    """How often each syllable was written, one cell each, with frames around some of them.

    Args:
        counts: shape (rows, columns).
        marked: flat indices of the cells to frame, shape (m,).
        letters: whether rows and columns are the 19 initials and 21 vowels; then they are named.
    """
    figure, axis = plt.subplots(figsize=(5.2, 5.0) if letters else (4.6, 3.5))
    shades = LinearSegmentedColormap.from_list("counts", plt.get_cmap("Blues")(torch.linspace(0.25, 1, 64).numpy()))
    shades = shades.with_extremes(under="white")
    picture = axis.imshow(counts.numpy(), cmap=shades, vmin=0.5, aspect="auto")
    for index in marked.tolist():
        row, column = divmod(index, counts.shape[1])
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILION, lw=1))
    axis.set(xlabel="$z_2$", xticks=[], yticks=[])
    if letters:
        for which, all_letters, names in (("x", JUNGSEONG, ROMAN[1]), ("y", CHOSEONG, ROMAN[0])):
            letter_ticks(axis, which, all_letters, names=names, size=11)
        axis.tick_params("x", length=0, labelsize=10, labelrotation=90, pad=18)
        axis.tick_params("y", length=0, labelsize=10, pad=16)
    axis.set_ylabel("$z_1$", rotation=0, labelpad=10)
    figure.colorbar(picture, ax=axis, pad=0.02)
    return figure
