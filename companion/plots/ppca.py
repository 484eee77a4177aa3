"""Figures of chapter 2."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.distributions import Distribution

from companion.plots import BLUE, GREEN, GREY, INK, VERMILION, draw_image
from companion.ppca import mean_log_prob


def ppca_model(model: nn.Module, z: float) -> Figure:
    """The generative story of a PPCA with d_z = 1 and d = 2 in three panels: p(z), p(x | z) along the line, p(x).

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
    return figure


def ppca_ellipses(axis: Axes, model: nn.Module, radii: tuple[float, ...] = (1, 2, 3)) -> None:
    """Contours of p(x) at so many standard deviations, for d = 2."""
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=model.W.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    for radius in radii:
        ellipse = model.mu.cpu()[:, None] + radius * torch.linalg.cholesky(model.C.cpu()) @ circle
        axis.plot(*ellipse, color=BLUE, lw=1.2, alpha=1.1 - 0.25 * radius)


def ppca_joint(model: nn.Module, x: float) -> Figure:
    """p(x, z) of a PPCA with d = d_z = 1 as contours; beside it p(x), and p(z | x) at one x with p(z)."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.6, 3.0), gridspec_kw={"width_ratios": [1.2, 0.7, 1]})
    z = torch.linspace(-3.2, 3.2, 321, dtype=torch.float64)
    across = torch.linspace(-6, 8, 401, dtype=torch.float64)
    log_p = model.likelihood(z[:, None, None]).log_prob(across[:, None]) + model.prior().log_prob(z[:, None])[:, None]
    density = log_p.exp().T.numpy()
    top = density.max()
    left.contourf(z, across, density, levels=[top * level for level in (0.03, 0.15, 0.4, 0.7, 1)], cmap="Blues")
    left.plot(z, model.W.item() * z + model.mu.item(), color=INK, lw=1)
    left.axhline(x, color=VERMILION, lw=1.4)
    left.set(xlabel="$z$", title="$p(x,z)$", ylim=(-6, 8))
    left.set_ylabel("$x$", rotation=0)
    middle.plot(model.log_prob(across[:, None]).exp(), across, color=BLUE)
    middle.axhline(x, color=VERMILION, lw=1.4)
    middle.set(xticks=[], yticks=[], ylim=(-6, 8), title="$p(x)$", xlim=(0, None))
    posterior = model.posterior(torch.tensor([[x]], dtype=torch.float64))
    right.plot(z, model.prior().log_prob(z[:, None]).exp(), color=BLUE)
    right.plot(z, posterior.log_prob(z[:, None]).exp(), color=VERMILION)
    right.set(xlabel="$z$", yticks=[], title=f"$p(z\\,|\\,x={x:g})$", ylim=(0, None))
    return figure


def ppca_turn(eigenvalues: Tensor, turns: list[tuple[list[int], int, int]]) -> Figure:
    """L of (2.9) while a column of W turns from eigenvector b to a, at a stationary point that keeps the given ones.

    Args:
        eigenvalues: of S, shape (d,).
        turns: for each curve the indices kept, and b and a.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.0))
    degrees = torch.linspace(-90, 90, 181, dtype=torch.float64)
    d, S = len(eigenvalues), eigenvalues.diag()
    for (kept, b, a), colour in zip(turns, (BLUE, VERMILION, GREEN), strict=True):
        sigma2 = eigenvalues[[j for j in range(d) if j not in kept]].mean()
        values = []
        for angle in torch.deg2rad(degrees):
            W = torch.eye(d, dtype=torch.float64)
            W[b, b], W[a, b] = angle.cos(), angle.sin()
            W = W[:, kept] * (eigenvalues[kept] - sigma2).sqrt()
            values.append(mean_log_prob(S, W, sigma2, d))
        axis.plot(degrees, values, color=colour)
        axis.plot([0], [values[90]], "o", color=colour, ms=5)
        label = ", ".join(f"{value:g}" for value in eigenvalues[kept].tolist())
        side = 8 if values[90] > values[0] else -16
        axis.annotate(label, (0, values[90]), (0, side), textcoords="offset points", color=colour, ha="center")
    axis.set(xlabel=r"$\theta$ (°)", title=r"$L(\theta)$", xticks=[-90, -45, 0, 45, 90])
    axis.margins(y=0.2)
    return figure


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
        axis.set_title(r"$\mu$" if index == 0 else f"$j={index}$", fontsize=10)
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
    """Log density of training and held-out data and −BIC/2N against d_z, a panel for each (d_z, values (m, 3), N)."""
    figure, axes = plt.subplots(1, len(curves), figsize=(7.8, 2.9), squeeze=False)
    for axis, (dims, values, n) in zip(axes.flat, curves, strict=True):
        for column, colour in enumerate((BLUE, VERMILION, GREEN)):
            axis.plot(dims, values[:, column], "o-", ms=3.5, color=colour)
            peak = int(values[:, column].argmax())
            if peak < len(dims) - 1:
                axis.axvline(dims[peak], color=colour, ls=":", lw=1)
        axis.set(xlabel="$d_z$", title=f"$N={n}$")
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
