"""Chapter 3: autoencoders, which pass x through a narrow code z and learn to give it back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion.checks import check_alike, check_int, check_module, check_tensor, first_checked
from companion.devices import evaluation
from companion.nets import mlp, run


class Autoencoder(nn.Module):
    """Two networks, z = f(x) and x̂ = g(z), that minimise |x − g(f(x))|², (3.1).

    `encode`, `decode`, `loss` and the model itself run in the mode it is in; `reconstruct` and `interpolate` run in
    evaluation mode.

    Args:
        encoder: any module that maps x, shape (n, …), to z, shape (n, d_z).
        decoder: any module that maps z back to x̂, of the shape of x.

    Raises:
        TypeError: if encoder or decoder is no module; in the methods, if x is neither float32 nor float64, or not of
            the encoder's type.
        ValueError: in the methods, if encoder, decoder and data do not fit together.
    """

    checked = False

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = check_module("encoder", encoder)
        self.decoder = check_module("decoder", decoder)

    def check_data(self, x: Tensor) -> None:
        """Let data pass that the model can be trained on.

        Raises:
            TypeError: if x is neither float32 nor float64.
            ValueError: if x has not the shape (n, …), or has entries that are NaN or infinite.
        """
        check_tensor("x", x, ndim=None, finite=True)

    def encode(self, x: Tensor) -> Tensor:
        """The code z = f(x), shape (n, d_z)."""
        check_alike("x", check_tensor("x", x, ndim=None), next(self.encoder.parameters(), x), "the model")
        return run("encoder", self.encoder, x)

    def decode(self, z: Tensor) -> Tensor:
        """x̂ = g(z), shape (n, …)."""
        check_alike("z", z, next(self.decoder.parameters(), z), "the model")
        return run("decoder", self.decoder, z)

    def forward(self, x: Tensor) -> Tensor:
        """x̂ = g(f(x)), of the shape of x."""
        return self.decode(self.encode(x))

    @first_checked
    def loss(self, x: Tensor) -> Tensor:
        """Mean over the rows of |x − g(f(x))|², (3.1), the squared error summed over the pixels.

        Raises:
            ValueError: if the decoder gives x̂ another shape than that of x.
        """
        x_hat = self(x)
        if x_hat.shape != x.shape:
            outputs = f"have {x.shape[1]} outputs" if x.ndim == 2 else f"give shape (n, {str(tuple(x.shape[1:]))[1:]}"
            raise ValueError(
                f"decoder gives shape {tuple(x_hat.shape)} for x of shape {tuple(x.shape)}: its last layer must "
                f"{outputs}"
            )
        return (x - x_hat).square().flatten(1).sum(1).mean()

    @evaluation
    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ = g(f(x)), of the shape of x."""
        return self(x)

    @evaluation
    def interpolate(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Decode n codes, evenly spaced on the line from f(a) to f(b); a and b are one x each, the result n of them."""
        return self.decode(line(*self.encode(torch.stack([a, b])), n))


def linear_autoencoder(d: int, latent_dim: int, *, bias: bool = True) -> Autoencoder:
    """The linear pair z = Wx + b, x̂ = Vz + c; at its best V spans the principal subspace, (3.5).

    Baldi & Hornik, "Neural Networks and Principal Component Analysis" (1989).

    Args:
        d: number of pixels.
        latent_dim: size of the code, d_z.
        bias: whether to learn b and c; without them x should be centred.
    """
    return Autoencoder(nn.Linear(d, latent_dim, bias=bias), nn.Linear(latent_dim, d, bias=bias))


def deep_autoencoder(*sizes: int, activation: type[nn.Module] = nn.SiLU) -> Autoencoder:
    """A multilayer perceptron with layers of these sizes, d, …, d_z, and its mirror image d_z, …, d."""
    return Autoencoder(mlp(*sizes, activation=activation), mlp(*sizes[::-1], activation=activation))


def line(start: Tensor, end: Tensor, n: int) -> Tensor:
    """n points from start to end, evenly spaced along a new first axis."""
    t = torch.linspace(0, 1, check_int("n", n), dtype=start.dtype, device=start.device)
    return torch.lerp(start, end, t.reshape(-1, *[1] * start.ndim))
