"""Self-checks of chapter 5b's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.exercises import close, exercise, expect, given


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def _number(answer: Any) -> Tensor:
    """A tensor of doubles from a tensor, an array or a list."""
    return torch.as_tensor(given(answer)).detach().double()


def _shape(value: Tensor, like: Tensor) -> None:
    shapes = f"{tuple(value.shape)} ≠ {tuple(like.shape)}"
    expect(value.shape == like.shape, ko=f"모양: {shapes}", en=f"shape: {shapes}")


#: (alpha, sigma) at an earlier time s and at a later time t.
_S, _T = (0.9, 0.4), (0.5, 0.8)


@exercise
def check_5_6(ddim: Callable[..., Tensor]) -> None:
    """`ddim(x_t, x_0, alpha_s, sigma_s, alpha_t, sigma_t, eta, noise)` is x_s of (5.18), shape (n, d)."""
    x_t, x_0, noise = (_normal(5, 3, seed=seed) for seed in (53, 54, 55))
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    eps = (x_t - alpha_t * x_0) / sigma_t
    cross = alpha_t / alpha_s * sigma_s**2  # covariance of x_s and x_t, given x_0
    std = math.sqrt(sigma_s**2 - cross**2 / sigma_t**2)

    def call(eta: float) -> Tensor:
        return _number(ddim(x_t.clone(), x_0.clone(), *_S, *_T, eta, noise.clone()))

    still, ancestral, half = call(0.0), call(1.0), call(0.5)
    _shape(still, x_t)
    expect(
        not close(still, alpha_s * x_0 + sigma_s * noise),
        ko="η = 0: ε′이 아니라 ε̂ = (x_t − α_t x̂_0)/σ_t를 쓴다.",
        en="η = 0: use ε̂ = (x_t − α_t x̂_0)/σ_t, not ε′.",
    )
    expect(
        close(still, alpha_s * x_0 + sigma_s * eps),
        ko="η = 0: x_s = α_s x̂_0 + σ_s ε̂",
        en="η = 0: x_s = α_s x̂_0 + σ_s ε̂",
    )
    expect(not close(ancestral, still), ko="η가 아무 일도 하지 않는다.", en="η does nothing.")
    expect(
        not close(ancestral, alpha_s * x_0 + sigma_s * eps + std * noise),
        ko="분산이 σ_s²을 넘는다. 새 잡음만큼 ε̂을 줄이라.",
        en="The variance exceeds σ_s²: shrink ε̂ in return.",
    )
    truth = alpha_s * x_0 + cross / sigma_t * eps + std * noise
    expect(close(ancestral, truth), ko="η = 1: 식 (5.17)과 다르다.", en="η = 1: differs from (5.17).")
    truth = alpha_s * x_0 + math.sqrt(sigma_s**2 - std**2 / 4) * eps + std * noise / 2
    expect(close(half, truth), ko="η = ½: 분산에 들어가는 것은 η²이다.", en="η = ½: the variance contains η².")


@exercise
def check_5_7(from_velocity: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """`from_velocity(x_t, v, alpha, sigma, d_alpha, d_sigma)` is (x_0, eps) of (5.22)."""
    x_0, eps = _normal(5, 3, seed=56), _normal(5, 3, seed=57)
    angle, speed = 0.7, 1.3
    alpha, sigma = math.cos(angle), 1.2 * math.sin(angle)
    d_alpha, d_sigma = -speed * math.sin(angle), 1.2 * speed * math.cos(angle)
    x_t, v = alpha * x_0 + sigma * eps, d_alpha * x_0 + d_sigma * eps
    found = [_number(part) for part in given(from_velocity(x_t.clone(), v.clone(), alpha, sigma, d_alpha, d_sigma))]
    expect(
        len(found) == 2 and all(part.shape == x_t.shape for part in found),
        ko="(x_0, ε) 두 텐서를 돌려주라.",
        en="Return two tensors, (x_0, ε).",
    )
    kappa = alpha * d_sigma - d_alpha * sigma
    for wrong, ko, en in (
        ([eps, x_0], "순서: (x_0, ε)", "order: (x_0, ε)"),
        ([kappa * x_0, kappa * eps], "κ = ασ′ − α′σ로 나누라.", "Divide by κ = ασ′ − α′σ."),
        ([-x_0, -eps], "κ = ασ′ − α′σ의 ±를 보라.", "Look at the sign of κ = ασ′ − α′σ."),
        (
            [x_t - sigma * v, x_t + (1 - sigma) * v],
            "α = 1 − t, σ = t에서만 맞다.",
            "Right for α = 1 − t, σ = t only.",
        ),
    ):
        expect(not all(map(close, found, wrong)), ko=ko, en=en)
    expect(
        all(map(close, found, (x_0, eps))),
        ko="αx_0 + σε = x_t와 α′x_0 + σ′ε = v를 연립하라.",
        en="Solve αx_0 + σε = x_t and α′x_0 + σ′ε = v.",
    )


@exercise
def check_5_8(denoise: Callable[..., Tensor]) -> None:
    """`denoise(x_t, x, alpha, sigma)` is E[x_0 | x_t] of (5.25) for points x, shape (N, d), and x_t, shape (m, d)."""
    x, x_t = _normal(6, 2, seed=58), 0.8 * _normal(4, 2, seed=59)

    def weights(alpha: float, std: float) -> Tensor:
        log_q = Normal(alpha * x, std).log_prob(x_t[:, None]).sum(-1)
        return (log_q - log_q.logsumexp(1, keepdim=True)).exp()

    alpha, sigma = 0.6, 0.45
    answer = _number(denoise(x_t.clone(), x.clone(), alpha, sigma))
    _shape(answer, x_t)
    for wrong, ko, en in (
        (weights(1.0, sigma) @ x, "x_t와 견줄 것은 αx다.", "Compare x_t with αx."),
        (weights(alpha, sigma / math.sqrt(2)) @ x, "2σ²의 2가 빠졌다.", "2σ²: the 2 is missing."),
        (weights(alpha, math.sqrt(sigma)) @ x, "2σ²의 제곱이 빠졌다.", "2σ²: the square is missing."),
        (
            x[weights(alpha, sigma).argmax(1)],
            "argmax가 아니라 평균이다.",
            "Not the argmax: the mean.",
        ),
        (
            alpha * weights(alpha, sigma) @ x,
            "E[x_t]가 아니라 E[x_0]: α를 빼라.",
            "E[x_0], not E[x_t]: no α at the end.",
        ),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(close(answer, weights(alpha, sigma) @ x), ko="Σₙ rₙ = 1인가? 식 (5.25)", en="Σₙ rₙ = 1? (5.25)")
    sharp = _number(denoise(x_t.clone(), x.clone(), alpha, 1e-3))
    expect(
        bool(sharp.isfinite().all()) and close(sharp, x[weights(alpha, 1e-3).argmax(1)]),
        ko="σ = 0.001에서 exp가 0이 된다: softmax를 쓰라.",
        en="At σ = 0.001 exp is 0: use softmax.",
    )


@exercise
def check_5_9(put_known: Callable[..., Tensor]) -> None:
    """`put_known(x_s, x_o, mask, alpha_s, sigma_s, eps)` is α x_o + σ ε where mask is true, x_s elsewhere."""
    x_s, x_o, eps = (_normal(4, 6, seed=seed) for seed in (61, 62, 63))
    mask, (alpha, sigma) = torch.arange(6) < _normal(4, 1, seed=64).abs() * 3 + 1, _S
    answer = _number(put_known(x_s.clone(), x_o.clone(), mask.clone(), alpha, sigma, eps.clone()))
    _shape(answer, x_s)
    known = alpha * x_o + sigma * eps
    for wrong, ko, en in (
        (torch.where(mask, x_s, known), "mask가 뒤집혔다.", "The mask is inverted."),
        (torch.where(mask, x_o, x_s), "α x_o + σ ε: 잡음이 빠졌다.", "α x_o + σ ε: the noise is missing."),
        (torch.where(mask, alpha * x_o, x_s), "α x_o + σ ε: 잡음이 빠졌다.", "α x_o + σ ε: the noise is missing."),
        (torch.where(mask, x_o + sigma * eps, x_s), "α x_o + σ ε: α가 빠졌다.", "α x_o + σ ε: α is missing."),
        (known, "모르는 화소는 x_s 그대로다.", "Unknown pixels stay x_s."),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(close(answer, torch.where(mask, known, x_s)), ko="mask ? α x_o + σ ε : x_s", en="mask ? α x_o + σ ε : x_s")
