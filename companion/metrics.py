"""How good samples are, measured against data whose truth is known: Hangul, mixtures in the plane, Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from companion.checks import check_tensor
from companion.data import Hangul

#: Entries of the largest distance table that is held at once (64 MB in float32).
_TABLE = 2**24


# --- Hangul ----------------------------------------------------------------------------------------------------------


def nearest_syllable(x: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The syllable whose image is nearest to each sample, at constant memory.

    Args:
        x: samples, shape (n, d), or (n, …) with d entries each.
        images: one image per syllable, shape (m, d), such as `hangul().x`.

    Returns:
        index: rows of `images`, shape (n,); distance: root mean square difference per pixel, shape (n,).

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty or has another number of entries than the images.
    """
    x = _rows("x", x, images[0].numel())
    images = images.flatten(1).to(x)
    half_norm = images.square().sum(dim=1) / 2
    step = max(1, _TABLE // len(images))
    index = torch.cat([(rows @ images.T - half_norm).argmax(dim=1) for rows in x.split(step)])
    return index, (x - images[index]).square().mean(dim=1).sqrt()


def legible_radius(images: Tensor, index: Tensor | None = None) -> Tensor:
    """Half the distance of an image to the nearest other one, in root mean square per pixel.

    A sample within this radius of an image is nearer to it than to any other image.

    Args:
        images: different images, shape (m, d) or (m, …).
        index: rows of `images` whose radius is wanted, shape (n,); all by default.

    Raises:
        ValueError: if there are fewer than two images.
    """
    if len(images) < 2:
        raise ValueError("images must hold at least two images, otherwise none has a neighbour")
    images = images.flatten(1)
    index = torch.arange(len(images), device=images.device) if index is None else index
    half_norm = images.square().sum(dim=1) / 2
    neighbour = []
    for rows in index.split(max(1, _TABLE // len(images))):
        score = images[rows] @ images.T - half_norm
        neighbour.append(score.scatter_(1, rows[:, None], -math.inf).argmax(dim=1))
    return (images[index] - images[torch.cat(neighbour)]).square().mean(dim=1).sqrt() / 2


@dataclass(frozen=True)
class HangulScore:
    """What `hangul_score` counts.

    Attributes:
        legible: share of the samples that are legible.
        distinct: number of different syllables among the legible samples.
        held_out: share of held-out syllables among the legible samples; NaN if there are none.
    """

    legible: float
    distinct: int
    held_out: float


def hangul_score(x: Tensor, data: Hangul, *, factor: float = 1.0) -> HangulScore:
    """Count the syllables among generated images; one within `factor` × `legible_radius` of a syllable is legible.

    A model that composes letters reaches the held-out share of the data, 10 %; one that memorises reaches 0.

    Args:
        x: samples, shape (n, d) or (n, …) with d entries each, on the scale of `data.x`.
        data: all syllables and which of them the model never saw.
        factor: 1 leaves no doubt which syllable a sample is; 2 lets it be as far as the nearest other syllable.

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty or has another number of entries than the images of `data`.
    """
    index, distance = nearest_syllable(x, data.x)
    legible = index[distance < factor * legible_radius(data.x.to(x), index)]
    return HangulScore(
        legible=len(legible) / len(x),
        distinct=len(legible.unique()),
        held_out=torch.isin(legible, data.held_out.to(x.device)).double().mean().item(),
    )


# --- mixtures in the plane -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModeScore:
    """What `mode_score` counts.

    Attributes:
        captured: number of modes with at least one high-quality sample.
        high_quality: share of the samples within three standard deviations of a mode.
        reverse_kl: KL(samples ‖ uniform) between histograms over the modes, in nats.
    """

    captured: int
    high_quality: float
    reverse_kl: float


def mode_score(x: Tensor, modes: Tensor, std: float) -> ModeScore:
    """Mode coverage of samples from an equal mixture, by the protocol of PacGAN (Lin et al. 2018).

    Every sample counts for its nearest mode in the histogram, and is of high quality within three standard deviations.

    Args:
        x: samples, shape (n, d).
        modes: centres of the mixture, shape (k, d), such as `ring_modes()`.
        std: standard deviation of each Gaussian.

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty or has not the shape (n, d).
    """
    check_tensor("x", x, columns=modes.shape[1])
    distance, nearest = torch.cdist(x, modes.to(x), compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    good = distance <= 3 * std
    p = nearest.bincount(minlength=len(modes)).double() / len(x)
    return ModeScore(
        captured=len(nearest[good].unique()),
        high_quality=good.double().mean().item(),
        reverse_kl=math.log(len(modes)) + torch.special.xlogy(p, p).sum().item(),
    )


# --- points on a line ------------------------------------------------------------------------------------------------


def wasserstein_1d(x: Tensor, y: Tensor) -> float:
    """Wasserstein-1 distance of two sets of numbers, ∫|F⁻¹(u) − G⁻¹(u)| du = ∫|F(t) − G(t)| dt, (4.18), exact.

    Args:
        x, y: numbers, shapes (n,) and (m,), in any order.

    Raises:
        TypeError: if one is no floating-point tensor.
        ValueError: if one is empty or has another shape.
    """
    for name, values in (("x", x), ("y", y)):
        check_tensor(name, values, ndim=1)
    t = torch.cat([x, y]).sort().values.double()
    F, G = (torch.searchsorted(v.sort().values.double(), t[:-1], right=True).double() / len(v) for v in (x, y))
    return ((F - G).abs() * t.diff()).sum().item()


# --- two samples -----------------------------------------------------------------------------------------------------


def mmd(x: Tensor, y: Tensor, bandwidths: tuple[float, ...] | None = None) -> float:
    """Squared maximum mean discrepancy, E k(x, x') + E k(y, y') − 2 E k(x, y), estimated without bias.

    It is 0 in expectation where both distributions agree, so it can come out negative. The kernel is the mean of
    Gaussians exp(−|x − y|²/2h²). Gretton et al., "A Kernel Two-Sample Test" (2012).

    Args:
        x, y: samples, shapes (n, …) and (m, …) with equally many entries each, n, m ≥ 2.
        bandwidths: the h; by default the median distance between rows of y, and ½, ¼ and ⅛ of it.

    Raises:
        TypeError: if one is no tensor of float32 or float64.
        ValueError: if one set has fewer than two samples, the shapes disagree, or half of y is one point.
    """
    x, y = _pair(x, y, "to be compared with each other")
    if bandwidths is None:
        median = torch.pdist(y[: math.isqrt(_TABLE)]).median().item()
        if median == 0:
            raise ValueError("y has no median distance, half of it is one point: give bandwidths")
        bandwidths = tuple(median * 2.0**-i for i in range(4))

    def total(a: Tensor, b: Tensor) -> Tensor:
        rows = max(1, _TABLE // len(b))
        squares = (torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist").square() for part in a.split(rows))
        kernels = (sum((square / (-2 * h * h)).exp().sum() for h in bandwidths) for square in squares)
        return sum(kernels) / len(bandwidths)

    n, m, x, y = len(x), len(y), x.double(), y.double()
    same_x, same_y = (total(x, x) - n) / (n * (n - 1)), (total(y, y) - m) / (m * (m - 1))
    return (same_x + same_y - 2 * total(x, y) / (n * m)).item()


# --- Gaussians -------------------------------------------------------------------------------------------------------


def gaussian_frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """Fréchet distance of two Gaussians, |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½), a squared length.

    Computed as min |Σ₁^½ − Σ₂^½U|² over orthogonal U, a sum of squares: nothing cancels, it is never negative and close
    to 0 for equal Gaussians, with singular covariances too (Dowson & Landau 1982).

    Args:
        mean_1, mean_2: shape (d,).
        cov_1, cov_2: shape (d, d), symmetric, positive semidefinite.
    """
    mean_1, cov_1, mean_2, cov_2 = (value.double() for value in (mean_1, cov_1, mean_2, cov_2))
    root_1, root_2 = _root(cov_1), _root(cov_2)
    left, _, right = torch.linalg.svd(root_2 @ root_1)
    return ((mean_1 - mean_2).square().sum() + (root_1 - root_2 @ left @ right).square().sum()).item()


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of samples, shapes (n, …) and (m, …), n, m ≥ 2.

    Raises:
        TypeError: if one is no tensor of float32 or float64.
        ValueError: if one set has fewer than two samples, or the shapes disagree.
    """
    x, y = (samples.double() for samples in _pair(x, y, "to have a covariance"))
    cov_x, cov_y = (torch.atleast_2d(samples.T.cov()) for samples in (x, y))
    return gaussian_frechet(x.mean(dim=0), cov_x, y.mean(dim=0), cov_y)


def _root(covariance: Tensor) -> Tensor:
    """Σ^½, symmetric."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


# --- checks ----------------------------------------------------------------------------------------------------------


def _rows(name: str, x: Tensor, entries: int) -> Tensor:
    """x of any event shape as rows of so many entries."""
    return check_tensor(name, check_tensor(name, x, ndim=None).flatten(1), columns=entries)


def _pair(x: Tensor, y: Tensor, why: str) -> tuple[Tensor, Tensor]:
    """Two sets of samples as rows of equally many entries."""
    y = check_tensor("y", y, ndim=None).flatten(1)
    x = _rows("x", x, y.shape[1])
    for name, samples in (("x", x), ("y", y)):
        if len(samples) < 2:
            raise ValueError(f"{name} must hold at least two samples {why}")
    return x, y
