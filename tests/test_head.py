"""What search engines and previews read of the pages, the root page, and the page of lost readers."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import head
import notebooks
import pytest
from conftest import serve
from PIL import Image
from test_site import PAGES, Page, write_book

ROOT = Path(__file__).resolve().parent.parent
BASE = "https://book.example/generative/"


@pytest.fixture(scope="module")
def published(book_site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small book as built for an address of its own."""
    root = tmp_path_factory.mktemp("published")
    write_book(root)
    config = root / "_config.yml"
    config.write_text(config.read_text().replace('site_url: ""', f'site_url: "{BASE}"'))
    return book_site.build(root)


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_descriptions_are_plain_prose_in_the_page_s_language(site: Path, lang: str) -> None:
    seen = {}
    for name in (name for one, name in PAGES if one == lang):
        given = Page(site / lang / f"{name}.html").metadata
        text = given["description"]
        assert text == given["og:description"]
        assert 40 < len(text) <= 162, name
        assert not re.search(r"[\\{}$]", text), name
        assert bool(re.search("[가-힣]{2}", text)) == (lang == "ko"), name
        seen.setdefault(text, []).append(name)
    assert {names[0] for names in seen.values()} == {name for one, name in PAGES if one == lang}


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_a_title_names_page_and_book_once(site: Path, lang: str) -> None:
    titles = {}
    for name in [*(name for one, name in PAGES if one == lang), "search"]:
        text = (site / lang / f"{name}.html").read_text(encoding="utf-8")
        (title,) = re.findall("<title>(.*?)</title>", text)
        titles[name] = title
        parts = [part.lower() for part in title.split(" · ")]
        assert len(parts) == len(set(parts)) == (1 if name == "index" else 2)
        assert all(parts)
    assert len(set(titles.values())) == len(titles)


def test_without_an_address_nothing_claims_one(site: Path, book_site) -> None:
    if book_site.settings()["en"]["sphinx"]["config"]["site_url"]:
        pytest.skip("site_url is set")
    assert (site / "robots.txt").read_text() == "User-agent: *\nAllow: /\n"
    assert not (site / "sitemap.xml").exists()
    text = (site / "en" / "01-latent.html").read_text(encoding="utf-8")
    assert "canonical" not in text
    for page in ("en/01-latent", "index"):
        assert 'rel="alternate"' not in (site / f"{page}.html").read_text(encoding="utf-8")
    assert "og:image" not in text


def test_a_page_gives_its_address_and_the_picture_of_its_first_figure(published: Path) -> None:
    for lang in notebooks.LANGUAGES:
        for name, picture in (("01-a", "01-a"), ("second", "01-a"), ("index", "01-a")):
            page = Page(published / lang / f"{name}.html")
            given = page.metadata
            assert [one["href"] for tag, one in page.elements if tag == "link" and one.get("rel") == "canonical"] == [
                f"{BASE}{lang}/{name}.html"
            ]
            assert given["og:url"] == f"{BASE}{lang}/{name}.html"
            assert given["og:image"] == f"{BASE}previews/{picture}.png"
            assert given["og:image:alt"] == "흰 그림 white"
            with Image.open(published / "previews" / f"{picture}.png") as image:
                assert image.size == (int(given["og:image:width"]), int(given["og:image:height"])) == (1200, 630)


def test_every_page_and_the_root_name_both_editions(published: Path) -> None:
    for path, name in [("index", "index"), *((f"{lang}/second", "second") for lang in notebooks.LANGUAGES)]:
        links = [
            given for tag, given in Page(published / f"{path}.html").elements if tag == "link" and "hreflang" in given
        ]
        named = {given["hreflang"]: given["href"] for given in links if given["rel"] == "alternate"}
        assert named == {lang: f"{BASE}{lang}/{name}.html" for lang in notebooks.LANGUAGES} | {"x-default": BASE}


@pytest.mark.parametrize("url", ["https://book.example", "book.example/"])
def test_an_address_that_is_none_is_named(book_site, tmp_path: Path, url: str) -> None:
    write_book(tmp_path)
    config = tmp_path / "_config.yml"
    config.write_text(config.read_text().replace('site_url: ""', f'site_url: "{url}"'))
    with pytest.raises(book_site.SiteError, match=rf"site_url in _config.yml is {url}: it must .* end with /"):
        book_site.build(tmp_path)


def test_what_shares_a_live_figure_has_the_site_s_address(published: Path) -> None:
    for lang in notebooks.LANGUAGES:
        text = (published / lang / "01-a.html").read_text(encoding="utf-8")
        for name in ("01-a", "01-a-2"):
            assert f'&lt;iframe src="{BASE}{lang}/embed/{name}.html"' in text
            assert (published / lang / "embed" / f"{name}.html").exists()


def test_the_map_lists_every_page_of_both_editions(published: Path) -> None:
    assert (published / "robots.txt").read_text().endswith(f"Sitemap: {BASE}sitemap.xml\n")
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    urls = ElementTree.parse(published / "sitemap.xml").getroot()
    listed = {url.find(f"{space}loc").text for url in urls}
    assert listed == {
        f"{BASE}{lang}/{name}.html" for lang in notebooks.LANGUAGES for name in ("index", "01-a", "second", "equations")
    }
    for address in listed:
        assert (published / address.removeprefix(BASE)).exists()
    assert all(len(url.findall("{http://www.w3.org/1999/xhtml}link")) == 2 for url in urls)


def test_panels_are_laid_out_as_large_as_they_fit() -> None:
    file = io.BytesIO()
    Image.new("RGB", (100, 50), "black").save(file, "png")
    for count in (1, 2, 5):
        with Image.open(io.BytesIO(head.preview((file.getvalue(),) * count))) as picture:
            grey = picture.convert("L")
            left, top, right, bottom = grey.point(lambda value: 255 - value).getbbox()
            assert abs(left - (1200 - right)) <= 2
            assert abs(top - (630 - bottom)) <= 2
            assert min(left, top) >= head.MARGIN - 2
            assert abs(left - head.MARGIN) <= 3 or abs(top - head.MARGIN) <= 3


@pytest.mark.slow
def test_every_chapter_has_a_figure_to_show() -> None:
    for lang, name in PAGES:
        notebook = ROOT / "book" / lang / f"{name}.ipynb"
        if notebook.exists() and name[0].isdigit():
            panels, alt = head.first_figure(notebook)
            assert alt
            with Image.open(io.BytesIO(head.preview(panels))) as picture:
                assert picture.convert("L").getextrema()[0] < 128, f"{name}: a blank picture"


@pytest.fixture(scope="module")
def below(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site under a folder, as on GitHub Pages, whose server answers lost addresses with 404.html."""
    root = tmp_path_factory.mktemp("below")
    for name in ("a", "a/lost", "a/ko/deep/er"):
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(site / "404.html", root / name / "lost.html")
    for lang in notebooks.LANGUAGES:
        for name in ("index", "search"):
            (root / "a" / lang).mkdir(exist_ok=True)
            shutil.copy(site / lang / f"{name}.html", root / "a" / lang)
    yield from serve(root)


@pytest.mark.parametrize("path", ["a/lost.html", "a/lost/lost.html", "a/ko/deep/er/lost.html"])
def test_a_lost_reader_finds_the_book(below: str, browser, path: str) -> None:
    page = browser.new_page()
    page.goto(f"{below}/{path}")
    assert page.inner_text("h1")
    page.wait_for_function("base => document.querySelector('base').href === base", arg=f"{below}/a/")
    links = page.eval_on_selector_all("main a", "links => links.map((link) => link.href)")
    assert links == [f"{below}/a/{lang}/{name}.html" for lang in notebooks.LANGUAGES for name in ("index", "search")]
    assert all(page.request.get(link).ok for link in links)
    page.close()
