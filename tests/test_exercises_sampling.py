from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from companion.exercises import sampling

NUMBERS = ["5.6", "5.7", "5.8", "5.9"]


def checker(number: str):
    return getattr(sampling, f"check_{number.replace('.', '_')}")


def step(x_t, x_0, a_s, s_s, a_t, s_t, eta, noise, *, power=2, shrink=True, fresh=False):
    eps = noise if fresh else (x_t - a_t * x_0) / s_t
    std = s_s / s_t * (s_t**2 - (a_t / a_s * s_s) ** 2) ** 0.5
    kept = (s_s**2 - shrink * eta**power * std**2) ** 0.5
    return a_s * x_0 + kept * eps + eta ** (power / 2) * std * noise


def by_snr(x_t, x_0, a_s, s_s, a_t, s_t, eta, noise):
    std = eta * s_s * math.sqrt(1 - (a_t * s_s / (a_s * s_t)) ** 2)
    direction = math.sqrt(s_s**2 - std**2) / s_t
    return direction * x_t + (a_s - direction * a_t) * x_0 + std * noise


def in_place(x_t, x_0, *rest):
    x = step(x_t, x_0, *rest)
    x_t.zero_()
    return x


def arrays(f):
    """The same answer from NumPy."""
    return lambda *args: f(*(np.asarray(arg) if isinstance(arg, torch.Tensor) else arg for arg in args))


def solve(x_t, v, a, s, da, ds, *, sign=1.0, divide=True):
    W = sign * (a * ds - da * s) if divide else 1.0
    return (ds * x_t - s * v) / W, (a * v - da * x_t) / W


def by_matrix(x_t, v, a, s, da, ds):
    matrix = torch.tensor([[a, s], [da, ds]], dtype=x_t.dtype)
    return tuple(torch.linalg.solve(matrix, torch.stack([x_t, v]).flatten(1)).reshape(2, *x_t.shape))


def eps_first(x_t, v, a, s, da, ds):
    eps = (v - da / a * x_t) / (ds - da / a * s)
    return (x_t - s * eps) / a, eps


def soft(x_t, x, a, s, *, scale=1.0, power=2, factor=2.0, axis=1):
    distance = torch.cdist(x_t, scale * a * x).square()
    return (-distance / (factor * s**power)).softmax(axis) @ x


def unsafe(x_t, x, a, s):
    w = torch.exp(-torch.cdist(x_t, a * x).square() / (2 * s**2))
    return w / w.sum(1, keepdim=True) @ x


def by_agreement(x_t, x, a, s):
    return ((a * x_t @ x.T - a**2 * x.square().sum(1) / 2) / s**2).softmax(1) @ x


def row_by_row(x_t, x, a, s):
    return torch.stack([soft(row[None], x, a, s)[0] for row in x_t])


def by_logsumexp(x_t, x, a, s):
    log_w = -torch.cdist(x_t, a * x).square() / (2 * s**2)
    return (log_w - log_w.logsumexp(1, keepdim=True)).exp() @ x


def known(x_s, x_o, mask, a, s, eps):
    return torch.where(mask, a * x_o + s * eps, x_s)


def assigned(x_s, x_o, mask, a, s, eps):
    x_s[mask] = (a * x_o + s * eps)[mask]
    return x_s


def cloned(x_s, x_o, mask, a, s, eps):
    x = x_s.clone()
    x[mask] = a * x_o[mask] + s * eps[mask]
    return x


RIGHT = {
    "5.6": [step, by_snr, in_place, lambda *args: step(*args).float(), lambda *args: step(*args).tolist()],
    "5.7": [
        solve,
        by_matrix,
        eps_first,
        lambda *args: list(solve(*args)),
        arrays(solve),
        lambda *args: tuple(part.tolist() for part in solve(*args)),
    ],
    "5.8": [
        soft,
        by_agreement,
        row_by_row,
        by_logsumexp,
        lambda *args: soft(*args).numpy(),
        lambda *args: soft(*args).float(),
    ],
    "5.9": [
        known,
        assigned,
        cloned,
        lambda x_s, x_o, mask, a, s, eps: mask * (a * x_o + s * eps) + ~mask * x_s,
        lambda x_s, x_o, mask, a, s, eps: np.where(mask, a * x_o + s * eps, x_s),
        lambda *args: known(*args).tolist(),
    ],
}

WRONG = {
    "5.6": {
        "shape = (5,) ≠ (5, 3)": lambda *args: step(*args).sum(1),
        "ε′ → ε̂": lambda *args: step(*args, fresh=True),
        "η = 0: ≠": lambda x_t, x_0, a_s, s_s, *rest: a_s * x_0 + s_s * x_t,
        ": η?": lambda *args: step(*args[:6], 0.0, args[7]),
        "σ_s ε̂ →": lambda *args: step(*args, shrink=False),
        "≠ (5.24)": lambda *args: step(*args[:6], 0.9 * args[6], args[7]),
        "η²?": lambda *args: step(*args, power=1),
    },
    "5.7": {
        "return x_0, ε": lambda *args: solve(*args)[0],
        "x_0.shape = (5,) ≠ (5, 3)": lambda *args: torch.stack(solve(*args)).sum(-1),
        "ε, x_0 →": lambda *args: solve(*args)[::-1],
        "× 1/κ": lambda *args: solve(*args, divide=False),
        "± : κ": lambda *args: solve(*args, sign=-1.0),
        "(1 − t, t) →": lambda x_t, v, a, s, da, ds: (x_t - s * v, x_t + (1 - s) * v),
        "α′x_0 + σ′ε = v?": lambda *args: (solve(*args)[0], -solve(*args)[1]),
    },
    "5.8": {
        "shape = (4,) ≠ (4, 2)": lambda *args: soft(*args)[:, 0],
        "→ ‖x_t − αxₙ‖²": lambda x_t, x, a, s: soft(x_t, x, 1.0, s),
        "‖…‖²/σ² →": lambda *args: soft(*args, factor=1.0),
        "‖…‖²/(2σ) →": lambda *args: soft(*args, power=1),
        "argmax rₙ →": lambda x_t, x, a, s: x[torch.cdist(x_t, a * x).argmin(1)],
        "α Σₙ rₙ xₙ =": lambda x_t, x, a, s: a * soft(x_t, x, a, s),
        "Σₙ rₙ = 1?  (5.38)": lambda *args: soft(*args, axis=0),
        "0/0 → softmax": unsafe,
    },
    "5.9": {
        "shape = (4, 3) ≠ (4, 6)": lambda *args: known(*args)[:, :3],
        "mask → ~mask": lambda x_s, x_o, mask, a, s, eps: known(x_s, x_o, ~mask, a, s, eps),
        "✗ α x_o →": lambda x_s, x_o, mask, a, s, eps: torch.where(mask, a * x_o, x_s),
        "✗ x_o →": lambda x_s, x_o, mask, a, s, eps: torch.where(mask, x_o, x_s),
        "✗ x_o + σ ε →": lambda x_s, x_o, mask, a, s, eps: torch.where(mask, x_o + s * eps, x_s),
        "~mask: α x_o + σ ε → x_s": lambda x_s, x_o, mask, a, s, eps: a * x_o + s * eps,
        "≠ mask ?": lambda x_s, x_o, mask, a, s, eps: torch.where(mask, a * x_o - s * eps, x_s),
    },
}


@pytest.mark.parametrize("number", NUMBERS)
def test_other_forms_of_a_right_answer_pass(number: str, capsys: pytest.CaptureFixture) -> None:
    assert len(RIGHT[number]) >= 5
    for answer in RIGHT[number]:
        checker(number)(answer)
        assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number in NUMBERS for hint in WRONG[number]])
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    assert len(WRONG[number]) >= 5
    checker(number)(WRONG[number][hint])
    out = capsys.readouterr().out
    assert "✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 1
    assert not re.search("[가-힣]", out), "both editions show it"


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    sampling.check_5_8(lambda x_t, x, a, s: x_t @ x)
    assert "✗ RuntimeError" in capsys.readouterr().out
