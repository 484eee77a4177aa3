from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from companion import data, diffusion
from companion.diffusion import (
    DDIM,
    DDPM,
    PREDICTIONS,
    SCHEDULES,
    Diffusion,
    EmpiricalDenoiser,
    GaussianDenoiser,
    Heun,
    Sampler,
    Schedule,
    split,
    target,
)
from companion.metrics import mmd
from companion.nets import ResidualMLP, UNet, mlp
from companion.source import WIDTH, show_source
from companion.training import fit

#: Left out is what is infinite, the linear schedule's velocity, or leaves x_0 open, the noise on the straight path.
PAIRS = [
    (s, p) for s in SCHEDULES for p in PREDICTIONS if (s, p) not in {("straight", "noise"), ("linear", "velocity")}
]
MU = torch.tensor([0.5, -1.0], dtype=torch.float64)
C = torch.tensor([[0.5, 0.3], [0.3, 0.8]], dtype=torch.float64)


def gaussian(schedule: str) -> Diffusion:
    """A model that knows E[x_0 | x_t] for N(MU, C)."""
    return Diffusion(GaussianDenoiser(MU, C, schedule), 2, schedule, "data").double()


def finite(x: Tensor, schedule: str = "cosine", **options: object) -> Diffusion:
    """A model that knows E[x_0 | x_t] for the rows of x, all equally likely."""
    return Diffusion(EmpiricalDenoiser(x, schedule), x.shape[1], schedule, "data", **options).to(x.dtype)


class Plain(nn.Module):
    """A denoiser that needs the time: −1 or more labels shift what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        self.calls.append((t, labels))
        shift = 0 if labels is None else (labels + 1).sum(1, keepdim=True)
        return x.cos() * (1 + t[:, None]) + shift


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_from_data_to_noise(name):
    schedule, t = SCHEDULES[name], torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert (alpha[0], sigma[0]) == (1, 0)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    assert torch.allclose(schedule.alpha_bar(t), alpha**2)
    assert torch.allclose(schedule.snr(t[1:]), alpha[1:] ** 2 / sigma[1:] ** 2)
    if name != "straight":
        assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t), atol=1e-12)
        assert schedule.snr(t[-1]).item() == pytest.approx(math.exp(-10.05), rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_derivatives_and_time_is_the_inverse_of_the_ratio(name):
    schedule, t = SCHEDULES[name], torch.linspace(0.001, 0.999, 50, dtype=torch.float64, requires_grad=True)
    for value, rate in zip((schedule.alpha(t), schedule.sigma(t)), schedule.rates(t), strict=True):
        assert torch.allclose(rate, torch.autograd.grad(value.sum(), t)[0])
    assert torch.allclose(schedule.time(schedule.snr(t).log()), t, atol=1e-12)


def test_the_linear_schedule_is_the_limit_of_ddpm():
    """βᵢ rises linearly from 10⁻⁴ to 0.02 over 1000 steps, or from 0.1/T to 20/T over T."""
    errors = []
    for T in (1000, 10_000):
        beta = torch.linspace(0.1 / T, 20 / T, T, dtype=torch.float64)
        t = torch.arange(1, T + 1, dtype=torch.float64) / T
        errors.append(((1 - beta).cumprod(0) - SCHEDULES["linear"].alpha_bar(t)).abs().max())
    assert errors[0] < 0.01
    assert errors[1] < errors[0] / 8


# --- the known process -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_of_noise_compose_to_the_closed_form(name):
    """Draw x_t in 20 small steps, each with the α and σ of its own step, and compare with `posterior`."""
    model, n = gaussian(name), 40_000
    times = torch.linspace(0, 0.7, 21, dtype=torch.float64)
    alpha, sigma = model.schedule.alpha(times), model.schedule.sigma(times)
    x_0 = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    x = x_0.expand(n, 2)
    for i in range(20):
        a = alpha[i + 1] / alpha[i]
        x = a * x + (sigma[i + 1] ** 2 - a**2 * sigma[i] ** 2).sqrt() * torch.randn(n, 2, dtype=torch.float64)
    q = model.posterior(x_0, 0.7)
    assert ((x.mean(0) - q.mean) * math.sqrt(n) / q.stddev).abs().max() < 4
    assert ((x.var(0) / q.variance - 1).abs() / math.sqrt(2 / n)).max() < 4
    assert abs(x.T.corrcoef()[0, 1]) < 4 / math.sqrt(n)
    eps = torch.randn(1, 2, dtype=torch.float64)
    assert torch.allclose(model.q_sample(x_0, 0.7, eps), q.mean + q.stddev * eps)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("s", "t"), [(0.2, 0.3), (0.05, 0.9), (0.6, 1.0)])
def test_q_posterior_is_bayes_rule(name, s, t):
    """q(x_s | x_t, x_0) ∝ q(x_t | x_s) q(x_s | x_0), by quadrature on the line."""
    schedule = SCHEDULES[name]
    model = Diffusion(nn.Identity(), 1, schedule, "data").double()
    x_0, x_t = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
    (a_s, v_s), (a_t, v_t) = (
        (schedule.alpha(u).item(), schedule.sigma(u).item()) for u in torch.tensor([s, t], dtype=torch.float64)
    )
    a = a_t / a_s
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    log_joint = Normal(a * grid, math.sqrt(v_t**2 - (a * v_s) ** 2)).log_prob(x_t[0])
    log_joint += Normal(a_s * 0.7, v_s).log_prob(grid)
    density = (log_joint - log_joint.max()).exp()
    density /= torch.trapezoid(density, grid)
    q = model.q_posterior(x_t, x_0, s, t)
    assert torch.allclose(q.log_prob(grid[:, None]).exp(), density, atol=1e-6)


def test_q_posterior_at_the_end_is_the_data():
    x_t, x_0 = torch.randn(2, 5, 3)
    for name in SCHEDULES:
        q = Diffusion(nn.Identity(), 3, name, "data").q_posterior(x_t, x_0, 0, 0.3)
        assert torch.equal(q.mean, x_0)
        assert torch.equal(q.stddev, torch.zeros(5, 3))


def test_times_may_differ_from_row_to_row():
    model, x, eps, t = gaussian("cosine"), *torch.randn(2, 4, 2).double(), torch.rand(4).double()
    for i in range(4):
        row = slice(i, i + 1)
        assert torch.allclose(model.q_sample(x, t, eps)[row], model.q_sample(x[row], t[i].item(), eps[row]))
        assert torch.allclose(model.score(x, t)[row], model.score(x[row], t[i]))
        assert torch.allclose(
            model.q_posterior(x, eps, t / 2, t).mean[row], model.q_posterior(x, eps, t[i] / 2, t[i]).mean[row]
        )
    with pytest.raises(ValueError, match=r"t must be a number or have one entry for each of the 4 rows, not \(3,\)"):
        model.q_sample(x, t[:3], eps)


# --- predictions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "predict"), PAIRS)
def test_noise_data_and_velocity_are_one(name, predict):
    """From any of the three, with x_t, the other two follow."""
    schedule, t = SCHEDULES[name], torch.linspace(0.01, 1, 40, dtype=torch.float64)[:, None]
    x_0, eps = torch.randn(2, 40, 3, dtype=torch.float64)
    x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * eps
    found = split(predict, target(predict, x_0, eps, t, schedule), x_t, t, schedule)
    assert torch.allclose(found[0], x_0, atol=1e-6)
    assert torch.allclose(found[1], eps, atol=1e-6)
    for other in PREDICTIONS:
        assert torch.allclose(target(other, *found, t, schedule), target(other, x_0, eps, t, schedule), atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_velocity_is_the_derivative_of_the_path(name):
    schedule, t = SCHEDULES[name], torch.rand(20, 1, dtype=torch.float64)
    x_0, eps = torch.randn(2, 20, 3, dtype=torch.float64)
    path = lambda t: schedule.alpha(t) * x_0 + schedule.sigma(t) * eps  # noqa: E731
    _, slope = torch.autograd.functional.jvp(path, t, torch.ones_like(t))
    assert torch.allclose(target("velocity", x_0, eps, t, schedule), slope)


@pytest.mark.parametrize(("name", "predict"), PAIRS)
def test_the_score_of_a_gaussian(name, predict):
    """Whatever the network predicts, −ε̂/σ is the gradient of log q(x_t), by autograd."""
    exact, schedule = gaussian(name), SCHEDULES[name]

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        return target(predict, *exact.predict(x, t), t, schedule)

    model = Diffusion(denoiser, 2, name, predict).double()
    x_t = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    for t in torch.tensor([0.05, 0.5, 1.0], dtype=torch.float64):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        q = MultivariateNormal(alpha * MU, alpha**2 * C + sigma**2 * torch.eye(2))
        (score,) = torch.autograd.grad(q.log_prob(x_t).sum(), x_t)
        assert torch.allclose(model.score(x_t, t), score)
        assert torch.allclose(model.score(x_t, t), -model.predict(x_t, t)[1] / sigma)


def test_a_number_of_evaluations_and_one_network_call():
    net, x = Plain(), torch.randn(5, 3)
    model = Diffusion(net, 3, "straight")
    model.velocity(x, 0.5)
    assert len(net.calls) == 1
    assert torch.equal(net.calls[0][0], torch.full((5,), 0.5))
    assert net.calls[0][1] is None
    assert torch.allclose(model.velocity(x, 0.5), x.cos() * 1.5, atol=1e-6)


# --- known denoisers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_empirical_denoiser_weighs_the_data(name):
    """By hand: wᵢ ∝ N(x_t; αxᵢ, σ²I); and by autograd on the logarithm of the mixture of these densities."""
    x, x_t = torch.randn(7, 3).double(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    schedule, t = SCHEDULES[name], torch.tensor([0.1, 0.4, 0.8, 1.0]).double()
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    expected = []
    for i in range(4):
        w = torch.stack([Normal(alpha[i] * row, sigma[i]).log_prob(x_t[i]).sum().exp() for row in x])
        expected.append((w[:, None] * x).sum(0) / w.sum())
    model = finite(x, name)
    assert torch.allclose(model.denoiser(x_t, t), torch.stack(expected))
    mixture = MixtureSameFamily(
        Categorical(torch.ones(4, 7)),
        torch.distributions.Independent(Normal(alpha[:, None, None] * x, sigma[:, None, None].expand(4, 7, 3)), 1),
    )
    (score,) = torch.autograd.grad(mixture.log_prob(x_t).sum(), x_t)
    assert torch.allclose(model.score(x_t, t), score)


def test_the_gaussian_denoiser_is_the_regression():
    """E[x_0 | x_t] of jointly Gaussian x_0 and x_t, by the textbook formula; C may be singular."""
    singular = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double()
    x_t, t = torch.randn(6, 2).double(), torch.rand(6).double()
    for name, schedule in SCHEDULES.items():
        for cov in (C, singular):
            denoised = GaussianDenoiser(MU, cov, name)(x_t, t)
            for i in range(6):
                a, s = schedule.alpha(t[i]), schedule.sigma(t[i])
                S = a**2 * cov + s**2 * torch.eye(2)
                assert torch.allclose(denoised[i], MU + a * cov @ torch.linalg.solve(S, x_t[i] - a * MU))


@pytest.mark.parametrize("sampler", [DDPM(30), DDIM(30), Heun(15)], ids=repr)
def test_the_best_denoiser_of_a_finite_set_only_copies(sampler):
    x = data.digits()[0][:100] * 2 - 1
    samples = finite(x).sample(60, sampler)
    distance, nearest = torch.cdist(samples, x).min(1)
    assert distance.max() < 1e-3
    assert len(nearest.unique()) > 30


# --- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "predict"), PAIRS)
def test_loss_of_a_network_that_says_nothing(name, predict):
    """A zero has the mean square of what should have been said: 1, x², or ∫ α'² x² + σ'² dt, by quadrature."""
    n, x_0, schedule = 20_000, torch.tensor([0.5, -1.5]).double(), SCHEDULES[name]
    model = Diffusion(lambda x, t: 0 * x, 2, name, predict).double()

    def squares(t: float) -> float:
        a, s = schedule.rates(torch.tensor(t).double())
        return (a**2 * x_0.square().mean() + s**2).item()

    expected = {
        "noise": 1.0,
        "data": x_0.square().mean().item(),
        "velocity": integrate.quad(squares, 0, 1)[0] if predict == "velocity" else math.nan,
    }[predict]
    assert model.loss(x_0.expand(n, 2)).item() == pytest.approx(expected, abs=4 * 4 / math.sqrt(n))


def test_times_are_spread_evenly_and_independent_of_the_row():
    net, n = Plain(), 1000
    model = Diffusion(net, 3)
    model.loss(torch.randn(n, 3))
    ((t, _),) = net.calls
    assert torch.equal((t.sort().values * n).ceil(), torch.arange(1, n + 1).float())
    assert stats.kstest((t.sort().values * n) % 1, "uniform").pvalue > 1e-3
    assert abs(torch.stack([t, torch.arange(n)]).corrcoef()[0, 1]) < 4 / math.sqrt(n)


def test_the_exact_denoiser_has_the_least_loss(monkeypatch):
    """The same noise for all: any other gain or shift is worse."""
    x = MultivariateNormal(MU, C).sample((4000,))

    def loss(gain: float, shift: float) -> float:
        exact = GaussianDenoiser(MU, C, "straight")
        torch.manual_seed(3)
        return Diffusion(lambda x, t: gain * exact(x, t) + shift, 2, "straight", "data").double().loss(x).item()

    best = loss(1, 0)
    assert all(loss(gain, shift) > best for gain, shift in [(1.2, 0), (0.8, 0), (1, 0.2), (1, -0.2)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_weighted_loss_is_the_bound_with_infinitely_many_steps(name):
    """Up to what the loss leaves out: reconstruction and the prior's KL."""
    x = MultivariateNormal(MU, C).sample((2000,))
    model = gaussian(name)
    model.weighting = "elbo"
    losses = torch.stack([model.loss(x) for _ in range(100)])
    kl = model.elbo_terms(x, 1000)[1].sum(1)
    span = -2 * math.log(1e-3) + 10.05
    coarse = span**2 / 4 / 1000 * 2  # the steps' own price, a bound for it
    error = 4 * (losses.std() / 10 + kl.std() / math.sqrt(2000))
    assert -error < kl.mean() - losses.mean() < error + coarse
    assert error < 0.6


@pytest.mark.parametrize("weighting", ["simple", "elbo"])
@pytest.mark.parametrize("k", [1, 3])
def test_every_number_of_labels_is_hidden_equally_often(k, weighting):
    net, n = Plain(), 20_000
    labels = torch.arange(5, 5 + k).expand(n, k)
    Diffusion(net, 3, weighting=weighting).loss(torch.randn(n, 3), labels)
    seen = net.calls[0][1]
    assert torch.equal(seen[seen >= 0], labels[seen >= 0])
    assert (seen[seen < 0] == -1).all()
    counts = (seen < 0).sum(1).bincount(minlength=k + 1)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert ((seen < 0).double().mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(n)  # each label as often as the others
    assert torch.equal(labels, torch.arange(5, 5 + k).expand(n, k))


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_bound_of_the_exact_denoiser_closes_in_on_log_p(name):
    p = MultivariateNormal(MU, C)
    x, model = p.sample((20_000,)), gaussian(name)
    gaps, errors = [], []
    for T in (50, 100, 200, 400):
        gap = p.log_prob(x) - model.elbo(x, T)
        gaps.append(gap.mean().item())
        errors.append(4 * gap.std().item() / math.sqrt(len(x)))
    assert all(gap > error for gap, error in zip(gaps, errors, strict=True))
    for i in range(3):  # the gap falls as 1/T or faster
        assert gaps[i + 1] < 0.55 * gaps[i] + errors[i + 1] + errors[i]
    assert errors[-1] < 0.2


@pytest.mark.parametrize("name", SCHEDULES)
def test_worse_denoisers_have_worse_bounds(name):
    x = MultivariateNormal(MU, C).sample((2000,))
    exact = GaussianDenoiser(MU, C, name)
    models = [Diffusion(lambda x, t, g=g: g * exact(x, t), 2, name, "data").double() for g in (1.0, 0.99, 1.01)]
    bounds = [m.elbo(x, 100, generator=torch.Generator().manual_seed(0)).mean() for m in models]
    assert bounds[0] > max(bounds[1:])


def test_the_terms_are_the_divergences_of_torch():
    """KL(q(x_s | x_t, x_0) ‖ q(x_s | x_t, x̂_0)) and KL(q(x_1 | x_0) ‖ p(x_1)), with the noise of the same seed."""
    for name in SCHEDULES:
        model, x, T = gaussian(name), torch.randn(5, 2).double(), 6
        reconstruction, kl, prior = model.elbo_terms(x, T, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        t = model.schedule.time(torch.linspace(-2 * math.log(1e-3), -10.05, T).double())
        t[-1] = 1
        for i in range(T):
            x_t = model.q_sample(x, t[i], torch.randn(5, 2, dtype=torch.float64, generator=generator))
            x_0 = model.predict(x_t, t[i])[0]
            if i == 0:
                assert torch.allclose(reconstruction, Normal(x_0, 1e-3).log_prob(x).sum(1))
            else:
                q, p = (model.q_posterior(x_t, value, t[i - 1], t[i]) for value in (x, x_0))
                assert torch.allclose(kl[:, i - 1], kl_divergence(q, p), rtol=1e-6)
        last = Normal(model.schedule.alpha(t[-1]) * x, model.schedule.sigma(t[-1]))
        assert torch.allclose(prior, kl_divergence(last, Normal(0, 1)).sum(1), atol=1e-12)
        total = model.elbo(x, T, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(total, reconstruction - kl.sum(1) - prior, rtol=0, atol=1e-9)
        assert name == "straight" or (prior > 1e-6).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_bound_of_grey_levels_closes_in_on_their_probabilities(name):
    """Of the nine images with two pixels of three levels, three have chances of ½, ⅓ and ⅙, the others none."""
    images = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.0]]).double()
    model = finite(images[[0, 0, 0, 1, 1, 2]], name, levels=3, resolution=0.2)
    n = 4000
    for image, p in zip(images, (1 / 2, 1 / 3, 1 / 6), strict=True):
        elbo = model.elbo(image.expand(n, 2), 200)
        error = 4 * elbo.std().item() / math.sqrt(n)
        assert -0.1 - error < elbo.mean() - math.log(p) < error
        assert error < 0.1


def test_the_shares_of_the_levels_are_those_of_the_density():
    """N(level; x̂_0, I/SNR), divided by its sum over the five levels; so all images together have the chance 1."""
    model = finite(torch.eye(2), levels=5)
    x_0, levels = torch.randn(4, 2), torch.linspace(-1, 1, 5)
    density = Normal(x_0[..., None], 0.3).log_prob(levels).exp()
    share = density / density.sum(2, keepdim=True)
    total = torch.zeros(4)
    for i in range(5):
        for j in range(5):
            x = levels[[i, j]].expand(4, 2)
            p = model._log_likelihood(x, x_0, torch.tensor(1 / 0.09)).exp()
            assert torch.allclose(p, share[:, 0, i] * share[:, 1, j], rtol=1e-4)
            total += p
    assert torch.allclose(total, torch.ones(4))


def test_default_resolutions():
    assert finite(torch.eye(2)).resolution == 1e-3
    assert finite(torch.eye(2), levels=17).resolution == pytest.approx(0.125 / 3)


def test_estimates_of_grey_levels_stay_between_black_and_white():
    x = torch.tensor([[-1.0, 1.0]]).expand(50, 2)
    far, right = (
        Diffusion(lambda x, t, c=c: c * x.new_tensor([-1, 1]).expand_as(x), 2, "cosine", "data", levels=2)
        for c in (3, 1)
    )
    assert torch.equal(far.elbo(x, generator=torch.Generator().manual_seed(0)), right.elbo(x))
    assert right.elbo(x).mean().item() == pytest.approx(0, abs=0.1)


# --- samplers --------------------------------------------------------------------------------------------------------


def moments(sampler: Sampler, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of the samples from x_1 ~ q(x_1), as the denoiser is linear, without any chance.

    A sample is a constant plus a matrix times each of the noises that were drawn. Row 0 gets no noise and shows the
    constant; row 1 + 2j + i gets the i-th unit vector as its j-th noise and shows a column of the j-th matrix.
    """
    draws, model, eye = sampler.steps + 1, gaussian(name), torch.eye(2, dtype=torch.float64)
    count = iter(range(1, draws))

    def unit_noise(shape: torch.Size, like: Tensor, generator: object) -> Tensor:
        noise, j = like.new_zeros(shape), next(count)
        noise[1 + 2 * j : 3 + 2 * j] = eye
        return noise

    monkeypatch.setattr(diffusion, "randn", unit_noise)
    alpha, sigma = (f(torch.ones(()).double()) for f in (model.schedule.alpha, model.schedule.sigma))
    x_1 = (alpha * MU).repeat(1 + 2 * draws, 1)
    x_1[1:3] += torch.linalg.cholesky(alpha**2 * C + sigma**2 * eye).T
    *_, end = sampler.trajectory(model, x_1)
    columns = end.x_t[1:] - end.x_t[0]
    return end.x_t[0], columns.T @ columns


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("sampler", "order"),
    [(DDPM, 1), (DDIM, 1), (lambda n: DDIM(n, 0.5), 1), (lambda n: DDIM(n, 1), 1), (Heun, 2)],
    ids=["DDPM", "DDIM", "DDIM(0.5)", "DDIM(1)", "Heun"],
)
def test_samplers_hit_a_gaussian_at_their_order(name, sampler, order, monkeypatch):
    """Where σ(t) has no slope at t = 0, in the linear schedule, the last steps cost Heun its second order."""
    errors = []
    for steps in (64, 128, 256):
        mean, cov = moments(sampler(steps), name, monkeypatch)
        assert (mean - MU).abs().max() < 1e-12
        errors.append((cov - C).norm().item())
    order = 1 if name == "linear" else order
    assert all(math.log2(errors[i] / errors[i + 1]) > order - 0.15 for i in range(2))
    assert errors[2] < (0.05 if sampler is not Heun else 1e-3)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_eta_is_the_share_of_the_posterior_deviation(eta, monkeypatch):
    model, x_1, ends = gaussian("cosine"), torch.randn(3, 2).double(), []
    for noise in (0, 1):
        monkeypatch.setattr(diffusion, "randn", lambda shape, like, _, noise=noise: noise * like.new_ones(shape))
        ends.append(list(DDIM(2, eta).trajectory(model, x_1))[1].x_t)
    deviation = model.q_posterior(x_1, x_1, 0.5, 1.0).stddev
    assert torch.allclose(ends[1] - ends[0], eta * deviation.expand(3, 2))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_ddim_with_eta_one_is_ddpm(name, steps):
    model = Diffusion(Plain(), 3, name, "data").double()
    x, y = (
        model.sample(6, sampler, generator=torch.Generator().manual_seed(4))
        for sampler in (DDPM(steps), DDIM(steps, 1))
    )
    assert torch.allclose(x, y, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_heun_and_euler_follow_the_velocity(name):
    """On the straight path they are plain Euler and Heun on dx/dt = v; on the others they meet its solution too."""
    model = gaussian(name)
    x_1 = torch.randn(3, 2).double()
    euler, heun = ([p.x_t for p in s.trajectory(model, x_1)] for s in (DDIM(8), Heun(8)))
    if name == "straight":
        x = y = x_1
        for i in range(8, 0, -1):
            t, s, h = i / 8, (i - 1) / 8, -1 / 8
            x = x + h * model.velocity(x, t)
            v = model.velocity(y, t)
            y = y + h * (v if i == 1 else (v + model.velocity(y + h * v, s)) / 2)
            assert torch.allclose(x, euler[9 - i])
            assert torch.allclose(y, heun[9 - i])
    solution = integrate.solve_ivp(
        lambda t, x: model.velocity(torch.from_numpy(x).view(3, 2), t).flatten(),
        (1, 1e-6),
        x_1.flatten(),
        method="DOP853",
        rtol=1e-8,
        atol=1e-8,
    ).y[:, -1]
    exact = torch.from_numpy(solution).view(3, 2)
    (x_256,), (y_256,) = ([s.trajectory(model, x_1)] for s in (DDIM(256), Heun(256)))
    x_256, y_256 = ([p.x_t for p in path][-1] for path in (x_256, y_256))
    assert (y_256 - exact).abs().max() < 2e-3
    assert (x_256 - exact).abs().max() < 0.1


@pytest.mark.parametrize(("sampler", "calls"), [(DDPM(7), 7), (DDIM(7), 7), (DDIM(7, 0.3), 7), (Heun(7), 13)], ids=repr)
def test_trajectories(sampler, calls, device):
    net = Plain()
    model = Diffusion(net, 3, "straight").to(device)
    x_1 = torch.randn(5, 3, device=device)
    points = list(sampler.trajectory(model, x_1, generator=torch.Generator(device).manual_seed(0)))
    assert len(net.calls) == calls
    assert [point.t for point in points] == pytest.approx([i / 7 for i in range(7, -1, -1)])
    assert torch.equal(points[0].x_t, x_1)
    for point in points[:-1]:
        assert torch.allclose(point.x_0, model.predict(point.x_t, point.t)[0])
    assert torch.equal(points[-1].x_t, points[-1].x_0)
    assert torch.allclose(points[-1].x_t, points[-2].x_0, atol=1e-6)  # every last step goes to x̂_0


def test_samples_repeat_by_their_generator(device):
    model = Diffusion(Plain(), 3).to(device)
    for sampler in (DDPM(3), DDIM(3), DDIM(3, 0.5), Heun(3)):
        a, b, c = (model.sample(4, sampler, generator=torch.Generator(device).manual_seed(s)) for s in (1, 1, 2))
        assert a.shape == (4, 3)
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize("sampler", [DDPM(2), DDIM(2), Heun(2)], ids=repr)
def test_sampling_builds_no_graph_and_a_model_keeps_no_more_than_its_network(sampler):
    net = ResidualMLP(3, 8, 1)
    model, x_1 = Diffusion(net, 3), torch.randn(4, 3)
    assert model.predict(x_1, 1.0)[0].requires_grad
    assert not any(part.requires_grad for point in sampler.trajectory(model, x_1) for part in point[1:])
    assert not model.sample(4, sampler).requires_grad
    assert list(model.state_dict()) == [f"denoiser.{name}" for name in net.state_dict()]


def test_only_stochastic_samplers_draw_on_their_way():
    model, x_1 = Diffusion(Plain(), 3), torch.randn(4, 3)
    for sampler, draws in ((DDPM(5), True), (DDIM(5), False), (DDIM(5, 0.5), True), (Heun(5), False)):
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        list(sampler.trajectory(model, x_1, generator=generator))
        assert torch.equal(before, generator.get_state()) is not draws


# --- guidance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predict", ["noise", "data", "velocity"])
def test_guidance(predict):
    net, x, labels = Plain(), torch.randn(5, 3).double(), torch.randint(4, (5, 2))
    model = Diffusion(net, 3, "cosine", predict).double()

    def predictions(*arguments: object) -> tuple[Tensor, int]:
        net.calls.clear()
        return torch.stack(model.predict(x, 0.4, *arguments)), len(net.calls)

    free, conditional = predictions()[0], predictions(labels)[0]
    assert not torch.allclose(free, conditional)
    for w, calls in ((0, 1), (1, 1), (-1, 2), (0.3, 2), (4, 2)):
        guided, made = predictions(labels, w)
        assert torch.allclose(guided, (1 - w) * free + w * conditional)
        assert made == calls
    assert torch.allclose(predictions(torch.full((5, 2), -1), 3)[0], free)


def test_score_and_velocity_are_guided_too():
    model, x, labels = Diffusion(Plain(), 3, "straight", "data"), torch.randn(5, 3), torch.randint(1, 4, (5, 2))
    x_0 = 4 * model.predict(x, 0.5, labels)[0] - 3 * model.predict(x, 0.5)[0]
    eps = 2 * x - x_0  # x = (x_0 + ε)/2
    assert torch.allclose(model.score(x, 0.5, labels, 4.0), -2 * eps, atol=1e-4)
    assert torch.allclose(model.velocity(x, 0.5, labels, 4.0), eps - x_0, atol=1e-4)


def test_labels_reach_every_row_of_a_sample():
    net = Plain()
    model = Diffusion(net, 3)
    model.sample(5, Heun(3), torch.tensor([2, -1]))
    assert all(torch.equal(labels, torch.tensor([[2, -1]] * 5)) for _, labels in net.calls)
    each = torch.arange(10).view(5, 2)
    a = model.sample(5, DDPM(3), each, 2.0, generator=torch.Generator().manual_seed(0))
    b = model.sample(5, DDPM(3), each, 2.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a, b)
    assert torch.equal(net.calls[-1][1], each)


@pytest.mark.parametrize("sampler", [DDPM(1), DDIM(1), Heun(1), Heun(2)], ids=repr)
def test_samplers_follow_the_guided_prediction(sampler):
    net, x_1, labels = Plain(), torch.randn(5, 3), torch.arange(10).view(5, 2)
    model = Diffusion(net, 3)
    *_, last, end = sampler.trajectory(model, x_1, labels, 3.0)
    calls = [labels is None for _, labels in net.calls]
    assert calls == [True, False] * (2 * sampler.steps - 1)
    assert torch.allclose(end.x_t, model.predict(last.x_t, last.t, labels, 3.0)[0], atol=1e-5)
    torch.manual_seed(1)
    a = model.sample(5, sampler, labels, 3.0)
    torch.manual_seed(1)
    *_, b = sampler.trajectory(model, model.prior().sample((5,)), labels, 3.0)
    assert torch.allclose(a, b.x_t)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "predict"), [("straight", "velocity"), ("cosine", "velocity"), ("linear", "noise")])
def test_it_learns_points_in_the_plane(name, predict):
    """400 steps come nearer to two half moons than the Gaussian with their mean and covariance."""
    x, y = data.moons(2000), data.moons(20_000)
    model = Diffusion(ResidualMLP(2, 64, 2), 2, name, predict)
    fit(model, y, steps=400, batch_size=256, lr=3e-3, schedule="cosine", progress=False)
    fitted = MultivariateNormal(y.mean(0), y.T.cov()).sample((2000,))
    assert mmd(model.sample(2000, Heun(15)), x) < mmd(fitted, x) / 2


def test_fit_repeats_itself_and_takes_labels(device):
    x, labels, results = torch.randn(300, 4), torch.randint(3, (300, 2)), []
    for _ in range(2):
        torch.manual_seed(0)
        model = Diffusion(ResidualMLP(4, 16, 2, labels=(3, 3)), 4)
        history = fit(model, x, labels, steps=4, batch_size=100, device=device, progress=False)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert history.losses["loss"].isfinite().all()
    assert torch.equal(*results)
    assert model.sample(3, Heun(2), torch.tensor([1, -1])).shape == (3, 4)


@pytest.mark.parametrize("weighting", ["simple", "elbo"])
def test_bfloat16_gives_finite_float32_losses(weighting):
    model = Diffusion(ResidualMLP(4, 16, 2), 4, weighting=weighting)
    history = fit(model, torch.randn(64, 4), steps=3, precision="bfloat16", progress=False)
    assert history.losses["loss"].dtype == torch.float32
    assert history.losses["loss"].isfinite().all()


def test_it_works_in_float64():
    x = torch.rand(12, 4, dtype=torch.float64)
    for weighting in ("simple", "elbo"):
        model = Diffusion(ResidualMLP(4, 8, 1).double(), 4, weighting=weighting)
        assert model.loss(x).dtype == model.elbo(x, 3).dtype == model.sample(2, DDPM(2)).dtype == torch.float64


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_predictions_are_of_the_type_of_x_whatever_the_networks(predict):
    model = Diffusion(lambda x, t: x.bfloat16(), 3, "cosine", predict)
    assert {part.dtype for part in model.predict(torch.randn(4, 3), 0.5)} == {torch.float32}


def test_bad_input():
    net = mlp(2, 2)
    with pytest.raises(ValueError, match=r"schedule must be one of linear, cosine, straight, got 'sqrt'"):
        Diffusion(net, 2, "sqrt")
    with pytest.raises(ValueError, match=r"schedule must be one of"):
        EmpiricalDenoiser(torch.eye(2), "sqrt")
    with pytest.raises(ValueError, match=r"predict must be one of noise, data, velocity, got 'score'"):
        Diffusion(net, 2, predict="score")
    with pytest.raises(ValueError, match=r'predict="noise" leaves x_0 open at t = 1.* choose "velocity" or "data"'):
        Diffusion(net, 2, "straight", "noise")
    with pytest.raises(ValueError, match=r'weighting must be "simple" or "elbo"'):
        Diffusion(net, 2, weighting="snr")
    with pytest.raises(ValueError, match=r"levels must be at least 2"):
        Diffusion(net, 2, levels=1)
    with pytest.raises(ValueError, match=r"resolution must be positive"):
        Diffusion(net, 2, resolution=0)
    with pytest.raises(TypeError, match=r"dim must be an int"):
        Diffusion(net, 2.0)
    model = Diffusion(lambda x, t: x[:, :1], 2)
    with pytest.raises(
        ValueError, match=r"denoiser gives shape \(5, 1\) for x_t of shape \(5, 2\).* in the same shape"
    ):
        model.loss(torch.randn(5, 2))
    with pytest.raises(
        ValueError, match=r"x must have shape \(n, 2\), not \(5, 3\): reshape it, or give Diffusion another dim"
    ):
        model.loss(torch.randn(5, 3))
    with pytest.raises(
        ValueError, match=r"x must have shape \(n, 2\), not \(5, 3\): reshape it, or give Diffusion another dim"
    ):
        model.elbo(torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"labels must have shape \(5, k\), not \(5,\): .* labels\[:, None\]"):
        model.loss(torch.randn(5, 2), torch.zeros(5))
    with pytest.raises(ValueError, match=r"steps must be at least 2"):
        model.elbo(torch.randn(5, 2), 1)
    with pytest.raises(ValueError, match=r"n must be at least 1"):
        model.sample(0)
    for sampler in (DDPM, DDIM, Heun):
        with pytest.raises(ValueError, match=r"steps must be at least 1"):
            sampler(0)
    for eta in (2, -0.5):
        with pytest.raises(ValueError, match=rf"eta must be from 0 to 1, got {eta}"):
            DDIM(10, eta)


def test_a_schedule_of_ones_own():
    class Squared(Schedule):
        def alpha(self, t: Tensor) -> Tensor:
            return 1 - t**2

        def sigma(self, t: Tensor) -> Tensor:
            return t**2

        def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return -2 * t, 2 * t

    model = Diffusion(GaussianDenoiser(MU, C, Squared()), 2, Squared(), "data").double()
    x = model.sample(20_000, Heun(40))
    assert (x.mean(0) - MU).abs().max() < 4 / math.sqrt(20_000)


# --- any event shape -------------------------------------------------------------------------------------------------

IMAGE = (1, 16, 16)


def unet(norm: type[nn.Module] = nn.GroupNorm, labels: tuple[int, ...] = ()) -> UNet:
    """A small one that says something before it has learnt, with group or batch norm."""
    net = UNet(IMAGE, 8, labels)
    nn.init.normal_(net.outward[-1].weight, std=0.1)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm) and norm is nn.BatchNorm2d:
                setattr(module, name, nn.BatchNorm2d(child.num_channels))
    return net


class Flat(nn.Module):
    """The same network for flat rows."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.net(x.view(-1, *IMAGE), t, labels).flatten(1)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize(("name", "predict"), [("cosine", "velocity"), ("linear", "noise"), ("straight", "data")])
def test_images_are_rows_in_another_shape(name, predict, levels):
    net, labels = unet(labels=(3,)), torch.tensor([[0], [-1], [2]])
    x = torch.randint(3, (3, *IMAGE)).float() - 1
    both = [
        (Diffusion(net, IMAGE, name, predict, levels=levels), x),
        (Diffusion(Flat(net), 256, name, predict, levels=levels), x.flatten(1)),
    ]

    def said(model: Diffusion, x: Tensor) -> list[Tensor]:
        noise, t = torch.linspace(-2, 2, x.numel()).view_as(x), torch.tensor([0.2, 0.5, 0.9])
        torch.manual_seed(1)
        found = [model.loss(x), model.loss(x, labels)]
        model.weighting = "elbo"
        found += [model.loss(x, labels), *model.elbo_terms(x, 4), model.elbo(x, 3, labels=labels)]
        found += [*model.predict(noise, t, labels, 2.0), model.score(noise, t), model.velocity(noise, t)]
        found += [model.q_sample(x, t, noise), model.posterior(x, t).log_prob(noise), model.prior().log_prob(noise)]
        found += [model.q_posterior(noise, x, t / 2, t).log_prob(x), model.prior().sample((3,))]
        samplers = (DDPM(2), DDIM(2), DDIM(2, 0.5), Heun(2), Heun(2, clip=(-1, 1)))
        return found + [model.sample(3, sampler, labels, 2.0) for sampler in samplers]

    for image, flat in zip(said(*both[0]), said(*both[1]), strict=True):
        assert image.shape == (() if flat.ndim == 0 else (3, *IMAGE) if flat.shape[1:] == (256,) else flat.shape)
        assert torch.equal(image.flatten(), flat.flatten())


def test_every_image_has_its_own_time():
    """Sixteen images of sixteen rows: a time for each image, not for each row."""
    model, (x, eps), t = Diffusion(unet(), IMAGE), torch.randn(2, 16, *IMAGE), torch.linspace(0.05, 1, 16)
    for shape in ((16,), (16, 1), (16, 1, 1, 1)):
        x_t = model.q_sample(x, t.view(shape), eps)
        for i in range(16):
            alpha, sigma = model.schedule.alpha(t[i]), model.schedule.sigma(t[i])
            assert torch.allclose(x_t[i], alpha * x[i] + sigma * eps[i])
    for shape in ((4, 4), (1, 16)):
        with pytest.raises(ValueError, match=r"one entry for each of the 16 rows"):
            model.q_sample(x, t.view(shape), eps)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [nn.GroupNorm, nn.BatchNorm2d])
def test_a_u_net_learns_syllables_and_is_left_as_it_was(norm):
    h = data.hangul(16)
    x, labels = 2 * h.x[:60].view(-1, *IMAGE) - 1, h.labels[:60]
    model = Diffusion(unet(norm, (19, 21, 28)), IMAGE, "straight", "data")
    blank = ((x - x.mean(0)) ** 2).mean().item()  # the least loss of one picture for all
    fit(model, x, labels, steps=60, batch_size=20, lr=1e-2, progress=False, precision="float32")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = model.loss(x, labels)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert bool(changed) is (norm is nn.BatchNorm2d)
    assert losses < 0.9 * blank
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = model.sample(1, Heun(3), labels[0], 2.0, generator=torch.Generator().manual_seed(0))
    model.elbo(x[:2], 3)
    model.elbo_terms(x[:2], 3, labels=labels[:2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    model.eval()
    assert torch.equal(one, model.sample(1, Heun(3), labels[0], 2.0, generator=torch.Generator().manual_seed(0)))
    assert one.shape == (1, *IMAGE)


# --- evaluation mode -------------------------------------------------------------------------------------------------


class Moody(nn.Module):
    """Notes the mode in which it is called, and fails if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.calls, self.fails = nn.Linear(1, 1), [], False

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append((self.training, self.part.training))
        if self.fails:
            raise RuntimeError("as asked")
        return x + self.part.bias


@pytest.mark.parametrize("part", [True, False])
def test_bounds_and_samples_are_made_in_evaluation_mode(part):
    model, x = Diffusion(Moody(), 3), torch.randn(4, 3)
    net = model.denoiser
    net.part.train(part)
    mine = (True, part)
    for use in (
        lambda: model.sample(4, Heun(2)),
        lambda: model.denoise(x, 0.5),
        lambda: model.elbo(x, 3),
        lambda: model.elbo_terms(x, 3),
    ):
        for fails in (False, True):
            net.calls.clear()
            net.fails = fails
            if fails:
                with pytest.raises(ValueError, match="as asked"):
                    use()
            else:
                use()
            assert set(net.calls) == {(False, False)}
            assert (net.training, net.part.training) == mine
    net.fails = False
    for use in (model.loss, lambda x: model.predict(x, 0.5), lambda x: model.score(x, 0.5)):
        net.calls.clear()
        use(x)
        assert set(net.calls) == {mine}


def test_a_trajectory_that_is_left_or_shared_leaves_the_mode_alone():
    model, x = Diffusion(Moody(), 3), torch.randn(4, 3)
    path = DDPM(5).trajectory(model, x)
    next(path)
    assert model.training
    assert model.denoiser.training
    for _ in zip(path, DDPM(3).trajectory(model, x), strict=False):
        assert all(module.training for module in model.modules())
    assert set(model.denoiser.calls) == {(False, False)}


# --- data and their scale --------------------------------------------------------------------------------------------


def sets() -> dict[str, Tensor]:
    """What people train on, on the right scale."""
    images, wine = data.digits()[0], torch.randn(100, 13) * torch.logspace(0, 3, 13)
    return {
        "moons": data.moons(200),
        "grid": data.grid(200)[0] if isinstance(data.grid(200), tuple) else data.grid(200),
        "digits": 2 * images - 1,
        "from 0 to 1": images,
        "standardised": (wine - wine.mean(0)) / wine.std(0),
        "one far": torch.cat([torch.randn(200, 2), torch.full((1, 2), 50.0)]),
    }


@pytest.mark.parametrize("name", sets())
def test_data_of_moderate_scale_pass(name):
    x = sets()[name]
    model = Diffusion(lambda x, t: x, x.shape[1])
    model.check_data(x)
    assert model.loss(x).isfinite()


LEVELS = torch.arange(17.0).repeat(2, 1) / 16


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        (255 * LEVELS, None, r"root mean square of 149.* about ±1: use x / 127.5 - 1 .*standardise"),
        (torch.full((2, 17), -40.0), None, r"root mean square of 40"),
        (LEVELS, 17, r"17 grey levels from −1 to 1, but has others, from 0 to 1: use 2 \* x - 1"),
        (16 * LEVELS, 17, r"from 0 to 16: use x / 8 - 1"),
        (torch.arange(17.0).repeat(2, 1) * 15, 256, r"from 0 to 240: use x / 127.5 - 1"),
        (torch.arange(17.0).repeat(2, 1) * 15, 17, r"from 0 to 240: use x / 127.5 - 1"),
        (2 * LEVELS - 0.95, 17, r"from -0.95 to 1.05: choose levels anew"),
        (torch.full((2, 17), 1.125), 17, r"from 1.125 to 1.125"),
        (LEVELS.clone().fill_diagonal_(math.nan), None, r"x has entries that are NaN or infinite"),
        (LEVELS.clone().fill_diagonal_(math.nan), 17, r"x has entries that are NaN or infinite"),
        (LEVELS.clone().fill_diagonal_(-math.inf), None, r"x has entries that are NaN or infinite"),
    ],
)
def test_data_of_another_scale_are_refused(x, levels, message):
    def model() -> Diffusion:
        return Diffusion(ResidualMLP(17, 8, 1), 17, levels=levels)

    with pytest.raises(ValueError, match=message):
        model().check_data(x)
    with pytest.raises(ValueError, match=message):
        model().loss(x)
    if "square" not in message:
        for bound in (model().elbo, model().elbo_terms):
            with pytest.raises(ValueError, match=message):
                bound(x, 3)


def test_the_remedies_help():
    for x, levels in ((2 * LEVELS - 1, 17), (16 * LEVELS / 8 - 1, 17), (torch.arange(256.0)[None] / 127.5 - 1, 256)):
        model = Diffusion(lambda x, t: x, x.shape[1], levels=levels)
        model.check_data(x)
        assert model.elbo(x, 3).isfinite().all()


@pytest.mark.slow
def test_a_bound_may_be_asked_for_a_point_far_away():
    p = MultivariateNormal(MU, C)
    x = torch.full((1, 2), 40.0).double()
    elbo = gaussian("cosine").elbo(x, 3_000)
    assert elbo.item() == pytest.approx(p.log_prob(x).item(), rel=0.01)


def test_loss_looks_at_the_values_of_its_first_batch_only():
    model = Diffusion(lambda x, t: x, 2)
    model.loss(torch.randn(5, 2))
    assert model.loss(torch.full((5, 2), math.nan)).isnan()
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        model.loss(torch.randn(5, 3))
    with pytest.raises(ValueError, match="NaN"):
        model.elbo(torch.full((5, 2), math.nan))


def test_types_are_compared():
    """x against the denoiser's weights or buffers; a function has none."""
    x, half = torch.randn(5, 2), "x is torch.float64, the denoiser torch.float32: convert one"
    for model in (Diffusion(ResidualMLP(2, 8, 1), 2), finite(torch.eye(2))):
        for use in (model.loss, model.elbo, model.check_data, lambda x, m=model: m.predict(x, 0.5)):
            with pytest.raises(TypeError, match=half):
                use(x.double())
        with pytest.raises(TypeError, match=half):
            next(Heun(2).trajectory(model, x.double()))
        assert model.double().elbo(x.double()).dtype == torch.float64
    assert Diffusion(lambda x, t: x, 2).loss(x.double()).dtype == torch.float64
    with pytest.raises(ValueError, match=r"x_t must have shape \(n, 2\), not \(5, 3\)"):
        model.predict(torch.randn(5, 3).double(), 0.5)


def test_noise_is_drawn_where_and_as_the_denoiser_is():
    for net in (ResidualMLP(2, 8, 1).double(), EmpiricalDenoiser(torch.eye(2).double(), "cosine")):
        assert Diffusion(net, 2, predict="data").sample(3).dtype == torch.float64
    assert Diffusion(ResidualMLP(2, 8, 1).to("meta"), 2).sample(3, Heun(2)).is_meta


# --- ends of schedules -----------------------------------------------------------------------------------------------


class Short(Schedule):
    """Log SNR falls evenly from 8 to −3, so that much of the data is left."""

    def alpha(self, t: Tensor) -> Tensor:
        return (8 - 11 * t).sigmoid().sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return (11 * t - 8).sigmoid().sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        return (8 - log_snr) / 11


class Root(Schedule):
    """The noise grows as √t: its rate is infinite at t = 0."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t / 2

    def sigma(self, t: Tensor) -> Tensor:
        return t.sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t) / 2, 0.5 / t.sqrt()


class Fading(Schedule):
    """All the data are gone at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return (1 - t) ** 2

    def sigma(self, t: Tensor) -> Tensor:
        return t


@pytest.mark.parametrize(
    ("schedule", "predict", "message"),
    [
        ("linear", "velocity", r'"velocity" is infinite at t = 0 or 1 .*: choose "data" or "noise"'),
        (Root(), "velocity", r'"velocity" is infinite at t = 0 or 1'),
        ("straight", "noise", r'"noise" leaves x_0 open at t = 1'),
        (Fading(), "noise", r'"noise" leaves x_0 open at t = 1'),
    ],
)
def test_what_cannot_be_predicted_is_refused(schedule, predict, message):
    with pytest.raises(ValueError, match=message):
        Diffusion(nn.Identity(), 2, schedule, predict)
    Diffusion(nn.Identity(), 2, schedule, "data")
    if predict == "velocity":
        Diffusion(nn.Identity(), 2, schedule, "noise")


def test_the_velocity_that_is_refused_has_no_mean_square():
    """∫ σ'² dt of the linear schedule grows without end as the integral begins nearer to 0."""
    square = lambda t: SCHEDULES["linear"].rates(torch.tensor(t).double())[1].item() ** 2  # noqa: E731
    parts = [integrate.quad(square, 10.0 ** -(k + 1), 10.0**-k, limit=200)[0] for k in range(4, 10)]
    assert min(parts) > 0.9 * max(parts) > 0.05


@pytest.mark.parametrize("weighting", ["simple", "elbo"])
def test_a_schedule_ends_where_it_ends(weighting):
    """No time beyond 1, and the bound of the exact denoiser is log p but for the divergence at t = 1 that it pays."""
    net, n = GaussianDenoiser(MU, C, Short()), 4000
    times = []

    def exact(x: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return net(x, t)

    p = MultivariateNormal(MU, C)
    x = p.sample((n,))
    model = Diffusion(exact, 2, Short(), "data", weighting=weighting, resolution=math.exp(-4)).double()
    losses = torch.stack([model.loss(x) for _ in range(50)])
    reconstruction, kl, prior = model.elbo_terms(x, 400)
    assert 0 <= torch.cat(times).min() < 0.01
    assert 0.999 < torch.cat(times).max() <= 1
    end = Short().alpha(torch.ones(()).double()), Short().sigma(torch.ones(()).double())
    q = MultivariateNormal(end[0] * MU, end[0] ** 2 * C + end[1] ** 2 * torch.eye(2))
    gap = p.log_prob(x) - (reconstruction - kl.sum(1) - prior)
    paid = kl_divergence(q, MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()))
    assert gap.mean().item() == pytest.approx(paid.item(), abs=4 * gap.std().item() / math.sqrt(n) + 0.1)
    if weighting == "elbo":
        error = 4 * (losses.std() / math.sqrt(50) + kl.sum(1).std() / math.sqrt(n))
        assert abs(losses.mean() - kl.sum(1).mean()) < error + 11**2 / 4 / 400 * 2
        assert error < 0.5


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [500, 1.01, -0.01, math.nan, torch.tensor(2), torch.tensor([0.5, 0.5, 0.5, 1.5])])
def test_times_beyond_the_ends_are_refused(t):
    model, (x, eps) = Diffusion(Plain(), 2), torch.randn(2, 4, 2)
    for use in (
        lambda t: model.q_sample(x, t, eps),
        lambda t: model.posterior(x, t),
        lambda t: model.q_posterior(x, eps, 0.1, t),
        lambda t: model.predict(x, t),
        lambda t: model.velocity(x, t),
        lambda t: model.score(x, t),
    ):
        with pytest.raises(
            ValueError, match=r"t must be between 0, the data, and 1, the noise, not (500|1\.|-0\.|nan|2)"
        ):
            use(t)
        use(np.float32(0.5))
        use(1 + 1e-6)  # rounding
    with pytest.raises(ValueError, match=r"start must be a time from 0"):
        next(Heun(3).trajectory(model, x, start=1.5))


def flow(model: Diffusion, x_t: Tensor, t: float) -> Tensor:
    """Where the flow of N(MU, C) takes x_t from time t to 0, in closed form."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = model.schedule.alpha(time), model.schedule.sigma(time)
    values, U = torch.linalg.eigh(C)
    return MU + (x_t - alpha * MU) @ U * (values / (alpha**2 * values + sigma**2)).sqrt() @ U.T


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [0.3, 0.77])
def test_denoising_starts_from_where_it_is_told(name, t):
    model, x_t = gaussian(name), torch.randn(5, 2).double()
    points = list(Heun(200).trajectory(model, x_t, start=t))
    assert points[0].t == t
    assert torch.equal(points[0].x_t, x_t)
    assert [point.t for point in points[1:]] == [i / 200 for i in range(200, -1, -1) if i / 200 < t]
    assert torch.allclose(points[-1].x_t, flow(model, x_t, t), atol=2e-2 if name == "linear" else 1e-3)
    assert torch.equal(points[-1].x_t, model.denoise(x_t, t, Heun(200)))
    assert torch.equal(model.denoise(x_t, 0.0), x_t)


def test_denoising_an_image_gives_it_back():
    """Of a finite set, slightly noisy rows go back to themselves; from t = 1 they go anywhere."""
    x = data.digits()[0][:100] * 2 - 1
    model = finite(x)
    x_t = model.q_sample(x, 0.1, torch.randn_like(x))
    for sampler in (DDPM(30), DDIM(30), Heun(15)):
        assert torch.cdist(model.denoise(x_t, 0.1, sampler), x).argmin(1).equal(torch.arange(100))
        assert not torch.cdist(model.denoise(x_t, 1.0, sampler), x).argmin(1).equal(torch.arange(100))


@pytest.mark.parametrize("sampler", [DDPM, DDIM, Heun])
def test_equal_steps_are_times_too(sampler):
    model = Diffusion(Plain(), 3)
    for times in ([i / 7 for i in range(7, -1, -1)], np.arange(7, -1, -1) / 7, torch.arange(7, -1, -1).double() / 7):
        a, b = (model.sample(5, sampler(s), generator=torch.Generator().manual_seed(0)) for s in (7, times))
        assert torch.equal(a, b)
    assert hash(sampler(times)) == hash(sampler(tuple(times.tolist())))


def test_times_that_crowd_at_the_data_give_heun_its_second_order_back():
    """On the linear schedule σ grows as √t, so times that fall as the squares of equal steps make it smooth."""
    model, x_1 = gaussian("linear"), torch.randn(50, 2).double()
    errors = []
    for n in (32, 64, 128):
        sampler = Heun([(i / n) ** 2 for i in range(n, -1, -1)])
        *_, end = sampler.trajectory(model, x_1)
        errors.append((end.x_t - flow(model, x_1, 1.0)).norm().item())
    assert all(math.log2(errors[i] / errors[i + 1]) > 1.8 for i in range(2))


@pytest.mark.parametrize("times", [[], [1], [0.9, 0], [1, 0.5], [1, 0.5, 0.5, 0], [1, 0.2, 0.5, 0], [1, math.nan, 0]])
def test_bad_times_are_named(times):
    with pytest.raises(ValueError, match=r"steps, if they are times, must fall from 1 to 0, got"):
        Heun(times)


def test_steps_of_another_type_are_named():
    with pytest.raises(TypeError, match="steps must be an int, not str"):
        DDPM("50")
    with pytest.raises(TypeError, match="steps must be an int, not float"):
        DDPM(5.0)


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", [DDPM, DDIM, Heun])
def test_clipping_keeps_the_guess_in_and_the_noise_consistent(name, kind, monkeypatch):
    """Each step gets an x̂_0 within the limits and the ε̂ with which αx̂_0 + σε̂ = x_t."""
    model, seen, step = gaussian(name), [], kind.step

    def spy(self, model, predict, x_t, x_0, eps, s, t, generator):
        seen.append((x_t, x_0, eps, t))
        again = predict(x_t, t)
        assert torch.equal(again[0], x_0)
        assert torch.equal(again[1], eps)
        return step(self, model, predict, x_t, x_0, eps, s, t, generator)

    monkeypatch.setattr(kind, "step", spy)
    x_1 = 3 * torch.randn(50, 2).double()
    points = list(kind(6, clip=(-0.5, 0.75)).trajectory(model, x_1))
    for x_t, x_0, eps, t in seen:
        time = torch.tensor(t, dtype=torch.float64)
        assert torch.equal(x_0, model.predict(x_t, t)[0].clamp(-0.5, 0.75))
        assert torch.allclose(model.schedule.alpha(time) * x_0 + model.schedule.sigma(time) * eps, x_t)
    assert points[-1].x_t.abs().max() <= 0.75 + 1e-9
    monkeypatch.undo()
    wide, free = (
        model.sample(50, kind(6, clip=clip), generator=torch.Generator().manual_seed(0)) for clip in ((-1e6, 1e6), None)
    )
    assert torch.allclose(wide, free)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("kind", [DDPM, DDIM, Heun])
def test_clipping_mends_what_errors_in_the_noise_do_near_its_end(name, kind):
    """Data N(0, I/4) and their exact ε̂, but never beyond ±2: at t = 1 an x̂_0 of 0 becomes one of (|x_t| − 2) · 152."""
    exact = Diffusion(GaussianDenoiser(torch.zeros(2).double(), torch.eye(2).double() / 4, name), 2, name, "data")
    model = Diffusion(lambda x, t: exact.predict(x, t)[1].clamp(-2, 2), 2, name, "noise").double()
    x_1 = torch.randn(2000, 2).double()
    free, kept = (list(kind(25, clip=clip).trajectory(model, x_1)) for clip in (None, (-1.5, 1.5)))
    assert free[0].x_0.abs().max().item() == pytest.approx(152 * (x_1.abs().max().item() - 2), rel=0.01)
    assert free[-1].x_t.square().mean().sqrt() > 5
    assert kept[-1].x_t.square().mean().sqrt().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("clip", [(1, -1), (0, 0), (math.nan, 1)])
def test_bad_limits_are_named(clip):
    with pytest.raises(ValueError, match=r"clip must be the lowest and the highest value of the data, got"):
        DDIM(5, clip=clip)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            torch.zeros(5, 2, dtype=torch.bool),
            TypeError,
            r"labels must be integers, not torch.bool: use labels.long\(\)",
        ),
        (torch.zeros(5, 2), TypeError, r"labels must be integers, not torch.float32"),
        (torch.zeros(5, dtype=torch.long), ValueError, r"shape \(5, (2|k)\).*, not \(5,\): use labels\[:, None\]"),
        (torch.zeros(5, 3, dtype=torch.long), ValueError, r"shape \(5, 2\), a column for each label, not \(5, 3\)"),
        (torch.tensor([[0, 0], [0, 4]] + [[0, 0]] * 3), ValueError, r"labels has 4 in column 1, .* from 0 to 3, or −1"),
        (
            torch.tensor([[3, 0]] * 5),
            ValueError,
            r"labels has 3 in column 0, where they are from 0 to 2, or −1 for any",
        ),
        (torch.tensor([[0, -2]] * 5), ValueError, r"labels has -2 in column 1"),
        (np.array([[0, 9]] * 5), ValueError, r"labels has 9 in column 1"),
    ],
)
def test_bad_labels_are_named_before_the_network_sees_them(labels, error, message):
    net, x = ResidualMLP(2, 8, 1, labels=(3, 4)), torch.randn(5, 2)
    net.register_forward_pre_hook(lambda *_: pytest.fail("the network was called"))

    def model() -> Diffusion:
        return Diffusion(net, 2)

    for use in (
        lambda: model().loss(x, labels),
        lambda: model().check_data(x, labels),
        lambda: model().elbo(x, 3, labels=labels),
        lambda: model().sample(5, Heun(2), labels),
        lambda: model().predict(x, 0.5, labels),
        lambda: next(DDPM(2).trajectory(model(), x, labels)),
    ):
        with pytest.raises(error, match=message):
            use()


def test_labels_of_a_network_that_does_not_say_how_many_it_knows():
    model, x = Diffusion(Plain(), 2), torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"labels has -3 in column 0, where they are at least 0, or −1"):
        model.loss(x, torch.full((5, 1), -3))
    for labels in (torch.arange(5), torch.arange(10).view(1, 2, 5)):
        with pytest.raises(
            ValueError, match=r"labels must have shape \(5, k\), .* use labels\[:, None\] .* labels\[None\]"
        ):
            model.sample(5, Heun(2), labels)
    model.sample(5, Heun(2), torch.arange(5)[None])
    assert torch.equal(model.denoiser.calls[-1][1], torch.arange(5).expand(5, 5))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_numpy_labels_are_labels(kind):
    """Unsigned ones too, which cannot hold the −1 that hides them."""
    array = np.array([[1, 2]] * 40, dtype=kind)
    net, x = Plain(), torch.randn(40, 3)
    model, found = Diffusion(net, 3), []
    for labels in (array, torch.as_tensor(array).long()):
        torch.manual_seed(0)
        found.append([model.loss(x, labels), model.elbo(x, 3, labels=labels), model.sample(40, Heun(2), labels)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert net.calls[0][1].unique().tolist() == [-1, 1, 2]


def test_the_bound_given_a_label_is_that_of_its_class():
    """Two Gaussians, mirror images: each row has the bound of a model that knows only the class of its label."""
    alone = [Diffusion(GaussianDenoiser(mean, C, "cosine"), 2, "cosine", "data").double() for mean in (-MU, MU)]

    def denoiser(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return torch.where(labels == 1, alone[1].denoiser(x, t), alone[0].denoiser(x, t))

    labels = torch.arange(400)[:, None] % 2
    x = (2.0 * labels.double() - 1) * MU + MultivariateNormal(0 * MU, C).sample((400,))
    model = Diffusion(denoiser, 2, "cosine", "data").double()

    def bound(of: Diffusion, rows: Tensor, **asked: Tensor) -> Tensor:
        return of.elbo(rows, 50, generator=torch.Generator().manual_seed(1), **asked)

    for asked in (labels, 1 - labels):
        expected = torch.where(asked[:, 0] == 1, bound(alone[1], x), bound(alone[0], x))
        torch.testing.assert_close(bound(model, x, labels=asked), expected)
    terms = model.elbo_terms(x, 50, generator=torch.Generator().manual_seed(1), labels=labels)
    torch.testing.assert_close(terms[0] - terms[1].sum(1) - terms[2], bound(model, x, labels=labels))
    assert (bound(model, x, labels=labels) - bound(model, x, labels=1 - labels)).mean() > 2


# --- on the page, and on devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        *(method for kind in (diffusion.Cosine, diffusion.Straight) for method in (kind.alpha, kind.sigma)),
        Diffusion.q_posterior,
        Diffusion.elbo_terms,
        Diffusion.loss,
        DDPM.step,
        DDIM.step,
        Heun.step,
        EmpiricalDenoiser.forward,
    ],
    ids=lambda item: item.__qualname__,
)
def test_what_a_page_shows_is_narrow_and_mathematics(item: Callable):
    lines = show_source(item).data.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) > 3
    assert not any(word in line for line in lines for word in ("check", "raise", "evaluat"))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 17])
@pytest.mark.parametrize(("name", "predict"), [("cosine", "velocity"), ("linear", "noise"), ("straight", "data")])
def test_nothing_waits_for_the_host(name, predict, levels):
    """The meta device has no values: whoever asks for one fails."""
    with torch.device("meta"):
        model = Diffusion(UNet(IMAGE, 8, (3,)), IMAGE, name, predict, levels=levels)
        x, labels = torch.empty(4, *IMAGE), torch.empty(4, 1, dtype=torch.long)
    for model.weighting in ("simple", "elbo"):
        model.loss(x, labels).backward()
    assert model.elbo(x, 3, labels=labels).shape == (4,)
    for sampler in (DDPM(2), DDIM(2, 0.5), Heun(2, clip=(-1, 1))):
        assert model.sample(4, sampler, labels, 2.0).shape == x.shape
    assert model.score(x, torch.rand(4, device="meta")).is_meta


# --- own data, networks and schedules --------------------------------------------------------------------------------


class Noisy(Schedule):
    """A straight path that begins with noise of deviation 0.2 (Lipman et al. 2023, with their σ_min)."""

    least = 0.2

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return self.least + (1 - self.least) * t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), (1 - self.least) * torch.ones_like(t)

    def time(self, log_snr: Tensor) -> Tensor:
        ratio = (-log_snr / 2).exp()
        return (ratio - self.least) / (ratio + 1 - self.least)


def test_a_schedule_that_begins_with_noise_is_a_bound_from_there_on():
    """With E[x_0 | x_t] the bound misses log p(x) by no more than N(x; x̂_0, 0.2² I) misses p(x | x_t) at t = 0."""
    model = Diffusion(GaussianDenoiser(MU, C, Noisy()), 2, Noisy(), "data").double()
    p = MultivariateNormal(MU, C)
    x = p.sample((4000,))
    values = torch.linalg.eigvalsh(C)
    shrunk = values / (values + 0.04)  # Var[x | x_t] = 0.04 · shrunk
    gap = 0.5 * (shrunk - 1 - shrunk.log()).sum()
    missed = p.log_prob(x) - model.elbo(x, 1000)
    assert missed.mean() == pytest.approx(gap.item(), abs=4 * missed.std().item() / 4000**0.5 + 0.02)
    assert missed.std() < 1.2


def test_a_schedule_that_begins_with_noise_trains_on_the_bound():
    model = Diffusion(Plain(), 2, Noisy(), "data", weighting="elbo")
    assert model.loss(torch.randn(64, 2)).isfinite()


@pytest.mark.parametrize("x", [torch.tensor([[200, 3]]), torch.tensor([[200, 3]], dtype=torch.uint8)])
def test_whole_numbers_are_no_data(x):
    """Their type would round the time down to 0."""
    model = Diffusion(Plain(), 2)
    for use in (
        lambda: model.q_sample(x, 0.5, torch.zeros(1, 2)),
        lambda: model.posterior(x, 0.5),
        lambda: model.predict(x, 0.5),
        lambda: model.denoise(x, 0.5),
    ):
        with pytest.raises(
            TypeError, match=r"x must be float32 or float64, not torch\.(int64: use|uint8: use x / 255)"
        ):
            use()


def test_noise_of_another_shape_is_refused():
    model, x = Diffusion(UNet((1, 16, 16), 8), (1, 16, 16)), torch.randn(16, 1, 16, 16)
    with pytest.raises(ValueError, match=r"eps has shape \(16, 16, 16\), x \(16, 1, 16, 16\)"):
        model.q_sample(x, 0.5, torch.randn(16, 16, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diffusion(ResidualMLP, 2), r"denoiser must be a module or a function of .* not the class ResidualMLP"),
        (lambda: Diffusion("mlp", 2), r"denoiser must be a module or a function of x_t and t, not str"),
        (lambda: Diffusion(Plain(), 2, diffusion.Cosine), r"schedule must be one of .* such as Cosine\(\), not Cosine"),
        (lambda: Diffusion(Plain(), 2, None), r"schedule must be one of linear, cosine, straight, .* not NoneType"),
        (lambda: Diffusion(Plain(), 2).sample(1, Heun), r"sampler must be an object such as .* not the class Heun"),
        (lambda: Diffusion(Plain(), 2).sample(1, 50), r"sampler must be an object such as Heun\(50\), not int"),
        (
            lambda: Diffusion(Plain(), 2).denoise(torch.randn(3, 2), torch.full((3,), 0.5)),
            r"start must be a number, not Tensor",
        ),
        (lambda: Diffusion(mlp(2, 2), 2).loss(torch.randn(3, 2)), r"denoiser does not take .* 2 positional arguments"),
        (
            lambda: Diffusion(lambda x, t: x, 2).loss(torch.randn(3, 2), torch.zeros(3, 1, dtype=torch.long)),
            r"denoiser does not take torch.float32 of shape \(3, 2\), .* torch.int64 of shape \(3, 1\) on cpu: .*",
        ),
        (lambda: Diffusion(lambda x, t: (x,), 2).loss(torch.randn(3, 2)), r"denoiser must return a torch.Tensor"),
    ],
)
def test_what_is_of_a_wrong_type_is_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("clip", [1, (-1, 1, 2), (1, -1)])
def test_a_clip_is_an_interval(clip):
    with pytest.raises(ValueError, match=r"clip must be the lowest and the highest value of the data, got"):
        DDIM(5, clip=clip)
