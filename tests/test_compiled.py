"""`fit(compiled=True)` against `fit`, with every family; on a CPU its C++ compiler translates only one of them."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn

from companion.autoencoder import Autoencoder
from companion.diffusion import Diffusion
from companion.gan import GAN
from companion.likelihoods import Gaussian
from companion.nets import ResidualMLP, mlp
from companion.training import History, fit
from companion.vae import VAE

FAMILIES = {
    "autoencoder": lambda: Autoencoder(mlp(2, 8, 3), mlp(3, 8, 2)),
    "VAE": lambda: VAE(mlp(2, 8, 4), mlp(2, 8, 2), Gaussian()),
    "GAN": lambda: GAN(mlp(2, 8, 2), mlp(2, 8, 1), 2, "non-saturating", penalty=0),
    "GAN with a penalty": lambda: GAN(mlp(2, 8, 2), mlp(2, 8, 1), 2, "relativistic", penalty=0.1),
    "diffusion with labels": lambda: Diffusion(ResidualMLP(2, 8, 1, labels=(3,)), 2, "cosine"),
}


def losses(model: nn.Module, device: torch.device, **options: object) -> torch.Tensor:
    x, labels = torch.randn(96, 2, generator=torch.Generator().manual_seed(1)), torch.arange(96)[:, None] % 3
    data = (x, labels) if isinstance(model, Diffusion) else (x,)
    torch.manual_seed(0)
    history: History = fit(
        model, *data, steps=8, batch_size=32, lr=1e-2, device=device, precision="float32", progress=False, **options
    )
    return torch.stack(list(history.losses.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_losses_are_those_of_the_model(name, device, monkeypatch):
    if device.type == "cpu":  # all but the compiler itself, which takes 20 seconds a loss
        compiler = torch.compile
        monkeypatch.setattr(torch, "compile", lambda loss, options: compiler(loss, backend="aot_eager"))
    torch._dynamo.reset()
    torch.manual_seed(3)
    model = FAMILIES[name]()
    plain = losses(copy.deepcopy(model), device)
    torch._dynamo.utils.counters.clear()
    compiled = losses(model, device, compiled=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
    assert (plain[:, 0] - plain[:, -1]).abs().min() > 1e-3


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="needs a C++ compiler")
def test_the_compiler_keeps_the_noise(device):
    torch._dynamo.reset()
    torch.manual_seed(3)
    model = FAMILIES["VAE"]()
    plain = losses(copy.deepcopy(model), device, seed=1)
    torch.testing.assert_close(losses(copy.deepcopy(model), device, seed=1, compiled=True), plain)
    assert not torch.allclose(losses(model, device, seed=2), plain, rtol=1e-3)
