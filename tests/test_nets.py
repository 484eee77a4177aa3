"""`companion.nets` against networks written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.checks import check_labels
from companion.nets import FourierFeatures, ResidualMLP, UNet, conv_decoder, conv_encoder, mlp


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


def knowing(labels: tuple[int, ...] = (3, 5)) -> ResidualMLP:
    """A network whose last layer is no longer zero."""
    net = ResidualMLP(4, 16, 2, labels)
    nn.init.normal_(net.outward.weight)
    return net


def test_a_residual_mlp_by_hand(device):
    net = knowing().to(device)
    x, t, labels = torch.randn(6, 4, device=device), torch.rand(6, device=device), torch.tensor([[2, -1]] * 6)
    weights = {name: p.detach() for name, p in net.state_dict().items()}

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()

    angle = t[:, None] * weights["time.0.B"]
    condition = linear("time.1", torch.cat([t[:, None], angle.sin(), angle.cos()], 1))
    condition = condition + weights["labels.0.weight"][3] + weights["labels.1.weight"][0]
    condition = condition * condition.sigmoid()
    h = linear("inward", x)
    for i in range(2):
        hidden = linear(f"blocks.{i}.first", normed(h)) + linear(f"blocks.{i}.condition", condition)
        h = h + linear(f"blocks.{i}.second", hidden * hidden.sigmoid())
    torch.testing.assert_close(net(x, t, labels.to(device)), linear("outward", normed(h)))


def test_a_residual_mlp_starts_at_zero_and_knows_time_and_labels():
    x, t, labels = torch.randn(6, 4), torch.rand(6), torch.randint(-1, 3, (6, 2))
    assert torch.equal(ResidualMLP(4, 16, 2)(x, t), torch.zeros(6, 4))
    net = knowing()
    none = torch.full((6, 2), -1)
    assert torch.equal(net(x, t), net(x, t, none))
    for other in (net(x, t / 2), net(x, t, none.index_fill(1, torch.tensor(0), 1)), net(x, t, none + 1)):
        assert (net(x, t) != other).any(1).all()
    assert knowing(())(x, t).shape == (6, 4)
    with pytest.raises(ValueError, match=r"labels must have shape \(6, 2\), .* not \(6, 3\)"):
        net(x, t, torch.zeros(6, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels must have shape \(6, 0\)"):
        knowing(())(x, t, labels)
    with pytest.raises(IndexError):
        net(x, t, torch.full((6, 2), 5))


@pytest.mark.parametrize("name", ["dim", "width", "depth", "labels"])
def test_bad_residual_mlps_are_named(name):
    sizes = {"dim": 4, "width": 16, "depth": 2, "labels": (3,)} | {name: (0,) if name == "labels" else 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        ResidualMLP(**sizes)


SHAPES = [(1, 16, 16), (1, 28, 28), (3, 8, 12)]


@pytest.mark.parametrize("shape", SHAPES)
def test_encoder_and_decoder_are_convolutions_between_images_and_rows(shape, device):
    encoder, decoder = conv_encoder(shape, 6, 8).to(device), conv_decoder(6, shape, 8).to(device)
    x = torch.randn(4, *shape, device=device)
    z = encoder(x)
    assert z.shape == (4, 6)
    assert decoder(z).shape == x.shape
    decoder(z).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for net in (encoder, decoder) for p in net.parameters())
    kinds = [[type(layer) for layer in net if list(layer.parameters())] for net in (encoder, decoder)]
    assert kinds == [[nn.Conv2d, nn.Conv2d, nn.Linear], [nn.Linear, nn.ConvTranspose2d, nn.ConvTranspose2d]]


def test_encoder_and_decoder_see_where_in_the_image_something_is():
    """One pixel changes what lies within two convolutions of four pixels with stride two: a square of ten."""
    encoder, decoder = conv_encoder((1, 16, 16), 6, 8), conv_decoder(6, (1, 16, 16), 8)
    x = torch.zeros(1, 1, 16, 16)
    touched = (encoder[:4](x.index_fill(3, torch.tensor(0), 1.0)) != encoder[:4](x)).any(1)[0]
    assert touched.any(0).tolist() == [True, False, False, False]
    h = torch.zeros(1, 16, 4, 4)
    moved = decoder[3:](h.index_fill(3, torch.tensor(0), 1.0)) != decoder[3:](h)
    assert moved.any(2)[0, 0].nonzero().max() < 8


@pytest.mark.parametrize("shape", SHAPES)
def test_a_u_net_starts_at_zero_and_every_weight_counts(shape, device):
    net = UNet(shape, 8, (3, 5)).to(device)
    x, t, labels = torch.randn(4, *shape, device=device), torch.rand(4, device=device), torch.tensor([[0, 1]] * 4)
    assert torch.equal(net(x, t), torch.zeros_like(x))
    nn.init.normal_(net.outward[-1].weight)
    y = net(x, t, labels.to(device))
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    for embedding, label in zip(net.labels, (0, 1), strict=True):
        used = embedding.weight.grad.abs().sum(1) > 0
        assert used.nonzero().flatten().tolist() == [label + 1]


def test_a_u_net_knows_time_and_labels_and_keeps_images_apart():
    net, x, t = UNet((1, 16, 16), 8, (3, 5)), torch.randn(4, 1, 16, 16), torch.rand(4)
    nn.init.normal_(net.outward[-1].weight)
    none = torch.full((4, 2), -1)
    plain = net(x, t)
    assert torch.equal(plain, net(x, t, none))
    for other in (net(x, t / 2), net(x, t, none.index_fill(1, torch.tensor(0), 1)), net(x, t, none + 1)):
        assert (plain != other).flatten(1).any(1).all()
    changed = net(x.index_fill(0, torch.tensor(1), 0.0), t.index_fill(0, torch.tensor(1), 0.5))
    assert (changed != plain).flatten(1).any(1).tolist() == [False, True, False, False]
    assert UNet((1, 16, 16), 8)(x, t).shape == x.shape
    with pytest.raises(ValueError, match=r"labels must have shape \(4, 2\), .* not \(4, 3\)"):
        net(x, t, torch.zeros(4, 3, dtype=torch.long))


def test_a_u_net_sees_all_of_an_image_and_its_details():
    """Far pixels by its quarter image, near ones by what the full image keeps: a corner's change is strongest there."""
    torch.manual_seed(1)
    net, x, t = UNet((1, 16, 16), 8), torch.randn(1, 1, 16, 16), torch.ones(1)
    nn.init.normal_(net.outward[-1].weight)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(net(x, t)[0, 0, 0, 0], x)
    slope = slope[0, 0].abs()
    assert (slope > 0).all()
    assert slope[:3, :3].mean() > 3 * slope[8:, 8:].mean()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: UNet((1, 16, 18)), ValueError, r"last two multiples of 4, got \(1, 16, 18\)"),
        (lambda: UNet((16, 16)), ValueError, r"shape must be channels, height and width"),
        (lambda: UNet((1, 16, 16), 12), ValueError, "width must be a multiple of 8, got 12"),
        (lambda: UNet((1, 16, 16), 0), ValueError, "width must be at least 1"),
        (lambda: UNet((1, 16, 16), 8, (0,)), ValueError, "labels must be at least 1"),
        (lambda: conv_encoder((1, 30, 28), 6), ValueError, r"last two multiples of 4, got \(1, 30, 28\)"),
        (lambda: conv_encoder((0, 28, 28), 6), ValueError, "shape must be at least 1"),
        (lambda: conv_encoder((1, 28, 28), 0), ValueError, "outputs must be at least 1"),
        (lambda: conv_encoder((1, 28, 28), 6, 0), ValueError, "width must be at least 1"),
        (lambda: conv_decoder(6.0, (1, 28, 28)), TypeError, "inputs must be an int"),
        (lambda: conv_decoder(6, (1, 28, 28.0)), TypeError, "shape must be an int"),
    ],
)
def test_bad_convolutional_networks_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_labels_that_pass():
    each = torch.arange(10).view(5, 2) % 3
    assert torch.equal(check_labels(each, 5, (3, 3)), each)
    assert check_labels([2, -1], 5, (3, 4)).tolist() == [2, -1]
    assert check_labels(torch.tensor([[2, -1]], dtype=torch.int8), 5).dtype == torch.int64
    assert check_labels(torch.empty(5, 2, dtype=torch.long, device="meta"), 5, (3, 3), wait=True).is_meta
    with pytest.raises(ValueError, match="labels has 3 in column 1, where they are from 0 to 2, or −1 for any"):
        check_labels(each.index_fill(1, torch.tensor(1), 3), 5, (3, 3))
