"""The formulas that chapter 6 adds, each against something that does not use it, and its figures."""

from __future__ import annotations

import itertools
import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.patches import Rectangle
from scipy import integrate
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn.functional import avg_pool2d

from companion.data import Hangul, hangul
from companion.diffusion import SCHEDULES, Diffusion, GaussianDenoiser
from companion.metrics import hangul_score, precision_recall
from companion.plots import comparison as figures
from companion.ppca import PPCA


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# Diffusion of Gaussian data is PPCA


@pytest.mark.equation("6.1")
@pytest.mark.parametrize("schedule", ["cosine", "straight", "linear"])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_best_prediction_is_the_posterior_mean_of_ppca(schedule: str, t: float) -> None:
    """Conditioning the joint Gaussian of (x_0, x_t), without W and M, against PPCA's own reconstruction."""
    W, mu, x_t = normal(5, 2, seed=1), normal(5, seed=2), normal(4, 5, seed=3)
    time = torch.tensor(t).double()
    alpha, sigma = SCHEDULES[schedule].alpha(time), SCHEDULES[schedule].sigma(time)
    C = W @ W.T
    joint = torch.linalg.inv(alpha**2 * C + sigma**2 * torch.eye(5).double())
    expected = mu + (x_t - alpha * mu) @ (alpha * C @ joint).T

    snr = SCHEDULES[schedule].snr(time)
    M = W.T @ W + torch.eye(2).double() / snr
    formula = mu + (x_t / alpha - mu) @ (W @ torch.linalg.inv(M) @ W.T).T
    assert torch.allclose(formula, expected, atol=1e-9)
    assert torch.allclose(PPCA(W, mu, 1 / snr).reconstruct(x_t / alpha), expected, atol=1e-9)
    model = Diffusion(GaussianDenoiser(mu, C, schedule), 5, schedule, "data")
    assert torch.allclose(model.predict(x_t, t)[0], expected, atol=1e-9)


@pytest.mark.equation("6.1")
def test_it_is_the_best_linear_prediction_for_other_data_too() -> None:
    """Least squares on data that are no Gaussian finds the same line, up to the noise of 400,000 draws."""
    n, t = 400_000, 0.4
    sign = 2.0 * (torch.rand(n, 1, generator=torch.Generator().manual_seed(4)) < 0.3) - 1
    W, mu = torch.tensor([[1.0], [0.5]]).double(), torch.tensor([0.2, -0.1]).double()
    z = (sign.double() + 0.4) / math.sqrt(1 - 0.4**2)  # mean 0, variance 1
    x_0 = mu + z @ W.T
    x_t = (1 - t) * x_0 + t * normal(n, 2, seed=5)
    known = torch.cat([x_t, torch.ones(n, 1).double()], 1)
    slope = torch.linalg.lstsq(known, x_0).solution
    M = W.T @ W + (t / (1 - t)) ** 2
    gain = W @ torch.linalg.inv(M) @ W.T / (1 - t)
    assert torch.allclose(slope[:2], gain.T, atol=5e-3)


# Bars and their integral


def bars(lam: Tensor, snr: Tensor) -> float:
    """The first line of (6.2) for times whose SNR falls."""
    return sum(
        ((before - after) / 2 * (lam / (1 + lam * after)).sum()).item() for before, after in itertools.pairwise(snr)
    )


@pytest.mark.equation("6.2")
def test_a_long_chain_spends_the_mutual_information() -> None:
    """The limit by quadrature of the density's own entropy; the bars by the error that samples of x_t show."""
    lam, first = torch.tensor([3.0, 0.5]).double(), 4.0
    limit = 0.0
    for value in lam.tolist():  # I(x_0; x_t) = h(x_t) − h(noise), with √SNR x_0 + ε
        marginal = Normal(0.0, math.sqrt(1 + first * value))
        entropy, _ = integrate.quad(
            lambda x, p=marginal: -p.log_prob(torch.tensor(x)).exp().item() * p.log_prob(torch.tensor(x)).item(),
            -30,
            30,
            limit=200,
        )
        limit += entropy - 0.5 * math.log(2 * math.pi * math.e)
    spent = [bars(lam, torch.linspace(first, 0, T).double()) for T in (2, 20, 2000, 20_000)]
    assert all(a > b for a, b in itertools.pairwise(spent))
    assert all(value > limit for value in spent)
    assert spent[-1] == pytest.approx(limit, abs=1e-3)
    assert spent[0] == pytest.approx(0.5 * first * lam.sum().item())


@pytest.mark.equation("6.2")
def test_the_bars_are_the_divergences_of_the_packages_bound() -> None:
    """The mean KL of the steps that `Diffusion.elbo_terms` estimates from samples, for Gaussian data."""
    lam = torch.tensor([1.5, 0.2]).double()
    model = Diffusion(
        GaussianDenoiser(torch.zeros(2).double(), lam.diag(), "straight"), 2, "straight", "data", resolution=0.5
    )
    x = normal(40_000, 2, seed=6) * lam.sqrt()
    _, kl, _ = model.elbo_terms(x, 8, generator=torch.Generator().manual_seed(7))
    times = model.schedule.time(torch.linspace(*model._log_snr_range(), 8).double())
    times[-1] = 1
    expected = bars(lam, model.schedule.snr(times))
    total = kl.sum(1)
    assert abs(total.mean() - expected) < 4 * total.std() / math.sqrt(len(x))


def test_the_numbers_worked_by_hand() -> None:
    one = torch.ones(1).double()
    assert bars(one, torch.tensor([4.0, 0.0])) == 2
    assert bars(one, torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])) == pytest.approx(1.04, abs=0.005)
    assert 0.5 * math.log(5) == pytest.approx(0.80, abs=0.005)


# A learnt prior


@pytest.mark.equation("6.9")
def test_a_learnt_prior_raises_the_bound_by_what_it_takes_from_the_gap() -> None:
    """Both divergences by quadrature on a line; the bound with either prior from samples of q(z | x)."""
    m, s = torch.tensor([-1.5, -0.2, 1.0, 1.4]).double(), torch.tensor([0.3, 0.5, 0.2, 0.4]).double()
    prior, learnt = Normal(0.0, 1.0), Normal(0.3, 1.4)
    z = torch.linspace(-12, 12, 48_001).double()
    log_q = Normal(m, s).log_prob(z[:, None]).logsumexp(1) - math.log(4)
    gaps = [torch.trapezoid(log_q.exp() * (log_q - p.log_prob(z)), z) for p in (prior, learnt)]

    draws = m + s * normal(200_000, 4, seed=8)
    kl = [
        Normal(m, s).log_prob(draws) - p.log_prob(draws) for p in (prior, learnt)
    ]  # minus the bound, but for E log p(x|z)
    change = (kl[0] - kl[1]).mean(1)
    assert abs(change.mean() - (gaps[0] - gaps[1])) < 4 * change.std() / math.sqrt(len(change))
    assert gaps[0] - gaps[1] > 0.02


@pytest.mark.equation("6.9")
def test_only_the_aggregate_posterior_itself_closes_the_gap() -> None:
    m, s = torch.tensor([-1.0, 0.5, 2.0]).double(), torch.tensor([0.3, 0.3, 0.6]).double()
    q = MixtureSameFamily(Categorical(torch.ones(3).double()), Normal(m, s))
    z = torch.linspace(-8, 10, 20_001).double()
    density = q.log_prob(z).exp()
    gap = [
        torch.trapezoid(density * (q.log_prob(z) - p.log_prob(z)), z).item()
        for p in (Normal(0.0, 1.0), Normal(0.5, 1.3), q)
    ]
    assert gap[0] > gap[1] > gap[2] == 0


# The best classifier


@pytest.mark.equation("6.7")
def test_no_classifier_of_six_values_does_better_than_half_of_one_and_the_total_variation() -> None:
    """All 2⁶ classifiers, one by one."""
    p, q = normal(6, seed=9).softmax(0), (2 * normal(6, seed=10)).softmax(0)
    right = [
        sum((p if choice else q)[i].item() for i, choice in enumerate(choices)) / 2
        for choices in itertools.product((False, True), repeat=6)
    ]
    total_variation = 0.5 * (p - q).abs().sum().item()
    assert max(right) == pytest.approx(0.5 + 0.5 * total_variation)
    assert max(right) == pytest.approx(0.5 * torch.maximum(p, q).sum().item())
    assert min(right) == pytest.approx(0.5 - 0.5 * total_variation)


def test_half_of_four_syllables_can_be_told_in_three_cases_of_four() -> None:
    p, q = torch.full((4,), 0.25), torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert 0.5 * torch.maximum(p, q).sum() == 0.75


# What chapter 6 says of its measures without a cell of its own


@pytest.fixture(scope="module")
def sets() -> tuple[Hangul, Tensor, Tensor, Tensor]:
    """Hangul; 600 training syllables, 600 others, and 600 draws from the Gaussian with their mean and covariance."""
    h = hangul(16)
    train = h.x[h.train]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(11))
    covariance = train.T.cov() + 1e-4 * torch.eye(256)
    scattered = train.mean(0) + normal(600, 256, seed=12).float() @ torch.linalg.cholesky(covariance).T
    return h, train[order[:600]], train[order[600:1200]], scattered


def test_scattered_samples_owe_their_recall_to_the_size_of_their_balls(sets) -> None:
    _, truth, others, scattered = sets
    own, usual = (torch.cdist(x, x).kthvalue(4, 1).values for x in (scattered, others))
    distance = torch.cdist(truth, scattered)
    recall = [(distance <= radius).any(1).double().mean() for radius in (own, own * usual.median() / own.median())]
    assert precision_recall(scattered, truth)[1] == pytest.approx(recall[0].item(), abs=0.01)
    assert recall[0] > 0.6
    assert recall[1] < 0.05


def test_a_damaged_memoriser_is_not_taken_for_a_model_that_composes(sets) -> None:
    """Training syllables blurred, or with noise: few of those still legible count as held out, though `factor` is 3."""
    h, _, others, _ = sets
    blurred = avg_pool2d(others.view(-1, 1, 16, 16), 3, 1, 1).flatten(1)
    for damaged in (0.4 * others + 0.6 * blurred, others + 0.15 * normal(600, 256, seed=13).float()):
        score = hangul_score(damaged, h, factor=3)
        assert 0.3 < score.legible < 0.7
        assert score.held_out < 0.04


def test_a_syllable_shifted_by_a_pixel_is_not_legible(sets) -> None:
    h, _, others, _ = sets
    shifted = others.view(-1, 16, 16).roll(1, 2).flatten(1)
    assert hangul_score(shifted, h, factor=3).legible < 0.02


# Figures


def test_the_bars_reach_the_curve_from_above() -> None:
    figure = figures.instalments(1.0, 4.0, [1, 4])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["$T=2$:  2.00 nat", "$T=5$:  1.04 nat"]
    assert [sum(isinstance(patch, Rectangle) for patch in axis.patches) for axis in figure.axes] == [1, 4]
    plt.close(figure)


def test_a_line_shows_every_sample_and_the_balls() -> None:
    figure = figures.on_a_line([-3.0, 3.0], {"$A$": [0.0, 0.0, 5.0], "$B$": [3.0, 3.5]}, 1.0)
    drawn = [axis.lines[0].get_xdata() for axis in figure.axes]
    assert [list(each) for each in drawn] == [[-3, 3], [0, 0, 5], [3, 3.5]]
    assert all(len(axis.patches) == 2 for axis in figure.axes)
    assert len(set(figure.axes[1].lines[0].get_ydata()[:2])) == 2  # equal samples lie side by side
    plt.close(figure)


def test_priors_and_measures_show_what_they_are_given() -> None:
    figure = figures.priors(["$p$", "$q$"], [-27.0, 12.0], [-26.0, -66.0])
    (axis,) = figure.axes
    assert [patch.get_height() for patch in axis.patches] == [-27, 12, -26, -66]
    plt.close(figure)
    figure = figures.measured(["a", "b"], {"legible": ([0.1, 0.4], [0.01, 0.02])}, {"legible": 1.0})
    (axis,) = figure.axes
    assert list(axis.lines[0].get_xdata()) == [0.1, 0.4]
    bars_drawn = axis.collections[0].get_segments()
    assert bars_drawn[1][:, 0].tolist() == pytest.approx([0.36, 0.44])  # two standard errors to either side
    plt.close(figure)
