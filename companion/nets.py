"""Networks that several chapters share."""

from __future__ import annotations

import itertools

from torch import nn

from companion.checks import check_int


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
