"""Likelihoods p(x | z), which turn a decoder's outputs into a distribution: chapters 3 and 5."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from companion.checks import check_int

#: Log variances are kept between ± this number: e^±30 ≈ 10^±13 neither over- nor underflows, nor does its square.
MAX_LOG_VARIANCE = 30.0


def bernoulli(logits: Tensor) -> Independent:
    """p(x | z) = Π πᵢ^xᵢ (1 − πᵢ)^(1 − xᵢ), πᵢ = sigmoid(logitᵢ), (3.14), for logits of shape (…, d).

    log p(x | z) is minus the binary cross entropy. For a grey x between 0 and 1 it is the expectation of the
    log-likelihood over images of zeros and ones in which pixel i is one with probability xᵢ.
    """
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


class Gaussian(nn.Module):
    """p(x | z) = N(x; g(z), σ²I) with σ² learnt: log p(x | z) = −|x − g(z)|²/2σ² − (d/2) log 2πσ², (3.15).

    Args:
        sigma2: where σ² starts: a positive number, or one for each pixel, shape (d,). It stays there after
            `Gaussian(…).requires_grad_(False)`.

    Raises:
        ValueError: if a σ² is not positive, or not finite.
    """

    def __init__(self, sigma2: float | Tensor = 1.0) -> None:
        super().__init__()
        sigma2 = torch.as_tensor(sigma2)
        if sigma2.ndim > 1 or not ((sigma2 > 0) & sigma2.isfinite()).all():
            raise ValueError(f"sigma2 must be a positive number, or one for each pixel, got {sigma2.tolist()}")
        self.log_sigma2 = nn.Parameter(sigma2.log())

    @property
    def sigma2(self) -> Tensor:
        """σ², shape () or (d,)."""
        return bounded(self.log_sigma2).exp()

    def forward(self, mean: Tensor) -> Independent:
        """N(x; mean, σ²I), for means of shape (…, d)."""
        return normal(mean, self.sigma2.sqrt().to(mean.dtype))


class GreyLevels(Distribution):
    """Independent pixels, each with K probabilities, for the grey levels 0, 1/(K−1), …, 1.

    Args:
        logits: logarithms of the probabilities, up to a constant for each pixel, shape (…, d, K).
    """

    arg_constraints = {}  # noqa: RUF012 — as in torch.distributions

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.log_softmax(-1)
        self.levels = torch.linspace(0, 1, logits.shape[-1], dtype=logits.dtype, device=logits.device)
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.logits.exp() * self.levels).sum(-1)

    @property
    def variance(self) -> Tensor:
        return (self.logits.exp() * (self.levels - self.mean[..., None]).square()).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Σᵢ log p(xᵢ); −∞ where a pixel is no grey level."""
        top = len(self.levels) - 1
        level = (top * x).round().nan_to_num().clamp(0, top)
        off = ~((level - top * x).abs() <= 0.01)
        logits, index = torch.broadcast_tensors(self.logits, level.long()[..., None])
        return logits.gather(-1, index[..., :1])[..., 0].masked_fill(off, -math.inf).sum(-1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.levels[Categorical(logits=self.logits).sample(sample_shape)]


def categorical(levels: int) -> Callable[[Tensor], GreyLevels]:
    """p(x | z) with a probability for each of so many grey levels between 0 and 1: decoder outputs (…, d · levels).

    log p(x | z) is minus the cross entropy, summed over the pixels.
    """
    return functools.partial(_grey_levels, levels=check_int("levels", levels, 2))


def _grey_levels(output: Tensor, levels: int) -> GreyLevels:
    if output.shape[-1] % levels:
        raise ValueError(f"decoder has {output.shape[-1]} outputs: a multiple of the {levels} levels is needed")
    return GreyLevels(output.unflatten(-1, (-1, levels)))


def normal(mean: Tensor, std: Tensor) -> Independent:
    return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)


def bounded(log_variance: Tensor) -> Tensor:
    return log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)
