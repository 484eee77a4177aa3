"""What holds of every self-check: the chapter's solution passes it, and an untouched stub is no failure."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re

import jupytext
import notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

import companion.exercises

MODULES = [
    importlib.import_module(f"companion.exercises.{m.name}") for m in pkgutil.iter_modules(companion.exercises.__path__)
]
CHECKS = {
    name.removeprefix("check_").replace("_", "."): (module, getattr(module, name))
    for module in MODULES
    for name in vars(module)
    if name.startswith("check_")
}
#: Their solutions train for long, and the notebooks run them.
TRAINED = {"3.5", "3.8"}
#: Its answer is not a function.
VALUE = {"3.5"}


def solutions() -> dict[str, str]:
    """Each exercise's solution cell up to its check, after the solutions that it builds upon."""
    pages = [notebooks.CHAPTERS / f"{name}.md" for name in notebooks.chapters()]
    cells = [cell.source for page in pages for cell in jupytext.read(page, fmt="md:myst").cells]
    found = {}
    for source in cells:
        title = re.match(r"#@title 풀이 · Solution ([A\d]\.\d+)\n", source)
        if title and title[1] in CHECKS:
            check = re.search(rf"(?ms)^check_{title[1].replace('.', '_')}\(.*?\)$", source)
            found[title[1]] = source[: check.end()] if check else source
    found["3.2"] = re.sub(r"(?m)^check_.*$", "", found["3.1"]) + "\n" + found["3.2"]
    return found


SOLUTIONS = solutions()


def test_every_check_has_its_solution() -> None:
    assert SOLUTIONS.keys() == CHECKS.keys()


@pytest.mark.parametrize("number", sorted(CHECKS.keys() - TRAINED))
@pytest.mark.slow
def test_the_chapters_solution_passes(number: str, capsys: pytest.CaptureFixture) -> None:
    module, _ = CHECKS[number]
    exec(SOLUTIONS[number], {"torch": torch, "np": np, "math": math, "F": F, "Normal": Normal, **vars(module)})
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize("number", sorted(CHECKS))
@pytest.mark.parametrize("empty", [None, ..., (..., ...)])
def test_an_untouched_stub_is_no_failure(number: str, empty: object, capsys: pytest.CaptureFixture) -> None:
    _, check = CHECKS[number]
    check(empty if number in VALUE else lambda *_: empty)
    assert "○" in capsys.readouterr().out
