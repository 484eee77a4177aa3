"""Every page of a chapter is built alike: question, the thing itself, goals, numbered sections and figures, summary."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import notebooks
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [name for name in notebooks.chapters() if re.match(r"0[1-9]", name)]
WIDGET = "application/vnd.jupyter.widget-view+json"
CAPTION = re.compile(r"\*\*(?:그림|Figure) \d+\.\d+\.\*\* ")
WORDS = {
    "ko": {"goals": "이 장에서", "summary": "정리", "intuition": "직관", "mistake": "흔한 오해", "time": "읽는 시간"},
    "en": {
        "goals": "In this chapter",
        "summary": "Summary",
        "intuition": "Intuition",
        "mistake": "Common mistake",
        "time": "Reading time",
    },
}


@cache
def prose(page: str, lang: str) -> str:
    cells = jupytext.read(notebooks.CHAPTERS / f"{page}.md", fmt="md:myst").cells
    return "\n\n".join(cell.source for cell in cells if cell.metadata.get("lang") == lang)


@cache
def derived(page: str, lang: str) -> list:
    return nbformat.read(ROOT / "book" / lang / f"{page}.ipynb", as_version=4).cells


def box(text: str, title: str) -> list[str]:
    """Lines of the first call-out with that title."""
    found = re.search(rf"(?m)^> \*\*{title}[^*]*\*\*.*\n((?:^>.*\n?)*)", text)
    return found[0].splitlines() if found else []


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_page_has_its_parts(page: str, lang: str) -> None:
    text, words = prose(page, lang), WORDS[lang]
    goals = box(text, words["goals"])
    assert sum(line.startswith("> - ") for line in goals) == 3
    assert any(words["time"] in line and "[[minutes]]" in line for line in goals)
    assert sum(line.startswith("> - ") for line in box(text, words["summary"])) == 5
    assert f"> **{words['intuition']}" in text
    assert f"> **{words['mistake']}" in text
    assert text.index(f"**{words['goals']}") < text.index("\n## ") < text.index(f"**{words['summary']}")


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_the_thing_itself_comes_before_the_first_section(page: str, lang: str) -> None:
    for cell in derived(page, lang):
        if cell.cell_type == "markdown" and re.search(r"(?m)^## ", cell.source):
            pytest.fail("no figure before the first section")
        if any(
            {"image/png", "image/svg+xml", WIDGET} & output.get("data", {}).keys() for output in cell.get("outputs", [])
        ):
            return


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
@pytest.mark.parametrize("page", ["00-preface", *PAGES])
def test_every_figure_has_its_caption(page: str, lang: str) -> None:
    cells = derived(page, lang)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
        if kinds & {"image/png", "image/svg+xml", WIDGET}:
            assert CAPTION.match(following.source if following else ""), cell.source


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_sections_are_numbered_through_all_pages_of_a_chapter(lang: str) -> None:
    numbers: dict[str, list[int]] = {}
    for page in PAGES:
        chapter = page[1]
        for heading in re.findall(r"(?m)^## (.+)$", prose(page, lang)):
            number = re.match(rf"{chapter}\.(\d+) ", heading)
            if number:
                numbers.setdefault(chapter, []).append(int(number[1]))
            else:
                assert heading in ("연습 문제", "다음", "Exercises", "Where next"), f"{page}: {heading} has no number"
    for chapter, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), f"chapter {chapter}"
    references = r"(?<![\d.])([1-6])\.(\d+)절" if lang == "ko" else r"[Ss]ections? ([1-6])\.(\d+)"
    for page in PAGES:
        for chapter, number in re.findall(references, prose(page, lang)):
            assert int(number) in numbers[chapter], f"{page} refers to section {chapter}.{number}"


@pytest.mark.parametrize("page", PAGES)
def test_imports_are_folded_and_papers_linked_where_they_are_named(page: str) -> None:
    code = [cell for cell in derived(page, "en") if cell.cell_type == "code"]
    for cell in code:
        if re.search(r"(?m)^(import|from) ", cell.source):
            assert {"hide-cell", "hide-input"} & set(cell.metadata.get("tags", [])), cell.source
    assert "bibliography.md" not in prose(page, "ko") + prose(page, "en")
