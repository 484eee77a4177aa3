"""Chapter 3: the latent plane of trained decoders, which run in the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor, nn

from companion.widgets import Widget, as_bytes, script

MOST = 1000
CLASSES = 10
ACTIVATIONS = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Tanh: "tanh", nn.LeakyReLU: "leaky", nn.Sigmoid: "sigmoid"}
OUTPUTS = {"sigmoid": [{"kind": "sigmoid"}], "identity": []}


class DecoderWidget(Widget):
    """The plane of a two-dimensional z, with a point in the reader's hand and its decoded image beside it.

    The decoder's weights travel in the widget, in two bytes each if they are numbers of half precision, as after
    `decoder.half().float()`, else in four; JavaScript computes the image. With a decoder for each of several β a slider
    exchanges them, and a curve shows rate and distortion. `widget.z` and `widget.end` are the points on the screen,
    `widget.beta` is the slider's β.

    Args:
        decoders: z (2) to pixels, `nn.Sequential` of linear layers and activations (ReLU, LeakyReLU, SiLU, Tanh,
            Sigmoid); or one for each β, {β: decoder}.
        z: encoded data, shape (n, 2), n ≤ 1000; for several decoders a list of them, in the same order.
        classes: labels of the rows of z, shape (n,), integers from 0 to 9, which colour the points.
        names: what the labels are called; by default their numbers. Names of one letter are drawn as the points.
        size: height and width of the image; by default it is square.
        output: "sigmoid" if the decoder gives logits, "identity" if it gives ink between 0 and 1.
        rate: KL(q(z | x) ‖ p(z)) in nats, one number for each β.
        distortion: −E log p(x | z) in nats, one number for each β; rate and distortion come together.
        grid: whether a grid of decoded images is drawn behind the points.
        walk: whether a second point is drawn, and the images between the two.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        TypeError: if a decoder has a layer of another kind.
        ValueError: if shapes, numbers or lengths disagree.
    """

    _esm = script("vae")

    layers = traitlets.List(read_only=True).tag(sync=True)
    weights = traitlets.Bytes(read_only=True).tag(sync=True)
    half = traitlets.Bool(read_only=True).tag(sync=True)
    betas = traitlets.List(read_only=True).tag(sync=True)
    points = traitlets.Bytes(read_only=True).tag(sync=True)
    classes = traitlets.List(read_only=True).tag(sync=True)
    names = traitlets.List(read_only=True).tag(sync=True)
    size = traitlets.List(read_only=True).tag(sync=True)
    rate = traitlets.List(read_only=True).tag(sync=True)
    distortion = traitlets.List(read_only=True).tag(sync=True)
    z = traitlets.List().tag(sync=True)
    end = traitlets.List().tag(sync=True)
    beta = traitlets.Float().tag(sync=True)
    grid = traitlets.Bool().tag(sync=True)
    walk = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        decoders: nn.Sequential | dict[float, nn.Sequential],
        z: Tensor | Sequence[Tensor],
        classes: Tensor | None = None,
        *,
        names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        output: str = "sigmoid",
        rate: Tensor | Sequence[float] | None = None,
        distortion: Tensor | Sequence[float] | None = None,
        grid: bool = False,
        walk: bool = False,
        lang: str = "",
    ) -> None:
        decoders = decoders if isinstance(decoders, dict) else {1.0: decoders}
        points = [z] if isinstance(z, Tensor) else list(z)
        if not decoders or len(points) != len(decoders):
            raise ValueError(f"z holds {len(points)} sets of points for {len(decoders)} decoders; give one for each")
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}; choose 'sigmoid' or 'identity'")
        points = [_points(each) for each in points]
        if len({len(each) for each in points}) > 1:
            raise ValueError("z has another number of points for each decoder; encode the same data by all encoders")
        betas = [float(beta) for beta in decoders]
        if betas != sorted(betas):
            raise ValueError(f"decoders has β in the order {betas}; sort them")
        weights = torch.cat([_weights(decoder) for decoder in decoders.values()])
        half = torch.equal(weights.half().float(), weights)
        pixels = {_pixels(decoder) for decoder in decoders.values()}
        if size is None and all(math.isqrt(count) ** 2 == count for count in pixels):
            size = (math.isqrt(max(pixels)),) * 2
        if size is None or pixels != {math.prod(size)}:
            count = ", ".join(map(str, sorted(pixels)))
            raise ValueError(f"a decoder gives {count} pixels, size is {size}; give size=(height, width) of the image")
        if (rate is None) != (distortion is None):
            raise ValueError("rate and distortion belong together; give both or neither")
        names, classes = _classes(classes, names, len(points[0]))
        for name, value in {
            "layers": [_layers(decoder) + OUTPUTS[output] for decoder in decoders.values()],
            "weights": as_bytes(weights.half() if half else weights),
            "half": half,
            "betas": betas,
            "points": as_bytes(torch.cat(points).half()),
            "classes": classes,
            "names": names,
            "size": list(size),
            "rate": _numbers("rate", rate, len(betas)),
            "distortion": _numbers("distortion", distortion, len(betas)),
        }.items():
            self.set_trait(name, value)
        beta = 1.0 if 1.0 in betas else betas[0]
        cloud = points[betas.index(beta)]
        end = cloud[(cloud - cloud[0]).norm(dim=1).argmax()]
        super().__init__(z=cloud[0].tolist(), end=end.tolist(), beta=beta, grid=grid, walk=walk, lang=lang)

    @traitlets.validate("z", "end")
    def _in_the_plane(self, proposal: traitlets.Bunch) -> list:
        if len(proposal.value) != 2 or not all(map(math.isfinite, proposal.value)):
            raise ValueError(f"{proposal.trait.name} is {proposal.value}; give two finite numbers")
        return proposal.value

    @traitlets.validate("beta")
    def _known(self, proposal: traitlets.Bunch) -> float:
        if proposal.value not in self.betas:
            raise ValueError(f"beta is {proposal.value}; choose one of {', '.join(map(str, self.betas))}")
        return proposal.value


def _linear(decoder: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in decoder if isinstance(layer, nn.Linear)]


def _layers(decoder: nn.Sequential) -> list[dict]:
    """What JavaScript has to know of each layer beside the weights."""
    described = []
    for layer in decoder:
        if isinstance(layer, nn.Linear):
            described.append({"kind": "linear", "inputs": layer.in_features, "outputs": layer.out_features})
        else:
            slope = {"slope": layer.negative_slope} if isinstance(layer, nn.LeakyReLU) else {}
            described.append({"kind": ACTIVATIONS[type(layer)], **slope})
    return described


def _weights(decoder: nn.Sequential) -> Tensor:
    """Weight and bias of the linear layers one after the other; a missing bias is zero."""
    known = (nn.Linear, *ACTIVATIONS)
    kinds = ", ".join(kind.__name__ for kind in known)
    if not isinstance(decoder, nn.Sequential):
        raise TypeError(f"decoders holds a {type(decoder).__name__}; give nn.Sequential of {kinds}")
    for layer in decoder:
        if type(layer) not in known:
            raise TypeError(f"a decoder has a layer {type(layer).__name__}; JavaScript knows {kinds}")
    linear = _linear(decoder)
    if not linear or linear[0].in_features != 2:
        raise ValueError("a decoder does not start from 2 numbers; train one with a two-dimensional z")
    parts = [
        part.detach().to("cpu", torch.float32).flatten()
        for layer in linear
        for part in (layer.weight, torch.zeros(layer.out_features) if layer.bias is None else layer.bias)
    ]
    weights = torch.cat(parts)
    if not weights.isfinite().all():
        raise ValueError("a decoder has weights that are not finite; train it again with a smaller learning rate")
    return weights


def _pixels(decoder: nn.Sequential) -> int:
    return _linear(decoder)[-1].out_features


def _points(z: Tensor) -> Tensor:
    z = torch.as_tensor(z).detach().to("cpu", torch.float32)
    if z.ndim != 2 or z.shape[1] != 2 or not 1 <= len(z) <= MOST:
        raise ValueError(f"z has shape {tuple(z.shape)}; give points (n, 2), n ≤ {MOST}, say z[:{MOST}]")
    if not (z.abs() < 1e4).all():
        raise ValueError("z has entries that are not finite or beyond 10⁴; leave those points out")
    return z


def _classes(classes: Tensor | None, names: Sequence[str] | None, n: int) -> tuple[list[str], list[int]]:
    """The names of the classes and the class of each point; without classes both are empty."""
    if classes is None:
        if names is not None:
            raise ValueError("names belong to classes; give both or neither")
        return [], []
    labels = torch.as_tensor(classes).tolist()
    names = [str(i) for i in range(CLASSES)] if names is None else list(names)
    if len(labels) != n:
        raise ValueError(f"classes has {len(labels)} labels for {n} points; give one for each row of z")
    if len(names) > CLASSES or not all(label in range(len(names)) for label in labels):
        raise ValueError(f"classes must be integers from 0 with a name each, at most {CLASSES}; group them")
    return names[: max(labels) + 1], [int(label) for label in labels]


def _numbers(name: str, values: Tensor | Sequence[float] | None, count: int) -> list[float]:
    numbers = [] if values is None else torch.as_tensor(values, dtype=torch.float64).tolist()
    if values is not None and (len(numbers) != count or not all(map(math.isfinite, numbers))):
        raise ValueError(f"{name} is {numbers}; give {count} finite numbers, one for each β")
    return [round(number, 4) for number in numbers]
