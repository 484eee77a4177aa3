"""Figures of chapter 6."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

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
            text = f"{value:.0f}".replace("-", "−")
            axis.annotate(
                text, (x, value), (0, 2 if value > 0 else -2), textcoords="offset points", ha="center", **side
            )
    axis.axhline(0, color=INK, lw=0.8)
    low, high = min(*train, *held_out), max(0.0, *train, *held_out)
    axis.set(xticks=place, ylim=(1.2 * low, high + 0.25 * (high - low)))
    axis.set_xticklabels(names, fontsize=12)
    axis.tick_params(axis="x", length=0)
    axis.set_title(r"$\mathbb{E}\,\log p\,(m_\phi(x))$  [nat]", fontsize=12)
    axis.legend(fontsize=10, loc="lower left", handlelength=1)
    return figure


def measured(rows: list[str], panels: dict[str, tuple[list[float], list[float]]], marks: dict[str, float]) -> Figure:
    """Several measures of the same rows, a panel each: means with an error bar of two standard errors.

    Args:
        rows: what was measured, from the top.
        panels: {measure: (means, standard errors)}, NaN where there is none.
        marks: {measure: value} where a dashed line is drawn, such as that of the data.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(2.7 * len(panels), 0.3 * len(rows) + 0.9))
    place = np.arange(len(rows))
    for axis, (name, (mean, error)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        axis.errorbar(mean, place, xerr=2 * np.asarray(error), fmt="o", color=BLUE, ms=5, capsize=2, lw=1.3)
        if name in marks:
            axis.axvline(marks[name], color=GREY, ls="--", lw=1)
        axis.set(title=name, ylim=(len(rows) - 0.5, -0.5))
        axis.set_yticks(place, rows)
        axis.grid(axis="y", color="#E6E6E6", lw=0.8)
    return figure
