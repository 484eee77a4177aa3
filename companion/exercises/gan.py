"""Self-checks of chapter 4's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from companion.exercises import close, exercise, expect, given


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@exercise
def check_4_1(value: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`value(a_real, a_made)` is V of (4.5) from logits, a scalar, also where probabilities round to 0 or 1."""
    a_real, a_made = _normal(50, seed=41), _normal(40, seed=42) - 1
    answer = torch.as_tensor(given(value(a_real, a_made)))
    real = Bernoulli(logits=a_real).log_prob(torch.ones(50).double())
    made = Bernoulli(logits=a_made).log_prob(torch.zeros(40).double())
    expect(
        answer.ndim == 0,
        ko=f"모양이 {tuple(answer.shape)}이다. 두 기댓값을 평균으로 바꾸면 수 하나가 남는다.",
        en=f"The shape is {tuple(answer.shape)}. Take means for the two expectations, and one number is left.",
    )
    expect(
        not close(answer, -real.mean() - made.mean()),
        ko="부호가 반대다. V는 음의 교차 엔트로피 둘을 더한 것이다.",
        en="The sign is reversed: V is the sum of two terms that are minus a cross entropy.",
    )
    expect(
        not close(answer, real.mean() + Bernoulli(logits=a_made).log_prob(torch.ones(40).double()).mean()),
        ko="둘째 항은 log D가 아니라 log(1 − D)다.",
        en="The second term is log(1 − D), not log D.",
    )
    expect(
        not close(answer, real.sum() + made.sum()),
        ko="합이 아니라 평균을 내라.",
        en="Take means, not sums.",
    )
    expect(close(answer, real.mean() + made.mean()), ko="식 (4.5)와 다르다.", en="Differs from (4.5).")
    far = torch.as_tensor(value(torch.tensor([-500.0]), torch.tensor([500.0]))).double()
    expect(
        bool(far.isfinite()) and math.isclose(far.item(), -1000, rel_tol=1e-4),
        ko=f"a = ∓500에서 V = −1000이어야 하는데 {far.item():.4g}이다. D를 거치지 말고 식 (4.6)을 쓰라.",
        en=f"At a = ∓500, V should be −1000; yours is {far.item():.4g}. Use (4.6) instead of going through D.",
    )


@exercise
def check_4_2(jsd: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`jsd(p, q)` is (4.9) in nats for probabilities of shape (k,), some of which may be 0."""
    p, q = torch.tensor([[0.5, 0.3, 0.2, 0.0, 0.0], [0.1, 0.0, 0.3, 0.6, 0.0]], dtype=torch.float64)
    answer = torch.as_tensor(given(jsd(p.clone(), q.clone()))).double()
    # What one draw tells about the coin that chose the distribution: log 2 − E[H(coin | draw)].
    m = (p + q) / 2
    seen = m > 0
    truth = math.log(2) - (m[seen] * Bernoulli(probs=(p / (2 * m))[seen]).entropy()).sum()
    expect(
        answer.ndim == 0,
        ko=f"모양이 {tuple(answer.shape)}이다. 모든 값에 걸쳐 더하면 수 하나가 남는다.",
        en=f"The shape is {tuple(answer.shape)}. Sum over all values, and one number is left.",
    )
    expect(
        not answer.isnan(),
        ko="NaN이 나온다. 0 · log 0은 0으로 친다(torch.special.xlogy). p = q = 0인 곳에서 0/0도 나오지 않게 하라.",
        en="The answer is NaN. Take 0 · log 0 as 0 (torch.special.xlogy), and avoid 0/0 where p = q = 0.",
    )
    expect(
        answer.isfinite(),
        ko="무한대가 나온다. 두 분포를 서로가 아니라 한가운데 m = (p + q)/2와 비교하라.",
        en="The answer is infinite. Compare both with the midpoint m = (p + q)/2, not with each other.",
    )
    expect(
        not close(answer, 2 * truth),
        ko="두 발산의 합이 아니라 평균이다. 1/2을 곱하라.",
        en="It is the mean of the two divergences, not their sum: multiply by 1/2.",
    )
    expect(
        not close(answer, truth / math.log(2)),
        ko="밑이 2인 로그를 썼다. 이 책의 단위는 nat이다.",
        en="You used logarithms to base 2. This book's unit is the nat.",
    )
    one = (p[seen].xlogy(p[seen]) - p[seen].xlogy(m[seen])).sum()
    expect(
        not close(answer, one) and not close(answer, 2 * truth - one),
        ko="KL 하나뿐이다. p와 q 모두 m과 비교하라.",
        en="This is one KL only: compare both p and q with m.",
    )
    expect(
        close(answer, truth),
        ko=f"{truth:.4f}이어야 하는데 {answer:.4f}이다.",
        en=f"Should be {truth:.4f}; yours is {answer:.4f}.",
    )


@exercise
def check_4_3(penalty: Callable[[Callable, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`penalty(f, x, y, eps)` is (4.18), differentiable; f maps (n, d) to (n,), eps has shape (n, 1)."""
    n, d = 6, 3
    x, y, w = _normal(n, d, seed=43), _normal(n, d, seed=44) + 2, _normal(d, seed=45).requires_grad_()
    eps = torch.rand(n, 1, generator=torch.Generator().manual_seed(46)).double()

    def f(rows: Tensor) -> Tensor:
        return (rows**2) @ w

    def gradients(at: Tensor) -> Tensor:
        return 2 * at * w

    answer = given(penalty(f, x.clone(), y.clone(), eps.clone()))
    slope = gradients(eps * x + (1 - eps) * y)
    truth = (slope.norm(dim=1) - 1).square().mean()
    found = torch.as_tensor(answer).detach().double()
    expect(
        found.ndim == 0,
        ko=f"모양이 {tuple(found.shape)}이다. 표본의 평균, 곧 수 하나를 돌려주라.",
        en=f"The shape is {tuple(found.shape)}. Return the mean over the samples, one number.",
    )
    for wrong, ko, en in (
        (
            (gradients(x).norm(dim=1) - 1).square().mean(),
            "진짜 데이터에서만 쟀다. x와 y를 잇는 선분 위의 점 x̂에서 재라.",
            "You measured at real data only: measure at x̂, on the segment between x and y.",
        ),
        (
            (gradients((1 - eps) * x + eps * y).norm(dim=1) - 1).square().mean(),
            "ε과 1 − ε이 바뀌었다. 식 (4.18)에서 ε은 x의 몫이다.",
            "ε and 1 − ε are exchanged: in (4.18), ε is the share of x.",
        ),
        (
            (slope.norm(dim=0) - 1).square().mean(),
            "노름의 축이 틀렸다. 표본마다 모든 성분을 모아(dim=1) 구하라.",
            "The norm runs along the wrong axis: take it over the entries of each sample (dim=1).",
        ),
        (
            (slope.norm() - 1).square(),
            "배치 전체에서 노름을 한 번에 구했다. 표본마다 따로 구하라.",
            "You took one norm over the whole batch: take one for each sample.",
        ),
        (
            (slope.square().sum(1) - 1).square().mean(),
            "노름의 제곱에서 1을 뺐다. 먼저 제곱근을 구하라.",
            "You subtracted 1 from the squared norm: take the square root first.",
        ),
    ):
        expect(not close(found, wrong.detach()), ko=ko, en=en)
    expect(close(found, truth.detach()), ko="식 (4.18)과 다르다.", en="Differs from (4.18).")
    expect(
        isinstance(answer, Tensor) and answer.requires_grad,
        ko="값은 맞지만 f의 모수로 다시 미분할 수 없다. create_graph=True가 필요하다.",
        en="The value is right, but it cannot be differentiated in f's parameters: you need create_graph=True.",
    )
    (found_gradient,) = torch.autograd.grad(answer, w, retain_graph=True)
    (true_gradient,) = torch.autograd.grad(truth, w)
    expect(
        close(found_gradient, true_gradient),
        ko="값은 맞지만 f의 모수로 미분한 기울기가 틀렸다. create_graph=True인지, 도중에 detach하지 않았는지 보라.",
        en="The value is right, but its gradient in f's parameters is not: check create_graph=True and any detach.",
    )


@exercise
def check_4_4(w1: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`w1(x, y)` is (4.17) for samples of shape (n,)."""
    x, y = _normal(300, seed=47), 1.5 * _normal(300, seed=48) + 0.4
    answer = torch.as_tensor(given(w1(x.clone(), y.clone()))).double()
    # The area between the two step functions, from all points in order.
    points = torch.cat([x, y]).sort().values
    F_x, F_y = ((points[:-1, None] >= sample).double().mean(1) for sample in (x, y))
    truth = ((F_x - F_y).abs() * points.diff()).sum()
    a, b = x.sort().values, y.sort().values
    expect(
        answer.ndim == 0,
        ko=f"모양이 {tuple(answer.shape)}이다. 평균을 내어 수 하나를 돌려주라.",
        en=f"The shape is {tuple(answer.shape)}. Take the mean and return one number.",
    )
    for wrong, ko, en in (
        (
            (x - y).abs().mean(),
            "정렬하지 않고 짝지었다. 작은 것은 작은 것과 짝지어야 가장 싸다.",
            "You paired without sorting: it is cheapest to pair small with small.",
        ),
        (
            (a - b).mean(),
            "절댓값이 빠졌다. 오른쪽으로 나른 것과 왼쪽으로 나른 것이 상쇄된다.",
            "The absolute value is missing: moves to the right and to the left cancel.",
        ),
        (
            (a - b).abs().sum(),
            "합이 아니라 평균이다. 점 하나의 흙은 1/n이다.",
            "Take the mean, not the sum: each point carries 1/n of the earth.",
        ),
        (
            (a - b).square().mean(),
            "거리의 제곱을 평균했다. 그것은 W₂의 제곱이다.",
            "You averaged squared distances: that is the square of W₂.",
        ),
        (
            (a - b).square().mean().sqrt(),
            "W₁이 아니라 W₂다. 제곱하지 말고 절댓값을 평균하라.",
            "This is W₂, not W₁: average absolute values, not squares.",
        ),
    ):
        expect(not close(answer, wrong), ko=ko, en=en)
    expect(
        close(answer, truth),
        ko=f"{truth:.4f}이어야 하는데 {answer:.4f}이다.",
        en=f"Should be {truth:.4f}; yours is {answer:.4f}.",
    )
