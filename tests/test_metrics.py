from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.neighbors import NearestNeighbors

from companion import metrics
from companion.data import Hangul, grid, grid_modes, hangul, ring, ring_modes


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
    assert first == metrics.HangulScore(1.0, 3000, (syllables.held_out < 3000).sum().item() / 3000)
    memorised = syllables.x[syllables.train[torch.randint(len(syllables.train), (500,))]]
    assert metrics.hangul_score(memorised, syllables).held_out == 0
    mixed = torch.cat(
        [syllables.x[syllables.held_out[:1]].repeat(3, 1), syllables.x[syllables.train[:2]], torch.rand(5, 256)]
    )
    assert metrics.hangul_score(mixed, syllables) == metrics.HangulScore(legible=0.5, distinct=3, held_out=3 / 5)
    nothing = metrics.hangul_score(torch.rand(20, 256), syllables)
    assert (nothing.legible, nothing.distinct) == (0, 0)
    assert math.isnan(nothing.held_out)


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
    with pytest.raises(ValueError, match="x must hold at least two samples"):
        metrics.mmd(x[:1], y)


# --- Gaussians -------------------------------------------------------------------------------------------------------


def covariance(dim: int, rank: int) -> torch.Tensor:
    factor = torch.randn(dim, rank, dtype=torch.float64)
    return factor @ factor.T


def test_frechet_of_isotropic_gaussians():
    mean = torch.arange(5.0)
    for a, b in ((1.0, 4.0), (2.0, 2.0), (0.0, 9.0), (1e-12, 1e-12), (1e8, 1e8)):
        value = metrics.gaussian_frechet(mean, a * torch.eye(5), mean + 2, b * torch.eye(5))
        assert value == pytest.approx(5 * 4 + 5 * (math.sqrt(a) - math.sqrt(b)) ** 2, rel=1e-6)


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
    with pytest.raises(ValueError, match="y must hold at least two samples"):
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
