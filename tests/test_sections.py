"""Sections have the same addresses in both editions, and the language switch keeps the place."""

from __future__ import annotations

import re
from pathlib import Path

import notebooks
import pytest
import sections
from test_site import OTHER, PAGES

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = ROOT / "book" / "en"
NAMES = [name for lang, name in PAGES if lang == "en"]
PLACES = "article :is(section, .formula, .figure-caption)[id]"


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


# For each place on the page: where the switch leads when the address names it, and when it is only in view. What cannot
# come to the top, near the end of a page, has no answer to the second question.
SWITCH = """async (places) => {
  const link = document.querySelector(".language-switch");
  document.addEventListener("click", (event) => event.preventDefault());
  document.documentElement.style.scrollBehavior = "auto";
  const here = () => (link.click(), new URL(link.href).hash.slice(1));
  const answers = [];
  for (const place of document.querySelectorAll(places)) {
    location.hash = place.id;
    const aimed = here();
    history.replaceState(null, "", location.pathname);
    place.scrollIntoView();
    const top = place.getBoundingClientRect().top;
    answers.push({ id: place.id, aimed, seen: Math.abs(top) < 10 ? here() : null });
  }
  return answers;
}"""


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_the_switch_keeps_every_place(server: str, site: Path, browser, name: str, lang: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{server}/{lang}/{name}.html")
    answers = page.evaluate(SWITCH, PLACES)
    page.close()
    other = (site / OTHER[lang] / f"{name}.html").read_text(encoding="utf-8")
    first, *rest = answers
    assert first["seen"] in ("", None), "at the top of a page the switch leads to the top"
    for answer in answers:
        assert answer["aimed"] == answer["id"]
        assert f'id="{answer["id"]}"' in other
    for answer in rest:
        assert answer["seen"] in (answer["id"], None)


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
