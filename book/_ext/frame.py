"""What surrounds the text of a page: the switch to the other edition, buttons, call-outs, and the scripts and styles
that serve them."""

from __future__ import annotations

import html
import re
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from references import permalink
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.writers.html import HTMLTranslator

HERE = Path(__file__).resolve().parent
STATIC = HERE.parent / "_static"
COLAB = "https://colab.research.google.com/github"
WHEEL = "companion-{}-py3-none-any.whl"

TEXTS = {
    "ko": {
        "name": "한국어",
        "switch": "한국어로 읽기",
        "colab": "Colab에서 실행",
        "colab_how": "이 페이지를 Colab에서 실행하는 방법",
        "colab_by_hand": '<a href="{notebook}" download>노트북</a>과 <a href="{wheel}" download>패키지</a>를 내려받아, '
        '노트북은 <a href="https://colab.research.google.com/" rel="noopener">Colab</a>의 ‘업로드’에서 열고 '
        "패키지는 그 왼쪽의 ‘파일’에 올린 뒤 셀을 차례로 실행한다.",
        "callout": "이 상자의 주소",
        "exercise": "이 문제의 주소",
        "download": "노트북 내려받기",
        "menu": "차례",
        "on_page": "이 페이지의 내용",
        "hidden": {"source": "코드", "content": "코드와 결과", "output": "결과", "outputs": "결과"},
        "copy": {
            "copy": "복사",
            "copy_to_clipboard": "복사",
            "copy_success": "복사했다",
            "copy_failure": "복사하지 못했다",
        },
    },
    "en": {
        "name": "English",
        "switch": "Read in English",
        "colab": "Run on Colab",
        "colab_how": "How to run this page on Colab",
        "colab_by_hand": 'Download the <a href="{notebook}" download>notebook</a> and the '
        '<a href="{wheel}" download>package</a>, open the notebook under “Upload” on '
        '<a href="https://colab.research.google.com/" rel="noopener">Colab</a>, put the package into “Files” '
        "at its left, and run the cells in order.",
        "callout": "Link to this box",
        "exercise": "Link to this exercise",
        "download": "Download the notebook",
        "menu": "Contents",
        "on_page": "On this page",
        "hidden": {"source": "Code", "content": "Code and output", "output": "Output", "outputs": "Output"},
        "copy": None,
    },
}

#: First word of a blockquote that the site dresses up as a call-out, and its kind.
CALLOUTS = {
    "주의": "caution",
    "caution": "caution",
    "직관": "intuition",
    "intuition": "intuition",
    "참고": "note",
    "note": "note",
    "이": "goals",  # 이 장에서
    "in": "goals",  # In this chapter
    "정리": "summary",
    "summary": "summary",
    "흔한": "mistake",  # 흔한 오해
    "common": "mistake",  # Common mistake
}


class CallOuts(SphinxTransform):
    """Blockquotes that start with a bold **Correction.**, **Caution.**, … become admonitions, mistakes with an id."""

    default_priority = 300

    def apply(self) -> None:
        mistakes = 0
        for quote in list(self.document.findall(nodes.block_quote)):
            first = quote.next_node(nodes.paragraph)
            words = [node for node in first.children if node.astext()] if first is not None else []
            if not words or not isinstance(words[0], nodes.strong):
                continue
            title = words[0].astext().rstrip(" .:")
            kind = CALLOUTS.get(re.split(r"\W", title)[0].lower())
            if kind is None:
                continue
            first.children = words[1:]
            if len(words) > 1 and isinstance(words[1], nodes.Text):
                first.replace(words[1], nodes.Text(words[1].lstrip()))
            heading = nodes.title("", title)
            admonition = nodes.admonition("", heading, classes=["callout", f"callout-{kind}"])
            if kind == "mistake":
                mistakes += 1
                heading += permalink(f"mistake-{mistakes}", TEXTS[self.config.language]["callout"])
                admonition["ids"].append(f"mistake-{mistakes}")
            admonition += quote.children if len(words) > 1 else quote.children[1:]
            quote.replace_self(admonition)


class Exercises(SphinxTransform):
    """A paragraph that starts with a bold **2.3 (code)** can be linked to."""

    default_priority = 300

    def apply(self) -> None:
        for strong in list(self.document.findall(nodes.strong)):
            number, paragraph = re.match(r"(\w+)\.(\d+) \(", strong.astext()), strong.parent
            if number and paragraph.astext().startswith(strong.astext()):
                anchor = f"exercise-{number[1]}-{number[2]}".lower()
                paragraph["ids"].append(anchor)
                paragraph.insert(
                    paragraph.index(strong) + 1, permalink(anchor, TEXTS[self.config.language]["exercise"])
                )


#: U+2060 forbids a line break, U+00A0 is a space that does.
JOINER, TIED = "\u2060", "\u00a0"


class LineBreaks(SphinxTransform):
    """No line starts with the particle or the punctuation that belongs to the formula, bracket or link before it."""

    default_priority = 410  # after the links to formulas

    def apply(self) -> None:
        untouched = nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw
        for parent in {text.parent: None for text in self.document.findall(nodes.Text)}:
            for place, node in enumerate(parent.children):
                if isinstance(node, nodes.Text) and node and not isinstance(parent, untouched):
                    parent[place] = nodes.Text(self.tie(parent.children, place))
        for parent in {formula.parent: None for formula in self.document.findall(nodes.math)}:
            self.keep_together(parent)

    def tie(self, siblings: list[nodes.Node], place: int) -> str:
        words = re.sub(r"(?<=[)\]’”✓%])(?=[가-힣])", JOINER, siblings[place])
        words = re.sub(r"(?<=\d) (?=nat|%)", TIED, words)
        before, after = siblings[place - 1] if place else None, siblings[place + 1 : place + 2]
        if any(isinstance(node, nodes.reference) and "formula-link" in node["classes"] for node in after):
            words = re.sub("식 $", f"식{TIED}", words)
        inline = isinstance(before, nodes.Element) and not isinstance(before, nodes.math)
        return JOINER + words if inline and re.match("[가-힣]", words) else words

    def keep_together(self, parent: nodes.Element) -> None:
        """A browser breaks lines on both sides of a formula, whatever stands there: a span forbids it."""
        word: list[nodes.Node] = []
        children: list[nodes.Node] = []

        def end() -> None:
            formula = any(isinstance(node, nodes.math) for node in word)
            for node in [nodes.inline("", "", *word, classes=["unbroken"])] if formula and word[1:] else word:
                if isinstance(node, nodes.Text) and children and isinstance(children[-1], nodes.Text):
                    node = nodes.Text(children.pop() + node)  # the search wants its neighbours
                children.append(node)
            word.clear()

        for node in parent.children:
            if isinstance(node, nodes.math):
                word.append(node)
            elif isinstance(node, nodes.Text):
                for part in re.split(r"(\s+)", node):
                    if part.isspace():
                        end()
                    if part:
                        word.append(nodes.Text(part))
                    if part.isspace():
                        end()
            else:
                end()
                children.append(node)
        end()
        parent.children = []
        parent.extend(children)


class HiddenCells(SphinxTransform):
    """A hidden cell that starts with `#@title 풀이 · Solution 2.1` is called 풀이 2.1 or Solution 2.1, as on Colab."""

    default_priority = 300

    def apply(self) -> None:
        for cell in self.document.findall(nodes.container):
            code = cell.next_node(nodes.literal_block)
            if code is None or "prompt_show" not in cell:
                continue
            title = re.match(r"#@title (\S+) · (.+)", code.astext())
            if title:
                korean, english = title.groups()
                number = re.sub(r"^\S+", "", english)
                cell["prompt_show"] = korean + number if self.config.language == "ko" else english


def _page_context(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    lang = app.config.language
    other = next(name for name in TEXTS if name != lang)
    theme = app.config.html_theme_options
    source = Path(app.srcdir) / f"{pagename}.ipynb"
    page = f"{pagename}.html"
    scripts = context["script_files"]  # Sphinx adds a page's own to this list later
    scripts[:] = [script for script in scripts if Path(script.filename or "").stem not in UNUSED]
    context["frame"] = {
        **TEXTS[lang],
        "other": {**TEXTS[other], "lang": other, "url": f"../{other}/{page}"},
    }
    if source.exists():
        notebook = context["frame"]["notebook"] = f"_sources/{pagename}.ipynb"
        owner_and_name = "/".join(theme["repository_url"].rstrip("/").split("/")[-2:])
        if "_" in owner_and_name.split("/")[0]:  # the placeholder, which GitHub lets nobody register
            version = theme["repository_branch"].removeprefix("v")
            steps = TEXTS[lang]["colab_by_hand"]
            context["frame"]["colab_steps"] = steps.format(notebook=notebook, wheel=f"../{WHEEL.format(version)}")
        else:
            path = f"{theme['path_to_docs']}/{lang}/{pagename}.ipynb"
            context["frame"]["colab_url"] = f"{COLAB}/{owner_and_name}/blob/{theme['repository_branch']}/{path}"


def _visit_hidden(self: HTMLTranslator, node: nodes.Element) -> None:
    label = TEXTS[self.config.language]["hidden"].get(node["prompt_show"], node["prompt_show"])
    self.body.append(f'<details class="hide"><summary>{html.escape(label)}</summary>\n')


def _depart_hidden(self: HTMLTranslator, node: nodes.Element) -> None:
    self.body.append("</details>\n")


#: The themes' scripts that no page loads: custom.css draws the icons, browsers tool tips, page.js hides the contents.
UNUSED = "fontawesome", "bootstrap", "sphinx-book-theme"
#: Where the theme's script starts to measure what may scroll: it would lay out the whole page, which page.js avoids.
MEASURING = re.compile(r',"complete"===document\.readyState\?(\w)\(\):window\.addEventListener\("load",\1\)')


def _configure(app: Sphinx, config) -> None:
    config.html_static_path = [*config.html_static_path, str(STATIC)]
    config.templates_path = [str(HERE / "templates"), *config.templates_path]
    config.html_favicon = str(STATIC / "logo.svg")
    config.html_use_index = False


def _finish(app: Sphinx, error: Exception | None) -> None:
    """Copy buttons speak the page's language; what no page loads is not published; the theme measures no boxes."""
    if error is not None:
        return
    static = Path(app.outdir) / "_static"
    script = static / "scripts" / "pydata-sphinx-theme.js"
    text, found = MEASURING.subn("", script.read_text(encoding="utf-8"))
    if not found:
        raise ExtensionError(f"{script.name} measures boxes in a way that frame.py does not know")
    script.write_text(text, encoding="utf-8", newline="\n")
    copy = TEXTS[app.config.language]["copy"]
    if copy:
        script = static / "copybutton.js"
        text = script.read_text(encoding="utf-8")
        text = text.replace("const messages = {", f"const messages = {{'{app.config.language}': {copy},")
        script.write_text(text, encoding="utf-8", newline="\n")
    for pattern in ("**/*.map", *(f"scripts/{name}.js*" for name in UNUSED)):
        for path in static.glob(pattern):
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _page_context, priority=100)
    app.connect("build-finished", _finish)
    app.add_transform(CallOuts)
    app.add_transform(Exercises)
    app.add_transform(LineBreaks)
    app.add_transform(HiddenCells)
    app.add_node(HideCodeCellNode, override=True, html=(_visit_hidden, _depart_hidden))
    app.add_css_file("custom.css", priority=900)
    app.add_js_file("page.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
