from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from companion.exercises import gan

NUMBERS = ["4.1", "4.2", "4.3", "4.4"]


def bernoulli(a, y):
    return torch.distributions.Bernoulli(logits=a).log_prob(torch.full_like(a, y))


def by_numpy(a, b):
    return -np.logaddexp(0, -a.numpy()).mean() - np.logaddexp(0, b.numpy()).mean()


RIGHT_4_1 = [
    lambda a, b: -F.softplus(-a).mean() - F.softplus(b).mean(),
    lambda a, b: bernoulli(a, 1.0).mean() + bernoulli(b, 0.0).mean(),
    lambda a, b: (
        -F.binary_cross_entropy_with_logits(a, torch.ones_like(a))
        - F.binary_cross_entropy_with_logits(b, torch.zeros_like(b))
    ),
    by_numpy,
    lambda a, b: float(F.logsigmoid(a).sum() / len(a) + F.logsigmoid(-b).sum() / len(b)),
]

WRONG_4_1 = {
    "shape = (40,) ≠ ()": lambda a, b: F.logsigmoid(a)[:40] + F.logsigmoid(-b),
    "V = −BCE": lambda a, b: -F.logsigmoid(a).mean() - F.logsigmoid(-b).mean(),
    "→ log(1 − D(G(z)))": lambda a, b: F.logsigmoid(a).mean() + F.logsigmoid(b).mean(),
    "sum → mean": lambda a, b: F.logsigmoid(a).sum() + F.logsigmoid(-b).sum(),
    "mean(a) + mean(b)": lambda a, b: torch.cat([F.logsigmoid(a), F.logsigmoid(-b)]).mean(),
    "log₂ → log": lambda a, b: (F.logsigmoid(a).mean() + F.logsigmoid(-b).mean()) / math.log(2),
    "≠ (4.5)": lambda a, b: F.logsigmoid(a).mean(),
    "a = ∓500": lambda a, b: a.sigmoid().clamp(1e-12).log().mean() + (-b).sigmoid().clamp(1e-12).log().mean(),
    "D → (4.6)": lambda a, b: a.sigmoid().log().mean() + (1 - b.sigmoid()).log().mean(),
}


def divergence(p, q, *, half=0.5, base=math.e, first=True, second=True, safe=True):
    m = (p + q) / 2
    terms = [v.xlogy(v) - v.xlogy(m) if safe else v * (v.log() - m.log()) for v in (p, q)]
    return half * (first * terms[0].sum() + second * terms[1].sum()) / math.log(base)


def entropy(p):
    return -torch.xlogy(p, p).sum()


RIGHT_4_2 = [
    divergence,
    lambda p, q: divergence(p.float(), q.float()),
    lambda p, q: entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2,
    lambda p, q: jensenshannon(p.numpy(), q.numpy()) ** 2,
    lambda p, q: sum(v[v > 0] @ (2 * v[v > 0] / (p + q)[v > 0]).log() for v in (p, q)) / 2,
    lambda p, q: float(divergence(p, q)),
]

WRONG_4_2 = {
    "shape = (5,) ≠ ()": lambda p, q: torch.special.xlogy(p, 2 * p / (p + q)),
    "0 · log 0": lambda p, q: divergence(p, q, safe=False),
    "→ 0/0": lambda p, q: sum(torch.special.xlogy(v, 2 * v / (p + q)).sum() for v in (p, q)) / 2,
    "KL(p ‖ m), m =": lambda p, q: (p.xlogy(p) - p.xlogy(q)).sum(),
    "× 1/2": lambda p, q: divergence(p, q, half=1),
    "log₂ → log": lambda p, q: divergence(p, q, base=2),
    "KL(p ‖ m) + ?": lambda p, q: divergence(p, q, half=1, second=False),
    "KL(q ‖ m) + ?": lambda p, q: divergence(p, q, half=1, first=False),
    "√JSD": lambda p, q: jensenshannon(p.numpy(), q.numpy()),
    "Σ p log(p/m)": lambda p, q: -divergence(p, q),
    " → 0.": lambda p, q: 0.9 * divergence(p, q),
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


def sizes(f, x, y, eps):
    at = (eps * x + (1 - eps) * y).requires_grad_()
    (gradient,) = torch.autograd.grad(f(at), at, torch.ones(len(x)).double(), create_graph=True)
    return gradient.square().sum(1).sqrt()


def row_by_row(f, x, y, eps):
    at = eps * x + (1 - eps) * y
    norms = [torch.func.grad(lambda row: f(row[None])[0])(row).norm() for row in at]
    return ((torch.stack(norms) - 1) ** 2).mean()


RIGHT_4_3 = [
    charge,
    lambda f, x, y, eps: (sizes(f, x, y, eps) - 1).pow(2).mean(),
    row_by_row,
    lambda f, x, y, eps: F.mse_loss(sizes(f, x, y, eps), torch.ones(len(x)).double()),
    lambda f, x, y, eps: ((sizes(f, x, y, eps) - 1) ** 2).sum() / len(x),
]

WRONG_4_3 = {
    "shape = (6,) ≠ ()": lambda f, x, y, eps: charge(f, x, y, eps, mean=False),
    "x → x̂": lambda f, x, y, eps: charge(f, x, y, torch.ones_like(eps)),
    "y → x̂": lambda f, x, y, eps: charge(f, x, y, torch.zeros_like(eps)),
    "ε ↔ 1 − ε": lambda f, x, y, eps: charge(f, y, x, eps),
    "dim=0 → dim=1": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.norm(dim=0)),
    "norm of all": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.norm()),
    "‖∇f‖² − 1": lambda f, x, y, eps: charge(f, x, y, eps, norm=lambda g: g.square().sum(1)),
    "max(0": lambda f, x, y, eps: (sizes(f, x, y, eps) - 1).clamp(min=0).square().mean(),
    "|‖∇f‖ − 1|": lambda f, x, y, eps: (sizes(f, x, y, eps) - 1).abs().mean(),
    "‖∇f‖² →": lambda f, x, y, eps: sizes(f, x, y, eps).square().mean(),
    "≠ (4.19)": lambda f, x, y, eps: 2 * charge(f, x, y, eps),
    "no gradient: create_graph": lambda f, x, y, eps: charge(f, x, y, eps).detach(),
    "gradient ✗": charge_detached,
}


def paired(x, y):
    return x.sort().values - y.sort().values


RIGHT_4_4 = [
    lambda x, y: paired(x, y).abs().mean(),
    lambda x, y: paired(x, y).abs().mean().item(),
    lambda x, y: np.abs(np.sort(x.numpy()) - np.sort(y.numpy())).mean(),
    lambda x, y: wasserstein_distance(x, y),
    lambda x, y: (x.sort(descending=True).values - y.sort(descending=True).values).abs().sum() / len(x),
]

WRONG_4_4 = {
    "shape = (300,) ≠ ()": lambda x, y: paired(x, y).abs(),
    "sort x, y": lambda x, y: (x - y).abs().mean(),
    "↑ ↓": lambda x, y: (x.sort().values - y.sort(descending=True).values).abs().mean(),
    "→ |x − y|": lambda x, y: paired(x, y).mean(),
    "|mean(x − y)|": lambda x, y: paired(x, y).mean().abs(),
    "sum → mean": lambda x, y: paired(x, y).abs().sum(),
    "W₂² → W₁": lambda x, y: paired(x, y).square().mean(),
    "W₂ → W₁": lambda x, y: paired(x, y).square().mean().sqrt(),
    " → 0.": lambda x, y: paired(x, y).abs().median(),
}

RIGHT = dict(zip(NUMBERS, (RIGHT_4_1, RIGHT_4_2, RIGHT_4_3, RIGHT_4_4), strict=True))
WRONG = dict(zip(NUMBERS, (WRONG_4_1, WRONG_4_2, WRONG_4_3, WRONG_4_4), strict=True))


def verdict(number: str, answer, capsys: pytest.CaptureFixture) -> str:
    getattr(gan, f"check_{number.replace('.', '_')}")(answer)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(("number", "answer"), [(number, answer) for number in NUMBERS for answer in RIGHT[number]])
def test_other_right_answers_pass(number: str, answer, capsys: pytest.CaptureFixture) -> None:
    assert verdict(number, answer, capsys) == f"{number} ✓"


@pytest.mark.parametrize(
    ("number", "hint", "answer"),
    [(number, hint, answer) for number in NUMBERS for hint, answer in WRONG[number].items()],
)
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, answer, capsys: pytest.CaptureFixture) -> None:
    out = verdict(number, answer, capsys)
    assert out.startswith(f"{number} ✗")
    assert hint in out
    assert len(out.splitlines()) == 1
    assert not re.search("[가-힣]", out), "both editions show it"


def test_lists_get_a_hint_or_pass(capsys: pytest.CaptureFixture) -> None:
    assert verdict("4.4", lambda x, y: [0.1, 0.2], capsys) == "4.4 ✗ shape = (2,) ≠ ()"
    assert verdict("4.1", lambda a, b: by_numpy(a, b).tolist(), capsys) == "4.1 ✓"


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    assert "✗ RuntimeError" in verdict("4.4", lambda x, y: x @ y.diag()[:3], capsys)
    assert "✗ RuntimeError" in verdict("4.1", lambda a, b: a + b, capsys)
