"""Self-checks of chapter 5's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.exercises import close, exercise, expect, given


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


#: (alpha, sigma) at an earlier time s and at a later time t.
_S, _T = (0.9, 0.4), (0.5, 0.8)


def _conditional(x_t: Tensor, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_s given x_t and x_0, from their joint covariance given x_0."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    cross, variance = alpha_t / alpha_s * sigma_s**2, sigma_t**2
    mean = alpha_s * x_0 + cross / variance * (x_t - alpha_t * x_0)
    return mean, torch.tensor(sigma_s**2 - cross**2 / variance).double()


@exercise
def check_5_1(q_posterior: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """`q_posterior(x_t, x_0, alpha_s, sigma_s, alpha_t, sigma_t)` is the mean and the variance of (5.8)."""
    x_t, x_0 = _normal(5, 3, seed=51), _normal(5, 3, seed=52)
    mean, variance = (torch.as_tensor(part).double() for part in given(q_posterior(x_t.clone(), x_0.clone(), *_S, *_T)))
    true_mean, true_variance = _conditional(x_t, x_0)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    step = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    expect(
        mean.shape == x_t.shape,
        ko=f"평균의 모양이 {tuple(mean.shape)}이다. x_t와 같은 {tuple(x_t.shape)}이어야 한다.",
        en=f"The mean has shape {tuple(mean.shape)}; it should be {tuple(x_t.shape)}, that of x_t.",
    )
    expect(
        not close(mean, alpha_s / alpha_t * x_t),
        ko="평균에서 x_0이 빠졌다. x_t의 α만 되돌려서는 잡음이 그대로 남는다.",
        en="The mean lacks x_0: scaling x_t back by α leaves all the noise in it.",
    )
    expect(
        not close(mean, alpha_s * x_0),
        ko="이것은 q(x_s | x_0)의 평균이다. x_t가 알려 준 잡음이 빠졌다.",
        en="This is the mean of q(x_s | x_0): it does not use what x_t says about the noise.",
    )
    expect(close(mean, true_mean), ko="평균이 식 (5.8)과 다르다.", en="The mean differs from (5.8).")
    variance = variance.flatten()[0]
    for wrong, ko, en in (
        (true_variance.sqrt(), "표준 편차다. 분산을 돌려주라.", "This is the standard deviation: return the variance."),
        (
            torch.tensor(step).double(),
            "이것은 앞으로 한 걸음에 더하는 잡음 σ²_{t|s}다. 되돌아갈 때의 분산은 이보다 작다.",
            "This is σ²_{t|s}, the noise of the step forwards; the variance on the way back is smaller.",
        ),
        (
            torch.tensor(sigma_s**2).double(),
            "이것은 q(x_s | x_0)의 분산이다. x_t까지 알면 더 작아진다.",
            "This is the variance of q(x_s | x_0); knowing x_t as well makes it smaller.",
        ),
    ):
        expect(not close(variance, wrong), ko=ko, en=en)
    expect(close(variance, true_variance), ko="분산이 식 (5.8)과 다르다.", en="The variance differs from (5.8).")


@exercise
def check_5_2(ddim: Callable[..., Tensor]) -> None:
    """`ddim(x_t, x_0, alpha_s, sigma_s, alpha_t, sigma_t, eta, noise)` is x_s of (5.18), shape (n, d)."""
    x_t, x_0, noise = (_normal(5, 3, seed=seed) for seed in (53, 54, 55))
    mean, variance = _conditional(x_t, x_0)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = _S, _T
    eps, std = (x_t - alpha_t * x_0) / sigma_t, variance.sqrt()

    def call(eta: float) -> Tensor:
        return torch.as_tensor(given(ddim(x_t.clone(), x_0.clone(), *_S, *_T, eta, noise.clone()))).double()

    still, ancestral, half = call(0.0), call(1.0), call(0.5)
    expect(
        still.shape == x_t.shape,
        ko=f"모양이 {tuple(still.shape)}이다. x_t와 같은 {tuple(x_t.shape)}이어야 한다.",
        en=f"The shape is {tuple(still.shape)}; it should be {tuple(x_t.shape)}, that of x_t.",
    )
    expect(
        not close(still, alpha_s * x_0 + sigma_s * noise),
        ko="새 잡음을 더했다. η = 0이면 x_t에서 얻은 ε̂만 쓴다.",
        en="You added new noise. With η = 0 only ε̂, which comes from x_t, is used.",
    )
    expect(
        close(still, alpha_s * x_0 + sigma_s * eps),
        ko="η = 0에서 틀렸다. x_s = α_s x̂_0 + σ_s ε̂이고 ε̂ = (x_t − α_t x̂_0)/σ_t다.",
        en="Wrong at η = 0: x_s = α_s x̂_0 + σ_s ε̂ with ε̂ = (x_t − α_t x̂_0)/σ_t.",
    )
    expect(
        not close(ancestral, still),
        ko="η가 아무 일도 하지 않는다.",
        en="η does nothing.",
    )
    expect(
        not close(ancestral, alpha_s * x_0 + sigma_s * eps + std * noise),
        ko="새 잡음을 더한 만큼 ε̂을 줄이지 않아 분산이 σ_s²을 넘는다.",
        en="You added noise without shrinking ε̂ in return: the variance exceeds σ_s².",
    )
    expect(
        close(ancestral, mean + std * noise),
        ko="η = 1이면 식 (5.17)의 한 걸음이어야 한다.",
        en="At η = 1 it should be the step (5.17).",
    )
    truth = alpha_s * x_0 + (sigma_s**2 - variance / 4).sqrt() * eps + std * noise / 2
    expect(
        close(half, truth),
        ko="η = 0과 1에서는 맞지만 그 사이에서는 틀렸다. 분산에 들어가는 것은 η²이다.",
        en="Right at η = 0 and 1, wrong in between: the variance contains η².",
    )


@exercise
def check_5_3(from_velocity: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """`from_velocity(x_t, v, alpha, sigma, d_alpha, d_sigma)` is (x_0, eps) of (5.22)."""
    x_0, eps = _normal(5, 3, seed=56), _normal(5, 3, seed=57)
    angle, speed = 0.7, 1.3
    alpha, sigma = math.cos(angle), 1.2 * math.sin(angle)
    d_alpha, d_sigma = -speed * math.sin(angle), 1.2 * speed * math.cos(angle)
    x_t, v = alpha * x_0 + sigma * eps, d_alpha * x_0 + d_sigma * eps
    found = [torch.as_tensor(part).double() for part in given(from_velocity(x_t, v, alpha, sigma, d_alpha, d_sigma))]
    expect(
        len(found) == 2 and all(part.shape == x_t.shape for part in found),
        ko="x_0과 ε, 두 텐서를 이 순서로 돌려주라.",
        en="Return two tensors, x_0 and ε, in this order.",
    )
    W = alpha * d_sigma - d_alpha * sigma
    for wrong, ko, en in (
        ([eps, x_0], "순서가 바뀌었다. x_0이 먼저다.", "The order is reversed: x_0 comes first."),
        (
            [W * x_0, W * eps],
            "행렬식 ασ' − α'σ로 나누지 않았다.",
            "You did not divide by the determinant ασ' − α'σ.",
        ),
        ([-x_0, -eps], "행렬식의 부호가 반대다.", "The determinant has the wrong sign."),
        (
            [x_t - sigma * v, x_t + (1 - sigma) * v],
            "곧은 길에서만 맞는 식이다. α와 σ가 무엇이든 맞아야 한다.",
            "This holds on the straight path only; it should hold whatever α and σ are.",
        ),
    ):
        expect(not all(map(close, found, wrong)), ko=ko, en=en)
    expect(
        all(map(close, found, (x_0, eps))),
        ko="식 (5.22)와 다르다. αx_0 + σε = x_t, α'x_0 + σ'ε = v를 연립해 풀라.",
        en="Differs from (5.22). Solve αx_0 + σε = x_t and α'x_0 + σ'ε = v together.",
    )


@exercise
def check_5_4(denoise: Callable[..., Tensor]) -> None:
    """`denoise(x_t, x, alpha, sigma)` is E[x_0 | x_t] of (5.25) for points x, shape (n, d), and x_t, shape (m, d)."""
    x, x_t = _normal(6, 2, seed=58), 0.8 * _normal(4, 2, seed=59)

    def weights(alpha: float, std: float) -> Tensor:
        log_q = Normal(alpha * x, std).log_prob(x_t[:, None]).sum(-1)
        return (log_q - log_q.logsumexp(1, keepdim=True)).exp()

    alpha, sigma = 0.6, 0.5
    answer = torch.as_tensor(given(denoise(x_t.clone(), x.clone(), alpha, sigma))).double()
    expect(
        answer.shape == x_t.shape,
        ko=f"모양이 {tuple(answer.shape)}이다. x_t마다 평균이 하나이므로 {tuple(x_t.shape)}이어야 한다.",
        en=f"The shape is {tuple(answer.shape)}; one mean for each x_t makes {tuple(x_t.shape)}.",
    )
    for wrong, ko, en in (
        (
            weights(1.0, sigma) @ x,
            "x_t에 맞추려면 점들을 α배 해야 한다.",
            "Scale the points by α to compare them with x_t.",
        ),
        (
            weights(alpha, sigma / math.sqrt(2)) @ x,
            "거리의 제곱을 2σ²으로 나누라. 2가 빠졌다.",
            "Divide the squared distance by 2σ²: the 2 is missing.",
        ),
        (
            weights(alpha, math.sqrt(sigma)) @ x,
            "거리의 제곱을 2σ²으로 나누라. σ의 제곱이 빠졌다.",
            "Divide the squared distance by 2σ²: the square of σ is missing.",
        ),
        (
            x[weights(alpha, sigma).argmax(1)],
            "가장 가까운 점을 골랐다. 평균을 내라. 하나만 남는 것은 σ가 0으로 갈 때다.",
            "You picked the nearest point. Take the mean; only as σ goes to 0 is one point left.",
        ),
        (
            alpha * weights(alpha, sigma) @ x,
            "x_t가 아니라 x_0의 평균이다. 끝에 α를 곱하지 말라.",
            "The mean is that of x_0, not of x_t: do not multiply by α at the end.",
        ),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(
        close(answer, weights(alpha, sigma) @ x),
        ko="식 (5.25)와 다르다. 가중치는 x_t마다 합이 1이어야 한다.",
        en="Differs from (5.25). For each x_t the weights must add up to 1.",
    )
    sharp = torch.as_tensor(denoise(x_t.clone(), x.clone(), alpha, 1e-3)).double()
    expect(
        bool(sharp.isfinite().all()) and close(sharp, x[weights(alpha, 1e-3).argmax(1)]),
        ko="σ = 0.001에서 값이 깨진다. 지수 함수를 직접 계산하지 말고 softmax를 쓰라.",
        en="The values break at σ = 0.001. Do not take exponentials first: use softmax.",
    )
