"""`make evidence` shows what each result takes with other seeds, and which of them break its bounds."""

from __future__ import annotations

import evidence
import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

import companion.results

CELLS = (
    "%matplotlib inline\nimport torch\nfrom companion.results import result\ntorch.manual_seed(0)",
    "x = torch.rand(()).item()\nresult('uniform', x, above=0.4, below=0.6)",
    "result('uniform', [x, x + 1], order='rising')",
    "g = torch.Generator().manual_seed(3)\nresult('drawn', torch.rand((), generator=g), above=0)",
)


def drawn(seed: int) -> float:
    return torch.rand((), generator=torch.Generator().manual_seed(seed)).item()


@pytest.fixture(autouse=True)
def chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[nbformat.NotebookNode] = [new_code_cell(source) for source in CELLS]
    monkeypatch.setattr(evidence.notebooks, "read", lambda name: new_notebook(cells=cells))


@pytest.mark.parametrize("by", [0, 1000])
def test_every_seed_is_shifted_and_a_broken_bound_is_marked(by: int) -> None:
    seen = evidence.run("01-a", by)
    x = drawn(by)
    broken = "" if 0.4 < x < 0.6 else "!"
    assert seen["uniform"] == ("above 0.4, below 0.6", f"{x:.4g}{broken}")
    assert list(seen.values())[1] == ("order rising", f"{x:.4g} {x + 1:.4g}")
    assert seen["drawn"] == ("above 0", f"{drawn(3 + by):.4g}")


def test_some_seed_breaks_the_bound_and_nothing_stays_shifted() -> None:
    marks = [evidence.run("01-a", by)["uniform"][1].endswith("!") for by in (0, 1000, 2000, 3000)]
    assert True in marks
    torch.manual_seed(0)
    assert torch.rand(()).item() == drawn(0)
    assert companion.results.result.__module__ == "companion.results"
