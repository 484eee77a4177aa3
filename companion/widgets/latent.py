"""Chapter 1: one observed x, its posterior, and what samples of z say about p(x)."""

from __future__ import annotations

import torch
import traitlets

from companion.widgets import Widget, script

RANGES = {"b": (0.0, 2.0), "sigma": (0.1, 1.0), "x": (-5.0, 5.0), "k": (1, 256)}


class LatentWidget(Widget):
    """The model z ~ N(0, 1), x | z ~ N(z + b sin 3z, σ²), with x in the reader's hand.

    The figure shows p(z, x) with both margins, the posterior p(z | x), and, with `sampling`, an importance-sampling
    estimate of log p(x) from k draws of z.

    Args:
        b: strength of the fold, in [0, 2]; at 0 the model is linear.
        sigma: standard deviation of x given z, in [0.1, 1].
        x: the observation, in [−5, 5].
        k: number of draws, in [1, 256]; the slider moves over powers of two.
        proposal: "prior" draws from p(z), "gaussian" from a normal distribution with the posterior's mean and variance.
        sampling: whether the draws, the estimate and their controls are shown.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        ValueError: if a number lies outside its range.
    """

    _esm = script("latent")

    b = traitlets.Float().tag(sync=True)
    sigma = traitlets.Float().tag(sync=True)
    x = traitlets.Float().tag(sync=True)
    k = traitlets.Int().tag(sync=True)
    proposal = traitlets.Enum(("prior", "gaussian")).tag(sync=True)
    sampling = traitlets.Bool(True, read_only=True).tag(sync=True)
    eps = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)

    def __init__(
        self,
        b: float = 1.0,
        sigma: float = 0.3,
        x: float = 1.2,
        *,
        k: int = 32,
        proposal: str = "prior",
        sampling: bool = True,
        lang: str = "",
    ) -> None:
        self.set_trait("sampling", sampling)
        noise = torch.randn(RANGES["k"][1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.set_trait("eps", [round(value, 4) for value in noise.tolist()])
        super().__init__(b=b, sigma=sigma, x=x, k=k, proposal=proposal, lang=lang)

    @traitlets.validate(*RANGES)
    def _within(self, proposal: traitlets.Bunch) -> float:
        name, value = proposal.trait.name, proposal.value
        low, high = RANGES[name]
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; choose it between {low} and {high}")
        return value
