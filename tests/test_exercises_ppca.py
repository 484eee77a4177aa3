from __future__ import annotations

import math
from pathlib import Path

import jupytext
import pytest
import torch

from companion.exercises import ppca

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "02-ppca.md"


def solution(number: str) -> dict:
    """What the chapter's own solution cell defines."""
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    scope = {"torch": torch, "math": math, **vars(ppca)}
    exec(cells[0], scope)
    return scope


@pytest.mark.parametrize("number", ["2.1", "2.3", "2.4"])
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    solution(number)
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", ["2.1", "2.3", "2.4"])
@pytest.mark.parametrize("empty", [None, ..., (..., ...)])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    getattr(ppca, f"check_{number.replace('.', '_')}")(lambda *_: empty)
    assert "○" in capsys.readouterr().out


def eye(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)


def M(W: torch.Tensor, sigma2: torch.Tensor) -> torch.Tensor:
    return W.T @ W + sigma2 * eye(W.shape[1])


def right_2_1(x, W, mu, sigma2):
    inverse = torch.linalg.inv(M(W, sigma2))
    return (x - mu) @ W @ inverse, sigma2 * inverse


WRONG_2_1 = {
    "order: mean, covariance": lambda x, W, mu, s: right_2_1(x, W, mu, s)[0],
    "one z for each row": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0].T, eye(2)),
    "μ was not subtracted": lambda x, W, mu, s: (right_2_1(x + mu, W, mu, s)[0], eye(2)),
    "lacks the term σ²I": lambda x, W, mu, s: ((x - mu) @ W @ torch.linalg.inv(W.T @ W), eye(2)),
    "factor M⁻¹ is missing": lambda x, W, mu, s: ((x - mu) @ W, eye(2)),
    "differs from M⁻¹Wᵀ(x−μ)": lambda x, W, mu, s: (right_2_1(x, W, mu, 2 * s)[0], eye(2)),
    "not M⁻¹": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0], torch.linalg.inv(M(W, s))),
    "covariance differs": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0], eye(2)),
}


def likelihood_2_3(lam, q, trace=5.0, order=True, mean_of_logs=False):
    lam = lam.sort(descending=True).values if order else lam
    rest = lam[q:].log().mean() if mean_of_logs else lam[q:].mean().log()
    return -0.5 * (5 * math.log(2 * math.pi) + trace + lam[:q].log().sum() + (5 - q) * rest)


WRONG_2_3 = {
    "trace": lambda lam, q: likelihood_2_3(lam, q, trace=0.0),
    "average first": lambda lam, q: likelihood_2_3(lam, q, mean_of_logs=True),
    "should be": lambda lam, q: -likelihood_2_3(lam, q),
    "sort them first": lambda lam, q: likelihood_2_3(lam, q, order=False),
}


def deviation_2_4(x, W, s, *, observed_only=True, noise=1.0, root=True, keep_zeros=True):
    missing = x.isnan()
    inverse = torch.linalg.inv(M(W[~missing] if observed_only else W, s))
    variance = s * (noise + (W @ inverse * W).sum(1))
    values = variance.sqrt() if root else variance
    return torch.where(missing, values, 0) if keep_zeros else values


WRONG_2_4 = {
    "shape": lambda x, W, mu, s: deviation_2_4(x, W, s)[:2],
    "contains NaN": lambda x, W, mu, s: x,
    "the standard deviation is 0": lambda x, W, mu, s: deviation_2_4(x, W, s, keep_zeros=False),
    "square root": lambda x, W, mu, s: deviation_2_4(x, W, s, root=False),
    "noise σ²I is missing": lambda x, W, mu, s: deviation_2_4(x, W, s, noise=0.0),
    "before anything": lambda x, W, mu, s: torch.where(x.isnan(), (W.square().sum(1) + s).sqrt(), 0),
    "missing rows too": lambda x, W, mu, s: deviation_2_4(x, W, s, observed_only=False),
    "second line of (2.27)": lambda x, W, mu, s: 2 * deviation_2_4(x, W, s),
}


@pytest.mark.parametrize(
    ("check", "hint", "answer"),
    [
        *(("check_2_1", hint, answer) for hint, answer in WRONG_2_1.items()),
        *(("check_2_3", hint, answer) for hint, answer in WRONG_2_3.items()),
        *(("check_2_4", hint, answer) for hint, answer in WRONG_2_4.items()),
    ],
)
def test_a_typical_wrong_answer_gets_its_hint(check, hint, answer, capsys: pytest.CaptureFixture) -> None:
    getattr(ppca, check)(answer)
    out = capsys.readouterr().out
    assert "✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 2, "a hint has a Korean and an English line"


def test_a_list_and_float32_will_do(capsys: pytest.CaptureFixture) -> None:
    ppca.check_2_1(lambda x, W, mu, sigma2: [part.float() for part in right_2_1(x, W, mu, sigma2)])
    assert capsys.readouterr().out.strip() == "2.1 ✓"


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    ppca.check_2_1(lambda x, W, mu, sigma2: x @ mu @ W)
    assert "✗ RuntimeError" in capsys.readouterr().out
