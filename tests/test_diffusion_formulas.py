"""The numbered formulas of chapter 5, each against something that does not use it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from companion.diffusion import (
    DDIM,
    DDPM,
    Cosine,
    Diffusion,
    EmpiricalDenoiser,
    GaussianDenoiser,
    Heun,
    Linear,
    Straight,
    split,
    target,
)
from companion.latent import GaussianMixture
from companion.nets import ResidualMLP
from companion.training import fit

SCHEDULES = (Linear(), Cosine(), Straight())
TIMES = torch.tensor([0.05, 0.3, 0.55, 0.9], dtype=torch.float64)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-9) -> None:
    b = torch.as_tensor(b, dtype=torch.float64)
    assert torch.allclose(a.double(), b.expand_as(a), rtol=tolerance, atol=tolerance), (a, b)


def within(samples: Tensor, mean: Tensor | float, errors: float = 4.5) -> None:
    """The mean over the first axis is right, up to its standard error, which is small."""
    error = samples.std(0) / math.sqrt(len(samples)) + 1e-12
    assert (error < 0.05 * (1 + abs(mean))).all(), "an error without bound would agree with anything"
    assert ((samples.mean(0) - mean).abs() / error).max() < errors


def number(t: float) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64)


def snr(schedule, t: float) -> float:
    """α²/σ² in plain floats."""
    return (schedule.alpha(number(t)) / schedule.sigma(number(t))).item() ** 2


def diffusion(denoiser, schedule="cosine", predict="data", dim: int = 1, **options) -> Diffusion:
    return Diffusion(denoiser, dim, schedule, predict, **options).double()


# 5.1 The forward process


@pytest.mark.equation("5.1")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_signal_fades_while_noise_grows(schedule) -> None:
    x_0, n = normal(1, 3, seed=1).expand(200_000, 3), 200_000
    model = diffusion(torch.nn.Identity(), schedule, dim=3)
    for t in TIMES:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        eps = normal(n, 3, seed=2)
        x_t = model.q_sample(x_0, t.expand(n), eps)
        close(x_t, alpha * x_0 + sigma * eps)
        within(x_t, alpha * x_0[0])
        within((x_t - alpha * x_0[0]).square(), sigma**2)
        close(
            model.posterior(x_0[:4], t.expand(4)).log_prob(x_t[:4]),
            Normal(alpha * x_0[:4], sigma).log_prob(x_t[:4]).sum(1),
        )
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (schedule.alpha(t).diff() < 0).all()
    assert (schedule.sigma(t).diff() > 0).all()
    close(schedule.alpha(t[:1]), 1.0)
    close(schedule.sigma(t[:1]), 0.0)
    assert schedule.alpha(t[-1:]).item() < 0.02
    kept = (
        schedule.alpha(t) + schedule.sigma(t)
        if isinstance(schedule, Straight)
        else schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    )
    close(kept, 1.0, 1e-6)


@pytest.mark.equation("5.2")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_the_ratio_is_what_the_noise_leaves_to_see(schedule) -> None:
    """For a coin x_0 = ±1 the squared correlation of x_t and x_0 is SNR/(1 + SNR)."""
    x_0 = normal(100_000, seed=3).sign()
    t = torch.linspace(0, 1, 201, dtype=torch.float64)[1:-1]
    assert (schedule.snr(t).diff() < 0).all()
    for t in TIMES:
        x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * normal(100_000, seed=4)
        correlation = torch.corrcoef(torch.stack([x_0, x_t]))[0, 1].item()
        assert correlation**2 == pytest.approx(snr(schedule, t) / (1 + snr(schedule, t)), abs=0.01)
        assert schedule.snr(t).item() == pytest.approx(snr(schedule, t))


# 5.2 A Markov chain


def step(schedule, s: float, t: float) -> tuple[float, float]:
    """α_{t|s} and σ²_{t|s} of (5.3)."""
    ratio = (schedule.alpha(number(t)) / schedule.alpha(number(s))).item()
    return ratio, schedule.sigma(number(t)).item() ** 2 - ratio**2 * schedule.sigma(number(s)).item() ** 2


@pytest.mark.equation("5.3")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_many_small_steps_are_one_large_step(schedule) -> None:
    """A chain of random steps, sample by sample, against the closed form at its end."""
    times = torch.linspace(0, 0.8, 21).tolist()
    x = torch.full((100_000,), 1.7, dtype=torch.float64)
    for i, (s, t) in enumerate(itertools.pairwise(times)):
        ratio, variance = step(schedule, s, t)
        assert variance > 0
        x = ratio * x + math.sqrt(variance) * normal(len(x), seed=10 + i)
    alpha, sigma = schedule.alpha(number(0.8)), schedule.sigma(number(0.8))
    within(x, 1.7 * alpha)
    within((x - 1.7 * alpha).square(), sigma**2)


@pytest.mark.equation("5.4")
def test_the_chain_of_ddpm() -> None:
    """Mean and variance carried from step to step; the linear schedule is the limit of its β."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    mean, variance = number(1.0), number(0.0)
    alpha_bar = torch.cumprod(1 - beta, 0)
    for b, product in zip(beta, alpha_bar, strict=True):
        mean, variance = (1 - b).sqrt() * mean, (1 - b) * variance + b
        close(mean, product.sqrt())
        close(variance, 1 - product)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert (Linear().alpha_bar(t) - alpha_bar).abs().max() < 3e-3
    ratio = torch.tensor([step(Linear(), *pair)[0] for pair in zip((t - 1e-3).tolist(), t.tolist(), strict=True)])
    assert (1 - ratio.double() ** 2 - beta).abs().max() < 3e-4


# 5.3 The reverse process and its bound


def bent(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that is neither linear nor right."""
    return torch.tanh(1.5 * x_t) * (1 - 0.3 * t.reshape(-1, *[1] * (x_t.ndim - 1)))


def chain(x_t: Tensor, s: float, t: float, schedule, denoiser=bent) -> Normal:
    """p(x_s | x_t), written out from the product of two Gaussians, q(x_s | x̂_0) and q(x_t | x_s)."""
    ratio, variance = step(schedule, s, t)
    alpha, sigma2 = schedule.alpha(number(s)), schedule.sigma(number(s)) ** 2
    precision = 1 / sigma2 + ratio**2 / variance
    x_0 = denoiser(x_t, number(t).expand(len(x_t)))
    return Normal((alpha * x_0 / sigma2 + ratio * x_t / variance) / precision, precision**-0.5)


@pytest.mark.equation("5.5")
def test_the_chain_is_a_density_and_ancestral_sampling_draws_from_it() -> None:
    """Three variables: the joint integrates to one, and its marginal is the distribution of the drawn x_0."""
    schedule = Cosine()
    last = (schedule.sigma(number(0.5)) / schedule.alpha(number(0.5))).item()
    grid = torch.linspace(-9, 9, 901, dtype=torch.float64)
    width = (grid[1] - grid[0]).item()
    middle = chain(grid[:, None], 0.5, 1.0, schedule).log_prob(grid).exp()  # rows x_1, columns x_0.5
    end = Normal(bent(grid, torch.full_like(grid, 0.5)), last)
    first = Normal(number(0.0), 1.0).log_prob(grid).exp()
    marginal = first @ middle @ end.log_prob(grid[:, None]).T.exp() * width**2
    assert marginal.sum().item() * width == pytest.approx(1, abs=1e-4)
    below = marginal.cumsum(0) * width
    n = 100_000
    x = normal(n, seed=40)
    middle = chain(x, 0.5, 1.0, schedule)
    x = middle.mean + middle.stddev * normal(n, seed=41)
    x = bent(x, torch.full_like(x, 0.5)) + last * normal(n, seed=42)
    shares = (x[:, None] < grid[::30] + width / 2).double()
    likely = (below[::30] > 0.01) & (below[::30] < 0.99)
    assert likely.sum() > 5
    within(shares[:, likely], below[::30][likely])


@pytest.mark.equation("5.6")
def test_the_bound_of_chapter_3_for_a_chain() -> None:
    """log p(x_0) − KL(q(chain | x_0) ‖ p(chain | x_0)), both by quadrature, against the expectation of a log ratio."""
    schedule, x_0 = Cosine(), 0.6
    grid = torch.linspace(-9, 9, 601, dtype=torch.float64)
    width = (grid[1] - grid[0]).item()
    last = (schedule.sigma(number(0.5)) / schedule.alpha(number(0.5))).item()
    ratio, variance = step(schedule, 0.5, 1.0)
    middle = Normal(schedule.alpha(number(0.5)) * x_0, schedule.sigma(number(0.5))).log_prob(grid)
    log_q = middle + Normal(ratio * grid, math.sqrt(variance)).log_prob(grid[:, None])  # rows x_1, columns x_0.5
    log_p = Normal(number(0.0), 1.0).log_prob(grid)[:, None] + chain(grid[:, None], 0.5, 1.0, schedule).log_prob(grid)
    log_p = log_p + Normal(bent(grid, torch.full_like(grid, 0.5)), last).log_prob(number(x_0))
    log_evidence = log_p.flatten().logsumexp(0) + 2 * math.log(width)
    kl = (log_q.exp() * (log_q - (log_p - log_evidence))).sum() * width**2
    model = diffusion(bent, resolution=last)
    x = torch.full((50_000, 1), x_0, dtype=torch.float64)
    estimate = model.elbo(x, steps=2, generator=torch.Generator().manual_seed(5))
    within(estimate, log_evidence - kl)
    assert kl > 0.01


@pytest.mark.equation("5.6")
@pytest.mark.equation("5.9")
@pytest.mark.parametrize("schedule", SCHEDULES[:2], ids=lambda schedule: type(schedule).__name__)
def test_the_bound_splits_into_steps(schedule) -> None:
    """The log ratio of whole chains drawn forwards, against the sum that the package computes."""
    n, T, resolution = 50_000, 6, 0.3
    x_0 = torch.tensor([-0.4, 0.9], dtype=torch.float64).expand(n, 2)
    ends = -2 * math.log(resolution), math.log(snr(schedule, 1.0))
    ratios = torch.linspace(*ends, T).exp().tolist()[:-1]
    times = [0, *(optimize.brentq(lambda t, r=r: snr(schedule, t) - r, 1e-6, 1) for r in ratios), 1]
    x, log_ratio = x_0, torch.zeros(n, dtype=torch.float64)
    for i in range(T):
        before, (ratio, variance) = x, step(schedule, times[i], times[i + 1])
        there = Normal(ratio * before, math.sqrt(variance))
        x = there.mean + there.stddev * normal(n, 2, seed=50 + i)
        log_ratio -= there.log_prob(x).sum(1)
        if i:
            log_ratio += chain(x, times[i], times[i + 1], schedule).log_prob(before).sum(1)
        else:
            log_ratio += Normal(bent(x, number(times[1]).expand(n)), resolution).log_prob(before).sum(1)
    log_ratio += Normal(number(0.0), 1.0).log_prob(x).sum(1)
    model = diffusion(bent, schedule, dim=2, resolution=resolution)
    bound = model.elbo(x_0, steps=T, generator=torch.Generator().manual_seed(6))
    difference = log_ratio.mean() - bound.mean()
    assert difference.abs() < 4.5 * math.sqrt((log_ratio.var() + bound.var()) / n)


@pytest.mark.equation("5.6")
@pytest.mark.equation("5.9")
@pytest.mark.parametrize("schedule", SCHEDULES[:2], ids=lambda schedule: type(schedule).__name__)
def test_who_knows_the_datum_pays_for_what_the_noise_leaves_of_it(schedule) -> None:
    """With x̂_0 = x_0 no step costs anything: reconstruction and the prior's term stay, which a far x_0 makes large."""
    far, resolution = 100.0, 0.3
    model = diffusion(lambda x_t, t: torch.full_like(x_t, far), schedule, resolution=resolution)
    prior = kl_divergence(
        Normal(far * schedule.alpha(number(1.0)), schedule.sigma(number(1.0))), Normal(number(0.0), 1.0)
    )
    assert prior > 0.1
    bound = model.elbo(torch.full((1, 1), far, dtype=torch.float64), steps=5)
    close(bound, Normal(number(0.0), resolution).log_prob(number(0.0)) - prior, 1e-6)


@pytest.mark.equation("5.9")
def test_the_reconstruction_of_grey_levels_is_a_share_of_a_gaussian() -> None:
    levels = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    model = diffusion(lambda x_t, t: torch.full_like(x_t, 0.2), levels=3, resolution=0.5)
    reconstruction, _, _ = model.elbo_terms(levels, steps=2)
    density = stats.norm.pdf(levels[:, 0], 0.2, 0.5)
    close(reconstruction.exp(), torch.from_numpy(density / density.sum()), 1e-6)


def pieces(x_0: Tensor, chain: Tensor, times: list[float], schedule) -> tuple[Tensor, Tensor, Tensor]:
    """Log densities of the steps forwards, (T, n), of q(x_t | x_0), (T, n), and of the steps back, (T − 1, n).

    The steps back come from the joint covariance of x_s and x_t given x_0, by regression.
    """
    forwards, at_once, back, before, s = [], [], [], x_0, 0.0
    for x, t in zip(chain, times, strict=True):
        ratio, variance = step(schedule, s, t)
        forwards.append(Normal(ratio * before, math.sqrt(variance)).log_prob(x))
        alpha, sigma = schedule.alpha(number(t)), schedule.sigma(number(t))
        at_once.append(Normal(alpha * x_0, sigma).log_prob(x))
        if s:
            alpha_s, sigma_s = schedule.alpha(number(s)), schedule.sigma(number(s))
            together = torch.stack(
                [torch.stack([sigma_s**2, ratio * sigma_s**2]), torch.stack([ratio * sigma_s**2, sigma**2])]
            )
            gain = together[0, 1] / together[1, 1]
            mean = alpha_s * x_0 + gain * (x - alpha * x_0)
            back.append(Normal(mean, (together.det() / together[1, 1]).sqrt()).log_prob(before))
        before, s = x, t
    return tuple(map(torch.stack, (forwards, at_once, back)))


@pytest.mark.equation("5.7")
@pytest.mark.equation("5.10")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_the_steps_of_q_turned_round(schedule) -> None:
    """At random points: each step forwards, and the product of all, against steps back and the leap to the end."""
    times = [0.15, 0.4, 0.55, 0.9]
    x_0, chain = normal(20, seed=55), normal(4, 20, seed=56)
    forwards, at_once, back = pieces(x_0, chain, times, schedule)
    for i in range(1, 4):
        close(forwards[i], back[i - 1] + at_once[i] - at_once[i - 1], 1e-7)
    ratios = [at_once[i] - at_once[i - 1] for i in range(1, 4)]
    close(forwards.sum(0), at_once[0] + sum(ratios) + back.sum(0), 1e-7)
    close(forwards.sum(0), at_once[-1] + back.sum(0), 1e-7)
    model = diffusion(bent, schedule)
    for i, (s, t) in enumerate(itertools.pairwise(times)):
        ours = model.q_posterior(chain[i + 1, :, None], x_0[:, None], number(s), number(t))
        close(ours.log_prob(chain[i, :, None]), back[i], 1e-7)


@pytest.mark.equation("5.8")
def test_the_three_terms_of_two_steps() -> None:
    """On a grid of (u, x_1): the log ratio of the chain forwards, and each of the package's terms for T = 2."""
    schedule, x_0 = Cosine(), 0.6
    grid = torch.linspace(-9, 9, 601, dtype=torch.float64)
    width = (grid[1] - grid[0]).item()
    last = (schedule.sigma(number(0.5)) / schedule.alpha(number(0.5))).item()
    u, x_1 = grid.repeat(601), grid.repeat_interleave(601)
    forwards, at_once, back = pieces(number(x_0).expand(len(u)), torch.stack([u, x_1]), [0.5, 1.0], schedule)
    q = forwards.sum(0).exp() * width**2
    assert q.sum().item() == pytest.approx(1, abs=1e-6)
    reconstruction = Normal(bent(u, number(0.5).expand(len(u))), last).log_prob(number(x_0))
    p_back = chain(x_1, 0.5, 1.0, schedule).log_prob(u)
    p_last = Normal(number(0.0), 1.0).log_prob(x_1)
    mean = [(q * part).sum() for part in (reconstruction, at_once[1] - p_last, back[0] - p_back)]
    close((q * (reconstruction + p_back + p_last - forwards.sum(0))).sum(), mean[0] - mean[1] - mean[2], 1e-6)
    model = diffusion(bent, resolution=last)
    x = torch.full((50_000, 1), x_0, dtype=torch.float64)
    terms = model.elbo_terms(x, steps=2, generator=torch.Generator().manual_seed(5))
    within(terms[0], mean[0])
    within(terms[1][:, 0], mean[2])
    close(terms[2], mean[1], 1e-4)


@pytest.mark.equation("5.11")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_a_step_back_by_bayes(schedule) -> None:
    """q(x_s | x_0) q(x_t | x_s) on a grid, divided by its sum."""
    s, t, x_0, x_t = 0.35, 0.6, 1.2, -0.3
    ratio, variance = step(schedule, s, t)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    log_p = Normal(schedule.alpha(number(s)) * x_0, schedule.sigma(number(s))).log_prob(grid)
    log_p = log_p + Normal(ratio * grid, math.sqrt(variance)).log_prob(number(x_t))
    p = log_p.softmax(0)
    mean = (p * grid).sum()
    q = diffusion(bent, schedule).q_posterior(number(x_t)[None, None], number(x_0)[None, None], number(s), number(t))
    close(q.mean.flatten()[0], mean, 1e-6)
    close(q.variance.flatten()[0], (p * (grid - mean) ** 2).sum(), 1e-6)
    sigma_t2 = schedule.sigma(number(t)) ** 2
    sigma_s2 = schedule.sigma(number(s)) ** 2
    close(mean, (ratio * sigma_s2 * x_t + schedule.alpha(number(s)) * variance * x_0) / sigma_t2, 1e-6)
    close((p * (grid - mean) ** 2).sum(), sigma_s2 * variance / sigma_t2, 1e-6)


@pytest.mark.equation("5.12")
def test_the_step_back_has_the_right_mean_and_nearly_the_right_variance() -> None:
    """Gaussian data: q(x_s | x_t) by conditioning. The variance that p lacks is of second order in t − s."""
    schedule, v, mu, t = Cosine(), 0.5, 0.8, 0.6
    x_t = number(0.9)[None, None]
    denoiser = GaussianDenoiser(torch.tensor([mu]).double(), torch.tensor([[v]]).double(), schedule)
    x_0 = denoiser(x_t, number(t)[None])
    lacking = []
    for s in (0.5, 0.55):
        ratio, variance = step(schedule, s, t)
        alpha = schedule.alpha(number(s)).item()
        spread = alpha**2 * v + schedule.sigma(number(s)).item() ** 2
        gain = ratio * spread / (ratio**2 * spread + variance)
        truth = alpha * mu + gain * (0.9 - ratio * alpha * mu), spread - gain * ratio * spread
        p = diffusion(denoiser, schedule).q_posterior(x_t, x_0, number(s), number(t))
        close(p.mean.flatten()[0], truth[0], 1e-6)
        lacking.append(1 - p.variance.item() / truth[1])
    assert 0 < lacking[1] < 0.65 * lacking[0] < 0.2


@pytest.mark.equation("5.13")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_each_step_costs_a_squared_error(schedule) -> None:
    x_0, x_hat, x_t = normal(3, 20, 4, seed=60)
    model = diffusion(bent, schedule, dim=4)
    for s, t in ((0.1, 0.2), (0.4, 0.9), (0.95, 0.96)):
        q, p = (model.q_posterior(x_t, x, number(s), number(t)) for x in (x_0, x_hat))
        cost = 0.5 * (snr(schedule, s) - snr(schedule, t)) * (x_0 - x_hat).square().sum(1)
        close(kl_divergence(q, p), cost, 1e-6)


@pytest.mark.equation("5.13")
def test_the_terms_of_the_bound_are_squared_errors() -> None:
    """A denoiser that always gives the same answer, at times whose SNR is evenly spaced on a logarithmic scale."""
    x_0, x_hat = normal(2, 20, 4, seed=60)
    model = diffusion(lambda x_t, t: x_hat, "straight", dim=4, resolution=0.3)
    log_snr = torch.linspace(-2 * math.log(0.3), -10.05, 6, dtype=torch.float64)
    times = (-log_snr / 2).exp() / (1 + (-log_snr / 2).exp())
    times[-1] = 1
    ratios = torch.tensor([snr(Straight(), t) for t in times])
    _, kl, _ = model.elbo_terms(x_0, steps=6)
    close(kl, -0.5 * ratios.diff() * (x_0 - x_hat).square().sum(1, keepdim=True), 1e-6)


# 5.4 The loss


@pytest.mark.equation("5.14")
@pytest.mark.parametrize("schedule", SCHEDULES[:2], ids=lambda schedule: type(schedule).__name__)
def test_errors_in_the_noise_and_in_the_data(schedule) -> None:
    x_0, eps, guess = normal(3, 10, 4, seed=61)
    for t in TIMES:
        model = diffusion(lambda x_t, t: guess, schedule, "noise", dim=4)
        x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * eps
        x_hat, eps_hat = model.predict(x_t, t.expand(10))
        close(eps_hat, guess)
        close((x_0 - x_hat).square().sum(1), (eps - guess).square().sum(1) / snr(schedule, t), 1e-6)
        q, p = (model.q_posterior(x_t, x, 0.8 * t, t) for x in (x_0, x_hat))
        weight = 0.5 * (snr(schedule, 0.8 * t) / snr(schedule, t) - 1)
        close(kl_divergence(q, p), weight * (eps - guess).square().sum(1), 1e-6)


@pytest.mark.equation("5.14")
def test_the_weights_are_those_of_ddpm() -> None:
    """β²/(2σ̃²(1 − β)(1 − ᾱ)) of Ho et al., with σ̃² the variance of q(x_{i−1} | x_i, x_0)."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    ratio = alpha_bar / (1 - alpha_bar)
    tilde = beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    theirs = beta[1:] ** 2 / (2 * tilde * (1 - beta[1:]) * (1 - alpha_bar[1:]))
    close(0.5 * (ratio[:-1] / ratio[1:] - 1), theirs)


@pytest.mark.equation("5.15")
def test_the_simple_loss_by_quadrature() -> None:
    """x_0 ~ N(0, diag v) and ε̂ = c x_t: the error is known at every t, and a quadrature averages it over t."""
    d, v, c, schedule = 3, torch.tensor([2.0, 0.5, 0.1], dtype=torch.float64), 0.6, Cosine()

    def error(t: float) -> float:
        alpha, sigma = schedule.alpha(number(t)).item(), schedule.sigma(number(t)).item()
        return (1 - c * sigma) ** 2 + c**2 * alpha**2 * v.mean().item()

    model = diffusion(lambda x_t, t: c * x_t, schedule, "noise", dim=d)
    torch.manual_seed(7)
    losses = torch.stack([model.loss(v.sqrt() * normal(1000, d, seed=100 + i)) for i in range(100)])
    within(losses, integrate.quad(error, 0, 1)[0])


@pytest.mark.equation("5.15")
@pytest.mark.parametrize("n", [1, 4])
def test_the_times_are_uniform_one_in_each_of_n_parts_and_labels_are_hidden_at_random(n: int) -> None:
    seen = []

    def denoiser(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.append((t.sort().values * n - torch.arange(n), labels))
        return x_t

    model, asked = diffusion(denoiser, "cosine", "noise", dim=2), torch.arange(3 * n).reshape(n, 3)
    for _ in range(500):
        model.loss(torch.zeros(n, 2).double(), asked)
    within_a_part, labels = (torch.stack(parts) for parts in zip(*seen, strict=True))
    assert stats.kstest(within_a_part[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert ((within_a_part > -1e-9) & (within_a_part < 1 + 1e-9)).all()
    assert ((labels == asked) | (labels == -1)).all()
    shown = (labels == asked).sum(-1).flatten().bincount(minlength=4)
    assert stats.chisquare(shown.numpy()).pvalue > 1e-3  # 0, 1, 2 or 3 of three, equally often


@pytest.mark.equation("5.16")
@pytest.mark.slow
def test_time_and_labels_enter_every_block() -> None:
    """The network in NumPy, from its weights by name, for two labels, one of them unknown."""
    torch.manual_seed(3)
    net = ResidualMLP(4, 6, 2, labels=(3, 5)).double()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    w = {name: value.numpy() for name, value in net.state_dict().items()}
    x, t, labels = normal(3, 4, seed=130), np.array([0.1, 0.5, 0.9]), np.array([[2, -1], [0, 4], [-1, 3]])

    def silu(a: np.ndarray) -> np.ndarray:
        return a / (1 + np.exp(-a))

    def linear(name: str, a: np.ndarray) -> np.ndarray:
        return a @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, h: np.ndarray) -> np.ndarray:
        unit = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        return unit * w[f"{name}.weight"] + w[f"{name}.bias"]

    b = w["time.0.B"][0]
    features = np.stack([np.r_[time, np.sin(b * time), np.cos(b * time)] for time in t])
    tables = [w["labels.0.weight"], w["labels.1.weight"]]  # row 0 is the unknown label
    e = silu(linear("time.1", features) + sum(table[y + 1] for table, y in zip(tables, labels.T, strict=True)))
    h = linear("inward", x.numpy())
    for k in range(2):
        inner = linear(f"blocks.{k}.first", norm(f"blocks.{k}.norm", h)) + linear(f"blocks.{k}.condition", e)
        h = h + linear(f"blocks.{k}.second", silu(inner))
    with torch.no_grad():
        ours = net(x, torch.from_numpy(t), torch.from_numpy(labels))
    close(ours, torch.from_numpy(linear("outward", norm("norm", h))))
    b = torch.cat([ResidualMLP(1, 1, 1).time[0].B.flatten() for _ in range(500)])
    assert b.std().item() == pytest.approx(6, rel=0.03)
    assert abs(b.mean().item()) < 0.2


@pytest.mark.equation("5.17")
def test_the_average_of_weights_is_a_weighted_sum_of_all() -> None:
    """The recursion of the page, and `fit`, which divides by 1 − ρᵏ, against the weights that each step had."""
    rho, x = 0.8, normal(64, 1, seed=131).float()

    def trained(steps: int, ema: float | None = None) -> Tensor:
        torch.manual_seed(4)
        net = ResidualMLP(1, 4, 1)
        model = Diffusion(net, 1, "cosine", "noise")
        fit(model, x, steps=steps, batch_size=8, lr=1e-2, ema=ema, precision="float32", progress=False)
        return torch.nn.utils.parameters_to_vector(net.parameters()).detach().double()

    weights = torch.stack([trained(k) for k in range(1, 6)])
    share = (1 - rho) * rho ** torch.arange(4, -1, -1).double()
    torch.manual_seed(4)
    start = torch.nn.utils.parameters_to_vector(ResidualMLP(1, 4, 1).parameters()).detach().double()
    average = start.clone()
    for weight in weights:
        average = average.lerp(weight, 1 - rho)
    assert (average - start).abs().max() > 1e-3
    close(average, rho**5 * start + share @ weights)
    close(trained(5, rho), share @ weights / (1 - rho**5), 1e-5)


@pytest.mark.equation("5.18")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_many_steps_add_up_to_an_integral(schedule) -> None:
    """x_0 ~ N(0, v), the best x̂_0: E|x_0 − x̂_0|² = v/(1 + v SNR), so the integral is ½ log of a ratio."""
    v, start, end = 0.7, 0.1, 0.95

    def error(t: float) -> float:
        return v / (1 + v * snr(schedule, t))

    truth = 0.5 * math.log((1 + v * snr(schedule, start)) / (1 + v * snr(schedule, end)))

    def slope(t: float) -> float:
        return (snr(schedule, t + 1e-5) - snr(schedule, t - 1e-5)) / 2e-5

    integral = integrate.quad(lambda t: -0.5 * slope(t) * error(t), start, end)[0]
    assert integral == pytest.approx(truth, rel=1e-5)
    ends = math.log(snr(schedule, end)), math.log(snr(schedule, start))
    in_noise = integrate.quad(lambda log_snr: math.exp(log_snr) * v / (1 + v * math.exp(log_snr)), *ends)[0]
    assert 0.5 * in_noise == pytest.approx(truth, rel=1e-6)  # E|ε − ε̂|² = SNR E|x_0 − x̂_0|²

    def steps(T: int) -> float:
        t = torch.linspace(start, end, T + 1, dtype=torch.float64).tolist()
        return sum(0.5 * (snr(schedule, a) - snr(schedule, b)) * error(b) for a, b in itertools.pairwise(t))

    excess = [steps(T) - truth for T in (200, 400, 800)]
    assert excess[0] > excess[1] > excess[2] > 0
    assert excess[1] / excess[2] == pytest.approx(2, rel=0.05)


@pytest.mark.equation("5.18")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_the_loss_of_the_bound_is_the_integral(schedule) -> None:
    """In two dimensions, with the best x̂_0: the sum of ½ log((1 + v SNR(t₁))/(1 + v SNR(1))) over both variances v."""
    v, resolution = torch.tensor([0.7, 0.1], dtype=torch.float64), 0.05
    denoiser = GaussianDenoiser(torch.zeros(2).double(), v.diag(), schedule)
    model = diffusion(denoiser, schedule, dim=2, weighting="elbo", resolution=resolution)
    truth = 0.5 * ((1 + v / resolution**2) / (1 + v * math.exp(-10.05))).log().sum()
    torch.manual_seed(14)
    losses = torch.stack([model.loss(v.sqrt() * normal(1000, 2, seed=300 + i)) for i in range(100)])
    within(losses, truth)


# 5.5 The best prediction


@pytest.mark.equation("5.19")
def test_the_best_prediction_for_gaussian_data_is_the_conditional_mean() -> None:
    """(x_0, x_t) is jointly Gaussian: condition it on x_t, with the inverse of its covariance."""
    schedule, d, A = Cosine(), 3, normal(3, 2, seed=110)
    mu, C, x_t = normal(d, seed=111), A @ A.T, normal(4, d, seed=112)  # of rank 2
    for t in TIMES:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        within_t = alpha**2 * C + sigma**2 * torch.eye(d).double()
        mean = mu + alpha * (x_t - alpha * mu) @ torch.linalg.inv(within_t) @ C
        close(GaussianDenoiser(mu, C, schedule)(x_t, t.expand(4)), mean, 1e-8)


@pytest.mark.equation("5.19")
def test_the_best_prediction_is_the_conditional_mean() -> None:
    """A coin x_0 = ±1: at each x_t the best guess is found by search, and the excess of another guess is exact."""
    schedule, t = Cosine(), number(0.5)
    alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
    denoiser = EmpiricalDenoiser(torch.tensor([[-1.0], [1.0]]).double(), schedule)
    for x_t in (-1.3, -0.2, 0.05, 0.8):
        heads = stats.norm.pdf(x_t, alpha, sigma)
        heads = heads / (heads + stats.norm.pdf(x_t, -alpha, sigma))
        found = optimize.minimize_scalar(
            lambda f, heads=heads: heads * (1 - f) ** 2 + (1 - heads) * (1 + f) ** 2, bounds=(-1, 1), method="bounded"
        )
        assert found.x == pytest.approx(math.tanh(alpha * x_t / sigma**2), abs=1e-5)
        assert denoiser(number(x_t)[None, None], t[None]).item() == pytest.approx(found.x, abs=1e-5)
        other = heads * (1 - 0.3) ** 2 + (1 - heads) * (1 + 0.3) ** 2
        assert other - found.fun == pytest.approx((found.x - 0.3) ** 2)


def mixture() -> GaussianMixture:
    mu = torch.tensor([[-1.0, 0.3], [1.2, 0.9], [0.4, -1.1]], dtype=torch.float64)
    A = normal(3, 2, 2, seed=70)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]).double(), mu, 0.2 * A @ A.mT + 0.05 * torch.eye(2).double())


def noised(p: GaussianMixture, alpha: float, sigma: float) -> GaussianMixture:
    return GaussianMixture(p.pi, alpha * p.mu, alpha**2 * p.Sigma + sigma**2 * torch.eye(2).double())


def slope(f, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


@pytest.mark.equation("5.20")
def test_the_score_function_is_a_denoiser() -> None:
    """∇ log q(x_t) by automatic differentiation, E[x_0 | x_t] and E[ε | x_t] by weighting samples of x_0."""
    p, alpha, sigma = mixture(), 0.8, 0.6
    x_t = normal(3, 2, seed=71)
    score = slope(noised(p, alpha, sigma).log_prob, x_t)
    x_0 = p.sample(100_000, generator=torch.Generator().manual_seed(8))
    for point, gradient in zip(x_t, score, strict=True):
        weight = Normal(alpha * x_0, sigma).log_prob(point).sum(1).exp()
        error = 5 * (weight[:, None] * (x_0 - (weight @ x_0) / weight.sum())).norm(dim=0) / weight.sum()
        mean = weight @ x_0 / weight.sum()
        assert ((alpha * mean - point) / sigma**2 - gradient).abs().le(alpha * error / sigma**2).all()
        eps = weight @ ((point - alpha * x_0) / sigma) / weight.sum()
        assert (-eps / sigma - gradient).abs().le(alpha * error / sigma**2).all()


@pytest.mark.equation("5.20")
def test_the_score_function_of_gaussian_data() -> None:
    schedule, C = Cosine(), torch.tensor([[1.0, 0.4], [0.4, 0.3]], dtype=torch.float64)
    mu, x_t = normal(2, seed=72), normal(5, 2, seed=73)
    model = diffusion(GaussianDenoiser(mu, C, schedule), schedule, dim=2)
    for t in TIMES:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        q = MultivariateNormal(alpha * mu, alpha**2 * C + sigma**2 * torch.eye(2).double())
        close(model.score(x_t, t.expand(5)), slope(q.log_prob, x_t), 1e-6)


@pytest.mark.equation("5.21")
def test_the_score_function_of_a_mixture() -> None:
    """The density of x_t by adding noise on a grid, its logarithm differentiated by differences."""
    p, alpha, sigma = mixture(), 0.7, 0.5
    line = torch.linspace(-6, 6, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    density = p.log_prob(grid).exp()

    def log_q(point: Tensor) -> Tensor:
        return (density * Normal(alpha * grid, sigma).log_prob(point).sum(1).exp()).sum().log()

    q, step = noised(p, alpha, sigma), 1e-4
    for point in normal(4, 2, seed=74):
        C = alpha**2 * p.Sigma + sigma**2 * torch.eye(2).double()
        r = (p.pi.log() + MultivariateNormal(alpha * p.mu, C).log_prob(point)).softmax(0)
        by_formula = (r[:, None] * torch.linalg.solve(C, alpha * p.mu - point)).sum(0)
        e = step * torch.eye(2).double()
        by_differences = torch.stack([(log_q(point + d) - log_q(point - d)) / (2 * step) for d in e])
        close(by_formula, by_differences, 1e-5)
        close(by_formula, slope(q.log_prob, point[None])[0], 1e-8)


@pytest.mark.equation("5.22")
def test_fitting_the_noise_fits_the_score_function() -> None:
    """A coin on the line and a score that is wrong: all three expectations by quadrature over x_0 and ε."""
    alpha, sigma = 0.8, 0.6

    def log_q(x: float) -> float:
        return math.log((stats.norm.pdf(x, alpha, sigma) + stats.norm.pdf(x, -alpha, sigma)) / 2)

    def truth(x: float) -> float:
        return (log_q(x + 1e-4) - log_q(x - 1e-4)) / 2e-4

    def guess(x: float) -> float:
        return math.sin(x) - 0.4 * x

    def mean(f: Callable[[float, float], float]) -> float:
        sides = (
            integrate.quad(lambda e, side=side: f(alpha * side + sigma * e, e) * stats.norm.pdf(e), -8, 8)[0]
            for side in (-1, 1)
        )
        return sum(sides) / 2

    left = mean(lambda x, e: (guess(x) + e / sigma) ** 2)
    right = mean(lambda x, e: (guess(x) - truth(x)) ** 2)
    const = mean(lambda x, e: (e / sigma + truth(x)) ** 2)
    assert right > 0.1
    assert left == pytest.approx(right + const, rel=1e-5)


@pytest.mark.equation("5.23")
@pytest.mark.slow
def test_a_step_of_langevin_leaves_the_density_nearly_as_it_is() -> None:
    """Two peaks on a grid, moved by the kernel of one step: a change of order δ², but of order δ with another drift."""
    grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    width = (grid[1] - grid[0]).item()
    q = 0.6 * Normal(-1.0, 0.6).log_prob(grid).exp() + 0.4 * Normal(1.2, 0.5).log_prob(grid).exp()
    slope_of = torch.gradient(q.log(), spacing=width)[0]

    def change(delta: float, drift: float) -> float:
        kernel = Normal((grid + drift * slope_of)[:, None], math.sqrt(delta)).log_prob(grid).exp()
        return ((q @ kernel * width - q).abs().sum() * width).item()

    first, second = (change(delta, delta / 2) for delta in (0.08, 0.04))
    assert first / second == pytest.approx(4, rel=0.15)
    for wrong in (1.0, 0.25):
        assert change(0.08, wrong * 0.08) / change(0.04, wrong * 0.04) == pytest.approx(2, rel=0.2)


# Second half: going back, (5.24) to (5.41)


def known(schedule: str = "cosine", seed: int = 80) -> tuple[Diffusion, Tensor, Tensor]:
    """A diffusion that knows its Gaussian data, their mean and their covariance."""
    mu, A = normal(2, seed=seed), normal(2, 2, seed=seed + 1)
    C = 0.3 * A @ A.T + 0.1 * torch.eye(2).double()
    return Diffusion(GaussianDenoiser(mu, C, schedule), 2, schedule, "data").double(), mu, C


def pair(model: Diffusion, t: float) -> tuple[float, float]:
    """α and σ at time t."""
    time = torch.tensor(t, dtype=torch.float64)
    return model.schedule.alpha(time).item(), model.schedule.sigma(time).item()


def function_of(C: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """f of a symmetric matrix, by its eigenvalues."""
    values, vectors = torch.linalg.eigh(C)
    return (vectors * f(values)) @ vectors.T


def carried(model: Diffusion, mu: Tensor, C: Tensor, x_1: Tensor, t: float = 0.0) -> Tensor:
    """Where the flow of a Gaussian takes x_1: each direction keeps its number of standard deviations."""
    (a, s), (a_1, s_1) = pair(model, t), pair(model, 1.0)
    stretch = function_of(C, lambda c: ((a**2 * c + s**2) / (a_1**2 * c + s_1**2)).sqrt())
    return a * mu + (x_1 - a_1 * mu) @ stretch


@pytest.mark.equation("5.24")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_the_ancestral_step_is_the_conditional_of_the_joint_gaussian(schedule: str) -> None:
    """Given x_0, (x_s, x_t) is Gaussian with covariance [[σ_s², α σ_s²], [·, σ_t²]]: condition it on x_t."""
    x_0, x_t = normal(5, 2, seed=82), normal(5, 2, seed=83)
    model = Diffusion(lambda x, t: x_0, 2, schedule, "data").double()
    s, t = 0.35, 0.6
    (a_s, s_s), (a_t, s_t) = pair(model, s), pair(model, t)
    cross = a_t / a_s * s_s**2
    mean, variance = a_s * x_0 + cross / s_t**2 * (x_t - a_t * x_0), s_s**2 - cross**2 / s_t**2
    eps, a_ts = (x_t - a_t * x_0) / s_t, a_t / a_s
    s_ts = math.sqrt(s_t**2 - a_ts**2 * s_s**2)
    close(a_s * x_0 + a_ts * s_s**2 / s_t * eps, mean)
    close(number(s_s * s_ts / s_t) ** 2, variance)
    close(number(a_ts * s_s**2 / s_t) ** 2 + (s_s * s_ts / s_t) ** 2, s_s**2)
    n = 50_000
    one = (row[:1].expand(n, 2) for row in (x_t, x_0, eps))
    draws = DDPM(1).step(model, None, *one, s, t, torch.Generator().manual_seed(84))
    within(draws, mean[0])
    within((draws - mean[0]) ** 2, variance)


@pytest.mark.equation("5.25")
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_whatever_eta_the_noise_that_is_left_has_the_right_size(eta: float) -> None:
    """With the true x_0, x_t ~ q(x_t | x_0) becomes x_s ~ q(x_s | x_0); the rest of the noise of x_t survives."""
    n, s, t, x_0 = 200_000, 0.35, 0.6, 0.7
    model = Diffusion(lambda x, t: torch.full_like(x, x_0), 1, "cosine", "data").double()
    (a_s, s_s), (a_t, s_t) = pair(model, s), pair(model, t)
    noise = normal(n, 1, seed=85)
    x_t = a_t * x_0 + s_t * noise
    x_s = DDIM(1, eta=eta).step(model, None, x_t, *model.predict(x_t, t), s, t, torch.Generator().manual_seed(86))
    within(x_s, a_s * x_0)
    within((x_s - a_s * x_0) ** 2, s_s**2)
    fresh = eta**2 * (s_s**2 - (a_t / a_s * s_s**2 / s_t) ** 2)
    within((x_s - a_s * x_0) * noise, math.sqrt(s_s**2 - fresh))


@pytest.mark.equation("5.27")
@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_the_equation_carries_a_gaussian_to_where_it_belongs(schedule: str) -> None:
    """x̂_0 dα/dt + ε̂ dσ/dt, given to a solver of the highest order, against the closed form."""
    model, mu, C = known(schedule)
    x_1 = normal(3, 2, seed=87)
    d = 1e-6

    def slope(t: float, flat):
        x = torch.as_tensor(flat).reshape(3, 2)
        x_0, eps = model.predict(x, t)
        (a, s), (b, r) = pair(model, t + d), pair(model, t - d)
        return ((a - b) / (2 * d) * x_0 + (s - r) / (2 * d) * eps).flatten().numpy()

    for t in (0.5, 0.01):
        end = integrate.solve_ivp(slope, (1 - d, t), x_1.flatten().numpy(), "DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
        close(torch.as_tensor(end).reshape(3, 2), carried(model, mu, C, x_1, t), tolerance=1e-4)


@pytest.mark.equation("5.27")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_without_noise_ddim_makes_eulers_step(schedule: str) -> None:
    model, _, _ = known(schedule)
    x_t, s, t = normal(6, 2, seed=104), 0.3, 0.6
    (a_s, s_s), (a_t, s_t) = pair(model, s), pair(model, t)
    x_0, eps = model.predict(x_t, t)
    x_s = DDIM(1).step(model, model.predict, x_t, x_0, eps, s, t, None)
    close(x_s - x_t, (a_s - a_t) * x_0 + (s_s - s_t) * eps)


@pytest.mark.equation("5.30")
@pytest.mark.parametrize(("sampler", "order"), [(DDIM, 1), (Heun, 2)])
@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_the_error_falls_at_the_order_of_the_method(sampler: type, order: int, schedule: str) -> None:
    model, mu, C = known(schedule)
    x_1 = normal(200, 2, seed=88)
    errors = []
    for steps in (50, 100):
        *_, end = sampler(steps).trajectory(model, x_1)
        errors.append((end.x_t - carried(model, mu, C, x_1)).square().mean().sqrt())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.equation("5.30")
def test_heuns_step_is_the_mean_of_the_slopes_at_both_ends() -> None:
    model, _, _ = known("linear")
    x_t, s, t = normal(6, 2, seed=89), 0.4, 0.7
    (a_s, s_s), (a_t, s_t) = pair(model, s), pair(model, t)
    first = model.predict(x_t, t)
    euler = x_t + (a_s - a_t) * first[0] + (s_s - s_t) * first[1]
    second = model.predict(euler, s)
    mean = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    step = Heun(1).step(model, model.predict, x_t, *first, s, t, None)
    close(step, x_t + (a_s - a_t) * mean[0] + (s_s - s_t) * mean[1])


@pytest.mark.equation("5.29")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_the_mean_velocity_satisfies_the_continuity_equation(schedule: str) -> None:
    """∂q/∂t + ∂(q E[v | x_t])/∂x = 0 for a mixture on the line, q and E[v | x_t] by quadrature over x_0."""
    model = Diffusion(torch.nn.Identity(), 1, schedule, "data")
    data = [(0.3, Normal(number(-1.0), 0.4)), (0.7, Normal(number(0.8), 0.2))]

    def density_and_flux(x: float, t: float) -> tuple[float, float]:
        a, s = pair(model, t)
        (a_up, s_up), (a_down, s_down) = pair(model, t + 1e-5), pair(model, t - 1e-5)
        da, ds = (a_up - a_down) / 2e-5, (s_up - s_down) / 2e-5

        x_0 = torch.linspace(-4, 4, 2001, dtype=torch.float64)
        joint = sum(weight * p.log_prob(x_0).exp() for weight, p in data) * Normal(a * x_0, s).log_prob(number(x)).exp()
        moving = joint * (da * x_0 + ds * (x - a * x_0) / s)
        return joint.sum().item() * 8 / 2000, moving.sum().item() * 8 / 2000

    h = 1e-3
    for x, t in ((-0.4, 0.3), (0.5, 0.6)):
        in_time = (density_and_flux(x, t + h)[0] - density_and_flux(x, t - h)[0]) / (2 * h)
        in_space = (density_and_flux(x + h, t)[1] - density_and_flux(x - h, t)[1]) / (2 * h)
        assert in_time == pytest.approx(-in_space, rel=1e-3, abs=1e-4)
        assert abs(in_time) > 0.02


@pytest.mark.equation("5.29")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_the_velocity_is_the_mean_of_those_that_pass(schedule: str) -> None:
    """For points, E[v | x_t] adds up what each contributes: its chance by Bayes times its own velocity."""
    points, x_t, t, h = normal(6, 2, seed=102), normal(4, 2, seed=103), 0.45, 1e-5
    model = Diffusion(EmpiricalDenoiser(points, schedule), 2, schedule, "data").double()
    (a, s), (a_up, s_up), (a_down, s_down) = (pair(model, time) for time in (t, t + h, t - h))
    chance = torch.stack([Normal(a * point, s).log_prob(x_t).sum(1) for point in points], 1).exp()
    eps = (x_t[:, None] - a * points) / s
    each = (a_up - a_down) / (2 * h) * points + (s_up - s_down) / (2 * h) * eps
    mean = (chance[..., None] * each).sum(1) / chance.sum(1, keepdim=True)
    close(model.velocity(x_t, t), mean, tolerance=1e-6)


@pytest.mark.equation("5.35")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_data_and_noise_solve_two_linear_equations(schedule: str) -> None:
    model = Diffusion(torch.nn.Identity(), 3, schedule, "data")
    x_0, eps, t = normal(4, 3, seed=90), normal(4, 3, seed=91), 0.37
    (a, s), (a_up, s_up), (a_down, s_down) = (pair(model, time) for time in (t, t + 1e-6, t - 1e-6))
    da, ds = (a_up - a_down) / 2e-6, (s_up - s_down) / 2e-6
    x_t, v = a * x_0 + s * eps, da * x_0 + ds * eps
    determinant = a * ds - da * s
    by_hand = (ds * x_t - s * v) / determinant, (a * v - da * x_t) / determinant
    matrix = torch.tensor([[a, s], [da, ds]], dtype=torch.float64)
    solved = torch.linalg.solve(matrix, torch.stack([x_t, v]).flatten(1)).reshape(2, 4, 3)
    ours = split("velocity", v, x_t, torch.full((4, 1), t).double(), model.schedule)
    others = (
        split(kind, given, x_t, torch.full((4, 1), t).double(), model.schedule)
        for kind, given in (("noise", eps), ("data", x_0))
    )
    for found in (by_hand, solved, ours, *others):
        close(found[0], x_0, tolerance=1e-6)
        close(found[1], eps, tolerance=1e-6)


@pytest.mark.equation("5.36")
@pytest.mark.parametrize("k", [0.0, 0.6])
def test_the_flow_matching_loss_of_a_known_prediction(k: float) -> None:
    """v̂ = k x_t and x_0 of moment M = E‖x_0‖²: E‖v̂ − (ε − x_0)‖² = (k(1 − t) + 1)² M + d (kt − 1)², over t.

    The package's loss is the mean over the d entries, ‖·‖²/d.
    """
    d, m, c = 3, torch.tensor([0.7, 0.0, -1.1], dtype=torch.float64), torch.tensor([0.3, 1.0, 0.2]).double()
    M = (m**2 + c).sum().item()
    truth, _ = integrate.quad(lambda t: (k * (1 - t) + 1) ** 2 * M + d * (k * t - 1) ** 2, 0, 1)
    model = diffusion(lambda x, t: k * x, "straight", "velocity", dim=d)
    torch.manual_seed(92)
    losses = torch.stack([model.loss(m + c.sqrt() * torch.randn(1000, d).double()) for _ in range(100)])
    within(d * losses, truth)


@pytest.mark.equation("5.37")
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_the_three_errors_are_multiples_of_one_another(schedule: str) -> None:
    """A velocity that is wrong by a known amount, and what the package reads from it; α' and σ' by differences."""
    v_hat, x_0, eps, t = *normal(3, 4, 3, seed=93), 0.37
    model, column = Diffusion(torch.nn.Identity(), 3, schedule, "data"), torch.full((4, 1), t).double()
    (a, s), (a_up, s_up), (a_down, s_down) = (pair(model, time) for time in (t, t + 1e-6, t - 1e-6))
    da, ds = (a_up - a_down) / 2e-6, (s_up - s_down) / 2e-6
    x_t = a * x_0 + s * eps
    x_hat, eps_hat = split("velocity", v_hat, x_t, column, model.schedule)
    close(target("velocity", x_hat, eps_hat, column, model.schedule), v_hat)
    in_data, in_noise = (x_0 - x_hat).square().sum(1), (eps - eps_hat).square().sum(1)
    in_velocity = (da * x_0 + ds * eps - v_hat).square().sum(1)
    W = a * ds - da * s
    close(in_velocity, (W / s) ** 2 * in_data, tolerance=1e-5)
    close(in_velocity, (W / a) ** 2 * in_noise, tolerance=1e-5)
    weight = -(a_up**2 / s_up**2 - a_down**2 / s_down**2) / 4e-6  # −½ SNR'
    close(weight * in_data, a / (s * W) * in_velocity, tolerance=1e-4)
    if schedule == "straight":
        close(number(W), 1.0, tolerance=1e-6)


@pytest.mark.equation("5.38")
@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_the_best_denoiser_of_points_obeys_tweedie(schedule: str) -> None:
    """E[x_0 | x_t] = (x_t + σ² ∇ log q(x_t)) / α, the gradient of the log-density of a mixture by autograd."""
    points, x_t, t = normal(7, 3, seed=96), normal(5, 3, seed=97).requires_grad_(), 0.4
    model = Diffusion(EmpiricalDenoiser(points, schedule), 3, schedule, "data").double()
    a, s = pair(model, t)
    components = torch.distributions.Independent(Normal(a * points, s), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=torch.zeros(7)), components)
    (slope,) = torch.autograd.grad(mixture.log_prob(x_t).sum(), x_t)
    close(model.predict(x_t.detach(), t)[0], (x_t + s**2 * slope).detach() / a)
    distance = (x_t[:, None] - a * points).square().sum(-1)
    close((-distance / (2 * s**2)).softmax(1) @ points, model.predict(x_t, t)[0])


@pytest.mark.equation("5.39")
def test_close_to_the_data_the_best_denoiser_names_the_nearest_point_and_the_flow_ends_there() -> None:
    points, x = normal(50, 4, seed=98), normal(20, 4, seed=99)
    model = Diffusion(EmpiricalDenoiser(points, "straight"), 4, "straight", "data").double()
    nearest = points[torch.cdist(x, points).argmin(1)]
    gaps = [(model.predict(x, t)[0] - nearest).abs().amax(1).median() for t in (0.3, 0.1, 0.03)]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]
    close(model.predict(x, 1e-3)[0], nearest)
    *_, end = Heun(200).trajectory(model, x)
    assert torch.cdist(end.x_t, points).min(1).values.max() < 1e-6
    assert len(torch.cdist(end.x_t, points).argmin(1).unique()) > 5


@pytest.mark.equation("5.40")
def test_guidance_mixes_the_predictions_with_and_without_labels() -> None:
    A = normal(2, 3, 3, seed=100)

    def net(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return x @ A[0] if labels is None else x @ A[1] + labels

    model = Diffusion(net, 3, "cosine", "velocity").double()
    x, t, labels = normal(4, 3, seed=101), 0.6, torch.tensor([2])
    plain, asked = model.predict(x, t), model.predict(x, t, labels)
    assert not torch.allclose(plain[0], asked[0])
    for w in (0.0, 1.0, 2.5):
        mixed = model.predict(x, t, labels, guidance=w)
        for found, one, other in zip(mixed, plain, asked, strict=True):
            close(found, (1 - w) * one + w * other)


@pytest.mark.equation("5.41")
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_the_guided_score_is_that_of_a_tilted_density(w: float) -> None:
    """Two classes on the line: the derivative of log(q(x_t) q(c | x_t)^w), every factor normalised by quadrature."""
    t, means, stds, shares = 0.5, (-1.0, 0.8), (0.3, 0.6), (0.25, 0.75)
    C = [torch.tensor([[std**2]]).double() for std in stds]
    experts = [GaussianDenoiser(torch.tensor([m]).double(), c, "cosine") for m, c in zip(means, C, strict=True)]

    def denoiser(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            return experts[1](x_t, t)
        likely = [shares[k] * stats.norm.pdf(x_t, a * means[k], math.hypot(a * stds[k], s)).item() for k in (0, 1)]
        return sum(share * expert(x_t, t) for share, expert in zip(likely, experts, strict=True)) / sum(likely)

    model = Diffusion(denoiser, 1, "cosine", "data").double()
    a, s = pair(model, t)

    def q(x: float, k: int) -> float:
        return integrate.quad(
            lambda x_0: stats.norm.pdf(x_0, means[k], stds[k]) * stats.norm.pdf(x, a * x_0, s), -4, 4, epsabs=1e-12
        )[0]

    def log_tilted(x: float) -> float:
        both = [shares[k] * q(x, k) for k in (0, 1)]
        return math.log(sum(both)) + w * math.log(both[1] / sum(both))

    for x in (-0.8, 0.6):
        guided = model.score(torch.tensor([[x]]).double(), t, torch.tensor([1]), w).item()
        assert guided == pytest.approx((log_tilted(x + 1e-4) - log_tilted(x - 1e-4)) / 2e-4, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_a_guided_flow_ends_in_the_tilted_density_for_one_but_not_beyond(schedule: str) -> None:
    """Exercise 5.7: data N(0, 1) and p(c | x) ∝ exp(−(x − a)²/2b²), so p(x | c) = N(a/(1 + b²), b²/(1 + b²))."""
    a, b2 = 1.0, 0.5
    one = torch.ones(1).double()
    plain = GaussianDenoiser(0 * one, one[:, None], schedule)
    asked = GaussianDenoiser(a / (1 + b2) * one, b2 / (1 + b2) * one[:, None], schedule)
    model = diffusion(lambda x, t, labels=None: plain(x, t) if labels is None else asked(x, t), schedule)
    for w in (1, 4):
        *_, end = Heun(100).trajectory(model, torch.tensor([[0.0], [1.0]]).double(), torch.tensor([1]), w)
        mean, std = end.x_t[0].item(), (end.x_t[1] - end.x_t[0]).item()
        tilted = w * a / (b2 + w), math.sqrt(1 / (1 + w / b2))
        assert (abs(mean - tilted[0]) < 0.01) is (w == 1)
        assert (abs(std - tilted[1]) < 0.01) is (w == 1)
    assert mean > 1.1  # beyond a, where the classifier is surest
    assert std < 0.2
