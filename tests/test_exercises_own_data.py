"""The checkers of the appendix: right answers in many forms pass, wrong ones get a hint in symbols."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from companion.exercises import own_data

# A.1


def by_scipy(m, s, mean, std, shift):
    about = stats.lognorm(s=std * s, scale=math.exp(mean + std * m), loc=-shift)
    ends = stats.norm.cdf([-2, 2])
    return (about.median(), about.mean(), *about.ppf(ends))


def in_units(m, s, mean, std, shift, *, spread=0.5, width=2.0, scale=True, minus=1.0, within=False, centre=1.0):
    log, bar = mean * centre + std * m, std * s
    low, high = (log - width * bar, log + width * bar)
    ends = [math.exp(log) - width * s, math.exp(log) + width * s] if within else [math.exp(low), math.exp(high)]
    average = math.exp(log + spread * (bar if scale else s) ** 2)
    return [x - minus * shift for x in (math.exp(log), average, *ends)]


# A.2


def by_chi2(x, mu, C):
    x, mu, C = x.numpy(), mu.numpy(), C.numpy()
    shares = []
    for row in x:
        o = np.flatnonzero(~np.isnan(row))
        off = row[o] - mu[o]
        shares.append(stats.chi2(len(o)).sf(off @ np.linalg.inv(C[np.ix_(o, o)]) @ off))
    return np.array(shares)


def by_counting(x, mu, C):
    """Draws from the Gaussian itself: how many lie further out than the row."""
    g, shares = torch.Generator().manual_seed(0), []
    for row in x:
        o = ~row.isnan()
        chol = torch.linalg.cholesky(C[o][:, o])
        off = torch.linalg.solve_triangular(chol, (row - mu)[o][:, None], upper=False).square().sum()
        draws = torch.randn(200_000, int(o.sum()), generator=g).double().square().sum(1)
        shares.append((draws >= off).double().mean())
    return torch.stack(shares)


def tail(x, mu, C, *, squares=False, below=False, dof=None, half=0.5, half_m2=0.5, part=False, centre=True):
    shares = []
    for row in x:
        o = ~row.isnan()
        off = (row - mu * centre)[o]
        m2 = off @ (torch.linalg.inv(C)[o][:, o] if part else torch.linalg.inv(C[o][:, o])) @ off
        k = torch.tensor(float(dof or o.sum())).double()
        share = torch.special.gammaincc(half * k, half_m2 * m2)
        shares.append(m2 if squares else 1 - share if below else share)
    return torch.stack(shares)


def printed(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("answer", [by_scipy, in_units, lambda *a: tuple(map(torch.tensor, in_units(*a)))])
def test_a_1_right(answer, capsys: pytest.CaptureFixture) -> None:
    own_data.check_A_1(answer)
    assert printed(capsys) == "A.1 ✓"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"spread": 0}, "mean: mean ≠ median"),
        ({"spread": 1}, "mean: (std · s)² → (std · s)²/2"),
        ({"scale": False}, "mean: s²/2 → (std · s)²/2"),
        ({"width": 1}, "low: s → 2s"),
        ({"minus": 0}, "median: − shift"),
        ({"minus": -1}, "median: + shift → − shift"),
        ({"centre": 0}, "median: std · z + mean"),
        ({"within": True}, "low: exp(m) − 2s → exp(m − 2s)"),
    ],
)
def test_a_1_wrong(wrong: dict, hint: str, capsys: pytest.CaptureFixture) -> None:
    own_data.check_A_1(lambda *given: in_units(*given, **wrong))
    assert printed(capsys) == f"A.1 ✗ {hint}"


@pytest.mark.parametrize("answer", [by_chi2, tail, lambda x, mu, C: tail(x, mu, C).tolist()])
def test_a_2_right(answer, capsys: pytest.CaptureFixture) -> None:
    own_data.check_A_2(answer)
    assert printed(capsys) == "A.2 ✓"


def test_a_2_is_the_share_of_draws_that_lie_further_out() -> None:
    A = torch.tensor([[1.0, 0.3, 0], [0, 0.8, -0.2], [0.5, 0, 0.6]]).double()
    C, mu = A @ A.T + 0.2 * torch.eye(3).double(), torch.tensor([0.1, -0.4, 0.3]).double()
    x = torch.tensor([[1.5, math.nan, 0.2], [math.nan, math.nan, -1.0], [0.4, -2.0, 0.9]]).double()
    assert tail(x, mu, C).sub(by_counting(x, mu, C)).abs().max() < 5 * 0.5 / 200_000**0.5


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"squares": True}, "m² → P(χ²_k ≥ m²)"),
        ({"below": True}, "P(χ²_k ≤ m²) → P(χ²_k ≥ m²)"),
        ({"dof": 4}, "k = d → k = |o|"),
        ({"half": 1, "half_m2": 1}, "m²/2, k/2"),
        ({"half_m2": 1}, "m² → m²/2"),
        ({"part": True}, "(C⁻¹)_oo → (C_oo)⁻¹"),
        ({"centre": False}, "x_o − μ_o"),
        ({"half": 0.7}, "≠ P(χ²_k ≥ m²)"),
    ],
)
def test_a_2_wrong(wrong: dict, hint: str, capsys: pytest.CaptureFixture) -> None:
    own_data.check_A_2(lambda *given: tail(*given, **wrong))
    assert printed(capsys) == f"A.2 ✗ {hint}"


def test_one_number_for_all_rows_is_a_hint(capsys: pytest.CaptureFixture) -> None:
    own_data.check_A_2(lambda x, mu, C: tail(x, mu, C).mean())
    assert printed(capsys) == "A.2 ✗ shape = () ≠ (6,)"
