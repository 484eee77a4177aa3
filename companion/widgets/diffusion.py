"""Chapter 5: noise and data, points and images, and the learnt field between them at every time."""

from __future__ import annotations

import math

import torch
import traitlets
from torch import Tensor, nn

from companion.checks import check_int, check_tensor
from companion.diffusion import DDIM, SCHEDULES, Diffusion, check_rows
from companion.nets import ResidualMLP
from companion.widgets import Widget, as_bytes, script

#: Points that are drawn, weights that may travel, and how far the noise goes in the picture.
POINTS, WEIGHTS, REACH = 150, 20_000, 2.5


class Film:
    """Images on their way into noise, and on the way back from the same noise by which a model makes new ones.

    Args:
        model: the diffusion model.
        x: images as the model takes them, between −1 and 1, shape (n, d) or (n, 1, height, width).
        labels: what to ask for on the way back, as in `Diffusion.predict`.
        guidance: how much the labels count.
        size: height and width of an image; by default those of x, or if it is flat, a square's.
        steps: steps of `DDIM`, by which the model goes back.
        generator: source of the noise.

    Raises:
        ValueError: if x has another shape, or the images another size.
    """

    def __init__(
        self,
        model: Diffusion,
        x: Tensor,
        labels: Tensor | None = None,
        guidance: float = 1.0,
        *,
        size: tuple[int, int] | None = None,
        steps: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        check_rows(model, x, None)
        default = model.event_shape[-2:] if len(model.event_shape) > 1 else (math.isqrt(model.dim),) * 2
        self.size = tuple(default) if size is None else size
        if math.prod(self.size) != model.dim:
            raise ValueError(f"x has {model.dim} pixels, size is {size}; give size=(height, width) of an image")
        self.steps = check_int("steps", steps)
        self.schedule = _schedule(model)
        eps = torch.randn(x.shape, generator=generator).to(x)
        noise = model.q_sample(x, 1.0, eps)
        trajectory = list(DDIM(steps).trajectory(model, noise, labels, guidance))
        self.x, self.eps = x.flatten(1), eps.flatten(1)
        self.denoised = torch.stack([point.x_0.flatten(1) for point in trajectory[:-1]])


class DiffusionWidget(Widget):
    """Time in the reader's hand: points of the plane, and images, on their way into noise and back.

    In the plane the network itself travels, in half precision, and JavaScript evaluates it: arrows show the score of
    x_t, or the direction in which the reverse equation moves it, and the points on the way back follow that equation by
    `Heun(50)`, as does a point of the reader's own: `widget.point` is where he put it, at time `widget.since`, and
    `widget.t` is the time on the screen. The images are recorded.

    Args:
        model: a trained model of the plane, whose denoiser is a small `ResidualMLP` of two entries.
        x: its data, shape (n, 2); the first 150 are drawn.
        film: images beside it, which may be of a model with another schedule.
        t: time that is shown first.
        direction: "forward", where x_t is data with noise, or "reverse", where the model makes it from noise.
        field: what the arrows show, "score" or "velocity".
        point: the reader's point at time t.
        generator: source of the points' noise.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        TypeError: if the denoiser is no `ResidualMLP`.
        ValueError: if it is too large, has another number of entries or another schedule than those of `SCHEDULES`, or
            the data have another shape.
    """

    _esm = script("denoiser", "diffusion")

    network = traitlets.Dict(read_only=True).tag(sync=True)
    weights = traitlets.Bytes(read_only=True).tag(sync=True)
    view = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    points = traitlets.Bytes(read_only=True).tag(sync=True)
    images = traitlets.Dict(read_only=True).tag(sync=True)
    pixels = traitlets.Bytes(read_only=True).tag(sync=True)
    t = traitlets.Float().tag(sync=True)
    direction = traitlets.Enum(("forward", "reverse")).tag(sync=True)
    field = traitlets.Enum(("score", "velocity")).tag(sync=True)
    point = traitlets.List(traitlets.Float()).tag(sync=True)
    since = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        model: Diffusion,
        x: Tensor,
        film: Film | None = None,
        *,
        t: float = 0.5,
        direction: str = "reverse",
        field: str = "score",
        point: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        lang: str = "",
    ) -> None:
        network, weights = _network(model.denoiser)
        x = check_tensor("x", x, columns=2, finite=True).detach().cpu().float()[:POINTS]
        low, high = x.amin(0).clamp(max=-REACH), x.amax(0).clamp(min=REACH)
        half = (high - low).max().item() / 2
        images, pixels = ({}, b"") if film is None else _images(film)
        for name, value in {
            "network": {"schedule": _schedule(model), "predicts": model.predicts, **network},
            "weights": as_bytes(weights.half()),
            "view": [*((low + high) / 2).tolist(), half],
            "points": as_bytes(torch.stack([x, torch.randn(x.shape, generator=generator)]).half()),
            "images": images,
            "pixels": pixels,
        }.items():
            self.set_trait(name, value)
        place = [-0.12 * half, 0.04 * half] if point is None else list(point)
        super().__init__(t=t, direction=direction, field=field, point=place, since=min(max(t, 0.01), 1), lang=lang)

    @traitlets.validate("t", "since")
    def _between(self, proposal: traitlets.Bunch) -> float:
        if not 0 <= proposal.value <= 1:
            raise ValueError(f"{proposal.trait.name} is {proposal.value}; choose it between 0 and 1")
        return proposal.value

    @traitlets.validate("point")
    def _in_the_plane(self, proposal: traitlets.Bunch) -> list[float]:
        if len(proposal.value) != 2 or not all(map(math.isfinite, proposal.value)):
            raise ValueError(f"point is {proposal.value}; give two finite numbers")
        return proposal.value


def _schedule(model: Diffusion) -> str:
    for name, schedule in SCHEDULES.items():
        if type(model.schedule) is type(schedule):
            return name
    raise ValueError(f"model has a schedule of its own; JavaScript knows {', '.join(SCHEDULES)}")


def _network(net: nn.Module) -> tuple[dict[str, int], Tensor]:
    """Sizes of the network, and its numbers in the order in which JavaScript takes them."""
    if not isinstance(net, ResidualMLP):
        raise TypeError(f"model has a denoiser {type(net).__name__}; JavaScript knows ResidualMLP")
    if net.inward.in_features != 2:
        raise ValueError(
            f"model is of {net.inward.in_features} dimensions; give one of the plane, and the others a Film"
        )
    tensors, labels = parts(net), len(net.labels)
    any_label = sum(table[0] for table in tensors[5 : 5 + labels])
    tensors[4 : 5 + labels] = [tensors[4] + any_label]  # the page asks for none
    weights = torch.cat([tensor.flatten() for tensor in tensors])
    if len(weights) > WEIGHTS:
        raise ValueError(
            f"model has {len(weights):,} weights, at most {WEIGHTS:,} are allowed on a page: a ResidualMLP of width 32 "
            "and depth 2 suffices"
        )
    if not weights.half().isfinite().all():
        raise ValueError("model has weights that are not finite; train it again with a smaller learning rate")
    return sizes(net), weights


def parts(net: ResidualMLP) -> list[Tensor]:
    """The network's tensors in the order in which JavaScript takes them."""
    features, time = net.time
    layers = [layer for block in net.blocks for layer in (block.norm, block.first, block.second, block.condition)]
    both = [tensor for layer in (*layers, net.norm, net.outward) for tensor in (layer.weight, layer.bias)]
    tables = [embedding.weight for embedding in net.labels]
    start = [net.inward.weight, net.inward.bias, features.B[0], time.weight, time.bias]
    return [tensor.detach().cpu().float() for tensor in (*start, *tables, *both)]


def sizes(net: ResidualMLP) -> dict[str, int]:
    """What JavaScript has to know of the network beside its numbers."""
    features, time = net.time
    return {"width": len(time.bias), "depth": len(net.blocks), "waves": features.B.numel()}


def _images(film: Film) -> tuple[dict, bytes]:
    """What JavaScript has to know of the film, and its images in 8 bits a pixel: x_0, ε, then x̂_0 at each time."""
    frames = torch.stack([film.x, film.eps, *film.denoised]).detach().cpu().float()
    scales = frames.flatten(1).abs().amax(1).clamp(min=1e-6) / 127
    about = {
        "count": len(film.x),
        "size": list(film.size),
        "steps": film.steps,
        "schedule": film.schedule,
        "scales": scales.tolist(),
    }
    return about, as_bytes((frames / scales[:, None, None]).round().to(torch.int8))
