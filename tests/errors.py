"""What the tests of the formulas measure: `make errors` runs them and writes `errors.toml`.

Of each formula, over all its tests, the comparison that came closest to its tolerance, and the mean of draws that lay
furthest from the truth, in standard errors. Seen are the comparisons of torch, NumPy and pytest.approx that hold, and
the tests' own `within`; an inequality that a test asserts by itself leaves no error to measure.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from equations import ERRORS, formulas
from torch.testing._comparison import default_tolerances

TESTS = Path(__file__).resolve().parent
TABLE = TESTS / ERRORS


class Recorder:
    """A pytest plugin that keeps, of each formula, (kind, error, what its test allows) of all its comparisons."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
        self.running: list[tuple[str, float, float]] = []

    def differ(self, actual: object, expected: object, rtol: float, atol: float) -> None:
        """Keep a comparison of finite numbers, relative to the expected one where that is what the test allows."""
        a, b = (
            np.ravel(value.detach().cpu() if isinstance(value, torch.Tensor) else value).astype(complex)
            for value in (actual, expected)
        )
        a, b = (side[np.isfinite(b)] for side in np.broadcast_arrays(a, b))
        for error, size in zip(np.abs(a - b), np.abs(b), strict=True):
            if rtol * size > atol:
                self.running.append(("relative", float(error / size), rtol))
            else:
                self.running.append(("difference", float(error), atol + rtol * float(size)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self.running = []
        yield
        for mark in item.iter_markers("equation"):
            for number in mark.args:
                self.found[number] += self.running

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.watch()
        for module in {item.module for item in session.items}:
            if inspect.isfunction(getattr(module, "within", None)):
                module.within = self.counting(module.within)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK:
            write(self.found)

    def watch(self) -> None:
        """Let every comparison tell how it came out."""
        assert_close, allclose, assert_allclose = (
            torch.testing.assert_close,
            torch.allclose,
            np.testing.assert_allclose,
        )
        approx = type(pytest.approx(1.0))
        equal = approx.__eq__

        def torch_close(actual, expected, *, rtol=None, atol=None, **rest) -> None:
            assert_close(actual, expected, rtol=rtol, atol=atol, **rest)
            self.differ(actual, expected, *(default_tolerances(actual, expected) if rtol is None else (rtol, atol)))

        def torch_allclose(a, b, rtol=1e-5, atol=1e-8, **rest) -> bool:
            holds = allclose(a, b, rtol, atol, **rest)
            if holds and Path(sys._getframe(1).f_code.co_filename).parent == TESTS:  # not a check within the package
                self.differ(a, b, rtol, atol)
            return holds

        def numpy_close(actual, desired, rtol=1e-7, atol=0, **rest) -> None:
            assert_allclose(actual, desired, rtol, atol, **rest)
            self.differ(actual, desired, rtol, atol)

        def approx_equal(expected, actual) -> bool:
            holds = equal(expected, actual)
            if holds and np.ndim(actual) == 0:
                rel = 1e-6 if expected.rel is None and expected.abs is None else expected.rel or 0
                self.differ(actual, expected.expected, rel, 1e-12 if expected.abs is None else expected.abs)
            return holds

        torch.testing.assert_close, torch.allclose = torch_close, torch_allclose
        np.testing.assert_allclose, approx.__eq__ = numpy_close, approx_equal

    def counting(self, within: Callable) -> Callable:
        """The tests' own `within`, which compares a mean of draws with a truth."""
        limit = inspect.signature(within).parameters["errors"].default

        def counted(draws: torch.Tensor, truth: object, errors: float = limit) -> bool | None:
            said = within(draws, truth, errors)
            deviation, error = (draws.mean(0) - truth).abs(), draws.std(0) / math.sqrt(len(draws)) + 1e-12
            self.running += [("standard_errors", ratio, errors) for ratio in (deviation / error).flatten().tolist()]
            return said

        return counted


def write(found: dict[str, list[tuple[str, float, float]]]) -> None:
    """Make the table anew: what a run of some tests alone leaves out is missed by the tests."""
    table: dict[str, dict] = {}
    for number, errors in found.items():
        table[number] = {"numbers": len(errors)}
        for kinds, digits in ((("difference", "relative"), 0), (("standard_errors",), 1)):
            worst = max((x for x in errors if x[0] in kinds), key=lambda x: x[1] / x[2] if x[1] else 0.0, default=None)
            if worst is not None:
                kind, error, allowed = worst
                table[number][kind] = [float(f"{error:.{digits}e}"), float(f"{allowed:.1e}")]
    lines = [f'# What the tests measured, by `make errors`.\ntorch = "{torch.__version__.split("+")[0]}"\n']
    for number in (formula.number for formula in formulas(TESTS.parent / "book" / "chapters")):
        if number in table:
            entries = "".join(f"{key} = {value}\n" for key, value in table[number].items())
            lines.append(f'\n["{number}"]\n{entries}')
    TABLE.write_text("".join(lines), encoding="utf-8", newline="\n")
