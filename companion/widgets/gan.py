"""Chapter 4: the training of GANs in the plane, replayed, with the gradient that pulls at a sample."""

from __future__ import annotations

from dataclasses import replace

import torch
import traitlets
from torch import Tensor, nn

from companion.checks import check_int, check_tensor
from companion.devices import randn
from companion.gan import GAN
from companion.metrics import mode_score
from companion.nets import FourierFeatures
from companion.training import Objective
from companion.widgets import Widget, as_bytes, script

ACTIVATIONS = {nn.ReLU: "relu", nn.LeakyReLU: "leaky", nn.SiLU: "silu", nn.Tanh: "tanh"}
#: Points drawn of the data and of the samples, and bytes that may travel (on a page a third more, as text).
DATA, SAMPLES, LARGEST = 200, 160, 150_000


class Recording(nn.Module):
    """A GAN that remembers its training: every so many steps, samples from fixed z and the weights of D.

    `fit(Recording(gan), x, steps=…)` trains as `fit(gan, x, steps=…)` does, to the bit: recording draws no noise. It
    remembers what happened in this process; a checkpoint holds the model only.

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
        self.register_buffer("z", randn(shape, model.prior().mean, generator), persistent=False)
        self.steps: list[int] = []
        self.samples: list[Tensor] = []
        self.weights: list[Tensor] = []
        self._losses: list[list[Tensor]] = []
        self._turns: list[int] = []

    def check_data(self, *data: Tensor) -> None:
        """As the model does."""
        self.model.check_data(*data)

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
    def trained(self) -> bool:
        """Whether any step was recorded."""
        return bool(self._losses and all(self._losses))

    @property
    def losses(self) -> list[Tensor]:
        """Of D and of G, the loss in every step (the mean over the turns)."""
        each = zip(self._losses, self._turns, strict=True)
        return [torch.stack(values).float().cpu().view(-1, turns).mean(1) for values, turns in each]

    @torch.no_grad()
    def record(self) -> None:
        """Add the model as it is now as a frame, unless this step has one."""
        step = len(self._losses[0]) // self._turns[0] if self._losses else 0
        if step in self.steps:
            return
        with torch.autocast(self.z.device.type, enabled=False):
            samples = self.model.generate(self.z).float().cpu()
        self.steps.append(step)
        self.samples.append(samples)
        self.weights.append(nn.utils.parameters_to_vector(self.model.discriminator.parameters()).float().cpu())


class GANWidget(Widget):
    """The training of one GAN, or of two side by side, to replay and to scrub.

    The figure shows data, samples, the discriminator's D(x) and both losses. At a point x that the reader drags, an
    arrow shows −∂/∂x of G's loss there, with its length under the saturating and the non-saturating loss. D(x) is the
    probability σ(a(x)) that x is real; for the relativistic loss the probability mean σ(a(x) − a(x')) that x looks
    more real than a point x' of the data.

    Args:
        recordings: one or two trained recordings with the same steps, by name; the name of a loss is translated.
            Their discriminators are sequences of `nn.Linear` with `nn.ReLU`, `nn.LeakyReLU`, `nn.SiLU` or `nn.Tanh`
            between them, perhaps on `FourierFeatures`; of 1200 weights, 40 frames are as many as a page takes.
        data: points of the training data, shape (n, 2); the first 200 are drawn.
        modes: centres of the modes, shape (K, 2), to count those captured.
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
    n = traitlets.Int(read_only=True).tag(sync=True)
    content = traitlets.Bytes(read_only=True).tag(sync=True)
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
        if steps[0] != steps[-1] or not all(recording.trained for recording in recordings.values()):
            raise ValueError("recordings must have the same steps, at least one: give each to fit, with equal settings")
        if (modes is None) != (std is None):
            raise ValueError("modes and std go together: give both or neither")
        low, high = data.amin(0), data.amax(0)
        half = 0.7 * (high - low).max().clamp(min=1e-6).item()
        view = [*((low + high) / 2).tolist(), half]
        content = _positions(data[:DATA], view) + b"".join(_content(one, view) for one in recordings.values())
        if len(content) > LARGEST:
            raise ValueError(
                f"recordings take {len(content):,} bytes, at most {LARGEST:,} are allowed on a page: record fewer "
                "frames (a larger every), or give the discriminators fewer weights"
            )
        self.set_trait("content", content)
        self.set_trait("view", view)
        self.set_trait("steps", steps[0])
        self.set_trait("recordings", [_about(name, one, modes, std) for name, one in recordings.items()])
        self.set_trait("n", len(data[:DATA]))
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


def _about(name: str, recording: Recording, modes: Tensor | None, std: float | None) -> dict:
    """What JavaScript has to know of a recording beside its bytes."""
    scores = [] if modes is None else [mode_score(samples, modes, std) for samples in recording.samples]
    return {
        "name": name,
        "loss": recording.model.loss,
        **_network(recording.model.discriminator),
        "samples": len(recording.samples[0][:SAMPLES]),
        "bins": _curves(recording).shape[1],
        "width": _width(recording),
        "modes": 0 if modes is None else len(modes),
        "captured": [score.captured for score in scores],
        "high_quality": [round(score.high_quality, 4) for score in scores],
    }


def _content(recording: Recording, view: list[float]) -> bytes:
    """Samples of each frame, weights of each frame, losses; numbers are little-endian."""
    samples = torch.cat([samples[:SAMPLES] for samples in recording.samples])
    sizes = [parameter.numel() for parameter in recording.model.discriminator.parameters()]
    return _positions(samples, view) + _changes(torch.stack(recording.weights), sizes) + as_bytes(_curves(recording))


def _curves(recording: Recording) -> Tensor:
    """Losses of D and of G, shape (2, bins): means over a fifth of the steps between two frames."""
    losses, width = recording.losses, _width(recording)
    bins = min(map(len, losses)) // width
    return torch.stack([loss[: bins * width].view(bins, width).mean(1) for loss in losses])


def _width(recording: Recording) -> int:
    return max(1, min(recording.every, len(recording.losses[-1])) // 5)


def _network(network: nn.Module) -> dict:
    """Frequencies of the features, if there are any, then sizes of the linear maps and what follows each."""
    modules = _flat(network)
    features = modules.pop(0) if isinstance(modules[0], FourierFeatures) else None
    linear, between = modules[::2], modules[1::2]
    known = all(type(module) is nn.Linear and module.bias is not None for module in linear)
    if not known or len(modules) % 2 == 0 or not all(type(module) in ACTIVATIONS for module in between):
        names = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise TypeError(
            f"a discriminator must be nn.Linear, biased, with one of {names} between two of them, perhaps on "
            "FourierFeatures, in an nn.Sequential"
        )
    first = len(features.B) if features else linear[0].in_features
    if (first, linear[-1].out_features) != (2, 1):
        raise ValueError(
            f"a discriminator must lead from 2 numbers to 1, not from {first} to {linear[-1].out_features}"
        )
    return {
        "frequencies": features.B.cpu().tolist() if features else [[], []],
        "layers": [
            {
                "inputs": module.in_features,
                "outputs": module.out_features,
                "activation": ACTIVATIONS[type(after)] if after else "none",
                "slope": getattr(after, "negative_slope", 0.0),
            }
            for module, after in zip(linear, [*between, None], strict=True)
        ],
    }


def _flat(module: nn.Module) -> list[nn.Module]:
    """The modules in the order in which they are applied."""
    return [part for child in module for part in _flat(child)] if isinstance(module, nn.Sequential) else [module]


def _positions(x: Tensor, view: list[float]) -> bytes:
    """Points as two 12-bit integers, 1365 of them from the middle of the view to its edge; what lies outside is cut."""
    level = ((x - torch.tensor(view[:2])) / view[2] * 1365 + 2048).nan_to_num(0).round().clamp(0, 4095).int()
    both = level[:, 0] + 4096 * level[:, 1]
    return as_bytes(torch.stack([both, both >> 8, both >> 16], 1).bitwise_and(255).to(torch.uint8))


def _changes(weights: Tensor, sizes: list[int]) -> bytes:
    """Weights of every frame, shape (frames, p): the first, then each tensor's change in 8 bits with its own scale.

    The change is taken from what the reader of the bytes has so far, so that rounding does not add up.
    """
    known = weights[0].double()
    content = as_bytes(weights[0])
    for target in weights[1:].double():
        change = target - known
        scale = torch.stack([part.abs().max() / 127 for part in change.split(sizes)]).float()
        each = scale.double().repeat_interleave(torch.tensor(sizes))
        level = (change / each).nan_to_num(0).round().clamp(-127, 127)
        known = known + each * level
        content += as_bytes(scale) + as_bytes(level.to(torch.int8))
    return content
