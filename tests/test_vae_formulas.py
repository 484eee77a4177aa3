"""The numbered formulas of chapter 3, each against something that does not use it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.nn.functional import binary_cross_entropy

from companion.autoencoder import Autoencoder, linear_autoencoder
from companion.likelihoods import Gaussian, bernoulli
from companion.nets import mlp
from companion.ppca import PPCA
from companion.vae import VAE

D, Q = 6, 2


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def close(a: Tensor | float, b: Tensor | float, tol: float = 1e-9) -> None:
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def within(estimates: Tensor, truth: Tensor | float, errors: float = 4.5) -> None:
    """The mean of the estimates, shape (n, …), lies within so many standard errors, all of them small, of the truth."""
    standard_error = estimates.std(0) / math.sqrt(len(estimates))
    assert (standard_error < 0.05 * (1 + abs(truth))).all(), "an error without bound would agree with anything"
    assert ((estimates.mean(0) - truth).abs() < errors * standard_error).all()


@pytest.fixture
def x() -> Tensor:
    """Centred, correlated data, shape (60, D)."""
    x = normal(60, D, seed=3).exp() @ normal(D, D, seed=4)
    return x - x.mean(0)


@pytest.fixture
def S(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def minimise(loss, parameters: list[Tensor], steps: int = 60) -> float:
    """The smallest value that L-BFGS finds from where the parameters stand."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    least = loss().item()
    for _ in range(steps):
        optimiser.step(closure)
        before, least = least, loss().item()
        if before - least < 1e-14 * abs(before):
            break
    return least


# Autoencoders


@pytest.mark.equation("3.1")
def test_the_autoencoder_is_scored_by_its_squared_error(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Autoencoder(mlp(D, 5, Q), mlp(Q, 5, D)).double()

    def by_hand(net: nn.Sequential, rows: np.ndarray) -> np.ndarray:
        first, last = (net[i] for i in (0, 2))
        hidden = rows @ first.weight.detach().numpy().T + first.bias.detach().numpy()
        hidden = hidden / (1 + np.exp(-hidden))
        return hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()

    x_hat = by_hand(model.decoder, by_hand(model.encoder, x.numpy()))
    close(model.loss(x).detach(), ((x.numpy() - x_hat) ** 2).sum() / len(x))


@pytest.mark.equation("3.2")
def test_the_linear_loss_is_a_trace(x: Tensor, S: Tensor) -> None:
    model = linear_autoencoder(D, Q, bias=False).double()
    W, V = model.encoder.weight.detach(), model.decoder.weight.detach()
    rest = eye(D) - V @ W
    close(model.loss(x).detach(), torch.trace(rest @ S @ rest.T))


def pair_loss(x: Tensor, W: Tensor, V: Tensor) -> Tensor:
    return (x - x @ W.T @ V.T).square().sum(1).mean()


@pytest.mark.equation("3.3")
def test_the_best_code_for_a_decoder_is_least_squares(x: Tensor) -> None:
    V = normal(D, Q, seed=5)
    codes = torch.from_numpy(np.linalg.lstsq(V.numpy(), x.T.numpy(), rcond=None)[0]).T
    W = torch.linalg.inv(V.T @ V) @ V.T
    close(x @ W.T, codes)
    close(W, torch.linalg.pinv(V))
    for seed in range(5):
        assert pair_loss(x, W, V) < pair_loss(x, W + 0.1 * normal(Q, D, seed=seed), V)


@pytest.mark.equation("3.4")
def test_the_best_decoder_for_an_encoder_is_a_regression(x: Tensor, S: Tensor) -> None:
    W = normal(Q, D, seed=6)
    V = S @ W.T @ torch.linalg.inv(W @ S @ W.T)
    regression = LinearRegression(fit_intercept=False).fit((x @ W.T).numpy(), x.numpy())
    close(V, torch.from_numpy(regression.coef_))
    assert pair_loss(x, W, V) < 0.99 * pair_loss(x, W, torch.linalg.pinv(W)), "W⁺ is not the best decoder"
    E = torch.linalg.eigh(S).eigenvectors[:, -Q:].T
    mixed = normal(Q, Q, seed=7) @ E
    close(S @ mixed.T @ torch.linalg.inv(mixed @ S @ mixed.T), torch.linalg.pinv(mixed), 1e-7)


@pytest.mark.equation("3.5")
def test_the_best_linear_pair_is_the_principal_subspace(x: Tensor, S: Tensor) -> None:
    torch.manual_seed(8)
    model = linear_autoencoder(D, Q, bias=False).double()
    least = minimise(lambda: model.loss(x), list(model.parameters()))
    W, V = model.encoder.weight, model.decoder.weight
    lam, U = torch.linalg.eigh(S)
    close(least, lam[: D - Q].sum(), 1e-6)
    close((V @ W).detach(), U[:, -Q:] @ U[:, -Q:].T, 1e-3)
    pca = PCA(Q).fit(x.numpy())
    error = ((pca.inverse_transform(pca.transform(x.numpy())) - x.numpy()) ** 2).sum(1).mean()
    close(least, error, 1e-6)


@pytest.mark.equation("3.6")
def test_the_axes_of_the_code_are_free(x: Tensor) -> None:
    W, V, T = normal(Q, D, seed=9), normal(D, Q, seed=10), normal(Q, Q, seed=11)
    V_new, W_new = torch.linalg.solve(T, V, left=False), T @ W
    assert (W_new - W).abs().max() > 0.5
    close(V_new @ W_new, V @ W)
    close(pair_loss(x, W_new, V_new), pair_loss(x, W, V))


# The model and its bound, in one dimension of z, where every integral is a sum over a grid


SIGMA2 = 0.3


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(2)
    model = VAE(mlp(D, 8, 2), mlp(1, 8, D), Gaussian(torch.tensor(SIGMA2, dtype=torch.float64))).double()
    for parameter in model.decoder.parameters():
        parameter.data.mul_(2)
    return model.requires_grad_(False)


@pytest.fixture
def point(vae: VAE) -> Tensor:
    return vae.decoder(torch.tensor([[0.8]]).double())[0] + 0.5 * normal(D, seed=12)


def grid() -> tuple[Tensor, float]:
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    return z, (z[1] - z[0]).item()


def log_joint(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) from SciPy's normal densities; x (d,), z (m,)."""
    mean = model.decoder(z[:, None]).numpy()
    log_p = stats.norm.logpdf(z.numpy()) + stats.norm.logpdf(x.numpy(), mean, math.sqrt(SIGMA2)).sum(1)
    return torch.from_numpy(log_p)


def encoded(model: VAE, x: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of q(z | x), from the encoder's raw output."""
    mean, log_variance = model.encoder(x[None])[0].tolist()
    return mean, math.exp(0.5 * log_variance)


def log_q(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    return torch.from_numpy(stats.norm.logpdf(z.numpy(), *encoded(model, x)))


def evidence(model: VAE, x: Tensor) -> float:
    z, step = grid()
    return (log_joint(model, x, z).logsumexp(0) + math.log(step)).item()


def bound_by_quadrature(model: VAE, x: Tensor) -> float:
    z, step = grid()
    density = log_q(model, x, z)
    return (density.exp() * (log_joint(model, x, z) - density)).sum().item() * step


@pytest.mark.equation("3.7")
def test_prior_and_decoder_are_the_stated_normals(vae: VAE) -> None:
    z, x = normal(20, 1, seed=13), normal(20, D, seed=14)
    close(vae.prior().log_prob(z), stats.norm.logpdf(z.numpy()).sum(1))
    mean = vae.decoder(z).numpy()
    close(vae.decode(z).log_prob(x), stats.norm.logpdf(x.numpy(), mean, math.sqrt(SIGMA2)).sum(1))


@pytest.mark.equation("3.8")
def test_the_encoder_gives_mean_and_log_variance_of_a_diagonal_normal(x: Tensor) -> None:
    torch.manual_seed(3)
    model = VAE(mlp(D, 8, 6), mlp(3, 8, D), Gaussian()).double().requires_grad_(False)
    output, z = model.encoder(x), normal(len(x), 3, seed=15)
    truth = [
        stats.multivariate_normal(o[:3].numpy(), np.diag(np.exp(o[3:].numpy()))).logpdf(row.numpy())
        for o, row in zip(output, z, strict=True)
    ]
    close(model.encode(x).log_prob(z), truth)


@pytest.mark.equation("3.9")
def test_the_bound_stays_below_the_evidence(vae: VAE, x: Tensor, point: Tensor) -> None:
    for row in (point, *x[:5] / 5):
        assert bound_by_quadrature(vae, row) < evidence(vae, row)
    estimates = vae.elbo(point.expand(50_000, D), generator=torch.Generator().manual_seed(1))
    within(estimates, bound_by_quadrature(vae, point))


@pytest.mark.equation("3.10")
def test_evidence_is_bound_plus_divergence(vae: VAE, point: Tensor) -> None:
    z, step = grid()
    log_posterior = log_joint(vae, point, z) - evidence(vae, point)
    close(log_posterior.exp().sum() * step, 1.0)
    density = log_q(vae, point, z)
    divergence = (density.exp() * (density - log_posterior)).sum() * step
    assert divergence > 0.01
    bound = vae.elbo(point.expand(50_000, D), generator=torch.Generator().manual_seed(5))
    within(bound, evidence(vae, point) - divergence)


@pytest.mark.equation("3.10")
def test_bound_and_divergence_add_up_in_a_linear_gaussian_model(x: Tensor) -> None:
    model = PPCA(normal(D, Q, seed=16), normal(D, seed=17), torch.tensor(0.4, dtype=torch.float64))
    posterior = model.posterior(x)
    L = torch.linalg.cholesky(0.3 * eye(Q) + 0.1)
    q = MultivariateNormal(posterior.mean + normal(len(x), Q, seed=18), scale_tril=L.expand(len(x), Q, Q))
    dense = MultivariateNormal(model.mu, model.W @ model.W.T + 0.4 * eye(D))
    assert (model.elbo(x, q) + kl_divergence(q, posterior) - dense.log_prob(x)).abs().max() < 1e-6


@pytest.mark.equation("3.11")
def test_the_bound_is_reconstruction_minus_rate(vae: VAE, point: Tensor) -> None:
    z, step = grid()
    density = log_q(vae, point, z).exp()
    log_prior = torch.from_numpy(stats.norm.logpdf(z.numpy()))
    first = (density * (log_joint(vae, point, z) - log_prior)).sum() * step
    second = (density * (log_q(vae, point, z) - log_prior)).sum() * step
    n = 50_000
    reconstruction, kl = vae.elbo_terms(point.expand(n, D), generator=torch.Generator().manual_seed(2))
    within(reconstruction, first)
    close(kl, second.expand(n), 1e-7)
    close(vae.elbo(point.expand(n, D), generator=torch.Generator().manual_seed(2)), reconstruction - kl)


def iwae_by_quadrature(model: VAE, x: Tensor, k: int, nodes: int = 60) -> float:
    """L_k by a k-dimensional Gauss-Hermite rule."""
    t, w = np.polynomial.hermite_e.hermegauss(nodes)
    mean, std = encoded(model, x)
    z = torch.from_numpy(mean + std * t)
    weights = log_joint(model, x, z) - log_q(model, x, z)
    mass = torch.from_numpy(w / w.sum())
    total = torch.full([1] * k, -math.inf, dtype=torch.float64)
    measure = torch.ones([1] * k, dtype=torch.float64)
    for axis in range(k):
        shape = [1] * k
        shape[axis] = nodes
        total = torch.logaddexp(total, weights.reshape(shape))
        measure = measure * mass.reshape(shape)
    return (measure * (total - math.log(k))).sum().item()


@pytest.mark.equation("3.12")
def test_the_importance_weighted_bound(vae: VAE, point: Tensor) -> None:
    close(iwae_by_quadrature(vae, point, 1), bound_by_quadrature(vae, point), 1e-5)
    for k in (1, 2, 3):  # at 6,000 rows the package splits the samples into blocks
        g = torch.Generator().manual_seed(k)
        estimates = torch.cat([vae.importance_bound(point.expand(rows, D), k, generator=g) for rows in (6000, 4000)])
        within(estimates, iwae_by_quadrature(vae, point, k))


@pytest.mark.equation("3.13")
def test_more_samples_never_loosen_the_bound(vae: VAE, x: Tensor, point: Tensor) -> None:
    for row in (point, *x[:3] / 5):
        bounds = [iwae_by_quadrature(vae, row, k) for k in (1, 2, 3)]
        assert bounds[0] < bounds[1] < bounds[2] < evidence(vae, row)
    g = torch.Generator().manual_seed(4)
    many = {k: vae.importance_bound(point.expand(4000, D), k, generator=g) for k in (4, 16, 64)}
    for a, b in itertools.pairwise(many.values()):
        assert a.mean() < b.mean() + 4 * b.std() / 4000**0.5
    assert many[64].mean() < evidence(vae, point) + 4 * many[64].std() / 4000**0.5


# The two terms


@pytest.mark.equation("3.14")
def test_a_bernoulli_decoder_scores_minus_the_binary_cross_entropy() -> None:
    logits, bits = normal(8, D, seed=20), (normal(8, D, seed=21) > 0).double()
    p = 1 / (1 + np.exp(-logits.numpy()))
    close(bernoulli(logits).log_prob(bits), stats.bernoulli(p).logpmf(bits.numpy()).sum(1))
    grey = normal(8, D, seed=22).sigmoid()
    bce = binary_cross_entropy(torch.from_numpy(p), grey, reduction="none").sum(1)
    close(bernoulli(logits).log_prob(grey), -bce)


@pytest.mark.equation("3.15")
def test_a_gaussian_decoder_scores_minus_the_squared_error() -> None:
    mean, x = normal(8, D, seed=23), normal(8, D, seed=24)
    written_out = -(x - mean).square().sum(1) / (2 * SIGMA2) - D / 2 * math.log(2 * math.pi * SIGMA2)
    close(written_out, stats.norm.logpdf(x.numpy(), mean.numpy(), math.sqrt(SIGMA2)).sum(1))
    close(Gaussian(torch.tensor(SIGMA2, dtype=torch.float64))(mean).log_prob(x).detach(), written_out)


@pytest.mark.equation("3.16")
def test_the_best_noise_is_the_mean_squared_error(x: Tensor) -> None:
    mean = x + normal(60, D, seed=25)
    likelihood = Gaussian(torch.tensor(3.0, dtype=torch.float64))
    least = minimise(lambda: -likelihood(mean).log_prob(x).mean(), list(likelihood.parameters()))
    error = ((x - mean) ** 2).mean()
    close(likelihood.sigma2.detach(), error, 1e-6)
    close(-least, -D / 2 * math.log(2 * math.pi * math.e * error))


@pytest.mark.equation("3.17")
def test_cross_entropy_is_entropy_plus_divergence() -> None:
    q, p = Categorical(logits=normal(5, seed=26)), Categorical(logits=normal(5, seed=27))
    close(-(q.probs * p.logits).sum(), q.entropy() + kl_divergence(q, p))
    z, step = grid()
    q, p = Normal(torch.tensor(0.5, dtype=torch.float64), 0.7), Normal(torch.tensor(-1.0).double(), 1.3)
    cross = -(q.log_prob(z).exp() * p.log_prob(z)).sum() * step
    close(cross, q.entropy() + kl_divergence(q, p))


@pytest.mark.equation("3.18")
def test_the_divergence_from_the_prior() -> None:
    z, step = grid()
    m, s = normal(4, seed=28), (0.4 * normal(4, seed=29)).exp()
    parts = []
    for mean, std in zip(m.tolist(), s.tolist(), strict=True):
        density = stats.norm.logpdf(z.numpy(), mean, std)
        parts.append((np.exp(density) * (density - stats.norm.logpdf(z.numpy()))).sum() * step)
    close(0.5 * (m**2 + s**2 - 1 - (s**2).log()).sum(), sum(parts), 1e-6)
    model = VAE(nn.Linear(1, 8), nn.Linear(4, 1), Gaussian()).double()
    nn.init.zeros_(model.encoder.weight)
    model.encoder.bias.data = torch.cat([m, 2 * s.log()])
    _, kl = model.elbo_terms(torch.zeros(1, 1).double())
    close(kl.detach()[0], sum(parts), 1e-6)


@pytest.mark.equation("3.19")
def test_under_p_the_sign_of_the_divergence_turns() -> None:
    q, p = Normal(torch.tensor(1.0, dtype=torch.float64), 0.5), Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    z, step = grid()
    ratio = q.log_prob(z) - p.log_prob(z)
    under_q, under_p = ((d.log_prob(z).exp() * ratio).sum() * step for d in (q, p))
    close(-under_q, -kl_divergence(q, p), 1e-8)
    close(-under_p, kl_divergence(p, q), 1e-8)
    assert -under_q < 0 < -under_p
    noise = normal(100_000, seed=30)
    within(p.log_prob(1 + 0.5 * noise) - q.log_prob(1 + 0.5 * noise), -kl_divergence(q, p))
    within(p.log_prob(noise) - q.log_prob(noise), kl_divergence(p, q))


@pytest.mark.equation("3.20")
def test_the_divergence_the_other_way() -> None:
    m, s = normal(4, seed=31), (0.4 * normal(4, seed=32)).exp()
    z, step = grid()
    log_p = torch.from_numpy(stats.norm.logpdf(z.numpy()))
    parts = [
        (log_p.exp() * (log_p - torch.from_numpy(stats.norm.logpdf(z.numpy(), a, b)))).sum() * step
        for a, b in zip(m.tolist(), s.tolist(), strict=True)
    ]
    close(0.5 * ((1 + m**2) / s**2 - 1 + (s**2).log()).sum(), sum(parts), 1e-8)


# Gradients


def expected(m: Tensor, s: Tensor) -> Tensor:
    """E_q[sin z₁ + z₂²] in closed form."""
    return m[0].sin() * (-s[0].square() / 2).exp() + m[1].square() + s[1].square()


def f(z: Tensor) -> Tensor:
    return z[..., 0].sin() + z[..., 1].square()


@pytest.fixture
def phi() -> tuple[Tensor, Tensor]:
    return torch.tensor([0.4, -0.7]).double().requires_grad_(), torch.tensor([0.8, 0.5]).double().requires_grad_()


@pytest.mark.equation("3.22")
def test_the_score_function_gradient_is_unbiased(phi: tuple[Tensor, Tensor]) -> None:
    truth = torch.autograd.grad(expected(*phi), phi)
    m, s = (value.detach() for value in phi)
    z = m + s * normal(400_000, 2, seed=33)
    rows = m.expand_as(z).clone().requires_grad_(), s.expand_as(z).clone().requires_grad_()
    scores = torch.autograd.grad(Normal(*rows).log_prob(z).sum(), rows)
    for score, gradient in zip(scores, truth, strict=True):
        within(f(z)[:, None] * score, gradient)


@pytest.mark.equation("3.23")
def test_the_reparameterised_gradient_is_unbiased(phi: tuple[Tensor, Tensor]) -> None:
    truth = torch.autograd.grad(expected(*phi), phi)
    eps = normal(400_000, 2, seed=34)
    rows = tuple(value.detach().expand_as(eps).clone().requires_grad_() for value in phi)
    for estimate, gradient in zip(torch.autograd.grad(f(rows[0] + rows[1] * eps).sum(), rows), truth, strict=True):
        within(estimate, gradient)


@pytest.mark.equation("3.23")
def test_the_code_passes_gradients_through_the_sample(x: Tensor) -> None:
    """For a linear-Gaussian model the ELBO has a closed form, whose gradient the estimates must average to."""
    torch.manual_seed(5)
    model = VAE(nn.Linear(D, 2 * Q), nn.Linear(Q, D), Gaussian(torch.tensor(0.5, dtype=torch.float64))).double()
    row = x[:1] / 3
    mean, log_variance = model.encoder(row).chunk(2, 1)
    W, mu, sigma2 = model.decoder.weight, model.decoder.bias, 0.5
    spread = (W.square() * log_variance.exp()).sum()
    error = (row - mean @ W.T - mu).square().sum() + spread
    exact = error / (2 * sigma2) + 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    truth = torch.autograd.grad(exact, model.encoder.weight)[0]
    rows = row.expand(200, D)
    estimates = [torch.autograd.grad(model.loss(rows), model.encoder.weight)[0] for _ in range(60)]
    within(torch.stack(estimates), truth)


@pytest.mark.equation("3.24")
@pytest.mark.parametrize("d_z", [1, 2, 3])
def test_the_variance_of_the_gradients(d_z: int) -> None:
    t, w = np.polynomial.hermite_e.hermegauss(12)
    w = w / w.sum()
    points = np.stack(np.meshgrid(*[t] * d_z, indexing="ij"), -1).reshape(-1, d_z)
    mass = np.stack(np.meshgrid(*[w] * d_z, indexing="ij"), -1).reshape(-1, d_z).prod(1)
    f, first = (points**2).sum(1), points[:, 0]
    close((mass * f).sum(), d_z)
    for estimate, variance in (
        (f * first, (d_z + 2) * (d_z + 4)),
        ((f - d_z) * first, 2 * d_z + 8),
        (2 * first, 4),
    ):
        close((mass * estimate).sum(), 0.0)
        close((mass * estimate**2).sum(), variance)


@pytest.mark.equation("3.21")
def test_the_gradient_of_the_decoder_averages_over_z(vae: VAE, point: Tensor) -> None:
    """Against the slope of the bound by quadrature: no derivative in it."""
    weight, bias = vae.decoder[0].weight, vae.decoder[2].bias
    n = 100_000
    z = torch.tensor(encoded(vae, point)[0]) + encoded(vae, point)[1] * normal(n, 1, seed=60)
    for parameter, index in ((weight, (3, 0)), (bias, (2,))):
        slope = []
        for step in (1e-4, -1e-4):
            parameter[index] += step
            slope.append(bound_by_quadrature(vae, point))
            parameter[index] -= step
        rows = parameter.expand(n, *parameter.shape).clone().requires_grad_()
        first = rows if parameter is weight else weight.expand(n, *weight.shape)
        last = rows if parameter is bias else bias.expand(n, *bias.shape)
        hidden = nn.functional.silu((first @ z[:, :, None])[:, :, 0] + vae.decoder[0].bias)
        mean = hidden @ vae.decoder[2].weight.T + last
        log_p = Independent(Normal(mean, math.sqrt(SIGMA2)), 1).log_prob(point)
        estimates = torch.autograd.grad(log_p.sum(), rows)[0][(slice(None), *index)]
        assert abs(slope[0] - slope[1]) > 1e-5, "a slope of zero would agree with anything small"
        within(estimates, (slope[0] - slope[1]) / 2e-4)


@pytest.mark.equation("3.25")
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_mean_over_a_minibatch_is_unbiased(size: int) -> None:
    """All minibatches of a size, each as likely as any other, against the gradient of a sum written out by hand."""
    rows, w = normal(5, 3, seed=61), normal(3, seed=62).requires_grad_()
    by_batch = [
        torch.autograd.grad((rows[list(batch)] @ w).sin().mean(), w)[0]
        for batch in itertools.combinations(range(5), size)
    ]
    assert size == 5 or torch.stack(by_batch).std(0).min() > 0.05, "the minibatches must differ"
    by_hand = (np.cos(rows.numpy() @ w.detach().numpy())[:, None] * rows.numpy()).mean(0)
    close(torch.stack(by_batch).mean(0), by_hand)


# The linear VAE


@pytest.mark.equation("3.26")
def test_the_divergence_of_two_gaussians() -> None:
    """In two dimensions by a sum over a grid, in four by drawing."""

    def gaussian(d_z: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        L = 0.3 * normal(d_z, d_z, seed=seed) + 0.8 * eye(d_z)
        return normal(d_z, seed=seed + 1).numpy(), (L @ L.T).numpy()

    def formula(m: np.ndarray, A: np.ndarray, m_: np.ndarray, A_: np.ndarray) -> float:
        inverse, apart = np.linalg.inv(A_), m_ - m
        log_ratio = math.log(np.linalg.det(A_) / np.linalg.det(A))
        return 0.5 * (np.trace(inverse @ A) + apart @ inverse @ apart - len(m) + log_ratio)

    (m, A), (m_, A_) = gaussian(2, 63), gaussian(2, 65)
    axis = np.linspace(-9, 9, 1201)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    log_q, log_p = stats.multivariate_normal(m, A).logpdf(points), stats.multivariate_normal(m_, A_).logpdf(points)
    close(formula(m, A, m_, A_), (np.exp(log_q) * (log_q - log_p)).sum() * (axis[1] - axis[0]) ** 2, 1e-6)
    (m, A), (m_, A_) = gaussian(4, 67), gaussian(4, 69)
    z = stats.multivariate_normal(m, A).rvs(400_000, random_state=0)
    ratio = stats.multivariate_normal(m, A).logpdf(z) - stats.multivariate_normal(m_, A_).logpdf(z)
    within(torch.from_numpy(ratio), formula(m, A, m_, A_))


@pytest.mark.equation("3.27")
def test_what_a_diagonal_posterior_loses() -> None:
    for seed in range(3):
        W, sigma2 = normal(D, 3, seed=seed), 0.4
        M = W.T @ W + sigma2 * eye(3)
        posterior = MultivariateNormal(torch.zeros(3).double(), sigma2 * torch.linalg.inv(M))
        log_s = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        least = minimise(
            lambda p=posterior, s=log_s: kl_divergence(
                MultivariateNormal(torch.zeros(3).double(), torch.diag_embed((2 * s).exp())), p
            ),
            [log_s],
        )
        assert least > 0.01
        close(least, 0.5 * (M.diagonal().log().sum() - torch.logdet(M)), 1e-8)
    U = torch.linalg.qr(W)[0] * torch.tensor([3.0, 2.0, 1.0])
    M = U.T @ U + sigma2 * eye(3)
    close(M.diagonal().log().sum() - torch.logdet(M), 0.0)


@pytest.mark.equation("3.28")
def test_the_share_of_variance_is_that_of_a_regression_on_the_letter() -> None:
    letter = torch.arange(90) % 4
    z = normal(90, 3, seed=35) + normal(4, 3, seed=36)[letter]
    one_hot = nn.functional.one_hot(letter).numpy()
    means = torch.stack([z[letter == k].mean(0) for k in range(4)])
    share = means[letter].var(0) / z.var(0)
    for j in range(3):
        close(share[j], LinearRegression().fit(one_hot, z[:, j].numpy()).score(one_hot, z[:, j].numpy()))
    assert ((share > 0) & (share < 1)).all()


# Rate and distortion


@pytest.mark.equation("3.29")
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_the_loss_is_distortion_plus_beta_rate(vae: VAE, point: Tensor, beta: float) -> None:
    z, step = grid()
    density, log_prior = log_q(vae, point, z), torch.from_numpy(stats.norm.logpdf(z.numpy()))
    D_ = -(density.exp() * (log_joint(vae, point, z) - log_prior)).sum() * step
    R = (density.exp() * (density - log_prior)).sum() * step
    vae.beta = beta
    losses = torch.stack([vae.loss(point.expand(500, D)) for _ in range(100)])
    within(losses, D_ + beta * R)
    torch.manual_seed(8)
    weighed = vae.loss(point[None])
    vae.beta = 1.0
    torch.manual_seed(8)
    close(weighed - vae.loss(point[None]), (beta - 1) * R, 1e-7)  # the same noise, so the same distortion
    close(D_ + R, -bound_by_quadrature(vae, point))


@pytest.mark.equation("3.30")
@pytest.mark.parametrize("std", [0.05, 0.5, 1.0])
def test_the_rate_is_information_plus_the_hole(std: float) -> None:
    """The information is what z tells about which row it came from, log n − E[H(row | z)]: no ratio to q(z) in it."""
    n = 5
    z, step = grid()
    means = 2 * normal(n, seed=37)
    mixture = MixtureSameFamily(Categorical(torch.ones(n).double()), Normal(means, std))
    q = mixture.log_prob(z).exp()
    row = torch.stack([torch.from_numpy(stats.norm.logpdf(z.numpy(), m, std)) for m in means.tolist()]).softmax(0)
    information = math.log(n) - (q * Categorical(probs=row.T).entropy()).sum() * step
    hole = (q * (mixture.log_prob(z) - torch.from_numpy(stats.norm.logpdf(z.numpy())))).sum() * step
    encoder = nn.Linear(n, 2, bias=False)
    model = VAE(encoder, nn.Linear(1, n), Gaussian()).double()
    encoder.weight.data = torch.stack([means, torch.full((n,), 2 * math.log(std)).double()])
    rate = model.elbo_terms(eye(n))[1].mean().detach()
    close(rate, information + hole, 1e-7)
    assert 0 < information <= math.log(n) + 1e-9
    assert hole >= 0


@pytest.mark.equation("3.32")
def test_beta_and_the_noise_are_one_knob(x: Tensor) -> None:
    for beta, sigma2 in ((3.0, 0.2), (0.5, 1.0)):
        torch.manual_seed(6)
        noise = [Gaussian(torch.tensor(s, dtype=torch.float64)).requires_grad_(False) for s in (sigma2, beta * sigma2)]
        noisy = VAE(mlp(D, 8, 4), mlp(2, 8, D), noise[0], beta=beta).double()
        other = VAE(noisy.encoder, noisy.decoder, noise[1]).double()
        losses, gradients = [], []
        for model in (noisy, other):
            torch.manual_seed(7)
            losses.append(model.loss(x))
            weights = list(noisy.encoder.parameters()) + list(noisy.decoder.parameters())
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(losses[-1], weights)]))
        close(gradients[0], beta * gradients[1], 1e-8)
        constants = [D / 2 * math.log(2 * math.pi * s) for s in (sigma2, beta * sigma2)]
        close((losses[0] - constants[0]).detach(), (beta * (losses[1] - constants[1])).detach(), 1e-8)


def best_linear_vae(S: Tensor, q: int, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder (q, d), its standard deviations (q,) and decoder (d, q) that minimise the exact expected loss."""
    d = len(S)
    E, V = 0.3 * normal(q, d, seed=38), 0.3 * normal(d, q, seed=39)
    log_s = torch.zeros(q, dtype=torch.float64)
    parameters = [value.requires_grad_() for value in (E, V, log_s)]

    def loss() -> Tensor:
        rest, s2 = eye(d) - V @ E, (2 * log_s).exp()
        error = torch.trace(rest @ S @ rest.T) + (V.square() * s2).sum()
        return error / (2 * tau) + 0.5 * (torch.trace(E @ S @ E.T) + (s2 - 1 - 2 * log_s).sum())

    minimise(loss, parameters, steps=100)
    return E.detach(), log_s.detach().exp(), V.detach()


LAM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)


@pytest.fixture(scope="module", params=[0.1, 0.7, 1.5, 5.0])
def optimum(request: pytest.FixtureRequest) -> tuple[float, Tensor, Tensor, Tensor, Tensor]:
    U = torch.linalg.qr(normal(5, 5, seed=40))[0]
    S = U @ LAM.diag() @ U.T
    return request.param, S, *best_linear_vae(S, 3, request.param)


@pytest.mark.equation("3.33")
def test_trained_linear_vaes_lie_on_the_rate_distortion_curve(optimum) -> None:
    tau, S, E, s, V = optimum
    rest = eye(5) - V @ E
    error = torch.trace(rest @ S @ rest.T) + (V.square() * s**2).sum()
    rate = 0.5 * (torch.trace(E @ S @ E.T) + (s**2 - 1 - 2 * s.log()).sum())
    top = LAM[:3]
    close(rate, 0.5 * (top / tau).log().clamp(min=0).sum(), 1e-4)
    close(error, top.clamp(max=tau).sum() + LAM[3:].sum(), 1e-4)


@pytest.mark.equation("3.33")
def test_the_curve_is_the_legendre_transform_of_the_loss() -> None:
    """Along Shannon's curve the slope of the error against the rate is −2τ."""
    taus = torch.linspace(0.3, 0.45, 200, dtype=torch.float64)
    rate = torch.stack([0.5 * (LAM / t).log().clamp(min=0).sum() for t in taus])
    error = torch.stack([LAM.clamp(max=t).sum() for t in taus])
    slope = (error[2:] - error[:-2]) / (rate[2:] - rate[:-2])
    close(slope, -2 * taus[1:-1], 1e-4)


@pytest.mark.equation("3.34")
def test_an_entry_lives_if_its_eigenvalue_exceeds_tau(optimum) -> None:
    tau, S, E, _, _ = optimum
    moved = torch.linalg.eigvalsh(E @ S @ E.T).flip(0)
    close(moved, (1 - tau / LAM[:3]).clamp(min=0), 1e-4)
    if tau > LAM[0]:
        assert (E @ S @ E.T).diagonal().max() < 0.01
    elif tau < LAM[2]:
        close((E @ S @ E.T).diagonal().sort(descending=True).values, moved, 1e-3)


@pytest.mark.equation("3.37")
def test_the_gap_splits_into_approximation_and_amortisation(x: Tensor) -> None:
    model = PPCA(normal(D, 3, seed=41), torch.zeros(D).double(), torch.tensor(0.4, dtype=torch.float64))
    row, log_p = x[:1] / 3, model.log_prob(x[:1] / 3).item()
    m, log_s = (torch.zeros(1, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def bound() -> Tensor:
        return model.elbo(row, Independent(Normal(m, log_s.exp()), 1))[0]

    amortised = bound().item()
    best = -minimise(lambda: -bound(), [m, log_s])
    M = model.W.T @ model.W + 0.4 * eye(3)
    close(log_p - best, 0.5 * (M.diagonal().log().sum() - torch.logdet(M)), 1e-6)
    assert best > amortised + 0.1
    first = kl_divergence(
        MultivariateNormal(torch.zeros(1, 3).double(), eye(3).expand(1, 3, 3)), model.posterior(row)
    ).item()
    close(first, (log_p - best) + (best - amortised), 1e-8)
