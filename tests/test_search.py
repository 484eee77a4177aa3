"""The search answers by section: `search.toml` holds what readers type and the section that must come first."""

from __future__ import annotations

import tomllib
from pathlib import Path

import notebooks
import pytest

TABLE = tomllib.loads((Path(__file__).parent / "search.toml").read_text(encoding="utf-8"))


def first(page, query: str) -> str:
    """Address of the first result, without what is to be highlighted there."""
    page.fill("#search-input", query)
    page.wait_for_function("query => document.querySelector('#search-results').dataset.query === query", arg=query)
    links = page.locator("#search-results a")
    if not links.count():
        return ""
    path, _, place = links.first.get_attribute("href").partition("#")
    return path.partition("?")[0].removesuffix(".html") + (f"#{place}" if place else "")


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_the_right_section_comes_first(server: str, browser, lang: str) -> None:
    page = browser.new_page()
    page.goto(f"{server}/{lang}/search.html")
    wrong = {}
    for query, expected in TABLE[lang].items():
        found = first(page, query)
        if found not in (expected if isinstance(expected, list) else [expected]):
            wrong[query] = found
    page.close()
    assert len(TABLE[lang]) >= 60
    assert len(wrong) <= 0.05 * len(TABLE[lang]), wrong
