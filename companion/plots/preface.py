"""Figures of the preface."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from companion.plots import INK, arrow, node


def family_map() -> Figure:
    """How each family ties z to x: solid arrows generate, dashed ones infer (or, for diffusion, destroy)."""
    figure, axes = plt.subplots(1, 4, figsize=(8.6, 2.4), gridspec_kw={"width_ratios": [1, 1, 1.25, 1.9]})
    for axis, title, width in zip(axes, ("PPCA", "VAE", "GAN", "Diffusion"), (2, 2, 2.6, 4.2), strict=True):
        axis.set(xlim=(0, width), ylim=(0, 3), aspect="equal", title=title)
        axis.axis("off")
    node(axes[0], 1, 2.4, "$z$")
    node(axes[0], 1, 0.6, "$x$", observed=True)
    arrow(axes[0], (1.12, 2.1), (1.12, 0.9), r"$Wz+\mu$", (1.25, 1.5))
    arrow(axes[0], (0.88, 0.9), (0.88, 2.1), r"$p(z\,|\,x)$", (0.75, 1.5), dashed=True)
    node(axes[1], 1, 2.4, "$z$")
    node(axes[1], 1, 0.6, "$x$", observed=True)
    arrow(axes[1], (1.12, 2.1), (1.12, 0.9), r"$p_\theta(x\,|\,z)$", (1.25, 1.5))
    arrow(axes[1], (0.88, 0.9), (0.88, 2.1), r"$q_\phi(z\,|\,x)$", (0.75, 1.5), dashed=True)
    node(axes[2], 0.6, 2.4, "$z$")
    node(axes[2], 0.6, 0.6, "$x$", observed=True)
    arrow(axes[2], (0.6, 2.1), (0.6, 0.9), r"$G_\theta$", (0.7, 1.5))
    axes[2].text(2.05, 0.6, r"$D_\phi(x)$", ha="center", va="center", bbox={"boxstyle": "round", "fc": "w", "ec": INK})
    arrow(axes[2], (0.87, 0.6), (1.66, 0.6))
    for centre, label in ((0.5, "$x_0$"), (2.1, r"$x_t$"), (3.7, "$x_T$")):
        node(axes[3], centre, 1.5, label, observed=label == "$x_0$")
    for left in (0.5, 2.1):
        arrow(axes[3], (left + 0.27, 1.66), (left + 1.33, 1.66), dashed=True)
        arrow(axes[3], (left + 1.33, 1.34), (left + 0.27, 1.34))
    axes[3].text(2.1, 2.25, r"$q(x_t\,|\,x_{t-1})$", ha="center", va="center")
    axes[3].text(2.1, 0.75, r"$p_\theta(x_{t-1}\,|\,x_t)$", ha="center", va="center")
    return figure
