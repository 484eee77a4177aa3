"""Likelihoods p(x | z), which turn a decoder's outputs into a distribution: chapters 3 and 5.

Each takes outputs of shape (n, …) and gives n distributions of x, whose event axes are all the others: (n, d) for rows,
(n, C, H, W) for images. Outputs with a single axis, (d,), give one distribution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, constraints

from companion.checks import check_int, check_tensor

#: Log variances are kept between ± this number: e^±30 ≈ 10^±13 neither over- nor underflows, nor does its square.
MAX_LOG_VARIANCE = 30.0


def bernoulli(logits: Tensor) -> Independent:
    """p(x | z) = Π πᵢ^xᵢ (1 − πᵢ)^(1 − xᵢ), πᵢ = sigmoid(logitᵢ), (3.14), for x between 0 and 1 and logits (n, …).

    log p(x | z) is minus the binary cross entropy. For a grey x between 0 and 1 it is the expectation of the
    log-likelihood over images of zeros and ones in which pixel i is one with probability xᵢ.
    """
    return _all_axes(_GreyBernoulli(logits=logits, validate_args=False))


class _GreyBernoulli(Bernoulli):
    support = constraints.interval(-1e-6, 1 + 1e-6)  # what rounding leaves of 0 and 1 included


class Gaussian(nn.Module):
    """p(x | z) = N(x; g(z), σ²I) with σ² learnt: log p(x | z) = −|x − g(z)|²/2σ² − (d/2) log 2πσ², (3.15).

    Args:
        sigma2: where σ² starts: a positive number, or one for each pixel, in the shape of one x. It stays there after
            `Gaussian(…).requires_grad_(False)`.

    Raises:
        ValueError: if a σ² is not positive, or not finite; when called, if σ² has neither shape () nor that of x.
    """

    def __init__(self, sigma2: float | Tensor = 1.0) -> None:
        super().__init__()
        sigma2 = torch.as_tensor(sigma2)
        good = (sigma2 > 0) & sigma2.isfinite()
        if not good.all():
            got = sigma2.item() if sigma2.numel() == 1 else f"{sigma2[~good][0]} in shape {tuple(sigma2.shape)}"
            raise ValueError(f"sigma2 must be a positive number, or one for each pixel, got {got}")
        self.log_sigma2 = nn.Parameter(sigma2.log())

    @property
    def sigma2(self) -> Tensor:
        """σ², shape () or that of one x."""
        return bounded(self.log_sigma2).exp()

    def forward(self, mean: Tensor) -> Independent:
        """N(x; mean, σ²I), for means of shape (n, …)."""
        event = mean.shape[mean.ndim > 1 :]
        if self.log_sigma2.shape not in ((), event):
            raise ValueError(
                f"sigma2 has shape {tuple(self.log_sigma2.shape)}, the mean of one x {tuple(event)}: give one number, "
                "or one for each pixel"
            )
        return _all_axes(Normal(mean, self.sigma2.sqrt().to(mean.dtype), validate_args=False))


class GreyLevels(Distribution):
    """Independent pixels, each with L probabilities, for the grey levels 0, 1/(L−1), …, 1.

    Args:
        logits: logarithms of the probabilities, up to a constant for each pixel, shape (…, d, L).
    """

    arg_constraints = {}  # noqa: RUF012 — as in torch.distributions

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.log_softmax(-1)
        self.levels = torch.linspace(0, 1, logits.shape[-1], dtype=logits.dtype, device=logits.device)
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return Levels(len(self.levels))

    @property
    def mean(self) -> Tensor:
        return (self.logits.exp() * self.levels).sum(-1)

    @property
    def variance(self) -> Tensor:
        return (self.logits.exp() * (self.levels - self.mean[..., None]).square()).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Σᵢ log p(xᵢ); −∞ where a pixel is no grey level."""
        logits, index = torch.broadcast_tensors(self.logits, self.support.nearest(x).long()[..., None])
        log_p = logits.gather(-1, index[..., :1])[..., 0]
        return log_p.masked_fill(~self.support.check(x), -math.inf).sum(-1)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.levels[Categorical(logits=self.logits, validate_args=False).sample(sample_shape)]


class Levels(constraints.Constraint):
    """The grey levels 0, 1/(L−1), …, 1, each with room for rounding."""

    is_discrete = True

    def __init__(self, count: int) -> None:
        self.top = count - 1

    def nearest(self, x: Tensor) -> Tensor:
        return (self.top * x).round().nan_to_num().clamp(0, self.top)

    def check(self, x: Tensor) -> Tensor:
        return (self.nearest(x) - self.top * x).abs() <= 0.01


def categorical(levels: int) -> Callable[[Tensor], Distribution]:
    """p(x | z) with a probability for each of so many grey levels between 0 and 1.

    The decoder's outputs have shape (n, d · levels), or (n, C · levels, H, W) for images (n, C, H, W): the axis after
    the batch's holds the levels, those of one pixel or channel side by side. log p(x | z) is minus the cross entropy,
    summed over the pixels.
    """
    return functools.partial(_grey_levels, levels=check_int("levels", levels, 2))


def _grey_levels(output: Tensor, levels: int) -> Distribution:
    axis = int(output.ndim > 1)
    if output.shape[axis] % levels:
        raise ValueError(
            f"decoder has {output.shape[axis]} outputs along the axis after the batch's: a multiple of the {levels} "
            "levels is needed"
        )
    return _all_axes(GreyLevels(output.unflatten(axis, (-1, levels)).movedim(axis + 1, -1)))


def check_support(p: Distribution, x: Tensor) -> None:
    """Let x pass if all its entries are finite and in the support of p, unless that depends on p's parameters.

    Raises:
        ValueError: if some are not.
    """
    check_tensor("x", x, ndim=None, finite=True)
    while isinstance(p, Independent | Unfolded):
        p = p.base_dist
    if x.is_meta or constraints.is_dependent(type(p).support):
        return
    try:
        support = p.support
    except NotImplementedError:
        return
    if not support.check(x).all():
        raise ValueError(f"x has entries from {x.min():g} to {x.max():g}; {_wanted(p, x)}")


def _wanted(p: Distribution, x: Tensor) -> str:
    if isinstance(p, GreyLevels):
        top = p.support.top
        takes = f"categorical({top + 1}) takes the grey levels 0, 1/{top}, …, 1"
    elif isinstance(p, _GreyBernoulli):
        top, takes = 1, "bernoulli takes values between 0 and 1"
    else:
        return f"{type(p).__name__} takes {p.support}: rescale x, or take another likelihood"
    low, high = x.min(), x.max()
    if low < 0:
        fits = low >= -1 and high <= 1
        return f"{takes}: use {'(x + 1) / 2' if fits else '(x - x.min()) / (x.max() - x.min()), or Gaussian()'}"
    if high > 1:
        scale = top if high <= top else 255 if 16 < high <= 255 else high.item()
        return f"{takes}: use x / {scale:g}, the largest possible value"
    return f"{takes}: x has {len(x.unique())} different values; name their number, or use (x * {top}).round() / {top}"


class Unfolded(Distribution):
    """Distributions with one batch axis, (k · n,), seen as distributions with several, (k, n)."""

    arg_constraints = {}  # noqa: RUF012 — as in torch.distributions

    def __init__(self, p: Distribution, batch_shape: torch.Size) -> None:
        self.base_dist = p
        super().__init__(batch_shape, p.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean.reshape(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance.reshape(self._extended_shape())

    def log_prob(self, x: Tensor) -> Tensor:
        """Of one x for each distribution, or of fewer that are broadcast."""
        x = x.expand(self._extended_shape()).reshape(self.base_dist.batch_shape + self.event_shape)
        return self.base_dist.log_prob(x).reshape(self.batch_shape)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        return self.base_dist.sample(sample_shape).reshape(self._extended_shape(sample_shape))


def normal(mean: Tensor, std: Tensor) -> Independent:
    """Independent normal entries, one distribution for each row of mean, shape (n, …); for (d,) a single one."""
    return Independent(Normal(mean, std, validate_args=False), max(mean.ndim - 1, 1), validate_args=False)


def _all_axes(p: Distribution) -> Distribution:
    """All axes but the first become event axes; a single one becomes an event axis if there is none yet."""
    axes = max(len(p.batch_shape) - 1, int(not p.event_shape))
    return Independent(p, axes, validate_args=False) if axes else p


def bounded(log_variance: Tensor) -> Tensor:
    return log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)
