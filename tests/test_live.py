"""Every live figure has a page of its own, and a button that says how to share it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import live
import notebooks
import pytest
from test_site import PAGES, Page

ROOT = Path(__file__).resolve().parent.parent


def figures(lang: str) -> list[tuple[str, str, str]]:
    """Language, page and name of each live figure, from the notebooks."""
    found = []
    for page in (name for one, name in PAGES if one == lang):
        notebook = ROOT / "book" / lang / f"{page}.ipynb"
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook.exists() else []
        for cell, below in zip(cells, [*cells[1:], {"source": ""}], strict=False):
            if any(live.VIEW in output.get("data", {}) for output in cell.get("outputs", ())):
                caption = re.match(r"\*\*(?:그림|Figure) (\d+)\.(\d+)\.\*\*", "".join(below["source"]))
                found.append((lang, page, f"figure-{caption[1]}-{caption[2]}" if caption else page))
    return found


FIGURES = [figure for lang in notebooks.LANGUAGES for figure in figures(lang)]


@pytest.mark.parametrize("lang", notebooks.LANGUAGES)
def test_every_live_figure_has_a_page_and_no_other_has(site: Path, lang: str) -> None:
    names = {name for one, _, name in FIGURES if one == lang}
    assert len(names) >= 10
    assert {path.stem for path in (site / lang / "embed").iterdir()} == names


@pytest.mark.parametrize(("lang", "page", "name"), FIGURES, ids=["/".join(figure) for figure in FIGURES])
def test_it_runs_alone_on_a_phone(site: Path, server: str, visit, lang: str, page: str, name: str) -> None:
    tab = visit(f"{server}/{lang}/embed/{name}.html", width=375, color_scheme="dark")
    tab.wait_for_function("document.querySelector('.widget > div')?.shadowRoot?.querySelector('svg, canvas')")
    tab.wait_for_function("document.querySelector('.widget > div').dataset.theme === 'dark'")
    assert (
        tab.evaluate("(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('.widget'))")
        <= 0
    )
    for width in (375, 320):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator(".widget").bounding_box()["height"] > 200
    numbered = re.match(r"(그림|Figure) \d+\.\d+ · ", tab.locator("h1").inner_text())
    assert bool(numbered) == name.startswith("figure-")
    scripts = tab.eval_on_selector_all("script[src]", "all => all.map(({src}) => src.split('/').at(-1))")
    assert scripts == ["widgets.js"]
    target, _, place = tab.locator("main a").get_attribute("href").partition("#")
    assert target == f"../{page}.html"
    assert place in Page(site / lang / f"{page}.html").ids
    assert tab.faults == []


def test_the_button_tells_address_and_code_that_work(server: str, visit) -> None:
    tab = visit(f"{server}/ko/01-latent.html", width=375)
    tab.click(".share button >> nth=0")
    box = tab.locator(".share-box:popover-open")
    address = f"{server}/ko/embed/figure-1-2.html"
    assert box.locator("input").input_value() == address
    assert box.locator("input").bounding_box()["width"] > 250
    code = box.locator("textarea").input_value()
    box.locator("textarea").click()
    assert tab.evaluate("getSelection().toString()") == code
    tab.set_content(code)
    inside = tab.frame_locator("iframe")
    inside.locator(".handle").first.wait_for()
    assert (
        inside.locator("h1").inner_text() == tab.locator("iframe").get_attribute("title") == "그림 1.2 · 1. 잠재 변수"
    )
    assert inside.locator("html").evaluate("page => page.scrollHeight <= page.clientHeight"), "it scrolls in its frame"


def test_only_what_a_figure_needs_is_stored_with_it() -> None:
    state = {
        "a": {"state": {"layout": "IPY_MODEL_b", "value": 1}},
        "b": {"state": {}},
        "c": {"state": {"of": ["IPY_MODEL_d"]}},
        "d": {"state": {"back": "IPY_MODEL_c"}},
    }
    assert set(live.stored(state, "a")) == {"a", "b"}
    assert set(live.stored(state, "c")) == {"c", "d"}
