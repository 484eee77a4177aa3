"""The code that chapters show is the code that runs, without what is no mathematics."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import torch

from companion.checks import check_int
from companion.source import WIDTH, show_source

ROOT = Path(__file__).resolve().parent.parent


def shown(*items) -> str:
    return show_source(*items).data.removeprefix("```python\n").removesuffix("\n```")


def halved(x: torch.Tensor, k: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Half of x, and a half once more, 1 to k times.

    Args:
        x: shape (n,).
    """
    check_int("k", k)
    if not len(x):
        what = "μ is empty"
        raise ValueError(what)
    σ = x  # a name of two bytes before the checks
    for _ in range(check_int("k", k)):
        if k > 10_000:
            raise ValueError("k is too large")
        σ, λ = σ / check_int("two", 2), check_int("k", k)
    if λ:
        return σ
    return x


@torch.no_grad()
def with_a_signature_that_is_long(first_argument: int, second_argument: int, third_argument: int = 12_345) -> int:
    return first_argument + second_argument + third_argument


def test_what_is_shown_is_the_mathematics() -> None:
    assert shown(halved) == (
        "def halved(x, k, *, generator=None):\n"
        "    σ = x  # a name of two bytes before the checks\n"
        "    for _ in range(k):\n"
        "        σ, λ = σ / 2, k\n"
        "    if λ:\n"
        "        return σ\n"
        "    return x"
    )


def test_what_is_shown_computes_the_same() -> None:
    space: dict = {}
    exec(shown(halved), space)
    x = torch.tensor([8.0, 2.0])
    assert space["halved"](x, 3).tolist() == halved(x, 3).tolist() == [1, 0.25]


def test_a_long_signature_is_folded_and_its_decorator_left_out() -> None:
    text = shown(with_a_signature_that_is_long)
    assert text.startswith("def with_a_signature_that_is_long(")
    assert max(map(len, text.splitlines())) <= 79
    assert [argument.arg for argument in ast.parse(text).body[0].args.args][2] == "third_argument"


def test_several_are_shown_one_after_the_other_and_highlighted() -> None:
    assert show_source(halved, halved).data == f"```python\n{shown(halved)}\n\n{shown(halved)}\n```"


def test_code_on_the_pages_needs_no_scrolling() -> None:
    wide = []
    for path in sorted((ROOT / "book" / "en").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                shown = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
                code = [text for text in shown if not text.startswith("|")]  # a table scrolls by itself
                lines = "\n".join([cell.source, *code]).splitlines()
                wide += [f"{path.stem}: {line}" for line in lines if len(line) > WIDTH and "git+" not in line]
    assert wide == []


def test_no_page_shows_the_call_that_shows_the_code() -> None:
    for path in sorted((ROOT / "book" / "en").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "show_source(" in cell.source:
                tags = cell.metadata.get("tags", [])
                assert {"remove-input", "hide-cell"} & set(tags), f"{path.stem}: {cell.source}"
