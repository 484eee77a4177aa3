"""The checkers of chapter 6: right answers in many forms pass, wrong ones get a hint in symbols."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from companion.exercises import comparison


def checker(number: str):
    return getattr(comparison, f"check_{number.replace('.', '_')}")


# 6.1


def inside(x, y, k, *, own=False, total=False, strict=False):
    radius = torch.cdist(y, y).sort(1).values[:, k - own]
    distance = torch.cdist(x, y)
    hit = (distance < radius if strict else distance <= radius).any(1)
    return hit.sum() if total else hit.double().mean()


def by_neighbours(x, y, k):
    x, y = x.numpy(), y.numpy()
    radius = NearestNeighbors(n_neighbors=k).fit(y).kneighbors()[0][:, -1]
    return (np.linalg.norm(x[:, None] - y, axis=2) <= radius).any(1).mean()


def one_by_one(x, y, k):
    radius = [torch.linalg.norm(y - centre, dim=1).kthvalue(k + 1).values for centre in y]
    hits = [any((point - c).norm() <= r for c, r in zip(y, radius, strict=True)) for point in x]
    return sum(hits) / len(hits)


# 6.2

FAR = math.sqrt(50 / 3 * 2)


def spread(n: int) -> list[float]:
    """n numbers, two of which lie far out: mean 0, and the variance of the data."""
    far = math.sqrt(50 / 3 * (n - 1) / 2)
    return [-far, *[0.0] * (n - 2), far]


# 6.3


def posterior(x_t, W, mu, alpha, sigma, *, snr=None, shift=True, divide=True, centre=True):
    tau = (sigma / alpha) ** 2 if snr is None else snr(alpha, sigma)
    M = W.T @ W + tau * torch.eye(W.shape[1]).to(W)
    seen = (x_t / alpha if divide else x_t) - (mu if centre else 0)
    return (mu if shift else 0) + seen @ (W @ torch.linalg.inv(M) @ W.T).T


def by_covariance(x_t, W, mu, alpha, sigma):
    C = W @ W.T
    K = alpha**2 * C + sigma**2 * torch.eye(len(mu)).to(W)
    return mu + (x_t - alpha * mu) @ torch.linalg.solve(K, alpha * C)


def by_eigenvectors(x_t, W, mu, alpha, sigma):
    U, s, _ = torch.linalg.svd(W, full_matrices=False)
    gain = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
    return mu + (gain * ((x_t - alpha * mu) @ U)) @ U.T


# 6.4, 6.5


def needed(p, q, *, z=2.0):
    return z**2 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2


RIGHT = {
    "6.1": [inside, by_neighbours, one_by_one, lambda *a: inside(*a).item(), lambda *a: [inside(*a)]],
    "6.2": [
        lambda: spread(5),
        lambda: torch.tensor(spread(6)),
        lambda: np.array(spread(9)),
        lambda: torch.tensor(spread(5))[:, None],
        lambda: [0.01, -FAR, FAR, 0.0, -0.01],
    ],
    "6.3": [
        posterior,
        by_covariance,
        by_eigenvectors,
        lambda *a: posterior(*a).numpy(),
        lambda *a: posterior(*a).float(),
        lambda *a: posterior(*a).tolist(),
    ],
    "6.4": [
        lambda p, q: torch.maximum(p, q).sum() / 2,
        lambda p, q: 0.5 + 0.25 * (p - q).abs().sum(),
        lambda p, q: np.maximum(p.numpy(), q.numpy()).sum() / 2,
        lambda p, q: sum(max(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)) / 2,
        lambda p, q: 1 - torch.minimum(p, q).sum() / 2,
    ],
    "6.5": [
        needed,
        lambda p, q: math.ceil(needed(p, q)),
        lambda p, q: torch.tensor(needed(p, q)),
        lambda p, q: np.float64(needed(p, q)),
        lambda p, q: [needed(p, q)],
    ],
}

WRONG = {
    "6.1": {
        "shape = (12,) ≠ ()": lambda x, y, k: torch.cdist(x, y).min(1).values,
        "k → k + 1": lambda x, y, k: inside(x, y, k, own=True),
        "x ↔ y": lambda x, y, k: inside(y, x, k),
        "Σ 1[…] → mean": lambda x, y, k: inside(x, y, k, total=True),
        "≠ (6.3)": lambda x, y, k: 1 - inside(x, y, k),
    },
    "6.2": {
        "n = 1 > 1?": lambda: [7.0],
        "min |x − y| = 0.5": lambda: [3.5, *spread(5)],
        "(6.5) =": lambda: [6.0, -6.0],
        "μ = 10": lambda: [10.0, 10.0],
        "min |x − y| = 0 >": lambda: [-4.0, -3.0, 3.0, 4.0],
    },
    "6.3": {
        "shape = (5, 7) ≠ (7, 5)": lambda *a: posterior(*a).T,
        "x_t − μ → x_t/α − μ": lambda *a: posterior(*a, divide=False, snr=lambda alpha, sigma: (sigma / alpha) ** 2),
        "σ² → σ²/α²": lambda *a: posterior(*a, snr=lambda alpha, sigma: sigma**2),
        "+ μ?": lambda *a: posterior(*a, shift=False),
        "SNR → 1/SNR": lambda *a: posterior(*a, snr=lambda alpha, sigma: (alpha / sigma) ** 2),
        "E[x_t | …]": lambda x_t, W, mu, alpha, sigma: alpha * posterior(x_t, W, mu, alpha, sigma),
        "(6.1)": lambda *a: posterior(*a, snr=lambda alpha, sigma: 1 / alpha**2 - 1),
        "≠ (6.1)": lambda *a: posterior(*a, centre=False),
    },
    "6.4": {
        "shape = (6,) ≠ ()": lambda p, q: torch.maximum(p, q),
        "TV → ½ + ½ TV": lambda p, q: (p - q).abs().sum() / 2,
        "Σ|p − q| = 2 TV": lambda p, q: 0.5 + (p - q).abs().sum() / 2,
        "→ ½ Σ max(p, q)": lambda p, q: torch.maximum(p, q).sum(),
        "max → min": lambda p, q: torch.minimum(p, q).sum() / 2,
        "≠ Σ max(p, q)/2": lambda p, q: (p - q).square().sum(),
    },
    "6.5": {
        "1 → 2 √(…)": lambda p, q: needed(p, q, z=1),
        "2² = 4": lambda p, q: needed(p, q, z=math.sqrt(2)),
        "p(1 − p) + q(1 − q)": lambda p, q: 4 * p * (1 - p) / (p - q) ** 2,
        "√n → n": lambda p, q: math.sqrt(needed(p, q)),
        "≠": lambda p, q: 2 * needed(p, q),
    },
}


@pytest.mark.parametrize("number", RIGHT)
def test_other_forms_of_a_right_answer_pass(number: str, capsys: pytest.CaptureFixture) -> None:
    assert len(RIGHT[number]) >= 5
    for answer in RIGHT[number]:
        checker(number)(answer)
        assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number in WRONG for hint in WRONG[number]])
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    assert len(WRONG[number]) >= 5
    checker(number)(WRONG[number][hint])
    out = capsys.readouterr().out
    assert f"{number} ✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 1
    assert not re.search("[가-힣]", out), "both editions show it"
