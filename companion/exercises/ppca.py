"""Self-checks of chapter 2's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from companion.exercises import close, exercise, expect, given


def _example(n: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, W, mu and sigma2 of a small model, d = 5, q = 2."""
    generator = torch.Generator().manual_seed(21)
    x, W, mu = (torch.randn(*shape, generator=generator).double() for shape in ((n, 5), (5, 2), (5,)))
    return x, W, mu + 1, torch.tensor(0.3, dtype=torch.float64)


@exercise
def check_2_1(posterior: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """`posterior(x, W, mu, sigma2)` returns mean (n, q) and covariance (q, q) of p(z | x), (2.16)."""
    x, W, mu, sigma2 = _example()
    answer = given(posterior(x, W, mu, sigma2))
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        ko="평균과 공분산을 이 순서로 돌려주라: return mean, covariance",
        en="Return two tensors in this order: mean, covariance.",
    )
    mean, covariance = answer
    expect(
        mean.shape == (6, 2),
        ko=f"평균의 모양이 {tuple(mean.shape)}이다. 행마다 z가 하나이므로 (n, q) = (6, 2)여야 한다.",
        en=f"The mean has shape {tuple(mean.shape)}. There is one z for each row: (n, q) = (6, 2).",
    )
    # Conditioning the joint Gaussian of (z, x), with no M in it.
    gain = torch.linalg.solve(W @ W.T + sigma2 * torch.eye(5).double(), W).T
    truth = (x - mu) @ gain.T
    expect(
        not close(mean, x @ gain.T),
        ko="μ를 빼지 않았다. 식 (2.16)의 평균은 x − μ에서 시작한다.",
        en="μ was not subtracted: the mean in (2.16) starts from x − μ.",
    )
    expect(
        not close(mean, (x - mu) @ torch.linalg.pinv(W).T),
        ko="M에 σ²I가 빠졌다. 지금 답은 σ² → 0인 극한, 곧 PCA다.",
        en="M lacks the term σ²I: this is the limit σ² → 0, PCA.",
    )
    expect(
        not close(mean, (x - mu) @ W),
        ko="M⁻¹을 곱하지 않았다.",
        en="The factor M⁻¹ is missing.",
    )
    expect(close(mean, truth), ko="평균이 M⁻¹Wᵀ(x−μ)와 다르다.", en="The mean differs from M⁻¹Wᵀ(x−μ).")
    exact = torch.eye(2).double() - gain @ W
    expect(
        not close(covariance, exact / sigma2),
        ko="공분산은 M⁻¹이 아니라 σ²M⁻¹이다.",
        en="The covariance is σ²M⁻¹, not M⁻¹.",
    )
    expect(close(covariance, exact), ko="공분산이 σ²M⁻¹과 다르다.", en="The covariance differs from σ²M⁻¹.")


@exercise
def check_2_3(max_log_likelihood: Callable[[Tensor, int], Tensor]) -> None:
    """`max_log_likelihood(eigenvalues, q)` is L of (2.13), whatever the order of the eigenvalues."""
    lam = torch.tensor([3.0, 1.5, 0.7, 0.4, 0.1], dtype=torch.float64)
    answer = float(given(max_log_likelihood(lam.clone(), 2)))
    # The density of a Gaussian with the fitted covariance, averaged over data of covariance diag(lam).
    fitted = torch.tensor([3.0, 1.5, 0.4, 0.4, 0.4], dtype=torch.float64)
    at_mean = MultivariateNormal(torch.zeros(5).double(), fitted.diag()).log_prob(torch.zeros(5).double()).item()
    truth = at_mean - 0.5 * (lam / fitted).sum().item()
    expect(
        not math.isclose(answer, at_mean, rel_tol=1e-4),
        ko="대각합 tr(C⁻¹S) = d가 빠졌다. 식 (2.13)의 둘째 항을 보라.",
        en="The trace tr(C⁻¹S) = d is missing: it is the second term of (2.13).",
    )
    expect(
        not math.isclose(answer, truth - 0.5 * (math.log(0.4) * -3 + lam[2:].log().sum().item()), rel_tol=1e-6),
        ko="버린 고윳값의 로그를 평균했다. 평균을 먼저 내고 로그를 취하라.",
        en="You averaged the logarithms of the discarded eigenvalues: average first, then take the logarithm.",
    )
    expect(
        math.isclose(answer, truth, rel_tol=1e-5),
        ko=f"고윳값 {lam.tolist()}, q = 2에서 {truth:.3f}이어야 하는데 {answer:.3f}이다.",
        en=f"For the eigenvalues {lam.tolist()} and q = 2 it should be {truth:.3f}; yours is {answer:.3f}.",
    )
    expect(
        math.isclose(float(max_log_likelihood(lam.flip(0), 2)), truth, rel_tol=1e-5),
        ko="고윳값이 작은 것부터 오면 답이 달라진다. 먼저 큰 것부터 정렬하라.",
        en="Your answer depends on the order of the eigenvalues: sort them first, largest to smallest.",
    )


@exercise
def check_2_4(conditional_std: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`conditional_std(x, W, mu, sigma2)` is the standard deviation of each missing entry, (2.27), 0 where observed."""
    (x, *_), W, mu, sigma2 = _example()
    x = x.clone()
    x[1] = x[3] = torch.nan
    missing = x.isnan()
    answer = given(conditional_std(x.clone(), W, mu, sigma2))
    expect(
        answer.shape == x.shape,
        ko=f"모양이 {tuple(answer.shape)}이다. x와 같은 {tuple(x.shape)}이어야 한다.",
        en=f"The shape is {tuple(answer.shape)}. It should be that of x, {tuple(x.shape)}.",
    )
    expect(
        not answer.isnan().any(),
        ko="NaN이 섞여 있다. 빠진 값이 계산에 들어갔다. 관측한 성분의 행 W_o만 쓰라.",
        en="Your answer contains NaN: a missing value entered the computation. Use only the observed rows W_o.",
    )
    expect(
        (answer[~missing] == 0).all(),
        ko="관측한 자리의 표준 편차는 0이다.",
        en="At the observed places the standard deviation is 0.",
    )
    C = W @ W.T + sigma2 * torch.eye(5).double()
    o, m = ~missing, missing
    variance = (C[m][:, m] - C[m][:, o] @ torch.linalg.solve(C[o][:, o], C[o][:, m])).diagonal()
    found = answer[missing].double()
    for wrong, ko, en in (
        (variance, "분산을 돌려주었다. 제곱근을 취하라.", "This is the variance: take the square root."),
        (
            (variance - sigma2).sqrt(),
            "잡음의 몫 σ²I가 빠졌다. 식 (2.27)에서 괄호 안의 I를 보라.",
            "The noise σ²I is missing: see the I inside the brackets of (2.27).",
        ),
        (
            C.diagonal()[missing].sqrt(),
            "관측하기 전의 표준 편차다. 관측한 성분이 알려 주는 정보를 쓰지 않았다.",
            "This is the standard deviation before anything is observed: use what the observed entries tell.",
        ),
    ):
        expect(not close(found, wrong), ko=ko, en=en)
    M = W.T @ W + sigma2 * torch.eye(2).double()
    everywhere = (sigma2 * (1 + (W[missing] @ torch.linalg.inv(M) * W[missing]).sum(1))).sqrt()
    expect(
        not close(found, everywhere),
        ko="M에 빠진 행까지 넣었다. M_o는 관측한 성분의 W_o로 만든다.",
        en="Your M contains the missing rows too: make M_o from the observed rows W_o.",
    )
    expect(
        close(found, variance.sqrt()), ko="식 (2.27)의 둘째 줄과 다르다.", en="Differs from the second line of (2.27)."
    )
