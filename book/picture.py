"""Draw from the built site its picture in the READMEs, and live figures at rest: `make picture`.

Writes `book/_static/site.png`, the live decoder of chapter 3 in the Korean edition, and its formulas in the English one
on a phone in the dark; and `book/_static/FIGURE-LANGUAGE.webp`, what a live figure's place shows without JavaScript.
"""

from __future__ import annotations

import io
from pathlib import Path

from audit import DRAWN, SITE, find_browser, served
from pdf import STANDS
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

SIZE = (1200, 630)
MARGIN = 15
SCALE = 0.75
#: Of each half its page, the place that is at the top, and its width in the picture.
HALVES = (("ko/03-vae", ".widget", "light", 855), ("en/03-vae", "#eq-3-10", "dark", 300))
STATIC = Path(__file__).resolve().parent / "_static"
TARGET = STATIC / "site.png"
TRAINED = "playground"  # shown as somebody left it, which no script does


def stills(root: str, browser: Browser) -> None:
    """Write every live figure as its own page draws it first."""
    page = browser.new_page(viewport={"width": 760, "height": 1000}, reduced_motion="reduce")
    for path in sorted(SITE.glob("*/embed/*.html")):
        if path.stem == TRAINED:
            continue
        page.goto(f"{root}/{path.relative_to(SITE).as_posix()}")
        page.wait_for_function(DRAWN)
        page.wait_for_timeout(1000)
        page.wait_for_function(STANDS)
        shown = Image.open(io.BytesIO(page.locator(".widget").screenshot()))
        shown.save(STATIC / f"{path.stem}-{path.parts[-3]}.webp", quality=80)
        print(path.stem, path.parts[-3], shown.size, flush=True)


def main() -> None:
    height = SIZE[1] - 2 * MARGIN
    picture = Image.new("RGB", SIZE, "#e3e8ee")
    left = MARGIN
    with served(SITE) as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        stills(root, browser)
        for name, place, scheme, width in HALVES:
            size = {"width": round(width / SCALE), "height": round(height / SCALE)}
            page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=2)
            page.goto(f"{root}/{name}.html")
            page.locator(".widget").scroll_into_view_if_needed()
            page.wait_for_function(DRAWN)
            page.locator(place).evaluate("element => scrollBy(0, element.getBoundingClientRect().top - 120)")
            page.wait_for_timeout(1000)
            shown = Image.open(io.BytesIO(page.screenshot()))
            picture.paste(shown.resize((width, height), Image.Resampling.LANCZOS), (left, MARGIN))
            left += width + MARGIN
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
