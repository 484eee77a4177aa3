"""Chapter 3: autoencoders, which pass x through a narrow code z and learn to give it back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion.checks import check_int, check_tensor
from companion.nets import mlp


class Autoencoder(nn.Module):
    """Two networks, z = f(x) and x̂ = g(z), that minimise |x − g(f(x))|², (3.1).

    Args:
        encoder: any module that maps x, shape (n, d), to z, shape (n, q).
        decoder: any module that maps z back to x̂, shape (n, d).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """The code z = f(x), shape (n, q)."""
        return run("encoder", self.encoder, check_tensor("x", x))

    def decode(self, z: Tensor) -> Tensor:
        """x̂ = g(z), shape (n, d)."""
        return run("decoder", self.decoder, z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ = g(f(x)), shape (n, d)."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor) -> Tensor:
        """Mean over the rows of |x − g(f(x))|², (3.1), the squared error summed over the pixels.

        Raises:
            ValueError: if the decoder gives x̂ another shape than that of x.
        """
        x_hat = self.reconstruct(x)
        if x_hat.shape != x.shape:
            raise ValueError(
                f"decoder gives shape {tuple(x_hat.shape)} for x of shape {tuple(x.shape)}: "
                f"its last layer must have {x.shape[1]} outputs"
            )
        return (x - x_hat).square().sum(1).mean()

    def interpolate(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Decode n codes, evenly spaced on the line from f(a) to f(b); a and b have shape (d,), the result (n, d)."""
        return self.decode(line(*self.encode(torch.stack([a, b])), n))


def linear_autoencoder(d: int, q: int, *, bias: bool = True) -> Autoencoder:
    """The linear pair z = Wx + b, x̂ = Vz + c; at its best V spans the principal subspace, (3.5).

    Baldi & Hornik, "Neural Networks and Principal Component Analysis" (1989).

    Args:
        d: number of pixels.
        q: size of the code.
        bias: whether to learn b and c; without them x should be centred.
    """
    return Autoencoder(nn.Linear(d, q, bias=bias), nn.Linear(q, d, bias=bias))


def deep_autoencoder(*sizes: int, activation: type[nn.Module] = nn.SiLU) -> Autoencoder:
    """A multilayer perceptron with layers of these sizes, d, …, q, and its mirror image q, …, d."""
    return Autoencoder(mlp(*sizes, activation=activation), mlp(*sizes[::-1], activation=activation))


def run(name: str, network: nn.Module, x: Tensor) -> Tensor:
    """The network's output in the type of x, whatever autocast made of it.

    Raises:
        ValueError: if x does not fit the network.
    """
    try:
        return network(x).to(x.dtype)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"{name} does not take {x.dtype} of shape {tuple(x.shape)} on {x.device}: {error}") from error


def line(start: Tensor, end: Tensor, n: int) -> Tensor:
    """n points from start to end, evenly spaced, shape (n, q)."""
    t = torch.linspace(0, 1, check_int("n", n), dtype=start.dtype, device=start.device)
    return torch.lerp(start, end, t[:, None])
