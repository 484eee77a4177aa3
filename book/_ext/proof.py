"""What the site shows of a formula's tests: how they check it, what they measured, and their source.

The ✓ beside a formula opens it in the page, the page `equations` lists it for all formulas, and each file of tests that
checks a formula is a page of its own. The script of a chapter that holds the dialogs' texts loads at the first click;
a script, because a page opened from a file may not fetch.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import equations
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from references import markdown
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

FOLDER = "checks"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

TEXTS = {
    "ko": {
        "numbers": ("수 하나를 견주었다.", "수 {:,}개를 견주었다."),
        "difference": "허용 오차에 가장 가까운 차이는 {}이고 {}까지 허용한다.",
        "relative": "허용 오차에 가장 가까운 상대 차이는 {}이고 {}까지 허용한다.",
        "standard_errors": "표본의 평균은 참값에서 표준 오차의 {}배까지 벗어났고 {}배까지 허용한다.",
        "none": "테스트가 같은지, 큰지만 확인하므로 따로 보여 줄 오차가 없다.",
        "tests": ("테스트의 소스", "테스트 {}개의 소스"),
        "entry": "식 목록에서 보기",
        "back": "식 목록으로",
        "summary": "식 {}개, 테스트 {}개. 오차는 torch {}에서 쟀다.",
        "chapter": "장",
        "all": "모든 장",
        "text": "찾을 말",
        "hint": "식 번호, 방법, 테스트 이름",
    },
    "en": {
        "numbers": ("One number compared.", "{:,} numbers compared."),
        "difference": "The difference closest to its tolerance is {}; {} is allowed.",
        "relative": "The relative difference closest to its tolerance is {}; {} is allowed.",
        "standard_errors": "The mean of draws furthest from the truth lies {} standard errors away; {} are allowed.",
        "none": "The test asks for equality or an inequality, which leaves no error to show.",
        "tests": ("Source of the test", "Source of the {} tests"),
        "entry": "See it in the list of formulas",
        "back": "To the list of formulas",
        "summary": "{} formulas, {} tests. Errors as measured with torch {}.",
        "chapter": "Chapter",
        "all": "All chapters",
        "text": "Text",
        "hint": "number, method, name of a test",
    },
}


class Proof:
    """What is shown of each formula in one edition, as HTML."""

    def __init__(self, root: Path, lang: str) -> None:
        self.root, self.lang, self.words = root, lang, TEXTS[lang]
        self.formulas, self.tests = equations.registry(root)
        self.methods = equations.table(root / "tests" / equations.METHODS)
        self.errors = equations.table(root / "tests" / equations.ERRORS)

    def said(self, number: str) -> str:
        """The method's sentence and the measured error."""
        method = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(self.methods[number][self.lang]))
        method = re.sub(r"(?a)(?<!\w)([a-zA-Z])_(\w)(?!\w)", r"\1<sub>\2</sub>", method)
        return f'<p class="check-method">{method}</p>\n<p class="check-error">{self.error(number)}</p>\n'

    def error(self, number: str) -> str:
        measured = self.errors.get(number, {})
        if not measured.get("numbers"):
            return self.words["none"]
        one, many = self.words["numbers"]
        parts = [one if measured["numbers"] == 1 else many.format(measured["numbers"])]
        for kind in ("difference", "relative", "standard_errors"):
            if kind in measured:
                parts.append(self.words[kind].format(*map(power, measured[kind])))
        return " ".join(parts)

    def links(self, number: str) -> list[str]:
        return [
            f'<a class="check-name" href="{Path(test.path).stem}.html#L-{test.line}"><code>{test.name}</code></a>'
            for test in self.tests[number]
        ]

    def sources(self, number: str) -> str:
        """The tests, each under its name, which leads to its place in the whole file."""
        parts = []
        for name, test in zip(self.links(number), self.tests[number], strict=True):
            parts.append(f"<p>{name}</p>{code(coloured(self.root / test.path)[test.first - 1 : test.last])}")
        return "\n".join(parts)

    def dialog(self, item: equations.Formula) -> str:
        entry = f'<p><a href="{equations.INDEX}.html#{item.anchor}">{self.words["entry"]}</a></p>'
        return self.said(item.number) + self.sources(item.number) + entry

    def entry(self, item: equations.Formula) -> str:
        """What the page of all formulas says below one; its script puts the sources in place of the names."""
        one, many = self.words["tests"]
        names = self.links(item.number)
        title = one if len(names) == 1 else many.format(len(names))
        given = f'class="check-source" data-chapter="{item.chapter}" data-number="{item.number}"'
        listed = "".join(f"<p>{name}</p>" for name in names)
        return f"{self.said(item.number)}<details {given}><summary>{title}</summary>{listed}</details>"

    def summary(self, titles: dict[str, str]) -> str:
        """How much there is, and a filter, which without JavaScript custom.css hides."""
        tests = {(test.path, test.line) for found in self.tests.values() for test in found}
        said = self.words["summary"].format(len(self.formulas), len(tests), self.errors["torch"])
        chapters = {"": self.words["all"]} | {f"chapter-{name}": title for name, title in titles.items()}
        options = "".join(f'<option value="{value}">{html.escape(title)}</option>' for value, title in chapters.items())
        return (
            f'<p>{said}</p><form class="formula-filter" role="search">'
            f"<label>{self.words['chapter']} <select>{options}</select></label>"
            f'<label>{self.words["text"]} <input type="search" placeholder="{self.words["hint"]}"></label>'
            f'<output aria-live="polite">{len(self.formulas)} / {len(self.formulas)}</output></form>'
        )


class ListFormulas(SphinxTransform):
    """The page of all formulas, by chapter."""

    default_priority = 401  # after the numbers in its prose became links

    def apply(self) -> None:
        if self.env.docname != equations.INDEX:
            return
        edition = Path(self.env.srcdir)
        shown = Proof(edition.parent.parent, self.config.language)
        titles = {item.chapter: _title(edition, item.chapter) for item in shown.formulas.values()}
        page = next(iter(self.document.findall(nodes.section)))
        page += nodes.raw("", shown.summary(titles), format="html")
        for chapter, title in titles.items():
            part = nodes.section("", nodes.title("", title), ids=[f"chapter-{chapter}"])
            for item in shown.formulas.values():
                if item.chapter == chapter:
                    place = equations.numbered(item, f"{chapter}.html#{item.anchor}")
                    below = nodes.raw("", shown.entry(item), format="html")
                    part += nodes.container("", place, below, classes=["formula-proof"])
            page += part


def _title(folder: Path, chapter: str) -> str:
    """The edition's title of a chapter."""
    heading = re.search(r"(?m)^# (.+)$", markdown(folder, chapter))
    return heading[1] if heading else chapter


def power(value: float) -> str:
    """2e-12 as 2·10⁻¹², and what lies between 0.001 and 1000 as it is."""
    if value == 0 or 1e-3 <= value < 1e3:
        return f"{value:g}"
    digits, exponent = f"{value:.1e}".split("e")
    head = "" if float(digits) == 1 else f"{float(digits):g}·"
    return f"{head}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


@cache
def coloured(path: Path) -> list[str]:
    """The lines of a Python file, highlighted."""
    text = path.read_text(encoding="utf-8-sig")
    return highlight(text, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).splitlines(keepends=True)


def code(lines: Iterable[str]) -> str:
    return f'<div class="highlight-python notranslate"><div class="highlight"><pre>{"".join(lines)}</pre></div></div>'


def _pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """The files of tests that check formulas, each a page with a place for every line."""
    shown = Proof(Path(app.srcdir).parent.parent, app.config.language)
    for path in sorted({test.path for found in shown.tests.values() for test in found}):
        places = (f'<span id="L-{number}">{line}</span>' for number, line in enumerate(coloured(shown.root / path), 1))
        back = f'<p><a href="{equations.INDEX}.html">{shown.words["back"]}</a></p>'
        yield Path(path).stem, {"title": path, "body": f"<h1>{path}</h1>{back}{code(places)}"}, "page.html"


def _finish(app: Sphinx, error: Exception | None) -> None:
    """A script of each chapter with the texts of its dialogs."""
    if error is not None:
        return
    shown = Proof(Path(app.srcdir).parent.parent, app.config.language)
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    for item in shown.formulas.values():
        texts[item.chapter][item.number] = shown.dialog(item)
    folder = Path(app.outdir) / "_static" / FOLDER
    folder.mkdir(exist_ok=True)
    for chapter, dialogs in texts.items():
        script = f'(window.checks ??= {{}})["{chapter}"] = {json.dumps(dialogs, ensure_ascii=False)};\n'
        (folder / f"{chapter}.js").write_text(script, encoding="utf-8", newline="\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(ListFormulas)
    app.connect("html-collect-pages", _pages)
    app.connect("build-finished", _finish)
    app.add_js_file("proof.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
