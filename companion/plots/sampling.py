"""Figures of chapter 5b."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

from companion.plots import BLUE, GREEN, INK, VERMILION


def fading_paths(axis: Axes, paths: Tensor, data: Tensor, title: str) -> None:
    """A few paths of points of the plane from noise (circles) to where they end (dots), darker towards the end.

    Args:
        axis: where to draw.
        paths: the points at each time, shape (times, n, 2), n at most 3.
        data: shape (m, 2), in grey.
        title: of the panel.
    """
    axis.scatter(*data.T, s=4, c="#CFCFCF", lw=0, marker="s", antialiased=False)
    steps = len(paths) - 1
    shades = [0.25 + 0.75 * i / max(steps - 1, 1) for i in range(steps)]
    for path, colour in zip(paths.transpose(0, 1), (VERMILION, BLUE, GREEN), strict=False):
        pieces = [path[i : i + 2].numpy() for i in range(steps)]
        axis.add_collection(LineCollection(pieces, colors=[colour] * steps, alpha=shades, linewidths=1.3))
        axis.plot(*path[0], "o", color=colour, mfc="w", ms=5, mew=1.1)
        axis.plot(*path[-1], "o", color=INK, ms=4)
    axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    axis.set_title(title, fontsize=11)
