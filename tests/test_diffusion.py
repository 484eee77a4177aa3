from __future__ import annotations

import math

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
from companion.nets import ResidualMLP, mlp
from companion.training import fit

PAIRS = [(s, p) for s in SCHEDULES for p in PREDICTIONS if (s, p) != ("straight", "noise")]
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


@pytest.mark.parametrize(("name", "predict"), [pair for pair in PAIRS if pair != ("linear", "velocity")])
def test_loss_of_a_network_that_says_nothing(name, predict):
    """A zero has the mean square of what should have been said: 1, x², or ∫ α'² x² + σ'² dt, by quadrature.

    Left out is the linear schedule's velocity, whose mean square is infinite.
    """
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
    assert (model.elbo(torch.tensor([[0.3, 0.0]]).double()) == -math.inf).all()


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
    with pytest.raises(ValueError, match=r"denoiser gives shape \(5, 1\) for x_t of shape \(5, 2\).* 2 numbers"):
        model.loss(torch.randn(5, 2))
    with pytest.raises(ValueError, match=r"x must have 2 columns"):
        model.loss(torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"x must have 2 columns"):
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
