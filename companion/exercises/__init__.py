"""Self-checks of the exercises: one module per chapter, `check_2_3` for exercise 2.3."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class NotAnswered(Exception):
    """The reader has not touched the stub yet."""


class Hint(Exception):
    """The answer is wrong; the message says what to look at, in both languages."""


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


def expect(condition: Any, *, ko: str, en: str) -> None:
    """Raise a `Hint` unless the condition holds."""
    if not bool(condition):
        raise Hint(f"{ko}\n      {en}")
