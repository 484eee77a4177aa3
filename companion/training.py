"""The one training loop of all families: a model names its objectives, `fit` does the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from companion.checkpoint import fingerprint, form, read, write
from companion.checks import check_int, check_number
from companion.devices import Precision, find_device, find_precision, global_generators
from companion.parallel import Group, join, reseed, sharing

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Objective:
    """What one player minimises.

    Attributes:
        name: what the history, the progress bar and errors call it.
        parameters: what it trains; its gradients reach nothing else.
        loss: loss(*batch), the mean over the batch, a scalar.
        turns: how many updates it makes in one step, each on a new batch.
        compilable: whether `torch.compile` can translate the loss: not if it holds gradients to be differentiated.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[..., Tensor]
    turns: int = 1
    compilable: bool = True


@dataclass(frozen=True)
class History:
    """What a training leaves behind beside the model.

    Attributes:
        losses: of each objective, the loss of every step (the mean over its turns), shape (steps done,).
        seconds: how long the training took, breaks not counted.
        interrupted: whether it was stopped before its last step.
    """

    losses: dict[str, Tensor]
    seconds: float
    interrupted: bool


def fit(
    model: nn.Module,
    *data: Tensor,
    steps: int,
    batch_size: int = 128,
    lr: float | dict[str, float] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    schedule: Schedule = "constant",
    warmup: int = 0,
    clip_norm: float | None = None,
    ema: float | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
    device: torch.device | str | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 1000,
    progress: bool = True,
) -> History:
    """Train a model in place by AdamW (Loshchilov & Hutter 2019), with the whole data set on the device.

    The model has `loss(*batch)`, or `objectives()` if several players take turns. The noise that losses draw from the
    global generators is seeded here; the caller's generators stay as they are. Ctrl-C ends the training after the step
    under way, and the model keeps what it has learnt.

    Under torchrun, `torchrun --nproc-per-node 2 script.py`, all processes call fit alike, with all of the data. Each
    takes its share of every batch, and their gradients are averaged: for a loss that is a mean over rows the training
    is that of one process, up to rounding. The noise of the book's losses is the same for any number of processes;
    dropout, and losses that draw by themselves, have noise of their own in each. Batch norm in training sees its
    process's rows, and the running statistics are those of process 0, as in DistributedDataParallel. Only process 0
    writes and shows progress. On GPUs the processes heed Ctrl-C at every tenth step.

    Args:
        model: it comes back on the device and in the mode (training or evaluation) in which it was given. The book's
            models sample and give bounds in evaluation mode by themselves; call `model.eval()` before you use networks
            with dropout or batch norm directly. It trains in training mode, without the parts that are in evaluation
            mode and none of whose weights require gradients. If it has `check_data(*data)`, that is called once, before
            the first step, to refuse data on a wrong scale.
        data: tensors with the same number of rows, such as x, or x and labels; a batch holds the same rows of each.
        steps: how often the players take their turns, all calls with one checkpoint together.
        batch_size: rows in a batch, a multiple of the number of processes. An epoch shows every row once, in an order
            that seed and epoch alone decide; its last rows, if too few for a batch, are left out.
        lr: learning rate, or one for each player: {name of the objective: rate}.
        betas: decay rates of Adam's two moments.
        weight_decay: share of a weight that a step takes away, in units of the learning rate.
        schedule: "constant", or down to zero after the warm-up: "linear" or "cosine".
        warmup: steps in which the rate climbs linearly to lr.
        clip_norm: an objective's gradient that is longer is shortened to this norm.
        ema: decay of the exponential moving average of the weights, corrected for its start as Adam's moments are. The
            floating-point buffers, such as the statistics of batch norm, are averaged likewise. The model comes back
            with the averages.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the hardware has matrix units for it.
        compiled: whether `torch.compile` translates the losses, on CUDA into CUDA graphs; `make gpu` measures what that
            gains. The losses agree up to rounding: the noise of the book's models stays the same. The second step waits
            for the compiler, which is a C++ compiler on a CPU. A gradient penalty is left as it is.
        device: where to train; by default the model's GPU, or else the best device there is.
        seed: decides the order of the rows, and the noise.
        checkpoint: a safetensors file. If it exists, training goes on from it and ends, on a CPU, bit for bit as if it
            had never stopped; otherwise file and folder are made. With the constant schedule `steps` may be raised,
            after the end too: 60 and then 120 steps end as 120 at once. The other schedules depend on the number of
            steps, so there more of them are a new training: `load` the weights, and name another checkpoint.
            The number of processes may change too; all have to find the file.
        checkpoint_every: steps from one checkpoint to the next; the last step and Ctrl-C write one too.
        progress: whether to show a bar with rate, time left and losses.

    Raises:
        TypeError: if the model names no loss, its loss takes another number of tensors, or an argument is of a wrong
            type.
        ValueError: if an argument is out of range, the model refuses the data, or the checkpoint is damaged or from
            another call.
        RuntimeError: if gradients are switched off.
        FloatingPointError: if a loss or a weight is NaN or infinite; the last checkpoint stays.
        OSError: if there is no room for checkpoints; known before the first step.
        ConnectionError: if another process has ended; the last checkpoint stays.
    """
    settings = {
        "steps": check_int("steps", steps),
        "batch_size": check_int("batch_size", batch_size),
        "lr": _check_lr(lr),
        "betas": _check_betas(betas),
        "weight_decay": check_number("weight_decay", weight_decay, zero=True),
        "schedule": _check_choice("schedule", schedule, Schedule),
        "warmup": check_int("warmup", warmup, least=0),
        "clip_norm": None if clip_norm is None else check_number("clip_norm", clip_norm),
        "ema": None if ema is None else check_number("ema", ema, zero=True, below=1),
        "seed": check_int("seed", seed, least=0),
    }
    if seed >= 2**64:
        raise ValueError(f"seed must be less than 2**64, got {seed}")
    if warmup >= steps:
        raise ValueError(f"warmup must be less than the {steps} steps, got {warmup}")
    _check_choice("precision", precision, Precision)
    check_int("checkpoint_every", checkpoint_every)
    _check_types(model, data)

    group = join()
    home = next(model.parameters(), data[0]).device
    device = find_device(device, home)
    settings |= {"device": device.type, "precision": find_precision(precision, device)}
    modes = {module: module.training for module in model.modules()}
    generators = global_generators(device)
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(settings["seed"])
        training = _Training(_train(model.to(device)), [x.to(device) for x in data], generators, settings, group)
        if compiled:
            training.objectives = [_compiled(objective, device) for objective in training.objectives]
        if hasattr(model, "check_data"):
            model.check_data(*training.data)
        training.start(None if checkpoint is None else Path(checkpoint).expanduser())
        try:
            return training.run(checkpoint_every, progress)
        except (TypeError, ValueError, RuntimeError):
            if training.writes and not training.done:
                training.path.unlink()  # of a model that does not run: it would refuse the mended one
            raise
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        for module, mode in modes.items():
            module.training = mode
        model.zero_grad()
        model.to(home)


def load(model: nn.Module, path: Path | str) -> None:
    """Put the weights and buffers of a checkpoint into a model: the averages, if `fit` kept any.

    Raises:
        ValueError: if the file is no checkpoint, or one of another model.
    """
    tensors, _ = read(Path(path).expanduser())
    try:
        model.load_state_dict({name[6:]: x for name, x in tensors.items() if name.startswith("model.")})
    except RuntimeError as error:
        raise ValueError(f"{path} is a checkpoint of another model: {error}") from error
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if f"ema.{name}" in tensors:
                x.copy_(tensors[f"ema.{name}"])


def learning_rate(step: int, *, steps: int, lr: float, schedule: Schedule = "constant", warmup: int = 0) -> float:
    """The rate of a step, counted from 0: (step + 1)/warmup · lr while warming up, then lr · s(t) with t from 0 to 1.

    s(t) is 1 (constant), 1 − t (linear) or (1 + cos πt)/2 (cosine); t = (step − warmup)/(steps − warmup).
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    t = (step - warmup) / (steps - warmup)
    return lr * {"constant": 1.0, "linear": 1 - t, "cosine": (1 + math.cos(math.pi * t)) / 2}[schedule]


def epoch_order(n: int, seed: int, epoch: int, *, pin_memory: bool = False) -> Tensor:
    """The order in which an epoch shows the n rows: a permutation that depends on nothing but the arguments."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.randperm(n, generator=torch.Generator().manual_seed(int(state >> 1)), pin_memory=pin_memory)


class _Training:
    """A training under way: all that changes from step to step, and how it changes."""

    def __init__(
        self,
        model: nn.Module,
        data: list[Tensor],
        generators: list[torch.Generator],
        settings: dict,
        group: Group,
    ) -> None:
        self.model, self.data, self.generators, self.settings, self.group = model, data, generators, settings, group
        self.device, self.size = data[0].device, min(settings["batch_size"], len(data[0]))
        if self.size % group.size:
            raise ValueError(
                f"{group.size} processes cannot share batches of {self.size} rows: choose a batch_size that is a "
                f"multiple of {group.size}, such as {self.size - self.size % group.size or group.size}"
            )
        if group.size > 1:  # the global generators stay each process's own
            self.generators = [torch.Generator(own.device).manual_seed(settings["seed"]) for own in generators]
        self.own = generators
        self.objectives = _objectives(model, len(data))
        self.rates = _rates(self.objectives, settings["lr"])
        self.optimizers = [_adamw(objective.parameters, settings) for objective in self.objectives]
        # torch 2.6 would keep a cast made under no_grad, as in check_data, and give the weight no gradient
        half = functools.partial(torch.autocast, self.device.type, torch.bfloat16, cache_enabled=False)
        self.autocast = half if settings["precision"] == "bfloat16" else contextlib.nullcontext
        averaged = {} if settings["ema"] is None else _averaged(model)
        self.averaged, self.ema = list(averaged.values()), {name: x.detach().clone() for name, x in averaged.items()}
        self.losses = torch.zeros(len(self.objectives), settings["steps"], dtype=torch.float32, device=self.device)
        self.done, self.seconds, self.path = 0, 0.0, None
        self.epoch, self.order = -1, None
        self.checked, self.latest, self.arriving = 0, None, None  # losses seen on the host, and those on their way
        kept = model.state_dict()
        self.statistics = [x for name, x in model.named_buffers() if name in kept and x.is_floating_point()]
        self.interrupted = torch.zeros((), device=self.device)

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints."""
        return self.path is not None and self.group.rank == 0

    def run(self, checkpoint_every: int, progress: bool) -> History:
        """All steps that are left."""
        steps, start, looked, stopping = self.settings["steps"], time.perf_counter() - self.seconds, 0.0, False
        alone, hidden = self.group.size == 1, not progress or self.group.rank > 0
        with tqdm(total=steps, initial=self.done, disable=hidden) as bar, _interruption(once=alone) as interrupted:
            while self.done < steps and not stopping:
                if interrupted:
                    self.interrupted.fill_(1)
                self.step()
                stopping = bool(interrupted) if alone else self.all_stop()
                self.seconds = time.perf_counter() - start
                bar.update()
                if self.seconds > looked + 0.1:
                    self.look()
                    bar.set_postfix(self.latest, refresh=False)
                    looked = self.seconds
                if stopping or self.done == steps or (self.path and self.done % checkpoint_every == 0):
                    self.save()
                    bar.set_postfix(self.latest, refresh=False)
        with torch.no_grad():
            for x, average in zip(self.averaged, self.ema.values(), strict=True):
                x.copy_(average)
        losses = self.losses[:, : self.done].cpu()
        names = [objective.name for objective in self.objectives]
        return History(dict(zip(names, losses, strict=True)), self.seconds, interrupted=self.done < steps)

    def step(self) -> None:
        """Every player's turns. Nothing here waits for the device."""
        settings = self.settings
        schedule = {key: settings[key] for key in ("steps", "schedule", "warmup")}
        number = self.done * sum(objective.turns for objective in self.objectives)
        for i, (objective, optimizer) in enumerate(zip(self.objectives, self.optimizers, strict=True)):
            optimizer.param_groups[0]["lr"] = learning_rate(self.done, lr=self.rates[i], **schedule)
            for _ in range(objective.turns):
                if self.group.size > 1:
                    reseed(self.own, settings["seed"], number, self.group.rank)
                optimizer.zero_grad()
                with self.autocast(), sharing(self.group, self.generators):
                    loss = objective.loss(*self.batch(number))
                _check_loss(objective.name, loss)
                loss.backward(inputs=objective.parameters)
                loss = loss.detach()
                if self.group.size > 1:
                    gradients = [x.grad for x in objective.parameters if x.grad is not None]
                    self.group.average([*gradients, loss, self.interrupted])
                if settings["clip_norm"] is not None:
                    nn.utils.clip_grad_norm_(objective.parameters, settings["clip_norm"])
                optimizer.step()
                self.losses[i, self.done].add_(loss, alpha=1 / objective.turns)
                number += 1
        if self.group.size > 1:
            self.group.copy(self.statistics)
        self.done += 1
        if self.ema:
            share = (1 - settings["ema"]) / (1 - settings["ema"] ** self.done)
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.values()), self.averaged, share)

    def all_stop(self) -> bool:
        """Whether any process was interrupted, which all learn at the same step; on a GPU they seldom wait for it."""
        return (self.device.type == "cpu" or self.done % 10 == 0) and self.interrupted.item() > 0

    def batch(self, number: int) -> list[Tensor]:
        """This process's rows of a batch, numbered from the start of the training."""
        n = len(self.data[0])
        epoch, position = divmod(number, n // self.size)
        if epoch != self.epoch:
            order = epoch_order(n, self.settings["seed"], epoch, pin_memory=self.device.type == "cuda")
            self.epoch, self.order = epoch, order.to(self.device, non_blocking=True)
        share = self.size // self.group.size
        rows = self.order[position * self.size + self.group.rank * share :][:share]
        return [x.index_select(0, rows) for x in self.data]

    def look(self) -> None:
        """Check the losses that have come to the host since the last look, and send for the newer ones."""
        if self.arriving:
            losses, event = self.arriving
            if event and not event.query():
                return
            self.check(losses)
        losses, event = self.losses[:, self.checked : self.done].to("cpu", non_blocking=True), None
        if self.device.type != "cpu":
            event = torch.Event(self.device)
            event.record()
        self.arriving = losses, event

    def check(self, losses: Tensor) -> None:
        """Stop at the first of these losses, those from step `checked` on, that is not finite."""
        losses, names = losses.numpy(), [objective.name for objective in self.objectives]
        bad = np.argwhere(~np.isfinite(losses.T))
        if len(bad):
            step, i = bad[0]
            self.stop(f"{names[i]} is {losses[i, step]} at step {self.checked + step}")
        if losses.size:
            self.latest = {name: f"{loss:.4g}" for name, loss in zip(names, losses[:, -1], strict=True)}
        self.checked += losses.shape[1]

    def stop(self, what: str) -> NoReturn:
        kept = f"; {self.path} keeps the last good state" if self.path else ""
        raise FloatingPointError(f"{what}: lower lr, set clip_norm, or look for bad values in data and weights{kept}")

    def save(self) -> None:
        """Make sure that all is well so far, and write the checkpoint if one is wanted."""
        self.arriving = None
        self.check(self.losses[:, self.checked : self.done].cpu())
        for objective in self.objectives:
            if not all(parameter.isfinite().all() for parameter in objective.parameters):
                self.stop(f"{objective.name} has weights that are NaN or infinite before step {self.done}")
        if self.writes:
            noise = {f"rng.{i}": generator.get_state() for i, generator in enumerate(self.generators)}
            write(self.path, self.tensors() | noise, {"call": self.call, "done": self.done, "seconds": self.seconds})
        if self.path and self.group.size > 1:
            self.group.wait()

    def start(self, path: Path | None) -> None:
        """Go on from the checkpoint, if it exists, and make sure that the next ones can be written."""
        if path is None and self.group.size == 1:
            return
        self.call = self.settings | {f"data[{i}]": fingerprint(x) for i, x in enumerate(self.data)}
        self.call["turns"] = {objective.name: objective.turns for objective in self.objectives}
        if path is not None:
            if path.is_dir():
                raise ValueError(f"checkpoint must name a file, {path} is a folder")
            self.path = path
            if path.exists():
                self.restore(*read(path))
        if self.group.size > 1:
            forms = {name: form(x) for name, x in self.tensors().items()}
            self.group.agree(checkpoint=path, **{"steps done": self.done}, **self.call, **forms)
            self.group.copy([*self.model.parameters(), *self.statistics])
        if path is None:
            return
        if not self.done:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save()
        if self.done < self.settings["steps"]:
            self.save()  # while the old file is there: all later ones need the room of two

    def restore(self, tensors: dict[str, Tensor], about: dict) -> None:
        """Take over the state of a checkpoint that this very call has written, or one with other `steps`."""
        losses, done, steps = tensors.pop("losses"), about["done"], self.settings["steps"]
        there = about["call"] | {name: form(x) for name, x in tensors.items() if not name.startswith("rng.")}
        here = self.call | {name: form(x) for name, x in self.tensors().items() if name != "losses"}
        if self.settings["schedule"] == "constant" and done <= steps:
            there["steps"] = steps  # what it has done would have been the same
        differing = [key for key in here | there if here.get(key) != there.get(key)]
        if differing:
            listed = "; ".join(f"{key} is {there.get(key)} there, {here.get(key)} here" for key in differing[:4])
            raise ValueError(
                f"{self.path} comes from another call: {listed}. To go on, give the same arguments, or more steps if "
                "the schedule is constant; to go on from its weights with other arguments, load(model, path) and name "
                "another file; to start anew, name another file or delete this one"
            )
        with torch.no_grad():
            for name, x in self.tensors().items():
                if name != "losses":
                    x.copy_(tensors[name])
        self.losses[:, :done] = losses[:, :done]
        for i, generator in enumerate(self.generators):
            generator.set_state(tensors[f"rng.{i}"])
        self.done, self.seconds = done, about["seconds"]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that training changes, by its name in a checkpoint."""
        tensors = {f"model.{name}": x for name, x in self.model.state_dict().items()}
        for objective, optimizer in zip(self.objectives, self.optimizers, strict=True):
            for i, parameter in enumerate(objective.parameters):
                tensors |= {f"adam.{objective.name}.{i}.{n}": x for n, x in optimizer.state[parameter].items()}
        return tensors | {f"ema.{name}": x for name, x in self.ema.items()} | {"losses": self.losses}


def _objectives(model: nn.Module, count: int) -> list[Objective]:
    """The model's objectives, without what does not train, if their losses take so many tensors."""
    if hasattr(model, "objectives"):
        objectives = list(model.objectives())
    elif hasattr(model, "loss"):
        objectives = [Objective("loss", list(model.parameters()), model.loss)]
    else:
        raise TypeError(f"model must have loss(*batch) or objectives(), and {type(model).__name__} has neither")
    names = [objective.name for objective in objectives]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the model's objectives must have names that differ, got {names}")
    own = set(model.parameters())
    for i, objective in enumerate(objectives):
        signature = inspect.signature(objective.loss)
        try:
            signature.bind(*[None] * count)
        except TypeError:
            raise TypeError(
                f"{objective.name} of {type(model).__name__} takes ({', '.join(signature.parameters)}), and fit got "
                f"{count} tensor{'s' * (count > 1)} of data: give fit(model, …) a tensor for each of them"
            ) from None
        parameters = [parameter for parameter in objective.parameters if parameter.requires_grad]
        if not parameters:
            raise ValueError(f"{objective.name} has no parameters to train: let some of them require gradients")
        if not own.issuperset(parameters):
            raise ValueError(f"{objective.name} trains parameters of another model: make their module part of this one")
        objectives[i] = dataclasses.replace(objective, parameters=parameters, turns=check_int("turns", objective.turns))
    return objectives


def _compiled(objective: Objective, device: torch.device) -> Objective:
    """The objective, its loss by torch.compile from the second call on: the first may check its batch."""
    if not objective.compilable:
        return objective
    options = {"fallback_random": True, "triton.cudagraphs": device.type == "cuda"}
    fast, calls = torch.compile(objective.loss, options=options), itertools.count()

    def loss(*batch: Tensor) -> Tensor:
        if next(calls) == 0:
            return objective.loss(*batch)
        torch.compiler.cudagraph_mark_step_begin()
        return fast(*batch)

    return dataclasses.replace(objective, loss=loss)


def _rates(objectives: list[Objective], lr: float | dict[str, float]) -> list[float]:
    """The learning rate of each objective."""
    names = [objective.name for objective in objectives]
    if not isinstance(lr, dict):
        return [lr] * len(names)
    if set(lr) != set(names):
        raise ValueError(f"lr must have a rate for each of the objectives {names}, and no other, got {lr}")
    return [lr[name] for name in names]


def _train(model: nn.Module) -> nn.Module:
    """The model in training mode, except for frozen parts: those in evaluation mode whose weights do not train."""
    frozen = [
        module
        for module in model.modules()
        if not module.training and {weight.requires_grad for weight in module.parameters()} == {False}
    ]
    model.train()
    for module in frozen:
        module.eval()
    return model


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """What an average is kept of: weights that train, and floating-point buffers that a checkpoint holds."""
    kept = model.state_dict()
    parameters = {name: x for name, x in model.named_parameters() if x.requires_grad}
    buffers = {name: x for name, x in model.named_buffers() if x.is_floating_point() and name in kept}
    return parameters | {name: x for name, x in buffers.items() if x.isfinite().all()}  # a mask of −∞ has no average


def _adamw(parameters: list[nn.Parameter], settings: dict) -> torch.optim.AdamW:
    """The optimiser, its state made at once, so that the first checkpoint is as large as the last."""
    betas, weight_decay = tuple(settings["betas"]), settings["weight_decay"]
    optimizer = torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay, fused=True)
    for parameter in parameters:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **moments}
    return optimizer


@contextlib.contextmanager
def _interruption(*, once: bool) -> Iterator[list[int]]:
    """A list that Ctrl-C fills, so that a step can end. With `once` the second ends the block at once."""
    received: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def receive(number: int, frame: object) -> None:
        received.append(number)
        if once:
            signal.signal(signal.SIGINT, before)

    deferred = threading.current_thread() is threading.main_thread() and callable(before)
    if deferred:
        signal.signal(signal.SIGINT, receive)
    try:
        yield received
    except KeyboardInterrupt:
        pass
    finally:
        if deferred:
            signal.signal(signal.SIGINT, before)


def _check_choice(name: str, value: str, choices: object) -> str:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {get_args(choices)}, got {value!r}")
    return value


def _check_lr(lr: float | dict[str, float]) -> float | dict[str, float]:
    if isinstance(lr, dict):
        return {name: check_number(f"lr[{name!r}]", rate) for name, rate in lr.items()}
    return check_number("lr", lr)


def _check_betas(betas: tuple[float, float]) -> list[float]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {betas}")
    return [check_number("betas", beta, zero=True, below=1) for beta in betas]


def _check_types(model: nn.Module, data: tuple[Tensor, ...]) -> None:
    if isinstance(model, type):
        name = model.__name__
        raise TypeError(f"model is the class {name}, not an object: make one first, fit({name}(…), x, steps=…)")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}: fit(model, x, steps=…)")
    if not data:
        raise TypeError("fit needs data: fit(model, x, steps=…)")
    for i, x in enumerate(data):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"data must be torch.Tensors, and data[{i}] is a {type(x).__name__}: use torch.as_tensor(…), with "
                "dtype=torch.float32 unless it holds labels"
            )
        if not x.ndim or not x.numel() or len(x) != len(data[0]):
            shapes = ", ".join(str(tuple(x.shape)) for x in data)
            raise ValueError(f"data must have equally many rows, at least one, got shapes {shapes}")
    if not torch.is_grad_enabled() or any(x.is_inference() for x in model.parameters()):
        raise RuntimeError(
            "fit needs gradients: make the model and call fit outside of torch.no_grad() and torch.inference_mode()"
        )


def _check_loss(name: str, loss: Tensor) -> None:
    if not isinstance(loss, Tensor) or loss.ndim:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{name} must be one number, the mean over the batch, not {what}: use .mean()")
    if not loss.requires_grad:
        raise ValueError(f"{name} does not depend on the weights: look for detach(), .item() or torch.no_grad() in it")
