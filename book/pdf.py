"""Make each edition one PDF, with Chromium, from the built site: `make pdf`.

    python book/pdf.py [ko] [en]

Writes `_build/html/<language>/<language>.pdf` and puts a button that offers it on the edition's first page. Live
figures are pictures with the address at which they move; solutions stand at the end. Chromium does not know on which
page a link's target stands, so the book is printed until the numbers in its contents are those of the print before.
"""

from __future__ import annotations

import base64
import functools
import html
import importlib.util
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jinja2
from audit import DRAWN, SITE, find_browser, served
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader, PdfWriter

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
MARK = "<!-- pdf -->"  # in templates/article-header-buttons.html
BUTTON = (
    '<a class="btn btn-sm" href="{0}.pdf" download title="{1}" aria-label="PDF · {1}">'
    '<i class="fa-solid fa-download" aria-hidden="true"></i><span>PDF</span></a>'
)
#: The list of formulas repeats the pages, with what each test does; its sources are on the site.
LEFT_OUT = ("index", "equations")
TEXTS = {
    "ko": {
        "contents": "차례",
        "solutions": "풀이",
        "solution": ["풀이", "답"],
        "live": "움직이는 그림",
        "button": "이 책 전체를 PDF로 내려받기",
        "licence": "글과 그림 CC BY 4.0, 코드 MIT",
    },
    "en": {
        "contents": "Contents",
        "solutions": "Solutions",
        "solution": ["Solution", "Answer"],
        "live": "Live figure",
        "button": "Download the whole book as PDF",
        "licence": "Text and figures CC BY 4.0, code MIT",
    },
}
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
STANDS = "document.querySelector('.widget > [aria-busy=true]') === null"


@functools.cache
def _site() -> ModuleType:
    """`book/site.py` (the name `site` is the standard library's)."""
    spec = importlib.util.spec_from_file_location("book_site", BOOK / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(browser: Browser, address: str, names: list[str]) -> dict[str, str]:
    """Each live figure as it stands at first, as the address of a picture that it holds itself."""
    found = {}
    page = browser.new_page(viewport={"width": 720, "height": 900}, device_scale_factor=2, color_scheme="light")
    page.set_default_timeout(120_000)  # a figure may have a network to run
    for name in names:
        page.goto(f"{address}/embed/{name}.html")
        page.wait_for_function(DRAWN)
        page.evaluate(FRAMES)
        page.wait_for_function(STANDS)
        picture = page.locator(".widget").screenshot()
        found[name] = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    page.close()
    return found


def numbers(pdf: bytes) -> dict[str, int]:
    """The page, from 1, on which each place that a link leads to stands."""
    reader = PdfReader(io.BytesIO(pdf))
    found = reader.named_destinations.items()
    return {name.removeprefix("/"): reader.get_destination_page_number(place) + 1 for name, place in found}


def edition(lang: str, browser: Browser, address: str, site: Path, root: Path = ROOT) -> bytes:
    """The PDF of an edition that is served at `address`."""
    config = _site().settings(root)[lang]
    names = [name for name in _site().pages(lang, root) if name not in LEFT_OUT]
    texts = {name: (site / lang / f"{name}.html").read_text(encoding="utf-8") for name in names}
    headings = {name: html.unescape(re.search("<title>(.*?) · ", text)[1]) for name, text in texts.items()}
    base = config["sphinx"]["config"]["site_url"]
    skeleton = jinja2.Template((BOOK / "pdf.html").read_text(encoding="utf-8")).render(
        lang=lang,
        title=config["title"],
        author=config["author"],
        version=tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        licence=TEXTS[lang]["licence"],
        base=base,
        stylesheet=re.search(r'<link rel="stylesheet" href="([^"]+)"', texts[names[0]])[1],
        headings=headings | {"solutions": TEXTS[lang]["solutions"]},
        words=TEXTS[lang],
    )
    moving = [
        name for text in texts.values() if "<noscript>\n" not in text for name in re.findall('id="share-(.*?)"', text)
    ]
    page = browser.new_page()
    page.emulate_media(media="print")
    page.route(f"{address}/book.html", lambda route: route.fulfill(body=skeleton, content_type="text/html"))
    page.goto(f"{address}/book.html")
    given = {
        "pages": names,
        "pictures": pictures(browser, address, moving),
        "folder": f"{base}{lang}/" if base else "",
        "words": TEXTS[lang],
    }
    page.evaluate((BOOK / "pdf.js").read_text(encoding="utf-8"), given)
    pdf, known = b"", None
    while known != (known := numbers(pdf := page.pdf(prefer_css_page_size=True, print_background=True))):
        page.evaluate(
            """numbers => document.querySelectorAll(".book-contents a").forEach(({ hash, lastChild }) => {
              lastChild.textContent = numbers[decodeURIComponent(hash.slice(1))];
            })""",
            known,
        )
    entries = page.eval_on_selector_all(
        ".book-contents a",
        "links => links.map(({hash, innerText, parentElement}) => [decodeURIComponent(hash.slice(1)), "
        "parentElement.parentElement.closest('li') !== null])",
    )
    titles = page.eval_on_selector_all(".book-contents a > :first-child", "all => all.map(({innerText}) => innerText)")
    page.close()
    return _with_outline(
        pdf, config["title"], [(t, known[a], deep) for t, (a, deep) in zip(titles, entries, strict=True)]
    )


def _with_outline(pdf: bytes, title: str, entries: list[tuple[str, int, bool]]) -> bytes:
    """The contents as the outline that a reader shows at the side."""
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    writer.add_metadata({"/Title": title})
    parent = None
    for text, number, deep in entries:
        item = writer.add_outline_item(
            title=" ".join(text.split()), page_number=number - 1, parent=parent if deep else None
        )
        parent = parent if deep else item
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def make(languages: list[str], site: Path = SITE, root: Path = ROOT) -> Iterator[tuple[Path, int]]:
    """Write the PDF of each edition beside its pages and offer it there; yields file and number of pages."""
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for lang in languages:
            target = site / lang / f"{lang}.pdf"
            target.write_bytes(edition(lang, browser, f"{address}/{lang}", site, root))
            offer(site, lang)
            yield target, len(PdfReader(target).pages)


def offer(site: Path, lang: str) -> None:
    """Put the button that downloads the PDF on the edition's first page."""
    first = site / lang / "index.html"
    text = first.read_text(encoding="utf-8").replace(MARK, BUTTON.format(lang, TEXTS[lang]["button"]))
    first.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    languages = sys.argv[1:] or list(TEXTS)
    if not find_browser():
        print("make pdf: no Chromium on PATH (Debian, Ubuntu: apt install chromium)", file=sys.stderr)
        return 2
    for target, count in make(languages):
        print(f"{target.relative_to(ROOT)}: {count} pages, {target.stat().st_size / 1e6:.1f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
