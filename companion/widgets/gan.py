"""Chapter 4: the training of GANs in the plane, replayed, with the gradient that pulls at a sample."""

from __future__ import annotations

from dataclasses import replace

import torch
import traitlets
from torch import Tensor, nn

from companion.checks import check_int, check_tensor
from companion.gan import GAN
from companion.metrics import mode_score
from companion.training import Objective
from companion.widgets import Widget, script

ACTIVATIONS = {nn.ReLU: "relu", nn.LeakyReLU: "leaky", nn.SiLU: "silu", nn.Tanh: "tanh"}
#: Points drawn of the data and of the samples, and base64 characters that the recordings may take on the page.
DATA, SAMPLES, LARGEST = 200, 160, 200_000


class Recording(nn.Module):
    """A GAN that remembers its training: every so many steps, samples from fixed z and the weights of D.

    `fit(Recording(gan), x, steps=…)` trains as `fit(gan, x, steps=…)` does, to the bit: recording draws no noise.

    Args:
        model: the GAN.
        every: steps from one frame to the next; the first frame is the untrained model.
        n: samples in a frame.
        generator: source of the z, drawn once, so that a sample keeps its z.

    Raises:
        ValueError: if a number is less than one.
    """

    def __init__(
        self, model: GAN, every: int = 100, n: int = 2500, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.every = check_int("every", every)
        shape = (check_int("n", n), model.latent_dim)
        self.model = model
        self.register_buffer("z", torch.randn(shape, generator=generator), persistent=False)
        self.steps: list[int] = []
        self.samples: list[Tensor] = []
        self.weights: list[Tensor] = []
        self._losses: list[list[Tensor]] = []
        self._turns: list[int] = []

    def objectives(self) -> list[Objective]:
        """The model's own objectives; the first one, the discriminator's, counts the steps."""
        objectives = self.model.objectives()
        self._turns = [objective.turns for objective in objectives]
        self._losses = self._losses or [[] for _ in objectives]

        def recorded(number: int, objective: Objective) -> Objective:
            def loss(*batch: Tensor) -> Tensor:
                if number == 0 and len(self._losses[0]) % (objective.turns * self.every) == 0:
                    self.record()
                value = objective.loss(*batch)
                self._losses[number].append(value.detach())
                return value

            return replace(objective, loss=loss)

        return [recorded(number, objective) for number, objective in enumerate(objectives)]

    @property
    def losses(self) -> list[Tensor]:
        """Of D and of G, the loss in every step (the mean over the turns)."""
        return [torch.stack(values).cpu().view(-1, turns).mean(1) for values, turns in zip(self._losses, self._turns)]

    @torch.no_grad()
    def record(self) -> None:
        """Add the model as it is now as a frame."""
        step = len(self._losses[0]) // self._turns[0] if self._losses else 0
        with torch.autocast(self.z.device.type, enabled=False):
            samples = self.model.generate(self.z).float().cpu()
        self.steps.append(step)
        self.samples.append(samples)
        self.weights.append(nn.utils.parameters_to_vector(self.model.discriminator.parameters()).float().cpu())


class GANWidget(Widget):
    """The training of one GAN, or of two side by side, to replay and to scrub.

    The figure shows data, samples, the discriminator's D(x) and both losses. At a point x that the reader drags, an
    arrow shows −∂/∂x of G's loss there, with its length under the saturating and the non-saturating loss. D(x) is the
    probability σ(ℓ(x)) that x is real; for the relativistic loss the probability mean σ(ℓ(x) − ℓ(x')) that x looks
    more real than a point x' of the data.

    Args:
        recordings: one or two trained recordings with the same steps, by name; the name of a loss is translated.
            Their discriminators are sequences of `nn.Linear` with `nn.ReLU`, `nn.LeakyReLU`, `nn.SiLU` or `nn.Tanh`
            between them.
        data: points of the training data, shape (n, 2); the first 200 are drawn.
        modes: centres of the modes, shape (k, 2), to count those captured.
        std: standard deviation of a mode, wanted with `modes`.
        frame: which frame is shown first; by default the last one.
        point: where the gradient is shown first.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        TypeError: if a discriminator is no such sequence.
        ValueError: if the recordings are empty, not alike or too large, or the data have another shape.
    """

    _esm = script("gan")

    recordings = traitlets.List(read_only=True).tag(sync=True)
    steps = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    view = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    x = traitlets.Bytes(read_only=True).tag(sync=True)
    frame = traitlets.Int().tag(sync=True)
    point = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(
        self,
        recordings: dict[str, Recording],
        data: Tensor,
        *,
        modes: Tensor | None = None,
        std: float | None = None,
        frame: int | None = None,
        point: tuple[float, float] | None = None,
        lang: str = "",
    ) -> None:
        data = check_tensor("data", data, columns=2, finite=True).detach().cpu()
        if not 1 <= len(recordings) <= 2:
            raise ValueError(f"recordings must be one or two, got {len(recordings)}")
        steps = [recording.steps for recording in recordings.values()]
        if not steps[0] or steps[0] != steps[-1]:
            raise ValueError("recordings must have frames of the same steps: train each with fit, as long as the other")
        if (modes is None) != (std is None):
            raise ValueError("modes and std go together: give both or neither")
        low, high = data.amin(0), data.amax(0)
        half = 0.7 * (high - low).max().clamp(min=1e-6).item()
        view = [*((low + high) / 2).tolist(), half]
        self.set_trait("view", view)
        self.set_trait("steps", steps[0])
        self.set_trait("x", _positions(data[:DATA], view))
        packed = [_pack(name, recording, view, modes, std) for name, recording in recordings.items()]
        size = sum(len(value) for entry in packed for value in entry.values() if isinstance(value, bytes)) * 4 // 3
        if size > LARGEST:
            raise ValueError(
                f"the recordings take {size:,} characters on the page, at most {LARGEST:,} are wanted: "
                "record fewer frames (a larger every), or give the discriminators fewer weights"
            )
        self.set_trait("recordings", packed)
        super().__init__(
            frame=len(steps[0]) - 1 if frame is None else frame,
            point=[view[0] + 0.2 * half, view[1] + 0.3 * half] if point is None else list(point),
            lang=lang,
        )

    @traitlets.validate("frame")
    def _recorded(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal.value < len(self.steps):
            raise ValueError(f"frame is {proposal.value}; choose it between 0 and {len(self.steps) - 1}")
        return proposal.value

    @traitlets.validate("point")
    def _in_the_plane(self, proposal: traitlets.Bunch) -> list[float]:
        if len(proposal.value) != 2 or not torch.tensor(proposal.value).isfinite().all():
            raise ValueError(f"point is {proposal.value}; give two finite numbers")
        return proposal.value


def _pack(name: str, recording: Recording, view: list[float], modes: Tensor | None, std: float | None) -> dict:
    """A recording as numbers and bytes (little-endian)."""
    layers = _layers(recording.model.discriminator)
    shapes = [tuple(parameter.shape) for parameter in recording.model.discriminator.parameters()]
    width = max(1, recording.every // 5)
    losses = [loss[: len(loss) // width * width].view(-1, width).mean(1) for loss in recording.losses]
    scores = [] if modes is None else [mode_score(samples, modes, std) for samples in recording.samples]
    return {
        "name": name,
        "loss": recording.model.loss_name,
        "layers": layers,
        "samples": b"".join(_positions(samples[:SAMPLES], view) for samples in recording.samples),
        **_changes(torch.stack(recording.weights), [torch.Size(shape).numel() for shape in shapes]),
        "width": width,
        "losses": torch.stack([loss[: min(map(len, losses))] for loss in losses]).numpy().tobytes(),
        "captured": [score.captured for score in scores],
        "high_quality": [round(score.high_quality, 4) for score in scores],
        "modes": 0 if modes is None else len(modes),
    }


def _layers(network: nn.Module) -> list[dict]:
    """Sizes of the linear maps and what follows each."""
    modules = list(network) if isinstance(network, nn.Sequential) else []
    linear, between = modules[::2], modules[1::2]
    known = all(type(module) is nn.Linear and module.bias is not None for module in linear)
    if not modules or not known or len(modules) % 2 == 0 or not all(type(module) in ACTIVATIONS for module in between):
        names = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise TypeError(f"a discriminator must be an nn.Sequential of nn.Linear with one of {names} between them")
    if linear[0].in_features != 2 or linear[-1].out_features != 1:
        shape = f"{linear[0].in_features} to {linear[-1].out_features}"
        raise ValueError(f"a discriminator must lead from points of the plane to a number, not from {shape}")
    return [
        {
            "inputs": module.in_features,
            "outputs": module.out_features,
            "activation": ACTIVATIONS[type(after)] if after else "none",
            "slope": getattr(after, "negative_slope", 0.0),
        }
        for module, after in zip(linear, [*between, None], strict=True)
    ]


def _positions(x: Tensor, view: list[float]) -> bytes:
    """Points as two 12-bit integers, 1365 of them from the middle of the view to its edge; what lies outside is cut."""
    centre, half = torch.tensor(view[:2]), view[2]
    level = ((x - centre) / half * 1365 + 2048).nan_to_num(0).round().clamp(0, 4095).int()
    both = level[:, 0] + 4096 * level[:, 1]
    return torch.stack([both, both >> 8, both >> 16], 1).bitwise_and(255).to(torch.uint8).numpy().tobytes()


def _changes(weights: Tensor, sizes: list[int]) -> dict[str, bytes]:
    """Weights of every frame, shape (frames, p): the first, then each tensor's change in 8 bits with its own scale.

    The change is taken from what the reader of the bytes has so far, so that rounding does not add up.
    """
    known, scales, levels = weights[0].double(), [], []
    for target in weights[1:].double():
        change = target - known
        scale = torch.stack([part.abs().max() / 127 for part in change.split(sizes)]).float()
        each = scale.double().repeat_interleave(torch.tensor(sizes))
        level = (change / each).nan_to_num(0).round().clamp(-127, 127)
        known = known + each * level
        scales.append(scale)
        levels.append(level.to(torch.int8))
    start = weights[0].numpy().tobytes()
    return {
        "start": start,
        "scales": torch.stack(scales).numpy().tobytes() if scales else b"",
        "levels": torch.stack(levels).numpy().tobytes() if levels else b"",
    }
