"""Show the code that is the mathematics, at the place in a chapter where the formula stands."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator

from IPython.display import Markdown

#: What a line may take, so that no page has to scroll sideways.
WIDTH = 79


def show_source(*objects: Callable) -> Markdown:
    """The source of functions or methods, highlighted wherever the notebook is read.

    Left out is what is no mathematics: docstrings, decorators, annotations and checks of arguments.
    """
    return Markdown("```python\n" + "\n\n".join(map(_mathematics, objects)) + "\n```")


def _mathematics(item: Callable) -> str:
    source = textwrap.dedent(inspect.getsource(item))
    definition = ast.parse(source).body[0]
    lines = [line.encode() for line in source.splitlines()]  # ast counts bytes
    body = definition.body[ast.get_docstring(definition) is not None :]
    checks = [node for node in ast.walk(definition) if _is_check(node) and node.lineno == node.end_lineno]
    for call in sorted(checks, key=lambda node: node.col_offset, reverse=True):
        line, checked = lines[call.lineno - 1], ast.get_source_segment(source, call.args[1])
        lines[call.lineno - 1] = line[: call.col_offset] + checked.encode() + line[call.end_col_offset :]
    dropped = {row for node in _guards(body) for row in range(node.lineno, node.end_lineno + 1)}
    kept = [line.decode() for row, line in enumerate(lines, 1) if row >= body[0].lineno and row not in dropped]
    return "\n".join([_signature(definition), *kept]).rstrip()


def _guards(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that only check: a bare call of check_…, and an if that ends in raise."""
    for node in body:
        bare = isinstance(node, ast.Expr) and _is_check(node.value)
        if bare or (isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise) and not node.orelse):
            yield node
        for part in ("body", "orelse"):
            if isinstance(node, ast.If | ast.For | ast.While | ast.With):
                yield from _guards(getattr(node, part, []))


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("check_")


def _signature(definition: ast.FunctionDef) -> str:
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    head = f"def {definition.name}("
    text = f"{head}{ast.unparse(definition.args)}):"
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent=" " * len(head)))
