"""Every claim of `companion.vae` against torch.distributions, quadrature, exact PPCA and finite differences."""

from __future__ import annotations

import math
import resource
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

from companion import data, vae
from companion.devices import evaluating
from companion.latent import importance
from companion.likelihoods import Gaussian, bernoulli, categorical
from companion.nets import mlp
from companion.plots import vae as figures
from companion.ppca import PPCA
from companion.training import fit
from companion.vae import VAE

matplotlib.use("Agg")


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


def repeated(x: torch.Tensor, n: int) -> torch.Tensor:
    """x, n times: each row gets noise of its own."""
    return x.repeat(n, *(x.ndim - 1) * (1,))


def apart(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What the rows of `repeated(x, n)` gave, shape (n, len(x))."""
    return values.unflatten(0, (-1, len(x)))


@pytest.mark.slow
@torch.no_grad()
def test_terms_agree_with_quadrature(model, x, device):
    log_q, log_joint, log_likelihood, log_weight = on_grid(model, x)
    mass = (log_q + log_weight).exp()
    torch.testing.assert_close(mass.sum(1), torch.ones(5).to(x), rtol=0, atol=1e-6)
    prior = log_joint - log_likelihood
    kl = (mass * (log_q - prior)).sum(1)
    torch.testing.assert_close(model.elbo_terms(x)[1], kl, rtol=1e-6, atol=1e-6)
    generator = generator_on(device)
    draws = apart(model.elbo_terms(repeated(x, 4000), generator=generator)[0], x)
    within(draws, (mass * log_likelihood).sum(1))


@pytest.mark.slow
@torch.no_grad()
def test_bounds_are_ordered_and_reach_log_p(model, x, device):
    _, log_joint, _, log_weight = on_grid(model, x)
    log_p = log_joint.logsumexp(1) + log_weight
    generator = generator_on(device)
    repeats = 200
    bounds = [apart(model.elbo(repeated(x, 10 * repeats), generator=generator), x).mean(1)]
    for k in (1, 4, 8, 16):
        bounds.append(apart(model.importance_bound(repeated(x, repeats), k, generator=generator), x).mean(1))
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


@pytest.mark.slow
@torch.no_grad()
def test_with_the_exact_posterior_every_weight_is_log_p(device):
    model, ppca, x = linear_vae(device=device)
    for k in (1, 2, 7):
        torch.testing.assert_close(model.importance_bound(x, k), ppca.log_prob(x), rtol=0, atol=1e-9)
    draws = apart(model.elbo(repeated(x[:20], 4000)), x[:20])  # the closed KL leaves the noise of one term
    within(draws, ppca.log_prob(x[:20]), 4.5)


@pytest.mark.slow
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
    draws = apart(model.elbo(repeated(x[:20], 4000)), x[:20])
    within(draws, (ppca.log_prob(x) - gap)[:20], 4.5)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_gaussian_can_be_held():
    model = make_vae(Gaussian(0.25).requires_grad_(False), dtype=torch.float32)
    x = torch.rand(50, 6)
    fit(model, x, steps=3, device="cpu", progress=False)
    assert model.likelihood.sigma2.item() == pytest.approx(0.25)


def test_the_first_step_in_bfloat16_trains_all_weights(device):
    model = make_vae(Gaussian(0.25), dtype=torch.float32, device=device)
    before = {name: x.detach().clone() for name, x in model.named_parameters()}
    fit(model, torch.rand(50, 6), steps=1, precision="bfloat16", progress=False)
    assert not any(torch.equal(before[name], x) for name, x in model.named_parameters())


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
@pytest.mark.slow
def test_memory_does_not_grow_with_k():
    model = VAE(mlp(64, 32, 4), mlp(2, 32, 784), bernoulli)  # 10⁵ samples of 784 pixels are 314 MB
    model.encoder[0] = nn.Linear(784, 32)
    x = torch.rand(1, 784)
    model.importance_bound(x, 20_000)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.importance_bound(x, 100_000)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100e6


# Images


class TwoHeads(nn.Module):
    """An encoder with one linear layer for the mean and one for the log variance."""

    def __init__(self, d, q):
        super().__init__()
        self.mean, self.log_variance = nn.Linear(d, q), nn.Linear(d, q)

    def forward(self, x):
        return torch.cat([self.mean(x), self.log_variance(x)], 1)


def convolutional(likelihood, channels=1, q=3):
    """Encoder and decoder of images 1×16×16, batch norm and dropout in both; `channels` of the decoder's outputs."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, 2 * q)
    )
    decoder = nn.Sequential(
        nn.Linear(q, 64),
        nn.Unflatten(1, (4, 4, 4)),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.ConvTranspose2d(4, 4, 4, 2, 1),
        nn.SiLU(),
        nn.ConvTranspose2d(4, channels, 4, 2, 1),
    )
    return VAE(encoder, decoder, likelihood)


def flattened(model, levels=None):
    """The same networks around rows of 256 pixels; the levels of a pixel go side by side."""
    arrange = nn.Flatten() if levels is None else nn.Sequential(nn.Flatten(2), Transpose(), nn.Flatten())
    encoder, decoder = nn.Sequential(nn.Unflatten(1, (1, 16, 16)), model.encoder), nn.Sequential(model.decoder, arrange)
    likelihood = model.likelihood
    if isinstance(likelihood, Gaussian) and likelihood.log_sigma2.ndim:
        likelihood = Gaussian(likelihood.sigma2.detach().flatten())
    return VAE(encoder, decoder, likelihood, latent_dim=model.latent_dim)


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


IMAGES = {
    "bernoulli": (lambda: bernoulli, None),
    "gaussian": (lambda: Gaussian(0.1), None),
    "gaussian per pixel": (lambda: Gaussian(torch.linspace(0.1, 1, 256).reshape(1, 16, 16)), None),
    "categorical": (lambda: categorical(5), 5),
}


@pytest.fixture(scope="module")
def images():
    """32 syllables, 1×16×16, in five grey levels."""
    x = data.hangul(16).x[::349].reshape(-1, 1, 16, 16)[:32]
    return (x * 4).round() / 4


@pytest.fixture(params=IMAGES)
def trained(request, images):
    """A convolutional VAE after a few steps, and the same model on rows."""
    likelihood, levels = IMAGES[request.param]
    torch.manual_seed(0)
    model = convolutional(likelihood(), levels or 1)
    history = fit(model, images, steps=12, batch_size=16, lr=1e-2, precision="float32", device="cpu", progress=False)
    losses = history.losses["loss"]
    assert losses[-3:].mean() < losses[:3].mean()
    return model.train(), flattened(model, levels).train()


def test_a_convolutional_vae_has_the_values_of_the_same_model_on_rows(trained, images):
    model, flat = trained
    rows = images.flatten(1)
    for image, row in (
        (model.elbo_terms(images, generator=generator_on("cpu")), flat.elbo_terms(rows, generator=generator_on("cpu"))),
        ([model.elbo(images, generator=generator_on("cpu"))], [flat.elbo(rows, generator=generator_on("cpu"))]),
        (
            [model.importance_bound(images, 7, generator=generator_on("cpu"))],
            [flat.importance_bound(rows, 7, generator=generator_on("cpu"))],
        ),
    ):
        for a, b in zip(image, row, strict=True):
            assert a.shape == (32,)
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-3)
    a, b = images[:2]
    for image, row in (
        (model.reconstruct(images), flat.reconstruct(rows)),
        (model.interpolate(a, b, 5), flat.interpolate(a.flatten(), b.flatten(), 5)),
    ):
        assert image.shape[1:] == (1, 16, 16)
        torch.testing.assert_close(image.flatten(1), row, rtol=1e-5, atol=1e-5)


def test_a_convolutional_loss_is_that_of_the_same_model_on_rows(trained, images):
    values = []
    for model, x in zip(trained, (images, images.flatten(1)), strict=True):
        torch.manual_seed(3)  # of dropout, too
        values.append(model.loss(x))
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-3)


def test_samples_of_a_convolutional_vae(trained):
    model, flat = trained
    x = model.sample(500, generator=generator_on("cpu"))
    assert x.shape == (500, 1, 16, 16)
    model.check_data(x.clamp(0, 1) if isinstance(model.likelihood, Gaussian) else x)
    with torch.no_grad(), evaluating(model):
        mean = model.decode(model.prior().sample((500,))).mean
    difference = x.mean((1, 2, 3)) - mean.mean((1, 2, 3))
    assert difference.mean().abs() < 5 * difference.std() / 500**0.5
    assert flat.sample(3).shape == (3, 256)


@torch.no_grad()
def test_the_importance_bound_of_images_agrees_with_a_loop(trained, images, monkeypatch):
    """Every z by itself through the networks; the blocks are smaller than k."""
    model, _ = trained
    monkeypatch.setattr(vae, "BLOCK", 64)
    bound = model.importance_bound(images, 5, generator=generator_on("cpu"))
    with evaluating(model):
        q, p_z = model.encode(images), Normal(0.0, 1.0)
        noise = generator_on("cpu")
        eps = torch.cat([torch.randn(len(block), 32, 3, generator=noise) for block in torch.arange(5).split(2)])
        log_w = torch.empty(5, 32)
        for i in range(5):
            for j in range(32):
                z = q.mean[j] + q.stddev[j] * eps[i, j]
                log_p = model.likelihood(model.decoder(z[None])).log_prob(images[j : j + 1])[0]
                log_w[i, j] = log_p + p_z.log_prob(z).sum() - Normal(q.mean[j], q.stddev[j]).log_prob(z).sum()
    torch.testing.assert_close(bound, log_w.logsumexp(0) - math.log(5), rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_decoder_and_likelihood_see_one_batch_axis():
    """A likelihood that splits mean and log variance along axis 1, as torch users write it."""
    seen = []

    def split(output):
        seen.append(output.shape)
        mean, log_variance = output.chunk(2, dim=1)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    model, x = make_vae(split, 12), torch.rand(5, 6, dtype=torch.float64)
    z = torch.randn(4, 5, 2, dtype=torch.float64)
    p = model.decode(z)
    assert seen == [(20, 12)]
    assert (p.batch_shape, p.event_shape) == ((4, 5), (6,))
    for i in range(4):
        each = model.decode(z[i])
        torch.testing.assert_close(p.log_prob(x)[i], each.log_prob(x))
        torch.testing.assert_close(p.mean[i], each.mean)
        torch.testing.assert_close(p.variance[i], each.variance)
    one = model.decode(z[0, 0])
    torch.testing.assert_close(one.log_prob(x[0]), p.log_prob(x)[0, 0])
    draws = p.sample((3000,))
    assert draws.shape == (3000, 4, 5, 6)
    within(draws, p.mean, 5)


# Modes


def states(model):
    return [module.training for module in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}


def all_that_evaluates(model, x):
    return {
        "elbo": lambda: model.elbo(x, generator=generator_on("cpu")),
        "elbo_terms": lambda: torch.stack(model.elbo_terms(x, generator=generator_on("cpu"))),
        "importance_bound": lambda: model.importance_bound(x, 3, generator=generator_on("cpu")),
        "sample": lambda: model.sample(1, generator=generator_on("cpu")),
        "reconstruct": lambda: model.reconstruct(x[:1]),
        "interpolate": lambda: model.interpolate(x[0], x[1], 3),
    }


@pytest.mark.parametrize("name", all_that_evaluates(None, None))
def test_bounds_and_samples_run_in_evaluation_mode_and_leave_the_modes(name, images):
    model = convolutional(Gaussian(0.1))
    model.encoder[1].eval()  # a layer that its user has frozen
    modes, weights = states(model)
    assert len(set(modes)) == 2
    in_training = all_that_evaluates(model, images)[name]()
    after = states(model)
    assert after[0] == modes
    assert all(torch.equal(after[1][key], weights[key]) for key in weights)
    model.eval()
    torch.testing.assert_close(in_training, all_that_evaluates(model, images)[name](), rtol=0, atol=0)


@pytest.mark.parametrize("name", all_that_evaluates(None, None))
def test_the_modes_come_back_after_an_error(name, images):
    model = convolutional(lambda mean: 1 / 0)
    model.encoder[1].eval()
    modes = states(model)[0]
    with pytest.raises(ZeroDivisionError):
        all_that_evaluates(model, images)[name]()
    assert states(model)[0] == modes


def test_the_loss_runs_in_training_mode(images):
    model = convolutional(Gaussian(0.1))
    torch.manual_seed(4)
    loss = model.loss(images)
    assert model.encoder[1].num_batches_tracked == 1
    torch.manual_seed(4)
    assert loss != -model.elbo(images).mean()
    model.eval()
    torch.manual_seed(4)
    loss = model.loss(images)
    torch.manual_seed(4)
    torch.testing.assert_close(loss, -model.elbo(images).mean())
    assert model.encoder[1].num_batches_tracked == 1


def test_gradients_pass_through_the_bounds_in_evaluation_mode(images):
    model = convolutional(Gaussian(0.1))
    weight = model.encoder[0].weight

    def gradient(bound):
        return torch.autograd.grad(bound(images, generator=generator_on("cpu")).mean(), weight)[0]

    bounds = model.elbo, lambda x, generator: model.importance_bound(x, 2, generator=generator)
    found = [gradient(bound) for bound in bounds]
    model.eval()
    for value, bound in zip(found, bounds, strict=True):
        assert value.abs().max() > 0
        torch.testing.assert_close(value, gradient(bound), rtol=0, atol=0)


def test_the_model_itself_reconstructs_in_its_own_mode(images):
    model = convolutional(bernoulli)
    torch.manual_seed(0)
    assert not torch.equal(model(images), model.reconstruct(images))
    model.eval()
    assert torch.equal(model(images), model.reconstruct(images))


# Data that a likelihood does not take

SCALES = {
    "-1 to 1": (
        bernoulli,
        6,
        lambda x: 2 * x - 1,
        r"from -1 to 1; bernoulli takes values between 0 and 1: use \(x \+ 1",
    ),
    "0 to 255": (bernoulli, 6, lambda x: 255 * x, "from 0 to 255; bernoulli takes values between 0 and 1: use x / 255"),
    "NaN": (lambda mean: Gaussian(0.1)(mean), 6, lambda x: x / x, "x has entries that are NaN or infinite"),
    "levels": (
        categorical(6),
        36,
        lambda x: x,
        r"categorical\(6\) takes the grey levels 0, 1/5, …, 1: x has 3 different",
    ),
}


@pytest.mark.parametrize("name", SCALES)
def test_data_on_another_scale_are_named(name, x):
    likelihood, outputs, scale, message = SCALES[name]
    model, wrong = make_vae(likelihood, outputs), scale(x)
    for method in (model.check_data, model.loss, model.loss, model.elbo, lambda x: model.importance_bound(x, 2)):
        with pytest.raises(ValueError, match=message):
            method(wrong)
    with pytest.raises(ValueError, match=message):
        fit(model, wrong, steps=1, device="cpu", precision="float32", progress=False)


def test_only_the_first_batch_of_the_loss_is_checked(x, monkeypatch):
    model, calls = make_vae(), []
    monkeypatch.setattr(vae, "check_support", lambda p, x: calls.append(len(x)))
    for rows in (3, 5, 5):
        model.loss(x[:rows])
    assert calls == [3]
    model.elbo(x)
    model.importance_bound(x[:2], 3)
    assert calls == [3, 5, 2]


# Devices without hardware


@pytest.mark.parametrize("name", IMAGES)
def test_nothing_waits_for_the_device(name):
    """A meta tensor has no values: whoever asks for one fails, and so does a mixture of devices."""
    likelihood, levels = IMAGES[name]
    model = convolutional(likelihood(), levels or 1).to("meta")
    x = torch.zeros(4, 1, 16, 16, device="meta")
    model.loss(x).backward()
    assert all(p.grad is not None for p in model.parameters())
    for bound in (*model.elbo_terms(x), model.elbo(x), model.importance_bound(x, 3)):
        assert (bound.shape, bound.device.type) == ((4,), "meta")
    for made in (model.sample(4), model.reconstruct(x), model.interpolate(x[0], x[1], 4)):
        assert (made.shape, made.device.type) == ((4, 1, 16, 16), "meta")


@pytest.mark.parametrize(("decoder", "dtype"), [(mlp(2, 6), torch.float32), (nn.Identity(), torch.float64)])
def test_a_model_of_networks_that_are_on_a_device_is_there_too(decoder, dtype):
    encoder = mlp(6, 4).to("meta", dtype)
    model = VAE(encoder, decoder.to("meta", dtype), bernoulli)
    assert (model.prior().mean.device.type, model.prior().mean.dtype) == ("meta", dtype)


# What does not fit


@pytest.mark.parametrize(
    ("encoder", "decoder", "likelihood", "options", "message"),
    [
        (mlp(6, 3), mlp(2, 6), bernoulli, {}, "encoder must end in a linear layer with 2 · latent_dim outputs"),
        (nn.Identity(), mlp(2, 6), bernoulli, {}, "name latent_dim"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"beta": -1.0}, "beta must be at least 0"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"beta": math.nan}, "beta must be at least 0"),
        (mlp(6, 4), mlp(2, 6), bernoulli, {"latent_dim": 0}, "latent_dim must be at least 1"),
        (
            mlp(6, 4),
            mlp(2, 6),
            bernoulli,
            {"latent_dim": 3},
            r"encoder gives shape \(1, 4\) .* not \(1, 6\), mean and log",
        ),
        (TwoHeads(6, 4), mlp(4, 6), bernoulli, {}, r"shape \(1, 8\) .* not \(1, 4\), .* name latent_dim"),
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
    ("encoder", "decoder", "likelihood", "message"),
    [
        (nn.Linear, mlp(2, 6), bernoulli, r"encoder must be a torch\.nn\.Module, not the class Linear"),
        (mlp(6, 4), torch.sigmoid, bernoulli, r"decoder must be a torch\.nn\.Module, not builtin"),
        (mlp(6, 4), mlp(2, 6), Gaussian, r"likelihood is the class Gaussian: call it, Gaussian\(\)"),
        (mlp(6, 4), mlp(2, 6), torch.sigmoid, "likelihood must give a torch.distributions.Distribution, not Tensor"),
        (nn.LSTM(6, 4), mlp(2, 6), bernoulli, r"encoder must return a torch\.Tensor, not tuple: join several"),
    ],
)
def test_parts_of_another_kind(encoder, decoder, likelihood, message):
    with pytest.raises(TypeError, match=message):
        VAE(encoder, decoder, likelihood, latent_dim=2).loss(torch.rand(5, 6))


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


def test_the_first_loss_takes_x_by_name():
    model, x = make_vae(), torch.rand(5, 6).double()
    torch.manual_seed(0)
    first = model.loss(x=x)
    torch.manual_seed(0)
    assert first == model.loss(x)


def test_a_likelihood_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"likelihood must be a function or module, such as bernoulli, .* not str"):
        VAE(mlp(6, 4), mlp(2, 6), "bernoulli")


# Figures


def test_each_bar_is_the_bound_and_its_gap() -> None:
    (axis,) = figures.elbo_bars([0.5, 2.0], [torch.tensor(3.0), torch.tensor(1.0)], torch.tensor(4.0)).axes
    bounds, gaps = axis.containers
    assert [bar.get_height() for bar in bounds] == [3, 1]
    assert [(bar.get_y(), bar.get_height()) for bar in gaps] == [(3, 1), (1, 3)]
    plt.close(axis.figure)


def test_each_path_leads_from_the_noise_to_the_sample() -> None:
    eps = torch.tensor([-1.0, 0.5])
    figure = figures.reparameterised(eps, [(1.0, 0.5), (2.0, 3.0)])
    for axis, (m, s) in zip(figure.axes, [(1.0, 0.5), (2.0, 3.0)], strict=True):
        ends = torch.tensor(
            [list(line.get_xdata()) for line in axis.lines if list(line.get_ydata()) == [1.6, 0]]
        ).float()
        torch.testing.assert_close(ends, torch.stack([eps, m + s * eps], 1))
    plt.close(figure)


def test_the_scheme_of_a_step_stays_inside_its_frame() -> None:
    (axis,) = figures.training_blocks().axes
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for patch in axis.patches:
        x, y = patch.get_patch_transform().transform_path(patch.get_path()).vertices.T
        assert left <= x.min() < x.max() <= right
        assert bottom <= y.min() < y.max() <= top
    plt.close(axis.figure)
