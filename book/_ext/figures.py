"""The figures' captions and what refers to them.

A derived page holds a figure's caption as a paragraph below it that starts with "**Figure 3.4.**". On the site the
paragraph becomes a caption with an anchor, and "Figure 3.4" in the prose a link to it.
"""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from references import UNTOUCHED, link, permalink
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NUMBER = re.compile(r"(?:그림|[Ff]igure) ((?:\d+|[A-Z])\.\d+)")
CAPTION = re.compile(rf"\*\*{NUMBER.pattern}\.\*\*")
ADDRESS = {"ko": "이 그림의 주소", "en": "Link to this figure"}


@lru_cache(2)
def _pages(folder: Path) -> dict[str, str]:
    """The page on which each figure stands, by its number."""
    return {
        number: path.stem
        for path in sorted(folder.glob("*.ipynb"))
        for number in CAPTION.findall(path.read_text(encoding="utf-8"))
    }


@lru_cache
def drawn(notebook: Path) -> list[tuple[str, tuple[bytes, ...], str]]:
    """The figures among a notebook's outputs, none without the file: of each the number, empty without a caption, the
    panels as PNG files, and the text for those who do not see it."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook.exists() else []
    found = []
    for cell, below in zip(cells, [*cells[1:], {"source": ""}], strict=False):
        panels = [
            output["data"]["image/png"] for output in cell.get("outputs", ()) if "image/png" in output.get("data", ())
        ]
        if panels:
            number = CAPTION.match("".join(below["source"]))
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            found.append((number[1] if number else "", tuple(base64.b64decode("".join(one)) for one in panels), alt))
    return found


class Captions(SphinxTransform):
    default_priority = 400

    def apply(self) -> None:
        pages = _pages(Path(self.env.srcdir))
        for paragraph in self.document.findall(nodes.paragraph):
            first = next((node for node in paragraph.children if node.astext()), None)
            number = NUMBER.fullmatch(first.astext().rstrip(".")) if isinstance(first, nodes.strong) else None
            if number:
                paragraph["ids"].append(anchor(number[1]))
                paragraph += permalink(anchor(number[1]), ADDRESS[self.config.language])
                paragraph["classes"].append("figure-caption")
        for output in self.document.findall(nodes.container):
            if "cell_output" in output["classes"]:
                for panel in list(output.findall(nodes.image))[1:]:
                    panel["alt"] = ""  # the first one's text describes them all
        untouched = (*UNTOUCHED, nodes.strong)  # which holds the captions' own numbers
        link(self.document, NUMBER, lambda number: place(pages, number), "figure-link", untouched)


def place(pages: dict[str, str], number: str) -> tuple[str, str] | None:
    return (pages[number], anchor(number)) if number in pages else None


def anchor(number: str) -> str:
    return f"figure-{number.lower().replace('.', '-')}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Captions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
