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


class ResidualMLP(nn.Module):
    """A multilayer perceptron with residual blocks that knows the time, and labels if there are any.

    Every block adds to h what two layers make of the normalised h and of the condition, the sum of what time and
    labels say. The last layer starts at zero. He et al., "Identity Mappings in Deep Residual Networks" (2016).

    Args:
        dim: entries of x, d.
        width: entries of h.
        depth: number of blocks.
        labels: for each label the number of its values, such as (19, 21, 28) for the letters of a syllable.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if a size is less than 1.
    """

    def __init__(self, dim: int, width: int, depth: int, labels: tuple[int, ...] = ()) -> None:
        super().__init__()
        check_int("depth", depth)
        self.inward, self.outward = nn.Linear(check_int("dim", dim), check_int("width", width)), nn.Linear(width, dim)
        self.time = nn.Sequential(FourierFeatures(1, 32, 6.0), nn.Linear(65, width))
        self.labels = nn.ModuleList(nn.Embedding(check_int("labels", count) + 1, width) for count in labels)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """An output for each x, shape (n, d).

        Args:
            x: shape (n, d).
            t: times, shape (n,).
            labels: integers, shape (n, k), −1 for any; without them all are.

        Raises:
            ValueError: if there are not k labels in a row.
        """
        if labels is None:
            labels = torch.full((len(x), len(self.labels)), -1, device=x.device)
        if labels.shape != (len(x), len(self.labels)):
            raise ValueError(
                f"labels must have shape ({len(x)}, {len(self.labels)}), one column for each label of the network, not "
                f"{tuple(labels.shape)}"
            )
        condition = self.time(t[:, None])
        for embedding, label in zip(self.labels, labels.T, strict=True):
            condition = condition + embedding(label + 1)
        condition = nn.functional.silu(condition)
        h = self.inward(x)
        for block in self.blocks:
            h = h + block(h, condition)
        return self.outward(self.norm(h))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second, self.condition = (nn.Linear(width, width) for _ in range(3))

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return self.second(nn.functional.silu(self.first(self.norm(h)) + self.condition(condition)))
