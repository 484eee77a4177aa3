"""What the search looks through: the book's sections, its numbered places, and the words that mean the same.

Sphinx indexes pages; a page of this book is long, and its sections are what a reader looks for. So the index is the
text itself, section by section, which is less than Sphinx's index and the pages it fetches for its excerpts, and
`search.js` looks through it. Code, outputs and displayed formulas are left out; those in the line lose TeX's commands.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docutils import nodes
from equations import INDEX, formula
from frame import JOINER
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexWalker, get_default_latex_context_db
from sections import GLOSSARY, headings
from sphinx.application import Sphinx

SILENT = nodes.literal_block, nodes.math_block, nodes.raw, nodes.comment, nodes.image, nodes.title, nodes.thead
#: What readers type that neither the book nor its glossary says, beside what the book says.
READERS = {
    "ko": {
        "Colab": "코랩",
        "U-Net": "유넷",
        "풀이": "해답",
        "Bishop": "비숍",
        "Tipping": "티핑",
        "Kingma": "킹마",
        "Goodfellow": "굿펠로",
    },
    "en": {"citing": "cite", "solution": "answer"},
}
KINDS = {
    "ko": {"eq": "식 ({})", "figure": "그림 {}", "exercise": "연습 {}"},
    "en": {"eq": "Formula ({})", "figure": "Figure {}", "exercise": "Exercise {}"},
}
NUMBER = re.compile(r"(?:\d+|A)\.\d+(?= )")
#: Other names in the glossary's last column: "…라고도 한다", "…라고 줄여 쓴다", "also called …", "… for short".
OTHER = re.compile(
    r"(?:^|[.;] )([^.;]+?)이?라고(?:도 한다| 줄여 쓴다)|also called (?:the )?([^.;]+)|([^.;]+) for short"
)
#: What the conversion of TeX leaves to be done, before and after.
BEFORE = (
    (r"\\[td]frac", r"\\frac"),
    (r"\\top", "⊤"),
    (r"\\mid", r"\\ |\\ "),
    (r"\\Vert", r"\\ ‖\\ "),
    (r"(\\(?!frac|sqrt|hat|tilde|bar|math|text|operatorname)[A-Za-z]+) ", r"\1{} "),
)
#: What a page takes from the package, and the names among these that are no words of the text.
IMPORTED = re.compile(r"from companion[\w.]* import ([\w, ]+|\([^)]*\))")
NAME = re.compile(r"[a-z\d]+(?:_[a-z\d]+)+|[A-Z]\w*[A-Z]\w*")
AFTER = ((r"\^2(?!\d)", "²"), (r"\^⊤", "ᵀ"), (r"(?<=[(\[⟨]) | (?=[)\]⟩,;])", ""))
READER, COMMANDS = LatexNodes2Text(strict_latex_spaces=True), get_default_latex_context_db()


@cache
def untex(tex: str) -> str:
    """A formula without TeX's commands: `p(x \\mid z)` is p(x | z)."""
    for pattern, text in BEFORE:
        tex = re.sub(pattern, text, tex)
    parsed, *_ = LatexWalker(tex, latex_context=COMMANDS).get_latex_nodes()
    tex = " ".join(READER.nodelist_to_text(parsed).split())
    for pattern, text in AFTER:
        tex = re.sub(pattern, text, tex)
    return tex


def plain(node: nodes.Node) -> str:
    """A node's text on one line, its formulas without TeX's commands."""

    def parts(node: nodes.Node) -> str:
        if isinstance(node, nodes.math):
            return untex(node.astext())
        if isinstance(node, nodes.raw):
            return ""
        return "".join(map(parts, node.children)) if node.children else node.astext()

    return unicodedata.normalize("NFC", " ".join(parts(node).replace(JOINER, "").split()))


def blocks(node: nodes.Element) -> Iterator[tuple[nodes.Element, str]]:
    """A section's paragraphs, rows of tables and displayed formulas, without those of its subsections."""
    for child in node.children:
        if isinstance(child, nodes.paragraph):
            yield child, plain(child)
        elif isinstance(child, nodes.row):
            yield child, " · ".join(filter(None, map(plain, child.children)))
        elif isinstance(child, formula):
            yield child, ""
        elif isinstance(child, nodes.Element) and not isinstance(child, (nodes.section, *SILENT)):
            yield from blocks(child)


def code(section: nodes.Element) -> Iterator[str]:
    """The cells of a section, without those of its subsections."""
    for child in section.children:
        if isinstance(child, nodes.literal_block):
            yield child.astext()
        elif isinstance(child, nodes.Element) and not isinstance(child, nodes.section):
            yield from code(child)


def records(page: str, tree: nodes.document, lang: str, elsewhere: list[str]) -> Iterator[dict]:
    """The page's sections and the numbered places and rows of terms in them.

    `url`, `title`, `other` (its title in the other edition, of the headings that stand there), `page` (its title) and
    `text`, a paragraph a line; `terms` in bold and names of the package; `number` of what has one.
    """
    head = ""
    imports = IMPORTED.findall("\n".join(block.astext() for block in tree.findall(nodes.literal_block)))
    package = set(filter(NAME.fullmatch, re.findall(r"\w+", " ".join(imports))))
    for i, section in enumerate(tree.findall(nodes.section)):
        title = plain(section.next_node(nodes.title))
        head = head or title
        other = elsewhere[i] if i < len(elsewhere) else ""
        if page == INDEX and title != head:
            continue  # names of tests
        place = "" if section.parent is tree else section["ids"][0]
        found = list(blocks(section))
        record = {"url": f"{page}.html" + (f"#{place}" if place else ""), "title": title, "page": head}
        terms = {plain(strong) for block, _ in found for strong in block.findall(nodes.strong)}
        terms |= package & set(re.findall(r"\w+", IMPORTED.sub("", "\n".join(code(section)))))
        number = NUMBER.match(title)
        text = [text for _, text in found if text] or [plain(one) for one in section.findall(nodes.paragraph)][:1]
        yield {
            **record,
            "other": re.sub(r"\$(.+?)\$", lambda tex: untex(tex[1]), other.replace("`", "")),
            "text": "\n".join(text),
            "terms": "\n".join(sorted(terms)),
            "number": number[0] if number else "",
        }
        before = ""
        for block, text in found:
            anchor = next((one for one in block["ids"] if re.fullmatch(r"(eq|figure|exercise)-\w+-\d+", one)), None)
            if page == GLOSSARY and block["ids"]:
                term, translation, _, meaning = map(plain, block.children)
                url, said = f"{page}.html#{block['ids'][0]}", f"{translation} · {meaning}"
                yield {"url": url, "title": term, "page": head, "text": said, "number": ""}
            elif anchor and page != INDEX:
                kind, number = anchor.split("-", 1)[0], ".".join(anchor.split("-")[1:]).upper()
                name = KINDS[lang][kind].format(number)
                url = f"{page}.html#{anchor}"
                said = re.sub(rf"^({re.escape(name)}\.|{re.escape(number)}) ", "", text or before)
                yield {"url": url, "title": name, "page": f"{head} · {title}", "text": said, "number": number}
            before = text or before


def synonyms(tree: nodes.document) -> Iterator[list[list[str]]]:
    """Words with one meaning, from the glossary's rows: those that the edition uses, and the others."""
    for body in tree.findall(nodes.tbody):
        for row in body.children:
            term, other, unused, meaning = map(plain, row.children)
            found = OTHER.search(meaning)
            names = re.sub(r"\([^)]*\)", "", next(filter(None, found.groups()))) if found else ""
            own = [term, *filter(None, names.split(", "))]
            others = [other, *filter(None, unused.split(", "))]
            yield [own, [*others, *filter(None, map(initials, own + others))]]


def initials(name: str) -> str:
    """Of an English name of at least three words: NCE of noise-contrastive estimation."""
    words = re.findall("[A-Za-z]+", name) if name.isascii() else []
    return "".join(word[0] for word in words if word not in ("of", "the")).upper() if len(words) > 2 else ""


def greek(titles: list[str]) -> Iterator[list[list[str]]]:
    """Greek letters in the titles and their names."""
    for letter in sorted(set("".join(titles))):
        name = unicodedata.name(letter, "")
        if name.startswith("GREEK SMALL LETTER "):
            yield [[letter], [name.split()[-1].lower()]]


def _write(app: Sphinx) -> None:
    lang = app.config.language
    pages = sorted(app.env.found_docs)
    edition = Path(app.srcdir).parent / ("en" if lang == "ko" else "ko")
    found = [
        record for page in pages for record in records(page, app.env.get_doctree(page), lang, headings(edition, page))
    ]
    words = [*greek([record["title"] for record in found]), *([[own], [typed]] for own, typed in READERS[lang].items())]
    if GLOSSARY in pages:
        words += synonyms(app.env.get_doctree(GLOSSARY))
    index = json.dumps({"records": found, "synonyms": words}, ensure_ascii=False, separators=(",", ":"))
    (Path(app.outdir) / "sections.js").write_text(f"const SECTIONS = {index};\n", encoding="utf-8", newline="\n")


def _without_sphinx_s_own(app: Sphinx) -> None:
    app.builder.search = False


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        _write(app)
        for name in ("searchtools.js", "language_data.js"):
            (Path(app.outdir) / "_static" / name).unlink()


def _configure(app: Sphinx, config) -> None:
    config.html_additional_pages = {**config.html_additional_pages, "search": "search.html"}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", _configure)
    app.connect("builder-inited", _without_sphinx_s_own)
    app.connect("build-finished", _finish)
    app.add_js_file("search.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
