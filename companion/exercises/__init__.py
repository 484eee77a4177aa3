"""Self-checks of the exercises: one module per chapter, `check_2_3` for exercise 2.3."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotAnswered(Exception):
    """The reader has not touched the stub yet."""


class Hint(Exception):
    """The answer is wrong; the message says what to look at, in symbols that both editions can show."""


def exercise(checker: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make `check_2_3(answer)` print one verdict and never raise: ✓, ✗ with a hint, or ○ with what is missing."""
    number = checker.__name__.removeprefix("check_").replace("_", ".")

    @functools.wraps(checker)
    def check(answer: Any) -> None:
        try:
            checker(answer)
        except NotAnswered:
            print(f"{number} ○ {stub(answer)}")
        except Hint as hint:
            print(f"{number} ✗ {hint}")
        except Exception as error:
            print(f"{number} ✗ {type(error).__name__}: {error}")
        else:
            print(f"{number} ✓")

    return check


def stub(answer: Any) -> str:
    """What is still to be filled in, in symbols that both editions can read: `kl(…)`, or … for a value."""
    name = getattr(answer, "__name__", "")
    return f"{name}(…)" if name.isidentifier() else "…"


def given(answer: Any) -> Any:
    """The answer itself, or `NotAnswered` where a stub still holds or returns `None` or `...`, alone or in a tuple."""
    if any(part is None or part is ... for part in (answer if isinstance(answer, tuple) else (answer,))):
        raise NotAnswered
    return answer


def close(value: Tensor, truth: Tensor) -> bool:
    """Whether the answer has the shape of the truth and its value to about four digits, in float32 or float64."""
    return value.shape == truth.shape and torch.allclose(value.double(), truth.double(), rtol=1e-4, atol=1e-6)


def expect(condition: Any, hint: str) -> None:
    """Raise the hint unless the condition holds."""
    if not bool(condition):
        raise Hint(hint)


def compare(answer: Tensor, truth: Tensor, otherwise: str, mistakes: dict[str, Tensor]) -> None:
    """Let the truth pass; a known mistake gets its hint, {hint: what it gives}, anything else the last one."""
    if not close(answer, truth):
        raise Hint(next((hint for hint, wrong in mistakes.items() if close(answer, wrong)), otherwise))


def tensor(answer: Any, shape: tuple[int, ...] | None = None, name: str = "") -> Tensor:
    """A tensor, a NumPy array, a number or a list of any of these as a tensor of float64, or a hint at its shape."""
    value = _float64(given(answer), name)
    if shape is not None:
        label = f"{name}.shape" if name else "shape"
        expect(value.shape == shape, f"{label} = {tuple(value.shape)} ≠ {tuple(shape)}")
    return value


def _float64(answer: Any, name: str) -> Tensor:
    """The answer as a tensor of float64 of whatever shape."""
    if isinstance(answer, list | tuple) and answer:
        rows = [_float64(given(part), name) for part in answer]
        shapes = list(dict.fromkeys(str(tuple(row.shape)) for row in rows))
        expect(len(shapes) == 1, f"{name or 'list'}[i].shape: {' ≠ '.join(shapes[:2])}")
        return torch.stack(rows)
    if isinstance(answer, np.ndarray):
        answer = answer.astype(np.float64, order="C")  # torch takes no negative strides
    try:
        return torch.as_tensor(answer, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError):
        prefix = f"{name}: " if name else ""
        raise Hint(f"{prefix}Tensor, np.ndarray, list; not {type(answer).__name__}") from None


def parts(answer: Any, *names: str) -> Any:
    """What a function that returns several values returned, or a hint that names them."""
    answer = given(answer)
    expect(isinstance(answer, tuple | list) and len(answer) == len(names), f"return {', '.join(names)}")
    return answer


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal draws in float64, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()
