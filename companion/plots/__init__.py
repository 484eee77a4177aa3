"""Figures of the book, one module a chapter; here is what they share: style, palette, images, parts of schemes.

They are drawn on white with ink that survives print and the site's dark mode.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from companion.checks import check_tensor
from companion.plots.letters import letter_ticks, write
from companion.plots.screen import DPI, use_screen

__all__ = ["letter_ticks", "write"]

#: Okabe and Ito's palette, distinguishable with any colour vision. Use it in this order.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY = "#222222", "#8A8A8A"


def use_style() -> None:
    """Set matplotlib's defaults for the book, and make figures sharp. Each chapter calls it once, after importing."""
    use_screen()
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": DPI,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlesize": 12,
            "axes.labelsize": 13,
            "font.size": 11,
            "legend.frameon": False,
            "mathtext.fontset": "cm",
            "text.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "xtick.color": INK,
            "ytick.color": INK,
            "image.cmap": "gray_r",
        }
    )


def show_images(x: Tensor, *, columns: int = 10, titles: list[str] | None = None, scale: float = 0.75) -> Figure:
    """Draw grey images in a grid, ink dark on white paper.

    Args:
        x: images, shape (n, height, width), (n, 1, height, width), or flat and square, (n, side²); values in [0, 1],
            others are clipped, and NaN is drawn in blue.
        columns: images in a row.
        titles: a label above each image.
        scale: inches an image.

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty or its rows are no grey images.
    """
    images = [_image(row) for row in check_tensor("x", x, ndim=None)]
    n = len(images)
    rows = math.ceil(n / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * scale, rows * (scale + (0.32 if titles else 0))), squeeze=False
    )
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < n:
            draw_image(axis, images[index])
            if titles:
                axis.set_title(titles[index], fontsize=14)
    return figure


def draw_image(axis: Axes, x: Tensor) -> None:
    """Draw one grey image, shape (height, width), (1, height, width), or flat and square, (side²,), into `axis`."""
    image = _image(x).detach().cpu()
    axis.set_facecolor("#CFCFCF")
    colours = plt.get_cmap("gray_r").with_extremes(bad="#9FC5E8")
    axis.imshow(torch.clamp(image, 0, 1).numpy(), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _image(x: Tensor) -> Tensor:
    """A grey image as (height, width)."""
    side = math.isqrt(x.numel())
    if x.ndim == 1 and side**2 == len(x):
        return x.reshape(side, side)
    if x.ndim == 2 or (x.ndim == 3 and len(x) == 1):
        return x.reshape(x.shape[-2:])
    raise ValueError(
        f"an image must have shape (height, width) or (1, height, width), or (side²,) if flat, got {tuple(x.shape)}"
    )


def save_images(x: Tensor, path: Path | str | BinaryIO) -> None:
    """Write images in a square grid, as they are, each pixel a square of so many that an image has about 64.

    Args:
        x: images, shape (n, 1 or 3, height, width), from black 0 to white 1.
        path: file that ends in .png, or one open for bytes.
    """
    n, channels, height, width = x.shape
    columns, factor = math.isqrt(n - 1) + 1, max(1, 64 // max(height, width))
    grid = x.new_ones(-(-n // columns) * columns, channels, height + 1, width + 1)
    grid[:n, :, :height, :width] = x
    grid = grid.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    grid = grid.expand(-1, -1, 3).repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    plt.imsave(path, grid.clamp(0, 1).cpu().numpy())


def save_points(sets: dict[str, Tensor], path: Path | str | BinaryIO) -> None:
    """Write a picture of several sets of points, shape (n, d) each, in their first two columns, those of the last."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axis = figure.subplots()
    for (label, x), colour in zip(sets.items(), (GREY, BLUE), strict=False):
        axis.scatter(x[:, 0], x[:, min(1, x.shape[1] - 1)], 8, colour, alpha=0.6, label=label)
    axis.legend()
    figure.savefig(path, dpi=DPI)


def node(axis: Axes, x: float, y: float, label: str, *, observed: bool = False) -> None:
    """A circle with a label in a scheme, grey if its variable is observed."""
    axis.add_patch(plt.Circle((x, y), 0.27, facecolor="#D9D9D9" if observed else "white", edgecolor=INK, linewidth=1.2))
    axis.text(x, y, label, ha="center", va="center", fontsize=12)


def arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    at: tuple[float, float] | None = None,
    *,
    dashed: bool = False,
    colour: str | None = None,
    bend: float = 0.0,
) -> None:
    """An arrow in a scheme, solid and blue if it generates, dashed and vermilion if it infers, with a label at `at`."""
    style = {"arrowstyle": "-|>", "color": colour or (VERMILION if dashed else BLUE), "linewidth": 1.4}
    style |= {"linestyle": (0, (4, 2)) if dashed else "-", "connectionstyle": f"arc3,rad={bend}"}
    axis.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    if at:
        axis.text(*at, label, ha="right" if at[0] < start[0] else "left", va="center")
