"""A GPU without a GPU: on torch's meta device losses, samplers and bounds run only if no step mixes devices or waits.

What has no numbers cannot be looked at: `.item()`, `bool(tensor)` and a tensor on another device raise there. Data are
checked once, on purpose, and those checks let meta tensors pass. PPCA looks for missing entries first, so of it only
sampling is here.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from companion.autoencoder import Autoencoder
from companion.diffusion import DDIM, DDPM, Diffusion, Heun
from companion.gan import GAN, LOSSES, PLACES
from companion.likelihoods import Gaussian, bernoulli, categorical
from companion.nets import ResidualMLP, UNet, conv_decoder, conv_encoder, mlp
from companion.ppca import PPCA
from companion.vae import VAE

N, D, Q, SHAPE = 6, 16, 3, (1, 8, 8)


def rows(*shape: int) -> torch.Tensor:
    return torch.empty(N, *(shape or (D,)), device="meta")


def descend(loss: torch.Tensor) -> None:
    assert loss.is_meta
    assert loss.shape == ()
    loss.backward()


@pytest.mark.parametrize(
    ("likelihood", "outputs"),
    [(bernoulli, D), (Gaussian(), D), (categorical(4), 4 * D)],
    ids=["bernoulli", "gaussian", "categorical"],
)
def test_vae(likelihood, outputs: int) -> None:
    model, x = VAE(mlp(D, 8, 2 * Q), mlp(Q, 8, outputs), likelihood).to("meta"), rows()
    descend(model.loss(x))
    assert all(term.is_meta for term in (model.elbo(x), *model.elbo_terms(x), model.importance_bound(x, 3)))
    assert all(made.is_meta for made in (model.sample(N), model.reconstruct(x), model.interpolate(x[0], x[1], 4)))


def test_vae_and_autoencoder_of_images() -> None:
    x = rows(*SHAPE)
    model = VAE(conv_encoder(SHAPE, 2 * Q, 8), conv_decoder(Q, SHAPE, 8), bernoulli).to("meta")
    descend(model.loss(x))
    assert model.importance_bound(x, 2).shape == (N,)
    assert model.sample(N).shape == x.shape
    model = Autoencoder(conv_encoder(SHAPE, Q, 8), conv_decoder(Q, SHAPE, 8)).to("meta")
    descend(model.loss(x))
    assert model.reconstruct(x).is_meta


@pytest.mark.parametrize(("loss", "at"), list(itertools.product(LOSSES, PLACES)))
def test_gan(loss: str, at: str) -> None:
    model = GAN(mlp(Q, 8, D), mlp(D, 8, 1), Q, loss, penalty=0.5, at=at).to("meta")
    descend(model.discriminator_loss(rows()))
    descend(model.generator_loss(rows()))
    assert model.sample(N).is_meta
    assert model.discriminate(rows()).is_meta


class Labelled(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.embedding, self.net = nn.Embedding(4, inputs), mlp(inputs, 8, outputs)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.net(x + self.embedding(labels).sum(1))


def test_conditional_gan() -> None:
    labels = torch.empty(N, 1, dtype=torch.long, device="meta")
    model = GAN(Labelled(Q, D), Labelled(D, 1), Q).to("meta")
    descend(model.discriminator_loss(rows(), labels))
    descend(model.generator_loss(rows(), labels))
    assert model.sample(N, labels).is_meta


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["simple", "elbo"])
@pytest.mark.parametrize("predict", ["noise", "data", "velocity"])
@pytest.mark.parametrize("levels", [None, 5])
def test_diffusion(predict: str, weighting: str, levels: int | None) -> None:
    labels = torch.empty(N, 2, dtype=torch.long, device="meta")
    net = ResidualMLP(D, 8, 1, labels=(3, 4))
    model = Diffusion(net, D, "cosine", predict, weighting=weighting, levels=levels).to("meta")
    descend(model.loss(rows(), labels))
    assert model.elbo(rows(), 4).is_meta
    for sampler in (DDPM(3), DDIM(3), DDIM(3, 0.5), Heun(3), Heun(3, clip=(-1, 1))):
        assert model.sample(N, sampler, labels, 2.0).is_meta
    t = torch.empty(N, device="meta")
    assert all(field.is_meta for field in (model.score(rows(), t), model.velocity(rows(), t)))


def test_diffusion_of_images() -> None:
    model = Diffusion(UNet(SHAPE, 8), SHAPE).to("meta")
    descend(model.loss(rows(*SHAPE)))
    assert model.elbo(rows(*SHAPE), 3).shape == (N,)
    assert model.sample(N, Heun(2)).shape == (N, *SHAPE)


def test_ppca() -> None:
    model = PPCA(torch.randn(D, Q), torch.zeros(D), 0.1).to("meta")
    assert model.sample(N).shape == (N, D)


def test_waiting_for_the_host_is_noticed() -> None:
    class Waits(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z * 2 if z.sum() > 0 else z

    with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
        Autoencoder(nn.Linear(D, D), Waits()).to("meta").loss(rows())
