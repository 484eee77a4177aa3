r"""The book's numbered formulas and the tests that check them.

A chapter numbers a displayed formula with `\tag{c.n}`; a test that checks it numerically carries
`@pytest.mark.equation("c.n")`. This module finds both (`tests/test_equations.py` holds them to each other) and is the
Sphinx extension that turns a tag into an anchor with a ✓, which leads to what `proof.py` shows of its tests, "(c.n)" in
the prose into a link to the formula, and the page `equations` into the index of all of them.

`tests/equations.toml` holds a digest of each formula's TeX, so that a changed formula fails until somebody has looked
at its tests and run this module (`make digests`). `tests/methods.toml` says of each formula, in a sentence of either
language, how its tests check it.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from references import link
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.writers.html import HTMLTranslator

TAG = re.compile(r"\s*\\tag\{([^}]*)\}")
REFERENCE = re.compile(r"\((\d+\.\d+)\)")
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\S", re.DOTALL)
SPACES = {r"\quad", r"\qquad", r"\,", r"\:", r"\;", r"\!", "\\ ", "\\\n", "~"}
DIGESTS = "equations.toml"
METHODS = "methods.toml"
LANGUAGES = ("ko", "en")
ERRORS = "errors.toml"
INDEX = "equations"
LABEL = {"ko": "식 ({}) 확인", "en": "Check of formula ({})"}


@dataclass(frozen=True)
class Formula:
    """A displayed formula of a chapter; `number` is "2.3", `line` that of its tag."""

    number: str
    tex: str
    chapter: str
    line: int

    @property
    def anchor(self) -> str:
        return f"eq-{self.number.replace('.', '-')}"

    @property
    def digest(self) -> str:
        """Eight digits that change with the TeX, but not with the spaces in it."""
        tokens = [token for token in TOKEN.findall(self.tex) if token not in SPACES]
        return hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Check:
    """A test that is marked as the check of a formula: lines `first` to `last` of `path` in the repository."""

    number: str
    name: str
    path: str
    line: int
    first: int
    last: int


def formulas(chapters: Path) -> list[Formula]:
    """Every tagged formula, in order of appearance."""
    found = []
    for path in sorted(chapters.glob("*.md")):
        text = _without_code(path.read_text(encoding="utf-8-sig"))
        for block in re.finditer(r"\$\$(.+?)\$\$", text, re.DOTALL):
            for tag in TAG.finditer(block[1]):
                tex = TAG.sub("", block[1]).strip()
                line = text[: block.start(1) + tag.end()].count("\n") + 1
                found.append(Formula(tag[1], tex, path.stem, line))
    return found


def checks(tests: Path) -> list[Check]:
    """Every test that a mark declares to be the check of a formula, in order of file and line."""
    found = []

    def visit(node: ast.AST, owner: ast.AST | None, path: Path) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                visit(decorator, node, path)
            for child in node.body:
                visit(child, node, path)
            return
        marks = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "equation"
        if marks and ast.unparse(node.func) == "pytest.mark.equation":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    whole, name = (owner, owner.name) if owner else (node, path.stem)
                    first = owner.decorator_list[0].lineno if owner else node.lineno
                    place = f"{tests.name}/{path.relative_to(tests)}", whole.lineno, first, whole.end_lineno
                    found.append(Check(argument.value, name, *place))
        for child in ast.iter_child_nodes(node):
            visit(child, owner, path)

    for path in sorted(tests.rglob("*.py")):
        text = path.read_text(encoding="utf-8-sig")
        if "mark.equation" in text:
            visit(ast.parse(text), None, path)
    return found


def references(chapters: Path) -> Iterator[tuple[str, str, int]]:
    """Every "(c.n)" in the prose, as (number, file name, line)."""
    for path in sorted(chapters.glob("*.md")):
        text = _blank(r"\$\$.+?\$\$|\$[^$\n]+\$", _without_code(path.read_text(encoding="utf-8-sig")))
        for match in REFERENCE.finditer(text):
            yield match[1], path.name, text[: match.start()].count("\n") + 1


def problems(chapters: Path, tests: Path) -> list[str]:
    """What is wrong between formulas, checks and references: one line each, none if all is well."""
    found = []
    listed = formulas(chapters)
    numbers = [formula.number for formula in listed]
    checked = checks(tests)
    for path in sorted(chapters.glob("*.md")):
        tagged = len(TAG.findall(_without_code(path.read_text(encoding="utf-8-sig"))))
        if tagged != sum(formula.chapter == path.stem for formula in listed):
            found.append(f"{path.name}: a \\tag stands outside a displayed formula ($$ … $$)")
    following: dict[str, int] = defaultdict(int)
    places = set()
    for formula in listed:
        place = f"{formula.chapter}.md:{formula.line}"
        chapter = re.match(r"0*(\d*)", formula.chapter)[1]
        following[chapter] += 1
        expected = f"{chapter}.{following[chapter]}"
        if not chapter:
            found.append(f"{place}: only chapters number their formulas; remove \\tag{{{formula.number}}}")
        elif numbers.count(formula.number) > 1:
            found.append(f"{place}: ({formula.number}) is used more than once")
        elif formula.number != expected:
            found.append(f"{place}: ({formula.number}) should be ({expected}): chapter.number, in order of appearance")
        elif formula.number not in {check.number for check in checked}:
            found.append(
                f'{place}: no test checks ({formula.number}): mark one @pytest.mark.equation("{formula.number}")'
            )
        if (formula.chapter, formula.tex) in places:
            found.append(f"{place}: one displayed formula has two tags")
        places.add((formula.chapter, formula.tex))
    for check in checked:
        if check.number not in numbers:
            found.append(f"{check.path}:{check.line}: {check.name} checks ({check.number}), which no chapter has")
    digests = table(tests / DIGESTS)
    for formula in listed:
        looks = " and ".join(f"{check.path}::{check.name}" for check in checked if check.number == formula.number)
        if digests.get(formula.number) != formula.digest:
            what = "changed" if formula.number in digests else "has no digest"
            found.append(f"({formula.number}) {what}: look at {looks or 'its test'}, then run `make digests`")
    for number in sorted(digests.keys() - set(numbers)):
        found.append(f"{tests.name}/{DIGESTS}: no chapter has ({number}): run `make digests`")
    methods = table(tests / METHODS)
    for number in numbers:
        for lang in LANGUAGES:
            if not methods.get(number, {}).get(lang):
                found.append(
                    f'({number}) has no sentence on its check: give ["{number}"] {lang} = "…" in {tests.name}/{METHODS}'
                )
    for number in sorted(methods.keys() - set(numbers)):
        found.append(f"{tests.name}/{METHODS}: no chapter has ({number})")
    chapters_with_formulas = {number.split(".")[0] for number in numbers}
    for number, name, line in references(chapters):
        if number not in numbers and number.split(".")[0] in chapters_with_formulas:
            found.append(f"{name}:{line}: ({number}) refers to a formula that no chapter has")
    return found


def write_digests(chapters: Path, tests: Path) -> None:
    """State that the tests check the formulas as they are now."""
    lines = [f'"{formula.number}" = "{formula.digest}"\n' for formula in formulas(chapters)]
    text = "# Digests of the formulas' TeX, by `make digests`.\n" + "".join(lines)
    (tests / DIGESTS).write_text(text, encoding="utf-8", newline="\n")


def table(path: Path) -> dict:
    """What a TOML file holds."""
    return tomllib.loads(path.read_text(encoding="utf-8-sig"))


def _without_code(text: str) -> str:
    """The text with its code cells, fenced blocks and code spans blanked, line by line as long as before."""
    text = _blank(r"(?ms)^(```+)[^\n]*\n.*?^\1[ \t]*$", text)
    return _blank(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", text)


def _blank(pattern: str, text: str) -> str:
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


@lru_cache(1)
def registry(root: Path) -> tuple[dict[str, Formula], dict[str, list[Check]]]:
    """All formulas, and the tests of each, by number."""
    by_number = defaultdict(list)
    for check in checks(root / "tests"):
        by_number[check.number].append(check)
    return {formula.number: formula for formula in formulas(root / "book" / "chapters")}, by_number


class formula(nodes.General, nodes.Element):
    """A numbered formula: the mathematics and, beside it, its number and its checks."""


class aside(nodes.General, nodes.TextElement):
    """Number and checks of a formula."""


def numbered(item: Formula, target: str, *beside: nodes.Node) -> formula:
    """The formula at its anchor, and beside it what is given and its number, which leads to `target`."""
    place = aside("", "", *beside)
    place += nodes.reference("", f"({item.number})", refuri=target, internal=True, classes=["formula-number"])
    return formula("", nodes.math_block(item.tex, item.tex), place, ids=[item.anchor])


class LinkEquations(SphinxTransform):
    default_priority = 400

    def apply(self) -> None:
        self.known, _ = registry(Path(self.env.srcdir).parent.parent)
        for block in list(self.document.findall(nodes.math_block)):
            self.number(block)
        link(self.document, REFERENCE, self.place, "formula-link")

    def number(self, block: nodes.math_block) -> None:
        tag = TAG.search(block.astext())
        item = self.known.get(tag[1]) if tag else None
        if item is None:
            return
        label = LABEL[self.config.language].format(item.number)
        given = f'data-chapter="{item.chapter}" data-number="{item.number}" aria-label="{label}" title="{label}"'
        check = f'<a class="formula-check" href="{INDEX}.html#{item.anchor}" {given}>✓</a>'
        block.replace_self(numbered(item, f"#{item.anchor}", nodes.raw("", check, format="html")))

    def place(self, number: str) -> tuple[str, str] | None:
        item = self.known.get(number)
        return (item.chapter, item.anchor) if item else None


def visit_formula(self: HTMLTranslator, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "div", CLASS="formula"))


def visit_aside(self: HTMLTranslator, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "div", CLASS="formula-aside"))


def depart(self: HTMLTranslator, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(formula, html=(visit_formula, depart))
    app.add_node(aside, html=(visit_aside, depart))
    app.add_transform(LinkEquations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    book = Path(__file__).resolve().parent.parent
    write_digests(book / "chapters", book.parent / "tests")
