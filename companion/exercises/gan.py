"""Self-checks of chapter 4's exercises. Hints are short and symbolic, so that both editions can show them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from companion.exercises import close, compare, exercise, expect, given, normal, tensor


@exercise
def check_4_1(value: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`value(a_real, a_made)` is V of (4.5) from logits, a scalar, also where probabilities round to 0 or 1."""
    a_real, a_made = normal(50, seed=41), normal(40, seed=42) - 1
    answer = tensor(value(a_real.clone(), a_made.clone()), ())
    real = Bernoulli(logits=a_real).log_prob(torch.ones(50).double())
    made = Bernoulli(logits=a_made).log_prob(torch.zeros(40).double())
    fooled = Bernoulli(logits=a_made).log_prob(torch.ones(40).double())
    compare(
        answer,
        real.mean() + made.mean(),
        "≠ (4.5)",
        {
            "± : V = −BCE(D(x), 1) − BCE(D(G(z)), 0)": -real.mean() - made.mean(),
            "log D(G(z)) → log(1 − D(G(z)))": real.mean() + fooled.mean(),
            "sum → mean": real.sum() + made.sum(),
            "mean(a, b) → mean(a) + mean(b)": torch.cat([real, made]).mean(),
            "log₂ → log (nat)": (real.mean() + made.mean()) / math.log(2),
        },
    )
    far = torch.tensor([-500.0]), torch.tensor([500.0])
    at_the_ends = tensor(value(*far), ())
    expect(
        bool(at_the_ends.isfinite()) and math.isclose(at_the_ends.item(), -1000, rel_tol=1e-4),
        f"a = ∓500: V = −1000, not {at_the_ends:.4g}; D → (4.6)",
    )


@exercise
def check_4_2(jsd: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`jsd(p, q)` is (4.9) in nats for probabilities of shape (K,), some of which may be 0."""
    p, q = torch.tensor([[0.5, 0.3, 0.2, 0.0, 0.0], [0.1, 0.0, 0.3, 0.6, 0.0]], dtype=torch.float64)
    answer = tensor(jsd(p.clone(), q.clone()), ())
    # What one draw tells about the coin that chose the distribution: log 2 − E[H(coin | draw)].
    m = (p + q) / 2
    seen = m > 0
    truth = math.log(2) - (m[seen] * Bernoulli(probs=(p / (2 * m))[seen]).entropy()).sum()
    one = (p[seen].xlogy(p[seen]) - p[seen].xlogy(m[seen])).sum()
    expect(not answer.isnan(), "NaN: 0 · log 0 = 0 (torch.xlogy); p = q = 0 → 0/0")
    expect(answer.isfinite(), "∞: KL(p ‖ q) → KL(p ‖ m), m = (p + q)/2")
    compare(
        answer,
        truth,
        f"{answer:.4f} → {truth:.4f}",
        {
            "× 1/2": 2 * truth,
            "± : KL(p ‖ m) = Σ p log(p/m)": -truth,
            "log₂ → log (nat)": truth / math.log(2),
            "√JSD → JSD": truth.sqrt(),
            "KL(p ‖ m) + ?": one,
            "KL(q ‖ m) + ?": 2 * truth - one,
        },
    )


@exercise
def check_4_3(penalty: Callable[[Callable, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`penalty(f, x, y, eps)` is (4.19), differentiable; f maps (n, d) to (n,), eps has shape (n, 1)."""
    n, d = 6, 3
    x, y = normal(n, d, seed=43), normal(n, d, seed=44) + 2
    w = (0.3 * normal(d, seed=45)).requires_grad_()
    eps = torch.rand(n, 1, generator=torch.Generator().manual_seed(46)).double()

    def f(rows: Tensor) -> Tensor:
        return (rows**2) @ w

    def gradients(at: Tensor) -> Tensor:
        return 2 * at * w

    answer = given(penalty(f, x.clone(), y.clone(), eps.clone()))
    slope = gradients(eps * x + (1 - eps) * y)
    norm = slope.norm(dim=1)
    truth = (norm - 1).square().mean()
    found = tensor(answer, ())
    compare(
        found,
        truth,
        "≠ (4.19)",
        {
            "x → x̂ = εx + (1 − ε)y": (gradients(x).norm(dim=1) - 1).square().mean(),
            "y → x̂ = εx + (1 − ε)y": (gradients(y).norm(dim=1) - 1).square().mean(),
            "ε ↔ 1 − ε": (gradients((1 - eps) * x + eps * y).norm(dim=1) - 1).square().mean(),
            "norm: dim=0 → dim=1": (slope.norm(dim=0) - 1).square().mean(),
            "norm of all → one norm a row, dim=1": (slope.norm() - 1).square(),
            "‖∇f‖² − 1 → ‖∇f‖ − 1": (slope.square().sum(1) - 1).square().mean(),
            "max(0, ‖∇f‖ − 1)² → (‖∇f‖ − 1)²": (norm - 1).clamp(min=0).square().mean(),
            "|‖∇f‖ − 1| → (‖∇f‖ − 1)²": (norm - 1).abs().mean(),
            "‖∇f‖² → (‖∇f‖ − 1)²": norm.square().mean(),
        },
    )
    expect(isinstance(answer, Tensor) and answer.requires_grad, "value ✓, no gradient: create_graph=True")
    (found_gradient,) = torch.autograd.grad(answer, w, retain_graph=True)
    (true_gradient,) = torch.autograd.grad(truth, w)
    expect(close(found_gradient, true_gradient), "value ✓, gradient ✗: create_graph=True, detach()?")


@exercise
def check_4_4(w1: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`w1(x, y)` is (4.18) for samples of shape (n,)."""
    x, y = normal(300, seed=47), 1.5 * normal(300, seed=48) + 0.4
    answer = tensor(w1(x.clone(), y.clone()), ())
    # The area between the two step functions, from all points in order.
    points = torch.cat([x, y]).sort().values
    F_x, F_y = ((points[:-1, None] >= sample).double().mean(1) for sample in (x, y))
    truth = ((F_x - F_y).abs() * points.diff()).sum()
    a, b = x.sort().values, y.sort().values
    compare(
        answer,
        truth,
        f"{answer:.4f} → {truth:.4f}",
        {
            "sort x, y": (x - y).abs().mean(),
            "sort: ↑ ↓ → ↑ ↑": (a - b.flip(0)).abs().mean(),
            "|mean(x − y)| → mean|x − y|": (a - b).mean().abs(),
            "x − y → |x − y|": (a - b).mean(),
            "sum → mean": (a - b).abs().sum(),
            "W₂² → W₁": (a - b).square().mean(),
            "W₂ → W₁": (a - b).square().mean().sqrt(),
        },
    )
