from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from companion.exercises import vae


def verdict(number: str, answer: object, capsys: pytest.CaptureFixture) -> str:
    getattr(vae, f"check_{number.replace('.', '_')}")(answer)
    return capsys.readouterr().out.strip()


def kl(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v).sum(1)


def diagonal(m, v):
    return Independent(Normal(m, (0.5 * v).exp()), 1)


def kl_of_matrices(m, v):
    p = MultivariateNormal(torch.zeros_like(m), torch.eye(m.shape[1]).to(m))
    return kl_divergence(MultivariateNormal(m, torch.diag_embed(v.exp())), p)


RIGHT_3_1 = {
    "torch.distributions": lambda m, v: kl_divergence(diagonal(m, v), diagonal(0 * m, 0 * v)),
    "matrices": kl_of_matrices,
    "NumPy": lambda m, v: 0.5 * np.sum(m.numpy() ** 2 + np.exp(v.numpy()) - 1 - v.numpy(), axis=1),
    "a list": lambda m, v: [0.5 * float((a**2 + b.exp() - 1 - b).sum()) for a, b in zip(m, v, strict=True)],
    "a list of tensors, float32": lambda m, v: list(kl(m.float(), v.float())),
    "with a gradient": lambda m, v: kl(m.requires_grad_(), v),
}

WRONG_3_1 = {
    "shape = () ≠ (5,)": lambda m, v: kl(m, v).sum(),
    "shape = (5, 3) ≠ (5,)": lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v),
    "−KL;  KL ≥ 0": lambda m, v: -kl(m, v),
    "½ Σ_j": lambda m, v: 2 * kl(m, v),
    "KL / d_z": lambda m, v: kl(m, v) / 3,
    "KL(p ‖ q), (3.20)": lambda m, v: 0.5 * ((1 + m**2) / v.exp() - 1 + v).sum(1),
    "s⁴;  log_variance = log s²": lambda m, v: kl(m, 2 * v),
    "≠ (3.18)": lambda m, v: kl(m, v) + 1,
}


def log_p(x, mean, sigma2):
    return -0.5 * ((x - mean).square() / sigma2 + math.log(2 * math.pi * sigma2))


def at(m, v, eps):
    return m + (0.5 * v).exp() * eps


def by_numpy(x, m, v, g, s, e):
    x, m, v, e = (a.numpy() for a in (x, m, v, e))
    error = ((x - np.asarray(g(m + np.exp(v / 2) * e))) ** 2).sum(1)
    log_likelihood = -error / (2 * s) - x.shape[1] / 2 * np.log(2 * np.pi * s)
    return log_likelihood - 0.5 * (m**2 + np.exp(v) - 1 - v).sum(1)


def by_distributions(x, m, v, g, s, e):
    p = Independent(Normal(g(at(m, v, e)), s**0.5), 1)
    return p.log_prob(x) - kl_divergence(diagonal(m, v), diagonal(0 * m, 0 * v))


def by_rows(x, m, v, g, s, e):
    return [by_distributions(*(a[i : i + 1] for a in (x, m, v)), g, s, e[i : i + 1])[0] for i in range(len(x))]


def by_mean_squared_error(x, m, v, g, s, e):
    error = torch.nn.functional.mse_loss(g(at(m, v, e)), x, reduction="none").sum(1)
    return -error / (2 * s) - 0.5 * x.shape[1] * math.log(2 * math.pi * s) - kl(m, v)


RIGHT_3_2 = {
    "sums": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).sum(1) - kl(m, v),
    "NumPy": by_numpy,
    "torch.distributions": by_distributions,
    "row by row, a list": by_rows,
    "mse_loss": by_mean_squared_error,
}

WRONG_3_2 = {
    "shape = () ≠ (4,)": lambda x, m, v, g, s, e: (log_p(x, g(at(m, v, e)), s).sum(1) - kl(m, v)).mean(),
    "+ KL;  − KL": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).sum(1) + kl(m, v),
    "−ELBO;  ELBO": lambda x, m, v, g, s, e: kl(m, v) - log_p(x, g(at(m, v, e)), s).sum(1),
    "m + s² ε": lambda x, m, v, g, s, e: log_p(x, g(at(m, 2 * v, e)), s).sum(1) - kl(m, v),
    "g(m);": lambda x, m, v, g, s, e: log_p(x, g(m), s).sum(1) - kl(m, v),
    "(1/d) Σ_j": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).mean(1) - kl(m, v),
    "−(d/2) log 2πσ²": lambda x, m, v, g, s, e: -0.5 * (x - g(at(m, v, e))).square().sum(1) / s - kl(m, v),
    "σ⁴;  σ²": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s**2).sum(1) - kl(m, v),
    "log q(z | x)": lambda x, m, v, g, s, e: (
        log_p(x, g(at(m, v, e)), s).sum(1)
        + diagonal(0 * m, 0 * v).log_prob(at(m, v, e))
        - diagonal(m, v).log_prob(at(m, v, e))
    ),
    "≠ (3.15) − (3.18)": lambda x, m, v, g, s, e: log_p(x, g(at(m, v, e)), s).sum(1) - 2 * kl(m, v),
}


def score(z, m, s):
    return (z - m) / s**2


def others(f):
    return (f.sum() - f) / (len(f) - 1)


def by_autograd(f, z, m, s):
    rows = m.expand_as(z).clone().requires_grad_()
    return (f - others(f))[:, None] * torch.autograd.grad(Normal(rows, s).log_prob(z).sum(), rows)[0]


def by_loops(f, z, m, s):
    k = len(f)
    b = [sum(float(f[j]) for j in range(k) if j != i) / (k - 1) for i in range(k)]
    return [[float((f[i] - b[i]) * (z[i, j] - m[j]) / s[j] ** 2) for j in range(z.shape[1])] for i in range(k)]


def by_a_matrix(f, z, m, s):
    k = len(f)
    return (f - (torch.ones(k, k) - torch.eye(k)).double() @ f / (k - 1)).unsqueeze(1) * score(z, m, s)


def in_numpy(f, z, m, s):
    f, z, m, s = (a.numpy() for a in (f, z, m, s))
    return (f - (f.sum() - f) / (len(f) - 1))[:, None] * (z - m) / s**2


RIGHT_3_3 = {
    "autograd": by_autograd,
    "loops": by_loops,
    "a matrix": by_a_matrix,
    "NumPy": in_numpy,
    "k/(k − 1) (f − mean)": lambda f, z, m, s: len(f) / (len(f) - 1) * (f - f.mean())[:, None] * score(z, m, s),
}

WRONG_3_3 = {
    "shape = (3,) ≠ (7, 3)": lambda f, z, m, s: ((f - others(f))[:, None] * score(z, m, s)).mean(0),
    "f_i;  f_i − b_i": lambda f, z, m, s: f[:, None] * score(z, m, s),
    "(1/k) Σ_l f_l": lambda f, z, m, s: (f - f.mean())[:, None] * score(z, m, s),
    "/ s;  / s²": lambda f, z, m, s: (f - others(f))[:, None] * (z - m) / s,
    "−;  +": lambda f, z, m, s: (others(f) - f)[:, None] * score(z, m, s),
    "1/(k − 1)": lambda f, z, m, s: (f - (f.sum() - f) / len(f))[:, None] * score(z, m, s),
    "≠ (f_i − b_i)": lambda f, z, m, s: (f - others(f))[:, None] * score(z, m, s) / 2,
}

#: From five seeds of the chapter's solution, and as readers would return them.
RIGHT_3_5 = {
    "a list": [1.42, 1.35, 4.82, 2.19],
    "NumPy": np.array([1.20, 3.18, 5.31, 1.71], dtype=np.float32),
    "a tuple of tensors": tuple(torch.tensor([1.17, 2.77, 5.09, 1.16])),
    "a tensor with a gradient": torch.tensor([1.17, 2.55, 4.97, 1.08], requires_grad=True),
    "a list of NumPy numbers": list(np.array([0.96, 1.43, 5.13, 1.58])),
}

WRONG_3_5 = {
    "shape = (3,) ≠ (4,)": [1.42, 1.35, 4.82],
    "PPCA − VAE;  VAE − PPCA": [-1.42, -1.35, -4.82, -2.19],
    "1, 2, 4, 8": [1.71, 5.31, 3.18, 1.20],
    "(1/d) Σ_j": [v / 64 for v in (1.42, 1.35, 4.82, 2.19)],
    "(1/N) Σ_n": [v * 297 for v in (1.42, 1.35, 4.82, 2.19)],
    "ELBO < log p (PPCA)": [0.2, -1.0, 1.1, -2.0],
    "x[:1500];  x[1500:]": [2.04, 3.38, 6.05, 2.81],
    "argmax d_z ≠ 4": [1.0, 2.0, 3.0, 4.0],
}

RIGHT = {"3.1": RIGHT_3_1, "3.2": RIGHT_3_2, "3.3": RIGHT_3_3, "3.5": RIGHT_3_5}
WRONG = {"3.1": WRONG_3_1, "3.2": WRONG_3_2, "3.3": WRONG_3_3, "3.5": WRONG_3_5}


def test_enough_answers_are_tried() -> None:
    assert all(len(answers) >= 5 for tried in (RIGHT, WRONG) for answers in tried.values())


@pytest.mark.parametrize(("number", "way"), [(number, way) for number, right in RIGHT.items() for way in right])
def test_a_right_answer_passes(number: str, way: str, capsys: pytest.CaptureFixture) -> None:
    assert verdict(number, RIGHT[number][way], capsys) == f"{number} ✓"


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number, wrong in WRONG.items() for hint in wrong])
def test_a_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    out = verdict(number, WRONG[number][hint], capsys)
    assert out.startswith(f"{number} ✗")
    assert hint in out
    assert not re.search("[가-힣]", out), "a hint that both languages can read"
