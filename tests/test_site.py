"""The website: what is built, and what a reader meets in a real browser. Nothing may come from another origin."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import time
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import anywidget
import equations
import frame
import live
import nbformat
import notebooks
import pdf
import pytest
import traitlets
from conftest import Quiet, serve, visiting
from docutils import nodes
from docutils.utils import new_document
from ipywidgets.embed import dependency_state
from PIL import Image
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent


LANGUAGES = notebooks.LANGUAGES
OTHER = dict(zip(LANGUAGES, reversed(LANGUAGES), strict=True))
PAGES = [
    (lang, name)
    for lang in LANGUAGES
    for name in re.findall(r"(?:root|file): (\S+)", (ROOT / "book" / lang / "_toc.yml").read_text())
]
every_page = pytest.mark.parametrize(("lang", "name"), PAGES, ids=[f"{lang}/{name}" for lang, name in PAGES])


#: What holds no prose: Python says "next", too.
SILENT = ("script", "style", "pre")


class Page(HTMLParser):
    """Ids, links, resources, pictures and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[dict] = []
        self.resources: list[str] = []
        self.images: list[dict] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.elements.append((tag, given))
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given)
        if tag == "img":
            self.images.append(given)
        if "src" in given:
            self.resources.append(given["src"])
        if tag == "link" and given.get("rel") not in ("alternate", "next", "prev"):
            self.resources.append(given["href"])
        self._silent += tag in SILENT

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    def having(self, name: str) -> list[dict]:
        return [given for _, given in self.elements if name in (given.get("class") or "").split()]

    @property
    def metadata(self) -> dict[str, str]:
        return {
            given.get("property") or given.get("name"): given["content"]
            for tag, given in self.elements
            if tag == "meta" and "content" in given
        }


@pytest.fixture(scope="module")
def read(site: Path):
    cache: dict[Path, Page] = {}

    def read(path: str | Path) -> Page:
        path = site / path
        if path not in cache:
            cache[path] = Page(path)
        return cache[path]

    return read


# ---------------------------------------------------------------------- what is built


def test_both_editions_and_what_they_share_are_there(site: Path) -> None:
    for lang, name in PAGES:
        assert (site / lang / f"{name}.html").exists()
    for name in ("index.html", "404.html", ".nojekyll", "robots.txt", "math/LICENSE"):
        assert (site / name).exists()
    assert {name for lang, name in PAGES if lang == "ko"} == {name for lang, name in PAGES if lang == "en"}
    assert not [
        path
        for path in site.iterdir()
        if path.name not in {*LANGUAGES, "index.html", "404.html", ".nojekyll", "robots.txt", "math", "assets"}
        and path.suffix != ".whl"
    ]


@every_page
def test_links_and_resources_resolve_within_the_site(site: Path, read, lang: str, name: str) -> None:
    page = read(f"{lang}/{name}.html")
    broken = []
    for target in [link["href"] for link in page.links] + page.resources:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        path = (site / lang / unquote(parts.path)).resolve() if parts.path else site / lang / f"{name}.html"
        if not path.exists() or (
            parts.fragment and path.suffix == ".html" and unquote(parts.fragment) not in read(path).ids
        ):
            broken.append(target)
    assert broken == []


@every_page
def test_nothing_is_loaded_from_another_origin(read, lang: str, name: str) -> None:
    assert [target for target in read(f"{lang}/{name}.html").resources if urlsplit(target).netloc] == []


@every_page
def test_a_page_says_its_language_and_names_its_twin(book_site, read, lang: str, name: str) -> None:
    page = read(f"{lang}/{name}.html")
    assert dict(page.elements)["html"]["lang"] == lang
    alternates = {
        given["hreflang"]: given["href"] for tag, given in page.elements if tag == "link" and "hreflang" in given
    }
    base = book_site.settings()[lang]["sphinx"]["config"]["site_url"]
    assert alternates == ({one: f"{base}{one}/{name}.html" for one in LANGUAGES} | {"x-default": base} if base else {})
    (switch,) = page.having("language-switch")
    assert (switch["href"], switch["lang"]) == (f"../{OTHER[lang]}/{name}.html", OTHER[lang])
    assert page.metadata["og:title"]
    assert page.metadata["og:description"]


@every_page
def test_notebooks_open_on_colab_and_download(site: Path, read, lang: str, name: str) -> None:
    page = read(f"{lang}/{name}.html")
    download = [given["href"] for given in page.having("download-button")]
    source = ROOT / "book" / lang / f"{name}.ipynb"
    if not source.exists():
        assert page.having("colab-button") == download == []
        return
    assert (site / lang / download[0]).read_bytes() == source.read_bytes()
    (button,) = page.having("colab-button")  # the repository's address is still the one that nobody can have
    assert button["popovertarget"] in page.ids
    (wheel,) = site.glob("companion-*.whl")
    assert {download[0], f"../{wheel.name}"} <= {link["href"] for link in page.links}


def test_where_the_repository_is_published_the_button_leads_to_colab() -> None:
    url = "https://github.com/somebody/book"
    theme = {"repository_url": url, "repository_branch": "v1.2.3", "path_to_docs": "book"}
    config = SimpleNamespace(language="en", html_theme_options=theme, site_url="", html_title="A book")
    context: dict = {"script_files": []}
    app = SimpleNamespace(config=config, srcdir=ROOT / "book" / "en")
    frame._page_context(app, "01-latent", "page.html", context, None)
    colab = "https://colab.research.google.com/github/somebody/book/blob/v1.2.3/book/en/01-latent.ipynb"
    assert context["frame"]["colab_url"] == colab
    assert "colab_steps" not in context["frame"]


@every_page
def test_no_link_leads_to_the_repository_that_nobody_can_have(read, lang: str, name: str) -> None:
    owner_and_name = "/".join(notebooks.repository()[0].split("/")[-2:])
    assert [link["href"] for link in read(f"{lang}/{name}.html").links if owner_and_name in link["href"]] == []


@every_page
def test_pictures_are_described(read, lang: str, name: str) -> None:
    for image in read(f"{lang}/{name}.html").images:
        assert "alt" in image
        assert not re.search(r"\.(png|svg)|_images", image["alt"])


@every_page
def test_formulas_are_drawn_in_the_page(site: Path, read, lang: str, name: str) -> None:
    """Each has its drawing, with a style for every glyph, and MathML; no script will have to do it."""
    page = (site / lang / f"{name}.html").read_text()
    formulas = re.findall(r'<(?:span|div) class="math [^>]*>(.*?)</(?:span|div)>', page, re.DOTALL)
    assert len(formulas) == page.count('class="math ')
    for formula in formulas:
        assert re.fullmatch(r"<mjx-container .*<mjx-c .*<math .*</math>.*</mjx-container>", formula, re.DOTALL)
    styles = "".join((site / "assets" / sheet).read_text() for sheet in re.findall(r'assets/([^"?]+\.css)', page))
    glyphs = {glyph.replace(" ", ".") for glyph in re.findall(r'<mjx-c class="([^"]+)"', page)}
    assert {glyph for glyph in glyphs if f"mjx-c.{glyph}::before" not in styles} == set()
    assert "mathjax" not in " ".join(read(f"{lang}/{name}.html").resources).lower()


@every_page
def test_the_place_of_every_live_figure_is_kept_free(read, lang: str, name: str) -> None:
    styles = [given["style"] for given in read(f"{lang}/{name}.html").having("widget")]
    assert [style.count("px") for style in styles] == [len(live.SCREENS)] * len(styles), "run `make heights`"


@every_page
def test_every_live_figure_is_a_picture_where_no_script_runs(read, lang: str, name: str) -> None:
    page = read(f"{lang}/{name}.html")
    stills = [given for given in page.images if given["src"].endswith(f"-{lang}.webp") and "class" not in given]
    assert len(stills) == len(page.having("widget")), "run `make picture`"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_formula_has_its_place_its_checks_and_its_entry(read, lang: str) -> None:
    index = read(f"{lang}/equations.html")
    targets = {link["href"] for link in index.links}
    checks = equations.checks(ROOT / "tests")
    for formula in equations.formulas(ROOT / "book" / "chapters"):
        page = read(f"{lang}/{formula.chapter}.html")
        assert formula.anchor in page.ids
        assert formula.anchor in index.ids
        assert f"{formula.chapter}.html#{formula.anchor}" in targets
        (mark,) = (given for given in page.having("formula-check") if given["data-number"] == formula.number)
        assert mark["href"] == f"equations.html#{formula.anchor}"
        for test in checks:
            if test.number == formula.number:
                file = f"{Path(test.path).stem}.html"
                assert f"{file}#L-{test.line}" in targets
                assert f"L-{test.line}" in read(f"{lang}/{file}").ids


@every_page
def test_every_figure_and_every_mistake_has_its_address(read, lang: str, name: str) -> None:
    page = read(f"{lang}/{name}.html")
    targets = {link["href"] for link in page.having("headerlink")}
    places = [given["id"] for css in ("figure-caption", "callout-mistake") for given in page.having(css)]
    assert {f"#{place}" for place in places} <= targets
    twin = read(f"{OTHER[lang]}/{name}.html")
    assert places == [given["id"] for css in ("figure-caption", "callout-mistake") for given in twin.having(css)]


def test_the_korean_frame_speaks_korean(read) -> None:
    for lang, name in PAGES:
        if lang == "ko":
            page = read(f"{lang}/{name}.html")
            said = [
                given[key]
                for _, given in page.elements
                for key in ("title", "aria-label", "placeholder", "data-bs-title")
                if given.get(key) and not re.search("[가-힣]", given[key])
            ]
            assert set(said) <= {"Read in English"}
            frame = {
                "Search",
                "Previous",
                "Next",
                "previous",
                "next",
                "Contents",
                "On this page",
                "Copyright",
                "Back to top",
            }
            assert not frame & {word.strip() for word in page.words}


def test_a_particle_is_tied_to_what_is_before_it_whatever_else_is_alike() -> None:
    document = new_document("")
    reference = nodes.reference("", "(1.1)", classes=["formula-link"])
    texts = [nodes.Text(text) for text in ("식 ", "은 둘, ", "은 둘, ", "식 ", "다")]
    document += nodes.paragraph("", "", texts[0], reference, texts[1], nodes.math("", "x"), *texts[2:])
    frame.LineBreaks(document).apply()
    assert document.astext().replace("x", "") == "식\u00a0(1.1)\u2060은 둘, 은 둘, 식 다"


# ------------------------------------------------------- a small book with one of each


class Scale(anywidget.AnyWidget):
    _esm = """
    export default () => ({
      initialize({ model }) { model.set("ready", true); },
      render({ model, el, signal }) {
        const weights = new Float32Array(model.get("weights").buffer);
        const input = document.createElement("input");
        Object.assign(input, { type: "range", max: 10, value: model.get("value") });
        const output = document.createElement("output");
        const draw = () => { output.textContent = `${model.get("ready")} ${model.get("value") * weights[1]}`; };
        input.addEventListener("input", () => { model.set("value", Number(input.value)); model.save_changes(); });
        model.on("change:value", draw);
        draw();
        el.append(input, output);
      },
    });
    """
    _css = "input { accent-color: rgb(1, 2, 3); }"
    value = traitlets.Int(3).tag(sync=True)
    weights = traitlets.Bytes(b"\x00\x00\x80?\x00\x00 @").tag(sync=True)  # 1.0 and 2.5 as float32
    ready = traitlets.Bool(False).tag(sync=True)


FIRST = {
    "ko": "# 1. 잠재 변수\n\n확률은 (1.1)에서 온다. `(1.1)`과 $f(1.1)$은 그대로다. 잠재변수를 학습한다.\n\n"
    "> **흔한 오해.** 노트의 식은 틀렸다.\n\n> 그냥 인용이다.",
    "en": "# 1. Latent variables\n\nProbability comes from (1.1). `(1.1)` and $f(1.1)$ stay.\n\n"
    "> **Common mistake.** The notes are wrong.\n\n> Just a quotation.",
}
FORMULA = r"""$$
\begin{aligned}
p(x) &= \int p(x, z)\,dz \\
     &= \int p(x \mid z)\, p(z)\,dz
\end{aligned} \tag{1.1}
$$"""
SUM = " + ".join(f"x_{{{i}}}^2" for i in range(60))
WIDE = f"$$ {SUM} = 1 \\tag{{1.2}} $$"
TABLE = "| | What it means | Where it stands |\n|---|---|---|\n| " + " | ".join(["inconceivably" * 2] * 3) + " |\n\n"
NUMBERS = "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n"
SECOND = {
    "ko": "# 둘째 쪽\n\n식 (1.1)을 $\\text{한글}$과 그림 1.1과 본다. 오차가 10 nat다.\n\n"
    f"{'보자 ($x_1 + x_2$)라고 $y$는. ' * 40}",
    "en": f"# A second page\n\nBack to (1.1) and Figure 1.1 once more, not to Figure 1.9.\n\n"
    f"Let ${SUM}$.\n\n{TABLE}{NUMBERS}",
}
INDEX = {"ko": "# 작은 책\n\n- [1장](01-a.ipynb)", "en": "# A small book\n\n- [Chapter 1](01-a.ipynb)"}
LIST = {"ko": "# 공식", "en": "# Formulas"}
FEW = "import pytest\n\n@pytest.mark.equation('1.1')\ndef test_one():\n    pass\n"
MANY = "import pytest\n" + "".join(f"\n@pytest.mark.equation('1.2')\ndef test_{i}():\n    pass\n" for i in range(5))


def write_book(root: Path) -> None:
    (root / "book" / "chapters").mkdir(parents=True)
    (root / "tests").mkdir()
    shutil.copy(ROOT / "_config.yml", root)
    (root / "tests" / "test_few.py").write_text(FEW)
    (root / "tests" / "test_many.py").write_text(MANY)
    methods = "".join(f'["1.{i}"]\nko = "`합`이다 {i}."\nen = "A sum {i}."\n' for i in (1, 2))
    (root / "tests" / "methods.toml").write_text(methods)
    errors = 'torch = "2.0"\n["1.1"]\nnumbers = 1200\nrelative = [3e-12, 1e-9]\n["1.2"]\nnumbers = 0\n'
    (root / "tests" / "errors.toml").write_text(errors)
    (root / "companion").mkdir()
    (root / "companion" / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    (root / "book" / "chapters" / "01-a.md").write_text(f"{FORMULA}\n\n{WIDE}\n")
    widget = Scale()
    picture = io.BytesIO()
    Image.new("RGB", (640, 320), "white").save(picture, "png")
    view = {
        "application/vnd.jupyter.widget-view+json": {
            "model_id": widget.model_id,
            "version_major": 2,
            "version_minor": 0,
        }
    }
    image = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": "a figure"}
    for lang in LANGUAGES:
        folder = root / "book" / lang
        folder.mkdir()
        cells = [
            nbformat.v4.new_markdown_cell(f"{FIRST[lang]}\n\n{FORMULA}\n\n{WIDE}"),
            nbformat.v4.new_code_cell(
                "#@title 풀이 · Solution 1.1\nx = 1", metadata={"tags": ["hide-cell"]}, execution_count=1
            ),
            nbformat.v4.new_code_cell(
                "plt.plot(x)",
                metadata={
                    "tags": ["hide-input"],
                    "mystnb": {"image": {"alt": "흰 그림 white"}},
                },
                execution_count=2,
                outputs=[nbformat.v4.new_output("display_data", image)],
            ),
            nbformat.v4.new_markdown_cell({"ko": "**그림 1.1.** $p(x)$", "en": "**Figure 1.1.** $p(x)$"}[lang]),
            nbformat.v4.new_code_cell(
                "Scale()", execution_count=3, outputs=[nbformat.v4.new_output("display_data", view)] * 2
            ),
        ]
        state = {"state": dependency_state([widget], drop_defaults=False), "version_major": 2, "version_minor": 0}
        metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "widgets": {"application/vnd.jupyter.widget-state+json": json.loads(json.dumps(state))},
        }
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "01-a.ipynb")
        for name, text in (("index", INDEX), ("second", SECOND), ("equations", LIST)):
            (folder / f"{name}.md").write_text(text[lang])
        contents = "format: jb-book\nroot: index\nchapters:\n- file: 01-a\n- file: second\n- file: equations\n"
        (folder / "_toc.yml").write_text(contents)


@pytest.fixture(scope="module")
def small_site(book_site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("book")
    write_book(root)
    return book_site.build(root)


@pytest.fixture(scope="module")
def small_server(small_site: Path) -> Iterator[str]:
    yield from serve(small_site)


def test_references_are_links_outside_of_code_and_mathematics(small_site: Path) -> None:
    for lang in LANGUAGES:
        page = Page(small_site / lang / "01-a.html")
        assert [link["href"] for link in page.having("formula-link")] == ["#eq-1-1"]
        second = Page(small_site / lang / "second.html")
        assert [link["href"] for link in second.having("formula-link")] == ["01-a.html#eq-1-1"]


def test_a_formula_shows_its_number_once_and_its_tests(small_site: Path) -> None:
    text = (small_site / "ko" / "01-a.html").read_text()
    assert "\\tag" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    page = Page(small_site / "ko" / "01-a.html")
    first, second = page.having("formula-check")
    assert (first["href"], second["href"]) == ("equations.html#eq-1-1", "equations.html#eq-1-2")
    assert first["aria-label"] == "식 (1.1) 확인"


def test_the_list_says_method_and_error_and_links_every_test(small_site: Path) -> None:
    page = Page(small_site / "en" / "equations.html")
    said = " ".join(page.words)
    assert "A sum 1." in said
    assert (
        "1,200 numbers compared. The relative difference closest to its tolerance is 3·10⁻¹²; 10⁻⁹ is allowed." in said
    )
    assert "The test asks for equality or an inequality" in said
    names = [given["href"] for given in page.having("check-name")]
    assert names == ["test_few.html#L-4", *(f"test_many.html#L-{line}" for line in (4, 8, 12, 16, 20))]
    assert "<code>합</code>이다" in (small_site / "ko" / "equations.html").read_text()


def test_a_caption_can_be_referred_to(small_site: Path) -> None:
    for lang in LANGUAGES:
        page = Page(small_site / lang / "01-a.html")
        assert [caption["id"] for caption in page.having("figure-caption")] == ["figure-1-1"]
        links = Page(small_site / lang / "second.html").having("figure-link")
        assert [link["href"] for link in links] == ["01-a.html#figure-1-1"]


def test_call_outs_and_hidden_cells_speak_the_language(small_site: Path) -> None:
    for lang, title, cell in (("ko", "흔한 오해", "풀이 1.1"), ("en", "Common mistake", "Solution 1.1")):
        page = Page(small_site / lang / "01-a.html")
        assert len(page.having("callout-mistake")) == 1
        assert title in page.words
        assert cell in page.words
        assert sum(tag == "blockquote" for tag, _ in page.elements) == 1


@pytest.mark.slow
def test_a_warning_fails_the_build_and_keeps_the_old_site(book_site, tmp_path: Path) -> None:
    write_book(tmp_path)
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "old.html").touch()
    (tmp_path / "book" / "en" / "second.md").write_text("# A second page\n\n[nowhere](nowhere.md)\n")
    with pytest.raises(book_site.SiteError, match=r"book/en does not build:\n.*second.md.*nowhere"):
        book_site.build(tmp_path)
    assert not list((tmp_path / "_build").glob("site-*"))
    assert (tmp_path / "_build" / "html" / "old.html").exists()


@pytest.mark.slow
def test_an_error_in_tex_names_page_and_formula(book_site, tmp_path: Path) -> None:
    write_book(tmp_path)
    page = tmp_path / "book" / "en" / "second.md"
    page.write_text(page.read_text() + r"Here $\nope < 1$ and $$\frac{1$$" + "\n")
    with pytest.raises(book_site.SiteError) as error:
        book_site.build(tmp_path)
    assert str(error.value).splitlines()[1:] == [
        r"en/second: Missing close brace: \frac{1",
        r"en/second: Undefined control sequence \nope: \nope < 1",
    ]
    assert not (tmp_path / "_build" / "html").exists()


def test_a_missing_page_is_named_with_the_remedy(book_site, tmp_path: Path) -> None:
    write_book(tmp_path)
    (tmp_path / "book" / "en" / "second.md").unlink()
    with pytest.raises(book_site.SiteError, match=r"book/en/_toc.yml lists second, .* `make notebooks`"):
        book_site.build(tmp_path)


def test_the_site_is_built_again_only_if_something_has_changed(book_site, tmp_path: Path, monkeypatch, capsys) -> None:
    write_book(tmp_path)
    html = tmp_path / "_build" / "html"
    built = []

    def build(root: Path) -> None:
        built.append(root)
        html.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(book_site, "ROOT", tmp_path)
    monkeypatch.setattr(book_site, "build", build)
    assert book_site.main() == book_site.main() == 0
    assert built == [tmp_path]
    assert "Nothing has changed" in capsys.readouterr().out
    for count, name in enumerate(
        ("book/en/second.md", "tests/methods.toml", "companion/__init__.py", "_config.yml"), 2
    ):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        book_site.main()
        assert len(built) == count, name
    html.rmdir()
    book_site.main()
    assert len(built) == 6


# ---------------------------------------------------------------- in a real browser


def start_widgets(page) -> None:
    """Go near each widget, wait until it is drawn, and come back."""
    for widget in page.locator(".widget").all():
        widget.evaluate("element => (element.closest('details')?.setAttribute('open', ''), element.scrollIntoView())")
        page.wait_for_function("element => element.hasChildNodes()", arg=widget.element_handle())
    page.evaluate("scrollTo(0, 0)")


@pytest.fixture(scope="module", params=PAGES, ids=[f"{lang}/{name}" for lang, name in PAGES])
def opened(request: pytest.FixtureRequest, server: str, browser) -> Iterator[tuple]:
    """Language, name and a page on which every widget is drawn: to draw it takes longer than to look at it."""
    lang, name = request.param
    with visiting(browser) as visit:
        page = visit(f"{server}/{lang}/{name}.html")
        start_widgets(page)
        yield lang, name, page


LOOKS = """() => ({
  overflow: document.documentElement.scrollWidth - innerWidth,
  cut: [...document.querySelectorAll("div.math mjx-container")].filter(
    (element) => element.getBoundingClientRect().left < element.parentElement.getBoundingClientRect().left - 1).length,
  widgets: [...document.querySelectorAll(".widget")].every((element) => element.childElementCount > 0),
})"""
SEARCHES = """() => [...document.querySelectorAll(".search-button__button, .bd-search input")].filter(
    (element) => element.checkVisibility() && element.getBoundingClientRect().right > 0).length"""


def test_a_page_looks_right_on_a_phone_and_on_a_desk(opened: tuple) -> None:
    _, _, page = opened
    assert not re.search(r"\$\$|\\begin|\\\[", page.evaluate("document.querySelector('article')?.innerText ?? ''"))
    for width in (375, 320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(f"({SEARCHES})() === 1")  # the sidebar slides in
        looks = page.evaluate(LOOKS)
        assert looks["overflow"] <= 0, f"at {width} px the page scrolls sideways"
        assert looks["cut"] == 0, f"at {width} px the start of a formula cannot be reached"
        assert looks["widgets"]
    assert page.faults == []


# For every section and some twenty formulas and figures: where the switch leads when the address names one, and when it
# is only in view. What cannot come to the top, near the end of a page, has no answer to the second question. Both
# editions have the same places; the formulas and figures that the one is asked for lie between those of the other.
SWITCH = """async (lang) => {
  const link = document.querySelector(".language-switch");
  document.addEventListener("click", (event) => event.preventDefault());
  document.documentElement.style.scrollBehavior = "auto";
  const here = () => (link.click(), new URL(link.href).hash.slice(1));
  const places = [...document.querySelectorAll("article :is(section, .formula, .figure-caption)[id]")];
  const step = Math.ceil(places.length / 20), first = lang === "ko" ? 0 : Math.floor(step / 2);
  const answers = [], barred = document.querySelector(".formula-filter") !== null;
  for (const place of places.filter((place, i) => place.matches("section") || i % step === first)) {
    location.hash = place.id;
    const aimed = here();
    history.replaceState(null, "", location.pathname);
    const covered = barred ? parseFloat(getComputedStyle(place).scrollMarginTop) : 0;
    const top = () => place.getBoundingClientRect().top - covered;
    scrollBy(0, top());
    answers.push({ id: place.id, aimed, seen: Math.abs(top()) < 10 ? here() : null });
  }
  return answers;
}"""


def test_the_switch_keeps_the_place(opened: tuple, site: Path) -> None:
    lang, name, page = opened
    page.set_viewport_size({"width": 1280, "height": 800})
    answers = page.evaluate(SWITCH, lang)
    other = (site / OTHER[lang] / f"{name}.html").read_text(encoding="utf-8")
    first, *rest = answers
    assert first["seen"] in ("", None), "at the top of a page the switch leads to the top"
    for answer in answers:
        assert answer["aimed"] == answer["id"]
        assert f'id="{answer["id"]}"' in other
    for answer in rest:
        assert answer["seen"] in (answer["id"], None)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_switch_keeps_page_and_place_and_is_remembered(small_server: str, visit, lang: str) -> None:
    page = visit(f"{small_server}/{lang}/01-a.html#eq-1-2")
    page.click(".language-switch")
    page.wait_for_url(f"{small_server}/{OTHER[lang]}/01-a.html#eq-1-2")
    page.goto(small_server)
    page.wait_for_url(f"{small_server}/{OTHER[lang]}/index.html")
    assert page.faults == []


@pytest.mark.parametrize(("locale", "lang"), [("ko-KR", "ko"), ("en-GB", "en"), ("fr-FR", "en")])
def test_the_root_page_picks_the_reader_s_language(small_server: str, visit, locale: str, lang: str) -> None:
    page = visit(small_server, locale=locale)
    page.wait_for_url(f"{small_server}/{lang}/index.html")


def test_without_javascript_everything_can_be_read(small_server: str, visit) -> None:
    page = visit(small_server, java_script_enabled=False)
    page.click("text=한국어")
    page.click("article >> text=1장")
    page.wait_for_selector(".widget-note")
    assert page.locator(".widget-note").first.text_content() == "이 그림은 JavaScript를 켜면 움직인다."
    assert page.locator("#eq-1-1 mjx-math").is_visible()
    page.click(".language-switch")
    page.wait_for_url("**/en/01-a.html")
    assert page.locator(".widget-note").first.text_content() == "This figure moves when JavaScript is on."
    title = page.locator(".callout-mistake > .admonition-title")
    assert title.evaluate("title => getComputedStyle(title).color") == "rgb(168, 72, 31)"


def test_formulas_show_from_a_file_and_speak_to_a_screen_reader(small_site: Path, visit) -> None:
    page = visit((small_site / "ko" / "01-a.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => null)")
    loaded = page.evaluate("[...document.fonts].filter(({status}) => status === 'loaded').map(({family}) => family)")
    assert {"MJXTEX", "MJXTEX-I"} <= set(loaded)
    assert page.locator("#eq-1-1").get_by_role("math").count() == 1
    assert "mid" not in page.locator("#eq-1-1 math").text_content()


COPIED = (
    "window.copied = null; addEventListener('copy', (event) => (copied = event.clipboardData.getData('text/plain')))"
)


def test_what_is_copied_of_a_formula_is_its_tex(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/01-a.html")
    page.evaluate(COPIED)
    page.dblclick("#eq-1-1 mjx-container")
    assert page.locator(".math.selected").count() == 1
    page.keyboard.press("Control+c")
    assert page.evaluate("copied") == "$$" + FORMULA.replace(r" \tag{1.1}", "").strip("$\n") + "$$"
    page.evaluate("getSelection().selectAllChildren(document.querySelector('article p'))")
    page.keyboard.press("Control+c")
    assert page.evaluate("copied") == "Probability comes from (1.1). (1.1) and $f(1.1)$ stay."


def test_hangul_in_a_formula_has_the_page_s_font(small_server: str, visit) -> None:
    page = visit(f"{small_server}/ko/second.html")
    font = "element => getComputedStyle(element).fontFamily"
    assert page.locator("mjx-utext").first.evaluate(font) == page.locator("article p").first.evaluate(font)


def shifts(page, since: str = "0") -> float:
    """How far what had been seen moved since then (milliseconds), as browsers count it."""
    return page.evaluate(f"""new Promise((done) => {{
      let sum = 0;
      new PerformanceObserver((list) => {{
        for (const {{startTime, value}} of list.getEntries()) if (startTime > {since}) sum += value;
      }}).observe({{type: "layout-shift", buffered: true}});
      setTimeout(() => done(sum), 300);
    }})""")


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", ["index", "01-a", "second"])
def test_nothing_shifts_when_fonts_pictures_and_scripts_come(small_server: str, visit, name: str, width: int) -> None:
    page = visit(f"{small_server}/ko/{name}.html", width, height=1600, late=(".woff", ".png", "page.js", "widgets.js"))
    # While the text itself comes, the last word of what has come may yet go to the next line.
    assert shifts(page, "performance.getEntriesByType('navigation')[0].domInteractive") <= 0.02


class Slow(Quiet):
    """Sends a page in forty pieces."""

    def copyfile(self, source, outputfile) -> None:
        text = source.read()
        size = len(text) // 40 if self.path.endswith(".html") else len(text)
        for start in range(0, len(text), size):
            outputfile.write(text[start : start + size])
            outputfile.flush()
            time.sleep(0.03 if size < len(text) else 0)


@pytest.mark.parametrize("name", ["glossary", "notation"])
def test_a_long_table_stays_where_it_is_while_it_comes(site: Path, visit, name: str) -> None:
    for address in serve(site, Slow):
        assert shifts(visit(f"{address}/en/{name}.html")) <= 0.02


def test_a_widget_starts_when_it_comes_near_or_before_printing(small_server: str, visit) -> None:
    for start in ("document.querySelector('.widget').scrollIntoView()", "dispatchEvent(new Event('beforeprint'))"):
        page = visit(f"{small_server}/en/01-a.html", height=100)
        page.wait_for_function("document.querySelectorAll('.widget').length === 2")
        page.wait_for_timeout(300)
        assert page.locator(".widget output").count() == 0
        page.evaluate(start)
        page.wait_for_selector(".widget output")


@pytest.mark.parametrize("served", [True, False])
def test_a_check_opens_in_the_page_and_closes_by_escape(
    small_site: Path, small_server: str, visit, served: bool
) -> None:
    page = visit(f"{small_server if served else small_site.as_uri()}/en/01-a.html")
    mark = page.locator("#eq-1-2 .formula-check")
    box = mark.bounding_box()
    assert min(box["width"], box["height"]) >= 24
    mark.press("Enter")
    dialog = page.get_by_role("dialog", name="Check of formula (1.2)")
    dialog.wait_for()
    assert "A sum 2." in dialog.inner_text()
    assert dialog.inner_text().count("@pytest.mark.equation") == 5
    assert dialog.locator(".highlight .k").first.inner_text() == "def"
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert mark.evaluate("mark => mark === document.activeElement")
    mark.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    mark.click()
    dialog.get_by_role("button", name="Close").click()
    assert dialog.count() == 0


RINGS = """() => {
  const {activeElement} = document, {outlineStyle, outlineWidth} = getComputedStyle(activeElement);
  return [activeElement.outerHTML.slice(0, 120), outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_whatever_takes_the_focus_shows_it(small_server: str, visit, theme: str) -> None:
    page = visit(f"{small_server}/en/01-a.html", width=1280, color_scheme=theme)
    seen = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        element, ring = page.evaluate(RINGS)
        if not element.startswith("<body"):
            seen[element] = ring
    assert len(seen) > 12
    assert [element for element, ring in seen.items() if not ring] == []


def test_without_javascript_a_check_leads_to_its_entry_and_to_the_test(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/01-a.html", java_script_enabled=False)
    page.click("#eq-1-1 .formula-check")
    page.wait_for_url("**/en/equations.html#eq-1-1")
    assert not page.locator(".formula-filter").is_visible()
    page.click("details.check-source summary >> nth=0")
    page.click("text=test_one")
    page.wait_for_url("**/en/test_few.html#L-4")
    assert page.locator("#L-4").inner_text().strip() == "def test_one():"


def test_the_list_of_formulas_can_be_filtered_and_opens_sources(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/equations.html", width=375)
    assert page.inner_text(".formula-filter output") == "2 / 2"
    page.fill(".formula-filter input", "SUM 2")
    assert page.inner_text(".formula-filter output") == "1 / 2"
    assert not page.locator("#eq-1-1").is_visible()
    page.click("details.check-source:visible summary")
    page.wait_for_selector("details.check-source[open] .highlight")
    assert page.locator("details.check-source[open] .highlight").count() == 5
    page.goto(f"{small_server}/en/01-a.html")
    page.go_back()
    page.evaluate("document.querySelector('.formula-filter input').value = 'SUM 2'")  # as a browser puts it back
    page.evaluate("dispatchEvent(new Event('pageshow'))")
    assert page.inner_text(".formula-filter output") == "1 / 2"
    page.fill(".formula-filter input", "SUM 2")
    page.evaluate("location.hash = 'eq-1-1'")
    page.wait_for_selector("#eq-1-1")
    page.fill(".formula-filter input", "nowhere")
    assert not page.locator("#chapter-01-a").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.faults == []


def test_the_filter_stays_in_view_below_the_buttons(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/equations.html", height=300)
    page.evaluate("scrollTo(0, 500)")
    filters, buttons = (page.locator(part).bounding_box() for part in (".formula-filter", ".bd-header-article"))
    assert 0 <= filters["y"] - (buttons["y"] + buttons["height"]) < 10


def test_the_colab_button_says_how_without_a_repository(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/01-a.html")
    page.click(".colab-button")
    page.wait_for_selector("#colab-steps:popover-open")
    page.keyboard.press("Escape")
    assert not page.locator("#colab-steps").is_visible()
    page.click(".colab-button")
    with page.expect_download() as download:
        page.click("#colab-steps >> text=package")
    assert download.value.suggested_filename == "companion-0.1.0-py3-none-any.whl"


@pytest.mark.parametrize("served", [True, False])
def test_a_widget_moves_without_a_kernel(small_site: Path, small_server: str, visit, served: bool) -> None:
    """Bytes arrive, `initialize` runs first, and two views share one model; from a file as well."""
    page = visit(f"{small_server if served else small_site.as_uri()}/en/01-a.html")
    page.wait_for_function("document.querySelectorAll('.widget output').length === 2")
    first, second = page.locator(".widget output").all()
    assert (first.text_content(), second.text_content()) == ("true 7.5", "true 7.5")
    page.locator(".widget input").first.fill("8")
    assert (first.text_content(), second.text_content()) == ("true 20", "true 20")
    colour = page.locator(".widget input").first.evaluate("element => getComputedStyle(element).accentColor")
    assert colour == "rgb(1, 2, 3)"
    assert page.faults == []


def test_paper_is_white_in_dark_mode(small_server: str, visit) -> None:
    page = visit(f"{small_server}/ko/01-a.html", color_scheme="dark")
    page.evaluate("addEventListener('beforeprint', () => (window.printed = document.documentElement.dataset.theme))")
    page.pdf()
    assert page.evaluate("window.printed") == "light"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_dark_mode_inverts_figures_and_keeps_text_legible(small_server: str, visit) -> None:
    page = visit(f"{small_server}/ko/01-a.html", color_scheme="dark")
    style = "(s, p) => getComputedStyle(document.querySelector(s))[p]"
    get = lambda selector, name: page.evaluate(f"([s, p]) => ({style})(s, p)", [selector, name])  # noqa: E731
    assert contrast(get("article p", "color"), get("body", "backgroundColor")) > 7
    assert contrast(get("article a.formula-link", "color"), get("body", "backgroundColor")) > 4.5
    assert "invert" in get(".cell_output img", "filter")
    page.click(".theme-switch-button")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert get(".cell_output img", "filter") == "none"
    assert contrast(get("article a.formula-link", "color"), get("body", "backgroundColor")) > 4.5


def contrast(first: str, second: str) -> float:
    """Contrast of two CSS colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_wide_formula_scrolls_and_the_keyboard_reaches_it(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/01-a.html", width=375)
    wide = page.locator("#eq-1-2 div.math")
    page.wait_for_function("document.querySelector('#eq-1-2 div.math').tabIndex === 0")
    assert "scrolls" in wide.get_attribute("class")
    assert page.locator("#eq-1-2 .formula-number").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert wide.evaluate("element => element.scrollWidth") > 1000


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_an_inline_formula_wider_than_the_column_scrolls(small_server: str, visit, script: bool) -> None:
    page = visit(f"{small_server}/en/second.html", width=375, java_script_enabled=script)
    formula = page.locator("article span.math")
    if script:
        page.wait_for_function("document.querySelector('article span.math').classList.contains('wide')")
        assert formula.locator("mjx-container").evaluate("box => box.tabIndex === 0 && box.matches('.scrolls')")
    end = formula.locator("mjx-mn").last
    assert end.bounding_box()["x"] > 1000
    end.scroll_into_view_if_needed()
    assert end.bounding_box()["x"] < 375, "its end can be reached"
    assert page.evaluate("document.documentElement.scrollWidth") == 375


# What scrolls sideways, by more than axe overlooks, and neither takes the focus nor holds what does.
STUCK = """() => {
  const boxes = "div.math, pre, .cell_output, .cell_output > .output, .pst-scrollable-table-container";
  const reached = (box) => box.tabIndex >= 0 || box.querySelector("a, button, [tabindex='0']");
  const scrolls = (box) => box.scrollWidth > box.clientWidth + 13;
  const stuck = [...document.querySelectorAll(boxes)].filter((box) => scrolls(box) && !reached(box));
  return stuck.map(({outerHTML}) => outerHTML.slice(0, 90));
}"""


@pytest.mark.parametrize(("name", "width"), [("ko/05-diffusion", 375), ("ko/02-ppca", 1280), ("en/03-vae", 375)])
def test_the_keyboard_reaches_what_scrolls_far_below(server: str, visit, name: str, width: int) -> None:
    page = visit(f"{server}/{name}.html", width=width)
    page.wait_for_selector("article div.math[tabindex='0']", state="attached")
    assert page.evaluate(STUCK) == []


def test_no_script_lays_out_what_is_far_below(small_site: Path, small_server: str, visit) -> None:
    """The theme would measure every box, and with it lay out the whole page."""
    page = visit(f"{small_server}/en/01-a.html")
    page.wait_for_timeout(500)
    assert page.locator("pre").count() > 0
    assert page.locator("pre[tabindex='-1']").count() == 0


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", ["ko/03-vae", "en/05-diffusion"])
def test_a_section_far_below_lies_within_the_place_that_is_kept_for_it(
    server: str, visit, name: str, width: int
) -> None:
    """Else its last links and those of the next section would lie upon each other."""
    page = visit(f"{server}/{name}.html", width)
    beyond = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article > section > section")].map((section) =>
          section.lastElementChild.getBoundingClientRect().bottom - section.getBoundingClientRect().bottom)"""
    )
    assert len(beyond) > 7
    assert max(beyond) <= 0


def test_the_text_does_not_wait_for_what_drives_the_figures(small_site: Path) -> None:
    for lang in LANGUAGES:
        text = (small_site / lang / "01-a.html").read_text()
        assert "widget-state+json" not in text
        assert re.search(r'<script defer src="_static/states/01-a.js\?v=\w+"></script>', text)
        assert "widgets.js" in text.partition("_static/states/01-a.js")[2], "which reads it"


def test_the_contents_go_and_come_back_on_a_wide_screen_and_open_on_a_phone(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/01-a.html")
    contents = page.locator("#pst-primary-sidebar")
    for shown in (False, True):
        page.click(".primary-toggle")
        contents.locator("nav").first.wait_for(state="visible" if shown else "hidden")
    page.set_viewport_size({"width": 375, "height": 800})
    page.click(".primary-toggle")
    page.locator("#pst-primary-sidebar-modal nav").first.wait_for()
    assert page.faults == []


def test_no_line_starts_with_what_belongs_to_the_word_before(small_site: Path, small_server: str, visit) -> None:
    text = (small_site / "ko" / "second.html").read_text()
    assert "식\u00a0<a" in text
    assert "10\u00a0nat" in text
    assert "</a>\u2060을" in text
    torn = """() => [...document.querySelectorAll(".unbroken")].filter((word) => {
        const lines = [...word.getClientRects()].map(({top}) => top);
        return Math.max(...lines) - Math.min(...lines) > 20;
    }).length"""
    for width in (375, 420, 500, 900):
        page = visit(f"{small_server}/ko/second.html", width=width)
        assert page.locator(".unbroken mjx-container").count() == 81
        assert page.evaluate(torn) == 0


def test_a_table_with_sentences_is_stacked_on_a_phone(small_server: str, visit) -> None:
    page = visit(f"{small_server}/en/second.html", width=375, java_script_enabled=False)
    table, numbers = page.locator("table").all()
    cells = table.locator("tbody td").all()
    names = [cell.evaluate("cell => getComputedStyle(cell, '::before').content") for cell in cells]
    assert names == ["none", '"What it means"', '"Where it stands"'], "the first names the row"
    tops = [cell.bounding_box()["y"] for cell in cells]
    assert tops == sorted(set(tops))
    assert table.locator("tbody").bounding_box()["width"] <= page.locator("article").bounding_box()["width"]
    assert len({cell.bounding_box()["y"] for cell in numbers.locator("td").all()}) == 1
    page.set_viewport_size({"width": 1280, "height": 800})
    assert len({cell.bounding_box()["y"] for cell in cells}) == 1


# ------------------------------------------------------------------------- on paper

PAPER = 627  # pixels between the margins of A4 in the PDF


@pytest.mark.parametrize("name", ["ko/02-ppca", "ko/glossary", "ko/corrections"])
def test_a_printed_page_is_the_text_alone_and_nothing_is_cut(server: str, visit, name: str) -> None:
    page = visit(f"{server}/{name}.html", width=PAPER)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("[...document.querySelectorAll('.widget')].every((one) => one.hasChildNodes())")
    seen = page.evaluate("""() => {
      const shown = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility());
      const unseen = ".widget, mjx-assistive-mml";
      const text = shown.filter((element) => element.closest("article") && !element.closest(unseen));
      const boxes = "div.math, .cell_output, pre, .pst-scrollable-table-container";
      const scrolls = (element) => element.matches(boxes) && element.scrollWidth > element.clientWidth + 1;
      const sayings = (elements) => elements.map(({outerHTML}) => outerHTML.slice(0, 90));
      const beyond = (element) => element.getBoundingClientRect().right > innerWidth + 1;
      return {
        frame: sayings(shown.filter((element) => element.matches("nav, button, input, footer, .headerlink"))),
        cut: sayings(text.filter((element) => scrolls(element) || beyond(element))),
      };
    }""")
    assert seen == {"frame": [], "cut": []}


def test_a_long_table_begins_below_its_text_on_paper(server: str, visit) -> None:
    paper = PdfReader(io.BytesIO(visit(f"{server}/en/glossary.html").pdf()))
    assert len(paper.pages[0].extract_text().split()) > 200


def test_the_book_on_paper_has_contents_with_page_numbers(
    small_site: Path, small_server: str, browser, tmp_path: Path
) -> None:
    root = small_site.parent.parent
    pdf.offer(shutil.copytree(small_site, tmp_path / "html"), "en")
    assert 'href="en.pdf"' in (tmp_path / "html" / "en" / "index.html").read_text()
    assert pdf.MARK in (small_site / "en" / "index.html").read_text()
    book = PdfReader(io.BytesIO(pdf.edition("en", browser, f"{small_server}/en", small_site, root)))
    texts = [page.extract_text() for page in book.pages]
    assert "Generative Models" in texts[0]
    entries = re.findall(r"(?m)^(1\. Latent variables|A second page|Solutions)\s+(\d+)$", texts[1])[:3]
    assert [title for title, _ in entries] == ["1. Latent variables", "A second page", "Solutions"]
    for title, number in entries:
        lines = texts[int(number) - 1].splitlines()
        assert lines.count(title) == 2, "as heading and above the text"
        assert number in lines, "the page says its number"
    assert [item.title for item in book.outline if not isinstance(item, list)] == [title for title, _ in entries]
    words = unicodedata.normalize("NFKC", " ".join(texts))  # without ligatures
    assert "Solution 1.1 →" in words
    assert "Previous" not in words
    assert "Live figure: embed/01-a.html" in words
