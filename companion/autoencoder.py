"""Chapter 3: autoencoders, which pass x through a narrow code z and learn to give it back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion.nets import mlp


class Autoencoder(nn.Module):
    """Two networks, z = f(x) and x̂ = g(z), that minimise |x − g(f(x))|².

    Args:
        encoder: maps x, shape (n, d), to z, shape (n, q).
        decoder: maps z back to x̂, shape (n, d).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """The code z = f(x), shape (n, q)."""
        return self.encoder(x).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """x̂ = g(z), shape (n, d)."""
        return self.decoder(z).to(z.dtype)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ = g(f(x)), shape (n, d)."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor) -> Tensor:
        """Mean over the rows of |x − g(f(x))|², the squared error summed over the pixels.

        Raises:
            ValueError: if the decoder returns another shape than that of x.
        """
        x_hat = self.reconstruct(x)
        if x_hat.shape != x.shape:
            raise ValueError(
                f"decoder gives shape {tuple(x_hat.shape)} for x of shape {tuple(x.shape)}: "
                f"its last layer must have {x.shape[-1]} outputs"
            )
        return (x - x_hat).square().sum(-1).mean()

    def interpolate(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Decode n codes evenly spaced on the straight line from f(a) to f(b); a and b of shape (d,), result (n, d)."""
        start, end = self.encode(torch.stack([a, b]))
        return self.decode(torch.lerp(start, end, torch.linspace(0, 1, n).to(start)[:, None]))


def linear_autoencoder(d: int, q: int, *, bias: bool = True) -> Autoencoder:
    """The linear pair z = Wx + b, x̂ = Vz + c, whose optimum spans the principal subspace (Baldi & Hornik 1989).

    Args:
        d: number of pixels.
        q: size of the code.
        bias: learn b and c; without them x must be centred.
    """
    return Autoencoder(nn.Linear(d, q, bias=bias), nn.Linear(q, d, bias=bias))


def deep_autoencoder(*sizes: int, activation: type[nn.Module] = nn.SiLU) -> Autoencoder:
    """A multilayer perceptron d, …, q and its mirror image q, …, d; the layers' widths are `sizes` = (d, …, q)."""
    return Autoencoder(mlp(*sizes, activation=activation), mlp(*sizes[::-1], activation=activation))
