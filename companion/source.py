"""Show the code that is the mathematics, at the place in a chapter where the formula stands."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def show_source(*objects: Callable) -> Markdown:
    """The source of functions or methods without docstrings, highlighted wherever the notebook is read."""
    return Markdown("```python\n" + "\n\n".join(_without_docstring(item) for item in objects) + "\n```")


def _without_docstring(item: Callable) -> str:
    source = textwrap.dedent(inspect.getsource(item))
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    if ast.get_docstring(definition) is not None:
        docstring = definition.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(lines).rstrip()
