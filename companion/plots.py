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
