"""Figures of chapter 5."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREEN, GREY, INK, VERMILION, arrow, draw_image, node


def noising(images: Tensor, clouds: Tensor, groups: Tensor, times: list[float]) -> Figure:
    """Noise creeping over one image and over points of the plane, a column for each time.

    Args:
        images: flat images, shape (times, side²), ink 1 on paper 0.
        clouds: the points at each time, shape (times, n, 2).
        groups: integer labels of the points, shape (n,).
        times: one for each column.
    """
    figure, axes = plt.subplots(2, len(times), figsize=(1.25 * len(times), 2.7))
    colours = [(BLUE, VERMILION, GREEN)[group] for group in groups.tolist()]
    for column, image, cloud, t in zip(axes.T, images, clouds, times, strict=True):
        draw_image(column[0], image)
        column[0].set_title(f"$t={t:g}$")
        column[1].scatter(*cloud.T, s=1.6, c=colours, lw=0, marker="s", antialiased=False)
        column[1].set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
        for axis in column:
            axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    return figure


def schedules(t: Tensor, kinds: dict[str, Any]) -> Figure:
    """α and σ (dashed) of some schedules over time, and the logarithm of their signal-to-noise ratio."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.3))
    for (name, schedule), colour in zip(kinds.items(), (BLUE, VERMILION, GREEN), strict=False):
        left.plot(t, schedule.alpha(t), color=colour, label=name)
        left.plot(t, schedule.sigma(t), color=colour, ls="--", lw=1.2)
        right.plot(t, schedule.snr(t).log(), color=colour)
    left.set(xlabel="$t$", xlim=(0, 1), ylim=(0, 1.02))
    left.set_title(r"$\alpha_t,\;\sigma_t$")
    right.legend(*left.get_legend_handles_labels(), fontsize=10, loc="lower left", handlelength=1.2)
    right.set(xlabel="$t$", xlim=(0, 1), ylim=(-12, 12))
    right.set_title(r"$\log\,\mathrm{SNR}(t)$")
    right.axhline(0, color=GREY, lw=0.8)
    return figure


def steps_back(grid: Tensor, exact: list[Tensor], model: list[Tensor], titles: list[str]) -> Figure:
    """The true density of x_s given x_t (filled) and the Gaussian of the model, a panel for each s."""
    figure, axes = plt.subplots(1, len(exact), figsize=(2.3 * len(exact), 1.9), sharex=True)
    for axis, truth, gaussian, title in zip(axes, exact, model, titles, strict=True):
        axis.fill_between(grid, truth, color=BLUE, alpha=0.25, lw=0)
        axis.plot(grid, gaussian, color=VERMILION, lw=1.5)
        axis.set(xlabel="$x_s$", yticks=[], xlim=(grid[0], grid[-1]), ylim=(0, None))
        axis.spines["left"].set_visible(False)
        axis.set_title(title, fontsize=11)
    return figure


def image_rows(rows: list[Tensor], titles: list[str], labels: list[str], scale: float = 0.95) -> Figure:
    """Rows of flat images in [0, 1] with a title above each column and a label left of each row."""
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=(scale * len(titles) + 0.5, scale * len(rows) + 0.3), squeeze=False
    )
    for line, images, label in zip(axes, rows, labels, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=16)
        for axis, image in zip(line, images, strict=True):
            draw_image(axis, image)
            axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=12)
    return figure


def nats_over_snr(log_snr: Tensor, looks: Tensor, excess: Tensor) -> Figure:
    """Left: how often a training looks at each log SNR, with a uniform one. Right: nats it loses there, or wins.

    Args:
        log_snr: evenly spaced, from high to low, shape (m,).
        looks: the density of log SNR in the training by the simple loss, shape (m,).
        excess: its half squared error minus that of the training by the bound, shape (m,).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.3))
    even = 1 / (log_snr.max() - log_snr.min())
    left.plot(log_snr, looks, color=VERMILION, label=r"$L_{\mathrm{simple}}$")
    left.plot(log_snr, even.expand_as(log_snr), color=BLUE, label=r"$\mathcal{L}$")
    left.legend(fontsize=11, handlelength=1.2)
    left.set_ylim(0, None)
    for sign, colour in ((1, VERMILION), (-1, BLUE)):
        right.fill_between(log_snr, 0 * excess, sign * (sign * excess).clamp(min=0), color=colour, alpha=0.4, lw=0)
    right.plot(log_snr, excess, color=INK, lw=1.2)
    right.axhline(0, color=GREY, lw=0.8)
    left.set_title(r"$p(\log\,\mathrm{SNR})$")
    right.set_title(r"$\Delta\;\frac{1}{2}\,\mathbb{E}\,\|\varepsilon-\hat{\varepsilon}\|^2$")
    for axis in (left, right):
        axis.set(xlabel=r"$\log\,\mathrm{SNR}$", xlim=(log_snr.max(), log_snr.min()))
    return figure


def score_field(axis: Axes, field: Any, density: Any, reach: float, title: str, *, cells: int = 9) -> None:
    """Arrows of a vector field x ↦ (…, 2) over shades of a density x ↦ (…), on the square [−reach, reach]².

    Args:
        axis: where to draw.
        field: maps points, shape (n, 2), to arrows, shape (n, 2).
        density: maps points, shape (n, 2), to numbers, shape (n,).
        reach: half the side of the square.
        title: of the panel.
        cells: arrows along each side.
    """
    fine, coarse = (torch.linspace(-reach, reach, count) for count in (121, 2 * cells + 1))
    shades = density(torch.cartesian_prod(fine, fine)).reshape(121, 121).T.detach()
    levels = shades.max() * torch.linspace(0, 1, 7)
    colours = ["#FFFFFF", "#E8F1F8", "#CDE1EF", "#ACCDE5", "#88B8DA", "#63A1CE"]
    axis.contourf(fine, fine, shades, levels=levels, colors=colours, antialiased=False)
    x = torch.cartesian_prod(coarse[1::2], coarse[1::2])
    head = {"headwidth": 4, "headlength": 4, "headaxislength": 3.5}
    axis.quiver(*x.T, *field(x).detach().T, color=INK, width=0.006, pivot="tail", scale=2.6 * cells, **head)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=10.5)
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)


def ways_back(axis: Axes, paths: Tensor, data: Tensor, title: str) -> None:
    """Paths of points of the plane from noise (circles) to where they end (dots), over the data.

    Args:
        paths: the points at each time, shape (times, n, 2).
        data: shape (m, 2).
    """
    axis.scatter(*data.T, s=4, c="#CFCFCF", lw=0, marker="s", antialiased=False)
    axis.plot(paths[..., 0], paths[..., 1], color=VERMILION, lw=0.9, alpha=0.8)
    axis.plot(*paths[0].T, "o", color=INK, mfc="w", ms=4, mew=0.9)
    axis.plot(*paths[-1].T, "o", color=INK, ms=3.2)
    axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    axis.set_title(title, fontsize=11)


def orders(evaluations: dict[str, list[int]], errors: dict[str, Tensor]) -> Figure:
    """Errors against evaluations on log scales, one curve for each method, beside slopes −1 and −2."""
    figure, axis = plt.subplots(figsize=(5.2, 3.1))
    for (label, error), (colour, style) in zip(
        errors.items(), ((BLUE, "o-"), (VERMILION, "o-"), (VERMILION, "o--")), strict=True
    ):
        axis.loglog(evaluations[label], error, style, color=colour, ms=4, lw=1.3, label=label)
    n = np.array([60.0, 250.0])
    for slope, height in ((-1, 0.03), (-2, 2e-3)):
        axis.loglog(n, height * (n / n[0]) ** slope, color=GREY, lw=0.8)
        axis.annotate(f"${slope}$", (n[1], height * (n[1] / n[0]) ** slope), (3, -3), textcoords="offset points")
    axis.set_title("RMS error", loc="left", fontsize=12)
    axis.set_xlabel("evaluations")
    axis.legend(fontsize=10, loc="lower left", handlelength=1.6)
    return figure


def paths_in_time(t: Tensor, groups: list[Tensor], ends: tuple[float, ...] = (-1.0, 1.0)) -> Figure:
    """Paths on the line over time, a panel for each group, coloured by the side on which they end.

    Args:
        t: times, shape (m,).
        groups: paths, shape (m, n).
        ends: where the data are.
    """
    figure, axes = plt.subplots(1, len(groups), figsize=(3.5 * len(groups), 2.5), sharey=True)
    for axis, paths in zip(axes, groups, strict=True):
        for path in paths.T:
            axis.plot(t, path, color=BLUE if path[-1] > 0 else VERMILION, lw=0.9, alpha=0.8)
        axis.plot([0] * len(ends), ends, "o", color=INK, ms=5)
        axis.set(xlabel="$t$", xlim=(-0.02, 1), ylim=(-2.7, 2.7))
    axes[0].set_ylabel("$x_t$", rotation=0)
    return figure


def memory(t: Tensor, panels: dict[str, dict[tuple[str, str], Tensor]]) -> Figure:
    """Errors over time of two predictors (colours) on two sets of data (solid, dashed), a panel for each title.

    Args:
        t: times, shape (m,).
        panels: for each title the curves, shape (m,), keyed by predictor and data.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.6), sharey=True)
    for axis, (title, errors) in zip(axes, panels.items(), strict=True):
        colours = dict(zip(dict.fromkeys(judge for judge, _ in errors), (BLUE, VERMILION), strict=True))
        styles = dict(zip(dict.fromkeys(data for _, data in errors), ("-", "--"), strict=True))
        for (judge, data), curve in errors.items():
            axis.plot(t, curve, color=colours[judge], ls=styles[data], lw=1.4)
        axis.set(xlabel="$t$", xlim=(0, 1), ylim=(0, None))
        axis.set_title(title, fontsize=12)
    axes[0].set_ylabel(r"$|x_0-\hat{x}_0|$")
    return figure


def two_steps() -> Figure:
    """The chain of two steps: what generates (blue) and q (dashed), which walks forwards (left) or, by Bayes, back."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.1))
    place = {"0": (0.0, r"$x_0$"), "u": (1.7, "$u$"), "1": (3.4, "$x_1$")}
    model = ("1", "u", r"$p_\theta(u\,|\,x_1)$"), ("u", "0", r"$p_\theta(x_0\,|\,u)$")
    forwards = (("0", "u", r"$q(u\,|\,x_0)$", 0.0), ("u", "1", r"$q(x_1\,|\,u)$", 0.0))
    backwards = (("0", "1", r"$q(x_1\,|\,x_0)$", 0.38), ("1", "u", r"$q(u\,|\,x_1,x_0)$", 0.0))
    for axis, steps in zip(axes, (forwards, backwards), strict=True):
        for name, (x, label) in place.items():
            node(axis, x, 0, label, observed=name == "0")
        for start, end, label in model:
            _step(axis, place[start][0], place[end][0], 0.12, label, 0.0)
        for start, end, label, bend in steps:
            _step(axis, place[start][0], place[end][0], -0.12, label, bend)
        axis.set(xlim=(-0.4, 3.8), ylim=(-1.15, 0.6), aspect="equal")
        axis.axis("off")
    return figure


def _step(axis: Axes, start: float, end: float, height: float, label: str, bend: float) -> None:
    """An arrow of the chain at this height, dashed if it is below, with its label outside; or a bow far below."""
    gap = 0.28 if end > start else -0.28
    ends = ((start, -0.3), (end, -0.3)) if bend else ((start + gap, height), (end - gap, height))
    arrow(axis, *ends, dashed=height < 0, bend=bend)
    outside = -bend * abs(end - start) / 2 - 0.42 if bend else 1.6 * height
    axis.text((start + end) / 2, outside, label, ha="center", va="bottom" if height > 0 else "top", fontsize=11)


def denoiser_scheme() -> Figure:
    """How x_t passes through a `ResidualMLP`, and how time and labels enter its blocks."""
    figure, axis = plt.subplots(figsize=(5.4, 2.3))
    places = {
        "x": (0.0, 1.0, "$x_t$"),
        "h": (1.5, 1.0, "$h$"),
        "first": (3.2, 1.0, r"$h\,+\,\ldots$"),
        "second": (4.9, 1.0, r"$h\,+\,\ldots$"),
        "out": (6.5, 1.0, r"$\hat{\varepsilon}$"),
        "t": (0.0, 0.0, "$t$"),
        "waves": (1.5, 0.0, r"$t,\,\sin bt,\,\cos bt$"),
        "y": (0.0, -0.75, "$y$"),
        "table": (1.5, -0.75, "$E[y]$"),
        "e": (3.2, -0.3, "$e$"),
    }
    frame = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": INK, "linewidth": 1.1}
    boxes = {
        name: axis.text(x, y, label, ha="center", va="center", fontsize=12, bbox=frame)
        for name, (x, y, label) in places.items()
    }
    way = ["x", "h", "first", "second", "out"]
    condition = [("t", "waves"), ("y", "table"), ("waves", "e"), ("table", "e"), ("e", "first"), ("e", "second")]
    for pairs, colour in ((itertools.pairwise(way), BLUE), (condition, VERMILION)):
        for start, end in pairs:
            style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 2, "shrinkB": 2}
            style |= {"patchA": boxes[start].get_bbox_patch(), "patchB": boxes[end].get_bbox_patch()}
            axis.annotate("", places[end][:2], places[start][:2], arrowprops=style)
    axis.set(xlim=(-0.4, 6.9), ylim=(-1.1, 1.35))
    axis.axis("off")
    return figure
