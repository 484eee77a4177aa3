"""`companion.nets` against networks written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.nets import FourierFeatures, mlp


@pytest.mark.parametrize(("activation", "function"), [(nn.SiLU, torch.nn.functional.silu), (nn.Tanh, torch.tanh)])
def test_an_mlp_is_linear_maps_with_an_activation_between(device, activation, function):
    net = mlp(3, 5, 4, 2, activation=activation).to(device)
    x = torch.randn(7, 3, device=device)
    h = x
    for i, (W, b) in enumerate(zip(*[iter(net.parameters())] * 2, strict=True)):
        h = h @ W.T + b if i == 0 else function(h) @ W.T + b
    torch.testing.assert_close(net(x), h)
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 3), (5,), (4, 5), (4,), (2, 4), (2,)]


def test_two_sizes_are_one_linear_map():
    x, net = torch.randn(7, 3), mlp(3, 2)
    torch.testing.assert_close(net(x) - net(0 * x), x @ net[0].weight.T)
    assert [type(layer) for layer in mlp(3, 8, 2)] == [nn.Linear, nn.SiLU, nn.Linear]


@pytest.mark.parametrize(
    ("error", "message", "sizes"),
    [
        (ValueError, "at least an input and an output", (3,)),
        (ValueError, "at least an input and an output", ()),
        (ValueError, "sizes must be at least 1, got 0", (3, 0, 2)),
        (TypeError, "sizes must be an int, not list", ([3, 2], 2)),
    ],
)
def test_bad_sizes_are_named(error, message, sizes):
    with pytest.raises(error, match=message):
        mlp(*sizes)


def test_fourier_features_see_only_differences(device):
    """Sines and cosines of a point and a shifted one have the product Σ cos(Bᵀδ): near count · exp(−scale²|δ|²/2)."""
    count, scale = 20_000, 3.0
    net = FourierFeatures(2, count, scale).to(device)
    x, delta = torch.randn(5, 2, device=device), torch.tensor([0.3, -0.2], device=device)
    features, shifted = net(x), net(x + delta)
    assert features.shape == (5, 2 + 2 * count)
    assert torch.equal(features[:, :2], x)
    product = (features[:, 2:] * shifted[:, 2:]).sum(1) / count
    kernel = torch.exp(-(scale**2) * delta.square().sum() / 2)
    assert (product - kernel).abs().max() < 4 / count**0.5
    assert not list(net.parameters())
    assert "B" in net.state_dict()


@pytest.mark.parametrize(("name", "arguments"), [("dim", (0, 4, 1.0)), ("count", (2, 0, 1.0)), ("scale", (2, 4, 0.0))])
def test_bad_fourier_features_are_named(name, arguments):
    with pytest.raises(ValueError, match=name):
        FourierFeatures(*arguments)
