"""Self-checks of chapter 3's exercises. Their hints are formulas, which both languages read."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from companion.exercises import Hint, compare, exercise, normal, tensor


@exercise
def check_3_1(kl_to_prior: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`kl_to_prior(mean, log_variance)` is KL(N(m, diag s²) ‖ N(0, I)), (3.18), shape (n,)."""
    mean, log_variance = normal(5, 3, seed=31), normal(5, 3, seed=32)
    answer = tensor(kl_to_prior(mean.clone(), log_variance.clone()), (5,))
    q = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    truth = kl_divergence(q, p)
    squared = 0.5 * (mean**2 + (2 * log_variance).exp() - 1 - 2 * log_variance).sum(1)
    mistakes = {
        "−KL;  KL ≥ 0": -truth,
        "2 KL;  ½ Σ_j": 2 * truth,
        "KL / d_z;  Σ_j": truth / 3,
        "KL(p ‖ q), (3.20);  KL(q ‖ p), (3.18)": kl_divergence(p, q),
        "s⁴;  log_variance = log s²": squared,
    }
    compare(answer, truth, "≠ (3.18)", mistakes)


@exercise
def check_3_2(elbo: Callable[..., Tensor]) -> None:
    """`elbo(x, mean, log_variance, decode, sigma2, eps)` is (3.15) at z = m + s ε minus (3.18), shape (n,)."""
    x, mean, log_variance, eps = (normal(4, d, seed=33 + d) for d in (6, 2, 2, 2))
    log_variance, eps, sigma2 = log_variance - 1, eps + 0.5, 0.2
    weight = normal(2, 6, seed=40)

    def decode(z: Tensor) -> Tensor:
        return torch.tanh(torch.as_tensor(z).double() @ weight)

    answer = tensor(elbo(x, mean, log_variance, decode, sigma2, eps), (4,))
    std = (0.5 * log_variance).exp()
    q, z = Independent(Normal(mean, std), 1), mean + std * eps
    prior = Independent(Normal(torch.zeros_like(mean), 1.0), 1)
    kl = kl_divergence(q, prior)

    def log_p(z: Tensor, sigma: float = sigma2**0.5) -> Tensor:
        return Normal(decode(z), sigma).log_prob(x)

    full = log_p(z).sum(1)
    mistakes = {
        "+ KL;  − KL": full + kl,
        "−ELBO;  ELBO": kl - full,
        "m + s² ε;  m + s ε, s = exp(½ log s²)": log_p(mean + std.square() * eps).sum(1) - kl,
        "g(m);  g(m + s ε)": log_p(mean).sum(1) - kl,
        "(1/d) Σ_j;  Σ_j": log_p(z).mean(1) - kl,
        "−(d/2) log 2πσ²": full + 3 * math.log(2 * math.pi * sigma2) - kl,
        "σ⁴;  σ²": log_p(z, sigma2).sum(1) - kl,
        "log p(x, z) − log q(z | x);  (3.15) − (3.18)": full + prior.log_prob(z) - q.log_prob(z),
    }
    compare(answer, full - kl, "≠ (3.15) − (3.18)", mistakes)


@exercise
def check_3_3(score_gradient: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`score_gradient(f, z, mean, std)` is (fᵢ − mean of the other f) ∇_m log q(zᵢ), shape (k, d_z)."""
    k, mean, std = 7, normal(3, seed=51), normal(3, seed=52).exp()
    z = mean + std * normal(k, 3, seed=53)
    f = z.square().sum(1) + 100
    answer = tensor(score_gradient(f, z, mean, std), (k, 3))
    point = mean.clone().requires_grad_()
    rows = [torch.autograd.grad(Normal(point, std).log_prob(row).sum(), point)[0] for row in z]
    score = torch.stack(rows)
    baseline = torch.stack([torch.cat([f[:i], f[i + 1 :]]).mean() for i in range(k)])
    truth = (f - baseline)[:, None] * score
    mistakes = {
        "f_i;  f_i − b_i": f[:, None] * score,
        "(1/k) Σ_l f_l;  l ≠ i": (f - f.mean())[:, None] * score,
        "/ s;  / s²": (f - baseline)[:, None] * (z - mean) / std,
        "−;  +": -truth,
        "(1/k) Σ_{l≠i};  1/(k − 1)": (f - baseline * (k - 1) / k)[:, None] * score,
    }
    compare(answer, truth, "≠ (f_i − b_i) (z_i − m) / s²", mistakes)


@exercise
def check_3_5(gains: Tensor) -> None:
    """`gains` are ELBO − log p under PPCA on held-out digits, in nats, for d_z = 1, 2, 4, 8; the bounds are wide."""
    answer = tensor(gains, (4,))

    def plausible(nats: Tensor) -> bool:  # five seeds: 4.8 to 5.3 for d_z = 4, 0.9 to 3.2 for the others
        return bool((nats > 0).all() and nats.argmax() == 2 and 3 < nats[2] < 5.9)

    if plausible(answer):
        return
    mistakes = {
        "PPCA − VAE;  VAE − PPCA": plausible(-answer),
        "d_z = 8, 4, 2, 1;  1, 2, 4, 8": plausible(answer.flip(0)),
        "(1/d) Σ_j;  Σ_j": plausible(64 * answer),
        "Σ_n;  (1/N) Σ_n": plausible(answer / 297),
        "ELBO < log p (PPCA);  500 steps, learnt σ²": bool((answer <= 0).any()),
        "x[:1500];  x[1500:]": bool(answer[2] >= 5.9),
    }
    raise Hint(next((hint for hint, made in mistakes.items() if made), "argmax d_z ≠ 4"))
