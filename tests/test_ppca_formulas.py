"""The numbered formulas of chapter 2, each against something that does not use it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import integrate, stats
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from companion.ppca import PPCA, em_step, mean_log_prob

D, Q = 4, 2
LOG_2PI = math.log(2 * math.pi)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


@pytest.fixture
def model() -> PPCA:
    return PPCA(normal(D, Q, seed=1), normal(D, seed=2), torch.tensor(0.4, dtype=torch.float64))


@pytest.fixture
def x() -> Tensor:
    """Correlated data that no PPCA generated, shape (50, D)."""
    return normal(50, D, seed=3).exp() @ normal(D, D, seed=4) + 1


def covariance(x: Tensor) -> Tensor:
    return (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)


def dense(model: PPCA) -> MultivariateNormal:
    """p(x) with a d×d covariance."""
    W = model.W
    return MultivariateNormal(model.mu, W @ W.T + model.sigma2 * eye(len(W)))


def z_grid() -> tuple[Tensor, float]:
    """Grid over z, shape (m, 2), and the area of a cell."""
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]).item() ** 2


def log_joint(model: PPCA, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) from one-dimensional normal densities only; x (d,), z (m, q)."""
    mean = (z @ model.W.T + model.mu).numpy()
    log_p = stats.norm.logpdf(z.numpy()).sum(1) + stats.norm.logpdf(x.numpy(), mean, model.sigma2.sqrt().item()).sum(1)
    return torch.from_numpy(log_p)


def bayes(model: PPCA, x: Tensor) -> tuple[Tensor, Tensor]:
    """A grid over z and p(z | x) on it as weights that add to one."""
    z, _ = z_grid()
    return z, log_joint(model, x, z).softmax(0)


def within(estimates: Tensor, truth: Tensor, errors: float = 4.5) -> None:
    """The mean of the estimates, shape (n, …), lies within so many standard errors, all of them small, of the truth."""
    standard_error = estimates.std(0) / math.sqrt(len(estimates))
    assert (standard_error < 0.05 * (1 + truth.abs())).all(), "an error without bound would agree with anything"
    assert ((estimates.mean(0) - truth).abs() < errors * standard_error).all()


def close(a: Tensor, b: Tensor, tol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@pytest.mark.equation("2.1")
def test_prior_and_likelihood_are_products_of_normals(model: PPCA, x: Tensor) -> None:
    z = normal(50, Q, seed=5)
    close(model.prior().log_prob(z), torch.from_numpy(stats.norm.logpdf(z).sum(1)))
    by_hand = [stats.norm.logpdf(row, model.W @ v + model.mu, 0.4**0.5).sum() for row, v in zip(x, z, strict=True)]
    close(model.likelihood(z).log_prob(x), torch.tensor(by_hand, dtype=torch.float64))


@pytest.mark.equation("2.2")
def test_a_line_plus_noise_has_the_likelihoods_moments(model: PPCA) -> None:
    z = torch.tensor([0.7, -1.2]).double()
    r = (model.W @ z + model.mu + model.sigma2.sqrt() * normal(100_000, D, seed=6)) - model.likelihood(z[None]).mean
    within(r, torch.zeros(D).double())
    within(r[:, :, None] * r[:, None, :], model.likelihood(z[None]).variance.diag_embed()[0])


@pytest.mark.equation("2.3")
@pytest.mark.equation("2.4")
def test_moments_of_the_marginal(model: PPCA) -> None:
    x = model.sample(100_000, generator=torch.Generator().manual_seed(7))
    within(x, model.mu)
    r = x - model.mu
    within(r[:, :, None] * r[:, None, :], model.W @ model.W.T + model.sigma2 * eye(D))


@pytest.mark.equation("2.4")
def test_the_integral_over_z_is_the_gaussian_marginal(model: PPCA) -> None:
    z, area = z_grid()
    close(model.C, dense(model).covariance_matrix)
    for point in model.mu + normal(3, D, seed=9):
        by_quadrature = log_joint(model, point, z).logsumexp(0) + math.log(area)
        close(by_quadrature, dense(model).log_prob(point), 1e-8)
        close(by_quadrature, model.marginal().log_prob(point), 1e-8)


@pytest.mark.equation("2.5")
def test_completing_the_square(model: PPCA) -> None:
    W, sigma2, M_inv = model.W, model.sigma2, torch.linalg.inv(model.W.T @ model.W + 0.4 * eye(Q))
    for r, z in zip(normal(5, D, seed=10), normal(5, Q, seed=11), strict=True):
        m = M_inv @ W.T @ r
        left = (r - W @ z).square().sum() / sigma2 + z.square().sum()
        middle = (z @ torch.linalg.inv(M_inv) @ z - 2 * z @ W.T @ r + r @ r) / sigma2
        rest = r @ (eye(D) - W @ M_inv @ W.T) @ r / sigma2
        close(left, middle)
        close(left, (z - m) @ torch.linalg.inv(M_inv) @ (z - m) / sigma2 + rest)


@pytest.mark.equation("2.6")
def test_woodbury(model: PPCA) -> None:
    formula = (eye(D) - model.W @ torch.linalg.inv(model.M) @ model.W.T) / model.sigma2
    close(formula, torch.linalg.inv(dense(model).covariance_matrix))


@pytest.mark.equation("2.7")
def test_determinant_lemma(model: PPCA) -> None:
    close(model.sigma2 ** (D - Q) * torch.det(model.M), torch.det(dense(model).covariance_matrix))


@pytest.mark.equation("2.8")
def test_log_density_without_the_big_matrix(model: PPCA, x: Tensor) -> None:
    r = x - model.mu
    m = r @ model.W @ torch.linalg.inv(model.M)
    square = (r - m @ model.W.T).square().sum(1) / model.sigma2 + m.square().sum(1)
    formula = -0.5 * (D * LOG_2PI + (D - Q) * model.sigma2.log() + torch.logdet(model.M) + square)
    close(formula, dense(model).log_prob(x))
    close(model.log_prob(x), dense(model).log_prob(x))


@pytest.mark.equation("2.9")
def test_likelihood_through_the_sample_covariance(model: PPCA, x: Tensor) -> None:
    model = PPCA(model.W, x.mean(0), model.sigma2)
    trace = torch.trace(torch.linalg.solve(model.C, covariance(x)))
    truth = dense(model).log_prob(x).mean()
    close(-0.5 * (D * LOG_2PI + torch.logdet(model.C) + trace), truth)
    assert mean_log_prob(covariance(x), model.W, model.sigma2, D) == pytest.approx(truth.item())


@pytest.mark.equation("2.10")
def test_gradient_by_W(model: PPCA, x: Tensor) -> None:
    W = model.W.clone().requires_grad_()
    C = W @ W.T + model.sigma2 * eye(D)
    MultivariateNormal(x.mean(0), C).log_prob(x).mean().backward()
    C_inv = torch.linalg.inv(C.detach())
    close(C_inv @ covariance(x) @ C_inv @ model.W - C_inv @ model.W, W.grad)


def climb(x: Tensor, sigma2: float | None, seed: int, q: int = Q) -> tuple[Tensor, Tensor]:
    """W and σ² (given or free) where the gradient of the mean log-likelihood vanishes, found without any formula."""
    W = normal(x.shape[1], q, seed=seed).requires_grad_()
    log_sigma2 = torch.tensor(math.log(sigma2 or 1.0), dtype=torch.float64, requires_grad=sigma2 is None)
    free = [W] if sigma2 else [W, log_sigma2]
    optimizer = torch.optim.LBFGS(
        free, max_iter=2000, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        C = W @ W.T + log_sigma2.exp() * eye(len(W))
        value = -MultivariateNormal(x.mean(0), C).log_prob(x).mean()
        value.backward()
        return value

    optimizer.step(objective)
    assert max(p.grad.abs().max().item() for p in free) < 2e-6
    return W.detach(), log_sigma2.detach().exp()


@pytest.mark.equation("2.11")
def test_stationary_directions_are_eigenvectors(x: Tensor) -> None:
    sigma2 = 0.1
    W, _ = climb(x, sigma2, seed=12)
    U, length, _ = torch.linalg.svd(W, full_matrices=False)
    close(covariance(x) @ U, U * (sigma2 + length**2), 1e-5)


@pytest.mark.equation("2.12")
def test_no_climb_ends_above_the_closed_form(x: Tensor) -> None:
    lam, U = torch.linalg.eigh(covariance(x))
    lam, U = lam.flip(0), U.flip(1)
    sigma2 = lam[Q:].mean()
    W = U[:, :Q] * (lam[:Q] - sigma2).sqrt()
    for seed in (13, 14, 15):
        found, noise = climb(x, None, seed)
        close(found @ found.T, W @ W.T, 1e-5)
        close(noise, sigma2, 1e-5)
    fitted = PPCA.fit(x, Q)
    close(fitted.C, W @ W.T + sigma2 * eye(D), 1e-8)
    close(fitted.sigma2, sigma2, 1e-8)


@pytest.mark.equation("2.13")
def test_value_of_the_maximum(x: Tensor) -> None:
    lam = torch.linalg.eigvalsh(covariance(x)).flip(0)
    formula = -0.5 * (D * LOG_2PI + D + lam[:Q].log().sum() + (D - Q) * lam[Q:].mean().log())
    W, sigma2 = climb(x, None, seed=16)
    close(formula, dense(PPCA(W, x.mean(0), sigma2)).log_prob(x).mean(), 1e-8)


def stationary(lam: Tensor, kept: list[int], columns: int) -> tuple[Tensor, Tensor]:
    """W, with further columns of 0, and σ² where L of data with covariance diag(lam) has no gradient."""
    dropped = [j for j in range(len(lam)) if j not in kept]
    sigma2 = lam[dropped].mean()
    W = torch.zeros(len(lam), columns, dtype=torch.float64)
    W[kept, range(len(kept))] = (lam[kept] - sigma2).sqrt()
    return W, sigma2


def dense_L(S: Tensor, W: Tensor, sigma2: Tensor) -> Tensor:
    """Mean log density of data of covariance S, from the d×d Gaussian at its mean and the trace."""
    gaussian = MultivariateNormal(torch.zeros(len(S)).to(S), W @ W.T + sigma2 * eye(len(S)))
    return gaussian.log_prob(torch.zeros(len(S)).to(S)) - 0.5 * torch.trace(gaussian.precision_matrix @ S)


@pytest.mark.equation("2.14")
def test_turning_a_kept_direction_towards_a_larger_eigenvalue_raises_the_likelihood() -> None:
    lam = torch.tensor([4.0, 3.5, 3.0, 0.2]).double()
    basis, _ = torch.linalg.qr(normal(4, 4, seed=35))
    S = basis @ lam.diag() @ basis.T
    for kept, b, a in (([0, 1], 1, 2), ([0, 2], 2, 1), ([1, 2], 1, 0), ([0, 2], 2, 3)):
        W, sigma2 = stationary(lam, kept, 2)
        before = dense_L(S, basis @ W, sigma2)
        for angle in torch.linspace(-3, 3, 13).double():
            turned, column = W.clone(), kept.index(b)
            turned[b, column], turned[a, column] = W[b, column] * angle.cos(), W[b, column] * angle.sin()
            gain = angle.sin() ** 2 / 2 * (lam[a] - lam[b]) * (1 / sigma2 - 1 / lam[b])
            close(dense_L(S, basis @ turned, sigma2) - before, gain)
            assert mean_log_prob(S, basis @ turned, sigma2, 4) == pytest.approx((before + gain).item())


@pytest.mark.equation("2.14")
@pytest.mark.parametrize("seed", range(4))
def test_all_other_stationary_points_are_saddles(seed: int) -> None:
    lam = normal(4, seed=seed).exp().sort(descending=True).values
    saddles = 0
    for size in range(3):
        for kept in map(list, itertools.combinations(range(4), size)):
            W, sigma2 = stationary(lam, kept, 2)
            if W.isnan().any():
                continue

            def L(parameters: Tensor) -> Tensor:
                return dense_L(lam.diag(), parameters[:8].view(4, 2), parameters[8].exp())

            point = torch.cat([W.flatten(), sigma2.log()[None]])
            assert torch.autograd.functional.jacobian(L, point).abs().max() < 1e-9
            curvature = torch.linalg.eigvalsh(torch.autograd.functional.hessian(L, point))
            assert curvature[0] < -1e-6
            assert (curvature[-1] > 1e-6).item() is (kept != [0, 1])
            saddles += kept != [0, 1]
    assert saddles >= 2


@pytest.mark.equation("2.12")
def test_too_few_rows_leave_nothing_for_the_noise() -> None:
    for n, positive in ((Q + 1, False), (Q + 2, True)):
        lam = torch.linalg.eigvalsh(covariance(normal(n, D, seed=28))).flip(0)
        assert (lam[Q:].mean() > 1e-10).item() is positive
    few = normal(3, 6, seed=34)
    fitted = PPCA.fit(few, 4)
    assert fitted.latent_dim == 4
    close(fitted.W @ fitted.W.T, covariance(few), 1e-8)


@pytest.mark.equation("2.15")
def test_rotation_changes_z_and_nothing_else(model: PPCA, x: Tensor) -> None:
    turn, _ = torch.linalg.qr(normal(Q, Q, seed=17))
    turned = PPCA(model.W @ turn, model.mu, model.sigma2)
    assert (turned.W - model.W).abs().max() > 0.1
    close(turned.W @ turned.W.T, model.W @ model.W.T)
    close(turned.log_prob(x), model.log_prob(x))
    for point in x[:2] * 0.2:
        z, weight = bayes(turned, point)
        z0, weight0 = bayes(model, point)
        close(weight @ z, turn.T @ (weight0 @ z0), 1e-6)


@pytest.mark.equation("2.16")
def test_factor_analysis_has_a_noise_for_each_entry(x: Tensor) -> None:
    fitted = FactorAnalysis(1, tol=1e-10, max_iter=5000).fit(x.numpy())
    W, psi, mu = (torch.from_numpy(part) for part in (fitted.components_.T, fitted.noise_variance_, fitted.mean_))
    formula = MultivariateNormal(mu, W @ W.T + psi.diag())
    close(formula.log_prob(x), torch.from_numpy(fitted.score_samples(x.numpy())))
    drawn = normal(100_000, 1, seed=36) @ W.T + mu + psi.sqrt() * normal(100_000, D, seed=37)
    scale = formula.variance.sqrt()
    within((drawn - mu) / scale, torch.zeros(D).double())
    products = (drawn - mu)[:, :, None] * (drawn - mu)[:, None, :] / scale.outer(scale)
    within(products, formula.covariance_matrix / scale.outer(scale))


@pytest.mark.equation("2.17")
def test_ppca_may_be_rotated_and_factor_analysis_rescaled(model: PPCA, x: Tensor) -> None:
    turn, _ = torch.linalg.qr(normal(D, D, seed=38))
    W, mu, sigma2 = model.W, model.mu, model.sigma2
    turned = MultivariateNormal(turn @ mu, turn @ W @ (turn @ W).T + sigma2 * eye(D))
    close(turned.log_prob(x @ turn.T), dense(model).log_prob(x), 1e-8)
    scale, psi = normal(D, seed=39).exp(), normal(D, seed=40).exp()
    A = scale.diag()
    rescaled = MultivariateNormal(A @ mu, A @ W @ (A @ W).T + A @ psi.diag() @ A)
    plain = MultivariateNormal(mu, W @ W.T + psi.diag())
    close(rescaled.log_prob(x @ A) + scale.log().sum(), plain.log_prob(x), 1e-8)


@pytest.mark.equation("2.22")
def test_no_direction_has_more_variance_than_the_first_eigenvector(x: Tensor) -> None:
    lam, U = torch.linalg.eigh(covariance(x))
    for u in torch.nn.functional.normalize(normal(200, D, seed=41), dim=1):
        variance = (x @ u).var(correction=0)
        close((lam * (U.T @ u).square()).sum(), variance)
        close((U.T @ u).square().sum(), torch.ones(()).double())
        assert variance <= lam[-1]
    close((x @ U[:, -1]).var(correction=0), lam[-1])
    close(torch.from_numpy(PCA(1).fit(x.numpy()).explained_variance_)[0] * (len(x) - 1) / len(x), lam[-1])


@pytest.mark.equation("2.18")
def test_posterior_is_the_conditional_of_the_joint_gaussian(model: PPCA, x: Tensor) -> None:
    gain = model.W.T @ torch.linalg.inv(dense(model).covariance_matrix)  # Cov[z, x] Cov[x]⁻¹
    M = model.W.T @ model.W + model.sigma2 * eye(Q)
    close((x - model.mu) @ model.W @ torch.linalg.inv(M), (x - model.mu) @ gain.T)
    close(model.sigma2 * torch.linalg.inv(M), eye(Q) - gain @ model.W)
    close(model.posterior(x).mean, (x - model.mu) @ gain.T)
    close(model.posterior(x).covariance_matrix[0], eye(Q) - gain @ model.W)


@pytest.mark.equation("2.19")
def test_estimate_of_z_by_quadrature(model: PPCA) -> None:
    for point in model.mu + normal(3, D, seed=18):
        z, weight = bayes(model, point)
        formula = torch.linalg.solve(model.W.T @ model.W + model.sigma2 * eye(Q), model.W.T @ (point - model.mu))
        close(weight @ z, formula, 1e-8)
        close(model.posterior(point[None]).mean[0], formula)


@pytest.mark.equation("2.20")
@pytest.mark.parametrize("z", [-0.5, 0.0, 1.0])
@pytest.mark.parametrize("w", [2.0, -0.7])
def test_integral_over_the_wrong_variable(w: float, z: float) -> None:
    mu, sigma2 = 1.0, 0.5
    a = w / (w**2 + sigma2)

    def integrand(x: float) -> float:  # p(z | x) x with p(z | x) from Bayes' rule
        evidence = stats.norm.pdf(x, mu, (w**2 + sigma2) ** 0.5)
        return stats.norm.pdf(x, w * z + mu, sigma2**0.5) * stats.norm.pdf(z) / evidence * x

    value, _ = integrate.quad(integrand, -25, 25, points=[mu + z / a], limit=200)
    assert value == pytest.approx((mu + z / a) / abs(a), rel=1e-6)


@pytest.mark.equation("2.21")
def test_reconstruction_shrinks_each_principal_axis(x: Tensor) -> None:
    model = PPCA.fit(x, Q)
    lam, U = torch.linalg.eigh(covariance(x))
    lam, U = lam.flip(0), U.flip(1)
    factors = (lam[:Q] - lam[Q:].mean()) / lam[:Q]
    formula = (x - x.mean(0)) @ U[:, :Q] * factors @ U[:, :Q].T + x.mean(0)
    gain = model.W.T @ torch.linalg.inv(dense(model).covariance_matrix)
    close(formula, (x - model.mu) @ gain.T @ model.W.T + model.mu, 1e-8)
    close(model.reconstruct(x), formula, 1e-8)


@pytest.mark.equation("2.23")
def test_without_noise_it_projects(model: PPCA, x: Tensor) -> None:
    thin = PPCA(model.W, model.mu, torch.tensor(1e-11, dtype=torch.float64))
    close(torch.linalg.solve(thin.M, thin.W.T), torch.linalg.pinv(model.W), 1e-8)
    close(torch.linalg.solve(model.W.T @ model.W, model.W.T), torch.linalg.pinv(model.W))
    basis, _ = torch.linalg.qr(model.W)
    close(thin.W @ torch.linalg.solve(thin.M, thin.W.T), basis @ basis.T, 1e-8)
    close(thin.reconstruct(x), model.mu + (x - model.mu) @ basis @ basis.T, 1e-8)


@pytest.mark.equation("2.24")
def test_distance_splits_into_inside_and_outside(model: PPCA) -> None:
    U, length, _ = torch.linalg.svd(model.W, full_matrices=False)
    for r in normal(4, D, seed=19):
        outside = r - U @ (U.T @ r)
        formula = ((U.T @ r).square() / (length**2 + model.sigma2)).sum() + outside.square().sum() / model.sigma2
        close(formula, r @ torch.linalg.inv(dense(model).covariance_matrix) @ r)
        peak, there = model.log_prob(torch.stack([model.mu, model.mu + r]))
        close(formula, 2 * (peak - there))


def e_step(model: PPCA, x: Tensor) -> tuple[Tensor, Tensor]:
    """⟨z⟩, shape (n, q), and ⟨zzᵀ⟩, shape (n, q, q), by (2.25)."""
    M_inv = torch.linalg.inv(model.W.T @ model.W + model.sigma2 * eye(Q))
    z = (x - model.mu) @ model.W @ M_inv
    return z, model.sigma2 * M_inv + z[:, :, None] * z[:, None, :]


@pytest.mark.equation("2.25")
def test_moments_of_the_e_step(model: PPCA) -> None:
    points = model.mu + normal(3, D, seed=20)
    mean, second = e_step(model, points)
    for n, point in enumerate(points):
        z, weight = bayes(model, point)
        close(mean[n], weight @ z, 1e-8)
        close(second[n], z.T @ (weight[:, None] * z), 1e-8)
    posterior = model.posterior(points)
    close(posterior.mean, mean)
    close(posterior.covariance_matrix + mean[:, :, None] * mean[:, None, :], second)


def expected_log_joint(W: Tensor, sigma2: Tensor, r: Tensor, z: Tensor, zz: Tensor) -> Tensor:
    """(2.26) for each row of r."""
    square = r.square().sum(1) - 2 * (z @ W.T * r).sum(1) + (W.T @ W * zz).sum((1, 2))
    constant = -0.5 * D * (2 * math.pi * sigma2).log() - 0.5 * Q * LOG_2PI
    return constant - 0.5 * zz.diagonal(dim1=1, dim2=2).sum(1) - square / (2 * sigma2)


@pytest.mark.equation("2.26")
def test_expected_log_joint(model: PPCA) -> None:
    other = PPCA(normal(D, Q, seed=21), model.mu, torch.tensor(0.9, dtype=torch.float64))
    points = model.mu + normal(3, D, seed=22)
    formula = expected_log_joint(other.W, other.sigma2, points - model.mu, *e_step(model, points))
    for n, point in enumerate(points):
        z, weight = bayes(model, point)  # q is the posterior of the old parameters
        close(formula[n], weight @ log_joint(other, point, z), 1e-8)
    q = model.posterior(points)
    close(other.elbo(points, q) - q.entropy(), formula)


@pytest.mark.equation("2.27")
@pytest.mark.equation("2.28")
def test_the_m_step_is_where_the_bounds_gradient_vanishes(model: PPCA, x: Tensor) -> None:
    old = PPCA(model.W, x.mean(0), model.sigma2)
    r, (z, zz) = x - old.mu, e_step(old, x)
    W = (r.T @ z) @ torch.linalg.inv(zz.sum(0))
    sigma2 = (r.square().sum() - (z @ W.T * r).sum()) / (len(x) * D)

    # Two posterior points a dimension carry the mean and the covariance of q(z) exactly.
    L = torch.linalg.cholesky(zz - z[:, :, None] * z[:, None, :]) * math.sqrt(Q)
    points = torch.stack([z + sign * L[:, :, k] for k in range(Q) for sign in (1, -1)])

    def bound(W: Tensor, sigma2: Tensor) -> Tensor:
        residual = x - old.mu - points @ W.T
        return -0.5 * (D * (2 * math.pi * sigma2).log() + residual.square().sum(2) / sigma2).mean()

    W_free, sigma2_free = W.clone().requires_grad_(), sigma2.clone().requires_grad_()
    bound(W_free, sigma2_free).backward()
    close(W_free.grad, torch.zeros_like(W), 1e-9)
    close(sigma2_free.grad, torch.zeros_like(sigma2), 1e-9)
    for seed in range(5):
        assert bound(W + 0.1 * normal(D, Q, seed=seed), sigma2 * (0.8 + 0.1 * seed)) < bound(W, sigma2)
    W_code, sigma2_code = em_step(covariance(x), old.W, old.sigma2, D)
    close(W_code, W)
    close(sigma2_code, sigma2)


def step_of_em(W: Tensor, S: Tensor, sigma2: Tensor) -> Tensor:
    """W of (2.27) from posterior moments of the dense joint Gaussian of (z, x), for data of covariance S."""
    gain = W.T @ torch.linalg.inv(W @ W.T + sigma2 * eye(len(W)))
    return S @ gain.T @ torch.linalg.inv(eye(W.shape[1]) - gain @ W + gain @ S @ gain.T)


@pytest.mark.equation("2.29")
def test_a_step_of_em_in_one_direction(x: Tensor) -> None:
    S = covariance(x)
    values, vectors = torch.linalg.eigh(S)
    for lam, u in ((values[-1], vectors[:, -1]), (values[1], vectors[:, 1])):
        for length, sigma2 in ((0.3, 0.5), (2.0, 0.1)):
            formula = lam * length / (sigma2 + lam * length**2 / (length**2 + sigma2)) * u[:, None]
            close(step_of_em(length * u[:, None], S, torch.tensor(sigma2)), formula)
            close(em_step(S, length * u[:, None], torch.tensor(sigma2).double(), D)[0], formula)


@pytest.mark.equation("2.30")
def test_errors_of_em_shrink_by_these_factors(x: Tensor) -> None:
    S = covariance(x)
    values, vectors = torch.linalg.eigh(S)
    lam, U = values.flip(0), vectors.flip(1)
    sigma2 = lam[Q:].mean()
    W = U[:, :Q] * (lam[:Q] - sigma2).sqrt()
    close(step_of_em(W, S, sigma2), W, 1e-8)

    def pushed(push: Tensor) -> Tensor:  # what a step makes of a small error
        return torch.autograd.functional.jvp(lambda W: step_of_em(W, S, sigma2), W, push)[1]

    for b in range(Q):
        along = torch.zeros_like(W)
        along[:, b] = U[:, b]
        close(pushed(along), (1 - 2 * sigma2 * (lam[b] - sigma2) / lam[b] ** 2) * along, 1e-8)
        for a in range(Q, D):
            tilt = torch.zeros_like(W)
            tilt[:, b] = U[:, a]
            close(pushed(tilt), lam[a] / lam[b] * tilt, 1e-8)


@pytest.mark.equation("2.4")
@pytest.mark.equation("2.31")
def test_striking_rows_integrates_missing_entries_out(model: PPCA) -> None:
    point = model.mu + normal(D, seed=23)
    axis = torch.linspace(-25, 25, 5001, dtype=torch.float64)
    full = point.repeat(len(axis), 1)
    full[:, 1] = axis
    by_quadrature = dense(model).log_prob(full).logsumexp(0) + math.log(axis[1] - axis[0])
    o = [0, 2, 3]
    W_o = model.W[o]
    formula = MultivariateNormal(model.mu[o], W_o @ W_o.T + model.sigma2 * eye(3)).log_prob(point[o])
    close(formula, by_quadrature, 1e-8)
    holed = point.clone()
    holed[1] = torch.nan
    close(model.log_prob(holed[None])[0], by_quadrature, 1e-8)
    gain = W_o.T @ torch.linalg.inv(W_o @ W_o.T + model.sigma2 * eye(3))
    close(model.posterior(holed[None]).mean[0], gain @ (point[o] - model.mu[o]))


@pytest.mark.equation("2.32")
def test_missing_entries_given_the_others(model: PPCA) -> None:
    point, o, m = model.mu + normal(D, seed=24), [0, 3], [1, 2]
    C = dense(model).covariance_matrix
    gain = C[m][:, o] @ torch.linalg.inv(C[o][:, o])
    W_o, W_m = model.W[o], model.W[m]
    M_inv = torch.linalg.inv(W_o.T @ W_o + model.sigma2 * eye(Q))
    mean = model.mu[m] + W_m @ M_inv @ W_o.T @ (point[o] - model.mu[o])
    close(mean, model.mu[m] + gain @ (point[o] - model.mu[o]))
    close(model.sigma2 * (eye(2) + W_m @ M_inv @ W_m.T), C[m][:, m] - gain @ C[o][:, m])
    holed = point.clone()
    holed[m] = torch.nan
    filled = model.impute(holed[None])[0]
    close(filled[m], mean, 1e-8)
    assert torch.equal(filled[o], point[o])
    z = model.posterior(holed[None]).covariance_matrix[0]
    close(W_m @ z @ W_m.T + model.sigma2 * eye(2), C[m][:, m] - gain @ C[o][:, m])


@pytest.mark.equation("2.33")
@pytest.mark.parametrize("d", [3, 5, 6])
@pytest.mark.parametrize("q", [1, 2])
def test_number_of_parameters_is_the_rank_of_the_map_to_the_density(d: int, q: int) -> None:
    def density(parameters: Tensor) -> Tensor:
        W, mu, sigma2 = parameters[: d * q].view(d, q), parameters[d * q : -1], parameters[-1]
        return torch.cat([mu, (W @ W.T + sigma2 * eye(d)).flatten()])

    jacobian = torch.autograd.functional.jacobian(density, normal(d * q + d + 1, seed=25))
    assert torch.linalg.matrix_rank(jacobian).item() == d * q + d + 1 - q * (q - 1) // 2


@pytest.mark.equation("2.34")
def test_bic_of_the_full_gaussian_is_scikit_learns(x: Tensor) -> None:
    full = GaussianMixture(1, covariance_type="full", reg_covar=0).fit(x.numpy())
    L, q, n = PPCA.fit(x, D - 1).log_prob(x).mean().item(), D - 1, len(x)
    number = D * q + D + 1 - q * (q - 1) / 2
    assert -2 * n * L + number * math.log(n) == pytest.approx(full.bic(x.numpy()))


@pytest.mark.equation("2.35")
def test_mirror_images_are_equally_likely(model: PPCA) -> None:
    delta = normal(6, D, seed=26)
    close(dense(model).log_prob(model.mu + delta), dense(model).log_prob(model.mu - delta))
    close(model.log_prob(model.mu + delta), model.log_prob(model.mu - delta))


@pytest.mark.equation("2.36")
def test_training_data_have_the_log_density_of_the_models_own_samples(x: Tensor) -> None:
    model = PPCA.fit(x, Q)
    fitted = dense(model)
    formula = -0.5 * (D * math.log(2 * math.pi * math.e) + torch.logdet(model.C))
    close(fitted.log_prob(x).mean(), formula, 1e-8)
    close(model.log_prob(x).mean(), formula, 1e-8)
    close(-fitted.entropy(), formula, 1e-8)
    samples = model.sample(50_000, generator=torch.Generator().manual_seed(27))
    within(fitted.log_prob(samples), formula)


# Formulas of chapter 1 in a model whose integrals can be done


@pytest.mark.equation("1.20")
@pytest.mark.equation("1.21")
@pytest.mark.parametrize("seen", [[0, 1, 2, 3], [0, 2, 3]], ids=["complete", "one missing"])
def test_the_bound_by_quadrature_over_z(model: PPCA, seen: list[int]) -> None:
    x = (model.mu + normal(D, seed=29)).repeat(2, 1)
    hidden = [j for j in range(D) if j not in seen]
    x[:, hidden] = torch.nan
    L = torch.tensor([[0.9, 0.0], [0.3, 0.5]], dtype=torch.float64)
    full = MultivariateNormal(normal(2, Q, seed=30), scale_tril=L)
    diagonal = Independent(Normal(normal(2, Q, seed=31), torch.tensor([0.7, 0.4]).double()), 1)
    observed = PPCA(model.W[seen], model.mu[seen], model.sigma2)
    z, area = z_grid()
    for q in (full, diagonal):
        for n in range(2):
            log_q = torch.from_numpy(stats.multivariate_normal(q.mean[n], moment(q)[n]).logpdf(z))
            truth = (log_q.exp() * (log_joint(observed, x[n, seen], z) - log_q)).sum() * area
            close(model.elbo(x, q)[n], truth, 1e-7)
    close(model.elbo(x), dense(observed).log_prob(x[:, seen]))


def moment(q: MultivariateNormal | Independent) -> Tensor:
    return q.covariance_matrix if isinstance(q, MultivariateNormal) else q.variance.diag_embed()


@pytest.mark.equation("1.17")
@pytest.mark.parametrize("seen", [[0, 1, 2, 3], [0, 2, 3]], ids=["complete", "one missing"])
def test_importance_weights_average_to_the_evidence(model: PPCA, seen: list[int]) -> None:
    x = (model.mu + 0.5 * normal(D, seed=32)).repeat(20_000, 1)
    x[:, [j for j in range(D) if j not in seen]] = torch.nan
    truth = dense(PPCA(model.W[seen], model.mu[seen], model.sigma2)).log_prob(x[0, seen])
    posterior = model.posterior(x[:1])
    wide = MultivariateNormal(posterior.mean[0] + 0.2, 1.5 * posterior.covariance_matrix[0])
    for k in (1, 3):
        g = torch.Generator().manual_seed(33)
        within((model.importance_bound(x, k, wide, generator=g) - truth).exp(), torch.ones(()).double())
        close(model.importance_bound(x[:2], k), truth.expand(2))
