"""Measure the live figures of the built site, so that its pages keep their place free: `make heights`.

Writes `book/_ext/heights.json`: of each page with live figures, their heights in pixels at the widths below.
"""

from __future__ import annotations

import json
from pathlib import Path

from audit import SITE, find_browser, served
from playwright.sync_api import sync_playwright

WIDTHS = (375, 412, 1280)  # custom.css: below 394 px, below 600 px, above
START = "dispatchEvent(new Event('beforeprint'))"
DRAWN = "[...document.querySelectorAll('.widget')].every((one) => one.hasChildNodes())"
FIT = "document.querySelectorAll('.widget').forEach(({style}) => (style.minHeight = 0))"
HEIGHTS = "[...document.querySelectorAll('.widget')].map((one) => Math.round(one.getBoundingClientRect().height))"


def main() -> None:
    heights = {}
    with served(SITE) as root, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"]).new_page()
        for path in sorted(SITE.glob("*/*.html")):
            if "widget-view+json" not in path.read_text(encoding="utf-8"):
                continue
            name = f"{path.parent.name}/{path.stem}"
            page.goto(f"{root}/{name}.html")
            page.evaluate(START)
            page.wait_for_function(DRAWN)
            page.evaluate(FIT)
            rows = []
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                page.wait_for_timeout(500)
                rows.append(page.evaluate(HEIGHTS))
            heights[name] = [list(figure) for figure in zip(*rows, strict=True)]
            print(name, heights[name], flush=True)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(figures)}" for name, figures in heights.items())
    target = Path(__file__).resolve().parent / "_ext" / "heights.json"
    target.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
