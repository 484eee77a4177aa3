"""The checkers of chapter 3's second page: right answers in many forms pass, wrong ones get a hint in symbols."""

from __future__ import annotations

import math
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch

from companion.data import digits
from companion.exercises import rate

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "03b-rate-distortion.md"


def cell(number: str) -> str:
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    assert len(cells) == 1
    return cells[0]


def test_the_solution_of_3_8_trains_what_the_exercise_asks_for() -> None:
    source = cell("3.8")
    assert "((4.0, 0.05), (1.0, 0.2))" in source
    assert "requires_grad_(False)" in source


def level(lam, rate, share=0.5, clip=True):
    low, high = torch.tensor(1e-9).double(), lam.max()
    for _ in range(100):
        tau = (low * high).sqrt()
        terms = (lam / tau).log()
        low, high = (tau, high) if share * (terms.clamp(min=0) if clip else terms).sum() > rate else (low, tau)
    return tau


def level_numpy(lam, rate):
    lam = np.asarray(lam)
    grid = np.geomspace(1e-6, lam.max(), 2_000_001)
    rates = 0.5 * sum(np.clip(np.log(each / grid), 0, None) for each in lam)
    return np.interp(-rate, -rates, grid)


RIGHT_3_6 = {
    "tensor": level,
    "float": lambda lam, rate: level(lam, rate).item(),
    "NumPy": level_numpy,
    "array of one": lambda lam, rate: level(lam, rate).reshape(1).numpy(),
    "list of one": lambda lam, rate: [level(lam, rate)],
    "with a gradient": lambda lam, rate: level(lam.requires_grad_(), rate),
}
WRONG_3_6 = {
    "shape = (4,) ≠ ()": lambda lam, rate: lam,
    "τ > 0?": lambda lam, rate: -level(lam, rate),
    "½ Σ_j": lambda lam, rate: level(lam, rate, share=1.0),
    "max(0, log λ_j/τ)": lambda lam, rate: ((lam.log().sum() - 2 * rate) / 4).exp(),
    "≠": lambda lam, rate: level(lam, rate) * 1.1,
}

lam = torch.linalg.eigvalsh(digits()[0].double().T.cov(correction=0)).flip(0)


def at(tau: float) -> list[float]:
    above = lam[:16]
    rate_ = sum(max(0.0, 0.5 * math.log(value / tau)) for value in above.tolist())
    return [rate_, sum(min(value, tau) for value in above.tolist()) + lam[16:].sum().item()]


R, ERROR = at(0.2)
RIGHT_3_8 = {
    "lists": [[R, ERROR], [R, ERROR]],
    "tensors": [torch.tensor([R, ERROR]), torch.tensor([R - 0.1, ERROR + 0.1])],
    "one tensor": torch.tensor([[R, ERROR], [R, ERROR]]),
    "NumPy": np.array([[R, ERROR], [R, ERROR]]),
    "tuples": ((R, ERROR), (torch.tensor(R), np.float32(ERROR))),
}
WRONG_3_8 = {
    ".shape = (2,) ≠ (2, 2)": [R, ERROR],
    "→ [R, E|x − x̃|²]": [[ERROR, R], [ERROR, R]],
    "β = 1?": [at(0.05), [R, ERROR]],
    "(β, σ²) = (1, 0.2)": [[R, ERROR], at(1.0)],
    "τ = 0.2: R =": [[R, ERROR / 2], [R, ERROR]],
    "(β, σ²) = (4, 0.05)": [at(0.8), [R, ERROR]],
}


@pytest.mark.parametrize("form", RIGHT_3_6)
def test_right_levels_pass(form: str, capsys: pytest.CaptureFixture) -> None:
    rate.check_3_6(RIGHT_3_6[form])
    assert capsys.readouterr().out.strip() == "3.6 ✓"


@pytest.mark.parametrize("form", RIGHT_3_8)
def test_right_measurements_pass(form: str, capsys: pytest.CaptureFixture) -> None:
    rate.check_3_8(lambda: RIGHT_3_8[form])
    assert capsys.readouterr().out.strip() == "3.8 ✓"


@pytest.mark.parametrize("hint", WRONG_3_6)
def test_a_wrong_level_gets_its_hint(hint: str, capsys: pytest.CaptureFixture) -> None:
    rate.check_3_6(WRONG_3_6[hint])
    out = capsys.readouterr().out
    assert out.startswith("3.6 ✗")
    assert hint in out
    assert not re.search("[가-힣]", out)


@pytest.mark.parametrize("hint", WRONG_3_8)
def test_a_wrong_measurement_gets_its_hint(hint: str, capsys: pytest.CaptureFixture) -> None:
    rate.check_3_8(lambda: WRONG_3_8[hint])
    out = capsys.readouterr().out
    assert out.startswith("3.8 ✗")
    assert hint in out
    assert not re.search("[가-힣]", out)
