"""Live figures: their place in the page, a small page for each alone, and what shares that."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from search import plain
from sphinx.application import Sphinx

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
#: Heights of each page's live figures in pixels: on a narrow phone, on a wide one, on a larger screen.
HEIGHTS = json.loads(Path(__file__).with_name("heights.json").read_text(encoding="utf-8"))
SCREENS = "narrow", "phone", "desk"
FRAME = 150  # pixels that the title and the link take above and below a figure on its own page
FOLDER = "embed"
#: Live figures at rest (book/picture.py draws them), by name and language.
STILLS = Path(__file__).parents[1] / "_static"
#: What page.js replaces by the address of the page's folder where `site_url` does not say it.
HERE = "{here}"

TEXTS = {
    "ko": {
        "no_script": "이 그림은 JavaScript를 켜면 움직인다.",
        "share": "공유",
        "share_how": "이 그림만 따로 보내거나 다른 페이지에 넣기",
        "address": "이 그림만 있는 페이지의 주소",
        "code": "다른 페이지에 넣는 HTML",
        "open": "그 페이지 열기",
        "back": "책에서 읽기",
    },
    "en": {
        "no_script": "This figure moves when JavaScript is on.",
        "share": "Share",
        "share_how": "Send this figure alone, or put it into another page",
        "address": "Address of a page with this figure alone",
        "code": "HTML that puts it into another page",
        "open": "Open that page",
        "back": "Read about it",
    },
}


def stored(state: dict, model: str) -> dict:
    """The entries of a notebook's widget state that a model needs: its own and those that it refers to."""
    found: dict = {}
    wanted = [model]
    while wanted:
        name = wanted.pop()
        if name not in found and name in state:
            found[name] = state[name]
            wanted += re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[name]["state"]))
    return found


def _place(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A live figure's place: as high as it will be (book/heights.py measures that), or why it does not move; its own
    page and, below the figure, the button that tells its address."""
    lang = app.config.language
    taken: list[str] = []
    heights = iter(HEIGHTS.get(f"{lang}/{docname}", ()))
    for view in [node for node in doctree.findall(nodes.raw) if VIEW in node.astext()]:
        sizes = dict(zip(SCREENS, next(heights, ()), strict=False))
        style = "; ".join(f"--{name}: {height}px" for name, height in sizes.items())
        about = _alone(app, view, docname, taken)
        still = f"{about['name']}-{lang}.webp"
        about["still"] = still if (STILLS / still).exists() else ""
        about["height"] = sizes.get(SCREENS[-1], 0) + FRAME
        place = app.builder.templates.render("live.html", {**TEXTS[lang], **about, "style": style})
        view.parent.insert(view.parent.index(view) + 1, nodes.raw("", place, format="html"))


def _alone(app: Sphinx, view: nodes.raw, docname: str, taken: list[str]) -> dict[str, str]:
    """Write a figure's own page; returns the figure's title, the page's name and its address."""
    lang, base = app.config.language, app.config.site_url
    cell = next(node for node in _above(view) if "cell" in node.get("classes", ()))
    caption = cell.next_node(descend=False, siblings=True)
    section = next(node for node in _above(view) if isinstance(node, nodes.section))
    title = plain(section.next_node(nodes.title))
    anchor = section["ids"][0]
    name = docname
    if caption is not None and "figure-caption" in caption.get("classes", ()):
        name = anchor = caption["ids"][0]
        title = f"{caption.next_node(nodes.strong).astext().rstrip('.')} · {title}"
    taken.append(name)
    if taken.count(name) > 1:
        name = f"{name}-{taken.count(name)}"
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    notebook = json.loads((Path(app.srcdir) / f"{docname}.ipynb").read_text(encoding="utf-8"))
    model = json.loads(re.sub("<.*?>", "", view.astext()))["model_id"]
    state = {"state": stored(notebook["metadata"]["widgets"][STATE]["state"], model)}
    page = app.builder.templates.render(
        "embed.html",
        {
            **TEXTS[lang],
            "lang": lang,
            "title": title,
            "book": app.config.html_title,
            "source": f"../{docname}.html#{anchor}",
            "state": json.dumps(state, ensure_ascii=False).replace("</", "<\\/"),
            "view": view.astext(),
        },
    )
    (folder / f"{name}.html").write_text(page, encoding="utf-8", newline="\n")
    return {"title": title, "name": name, "url": f"{f'{base}{lang}' if base else HERE}/{FOLDER}/{name}.html"}


def _above(node: nodes.Node) -> list[nodes.Element]:
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", _place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
