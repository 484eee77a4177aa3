"""The first page: a picture in each card of the contents, and the script that writes the reader's name.

A card is a list item that starts with a link to a page. Its picture is a figure of that page's stored outputs.
"""

from __future__ import annotations

import base64
import html
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
#: The figure of a page's card, and which of its pictures; of other pages it is the first that there is.
FIGURES = {"01-latent": ("1.5", 0), "02-ppca": ("2.2", 1), "03-vae": ("3.9", 0), "04-gan": ("4.3", 0), "05-diffusion": ("5.2", 0)}
#: What the script consists of: the network runs by the same code as in chapter 5's live figure.
SCRIPT = ("companion/widgets/common.js", "companion/widgets/denoiser.js", "book/_static/writer.js")


def pictures(path: Path) -> Iterator[tuple[str, int, bytes, str]]:
    """The PNGs among a notebook's outputs: number of the figure, place in it, content, description."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell, after in zip(cells, [*cells[1:], {"source": ""}], strict=True):
        number = re.match(r"\*\*\D+(\d+\.\d+)\.\*\*", "".join(after["source"]))
        found = [output["data"]["image/png"] for output in cell.get("outputs", ()) if "image/png" in output.get("data", ())]
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        for place, content in enumerate(found):
            yield number[1] if number else "", place, base64.b64decode("".join(content)), alt


def card(app: Sphinx, name: str) -> str:
    """The picture of a page's card, as HTML; empty if the page has none."""
    source = Path(app.srcdir) / f"{name}.ipynb"
    found = list(pictures(source)) if source.exists() else []
    chosen = [picture for picture in found if picture[:2] == FIGURES.get(name)] or found[:1]
    if not chosen:
        return ""
    _, _, content, alt = chosen[0]
    folder = Path(app.outdir) / "_static" / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(content)
    width, height = struct.unpack(">II", content[16:24])
    size = f'width="{width}" height="{height}"'
    return f'<img class="card" src="_static/cards/{name}.png" {size} loading="lazy" alt="{html.escape(alt)}">'


def _illustrate(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname != app.config.root_doc:
        return
    for item in doctree.findall(nodes.list_item):
        link = item.next_node(nodes.reference)
        if link is not None and item.astext().startswith(link.astext()):
            item += nodes.raw("", card(app, PurePosixPath(link.get("refuri", "")).stem), format="html")


def _load(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if pagename == app.config.root_doc:
        app.add_css_file("landing.css", priority=910)


def _write_script(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        parts = [(ROOT / part).read_text(encoding="utf-8") for part in SCRIPT]
        (Path(app.outdir) / "_static" / "writer.js").write_text("\n".join(parts), encoding="utf-8", newline="\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", _illustrate)
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
