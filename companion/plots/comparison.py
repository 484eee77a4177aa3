"""Figures of chapter 6."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from companion.plots import BLUE, GREEN, GREY, INK, VERMILION


def instalments(lam: float, snr: float, counts: list[int]) -> Figure:
    """Nats of a Gaussian direction, (6.2): the area below ½λ/(1 + λu), and the bars of chains of T − 1 bars each.

    Args:
        lam: variance of the data in this direction.
        snr: signal-to-noise ratio at the data end; at the other it is 0.
        counts: number of bars, one for each panel.
    """
    u = torch.linspace(0, snr, 400)
    figure, axes = plt.subplots(1, len(counts), figsize=(3.1 * len(counts), 2.4))
    for axis, bars in zip(np.atleast_1d(axes), counts, strict=True):
        edges = torch.linspace(0, snr, bars + 1)
        heights = lam / (2 * (1 + lam * edges[:-1]))
        axis.bar(edges[:-1].numpy(), heights.numpy(), snr / bars, align="edge", facecolor="#F7C9A8", lw=0)
        axis.fill_between(u, lam / (2 * (1 + lam * u)), color="#8CBFDF", lw=0, zorder=2)
        axis.stairs(heights.numpy(), edges.numpy(), color=VERMILION, lw=1.1, zorder=3)
        area = (heights * snr / bars).sum()
        axis.set(
            xlabel=r"$\mathrm{SNR}$", xlim=(0, snr), ylim=(0, 0.54 * lam), title=f"$T={bars + 1}$:  {area:.2f} nat"
        )
    return figure


def on_a_line(data: list[float], sets: dict[str, list[float]], radius: float) -> Figure:
    """Data on a line with balls of one radius around them, and a row of crosses for each set of samples."""
    reach = 1.12 * max(abs(value) for values in (data, *sets.values()) for value in values)
    figure, axes = plt.subplots(len(sets) + 1, 1, figsize=(6, 0.62 * (len(sets) + 1) + 0.35), sharex=True)
    rows = {r"$x$": data, **sets}
    for axis, (name, values), colour in zip(axes, rows.items(), (INK, VERMILION, BLUE), strict=False):
        for centre in data:
            axis.axvspan(centre - radius, centre + radius, color=GREEN, alpha=0.16, lw=0)
        spread = [0.28 * (values[:i].count(value) - (values.count(value) - 1) / 2) for i, value in enumerate(values)]
        axis.plot(values, spread, "o" if name == r"$x$" else "X", color=colour, ms=7, mec="w", mew=0.6)
        axis.axhline(0, color=GREY, lw=0.6, zorder=0)
        axis.set(xlim=(-reach, reach), ylim=(-0.6, 0.6), yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.spines["left"].set_visible(False)
    return figure


def scores(rows: list[str], columns: list[str], values: Tensor, best: list[float], worst: list[float]) -> Figure:
    """A table of measures, each cell shaded from white, the worst, to blue, the best.

    Args:
        rows: names of what was measured.
        columns: names of the measures.
        values: shape (rows, columns); NaN is drawn as –.
        best, worst: for each column, the values of full and of no colour.
    """
    ends = torch.tensor([worst, best], dtype=values.dtype)
    shade = ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1).nan_to_num(0)
    figure, axis = plt.subplots(figsize=(6, 0.33 * len(rows) + 0.6))
    axis.imshow(0.62 * shade.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (i, j), value in np.ndenumerate(values.numpy()):
        text = "–" if math.isnan(value) else f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}"
        axis.text(j, i, text, ha="center", va="center", fontsize=10.5)
    axis.set_xticks(range(len(columns)), columns, fontsize=10)
    axis.set_yticks(range(len(rows)), rows, fontsize=10.5)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure


def priors(names: list[str], train: list[float], held_out: list[float]) -> Figure:
    """Mean log density of codes under several distributions of z: training codes beside held-out ones."""
    figure, axis = plt.subplots(figsize=(5.2, 2.5))
    place = np.arange(len(names))
    for offset, values, colour, label in (
        (-0.19, train, GREY, "train"),
        (0.19, held_out, VERMILION, "held out"),
    ):
        axis.bar(place + offset, values, 0.36, color=colour, label=label)
        for x, value in zip(place + offset, values, strict=True):
            side = {"va": "bottom"} if value > 0 else {"va": "top"}
            axis.annotate(
                f"{value:.0f}", (x, value), (0, 2 if value > 0 else -2), textcoords="offset points", ha="center", **side
            )
    axis.axhline(0, color=INK, lw=0.8)
    low, high = min(*train, *held_out), max(0.0, *train, *held_out)
    axis.set(xticks=place, ylim=(1.2 * low, high + 0.25 * (high - low)))
    axis.set_xticklabels(names, fontsize=12)
    axis.tick_params(axis="x", length=0)
    axis.set_title(r"$\mathbb{E}\,\log p\,(m_\phi(x))$  [nat]", fontsize=12)
    axis.legend(fontsize=10, loc="lower left", handlelength=1)
    return figure
