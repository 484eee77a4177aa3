"""Every claim of `companion.ppca` against dense Gaussians, quadrature, scikit-learn and autograd."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from companion import ppca
from companion.ppca import PPCA, Moments

NAN = float("nan")


def make_data(n=200, d=8, rank=3, noise=0.5, missing=0.0, seed=0, dtype=torch.float64, device="cpu"):
    """Rows of low rank plus noise and a mean; no row or column loses all its entries."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(d, rank, generator=generator, dtype=torch.float64)
    x = torch.randn(n, rank, generator=generator, dtype=torch.float64) @ W.T
    x = x + 3 * torch.randn(d, generator=generator, dtype=torch.float64)
    x = x + noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    hidden = torch.rand(n, d, generator=generator) < missing
    hidden[torch.arange(n), torch.arange(n) % d] = False
    hidden[torch.arange(d) % n, torch.arange(d)] = False
    return x.masked_fill(hidden, NAN).to(dtype).to(device)


def make_model(d=6, q=2, seed=1, dtype=torch.float64, device="cpu") -> PPCA:
    generator = torch.Generator().manual_seed(seed)
    W, mu = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((d, q), (d,)))
    return PPCA(W, mu, 0.3).to(dtype).to(device)


def dense_log_prob(x, W, mu, sigma2):
    """log N(x_o; μ_o, C_oo), row by row, from the full covariance."""
    C = W @ W.T + sigma2 * torch.eye(len(mu), dtype=W.dtype, device=W.device)
    rows = []
    for row in x:
        o = ~row.isnan()
        rows.append(MultivariateNormal(mu[o], C[o][:, o]).log_prob(row[o]))
    return torch.stack(rows)


# The model


def test_log_prob_is_the_dense_gaussian(device):
    model = make_model(device=device)
    x = model.sample(50, generator=torch.Generator(device).manual_seed(0))
    expected = MultivariateNormal(model.mu, model.C).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), expected)
    torch.testing.assert_close(model.marginal().log_prob(x), expected)


def test_log_prob_of_missing_data_is_the_dense_gaussian_of_the_observed_entries(device):
    model = make_model(device=device)
    x = make_data(60, 6, missing=0.4, device=device)
    x[0] = NAN  # nothing observed: log 1
    expected = dense_log_prob(x[1:], model.W, model.mu, model.sigma2)
    torch.testing.assert_close(model.log_prob(x)[1:], expected)
    torch.testing.assert_close(model.log_prob(x)[0].item(), 0.0)


def test_rows_with_missing_entries_are_worked_off_in_blocks(device, monkeypatch):
    model, x = make_model(device=device), make_data(60, 6, missing=0.4, device=device)
    whole = model.posterior(x).mean, model.log_prob(x)
    sizes = []
    infer = PPCA._infer
    monkeypatch.setattr(PPCA, "_blocks", lambda self, x: x.split(7))
    monkeypatch.setattr(PPCA, "_infer", lambda self, x: sizes.append(len(x)) or infer(self, x))
    torch.testing.assert_close(model.reconstruct(x), whole[0] @ model.W.T + model.mu)
    torch.testing.assert_close(model.log_prob(x), whole[1])
    assert max(sizes) == 7


def test_log_prob_where_the_noise_is_tiny(device):
    """Woodbury's textbook form loses every digit here: |y|² − yᵀWM⁻¹Wᵀy ≈ σ² is a difference of numbers 1e8 σ²."""
    model = make_model(device=device)
    model = PPCA(model.W, model.mu, 1e-10)
    x = model.sample(50, generator=torch.Generator(device).manual_seed(0))
    orthogonal = torch.linalg.qr(model.W, mode="complete").Q[:, 2:]
    inside = MultivariateNormal(torch.zeros(2).to(x), model.W.T @ model.C @ model.W).log_prob((x - model.mu) @ model.W)
    outside = Normal(0, model.sigma2.sqrt()).log_prob((x - model.mu) @ orthogonal).sum(1)
    expected = inside + 0.5 * torch.logdet(model.W.T @ model.W) + outside
    torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(model.float().log_prob(x.float()).double(), expected, rtol=0, atol=1e5 * 2**-23 * 20)


def test_marginal_and_posterior_by_quadrature(device):
    model = make_model(d=3, q=1, device=device)
    x = model.sample(5, generator=torch.Generator(device).manual_seed(0))
    z = torch.linspace(-9, 9, 20001, dtype=torch.float64, device=device)[:, None]
    log_joint = model.prior().log_prob(z)[:, None] + model.likelihood(z[:, None]).log_prob(x)
    joint = log_joint.exp()
    evidence = torch.trapezoid(joint, z, dim=0)
    torch.testing.assert_close(model.log_prob(x), evidence.log())
    mean = torch.trapezoid(z * joint, z, dim=0) / evidence
    variance = torch.trapezoid((z - mean) ** 2 * joint, z, dim=0) / evidence
    posterior = model.posterior(x)
    torch.testing.assert_close(posterior.mean[:, 0], mean)
    torch.testing.assert_close(posterior.variance[:, 0], variance)

    q = Independent(Normal(torch.full((5, 1), 0.2).to(x), 0.7), 1)
    density = q.log_prob(z[:, None]).exp()
    elbo = torch.trapezoid(density * (log_joint - q.log_prob(z[:, None])), z, dim=0)
    torch.testing.assert_close(model.elbo(x, q), elbo)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_posterior_and_imputation_are_conditional_gaussians(device, missing):
    """Condition the joint Gaussian of (z, x) on the observed entries by the dense formulas."""
    model = make_model(device=device)
    x = make_data(30, 6, missing=missing, device=device)
    posterior, imputed = model.posterior(x), model.impute(x)
    for i, row in enumerate(x):
        o = ~row.isnan()
        precision = torch.linalg.inv(model.C[o][:, o])
        residual = row[o] - model.mu[o]
        torch.testing.assert_close(posterior.mean[i], model.W[o].T @ precision @ residual)
        covariance = torch.eye(2).to(x) - model.W[o].T @ precision @ model.W[o]
        torch.testing.assert_close(posterior.covariance_matrix[i], covariance)
        torch.testing.assert_close(imputed[i][~o], model.mu[~o] + model.C[~o][:, o] @ precision @ residual)
        assert torch.equal(imputed[i][o], row[o])
    torch.testing.assert_close(model.reconstruct(x), posterior.mean @ model.W.T + model.mu)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_elbo_misses_log_prob_by_the_divergence_from_the_posterior(device, missing):
    model = make_model(device=device)
    x = make_data(40, 6, missing=missing, device=device)
    torch.testing.assert_close(model.elbo(x), model.log_prob(x))
    generator = torch.Generator().manual_seed(0)
    L = (0.5 * torch.randn(40, 2, 2, generator=generator, dtype=torch.float64)).tril(-1) + torch.eye(2)
    mean = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    q = MultivariateNormal(mean.to(device), scale_tril=L.to(device))
    gap = kl_divergence(q, model.posterior(x))
    torch.testing.assert_close(model.elbo(x, q), model.log_prob(x) - gap)
    diagonal = Independent(Normal(q.mean, q.stddev), 1)
    same = MultivariateNormal(q.mean, scale_tril=q.stddev.diag_embed())
    torch.testing.assert_close(model.elbo(x, diagonal), model.elbo(x, same))


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_importance_bound_climbs_from_the_elbo_to_log_prob(device, missing):
    model = make_model(device=device)
    x = make_data(12, 6, missing=missing, seed=3, device=device)[3:4]
    assert x.isnan().any() == (missing > 0)
    generator = torch.Generator(device).manual_seed(0)
    torch.testing.assert_close(model.importance_bound(x, 3, generator=generator), model.log_prob(x))
    posterior = model.posterior(x)
    q = Independent(Normal(posterior.mean + 0.3 * posterior.stddev, 1.3 * posterior.stddev), 1)
    repeats = 20_000
    x, q = x.expand(repeats, -1), q.expand((repeats,))
    bounds = {k: model.importance_bound(x, k, q, generator=generator) for k in (1, 4, 16)}
    log_p, elbo = model.log_prob(x[:1]).item(), model.elbo(x, q)[0].item()
    error = {k: bound.std().item() / math.sqrt(repeats) for k, bound in bounds.items()}
    assert abs(bounds[1].mean().item() - elbo) < 4 * error[1]
    assert elbo < bounds[4].mean().item() - 4 * error[4]
    assert bounds[4].mean().item() + 4 * error[4] < bounds[16].mean().item()
    assert bounds[16].mean().item() < log_p + 4 * error[16]
    weights = (bounds[4] - log_p).exp()  # without the logarithm the estimate has no bias
    assert abs(weights.mean().item() - 1) < 4 * weights.std().item() / math.sqrt(repeats)


def test_samples_have_the_moments_of_the_model(device):
    model, n = make_model(device=device), 100_000
    x = model.sample(n, generator=torch.Generator(device).manual_seed(0))
    assert ((x.mean(0) - model.mu).abs() < 4.5 * (model.C.diagonal() / n).sqrt()).all()
    variance = model.C.diagonal()
    error = ((variance.outer(variance) + model.C**2) / n).sqrt()  # of a covariance of Gaussians
    assert ((x.T.cov() - model.C).abs() < 4.5 * error).all()
    again = model.sample(n, generator=torch.Generator(device).manual_seed(0))
    assert torch.equal(x, again)


def test_the_generator_may_be_on_another_device_than_the_model(device):
    model, x = make_model(), make_data(20, 6)
    for draw in (
        lambda m, g: m.sample(7, generator=g),
        lambda m, g: m.importance_bound(x.to(m.W.device), 3, generator=g),
    ):
        here = draw(model, torch.Generator().manual_seed(0))
        there = draw(make_model(device=device), torch.Generator().manual_seed(0))
        assert there.device.type == device.type
        torch.testing.assert_close(there.cpu(), here)


def test_the_model_is_a_module(device):
    model = make_model(device=device)
    assert model.latent_dim == 2
    torch.testing.assert_close(model.M, model.W.T @ model.W + 0.3 * torch.eye(2).to(model.W))
    copy = make_model(seed=5, device=device)
    copy.load_state_dict(model.state_dict())
    x = make_data(5, 6, device=device)
    assert torch.equal(copy.log_prob(x), model.log_prob(x))
    assert model.float().log_prob(x.float()).dtype == torch.float32
    assert repr(model) == "PPCA(d=6, d_z=2, sigma2=0.3)"


# The fit


@pytest.mark.parametrize("shape", [(200, 8), (30, 50), (700, 300)])
def test_closed_form_is_scikit_learns_pca(device, shape):
    """scikit-learn divides by n − 1; scaled by n/(n − 1) the maximum-likelihood fit has its figures exactly."""
    x = make_data(*shape, device=device)
    n, q = len(x), 3
    model, pca = PPCA.fit(x, q), PCA(q, svd_solver="full").fit(x.cpu().numpy())
    ratio = n / (n - 1)
    explained = (model.W.square().sum(0) + model.sigma2) * ratio
    torch.testing.assert_close(explained.cpu(), torch.from_numpy(pca.explained_variance_))
    assert model.mu.cpu().numpy() == pytest.approx(pca.mean_)
    directions = torch.nn.functional.normalize(model.W, dim=0).T.cpu() @ torch.from_numpy(pca.components_.T)
    torch.testing.assert_close(directions.abs(), torch.eye(q).double(), atol=1e-7, rtol=0)
    if n > shape[1]:  # for n < d scikit-learn averages over n − q eigenvalues, not the d − q of the model
        assert model.sigma2.item() * ratio == pytest.approx(pca.noise_variance_)
        scaled = PPCA(model.W * math.sqrt(ratio), model.mu, model.sigma2 * ratio)
        assert scaled.log_prob(x).mean().item() == pytest.approx(pca.score(x.cpu().numpy()), rel=1e-12)


def gradients(x, model):
    """Gradient of the mean of the dense log-density, which shares no code with the fit."""
    parameters = [value.clone().requires_grad_() for value in (model.W, model.mu, model.sigma2)]
    return torch.autograd.grad(dense_log_prob(x, *parameters).mean(), parameters)


@pytest.mark.parametrize(
    ("method", "shape", "missing"),
    [("eigen", (60, 6), 0), ("em", (60, 6), 0), ("em", (60, 6), 0.25), ("eigen", (12, 20), 0), ("em", (12, 20), 0)],
)
def test_the_fit_is_a_stationary_point_of_the_likelihood(device, method, shape, missing):
    x = make_data(*shape, missing=missing, device=device)
    generator = torch.Generator(device).manual_seed(0)
    model = PPCA.fit(x, 3, method, tol=1e-13, max_iter=5000, generator=generator)
    for gradient in gradients(x, model):
        assert gradient.abs().max() < 2e-5
    model.sigma2 *= 1.01
    assert gradients(x, model)[2].abs() > 1e-2  # and the test can see that a point is none


@pytest.mark.parametrize("shape", [(200, 8), (20, 40)])
def test_em_reaches_the_closed_form(device, shape):
    x = make_data(*shape, device=device)
    eigen = PPCA.fit(x, 3, "eigen")
    em = PPCA.fit(x, 3, "em", tol=1e-13, max_iter=10_000, generator=torch.Generator(device).manual_seed(0))
    torch.testing.assert_close(em.W, eigen.W, rtol=0, atol=1e-5)
    torch.testing.assert_close(em.sigma2, eigen.sigma2, rtol=1e-6, atol=0)
    assert em.history[-1] == pytest.approx(eigen.log_prob(x).mean().item(), abs=1e-9)
    assert eigen.history == []


def test_em_with_missing_entries_reaches_the_closed_form_on_complete_data(device):
    """The two implementations of EM have no line in common; on complete data they have the same limit."""
    x = make_data(200, 8, device=device)
    W, mu, sigma2, *_ = ppca._em_missing(x, 3, max_iter=2000, tol=1e-14)
    eigen = PPCA.fit(x, 3)
    torch.testing.assert_close(W @ W.T, eigen.W @ eigen.W.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(mu, eigen.mu)
    torch.testing.assert_close(sigma2, eigen.sigma2)


@pytest.mark.filterwarnings("ignore:(EM stopped|σ² rests)")
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 30),
    d=st.integers(2, 12),
    q=st.integers(1, 11),
    missing=st.sampled_from([0.0, 0.1, 0.5]),
    scale=st.sampled_from([1e-8, 1.0, 1e8]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_em_never_lowers_the_likelihood(n, d, q, missing, scale, dtype, seed):
    """Whatever the type of x, EM runs in float64: a sum of squares of size tr S is known to a few tr S · 2⁻⁵²."""
    q = min(q, d - 1)
    x = scale * make_data(n, d, missing=missing, seed=seed, dtype=dtype)
    model = PPCA.fit(x, q, "em", max_iter=40, generator=torch.Generator().manual_seed(seed))
    history = torch.tensor(model.history, dtype=torch.float64)
    assert history.isfinite().all()
    assert len(history) >= 2
    spread = torch.nan_to_num(x.double() - x.double().nanmean(0)).square().sum() / n
    rounding = 2**-52 * (spread / model.sigma2.double() + history.abs().max()).item()
    assert (history.diff() >= -100 * rounding).all()
    if dtype == torch.float64:
        assert model.history[-1] == pytest.approx(model.log_prob(x).mean().item(), abs=1e-9 + 1000 * rounding)


@pytest.mark.parametrize("missing", [0, 0.2])
def test_em_says_whether_it_came_to_its_end(device, missing):
    x = make_data(missing=missing, device=device)
    with pytest.warns(UserWarning, match=r"EM stopped at max_iter = 3 while .* raise max_iter or tol") as record:
        short = PPCA.fit(x, 3, "em", max_iter=3, generator=torch.Generator(device).manual_seed(0))
    assert [warning.filename for warning in record] == [__file__]
    assert short.converged is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = PPCA.fit(x, 3, "em", generator=torch.Generator(device).manual_seed(0))
    assert long.converged is True
    assert len(long.history) > 4
    assert long.history[-1] - long.history[-2] < 1e-7 < long.history[-2] - long.history[-3]


def test_the_closed_form_is_at_its_end_and_a_model_without_a_fit_at_none(device):
    x = make_data(device=device)
    assert PPCA.fit(x, 3).converged is True
    assert PPCA.fit_stream(x.split(50), 3).converged is True
    assert make_model().converged is None


@pytest.mark.parametrize("how", ["eigen", "em", "missing", "stream"])
def test_data_in_too_few_directions_are_said_to_rest_on_the_floor(how):
    """Data of rank 2: with q = 2 no variance is left for σ²; with q = 1 there is."""
    x = make_data(60, 6, rank=2, noise=0)
    if how == "missing":
        x[0, 0] = NAN

    def fit(q: int) -> PPCA:
        if how == "stream":
            return PPCA.fit_stream(x.split(20), q)
        generator = torch.Generator().manual_seed(0)
        return PPCA.fit(x, q, "eigen" if how == "eigen" else "em", max_iter=20_000, generator=generator)

    with pytest.warns(UserWarning, match="σ² rests on its floor.* choose a smaller latent_dim") as record:
        model = fit(2)
    assert [warning.filename for warning in record] == [__file__]
    variance = torch.nan_to_num(x - x.nanmean(0)).square().mean().item()
    assert model.sigma2.item() == pytest.approx(ppca.FLOOR[torch.float64] * variance, rel=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(1).sigma2 > 1e-3 * variance


def test_columns_belong_in_comparable_units():
    """Wine: 13 quantities in units of their own, 10 % hidden. In raw units the column means are as good a guess."""
    complete = torch.from_numpy(load_wine().data)
    spread = complete.std(0)
    errors = []
    for seed in range(5):
        hidden = torch.rand(complete.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
        x = complete.masked_fill(hidden, NAN)
        mean = x.nanmean(0)
        unit = (x - mean).square().nanmean(0).sqrt()
        guesses = (
            PPCA.fit(x, 2).impute(x),
            PPCA.fit((x - mean) / unit, 2).impute((x - mean) / unit) * unit + mean,
            torch.where(hidden, mean, x),
        )
        errors.append([((guess - complete) / spread)[hidden].square().mean().sqrt() for guess in guesses])
    raw, standardised, by_mean = torch.tensor(errors).T
    assert raw.mean() > 0.93 * by_mean.mean()  # 0.97 here, 0.96 over ten seeds
    assert standardised.mean() < 0.87 * raw.mean()  # 0.81
    assert (standardised < 0.95 * raw).all()  # 0.73 to 0.89


def test_missing_entries_are_used_rather_than_filled_in(device):
    """With 30 % missing the exact fit explains held-out data better than the fit of mean-imputed data."""
    complete = make_data(600, 8, device=device)
    train, test = complete[:300], complete[300:]
    hidden = torch.rand(train.shape, generator=torch.Generator().manual_seed(0)).to(device) < 0.3
    x = train.masked_fill(hidden, NAN)
    exact = PPCA.fit(x, 3)
    filled = PPCA.fit(torch.where(hidden, x.nanmean(0), x), 3)
    assert exact.log_prob(test).mean() > filled.log_prob(test).mean() + 1
    error = (exact.impute(x) - train)[hidden].square().mean()
    assert error < 0.5 * (x.nanmean(0) - train)[hidden].square().mean()


@pytest.mark.parametrize("missing", [0, 0.2])
def test_em_does_not_stall_where_the_noise_is_small(device, missing):
    """Plain EM shrinks an error in a column's length by 1 − O(σ²/λ) a step: here it would need 10⁵ steps."""
    x = make_data(200, 8, noise=1e-2, missing=missing, device=device)
    generator = torch.Generator(device).manual_seed(0)
    short = PPCA.fit(x, 3, "em", max_iter=200, generator=generator)
    for gradient in gradients(x, short)[:2]:
        assert gradient.abs().max() < 1e-3


def test_rows_with_the_same_pattern_share_one_solve(device):
    x = make_data(40, 6, missing=0.3, device=device)
    x = torch.cat([x, x + 0.1])
    patterns, group = (~x.isnan()).unique(dim=0, return_inverse=True)
    model = make_model(device=device)
    y = torch.nan_to_num(x - model.mu)
    z, covariance, log_p = ppca.e_step(y, patterns, group, model.W, torch.zeros_like(model.mu), model.sigma2)
    assert len(covariance) == len(patterns) <= 40
    torch.testing.assert_close(log_p, dense_log_prob(x, model.W, model.mu, model.sigma2))
    torch.testing.assert_close(z, model.posterior(x).mean)


def test_columns_of_W_have_a_fixed_order_and_sign(device):
    x = make_data(100, 8, device=device)
    for model in (PPCA.fit(x, 3), PPCA.fit(x, 3, "em", generator=torch.Generator(device).manual_seed(4))):
        gram = model.W.T @ model.W
        torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-10, rtol=0)
        assert (gram.diagonal().diff() < 0).all()
        assert (model.W.gather(0, model.W.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(PPCA.fit(-x, 3).W, PPCA.fit(x, 3).W)


# Streams and sums


@pytest.mark.parametrize("sizes", [[200], [1] * 20 + [180], [7, 93, 100]])
def test_a_stream_gives_the_fit_of_all_rows(device, sizes):
    x = make_data(200, 8, device=device)
    x[:100] += 1e4  # the first batches lie far from the others
    stream = PPCA.fit_stream(iter(x.split(sizes)), 3)
    batch = PPCA.fit(x, 3, "eigen")
    torch.testing.assert_close(stream.W, batch.W)
    torch.testing.assert_close(stream.mu, x.mean(0))
    torch.testing.assert_close(stream.sigma2, batch.sigma2, rtol=1e-6, atol=0)


def test_moments_are_those_of_the_dense_formulas(device):
    x = make_data(5000, 300, device=device)  # several panels
    moments = Moments(x[:10]).update(x[:3000]).update(x[3000:])
    torch.testing.assert_close(moments.mean, x.mean(0))
    torch.testing.assert_close(moments.covariance, x.T.cov(correction=0))


def test_totals_of_several_processes_add_up(device):
    x = make_data(300, 8, device=device)
    parts = [Moments(x[:10]).update(part) for part in x.split(100)]
    everything = Moments(x[:10])
    everything.total = sum(part.total for part in parts)
    torch.testing.assert_close(everything.mean, x.mean(0))
    torch.testing.assert_close(everything.covariance, x.T.cov(correction=0))


# Arithmetic


@pytest.mark.parametrize(("shape", "missing"), [((300, 8), 0), ((20, 30), 0), ((300, 8), 0.2)])
def test_float32_agrees_with_float64(device, shape, missing):
    x = make_data(*shape, missing=missing, device=device)
    single, double = PPCA.fit(x.float(), 3), PPCA.fit(x, 3)
    assert single.W.dtype == torch.float32
    torch.testing.assert_close(single.W.double(), double.W, rtol=0, atol=2e-5)
    torch.testing.assert_close(single.sigma2.double(), double.sigma2, rtol=1e-5, atol=0)
    torch.testing.assert_close(single.log_prob(x.float()).double(), double.log_prob(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["eigen", "em"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("missing", [0, 0.2])
def test_units_do_not_matter(device, method, dtype, scale, missing):
    """log p(cx) = log p(x) − d log c, a column for each observed entry."""
    if missing and method == "eigen":
        method = None
    x = make_data(100, 8, missing=missing, dtype=dtype, device=device)
    generators = [torch.Generator(device).manual_seed(0) for _ in range(2)]
    one = PPCA.fit(x, 3, method, generator=generators[0])
    other = PPCA.fit(scale * x, 3, method, generator=generators[1])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    torch.testing.assert_close(other.W / scale, one.W, rtol=0, atol=tolerance)
    expected = one.log_prob(x) - (~x.isnan()).to(x).sum(1) * math.log(scale)
    torch.testing.assert_close(other.log_prob(scale * x), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(other.elbo(scale * x), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(other.posterior(scale * x).mean, one.posterior(x).mean, rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("missing", [0, 0.2])
def test_a_large_mean_does_no_harm(device, missing):
    """At 1e6 float32 has steps of 2⁻⁴: the fit must be that of the rounded data, as exact as sums in float64."""
    x = (1e6 + make_data(400, 8, noise=0.5, missing=missing, device=device)).float()
    model, exact = PPCA.fit(x, 3, tol=1e-10), PPCA.fit(x.double() - 1e6, 3, tol=1e-10)
    torch.testing.assert_close(model.W.double(), exact.W, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.sigma2.double(), exact.sigma2, rtol=1e-4, atol=0)
    gap = model.log_prob(x).double() - exact.log_prob(x.double() - 1e6)  # μ itself is rounded by up to 2⁻⁵
    assert gap.abs().mean() < 8 * 2**-5 * 3 / exact.sigma2.sqrt() * 0.5


@pytest.mark.filterwarnings("ignore:(EM stopped|σ² rests)")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["eigen", "em"])
@pytest.mark.parametrize(
    "kind", ["constant column", "rank 1", "constant", "zero", "two rows", "n < q", "equal columns"]
)
def test_degenerate_data_stay_finite_and_right(device, kind, method, dtype):
    x = make_data(40, 6, rank=2, dtype=torch.float64)
    rank_one = x[:, :1] @ torch.arange(1.0, 7.0, dtype=torch.float64)[None]
    x = {
        "constant column": torch.cat([x[:, :5], torch.full((40, 1), 7.0)], 1),
        "rank 1": rank_one,
        "constant": torch.full((40, 6), 5.0),
        "zero": torch.zeros(40, 6),
        "two rows": x[:2],
        "n < q": x[:3],
        "equal columns": x[:, [0, 0, 1, 1, 2, 2]],
    }[kind].to(dtype)
    x = x.to(device)
    model = PPCA.fit(x, 4, method, generator=torch.Generator(device).manual_seed(0))
    variance = x.double().var(0, correction=0).mean().item()
    assert model.sigma2 >= 0.99 * ppca.FLOOR[dtype] * variance
    for result in (
        model.W,
        model.log_prob(x),
        model.elbo(x),
        model.impute(x),
        model.sample(3),
        model.posterior(x).mean,
    ):
        assert result.isfinite().all()
    incomplete = x.clone()
    incomplete[0, 0] = NAN
    assert model.log_prob(incomplete).isfinite().all()
    torch.testing.assert_close(model.mu, x.double().mean(0).to(dtype))
    values, vectors = np.linalg.eigh(np.cov(x.cpu().double().numpy().T, bias=True))
    values[:2] = values[:2].mean()  # the maximum-likelihood C: discarded eigenvalues replaced by their mean
    expected = torch.from_numpy(vectors * values @ vectors.T).to(device)
    torch.testing.assert_close(model.C.double(), expected, rtol=0, atol=max(1e-4 * variance, 1e-10))


@pytest.mark.filterwarnings("ignore:(EM stopped|σ² rests)")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_data_with_missing_entries_stay_finite(device, dtype):
    x = make_data(40, 6, rank=1, noise=0, missing=0.3, dtype=dtype, device=device)  # σ² = 0 is the optimum
    x[:, 5] = 7
    model = PPCA.fit(x, 3)
    assert model.W.isfinite().all()
    assert model.log_prob(x).isfinite().all()
    assert torch.isfinite(torch.tensor(model.history)).all()
    complete = make_data(40, 6, rank=1, noise=0, dtype=dtype, device=device)
    complete[:, 5] = 7
    torch.testing.assert_close(model.impute(x), complete, rtol=0, atol=2e-2)


def test_fit_leaves_its_input_alone(device):
    x = make_data(50, 6, missing=0.2, device=device).requires_grad_()
    before = x.detach().clone()
    model = PPCA.fit(x, 2)
    assert not model.W.requires_grad
    assert torch.equal(torch.nan_to_num(x), torch.nan_to_num(before))
    complete = make_data(50, 6, device=device)
    torch.testing.assert_close(PPCA.fit(complete.T.contiguous().T, 2).W, PPCA.fit(complete, 2).W)


def test_log_prob_and_elbo_carry_gradients(device):
    model = make_model(device=device)
    x = make_data(10, 6, device=device).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    score = -torch.linalg.solve(model.C, (x - model.mu).T).T
    torch.testing.assert_close(gradient, score)


# What is refused


X = make_data(10, 4)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "x must be a torch.Tensor.*as_tensor", lambda: PPCA.fit(X.numpy(), 2)),
        (TypeError, r"float32 or float64.*x\.float", lambda: PPCA.fit(X.long(), 2)),
        (TypeError, "float32 or float64", lambda: PPCA.fit(X.half(), 2)),
        (ValueError, "shape .rows, columns.*reshape", lambda: PPCA.fit(X[0], 2)),
        (ValueError, "x is empty.*at least one row", lambda: PPCA.fit(X[:0], 2)),
        (ValueError, "x holds 1 row.*give more rows", lambda: PPCA.fit(X[:1], 2)),
        (ValueError, "x holds 1 row.*give more rows", lambda: PPCA.fit(X[:1], 2, "em")),
        (ValueError, "batches holds 1 row.*give more rows", lambda: PPCA.fit_stream([X[:1]], 2)),
        (ValueError, "infinite entries.*NaN", lambda: PPCA.fit(X.where(X.max() > X, math.inf), 2)),
        (ValueError, "infinite entries.*NaN", lambda: PPCA.fit(X[:3].where(X[:3] < X[:3].max(), -math.inf), 2)),
        (ValueError, "too large for torch.float32.*double", lambda: PPCA.fit(X.float() * 1e30, 2)),
        (ValueError, "row 3.*remove", lambda: PPCA.fit(X.index_fill(0, torch.tensor(3), NAN), 2)),
        (ValueError, "column 1.*remove", lambda: PPCA.fit(X.index_fill(1, torch.tensor(1), NAN), 2)),
        (ValueError, "missing entries.*method='em'", lambda: PPCA.fit(X.where(X.max() > X, NAN), 2, "eigen")),
        (ValueError, "latent_dim is 4.*fewer than the 4", lambda: PPCA.fit(X, 4)),
        (ValueError, "latent_dim must be at least 1", lambda: PPCA.fit(X, 0)),
        (ValueError, "latent_dim must be at least 1", lambda: PPCA.fit(X, -1)),
        (TypeError, "latent_dim must be an int", lambda: PPCA.fit(X, 2.0)),
        (ValueError, "method must be 'eigen' or 'em'", lambda: PPCA.fit(X, 2, "svd")),
        (ValueError, "batches is empty", lambda: PPCA.fit_stream([], 2)),
        (ValueError, r"batch must have 4 columns.*\(10, 3\)", lambda: PPCA.fit_stream([X, X[:, :3]], 2)),
        (ValueError, "batch has missing entries", lambda: PPCA.fit_stream([X, X.where(X.max() > X, NAN)], 2)),
        (ValueError, "batch has infinite", lambda: PPCA.fit_stream([X, X.where(X.max() > X, math.inf)], 2)),
        (TypeError, "batch must be a torch.Tensor", lambda: PPCA.fit_stream([X.numpy()], 2)),
        (TypeError, "batch is torch.float32", lambda: PPCA.fit_stream([X, X.float()], 2)),
        (ValueError, "latent_dim is 4", lambda: PPCA.fit_stream([X], 4)),
        (ValueError, r"x must have 4 columns.*\(10, 3\)", lambda: PPCA.fit(X, 2).log_prob(X[:, :3])),
        (ValueError, r"x must have 4 columns.*\(10, 3\)", lambda: PPCA.fit(X, 2).impute(X[:, :3])),
        (TypeError, "x must be a torch.Tensor", lambda: PPCA.fit(X, 2).impute(X.numpy())),
        (TypeError, "x is torch.float32, the model torch.float64", lambda: PPCA.fit(X, 2).posterior(X.float())),
        (TypeError, "x must be float32 or float64", lambda: PPCA.fit(X, 2).reconstruct(X.long())),
        (ValueError, "shape .rows, columns", lambda: PPCA.fit(X, 2).elbo(X[0])),
        (ValueError, "infinite entries", lambda: PPCA.fit(X, 2).log_prob(X / 0)),
        (ValueError, "x is on meta, the model on cpu", lambda: PPCA.fit(X, 2).log_prob(X.to("meta"))),
        (TypeError, "q must be MultivariateNormal", lambda: PPCA.fit(X, 2).elbo(X, Normal(0.0, 1.0))),
        (ValueError, "k must be at least 1", lambda: PPCA.fit(X, 2).importance_bound(X, 0)),
        (TypeError, "k must be an int", lambda: PPCA.fit(X, 2).importance_bound(X, 2.0)),
        (ValueError, "n must be at least 1", lambda: PPCA.fit(X, 2).sample(0)),
        (TypeError, "x must be a torch.Tensor", lambda: PPCA.fit(X, 2).elbo(X.numpy())),
        (TypeError, "x must be a torch.Tensor", lambda: PPCA.fit(X, 2).importance_bound(X.numpy(), 2)),
        (ValueError, "W has entries that are NaN", lambda: PPCA(torch.full((4, 2), NAN), torch.ones(4), 1)),
        (ValueError, "mu has entries that are NaN", lambda: PPCA(torch.ones(4, 2), torch.full((4,), math.inf), 1)),
        (ValueError, "sigma2 must be one positive", lambda: PPCA(torch.ones(4, 2), torch.ones(4), math.inf)),
        (TypeError, "W must be float32", lambda: PPCA(torch.ones(4, 2).long(), torch.ones(4), 1)),
        (ValueError, "W must have shape", lambda: PPCA(torch.ones(4), torch.ones(4), 1)),
        (ValueError, r"mu has shape \(3,\).*\(4,\)", lambda: PPCA(torch.ones(4, 2), torch.ones(3), 1)),
        (ValueError, "sigma2 must be one positive number, got 0", lambda: PPCA(torch.ones(4, 2), torch.ones(4), 0)),
        (ValueError, "sigma2 must be one positive", lambda: PPCA(torch.ones(4, 2), torch.ones(4), torch.ones(4))),
    ],
)
def test_bad_input_is_named_with_a_remedy(error, message, call):
    with pytest.raises(error, match=message):
        call()
