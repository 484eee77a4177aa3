"""The text of a page; numbers in it, of formulas and of figures, become links."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from docutils import nodes

UNTOUCHED = nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.reference, nodes.title, nodes.raw


def markdown(folder: Path, page: str) -> str:
    """The text of an edition's page, without its code cells."""
    notebook = folder / f"{page}.ipynb"
    if not notebook.exists():
        return (folder / f"{page}.md").read_text(encoding="utf-8-sig")
    cells = json.loads(notebook.read_text(encoding="utf-8-sig"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def link(
    document: nodes.document,
    pattern: re.Pattern[str],
    place: Callable[[str], tuple[str, str] | None],
    css: str,
    untouched: tuple[type[nodes.Node], ...] = UNTOUCHED,
) -> None:
    """Make what the pattern matches a link to the page and anchor that `place` gives for its first group, if any."""
    here = document.settings.env.docname
    for text in list(document.findall(nodes.Text)):
        node, inside = text.parent, False
        while node is not None and not inside:
            node, inside = node.parent, isinstance(node, untouched)
        if inside:
            continue
        parts, end = [], 0
        for match in pattern.finditer(text):
            found = place(match[1])
            if found is not None:
                page, anchor = found
                address = f"{'' if page == here else f'{page}.html'}#{anchor}"
                parts.append(nodes.Text(text[end : match.start()]))
                parts.append(nodes.reference("", match[0], refuri=address, internal=True, classes=[css]))
                end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def permalink(anchor: str, title: str) -> nodes.raw:
    """What a heading has on the site, for other places: a # that leads to the place itself."""
    return nodes.raw("", f'<a class="headerlink" href="#{anchor}" title="{title}">#</a>', format="html")
