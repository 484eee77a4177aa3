"""`companion.nets` against networks written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.nets import mlp


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
