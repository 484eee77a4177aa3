"""Self-checks of chapter 3's exercises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from companion.exercises import close, exercise, expect, given


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@exercise
def check_3_1(kl_to_prior: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`kl_to_prior(mean, log_variance)` is KL(N(m, diag s²) ‖ N(0, I)), (3.18), shape (n,)."""
    mean, log_variance = _normal(5, 3, seed=31), _normal(5, 3, seed=32)
    answer = given(kl_to_prior(mean.clone(), log_variance.clone()))
    q = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    truth = kl_divergence(q, p)
    expect(
        answer.shape == (5,),
        ko=f"모양이 {tuple(answer.shape)}이다. 행마다 하나, 곧 (n,) = (5,)여야 한다. z의 성분에 걸쳐 더하라.",
        en=f"The shape is {tuple(answer.shape)}. Return one number a row, (n,) = (5,): sum over the entries of z.",
    )
    wrong_std = 0.5 * (mean**2 + (2 * log_variance).exp() - 1 - 2 * log_variance).sum(1)
    for wrong, ko, en in (
        (-truth, "부호가 반대다. 발산은 0 이상이다.", "The sign is wrong: a divergence is never negative."),
        (2 * truth, "½이 빠졌다.", "The factor ½ is missing."),
        (truth / 3, "z의 성분에 걸쳐 평균했다. 더해야 한다.", "You averaged over the entries of z: sum them."),
        (kl_divergence(p, q), "KL(p ‖ q)를 구했다. 식 (3.20)이다.", "This is KL(p ‖ q), (3.20)."),
        (
            wrong_std,
            "log_variance는 log s²이다. 제곱을 한 번 더 했다.",
            "log_variance holds log s²: you squared once too often.",
        ),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(close(answer, truth), ko="식 (3.18)과 다르다.", en="Differs from (3.18).")


@exercise
def check_3_2(elbo: Callable[..., Tensor]) -> None:
    """`elbo(x, mean, log_variance, decode, sigma2, eps)` is (3.15) at z = m + s ε minus (3.18), shape (n,)."""
    x, mean, log_variance, eps = (_normal(4, d, seed=33 + d) for d in (6, 2, 2, 2))
    log_variance, eps, sigma2 = log_variance - 1, eps + 0.5, 0.2
    weight = _normal(2, 6, seed=40)
    answer = given(elbo(x, mean, log_variance, lambda z: torch.tanh(z @ weight), sigma2, eps))
    expect(
        answer.shape == (4,),
        ko=f"모양이 {tuple(answer.shape)}이다. 행마다 하나, 곧 (n,) = (4,)여야 한다.",
        en=f"The shape is {tuple(answer.shape)}. Return one number a row, (n,) = (4,).",
    )
    std = (0.5 * log_variance).exp()
    kl = kl_divergence(Independent(Normal(mean, std), 1), Independent(Normal(torch.zeros(4, 2).double(), 1.0), 1))

    def log_p(z: Tensor) -> Tensor:
        return Normal(torch.tanh(z @ weight), sigma2**0.5).log_prob(x)

    full = log_p(mean + std * eps).sum(1)
    constant = 3 * torch.log(torch.tensor(2 * torch.pi * sigma2, dtype=torch.float64))
    for wrong, ko, en in (
        (full + kl, "KL은 빼야 한다.", "Subtract the KL term."),
        (kl - full, "손실을 돌려주었다. ELBO는 부호가 반대다.", "This is the loss: the ELBO has the other sign."),
        (
            log_p(mean + std.square() * eps).sum(1) - kl,
            "분산을 잡음에 곱했다. 곱할 것은 표준 편차, 곧 exp(½ log s²)이다.",
            "You multiplied the noise by the variance; use the standard deviation, exp(½ log s²).",
        ),
        (log_p(mean).sum(1) - kl, "평균을 디코더에 넣었다. 표본을 넣어라.", "You decoded the mean: decode the sample."),
        (log_p(mean + std * eps).mean(1) - kl, "화소에 걸쳐 평균했다. 더해야 한다.", "You averaged over pixels: sum."),
        (full + constant - kl, "−(d/2) log 2πσ²이 빠졌다.", "The term −(d/2) log 2πσ² is missing."),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(close(answer, full - kl), ko="식 (3.15)에서 식 (3.18)을 뺀 값과 다르다.", en="Differs from (3.15) − (3.18).")


@exercise
def check_3_3(score_gradient: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`score_gradient(f, z, mean, std)` is (fᵢ − mean of the other f) ∇_m log q(zᵢ), shape (k, q)."""
    k, mean, std = 7, _normal(3, seed=51), _normal(3, seed=52).exp()
    z = mean + std * _normal(k, 3, seed=53)
    f = z.square().sum(1) + 100
    answer = given(score_gradient(f, z, mean, std))
    expect(
        answer.shape == (k, 3),
        ko=f"모양이 {tuple(answer.shape)}이다. 표본마다 기울기가 하나, 곧 (k, q) = (7, 3)이어야 한다.",
        en=f"The shape is {tuple(answer.shape)}. Return one gradient a sample, (k, q) = (7, 3).",
    )
    point = mean.clone().requires_grad_()
    rows = [torch.autograd.grad(Normal(point, std).log_prob(row).sum(), point)[0] for row in z]
    score = torch.stack(rows)
    baseline = torch.stack([torch.cat([f[:i], f[i + 1 :]]).mean() for i in range(k)])
    for wrong, ko, en in (
        (f[:, None] * score, "기준값 b를 빼지 않았다.", "The baseline b was not subtracted."),
        (
            (f - f.mean())[:, None] * score,
            "그 표본까지 평균에 넣었다. 그러면 평균이 z에 따라 달라져 편향이 생긴다.",
            "Your mean includes the sample itself: then it depends on z, and the estimate is biased.",
        ),
        (
            (f - baseline)[:, None] * (z - mean) / std,
            "s가 아니라 s²으로 나누어야 한다.",
            "Divide by s², not by s.",
        ),
        (-(f - baseline)[:, None] * score, "부호가 반대다.", "The sign is wrong."),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(
        close(answer, (f - baseline)[:, None] * score),
        ko="(fᵢ − 나머지의 평균) · (zᵢ − m)/s²과 다르다.",
        en="Differs from (fᵢ − mean of the others) · (zᵢ − m)/s².",
    )


@exercise
def check_3_4(water_level: Callable[[Tensor, float], Tensor]) -> None:
    """`water_level(lam, rate)` is the τ with ½ Σ max(0, log λ/τ) = rate, (3.29)."""
    lam = torch.tensor([4.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    for rate in (0.3, 1.5, 4.0):
        answer = torch.as_tensor(given(water_level(lam.clone(), rate)), dtype=torch.float64)
        expect(
            answer.ndim == 0 and answer > 0,
            ko="τ는 양수 하나여야 한다.",
            en="τ is one positive number.",
        )
        # With the k largest eigenvalues above water, log τ = (Σ log λ − 2 rate) / k.
        levels = [((lam[:k].log().sum() - 2 * rate) / k).exp() for k in range(1, 5)]
        truth = next(t for k, t in enumerate(levels, 1) if t < lam[k - 1] and (k == 4 or t >= lam[k]))
        halved = [((lam[:k].log().sum() - rate) / k).exp() for k in range(1, 5)]
        expect(
            not any(close(answer, wrong) for wrong in halved),
            ko="식 (3.29)의 ½을 빠뜨렸다.",
            en="The ½ of (3.29) is missing.",
        )
        expect(
            not close(answer, levels[3]) or close(levels[3], truth),
            ko="τ보다 작은 고윳값은 부호율에 음수로 들어가면 안 된다. max(0, ·)를 보라.",
            en="Eigenvalues below τ must not enter with a negative rate: see max(0, ·).",
        )
        expect(
            close(answer, truth),
            ko=f"고윳값 {lam.tolist()}, R = {rate}에서 τ = {truth:.4f}여야 하는데 {answer:.4f}이다.",
            en=f"For the eigenvalues {lam.tolist()} and R = {rate}, τ should be {truth:.4f}; yours is {answer:.4f}.",
        )
