"""Figures of the book. They are drawn on white with ink that survives print and the site's dark mode."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from torch import Tensor, nn
from torch.distributions import Distribution

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
    """Draw flat square images in a grid, ink dark on white paper.

    Args:
        x: images, shape (n, side²), values in [0, 1]; others are clipped, NaN is drawn as grey.
        columns: images in a row.
        titles: a label above each image.
        scale: inches an image.

    Raises:
        ValueError: if x is empty or its rows are no square images.
    """
    if x.ndim != 2 or not len(x) or math.isqrt(x.shape[1]) ** 2 != x.shape[1]:
        raise ValueError(f"x must hold flat square images, shape (n, side²) with n ≥ 1, got {tuple(x.shape)}")
    n = len(x)
    rows = math.ceil(n / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * scale, rows * (scale + (0.32 if titles else 0))), squeeze=False
    )
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < n:
            draw_image(axis, x[index])
            if titles:
                axis.set_title(titles[index], fontsize=14)
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
    figure, axes = plt.subplots(1, 4, figsize=(8.6, 2.4), gridspec_kw={"width_ratios": [1, 1, 1.25, 1.9]})
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


# Chapter 2


def ppca_model(model: nn.Module, z: float) -> Figure:
    """The generative story of a PPCA with q = 1 and d = 2 in three panels: p(z), p(x | z) along the line, p(x).

    Args:
        model: a `PPCA` whose W has shape (2, 1).
        z: the latent value to follow from panel to panel.
    """
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(8.6, 3.1), gridspec_kw={"width_ratios": [0.8, 1, 1], "wspace": 0.06}
    )
    grid = torch.linspace(-3.2, 3.2, 200)
    left.fill_between(grid, torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi), color=BLUE, alpha=0.15, lw=0)
    left.plot(grid, torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi), color=BLUE)
    left.plot([z, z], [0, math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)], color=VERMILION, lw=1.2)
    left.plot([z], [0], "o", color=VERMILION, clip_on=False, zorder=5)
    left.set(xlabel="$z$", yticks=[], ylim=(0, 0.44), title=r"$p(z)=\mathcal{N}(z;0,I)$")
    left.spines["left"].set_visible(False)

    W, mu, sigma = model.W[:, 0].cpu(), model.mu.cpu(), model.sigma2.sqrt().item()
    ends = mu + torch.tensor([[-2.9], [2.9]], dtype=W.dtype) * W
    for axis in (middle, right):
        axis.plot(*ends.T, color=INK, lw=1.2, zorder=2)
        reach = 3.1 * model.C.diagonal().sqrt().cpu()
        axis.set(
            xlim=(mu[0] - reach[0], mu[0] + reach[0]),
            ylim=(mu[1] - 1.5 * reach[1], mu[1] + 1.5 * reach[1]),
            aspect="equal",
        )
        axis.set(xlabel="$x_1$", xticks=[], yticks=[])
        axis.set_ylabel("$x_2$", rotation=0, labelpad=8)
    for value in (-2.0, -1.0, 0.0, z, 2.0):
        centre, colour = mu + value * W, VERMILION if value == z else BLUE
        for radius in (1, 2):
            alpha = (0.42, 0.2)[radius - 1] * (1.3 if value == z else 0.6)
            middle.add_patch(plt.Circle(centre.tolist(), radius * sigma, color=colour, alpha=alpha, lw=0))
        middle.plot(*centre.tolist(), "o", color=colour, ms=4)
    middle.plot(*mu.tolist(), "o", color=INK, ms=4)
    middle.annotate(r"$\mu$", mu.tolist(), xytext=(3, -15), textcoords="offset points")
    middle.annotate("$Wz+\\mu$", (mu + z * W).tolist(), xytext=(-34, 20), textcoords="offset points", color=VERMILION)
    middle.set_title(r"$p(x\,|\,z)=\mathcal{N}(x;Wz+\mu,\sigma^2I)$")
    samples = model.sample(200, generator=torch.Generator(model.W.device).manual_seed(1)).cpu()
    right.plot(*samples.T, ".", color=BLUE, ms=2.5, alpha=0.5, mew=0)
    ppca_ellipses(right, model)
    right.set_title(r"$p(x)=\mathcal{N}(x;\mu,WW^T+\sigma^2I)$")
    path = ConnectionPatch(
        (z, 0),
        (mu + z * W).tolist(),
        "data",
        "data",
        axesA=left,
        axesB=middle,
        arrowstyle="->",
        connectionstyle="arc3,rad=0.3",
        shrinkA=6,
        shrinkB=24,
        mutation_scale=12,
        color=VERMILION,
        lw=1.2,
    )
    path.set_in_layout(False)
    figure.add_artist(path)
    return figure


def ppca_ellipses(axis: Axes, model: nn.Module, radii: tuple[float, ...] = (1, 2, 3)) -> None:
    """Contours of p(x) at so many standard deviations, for d = 2."""
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=model.W.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    for radius in radii:
        ellipse = model.mu.cpu()[:, None] + radius * torch.linalg.cholesky(model.C.cpu()) @ circle
        axis.plot(*ellipse, color=BLUE, lw=1.2, alpha=1.1 - 0.25 * radius)


def ppca_axes(model: nn.Module, eigenvalues: Tensor, columns: int = 7) -> Figure:
    """The mean and the first columns of W as images, beside the eigenvalues of the covariance and the level σ²."""
    rows = math.ceil((columns + 1) / 4)
    figure = plt.figure(figsize=(8.2, 3.1))
    grid = figure.add_gridspec(rows, 5, width_ratios=[1, 1, 1, 1, 2.9])
    side = math.isqrt(len(model.mu))
    for index in range(columns + 1):
        axis = figure.add_subplot(grid[index // 4, index % 4])
        if index == 0:
            draw_image(axis, model.mu)
        else:
            column = model.W[:, index - 1].cpu()
            limit = column.abs().max().item()
            axis.imshow(column.reshape(side, side).numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
        axis.set_title(r"$\mu$" if index == 0 else f"$w_{{{index}}}$", fontsize=10)
        for spine in axis.spines.values():
            spine.set_visible(False)
    axis = figure.add_subplot(grid[:, 4])
    positive = eigenvalues[eigenvalues > 1e-9 * eigenvalues[0]].cpu()
    axis.semilogy(range(1, len(positive) + 1), positive, color=BLUE)
    axis.hlines(model.sigma2.item(), model.latent_dim, len(eigenvalues), color=VERMILION)
    axis.axvline(model.latent_dim, color=GREY, ls=":", lw=1)
    axis.annotate(r"$\sigma^2$", (len(eigenvalues) - 22, model.sigma2.item() * 1.5), color=VERMILION)
    axis.set(xlabel="$j$", title=r"$\lambda_j$", ylim=(1e-5, None))
    return figure


def ppca_em(history: Tensor, best: Tensor | float) -> Figure:
    """Mean log-likelihood after each EM step, and its distance from the maximum `best` on a log scale."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.8))
    left.plot(history, color=BLUE)
    left.axhline(float(best), color=INK, ls=":", lw=1)
    left.set(xlabel="$t$", title="$L$", xlim=(-2, min(len(history), 120)))
    right.semilogy((float(best) - history).clamp(min=1e-12), color=BLUE)
    right.set(xlabel="$t$", title=r"$L_{\max}-L$", ylim=(1e-5, None))
    return figure


def ppca_dimension(curves: list[tuple[list[int], Tensor, int]]) -> Figure:
    """Mean log-likelihood of training and held-out data against q, one panel for each (q, values (m, 2), n)."""
    figure, axes = plt.subplots(1, len(curves), figsize=(7.8, 2.9), squeeze=False)
    for axis, (dims, values, n) in zip(axes.flat, curves, strict=True):
        axis.plot(dims, values[:, 0], "o-", ms=3.5, color=BLUE)
        axis.plot(dims, values[:, 1], "o-", ms=3.5, color=VERMILION)
        peak = int(values[:, 1].argmax())
        if peak < len(dims) - 1:
            axis.axvline(dims[peak], color=GREY, ls=":", lw=1)
        axis.set(xlabel="$q$", title=f"$L\\quad(n={n})$")
    return figure


def ppca_pixel(values: Tensor, normal: Distribution) -> Figure:
    """Histogram of one pixel's values beside the normal density that the model gives it."""
    figure, axis = plt.subplots(figsize=(5.2, 2.6))
    axis.hist(values.cpu().numpy(), bins=25, range=(0, 1), density=True, color=BLUE, alpha=0.55)
    grid = torch.linspace(-0.9, 1.9, 300, dtype=values.dtype)
    axis.plot(grid, normal.log_prob(grid).exp(), color=VERMILION)
    axis.set(xlabel="$x_j$", yticks=[], xlim=(-0.9, 1.9))
    axis.spines["left"].set_visible(False)
    return figure


# Chapter 4


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
    _node(left, 0.5, 1.5, "$z$")
    left.text(0.5, 0.95, r"$z\sim p(z)$", ha="center", va="center")
    _box(left, 2.25, 1.5, r"$G_\theta$", BLUE)
    _picture(left, made, 4.2, 1.5, r"$x=G_\theta(z)$", BLUE)
    _arrow(left, (0.82, 1.5), (1.72, 1.5))
    _arrow(left, (2.78, 1.5), (3.58, 1.5))
    _picture(right, real, 0.75, 2.25, r"$x\sim p_{\mathrm{data}}$", INK)
    _picture(right, made, 0.75, 0.55, r"$x\sim p_\theta$", BLUE)
    _box(right, 3.55, 1.4, r"$D_\phi$", VERMILION)
    for height in (2.25, 0.55):
        right.plot([1.4, 2.2, 2.2], [height, height, 1.4], color=INK, lw=1.2, solid_joinstyle="round")
    _arrow(right, (2.2, 1.4), (3.0, 1.4), "$x$", (2.6, 1.62))
    _arrow(right, (4.1, 1.4), (4.8, 1.4))
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


def landscape(axis: Axes, logit: Tensor, reach: float, real: Tensor, made: Tensor, title: str = "") -> None:
    """Where the discriminator says real (blue) or generated (vermilion), with points, real (grey) and generated.

    Args:
        logit: the discriminator's logits on a square grid over [−reach, reach]², shape (m, m), first axis x_2.
        reach: half the side of the square.
        real: points, shape (n, 2).
        made: points, shape (n, 2).
        title: of the panel.
    """
    box = (-reach, reach, -reach, reach)
    shades = LinearSegmentedColormap.from_list("D", [VERMILION, "white", BLUE], N=15)
    picture = {"extent": box, "origin": "lower", "interpolation": "bilinear", "vmin": 0, "vmax": 1}
    axis.imshow(logit.sigmoid().numpy(), cmap=shades, alpha=0.5, **picture)
    axis.plot(*real.T, ".", color=INK, ms=1.5, alpha=0.35, mew=0)
    axis.plot(*made.T, ".", color=VERMILION, ms=3.2, mew=0)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)


def coverage(counts: Tensor, marked: Tensor) -> Figure:
    """How often each syllable was written, one cell each, with frames around some of them.

    Args:
        counts: shape (rows, columns).
        marked: flat indices of the cells to frame, shape (m,).
    """
    figure, axis = plt.subplots(figsize=(4.6, 3.5))
    picture = axis.imshow(counts.numpy(), cmap="Blues", vmin=0, aspect="auto")
    for index in marked.tolist():
        row, column = divmod(index, counts.shape[1])
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILION, lw=1))
    axis.set(xlabel="$z_2$", xticks=[], yticks=[])
    axis.set_ylabel("$z_1$", rotation=0, labelpad=10)
    figure.colorbar(picture, ax=axis, pad=0.02)
    return figure


# Chapter 1


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


# Chapter 3


def autoencoder_blocks() -> Figure:
    """An autoencoder: x is squeezed into one code ẑ and given back."""
    figure, axis = _blocks(6.7, 0.35)
    _block(axis, 0.5, "$x$", 2.0, 0.5, fill="#D9D9D9")
    _funnel(axis, 1.1, 2.7, 2.0, 0.9, r"$f_\phi$")
    _block(axis, 3.3, r"$\hat{z}$", 0.9, 0.5)
    _funnel(axis, 3.9, 5.5, 0.9, 2.0, r"$g_\theta$")
    _block(axis, 6.1, r"$\hat{x}$", 2.0, 0.5)
    for start, end in ((0.75, 1.1), (2.7, 3.05), (3.55, 3.9), (5.5, 5.85)):
        _arrow(axis, (start, 1.5), (end, 1.5))
    return figure


def vae_blocks() -> Figure:
    """A VAE: the encoder gives a distribution over z, one z is drawn, the decoder gives a distribution over x."""
    figure, axis = _blocks(9.4, -0.25)
    _block(axis, 0.5, "$x$", 2.0, 0.5, fill="#D9D9D9")
    _funnel(axis, 1.1, 2.6, 2.0, 1.4, r"$q_\phi(z\,|\,x)$")
    _block(axis, 3.3, r"$m_\phi(x)$", 0.62, 0.9, y=1.95)
    _block(axis, 3.3, r"$s_\phi(x)$", 0.62, 0.9, y=1.05)
    _block(axis, 4.9, "$z$", 0.9, 0.5)
    _funnel(axis, 5.6, 7.1, 0.9, 2.0, r"$p_\theta(x\,|\,z)$")
    _block(axis, 7.75, r"$g_\theta(z)$", 2.0, 0.75)
    _block(axis, 8.95, r"$\tilde{x}$", 2.0, 0.5)
    _node(axis, 4.1, 0.1, r"$\varepsilon$")
    axis.text(4.5, 0.05, r"$\mathcal{N}(0,I)$", va="center", fontsize=13)
    for start, end in (((0.75, 1.5), (1.1, 1.5)), ((5.15, 1.5), (5.6, 1.5)), ((7.1, 1.5), (7.37, 1.5))):
        _arrow(axis, start, end)
    for y in (1.95, 1.05):
        _arrow(axis, (2.6, y), (2.85, y))
        _arrow(axis, (3.75, y), (4.65, 1.5 + 0.25 * (y - 1.5)))
    _arrow(axis, (4.22, 0.34), (4.68, 1.03), dashed=True)
    _arrow(axis, (8.13, 1.5), (8.7, 1.5), dashed=True)
    axis.text(4.85, 2.3, r"$m+s\odot\varepsilon$", ha="center", fontsize=14)
    return figure


def _blocks(width: float, bottom: float) -> tuple[Figure, Axes]:
    figure, axis = plt.subplots(figsize=(0.85 * width, 0.85 * (2.65 - bottom)))
    axis.set(xlim=(0.1, width - 0.1), ylim=(bottom, 2.65), aspect="equal")
    axis.axis("off")
    return figure, axis


def _block(axis: Axes, x: float, label: str, height: float, width: float, *, y: float = 1.5, fill: str = "w") -> None:
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(plt.Rectangle(corner, width, height, facecolor=fill, edgecolor=INK, linewidth=1.2))
    axis.text(x, y, label, ha="center", va="center", fontsize=15)


def _funnel(axis: Axes, left: float, right: float, before: float, after: float, label: str) -> None:
    corners = [(left, 1.5 + before / 2), (right, 1.5 + after / 2), (right, 1.5 - after / 2), (left, 1.5 - before / 2)]
    axis.add_patch(plt.Polygon(corners, facecolor="#DCEAF4", edgecolor=BLUE, linewidth=1.2))
    axis.text((left + right) / 2, 1.5, label, ha="center", va="center", fontsize=15)


def jamo_shares(shares: Tensor) -> Figure:
    """How much of each z_j's variance the three letters of the syllable explain, as stacked bars.

    Args:
        shares: shape (q, 3), entries between 0 and 1.
    """
    figure, axis = plt.subplots(figsize=(5.6, 2.9))
    bottom = torch.zeros(len(shares))
    for place, colour in enumerate((BLUE, VERMILION, GREEN)):
        axis.bar(range(1, len(shares) + 1), shares[:, place], 0.78, bottom, color=colour, label=f"$c_{place + 1}$")
        bottom = bottom + shares[:, place]
    axis.bar(range(1, len(shares) + 1), 1 - bottom, 0.78, bottom, color="#E4E4E4")
    axis.set(xlabel="$j$", xlim=(0.3, len(shares) + 0.7), ylim=(0, 1))
    axis.set_title(r"$\eta^2_j(c_a)$", loc="left", fontsize=15)
    axis.tick_params(labelsize=12)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.96), ncols=3, fontsize=15, handlelength=1)
    return figure


def rate_distortion(curves: list[Tensor], linear: Tensor, deep: Tensor, labels: list[str]) -> Figure:
    """Rate and distortion: two curves of a Gaussian, linear VAEs and deep ones.

    Args:
        curves: rate and distortion along the solid and the dashed curve, each of shape (2, m).
        linear, deep: points (rate, distortion), shape (k, 2).
        labels: one for each deep point.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.3))
    for curve, style in zip(curves, ("-", "--"), strict=True):
        axis.plot(*curve, color=INK, lw=1, ls=style)
    axis.plot(*linear.T, "o", color=BLUE, mfc="w", ms=7)
    axis.plot(*deep.T, "s", color=VERMILION, ms=5.5)
    solid = curves[0][:, curves[0][0].argsort()].tolist()
    for (rate, distortion), label in zip(deep.tolist(), labels, strict=True):
        above = distortion > np.interp(rate, *solid) + 0.1
        offset, side = ((5, 7), "left") if above else ((-5, -15), "right")  # away from both curves
        axis.annotate(label, (rate, distortion), offset, textcoords="offset points", fontsize=13, ha=side)
    axis.set(xlabel=r"$R$", xlim=(-0.5, 16), ylim=(0, None))
    axis.set_title(r"$\mathbb{E}\,\|x-\tilde{x}\|^2$", fontsize=14)
    axis.tick_params(labelsize=12)
    return figure


# Chapter 5


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
    left.set_title(r"$\alpha_t$  ,  $\sigma_t$ (- -)")
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
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=13)
        for axis, image in zip(line, images, strict=True):
            draw_image(axis, image)
            axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
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
