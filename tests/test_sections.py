"""Sections have the same addresses in both editions, and the language switch keeps the place."""

from __future__ import annotations

import re
from pathlib import Path

import notebooks
import pytest
import sections
from test_bilingual import glossary
from test_site import OTHER, PAGES

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = ROOT / "book" / "en"
NAMES = [name for lang, name in PAGES if lang == "en"]


def test_an_address_is_the_number_or_the_english_words() -> None:
    assert sections.anchors(ENGLISH, "01-latent")[:3] == ["latent-variables", "section-1-1", "the-nearest-gaussian"]


@pytest.mark.parametrize("name", NAMES)
def test_both_editions_have_the_same_places(site: Path, name: str) -> None:
    expected = sections.anchors(ENGLISH, name)
    assert len(set(expected)) == len(expected)
    for lang in notebooks.LANGUAGES:
        text = (site / lang / f"{name}.html").read_text(encoding="utf-8")
        found = re.findall(r'<section[^>]* id="([^"]+)"', text)
        assert [anchor for anchor in found if not anchor.startswith("chapter-") or name != "equations"] == expected


def test_every_term_has_one_address_in_both_editions(site: Path) -> None:
    korean, english = (
        re.findall(r'<tr[^>]* id="([^"]+)"', (site / lang / "glossary.html").read_text(encoding="utf-8"))
        for lang in notebooks.LANGUAGES
    )
    assert korean == english
    assert len(korean) == len({*korean}) == len(glossary(words=True))


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_the_switch_arrives_at_the_place_and_is_remembered(server: str, browser, lang: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="fr-FR")
    page.goto(f"{server}/{lang}/03-vae.html")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.evaluate("document.getElementById('section-3-6').scrollIntoView()")
    page.evaluate("document.querySelector('.language-switch').click()")
    page.wait_for_url(f"{server}/{OTHER[lang]}/03-vae.html#section-3-6")
    page.wait_for_function("Math.abs(document.getElementById('section-3-6').getBoundingClientRect().top) < 100")
    page.goto(server)
    page.wait_for_url(f"{server}/{OTHER[lang]}/index.html")
    page.close()


@pytest.mark.parametrize(
    ("name", "anchor"),
    [
        ("03-vae", "exercise-3-3"),
        ("06-comparison", "exercise-6-6"),
        ("06-comparison", "mistake-1"),
        ("glossary", "term-mode-collapse"),
    ],
)
def test_the_switch_arrives_at_an_exercise_a_mistake_and_a_term(server: str, browser, name: str, anchor: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{server}/ko/{name}.html")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.evaluate("(anchor) => document.getElementById(anchor).scrollIntoView()", anchor)
    page.evaluate("document.querySelector('.language-switch').click()")
    page.wait_for_url(f"{server}/en/{name}.html#{anchor}")
    page.close()


@pytest.mark.parametrize(
    "place", ["playground.html#playground=set%3Dmoons", "index.html#write=%EB%AF%BC&seed=5", "index.html#%E0%A4%A"]
)
def test_the_switch_keeps_what_is_shared(server: str, browser, place: str) -> None:
    page, faults = browser.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{server}/ko/{place}")
    page.click(".language-switch")
    page.wait_for_url(f"{server}/en/{place if '=' in place else 'index.html'}")
    assert page.evaluate("localStorage.getItem('lang')") == "en"
    assert faults == []
    page.close()


def test_the_switch_passes_over_formulas_that_are_filtered_out(server: str, browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{server}/en/equations.html")
    page.select_option(".formula-filter select", "chapter-03-vae")
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.evaluate("document.getElementById('eq-3-5').scrollIntoView()")
    page.evaluate("document.querySelector('.language-switch').click()")
    page.wait_for_url(f"{server}/ko/equations.html#eq-3-5")
    page.wait_for_function("document.getElementById('eq-3-5').checkVisibility()")
    page.close()


def test_the_switch_takes_the_query_along(server: str, browser) -> None:
    page = browser.new_page()
    page.goto(f"{server}/ko/search.html?q=ELBO")
    page.wait_for_selector(".search-results a")
    page.evaluate("document.querySelector('.language-switch').click()")
    page.wait_for_url(f"{server}/en/search.html?q=ELBO")
    page.wait_for_selector(".search-results a")
    page.close()
