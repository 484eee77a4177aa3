"""A result shows its number and fails its cell where a bound is broken; nbval blanks the number, no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from companion.results import result

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("value", "bounds", "line"),
    [
        (0.00512, {"below": 0.05}, "legible                            0.00512   < 0.05 ✓"),
        (
            torch.tensor(0.46),
            {"above": 0.33, "below": 2 / 3},
            "legible                               0.46   > 0.33, < 0.666667 ✓",
        ),
        ([0.03, 0.8, 0.991], {"order": "rising"}, "legible                           0.03 0.8 0.991   rising ✓"),
        (
            [-7, -1e-9, 12345.6],
            {"order": "rising", "above": -8},
            "legible                           -7 -1e-09 12346   > -8, rising ✓",
        ),
        (3, {"above": 2}, "legible                                  3   > 2 ✓"),
    ],
)
def test_a_line_says_number_and_bounds(value, bounds, line, capsys) -> None:
    result("legible", value, **bounds)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0.05, {"below": 0.05}),
        (0.33, {"above": 0.33}),
        (float("nan"), {"below": 1}),
        (float("nan"), {"order": "rising"}),
        ([0.1, 0.3], {"below": 0.2}),
        ([0.1, 0.3], {"above": 0.2}),
        ([0.1, 0.1], {"order": "rising"}),
        ([0.1, 0.2], {"order": "falling"}),
        ([2, float("nan"), 1], {"order": "falling"}),
    ],
)
def test_a_broken_bound_fails_and_shows_the_number(value, bounds, capsys) -> None:
    with pytest.raises(AssertionError, match=r"legible: \S+.* must be (?:[<>]|rising|falling)"):
        result("legible", value, **bounds)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "bounds"), [("legible", {}), ("two  spaces", {"above": 0})])
def test_a_result_without_a_bound_or_with_a_name_that_nbval_cannot_tell_is_refused(name, bounds) -> None:
    with pytest.raises(ValueError, match="needs above, below or order"):
        result(name, 1, **bounds)


CELL = """from companion.results import result
result("share at k = 2", {share}, above=0.2, below=0.5)
result("rising at w = 0, 1", [0.1, {share}], order="rising")
print("count = {count}")"""


def stored(share: float = 0.31, above: float = 0.2, count: int = 7) -> str:
    return (
        f"share at k = 2                        {share}   > {above}, < 0.5 ✓\n"
        f"rising at w = 0, 1                0.1 {share}   rising ✓\n"
        f"count = {count}\n"
    )


CASES = {
    "the same": ({"share": 0.31, "count": 7}, stored(), True),
    "another number inside its bounds": ({"share": 0.4987654, "count": 7}, stored(), True),
    "another exact number": ({"share": 0.31, "count": 8}, stored(), False),
    "a number above its bound": ({"share": 0.51, "count": 7}, stored(), False),
    "a number below its bound": ({"share": 0.05, "count": 7}, stored(), False),
    "another bound": ({"share": 0.31, "count": 7}, stored(above=0.1), False),
    "one line less": ({"share": 0.31, "count": 7}, stored() + "one more\n", False),
}


@pytest.mark.slow
def test_nbval_compares_what_must_hold(tmp_path: Path) -> None:
    cells = [
        new_code_cell(
            CELL.format(**run), outputs=[new_output("stream", name="stdout", text=output)], execution_count=count
        )
        for count, (run, output, _) in enumerate(CASES.values(), 1)
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
    options = [f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval-sanitize.cfg'}", "--junitxml=report.xml", "a.ipynb"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, *options], capture_output=True, check=False, env=environment, cwd=tmp_path)
    tests = ElementTree.parse(tmp_path / "report.xml").iter("testcase")
    passed = dict(zip(CASES, [test.find("failure") is None for test in tests], strict=True))
    assert passed == {name: passes for name, (_, _, passes) in CASES.items()}


def test_make_blanks_the_numbers_by_this_file() -> None:
    assert "--nbval-sanitize-with=tests/nbval-sanitize.cfg" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_no_output_of_the_book_says_true_or_false() -> None:
    bare = [
        f"{path.parent.name}/{path.stem}: {line}"
        for path in sorted((ROOT / "book").glob("[ek][no]/*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        for line in (output.get("text") or output.get("data", {}).get("text/plain", "")).splitlines()
        if re.search(r"\b(True|False)\b", line)
    ]
    assert bare == []
