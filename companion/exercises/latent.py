"""Self-checks of chapter 1's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.exercises import close, exercise, expect, given
from companion.latent import NonlinearGaussian


def _shape(value: Tensor, shape: tuple[int, ...]) -> None:
    found = tuple(getattr(value, "shape", ()))
    expect(
        found == shape,
        ko=f"답의 모양이 {found}이다. {shape}이어야 한다.",
        en=f"The answer has shape {found}; it should be {shape}.",
    )


@exercise
def check_1_1(log_mean_exp: Callable[[Tensor], Tensor]) -> None:
    """`log_mean_exp(log_w)` returns log (1/k) Σ w, shape (n,), for log-weights of shape (k, n), (1.12)."""
    log_w = torch.tensor([[0.0, -1.0, -3.0], [-1.0, -2.0, 1.0]], dtype=torch.float64)
    answer = given(log_mean_exp(log_w))
    _shape(answer, (3,))
    truth = log_w.exp().mean(0).log()
    expect(
        not close(answer, log_w.mean(0)),
        ko="구할 것은 로그의 평균이 아니라 평균의 로그다. 옌센 부등식이 말하듯 둘은 다르다.",
        en="This is the mean of the logarithms. Return the logarithm of the mean: by Jensen's inequality it is larger.",
    )
    expect(
        not close(answer, truth + math.log(2)),
        ko="k로 나누지 않았다. log k를 빼라.",
        en="Divide the sum by k: subtract log k.",
    )
    expect(close(answer, truth), ko="log (1/k) Σ w와 다르다.", en="Differs from log (1/k) Σ w.")
    for shift in (-1000.0, 1000.0):
        expect(
            close(log_mean_exp(log_w + shift), truth + shift),
            ko=f"log w가 {shift:.0f}쯤이면 exp가 0이나 무한대가 된다. 가장 큰 값을 빼고 계산한 뒤 더하라.",
            en=f"Near log w = {shift:.0f}, exp gives 0 or infinity. Subtract the largest one first, add it back last.",
        )


@exercise
def check_1_2(responsibilities: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`responsibilities(x, pi, mu, sigma)` returns p(z = k | x_n), shape (n, K), (1.23)."""
    x = torch.tensor([-1.0, 0.3, 0.9, 2.5], dtype=torch.float64)
    pi, mu, sigma = torch.tensor([[0.2, 0.5, 0.3], [-1.0, 0.5, 2.0], [0.5, 1.0, 2.0]], dtype=torch.float64)

    def truth(weight: Tensor, scale: Tensor) -> Tensor:
        joint = weight * torch.exp(-((x[:, None] - mu) ** 2) / (2 * scale**2)) / scale
        return joint / joint.sum(1, keepdim=True)

    answer = given(responsibilities(x, pi, mu, sigma))
    _shape(answer, (4, 3))
    expect(
        close(answer.sum(1), torch.ones(4)),
        ko="행의 합이 1이 아니다. 분모에서는 성분 k마다의 값을 더한다.",
        en="The rows do not sum to one: the sum in the denominator runs over the components.",
    )
    expect(
        not close(answer, truth(torch.ones(3), sigma)),
        ko="혼합 비율 π가 빠졌다.",
        en="The mixing proportions π are missing.",
    )
    expect(
        not close(answer, truth(pi, sigma.sqrt())),
        ko="sigma는 분산이 아니라 표준 편차다.",
        en="sigma is the standard deviation, not the variance.",
    )
    expect(
        not close(answer, truth(pi * sigma, sigma)),
        ko="가우시안 밀도의 앞 인수 1/σ가 빠졌다. 성분마다 달라서 약분되지 않는다.",
        en="The factor 1/σ of the Gaussian density is missing; it differs between components and does not cancel.",
    )
    expect(close(answer, truth(pi, sigma)), ko="식 (1.23)과 다르다.", en="Differs from (1.23).")
    far = responsibilities(torch.tensor([-500.0, 500.0], dtype=torch.float64), pi, mu, sigma)
    expect(
        torch.isfinite(far).all() and close(far.sum(1), torch.ones(2)),
        ko="멀리 떨어진 x에서는 밀도가 모두 0이 되어 0/0이 나온다. 로그로 계산하고 마지막에 softmax를 쓰라.",
        en="Far from every component the densities underflow and give 0/0. Use logarithms and end with a softmax.",
    )


@exercise
def check_1_3(log_weight: Callable[[NonlinearGaussian, Tensor, Tensor, Normal], Tensor]) -> None:
    """`log_weight(model, x, z, q)` returns log p(z) + log p(x | z) − log q(z), (1.17)."""
    model, q = NonlinearGaussian(), Normal(0.4, 0.7)
    x, z = torch.tensor([0.2, 1.4, -0.8]), torch.tensor([0.1, 1.2, -0.5])
    answer = given(log_weight(model, x, z, q))
    _shape(answer, (3,))
    prior = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    residual = x - z - torch.sin(3 * z)
    likelihood = -0.5 * (residual / 0.3) ** 2 - math.log(0.3) - 0.5 * math.log(2 * math.pi)
    proposal = -0.5 * ((z - 0.4) / 0.7) ** 2 - math.log(0.7) - 0.5 * math.log(2 * math.pi)
    expect(
        not close(answer, likelihood - proposal),
        ko="사전 분포 p(z)가 빠졌다. 분자는 결합 분포다.",
        en="The prior p(z) is missing: the numerator is the joint distribution.",
    )
    expect(
        not close(answer, prior + likelihood),
        ko="q(z)로 나누지 않았다. log q(z)를 빼라.",
        en="You did not divide by q(z): subtract log q(z).",
    )
    expect(
        not close(answer, prior + likelihood + proposal),
        ko="log q(z)의 부호가 반대다. q는 분모에 있다.",
        en="log q(z) has the wrong sign: q stands in the denominator.",
    )
    expect(not close(answer, (prior + likelihood - proposal).exp()), ko="로그를 돌려주라.", en="Return the logarithm.")
    expect(
        close(answer, prior + likelihood - proposal),
        ko="log p(z) + log p(x|z) − log q(z)와 다르다.",
        en="Differs from log p(z) + log p(x|z) − log q(z).",
    )


@exercise
def check_1_4(m_step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> None:
    """`m_step(x, r)` returns pi, mu and sigma2, each of shape (K,), (1.25)."""
    x = torch.tensor([0.0, 1.0, 2.0, 5.0, 7.0], dtype=torch.float64)
    first = torch.tensor([0.9, 0.8, 0.6, 0.1, 0.0], dtype=torch.float64)
    r = torch.stack([first, 1 - first], 1)
    answer = given(m_step(x, r))
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        ko="텐서 셋을 이 순서로 돌려주라: return pi, mu, sigma2",
        en="Return three tensors in this order: pi, mu, sigma2.",
    )
    pi, mu, sigma2 = answer
    for value in answer:
        _shape(value, (2,))
    n_k = r.sum(0)
    mean = r.T @ x / n_k
    second = r.T @ x**2 / n_k
    expect(
        not close(pi, n_k),
        ko="π는 N_k를 n으로 나눈 것이다. 합이 1이어야 한다.",
        en="π is N_k divided by n; it sums to one.",
    )
    expect(close(pi, n_k / 5), ko="π = N_k / n과 다르다.", en="Differs from π = N_k / n.")
    expect(not close(mu, mean * n_k / 5), ko="μ는 n이 아니라 N_k로 나눈다.", en="Divide μ by N_k, not by n.")
    expect(
        close(mu, mean), ko="μ가 가중 평균 Σ r x / N_k와 다르다.", en="μ differs from the weighted mean Σ r x / N_k."
    )
    expect(
        not close(sigma2, (second - mean**2).sqrt()),
        ko="표준 편차가 아니라 분산을 돌려주라.",
        en="Return the variance, not the standard deviation.",
    )
    expect(
        not close(sigma2, second - 2 * mean * x.mean() + x.mean() ** 2),
        ko="편차는 전체 평균이 아니라 그 성분의 새 μ에서 잰다.",
        en="Measure deviations from the component's new μ, not from the overall mean.",
    )
    expect(
        not close(sigma2, (second - mean**2) * n_k / 5),
        ko="σ²도 N_k로 나눈다.",
        en="Divide σ² by N_k as well.",
    )
    expect(close(sigma2, second - mean**2), ko="σ²이 식 (1.25)와 다르다.", en="σ² differs from (1.25).")
