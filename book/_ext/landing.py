"""The first page: a picture in each card of the contents, and the script that writes the reader's name.

A card is a list item that starts with a link to a page. Its picture is a figure of that page's stored outputs.
"""

from __future__ import annotations

import html
import struct
from pathlib import Path, PurePosixPath

from docutils import nodes
from figures import drawn
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
#: The figure of a page's card, and which of its pictures; of other pages it is the first that there is.
FIGURES = {
    "01-latent": ("1.5", 0),
    "02-ppca": ("2.2", 1),
    "03-vae": ("3.9", 0),
    "04-gan": ("4.3", 0),
    "05-diffusion": ("5.2", 0),
}
#: What the script consists of: the network runs by the same code as in chapter 5's live figure.
SCRIPT = ("companion/widgets/common.js", "companion/widgets/denoiser.js", "book/_static/writer.js")


def picture(notebook: Path) -> tuple[bytes, str] | None:
    """The picture of a page's card and its description; None if the page has none."""
    found = drawn(notebook)
    chosen, place = FIGURES.get(notebook.stem, (None, 0))
    for number, panels, alt in found:
        if number == chosen:
            return panels[place], alt
    return (found[0][1][0], found[0][2]) if found else None


def _illustrate(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname != app.config.root_doc:
        return
    folder = Path(app.outdir) / "_static" / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    for item in doctree.findall(nodes.list_item):
        link = item.next_node(nodes.reference)
        if link is None or not item.astext().startswith(link.astext()):
            continue
        name = PurePosixPath(link.get("refuri", "")).stem
        chosen = picture(Path(app.srcdir) / f"{name}.ipynb")
        if chosen:
            content, alt = chosen
            (folder / f"{name}.png").write_bytes(content)
            width, height = struct.unpack(">II", content[16:24])
            about = f'width="{width}" height="{height}" loading="lazy" alt="{html.escape(alt)}"'
            element = f'<img class="chapter-picture" src="_static/cards/{name}.png" {about}>'
            item += nodes.raw("", element, format="html")


def script() -> str:
    """The page's script, one ES module."""
    return "\n".join((ROOT / part).read_text(encoding="utf-8") for part in SCRIPT)


def _write_script(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        (Path(app.outdir) / "_static" / "writer.js").write_text(script(), encoding="utf-8", newline="\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", _illustrate)
    app.connect("build-finished", _write_script)
    app.add_css_file("landing.css", priority=910)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
