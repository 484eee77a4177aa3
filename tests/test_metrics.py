from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import NearestNeighbors

from companion import metrics
from companion.data import Hangul, decompose, grid, grid_modes, hangul, place, ring, ring_modes


@pytest.fixture(scope="module")
def syllables() -> Hangul:
    return hangul()


# --- Hangul ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [metrics._TABLE, 100_000, 1])
def test_nearest_syllable_agrees_with_scikit_learn(monkeypatch, syllables, table):
    monkeypatch.setattr(metrics, "_TABLE", table)
    images = syllables.x[::20]
    x = torch.rand(50, 256)
    index, distance = metrics.nearest_syllable(x, images)
    expected, neighbour = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(images.double()).kneighbors(x.double())
    assert np.array_equal(index, neighbour[:, 0])
    assert np.allclose(distance, expected[:, 0] / 16, rtol=1e-5)  # 16 = √256 pixels


@pytest.mark.slow
def test_nearest_syllable_finds_each_one_again(syllables):
    every = torch.arange(0, 11172, 4)
    index, distance = metrics.nearest_syllable(syllables.x[every], syllables.x)
    assert torch.equal(index, every)
    assert torch.equal(distance, torch.zeros(len(every)))


@pytest.mark.parametrize("table", [metrics._TABLE, 10_000])
def test_legible_radius_agrees_with_scikit_learn(monkeypatch, syllables, table):
    monkeypatch.setattr(metrics, "_TABLE", table)
    images = syllables.x[:1500]
    expected = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(images.double()).kneighbors()[0][:, 0] / 16 / 2
    assert np.allclose(metrics.legible_radius(images), expected, rtol=1e-5)
    index = torch.tensor([7, 1499, 7])
    assert np.allclose(metrics.legible_radius(images, index), expected[index], rtol=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        metrics.legible_radius(images[:1])


def test_legible_radius_of_orthogonal_images():
    radius = metrics.legible_radius(torch.eye(4))  # any two differ by 1 in two of four pixels
    assert torch.allclose(radius, torch.full((4,), math.sqrt(2 / 4) / 2))


@pytest.mark.slow
def test_within_the_radius_there_is_no_doubt(syllables):
    index = torch.randperm(11172)[:2000]
    noise = torch.randn(2000, 256)
    noise *= (0.99 * metrics.legible_radius(syllables.x, index) / noise.square().mean(dim=1).sqrt())[:, None]
    assert torch.equal(metrics.nearest_syllable(syllables.x[index] + noise, syllables.x)[0], index)


@pytest.mark.slow
def test_hangul_score_counts(syllables):
    first = metrics.hangul_score(syllables.x[:3000], syllables)
    share = (syllables.held_out < 3000).sum().item() / 3000
    assert (first.legible, first.distinct, first.held_out, first.repeats) == (1.0, 3000, share, 0)
    memorised = syllables.x[syllables.train[torch.randint(len(syllables.train), (500,))]]
    assert metrics.hangul_score(memorised, syllables).held_out == 0
    mixed = torch.cat(
        [syllables.x[syllables.held_out[:1]].repeat(3, 1), syllables.x[syllables.train[:2]], torch.rand(5, 256)]
    )
    score = metrics.hangul_score(mixed, syllables)
    assert (score.legible, score.distinct, score.held_out) == (0.5, 3, 3 / 5)
    assert score.repeats == pytest.approx(11172 * 3 / 10)  # three of the ten pairs are equal
    nothing = metrics.hangul_score(torch.rand(20, 256), syllables)
    assert (nothing.legible, nothing.distinct) == (0, 0)
    assert all(math.isnan(value) for value in (nothing.held_out, nothing.repeats, nothing.letters))


@pytest.mark.parametrize(("n", "held_out"), [(0, 0), (12, 0), (40, 7)])
def test_the_error_of_the_held_out_share_is_the_deviation_of_its_posterior(syllables, n, held_out):
    rows = torch.cat([syllables.held_out[:held_out], syllables.train[: n - held_out]])
    x = torch.cat([syllables.x[rows], torch.rand(1, 256)])  # noise, so that no set is empty
    score = metrics.hangul_score(x, syllables)
    assert score.held_out_error == pytest.approx(scipy.stats.beta(held_out + 1, n - held_out + 1).std())


def test_repeats_and_letters_are_unbiased(syllables):
    """Few draws at a time from a few syllables alike: both means are known, and what chance adds would show."""
    kept = torch.tensor([place(syllable) for syllable in "가각간나낙난다닥단"])
    few = Hangul(syllables.x[kept], syllables.labels[kept], torch.arange(8), torch.tensor([8]))
    scores = [metrics.hangul_score(few.x[torch.randint(9, (30,))], few) for _ in range(300)]
    for name, truth, wrong in (
        ("repeats", 1, 1 + 8 / 30),  # equal pairs counted with those of a draw and itself
        ("letters", math.log(19 / 3) + math.log(21) + math.log(28 / 3), None),  # 3, 1 and 3 kinds of letters occur
    ):
        mean, error = metrics.mean_and_error([getattr(score, name) for score in scores])
        assert abs(mean - truth) < 4 * error
        assert wrong is None or abs(mean - wrong) > 8 * error
    raw = [score.letters + 4 / (2 * 30) for score in scores]  # with the bias left in
    mean, error = metrics.mean_and_error(raw)
    assert abs(mean - math.log(19 * 21 * 28 / 9)) > 8 * error


@pytest.mark.slow
def test_half_of_the_syllables_repeat_twice_as_often(syllables):
    rows = torch.randint(11172 // 2, (4000,))
    score = metrics.hangul_score(syllables.x[rows], syllables)
    assert score.repeats == pytest.approx(2, abs=4 * 2 / math.sqrt(4000**2 / 2 / 5586))  # Poisson: 1432 equal pairs
    assert score.distinct == len(rows.unique())


def test_letters_right_counts_each_place(syllables):
    x = torch.stack([syllables.x[place(syllable)] for syllable in "한한글"]) + 0.01 * torch.randn(3, 256)
    asked = torch.tensor([decompose("한"), decompose("할"), (-1, *decompose("한")[1:])])
    right = metrics.letters_right(x.unflatten(1, (1, 16, 16)), asked, syllables)
    assert right.tolist() == [[True, True, True], [True, True, False], [True, False, False]]
    assert metrics.letters_right(x, decompose("한"), syllables).tolist() == [[True] * 3] * 2 + [[False] * 3]
    with pytest.raises(ValueError, match="labels has 19 in column 0"):
        metrics.letters_right(x, (19, 0, 0), syllables)


@pytest.mark.slow
def test_letter_features_are_the_posterior_of_the_letters(monkeypatch, syllables):
    """Against sums over all syllables in float64, a sample at a time."""
    images = syllables.x.double().numpy()
    spacing = np.median(2 * 16 * metrics.legible_radius(syllables.x).numpy())
    x = torch.cat([syllables.x[:3] + 0.04 * torch.randn(3, 256), syllables.x[5:7].lerp(syllables.x[6:8], 0.5)])
    expected = np.zeros((5, 68))
    for features, sample in zip(expected, x.double().numpy(), strict=True):
        weights = np.exp(-8 * ((images - sample) ** 2).sum(1) / spacing**2)
        weights /= weights.sum() + math.exp(-32)
        places = zip(syllables.labels.T.numpy(), (19, 21, 28), strict=True)
        features[:] = np.concatenate([np.bincount(letters, weights, kinds) for letters, kinds in places])
    assert np.allclose(metrics.letter_features(x, syllables), expected, atol=1e-3)
    monkeypatch.setattr(metrics, "_TABLE", 30_000)  # two rows at a time
    assert np.allclose(metrics.letter_features(x, syllables), expected, atol=1e-3)
    assert metrics.letter_features(x.double(), syllables).dtype == torch.float64


def test_letter_features_mark_letters_near_a_syllable_and_nothing_far_from_all(syllables):
    rows = torch.arange(0, 11172, 500)
    i, v, f = syllables.labels[rows].T
    marks = torch.zeros(len(rows), 68)
    for column in (i, 19 + v, 40 + f):
        marks[torch.arange(len(rows)), column] = 1
    features = metrics.letter_features(syllables.x[rows], syllables)
    assert (features - marks).abs().mean() < 0.01
    assert metrics.letter_features(torch.rand(20, 256), syllables).max() < 1e-6
    same = metrics.frechet_distance(features, marks)
    nothing = metrics.frechet_distance(torch.zeros(len(rows), 68), marks)
    assert same < 0.1
    assert nothing == pytest.approx(3, rel=0.05)  # E|φ|² = 3, up to m − 1 for m in the covariance


def test_factor_widens_what_is_legible(syllables):
    radius = metrics.legible_radius(syllables.x, torch.arange(200))
    step = torch.ones(256) * 1.5  # one and a half radii away from each image, all in one direction
    x = syllables.x[:200] + radius[:, None] * step
    assert metrics.hangul_score(x, syllables).legible < 0.1
    assert metrics.hangul_score(x, syllables, factor=1.6).legible > 0.9


# --- mixtures in the plane -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "modes", "std"), [(ring, ring_modes(), 0.01), (grid, grid_modes(), 0.05)])
def test_mode_score_of_the_truth(draw, modes, std):
    n = 10_000
    score = metrics.mode_score(draw(n), modes, std)
    assert score.captured == len(modes)
    good = 1 - math.exp(-9 / 2)  # chi-squared with two degrees of freedom, at 3²
    assert abs(score.high_quality - good) < 4 * math.sqrt(good * (1 - good) / n)
    # 2 n KL is asymptotically chi-squared with k − 1 degrees of freedom
    degrees = len(modes) - 1
    assert 0 < 2 * n * score.reverse_kl < degrees + 5 * math.sqrt(2 * degrees)


def test_mode_score_of_collapsed_samples():
    modes = ring_modes(8)
    x = torch.cat([modes[0].repeat(3, 1), modes[1][None]])
    score = metrics.mode_score(x, modes, 0.01)
    assert (score.captured, score.high_quality) == (2, 1)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert score.reverse_kl == pytest.approx(math.log(8) - entropy, abs=1e-12)


def test_three_standard_deviations_make_quality():
    modes = grid_modes()
    direction = torch.tensor([0.6, 0.8]) * 0.05
    inside, outside = modes + 2.99 * direction, modes + 3.01 * direction
    assert metrics.mode_score(inside, modes, 0.05) == metrics.ModeScore(25, 1.0, pytest.approx(0, abs=1e-12))
    assert metrics.mode_score(outside, modes, 0.05) == metrics.ModeScore(0, 0.0, pytest.approx(0, abs=1e-12))


# --- two samples -----------------------------------------------------------------------------------------------------


def gaussian_kernel_mean(distance: float, variance: float, h: float, d: int) -> float:
    """E k(x, y) where x − y ~ N(mean of this length, variance · I)."""
    total = h**2 + variance
    return (h**2 / total) ** (d / 2) * math.exp(-(distance**2) / (2 * total))


@pytest.mark.parametrize(("shift", "std"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)])
@pytest.mark.slow
def test_mmd_is_unbiased(shift, std):
    """Gaussians have it in closed form; few samples at a time, so that a bias of 1/n would show."""
    bandwidths, d = (0.4, 1.0, 3.0), 2
    exact = sum(
        gaussian_kernel_mean(0, 2, h, d)
        + gaussian_kernel_mean(0, 2 * std**2, h, d)
        - 2 * gaussian_kernel_mean(shift, 1 + std**2, h, d)
        for h in bandwidths
    ) / len(bandwidths)
    values = [
        metrics.mmd(torch.randn(8, d), std * torch.randn(6, d) + torch.tensor([shift, 0]), bandwidths)
        for _ in range(2000)
    ]
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / math.sqrt(2000)
    assert exact == pytest.approx(0, abs=1e-12) if (shift, std) == (0, 1) else exact > 0.005


@pytest.mark.parametrize("table", [metrics._TABLE, 64])
def test_mmd_agrees_with_loops(monkeypatch, table):
    x, y = torch.randn(9, 3), torch.randn(6, 3) + 1

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        square = (a - b).square().sum().item()
        return sum(math.exp(-square / (2 * h * h)) for h in (0.5, 2.0)) / 2

    expected = (
        np.mean([k(x[i], x[j]) for i in range(9) for j in range(9) if i != j])
        + np.mean([k(y[i], y[j]) for i in range(6) for j in range(6) if i != j])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )
    monkeypatch.setattr(metrics, "_TABLE", table)
    assert metrics.mmd(x, y, (0.5, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_the_default_bandwidths_follow_the_scale():
    x, y = torch.randn(40, 2), 2 * torch.rand(30, 2)
    distances = np.sort([(a - b).norm().item() for i, a in enumerate(y) for b in y[:i]])
    median = float(distances[(len(distances) - 1) // 2])
    value = metrics.mmd(x, y)
    assert value == pytest.approx(metrics.mmd(x, y, (median, median / 2, median / 4, median / 8)), rel=1e-4)
    assert value == pytest.approx(metrics.mmd(1000 * x, 1000 * y), rel=1e-4)
    with pytest.raises(ValueError, match="give bandwidths"):
        metrics.mmd(x, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="x must hold at least 2 samples"):
        metrics.mmd(x[:1], y)


def covered(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """The share of x inside a ball of y, by scikit-learn's neighbours."""
    radius = NearestNeighbors(n_neighbors=k).fit(y).kneighbors()[0][:, -1]
    distance, index = NearestNeighbors(n_neighbors=len(y)).fit(y).kneighbors(x)
    return (distance <= radius[index]).any(1).mean()


@pytest.mark.equation("6.3", "6.4")
@pytest.mark.parametrize("table", [metrics._TABLE, 100])
@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_agree_with_scikit_learn(monkeypatch, k, table):
    monkeypatch.setattr(metrics, "_TABLE", table)
    x, y = 0.7 * torch.randn(80, 3), torch.randn(60, 3) + 0.5
    precision, recall = metrics.precision_recall(x, y, k)
    assert precision == covered(x.double().numpy(), y.double().numpy(), k)
    assert recall == covered(y.double().numpy(), x.double().numpy(), k)
    assert precision > recall + 0.1
    assert metrics.precision_recall(y, x, k) == (recall, precision)


def test_precision_and_recall_of_sets_that_are_known():
    y = torch.arange(10.0)[:, None]  # with k = 1, balls of radius 1
    assert metrics.precision_recall(y, y, k=1) == (1, 1)
    assert metrics.precision_recall(y + 20, y, k=1) == (0, 0)
    narrow = torch.tensor([[4.2], [4.3], [4.4], [4.6]])  # 4.6 reaches down to 4.4; none reaches 4 or 5
    assert metrics.precision_recall(narrow, y, k=1) == (1, 0)
    wide = torch.arange(-30.0, 40.0, 7)[:, None]  # −30, …, −2, 5, 12, …, 33: from −37 to 40 everything is inside
    assert metrics.precision_recall(wide, y, k=1) == (0.1, 1)
    with pytest.raises(ValueError, match="x must hold at least 4 samples to have neighbours, got 3"):
        metrics.precision_recall(y[:3], y)


@pytest.mark.equation("6.6")
@pytest.mark.slow
def test_the_accuracy_of_a_classifier_is_that_of_tosses_where_both_sets_agree():
    """400 tests of two sets from one distribution: mean ½, deviation ½/√m, and p ≤ 0.05 no more often than that."""
    results = [
        metrics.classifier_test(torch.randn(100, 3), torch.randn(100, 3), LinearDiscriminantAnalysis(), seed=seed)
        for seed in range(400)
    ]
    accuracy = np.array([result.accuracy for result in results])
    assert abs(accuracy.mean() - 0.5) < 4 * 0.5 / math.sqrt(100 * 400)
    assert accuracy.std() == pytest.approx(0.5 / math.sqrt(100), rel=4 / math.sqrt(2 * 400))
    assert np.mean([result.p_value <= 0.05 for result in results]) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.equation("6.6")
def test_the_accuracy_of_a_classifier_is_the_best_one_for_two_gaussians():
    """N(0, I) and N(δ, I): the best classifier is right with probability Φ(|δ|/2)."""
    n, shift = 20_000, torch.tensor([0.6, 0.8])
    found = metrics.classifier_test(torch.randn(n, 2), torch.randn(n, 2) + shift, LinearDiscriminantAnalysis())
    best = scipy.stats.norm.cdf(0.5)
    assert abs(found.accuracy - best) < 4 * math.sqrt(best * (1 - best) / n)
    assert found.error == pytest.approx(math.sqrt(best * (1 - best) / n), rel=0.05)
    assert found.p_value < 1e-9


@pytest.mark.parametrize(("n", "m"), [(9, 30), (64, 64)])
def test_the_p_value_is_the_binomial_tail(n, m):
    x, y = torch.randn(n, 2), torch.randn(m, 2) + 0.5
    found = metrics.classifier_test(x, y, LinearDiscriminantAnalysis(), seed=3)
    unseen = 2 * (min(n, m) // 2)
    expected = scipy.stats.binomtest(round(found.accuracy * unseen), unseen, alternative="greater").pvalue
    assert found.p_value == pytest.approx(expected)
    always = metrics.classifier_test(x, y, DummyClassifier(strategy="constant", constant=1))
    assert (always.accuracy, always.p_value > 0.5) == (0.5, True)


def test_the_default_classifier_sees_what_mean_and_covariance_do_not():
    """A Gaussian and a ring with the same mean and covariance; and the same call gives the same answer."""
    gaussian, circle = torch.randn(600, 2), math.sqrt(2) * torch.nn.functional.normalize(torch.randn(600, 2))
    found = metrics.classifier_test(gaussian, circle)
    assert found.accuracy > 0.65
    assert found == metrics.classifier_test(gaussian, circle)
    assert metrics.classifier_test(gaussian, circle, LinearDiscriminantAnalysis()).accuracy < 0.6
    with pytest.raises(ValueError, match="y must hold at least 4 samples to be halved, got 3"):
        metrics.classifier_test(gaussian, circle[:3])


@pytest.mark.equation("6.8")
def test_the_error_of_a_mean_falls_with_the_root_of_the_runs():
    """The spread of the means of m runs, seen in 2000 repetitions, is the error that one repetition reports, σ/√m."""
    for m in (5, 20, 80):
        runs = 3 * torch.randn(2000, m, dtype=torch.float64)
        means, errors = np.array([metrics.mean_and_error(values) for values in runs.tolist()]).T
        assert means.std() == pytest.approx(3 / math.sqrt(m), rel=0.07)  # deviation of a deviation: 1.6 %
        assert np.square(errors).mean() == pytest.approx(9 / m, rel=0.07)
    assert metrics.mean_and_error([1, 2, 3, 6]) == (3, pytest.approx(scipy.stats.sem([1, 2, 3, 6])))
    with pytest.raises(ValueError, match="at least two runs, got 1"):
        metrics.mean_and_error([1.0])


# --- Gaussians -------------------------------------------------------------------------------------------------------


def covariance(dim: int, rank: int) -> torch.Tensor:
    factor = torch.randn(dim, rank, dtype=torch.float64)
    return factor @ factor.T


def test_frechet_of_isotropic_gaussians():
    mean = torch.arange(5.0)
    for a, b in ((1.0, 4.0), (2.0, 2.0), (0.0, 9.0), (1e-12, 1e-12), (1e8, 1e8)):
        value = metrics.gaussian_frechet(mean, a * torch.eye(5), mean + 2, b * torch.eye(5))
        assert value == pytest.approx(5 * 4 + 5 * (math.sqrt(a) - math.sqrt(b)) ** 2, rel=1e-6)


@pytest.mark.equation("6.5")
@pytest.mark.parametrize("rank", [6, 2])
def test_frechet_agrees_with_scipy_and_is_symmetric(rank):
    cov_1, cov_2 = covariance(6, 6), covariance(6, rank)
    mean_1, mean_2 = torch.randn(6), torch.randn(6)
    product = torch.from_numpy(scipy.linalg.sqrtm((cov_1 @ cov_2 + 1e-14 * torch.eye(6)).numpy()).real)
    expected = (mean_1 - mean_2).double().square().sum() + (cov_1 + cov_2 - 2 * product).trace()
    value = metrics.gaussian_frechet(mean_1, cov_1, mean_2, cov_2)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    assert value == pytest.approx(metrics.gaussian_frechet(mean_2, cov_2, mean_1, cov_1), rel=1e-6)


def test_frechet_distance_of_samples_to_a_scaled_and_shifted_copy():
    x = torch.randn(100, 4) @ torch.randn(4, 4)
    shift = torch.tensor([1.0, -2, 0, 3])
    mean, variance = x.double().mean(dim=0), x.double().var(dim=0)
    for scale in (1.0, 0.5, 3.0):  # the optimal transport is x → scale x + shift
        expected = ((scale - 1) * mean + shift).square().sum() + (scale - 1) ** 2 * variance.sum()
        assert metrics.frechet_distance(x, scale * x + shift) == pytest.approx(expected.item(), rel=1e-5)
    assert abs(metrics.frechet_distance(x, x)) < 1e-9


def test_frechet_distance_of_single_numbers_is_that_of_means_and_deviations():
    """One column: (m₁ − m₂)² + (s₁ − s₂)²."""
    x, y = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    assert metrics.frechet_distance(x, y) == pytest.approx((2 - 1) ** 2, rel=1e-6)


@pytest.mark.slow
def test_frechet_distance_of_a_set_to_itself_is_never_negative():
    """50 images of 784 pixels: the difference of traces comes out at −0.9 for pixels from 0 to 255."""
    x = (255 * torch.rand(50, 784)).round()
    spread = x.double().var(dim=0).sum().item()
    assert 0 <= metrics.frechet_distance(x, x) < 1e-9 * spread
    assert metrics.frechet_distance(x, x.flip(1)) > 0.1 * spread  # and the test can see that two sets differ


def test_frechet_distance_with_fewer_samples_than_dimensions():
    x = torch.randn(5, 40)
    assert abs(metrics.frechet_distance(x, x)) < 1e-5
    assert metrics.frechet_distance(x, x + 1) == pytest.approx(40, rel=1e-5)


# --- dtypes and devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_may_be_of_another_dtype_and_device_than_the_data(syllables, device, dtype):
    x = syllables.x[::50].to(device, dtype)
    score = metrics.hangul_score(x, syllables)
    assert (score.legible, score.distinct) == (1, len(x))
    assert metrics.letters_right(x, syllables.labels[::50], syllables).all()
    assert metrics.letter_features(x, syllables).device == x.device
    assert metrics.precision_recall(x, x) == (1, 1)
    assert 0 <= metrics.classifier_test(x, x.flip(0)).accuracy <= 1
    points = grid(100, generator=torch.Generator().manual_seed(0))
    assert metrics.mode_score(points.to(device, dtype), grid_modes(), 0.05).high_quality > 0.9


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.rand(256), r"x must have shape \((rows, columns|n, …)\)"),
        (torch.rand(0, 256), "x is empty"),
        (torch.rand(2, 16, 17), r"x must have (256 columns, not shape \(2, 272\)|shape \(rows, columns\))"),
        (torch.rand(3, 784), r"x must have \d+ columns"),
    ],
)
def test_samples_of_a_wrong_shape(syllables, x, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.hangul_score(x, syllables)
    with pytest.raises(ValueError, match=reason):
        metrics.mode_score(x, ring_modes(), 0.01)
    with pytest.raises(ValueError, match=reason):
        metrics.frechet_distance(x, syllables.x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "measure", [metrics.precision_recall, metrics.mmd, metrics.frechet_distance, metrics.classifier_test]
)
def test_rows_that_are_not_finite(measure, value):
    x, y = torch.randn(20, 2), torch.randn(20, 2)
    x[3, 1] = value
    for name, pair in (("x", (x, y)), ("y", (y, x))):
        with pytest.raises(ValueError, match=f"{name} has entries that are NaN or infinite: remove those rows"):
            measure(*pair)


def test_single_samples_that_are_not_finite(syllables):
    x = torch.full((3, 256), math.nan)
    for measure in (
        lambda: metrics.hangul_score(x, syllables),
        lambda: metrics.mode_score(x[:, :2], ring_modes(), 0.01),
        lambda: metrics.wasserstein_1d(x[0], x[0]),
    ):
        with pytest.raises(ValueError, match="x has entries that are NaN or infinite"):
            measure()


@pytest.mark.parametrize("x", [torch.zeros(3, 256, dtype=torch.uint8), np.zeros((3, 256))])
def test_samples_of_a_wrong_type(syllables, x):
    with pytest.raises(TypeError, match=r"x must be (float32 or float64|a torch.Tensor)"):
        metrics.hangul_score(x, syllables)


def test_images_may_have_any_event_shape(syllables):
    x = (syllables.x[::500] + 0.02 * torch.randn(23, 256)).clamp(0, 1)
    y = syllables.x[1::500][:20]
    for shape in ((16, 16), (1, 16, 16)):
        a, b = x.unflatten(1, shape), y.unflatten(1, shape)
        assert metrics.hangul_score(a, syllables) == metrics.hangul_score(x, syllables)
        assert metrics.frechet_distance(a, b) == metrics.frechet_distance(x, y)
        assert metrics.mmd(a, b) == metrics.mmd(x, y)
        index, distance = metrics.nearest_syllable(a, syllables.x.unflatten(1, shape))
        expected = metrics.nearest_syllable(x, syllables.x)
        assert torch.equal(index, expected[0])
        assert torch.equal(distance, expected[1])
        assert torch.equal(metrics.legible_radius(b), metrics.legible_radius(y))


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="y must hold at least 2 samples"):
        metrics.frechet_distance(torch.rand(5, 3), torch.rand(1, 3))


# --- points on a line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(40, 40), (7, 50), (1, 1)])
def test_wasserstein_1d_agrees_with_scipy(n, m):
    x, y = torch.randn(n), 3 * torch.randn(m) + 1
    expected = scipy.stats.wasserstein_distance(x.double(), y.double())
    assert metrics.wasserstein_1d(x, y) == pytest.approx(expected, rel=1e-6)
    assert metrics.wasserstein_1d(y, x) == metrics.wasserstein_1d(x, y)
    assert metrics.wasserstein_1d(x, x.flip(0)) == 0
    assert metrics.wasserstein_1d(x, x + 2) == pytest.approx(2, rel=1e-6)


def test_wasserstein_1d_is_the_mean_distance_of_equal_ranks():
    x, y = torch.rand(100, dtype=torch.float64), torch.rand(100, dtype=torch.float64).round(decimals=1)
    assert metrics.wasserstein_1d(x, y) == pytest.approx((x.sort().values - y.sort().values).abs().mean().item())


def test_wasserstein_1d_refuses_points_of_a_plane():
    with pytest.raises(ValueError, match=r"y must have shape \(n,\)"):
        metrics.wasserstein_1d(torch.rand(3), torch.rand(3, 2))
