"""Self-checks of chapter 2's exercises. A hint is one short line of symbols, the same in both languages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from companion.exercises import close, compare, exercise, expect, parts, tensor


def _eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def _examples() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """x, W, mu and sigma2 of two small models of different size."""
    generator = torch.Generator().manual_seed(21)
    for n, d, d_z, sigma2 in ((6, 5, 2, 0.3), (4, 6, 3, 1.7)):
        x, W, mu = (torch.randn(*shape, generator=generator).double() for shape in ((n, d), (d, d_z), (d,)))
        yield x, W, mu + 1, torch.tensor(sigma2, dtype=torch.float64)


@exercise
def check_2_1(posterior: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """`posterior(x, W, mu, sigma2)` returns mean (n, d_z) and covariance (d_z, d_z) of p(z | x), (2.18)."""
    for x, W, mu, sigma2 in _examples():
        (n, d), d_z = x.shape, W.shape[1]
        answer = posterior(x.clone(), W.clone(), mu.clone(), sigma2.clone())
        mean, covariance = parts(answer, "mean", "covariance")
        mean = tensor(mean, (n, d_z), "mean")
        covariance = tensor(covariance, (d_z, d_z), "covariance")
        # Conditioning the joint Gaussian of (z, x), with no M in it.
        gain = torch.linalg.solve(W @ W.T + sigma2 * _eye(d), W).T
        expect(not close(mean, x @ gain.T), "mean: x → x − μ")
        expect(not close(mean, (x - mu) @ torch.linalg.pinv(W).T), "mean: M = WᵀW → M = WᵀW + σ²I")
        expect(not close(mean, (x - mu) @ W), "mean: Wᵀ(x − μ) → M⁻¹Wᵀ(x − μ)")
        expect(close(mean, (x - mu) @ gain.T), "mean ≠ M⁻¹Wᵀ(x − μ)")
        exact = _eye(d_z) - gain @ W
        expect(not close(covariance, exact / sigma2), "covariance: M⁻¹ → σ²M⁻¹")
        expect(close(covariance, exact), "covariance ≠ σ²M⁻¹")


@exercise
def check_2_3(max_log_likelihood: Callable[[Tensor, int], Tensor]) -> None:
    """`max_log_likelihood(eigenvalues, d_z)` is L of (2.13), whatever the order of the eigenvalues."""
    for values, d_z in (([3.0, 1.5, 0.7, 0.4, 0.1], 2), ([7.0, 2.5, 0.8], 1), ([6.0, 5.0, 4.0, 2.0, 1.5, 0.5, 0.2], 4)):
        lam = torch.tensor(values, dtype=torch.float64)
        d = len(lam)
        answer = tensor(max_log_likelihood(lam.clone(), d_z), (), "L").item()
        # The density of a Gaussian with the fitted covariance, averaged over data of covariance diag(lam).
        fitted = torch.cat([lam[:d_z], lam[d_z:].mean().expand(d - d_z)])
        origin = torch.zeros(d, dtype=torch.float64)
        at_mean = MultivariateNormal(origin, fitted.diag()).log_prob(origin).item()
        truth = at_mean - 0.5 * (lam / fitted).sum().item()
        mean_of_logs = truth + 0.5 * (fitted[d_z:].log() - lam[d_z:].log()).sum().item()
        expect(not math.isclose(answer, at_mean, rel_tol=1e-5), "+ d?  tr(C⁻¹S) = d")
        expect(not math.isclose(answer, mean_of_logs, rel_tol=1e-5), "Σ log λ_j / (d − d_z) → log(Σ λ_j / (d − d_z))")
        expect(math.isclose(answer, truth, rel_tol=1e-5), f"L({values}, d_z = {d_z}) = {truth:.3f} ≠ {answer:.3f}")
        for shuffled in (lam.flip(0), lam.roll(1)):
            again = tensor(max_log_likelihood(shuffled.clone(), d_z), (), "L").item()
            expect(math.isclose(again, truth, rel_tol=1e-5), "λ_1 ≥ λ_2 ≥ … ?  sort(descending=True)")


@exercise
def check_2_4(conditional_std: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`conditional_std(x, W, mu, sigma2)` is the standard deviation of each missing entry, (2.32), 0 where observed."""
    for (x, *_), W, mu, sigma2 in _examples():
        u = torch.zeros(len(x), dtype=torch.bool)
        u[1] = u[3] = True
        x, o, d_z = x.masked_fill(u, torch.nan), ~u, W.shape[1]
        answer = tensor(conditional_std(x.clone(), W.clone(), mu.clone(), sigma2.clone()), x.shape, "std")
        expect(not answer.isnan().any(), "std: NaN.  W → W_o")
        expect((answer[o] == 0).all(), "std[o] = 0")
        C = W @ W.T + sigma2 * _eye(len(x))
        variance = (C[u][:, u] - C[u][:, o] @ torch.linalg.solve(C[o][:, o], C[o][:, u])).diagonal()
        everywhere = sigma2 * (1 + (W[u] @ torch.linalg.inv(W.T @ W + sigma2 * _eye(d_z)) * W[u]).sum(1))
        compare(
            answer[u],
            variance.sqrt(),
            "std[u]² ≠ diag σ²(I + W_u M_o⁻¹ W_uᵀ)",
            {
                "std[u]: σ² → σ, √": variance,
                "std[u]: W_u M_o⁻¹ W_uᵀ → I + W_u M_o⁻¹ W_uᵀ": (variance - sigma2).sqrt(),
                "std[u]: p(x_u) → p(x_u | x_o)": C.diagonal()[u].sqrt(),
                "M = WᵀW + σ²I → M_o = W_oᵀW_o + σ²I": everywhere.sqrt(),
            },
        )


@exercise
def check_2_7(em: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """`em(x, W, sigma2)` is one step of EM, (2.25) to (2.28), with μ the mean of x."""
    for x, W, _, sigma2 in _examples():
        (n, d), d_z = x.shape, W.shape[1]
        W_new, noise = parts(em(x.clone(), W.clone(), sigma2.clone()), "W", "sigma2")
        W_new, noise = tensor(W_new, W.shape, "W"), tensor(noise, (), "sigma2")
        # Moments of z by conditioning the joint Gaussian of (z, x); the noise as the expected squared error itself.
        r = x - x.mean(0)
        gain = torch.linalg.solve(W @ W.T + sigma2 * _eye(d), W).T
        z, V = r @ gain.T, _eye(d_z) - gain @ W
        zz = z.T @ z + n * V
        truth = (r.T @ z) @ torch.linalg.inv(zz)

        def error(loadings: Tensor, r: Tensor = r, z: Tensor = z, V: Tensor = V) -> Tensor:
            return ((r - z @ loadings.T).square().sum() + len(r) * (loadings @ V @ loadings.T).trace()) / r.numel()

        expect(not close(W_new, r.T @ torch.linalg.pinv(z).T), "⟨z⟩⟨z⟩ᵀ → ⟨zzᵀ⟩ = σ²M⁻¹ + ⟨z⟩⟨z⟩ᵀ")
        expect(not close(W_new, (r.T @ z) @ torch.linalg.inv(z.T @ z + V)), "Σ_n ⟨zzᵀ⟩: σ²M⁻¹ → N σ²M⁻¹")
        shifted = (x.T @ (x @ gain.T)) @ torch.linalg.inv((x @ gain.T).T @ (x @ gain.T) + n * V)
        expect(not close(W_new, shifted), "r = x → r = x − μ")
        expect(close(W_new, truth), "W ≠ (Σ r⟨z⟩ᵀ)(Σ ⟨zzᵀ⟩)⁻¹")
        expected = error(truth)
        old = (r.square().sum() - (z @ W.T * r).sum()) / r.numel()
        expect(not close(noise, expected * d), "σ²: 1/N → 1/(Nd)")
        expect(not close(noise, expected * n * d), "σ²: Σ → 1/(Nd) Σ")
        expect(not close(noise, old), "σ²: W → W_new")
        expect(close(noise, expected), "σ² ≠ 1/(Nd) Σ(|r|² − ⟨z⟩ᵀW_newᵀr)")
