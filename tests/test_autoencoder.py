"""`companion.autoencoder` against principal component analysis: scikit-learn and the eigenvalues of the covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from torch import nn

from companion import data
from companion.autoencoder import Autoencoder, deep_autoencoder, linear_autoencoder
from companion.training import fit


def principal(x, q):
    """scikit-learn's mean, principal directions (q, d), and the eigenvalues of the covariance that q leaves out."""
    pca = PCA(svd_solver="full").fit(x.double().cpu().numpy())
    discarded = pca.explained_variance_[q:] * (len(x) - 1) / len(x)
    return torch.tensor(pca.mean_), torch.tensor(pca.components_[:q]), discarded


@pytest.mark.slow
def test_trained_linear_autoencoder_finds_the_principal_subspace(device):
    q, x = 3, data.digits()[0].to(device)
    model = linear_autoencoder(64, q).to(device)
    options = {"batch_size": 256, "betas": (0.9, 0.99), "schedule": "linear", "precision": "float32"}
    fit(model, x, steps=2000, lr=3e-2, progress=False, **options)
    _, components, discarded = principal(x, q)
    varies = (x.std(0) > 0).cpu()  # the encoder is free on pixels that are always 0
    for span in (model.decoder.weight, model.encoder.weight.T):
        angles = subspace_angles(span.detach().cpu().double()[varies].numpy(), components.T[varies].numpy())
        assert angles.max() < 1e-2
    loss = model.loss(x).item()
    assert discarded.sum() <= loss * (1 + 1e-5)
    assert loss < discarded.sum() * 1.0001


def test_loss_at_the_optimum_is_the_sum_of_the_discarded_eigenvalues(device):
    q, x = 5, data.digits()[0].double().to(device)
    mean, V, discarded = principal(x, q)
    mean, V = mean.to(device), V.to(device)
    A = torch.randn(q, q, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    model = linear_autoencoder(64, q).double().to(device)
    with torch.no_grad():  # any invertible A between the two maps: the code's axes are free
        model.encoder.weight.copy_(A @ V)
        model.encoder.bias.copy_(-A @ V @ mean)
        model.decoder.weight.copy_(V.T @ torch.linalg.inv(A))
        model.decoder.bias.copy_(mean)
    torch.testing.assert_close(model.loss(x).item(), discarded.sum())
    gradients = torch.autograd.grad(model.loss(x), list(model.parameters()))
    assert max(g.abs().max() for g in gradients) < 1e-10


def test_no_linear_autoencoder_does_better_than_the_discarded_eigenvalues():
    x = data.digits()[0].double()
    *_, discarded = principal(x, 2)
    for seed in range(20):
        torch.manual_seed(seed)
        assert linear_autoencoder(64, 2).double().loss(x) > discarded.sum()


def test_deep_autoencoder_beats_the_best_linear_one():
    x, q = data.digits()[0], 2
    model = deep_autoencoder(64, 64, q)
    fit(model, x, steps=800, lr=5e-3, schedule="cosine", precision="float32", progress=False)
    *_, discarded = principal(x, q)
    assert model.loss(x).item() < 0.9 * discarded.sum()


def test_loss_is_the_mean_over_rows_of_the_squared_distance(device):
    model, x = linear_autoencoder(6, 2).to(device), torch.randn(5, 6, device=device)
    expected = np.mean([((model.reconstruct(x)[i] - x[i]) ** 2).sum().item() for i in range(5)])
    torch.testing.assert_close(model.loss(x).item(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_and_reconstructions(device, dtype):
    model = deep_autoencoder(6, 5, 2, activation=nn.Tanh).to(device, dtype)
    x = torch.randn(4, 6, device=device, dtype=dtype)
    assert model.encode(x).shape == (4, 2)
    assert model.reconstruct(x).dtype == dtype
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)))
    assert [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)] == [5, 2, 5, 6]


def test_both_halves_of_the_deep_autoencoder_bend_alike() -> None:
    model = deep_autoencoder(6, 4, 2, activation=nn.Tanh)
    for half in (model.encoder, model.decoder):
        assert [type(layer) for layer in half] == [nn.Linear, nn.Tanh, nn.Linear]


def test_interpolation_runs_straight_from_one_code_to_the_other(device):
    model, (a, b) = deep_autoencoder(6, 5, 2).to(device), torch.randn(2, 6, device=device)
    path = model.interpolate(a, b, 5)
    torch.testing.assert_close(path[[0, -1]], model.reconstruct(torch.stack([a, b])))
    middle = model.encode(torch.stack([a, b])).mean(0, keepdim=True)
    torch.testing.assert_close(path[2:3], model.decode(middle))


def convolutional():
    """For images 1×4×4, with a code of shape (2, 2, 2) and batch norm."""
    return Autoencoder(
        nn.Sequential(nn.Conv2d(1, 2, 2, 2), nn.BatchNorm2d(2)),
        nn.Sequential(nn.SiLU(), nn.ConvTranspose2d(2, 1, 2, 2)),
    )


def test_images_give_what_the_same_networks_give_on_rows():
    model, x = convolutional(), torch.randn(6, 1, 4, 4)
    flat = Autoencoder(
        nn.Sequential(nn.Unflatten(1, (1, 4, 4)), model.encoder), nn.Sequential(model.decoder, nn.Flatten())
    )
    torch.testing.assert_close(model.loss(x), flat.loss(x.flatten(1)))
    torch.testing.assert_close(model.loss(x), sum((model(x)[i] - x[i]).square().sum() for i in range(6)) / 6)
    history = fit(model, x, steps=20, lr=1e-2, precision="float32", device="cpu", progress=False).losses["loss"]
    assert history[-1] < history[0]
    torch.testing.assert_close(model.reconstruct(x).flatten(1), flat.reconstruct(x.flatten(1)))
    path = model.interpolate(x[0], x[1], 5)
    torch.testing.assert_close(path[[0, -1]], model.reconstruct(x[:2]))
    torch.testing.assert_close(path.flatten(1), flat.interpolate(x[0].flatten(), x[1].flatten(), 5))


def test_reconstructions_run_in_evaluation_mode_and_leave_the_modes():
    model, x = convolutional(), 3 * torch.randn(6, 1, 4, 4) + 1
    model.decoder.eval()
    modes, norm = [module.training for module in model.modules()], model.encoder[1]
    found = model.reconstruct(x), model.interpolate(x[0], x[1], 3)
    assert norm.num_batches_tracked == 0
    assert [module.training for module in model.modules()] == modes
    assert not torch.equal(model(x), found[0])
    assert norm.num_batches_tracked == 1
    norm.reset_running_stats()
    model.eval()
    for a, b in zip(found, (model(x), model.interpolate(x[0], x[1], 3)), strict=True):
        assert torch.equal(a, b)


def test_only_the_first_batch_is_checked():
    model, x = linear_autoencoder(6, 2), torch.randn(4, 6)
    assert model.loss(x).isfinite()
    assert model.loss(x / 0).isnan()


def test_nothing_waits_for_the_device():
    model, x = convolutional().to("meta"), torch.zeros(4, 1, 4, 4, device="meta")
    model.loss(x).backward()
    assert model.reconstruct(x).shape == model.interpolate(x[0], x[1], 4).shape == x.shape


def test_without_bias_zero_stays_zero():
    model = linear_autoencoder(6, 2, bias=False)
    assert not model.reconstruct(torch.zeros(1, 6)).any()
    assert len(list(model.parameters())) == 2


def test_autocast_returns_the_type_of_the_data(device):
    model, x = deep_autoencoder(6, 5, 2).to(device), torch.randn(4, 6, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        assert model.encode(x).dtype == model.reconstruct(x).dtype == model.loss(x).dtype == torch.float32


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (nn.Linear(5, 2), nn.Linear(2, 6), "encoder does not take torch.float32 of shape"),
        (nn.Linear(6, 2), nn.Linear(3, 6), "decoder does not take torch.float32 of shape"),
        (nn.Linear(6, 2), nn.Linear(2, 5), "its last layer must have 6 outputs"),
        (nn.Linear(6, 2), nn.Linear(2, 1), "its last layer must have 6 outputs"),  # would broadcast
    ],
)
def test_networks_that_do_not_fit(encoder, decoder, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(encoder, decoder).loss(torch.randn(4, 6))


def test_an_image_that_does_not_fit_is_named_by_its_shape():
    model = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 3, 2)))
    with pytest.raises(ValueError, match=r"its last layer must give shape \(n, 1, 2, 3\)"):
        model.loss(torch.zeros(4, 1, 2, 3))


@pytest.mark.parametrize(
    ("encoder", "decoder", "error", "message"),
    [
        (nn.Linear, nn.Linear(2, 6), TypeError, r"encoder must be a torch\.nn\.Module, not the class Linear"),
        (nn.LSTM(6, 2), nn.Linear(2, 6), TypeError, r"encoder must return a torch\.Tensor, not tuple"),
        (nn.Flatten(0), nn.Linear(24, 6), ValueError, r"encoder gives shape \(24,\) for 4 rows"),
    ],
)
def test_networks_of_another_kind(encoder, decoder, error, message):
    with pytest.raises(error, match=message):
        Autoencoder(encoder, decoder).loss(torch.randn(4, 6))


def test_a_lack_of_memory_is_not_taken_for_a_wrong_shape():
    def full(x):
        raise torch.OutOfMemoryError("full")

    model = linear_autoencoder(6, 2)
    model.encoder.forward = full
    with pytest.raises(torch.OutOfMemoryError, match=r"^full$"):
        model.loss(torch.zeros(4, 6))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(4, 6, dtype=torch.long), TypeError, "x must be float32 or float64"),
        (torch.zeros(6), ValueError, "x must have shape"),
        (torch.zeros(0, 6), ValueError, "x is empty"),
        (np.zeros((4, 6)), TypeError, r"x must be a torch\.Tensor"),
        (torch.zeros(4, 6, dtype=torch.float64), TypeError, "x is torch.float64, the model torch.float32"),
        (torch.full((4, 6), torch.nan), ValueError, "x has entries that are NaN or infinite"),
    ],
)
def test_bad_data(x, error, message):
    with pytest.raises(error, match=message):
        linear_autoencoder(6, 2).loss(x)


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (2.5, TypeError)])
def test_bad_number_of_steps(n, error):
    with pytest.raises(error, match="n must be"):
        linear_autoencoder(6, 2).interpolate(torch.zeros(6), torch.zeros(6), n)


def test_codes_must_be_tensors():
    with pytest.raises(TypeError, match=r"z must be a torch.Tensor, not ndarray: use torch.as_tensor"):
        Autoencoder(nn.Linear(6, 2), nn.Linear(2, 6)).decode(torch.zeros(3, 2).numpy())
