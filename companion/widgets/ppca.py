"""Chapter 2: the PPCA density in the plane, with its parameters in the reader's hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor

from companion.widgets import Widget, script

MOST = 300


class PPCAWidget(Widget):
    """The density N(μ, wwᵀ + σ²I) over points in the plane, with handles for μ, w and σ².

    The figure shows the mean log-likelihood beside its maximum, and where each point lands when it is replaced by
    w E[z | x] + μ.

    Args:
        x: points, shape (n, 2), 3 ≤ n ≤ 300, not all on one line.
        w: the column of W, two numbers; by default horizontal, as long as the points' standard deviation.
        mu: the centre, two numbers; by default the mean of x.
        sigma2: the variance of the noise; by default half the points' mean variance.
        projections: whether the segments from x to w E[z | x] + μ are drawn.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        ValueError: if `x` has another shape, is not finite or lies on a line, or a parameter is impossible.
    """

    _esm = script("ppca")

    x = traitlets.List(read_only=True).tag(sync=True)
    w = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    mu = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    sigma2 = traitlets.Float().tag(sync=True)
    projections = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        x: Tensor,
        w: Sequence[float] | None = None,
        mu: Sequence[float] | None = None,
        sigma2: float | None = None,
        *,
        projections: bool = False,
        lang: str = "",
    ) -> None:
        x = torch.as_tensor(x).detach().to("cpu", torch.float64)
        if x.ndim != 2 or x.shape[1] != 2 or not 3 <= len(x) <= MOST:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; give points (n, 2) with 3 ≤ n ≤ {MOST}, say x[:{MOST}, :2]"
            )
        if not x.isfinite().all():
            raise ValueError("x has entries that are not finite; leave those points out")
        smallest, largest = torch.linalg.eigvalsh(x.T.cov(correction=0)).tolist()
        if smallest <= 1e-9 * largest:
            raise ValueError("x lies on a line, where the likelihood has no maximum; add noise to it")
        variance = (smallest + largest) / 2
        self.set_trait("x", x.tolist())
        super().__init__(
            w=[variance**0.5, 0.0] if w is None else [float(value) for value in w],
            mu=x.mean(0).tolist() if mu is None else [float(value) for value in mu],
            sigma2=variance / 2 if sigma2 is None else float(sigma2),
            projections=projections,
            lang=lang,
        )

    @traitlets.validate("sigma2")
    def _positive(self, proposal: traitlets.Bunch) -> float:
        if not 0 < proposal.value < float("inf"):
            raise ValueError(f"sigma2 is {proposal.value}; choose a positive variance")
        return proposal.value
