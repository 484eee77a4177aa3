"""What search engines and previews in social media read of a page: its title, description, address and picture.

They want whole addresses, so as long as `site_url` in `_config.yml` is empty there are no canonical addresses, none of
the other edition, no site map and no pictures: a made-up address would lead them astray.
"""

from __future__ import annotations

import io
from html import escape
from pathlib import Path

from docutils import nodes
from figures import drawn
from PIL import Image
from search import plain
from sphinx.application import Sphinx

LOCALES = {"ko": "ko_KR", "en": "en_US"}
SIZE = (1200, 630)  # what previews show without cutting
MARGIN = 60


def description(doctree: nodes.document | None) -> str:
    """The page's first paragraph of prose, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        text = plain(paragraph)
        if len(text) > 40:
            return text if len(text) <= 160 else text[:160].rsplit(" ", 1)[0] + " …"
    return ""


def first_figure(notebook: Path) -> tuple[tuple[bytes, ...], str] | None:
    """The panels of a notebook's first figure as PNG files, and its text for those who do not see it."""
    return next((figure[1:] for figure in drawn(notebook)), None)


def preview(panels: tuple[bytes, ...]) -> bytes:
    """The panels on one picture of 1200 × 630 pixels, in as many lines as make them largest, as a PNG file."""
    images = [Image.open(io.BytesIO(panel)).convert("RGBA") for panel in panels]
    width, height = max(image.width for image in images), max(image.height for image in images)
    space = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN

    def scale(columns: int) -> float:
        return min(space[0] / (columns * width), space[1] / (-(-len(images) // columns) * height))

    columns = max(range(1, len(images) + 1), key=scale)
    factor, lines = scale(columns), -(-len(images) // columns)
    picture = Image.new("RGB", SIZE, "white")
    for index, image in enumerate(images):
        line, column = divmod(index, columns)
        small = image.resize(
            (max(1, int(factor * image.width)), max(1, int(factor * image.height))), Image.Resampling.LANCZOS
        )
        left = SIZE[0] / 2 + factor * width * (column - columns / 2) + (factor * width - small.width) / 2
        top = SIZE[1] / 2 + factor * height * (line - lines / 2) + (factor * height - small.height) / 2
        picture.paste(small, (int(left), int(top)), small)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def pictured(folder: Path, page: str, pages: list[str]) -> str | None:
    """The page whose first figure stands for this one: its own, or the book's first if it has none."""
    return next((name for name in [page, *pages] if first_figure(folder / f"{name}.ipynb")), None)


def alternates(base: str, page: str) -> dict[str, str]:
    """The addresses of a page in each language, and of what picks one: whole, or none that would be ignored."""
    if not base:
        return {}
    return {lang: f"{base}{lang}/{page}.html" for lang in LOCALES} | {"x-default": base}


def write_root_files(site: Path, base: str, folders: dict[str, Path], pages: list[str]) -> None:
    """robots.txt and, where the site's address is known, its map and the pictures of its pages."""
    robots = "User-agent: *\nAllow: /\n" + (f"Sitemap: {base}sitemap.xml\n" if base else "")
    (site / "robots.txt").write_text(robots, encoding="utf-8", newline="\n")
    if not base:
        return
    entries = []
    for page in pages:
        links = "".join(
            f'<xhtml:link rel="alternate" hreflang="{lang}" href="{escape(f"{base}{lang}/{page}.html")}"/>'
            for lang in folders
        )
        entries += [f"<url><loc>{escape(f'{base}{lang}/{page}.html')}</loc>{links}</url>\n" for lang in folders]
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:xhtml="http://www.w3.org/1999/xhtml"'
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset {space}>\n{"".join(entries)}</urlset>\n'
    (site / "sitemap.xml").write_text(text, encoding="utf-8", newline="\n")
    (site / "previews").mkdir()
    folder = next(iter(folders.values()))
    for page in pages:
        figure = first_figure(folder / f"{page}.ipynb")
        if figure:
            (site / "previews" / f"{page}.png").write_bytes(preview(figure[0]))


def _page_context(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    lang, base, folder = app.config.language, app.config.site_url, Path(app.srcdir)
    pages = [app.config.root_doc, *app.env.toctree_includes.get(app.config.root_doc, [])]
    picture = pictured(folder, pagename, pages) if base else None
    context["head"] = {
        "description": description(doctree) or description(app.env.get_doctree(app.config.root_doc)),
        "locale": LOCALES[lang],
        "other_locale": next(locale for name, locale in LOCALES.items() if name != lang),
        "alternates": alternates(base, pagename),
        "url": f"{base}{lang}/{pagename}.html" if base else None,
        "picture": f"{base}previews/{picture}.png" if picture else None,
        "size": SIZE,
        "alt": first_figure(folder / f"{picture}.ipynb")[1] if picture else "",
    }


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("site_url", "", "html", types=str)
    app.connect("html-page-context", _page_context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
