"""How good samples are, measured against data whose truth is known: Hangul, mixtures in the plane, Gaussians."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Binomial
from torch.nn.functional import one_hot

from companion.checks import check_int, check_labels, check_tensor
from companion.data import CHOSEONG, JONGSEONG, JUNGSEONG, Hangul

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

#: Entries of the largest distance table that is held at once (64 MB in float32).
_TABLE = 2**24
#: How many letters there are in each place of a syllable.
LETTERS = (len(CHOSEONG), len(JUNGSEONG), len(JONGSEONG))


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
        ValueError: if x is empty, not finite, or has another number of entries than the images.
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
        distinct: number of different syllables among the n legible samples.
        held_out: share of held-out syllables among the legible samples; NaN if there are none.
        held_out_error: its standard error, √(p(1 − p)/(n + 3)) with p = (h + 1)/(n + 2) for h held-out ones: the
            deviation of the share's posterior, Beta(h + 1, n − h + 1), which is not 0 where h is.
        repeats: how often two legible samples show the same syllable, in units of how often two even draws from all N
            do, N Σ p²: 1 for even draws, N/m for m syllables alike. Without bias: equal pairs are counted, as in Arora
            & Zhang, "Do GANs Actually Learn the Distribution?" (2017). NaN if fewer than two samples are legible.
        letters: how unevenly the letters occur, Σ KL(letters ‖ even) over the three places, in nats; its bias of
            (letters that occur − 1)/2n in each place is taken off (Miller 1955), so that it can come out negative. NaN
            if nothing is legible.
    """

    legible: float
    distinct: int
    held_out: float
    held_out_error: float
    repeats: float
    letters: float


def hangul_score(x: Tensor, data: Hangul, *, factor: float = 1.0) -> HangulScore:
    """Count the syllables among generated images; one within `factor` × `legible_radius` of a syllable is legible.

    A model that composes letters reaches the held-out share of the data, 10 %; one that memorises reaches 0.

    Args:
        x: samples, shape (n, d) or (n, …) with d entries each, on the scale of `data.x`.
        data: all syllables and which of them the model never saw.
        factor: 1 leaves no doubt which syllable a sample is; 2 lets it be as far as the nearest other syllable.

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty, not finite, or has another number of entries than the images of `data`.
    """
    index, distance = nearest_syllable(x, data.x)
    legible = index[distance < factor * legible_radius(data.x.to(x), index)].cpu()
    n, count = len(legible), legible.bincount(minlength=len(data.x)).double()
    held_out = count[data.held_out].sum().item()
    p = (held_out + 1) / (n + 2)
    pairs = (count * (count - 1)).sum().item()
    return HangulScore(
        legible=n / len(x),
        distinct=int((count > 0).sum()),
        held_out=held_out / n if n else math.nan,
        held_out_error=math.sqrt(p * (1 - p) / (n + 3)),
        repeats=len(count) * pairs / (n * (n - 1)) if n > 1 else math.nan,
        letters=sum(map(_unevenness, data.labels[legible].T, LETTERS)) if n else math.nan,
    )


def _unevenness(letters: Tensor, kinds: int) -> float:
    """KL(letters ‖ even) in nats, without the part that chance adds."""
    p = letters.bincount(minlength=kinds).double() / len(letters)
    kl = math.log(kinds) + torch.special.xlogy(p, p).sum().item()
    return kl - ((p > 0).sum().item() - 1) / (2 * len(letters))


def letters_right(x: Tensor, labels: Tensor, data: Hangul) -> Tensor:
    """Whether the syllable nearest to each sample has the letters that were asked for, shape (n, 3).

    Args:
        x: samples, shape (n, d) or (n, …), on the scale of `data.x`.
        labels: initial, vowel and final asked for, integers, shape (n, 3), (1, 3) or (3,); −1, any letter, is right.
        data: all syllables.

    Raises:
        TypeError: if x is no tensor of float32 or float64, or labels are no integers.
        ValueError: if x or labels have another shape, or there is no such letter.
    """
    index, _ = nearest_syllable(x, data.x)
    labels = check_labels(labels, len(x), LETTERS, wait=True).to(x.device)
    return (data.labels.to(x.device)[index] == labels) | (labels == -1)


def letter_features(x: Tensor, data: Hangul) -> Tensor:
    """Which letters a sample shows, φ(x) = Σₙ rₙ(x) φₙ, shape (n, 68): a feature space without trained weights.

    φₙ marks the letters of syllable n by ones: 19 + 21 + 28 entries, three of them 1. The weight rₙ(x) ∝ exp(−8|x −
    xₙ|²/s²), where s is the median distance of an image to the nearest other; "none" has the weight of a syllable at
    distance 2s. So φ is the exact posterior of each letter given x if x is a syllable plus noise of deviation s/4 in
    each pixel, or none: near a syllable φ marks its letters, farther than about 2s from all it is 0.

    Args:
        x: samples, shape (n, d) or (n, …), on the scale of `data.x`.
        data: all syllables.

    Raises:
        TypeError: if x is no tensor of float32 or float64.
        ValueError: if x is empty, not finite, or has another number of entries than the images of `data`.
    """
    x = _rows("x", x, data.x.shape[1])
    images = data.x.to(x)
    letters = torch.cat([one_hot(place, kinds) for place, kinds in zip(data.labels.T, LETTERS, strict=True)], 1).to(x)
    half_norm, sharpness = images.square().sum(1) / 2, 16 / _spacing(data) ** 2
    features = []
    for rows in x.split(max(1, _TABLE // len(images))):
        score = sharpness * (rows @ images.T - half_norm)
        none = sharpness * rows.square().sum(1, keepdim=True) / 2 - 32
        features.append(torch.cat([score, none], 1).softmax(1)[:, :-1] @ letters)
    return torch.cat(features)


@functools.lru_cache(maxsize=2)
def _spacing(data: Hangul) -> float:
    """The median distance of an image to the nearest other."""
    return 2 * math.sqrt(data.x.shape[1]) * legible_radius(data.x).median().item()


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
        ValueError: if x is empty, not finite, or has not the shape (n, d).
    """
    check_tensor("x", x, columns=modes.shape[1], finite=True)
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
        ValueError: if one is empty, not finite, or has another shape.
    """
    for name, values in (("x", x), ("y", y)):
        check_tensor(name, values, ndim=1, finite=True)
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
        ValueError: if one set has fewer than two samples, or one that is not finite, the shapes disagree, or half of y
            is one point.
    """
    x, y = _pair(x, y, "to be compared with each other")
    if bandwidths is None:
        median = torch.pdist(y[: math.isqrt(_TABLE)]).median().item()
        if median == 0:
            raise ValueError("y has no median distance, half of it is one point: give bandwidths")
        bandwidths = tuple(median * 2.0**-i for i in range(4))

    def total(a: Tensor, b: Tensor) -> Tensor:
        squares = (table.square() for table in _distances(a, b))
        kernels = (sum((square / (-2 * h * h)).exp().sum() for h in bandwidths) for square in squares)
        return sum(kernels) / len(bandwidths)

    n, m, x, y = len(x), len(y), x.double(), y.double()
    same_x, same_y = (total(x, x) - n) / (n * (n - 1)), (total(y, y) - m) / (m * (m - 1))
    return (same_x + same_y - 2 * total(x, y) / (n * m)).item()


def precision_recall(x: Tensor, y: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of x that lies where y is, (6.3), and share of y that lies where x is, (6.4): improved precision, recall.

    Where a set is: in the union of balls around its points, each of which reaches to the point's k-th nearest
    neighbour in the set. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models"
    (2019).

    Args:
        x: samples, shape (n, …), n > k.
        y: data, shape (m, …), m > k, with equally many entries each; the shares compare only at equal n and m.
        k: which neighbour a ball reaches to.

    Raises:
        TypeError: if one is no tensor of float32 or float64, or k no integer.
        ValueError: if one set has no k-th neighbours, or is not finite, k is less than 1, or the shapes disagree.
    """
    x, y = _pair(x, y, "to have neighbours", least=check_int("k", k) + 1)

    def inside(points: Tensor, centres: Tensor) -> float:
        own, tables = _distances(centres, centres), _distances(points, centres)
        radius = torch.cat([table.kthvalue(k + 1).values for table in own])
        covered = [(table <= radius).any(dim=1) for table in tables]
        return torch.cat(covered).double().mean().item()

    x, y = x.double(), y.double()
    return inside(x, y), inside(y, x)


@dataclass(frozen=True)
class ClassifierTest:
    """What `classifier_test` finds.

    Attributes:
        accuracy: share of the samples not trained on that the classifier assigns to the right set.
        error: its standard error, √(a(1 − a)/m) for m such samples.
        p_value: how probable at least this accuracy is where both sets are draws from one distribution; at most this.
    """

    accuracy: float
    error: float
    p_value: float


def classifier_test(
    x: Tensor, y: Tensor, classifier: ClassifierMixin | None = None, *, seed: int = 0
) -> ClassifierTest:
    """Can a classifier tell x from y? Its accuracy, (6.6), on samples that it was not trained on.

    It is trained on half of each set. Where both are draws from one distribution, the number of right answers among the
    other m has at most the spread of m tosses of a coin: deviation ½/√m around ½ in the accuracy. Lopez-Paz & Oquab,
    "Revisiting Classifier Two-Sample Tests" (2017).

    Args:
        x, y: samples, shapes (n, …) with equally many entries each, n ≥ 4. The larger set is cut to the smaller.
        classifier: any of scikit-learn's; by default an MLP with one layer of 64.
        seed: which half is trained on, and the start of the default classifier.

    Raises:
        TypeError: if one is no tensor of float32 or float64.
        ValueError: if one set has fewer than four samples, or one that is not finite, or the shapes disagree.
    """
    from sklearn.exceptions import ConvergenceWarning  # here, because it takes as long to import as torch
    from sklearn.neural_network import MLPClassifier

    x, y = _pair(x, y, "to be halved", least=4)
    n = min(len(x), len(y))
    generator = torch.Generator().manual_seed(seed)
    known, new = zip(
        *(samples.cpu()[torch.randperm(len(samples), generator=generator)[:n]].tensor_split(2) for samples in (x, y)),
        strict=True,
    )
    classifier = classifier or MLPClassifier((64,), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(torch.cat(known).numpy(), np.repeat([0, 1], len(known[0])))
    right = classifier.predict(torch.cat(new).numpy()) == np.repeat([0, 1], len(new[0]))
    m, accuracy = len(right), right.mean().item()
    tail = Binomial(m, torch.tensor(0.5).double()).log_prob(torch.arange(right.sum(), m + 1)).logsumexp(0).exp()
    return ClassifierTest(accuracy, math.sqrt(accuracy * (1 - accuracy) / m), min(tail.item(), 1.0))


# --- several runs ----------------------------------------------------------------------------------------------------


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of m independent runs and its standard error, √(Σ(vᵢ − v̄)²/(m(m − 1))), (6.8), which falls as 1/√m.

    Raises:
        ValueError: if there are fewer than two runs.
    """
    if len(values) < 2:
        raise ValueError(f"values must be those of at least two runs, got {len(values)}: one has no spread")
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


# --- Gaussians -------------------------------------------------------------------------------------------------------


def gaussian_frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """Fréchet distance of two Gaussians, |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½), (6.5), a squared length.

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
    """Fréchet distance of the Gaussians fitted to two sets of samples, (6.5), shapes (n, …) and (m, …), n, m ≥ 2.

    Give it features, such as `letter_features`: of pixels it sees no more than a Gaussian has, mean and covariance.
    Expect it to come out positive for two sets of draws from one distribution too, by about 1/n; compare at equal n.

    Raises:
        TypeError: if one is no tensor of float32 or float64.
        ValueError: if one set has fewer than two samples, or one that is not finite, or the shapes disagree.
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
    return check_tensor(name, check_tensor(name, x, ndim=None, finite=True).flatten(1), columns=entries)


def _pair(x: Tensor, y: Tensor, why: str, least: int = 2) -> tuple[Tensor, Tensor]:
    """Two sets of samples as rows of equally many entries."""
    y = check_tensor("y", y, ndim=None, finite=True).flatten(1)
    x = _rows("x", x, y.shape[1])
    for name, samples in (("x", x), ("y", y)):
        if len(samples) < least:
            raise ValueError(f"{name} must hold at least {least} samples {why}, got {len(samples)}")
    return x, y


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The distances of all rows of x from all rows of y, shape (some, m) at a time, exactly 0 for equal rows."""
    for rows in x.split(max(1, _TABLE // len(y))):
        yield torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist")
