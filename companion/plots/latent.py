"""Figures of chapter 1."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from companion.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, draw_image
from companion.plots.letters import ROMAN

#: How the fits of `bound_bars` are labelled.
FITS = {"prior": "$p(z)$", "KL(p‖q)": r"min KL$(p\Vert q)$", "KL(q‖p)": r"min KL$(q\Vert p)$"}


def latent_plane(model: Any, x: Tensor) -> Figure:
    """The joint density over the (z, x) plane with f(z), the marginal at the right, posteriors below.

    Args:
        model: a `NonlinearGaussian`.
        x: the observations whose posteriors are drawn, shape (m,), m ≤ 3.
    """
    figure, axes = plt.subplots(
        2, 2, figsize=(6.6, 3.9), width_ratios=[2.6, 1], height_ratios=[2.2, 1], sharex="col", sharey="row"
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


def letter_posteriors(
    x: Tensor, probs: list[list[Tensor]], truth: Tensor, syllables: Tensor, names: list[str], *, top: int = 4
) -> Figure:
    """One row per observation: the image, and the most probable letters in each of the three places.

    Below the bar of a letter stand its Roman transcription and the true syllable with that letter put in, its ink
    vermilion where the true syllable has none, and blue where it lacks ink of the true one.

    Args:
        x: observed flat images, shape (m, side²).
        probs: for each observation the probabilities of the letters in each place, of shapes (19,), (21,) and (28,).
        truth: indices of the true letters, shape (3,).
        syllables: all syllables in Unicode order, shape (11172, side²).
        names: one label per row.
        top: letters in each place.
    """
    counts = [len(letters) for letters in ROMAN]
    images = syllables.view(*counts, -1)
    true = images[tuple(truth.tolist())]
    figure, axes = plt.subplots(
        2 * len(x), 4, figsize=(7.2, 1.5 * len(x)), width_ratios=[1, 1.5, 1.5, 1.5], height_ratios=[1, 0.42] * len(x)
    )
    for place in range(3):
        axes[0, place + 1].set_title(rf"$p(z_{place + 1}\,|\,x)$")
    for bars, below, image, name, letters in zip(axes[::2], axes[1::2], x, names, probs, strict=True):
        draw_image(bars[0], image)
        bars[0].set_ylabel(name, rotation=0, ha="right", va="center")
        below[0].axis("off")
        for place, p in enumerate(letters):
            axis, strip = bars[place + 1], below[place + 1]
            order = p.argsort(descending=True, stable=True)[:top].tolist()
            colours = [VERMILION if letter == truth[place] else BLUE for letter in order]
            axis.bar(range(top), p[order].tolist(), color=colours, width=0.7)
            axis.set(ylim=(0, 1), yticks=[0, 1], xlim=(-0.5, top - 0.5), xticks=[])
            for position, letter in enumerate(order):
                at = truth.tolist()
                at[place] = letter
                extent = (position - 0.46, position + 0.46, 0, 1)
                picture = _differences(images[tuple(at)], true)
                strip.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
            strip.set(xlim=(-0.5, top - 0.5), ylim=(0, 1), yticks=[], xticks=range(top))
            strip.set_xticklabels([ROMAN[place][letter] for letter in order], fontsize=11)
            strip.tick_params(axis="x", length=0, pad=1)
            strip.spines[:].set_visible(False)
    return figure


def _differences(x: Tensor, true: Tensor) -> Tensor:
    """A flat image in RGB: grey where it agrees with the true one, vermilion and blue where ink was added and lost."""
    side = math.isqrt(len(x))
    ink = torch.stack([torch.tensor(to_rgb(colour)) for colour in ("black", VERMILION, BLUE)])
    change = x - true
    kind = torch.where(change > 0.3, 1, torch.where(change < -0.3, 2, 0))
    depth = torch.where(kind == 2, true, x)[:, None]
    return (1 - depth * (1 - ink[kind])).clamp(0, 1).view(side, side, 3)


def bound_bars(
    z: Tensor, density: Tensor, fits: dict[str, tuple[float, float]], bounds: list[float], evidence: float
) -> Figure:
    """A posterior with Gaussians fitted to it, and for each log p(x) split into the bound and the divergence, (1.20).

    Args:
        z: nodes, shape (m,).
        density: p(z | x) on them, shape (m,).
        fits: name → (mean, standard deviation) of each q.
        bounds: the ELBO of each q.
        evidence: log p(x).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9), width_ratios=[1.35, 1])
    colours = dict(zip(fits, (GREY, BLUE, VERMILION), strict=False))
    left.fill_between(z, density, color=GREY, alpha=0.35, lw=0)
    names = [rf"$q$: {FITS.get(name, name)}" for name in fits]
    for (name, (mean, spread)), label in zip(fits.items(), names, strict=True):
        q = torch.exp(-(((z - mean) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        left.plot(z, q, color=colours[name], ls="--" if name == "prior" else "-", label=label)
    left.set(xlim=(-3, 3), ylim=(0, None), xlabel="$z$", yticks=[])
    left.set_title(r"$p(z\,|\,x)$", color=GREY)
    left.legend(fontsize=9, loc="upper right", handlelength=1.2, borderaxespad=0)
    lowest = min(bounds) - 0.3 * (evidence - min(bounds))
    for position, (name, bound) in enumerate(zip(fits, bounds, strict=True)):
        right.bar(position, bound - lowest, bottom=lowest, color=SKY, width=0.62)
        right.bar(position, evidence - bound, bottom=bound, color=ORANGE, width=0.62)
        right.text(position, lowest + 0.1 * (evidence - lowest), r"$\mathcal{L}$", ha="center", va="center")
        if evidence - bound > 0.12 * (evidence - lowest):
            right.text(position, (bound + evidence) / 2, "KL", ha="center", va="center", fontsize=10)
        right.plot([position - 0.31, position + 0.31], [bound, bound], color=colours[name], lw=2.4)
    right.axhline(evidence, color=INK, lw=1)
    right.set(xticks=range(len(fits)), ylim=(lowest, evidence + 0.12 * (evidence - lowest)), title=r"$\log p(x)$")
    right.set_xticklabels([FITS.get(name, name) for name in fits], fontsize=9)
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
