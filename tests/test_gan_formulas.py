"""The numbered formulas of chapter 4, each against something that does not use it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, linalg, optimize, stats
from torch import Tensor

from companion.gan import (
    GAN,
    critic_loss,
    cross_entropy,
    game_value,
    gradient_penalty,
    jensen_shannon,
    non_saturating,
    optimal_logit,
    random_interpolates,
    relativistic,
    saturating,
    zero_centred_penalty,
)
from companion.latent import NonlinearGaussian
from companion.metrics import frechet_distance, gaussian_frechet, mode_score, wasserstein_1d

LOG_2 = math.log(2)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gaussian(mean: float, std: float) -> torch.distributions.Normal:
    return torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(std).double())


def within(estimates: Tensor, truth: float | Tensor, errors: float = 4.5) -> None:
    """The mean of the estimates, shape (n, …), lies within so many standard errors, all of them small, of the truth."""
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert (error < 0.05 * (1 + abs(truth))).all(), "an error without bound would agree with anything"
    assert ((estimates.mean(0) - truth).abs() < errors * error).all()


def close(a: Tensor | float, b: Tensor | float, tol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=tol, atol=tol
    )


P, Q = stats.norm(0.5, 1.2), stats.norm(-0.7, 0.8)


def integral(function) -> float:
    """By the trapezoidal rule, exponentially exact for smooth functions that end in zeros."""
    x = np.linspace(-12, 12, 4801)
    return float(function(x).sum() * (x[1] - x[0]))


@pytest.fixture
def players() -> GAN:
    torch.manual_seed(1)
    generator = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    discriminator = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    return GAN(generator.double(), discriminator.double(), latent_dim=3, loss="minimax").double()


# 4.1 Implicit models


@pytest.mark.equation("4.1")
def test_a_sample_is_the_generator_of_a_normal_draw() -> None:
    W, b = normal(2, 3, seed=1), normal(2, seed=2)
    linear = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        linear.weight.copy_(W)
        linear.bias.copy_(b)
    model = GAN(linear, torch.nn.Linear(2, 1).double(), latent_dim=3).double()
    x = model.sample(50_000, generator=torch.Generator().manual_seed(3))
    within(x, b)
    r = x - b
    within(r[:, :, None] * r[:, None, :], W @ W.T)
    z = normal(10, 3, seed=30)
    close(model.prior().log_prob(z), torch.from_numpy(stats.norm.logpdf(z).sum(1)))
    close(model.generate(z), z @ W.T + b)


@pytest.mark.equation("4.2")
def test_the_density_of_a_folded_curve() -> None:
    """Σ p(z)/|G'(z)| over the preimages is the derivative of P(G(z) ≤ x), found from the intervals of z."""

    def G(z):
        return z + math.sin(3 * z)

    def preimages(x: float) -> list[float]:
        z = torch.linspace(-9, 9, 20_001, dtype=torch.float64).tolist()
        return [
            optimize.brentq(lambda t: G(t) - x, low, high)
            for low, high in itertools.pairwise(z)
            if (G(low) - x) * (G(high) - x) < 0
        ]

    def below(x: float) -> float:
        edges = [-math.inf, *preimages(x), math.inf]
        return sum(
            stats.norm.cdf(high) - stats.norm.cdf(low)
            for index, (low, high) in enumerate(itertools.pairwise(edges))
            if index % 2 == 0
        )

    folded = NonlinearGaussian(b=1.0, sigma=0.002)
    for x in (-2.0, -0.3, 0.2, 1.1):
        density = sum(stats.norm.pdf(z) / abs(1 + 3 * math.cos(3 * z)) for z in preimages(x))
        assert density == pytest.approx((below(x + 1e-4) - below(x - 1e-4)) / 2e-4, rel=1e-5)
        assert density == pytest.approx(folded.log_prob(torch.tensor([x], dtype=torch.float64)).exp().item(), rel=1e-3)
    assert len(preimages(1.1)) == 3


@pytest.mark.equation("4.3")
def test_expectations_and_their_gradients_go_through_the_generator() -> None:
    """x = θ₁ + θ₂ z with h(x) = x³: E h = θ₁³ + 3θ₁θ₂², known without any sample."""
    theta = torch.tensor([0.7, 1.3], dtype=torch.float64)
    z = normal(400_000, seed=4)
    x = theta[0] + theta[1] * z
    within(x**3, theta[0] ** 3 + 3 * theta[0] * theta[1] ** 2)
    jacobian, slope = torch.stack([torch.ones_like(z), z], 1), 3 * x**2
    exact = torch.stack([3 * theta[0] ** 2 + 3 * theta[1] ** 2, 6 * theta[0] * theta[1]])
    within(jacobian * slope[:, None], exact)


# 4.3 The value function


@pytest.mark.equation("4.4")
def test_binary_cross_entropy_is_minus_a_bernoulli_log_probability() -> None:
    D = uniform(20, seed=5)
    for y in (0.0, 1.0):
        by_hand = -y * D.log() - (1 - y) * (1 - D).log()
        close(by_hand, -torch.distributions.Bernoulli(D).log_prob(torch.tensor(y).double()))
        close(by_hand.mean(), F.binary_cross_entropy(D, torch.full_like(D, y)))


@pytest.mark.equation("4.5")
def test_both_terms_of_the_value_are_minus_a_cross_entropy(players: GAN) -> None:
    real, fake = normal(50, 2, seed=6), players.generate(normal(50, 3, seed=7)).detach()
    D_real, D_fake = players.discriminate(real).sigmoid(), players.discriminate(fake).sigmoid()
    value = D_real.log().mean() + (1 - D_fake).log().mean()
    bce = (
        F.binary_cross_entropy(D_real, torch.ones_like(D_real)),
        F.binary_cross_entropy(D_fake, torch.zeros_like(D_fake)),
    )
    close(value, -bce[0] - bce[1])
    close(value, -cross_entropy(players.discriminate(real), players.discriminate(fake)))


@pytest.mark.equation("4.5")
def test_the_value_as_an_integral_over_two_densities() -> None:
    def value(x: np.ndarray) -> np.ndarray:
        D = 1 / (1 + np.exp(-np.sin(x)))
        return P.pdf(x) * np.log(D) + Q.pdf(x) * np.log(1 - D)

    x = torch.linspace(-12, 12, 8001, dtype=torch.float64)
    close(game_value(x.sin(), gaussian(0.5, 1.2), gaussian(-0.7, 0.8), x), integral(value), 1e-7)


@pytest.mark.equation("4.5")
@pytest.mark.equation("4.17")
@pytest.mark.equation("4.19")
@pytest.mark.equation("4.28")
@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "wasserstein", "relativistic"])
def test_both_players_minimise_the_stated_losses(players: GAN, loss: str) -> None:
    """With a linear logit, whose slope is w everywhere, both penalties have a closed form."""
    critic = torch.nn.Linear(2, 1).double()
    weight = 0.7 if loss in ("wasserstein", "relativistic") else None
    model = GAN(players.generator, critic, 3, loss, penalty=weight).double()
    w, x = critic.weight.norm(), normal(64, 2, seed=31)
    torch.manual_seed(5)
    found = model.discriminator_loss(x)
    torch.manual_seed(5)
    real, fake = critic(x)[:, 0], critic(model.sample(64))[:, 0]
    likely = {y: torch.distributions.Bernoulli(logits=a).log_prob(number(y)).mean() for y, a in ((1, real), (0, fake))}
    ahead = torch.distributions.Bernoulli(logits=real - fake).log_prob(number(1)).mean()
    truth = {"wasserstein": fake.mean() - real.mean() + 0.7 * (w - 1) ** 2, "relativistic": -ahead + 0.7 * w**2}
    close(found, truth.get(loss, -likely[1] - likely[0]))
    torch.manual_seed(6)
    found = model.generator_loss(x)
    torch.manual_seed(6)
    fake = critic(model.sample(64))[:, 0]
    likely = {y: torch.distributions.Bernoulli(logits=fake).log_prob(number(y)).mean() for y in (0, 1)}
    ahead = torch.distributions.Bernoulli(logits=fake - real).log_prob(number(1)).mean()
    truth = {"minimax": likely[0], "non-saturating": -likely[1], "wasserstein": -fake.mean(), "relativistic": -ahead}
    close(found, truth[loss])


@pytest.mark.equation("4.6")
def test_logarithms_from_logits_survive_where_probabilities_round() -> None:
    a = torch.linspace(-30, 30, 61, dtype=torch.float64)
    close((1 / (1 + (-a).exp())).log(), -(1 + (-a).exp()).log())
    close(-saturating(a), F.binary_cross_entropy_with_logits(a, torch.zeros_like(a)))
    close(non_saturating(a), F.binary_cross_entropy_with_logits(a, torch.ones_like(a)))
    assert non_saturating(torch.tensor([-500.0])).item() == pytest.approx(500)
    assert torch.tensor(-500.0).sigmoid().log().item() == -math.inf


@pytest.mark.equation("4.7")
def test_the_best_discriminator_by_search_at_each_point() -> None:
    for x in (-3.0, -0.5, 0.1, 2.0):
        p, q = P.pdf(x), Q.pdf(x)
        found = optimize.minimize_scalar(
            lambda D, p=p, q=q: -p * math.log(D) - q * math.log(1 - D), bounds=(1e-9, 1 - 1e-9), method="bounded"
        ).x
        assert found == pytest.approx(p / (p + q), abs=1e-5)
        best = optimal_logit(gaussian(0.5, 1.2), gaussian(-0.7, 0.8), number(x)).sigmoid()
        assert found == pytest.approx(best.item(), abs=1e-5)


@pytest.mark.equation("4.8")
def test_the_best_logit_is_a_difference_of_log_densities() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    p, q = torch.from_numpy(P.pdf(x)), torch.from_numpy(Q.pdf(x))
    close(torch.logit(p / (p + q)), torch.from_numpy(P.logpdf(x) - Q.logpdf(x)), 1e-8)
    close(optimal_logit(gaussian(0.5, 1.2), gaussian(-0.7, 0.8), x), torch.logit(p / (p + q)), 1e-6)


@pytest.mark.equation("4.8")
def test_a_discriminator_trained_on_samples_learns_the_log_ratio() -> None:
    """Two Gaussians: log p − log q is quadratic, so a quadratic logit fitted by scikit-learn recovers it."""
    from sklearn.linear_model import LogisticRegression

    real, fake = 0.5 + 1.2 * normal(100_000, seed=8), -0.7 + 0.8 * normal(100_000, seed=9)
    x = torch.cat([real, fake])
    model = LogisticRegression(C=1e6).fit(torch.stack([x, x**2], 1), [1] * len(real) + [0] * len(fake))
    grid = torch.linspace(-2, 2, 9, dtype=torch.float64)
    learnt = torch.from_numpy(model.decision_function(torch.stack([grid, grid**2], 1)))
    assert (learnt - torch.from_numpy(P.logpdf(grid) - Q.logpdf(grid))).abs().max() < 0.05


# 4.4 What the best discriminator measures


def jsd_by_quadrature(p, q) -> float:
    def both(x: np.ndarray) -> np.ndarray:
        m = (p.pdf(x) + q.pdf(x)) / 2
        return 0.5 * sum(d.pdf(x) * np.log(d.pdf(x) / m) for d in (p, q))

    return integral(both)


@pytest.mark.equation("4.9")
def test_jensen_shannon_is_what_a_sample_tells_about_its_label() -> None:
    """JSD = I(x; y) = log 2 − E[H(y | x)] for a fair coin y: no logarithm of a density in it."""

    def label_entropy(x: np.ndarray) -> np.ndarray:
        m, share = (P.pdf(x) + Q.pdf(x)) / 2, P.pdf(x) / (P.pdf(x) + Q.pdf(x))
        return m * stats.bernoulli.entropy(share)

    truth = LOG_2 - integral(label_entropy)
    x = torch.linspace(-12, 12, 8001, dtype=torch.float64)
    assert jsd_by_quadrature(P, Q) == pytest.approx(truth, abs=1e-8)
    close(jensen_shannon(gaussian(0.5, 1.2), gaussian(-0.7, 0.8), x), truth, 1e-7)


@pytest.mark.equation("4.10")
def test_the_value_at_the_best_discriminator_is_the_divergence() -> None:
    best = integral(lambda x: -P.pdf(x) * np.log1p(Q.pdf(x) / P.pdf(x)) - Q.pdf(x) * np.log1p(P.pdf(x) / Q.pdf(x)))
    assert best == pytest.approx(2 * jsd_by_quadrature(P, Q) - math.log(4), abs=1e-8)
    x = torch.linspace(-12, 12, 8001, dtype=torch.float64)
    p, q = gaussian(0.5, 1.2), gaussian(-0.7, 0.8)
    close(game_value(optimal_logit(p, q, x), p, q, x), best, 1e-7)
    for other in (torch.zeros_like(x), optimal_logit(p, q, x) + 0.3, 0.8 * optimal_logit(p, q, x)):
        assert game_value(other, p, q, x) < best - 1e-3


@pytest.mark.equation("4.12")
def test_the_divergence_is_largest_without_overlap() -> None:
    for seed in range(20):
        p, q = uniform(2, 6, seed=seed).log().neg() + 1e-3
        p, q = p / p.sum(), q / q.sum()
        m = (p + q) / 2
        jsd = (stats.entropy(p, m) + stats.entropy(q, m)) / 2
        assert 0 < jsd < LOG_2
        apart = torch.cat([p, 0 * q]), torch.cat([0 * p, q])
        middle = (apart[0] + apart[1]) / 2
        assert (stats.entropy(apart[0], middle) + stats.entropy(apart[1], middle)) / 2 == pytest.approx(LOG_2)
    x = torch.linspace(-60, 60, 40_001, dtype=torch.float64)
    close(jensen_shannon(gaussian(-40.0, 0.8), gaussian(40.0, 1.2), x), LOG_2)


@pytest.mark.equation("4.13")
@pytest.mark.parametrize("t", [0.0, 0.25, -0.6, 1.0, 3.0])
def test_the_divergence_of_shifted_uniforms(t: float) -> None:
    width = 1e-3
    cells = torch.arange(-4, 5, width, dtype=torch.float64) + width / 2
    p, q = ((cells > 0) & (cells < 1)).double() * width, ((cells > t) & (cells < t + 1)).double() * width
    m = (p + q) / 2
    jsd = (stats.entropy(p, m) + stats.entropy(q, m)) / 2
    assert jsd == pytest.approx(min(abs(t), 1) * LOG_2, abs=1e-3)


G_OF = {  # a convex g, its slope and its conjugate
    "KL": (lambda u: u * np.log(u), lambda u: np.log(u) + 1, lambda t: np.exp(t - 1)),
    "GAN": (
        lambda u: u * np.log(u) - (u + 1) * np.log(u + 1),
        lambda u: np.log(u / (u + 1)),
        lambda t: -np.log(1 - np.exp(t)),
    ),
    "chi squared": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1), lambda t: t + t**2 / 4),
}


@pytest.mark.equation("4.11")
@pytest.mark.parametrize("name", G_OF)
def test_every_convex_function_has_a_game_whose_value_is_its_divergence(name: str) -> None:
    """On five values, the best f is found by a search that knows neither g nor its slope, only the conjugate."""
    g, slope, conjugate = G_OF[name]
    p, q = (uniform(5, seed=seed).numpy() + 0.1 for seed in (31, 32))
    p, q = p / p.sum(), q / q.sum()
    divergence = float((q * g(p / q)).sum())
    known = {
        "KL": stats.entropy(p, q),
        "GAN": stats.entropy(p, (p + q) / 2) + stats.entropy(q, (p + q) / 2) - math.log(4),
        "chi squared": float(((p - q) ** 2 / q).sum()),
    }
    assert divergence == pytest.approx(known[name], rel=1e-9)
    start = slope(np.full(5, 1.0)) - 0.1
    found = optimize.minimize(lambda f: -(p * f - q * conjugate(f)).sum(), start, method="Nelder-Mead", tol=1e-12)
    found = optimize.minimize(lambda f: -(p * f - q * conjugate(f)).sum(), found.x, method="Nelder-Mead", tol=1e-12)
    assert -found.fun == pytest.approx(divergence, abs=1e-7)
    assert found.x == pytest.approx(slope(p / q), abs=1e-3)
    t = np.linspace(-1.5, -0.2, 5)
    u = np.linspace(1e-6, 60, 600_001)
    assert [float((u * x - g(u)).max()) for x in t] == pytest.approx(list(conjugate(t)), abs=1e-3)


# 4.5 Saturation


@pytest.mark.equation("4.14")
def test_gradients_of_both_losses_with_respect_to_the_logit() -> None:
    for loss, expected in ((saturating, lambda D: -D), (non_saturating, lambda D: -(1 - D))):
        a = torch.tensor([-9.0, -1.0, 0.0, 2.5], dtype=torch.float64, requires_grad=True)
        loss(a).backward()
        close(a.grad, expected(1 / (1 + (-a.detach()).exp())) / 4)  # the mean over four samples


@pytest.mark.equation("4.15")
@pytest.mark.parametrize("theta", [0.4, 1.5, 3.0])
def test_the_non_saturating_gradient_follows_the_reverse_divergence(theta: float) -> None:
    def distance(t: float) -> float:
        q = stats.norm(t, 0.8)
        kl = integral(lambda x: q.pdf(x) * (q.logpdf(x) - P.logpdf(x)))
        return kl - 2 * jsd_by_quadrature(P, q)

    q0, step = stats.norm(theta, 0.8), 1e-4

    def loss(t: float) -> float:
        """E under the moved fakes of −log D*, with D* held where it was."""
        q = stats.norm(t, 0.8)
        return integral(lambda x: q.pdf(x) * np.log1p(q0.pdf(x) / P.pdf(x)))

    def from_the_middle(t: float) -> float:
        """2 KL(m ‖ p_data)."""

        def integrand(x: np.ndarray) -> np.ndarray:
            m = (P.pdf(x) + stats.norm(t, 0.8).pdf(x)) / 2
            return 2 * m * (np.log(m) - P.logpdf(x))

        return integral(integrand)

    left = (loss(theta + step) - loss(theta - step)) / (2 * step)
    right = (distance(theta + step) - distance(theta - step)) / (2 * step)
    assert left == pytest.approx(right, abs=1e-5)
    assert distance(theta) == pytest.approx(from_the_middle(theta), abs=1e-9)
    right = (from_the_middle(theta + step) - from_the_middle(theta - step)) / (2 * step)
    assert left == pytest.approx(right, abs=1e-5)


# 4.6 The Wasserstein distance


def transport(x: Tensor, y: Tensor) -> float:
    """The cheapest pairing, by the Hungarian method."""
    cost = torch.cdist(x, y).numpy()
    rows, columns = optimize.linear_sum_assignment(cost)
    return cost[rows, columns].mean()


@pytest.mark.equation("4.16")
def test_no_coupling_is_cheaper_than_the_best() -> None:
    x, y = normal(30, 2, seed=10), normal(30, 2, seed=11) + 1
    cost = torch.cdist(x, y)
    marginals = torch.cat([torch.eye(30).repeat_interleave(30, 1), torch.eye(30).repeat(1, 30)]).double()
    linear = optimize.linprog(cost.flatten().numpy(), A_eq=marginals.numpy(), b_eq=[1 / 30] * 60)
    assert linear.fun == pytest.approx(transport(x, y), rel=1e-6)
    for seed in range(5):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
        assert cost[range(30), order].mean() > transport(x, y)


@pytest.mark.equation("4.17")
def test_the_dual_reaches_the_cost_of_the_cheapest_coupling() -> None:
    x, y = normal(25, 2, seed=12), normal(25, 2, seed=13) + torch.tensor([2.0, 0.0], dtype=torch.float64)
    points = torch.cat([x, y])
    distance = torch.cdist(points, points)
    pairs = [(i, j) for i in range(50) for j in range(50) if i != j]
    slopes = torch.zeros(len(pairs), 50).double()
    for row, (i, j) in enumerate(pairs):
        slopes[row, i], slopes[row, j] = 1, -1
    weights = [1 / 25] * 25 + [-1 / 25] * 25
    limits = [distance[i, j].item() for i, j in pairs]
    dual = optimize.linprog([-w for w in weights], A_ub=slopes.numpy(), b_ub=limits, bounds=(None, None))
    assert -dual.fun == pytest.approx(transport(x, y), rel=1e-6)
    best = torch.from_numpy(dual.x)
    assert -critic_loss(best[:25], best[25:]).item() == pytest.approx(transport(x, y), rel=1e-6)
    for seed in range(5):
        w = normal(2, seed=seed)
        f = points @ (w / w.norm())
        assert f[:25].mean() - f[25:].mean() <= transport(x, y) + 1e-12


@pytest.mark.equation("4.18")
def test_in_one_dimension_quantiles_are_paired() -> None:
    x, y = normal(200, seed=14), normal(200, seed=15).exp()
    quantiles = (x.sort().values - y.sort().values).abs().mean().item()
    assert quantiles == pytest.approx(transport(x[:, None], y[:, None]), rel=1e-9)
    assert quantiles == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-9)
    assert wasserstein_1d(x, y) == pytest.approx(quantiles)
    for few in (x[:70], 3 * x[:70]):  # three times as wide, its distribution function crosses the other
        assert wasserstein_1d(few, y - 1) == pytest.approx(stats.wasserstein_distance(few, y - 1))
    by_functions = integral(lambda t: np.abs(P.cdf(t) - Q.cdf(t)))
    u = (np.arange(100_000) + 0.5) / 100_000
    by_quantiles = np.abs(P.ppf(u) - Q.ppf(u)).mean()
    assert by_functions == pytest.approx(by_quantiles, abs=1e-3)


@pytest.mark.equation("4.19")
def test_the_gradient_penalty_sample_by_sample() -> None:
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    x, y = normal(4000, 3, seed=16), normal(4000, 3, seed=17) + 2

    def one(point: Tensor) -> float:
        gradient = torch.autograd.functional.jacobian(lambda row: net(row)[0], point)
        return (gradient.norm().item() - 1) ** 2

    torch.manual_seed(3)
    found = gradient_penalty(lambda rows: net(rows)[:, 0], x, y).item()
    shares = uniform(400, seed=18)
    by_hand = torch.tensor([one(s * a + (1 - s) * b) for s, a, b in zip(shares, x, y, strict=False)])
    assert abs(found - by_hand.mean().item()) < 4.5 * by_hand.std().item() * math.sqrt(1 / 400 + 1 / 4000)
    w = normal(3, seed=19)
    close(gradient_penalty(lambda rows: rows @ w, x, y), (w.norm() - 1) ** 2)
    shares = (random_interpolates(x, y) - y) / (x - y)
    close(shares, shares[:, :1].expand(4000, 3))
    assert stats.kstest(shares[:, 0].numpy(), "uniform").pvalue > 1e-3
    images = random_interpolates(torch.ones(6, 2, 3, 3), torch.zeros(6, 2, 3, 3)).flatten(1)
    assert torch.equal(images, images[:, :1].expand(6, 18))
    assert len(images[:, 0].unique()) == 6


# 4.7 Dynamics


def dirac_value(theta: float, psi: float) -> float:
    """V of the Dirac-GAN from its definition: data at 0, the fake at θ, logit ψx."""
    D = torch.tensor([0.0, theta], dtype=torch.float64).mul(psi).sigmoid()
    return (D[0].log() + (1 - D[1]).log()).item()


def dirac_flow(theta: float, psi: float) -> tuple[float, float]:
    s = 1 / (1 + math.exp(-psi * theta))
    return s * psi, -s * theta


@pytest.mark.equation("4.20")
def test_the_flow_is_the_gradient_of_the_value() -> None:
    for theta, psi in normal(5, 2, seed=20).tolist():
        h = 1e-6
        by_theta = (dirac_value(theta + h, psi) - dirac_value(theta - h, psi)) / (2 * h)
        by_psi = (dirac_value(theta, psi + h) - dirac_value(theta, psi - h)) / (2 * h)
        assert dirac_flow(theta, psi) == pytest.approx((-by_theta, by_psi), abs=1e-8)


@pytest.mark.equation("4.21")
def test_the_exact_orbit_is_a_circle() -> None:
    path = integrate.solve_ivp(lambda _, v: dirac_flow(*v), (0, 60), [1.0, 0.4], rtol=1e-11, atol=1e-12)
    radius = (path.y**2).sum(0)
    assert abs(radius - radius[0]).max() < 1e-7
    assert path.y[0].min() < -1 < 1 < path.y[0].max()


@pytest.mark.equation("4.22")
@pytest.mark.slow
def test_the_non_saturating_orbit_creeps_inwards() -> None:
    """The flow from autograd of −log D and of V; the rate by difference, along an orbit found by a solver."""

    def flow(_: float, v: np.ndarray) -> list[float]:
        theta, psi = torch.tensor(v, dtype=torch.float64, requires_grad=True)
        real, fake = torch.zeros(()).double() * psi, psi * theta
        (by_theta,) = torch.autograd.grad(-F.logsigmoid(fake), theta, retain_graph=True)
        (by_psi,) = torch.autograd.grad(F.logsigmoid(real) + F.logsigmoid(-fake), psi)
        return [-by_theta.item(), by_psi.item()]

    path = integrate.solve_ivp(flow, (0, 12), [1.3, -0.4], rtol=1e-9, atol=1e-11, dense_output=True)
    for t in (1.0, 4.0, 9.0):
        squared = [float((path.sol(t + step) ** 2).sum()) for step in (1e-3, -1e-3)]
        theta, psi = path.sol(t)
        product = theta * psi
        assert (squared[0] - squared[1]) / 2e-3 == pytest.approx(-2 * product * math.tanh(product / 2), abs=1e-6)
        s = 1 / (1 + math.exp(-product))
        assert 2 * (1 - 2 * s) * product == pytest.approx(-2 * product * math.tanh(product / 2))
    assert (np.diff((path.y**2).sum(0)) < 1e-9).all()

    def fast(_: float, v: np.ndarray) -> list[float]:
        s = 1 / (1 + math.exp(-v[0] * v[1]))
        return [(1 - s) * v[1], -s * v[0]]

    path = integrate.solve_ivp(fast, (0, 3200), [1.0, 0.0], rtol=1e-9, atol=1e-11, t_eval=[800, 3200])
    radius = np.sqrt((path.y**2).sum(0))
    assert radius[1] == pytest.approx(math.sqrt(8 / 3200), rel=0.02)
    assert radius[0] / radius[1] == pytest.approx(2, rel=0.02)


@pytest.mark.equation("4.23")
def test_steps_together_spiral_out_and_in_turn_stay() -> None:
    for theta, psi in normal(5, 2, seed=21).tolist():
        eta, (d_theta, d_psi) = 0.3, dirac_flow(theta, psi)
        s = 1 / (1 + math.exp(-psi * theta))
        moved = (theta + eta * d_theta) ** 2 + (psi + eta * d_psi) ** 2
        assert moved == pytest.approx((1 + eta**2 * s**2) * (theta**2 + psi**2))
    k = 0.2
    in_turn = torch.tensor([[1 - k**2, k], [-k, 1.0]], dtype=torch.float64)  # acts on (θ, ψ)
    form = torch.tensor([[1.0, -k / 2], [-k / 2, 1.0]], dtype=torch.float64)
    close(in_turn.T @ form @ in_turn, form)
    close(torch.linalg.eigvals(in_turn).abs(), torch.ones(2).double())


def with_r1(lam: float) -> Tensor:
    """The Jacobian at the origin of the flow with R1, by autograd."""

    def flow(v: Tensor) -> Tensor:
        s = (v[0] * v[1]).sigmoid()
        return torch.stack([s * v[1], -s * v[0] - lam * v[1]])

    return torch.autograd.functional.jacobian(flow, torch.zeros(2).double())


@pytest.mark.equation("4.24")
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 4.0])
def test_r1_moves_the_eigenvalues_to_the_left(lam: float) -> None:
    A = with_r1(lam)
    close(A, torch.tensor([[0, 0.5], [-0.5, -lam]], dtype=torch.float64))
    root = complex(lam**2 - 1) ** 0.5
    expected = sorted([(-lam + root) / 2, (-lam - root) / 2], key=lambda r: (r.real, r.imag))
    found = sorted(linalg.eigvals(A.numpy()), key=lambda r: (round(r.real, 7), r.imag))
    assert found == pytest.approx(expected, abs=1e-7)
    assert all(r.real < 0 for r in found) == (lam > 0)
    if lam == 0.3:
        end = torch.linalg.matrix_exp(20 * A) @ torch.tensor([1.0, 0.0], dtype=torch.float64)
        path = integrate.solve_ivp(lambda _, v: A.numpy() @ v, (0, 20), [1.0, 0.0], rtol=1e-10, atol=1e-12)
        close(end, torch.from_numpy(path.y[:, -1]), 1e-7)


@pytest.mark.equation("4.25")
@pytest.mark.parametrize(("eta", "lam"), [(0.4, 0.05), (0.4, 0.1), (0.4, 0.15), (1.0, 0.2), (1.0, 0.9)])
def test_steps_shrink_when_the_penalty_exceeds_a_quarter_of_their_size(eta: float, lam: float) -> None:
    step = torch.eye(2).double() + eta * with_r1(lam)
    size = torch.linalg.eigvals(step).abs()
    close(size**2, torch.full((2,), 1 - eta * lam + eta**2 / 4, dtype=torch.float64))
    far = torch.linalg.matrix_power(step, 1000).norm().item()
    if lam != eta / 4:
        assert (far < 1e-3) == (lam > eta / 4)


def test_momentum_turns_the_alternating_circle_into_a_spiral() -> None:
    """Near the origin, with averaged gradients m ← βm + (1 − β)g, as in Adam: the orbit grows for every β > 0."""

    def step(state: Tensor, beta: float, k: float = 0.2) -> Tensor:
        theta, psi, m_theta, m_psi = state
        m_psi = beta * m_psi - (1 - beta) * k * theta
        psi = psi + m_psi
        m_theta = beta * m_theta + (1 - beta) * k * psi
        return torch.stack([theta + m_theta, psi, m_theta, m_psi])

    growth = [
        torch.linalg.eigvals(torch.stack([step(e, beta) for e in torch.eye(4).double()], 1)).abs().max().item()
        for beta in (0.0, 0.5, 0.9)
    ]
    assert growth == pytest.approx([1, growth[1], growth[2]])
    assert 1.02 < growth[1] < growth[2]


@pytest.mark.parametrize("lam", [1.0, 1.5, 10.0])
def test_the_gradient_penalty_drives_the_dirac_critic_away_from_the_answer(lam: float) -> None:
    """Exercise 4.7: ψ leaves 0 on either side, and from (0, 1) the flow creeps to θ = 2λ with ψ > 0."""

    def flow(_: float, v: tuple[float, float]) -> tuple[float, float]:
        theta, psi = v
        return psi, -theta - 2 * lam * (abs(psi) - 1) * math.copysign(1, psi)

    for psi in (1e-6, -1e-6):
        for theta in (-1.9 * lam, 0.0, 1.9 * lam):
            assert flow(0, (theta, psi))[1] * psi > 0
    path = integrate.solve_ivp(flow, (0, 20 * lam), [0.0, 1.0], method="LSODA", rtol=1e-9, atol=1e-12)
    assert path.y[1].min() > 0
    assert path.y[0, -1] == pytest.approx(2 * lam, rel=1e-3)


# 4.8 Modes


@pytest.mark.equation("4.26")
@pytest.mark.parametrize(("kept", "modes"), [(8, 8), (7, 8), (4, 8), (1, 8), (1, 25)])
def test_the_divergence_of_a_generator_that_keeps_some_modes(kept: int, modes: int) -> None:
    p = torch.full((modes,), 1 / modes, dtype=torch.float64)
    q = torch.cat([torch.full((kept,), 1 / kept), torch.zeros(modes - kept)]).double()
    m, r = (p + q) / 2, kept / modes
    jsd = (stats.entropy(p, m) + stats.entropy(q, m)) / 2
    assert jsd == pytest.approx(LOG_2 + (r * math.log(r) - (1 + r) * math.log(1 + r)) / 2, abs=1e-7)
    assert stats.entropy(q, p) == pytest.approx(-math.log(r), abs=1e-6)
    assert kept == modes or stats.entropy(p, q) == math.inf


@pytest.mark.equation("4.27")
def test_even_a_perfect_sampler_has_some_reverse_divergence() -> None:
    modes, n = torch.eye(8).double() * 10, 500
    runs = []
    for seed in range(900):
        index = torch.randint(8, (n,), generator=torch.Generator().manual_seed(seed))
        runs.append(mode_score(modes[index], modes, 1.0).reverse_kl)
    runs = torch.tensor(runs).double()
    within(runs, 7 / (2 * n))


@pytest.mark.equation("4.28")
def test_the_relativistic_losses_compare_pairs() -> None:
    real, fake = normal(40, seed=22), normal(40, seed=23)
    ahead = torch.distributions.Bernoulli(logits=real - fake)
    close(relativistic(real, fake), -ahead.log_prob(torch.ones(40).double()).mean())
    close(relativistic(fake, real), -ahead.log_prob(torch.zeros(40).double()).mean())
    close(relativistic(real + 7, fake + 7), relativistic(real, fake))
    close(relativistic(fake, real), F.binary_cross_entropy_with_logits(fake - real, torch.ones(40).double()))


@pytest.mark.equation("4.29")
def test_both_penalties_are_mean_squared_slopes(players: GAN) -> None:
    x = normal(30, 2, seed=24).requires_grad_()
    found = zero_centred_penalty(players.discriminate(x), x)
    h, by_difference = 1e-5, torch.zeros(30).double()
    for axis in torch.eye(2).double() * h:
        with torch.no_grad():
            slope = (players.discriminate(x + axis) - players.discriminate(x - axis)) / (2 * h)
        by_difference += slope**2
    close(found, by_difference.mean(), 1e-7)


@pytest.mark.equation("4.29")
def test_the_discriminators_loss_charges_both_penalties(players: GAN) -> None:
    model = GAN(players.generator, players.discriminator, 3, "relativistic", penalty=0.7).double()
    x = normal(64, 2, seed=25)
    torch.manual_seed(4)
    found = model.discriminator_loss(x)
    torch.manual_seed(4)
    fake = model.sample(64)
    r = []
    for points in (x, fake):
        points = points.clone().requires_grad_()
        gradient = torch.autograd.grad(model.discriminate(points).sum(), points)[0]
        r.append(gradient.square().sum(1).mean())
    pairs = F.softplus(model.discriminate(fake) - model.discriminate(x)).mean()
    close(found, pairs + 0.35 * (r[0] + r[1]))


# 4.9 Hangul


@pytest.mark.equation("4.30")
def test_how_many_different_ones_a_perfect_sampler_shows() -> None:
    K, n = 10, 12
    drawn = torch.randint(K, (20_000, n), generator=torch.Generator().manual_seed(26))
    distinct = F.one_hot(drawn, K).amax(1).sum(1)
    within(distinct.double(), K * (1 - (1 - 1 / K) ** n))


@pytest.mark.equation("4.31")
def test_equal_pairs_tell_the_effective_number() -> None:
    p = torch.arange(1, 41).double()
    p, n = p / p.sum(), 60
    pairs = []
    for seed in range(2000):
        drawn = torch.multinomial(p, n, replacement=True, generator=torch.Generator().manual_seed(seed))
        count = drawn.bincount(minlength=40)
        pairs.append((count * (count - 1) // 2).sum())
    pairs = torch.tensor(pairs).double()
    within(pairs, n * (n - 1) / 2 * (p**2).sum())
    # p rises from 0, so the mean of p² is 4/3 of the square of the mean: 30 even ones would coincide as often as 40.
    assert n * (n - 1) / (2 * pairs.mean().item()) == pytest.approx(1 / (p**2).sum().item(), rel=0.02)
    assert 1 / (p**2).sum().item() == pytest.approx(30, rel=0.02)


@pytest.mark.equation("4.32")
def test_the_frechet_distance_is_the_wasserstein_distance_of_two_gaussians() -> None:
    a, b = normal(3, 3, seed=33), normal(3, 3, seed=34)
    mean_1, mean_2, cov_1, cov_2 = normal(3, seed=35), normal(3, seed=36), a @ a.T, b @ b.T
    found = gaussian_frechet(mean_1, cov_1, mean_2, cov_2)
    root = linalg.sqrtm(cov_1.numpy())
    middle = linalg.sqrtm(root @ cov_2.numpy() @ root).real
    by_formula = (mean_1 - mean_2).square().sum().item() + np.trace(cov_1.numpy() + cov_2.numpy() - 2 * middle)
    assert found == pytest.approx(by_formula, rel=1e-8)
    # The map x ↦ μ₂ + A(x − μ₁), A Σ₁ A = Σ₂, is the cheapest; no linear coupling that was drawn costs less.
    inverse = np.linalg.inv(root)
    A = torch.from_numpy(inverse @ middle @ inverse)
    close(A @ cov_1 @ A, cov_2, 1e-7)
    x = normal(40_000, 3, seed=37) @ torch.linalg.cholesky(cov_1).T + mean_1
    within((x - mean_2 - (x - mean_1) @ A.T).square().sum(1), found)
    for seed in range(5):
        Q = torch.linalg.qr(normal(3, 3, seed=seed)).Q
        y = (x - mean_1) @ torch.from_numpy(inverse) @ Q @ torch.from_numpy(linalg.sqrtm(cov_2.numpy())) + mean_2
        assert (x - y).square().sum(1).mean() > found
    # On a line, in equal samples: (μ₁ − μ₂)² + (σ₁ − σ₂)², and quantiles are paired.
    u = (torch.arange(20_000).double() + 0.5) / 20_000
    x, y = (torch.from_numpy(d.ppf(u)) for d in (P, stats.norm(-0.7, 0.8)))
    both = torch.stack([x, normal(20_000, seed=38)], 1), torch.stack([y, normal(20_000, seed=39)], 1)
    assert (x - y).square().mean().item() == pytest.approx(frechet_distance(*both), rel=0.01)
