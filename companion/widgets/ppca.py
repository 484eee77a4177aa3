"""Chapter 2: the PPCA density in the plane, with its parameters in the reader's hand."""

from __future__ import annotations

import torch
import traitlets
from torch import Tensor

from companion.widgets import Widget, script

MOST = 300


class PPCAWidget(Widget):
    """The density N(μ, WWᵀ + σ²I) of points in the plane, d_z = 1, with handles for μ, W and σ².

    The figure shows the mean of log p(x) beside its maximum, and where each point lands when it is replaced by
    W E[z | x] + μ. `PPCA(torch.tensor(widget.W), torch.tensor(widget.mu), widget.sigma2)` is the model on the screen.

    Args:
        x: points, shape (n, 2), 3 ≤ n ≤ 300, not all on one line.
        W: loadings, shape (2, 1); by default horizontal, as long as the points' standard deviation.
        mu: mean, shape (2,); by default the mean of x.
        sigma2: variance of the noise; by default half the points' mean variance.
        projections: whether the segments from x to W E[z | x] + μ are drawn.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        ValueError: if `x` has another shape, is not finite or lies on a line, or a parameter is impossible.
    """

    _esm = script("ppca")

    x = traitlets.List(read_only=True).tag(sync=True)
    W = traitlets.List().tag(sync=True)
    mu = traitlets.List().tag(sync=True)
    sigma2 = traitlets.Float().tag(sync=True)
    projections = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        x: Tensor,
        W: Tensor | None = None,
        mu: Tensor | None = None,
        sigma2: Tensor | float | None = None,
        *,
        projections: bool = False,
        lang: str = "",
    ) -> None:
        x = _array(x)
        if x.ndim != 2 or x.shape[1] != 2 or not 3 <= len(x) <= MOST:
            raise ValueError(f"x has shape {tuple(x.shape)}; give points (n, 2), 3 ≤ n ≤ {MOST}, say x[:{MOST}, :2]")
        if not x.isfinite().all():
            raise ValueError("x has entries that are not finite; leave those points out")
        smallest, largest = torch.linalg.eigvalsh(x.T.cov(correction=0)).tolist()
        if smallest <= 1e-9 * largest:
            raise ValueError("x lies on a line, where the likelihood has no maximum; add noise to it")
        variance = (smallest + largest) / 2
        self.set_trait("x", x.tolist())
        super().__init__(
            W=[[variance**0.5], [0.0]] if W is None else _array(W).tolist(),
            mu=x.mean(0).tolist() if mu is None else _array(mu).tolist(),
            sigma2=variance / 2 if sigma2 is None else float(sigma2),
            projections=projections,
            lang=lang,
        )

    @traitlets.validate("W", "mu")
    def _shaped(self, proposal: traitlets.Bunch) -> list:
        name, value = proposal.trait.name, _array(proposal.value)
        shape = {"W": (2, 1), "mu": (2,)}[name]
        if value.shape != shape or not value.isfinite().all():
            raise ValueError(f"{name} is {proposal.value}; give finite numbers of shape {shape}")
        return proposal.value

    @traitlets.validate("sigma2")
    def _positive(self, proposal: traitlets.Bunch) -> float:
        if not 0 < proposal.value < float("inf"):
            raise ValueError(f"sigma2 is {proposal.value}; choose a positive variance")
        return proposal.value


def _array(values: Tensor | list) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64, device="cpu").detach()
