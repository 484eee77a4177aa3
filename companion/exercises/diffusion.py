"""Self-checks of the exercises of chapter 5's first page. Hints are symbols, which both editions can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.exercises import Hint, close, exercise, expect, given, normal, parts, tensor

#: (alpha, sigma) at an earlier time s and at a later time t.
_S, _T = (0.9, 0.4), (0.5, 0.8)


@exercise
def check_5_1(q_posterior: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """`q_posterior(x_t, x_0, alpha_s, sigma_s, alpha_t, sigma_t)` is the mean and the variance of (5.11).

    The truth comes from the joint covariance of x_s and x_t given x_0.
    """
    x_t, x_0 = normal(5, 3, seed=51), normal(5, 3, seed=52)
    mean, variance = parts(q_posterior(x_t.clone(), x_0.clone(), *_S, *_T), "mean", "variance")
    mean, variance = tensor(mean, x_t.shape, "mean"), tensor(variance, name="variance")
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    ratio = alpha_t / alpha_s
    forward = sigma_t**2 - (ratio * sigma_s) ** 2
    cross = ratio * sigma_s**2
    true_mean = alpha_s * x_0 + cross / sigma_t**2 * (x_t - alpha_t * x_0)
    true_variance = sigma_s**2 - cross**2 / sigma_t**2
    expect(not close(mean, x_t / ratio), "mean = (α_s/α_t) x_t:  x_0 ?")
    expect(not close(mean, alpha_s * x_0), "mean = α_s x_0 = E[x_s | x_0]:  x_t ?")
    expect(close(mean, true_mean), "mean ≠ (5.11)")
    try:
        variance = variance.broadcast_to(x_t.shape)
    except RuntimeError:
        tensor(variance, (), "variance")
    for wrong, hint in (
        (math.sqrt(true_variance), "variance = std(x_s | x_t, x_0):  std² ?"),
        (forward, "variance = σ²_{t|s} (5.3):  (5.11) ?"),
        (sigma_s**2, "variance = σ_s² = Var(x_s | x_0) > Var(x_s | x_t, x_0)"),
    ):
        expect(not close(variance, torch.full_like(x_t, wrong)), hint)
    expect(close(variance, torch.full_like(x_t, true_variance)), "variance ≠ (5.11)")


@exercise
def check_5_2(noise_loss: Callable[..., Tensor]) -> None:
    """`noise_loss(eps_hat, x_0, t, alpha, sigma, eps)` is the loss (5.15) of a batch, a number.

    The second batch has as many rows as entries in a row, where α of shape (n,) multiplies the wrong axis unnoticed.
    """
    for n, d in ((5, 3), (4, 4)):
        x_0, eps = normal(n, d, seed=53), normal(n, d, seed=54)
        t = torch.linspace(0.1, 0.9, n).double()
        alpha, sigma = (1.5 * t).cos(), (1.5 * t).sin()
        a, s = alpha[:, None], sigma[:, None]

        def eps_hat(x_t: Any, t: Any) -> Tensor:
            x_t, t = tensor(x_t), tensor(t)
            return torch.tanh(1.3 * x_t + 0.2) * (1 + t.reshape(-1, 1))

        answer = noise_loss(eps_hat, x_0.clone(), t.clone(), alpha.clone(), sigma.clone(), eps.clone())
        loss = tensor(answer, (), "loss")

        def mean_square(truth: Tensor, x_t: Tensor, t: Tensor = t, eps_hat: Callable = eps_hat) -> Tensor:
            return (truth - eps_hat(x_t, t)).square().mean()

        truth = mean_square(eps, a * x_0 + s * eps)
        for wrong, hint in (
            (truth * n * d, "loss = Σ:  mean ?"),
            (truth * d, "loss = E‖ε − ε̂‖²:  1/d ?"),
            (truth.sqrt(), "loss = √(…):  (…)² ?"),
            (mean_square(x_0, a * x_0 + s * eps), "‖x_0 − ε̂‖²:  ‖ε − ε̂‖² ?"),
            (mean_square(eps, s * x_0 + a * eps), "x_t = σ_t x_0 + α_t ε:  (5.1) ?"),
            (mean_square(eps, a * x_0 + s.square() * eps), "x_t = α_t x_0 + σ_t² ε:  σ_t ?"),
            (mean_square(eps, x_0 + s * eps), "x_t = x_0 + σ_t ε:  α_t x_0 ?"),
            (mean_square(eps, x_0), "ε̂(x_0, t):  ε̂(x_t, t) ?"),
        ):
            expect(not close(loss, wrong), hint)
        if n == d:
            expect(not close(loss, mean_square(eps, alpha * x_0 + sigma * eps)), "α_t: (n,) · (n, d):  α_t[:, None] ?")
        expect(close(loss, truth), "loss ≠ (5.15)")


@exercise
def check_5_3(eps_hat: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`eps_hat(x_t, t)` is a trained network for the coin x_0 = ±1 on the cosine schedule: E[ε | x_t] up to 5 %.

    The share is of the floor E‖ε − E[ε | x_t]‖², both added up over t = 0.1, 0.2, …, 0.9.
    """
    from companion.diffusion import Cosine

    schedule, count = Cosine(), 2000
    x_0 = torch.tensor([[-1.0], [1.0]]).repeat(count // 2, 1)
    rows: list[tuple[Tensor, ...]] = []
    for i in range(1, 10):
        t = torch.tensor(i / 10)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        eps = torch.randn(count, 1, generator=torch.Generator().manual_seed(500 + i))
        x_t = alpha * x_0 + sigma * eps
        best_x_0 = (alpha * x_t / sigma**2).tanh()
        best = (x_t - alpha * best_x_0) / sigma
        with torch.no_grad():
            guess = tensor(given(eps_hat)(x_t.clone(), t.expand(count).clone()), (count, 1), "eps_hat(x_t, t)")
        rows.append((eps.double(), best.double(), best_x_0.double(), (-best / sigma).double(), guess))
    eps, best, best_x_0, score, guess = (torch.cat(column) for column in zip(*rows, strict=True))
    floor = (eps - best).square().mean().item()

    def apart(other: Tensor) -> float:
        return (guess - other).square().mean().item() / floor

    share = apart(best)
    if share < 0.05:
        return
    expect(not guess.square().mean() < 1e-3, "ε̂ ≈ 0:  training ?")
    for other, hint in (
        (-best, "−ε̂:  ± ?"),
        (best_x_0, "x̂_0:  ε̂ = (x_t − α_t x̂_0)/σ_t ?"),
        (score, "∇ log q(x_t) = −ε̂/σ_t:  ε̂ ?"),
    ):
        expect(not apart(other) < 0.2 < share, hint)
    raise Hint(f"E|E[ε|x_t] − ε̂|² / E|ε − E[ε|x_t]|² = {share:.3f} ≥ 0.05")
