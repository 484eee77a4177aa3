"""`companion.training` against hand-written loops, closed forms, and its own uninterrupted runs."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from companion import checkpoint, training
from companion.nets import mlp
from companion.training import History, Objective, epoch_order, fit, learning_rate, load

N, D = 60, 3


def make_data(n: int = N, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, D, generator=generator, dtype=torch.float64)
    return x.to(dtype), (x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)).sin().to(dtype)


class Regression(nn.Module):
    """One objective with all that can spoil a resumption: noise, dropout, running statistics, odd gradient strides."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.W = nn.Parameter(torch.randn(8, D) / 2)
        self.bias = nn.Parameter(torch.zeros(8))
        self.body = nn.Sequential(nn.BatchNorm1d(8), nn.SiLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x @ self.W.T + self.bias)[:, 0].to(x.dtype)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self(x + 0.1 * torch.randn_like(x)) - y).square().mean()


class Players(nn.Module):
    """Two objectives whose losses reach into each other's weights; the first player moves twice in a step."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.critic, self.actor = mlp(D, 6, 1), mlp(2, 6, D)

    def fake(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(torch.randn(len(x), 2, dtype=x.dtype, device=x.device))

    def critic_loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.critic(self.fake(x)) - self.critic(x)).tanh().mean()

    def actor_loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.critic(x) - self.critic(self.fake(x))).tanh().mean()

    def objectives(self) -> list[Objective]:
        return [
            Objective("critic", list(self.critic.parameters()), self.critic_loss, turns=2),
            Objective("actor", list(self.actor.parameters()), self.actor_loss),
        ]


def train(model: nn.Module, *data: torch.Tensor, **options: object) -> History:
    defaults = {"steps": 30, "batch_size": 16, "lr": 1e-2, "precision": "float32", "device": "cpu", "progress": False}
    return fit(model, *(data or make_data()), **{**defaults, **options})


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class Crash(Exception):
    """What ends a training from inside a loss."""


def at_call(model: nn.Module, number: int, action: object) -> None:
    """Let something happen in the loss of a model, when it is called for this time, counted from 0."""
    calls = iter(range(10**9))

    def watched(loss):
        def call(*batch):
            if next(calls) == number:
                action()
            return loss(*batch)

        return call

    for name in ("loss", "critic_loss", "actor_loss"):
        if hasattr(model, name):
            setattr(model, name, watched(getattr(model, name)))


def crash() -> None:
    raise Crash


# The steps


def hand_loop(model, objectives, steps, *, ema=None, clip=None, schedule=None, **options) -> dict[str, torch.Tensor]:
    """The loop of PyTorch's tutorials: its optimiser, its schedules, its clipping, `backward`; returns the losses."""
    (x, y), batch = make_data(dtype=next(model.parameters()).dtype), 0
    optimizers = [torch.optim.AdamW(o.parameters, lr=1e-2, **{"weight_decay": 0.0, **options}) for o in objectives]
    schedulers = [schedule(optimizer) for optimizer in optimizers] if schedule else []
    losses = {o.name: [] for o in objectives}
    for _ in range(steps):
        for objective, optimizer in zip(objectives, optimizers, strict=True):
            values = []
            for _ in range(objective.turns):
                epoch, position = batch // (N // 16), batch % (N // 16)
                rows = epoch_order(N, 0, epoch)[16 * position : 16 * position + 16]
                model.zero_grad()
                loss = objective.loss(x[rows], y[rows])
                loss.backward()
                if clip:
                    norm = torch.cat([p.grad.flatten() for p in objective.parameters]).norm()
                    for p in objective.parameters:
                        p.grad *= min(1, clip / (norm.item() + 1e-6))
                optimizer.step()
                values.append(loss.item())
                batch += 1
            losses[objective.name].append(np.mean(values))
        for scheduler in schedulers:
            scheduler.step()
    return {name: torch.tensor(values) for name, values in losses.items()}


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)


def linear(optimizer):
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, 40)


def climb_then_cosine(optimizer):
    climb = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 10, 1, 9)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [climb, fall], [10])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "peers"),
    [
        ({}, {}),
        ({"weight_decay": 0.3}, {"weight_decay": 0.3}),
        ({"betas": (0.5, 0.9)}, {"betas": (0.5, 0.9)}),
        ({"clip_norm": 0.05}, {"clip": 0.05}),
        ({"schedule": "cosine"}, {"schedule": cosine}),
        ({"schedule": "linear"}, {"schedule": linear}),
        ({"schedule": "cosine", "warmup": 10}, {"schedule": climb_then_cosine}),
    ],
)
@pytest.mark.parametrize("kind", [Regression, Players])
def test_steps_are_those_of_a_hand_written_loop(kind, options, peers):
    ours, theirs = kind().double(), kind().double()
    history = train(ours, *make_data(dtype=torch.float64), steps=40, **options)
    torch.manual_seed(0)
    objectives = theirs.objectives() if kind is Players else [Objective("loss", list(theirs.parameters()), theirs.loss)]
    losses = hand_loop(theirs, objectives, 40, **peers)
    for name, expected in losses.items():
        torch.testing.assert_close(history.losses[name], expected.float())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9, msg=name)


def test_steps_are_bit_for_bit_those_of_the_fused_optimiser():
    ours, theirs = Regression(), Regression()
    train(ours, steps=40)
    torch.manual_seed(0)
    hand_loop(theirs, [Objective("loss", list(theirs.parameters()), theirs.loss)], 40, fused=True)
    assert_same(ours.state_dict(), theirs.state_dict())


def test_a_loss_moves_only_its_own_players_weights(monkeypatch):
    model = Players()
    model.objectives = lambda: [Objective("critic", list(model.critic.parameters()), model.critic_loss)]
    critic, actor, reached = state_of(model.critic), state_of(model.actor), []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (reached.extend(p.grad for p in model.parameters()), step(self))
    )
    train(model, steps=1)
    gradients = len(list(model.critic.parameters()))
    assert all(g is not None for g in reached[:gradients])
    assert all(g is None for g in reached[gradients:])
    assert_same(model.actor.state_dict(), actor)
    assert not torch.equal(model.critic[0].weight, critic["0.weight"])
    assert all(p.grad is None for p in model.parameters())


def test_frozen_and_unused_weights_stay():
    model = Regression()
    model.W.requires_grad_(False)
    model.spare = nn.Parameter(torch.ones(3))
    W = model.W.clone()
    train(model, weight_decay=0.1)
    assert torch.equal(model.W, W)
    assert torch.equal(model.spare, torch.ones(3))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_are_their_closed_forms(schedule, warmup):
    rates = [learning_rate(step, steps=100, lr=3e-3, schedule=schedule, warmup=warmup) for step in range(100)]
    assert rates[:warmup] == pytest.approx([3e-3 * (step + 1) / 7 for step in range(warmup)])
    t = np.arange(100 - warmup) / (100 - warmup)
    shape = {"constant": np.ones_like(t), "linear": 1 - t, "cosine": np.cos(np.pi * t / 2) ** 2}[schedule]
    assert rates[warmup:] == pytest.approx(3e-3 * shape)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_the_average_is_that_of_the_recorded_weights(decay):
    weights, model = [], Regression()
    for steps in range(1, 13):
        raw = Regression()
        train(raw, steps=steps)
        weights.append(torch.cat([p.detach().flatten() for p in raw.parameters()]))
    train(model, steps=12, ema=decay)
    share = torch.tensor([decay ** (12 - s) for s in range(1, 13)])
    expected = (share[:, None] / share.sum() * torch.stack(weights)).sum(0)
    found = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_decay_averages_the_statistics_of_batch_norm_with_the_weights():
    """As recorded, so that those of the last weights alone are 20 standard errors away; integers stay the last ones."""
    decay, recorded, model = 0.9, [], Regression()
    for steps in range(1, 13):
        raw = Regression()
        train(raw, steps=steps, lr=0.1)
        recorded.append(torch.cat([raw.body[0].running_mean, raw.body[0].running_var]))
    train(model, steps=12, lr=0.1, ema=decay)
    share = torch.tensor([decay ** (12 - s) for s in range(1, 13)])
    expected = (share[:, None] / share.sum() * torch.stack(recorded)).sum(0)
    found = torch.cat([model.body[0].running_mean, model.body[0].running_var])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found - recorded[-1]).norm() > 0.1 * found.norm()
    assert model.body[0].num_batches_tracked == 12


def test_averaged_statistics_belong_to_the_averaged_weights(tmp_path):
    """They are nearer to the data's statistics under these weights than the statistics of the last weights are."""

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.norm, self.last = nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)

        def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (self.last(self.norm(self.first(x)).tanh())[:, 0] - y).square().mean()

    model, path = Centred(), tmp_path / "run.safetensors"
    x, y = make_data(600)
    train(model, x, y, steps=300, lr=0.05, ema=0.98, checkpoint=path)
    with torch.no_grad():
        truth = model.first(x).mean(0)
    last = load_file(path)["model.norm.running_mean"]
    assert (model.norm.running_mean - truth).norm() < 0.5 * (last - truth).norm()


def test_constant_buffers_stay_and_a_mask_of_infinities_is_no_average():
    model = Regression()
    model.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
    model.register_buffer("B", torch.randn(5))
    before = state_of(model)
    train(model, ema=0.9)
    assert torch.equal(model.mask, before["mask"])
    assert torch.equal(model.B, before["B"])


@pytest.mark.slow
def test_each_player_has_its_own_rate():
    """As two optimisers of PyTorch with two rates, bit for bit, a schedule on both."""
    rates, ours, theirs = {"critic": 3e-2, "actor": 1e-3}, Players(), Players()
    train(ours, steps=40, lr=rates, schedule="linear")
    torch.manual_seed(0)
    critic, actor = theirs.objectives()
    (x, y), batch = make_data(), 0
    optimizers = [torch.optim.AdamW(o.parameters, weight_decay=0.0, fused=True) for o in (critic, actor)]
    for step in range(40):
        for objective, optimizer in zip((critic, actor), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = rates[objective.name] * (1 - step / 40)
            for _ in range(objective.turns):
                rows = epoch_order(N, 0, batch // 3)[16 * (batch % 3) : 16 * (batch % 3) + 16]
                theirs.zero_grad()
                objective.loss(x[rows], y[rows]).backward()
                optimizer.step()
                batch += 1
    assert_same(ours.state_dict(), theirs.state_dict())
    same = Players()
    train(same, steps=40, lr=1e-3, schedule="linear")
    assert not torch.equal(same.critic[0].weight, ours.critic[0].weight)


def test_training_learns_and_says_what_happened():
    model, (x, y) = mlp(D, 32, 1), make_data(600)
    model.loss = lambda x, y: (model(x)[:, 0] - y).square().mean()
    before = model.loss(x, y).item()
    history = train(model, x, y, steps=400, batch_size=64, schedule="cosine")
    assert model.loss(x, y).item() < 0.4 * before
    assert set(history.losses) == {"loss"}
    losses = history.losses["loss"]
    assert (losses.shape, losses.dtype, losses.device.type) == ((400,), torch.float32, "cpu")
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()
    assert history.seconds > 0
    assert not history.interrupted


# The batches


class Recorder(nn.Module):
    """Keeps the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.batches = nn.Parameter(torch.zeros(())), []

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.batches.append((x.clone(), y.clone()))
        return (self.w - x.float().mean()).square()


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (13, 4), (5, 5), (3, 8), (1, 1)])
def test_an_epoch_shows_every_row_once(n, batch_size):
    model, rows = Recorder(), torch.arange(n)
    epochs, size = 5, min(batch_size, n)
    train(model, rows[:, None], rows * 10, steps=epochs * (n // size), batch_size=batch_size)
    assert len(model.batches) == epochs * (n // size)
    seen = []
    for x, y in model.batches:
        assert len(x) == size
        assert torch.equal(10 * x[:, 0], y)
        seen += x[:, 0].tolist()
    shown = size * (n // size)
    for epoch in range(epochs):
        assert len(set(seen[epoch * shown : (epoch + 1) * shown])) == shown
    orders = {tuple(seen[epoch * shown : (epoch + 1) * shown]) for epoch in range(epochs)}
    assert len(orders) > 1 or n == 1
    if shown < n:  # the rows left out differ from epoch to epoch
        assert set(seen) == set(range(n))


def test_each_turn_takes_the_next_batch():
    class Two(Recorder):
        def objectives(self) -> list[Objective]:
            return [Objective("a", [self.w], self.loss, turns=2), Objective("b", [self.w], self.loss)]

    model, rows = Two(), torch.arange(12)
    train(model, rows[:, None], rows, steps=2, batch_size=2)
    assert sorted(torch.cat([x[:, 0] for x, _ in model.batches]).tolist()) == list(range(12))


def test_the_order_is_a_permutation_decided_by_seed_and_epoch():
    orders = {}
    for seed in (0, 1, 2**40):
        for epoch in (0, 1, 2):
            order = epoch_order(50, seed, epoch)
            assert sorted(order.tolist()) == list(range(50))
            assert torch.equal(order, epoch_order(50, seed, epoch))
            orders[tuple(order.tolist())] = seed, epoch
    assert len(orders) == 9
    first = np.array([epoch_order(10, 0, epoch)[0] for epoch in range(2000)])
    counts = np.bincount(first, minlength=10)
    assert np.abs(counts - 200).max() < 4.5 * math.sqrt(2000 * 0.1 * 0.9)


# Randomness and state that belong to the caller


@pytest.mark.parametrize("end", ["normal", "error"])
def test_the_callers_generator_is_untouched(end):
    model = Regression()
    if end == "error":
        at_call(model, 3, crash)
    torch.manual_seed(5)
    before, python, numpy = torch.get_rng_state(), torch.initial_seed(), np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(Crash) if end == "error" else contextlib.nullcontext():
        train(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.initial_seed() == python
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


def test_the_seed_alone_decides():
    results = []
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        model = Regression()
        torch.manual_seed(outside)
        history = train(model, seed=seed)
        results.append((history.losses["loss"], model.W.detach()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])


@pytest.mark.parametrize("end", ["normal", "error"])
def test_modes_and_device_come_back(device, end):
    model = Regression()
    model.body[0].eval()
    modes = [module.training for module in model.modules()]
    inside, moves, to = [], [], model.to
    model.to = lambda place: moves.append(torch.device(place).type) or to(place)
    at_call(model, 0, lambda: inside.append((all(m.training for m in model.modules()), model.W.device.type)))
    if end == "error":
        at_call(model, 3, crash)
    with pytest.raises(Crash) if end == "error" else contextlib.nullcontext():
        train(model, device=device)
    assert inside == [(True, device.type)]
    assert moves == [device.type, "cpu"]
    assert [module.training for module in model.modules()] == modes
    assert all(x.device.type == "cpu" for x in model.state_dict().values())


def test_a_model_trains_on_every_device(device, tmp_path):
    (x, y), path = make_data(), tmp_path / "run.safetensors"
    model, start = Regression().to(device), Regression()
    options = {"steps": 40, "batch_size": N, "lr": 1e-2, "progress": False, "ema": 0.9, "checkpoint": path}
    history = fit(model, x, y, device=device, **options)
    assert model.W.device.type == device.type
    assert history.losses["loss"].device.type == "cpu"
    assert history.losses["loss"][-5:].mean() < history.losses["loss"][:5].mean()
    load(start, path)
    torch.testing.assert_close(start.W, model.W.cpu())


# Nothing waits for the device


class _Syncs(TorchDispatchMode):
    """Counts what would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += 1
        if function._overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.calls.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [Regression, Players])
def test_no_step_reads_a_value(kind, monkeypatch):
    """From the third loss to the last, with every option on, and the losses looked at as often as can be."""
    monkeypatch.setattr(training.time, "perf_counter", iter(range(10**6)).__next__)
    model, mode = kind(), _Syncs()
    last = 3 * 40 - 1 if kind is Players else 39
    at_call(model, 2, mode.__enter__)
    at_call(model, last, lambda: mode.__exit__(None, None, None))
    options = {"clip_norm": 1.0, "ema": 0.9, "schedule": "cosine", "weight_decay": 0.1, "checkpoint_every": 1}
    train(model, steps=40, **options)
    assert mode.seen > 1000
    assert mode.calls == []


def test_the_counter_sees_a_value_that_is_read():
    model, mode = Regression(), _Syncs()
    loss = model.loss
    model.loss = lambda x, y: loss(x, y) if loss(x, y) > 0 else None
    at_call(model, 2, mode.__enter__)
    at_call(model, 20, lambda: mode.__exit__(None, None, None))
    train(model)
    assert mode.calls


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks CUDA whether anything waited")
def test_no_step_waits_for_cuda():
    x, y = (t.repeat(20, 1) if t.ndim > 1 else t.repeat(20) for t in make_data())
    model = Regression()
    at_call(model, 3, lambda: torch.cuda.set_sync_debug_mode("error"))
    at_call(model, 399, lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        history = train(model, x, y, steps=400, device="cuda", clip_norm=1.0, ema=0.9, schedule="cosine")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert history.losses["loss"].isfinite().all()


# Precision


def test_bfloat16_runs_in_bfloat16_and_learns(device):
    model, kinds = Regression(), set()
    model.body[3].register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    history = train(model, steps=100, precision="bfloat16", device=device)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert history.losses["loss"][-10:].mean() < 0.8 * history.losses["loss"][:10].mean()
    kinds.clear()
    train(model, precision="float32", device=device)
    assert kinds == {torch.float32}


# Checkpoints: exact resumption

FEATURES = {
    "plain": {},
    "ema": {"ema": 0.95},
    "schedule": {"schedule": "cosine", "warmup": 5},
    "clip and decay": {"clip_norm": 0.1, "weight_decay": 0.1},
    "everything": {"ema": 0.9, "schedule": "linear", "warmup": 3, "clip_norm": 0.5, "weight_decay": 0.01, "seed": 9},
    "bfloat16": {"precision": "bfloat16", "ema": 0.9},
}


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("kind", [Regression, Players])
@pytest.mark.parametrize("stops", [(0,), (1, 2), (17,), (7, 14, 29), (5, 6, 22, 23)])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, kind, features, stops):
    whole, path, options = kind(), tmp_path / "run.safetensors", FEATURES[features]
    expected = train(whole, **options)
    turns = 3 if kind is Players else 1
    for stop in stops:
        model = kind(seed=stop + 1)  # another start: all must come from the file
        if path.exists():
            done = checkpoint.read(path)[1]["done"]
        else:
            model, done = kind(), 0
        at_call(model, turns * (stop - done) + turns // 2, crash)
        with pytest.raises(Crash):
            train(model, checkpoint=path, checkpoint_every=3, **options)
        assert checkpoint.read(path)[1]["done"] == stop // 3 * 3
    model = kind(seed=99)
    history = train(model, checkpoint=path, checkpoint_every=3, **options)
    assert_same(model.state_dict(), whole.state_dict())
    assert_same(history.losses, expected.losses)
    assert history.seconds > 0


def test_checkpoints_change_nothing(tmp_path):
    with_file, without = Regression(), Regression()
    train(with_file, checkpoint=tmp_path / "new" / "folder" / "run.safetensors", checkpoint_every=1)
    train(without)
    assert_same(with_file.state_dict(), without.state_dict())
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["run.safetensors"]


def test_a_finished_run_is_only_read(tmp_path):
    path, model = tmp_path / "run.safetensors", Regression()
    first = train(model, checkpoint=path, ema=0.9)
    written, again = path.stat().st_mtime_ns, Regression(seed=3)
    at_call(again, 0, crash)
    history = train(again, checkpoint=str(path), ema=0.9)
    assert_same(again.state_dict(), model.state_dict())
    assert torch.equal(history.losses["loss"], first.losses["loss"])
    assert (history.seconds, history.interrupted) == (first.seconds, False)
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("kind", [Regression, Players])
@pytest.mark.parametrize("first", [12, 30])
def test_more_steps_go_on_as_if_they_had_been_asked_for_at_once(tmp_path, kind, first):
    """Past the end of 12 steps, and of 30 of which 12 were done; with more and with fewer steps than there."""
    path, options = tmp_path / "run.safetensors", {"ema": 0.9, "warmup": 5, "clip_norm": 0.5}
    whole, model, resumed = kind(), kind(), kind(seed=4)
    expected = train(whole, steps=25, **options)
    if first == 30:
        at_call(model, 12 * (3 if kind is Players else 1), crash)
    with pytest.raises(Crash) if first == 30 else contextlib.nullcontext():
        train(model, steps=first, checkpoint=path, checkpoint_every=4, **options)
    assert checkpoint.read(path)[1]["done"] == 12
    history = train(resumed, steps=25, checkpoint=path, **options)
    assert_same(resumed.state_dict(), whole.state_dict())
    assert_same(history.losses, expected.losses)
    assert checkpoint.read(path)[1]["done"] == 25
    assert checkpoint.read(path)[1]["call"]["steps"] == 25


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_falling_schedule_says_how_to_go_on(tmp_path, schedule):
    path, model = tmp_path / "run.safetensors", Regression()
    train(model, checkpoint=path, schedule=schedule)
    with pytest.raises(ValueError, match=r"steps is 30 there, 60 here.*if the schedule is constant.*load\(model, path"):
        train(Regression(), steps=60, checkpoint=path, schedule=schedule)
    fresh = Regression(seed=3)
    load(fresh, path)  # the way on that the message names
    assert len(train(fresh, steps=60, checkpoint=tmp_path / "more.safetensors", schedule=schedule).losses["loss"]) == 60


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, fresh = Regression(), Regression(seed=1)
    train(model, checkpoint="~/runs/run.safetensors")
    assert (tmp_path / "runs" / "run.safetensors").is_file()
    assert not (tmp_path / "~").exists()
    load(fresh, "~/runs/run.safetensors")
    assert_same(fresh.state_dict(), model.state_dict())
    train(Regression(seed=2), checkpoint=Path("~") / "runs" / "run.safetensors")


def test_a_checkpoint_is_safetensors_with_plain_values(tmp_path):
    path, model = tmp_path / "run.safetensors", Regression()
    train(model, checkpoint=path)
    tensors = load_file(path)
    for name, x in model.state_dict().items():
        assert torch.equal(tensors[f"model.{name}"], x)
    assert tensors["losses"].shape == (1, 30)
    about = checkpoint.read(path)[1]
    assert about["done"] == 30
    assert about["call"]["lr"] == 1e-2


@pytest.mark.parametrize("ema", [None, 0.9])
def test_load_gives_the_weights_that_fit_gave(tmp_path, ema):
    path, model, fresh = tmp_path / "run.safetensors", Regression(), Regression(seed=4)
    train(model, checkpoint=path, ema=ema)
    load(fresh, path)
    assert_same(fresh.state_dict(), model.state_dict())
    load(fresh, str(path))
    with pytest.raises(ValueError, match=r"(?s)run.safetensors is a checkpoint of another model.*critic"):
        load(Players(), path)
    with pytest.raises(FileNotFoundError):
        load(fresh, tmp_path / "none.safetensors")


def test_tied_weights_survive(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(D, D), nn.Linear(D, D)
            self.b.weight = self.a.weight

        def loss(self, x: torch.Tensor) -> torch.Tensor:
            return (self.b(self.a(x).tanh()) - x).square().mean()

    x, path = make_data()[0], tmp_path / "run.safetensors"
    torch.manual_seed(0)
    model, fresh = Tied(), Tied()
    train(model, x, checkpoint=path, ema=0.9)
    load(fresh, path)
    assert_same(fresh.state_dict(), model.state_dict())
    assert fresh.b.weight is fresh.a.weight


@pytest.mark.parametrize("name", ["model", "ema", "rng", "losses"])
def test_an_objective_may_have_any_name(tmp_path, name):
    class Named(Regression):
        def objectives(self) -> list[Objective]:
            return [Objective(name, list(self.parameters()), self.loss)]

    path, model, resumed, fresh = tmp_path / "run.safetensors", Named(), Named(), Named()
    train(model, checkpoint=path, ema=0.9)
    train(resumed, checkpoint=path, ema=0.9)
    load(fresh, path)
    assert_same(resumed.state_dict(), model.state_dict())
    assert_same(fresh.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 2e-2}, r"lr is 0.01 there, 0.02 here"),
        ({"steps": 29}, r"steps is 30 there, 29 here"),
        ({"ema": 0.5, "clip_norm": 1.0}, r"clip_norm is None there, 1.0 here; ema is None there, 0.5 here"),
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"precision": "bfloat16"}, "precision is float32 there, bfloat16 here"),
        ({"betas": (0.5, 0.9)}, r"betas is \[0.9, 0.999\] there, \[0.5, 0.9\] here"),
    ],
)
def test_other_settings_are_named(tmp_path, changes, named):
    path = tmp_path / "run.safetensors"
    train(Regression(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"run.safetensors comes from another call: {named}.*delete this one"):
        train(Regression(), checkpoint=path, **changes)
    assert path.read_bytes() == before


def test_other_data_and_other_models_are_named(tmp_path):
    (x, y), path = make_data(), tmp_path / "run.safetensors"
    train(Regression(), x, y, checkpoint=path)
    before = path.read_bytes()
    changed = y.clone()
    changed[3] += 1e-6
    for data, model, named in (
        ((x, changed), Regression(), r"data\[1\] is torch.float32 \(60,\) with SHA-256"),
        ((x[:-1], y[:-1]), Regression(), r"data\[0\] is torch.float32 \(60, 3\)"),
        ((x, y), Players(), "turns is {'loss': 1} there, {'critic': 2, 'actor': 1} here"),
        ((x, y), Regression().double(), r"model.W is torch.float32 \(8, 3\) there, torch.float64"),
    ):
        with pytest.raises(ValueError, match=named):
            train(model, *data, checkpoint=path)
        assert path.read_bytes() == before


# Checkpoints: files that are no checkpoints, and places where none can be


@pytest.mark.parametrize("content", ["empty", "text", "cut", "foreign", "labelled", "list"])
def test_a_damaged_or_foreign_file_is_one_clear_error_and_stays(tmp_path, content):
    path, model = tmp_path / "run.safetensors", Regression()
    if content == "cut":
        train(model, checkpoint=path)
        path.write_bytes(path.read_bytes()[:-40])
    elif content in ("foreign", "labelled", "list"):
        labels = {"foreign": None, "labelled": {"format": "pt"}, "list": {"companion.training": "no json"}}
        save_file({"weight": torch.ones(3)}, path, metadata=labels[content])
    else:
        path.write_text({"empty": "", "text": "my notes, not to be lost\n" * 50}[content], encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"run.safetensors is damaged or no checkpoint of fit.*delete it"):
        train(Regression(), checkpoint=path)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load(Regression(), path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    model = Regression()
    at_call(model, 0, crash)
    for path in (tmp_path / "file" / "run.safetensors", "/proc/run.safetensors"):
        with pytest.raises(OSError, match=r"file|/proc"):
            train(model, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint must name a file, .* is a folder"):
        train(model, checkpoint=tmp_path)


@pytest.mark.parametrize("room", [0, 1])
def test_a_full_disk_is_known_before_training(tmp_path, monkeypatch, room):
    """With no room at all, and with room for one file where a replacement needs two."""
    path, model, writes = tmp_path / "run.safetensors", Regression(), []
    at_call(model, 0, crash)

    def fsync(handle: int) -> None:
        writes.append(handle)
        if len(writes) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        train(model, checkpoint=path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"][:room]


def test_a_disk_that_fills_later_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    path, whole = tmp_path / "run.safetensors", Regression()
    train(whole)

    def fsync(handle: int) -> None:
        if path.exists() and checkpoint.read(path)[1]["done"] == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sync = os.fsync
    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        train(Regression(), checkpoint=path, checkpoint_every=10)
    monkeypatch.setattr(checkpoint.os, "fsync", sync)
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert checkpoint.read(path)[1]["done"] == 20
    model = Regression(seed=2)
    train(model, checkpoint=path, checkpoint_every=10)
    assert_same(model.state_dict(), whole.state_dict())


# Checkpoints: kill -9

ENDS = ("random", "fsync", "half")
LONG = {"steps": 40, "ema": 0.9, "clip_norm": 1.0, "schedule": "cosine"}

#: Trains, for each way to die, in forked children that die in it; prints what the file holds after each life.
KILLED = """
import os, random, resource, signal, sys, time
from pathlib import Path
import torch, torch._dynamo  # which every optimiser needs: imported once here, not in every life
torch.set_num_threads(1)
from companion import checkpoint
from test_training import ENDS, LONG, Players, train

def child(how, path):
    model = Players(seed=0 if not path.exists() else 5)
    writes = iter(range(10**6))
    if how == "fsync":  # dies with the whole file written, but not yet in its place
        sync = os.fsync
        checkpoint.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL) if next(writes) == 9 else sync(handle)
    if how == "half":  # the kernel ends it in the middle of a write
        save = checkpoint.save
        def limited(*args):
            content = save(*args)
            if next(writes) == 9:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, resource.RLIM_INFINITY))
            return content
        checkpoint.save = limited
    train(model, checkpoint=path, checkpoint_every=1, **LONG)

random.seed(1)
for how in ENDS:
    path = Path(sys.argv[1]) / f"{how}.safetensors"
    done, longest, lives, status = 0, 0.1, 0, None
    while status != 0:
        pid = os.fork()
        if pid == 0:
            child(how, path)
            os._exit(0)
        lives += 1
        if how == "random" and lives < 20:
            time.sleep(random.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        before, done = done, checkpoint.read(path)[1]["done"] if path.exists() else 0
        print(how, done, os.path.exists(str(path) + ".partial"), flush=True)
        assert status == 0 or os.WIFSIGNALED(status), status
        if done == before:  # a slow machine needs longer lives
            longest *= 1.5
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the checkpoint of each run, and its lives: (steps done, whether a part of a file was left)."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "killed.py").write_text(KILLED, encoding="utf-8")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(folder / "killed.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    return folder, {end: [(int(done), left == "True") for how, done, left in lines if how == end] for end in ENDS}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process that it forked")
@pytest.mark.parametrize("how", ENDS)
def test_a_run_killed_until_it_is_done_is_the_uninterrupted_one(killed, how):
    folder, lives = killed
    done, left = zip(*lives[how], strict=True)
    assert list(done) == sorted(done)  # a dead write never costs what an earlier one has saved
    assert done[-1] == LONG["steps"]
    assert len(done) > 3
    if how != "random":
        assert all(left[:-1])
        assert done[:3] == (7, 15, 23)  # two writes, and when resumed one, make sure of the room; the tenth is lost
    whole, model = Players(), Players(seed=8)
    expected = train(whole, **LONG)
    history = train(model, checkpoint=folder / f"{how}.safetensors", **LONG)
    assert_same(model.state_dict(), whole.state_dict())
    assert_same(history.losses, expected.losses)


# Losses that are not finite


class Poisoned(Regression):
    """A loss that turns bad at one step."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__()
        self.step, self.value, self.calls = step, value, 0

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().loss(x, y) * (self.value if self.calls == self.step + 1 else 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 13, 29])
def test_a_bad_loss_stops_with_step_and_name_and_keeps_the_checkpoint(tmp_path, step, value):
    path = tmp_path / "run.safetensors"
    message = rf"loss is -?(nan|inf) at step {step}: lower lr, set clip_norm.*run.safetensors keeps the last good state"
    with pytest.raises(FloatingPointError, match=message):
        train(Poisoned(step, value), checkpoint=path, checkpoint_every=5)
    tensors, about = checkpoint.read(path)
    assert about["done"] == step // 5 * 5
    assert all(x.isfinite().all() for x in tensors.values() if x.is_floating_point())
    with pytest.raises(FloatingPointError, match=rf"loss is -?(nan|inf) at step {step}: .*data and weights$"):
        train(Poisoned(step, value))


def test_a_bad_loss_stops_a_long_run_early():
    model = Poisoned(3, math.nan)
    with pytest.raises(FloatingPointError, match="at step 3"):
        train(model, steps=10**6)
    assert model.calls < 10**5


def test_looks_on_the_way_name_the_right_step(monkeypatch):
    monkeypatch.setattr(training.time, "perf_counter", iter(range(10**6)).__next__)
    model = Poisoned(37, math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 37:"):
        train(model, steps=1000)
    assert model.calls < 50


def test_a_bad_loss_names_its_player():
    model = Players()
    loss = model.actor_loss
    model.actor_loss = lambda x, y: loss(x, y) / 0
    with pytest.raises(FloatingPointError, match=r"actor is -?(inf|nan) at step 0"):
        train(model)


def test_bad_weights_behind_a_good_loss_never_reach_a_checkpoint(tmp_path):
    class Edge(nn.Module):
        """The root has no slope at 0, where step 6 leads: the loss is 0, the gradient NaN."""

        def __init__(self) -> None:
            super().__init__()
            self.w, self.calls = nn.Parameter(torch.ones(2)), 0

        def loss(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            w = self.w * 0 if self.calls == 7 else self.w
            return (w.square().sum() * 0).sqrt() if self.calls == 7 else w.square().sum()

    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match="loss has weights that are NaN or infinite before step 7"):
        train(Edge(), make_data()[0], checkpoint=path, checkpoint_every=1)
    tensors, about = checkpoint.read(path)
    assert about["done"] == 6
    assert tensors["model.w"].isfinite().all()


# Ctrl-C


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("kind", [Regression, Players])
def test_an_interrupt_ends_after_the_step_and_the_same_call_goes_on(tmp_path, kind):
    path, turns, options = tmp_path / "run.safetensors", 3 if kind is Players else 1, {"ema": 0.9}
    whole, model, short = kind(), kind(), kind()
    expected = train(whole, **options)
    train(short, steps=12, **options)
    handler = signal.getsignal(signal.SIGINT)
    at_call(model, 11 * turns + turns // 2, interrupt)
    history = train(model, checkpoint=path, **options)
    assert history.interrupted
    for name, losses in history.losses.items():
        assert torch.equal(losses, expected.losses[name][:12])
    assert_same(model.state_dict(), short.state_dict())
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint.read(path)[1]["done"] == 12
    resumed = kind(seed=6)
    history = train(resumed, checkpoint=path, **options)
    assert not history.interrupted
    assert_same(resumed.state_dict(), whole.state_dict())
    assert_same(history.losses, expected.losses)


def test_a_second_interrupt_ends_at_once(tmp_path):
    path, whole, model = tmp_path / "run.safetensors", Regression(), Regression()
    train(whole)

    def twice() -> None:
        interrupt()
        interrupt()
        crash()  # never reached

    at_call(model, 11, twice)
    history = train(model, checkpoint=path, checkpoint_every=5)
    assert history.interrupted
    assert len(history.losses["loss"]) == 11
    assert checkpoint.read(path)[1]["done"] == 10  # the step was torn, so nothing is written
    resumed = Regression(seed=6)
    train(resumed, checkpoint=path, checkpoint_every=5)
    assert_same(resumed.state_dict(), whole.state_dict())


def test_an_interrupt_in_another_thread_than_the_main_one():
    model, results = Regression(), []

    def stop() -> None:
        raise KeyboardInterrupt

    at_call(model, 4, stop)
    thread = threading.Thread(target=lambda: results.append(train(model)))
    thread.start()
    thread.join()
    assert results[0].interrupted
    assert len(results[0].losses["loss"]) == 4


# The progress bar


@pytest.mark.slow
def test_the_bar_shows_rate_time_left_and_losses(capfd):
    train(Players(), steps=400, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    last = err.replace("\n", "").split("\r")[-1]
    assert "400/400" in last
    assert "it/s" in last
    assert "critic=" in last
    assert "actor=" in last
    assert any("<00:" in line for line in err.split("\r"))


def test_no_bar_when_none_is_wanted(capfd):
    train(Regression(), progress=False)
    assert capfd.readouterr() == ("", "")


# What is refused


class Vector(Regression):
    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self(x) - y).square()


class Constant(Regression):
    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.mean()


class Silent(Regression):
    def loss(self, x: torch.Tensor, y: torch.Tensor) -> None:
        pass


class Borrowing(Players):
    def objectives(self) -> list[Objective]:
        return [Objective("critic", [*self.critic.parameters(), nn.Parameter(torch.ones(1))], self.critic_loss)]


class Twins(Players):
    def objectives(self) -> list[Objective]:
        return [super().objectives()[0]] * 2


class Idle(Players):
    def objectives(self) -> list[Objective]:
        return [Objective("critic", [], self.critic_loss)]


class Never(Players):
    def objectives(self) -> list[Objective]:
        return [Objective("critic", list(self.critic.parameters()), self.critic_loss, turns=0)]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "steps must be at least 1", lambda: train(Regression(), steps=0)),
        (TypeError, "steps must be an int", lambda: train(Regression(), steps=10.0)),
        (ValueError, "batch_size must be at least 1", lambda: train(Regression(), batch_size=0)),
        (ValueError, "lr must be positive and finite", lambda: train(Regression(), lr=0.0)),
        (ValueError, "lr must be positive and finite", lambda: train(Regression(), lr=math.nan)),
        (ValueError, r"lr\['loss'\] must be positive", lambda: train(Regression(), lr={"loss": -1.0})),
        (ValueError, r"each of the objectives \['loss'\]", lambda: train(Regression(), lr={"loss": 1e-2, "b": 1e-2})),
        (ValueError, r"each of the objectives \['critic', 'actor'\]", lambda: train(Players(), lr={"actor": 1e-2})),
        (TypeError, "lr must be a number", lambda: train(Regression(), lr="1e-3")),
        (ValueError, "betas must be at least 0 and less than 1", lambda: train(Regression(), betas=(0.9, 1.0))),
        (ValueError, "betas must be two numbers", lambda: train(Regression(), betas=(0.9,))),
        (ValueError, "betas must be two numbers", lambda: train(Regression(), betas=0.9)),
        (ValueError, "weight_decay must be at least 0", lambda: train(Regression(), weight_decay=-0.1)),
        (ValueError, r"schedule must be one of .*cosine.*, got 'step'", lambda: train(Regression(), schedule="step")),
        (ValueError, "warmup must be less than the 30 steps", lambda: train(Regression(), warmup=30)),
        (ValueError, "warmup must be at least 0", lambda: train(Regression(), warmup=-1)),
        (ValueError, "clip_norm must be positive", lambda: train(Regression(), clip_norm=0)),
        (ValueError, "ema must be at least 0 and less than 1", lambda: train(Regression(), ema=1.0)),
        (ValueError, "precision must be one of", lambda: train(Regression(), precision="half")),
        (ValueError, "seed must be at least 0", lambda: train(Regression(), seed=-1)),
        (ValueError, r"seed must be less than 2\*\*64", lambda: train(Regression(), seed=2**64)),
        (ValueError, "checkpoint_every must be at least 1", lambda: train(Regression(), checkpoint_every=0)),
        (TypeError, "fit needs data", lambda: fit(Regression(), steps=3)),
        (TypeError, r"data\[0\] is a ndarray: use torch.as_tensor", lambda: train(Regression(), np.zeros((4, 3)))),
        (TypeError, r"data\[1\] is a list", lambda: train(Regression(), make_data()[0], [1.0] * N)),
        (TypeError, r"loss of Regression takes \(x, y\), and fit got 1 tensor of", lambda: train(Regression(), Y)),
        (TypeError, "critic of Players .* got 3 tensors of", lambda: train(Players(), Y, Y, Y)),
        (TypeError, "model is the class Regression, not an object", lambda: train(Regression)),
        (ValueError, r"equally many rows.*\(60, 3\), \(59,\)", lambda: train(Regression(), *make_data()[:1], Y[1:])),
        (ValueError, "at least one", lambda: train(Regression(), torch.zeros(0, 3))),
        (ValueError, "at least one", lambda: train(Regression(), torch.tensor(1.0))),
        (TypeError, r"loss\(\*batch\) or objectives\(\), and Linear has neither", lambda: train(nn.Linear(3, 1))),
        (TypeError, "model must be a torch.nn.Module, not str", lambda: train("model")),
        (ValueError, r"loss must be one number, .* not a tensor of shape \(16,\): use .mean", lambda: train(Vector())),
        (ValueError, "loss must be one number, .* not NoneType", lambda: train(Silent())),
        (ValueError, "loss does not depend on the weights: look for detach", lambda: train(Constant())),
        (ValueError, "critic trains parameters of another model", lambda: train(Borrowing())),
        (ValueError, "names that differ", lambda: train(Twins())),
        (ValueError, "critic has no parameters", lambda: train(Idle())),
        (ValueError, "loss has no parameters", lambda: train(Regression().requires_grad_(False))),
        (ValueError, "turns must be at least 1", lambda: train(Never())),
    ],
)
def test_bad_input_is_named_with_a_remedy(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_switched_off_gradients_are_named(mode):
    with mode():
        made_inside = Regression()
        with pytest.raises(RuntimeError, match=r"fit needs gradients: make the model and call fit outside"):
            train(Regression())
    if mode is torch.inference_mode:
        with pytest.raises(RuntimeError, match="fit needs gradients"):
            train(made_inside)


def test_a_model_looks_at_all_the_data_once_before_the_first_step(tmp_path):
    class Particular(Regression):
        def check_data(self, *data: torch.Tensor) -> None:
            seen.append(data)
            if data[0].abs().max() > 100:
                raise ValueError("x must be standardised")

    (x, y), path, seen, model = make_data(), tmp_path / "run.safetensors", [], Particular()
    at_call(model, 0, lambda: seen.append("first step"))
    train(model, x, y)
    assert torch.equal(seen[0][0], x)
    assert torch.equal(seen[0][1], y)
    assert seen[1:] == ["first step"]
    with pytest.raises(ValueError, match="x must be standardised"):
        train(Particular(), 1000 * x, y, checkpoint=path)
    assert not path.exists()


Y = make_data()[1]


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parts_stay_as_they_are(frozen):
    """A trained part that was put in evaluation mode and needs no gradients keeps its statistics; all others learn."""
    model = Regression()
    model.body.eval().requires_grad_(not frozen)
    before = model.body[0].running_mean.clone()
    modes = []
    model.body[2].register_forward_hook(lambda module, *_: modes.append(module.training))
    fit(model, *make_data(), steps=3, progress=False)
    assert torch.equal(model.body[0].running_mean, before) is frozen
    assert modes == [not frozen] * 3
    assert model.training
    assert not model.body[2].training


def test_a_model_that_does_not_run_leaves_no_checkpoint(tmp_path):
    """Otherwise the mended model would be refused as another one."""
    wrong, right = Regression(), Regression()
    wrong.body[3] = nn.Linear(9, 1)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2"):
        fit(wrong, *make_data(), steps=3, checkpoint=tmp_path / "c", progress=False)
    fit(right, *make_data(), steps=3, checkpoint=tmp_path / "c", progress=False)
    right.body[3] = nn.Linear(9, 1)
    with pytest.raises(ValueError, match=r"comes from another call"):
        fit(right, *make_data(), steps=9, checkpoint=tmp_path / "c", progress=False)
    assert (tmp_path / "c").exists()  # what was learnt is not thrown away
