"""Self-checks of chapter 6's exercises. Hints are symbols, which both editions can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.exercises import compare, exercise, expect, given, normal, tensor
from companion.metrics import frechet_distance

#: The data of exercise 6.2.
FOUR = (-4.0, -3.0, 3.0, 4.0)


@exercise
def check_6_1(covered: Callable[..., Any]) -> None:
    """`covered(x, y, k)` is the share of x in a ball of y that reaches to its k-th nearest neighbour, (6.3)."""
    x, y = 0.8 * normal(12, 2, seed=61), normal(30, 2, seed=62)
    table = torch.cdist(y, y).sort(1).values

    def share(a: Tensor, b: Tensor, radius: Tensor) -> Tensor:
        return (torch.cdist(a, b) <= radius).any(1).double().mean()

    for k in (1, 3):
        answer = tensor(tensor(covered(x.clone(), y.clone(), k)).squeeze(), ())
        own = torch.cdist(x, x).sort(1).values[:, k]
        compare(
            answer,
            share(x, y, table[:, k]),
            f"k = {k}: ≠ (6.3)",
            {
                f"k = {k}: ‖y − y‖ = 0: k → k + 1": share(x, y, table[:, k - 1]),
                f"k = {k}: x ↔ y: (6.4) → (6.3)": share(y, x, own),
                f"k = {k}: Σ 1[…] → mean": 12 * share(x, y, table[:, k]),
            },
        )


@exercise
def check_6_2(fake: Callable[[], Any]) -> None:
    """`fake()` gives numbers whose Fréchet distance to −4, −3, 3, 4 is 0 and of which none is near any of these."""
    x = tensor(given(fake()), name="x").flatten()
    expect(len(x) > 1, f"n = {len(x)} > 1?")
    data = torch.tensor(FOUR, dtype=torch.float64)
    far = (x[:, None] - data).abs().min().item()
    expect(far > 1, f"min |x − y| = {far:.3g} > 1?")
    distance = frechet_distance(x[:, None], data[:, None])
    about = f"μ = {x.mean():.3g}, σ = {x.std():.3g} ≠ {data.mean():.3g}, {data.std():.3g}"
    expect(distance < 0.01, f"(6.5) = {distance:.3g} > 0.01: {about}")


@exercise
def check_6_3(denoise: Callable[..., Any]) -> None:
    """`denoise(x_t, W, mu, alpha, sigma)` is E[x_0 | x_t] of (6.1) for x_0 = μ + Wz, shape (n, d)."""
    W, mu, x_t = normal(5, 2, seed=63), normal(5, seed=64), normal(7, 5, seed=65)
    alpha, sigma = 0.6, 0.7
    C = W @ W.T
    eye = torch.eye(5).double()

    def best(a: float, noise: float, centre: Tensor) -> Tensor:
        return mu + (x_t - centre) @ torch.linalg.solve(a**2 * C + noise * eye, a * C)

    answer = tensor(denoise(x_t.clone(), W.clone(), mu.clone(), alpha, sigma), x_t.shape)
    truth = best(alpha, sigma**2, alpha * mu)
    compare(
        answer,
        truth,
        "≠ (6.1)",
        {
            "x_t − μ → x_t/α − μ": mu + (x_t - mu) @ torch.linalg.solve(C + sigma**2 / alpha**2 * eye, C),
            "σ² → σ²/α² = 1/SNR": mu + (x_t / alpha - mu) @ torch.linalg.solve(C + sigma**2 * eye, C),
            "+ μ?": truth - mu,
            "SNR → 1/SNR": mu + (x_t / alpha - mu) @ torch.linalg.solve(C + alpha**2 / sigma**2 * eye, C),
            "E[x_0 | x_t] ≠ E[x_t | …]: α": alpha * truth,
        },
    )


@exercise
def check_6_4(best_accuracy: Callable[..., Any]) -> None:
    """`best_accuracy(p, q)` is ½ + ½ TV(p, q), (6.7), for probabilities p and q of the same values, shape (K,)."""
    for seed in (66, 67):
        p, q = normal(6, seed=seed).softmax(0), (2 * normal(6, seed=seed + 10)).softmax(0)
        tv = 0.5 * (p - q).abs().sum()
        answer = tensor(tensor(best_accuracy(p.clone(), q.clone())).squeeze(), ())
        compare(
            answer,
            0.5 + 0.5 * tv,
            "≠ Σ max(p, q)/2",
            {
                "TV → ½ + ½ TV": tv,
                "Σ|p − q| = 2 TV": 0.5 + tv,
                "Σ max(p, q) → ½ Σ max(p, q)": 1 + tv,
                "max → min": 0.5 - 0.5 * tv,
            },
        )


@exercise
def check_6_5(samples_needed: Callable[..., Any]) -> None:
    """`samples_needed(p, q)` is the n at which |p − q| is twice the standard error of the difference of two shares."""
    for p, q in ((0.40, 0.43), (0.10, 0.05)):
        answer = tensor(tensor(samples_needed(p, q)).squeeze(), ()).item()
        both = p * (1 - p) + q * (1 - q)
        n = 4 * both / (p - q) ** 2
        shown = f"p, q = {p:g}, {q:g}: n = {answer:.4g}"
        for wrong, hint in (
            (n / 4, "1 → 2 √(…)"),
            (n / 2, "2² = 4"),
            (4 * p * (1 - p) / (p - q) ** 2, "p(1 − p) + q(1 − q)"),
            (math.sqrt(n), "√n → n"),
        ):
            expect(not math.isclose(answer, wrong, rel_tol=1e-3), f"{shown}: {hint}")
        expect(n * (1 - 1e-3) <= answer <= n + 1 + 1e-3 * n, f"{shown} ≠ {n:.0f}")
