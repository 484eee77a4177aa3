from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
import torch
from torch.distributions import Normal

from companion.exercises import latent

CHAPTER = Path(__file__).parent.parent / "book" / "chapters" / "01-latent.md"
NUMBERS = ["1.1", "1.2", "1.3", "1.4"]


def solution(number: str) -> dict:
    """What the chapter's own solution cell defines."""
    cells = [cell.source for cell in jupytext.read(CHAPTER, fmt="md:myst").cells if f"Solution {number}" in cell.source]
    scope = {"torch": torch, "Normal": Normal, **vars(latent)}
    exec(cells[0], scope)
    return scope


def check(number: str):
    return getattr(latent, f"check_{number.replace('.', '_')}")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    solution(number)
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("empty", [None, ..., (..., ...)])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    check(number)(lambda *_: empty)
    assert "○" in capsys.readouterr().out


def gauss(x, mu, sigma):
    return torch.exp(-((x[:, None] - mu) ** 2) / (2 * sigma**2)) / sigma


def normalised(joint, axis=1):
    return joint / joint.sum(axis, keepdim=True)


def weighted(x, r):
    n_k = r.sum(0)
    mu = r.T @ x / n_k
    return n_k, mu, (r * (x[:, None] - mu) ** 2).sum(0) / n_k


WRONG = {
    "1.1": {
        "Jensen": lambda w: w.mean(0),
        "log k": lambda w: w.logsumexp(0),
        "0 or infinity": lambda w: w.exp().mean(0).log(),
        "shape": lambda w: w.exp().mean(1).log(),
        "Differs": lambda w: w.exp().mean(0),
    },
    "1.2": {
        "sum to one": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma), 0),
        "proportions π": lambda x, pi, mu, sigma: normalised(gauss(x, mu, sigma)),
        "not the variance": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma.sqrt())),
        "factor 1/σ": lambda x, pi, mu, sigma: normalised(pi * sigma * gauss(x, mu, sigma)),
        "softmax": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma)),
        "shape": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma)).T,
        "Differs": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma) ** 2),
    },
    "1.3": {
        "prior p(z)": lambda model, x, z, q: model.likelihood(z).log_prob(x) - q.log_prob(z),
        "subtract log q": lambda model, x, z, q: model.log_joint(x, z),
        "wrong sign": lambda model, x, z, q: model.log_joint(x, z) + q.log_prob(z),
        "Return the logarithm": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).exp(),
        "Differs": lambda model, x, z, q: model.log_joint(z, x) - q.log_prob(z),
        "shape": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).sum(),
    },
    "1.4": {
        "in this order": lambda x, r: weighted(x, r)[1],
        "divided by n": lambda x, r: weighted(x, r),
        "Divide μ": lambda x, r: (r.mean(0), r.T @ x / len(x), weighted(x, r)[2]),
        "weighted mean": lambda x, r: (r.mean(0), x.mean().expand(2), weighted(x, r)[2]),
        "standard deviation": lambda x, r: (r.mean(0), weighted(x, r)[1], weighted(x, r)[2].sqrt()),
        "overall mean": lambda x, r: (r.mean(0), weighted(x, r)[1], r.T @ (x - x.mean()) ** 2 / r.sum(0)),
        "Divide σ²": lambda x, r: (r.mean(0), weighted(x, r)[1], weighted(x, r)[2] * r.mean(0)),
        "Differs from π": lambda x, r: (r.mean(0).flip(0), *weighted(x, r)[1:]),
        "σ² differs": lambda x, r: (r.mean(0), weighted(x, r)[1], r.T @ x**2 / r.sum(0)),
        "shape": lambda x, r: (r.mean(1), *weighted(x, r)[1:]),
    },
}


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number, all_ in WRONG.items() for hint in all_])
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    check(number)(WRONG[number][hint])
    out = capsys.readouterr().out
    assert out.startswith(f"{number} ✗")
    assert hint in out
