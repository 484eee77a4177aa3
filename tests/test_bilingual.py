"""Two editions that cannot drift apart: every Korean cell has its English neighbour and both say the same things."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import jupytext
import notebooks
import pytest

ROOT = Path(__file__).resolve().parent.parent


SOURCES = [notebooks.CHAPTERS / f"{name}.md" for name in notebooks.chapters()]
HANGUL = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ]")


@cache
def pairs(path: Path) -> list[tuple[str, str]]:
    """(Korean, English) texts of the neighbouring cells of a source."""
    cells = jupytext.read(path, fmt="md:myst").cells
    texts = [(cell.metadata.get("lang"), cell.source) for cell in cells]
    ordered = []
    for index, (lang, text) in enumerate(texts):
        if lang == "ko":
            following = texts[index + 1] if index + 1 < len(texts) else (None, "")
            assert following[0] == "en", f"{path.name}: no English neighbour for:\n{text[:200]}"
            ordered.append((text, following[1]))
        elif lang == "en":
            before = texts[index - 1][0] if index else None
            assert before == "ko", f"{path.name}: no Korean neighbour for:\n{text[:200]}"
    return ordered


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]+`", "", text, flags=re.DOTALL)


def prose(text: str) -> str:
    """The text without code, formulas and addresses."""
    return re.sub(r"\$\$.*?\$\$|\$[^$]+\$|\]\([^)]*\)|<[^>]+>", " ", without_code(text), flags=re.DOTALL)


FEATURES = {
    "inline formulas": lambda text: set(re.findall(r"(?<!\$)\$(?!\$)([^$]+)\$(?!\$)", without_code(text))),
    "code spans": lambda text: set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)),
    "links": lambda text: Counter(re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)", text)),
    "equation references": lambda text: set(re.findall(r"\((\d+\.\d+)\)", prose(text))),
    "headings": lambda text: [len(marks) for marks in re.findall(r"^(#+) ", without_code(text), re.MULTILINE)],
    "list items": lambda text: len(re.findall(r"^\s*(?:[-*]|\d+\.) ", without_code(text), re.MULTILINE)),
    "table rows": lambda text: len(re.findall(r"^\|", text, re.MULTILINE)),
    "call-outs": lambda text: len(re.findall(r"^> \*\*", text, re.MULTILINE)),
    "solutions": lambda text: text.count("<details>"),
    "fenced blocks": lambda text: re.findall(r"```.*?```", text, re.DOTALL),
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_cell_has_its_neighbour_and_agrees_with_it(path: Path) -> None:
    found = pairs(path)
    assert found
    for korean, english in found:
        for name, feature in FEATURES.items():
            assert feature(korean) == feature(english), f"{path.name}: {name} differ in\n{korean}\n\n{english}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_text_is_in_its_language(path: Path) -> None:
    for korean, english in pairs(path):
        words = re.sub(r"[^A-Za-z가-힣]", "", prose(english))
        assert len(HANGUL.findall(words)) <= max(12, 0.2 * len(words)), f"{path.name}: Korean in\n{english}"
        if len(prose(korean).split()) > 5:
            assert HANGUL.search(prose(korean)), f"{path.name}: no Korean in\n{korean}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_displayed_formulas_stand_once(path: Path) -> None:
    for korean, english in pairs(path):
        assert "$$" not in without_code(korean + english), f"{path.name}: put displayed formulas into a shared cell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_links_between_pages_exist(path: Path) -> None:
    known = {f"{name}{suffix}" for name in notebooks.chapters() for suffix in (".md", ".ipynb")}
    existing = {file.name for file in (ROOT / "book" / "ko").iterdir()}
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s#]+)", without_code(path.read_text())):
        if target.startswith("../_static/"):
            assert (path.parent / target).exists(), f"{path.name} shows {target}"
            continue
        assert target in known & existing, f"{path.name} links to {target}"


# The glossary rules the words


@cache
def tables() -> list[tuple[list[list[str]], list[list[str]]]]:
    """Rows of the glossary's two tables, in Korean and in English: terms, then ordinary words with one meaning."""
    found = [pair for pair in pairs(notebooks.CHAPTERS / "glossary.md") if "|---" in pair[0]]
    return [tuple(map(cells, pair)) for pair in found]


def cells(text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def glossary(words: bool = False) -> list[dict[str, str]]:
    """Korean term, English term and forms not used: the terms, or all rows with the ordinary words among them."""
    chosen = [row for korean, _ in tables()[: 2 if words else 1] for row in korean]
    return [{"ko": row[0], "en": row[1], "avoid": row[2]} for row in chosen]


@cache
def avoided() -> dict[str, str]:
    """Each form not used, with the one to write instead."""
    rows = [(form.strip(), row["ko"]) for row in glossary(words=True) for form in row["avoid"].split(",")]
    return {form: term for form, term in rows if form}


def test_glossary_has_the_same_terms_in_both_languages() -> None:
    assert len(tables()) == 2
    for korean, english in tables():
        for left, right in zip(korean, english, strict=True):
            assert (left[0], left[1], left[2]) == (right[1], right[0], right[2])


def test_glossary_has_each_term_once() -> None:
    for language in ("ko", "en"):
        terms = Counter(row[language] for row in glossary(words=True))
        assert max(terms.values()) == 1, terms.most_common(3)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_terms_follow_the_glossary(path: Path) -> None:
    if path.stem == "glossary":
        return
    for korean, _ in pairs(path):
        text = prose(korean)
        for form, term in avoided().items():
            assert form not in text, f"{path.name}: write {term} instead of {form} in\n{korean}"


def first_use(term: str, body: str) -> int:
    """Where a term first begins a word (율 is no part of 비율), or -1."""
    found = re.search(rf"(?<![가-힣]){re.escape(term)}", body)
    return found.start() if found else -1


def test_each_term_brings_its_english_at_first_use() -> None:
    chapters = [path for path in SOURCES if re.match(r"\d\d", path.stem) and path.stem != "00-preface"]
    texts = {path: "\n".join(prose(ko) for ko, _ in pairs(path)) for path in chapters}
    texts = {path: re.sub(r"^#.*$", "", text, flags=re.MULTILINE).replace("**", "") for path, text in texts.items()}
    rows = glossary()
    missing = []
    for row in rows:
        longer = [other["ko"] for other in rows if row["ko"] in other["ko"] != row["ko"]]
        for path, body in texts.items():
            for term in longer:
                body = body.replace(term, "…")
            first = first_use(row["ko"], body)
            if first >= 0:
                after = body[first + len(row["ko"]) :]
                if not re.match(rf"\s?\({re.escape(row['en'])}", after, re.IGNORECASE):
                    context = body[max(first - 30, 0) : first + 40]
                    missing.append(f"{path.name}: first use of {row['ko']} lacks ({row['en']}): …{context}…")
                break
    assert not missing, "\n".join(missing)


# The bibliography lists what the chapters name

PAPER = re.compile(
    r"https?://(?:arxiv|doi|openreview|www\.jmlr|proceedings\.mlr)\.(?:org|net|press)/(?:[^\s()]|\([^\s()]*\))+"
)


def test_bibliography_has_every_paper_that_a_chapter_links_to() -> None:
    listed = set(PAPER.findall((notebooks.CHAPTERS / "bibliography.md").read_text()))
    for path in SOURCES:
        missing = set(PAPER.findall(without_code(path.read_text()))) - listed
        assert not missing, f"{path.name}: not in the bibliography: {sorted(missing)}"
