"""Networks that several chapters share."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from companion.checks import check_int, check_number


def mlp(*sizes: int, activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """A multilayer perceptron: linear maps with an activation between them, none after the last.

    Args:
        sizes: entries of the input, of each hidden layer, and of the output.
        activation: class of the activation.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if there are fewer than two sizes, or one is less than 1.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must name at least an input and an output, got {sizes}")
    sizes = tuple(check_int("sizes", size) for size in sizes)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


class FourierFeatures(nn.Module):
    """x ↦ (x, sin xB, cos xB) with frequencies B ~ N(0, scale²), not trained: fine detail for an MLP that follows.

    Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains" (2020).

    Args:
        dim: entries of x, d.
        count: number of frequencies; the output has d + 2 · count entries.
        scale: standard deviation of the frequencies, in radians per unit of x.

    Raises:
        TypeError: if dim or count is no integer.
        ValueError: if dim or count is less than 1, or scale is not positive.
    """

    def __init__(self, dim: int, count: int, scale: float) -> None:
        super().__init__()
        B = torch.randn(check_int("dim", dim), check_int("count", count))
        self.register_buffer("B", check_number("scale", scale) * B)

    def forward(self, x: Tensor) -> Tensor:
        angle = x @ self.B
        return torch.cat([x, angle.sin(), angle.cos()], dim=-1)
