from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from companion.exercises import ppca

NUMBERS = ["2.1", "2.3", "2.4", "2.7"]


def checked(number: str, answer: object, capsys: pytest.CaptureFixture) -> str:
    getattr(ppca, f"check_{number.replace('.', '_')}")(answer)
    return capsys.readouterr().out.strip()


def eye(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=torch.float64)


def M(W: torch.Tensor, sigma2: torch.Tensor) -> torch.Tensor:
    return W.T @ W + sigma2 * eye(W.shape[1])


def right_2_1(x, W, mu, sigma2):
    inverse = torch.linalg.inv(M(W, sigma2))
    return (x - mu) @ W @ inverse, sigma2 * inverse


def dense_2_1(x, W, mu, sigma2):
    gain = W.T @ torch.linalg.inv(W @ W.T + sigma2 * eye(len(W)))
    return (x - mu) @ gain.T, eye(W.shape[1]) - gain @ W


def numpy_2_1(x, W, mu, sigma2):
    x, W, mu, s = x.numpy(), W.numpy(), mu.numpy(), float(sigma2)
    inverse = np.linalg.inv(W.T @ W + s * np.eye(W.shape[1]))
    return (x - mu) @ W @ inverse, s * inverse


RIGHT = {
    "2.1": [
        right_2_1,
        dense_2_1,
        numpy_2_1,
        lambda *a: [part.float() for part in right_2_1(*a)],
        lambda *a: tuple(part.tolist() for part in right_2_1(*a)),
        lambda x, W, mu, s: (torch.stack([right_2_1(row[None], W, mu, s)[0][0] for row in x]), s * M(W, s).inverse()),
    ],
}
WRONG = {
    "2.1": {
        "return mean, covariance": lambda x, W, mu, s: right_2_1(x, W, mu, s)[0],
        "mean.shape = (2, 6) ≠ (6, 2)": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0].T, eye(2)),
        "mean: x → x − μ": lambda x, W, mu, s: (right_2_1(x + mu, W, mu, s)[0], eye(2)),
        "M = WᵀW → M = WᵀW + σ²I": lambda x, W, mu, s: ((x - mu) @ W @ torch.linalg.inv(W.T @ W), eye(2)),
        "Wᵀ(x − μ) → M⁻¹Wᵀ(x − μ)": lambda x, W, mu, s: ((x - mu) @ W, eye(2)),
        "mean ≠ M⁻¹Wᵀ(x − μ)": lambda x, W, mu, s: (right_2_1(x, W, mu, 2 * s)[0], eye(2)),
        "covariance: M⁻¹ → σ²M⁻¹": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0], torch.linalg.inv(M(W, s))),
        "covariance ≠ σ²M⁻¹": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0], eye(2)),
        "covariance.shape": lambda x, W, mu, s: (right_2_1(x, W, mu, s)[0], torch.ones(6, 2, 2)),
        "not str": lambda x, W, mu, s: ("0", eye(2)),
    }
}


def likelihood_2_3(lam, d_z, trace=True, order=True, mean_of_logs=False, d=None):
    lam, d = lam.sort(descending=True).values if order else lam, d or len(lam)
    rest = lam[d_z:].log().mean() if mean_of_logs else lam[d_z:].mean().log()
    return -0.5 * (d * math.log(2 * math.pi) + trace * d + lam[:d_z].log().sum() + (d - d_z) * rest)


def density_2_3(lam, d_z):
    lam = lam.sort(descending=True).values
    fitted = torch.cat([lam[:d_z], lam[d_z:].mean().expand(len(lam) - d_z)])
    return -0.5 * ((2 * math.pi * fitted).log() + lam / fitted).sum()


def numpy_2_3(lam, d_z):
    lam = np.sort(lam.numpy())[::-1]
    d, noise = len(lam), lam[d_z:].mean()
    return -0.5 * (d * np.log(2 * np.pi) + d + np.log(lam[:d_z]).sum() + (d - d_z) * np.log(noise))


RIGHT["2.3"] = [
    likelihood_2_3,
    density_2_3,
    numpy_2_3,
    lambda lam, d_z: likelihood_2_3(lam, d_z).item(),
    lambda lam, d_z: likelihood_2_3(lam.float(), d_z),
]
WRONG["2.3"] = {
    "tr(C⁻¹S) = d": lambda lam, d_z: likelihood_2_3(lam, d_z, trace=False),
    "log(Σ λ_j / (d − d_z))": lambda lam, d_z: likelihood_2_3(lam, d_z, mean_of_logs=True),
    "d_z = 2) = -6.472 ≠ 6.472": lambda lam, d_z: -likelihood_2_3(lam, d_z),
    "sort(descending=True)": lambda lam, d_z: likelihood_2_3(lam, d_z, order=False),
    "d_z = 1)": lambda lam, d_z: likelihood_2_3(lam, d_z, d=5),
    "d_z = 4)": lambda lam, d_z: likelihood_2_3(lam, min(d_z, 2)) if d_z != 1 else likelihood_2_3(lam, 1),
    "L.shape = (2,) ≠ ()": lambda lam, d_z: likelihood_2_3(lam, d_z).expand(2),
}


def deviation_2_4(x, W, mu, s, *, observed_only=True, noise=1.0, root=True, keep_zeros=True):
    missing = x.isnan()
    inverse = torch.linalg.inv(M(W[~missing] if observed_only else W, s))
    variance = s * (noise + (W @ inverse * W).sum(1))
    values = variance.sqrt() if root else variance
    return torch.where(missing, values, 0) if keep_zeros else values


def dense_2_4(x, W, mu, s):
    u, C = x.isnan(), W @ W.T + s * eye(len(W))
    std = torch.zeros(len(x), dtype=torch.float64)
    std[u] = (C[u][:, u] - C[u][:, ~u] @ torch.linalg.inv(C[~u][:, ~u]) @ C[~u][:, u]).diagonal().sqrt()
    return std


def precision_2_4(x, W, mu, s):
    u, C = x.isnan(), W @ W.T + s * eye(len(W))
    std = torch.zeros(len(x))
    std[u] = torch.linalg.inv(C)[u][:, u].inverse().diagonal().sqrt().float()
    return std


RIGHT["2.4"] = [
    deviation_2_4,
    dense_2_4,
    precision_2_4,
    lambda *a: deviation_2_4(*a).numpy(),
    lambda *a: deviation_2_4(*a).tolist(),
]
WRONG["2.4"] = {
    "std.shape = (2,) ≠ (5,)": lambda *a: deviation_2_4(*a)[:2],
    "NaN": lambda x, W, mu, s: x,
    "std[o] = 0": lambda *a: deviation_2_4(*a, keep_zeros=False),
    "√": lambda *a: deviation_2_4(*a, root=False),
    "→ I + W_u M_o⁻¹ W_uᵀ": lambda *a: deviation_2_4(*a, noise=0.0),
    "p(x_u | x_o)": lambda x, W, mu, s: torch.where(x.isnan(), (W.square().sum(1) + s).sqrt(), 0),
    "M_o = W_oᵀW_o + σ²I": lambda *a: deviation_2_4(*a, observed_only=False),
    "≠ diag σ²(I + W_u M_o⁻¹ W_uᵀ)": lambda *a: 2 * deviation_2_4(*a),
    "(6,)": lambda x, W, mu, s: deviation_2_4(x, W, mu, s) if len(x) == 5 else torch.zeros(5),
}


def step_2_7(x, W, s, *, second=True, count=True, centre=True, new=True, size=None):
    r = x - x.mean(0) if centre else x
    inverse = torch.linalg.inv(M(W, s))
    z = r @ W @ inverse
    zz = z.T @ z + (len(x) if count else 1) * second * s * inverse
    W_new = (r.T @ z) @ torch.linalg.inv(zz)
    used = W_new if new else W
    return W_new, (r.square().sum() - (z @ used.T * r).sum()) / (size or r.numel())


def loop_2_7(x, W, s):
    r, inverse, zz, rz = x - x.mean(0), M(W, s).inverse(), 0, 0
    moments = [inverse @ W.T @ row for row in r]
    for row, z in zip(r, moments, strict=True):
        zz, rz = zz + s * inverse + z.outer(z), rz + row.outer(z)
    W = torch.linalg.solve(zz, rz.T).T
    return W, sum(row @ row - z @ W.T @ row for row, z in zip(r, moments, strict=True)) / r.numel()


def covariance_2_7(x, W, s):
    S = x.T.cov(correction=0)
    A = torch.linalg.solve(M(W, s), W.T)
    zz = s * torch.linalg.inv(M(W, s)) + A @ S @ A.T
    W = torch.linalg.solve(zz, A @ S).T
    return [W, (S.trace() - (W @ A @ S).trace()) / len(S)]


RIGHT["2.7"] = [
    step_2_7,
    loop_2_7,
    covariance_2_7,
    lambda *a: [part.numpy() for part in step_2_7(*a)],
    lambda *a: (step_2_7(*a)[0].tolist(), step_2_7(*a)[1].item()),
]
WRONG["2.7"] = {
    "return W, sigma2": lambda *a: step_2_7(*a)[0],
    "W.shape = (2, 5) ≠ (5, 2)": lambda *a: (step_2_7(*a)[0].T, step_2_7(*a)[1]),
    "→ ⟨zzᵀ⟩ = σ²M⁻¹ + ⟨z⟩⟨z⟩ᵀ": lambda *a: step_2_7(*a, second=False),
    "σ²M⁻¹ → N σ²M⁻¹": lambda *a: step_2_7(*a, count=False),
    "r = x → r = x − μ": lambda *a: step_2_7(*a, centre=False),
    "W ≠ (Σ r⟨z⟩ᵀ)(Σ ⟨zzᵀ⟩)⁻¹": lambda x, W, s: (W, s),
    "1/N → 1/(Nd)": lambda x, W, s: step_2_7(x, W, s, size=len(x)),
    "Σ → 1/(Nd) Σ": lambda x, W, s: step_2_7(x, W, s, size=1),
    "σ²: W → W_new": lambda *a: step_2_7(*a, new=False),
    "σ² ≠ 1/(Nd) Σ": lambda x, W, s: (step_2_7(x, W, s)[0], s),
    "sigma2.shape": lambda x, W, s: (step_2_7(x, W, s)[0], torch.ones(5)),
}


@pytest.mark.parametrize(("number", "place"), [(n, i) for n in NUMBERS for i in range(len(RIGHT[n]))])
def test_a_right_answer_of_any_kind_passes(number: str, place: int, capsys: pytest.CaptureFixture) -> None:
    assert checked(number, RIGHT[number][place], capsys) == f"{number} ✓"


@pytest.mark.parametrize(("number", "hint"), [(n, hint) for n in NUMBERS for hint in WRONG[n]])
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    out = checked(number, WRONG[number][hint], capsys)
    assert "✗" in out
    assert hint in out
    assert len(out.splitlines()) == 1
    assert not re.search("[가-힣]", out), "a hint is read in both editions"


def test_each_checker_meets_five_right_and_five_wrong_answers() -> None:
    assert min(len(answers[n]) for answers in (RIGHT, WRONG) for n in NUMBERS) >= 5


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    assert "✗ RuntimeError" in checked("2.1", lambda x, W, mu, sigma2: x @ mu @ W, capsys)
