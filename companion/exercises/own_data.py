"""Self-checks of the appendix's exercises. Hints are symbols, which both editions can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from companion.exercises import compare, exercise, normal, parts, tensor


@exercise
def check_A_1(in_units: Callable[..., Any]) -> None:
    """`in_units(m, s, mean, std, shift)` is the median, the mean, and the ends of ±2s of exp(mean + std z) − shift."""
    names = "median", "mean", "low", "high"
    for m, s, mean, std, shift in ((0.7, 0.4, 1.5, 0.6, 0.25), (-1.2, 0.9, -0.3, 1.3, 2.0)):
        answer = [tensor(tensor(part).squeeze(), ()) for part in parts(in_units(m, s, mean, std, shift), *names)]
        centre, width = mean + std * m, std * s

        def value(log: float, shift: float = shift) -> torch.Tensor:
            return torch.tensor(math.exp(log) - shift, dtype=torch.float64)

        median, low, high = (value(centre + k * width) for k in (0, -2, 2))
        truths = (
            (median, {}),
            (
                value(centre + width**2 / 2),
                {
                    "mean ≠ median": median,
                    "s²/2 → (std · s)²/2": value(centre + s**2 / 2),
                    "(std · s)² → (std · s)²/2": value(centre + width**2),
                    "(low + high)/2 ≠ mean": (low + high) / 2,
                },
            ),
            (low, {"s → 2s": value(centre - width), "exp(m) − 2s → exp(m − 2s)": median - 2 * s}),
            (high, {"s → 2s": value(centre + width), "exp(m) + 2s → exp(m + 2s)": median + 2 * s}),
        )
        for name, part, (truth, mistakes) in zip(names, answer, truths, strict=True):
            general = {
                "− shift": truth + shift,
                "+ shift → − shift": truth + 2 * shift,
                "std · z + mean": value(math.log(truth + shift) - mean),
            }
            hints = {f"{name}: {hint}": wrong for hint, wrong in (mistakes | general).items()}
            compare(part, truth, f"{name} = {part:.4g} ≠ {truth:.4g}", hints)


@exercise
def check_A_2(tail: Callable[..., Any]) -> None:
    """`tail(x, mu, C)` is P(χ²_k ≥ (x_o − μ_o)ᵀ C_oo⁻¹ (x_o − μ_o)) of each row with k known entries, shape (n,)."""
    A, mu, x = normal(4, 4, seed=71), normal(4, seed=72), normal(6, 4, seed=73)
    C = A @ A.T + 0.5 * torch.eye(4).double()
    x[torch.tensor([0, 1, 1, 2, 2, 2]), torch.tensor([1, 0, 3, 0, 1, 2])] = torch.nan
    known = ~x.isnan()
    k = known.sum(1).double()

    def squares(covariance: torch.Tensor, centre: torch.Tensor = mu) -> torch.Tensor:
        rows = [(row[o] - centre[o], covariance[o][:, o]) for row, o in zip(x, known, strict=True)]
        return torch.stack([off @ torch.linalg.solve(part, off) for off, part in rows])

    def beyond(m2: torch.Tensor, dof: torch.Tensor = k) -> torch.Tensor:
        return torch.special.gammaincc(dof / 2, m2 / 2)

    truth, m2 = beyond(squares(C)), squares(C)
    inverse = torch.linalg.inv(C)
    part_of_inverse = torch.stack(
        [(row - mu)[o] @ inverse[o][:, o] @ (row - mu)[o] for row, o in zip(x, known, strict=True)]
    )
    compare(
        tensor(tail(x.clone(), mu.clone(), C.clone()), (6,)),
        truth,
        "≠ P(χ²_k ≥ m²)",
        {
            "m² → P(χ²_k ≥ m²)": m2,
            "P(χ²_k ≤ m²) → P(χ²_k ≥ m²)": 1 - truth,
            "k = d → k = |o|": beyond(m2, torch.full_like(k, 4)),
            "m²/2, k/2": torch.special.gammaincc(k, m2),
            "m² → m²/2": torch.special.gammaincc(k / 2, m2),
            "(C⁻¹)_oo → (C_oo)⁻¹": beyond(part_of_inverse),
            "x_o − μ_o": beyond(squares(C, torch.zeros_like(mu))),
        },
    )
