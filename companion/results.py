"""A measured number beside what must hold of it: people read the one, machines compare the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal


def result(
    name: str,
    value: float | Sequence[float],
    *,
    above: float | None = None,
    below: float | None = None,
    order: Literal["rising", "falling"] | None = None,
) -> None:
    """Print a line such as `legible    0.46   > 0.33 ✓`, or fail the cell if the number does not keep its bounds.

    nbval blanks the value, which differs from machine to machine, by tests/nbval-sanitize.cfg; it compares the rest.

    Args:
        name: what was measured.
        value: one number, or several that all keep the bounds.
        above, below: bounds, not reached themselves.
        order: what several numbers must be from left to right, strictly.

    Raises:
        ValueError: if no bound is named, or the name holds two spaces in a row.
        AssertionError: if a number is NaN or breaks a bound.
    """
    values = [float(number) for number in (value if isinstance(value, Sequence) else [value])]
    shown, bounds, kept = " ".join(map(_three_digits, values)), [], all(number == number for number in values)
    if above is not None:
        bounds.append(f"> {above:g}")
        kept &= min(values) > above
    if below is not None:
        bounds.append(f"< {below:g}")
        kept &= max(values) < below
    if order is not None:
        bounds.append(order)
        kept &= all(a < b if order == "rising" else a > b for a, b in itertools.pairwise(values))
    if not bounds or "  " in name:
        raise ValueError(f"{name!r} needs above, below or order, and no two spaces in a row")
    if not kept:
        raise AssertionError(f"{name}: {shown} must be {', '.join(bounds)}")
    print(f"{name:<32}  {shown:>8}   {', '.join(bounds)} ✓")


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if 999.5 <= abs(number) < 1e7 else f"{number:.3g}"
