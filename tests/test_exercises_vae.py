from __future__ import annotations

import math
from pathlib import Path

import jupytext
import pytest
import torch

from companion.exercises import vae

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "03-vae.md"
NUMBERS = ["3.1", "3.2", "3.3", "3.4"]


def cell(number: str) -> str:
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    assert len(cells) == 1
    return cells[0]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    scope = {"torch": torch, "math": math, **vars(vae)}
    if number == "3.2":
        exec(cell("3.1"), scope)
        capsys.readouterr()
    exec(cell(number), scope)
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("empty", [None, ...])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    getattr(vae, f"check_{number.replace('.', '_')}")(lambda *_: empty)
    assert "○" in capsys.readouterr().out


def kl(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v).sum(1)


WRONG_3_1 = {
    "one number a row": lambda m, v: kl(m, v).sum(),
    "never negative": lambda m, v: -kl(m, v),
    "factor ½": lambda m, v: 2 * kl(m, v),
    "averaged over the entries": lambda m, v: kl(m, v) / 3,
    "KL(p ‖ q)": lambda m, v: 0.5 * ((1 + m**2) / v.exp() - 1 + v).sum(1),
    "squared once too often": lambda m, v: kl(m, 2 * v),
    "Differs from (3.18)": lambda m, v: kl(m, v) + 1,
}


def log_p(x, mean, sigma2):
    return -0.5 * ((x - mean).square() / sigma2 + math.log(2 * math.pi * sigma2))


def at(m, v, eps):
    return m + (0.5 * v).exp() * eps


WRONG_3_2 = {
    "one number a row": lambda x, m, v, g, s, e: (log_p(x, g(at(m, v, e)), s).sum(1) - kl(m, v)).mean(),
    "Subtract the KL": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).sum(1) + kl(m, v),
    "This is the loss": lambda x, m, v, g, s, e: kl(m, v) - log_p(x, g(at(m, v, e)), s).sum(1),
    "by the variance": lambda x, m, v, g, s, e: log_p(x, g(at(m, 2 * v, e)), s).sum(1) - kl(m, v),
    "decoded the mean": lambda x, m, v, g, s, e: log_p(x, g(m), s).sum(1) - kl(m, v),
    "averaged over pixels": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).mean(1) - kl(m, v),
    "is missing": lambda x, m, v, g, s, e: -0.5 * (x - g(at(m, v, e))).square().sum(1) / s - kl(m, v),
    "Differs from (3.15)": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).sum(1) - 2 * kl(m, v),
}


def score(z, m, s):
    return (z - m) / s**2


def others(f):
    return (f.sum() - f) / (len(f) - 1)


WRONG_3_3 = {
    "one gradient a sample": lambda f, z, m, s: ((f - others(f))[:, None] * score(z, m, s)).mean(0),
    "was not subtracted": lambda f, z, m, s: f[:, None] * score(z, m, s),
    "includes the sample itself": lambda f, z, m, s: (f - f.mean())[:, None] * score(z, m, s),
    "by s², not by s": lambda f, z, m, s: (f - others(f))[:, None] * (z - m) / s,
    "sign is wrong": lambda f, z, m, s: (others(f) - f)[:, None] * score(z, m, s),
    "Differs from": lambda f, z, m, s: (f - others(f))[:, None] * score(z, m, s) / 2,
}


def level(lam, rate, share=0.5, clip=True):
    low, high = torch.tensor(1e-9).double(), lam.max()
    for _ in range(100):
        tau = (low * high).sqrt()
        terms = (lam / tau).log()
        low, high = (tau, high) if share * (terms.clamp(min=0) if clip else terms).sum() > rate else (low, tau)
    return tau


WRONG_3_4 = {
    "one positive number": lambda lam, rate: lam,
    "½ of (3.29)": lambda lam, rate: level(lam, rate, share=1.0),
    "see max": lambda lam, rate: ((lam.log().sum() - 2 * rate) / 4).exp(),
    "should be": lambda lam, rate: level(lam, rate) * 1.1,
}

WRONG = {"3.1": WRONG_3_1, "3.2": WRONG_3_2, "3.3": WRONG_3_3, "3.4": WRONG_3_4}


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number, wrong in WRONG.items() for hint in wrong])
def test_a_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    getattr(vae, f"check_{number.replace('.', '_')}")(WRONG[number][hint])
    out = capsys.readouterr().out
    assert out.startswith(f"{number} ✗")
    assert hint in out
