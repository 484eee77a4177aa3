from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import torch
from filelock import FileLock

if TYPE_CHECKING:
    from companion.widgets import Widget

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the models run: cpu, cuda, mps")
    parser.addoption(
        "--record-errors", action="store_true", help="write what the formulas' tests measure to errors.toml"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-errors"):
        import errors

        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--record-errors takes one process: leave out --numprocesses")
        config.pluginmanager.register(errors.Recorder())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --device, only the tests that use it; and whatever needs a built site or a browser is slow."""
    if config.getoption("--device") != "cpu":
        items[:] = [item for item in items if "device" in item.fixturenames]
    for item in items:
        if {"site", "browser", "small_site", "published"} & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def book_site() -> ModuleType:
    """`book/site.py` as a module (the name `site` is the standard library's)."""
    spec = importlib.util.spec_from_file_location("book_site", ROOT / "book" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def site(book_site: ModuleType, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the website, built once from the stored outputs by the process that needs it first."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    with FileLock(shared / "site.lock"):
        folder = shared / "site" / "html"
        return folder if folder.exists() else book_site.build(ROOT, folder)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def serve(folder: Path, handler: type[Quiet] = Quiet) -> Iterator[str]:
    """Serve a folder on a free port; yields the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """Address of the served website."""
    yield from serve(site)


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests; where there is none, they are skipped with the remedy as reason."""
    from audit import find_browser

    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on PATH (Debian, Ubuntu: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(browser) -> Iterator[Callable]:
    """Opens addresses of one origin in a fresh profile, some files late; keeps what went wrong in `.faults`."""
    contexts = []

    def visit(address: str, width: int = 1280, height: int = 800, late: tuple[str, ...] = (), **settings):
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(address))

        def guard(route) -> None:
            if late and route.request.url.partition("?")[0].endswith(late):
                time.sleep(0.3)
            if route.request.url.startswith((origin, "blob:", "data:")):
                route.continue_()
            else:
                page.faults.append(f"asked another origin: {route.request.url}")
                route.abort()

        context.route("**/*", guard)
        page.on("console", lambda said: said.type in ("error", "warning") and page.faults.append(said.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("response", lambda got: got.status >= 400 and page.faults.append(f"{got.status} {got.url}"))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    with visiting(browser) as visit:
        yield visit


# Widgets on a page of their own


def state_of(widget: Widget) -> dict[str, dict]:
    """The state of a widget and of what it refers to, as a notebook stores it."""
    from ipywidgets.embed import dependency_state  # here, because `make gpu` runs where ipywidgets may be missing

    return dependency_state([widget], drop_defaults=False)


PAGE = """<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>html[data-theme=dark] {{ background: #14181e; color: #ced6dd }} main {{ height: 3000px }}</style>
<body><main id="el"></main>{body}</body></html>"""

# A model as anywidget hands it to a widget's script; `saved` holds what goes to Python.
SHOW = """async ({state, buffers}) => {
  for (const {data, path} of buffers) {
    const holder = path.slice(0, -1).reduce((within, name) => within[name], state);
    holder[path.at(-1)] = new DataView(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer);
  }
  const listeners = {}, saved = [];
  let changes = {};
  const model = {
    get: (name) => state[name],
    set(name, value) { state[name] = changes[name] = value; (listeners[name] ?? []).forEach((call) => call()); },
    save_changes() { saved.push(changes); changes = {}; },
    on: (event, call) => (listeners[event.replace("change:", "")] ??= []).push(call),
    off: (event, call) => {
      const name = event.replace("change:", "");
      listeners[name] = listeners[name].filter((one) => one !== call);
    },
  };
  const url = URL.createObjectURL(new Blob([state._esm], {type: "text/javascript"}));
  const module = await import(url);
  const stop = module.default.render({model, el: document.querySelector("#el")});
  Object.assign(window, {model, module, saved, stop, listeners});
}"""
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
STANDS = "() => !document.querySelector('#el > [aria-busy=true]')"


class Stage:
    """A widget on a page of its own."""

    def __init__(self, page, widget: Widget) -> None:
        self.page, self.widget = page, widget
        page.goto("http://book.test/")
        model = state_of(widget)[widget.model_id]
        page.evaluate(SHOW, {"state": model["state"], "buffers": model.get("buffers", [])})
        self.settle()

    def settle(self) -> None:
        self.page.evaluate(FRAMES)
        self.page.wait_for_function(STANDS)

    def find(self, selector: str):
        return self.page.locator(f"#el {selector}")

    @property
    def data(self) -> dict:
        """The values that the root element exposes, numbers as numbers."""
        self.settle()
        texts = self.page.evaluate("() => ({...document.querySelector('#el > div').dataset})")
        return {name: parsed(text) for name, text in texts.items()}

    def drag(self, selector: str, right: float, down: float) -> None:
        box = self.find(selector).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        for part in (0.25, 0.5, 1):
            mouse.move(x + part * right, y + part * down)
        mouse.up()

    def swipe(self, selector: str, right: float, down: float) -> None:
        """The same with a finger."""
        box = self.find(selector).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        session = self.page.context.new_cdp_session(self.page)

        def touch(kind: str, *points: dict) -> None:
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

        touch("touchStart", {"x": x, "y": y})
        for part in (0.1, 0.4, 0.7, 1):
            touch("touchMove", {"x": x + part * right, "y": y + part * down})
        touch("touchEnd")

    def best_frame(self, name: str, values: list, enough: float = 33) -> float:
        """Milliseconds of the fastest frame while a trait takes these values, again and again until one is fast enough.

        Other work on the machine only slows a frame down, but may do so for seconds.
        """
        return self.page.evaluate(
            """async ([name, values, enough]) => {
              const begin = performance.now();
              let best = Infinity;
              while (best > enough && performance.now() - begin < 20_000) for (const value of values) {
                model.set(name, value);
                best = Math.min(best, await new Promise((done) => requestAnimationFrame(() => {
                  const start = performance.now(); // the widget's own callback was first
                  queueMicrotask(() => done(start - document.timeline.currentTime));
                })));
              }
              return best;
            }""",
            [name, values, enough],
        )

    def sync(self) -> None:
        """Let Python receive what JavaScript saved, as a kernel would."""
        self.settle()
        for changes in self.page.evaluate("() => saved.splice(0)"):
            self.widget.set_state(changes)


def parsed(text: str) -> float | str | list[float]:
    parts = text.split(",")
    try:
        return [float(part) for part in parts] if len(parts) > 1 else float(text)
    except ValueError:
        return text


@contextlib.contextmanager
def hosted(browser, widget: Widget) -> Iterator:
    """A page that draws the stored state and view, as a notebook holds them, by the site's script without a kernel."""
    state = json.dumps({"state": state_of(widget), "version_major": 2, "version_minor": 0}).replace("</", "<\\/")
    view = json.dumps({"model_id": widget.model_id, "version_major": 2, "version_minor": 0})
    body = (
        f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>'
        f'<script type="application/vnd.jupyter.widget-view+json">{view}</script><div class="widget"></div>'
        '<script defer src="/widgets.js"></script>'
    )
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    html = PAGE.format(lang="en", body=body)
    page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.route("**/widgets.js", lambda route: route.fulfill(path=ROOT / "book/_static/widgets.js"))
    page.goto("http://book.test/")
    page.locator(".widget").evaluate("element => element.scrollIntoView()")
    page.locator(".handle").first.wait_for()
    page.evaluate(FRAMES)
    yield page
    page.close()
    assert complaints == []


def arrow_key_is_felt(page) -> None:
    """ArrowUp on the first handle changes what the handle says of itself."""
    handle = page.locator(".handle").first
    label = handle.get_attribute("aria-valuetext")
    handle.press("ArrowUp")
    page.evaluate(FRAMES)
    assert handle.get_attribute("aria-valuetext") != label


#: For what depends neither on the width of a widget's page nor on its language.
one_tab = pytest.mark.parametrize("tab", [(1280, "en")], ids=["1280-en"], indirect=True)


@pytest.fixture(scope="module", params=[(1280, "en"), (375, "ko")], ids=["1280-en", "375-ko"])
def tab(request: pytest.FixtureRequest, browser) -> Iterator[tuple]:
    """An empty page in one language, and the complaints of its console."""
    width, lang = request.param
    page = browser.new_page(viewport={"width": width, "height": 800}, has_touch=True, reduced_motion="reduce")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    html = PAGE.format(lang=lang, body="")
    page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
    yield page, complaints
    page.close()


@pytest.fixture
def stage(tab: tuple) -> Iterator[Callable[[Widget], Stage]]:
    """Shows a widget; afterwards the console must be silent."""
    page, complaints = tab
    size = page.viewport_size
    yield lambda widget: Stage(page, widget)
    page.set_viewport_size(size)
    page.emulate_media(reduced_motion="reduce")
    seen = complaints.copy()
    complaints.clear()
    assert seen == []
