"""Networks that several chapters share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

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


class _Conditional(nn.Module):
    """A network that knows the time, and labels if there are any.

    Attributes:
        classes: for each label the number of its values.
    """

    def _learn_condition(self, width: int, classes: Sequence[int]) -> None:
        self.classes = tuple(check_int("labels", count) for count in classes)
        self.time = nn.Sequential(FourierFeatures(1, 32, 6.0), nn.Linear(65, width))
        self.labels = nn.ModuleList(nn.Embedding(count + 1, width) for count in self.classes)

    def _condition(self, t: Tensor, labels: Tensor | None) -> Tensor:
        """The sum of what time and labels say, shape (n, width)."""
        if labels is None:
            labels = torch.full((len(t), len(self.labels)), -1, device=t.device)
        if labels.shape != (len(t), len(self.labels)):
            raise ValueError(
                f"labels must have shape ({len(t)}, {len(self.labels)}), one column for each label of the network, not "
                f"{tuple(labels.shape)}"
            )
        condition = self.time(t[:, None])
        for embedding, label in zip(self.labels, labels.T, strict=True):
            condition = condition + embedding(label + 1)
        return nn.functional.silu(condition)


class ResidualMLP(_Conditional):
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
        self._learn_condition(width, labels)
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
        condition = self._condition(t, labels)
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
        hidden = self.first(self.norm(h)) + self.condition(condition)
        return self.second(nn.functional.silu(hidden))


class UNet(_Conditional):
    """A convolutional network from images to images that knows the time, and labels if there are any.

    Blocks on the whole image, on one of half and one of a quarter of its side, then back, each with what its own size
    was on the way down. The last layer starts at zero. Ronneberger, Fischer & Brox, "U-Net" (2015); Ho, Jain & Abbeel,
    "Denoising Diffusion Probabilistic Models" (2020).

    Args:
        shape: channels, height and width of an image; height and width are multiples of 4.
        width: channels of the first block, a multiple of 8; smaller images have twice as many.
        labels: for each label the number of its values, as for `ResidualMLP`.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if a size is less than 1, or no such multiple.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32, labels: tuple[int, ...] = ()) -> None:
        super().__init__()
        channels, _, _ = _image(shape)
        if check_int("width", width) % 8:
            raise ValueError(f"width must be a multiple of 8, got {width}")
        self._learn_condition(width, labels)
        self.inward = nn.Conv2d(channels, width, 3, padding=1)
        sizes = (width, width), (width, 2 * width), (2 * width, 2 * width)
        self.down = nn.ModuleList(_ImageBlock(before, after, width) for before, after in sizes)
        self.up = nn.ModuleList(
            _ImageBlock(before, after, width) for before, after in ((4 * width, width), (2 * width, width))
        )
        self.outward = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
        nn.init.zeros_(self.outward[-1].weight)
        nn.init.zeros_(self.outward[-1].bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """An output for each x, both of shape (n, channels, height, width); t and labels as for `ResidualMLP`."""
        condition = self._condition(t, labels)
        h, kept = self.inward(x), []
        for block in self.down:
            h = block(nn.functional.avg_pool2d(h, 2) if kept else h, condition)
            kept.append(h)
        kept.pop()
        for block in self.up:
            h = block(torch.cat([nn.functional.interpolate(h, scale_factor=2), kept.pop()], 1), condition)
        return self.outward(h)


class _ImageBlock(nn.Module):
    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.skip, self.condition = nn.Conv2d(before, after, 1), nn.Linear(condition, after)
        self.first, self.second = (
            nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, after, 3, padding=1))
            for channels in (before, after)
        )

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return self.skip(h) + self.second(self.first(h) + self.condition(condition)[..., None, None])


def conv_encoder(shape: tuple[int, int, int], outputs: int, width: int = 32) -> nn.Sequential:
    """Two convolutions, each of which halves the image, and a linear map: (n, *shape) to (n, outputs).

    Args:
        shape: channels, height and width of an image; height and width are multiples of 4.
        outputs: numbers for each image: 2q for a `VAE`, q for an `Autoencoder`, 1 for a critic.
        width: channels of the first convolution; the second has twice as many.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if a size is less than 1, or no such multiple.
    """
    channels, height, breadth = _image(shape)
    return nn.Sequential(
        nn.Conv2d(channels, check_int("width", width), 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(width * height * breadth // 8, check_int("outputs", outputs)),
    )


def conv_decoder(inputs: int, shape: tuple[int, int, int], width: int = 32) -> nn.Sequential:
    """The way back of `conv_encoder`, (n, inputs) to (n, *shape): a linear map and two transposed convolutions.

    Args:
        inputs: numbers for each image, such as the q of a latent variable.
        shape, width: as for `conv_encoder`, with the same errors.
    """
    channels, height, breadth = _image(shape)
    return nn.Sequential(
        nn.Linear(check_int("inputs", inputs), check_int("width", width) * height * breadth // 8),
        nn.SiLU(),
        nn.Unflatten(1, (2 * width, height // 4, breadth // 4)),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
    )


def _image(shape: tuple[int, int, int]) -> tuple[int, ...]:
    sizes = tuple(check_int("shape", size) for size in shape)
    if len(sizes) != 3 or sizes[1] % 4 or sizes[2] % 4:
        raise ValueError(f"shape must be channels, height and width, the last two multiples of 4, got {shape}")
    return sizes


def run(name: str, network: Callable[..., Tensor], x: Tensor, *more: Tensor) -> Tensor:
    """The network's output in the type of x, whatever autocast made of it.

    Raises:
        TypeError: if the network takes another number of inputs, or the output is no tensor.
        ValueError: if the inputs do not fit the network, or the output has not as many rows as x.
    """
    try:
        output = network(x, *more)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        inputs = ", ".join(f"{tensor.dtype} of shape {tuple(tensor.shape)}" for tensor in (x, *more))
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} does not take {inputs} on {x.device}: {error}") from error
    if not isinstance(output, Tensor):
        raise TypeError(
            f"{name} must return a torch.Tensor, not {type(output).__name__}: join several by torch.cat((…), 1)"
        )
    if output.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"{name} gives shape {tuple(output.shape)} for {len(x)} rows: the first axis must be that of the rows"
        )
    return output.to(x.dtype)
