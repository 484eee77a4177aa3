"""The formulas that the second page of chapter 3 adds, each against something that does not use it, and its figures."""

from __future__ import annotations

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from companion.likelihoods import Gaussian
from companion.plots import rate as figures
from companion.vae import VAE


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def close(a: Tensor | float, b: Tensor | float, tol: float = 1e-9) -> None:
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# Width and place


@pytest.mark.equation("3.31")
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_rate_is_width_plus_place(spread: float) -> None:
    """The rate of torch's own divergence; the moment of q(z) from its density by quadrature, entry by entry."""
    n, d_z = 7, 3
    model = VAE(nn.Linear(n, 2 * d_z, bias=False), nn.Linear(d_z, n), Gaussian()).double()
    m, log_s = spread * normal(n, d_z, seed=1), normal(n, d_z, seed=2) - 1
    model.encoder.weight.data = torch.cat([m, 2 * log_s], 1).T
    q = model.encode(torch.eye(n, dtype=torch.float64))
    rate = kl_divergence(q, Independent(Normal(torch.zeros(n, d_z).double(), 1.0), 1)).mean().item()

    z = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    densities = Normal(m, log_s.exp()).log_prob(z[:, None, None]).exp().mean(1)  # of q(z), entry by entry
    moment = torch.trapezoid(densities * z[:, None] ** 2, z, dim=0).sum()
    close(rate, -log_s.sum(1).mean() + (moment - d_z) / 2, 1e-7)


@pytest.mark.equation("3.31")
@pytest.mark.parametrize("s", [0.05, 0.4, 1.5])
def test_the_gap_to_the_prior_is_at_least_the_rate_less_log_n(s: float) -> None:
    """KL(q(z) ‖ p(z)) by quadrature, with no use of the mutual information."""
    m = torch.linspace(-2, 2, 9, dtype=torch.float64)
    z = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    log_q = Normal(m, s).log_prob(z[:, None]).logsumexp(1) - math.log(9)
    gap = torch.trapezoid(log_q.exp() * (log_q - Normal(0.0, 1.0).log_prob(z)), z)
    rate = 0.5 * (m.square() + s**2 - 1).mean() - math.log(s)
    assert gap >= rate - math.log(9) - 1e-9
    if s == 0.05:  # codes that hardly overlap: the bound is nearly reached, where it is doubled it is broken
        assert gap < rate - math.log(9) + 0.2
        assert gap < 2 * (rate - math.log(9))


def test_sixteen_narrow_entries_ask_for_ten_to_the_sixteen_codes() -> None:
    assert 16 * math.log(10) == pytest.approx(math.log(1e16))
    assert 16 * math.log(10) - math.log(10055) == pytest.approx(27.6, abs=0.05)


# Free bits


def freed(lam: float, tau: float, kappa: float) -> tuple[float, float]:
    """Rate and error of the scalar linear VAE that minimises (3.35), found by a simplex search on exact moments."""

    def terms(point: list[float]) -> tuple[float, float]:
        a, v, log_s = point
        error = lam * (1 - a * v) ** 2 + (v * math.exp(log_s)) ** 2
        return 0.5 * (lam * a**2 + math.exp(2 * log_s) - 1) - log_s, error

    def loss(point: list[float]) -> float:
        rate, error = terms(point)
        return error / (2 * tau) + max(kappa, rate)

    best = [0.4, 0.6, -0.5]
    for _ in range(20):
        best = optimize.minimize(loss, best, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x
    return terms(best)


@pytest.mark.equation("3.35")
@pytest.mark.parametrize(("lam", "tau", "kappa"), [(0.7, 1.0, 0.5), (0.7, 1.0, 0.0), (4.0, 0.5, 0.5), (1.0, 0.5, 0.9)])
def test_free_bits_keep_a_rate_of_kappa(lam: float, tau: float, kappa: float) -> None:
    """The optimum is where Shannon's curve of one Gaussian direction, error λ e^(−2R), has R = max(κ, ½ log λ/τ)."""
    rate, error = freed(lam, tau, kappa)
    best = max(kappa, 0.5 * math.log(lam / tau), 0.0)
    assert rate == pytest.approx(best, abs=2e-2)
    assert error == pytest.approx(lam * math.exp(-2 * rate), rel=1e-2)


@pytest.mark.equation("3.35")
def test_an_entry_below_kappa_feels_only_the_distortion() -> None:
    """Entry by entry: the gradient of the loss on the page, against that of D and of β R in `VAE.loss`."""
    d, kappa = 5, 0.2
    x = normal(40, d, seed=4)
    model = VAE(nn.Linear(d, 4), nn.Linear(2, d), Gaussian(torch.tensor(0.5, dtype=torch.float64))).double()
    with torch.no_grad():
        model.encoder.weight.mul_(0)
        model.encoder.weight[0] = 2.0  # entry 1 well above κ, entry 2 at the prior
        model.encoder.bias.copy_(torch.tensor([0.0, 0.1, -2.0, 0.0]))

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, model.encoder.bias)[0]

    def weighed(beta: float) -> Tensor:
        torch.manual_seed(5)
        model.beta = beta
        return gradient(model.loss(x))

    q = model.encode(x)
    R = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).mean(0)
    assert R[0] > kappa > R[1]
    torch.manual_seed(5)
    z = q.mean + q.stddev * torch.randn_like(q.mean)
    D = -model.decode(z).log_prob(x).mean()
    free = gradient(D + R.clamp(min=kappa).sum())
    close(free[[0, 2]], weighed(1.0)[[0, 2]], 1e-7)
    close(free[[1, 3]], weighed(0.0)[[1, 3]], 1e-7)
    assert (free[[1, 3]] - weighed(1.0)[[1, 3]]).abs().max() > 1e-3


# Several levels


@pytest.mark.equation("3.36")
@pytest.mark.parametrize("exact", [False, True])
def test_the_bound_of_a_chain_splits_into_levels(exact: bool) -> None:
    """A linear chain with three levels: the right side from closed divergences, the left from one Gaussian over all z.

    For any Gaussian q the ELBO is log p(x) − KL(q(z) ‖ p(z | x)), computed from the joint covariance alone.
    """
    a, b, c, noise, x = 0.8, 1.3, 0.7, 0.5, 1.1  # z3 ~ N(0, 1), z2 | z3 ~ N(a z3, r), z1 | z2 ~ N(b z2, r), x | z1
    r = 0.4
    build = torch.tensor([[1, 0, 0, 0], [a, r**0.5, 0, 0]], dtype=torch.float64)
    build = torch.cat([build, b * build[1:] + torch.tensor([[0, 0, r**0.5, 0]], dtype=torch.float64)])
    build = torch.cat([build, c * build[2:] + torch.tensor([[0, 0, 0, noise**0.5]], dtype=torch.float64)])
    joint = build @ build.T  # covariance of (z3, z2, z1, x)
    S, k = joint[:3, :3], joint[:3, 3]
    posterior = MultivariateNormal(k * x / joint[3, 3], S - k[:, None] * k / joint[3, 3])
    log_p = Normal(0.0, joint[3, 3].sqrt()).log_prob(torch.tensor(x, dtype=torch.float64))
    q = posterior
    if not exact:
        L = torch.tensor([[0.9, 0, 0], [0.3, 0.5, 0], [-0.2, 0.4, 0.6]], dtype=torch.float64)
        q = MultivariateNormal(torch.tensor([0.2, -0.4, 0.9], dtype=torch.float64), scale_tril=L)
    left = log_p - kl_divergence(q, posterior)

    m, C = q.mean, q.covariance_matrix

    def level(up: int | None, down: int, weight: float, variance: float) -> Tensor:
        """E_q KL(q(z_down | z above) ‖ N(weight · z_up, variance)); the levels above are entries 0 … down − 1."""
        above = C[:down, :down]
        gain = torch.linalg.solve(above, C[:down, down]) if down else torch.zeros(0).double()
        s2 = C[down, down] - (gain @ C[:down, down] if down else 0)
        offset = gain.clone()
        if up is not None:
            offset[up] -= weight
        shift = m[down] - (weight * m[up] if up is not None else 0)
        second = shift**2 + (offset @ above @ offset if down else 0)
        return 0.5 * ((s2 + second) / variance - 1 - torch.log(s2 / variance))

    rates = level(None, 0, 0.0, 1.0) + level(0, 1, a, r) + level(1, 2, b, r)
    spread = (x - c * m[2]) ** 2 + c**2 * C[2, 2]
    reconstruction = -0.5 * (math.log(2 * math.pi * noise) + spread / noise)
    close(left, reconstruction - rates, 1e-9)
    if exact:
        close(reconstruction - rates, log_p, 1e-9)
    else:
        assert left < log_p - 0.1


# Figures


def test_narrow_codes_show_the_same_places_with_several_widths() -> None:
    mean = torch.tensor([-1.0, 0.5]).double()
    axes = figures.narrow_codes(mean, [0.5, 0.1], [0.2, 1.5]).axes
    for axis, s in zip(axes, (0.5, 0.1), strict=True):
        z, q = axis.lines[2].get_data()
        truth = stats.norm.pdf(z[:, None], mean.numpy(), s).mean(1)
        assert q == pytest.approx(truth)
        assert f"s={s:g}" in axis.get_title()
    plt.close("all")


def test_the_sweep_draws_what_it_is_given() -> None:
    axes = figures.sigma_sweep([0.1, 1.0], [0.9, 0.2], [0.0, 0.1]).axes
    assert [list(axis.lines[0].get_ydata()) for axis in axes] == [[0.9, 0.2], [0.0, 0.1]]
    assert all(list(axis.lines[0].get_xdata()) == [0.1, 1.0] for axis in axes)
    plt.close("all")


def test_the_hierarchy_names_its_five_distributions() -> None:
    (axis,) = figures.hierarchy().axes
    shown = {text.get_text() for text in axis.texts}
    assert {r"$p(x\,|\,z_1)$", r"$p(z_1\,|\,z_2)$", r"$q(z_1\,|\,z_2,x)$", r"$q(z_2\,|\,x)$"} <= shown
    plt.close("all")
