"""The one training loop of all families: a model names its objectives, `fit` does the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from companion.checks import check_int, check_number


@dataclass(frozen=True)
class Objective:
    """What one player minimises.

    Attributes:
        name: how the history and the progress bar call it.
        parameters: what it updates; its gradients reach nothing else.
        loss: loss(*batch), the mean over the batch, a scalar.
        turns: how many updates it makes in one step, each on a new batch.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[..., Tensor]
    turns: int = 1


@dataclass(frozen=True)
class History:
    """What a training left behind beside the model.

    Attributes:
        losses: for each objective its loss in every step (the mean over its turns), shape (steps done,).
        seconds: how long the training took, interruptions not counted.
        interrupted: whether it was stopped before the last step.
    """

    losses: dict[str, Tensor]
    seconds: float
    interrupted: bool


def fit(
    model: nn.Module,
    *data: Tensor,
    steps: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    schedule: str = "constant",
    warmup: int = 0,
    clip_norm: float | None = None,
    ema: float | None = None,
    precision: str = "auto",
    device: torch.device | str | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    progress: bool = True,
) -> History:
    """Train a model in place with AdamW (Loshchilov & Hutter 2019) on data that stays on the device.

    The model has `loss(*batch)`, or `objectives()` if it has several players, who then take turns. Noise that a loss
    draws from the global generators is seeded here, and the caller's generators stay as they are. Ctrl-C ends the
    training after the current step; the model keeps what it has learnt.

    Args:
        model: what is trained; it comes back on the device on which it was given.
        data: tensors of n rows each, such as x, or x and labels; a batch holds the same rows of each.
        steps: how often every player takes its turns.
        batch_size: rows in a batch. An epoch has every row once, in an order that seed and epoch alone decide; its
            last rows, too few for a batch, are left out.
        lr: learning rate.
        betas: decay of Adam's two moments.
        weight_decay: decay of the weights, as a multiple of the learning rate.
        schedule: "constant", or after the warm-up from lr down to zero: "linear" or "cosine".
        warmup: steps in which the rate climbs linearly to lr.
        clip_norm: gradients with a larger norm, taken over all weights of an objective, are shortened to it.
        ema: decay of the exponential moving average of the weights, corrected for its start as Adam's moments are.
            The model comes back with the average.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the hardware has units for it.
        device: where to train; by default on the model's GPU, or else on the best device there is.
        seed: decides the order of the rows and the noise.
        checkpoint: a safetensors file. If it exists, the training goes on from it, and on a CPU ends with the very
            bits of one that was never interrupted; if not, it is made, with the folder.
        checkpoint_every: steps between two checkpoints; one more is written at the end, or on Ctrl-C.
        progress: whether to show a bar with rate, time left and losses.

    Raises:
        TypeError: if the model has no losses, or an argument is of the wrong type.
        ValueError: if an argument is out of range, or the checkpoint is damaged or from another call.
        FloatingPointError: if a loss or a weight is NaN or infinite; the last checkpoint is good.
        OSError: if no checkpoint can be written, before the first step.
    """
    settings = _check_settings(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        betas=betas,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        clip_norm=clip_norm,
        ema=ema,
        precision=precision,
        seed=seed,
    )
    check_int("checkpoint_every", checkpoint_every)
    _check_data(data)
    home = next(model.parameters(), torch.empty(0)).device
    device = _find_device(device, home)
    settings |= {"device": device.type, "precision": _find_precision(precision, device)}
    modes = {module: module.training for module in model.modules()}
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(settings["seed"])
        training = _Training(model.to(device).train(), [x.to(device) for x in data], generators, settings)
        if checkpoint is not None:
            training.open(Path(checkpoint))
        return training.run(checkpoint_every, progress)
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        for module, mode in modes.items():
            module.training = mode
        model.to(home)


def load(model: nn.Module, path: Path | str) -> None:
    """Put the weights of a checkpoint into a model: the averaged ones, if `fit` averaged.

    Raises:
        ValueError: if the file is no checkpoint, or one of another model.
    """
    tensors, _ = _read(Path(path))
    weights = {name.removeprefix("model."): x for name, x in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} is a checkpoint of another model: {error}") from error
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"ema.{name}" in tensors:
                parameter.copy_(tensors[f"ema.{name}"])


class _Training:
    """A training under way: all that changes from step to step, and how."""

    def __init__(self, model: nn.Module, data: list[Tensor], generators: list[torch.Generator], settings: dict) -> None:
        self.model, self.data, self.generators, self.settings = model, data, generators, settings
        self.device, self.path, self.done, self.seconds = data[0].device, None, 0, 0.0
        self.objectives = _objectives(model)
        self.optimizers = [_adamw(objective.parameters, settings) for objective in self.objectives]
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad and settings["ema"] is not None}
        self.trained, self.ema = list(trained.values()), {name: p.detach().clone() for name, p in trained.items()}
        self.losses = torch.zeros(len(self.objectives), settings["steps"], device=self.device)
        self.checked, self.shown, self.arriving = 0, None, None  # losses seen on the host, and on their way there
        self.epoch, self.order = -1, None

    def run(self, checkpoint_every: int, progress: bool) -> History:
        """All steps that are left."""
        start, looked = time.perf_counter() - self.seconds, 0.0
        steps = self.settings["steps"]
        with _interruption() as interrupted, tqdm(total=steps, initial=self.done, disable=not progress) as bar:
            while self.done < steps and not interrupted:
                self.step()
                bar.update()
                self.seconds = time.perf_counter() - start
                if self.seconds - looked > 0.1:
                    looked = self.seconds
                    self.look()
                    bar.set_postfix(self.shown, refresh=False)
                if self.done % checkpoint_every == 0 and self.done < steps:
                    self.save()
            self.save()
            bar.set_postfix(self.shown)
        with torch.no_grad():
            for parameter, average in zip(self.trained, self.ema.values(), strict=True):
                parameter.copy_(average)
        for objective in self.objectives:
            for parameter in objective.parameters:
                parameter.grad = None
        losses = self.losses[:, : self.done].cpu()
        names = [objective.name for objective in self.objectives]
        return History(dict(zip(names, losses, strict=True)), self.seconds, self.done < steps)

    def step(self) -> None:
        """The turns of every objective; nothing here waits for the device."""
        rate = learning_rate(self.done, self.settings)
        batch = self.done * sum(objective.turns for objective in self.objectives)
        for objective, optimizer, losses in zip(self.objectives, self.optimizers, self.losses, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            for _ in range(objective.turns):
                with _autocast(self.device, self.settings["precision"]):
                    loss = objective.loss(*self.batch(batch))
                if loss.ndim or not loss.requires_grad:
                    raise ValueError(f"{objective.name} must be a scalar that depends on its parameters: use .mean()")
                optimizer.zero_grad()
                loss.backward(inputs=objective.parameters)
                if self.settings["clip_norm"] is not None:
                    nn.utils.clip_grad_norm_(objective.parameters, self.settings["clip_norm"])
                optimizer.step()
                losses[self.done].add_(loss.detach(), alpha=1 / objective.turns)
                batch += 1
        self.done += 1
        if self.ema:
            decay = self.settings["ema"]
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.values()), self.trained, (1 - decay) / (1 - decay**self.done))

    def batch(self, number: int) -> list[Tensor]:
        """The rows of one batch, counted from the start of the training."""
        size = min(self.settings["batch_size"], len(self.data[0]))
        epoch, position = divmod(number, len(self.data[0]) // size)
        if epoch != self.epoch:
            order = epoch_order(len(self.data[0]), self.settings["seed"], epoch, pin=self.device.type == "cuda")
            self.epoch, self.order = epoch, order.to(self.device, non_blocking=True)
        rows = self.order[position * size : (position + 1) * size]
        return [x.index_select(0, rows) for x in self.data]

    def look(self) -> None:
        """Check the losses that have reached the host, and send for those since."""
        if self.arriving:
            losses, event = self.arriving
            if event and not event.query():
                return
            self.check(losses.numpy())
        losses, event = self.losses[:, self.checked : self.done].to("cpu", non_blocking=True), None
        if self.device.type != "cpu":
            event = torch.Event(self.device)
            event.record()
        self.arriving = losses, event

    def check(self, losses: np.ndarray) -> None:
        """Stop at the first loss that is not finite among those of the steps from `checked` on."""
        bad = np.argwhere(~np.isfinite(losses.T))
        if len(bad):
            step, i = bad[0]
            self.stop(f"{self.objectives[i].name} is {losses[i, step]} at step {self.checked + step}")
        self.checked += losses.shape[1]
        if losses.size:
            self.shown = {o.name: f"{x:.4g}" for o, x in zip(self.objectives, losses[:, -1], strict=True)}

    def stop(self, what: str) -> None:
        kept = f"; {self.path} keeps the last good state" if self.path else ""
        raise FloatingPointError(f"{what}: lower lr, set clip_norm, or look for bad values in the data{kept}")

    def save(self) -> None:
        """Write a checkpoint, if one is wanted, of a state that is good."""
        self.arriving = None
        self.check(self.losses[:, self.checked : self.done].cpu().numpy())
        for objective in self.objectives:
            if not all(p.isfinite().all() for p in objective.parameters):
                self.stop(f"a weight of {objective.name} is NaN or infinite after step {self.done - 1}")
        if self.path:
            tensors = {name: x.detach().to("cpu", copy=True).contiguous() for name, x in self.tensors().items()}
            tensors |= {f"rng.{i}": generator.get_state() for i, generator in enumerate(self.generators)}
            about = {"call": self.call, "done": self.done, "seconds": self.seconds}
            _write(self.path, save(tensors, {_KEY: json.dumps(about)}))

    def open(self, path: Path) -> None:
        """Go on from the checkpoint, if there is one; make sure that there is room for it, and for its successor."""
        self.path = path
        self.call = self.settings | {f"data[{i}]": _fingerprint(x) for i, x in enumerate(self.data)}
        self.call |= {f"objectives[{i}]": [o.name, o.turns] for i, o in enumerate(self.objectives)}
        self.call |= {f"tensor {name}": [str(x.dtype), list(x.shape)] for name, x in self.tensors().items()}
        if path.exists():
            self.restore()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save()
        self.save()

    def restore(self) -> None:
        tensors, about = _read(self.path)
        there, here = about["call"], json.loads(json.dumps(self.call))
        differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        if differing:
            listed = ", ".join(f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in differing[:5])
            raise ValueError(
                f"{self.path} was written by another call; what differs: {listed}. Give the same arguments to go on, "
                "or another path, or delete the file"
            )
        with torch.no_grad():
            for name, x in self.tensors().items():
                x.copy_(tensors[name])
        for i, generator in enumerate(self.generators):
            generator.set_state(tensors[f"rng.{i}"])
        self.done, self.seconds = about["done"], about["seconds"]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that training changes, by its name in a checkpoint."""
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        for objective, optimizer in zip(self.objectives, self.optimizers, strict=True):
            for i, parameter in enumerate(objective.parameters):
                for name, x in optimizer.state[parameter].items():
                    tensors[f"optimizer.{objective.name}.{i}.{name}"] = x
        tensors |= {f"ema.{name}": x for name, x in self.ema.items()}
        return tensors | {"losses": self.losses}


def learning_rate(step: int, settings: dict) -> float:
    """The rate of a step, counted from 0: a linear climb, then the schedule down from t = 0 to 1."""
    t = (step - settings["warmup"]) / (settings["steps"] - settings["warmup"])
    if t < 0:
        return settings["lr"] * (step + 1) / settings["warmup"]
    shapes = {"constant": 1.0, "linear": 1 - t, "cosine": (1 + math.cos(math.pi * t)) / 2}
    return settings["lr"] * shapes[settings["schedule"]]


def epoch_order(n: int, seed: int, epoch: int, *, pin: bool = False) -> Tensor:
    """The order of the n rows in an epoch, which depends on nothing else."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.randperm(n, generator=torch.Generator().manual_seed(int(words[0] >> 1)), pin_memory=pin)


def _objectives(model: nn.Module) -> list[Objective]:
    if hasattr(model, "objectives"):
        objectives = list(model.objectives())
    elif hasattr(model, "loss"):
        objectives = [Objective("loss", list(model.parameters()), model.loss)]
    else:
        raise TypeError(f"model must have loss(*batch) or objectives(), {type(model).__name__} has neither")
    names = [objective.name for objective in objectives]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the model's objectives must have different names, got {names}")
    for i, objective in enumerate(objectives):
        parameters = [p for p in objective.parameters if p.requires_grad]
        if not parameters:
            raise ValueError(f"{objective.name} has no parameters to train: let some have requires_grad")
        turns = check_int(f"turns of {objective.name}", objective.turns)
        objectives[i] = dataclasses.replace(objective, parameters=parameters, turns=turns)
    return objectives


def _adamw(parameters: list[nn.Parameter], settings: dict) -> torch.optim.AdamW:
    """The optimiser, with its state in place before the first step, so that a checkpoint is as large as any later."""
    options = {key: settings[key] for key in ("lr", "betas", "weight_decay")}
    optimizer = torch.optim.AdamW(parameters, fused=True, **options)
    for p in parameters:
        moments = {name: torch.zeros_like(p, memory_format=torch.preserve_format) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.zeros((), device=p.device), **moments}
    return optimizer


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()


def _find_device(device: torch.device | str | None, home: torch.device) -> torch.device:
    """The device asked for, or the model's own GPU, or the best one there is."""
    if device is None and home.type == "cpu":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(home if device is None else device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return device


def _find_precision(precision: str, device: torch.device) -> str:
    """What "auto" means on this device: bfloat16 where the hardware multiplies it faster than float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _generators(device: torch.device) -> list[torch.Generator]:
    """The global generators that a model on the device draws from."""
    if device.type == "cuda":
        torch.cuda.init()
        return [torch.default_generator, torch.cuda.default_generators[device.index]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]


@contextlib.contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that the first Ctrl-C fills, so that the step under way can end; a second one interrupts as ever."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL

    def receive(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, receive)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


_KEY = "companion.training"


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whoever reads it finds the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[_KEY])  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of fit: give another path, or delete it") from error


def _fingerprint(x: Tensor) -> str:
    content = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{x.dtype} {tuple(x.shape)} {hashlib.sha256(content).hexdigest()[:16]}"


def _check_settings(**settings: object) -> dict:
    """The settings as plain values, each in its range."""
    for name, least in (("steps", 1), ("batch_size", 1), ("warmup", 0), ("seed", 0)):
        settings[name] = check_int(name, settings[name], least)
    settings["lr"] = check_number("lr", settings["lr"], open=True)
    settings["weight_decay"] = check_number("weight_decay", settings["weight_decay"])
    settings["betas"] = [check_number("betas", beta, below=1) for beta in settings["betas"]]
    if settings["clip_norm"] is not None:
        settings["clip_norm"] = check_number("clip_norm", settings["clip_norm"], open=True)
    if settings["ema"] is not None:
        settings["ema"] = check_number("ema", settings["ema"], below=1)
    if settings["warmup"] >= settings["steps"]:
        raise ValueError(f"warmup must be less than the {settings['steps']} steps, got {settings['warmup']}")
    for name, choices in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
        if settings[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {settings[name]!r}")
    return settings


SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")


def _check_data(data: tuple[Tensor, ...]) -> None:
    if not data:
        raise TypeError("fit needs data: fit(model, x, steps=…)")
    for x in data:
        if not isinstance(x, Tensor):
            raise TypeError(f"data must be torch.Tensors, not {type(x).__name__}: use torch.as_tensor(…)")
        if x.ndim == 0 or len(x) == 0 or len(x) != len(data[0]):
            shapes = ", ".join(str(tuple(x.shape)) for x in data)
            raise ValueError(f"data must have the same number of rows, at least one; got shapes {shapes}")
