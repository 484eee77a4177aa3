"""Self-checks of chapter 5b's exercises. Hints are symbols, which both editions can show."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.exercises import close, compare, exercise, expect, given, normal, parts, tensor

#: (alpha, sigma) at an earlier time s and at a later time t.
_S, _T = (0.9, 0.4), (0.5, 0.8)


@exercise
def check_5_6(ddim: Callable[..., Tensor]) -> None:
    """`ddim(x_t, x_0, alpha_s, sigma_s, alpha_t, sigma_t, eta, noise)` is x_s of (5.25), shape (n, d)."""
    x_t, x_0, noise = (normal(5, 3, seed=seed) for seed in (53, 54, 55))
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    eps = (x_t - alpha_t * x_0) / sigma_t
    cross = alpha_t / alpha_s * sigma_s**2  # covariance of x_s and x_t, given x_0
    std = math.sqrt(sigma_s**2 - cross**2 / sigma_t**2)

    def call(eta: float) -> Tensor:
        return tensor(ddim(x_t.clone(), x_0.clone(), *_S, *_T, eta, noise.clone()), x_t.shape)

    still, ancestral, half = call(0.0), call(1.0), call(0.5)
    expect(not close(still, alpha_s * x_0 + sigma_s * noise), "η = 0: ε′ → ε̂ = (x_t − α_t x̂_0)/σ_t")
    expect(close(still, alpha_s * x_0 + sigma_s * eps), "η = 0: ≠ α_s x̂_0 + σ_s ε̂")
    expect(not close(ancestral, still), "x_s(η = 1) = x_s(η = 0): η?")
    expect(
        not close(ancestral, alpha_s * x_0 + sigma_s * eps + std * noise),
        "Var(x_s | x_0) = σ_s² + η²σ̃²: σ_s ε̂ → √(σ_s² − η²σ̃²) ε̂",
    )
    expect(close(ancestral, alpha_s * x_0 + cross / sigma_t * eps + std * noise), "η = 1: ≠ (5.24)")
    truth = alpha_s * x_0 + math.sqrt(sigma_s**2 - std**2 / 4) * eps + std * noise / 2
    expect(close(half, truth), "η = ½: √(σ_s² − η²σ̃²) ε̂ + ησ̃ ε′, η²?")


@exercise
def check_5_7(from_velocity: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """`from_velocity(x_t, v, alpha, sigma, d_alpha, d_sigma)` is (x_0, eps) of (5.35)."""
    x_0, eps = normal(5, 3, seed=56), normal(5, 3, seed=57)
    angle, speed = 0.7, 1.3
    alpha, sigma = math.cos(angle), 1.2 * math.sin(angle)
    d_alpha, d_sigma = -speed * math.sin(angle), 1.2 * speed * math.cos(angle)
    x_t, v = alpha * x_0 + sigma * eps, d_alpha * x_0 + d_sigma * eps
    names = "x_0", "ε"
    answer = given(from_velocity(x_t.clone(), v.clone(), alpha, sigma, d_alpha, d_sigma))
    found = [tensor(part, x_t.shape, name) for part, name in zip(parts(list(answer), *names), names, strict=True)]
    kappa = alpha * d_sigma - d_alpha * sigma
    for wrong, hint in (
        ([eps, x_0], "ε, x_0 → x_0, ε"),
        ([kappa * x_0, kappa * eps], "× 1/κ, κ = ασ′ − α′σ"),
        ([-x_0, -eps], "± : κ = ασ′ − α′σ"),
        ([x_t - sigma * v, x_t + (1 - sigma) * v], "(α, σ) = (1 − t, t) → (α, σ)"),
    ):
        expect(not all(map(close, found, wrong)), hint)
    expect(all(map(close, found, (x_0, eps))), "αx_0 + σε = x_t?  α′x_0 + σ′ε = v?")


@exercise
def check_5_8(denoise: Callable[..., Tensor]) -> None:
    """`denoise(x_t, x, alpha, sigma)` is E[x_0 | x_t] of (5.38) for points x, shape (N, d), and x_t, shape (m, d)."""
    x, x_t = normal(6, 2, seed=58), 0.8 * normal(4, 2, seed=59)

    def weights(alpha: float, std: float) -> Tensor:
        log_q = Normal(alpha * x, std).log_prob(x_t[:, None]).sum(-1)
        return (log_q - log_q.logsumexp(1, keepdim=True)).exp()

    alpha, sigma = 0.6, 0.45
    answer = tensor(denoise(x_t.clone(), x.clone(), alpha, sigma), x_t.shape)
    compare(
        answer,
        weights(alpha, sigma) @ x,
        "Σₙ rₙ = 1?  (5.38)",
        {
            "‖x_t − xₙ‖² → ‖x_t − αxₙ‖²": weights(1.0, sigma) @ x,
            "‖…‖²/σ² → ‖…‖²/(2σ²)": weights(alpha, sigma / math.sqrt(2)) @ x,
            "‖…‖²/(2σ) → ‖…‖²/(2σ²)": weights(alpha, math.sqrt(sigma)) @ x,
            "argmax rₙ → Σₙ rₙ xₙ": x[weights(alpha, sigma).argmax(1)],
            "α Σₙ rₙ xₙ = E[x_t | …] → Σₙ rₙ xₙ": alpha * weights(alpha, sigma) @ x,
        },
    )
    sharp = tensor(denoise(x_t.clone(), x.clone(), alpha, 1e-3), x_t.shape)
    expect(
        bool(sharp.isfinite().all()) and close(sharp, x[weights(alpha, 1e-3).argmax(1)]),
        "σ = 0.001: exp(…) = 0, 0/0 → softmax",
    )


@exercise
def check_5_9(put_known: Callable[..., Tensor]) -> None:
    """`put_known(x_s, x_o, mask, alpha_s, sigma_s, eps)` is α x_o + σ ε where mask is true, x_s elsewhere."""
    x_s, x_o, eps = (normal(4, 6, seed=seed) for seed in (61, 62, 63))
    mask, (alpha, sigma) = torch.arange(6) < normal(4, 1, seed=64).abs() * 3 + 1, _S
    answer = tensor(put_known(x_s.clone(), x_o.clone(), mask.clone(), alpha, sigma, eps.clone()), x_s.shape)
    known = alpha * x_o + sigma * eps
    compare(
        answer,
        torch.where(mask, known, x_s),
        "≠ mask ? α x_o + σ ε : x_s",
        {
            "mask → ~mask": torch.where(mask, x_s, known),
            "x_o → α x_o + σ ε": torch.where(mask, x_o, x_s),
            "α x_o → α x_o + σ ε": torch.where(mask, alpha * x_o, x_s),
            "x_o + σ ε → α x_o + σ ε": torch.where(mask, x_o + sigma * eps, x_s),
            "~mask: α x_o + σ ε → x_s": known,
        },
    )
