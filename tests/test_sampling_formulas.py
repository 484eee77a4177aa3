"""The formulas of chapter 5b that test_diffusion_formulas.py does not hold, and what the package makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize
from test_diffusion_formulas import close, function_of, known, normal, number, pair, within
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import companion.diffusion
from companion.diffusion import DDIM, DDPM, Diffusion, EmpiricalDenoiser, GaussianDenoiser, Heun, edm_times, target
from companion.nets import ResidualMLP

SCHEDULES = ["linear", "cosine", "straight"]
#: Data on the line: shares, means, standard deviations.
SHARES, MEANS, STDS = (torch.tensor(row).double() for row in ((0.3, 0.7), (-1.0, 0.8), (0.4, 0.2)))


def marginal(a: float, s: float) -> MixtureSameFamily:
    """The law of a x_0 + s ε."""
    return MixtureSameFamily(Categorical(SHARES), Normal(a * MEANS, ((a * STDS) ** 2 + s**2).sqrt()))


def slope(schedule, t: float, h: float = 1e-5) -> tuple[float, float]:
    """α' and σ' by differences."""
    model = Diffusion(torch.nn.Identity(), 1, schedule, "data")
    (a_up, s_up), (a_down, s_down) = pair(model, t + h), pair(model, t - h)
    return (a_up - a_down) / (2 * h), (s_up - s_down) / (2 * h)


def velocity(schedule, x: Tensor, t: float) -> Tensor:
    """E[v | x_t] at points x, shape (n,), by quadrature over x_0."""
    a, s = pair(Diffusion(torch.nn.Identity(), 1, schedule, "data"), t)
    d_a, d_s = slope(schedule, t)
    x_0 = torch.linspace(-4, 4, 4001).double()
    joint = (marginal(1, 1e-9).log_prob(x_0) + Normal(a * x_0, s).log_prob(x[:, None])).softmax(1)
    return (joint * (d_a * x_0 + d_s * (x[:, None] - a * x_0) / s)).sum(1)


@pytest.mark.equation("5.26")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_reverse_variance_adds_the_scatter_of_the_data(schedule: str) -> None:
    """q(x_s | x_t) ∝ q(x_s) q(x_t | x_s) on a grid; Cov[x_0 | x_t] on another."""
    model = Diffusion(torch.nn.Identity(), 1, schedule, "data").double()
    s, t, x_t = 0.4, 0.6, 0.3
    (a_s, s_s), (a_t, s_t) = pair(model, s), pair(model, t)
    step = s_t**2 - (a_t / a_s * s_s) ** 2
    grid = torch.linspace(-6, 6, 20_001).double()

    def variance(log_weight: Tensor) -> Tensor:
        p = log_weight.softmax(0)
        return (p * grid**2).sum() - (p * grid).sum() ** 2

    truth = variance(marginal(a_s, s_s).log_prob(grid) + Normal(a_t / a_s * grid, step**0.5).log_prob(number(x_t)))
    scatter = variance(marginal(1, 1e-9).log_prob(grid) + Normal(a_t * grid, s_t).log_prob(number(x_t)))
    lower = model.q_posterior(torch.zeros(1, 1).double(), torch.zeros(1, 1).double(), s, t).variance[0, 0]
    close(lower + (a_s * step / s_t**2) ** 2 * scatter, truth, tolerance=1e-6)
    assert truth > 1.1 * lower


@pytest.mark.equation("5.26")
def test_ddpm_draws_either_of_its_two_variances() -> None:
    """One point of data wants the lower, N(0, I) the upper; the last step of the upper adds no noise."""
    x_t, s, t = normal(200_000, 1, seed=200), 0.4, 0.6
    white = Diffusion(GaussianDenoiser(torch.zeros(1).double(), torch.eye(1).double(), "cosine"), 1, predict="data")
    point = Diffusion(lambda x, t: torch.full_like(x, 0.7), 1, predict="data").double()
    (a_s, s_s), (a_t, s_t) = pair(point, s), pair(point, t)
    for model, start, variance, truth in (
        (white, x_t, "upper", 1.0),
        (point, a_t * 0.7 + s_t * x_t, "lower", s_s**2),
    ):
        g = torch.Generator().manual_seed(201)
        x_s = DDPM(1, variance=variance).step(model, None, start, *model.predict(start, t), s, t, g)
        within((x_s - x_s.mean()) ** 2, truth)
    g = torch.Generator().manual_seed(202)
    fixed = x_t[:1].expand(200_000, 1)
    x_s = DDPM(1, variance="upper").step(white, None, fixed, *white.predict(fixed, t), s, t, g)
    within((x_s - x_s.mean()) ** 2, s_t**2 - (a_t / a_s * s_s) ** 2)
    last = [DDPM(1, variance=v).step(white, None, x_t, *white.predict(x_t, t), 0.0, t, g) for v in ("lower", "upper")]
    close(last[0], last[1])
    with pytest.raises(ValueError, match="variance"):
        DDPM(10, variance="beta")


@pytest.mark.equation("5.28")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_only_the_mean_velocity_moves_an_expectation(schedule: str) -> None:
    """E h(x_t) by quadrature, differentiated by differences; E[h'(x_t) v] over pairs, and with the package's field."""
    points, t, h = torch.tensor([[-1.0], [0.4], [0.8]]).double(), 0.45, 1e-5
    model = Diffusion(EmpiricalDenoiser(points, schedule), 1, schedule, "data").double()
    eps = torch.linspace(-9, 9, 6001).double()
    mass = Normal(number(0.0), 1.0).log_prob(eps).softmax(0)

    def expected(time: float) -> float:
        a, s = pair(model, time)
        return (mass * (a * points + s * eps).tanh()).sum().item() / 3

    (a, s), (d_a, d_s) = pair(model, t), slope(schedule, t)
    x_t = a * points + s * eps
    gradient = 1 - x_t.tanh() ** 2
    in_time = (expected(t + h) - expected(t - h)) / (2 * h)
    assert abs(in_time) > 0.01
    of_pairs = (mass * gradient * (d_a * points + d_s * eps)).sum().item() / 3
    field = model.velocity(x_t.reshape(-1, 1), t).reshape(x_t.shape)
    assert of_pairs == pytest.approx(in_time, rel=1e-4)
    assert (mass * gradient * field).sum().item() / 3 == pytest.approx(in_time, rel=1e-4)


@pytest.mark.equation("5.31")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("g", [0.0, 0.8])
@pytest.mark.slow
def test_however_much_noise_the_reverse_process_adds_the_densities_stay(schedule: str, g: float) -> None:
    """The Fokker–Planck equation of (5.31) in backward time, by differences, against −∂q/∂t."""
    model, t, h = Diffusion(torch.nn.Identity(), 1, schedule, "data"), 0.5, 1e-3
    x = torch.linspace(-3, 3, 6001).double()
    q = marginal(*pair(model, t)).log_prob(x).exp()
    backwards = (marginal(*pair(model, t - h)).log_prob(x).exp() - marginal(*pair(model, t + h)).log_prob(x).exp()) / (
        2 * h
    )
    score = torch.gradient(q.log(), spacing=(x,))[0]
    drift = -(velocity(schedule, x, t) - g**2 / 2 * score)
    flux = -torch.gradient(drift * q - g**2 / 2 * torch.gradient(q, spacing=(x,))[0], spacing=(x,))[0]
    assert backwards.abs().max() > 0.1
    assert (flux - backwards)[20:-20].abs().max() < 1e-3


@pytest.mark.equation("5.31")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_small_steps_of_ddim_solve_the_sde(schedule: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drift and diffusion of one short step, from draws with noise ±1, for Gaussian data whose flow is known."""
    v, mu, t, h = 0.5, 0.8, 0.5, 1e-5
    model = Diffusion(GaussianDenoiser(number(mu)[None], number(v).reshape(1, 1), schedule), 1, schedule, "data")
    (a, s), (d_a, d_s) = pair(model, t), slope(schedule, t)
    x = normal(5, 1, seed=203)
    variance, d_variance = a**2 * v + s**2, 2 * (a * d_a * v + s * d_s)
    flow = d_a * mu + d_variance / (2 * variance) * (x - a * mu)
    g = eta * s * math.sqrt(2 * (d_s / s - d_a / a))
    ends = []
    for sign in (1.0, -1.0):
        monkeypatch.setattr(companion.diffusion, "randn", lambda shape, like, _, z=sign: torch.full(shape, z).to(like))
        ends.append(DDIM(1, eta).step(model, None, x, *model.predict(x, t), t - h, t, None))
    close(-((ends[0] + ends[1]) / 2 - x) / h, flow + g**2 / 2 * (x - a * mu) / variance, tolerance=2e-3)
    close((ends[0] - ends[1]).abs() / 2 / math.sqrt(h), g, tolerance=2e-3)


@pytest.mark.equation("5.32")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_along_the_flow_the_log_density_falls_by_the_divergence(schedule: str) -> None:
    """A mixture on the line: the path by a solver, ∂v/∂x by differences, log q(x_t) in closed form at both ends."""
    model = Diffusion(torch.nn.Identity(), 1, schedule, "data")

    def flow(t: float, state: np.ndarray) -> list[float]:
        around = velocity(schedule, state[0] + torch.tensor([-1e-4, 0.0, 1e-4]).double(), t)
        return [around[1].item(), -(around[2] - around[0]).item() / 2e-4]

    start, end, x = 0.1, 0.5, 0.75
    log_q = [marginal(*pair(model, t)) for t in (start, end)]
    solved = integrate.solve_ivp(flow, (start, end), [x, log_q[0].log_prob(number(x)).item()], rtol=1e-6, atol=1e-8)
    place, log_density = solved.y[:, -1]
    assert log_density == pytest.approx(log_q[1].log_prob(number(place)).item(), abs=1e-4)
    assert abs(log_density - solved.y[1, 0]) > 0.3


def exact_log_prob(model: Diffusion, mu: Tensor, C: Tensor, x: Tensor) -> Tensor:
    """log p(x) of the flow of Gaussian data, which is linear: its end, its Jacobian, and the standard normal."""
    u = model.resolution
    log_snr = torch.tensor(-2 * math.log(u)).double()
    (a, s), (a_1, s_1) = pair(model, model.schedule.time(log_snr).item()), pair(model, 1.0)
    stretch = function_of(C, lambda c: ((a_1**2 * c + s_1**2) / (a**2 * c + s**2)).sqrt())
    x_1 = a_1 * mu + a * (x - mu) @ stretch
    return Normal(0.0, 1.0).log_prob(x_1).sum(1) + torch.linalg.slogdet(a * stretch)[1]


@pytest.mark.equation("5.32")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_log_density_of_a_gaussian(schedule: str) -> None:
    model, mu, C = known(schedule)
    x = normal(50, 2, seed=204) + mu
    truth = exact_log_prob(model, mu, C, x)
    errors = [(model.log_prob(x, steps) - truth).abs().max().item() for steps in (100, 200)]
    assert errors[1] < 0.03
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)
    if schedule == "straight":  # where x_1 is exactly N(0, I)
        noisy = MultivariateNormal(mu, C + model.resolution**2 * torch.eye(2).double())
        close(truth, noisy.log_prob(x), tolerance=1e-6)


def test_the_log_density_of_what_heun_draws_integrates_to_one() -> None:
    """A network that has learnt nothing in particular: its density on a grid of the plane adds up to one."""
    torch.manual_seed(0)
    net = ResidualMLP(2, 8, 1)
    torch.nn.init.normal_(net.outward.weight, std=0.3)
    model = Diffusion(net, 2, "straight", "velocity", resolution=0.05)
    line = torch.linspace(-6, 6, 61)
    mass = model.log_prob(torch.cartesian_prod(line, line), 60).exp().sum() * 0.2**2
    assert mass.item() == pytest.approx(1, abs=0.01)


def test_random_signs_estimate_the_divergence_without_bias() -> None:
    model, mu, _ = known("cosine")
    x = (normal(1, 2, seed=205) + mu).expand(400, 2)
    estimates = model.log_prob(x, 20, probes=2, generator=torch.Generator().manual_seed(206))
    exact = model.log_prob(x[:1], 20)[0]
    assert estimates.std() > 0.01
    within(estimates, exact.item())


def test_the_log_density_takes_images_labels_and_guidance_and_leaves_the_model_as_it_is() -> None:
    torch.manual_seed(0)

    def net(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return x / 2 if labels is None else x / 2 + labels[:, :1, None, None]

    model = Diffusion(net, (1, 2, 2), "cosine", "data").train()
    x, labels = torch.randn(3, 1, 2, 2), torch.tensor([[0], [1], [2]])
    flat = Diffusion(lambda x, t: x / 2, 4, "cosine", "data")
    close(model.log_prob(x, 10), flat.log_prob(x.flatten(1), 10), 1e-5)
    with torch.no_grad():
        asked = model.log_prob(x, 10, labels=labels, guidance=2.0)
    assert asked.shape == (3,)
    assert not asked.requires_grad
    close(model.log_prob(x, 10, labels=labels, guidance=0.0), model.log_prob(x, 10), 1e-5)
    assert not torch.allclose(asked, model.log_prob(x, 10))
    assert model.training
    constant = Diffusion(lambda x, t: torch.zeros_like(x), 2, "straight", "data", resolution=0.1)
    point = torch.zeros(1, 2)
    close(constant.log_prob(point, 200), Normal(0.0, 0.1).log_prob(number(0.0)).item() * 2, 0.02)
    for wrong, match in (({"steps": 0}, "steps"), ({"probes": 0}, "probes")):
        with pytest.raises(ValueError, match=match):
            model.log_prob(x, **wrong)


@pytest.mark.equation("5.33")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_preconditioning_leaves_a_task_of_unit_size(schedule: str) -> None:
    """The best multiple of x_t by search; sizes by sampling from a mixture; the velocity as a special case."""
    model, n = Diffusion(torch.nn.Identity(), 1, schedule, "data"), 200_000
    torch.manual_seed(207)
    x_0, eps = marginal(1, 1e-9).sample((n, 1)), normal(n, 1, seed=208)
    x_0 = x_0 - x_0.mean()
    sigma_x = x_0.std().item()
    for t in (0.1, 0.5, 0.9):
        a, s = pair(model, t)
        x_t, V = a * x_0 + s * eps, (a * sigma_x) ** 2 + s**2
        skip, out = a * sigma_x**2 / V, s * sigma_x / math.sqrt(V)
        best = optimize.minimize_scalar(lambda c, x_t=x_t: (x_0 - c * x_t).square().mean().item()).x
        assert skip == pytest.approx(best, abs=0.01)
        within((x_t / math.sqrt(V)) ** 2, 1.0)
        within(((x_0 - skip * x_t) / out) ** 2, 1.0)
    cosine, column = Diffusion(torch.nn.Identity(), 1, "cosine", "data"), number(0.3).expand(n, 1)
    (a, s), v = pair(cosine, 0.3), target("velocity", x_0, eps, column, cosine.schedule)
    F = (x_0 - a * (a * x_0 + s * eps)) / s  # (5.33) with σ_x = 1
    close(F, -v / cosine.schedule.angle)


@pytest.mark.equation("5.34")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_times_of_edm(schedule: str) -> None:
    """σ/α at the times, against the sequence as Karras et al. write it, in NumPy."""
    N, low, high, rho = 18, 0.002, 80, 7
    i = np.arange(N)
    sigmas = (high ** (1 / rho) + i / (N - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    times = edm_times(N, schedule)
    assert (times[0], times[-1], len(times)) == (1, 0, N + 1)
    model = Diffusion(torch.nn.Identity(), 1, schedule, "data")
    found = [s / a for a, s in (pair(model, t) for t in times[1:-1])]
    assert found == pytest.approx(sigmas[1:].tolist(), rel=1e-6)
    assert Heun(times).times == times
    with pytest.raises(ValueError, match="steps"):
        edm_times(1, schedule)
    with pytest.raises(ValueError, match="rho"):
        edm_times(5, schedule, rho=0)


def test_the_times_of_edm_give_heun_its_order_on_the_linear_schedule() -> None:
    model, mu, C = known("linear")
    x_1, (a, s) = normal(200, 2, seed=209), pair(known("linear")[0], 1.0)
    end = mu + (x_1 - a * mu) @ function_of(C, lambda c: (c / (a**2 * c + s**2)).sqrt())
    orders = []
    for times in (lambda N: N, lambda N: edm_times(N, "linear")):
        ends = [list(Heun(times(N)).trajectory(model, x_1))[-1].x_t for N in (50, 100)]
        errors = [(x - end).square().mean().sqrt() for x in ends]
        orders.append(math.log2(errors[0] / errors[1]))
    assert orders[0] < 1.7
    assert orders[1] == pytest.approx(2, abs=0.15)
