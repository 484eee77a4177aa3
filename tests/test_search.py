"""The search answers by section: `search.toml` holds what readers type and the section that must come first."""

from __future__ import annotations

import json
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import notebooks
import pytest
import search

TABLE = tomllib.loads((Path(__file__).parent / "search.toml").read_text(encoding="utf-8"))
LANGUAGES = notebooks.LANGUAGES
RESULTS = ".bd-search-container .search-results"
INPUT = ".bd-search-container input"


@pytest.fixture
def page(browser) -> Iterator:
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda got: got.status >= 400 and faults.append(f"{got.status} {got.url}"))
    yield page
    page.close()
    assert faults == []


def ask(page, query: str) -> list[str]:
    """Addresses that the search page gives, without what is to be marked there."""
    page.fill(INPUT, query)
    page.wait_for_function(
        "([list, query]) => document.querySelector(list).dataset.query === query", arg=[RESULTS, query]
    )
    links = page.eval_on_selector_all(f"{RESULTS} a", "links => links.map((link) => link.getAttribute('href'))")
    parts = [link.partition("#") for link in links]
    return [path.partition("?")[0].removesuffix(".html") + mark + place for path, mark, place in parts]


def index(site: Path, lang: str) -> dict:
    text = (site / lang / "sections.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("const SECTIONS = ").removesuffix(";\n"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_right_section_comes_first(server: str, page, lang: str) -> None:
    page.goto(f"{server}/{lang}/search.html")
    for table, share in ((TABLE[lang], 0.95), (TABLE[f"{lang}_reader"], 0.8)):
        wrong = {}
        for query, expected in table.items():
            found = ask(page, query)
            if not found or found[0] not in (expected if isinstance(expected, list) else [expected]):
                wrong[query] = found[:3]
        assert len(table) >= 50
        assert len(wrong) <= (1 - share) * len(table), wrong


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_table_names_places_that_exist(site: Path, lang: str) -> None:
    there = {record["url"].replace(".html", "") for record in index(site, lang)["records"]}
    for expected in (TABLE[lang] | TABLE[f"{lang}_reader"]).values():
        assert {expected} if isinstance(expected, str) else {*expected} <= there


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_is_looked_through_is_text(site: Path, lang: str) -> None:
    records = index(site, lang)["records"]
    assert [record["url"] for record in records if not record["text"] or '">' in record["text"]] == []
    names = {"en": "Figure", "ko": "그림"}[lang]
    assert not [record for record in records if "#figure-" in record["url"] and record["text"].startswith(f"{names} ")]


# The same kinds as in the table, not the same queries.
@pytest.mark.parametrize(
    ("lang", "query", "place"),
    [
        ("en", "ex. exercise 3.4", "03-vae#exercise-3-4"),
        ("en", "Eq.3.12", "03-vae#eq-3-12"),
        ("en", "eq (３.１２)", "03-vae#eq-3-12"),
        ("en", "figure A.1", "a-own-data#figure-a-1"),
        ("en", "Section A.3", "a-own-data#a-3-filling-gaps-with-error-bars"),
        ("en", "chapter 2b", "02b-em"),
        ("en", "appendix A.3", "a-own-data#a-3-filling-gaps-with-error-bars"),
        ("en", "chapter 3 figure 3.4", "03-vae#figure-3-4"),
        ("en", "margnal", "01-latent#section-1-2"),
        ("ko", "부록 연습 A.2", "a-own-data#exercise-a-2"),
        ("en", "appendix", "a-own-data"),
        ("en", "discrimnator", "04-gan#section-4-2"),
        ("en", "Wasserstien", "04-gan#section-4-6"),
        ("en", "MLE", "01-latent#section-1-1"),
        ("en", "사후 붕괴", "03b-rate-distortion#section-3-17"),
        ("en", "chapter 2 exercises", "02-ppca#exercises"),
        ("en", "guidance scale", "05b-sampling#section-5-17"),
        ("en", "cite", "00-preface#citing-and-reuse"),
        ("en", "corrections", "corrections"),
        ("en", "what does posterior collapse mean", "03b-rate-distortion#section-3-17"),
        ("ko", "2장 연습문제", "02-ppca#exercises"),
        ("ko", "코랩", "00-preface#how-to-read-it-and-run-it"),
        ("ko", "무엇이 사후 분포 붕괴인가요", "03b-rate-distortion#section-3-17"),
        ("ko", "연습 3.4", "03-vae#exercise-3-4"),
        ("ko", "그림3.4.", "03-vae#figure-3-4"),
        ("ko", "3장", "03-vae"),
        ("ko", "판별쟈", "04-gan#section-4-2"),
        ("ko", "디퓨전", "05-diffusion"),
        ("ko", "posterior collapse", "03b-rate-distortion#section-3-17"),
    ],
)
def test_a_query_of_every_kind(server: str, page, lang: str, query: str, place: str) -> None:
    page.goto(f"{server}/{lang}/search.html")
    assert ask(page, query)[0] == place


def test_a_number_alone_gives_its_places_alone(server: str, page) -> None:
    page.goto(f"{server}/en/search.html")
    assert {place.partition("#")[2] for place in ask(page, "(3.12)")} == {"eq-3-12", "section-3-12", "figure-3-12"}
    assert ask(page, "chapter 77") == []
    page.goto(f"{server}/ko/search.html")
    assert len(ask(page, "3.12절의")) == 3
    assert ask(page, "3장에서") == ["03-vae"]
    found = ask(page, "section 3.12 aggregate posterior")
    assert found[0] == "03b-rate-distortion#section-3-12"
    assert len(found) == len({*found})


@pytest.mark.parametrize(
    ("lang", "query", "sentence"),
    [
        ("en", "posterior", "사후 분포 · p(z | x), after x is seen"),
        ("en", "사후분포", "사후 분포 · p(z | x), after x is seen"),
        ("ko", "posterior", "posterior · x를 본 뒤의 p(z | x)"),
    ],
)
def test_what_a_term_means_comes_second(server: str, page, lang: str, query: str, sentence: str) -> None:
    page.goto(f"{server}/{lang}/search.html")
    found = ask(page, query)
    assert [i for i, place in enumerate(found) if place.startswith("glossary")] == [1]
    assert found[1] == "glossary#term-posterior"
    assert page.locator(f"{RESULTS} p").nth(1).inner_text() == sentence
    assert "glossary#term-posterior" not in ask(page, "posterior collapse")


def test_a_mistake_is_not_quoted_as_if_the_book_said_it(server: str, page) -> None:
    page.goto(f"{server}/en/search.html?q=diffusion")
    page.wait_for_selector(f"{RESULTS} a")
    sentences = page.locator(f"{RESULTS} p").all_inner_texts()
    assert not [sentence for sentence in sentences if sentence[:1] in '"“' or sentence[-1:] in '"”']


def test_what_failed_to_load_is_tried_again(server: str, browser) -> None:
    page = browser.new_page()
    page.route("**/sections.js", lambda route: route.abort(), times=1)
    page.goto(f"{server}/en/search.html?q=elb")
    page.wait_for_function(
        "document.querySelector('.bd-search-container [role=status]').textContent.startsWith('What the search needs')"
    )
    assert ask(page, "elbo")
    page.close()


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("symbols", "β_i · variance of the noise"),  # a row of the table, not its head
        ("exercise 3.2", "(code) Estimate"),
        ("LatentWidget", "In the code of this section: LatentWidget"),
        ("what is a latent variable", "A latent variable z is a cause"),
    ],
)
def test_the_sentence_of_the_first_result(server: str, page, query: str, start: str) -> None:
    page.goto(f"{server}/en/search.html?q={quote(query)}")
    page.wait_for_selector(f"{RESULTS} a")
    assert page.locator(f"{RESULTS} p").first.inner_text().startswith(start)
    marks = page.locator(f"{RESULTS} p").first.locator("mark").all_inner_texts()
    assert not {"what", "is", "a"} & {mark.lower() for mark in marks}


def test_short_words_are_marked_in_the_sentence_only(server: str, page) -> None:
    page.goto(f"{server}/en/search.html?q=FID")
    page.wait_for_selector(f"{RESULTS} a")
    assert "FID" in page.locator(f"{RESULTS} mark").all_inner_texts()
    assert not [
        href for href in page.eval_on_selector_all(f"{RESULTS} a", "all => all.map(a => a.href)") if "FID" in href
    ]


def test_letters_typed_apart_find_the_same(server: str, page) -> None:
    page.goto(f"{server}/ko/search.html")
    assert ask(page, "확율") == ask(page, "확률")
    for query in ("재매개변수화를", "확률", "학습하는"):
        assert ask(page, unicodedata.normalize("NFD", query)) == ask(page, query) != []


def test_the_first_results_take_less_than_300_ms(server: str, page) -> None:
    """After a key in the dialog and after Enter: time of the page's thread, whatever else the machine is doing."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def milliseconds() -> float:
        """Since the page's address was opened."""
        return next(
            1000 * one["value"]
            for one in session.send("Performance.getMetrics")["metrics"]
            if one["name"] == "ThreadTime"
        )

    page.goto(f"{server}/ko/index.html")
    page.keyboard.press("Control+k")
    before = milliseconds()
    page.keyboard.insert_text("노이즈 스케줄")
    page.wait_for_selector("#pst-search-dialog .search-results a")
    assert 0 < milliseconds() - before <= 300
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{RESULTS} a")
    assert 0 < milliseconds() <= 300


def test_results_are_announced_and_show_sentences_not_code(server: str, page) -> None:
    page.goto(f"{server}/en/search.html?q={quote('importance sampling')}")
    page.wait_for_selector(f"{RESULTS} a")
    count = page.locator(f"{RESULTS} li").count()
    assert page.get_by_role("status").inner_text() == f"{count} places found"
    sentences = page.locator(f"{RESULTS} p").all_inner_texts()
    assert sentences[0].startswith("This is importance sampling")
    assert page.locator(f"{RESULTS} mark").first.inner_text().lower() == "importance"
    assert not [text for text in sentences if "import " in text or "\\" in text]
    ask(page, "perpetuum mobile")
    assert page.get_by_role("status").inner_text() == "Nothing found"


def test_the_dialog_leads_to_the_section_and_marks_the_words(server: str, page) -> None:
    page.goto(f"{server}/ko/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("판별자와")
    page.click("#pst-search-dialog .search-results a")
    page.wait_for_selector("article .highlighted")
    assert page.url == f"{server}/ko/04-gan.html#section-4-2"
    assert page.inner_text("article .highlighted") == "판별자"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_results_fit_a_phone(server: str, browser, theme: str) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800}, color_scheme=theme)
    page.goto(f"{server}/ko/search.html?q={quote('사후 분포')}")
    page.wait_for_selector(f"{RESULTS} a")
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.close()


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"p(x \mid z)", "p(x | z)"),
        (r"C = WW^\top + \sigma^2 I", "C = WWᵀ + σ² I"),
        (r"\tfrac12 \nu \log N", "1/2 ν log N"),
        (r"q_\phi(z \mid x)", "q_ϕ(z | x)"),
        (r"\mathrm{KL}(p \,\Vert\, q) \ge 0", "KL(p ‖ q) ≥ 0"),
    ],
)
def test_formulas_are_written_without_tex(tex: str, text: str) -> None:
    assert search.untex(tex) == text
