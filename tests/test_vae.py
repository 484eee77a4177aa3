"""Every claim of `companion.vae` against torch.distributions, quadrature, exact PPCA and finite differences."""

from __future__ import annotations

import math
import resource
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from companion import data, vae
from companion.latent import importance
from companion.likelihoods import Gaussian, GreyLevels, bernoulli, categorical
from companion.nets import mlp
from companion.ppca import PPCA
from companion.training import fit
from companion.vae import VAE


def make_vae(likelihood=bernoulli, outputs=6, q=2, d=6, dtype=torch.float64, device="cpu", **options) -> VAE:
    torch.manual_seed(1)
    model = VAE(mlp(d, 8, 2 * q), mlp(q, 8, outputs), likelihood, **options)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.mul_(2)  # so that the posterior is no copy of the prior
    return model.to(device, dtype)


LIKELIHOODS = {
    "bernoulli": (bernoulli, 6),
    "gaussian": (lambda: Gaussian(0.3), 6),
    "gaussian per pixel": (lambda: Gaussian(torch.linspace(0.1, 1, 6)), 6),
    "categorical": (categorical(3), 18),
}


@pytest.fixture(params=LIKELIHOODS)
def model(request, device):
    likelihood, outputs = LIKELIHOODS[request.param]
    return make_vae(likelihood() if "gaussian" in request.param else likelihood, outputs, device=device)


@pytest.fixture
def x(device):
    """Images that every likelihood allows: 0, ½ and 1."""
    return torch.randint(3, (5, 6), generator=torch.Generator().manual_seed(0)).double().to(device) / 2


def generator_on(device, seed=0):
    return torch.Generator(device).manual_seed(seed)


def quadrature(n=161, reach=8.0):
    """Nodes (n², 2) and the logarithm of their weight."""
    line = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line), 2 * math.log(2 * reach / (n - 1))


def on_grid(model, x):
    """log q(z | x) and log p(x, z) at the nodes, each (n, nodes), from the networks alone, and the log weight."""
    z, log_weight = quadrature()
    z = z.to(x)
    mean, log_variance = model.encoder(x).chunk(2, 1)
    log_q = MultivariateNormal(mean, log_variance.exp().diag_embed()).log_prob(z[:, None]).T
    prior = MultivariateNormal(torch.zeros(2).to(x), torch.eye(2).to(x)).log_prob(z)
    log_likelihood = torch.stack([model.decode(z).log_prob(row.expand(len(z), -1)) for row in x])
    return log_q, prior + log_likelihood, log_likelihood, log_weight


def within(estimates, truth, errors=4.0):
    """The mean over the first axis agrees with the truth up to so many standard errors."""
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - truth).abs() < errors * error + 1e-9).all()


# The bound


def test_terms_are_those_of_torch_distributions(model, x, device):
    reconstruction, kl = model.elbo_terms(x, generator=generator_on(device, 3))
    mean, log_variance = model.encoder(x).chunk(2, 1)
    eps = torch.randn(5, 2, dtype=x.dtype, device=device, generator=generator_on(device, 3))
    z = mean + log_variance.exp().sqrt() * eps
    torch.testing.assert_close(reconstruction, model.decode(z).log_prob(x))
    q = MultivariateNormal(mean, log_variance.exp().diag_embed())
    p = MultivariateNormal(torch.zeros(2).to(x), torch.eye(2).to(x))
    torch.testing.assert_close(kl, kl_divergence(q, p))
    torch.testing.assert_close(model.elbo(x, generator=generator_on(device, 3)), reconstruction - kl)


@torch.no_grad()
def test_terms_agree_with_quadrature(model, x, device):
    log_q, log_joint, log_likelihood, log_weight = on_grid(model, x)
    mass = (log_q + log_weight).exp()
    torch.testing.assert_close(mass.sum(1), torch.ones(5).to(x), rtol=0, atol=1e-6)
    prior = log_joint - log_likelihood
    kl = (mass * (log_q - prior)).sum(1)
    torch.testing.assert_close(model.elbo_terms(x)[1], kl, rtol=1e-6, atol=1e-6)
    generator = generator_on(device)
    draws = torch.stack([model.elbo_terms(x, generator=generator)[0] for _ in range(4000)])
    within(draws, (mass * log_likelihood).sum(1))


@torch.no_grad()
def test_bounds_are_ordered_and_reach_log_p(model, x, device):
    _, log_joint, _, log_weight = on_grid(model, x)
    log_p = log_joint.logsumexp(1) + log_weight
    generator = generator_on(device)
    repeats = 200
    bounds = [torch.stack([model.elbo(x, generator=generator) for _ in range(10 * repeats)]).mean(1)]
    for k in (1, 4, 8, 16):
        bounds.append(torch.stack([model.importance_bound(x, k, generator=generator) for _ in range(repeats)]).mean(1))
    means = [b.mean() for b in bounds]
    errors = [b.std() / len(b) ** 0.5 for b in bounds]
    assert abs(means[0] - means[1]) < 4 * (errors[0] + errors[1])  # k = 1 is the ELBO
    for i in (1, 2, 3):
        assert means[i + 1] - means[i] > -2 * (errors[i] + errors[i + 1])
    assert means[4] > means[1] + 2 * (errors[1] + errors[4])
    assert means[4] < log_p.mean() + 3 * errors[4]
    many = torch.stack([model.importance_bound(x, 20_000, generator=generator) for _ in range(4)])
    torch.testing.assert_close(many.mean(0), log_p, rtol=0, atol=0.05)


@torch.no_grad()
def test_importance_bound_agrees_with_the_estimate_of_chapter_1(model, x, device):
    class Chapter1:
        prior, likelihood = model.prior, model.decode

    generator = generator_on(device)
    ours = torch.stack([model.importance_bound(x, 8, generator=generator) for _ in range(200)])
    theirs = torch.stack([importance(Chapter1, x, model.encode(x), 8, generator=generator)[0] for _ in range(200)])
    error = (ours.var(0) / 200 + theirs.var(0) / 200).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * error).all()


def linear_vae(q=3, d=6, device="cpu", fitted=True):
    """PPCA, and a VAE whose encoder is PPCA's exact posterior: the columns of W are orthogonal, so it is diagonal."""
    truth = torch.randn(400, q, dtype=torch.float64) @ torch.randn(q, d, dtype=torch.float64) * 2
    x = (truth + 0.5 * torch.randn(400, d, dtype=torch.float64) + 1).to(device)
    ppca = PPCA.fit(x, q)
    model = VAE(nn.Linear(d, 2 * q), nn.Linear(q, d), Gaussian(ppca.sigma2.clone())).to(device, torch.float64)
    posterior_map = torch.linalg.solve(ppca.M, ppca.W.T)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.cat([posterior_map, torch.zeros(q, d).to(x)]))
        log_variance = (ppca.sigma2 * torch.linalg.inv(ppca.M)).diag().log()
        model.encoder.bias.copy_(torch.cat([-posterior_map @ ppca.mu, log_variance]))
        model.decoder.weight.copy_(ppca.W)
        model.decoder.bias.copy_(ppca.mu)
    return model, ppca, x


@torch.no_grad()
def test_with_the_exact_posterior_every_weight_is_log_p(device):
    model, ppca, x = linear_vae(device=device)
    for k in (1, 2, 7):
        torch.testing.assert_close(model.importance_bound(x, k), ppca.log_prob(x), rtol=0, atol=1e-9)
    draws = torch.stack([model.elbo(x[:20]) for _ in range(4000)])  # the closed KL leaves the noise of one term
    within(draws, ppca.log_prob(x[:20]), 4.5)


@torch.no_grad()
def test_elbo_plus_kl_to_the_posterior_is_log_p(device):
    """At any encoder: the expected reconstruction of a linear decoder is known in closed form."""
    model, ppca, x = linear_vae(device=device)
    model.encoder.weight.add_(0.1 * torch.randn_like(model.encoder.weight))
    model.encoder.bias.add_(0.3)
    q = model.encode(x)
    L = q.stddev.diag_embed()
    posterior = ppca.posterior(x)
    gap = kl_divergence(MultivariateNormal(q.mean, scale_tril=L), posterior)
    assert gap.min() > 0.01
    kl = model.elbo_terms(x)[1]
    spread = (ppca.W.square().sum(0) * q.variance).sum(1) / (2 * ppca.sigma2)  # tr(W S Wᵀ) / 2σ²
    reconstruction = model.decode(q.mean).log_prob(x) - spread
    torch.testing.assert_close(reconstruction - kl + gap, ppca.log_prob(x), rtol=0, atol=1e-6)
    draws = torch.stack([model.elbo(x[:20]) for _ in range(4000)])
    within(draws, (ppca.log_prob(x) - gap)[:20], 4.5)


def test_gradient_of_the_reparameterised_bound_is_unbiased(device):
    """Against autograd through the closed form of a linear-Gaussian ELBO."""
    model, _, x = linear_vae(device=device)
    x = x[:50]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, dtype=p.dtype).to(device))
    parameters = list(model.parameters())

    def closed_form():
        mean, log_variance = model.encoder(x).chunk(2, 1)
        variance, W = log_variance.exp(), model.decoder.weight
        sigma2 = model.likelihood.log_sigma2.exp()
        error = (x - model.decoder(mean)).square().sum(1) + variance @ W.square().sum(0)
        reconstruction = -0.5 * (x.shape[1] * (2 * math.pi * sigma2).log() + error / sigma2)
        return (reconstruction - 0.5 * (mean.square() + variance - 1 - log_variance).sum(1)).mean()

    exact = torch.cat([g.flatten() for g in torch.autograd.grad(closed_form(), parameters)])
    draws = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(-model.loss(x), parameters)]) for _ in range(2000)]
    )
    within(draws, exact, 5)


def test_gradient_agrees_with_finite_differences(model, x, device):
    parameters = list(model.parameters())

    def elbo():
        return model.elbo(x, generator=generator_on(device)).mean()

    gradients, h = torch.autograd.grad(elbo(), parameters), 1e-6
    for p, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(p)
        with torch.no_grad():
            p.add_(direction, alpha=h)
            above = elbo()
            p.sub_(direction, alpha=2 * h)
            below = elbo()
            p.add_(direction, alpha=h)
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * h), rtol=1e-5, atol=1e-7)


def test_beta_weighs_the_kl_in_the_loss_and_leaves_the_bound(x):
    losses = {}
    for beta in (0.0, 1.0, 4.0):
        model = make_vae(beta=beta)
        torch.manual_seed(2)
        losses[beta] = model.loss(x)
        torch.manual_seed(2)
        reconstruction, kl = model.elbo_terms(x)
        torch.testing.assert_close(losses[beta], -(reconstruction - beta * kl).mean())
        torch.manual_seed(2)
        torch.testing.assert_close(model.elbo(x), reconstruction - kl)
    torch.testing.assert_close(losses[4.0] - losses[1.0], 3 * kl.mean())


def test_trained_linear_vae_reaches_ppca():
    x, q = data.digits()[0], 4
    model = VAE(nn.Linear(64, 2 * q), nn.Linear(q, 64), Gaussian(0.1))
    fit(
        model,
        x,
        steps=1500,
        batch_size=256,
        lr=5e-2,
        betas=(0.9, 0.99),
        schedule="cosine",
        precision="float32",
        device="cpu",
        progress=False,
    )
    W, mu = model.decoder.weight.detach(), model.decoder.bias.detach()
    exact = MultivariateNormal(mu, W @ W.T + model.likelihood.sigma2.detach() * torch.eye(64))
    best = PPCA.fit(x, q).log_prob(x).mean()
    assert best - 0.02 < exact.log_prob(x).mean() < best + 1e-3
    with torch.no_grad():
        assert best - 0.05 < torch.stack([model.elbo(x).mean() for _ in range(20)]).mean() < best + 0.01
    gram = W.T @ W
    assert (gram - gram.diag().diag()).abs().max() < 0.1 * gram.diag().max()  # PCA's axes, not only its subspace


# Likelihoods


def test_bernoulli_is_minus_the_binary_cross_entropy():
    logits, x = 5 * torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 6, dtype=torch.float64)
    expected = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(bernoulli(logits).log_prob(x), expected)
    torch.testing.assert_close(
        bernoulli(logits).log_prob(x), -F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(1)
    )
    torch.testing.assert_close(bernoulli(logits).mean, 1 / (1 + (-logits).exp()))


def test_bernoulli_of_a_grey_image_is_an_expectation_over_binary_ones():
    logits, x = torch.randn(3, dtype=torch.float64), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    binary = torch.cartesian_prod(*(torch.tensor([0.0, 1.0], dtype=torch.float64),) * 3)
    weight = torch.where(binary > 0, x, 1 - x).prod(1)
    expected = (weight * bernoulli(logits).log_prob(binary)).sum()
    torch.testing.assert_close(bernoulli(logits).log_prob(x), expected)


@pytest.mark.parametrize("sigma2", [0.3, torch.tensor([0.1, 0.2, 0.4])])
def test_gaussian_is_the_dense_gaussian(sigma2):
    mean, x = torch.randn(4, 3), torch.randn(4, 3)
    covariance = (torch.as_tensor(sigma2) * torch.ones(3)).diag()
    torch.testing.assert_close(Gaussian(sigma2)(mean).log_prob(x), MultivariateNormal(mean, covariance).log_prob(x))


def test_gaussian_keeps_the_type_of_the_mean():
    mean = torch.zeros(4, 3)
    assert Gaussian(torch.ones(3, dtype=torch.float64))(mean).log_prob(mean).dtype == torch.float32


@pytest.mark.parametrize("shape", [(), (3,)])
def test_best_sigma2_is_the_mean_squared_error(shape):
    mean, x = torch.randn(40, 3, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64)
    x[:, 0] *= 3
    error = (x - mean).square()
    best = error.mean() if shape == () else error.mean(0)
    likelihood = Gaussian(best)
    (gradient,) = torch.autograd.grad(likelihood(mean).log_prob(x).mean(), [likelihood.log_sigma2])
    assert gradient.shape == shape
    assert gradient.abs().max() < 1e-12
    for factor in (0.9, 1.1):
        assert Gaussian(best * factor)(mean).log_prob(x).mean() < likelihood(mean).log_prob(x).mean()


def test_gaussian_can_be_held():
    model = make_vae(Gaussian(0.25).requires_grad_(False), dtype=torch.float32)
    x = torch.rand(50, 6)
    fit(model, x, steps=3, device="cpu", progress=False)
    assert model.likelihood.sigma2.item() == pytest.approx(0.25)


@pytest.mark.parametrize("K", [2, 17])
def test_categorical_is_minus_the_cross_entropy(K):
    output, level = 3 * torch.randn(4, 6 * K), torch.randint(K, (4, 6))
    p = categorical(K)(output)
    expected = -F.cross_entropy(output.reshape(4, 6, K).movedim(2, 1), level, reduction="none").sum(1)
    torch.testing.assert_close(p.log_prob(level / (K - 1)), expected)


def test_categorical_moments_and_samples():
    p = categorical(5)(torch.randn(30))
    draws = p.sample((20_000,))
    assert draws.shape == (20_000, 6)
    assert set(draws.unique().tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    within(draws, p.mean)
    within((draws - p.mean).square(), p.variance)


def test_categorical_gives_no_density_to_what_is_no_grey_level():
    p = categorical(3)(torch.zeros(2, 6))
    x = torch.tensor([[0.0, 0.5], [0.3, 1.0]])
    assert p.log_prob(x).tolist() == [pytest.approx(-2 * math.log(3)), -math.inf]
    for wrong in (16.0, -1.0, math.nan, math.inf):
        assert p.log_prob(torch.tensor([[wrong, 0.0], [0.0, wrong]])).tolist() == [-math.inf] * 2


def test_all_digits_are_grey_levels():
    x = data.digits()[0]
    p = GreyLevels(torch.zeros(64, 17))
    torch.testing.assert_close(p.log_prob(x), torch.full((len(x),), -64 * math.log(17.0)))


@torch.no_grad()
def test_one_pixel_mass_sums_to_one():
    levels = torch.linspace(0, 1, 17)[:, None]
    p = categorical(17)(torch.randn(17))
    torch.testing.assert_close(p.log_prob(levels).logsumexp(0).item(), 0.0, rtol=0, atol=1e-5)


def test_any_distribution_can_be_the_likelihood(x):
    model = make_vae(lambda mean: Independent(Laplace(mean, 0.5), 1))
    assert model.elbo(x).shape == (5,)
    assert model.reconstruct(x).shape == x.shape


# What one does with it


@torch.no_grad()
def test_samples_have_the_moments_of_the_marginal(device):
    model, ppca, _ = linear_vae(device=device)
    x = model.sample(40_000, generator=generator_on(device))
    within(x, ppca.mu, 4.5)
    axes = torch.linalg.qr(ppca.W, mode="complete").Q  # across W only the noise σ² is left
    y = (x - ppca.mu) @ axes
    within(y[:, :, None] * y[:, None], axes.T @ ppca.C @ axes, 4.5)


@torch.no_grad()
def test_reconstruction_and_interpolation(model, x):
    mean = model.encoder(x)[:, :2]
    torch.testing.assert_close(model.reconstruct(x), model.decode(mean).mean)
    path = model.interpolate(x[0], x[1], 5)
    torch.testing.assert_close(path[[0, -1]], model.reconstruct(x[:2]))
    torch.testing.assert_close(path[1:2], model.decode(0.75 * mean[:1] + 0.25 * mean[1:2]).mean)
    torch.testing.assert_close(model.interpolate(x[0], x[1], 1), model.reconstruct(x[:1]))


@torch.no_grad()
def test_linear_reconstruction_is_that_of_ppca(device):
    model, ppca, x = linear_vae(device=device)
    torch.testing.assert_close(model.reconstruct(x), ppca.reconstruct(x))


def test_a_generator_decides_and_the_global_one_is_left_alone(model, x, device):
    for draw in (
        lambda g: model.elbo(x, generator=g),
        lambda g: model.importance_bound(x, 3, generator=g),
        lambda g: model.sample(4, generator=g),
    ):
        state = torch.get_rng_state()
        first, again, other = (draw(generator_on(device, seed)) for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())


# Numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_and_shapes(device, dtype):
    model, x = make_vae(dtype=dtype, device=device), torch.rand(5, 6, dtype=dtype, device=device)
    found = [*model.elbo_terms(x), model.elbo(x), model.importance_bound(x, 3)]
    assert all(t.shape == (5,) and t.dtype == dtype and t.device == x.device for t in found)
    assert model.loss(x).shape == ()
    for t in (model.sample(5), model.reconstruct(x), model.interpolate(x[0], x[1], 5)):
        assert t.shape == (5, 6)
        assert t.dtype == dtype
    assert model.prior().sample().dtype == dtype
    assert not model.sample(5).requires_grad


def test_float32_agrees_with_float64(x):
    exact = make_vae().elbo_terms(x, generator=generator_on("cpu"))[1]
    single = make_vae(dtype=torch.float32).elbo_terms(x.float())[1]
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_autocast_gives_float32_densities(name, x, device):
    likelihood, outputs = LIKELIHOODS[name]
    model = make_vae(likelihood() if "gaussian" in name else likelihood, outputs, dtype=torch.float32, device=device)
    x = x.float()
    exact = [
        *model.elbo_terms(x, generator=generator_on(device)),
        model.importance_bound(x, 3, generator=generator_on(device)),
    ]
    with torch.autocast(device.type, torch.bfloat16):
        rough = [
            *model.elbo_terms(x, generator=generator_on(device)),
            model.importance_bound(x, 3, generator=generator_on(device)),
        ]
        loss = model.loss(x)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.1)
        assert not torch.equal(a, b)
    assert loss.dtype == torch.float32
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("log_variance", [-1e4, -200.0, 200.0, 1e4, 1e30])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_extreme_log_variances_stay_finite(name, log_variance, x, device):
    likelihood, outputs = LIKELIHOODS[name]
    model = make_vae(likelihood() if "gaussian" in name else likelihood, outputs, dtype=torch.float32, device=device)
    with torch.no_grad():
        model.encoder[-1].bias[2:] = log_variance
    x = x.float()
    for value in (*model.elbo_terms(x), model.importance_bound(x, 3), model.loss(x)):
        assert value.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(model.loss(x), list(model.parameters())))


@pytest.mark.parametrize("log_sigma2", [-1e4, 1e4])
def test_extreme_sigma2_stays_finite(log_sigma2, x):
    model = make_vae(Gaussian(1.0), dtype=torch.float32)
    with torch.no_grad():
        model.likelihood.log_sigma2.fill_(log_sigma2)
    assert model.elbo(x.float()).isfinite().all()
    assert 0 < model.likelihood.sigma2 < math.inf


@torch.no_grad()
def test_importance_bound_in_blocks_is_the_same_bound(monkeypatch, device):
    """With the exact posterior all weights are equal, so a sample that is lost or counted twice would show."""
    model, ppca, x = linear_vae(device=device)
    rows = []
    run = vae.run
    monkeypatch.setattr(vae, "BLOCK", 1000)  # 400 rows: two samples at a time
    monkeypatch.setattr(vae, "run", lambda name, net, z: rows.append(z.shape[:-1].numel()) or run(name, net, z))
    torch.testing.assert_close(model.importance_bound(x, 7), ppca.log_prob(x), rtol=0, atol=1e-9)
    assert rows == [400, 800, 800, 800, 400]


@torch.no_grad()
def test_memory_does_not_grow_with_k():
    model = VAE(mlp(64, 32, 4), mlp(2, 32, 784), bernoulli)  # 10⁵ samples of 784 pixels are 314 MB
    model.encoder[0] = nn.Linear(784, 32)
    x = torch.rand(1, 784)
    model.importance_bound(x, 20_000)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.importance_bound(x, 100_000)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100e6


# What does not fit


@pytest.mark.parametrize(
    ("encoder", "decoder", "likelihood", "options", "message"),
    [
        (mlp(6, 3), mlp(2, 6), bernoulli, {}, "encoder must end in a linear layer with 2q outputs"),
        (nn.Identity(), mlp(2, 6), bernoulli, {}, "name latent_dim"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"beta": -1.0}, "beta must be at least 0"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"beta": math.nan}, "beta must be at least 0"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"latent_dim": 0}, "latent_dim must be at least 1"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"latent_dim": 3}, "encoder gives shape .* 6 outputs"),
        (mlp(6, 4), mlp(3, 6), bernoulli, {}, "decoder does not take"),
        (mlp(5, 4), mlp(2, 6), bernoulli, {}, "encoder does not take"),
        (mlp(6, 4), mlp(2, 5), bernoulli, {}, r"event shape \(5,\)"),
        (mlp(6, 4), mlp(2, 1), bernoulli, {}, r"event shape \(1,\)"),
        (mlp(6, 4), mlp(2, 6), lambda mean: Normal(mean, 1.0), {}, "Independent"),
        (mlp(6, 4), mlp(2, 6), lambda mean: Independent(Normal(mean[:1], 1.0), 1), {}, r"batch shape \(1,\)"),
        (mlp(6, 4), mlp(2, 6), categorical(17), {}, "a multiple of the 17 levels"),
    ],
)
def test_parts_that_do_not_fit(encoder, decoder, likelihood, options, message):
    with pytest.raises(ValueError, match=message):
        VAE(encoder, decoder, likelihood, **options).loss(torch.rand(5, 6))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(5, 6, dtype=torch.long), TypeError, "x must be float32 or float64"),
        (torch.zeros(5, 6), TypeError, "x is torch.float32, the model torch.float64"),
        (torch.zeros(6, dtype=torch.float64), ValueError, "x must have shape"),
        (torch.zeros(0, 6, dtype=torch.float64), ValueError, "x is empty"),
        (np.zeros((5, 6)), TypeError, r"x must be a torch\.Tensor"),
    ],
)
def test_bad_data(x, error, message):
    for method in (VAE.elbo, VAE.loss, VAE.reconstruct, lambda model, x: model.importance_bound(x, 2)):
        with pytest.raises(error, match=message):
            method(make_vae(), x)


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_bad_counts(count, x):
    model = make_vae()
    for method in (model.sample, lambda n: model.importance_bound(x, n), lambda n: model.interpolate(x[0], x[1], n)):
        with pytest.raises((ValueError, TypeError), match="must be"):
            method(count)


@pytest.mark.parametrize("sigma2", [0, -1.0, math.nan, math.inf, torch.ones(2, 2)])
def test_bad_sigma2(sigma2):
    with pytest.raises(ValueError, match="sigma2 must be"):
        Gaussian(sigma2)


def test_bad_levels():
    with pytest.raises(ValueError, match="levels must be at least 2"):
        categorical(1)


def test_latent_dim_is_read_from_the_encoder_or_named():
    assert make_vae(q=3).latent_dim == 3
    halves = nn.Sequential(mlp(6, 4), nn.Flatten())
    assert VAE(halves, mlp(2, 6), bernoulli).latent_dim == 2
    convolution = nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 6, 4), nn.Flatten())
    model = VAE(convolution, mlp(3, 16), bernoulli, latent_dim=3)
    assert model.importance_bound(torch.rand(5, 16), 4).shape == (5,)


def test_weights_alone_make_the_state(device):
    model = make_vae(Gaussian(0.5), device=device)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
