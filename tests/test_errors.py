"""What `make errors` measures and writes."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import errors
import pytest
import torch


@pytest.mark.parametrize(
    ("actual", "expected", "rtol", "atol", "kept"),
    [
        (1 + 1e-12, 1.0, 0, 1e-9, ("difference", 1e-12, 1e-9)),
        (torch.tensor([100.5]), torch.tensor([100.0]), 0.01, 1e-9, ("relative", 0.005, 0.01)),
        ([3e-7], [0.0], 0.01, 1e-6, ("difference", 3e-7, 1e-6)),
        (1 + 2j, 1 + 1.5j, 0, 1, ("difference", 0.5, 1)),
        ([-math.inf, 2.0], [-math.inf, 1.5], 0, 1, ("difference", 0.5, 1)),
    ],
)
def test_a_comparison_is_kept_as_its_test_allows_it(actual, expected, rtol, atol, kept) -> None:
    recorder = errors.Recorder()
    recorder.differ(actual, expected, rtol, atol)
    ((kind, error, allowed),) = recorder.running
    assert (kind, error, allowed) == (kept[0], pytest.approx(kept[1], rel=1e-3), pytest.approx(kept[2]))


def test_draws_are_counted_in_standard_errors() -> None:
    recorder = errors.Recorder()
    within = recorder.counting(lambda draws, truth, errors=4.5: None)
    draws = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)  # of standard error 1
    within(draws, torch.tensor([1.0, 4.0]))
    assert recorder.running == [("standard_errors", 0, 4.5), ("standard_errors", pytest.approx(2), 4.5)]


def test_the_table_keeps_the_closest_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "TABLE", tmp_path / "errors.toml")
    drawn = [("standard_errors", 1.234, 4.5), ("standard_errors", 0.1, 4.5)]
    errors.write({"1.3": [], "1.2": [("difference", 1e-12, 1e-9), ("relative", 0.0123, 0.02)], "1.1": drawn})
    table = tomllib.loads(errors.TABLE.read_text())
    assert table.pop("torch") in torch.__version__
    assert table == {
        "1.1": {"numbers": 2, "standard_errors": [1.2, 4.5]},
        "1.2": {"numbers": 2, "relative": [0.01, 0.02]},
        "1.3": {"numbers": 0},
    }
    assert list(table) == ["1.1", "1.2", "1.3"]
