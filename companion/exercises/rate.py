"""Self-checks of the exercises on the second page of chapter 3. Hints are symbols that both editions read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.data import digits
from companion.exercises import close, exercise, expect, tensor


@exercise
def check_3_6(water_level: Callable[[Tensor, float], Any]) -> None:
    """`water_level(lam, rate)` is the τ with ½ Σ max(0, log λ/τ) = rate, (3.33)."""
    lam = torch.tensor([4.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    for rate in (0.3, 1.5, 4.0):
        answer = tensor(tensor(water_level(lam.clone(), rate)).squeeze(), ())
        expect(answer > 0, f"τ = {answer:.4f}, τ > 0?")
        # With the k largest eigenvalues above water, log τ = (Σ log λ − 2 rate) / k.
        levels = [((lam[:k].log().sum() - 2 * rate) / k).exp() for k in range(1, 5)]
        truth = next(t for k, t in enumerate(levels, 1) if t < lam[k - 1] and (k == 4 or t >= lam[k]))
        halved = [((lam[:k].log().sum() - rate) / k).exp() for k in range(1, 5)]
        expect(not any(close(answer, wrong) for wrong in halved), "½ Σ_j …?  (3.33)")
        expect(close(truth, levels[3]) or not close(answer, levels[3]), "λ_j < τ: max(0, log λ_j/τ) = 0  (3.33)")
        expect(close(answer, truth), f"λ = {lam.tolist()}, R = {rate}: τ = {answer:.4f} ≠ {truth:.4f}")


@exercise
def check_3_8(knob: Callable[[], Any]) -> None:
    """`knob()` gives (R, E|x − x̃|²) of the linear VAEs with (β, σ²) = (4, 0.05) and (1, 0.2): both those of τ = 0.2."""
    pairs = tensor(knob(), (2, 2), "[[R, E|x − x̃|²], [R, E|x − x̃|²]]")
    lam = torch.linalg.eigvalsh(digits()[0].double().T.cov(correction=0)).flip(0)

    def point(tau: float) -> Tensor:
        return torch.stack(
            [0.5 * (lam[:16] / tau).log().clamp(min=0).sum(), lam[:16].clamp(max=tau).sum() + lam[16:].sum()]
        )

    truth, unweighted = point(0.2), point(0.05)
    for row, name in zip(pairs, ("(4, 0.05)", "(1, 0.2)"), strict=True):
        R, error = row.tolist()
        shown = f"(β, σ²) = {name}: R = {R:.2f}, E|x − x̃|² = {error:.2f}"
        expect(not _near(row.flip(0), truth), f"{shown}: [E|x − x̃|², R] → [R, E|x − x̃|²]")
        expect(not _near(row, unweighted), f"{shown}: β = 1?")
        expect(_near(row, truth), f"{shown}; (3.33), τ = 0.2: R = {truth[0]:.2f}, E|x − x̃|² = {truth[1]:.2f}")


def _near(row: Tensor, truth: Tensor) -> bool:
    """Whether a trained linear VAE is this close to the curve (3.33), which it nears slowly."""
    return bool(((row - truth).abs() < torch.tensor([0.3, 0.2])).all())
