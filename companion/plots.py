"""Figures of the book. They are drawn on white with ink that survives print and the site's dark mode."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

#: Okabe and Ito's palette, distinguishable with any colour vision. Use it in this order.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY = "#222222", "#8A8A8A"


def use_style() -> None:
    """Set matplotlib's defaults for the book. Each chapter calls it once, after its imports."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlesize": 11,
            "font.size": 11,
            "legend.frameon": False,
            "mathtext.fontset": "cm",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "image.cmap": "gray_r",
        }
    )


def show_images(x: Tensor, *, columns: int = 10, titles: list[str] | None = None, scale: float = 0.75) -> Figure:
    """Draw flat square images in a grid, ink dark on white paper.

    Args:
        x: images, shape (n, side²), values in [0, 1]; others are clipped, NaN is drawn as grey.
        columns: images in a row.
        titles: a label above each image.
        scale: inches an image.
    """
    n, dim = x.shape
    side = math.isqrt(dim)
    if side * side != dim:
        raise ValueError(f"x has {dim} columns, which is no square image")
    rows = math.ceil(n / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * scale, rows * (scale + (0.22 if titles else 0))), squeeze=False
    )
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < n:
            draw_image(axis, x[index])
            if titles:
                axis.set_title(titles[index], fontsize=9)
    return figure


def draw_image(axis: Axes, x: Tensor) -> None:
    """Draw one flat square image, shape (side²,), into `axis`."""
    side = math.isqrt(x.numel())
    image = x.detach().cpu().reshape(side, side)
    axis.set_facecolor("#CFCFCF")
    colours = plt.get_cmap("gray_r").with_extremes(bad="#9FC5E8")
    axis.imshow(torch.clamp(image, 0, 1).numpy(), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


# Preface


def family_map() -> Figure:
    """How each family ties z to x: solid arrows generate, dashed ones infer (or, for diffusion, destroy)."""
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5), gridspec_kw={"width_ratios": [1, 1, 1.25, 1.9]})
    for axis, title, width in zip(axes, ("PPCA", "VAE", "GAN", "Diffusion"), (2, 2, 2.6, 4.2), strict=True):
        axis.set(xlim=(0, width), ylim=(0, 3), aspect="equal", title=title)
        axis.axis("off")
    _node(axes[0], 1, 2.4, "$z$")
    _node(axes[0], 1, 0.6, "$x$", observed=True)
    _arrow(axes[0], (1.12, 2.1), (1.12, 0.9), r"$Wz+\mu$", (1.25, 1.5))
    _arrow(axes[0], (0.88, 0.9), (0.88, 2.1), r"$p(z\,|\,x)$", (0.75, 1.5), dashed=True)
    _node(axes[1], 1, 2.4, "$z$")
    _node(axes[1], 1, 0.6, "$x$", observed=True)
    _arrow(axes[1], (1.12, 2.1), (1.12, 0.9), r"$p_\theta(x\,|\,z)$", (1.25, 1.5))
    _arrow(axes[1], (0.88, 0.9), (0.88, 2.1), r"$q_\phi(z\,|\,x)$", (0.75, 1.5), dashed=True)
    _node(axes[2], 0.6, 2.4, "$z$")
    _node(axes[2], 0.6, 0.6, "$x$", observed=True)
    _arrow(axes[2], (0.6, 2.1), (0.6, 0.9), r"$G_\theta$", (0.7, 1.5))
    axes[2].text(2.05, 0.6, r"$D_\phi(x)$", ha="center", va="center", bbox={"boxstyle": "round", "fc": "w", "ec": INK})
    _arrow(axes[2], (0.87, 0.6), (1.66, 0.6))
    for centre, label in ((0.5, "$x_0$"), (2.1, r"$x_t$"), (3.7, "$x_T$")):
        _node(axes[3], centre, 1.5, label, observed=label == "$x_0$")
    for left in (0.5, 2.1):
        _arrow(axes[3], (left + 0.27, 1.66), (left + 1.33, 1.66), dashed=True)
        _arrow(axes[3], (left + 1.33, 1.34), (left + 0.27, 1.34))
    axes[3].text(2.1, 2.25, r"$q(x_t\,|\,x_{t-1})$", ha="center", va="center")
    axes[3].text(2.1, 0.75, r"$p_\theta(x_{t-1}\,|\,x_t)$", ha="center", va="center")
    return figure


def _node(axis: Axes, x: float, y: float, label: str, *, observed: bool = False) -> None:
    axis.add_patch(plt.Circle((x, y), 0.27, facecolor="#D9D9D9" if observed else "white", edgecolor=INK, linewidth=1.2))
    axis.text(x, y, label, ha="center", va="center", fontsize=12)


def _arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    at: tuple[float, float] | None = None,
    *,
    dashed: bool = False,
) -> None:
    style = {"arrowstyle": "-|>", "color": VERMILION if dashed else BLUE, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops={**style, "linestyle": (0, (4, 2)) if dashed else "-"})
    if at:
        axis.text(*at, label, ha="right" if at[0] < start[0] else "left", va="center")
