"""Chapter 1: the models against quadrature and other libraries, and every numbered formula of the chapter."""

from __future__ import annotations

import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from scipy import integrate, stats
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal, kl_divergence

from companion import plots
from companion.data import decompose, hangul
from companion.latent import Estimate, GaussianMixture, NonlinearGaussian, PrototypeMixture, importance, monte_carlo
from companion.plots import latent
from companion.ppca import PPCA
from companion.widgets.latent import LatentWidget

X = torch.linspace(-4, 4, 9, dtype=torch.float64)
MODELS = [NonlinearGaussian(b, sigma) for b in (0.0, 0.5, 1.0, 2.0) for sigma in (0.05, 0.3, 1.0)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
EDGES = np.linspace(-25, 25, 1001)
Z = (EDGES[:-1, None] + (NODES + 1) / 2 * np.diff(EDGES)[:, None]).ravel()
DZ = (WEIGHTS / 2 * np.diff(EDGES)[:, None]).ravel()


def gauss(x: np.ndarray | float, mean: np.ndarray | float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


def quadrature(model: NonlinearGaussian, x: float, power: int = 1, moment: int = 0) -> float:
    """∫ z^moment p(z) p(x | z)^power dz by Gauss and Legendre's rule in 1,000 panels, from the definition (1.11)."""
    likelihood = gauss(x, Z + model.b * np.sin(3 * Z), model.sigma)
    return float(np.sum(DZ * Z**moment * gauss(Z, 0, 1) * likelihood**power))


def within(sample: torch.Tensor, truth: float, errors: float = 4.0) -> bool:
    """Whether the sample's mean lies within so many standard errors, which are small, of the truth."""
    error = sample.std().item() / math.sqrt(len(sample))
    return abs(sample.mean().item() - truth) < errors * error < 0.2 * (1 + abs(truth))


def mixture(K: int = 3, d: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    g = seeded(seed)
    A = torch.randn(K, d, d, generator=g, dtype=dtype)
    pi = torch.rand(K, generator=g, dtype=dtype) + 0.2
    mu = 2 * torch.randn(K, d, generator=g, dtype=dtype)
    return GaussianMixture(pi / pi.sum(), mu, A @ A.mT + 0.3 * torch.eye(d, dtype=dtype))


# What it means to learn p(x)


@pytest.mark.equation("1.1")
@pytest.mark.equation("1.4")
def test_the_gaussian_of_greatest_log_likelihood_has_the_datas_moments() -> None:
    x = MODELS[7].sample(5000, generator=seeded()).double()
    m, log_s = torch.zeros((), dtype=x.dtype, requires_grad=True), torch.zeros((), dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [m, log_s], max_iter=100, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -Normal(m, log_s.exp()).log_prob(x).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert m.item() == pytest.approx(x.mean().item(), abs=1e-5)
    assert (2 * log_s).exp().item() == pytest.approx(x.var(correction=0).item(), abs=1e-5)


@pytest.mark.equation("1.2")
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=8))
@settings(max_examples=50, deadline=None)
def test_kl_is_never_negative_and_zero_only_between_equals(pairs: list[tuple[float, float]]) -> None:
    p, q = (Categorical(torch.tensor(side, dtype=torch.float64)) for side in zip(*pairs, strict=True))
    kl = kl_divergence(p, q).item()
    assert kl == pytest.approx(stats.entropy(p.probs, q.probs), abs=1e-12)
    assert kl >= 0.5 * (p.probs - q.probs).abs().sum().item() ** 2 - 1e-12  # Pinsker: zero only where p = q


def test_the_divergences_of_two_coins_worked_by_hand() -> None:
    p, q = [0.5, 0.5], [0.99, 0.01]
    assert (round(stats.entropy(p, q), 3), round(stats.entropy(q, p), 3)) == (1.614, 0.637)


@pytest.mark.equation("1.3")
@pytest.mark.parametrize("s", [0.7, 1.3, 2.5])
def test_expected_log_likelihood_is_minus_entropy_minus_kl(s: float) -> None:
    p = MODELS[7]
    x = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    density, log_q = p.log_prob(x).exp(), Normal(0.2, s).log_prob(x)
    minus_entropy = integrate.simpson(torch.xlogy(density, density).numpy(), x=x.numpy())
    kl = integrate.simpson((density * (p.log_prob(x) - log_q)).numpy(), x=x.numpy())
    sample = Normal(0.2, s).log_prob(p.sample(50_000, generator=seeded()))
    assert within(sample, minus_entropy - kl)


# Latent variables


@pytest.mark.equation("1.5")
@pytest.mark.equation("1.11")
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_log_prob_is_the_integral(model: NonlinearGaussian) -> None:
    x = torch.tensor([-2.7, 0.0, 0.4, 1.9], dtype=torch.float64)
    truth = [math.log(quadrature(model, value)) for value in x.tolist()]
    assert model.log_prob(x).tolist() == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0])
def test_without_the_fold_the_marginal_is_gaussian(sigma: float) -> None:
    x = torch.tensor([-30.0, -3.0, 0.0, 0.5, 12.0], dtype=torch.float64)
    truth = Normal(0.0, torch.tensor(1 + sigma**2, dtype=torch.float64).sqrt()).log_prob(x)
    torch.testing.assert_close(NonlinearGaussian(0.0, sigma).log_prob(x), truth, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_the_marginal_integrates_to_one_and_float32_agrees() -> None:
    x = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    for model in MODELS[1::3]:
        assert torch.trapezoid(model.log_prob(x).exp(), x).item() == pytest.approx(1, abs=1e-9)
        torch.testing.assert_close(model.log_prob(X.float()).double(), model.log_prob(X), rtol=2e-4, atol=2e-4)


@pytest.mark.equation("1.6")
@pytest.mark.equation("1.22")
def test_the_mixtures_marginal_is_the_sum_over_z() -> None:
    for d in (1, 2, 5):
        model = mixture(4, d)
        x = 3 * torch.randn(50, d, generator=seeded(1), dtype=torch.float64)
        truth = sum(
            pi * stats.multivariate_normal(mu, S).pdf(x.numpy())
            for pi, mu, S in zip(model.pi.numpy(), model.mu.numpy(), model.Sigma.numpy(), strict=True)
        )
        np.testing.assert_allclose(model.log_prob(x).exp().numpy(), truth, rtol=1e-10)
        torch.testing.assert_close(model.marginal().log_prob(x), model.log_prob(x))
    box = torch.linspace(-15, 15, 601, dtype=torch.float64)
    density = mixture().log_prob(torch.cartesian_prod(box, box)).exp().sum() * (box[1] - box[0]) ** 2
    assert density.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.equation("1.7")
def test_prototypes_are_a_mixture_with_equal_spheres() -> None:
    g = torch.rand(6, 4, generator=seeded(), dtype=torch.float64)
    model = PrototypeMixture(g, 0.4)
    truth = GaussianMixture(torch.full((6,), 1 / 6).double(), g, 0.16 * torch.eye(4).double().expand(6, 4, 4))
    x = torch.randn(20, 4, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(model.log_joint(x), truth.log_joint(x))
    torch.testing.assert_close(model.log_prob(x), truth.marginal().log_prob(x))
    by_hand = stats.norm.logpdf(x[:6], g, 0.4).sum(1)
    np.testing.assert_allclose(model.likelihood(torch.arange(6)).log_prob(x[:6]), by_hand)
    assert 19 * 21 * 28 == 11172


@pytest.mark.equation("1.8")
@pytest.mark.parametrize("model", MODELS[1::3], ids=str)
def test_ancestral_samples_follow_the_marginal(model: NonlinearGaussian) -> None:
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(model.log_prob(x).exp(), x)
    sample = model.sample(20_000, generator=seeded())
    test = stats.kstest(sample.numpy(), lambda v: np.interp(v, x[1:].numpy(), cdf.numpy()))
    assert test.pvalue > 1e-3
    wrong = stats.kstest(sample.numpy() * 1.03, lambda v: np.interp(v, x[1:].numpy(), cdf.numpy()))
    assert wrong.pvalue < 0.05 or model.sigma == 1.0


@pytest.mark.equation("1.8")
@pytest.mark.parametrize("model", MODELS[1::3], ids=str)
def test_ancestral_pairs_follow_the_joint(model: NonlinearGaussian) -> None:
    z, x = model.sample_joint(20_000, generator=seeded())
    noise = (x - z - model.b * torch.sin(3 * z)) / model.sigma
    for sample in (z, noise):
        assert stats.kstest(sample.numpy(), "norm").pvalue > 1e-3
    for product in (z * noise, z**2 * noise, z * noise**2, torch.sin(3 * z) * noise):
        assert within(product, 0.0)


@pytest.mark.equation("1.8")
def test_a_mixtures_samples_have_its_moments_and_labels() -> None:
    model = mixture(3, 2)
    z, x = model.sample_joint(40_000, generator=seeded())
    expected = stats.chisquare(torch.bincount(z, minlength=3).numpy(), (model.pi * len(z)).numpy())
    assert expected.pvalue > 1e-3
    for c in range(3):
        for j in range(2):
            assert within(x[z == c, j], model.mu[c, j].item())
    mean = model.pi @ model.mu
    within_covariance = (model.pi[:, None, None] * model.Sigma).sum(0)
    between = (model.pi[:, None] * (model.mu - mean)).T @ (model.mu - mean)
    torch.testing.assert_close(x.T.cov(), within_covariance + between, rtol=0.05, atol=0.1)


@pytest.mark.equation("1.9")
def test_the_posterior_is_bayes() -> None:
    model = NonlinearGaussian()
    x = torch.tensor([-0.3, 1.8], dtype=torch.float64)
    z, density = model.posterior(x)
    np.testing.assert_allclose(torch.trapezoid(density, z), 1, atol=1e-10)
    for row, value in zip(density, x.tolist(), strict=True):
        for power in (1, 2):
            truth = quadrature(model, value, moment=power) / quadrature(model, value)
            assert torch.trapezoid(row * z**power, z).item() == pytest.approx(truth, abs=1e-9)
    linear = NonlinearGaussian(0.0, 0.5)
    z, density = linear.posterior(x)
    truth = Normal(x[:, None] / 1.25, math.sqrt(0.25 / 1.25)).log_prob(z).exp()
    torch.testing.assert_close(density, truth, rtol=1e-7, atol=1e-10)


@pytest.mark.equation("1.10")
def test_a_letters_posterior_matches_the_frequency_among_samples() -> None:
    g = torch.rand(2 * 3 * 2, 3, generator=seeded(), dtype=torch.float64)
    model = PrototypeMixture(g, 0.5)
    x = torch.tensor([[0.4, 0.6, 0.5]], dtype=torch.float64)
    letter = model.posterior(x).probs.view(2, 3, 2).sum((0, 2))
    z, near = model.sample_joint(2_000_000, generator=seeded(1))
    z = z[(near - x).abs().amax(1) < 0.06]  # rejection: the z of samples that fell close to x
    share = torch.bincount((z // 2) % 3, minlength=3) / len(z)
    assert ((share - letter).abs() < 4 * (letter * (1 - letter) / len(z)).sqrt() + 0.003).all()


# Estimates


@pytest.mark.equation("1.12")
def test_monte_carlo_is_unbiased() -> None:
    for model in (NonlinearGaussian(), NonlinearGaussian(0.0, 0.3)):
        for value in (0.0, 1.4):
            x = torch.full((4000,), value, dtype=torch.float64)
            estimate = monte_carlo(model, x, 5, generator=seeded())
            assert within(estimate.log_prob.exp(), quadrature(model, value))


@pytest.mark.equation("1.13")
def test_the_variance_of_monte_carlo() -> None:
    model, value, k = NonlinearGaussian(), 1.4, 5
    variance = (quadrature(model, value, power=2) - quadrature(model, value) ** 2) / k
    p = monte_carlo(model, torch.full((40_000,), value), k, generator=seeded()).log_prob.exp().double()
    assert within((p - quadrature(model, value)) ** 2, variance)


@pytest.mark.equation("1.14")
def test_the_logarithm_is_biased_low_by_half_the_relative_variance() -> None:
    model, value, k = NonlinearGaussian(), 0.5, 400
    p = quadrature(model, value)
    bias = (quadrature(model, value, power=2) / p**2 - 1) / k / 2
    gap = math.log(p) - monte_carlo(model, torch.full((20_000,), value), k, generator=seeded()).log_prob
    assert gap.mean() > 4 * gap.std() / math.sqrt(len(gap))
    assert gap.mean().item() == pytest.approx(bias, rel=0.15)
    for few in (1, 3):
        assert monte_carlo(model, torch.full((5000,), value), few, generator=seeded()).log_prob.mean() < math.log(p)


def test_more_samples_bring_the_bound_closer() -> None:
    model = NonlinearGaussian()
    log_w = model.likelihood(torch.randn(30_000, 8, generator=seeded())).log_prob(torch.tensor(1.4))
    for k in (1, 2, 4):
        gain = log_w[:, : 2 * k].logsumexp(1) - math.log(2 * k) - log_w[:, :k].logsumexp(1) + math.log(k)
        assert gain.mean() > 4 * gain.std() / math.sqrt(len(gain))


def test_a_proposal_of_less_than_half_the_posteriors_variance_has_infinite_variance() -> None:
    s2 = 0.5**2 / (1 + 0.5**2)

    def second_moment(tau2: float, reach: float) -> float:
        z = torch.linspace(-reach, reach, 20_001, dtype=torch.float64)
        log_ratio = 2 * Normal(0, math.sqrt(s2)).log_prob(z) - Normal(0, math.sqrt(tau2)).log_prob(z)
        return torch.trapezoid(log_ratio.exp(), z).item()

    assert second_moment(0.6 * s2, 6) == pytest.approx(second_moment(0.6 * s2, 12), rel=1e-6)
    assert second_moment(0.45 * s2, 12) > 1e6 * second_moment(0.45 * s2, 6)


def test_what_the_chapter_tells_the_widgets_reader_to_see() -> None:
    model, x = NonlinearGaussian(1.0, 0.3), torch.full((1000,), 3.0, dtype=torch.float64)
    z, density = model.posterior(x[:1])
    mean = torch.trapezoid(density * z, z)
    spread = torch.trapezoid(density * (z - mean) ** 2, z).sqrt()
    assert 1.3 < monte_carlo(model, x, 32, generator=seeded()).ess.median() < 2.7
    assert importance(model, x, Normal(mean, spread), 32, generator=seeded()).ess.quantile(0.3) > 10


def ratio(x: float, sigma: float) -> float:
    """E[p(x | z)²] / p(x)² in one dimension by quadrature; in d dimensions it is the product over coordinates."""
    linear = NonlinearGaussian(0.0, sigma)
    return quadrature(linear, x, power=2) / quadrature(linear, x) ** 2


@pytest.mark.equation("1.15")
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0])
def test_the_relative_second_moment_at_x(sigma: float) -> None:
    x, v = (0.3, -1.2, 2.0), sigma**2
    formula = ((1 + v) ** 2 / (v * (2 + v))) ** (len(x) / 2)
    formula *= math.exp(sum(value**2 for value in x) / ((1 + v) * (2 + v)))
    assert math.prod(ratio(value, sigma) for value in x) == pytest.approx(formula, rel=1e-9)


@pytest.mark.equation("1.16")
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_relative_second_moment_grows_exponentially_with_dimension(sigma: float) -> None:
    x = np.linspace(-22, 22, 441)
    values = [ratio(value, sigma) * gauss(value, 0, math.sqrt(1 + sigma**2)) for value in x]
    assert integrate.trapezoid(values, x) == pytest.approx(1 + 1 / sigma**2, rel=1e-6)


@pytest.mark.equation("1.16")
def test_the_same_in_four_dimensions_by_sampling() -> None:
    d, sigma = 4, 2.5  # below √3 the mean is finite but the sampling error is not
    z = torch.randn(400_000, d, generator=seeded(), dtype=torch.float64)
    x = z + sigma * torch.randn(400_000, d, generator=seeded(1), dtype=torch.float64)
    # The expectation of p(x | z)² / p(x)² under p(x) p(z) is that of p(x | z) / p(x) under p(x, z).
    log_ratio = Normal(z, sigma).log_prob(x) - Normal(0, math.sqrt(1 + sigma**2)).log_prob(x)
    assert within(log_ratio.sum(1).exp(), (1 + 1 / sigma**2) ** d)


def test_the_mean_divergence_of_posterior_and_prior_that_sets_the_number_of_samples() -> None:
    sigma, x = 0.5, torch.linspace(-12, 12, 4001, dtype=torch.float64)
    posterior = Normal(x / (1 + sigma**2), sigma / math.sqrt(1 + sigma**2))
    p_x = NonlinearGaussian(0.0, sigma).log_prob(x).exp()
    mean = torch.trapezoid(p_x * kl_divergence(posterior, Normal(0.0, 1.0)), x)
    assert mean.item() == pytest.approx(0.5 * math.log(1 + 1 / sigma**2))


@pytest.mark.equation("1.17")
def test_importance_sampling_is_unbiased_for_any_wide_proposal() -> None:
    model, value = NonlinearGaussian(), 1.4
    x = torch.full((5000,), value, dtype=torch.float64)
    for q in (Normal(0.5, 1.5), Normal(torch.zeros(5000), 2.0)):
        estimate = importance(model, x, q, 4, generator=seeded())
        assert within(estimate.log_prob.exp(), quadrature(model, value))


@pytest.mark.equation("1.18")
def test_the_variance_of_importance_sampling() -> None:
    model, value, k = NonlinearGaussian(), 1.4, 3
    p = quadrature(model, value)
    posterior = gauss(Z, 0, 1) * gauss(value, Z + np.sin(3 * Z), 0.3) / p
    near = np.abs(Z) < 8
    relative = (np.sum((DZ * posterior**2 / gauss(Z, 0.7, 1.1))[near]) - 1) / k
    x = torch.full((60_000,), value, dtype=torch.float64)
    estimate = importance(model, x, Normal(0.7, 1.1), k, generator=seeded()).log_prob.exp() / p
    assert within((estimate - 1) ** 2, relative)


def test_the_posterior_as_proposal_has_no_variance() -> None:
    x = torch.tensor([-2.0, 0.3, 1.7], dtype=torch.float64)
    model = NonlinearGaussian(0.0, 0.5)
    posterior = Normal(x / 1.25, math.sqrt(0.25 / 1.25))
    estimate = importance(model, x, posterior, 1, generator=seeded())
    truth = Normal(0, torch.tensor(1.25, dtype=torch.float64).sqrt()).log_prob(x)
    torch.testing.assert_close(estimate.log_prob, truth, rtol=1e-6, atol=1e-6)
    discrete = mixture()
    x = discrete.sample(5, generator=seeded())
    estimate = importance(discrete, x, discrete.posterior(x), 7, generator=seeded())
    torch.testing.assert_close(estimate, Estimate(discrete.log_prob(x), torch.full((5,), 7.0, dtype=x.dtype)))


@pytest.mark.slow
def test_the_estimates_take_any_model_with_a_prior_and_a_likelihood(device: torch.device) -> None:
    W = torch.tensor([[1.0, 0.2], [0.3, -0.8], [0.5, 0.4]], dtype=torch.float64, device=device)
    model = PPCA(W, torch.tensor([1.0, -1.0, 0.5]), 0.5)
    x = model.sample(200, generator=torch.Generator(device).manual_seed(1))
    ratio = (monte_carlo(model, x, 20_000, generator=seeded()).log_prob - model.log_prob(x)).exp()
    assert within(ratio.cpu(), 1)
    estimate = importance(model, x, model.posterior(x), 3, generator=seeded())
    torch.testing.assert_close(estimate, Estimate(model.log_prob(x), torch.full_like(x[:, 0], 3.0)))


def test_the_estimates_follow_x_to_its_device(device: torch.device) -> None:
    estimate = monte_carlo(NonlinearGaussian(), X.to(device), 5, generator=seeded())
    assert estimate.log_prob.device.type == estimate.ess.device.type == device.type


@pytest.mark.equation("1.19")
def test_effective_sample_size() -> None:
    model, value, k = NonlinearGaussian(), 1.4, 20_000
    estimate = monte_carlo(model, torch.tensor([value], dtype=torch.float64), k, generator=seeded())
    relative = quadrature(model, value, power=2) / quadrature(model, value) ** 2 - 1  # k times the relative variance
    assert estimate.ess.item() == pytest.approx(k / (1 + relative), rel=0.05)

    class Weights:  # a likelihood that holds the weights 4, 2, 2 and 0
        event_shape = torch.Size()

        def prior(self) -> Categorical:
            return Categorical(torch.ones(1))

        def likelihood(self, z: torch.Tensor) -> Weights:
            return self

        def log_prob(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[4.0], [2.0], [2.0], [0.0]]).log()

    estimate = monte_carlo(Weights(), torch.zeros(1), 4)
    assert estimate.ess.item() == pytest.approx(8**2 / (16 + 4 + 4))
    assert estimate.log_prob.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_observations_of_another_shape_are_refused_instead_of_broadcast(k: int) -> None:
    x = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"each x has shape \(1,\), but the model's has \(\)"):
        monte_carlo(NonlinearGaussian(), x, k)
    with pytest.raises(ValueError, match=r"each x has shape \(1,\), but the model's has \(\)"):
        importance(NonlinearGaussian(), x, Normal(0.0, 1.0), k)


def test_estimates_survive_underflow() -> None:
    model = PrototypeMixture(torch.rand(50, 256, generator=seeded()), 0.01)
    x = torch.rand(4, 256, generator=seeded(1))
    estimate = monte_carlo(model, x, 200, generator=seeded())
    assert (estimate.log_prob < -1e4).all()
    assert torch.isfinite(estimate.log_prob).all()
    assert ((estimate.ess >= 1 - 1e-4) & (estimate.ess <= 200)).all()


def test_the_generator_decides_and_the_global_state_stays() -> None:
    model = mixture()
    state = torch.get_rng_state()
    x = model.sample(10, generator=seeded(3))
    assert torch.equal(x, model.sample(10, generator=seeded(3)))
    assert not torch.equal(x, model.sample(10, generator=seeded(4)))
    g = seeded(3)
    assert not torch.equal(model.sample(10, generator=g), model.sample(10, generator=g))
    assert torch.equal(torch.get_rng_state(), state)
    model.sample(10)
    assert not torch.equal(torch.get_rng_state(), state)


# The bound


@pytest.mark.equation("1.20")
@pytest.mark.equation("1.21")
def test_log_prob_is_the_bound_plus_the_divergence() -> None:
    model = mixture(4, 3)
    x = model.sample(30, generator=seeded())
    q = Categorical(logits=torch.randn(30, 4, generator=seeded(1), dtype=torch.float64))
    posterior = Categorical(
        logits=model.pi.log()
        + torch.stack([MultivariateNormal(m, S).log_prob(x) for m, S in zip(model.mu, model.Sigma, strict=True)], 1)
    )
    torch.testing.assert_close(model.elbo(x, q) + kl_divergence(q, posterior), model.marginal().log_prob(x))
    assert (model.elbo(x, q) < model.log_prob(x)).all()
    torch.testing.assert_close(model.elbo(x, model.posterior(x)), model.log_prob(x))
    sure = Categorical(probs=torch.eye(4, dtype=torch.float64)[torch.zeros(30, dtype=torch.long)])
    torch.testing.assert_close(model.elbo(x, sure), model.log_joint(x)[:, 0])


# Mixtures and EM


@pytest.mark.equation("1.23")
def test_responsibilities_agree_with_scikit_learn() -> None:
    model = mixture(3, 2)
    x = model.sample(200, generator=seeded())
    peer = SklearnMixture(3)
    peer.weights_, peer.means_, peer.covariances_ = (t.numpy() for t in (model.pi, model.mu, model.Sigma))
    peer.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(peer.covariances_)).transpose(0, 2, 1)
    np.testing.assert_allclose(model.posterior(x).probs.numpy(), peer.predict_proba(x.numpy()), atol=1e-10)
    np.testing.assert_allclose(model.log_prob(x).numpy(), peer.score_samples(x.numpy()), atol=1e-10)


@pytest.mark.equation("1.24")
@pytest.mark.equation("1.25")
def test_the_m_step_is_where_autograd_finds_no_slope() -> None:
    x = torch.randn(60, 3, generator=seeded(), dtype=torch.float64)
    r = torch.rand(60, 4, generator=seeded(1), dtype=torch.float64).softmax(1)
    model = GaussianMixture.m_step(x, r)
    logits, mu, factor = model.pi.log(), model.mu.clone(), torch.linalg.cholesky(model.Sigma)
    for parameter in (logits, mu, factor):
        parameter.requires_grad_()

    def bound() -> torch.Tensor:
        log_pi = logits.log_softmax(0)  # π = softmax respects the constraint
        S = factor @ factor.mT
        centred = x[:, None] - mu
        square = torch.einsum("nci,cij,ncj->nc", centred, torch.linalg.inv(S), centred)
        return (r * (log_pi - 0.5 * torch.logdet(2 * math.pi * S) - 0.5 * square)).sum()

    bound().backward()
    for parameter in (logits, mu, factor):
        assert parameter.grad.abs().max() < 1e-9
    best = bound().item()
    expected = sum(
        (r[:, c] * (model.pi[c].log() + MultivariateNormal(model.mu[c], model.Sigma[c]).log_prob(x))).sum()
        for c in range(4)
    )
    assert best == pytest.approx(expected.item())
    with torch.no_grad():
        for parameter in (logits, mu, factor):
            parameter += 0.01 * torch.randn(parameter.shape, generator=seeded(2), dtype=parameter.dtype)
            assert bound().item() < best


def test_the_m_step_worked_by_hand() -> None:
    x, r = torch.tensor([[0.0], [1.0], [4.0]]).double(), torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double()
    model = GaussianMixture.m_step(x, r)
    assert [model.pi[0], model.mu[0], model.Sigma[0]] == pytest.approx([1 / 2, 1 / 3, 2 / 9])


@pytest.mark.equation("1.27")
def test_fishers_identity() -> None:
    """The gradient of log p(x) by differences of SciPy's density, against the joint's averaged over p(z | x)."""
    pi, mu = np.array([0.3, 0.7]), np.array([[0.5, -1.0], [-0.4, 0.8]])
    Sigma = np.array([[[1.0, 0.3], [0.3, 0.6]], [[0.5, -0.1], [-0.1, 0.9]]])
    x, step = np.array([0.2, 0.1]), 1e-6

    def joint(mu: np.ndarray) -> np.ndarray:
        densities = [stats.multivariate_normal(m, S).pdf(x) for m, S in zip(mu, Sigma, strict=True)]
        return pi * np.array(densities)

    def log_evidence(c: int, j: int, by: float) -> float:
        moved = mu.copy()
        moved[c, j] += by
        return math.log(joint(moved).sum())

    left = [[(log_evidence(c, j, step) - log_evidence(c, j, -step)) / (2 * step) for j in range(2)] for c in range(2)]
    model = GaussianMixture(*map(torch.tensor, (pi, mu, Sigma)))
    model.mu.requires_grad_()
    log_joint = model.log_joint(torch.tensor(x)[None])[0]
    gradients = [torch.autograd.grad(term, model.mu, retain_graph=True)[0] for term in log_joint]
    posterior = joint(mu) / joint(mu).sum()
    right = sum(r * gradient for r, gradient in zip(posterior, gradients, strict=True))
    np.testing.assert_allclose(right, left, rtol=1e-6)
    model.log_prob(torch.tensor(x)[None]).sum().backward()
    np.testing.assert_allclose(model.mu.grad, left, rtol=1e-6)


def test_without_noise_the_responsibilities_are_those_of_k_means() -> None:
    x, mu = torch.randn(40, 2, generator=seeded()).double(), torch.randn(3, 2, generator=seeded(1)).double()
    small = 1e-5 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
    r = GaussianMixture(torch.full((3,), 1 / 3).double(), mu, small).posterior(x).probs
    nearest = torch.cdist(x, mu).argmin(1)
    torch.testing.assert_close(r, torch.nn.functional.one_hot(nearest, 3).double(), rtol=0, atol=1e-6)


def test_exchanging_components_and_splitting_one_leave_the_density() -> None:
    model, x = mixture(), torch.randn(20, 2, generator=seeded()).double()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        GaussianMixture(model.pi[order], model.mu[order], model.Sigma[order]).log_prob(x), model.log_prob(x)
    )
    twice = torch.tensor([0, 0, 1, 2])
    pi = model.pi[twice] * torch.tensor([0.4, 0.6, 1.0, 1.0])
    torch.testing.assert_close(GaussianMixture(pi, model.mu[twice], model.Sigma[twice]).log_prob(x), model.log_prob(x))


def test_the_m_step_with_a_floor_is_the_constrained_maximum() -> None:
    x = torch.randn(40, 2, generator=seeded(), dtype=torch.float64) * torch.tensor([1.0, 0.1], dtype=torch.float64)
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    x, r = x @ rotation.T, torch.ones(40, 1, dtype=torch.float64)
    model = GaussianMixture.m_step(x, r, floor=0.05)
    best = model.log_prob(x).mean()
    assert torch.linalg.eigvalsh(model.Sigma).min().item() == pytest.approx(0.05)
    angles = torch.linspace(0, math.pi, 60, dtype=torch.float64)
    for large in torch.linspace(0.05, 3, 60, dtype=torch.float64):
        for small in (0.05, 0.06, 0.2):
            axis = torch.stack([angles.cos(), angles.sin()], 1)
            S = small * torch.eye(2, dtype=torch.float64) + (large - small) * axis[:, :, None] * axis[:, None]
            if large >= small:
                assert (MultivariateNormal(model.mu, S).log_prob(x[:, None]).mean(0) <= best + 1e-12).all()


@pytest.mark.filterwarnings("ignore:EM stopped")
@pytest.mark.equation("1.26")
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 60),
    d=st.integers(1, 5),
    K=st.integers(1, 6),
    floor=st.sampled_from([1e-1, 1e-3, 1e-6]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    repeated=st.booleans(),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_em_never_lowers_the_likelihood(seed, n, d, K, floor, scale, repeated) -> None:
    x = scale * torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)
    if repeated:
        x = x[torch.randint(max(2, n // 3), (n,), generator=seeded(seed + 1))]
        x[0], x[1] = -scale, scale
    model = GaussianMixture.fit(x, min(K, n), max_iter=30, floor=floor, generator=seeded(seed))
    history = torch.tensor(model.history, dtype=torch.float64)
    assert torch.isfinite(history).all()
    assert (history.diff() >= -1e-9 * (1 + history[:-1].abs())).all()
    assert model.log_prob(x).mean().item() == pytest.approx(history[-1].item())
    least = torch.linalg.eigvalsh(model.Sigma).min().item()
    assert least >= floor * x.var(0, correction=0).mean().item() * (1 - 1e-6)


@pytest.mark.equation("1.26")
def test_the_bound_lies_between_two_likelihoods() -> None:
    old = mixture(3, 2, seed=5)
    x = mixture(3, 2, seed=6).sample(300, generator=seeded())
    q = old.posterior(x)
    new = GaussianMixture.m_step(x, q.probs)
    chain = [old.log_prob(x), old.elbo(x, q), new.elbo(x, q), new.log_prob(x)]
    values = [term.mean().item() for term in chain]
    assert values[0] == pytest.approx(values[1])
    assert values[1] < values[2] < values[3]


@pytest.mark.equation("1.28")
def test_a_shrinking_component_lifts_the_likelihood_without_end() -> None:
    x = torch.randn(20, 2, generator=seeded(), dtype=torch.float64)
    pi, eye = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    rest = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1).log_prob(x[1:]) + math.log(0.5)
    totals = []
    for s in (1e-1, 1e-3, 1e-5):
        model = GaussianMixture(pi, torch.stack([x[0], torch.zeros_like(x[0])]), torch.stack([s**2 * eye, eye]))
        totals.append(model.log_prob(x).sum().item())
        lower = math.log(0.5) - math.log(2 * math.pi * s**2) + rest.sum().item()
        assert lower <= totals[-1] <= lower + 1 + 20 * (s == 1e-1)
    assert totals[2] - totals[1] == pytest.approx(2 * math.log(100), abs=1e-3)


def test_em_finds_separated_clusters_and_agrees_with_scikit_learn() -> None:
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], dtype=torch.float64)
    x = centres.repeat(100, 1) + torch.randn(300, 2, generator=seeded(), dtype=torch.float64)
    model = GaussianMixture.fit(x, 3, tol=1e-10, generator=seeded(1))
    peer = SklearnMixture(3, reg_covar=0, tol=1e-10, max_iter=500, random_state=0).fit(x.numpy())
    assert model.history[-1] == pytest.approx(peer.score(x.numpy()), abs=1e-6)
    order, peer_order = model.mu.sum(1).argsort(), peer.means_.sum(1).argsort()
    np.testing.assert_allclose(model.pi[order].numpy().sum(), peer.weights_[peer_order].sum())
    assert torch.cdist(centres, model.mu).min(1).values.max() < 0.4


def test_fit_keeps_no_graph_of_its_data() -> None:
    x = torch.randn(30, 2, generator=seeded()).requires_grad_()
    assert not GaussianMixture.fit(x, 2, generator=seeded()).mu.requires_grad


def test_one_component_is_the_datas_gaussian() -> None:
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    model = GaussianMixture.fit(x, 1, floor=1e-9)
    torch.testing.assert_close(model.mu[0], x.mean(0))
    torch.testing.assert_close(model.Sigma[0], x.T.cov(correction=0))


def test_em_says_whether_it_came_to_its_end() -> None:
    x = torch.cat([torch.randn(50, 2, generator=seeded()) + shift for shift in (0, 3)]).double()
    with pytest.warns(UserWarning, match=r"EM stopped at max_iter = 2 while .* raise max_iter or tol") as record:
        short = GaussianMixture.fit(x, 2, max_iter=2, generator=seeded())
    assert [warning.filename for warning in record] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = GaussianMixture.fit(x, 2, generator=seeded())
    assert (short.converged, long.converged, mixture().converged) == (False, True, None)
    assert long.history[-1] - long.history[-2] < 1e-6 < long.history[-2] - long.history[-3]


@pytest.mark.filterwarnings("ignore:EM stopped")
def test_em_on_digits_with_pixels_that_never_vary() -> None:
    x = torch.from_numpy(load_digits().data / 16).float()
    model = GaussianMixture.fit(x, 10, max_iter=10, floor=1e-3, generator=seeded())
    assert all(b > a - 1e-4 for a, b in zip(model.history, model.history[1:], strict=False))
    assert torch.isfinite(model.log_prob(x)).all()


def test_a_component_without_data_stays_harmless() -> None:
    x = torch.randn(30, 2, generator=seeded())
    r = torch.cat([torch.ones(30, 1), torch.zeros(30, 1)], 1)
    model = GaussianMixture.m_step(x, r, floor=1e-3)
    assert torch.isfinite(model.log_prob(x)).all()
    torch.testing.assert_close(model.mu[0], x.mean(0))


def test_models_move_between_devices_and_save(device: torch.device, tmp_path) -> None:
    model = mixture(dtype=torch.float32).to(device)
    x = model.sample(10)
    assert x.device.type == device.type
    assert model.log_prob(x).device.type == device.type
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert set(torch.load(tmp_path / "model.pt")) == {"pi", "mu", "Sigma"}


def test_a_loaded_state_is_the_model(tmp_path) -> None:
    source, target = mixture(seed=1), mixture(seed=2)
    target.load_state_dict(source.state_dict())
    x = source.sample(5, generator=seeded())
    torch.testing.assert_close(target.log_prob(x), source.log_prob(x))


# Figures and the live figure


@pytest.fixture
def drawn():
    plots.use_style()
    yield
    plt.close("all")


def test_letters_are_those_with_most_probability_and_their_syllables_differ_as_coloured(drawn) -> None:
    syllables = hangul(16).x
    truth = torch.tensor(decompose("한"))
    initial, vowel, final = torch.zeros(19), torch.zeros(21), torch.zeros(28)
    initial[truth[0]], vowel[2], vowel[truth[1]], final[truth[2]] = 1.0, 0.6, 0.4, 1.0
    figure = latent.letter_posteriors(syllables[:1], [[initial, vowel, final]], truth, syllables, ["σ"])
    axis, strip = figure.axes[2], figure.axes[6]
    assert [bar.get_height() for bar in axis.patches[:2]] == pytest.approx([0.6, 0.4])
    assert [label.get_text() for label in strip.get_xticklabels()][:2] == ["ya", "a"]
    assert axis.patches[1].get_facecolor() == to_rgba(plots.VERMILION)
    first, true = (picture.get_array() for picture in strip.images[:2])
    grey = torch.as_tensor(true).amax(2) - torch.as_tensor(true).amin(2) < 1e-6
    assert grey.all()  # the true syllable has no colour
    coloured = torch.as_tensor(first).amax(2) - torch.as_tensor(first).amin(2) > 0.1
    assert 1 <= coloured.sum() < 40
    han, hyan = (syllables[ord(letter) - 0xAC00].view(16, 16) for letter in "한햔")
    assert ((hyan - han).abs()[coloured] > 0.3).all()


def test_roman_letters_have_one_for_each_letter() -> None:
    assert [len(letters) for letters in latent.ROMAN] == [19, 21, 28]
    assert [latent.ROMAN[place][letter] for place, letter in enumerate(decompose("한"))] == ["h", "a", "n"]
    assert [latent.ROMAN[place][letter] for place, letter in enumerate(decompose("왊"))] == ["–", "wa", "lm"]


def test_each_bar_is_the_bound_and_the_divergence_up_to_the_evidence(drawn) -> None:
    z = torch.linspace(-3, 3, 101)
    fits = {"prior": (0.0, 1.0), "KL(p‖q)": (0.5, 0.7), "KL(q‖p)": (1.0, 0.3)}
    bounds = [-4.0, -2.5, -1.7]
    figure = latent.bound_bars(z, Normal(0.0, 1.0).log_prob(z).exp(), fits, bounds, -1.5)
    left, right = figure.axes
    lower, upper = right.patches[::2], right.patches[1::2]
    for low, up, bound in zip(lower, upper, bounds, strict=True):
        assert low.get_y() + low.get_height() == pytest.approx(bound) == pytest.approx(up.get_y())
        assert up.get_y() + up.get_height() == pytest.approx(-1.5)
    assert [line.get_ydata().max() for line in left.lines] == pytest.approx(
        [1 / (s * math.sqrt(2 * math.pi)) for _, s in fits.values()], rel=0.01
    )


def test_the_live_figure_without_sampling_has_no_draws_and_still_moves(stage) -> None:
    show = stage(LatentWidget(x=0.5, sampling=False))
    root = "document.querySelector('#el > div').shadowRoot"
    count = f"() => {root}.querySelectorAll('#k, #prior, #gaussian, #ess, #estimate, .estimate').length"
    assert show.page.evaluate(count) == 0
    assert show.page.evaluate(f"() => {root}.querySelector('.draws').getAttribute('d')") is None
    show.find("#b").fill("0")
    data = show.data
    assert data["b"] == 0
    truth = Normal(0.0, math.sqrt(1 + 0.3**2)).log_prob(torch.tensor(0.5)).item()
    assert float(data["logMarginal"]) == pytest.approx(truth, abs=1e-4)
    show.find(".handle").press("ArrowUp")
    assert show.data["x"] == pytest.approx(0.55)


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: NonlinearGaussian(sigma=0), ValueError, "sigma must be positive"),
        (lambda: NonlinearGaussian(sigma=math.nan), ValueError, "sigma must be positive"),
        (lambda: NonlinearGaussian(b=math.inf), ValueError, "b must be finite"),
        (lambda: NonlinearGaussian().log_prob(torch.zeros(2, 2)), ValueError, r"x must have shape \(n,\)"),
        (lambda: NonlinearGaussian().log_prob(torch.zeros(0)), ValueError, "x is empty"),
        (lambda: NonlinearGaussian().log_prob(torch.tensor([1])), TypeError, "x must be float32 or float64"),
        (lambda: NonlinearGaussian().log_prob([1.0]), TypeError, "list"),
        (lambda: NonlinearGaussian().log_prob(torch.tensor([math.inf])), ValueError, "infinite"),
        (lambda: monte_carlo(NonlinearGaussian(), X, 0), ValueError, "k must be at least 1"),
        (lambda: importance(NonlinearGaussian(), X, Normal(0.0, 1.0), 0), ValueError, "k must be at least 1"),
        (lambda: importance(NonlinearGaussian(), X, Normal(torch.zeros(4), 1.0), 5), ValueError, "the 9 x"),
        (lambda: importance(mixture(), X[:, None], Normal(torch.zeros(9, 2), 1.0), 5), ValueError, "Independent"),
        (lambda: PrototypeMixture(torch.zeros(3), 1.0), ValueError, "prototypes"),
        (lambda: PrototypeMixture(torch.zeros(3, 2), -1.0), ValueError, "sigma"),
        (lambda: PrototypeMixture(torch.zeros(3, 2), 1.0).log_prob(torch.zeros(4, 3)), ValueError, "2 columns"),
        (lambda: mixture().log_prob(torch.zeros(4, 3, dtype=torch.float64)), ValueError, "2 columns"),
        (lambda: GaussianMixture(torch.ones(2), torch.zeros(2, 1), torch.ones(2, 1, 1)), ValueError, "pi"),
        (lambda: GaussianMixture(torch.tensor([1.0, 0.0]), torch.zeros(2, 1), torch.ones(2, 1, 1)), ValueError, "pi"),
        (lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 1), -torch.ones(1, 1, 1)), ValueError, "Sigma"),
        (lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(2, 2, 2)), ValueError, "Sigma"),
        (lambda: GaussianMixture(torch.ones(2), torch.zeros(1, 2), torch.eye(2)[None]), ValueError, "pi must have 1"),
        (
            lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None].double()),
            TypeError,
            "Sigma is torch.float64, mu torch.float32",
        ),
        (
            lambda: GaussianMixture(torch.ones(1).half(), torch.zeros(1, 2), torch.eye(2)[None]),
            TypeError,
            "pi must be float32",
        ),
        (lambda: mixture().log_prob(torch.zeros(4, 2)), TypeError, "x is torch.float32, the model torch.float64"),
        (lambda: NonlinearGaussian().sample(0), ValueError, "n must be at least 1"),
        (lambda: mixture().sample(-1), ValueError, "n must be at least 1"),
        (lambda: mixture().sample(2.5), TypeError, "n must be an int"),
        (
            lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])),
            ValueError,
            "symmetric",
        ),
        (lambda: GaussianMixture.fit(torch.zeros(5, 2), 2), ValueError, "constant"),
        (lambda: GaussianMixture.fit(torch.randn(5, 2), 6), ValueError, "components"),
        (lambda: GaussianMixture.fit(torch.randn(5, 2), 0), ValueError, "components"),
        (lambda: GaussianMixture.fit(torch.randn(5, 2), 2.0), TypeError, "components must be an int"),
        (lambda: GaussianMixture.fit(torch.randn(5, 2).half(), 2), TypeError, "x must be float32"),
        (lambda: GaussianMixture.fit(torch.randn(5, 2), 2, floor=0.0), ValueError, "floor"),
        (lambda: GaussianMixture.fit(torch.randn(5), 2), ValueError, "x must have shape"),
        (lambda: GaussianMixture.fit(torch.ones(5, 2, dtype=torch.int64), 2), TypeError, "x must be"),
        (lambda: GaussianMixture.fit(torch.full((5, 2), math.nan), 2), ValueError, "NaN"),
    ],
)
def test_bad_input_names_the_argument(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()
