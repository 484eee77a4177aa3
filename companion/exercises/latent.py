"""Self-checks of chapter 1's exercises. Answers may be tensors, NumPy arrays or lists; hints are formulas."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.exercises import Hint, close, exercise, expect, parts, tensor
from companion.latent import GaussianMixture, NonlinearGaussian


@exercise
def check_1_1(log_mean_exp: Callable[[Tensor], Tensor]) -> None:
    """`log_mean_exp(log_w)` returns log (1/k) Σᵢ wᵢ, shape (N,), for log-weights of shape (k, N), (1.12)."""
    log_w = torch.tensor([[0.0, -1.0, -3.0], [-1.0, -2.0, 1.0]], dtype=torch.float64)
    answer = tensor(log_mean_exp(log_w), (3,))
    truth = log_w.exp().mean(0).log()
    expect(not close(answer, log_w.mean(0)), "(1/k) Σᵢ log wᵢ ≤ log (1/k) Σᵢ wᵢ (Jensen)")
    expect(not close(answer, log_w.exp().sum(0).log()), "log Σᵢ wᵢ → log (1/k) Σᵢ wᵢ: − log k")
    expect(not close(answer, log_w.exp().mean(0)), "(1/k) Σᵢ wᵢ → log (1/k) Σᵢ wᵢ")
    expect(close(answer, truth), "≠ log (1/k) Σᵢ wᵢ")
    more = torch.linspace(-2, 2, 20, dtype=torch.float64).sin().view(5, 4)
    truth = more.exp().mean(0).log()
    expect(close(tensor(log_mean_exp(more), (4,)), truth), "k = 5: − log k")
    for shift in (-1000.0, 1000.0):
        answer = tensor(log_mean_exp(more + shift), (4,))
        expect(
            close(answer, truth + shift),
            f"log w ≈ {shift:.0f}: exp(log w) = {'0' if shift < 0 else '∞'} → log w − max log w",
        )
    apart = torch.tensor([0.0, -1000.0, 1000.0, -3000.0], dtype=torch.float64)
    answer = tensor(log_mean_exp(more + apart), (4,))
    expect(close(answer, truth + apart), "max log w: n = 1, …, N → maxᵢ log wᵢₙ, shape (N,)")


@exercise
def check_1_2(log_weight: Callable[[NonlinearGaussian, Tensor, Tensor, Normal], Tensor]) -> None:
    """`log_weight(model, x, z, q)` returns log p(z) + log p(x | z) − log q(z), (1.17)."""
    x, z = torch.tensor([0.2, 1.4, -0.8]), torch.tensor([0.1, 1.2, -0.5])
    for b, sigma, m, s in ((1.0, 0.3, 0.4, 0.7), (0.5, 0.8, -0.2, 1.3)):
        answer = tensor(log_weight(NonlinearGaussian(b, sigma), x, z, Normal(m, s)), (3,))
        half = 0.5 * math.log(2 * math.pi)
        prior = -0.5 * z**2 - half
        likelihood = -0.5 * ((x - z - b * torch.sin(3 * z)) / sigma) ** 2 - math.log(sigma) - half
        proposal = -0.5 * ((z - m) / s) ** 2 - math.log(s) - half
        expect(not close(answer, likelihood - proposal), "p(x, z) = p(z) p(x | z): p(z)?")
        expect(not close(answer, prior + likelihood), "w = p(x, z) / q(z): − log q(z)")
        expect(not close(answer, prior + likelihood + proposal), "+ log q(z) → − log q(z)")
        expect(not close(answer, (prior + likelihood - proposal).exp()), "w → log w")
        expect(close(answer, prior + likelihood - proposal), "≠ log p(z) + log p(x | z) − log q(z)")


@exercise
def check_1_3(discrete_elbo: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`discrete_elbo(log_joint, q)` returns Σ_c q_nc (log p(x_n, z = c) − log q_nc), shape (N,), (1.20)."""
    log_joint = torch.tensor([[-1.0, -2.0, -4.0], [-3.0, -0.5, -1.5], [-2.0, -2.5, -1.0]], dtype=torch.float64)
    q = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64)
    answer = tensor(discrete_elbo(log_joint, q), (3,))
    energy, entropy = (q * log_joint).sum(1), -(q * q.log()).sum(1)
    expect(not close(answer, energy), "E_q[log p(x, z)] − E_q[log q(z)]: − log q(z)?")
    expect(not close(answer, energy - entropy), "+ log q(z) → − log q(z)")
    expect(not close(answer, log_joint.logsumexp(1)), "log p(x) ≥ L(q)")
    expect(not close(answer, (log_joint - q.log()).mean(1)), "(1/K) Σ_c → Σ_c q_c")
    expect(not close(answer, -energy - entropy), "−L(q) → L(q)")
    expect(close(answer, energy + entropy), "≠ Σ_c q_c (log p(x, z = c) − log q_c)")
    sure = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    truth = torch.tensor([-2.0, -1.75 + math.log(2)], dtype=torch.float64)
    expect(close(tensor(discrete_elbo(log_joint[:2], sure), (2,)), truth), "q_c = 0: q_c log q_c = 0")


@exercise
def check_1_6(responsibilities: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`responsibilities(x, pi, mu, sigma)` returns p(z = c | x_n), shape (N, K), (1.23)."""
    x = torch.tensor([-1.0, 0.3, 0.9, 2.5], dtype=torch.float64)
    pi, mu, sigma = torch.tensor([[0.2, 0.5, 0.3], [-1.0, 0.5, 2.0], [0.5, 1.0, 2.0]], dtype=torch.float64)

    def truth(weight: Tensor, scale: Tensor) -> Tensor:
        joint = weight * torch.exp(-((x[:, None] - mu) ** 2) / (2 * scale**2)) / scale
        return joint / joint.sum(1, keepdim=True)

    answer = tensor(responsibilities(x, pi, mu, sigma), (4, 3))
    expect(close(answer.sum(1), torch.ones(4)), "Σ_c r_nc = 1")
    expect(not close(answer, truth(torch.ones(3), sigma)), "π_c?")
    expect(not close(answer, truth(pi, sigma.sqrt())), "sigma = σ, σ² → sigma²")
    expect(not close(answer, truth(pi * sigma, sigma)), "N(x; μ_c, σ_c²) = exp(…) / (√(2π) σ_c): 1/σ_c?")
    expect(close(answer, truth(pi, sigma)), "≠ (1.23)")
    # Far away the narrow components vanish beside the wide one, and among equals the nearest wins.
    cases = [
        ((pi, mu, sigma), [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        (([0.9, 0.1], [-1.0, 1.0], [1.0, 1.0]), [[1.0, 0.0], [0.0, 1.0]]),
    ]
    for parameters, rows in cases:
        mixture = [tensor(part) for part in parameters]
        far = tensor(
            responsibilities(torch.tensor([-500.0, 500.0], dtype=torch.float64), *mixture), (2, len(mixture[0]))
        )
        expect(
            close(far, torch.tensor(rows)),
            f"x = ∓500: exp(…) = 0, 0/0; log π_c + log N(…) → softmax: {rows}",
        )


@exercise
def check_1_7(m_step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> None:
    """`m_step(x, r)` returns pi, mu and sigma2, each of shape (K,), (1.25)."""
    x = torch.tensor([0.0, 1.0, 2.0, 5.0, 7.0], dtype=torch.float64)
    first = torch.tensor([0.9, 0.8, 0.6, 0.1, 0.0], dtype=torch.float64)
    third = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.3], dtype=torch.float64)
    cases = [(x, torch.stack([first, 1 - first], 1)), (x[1:], torch.stack([first, 1 - first - third, third], 1)[1:])]
    for data, r in cases:
        K, N = r.shape[1], len(data)
        pi, mu, sigma2 = (tensor(part, (K,)) for part in parts(m_step(data, r), "pi", "mu", "sigma2"))
        n_c = r.sum(0)
        mean, second = r.T @ data / n_c, r.T @ data**2 / n_c
        expect(not close(pi, n_c), "N_c → π_c = N_c / N")
        expect(close(pi, n_c / N), "π_c ≠ N_c / N")
        expect(not close(mu, mean * n_c / N), "μ_c = (1/N) Σ … → (1/N_c) Σ …")
        expect(close(mu, mean), "μ_c ≠ (1/N_c) Σₙ r_nc xₙ")
        expect(not close(sigma2, (second - mean**2).sqrt()), "σ_c → σ_c²")
        overall = second - 2 * mean * data.mean() + data.mean() ** 2
        expect(not close(sigma2, overall), "(xₙ − x̄)² → (xₙ − μ_c)²")
        expect(not close(sigma2, (second - mean**2) * n_c / N), "σ_c² = (1/N) Σ … → (1/N_c) Σ …")
        expect(close(sigma2, second - mean**2), "σ_c² ≠ (1/N_c) Σₙ r_nc (xₙ − μ_c)²")


@exercise
def check_1_8(held_out_log_density: Callable[[Tensor, Tensor, int, torch.Generator], Tensor]) -> None:
    """`held_out_log_density(train, test, K, generator)` is the mean log density of `test` under a fit to `train`."""
    noise = torch.randn(90, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64).repeat(30, 1) + noise
    train, test = points[:54], points[54:] * torch.tensor([1.0, 1.3])

    def fitted(data: Tensor, K: int, floor: float = 0.02, tol: float = 1e-4) -> GaussianMixture:
        return GaussianMixture.fit(data, K, floor=floor, tol=tol, generator=torch.Generator().manual_seed(3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for K in (3, 8):
            generator = torch.Generator().manual_seed(3)
            answer = tensor(held_out_log_density(train, test, K, generator), ())
            model = fitted(train, K)
            truth = model.log_prob(test)
            if close(answer, truth.mean()):
                continue
            faults = {
                "log p(train) → log p(test)": model.log_prob(train).mean(),
                "Σₙ → (1/N) Σₙ": truth.sum(),
                "fit(test) → fit(train)": fitted(test, K).log_prob(test).mean(),
                "floor=0.02?": fitted(train, K, floor=1e-4).log_prob(test).mean(),
                "tol=1e-4?": fitted(train, K, tol=1e-6).log_prob(test).mean(),
                "K?": fitted(train, 3).log_prob(test).mean(),
                "p → log p": truth.mean().exp(),
                "log (1/N) Σₙ p → (1/N) Σₙ log p": truth.exp().mean().log(),
            }
            for hint, value in faults.items():
                expect(not close(answer, value), hint)
            raise Hint("≠ (1/N) Σₙ log p(xₙ), fit(…, floor=0.02, tol=1e-4, generator=generator)")
