"""The code that chapters show is the code that runs, without its docstring."""

from __future__ import annotations

import ast
import inspect

from companion.ppca import PPCA, closed_form
from companion.source import show_source


def test_source_is_shown_as_highlighted_python_without_docstrings() -> None:
    text = show_source(PPCA.posterior, closed_form).data
    assert text.startswith("```python\ndef posterior(self")
    assert text.endswith("\n```")
    shown = ast.parse(text.removeprefix("```python\n").removesuffix("```")).body
    for definition, original in zip(shown, (PPCA.posterior, closed_form), strict=True):
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(original))).body[0].body
        assert ast.get_docstring(definition) is None
        assert [ast.dump(node) for node in definition.body] == [ast.dump(node) for node in body[1:]]


def test_source_without_a_docstring_is_shown_whole() -> None:
    def square(x: float) -> float:
        return x * x  # exact

    assert show_source(square).data == "```python\ndef square(x: float) -> float:\n    return x * x  # exact\n```"
