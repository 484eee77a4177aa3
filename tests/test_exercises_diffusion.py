from __future__ import annotations

import math
from pathlib import Path

import jupytext
import pytest
import torch

from companion.exercises import diffusion

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "05-diffusion.md"
NUMBERS = ["5.1", "5.2", "5.3", "5.4"]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    exec(cells[0], {"torch": torch, "math": math, **vars(diffusion)})
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("empty", [None, ..., (..., ...)])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    getattr(diffusion, f"check_{number.replace('.', '_')}")(lambda *_: empty)
    assert "○" in capsys.readouterr().out


def posterior(
    x_t, x_0, a_s, s_s, a_t, s_t, *, noise=True, data=True, spread=lambda step, s_s, s_t: step * (s_s / s_t) ** 2
):
    ratio = a_t / a_s
    step = s_t**2 - (ratio * s_s) ** 2
    mean = noise * ratio * (s_s / s_t) ** 2 * x_t + data * a_s * step / s_t**2 * x_0
    return mean, torch.tensor(spread(step, s_s, s_t))


WRONG_5_1 = {
    "has shape": lambda x_t, *rest: (posterior(x_t, *rest)[0].sum(1), posterior(x_t, *rest)[1]),
    "lacks x_0": lambda x_t, x_0, a_s, s_s, a_t, s_t: (a_s / a_t * x_t, torch.tensor(1.0)),
    "mean of q(x_s | x_0)": lambda x_t, x_0, a_s, s_s, a_t, s_t: (a_s * x_0, torch.tensor(s_s**2)),
    "mean differs": lambda *args: posterior(*args, data=False),
    "standard deviation": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step**0.5 * s_s / s_t),
    "step forwards": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step),
    "knowing x_t as well": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: s_s**2),
    "variance differs": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step * s_s / s_t),
}


def step(x_t, x_0, a_s, s_s, a_t, s_t, eta, noise, *, power=2, shrink=True, fresh=False):
    eps = noise if fresh else (x_t - a_t * x_0) / s_t
    std = s_s / s_t * (s_t**2 - (a_t / a_s * s_s) ** 2) ** 0.5
    kept = (s_s**2 - shrink * eta**power * std**2) ** 0.5
    return a_s * x_0 + kept * eps + eta ** (power / 2) * std * noise


WRONG_5_2 = {
    "The shape is": lambda *args: step(*args).sum(1),
    "added new noise": lambda *args: step(*args, fresh=True),
    "Wrong at η = 0": lambda x_t, x_0, a_s, s_s, *rest: a_s * x_0 + s_s * x_t,
    "η does nothing": lambda *args: step(*args[:6], 0.0, args[7]),
    "without shrinking": lambda *args: step(*args, shrink=False),
    "At η = 1": lambda x_t, x_0, a_s, s_s, a_t, s_t, eta, noise: step(x_t, x_0, a_s, s_s, a_t, s_t, 0.9 * eta, noise),
    "in between": lambda *args: step(*args, power=1),
}


def solve(x_t, v, a, s, da, ds, *, sign=1.0, divide=True):
    W = sign * (a * ds - da * s) if divide else 1.0
    return (ds * x_t - s * v) / W, (a * v - da * x_t) / W


WRONG_5_3 = {
    "Return two tensors": lambda *args: torch.stack(solve(*args)).sum(-1),
    "order is reversed": lambda *args: solve(*args)[::-1],
    "did not divide": lambda *args: solve(*args, divide=False),
    "wrong sign": lambda *args: solve(*args, sign=-1.0),
    "straight path only": lambda x_t, v, a, s, da, ds: (x_t - s * v, x_t + (1 - s) * v),
    "Differs from (5.22)": lambda *args: (solve(*args)[0], -solve(*args)[1]),
}


def soft(x_t, x, a, s, *, scale=1.0, power=2, factor=2.0, axis=1):
    distance = torch.cdist(x_t, scale * a * x).square()
    return (-distance / (factor * s**power)).softmax(axis) @ x


def unsafe(x_t, x, a, s):
    w = torch.exp(-torch.cdist(x_t, a * x).square() / (2 * s**2))
    return w / w.sum(1, keepdim=True) @ x


WRONG_5_4 = {
    "The shape is": lambda *args: soft(*args)[:, 0],
    "by α to compare": lambda x_t, x, a, s: soft(x_t, x, 1.0, s),
    "the 2 is missing": lambda *args: soft(*args, factor=1.0),
    "square of σ": lambda *args: soft(*args, power=1),
    "nearest point": lambda x_t, x, a, s: x[torch.cdist(x_t, a * x).argmin(1)],
    "not multiply by α": lambda x_t, x, a, s: a * soft(x_t, x, a, s),
    "add up to 1": lambda *args: soft(*args, axis=0),
    "use softmax": unsafe,
}


@pytest.mark.parametrize(
    ("check", "hint", "answer"),
    [
        (f"check_{number.replace('.', '_')}", hint, answer)
        for number, wrong in zip(NUMBERS, (WRONG_5_1, WRONG_5_2, WRONG_5_3, WRONG_5_4), strict=True)
        for hint, answer in wrong.items()
    ],
)
def test_a_typical_wrong_answer_gets_its_hint(check, hint, answer, capsys: pytest.CaptureFixture) -> None:
    getattr(diffusion, check)(answer)
    out = capsys.readouterr().out
    assert "✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 2, "a hint has a Korean and an English line"


def test_other_forms_of_a_right_answer_pass(capsys: pytest.CaptureFixture) -> None:
    diffusion.check_5_1(lambda *args: (posterior(*args)[0], float(posterior(*args)[1])))
    diffusion.check_5_1(lambda *args: (posterior(*args)[0], posterior(*args)[1].expand(5, 3)))
    diffusion.check_5_2(step)
    diffusion.check_5_3(solve)
    diffusion.check_5_4(lambda x_t, x, a, s: soft(x_t, x, a, s).float())
    assert capsys.readouterr().out.split() == ["5.1", "✓", "5.1", "✓", "5.2", "✓", "5.3", "✓", "5.4", "✓"]


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    diffusion.check_5_4(lambda x_t, x, a, s: x_t @ x)
    assert "✗ RuntimeError" in capsys.readouterr().out
