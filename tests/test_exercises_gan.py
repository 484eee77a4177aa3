from __future__ import annotations

import math
from pathlib import Path

import jupytext
import pytest
import torch
import torch.nn.functional as F

from companion.exercises import gan

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "04-gan.md"
NUMBERS = ["4.1", "4.2", "4.3", "4.4"]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    exec(cells[0], {"torch": torch, "math": math, "F": F, **vars(gan)})
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("empty", [None, ...])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    getattr(gan, f"check_{number.replace('.', '_')}")(lambda *_: empty)
    assert "○" in capsys.readouterr().out


WRONG_4_1 = {
    "The shape is": lambda a, b: F.logsigmoid(a)[:40] + F.logsigmoid(-b),
    "sign is reversed": lambda a, b: -F.logsigmoid(a).mean() - F.logsigmoid(-b).mean(),
    "not log D": lambda a, b: F.logsigmoid(a).mean() + F.logsigmoid(b).mean(),
    "means, not sums": lambda a, b: F.logsigmoid(a).sum() + F.logsigmoid(-b).sum(),
    "Differs from (4.5)": lambda a, b: F.logsigmoid(a).mean(),
    "At a = ∓500": lambda a, b: a.sigmoid().clamp(1e-12).log().mean() + (-b).sigmoid().clamp(1e-12).log().mean(),
    "instead of going through D": lambda a, b: a.sigmoid().log().mean() + (1 - b.sigmoid()).log().mean(),
}


def divergence(p, q, *, half=0.5, base=math.e, first=True, second=True, safe=True):
    m = (p + q) / 2
    terms = [v.xlogy(v) - v.xlogy(m) if safe else v * (v.log() - m.log()) for v in (p, q)]
    return half * (first * terms[0].sum() + second * terms[1].sum()) / math.log(base)


WRONG_4_2 = {
    "The shape is": lambda p, q: torch.special.xlogy(p, 2 * p / (p + q)),
    "0 · log 0": lambda p, q: divergence(p, q, safe=False),
    "0/0 where p = q = 0": lambda p, q: sum(torch.special.xlogy(v, 2 * v / (p + q)).sum() for v in (p, q)) / 2,
    "midpoint": lambda p, q: (p.xlogy(p) - p.xlogy(q)).sum(),
    "mean of the two": lambda p, q: divergence(p, q, half=1),
    "base 2": lambda p, q: divergence(p, q, base=2),
    "one KL only": lambda p, q: divergence(p, q, half=1, second=False),
    "Should be": lambda p, q: -divergence(p, q),
}


def charge(f, x, y, eps, *, create_graph=True, norm=None, mean=True):
    at = (eps * x + (1 - eps) * y).requires_grad_()
    (gradient,) = torch.autograd.grad(f(at).sum(), at, create_graph=create_graph)
    size = norm(gradient) if norm else gradient.norm(dim=1)
    return (size - 1).square().mean() if mean else (size - 1).square()


def charge_detached(f, x, y, eps):
    at = (eps * x + (1 - eps) * y).requires_grad_()
    (gradient,) = torch.autograd.grad(f(at).sum(), at, create_graph=True)
    unit = gradient / gradient.norm(dim=1, keepdim=True)
    size = (gradient * unit.detach()).sum(1)
    return ((size - 1) * (size - 1).detach()).mean()


WRONG_4_3 = {
    "The shape is": lambda f, x, y, eps: charge(f, x, y, eps, mean=False),
    "real data only": lambda f, x, y, eps: charge(f, x, y, torch.ones_like(eps)),
    "are exchanged": lambda f, x, y, eps: charge(f, y, x, eps),
    "wrong axis": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.norm(dim=0)),
    "whole batch": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.norm()),
    "squared norm": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.square().sum(1)),
    "Differs from (4.18)": lambda f, x, y, eps: 2 * charge(f, x, y, eps),
    "you need create_graph": lambda f, x, y, eps: charge(f, x, y, eps).detach(),
    "check create_graph": charge_detached,
}


def paired(x, y):
    return x.sort().values - y.sort().values


WRONG_4_4 = {
    "The shape is": lambda x, y: paired(x, y).abs(),
    "without sorting": lambda x, y: (x - y).abs().mean(),
    "absolute value": lambda x, y: paired(x, y).mean(),
    "not the sum": lambda x, y: paired(x, y).abs().sum(),
    "square of W₂": lambda x, y: paired(x, y).square().mean(),
    "This is W₂": lambda x, y: paired(x, y).square().mean().sqrt(),
    "Should be": lambda x, y: paired(x, y).abs().median(),
}


@pytest.mark.parametrize(
    ("check", "hint", "answer"),
    [
        (f"check_{number.replace('.', '_')}", hint, answer)
        for number, wrong in zip(NUMBERS, (WRONG_4_1, WRONG_4_2, WRONG_4_3, WRONG_4_4), strict=True)
        for hint, answer in wrong.items()
    ],
)
def test_a_typical_wrong_answer_gets_its_hint(check, hint, answer, capsys: pytest.CaptureFixture) -> None:
    getattr(gan, check)(answer)
    out = capsys.readouterr().out
    assert "✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 2, "a hint has a Korean and an English line"


def test_float32_and_numbers_will_do(capsys: pytest.CaptureFixture) -> None:
    gan.check_4_2(lambda p, q: divergence(p.float(), q.float()))
    gan.check_4_4(lambda x, y: paired(x, y).abs().mean().item())
    assert capsys.readouterr().out.split() == ["4.2", "✓", "4.4", "✓"]


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    gan.check_4_4(lambda x, y: x @ y.diag())
    gan.check_4_1(lambda a, b: a + b)
    assert capsys.readouterr().out.count("✗ RuntimeError") == 1
