"""From one source to two editions: what is committed is what the sources say, and it is fit to be read anywhere."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import notebooks
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


EDITIONS = [ROOT / "book" / lang for lang in notebooks.LANGUAGES]
NOTEBOOKS = sorted(path for edition in EDITIONS for path in edition.glob("*.ipynb"))
PAGES = sorted(path for edition in EDITIONS for path in edition.glob("*.md"))

HEADER = "---\njupytext:\n  text_representation: {extension: .md, format_name: myst}\n---\n"
PAIR = '\n+++ {"lang": "ko"}\n\n# 하나\n\n+++ {"lang": "en"}\n\n# One\n'


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def cells_of(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def write_chapter(directory: Path, name: str, *code: str) -> None:
    cells = "".join(f"\n```{{code-cell}} ipython3\n{source}\n```\n" for source in code)
    (directory / f"{name}.md").write_text(HEADER + PAIR + cells, encoding="utf-8")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    directory = tmp_path / "chapters"
    directory.mkdir()
    return directory


@pytest.fixture
def unexecuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel starts: the cells count as executed, without outputs."""

    def execute(chapter: str, notebook: nbformat.NotebookNode, directory: Path) -> None:
        for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
            cell.execution_count = count

    monkeypatch.setattr(notebooks, "execute", execute)


# What is committed


@pytest.mark.parametrize("chapter", notebooks.chapters())
def test_committed_editions_are_what_the_source_gives(chapter: str, tmp_path: Path) -> None:
    for edition in EDITIONS:
        (tmp_path / edition.name).mkdir()
        for path in edition.glob(f"{chapter}.*"):
            shutil.copy(path, tmp_path / edition.name)
    assert not notebooks.build(chapter, run=False, target=tmp_path), "run `make notebooks` and commit"


def test_tables_of_contents_name_every_page_once(tmp_path: Path) -> None:
    for lang, text in notebooks.tables_of_contents().items():
        assert (ROOT / "book" / lang / "_toc.yml").read_text(encoding="utf-8") == text
        listed = re.findall(r"(?:file|root): (\S+)", text)
        assert sorted(listed) == notebooks.chapters()


def test_no_file_without_a_source() -> None:
    for edition in EDITIONS:
        assert (
            sorted(path.stem for path in edition.iterdir() if path.suffix in {".md", ".ipynb"}) == notebooks.chapters()
        )


def test_code_is_the_same_in_both_editions() -> None:
    for path in EDITIONS[0].glob("*.ipynb"):
        one, other = (nbformat.read(edition / path.name, as_version=4) for edition in EDITIONS)
        code, twins = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (one, other))
        assert [cell.source for cell in code] == [cell.source for cell in twins]
        assert [cell.outputs for cell in code] == [cell.outputs for cell in twins]
        assert one.metadata.get("widgets") == other.metadata.get("widgets")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert "mm" not in kinds, "neighbouring Markdown cells are merged"
    for cell in cells_of(path, "code"):
        assert cell.execution_count, "nbval compares only cells with an execution count"
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs)
    text = path.read_text(encoding="utf-8")
    for trace in ("/home/", "/root/", "/Users/", "/tmp/", "site-packages", "ipykernel_", str(ROOT)):
        assert trace not in text, f"names a machine: {trace}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_and_its_figures_are_small_and_described(path: Path) -> None:
    assert path.stat().st_size <= 700_000
    for cell in cells_of(path, "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(base64.b64decode(output.data["image/png"])) <= 100_000, cell.source
                assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), f"no alt text:\n{cell.source}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_every_figure_is_sharp_and_shows_in_every_reader(path: Path) -> None:
    """As SVG of paths alone, beside which stands a PNG for readers that trust no SVG; or as PNG at double density."""
    for cell in cells_of(path, "code"):
        for output in cell.outputs:
            bundle = output.get("data", {})
            if "image/png" in bundle and "image/svg+xml" not in bundle:
                width, _ = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).size
                assert output.metadata.get("image/png", {}).get("width") == width // 2, cell.source
            elif "image/svg+xml" in bundle:
                assert "image/png" in bundle, cell.source
                assert len(bundle["image/svg+xml"]) <= 50_000, f"nearly a PNG, which nbval sees:\n{cell.source}"
                assert not re.search(r"<(?!/?(?:svg|g|defs|clipPath|path)\b)", bundle["image/svg+xml"]), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_code_fits_the_column_of_the_site(path: Path) -> None:
    for cell in cells_of(path, "code")[1:]:
        assert all(len(line) <= 88 for line in cell.source.splitlines()), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS + PAGES, ids=named)
def test_markdown_is_portable(path: Path) -> None:
    texts = (
        [path.read_text(encoding="utf-8")]
        if path.suffix == ".md"
        else [cell.source for cell in cells_of(path, "markdown")]
    )
    for text in texts:
        assert not re.search(r"^\s*:::|^\s*```\s*\{|\{(cite|ref|eq|numref|doc)\}`", text, re.MULTILINE), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_only_the_first_code_cell_installs(path: Path) -> None:
    first, *others = cells_of(path, "code")
    url, ref = notebooks.repository()
    assert f"git+{url}@{ref}" in first.source
    assert "--no-deps" in first.source
    assert not any(re.search(r"pip install|%pip|!pip", cell.source) for cell in others)


def test_readers_get_the_release_that_the_package_names() -> None:
    version = re.search(
        r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    ).group(1)
    assert notebooks.repository()[1] == f"v{version}"


# The pipeline


@pytest.mark.slow
def test_second_build_writes_nothing_and_executes_only_what_changed(sources: Path, capsys) -> None:
    write_chapter(sources, "01-a", "print(1 + 1)")
    write_chapter(sources, "02-b", "print('b')")
    assert all(notebooks.build(name, directory=sources) for name in ("01-a", "02-b"))
    assert not any(notebooks.build(name, directory=sources) for name in ("01-a", "02-b"))
    capsys.readouterr()
    write_chapter(sources, "01-a", "print(1 + 2)")
    assert notebooks.build("01-a", directory=sources)
    assert not notebooks.build("02-b", directory=sources)
    assert capsys.readouterr().out.count("executing") == 1
    assert cells_of(sources.parent / "ko" / "01-a.ipynb", "code")[1].outputs[0].text == "3\n"


def test_changed_prose_keeps_the_outputs(sources: Path, capsys) -> None:
    write_chapter(sources, "01-a", "import time\nprint(time.time_ns())")
    notebooks.build("01-a", directory=sources)
    stamp = cells_of(sources.parent / "en" / "01-a.ipynb", "code")[1].outputs
    source = sources / "01-a.md"
    source.write_text(source.read_text(encoding="utf-8").replace("# One", "# The first"), encoding="utf-8")
    capsys.readouterr()
    assert notebooks.build("01-a", directory=sources)
    assert "executing" not in capsys.readouterr().out
    assert cells_of(sources.parent / "en" / "01-a.ipynb", "code")[1].outputs == stamp
    assert "# The first" in cells_of(sources.parent / "en" / "01-a.ipynb", "markdown")[0].source


def png(pixels: np.ndarray) -> str:
    """As base64, the pixels with four channels as matplotlib writes them."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", optimize=True, dpi=(110, 110))
    return base64.b64encode(file.getvalue()).decode()


def pixels(figure: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGBA")).astype(int)


def colourful(alpha: int = 255) -> np.ndarray:
    """Discs with soft edges over a white page, in five colours that fade: thousands of different ones."""
    y, x, page = *np.mgrid[:200, :300], np.full((200, 300, 3), 255.0)
    for colour in ((0, 114, 178), (213, 94, 0), (0, 158, 115), (34, 34, 34), (204, 121, 167)):
        centre = np.array([sum(colour) % 200, sum(colour) * 7 % 300])
        soft = np.clip(40 - np.hypot(y - centre[0], x - centre[1]), 0, 30)[..., None] / 30
        page = soft * np.array(colour) + (1 - soft) * page
    return np.dstack([page, np.full((200, 300), alpha)]).round()


def test_a_figure_gets_a_palette_and_looks_the_same() -> None:
    page = colourful()
    assert len(np.unique(page.reshape(-1, 4), axis=0)) > 500
    figure = png(page)
    small = notebooks.shrink(figure)
    image = Image.open(io.BytesIO(base64.b64decode(small)))
    assert image.mode == "P"
    assert image.info["dpi"] == pytest.approx((110, 110), abs=0.01)
    assert len(small) < 0.6 * len(figure)
    assert small == notebooks.shrink(figure)
    difference = abs(pixels(small) - page)
    assert difference.max() <= 12
    assert difference.mean() < 0.6
    assert (pixels(small)[(page == 255).all(2)] == 255).all(), "the page stays white, which dark mode inverts"


def test_a_figure_of_few_colours_keeps_them_all() -> None:
    grey = np.dstack([*3 * [np.random.default_rng(0).integers(0, 200, (60, 60))], np.full((60, 60), 255)])
    small = notebooks.shrink(png(grey))
    assert len(small) < len(png(grey))
    assert (pixels(small) == grey).all()


def test_a_figure_that_is_transparent_or_gains_nothing_stays() -> None:
    for figure in (png(colourful(alpha=200)), png(np.full((1, 1, 4), 255))):
        assert notebooks.shrink(figure) == figure


@pytest.mark.slow
def test_stored_figures_are_small(sources: Path) -> None:
    figure = png(colourful())
    write_chapter(
        sources, "01-a", f"from IPython.display import display\n\ndisplay({{'image/png': '{figure}'}}, raw=True)"
    )
    notebooks.build("01-a", directory=sources)
    for lang in notebooks.LANGUAGES:
        (output,) = cells_of(sources.parent / lang / "01-a.ipynb", "code")[1].outputs
        assert output.data["image/png"] == notebooks.shrink(figure) != figure


FIGURE = """from companion import plots
import matplotlib.pyplot as plt
plots.use_style()"""
LINES = """figure, axes = plt.subplots(1, 2, figsize=(6, 2))
axes[0].plot([1, 3, 2])
plt.show()"""
IMAGE = """plots.show_images(__import__("torch").rand(4, 64))
plt.show()"""


@pytest.mark.slow
def test_figures_are_stored_sharp_one_output_a_panel(sources: Path) -> None:
    write_chapter(sources, "01-a", FIGURE, LINES, IMAGE)
    notebooks.build("01-a", directory=sources)
    path = sources.parent / "ko" / "01-a.ipynb"
    _, _, lines, image = cells_of(path, "code")
    assert [sorted(output.data) for output in lines.outputs] == [["image/png", "image/svg+xml", "text/plain"]] * 2
    assert [output.data["text/plain"] for output in lines.outputs] == [f"<Figure: panel {n} of 2>" for n in (1, 2)]
    (output,) = image.outputs
    assert sorted(output.data) == ["image/png", "text/plain"]
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.mode == "P"
    assert picture.width // 2 == output.metadata["image/png"]["width"]
    stored = path.read_text(encoding="utf-8")
    notebooks.build("01-a", directory=sources, force=True)
    again = cells_of(path, "code")[2]
    assert again.outputs == lines.outputs, "figures are the same from run to run"
    assert len(stored) < 60_000


SHOWN = "from IPython.display import display\n\ndisplay({bundle}, raw=True)"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="1">\n<path d="M{}"/>\n</svg>'


@pytest.mark.slow
def test_nbval_takes_another_drawing_but_no_other_text(tmp_path: Path) -> None:
    before = {"image/svg+xml": SVG.format(1), "image/png": png(colourful()), "text/plain": "<Figure: panel 1 of 2>"}
    cases = {
        "the same": (before, True),
        "another drawing": ({**before, "image/svg+xml": SVG.format(2)}, True),
        "another text": ({**before, "text/plain": "<Figure: panel 1 of 3>"}, False),
        "a text with a drawing in it": ({**before, "text/plain": f"1 {SVG.format(1)}"}, False),
        "no drawing": ({"text/plain": before["text/plain"]}, False),
    }
    cells = [
        nbformat.v4.new_code_cell(
            SHOWN.format(bundle=bundle), outputs=[nbformat.v4.new_output("display_data", before)], execution_count=count
        )
        for count, (bundle, _) in enumerate(cases.values(), 1)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
    options = [f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval-sanitize.cfg'}", "--junitxml=report.xml", "a.ipynb"]
    subprocess.run([*command, *options], capture_output=True, check=False, cwd=tmp_path)
    tests = ElementTree.parse(tmp_path / "report.xml").iter("testcase")
    passed = dict(zip(cases, [test.find("failure") is None for test in tests], strict=True))
    assert passed == {name: passes for name, (_, passes) in cases.items()}


@pytest.mark.slow
def test_failing_cell_is_named_and_earlier_notebooks_stay(sources: Path) -> None:
    write_chapter(sources, "01-a", "print('fine')")
    notebooks.build("01-a", directory=sources)
    before = (sources.parent / "ko" / "01-a.ipynb").read_bytes()
    write_chapter(sources, "01-a", "print('fine')", "x = 1\ny = x / 0")
    line = (sources / "01-a.md").read_text(encoding="utf-8").splitlines().index("y = x / 0") + 1
    with pytest.raises(notebooks.ChapterError, match=rf"^01-a\.md:{line}: code cell 3 failed: ZeroDivisionError"):
        notebooks.build("01-a", directory=sources)
    assert (sources.parent / "ko" / "01-a.ipynb").read_bytes() == before
    assert not list(sources.parent.rglob("*.part"))


@pytest.mark.slow
def test_syntax_error_is_named(sources: Path) -> None:
    write_chapter(sources, "01-a", "print('fine')", "x = = 1")
    line = (sources / "01-a.md").read_text(encoding="utf-8").splitlines().index("x = = 1") + 1
    with pytest.raises(notebooks.ChapterError, match=rf"^01-a\.md:{line}: code cell 3 failed: SyntaxError"):
        notebooks.build("01-a", directory=sources)


@pytest.mark.slow
def test_dead_kernel_is_one_line(sources: Path) -> None:
    write_chapter(sources, "01-a", "import os\nos._exit(1)")
    with pytest.raises(notebooks.ChapterError, match=r"^01-a\.md: Kernel died"):
        notebooks.build("01-a", directory=sources)


def test_outputs_depend_on_the_modules_and_the_data_behind_them(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "companion"
    package.mkdir()
    (package / "model.py").write_text("from companion.data import load", encoding="utf-8")
    (package / "data.py").write_text("def load(): ...", encoding="utf-8")
    (package / "images.npz").write_bytes(b"\xff1")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import companion.model")])
    digests = [notebooks.digest(notebook)]
    for name, content in (("data.py", b"def load(): pass"), ("images.npz", b"\xff2"), ("other.py", b"")):
        (package / name).write_bytes(content)
        digests.append(notebooks.digest(notebook))
    assert len(set(digests)) == 3
    assert digests[2] == digests[3], "a module that nobody imports does not count"


def test_outputs_depend_on_the_scripts_of_the_widgets_they_show(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "companion" / "widgets"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "dial.py").write_text('WORKER = "wheel.js"\n_esm = script("axle", "dial")', encoding="utf-8")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("from companion.widgets.dial import Dial")])
    digests = [notebooks.digest(notebook)]
    for name in ("common.js", "dial.js", "wheel.js", "axle.js", "other.js"):
        (package / name).touch()
        digests.append(notebooks.digest(notebook))
    assert len(set(digests)) == 5
    assert digests[4] == digests[5], "another widget's script does not count"


@pytest.mark.slow
def test_stderr_is_an_error_unless_the_cell_trains(sources: Path) -> None:
    noisy = "import sys\nprint('progress', file=sys.stderr)\nprint('done')"
    write_chapter(sources, "01-a", noisy)
    with pytest.raises(notebooks.ChapterError, match="prints to stderr"):
        notebooks.build("01-a", directory=sources)
    write_chapter(sources, "01-a", f":tags: [nbval-ignore-output]\n\n{noisy}")
    notebooks.build("01-a", directory=sources)
    assert [output.text for output in cells_of(sources.parent / "ko" / "01-a.ipynb", "code")[1].outputs] == ["done\n"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('\n+++ {"lang": "fr"}\n\nUn\n', "lang is 'fr'"),
        ("\n```{code-cell} ipython3\n---\nlang: ko\n---\nprint(1)\n```\n", "serves both editions"),
    ],
)
def test_wrong_language_is_refused(sources: Path, cell: str, message: str) -> None:
    (sources / "01-a.md").write_text(HEADER + PAIR + cell, encoding="utf-8")
    with pytest.raises(notebooks.ChapterError, match=message):
        notebooks.read("01-a", sources)


@pytest.mark.parametrize("kind", ["mark", "letters", "line ends"])
def test_the_same_chapter_comes_from_every_editor(sources: Path, kind: str) -> None:
    """With a byte-order mark, as Windows writes it; with syllables in letters (NFD), as macOS may; with CRLF."""
    cell = "\n```{code-cell} ipython3\nletters = '한글'\nprint(len(letters))\n```\n"
    path = sources / "01-a.md"
    path.write_text(HEADER + PAIR + cell, encoding="utf-8", newline="\n")
    plain = notebooks.read("01-a", sources)
    text = path.read_text(encoding="utf-8")
    saved = {
        "mark": b"\xef\xbb\xbf" + text.encode(),
        "letters": unicodedata.normalize("NFD", text).encode(),
        "line ends": text.replace("\n", "\r\n").encode(),
    }[kind]
    assert saved != path.read_bytes()
    path.write_bytes(saved)
    other = notebooks.read("01-a", sources)
    assert [dict(c, id=None) for c in other.cells] == [dict(c, id=None) for c in plain.cells]
    for lang, title in (("ko", "# 하나"), ("en", "# One")):
        derived = notebooks.derive("01-a", lang, other)
        assert derived == notebooks.derive("01-a", lang, plain)
        assert json.loads(derived["01-a.ipynb"])["cells"][0]["source"][0].strip() == title
    assert notebooks._line_of(other.cells[-1], path) == text[: text.index("letters =")].count("\n") + 1


def test_what_is_derived_is_utf8_with_plain_line_ends(sources: Path) -> None:
    path = sources / "new" / "01-a.md"
    assert notebooks._write(path, "하나\nσ\n")
    assert path.read_bytes() == "하나\nσ\n".encode()
    assert not notebooks._write(path, "하나\nσ\n")


def test_each_edition_gets_its_words_and_the_shared_formula(sources: Path, unexecuted: None) -> None:
    (sources / "01-a.md").write_text(
        HEADER + PAIR + "\n+++\n\n$$x \\tag{1.1}$$\n"
        "\n```{code-cell} ipython3\n---\nmystnb:\n  image: {alt: {ko: 그림, en: figure}}\n---\nprint(1)\n```\n",
        encoding="utf-8",
    )
    notebooks.build("01-a", directory=sources)
    for lang, title, alt in (("ko", "# 하나", "그림"), ("en", "# One", "figure")):
        path = sources.parent / lang / "01-a.ipynb"
        assert cells_of(path, "markdown")[0].source == f"{title}\n\n$$x \\tag{{1.1}}$$"
        assert cells_of(path, "code")[1].metadata.mystnb.image.alt == alt


def captioned(name: str = "") -> str:
    called = f"figure: {name}\n" if name else ""
    return f"---\ntags: [hide-input]\n{called}caption: {{ko: 곡선 $p$, en: the curve $p$}}\n---\nprint(1)"


def test_figures_are_numbered_through_all_pages_of_a_chapter(sources: Path, unexecuted: None) -> None:
    write_chapter(sources, "01-a", captioned(), captioned("curve"))
    write_chapter(sources, "01b-a", captioned())
    write_chapter(sources, "02-b", captioned())
    path = sources / "02-b.md"
    path.write_text(path.read_text(encoding="utf-8").replace("# One", "# One\n\nSee [[curve]]."), encoding="utf-8")
    for chapter in ("01-a", "01b-a", "02-b"):
        notebooks.build(chapter, directory=sources)
    captions = {
        chapter: [cell.source for cell in cells_of(sources.parent / "en" / f"{chapter}.ipynb", "markdown")][1:]
        for chapter in ("01-a", "01b-a", "02-b")
    }
    assert captions == {
        "01-a": ["**Figure 1.1.** the curve $p$", "**Figure 1.2.** the curve $p$"],
        "01b-a": ["**Figure 1.3.** the curve $p$"],
        "02-b": ["**Figure 2.1.** the curve $p$"],
    }
    last = cells_of(sources.parent / "ko" / "02-b.ipynb", "markdown")
    assert last[-1].source == "**그림 2.1.** 곡선 $p$"
    assert cells_of(sources.parent / "en" / "02-b.ipynb", "markdown")[0].source == "# One\n\nSee Figure 1.2."


def test_an_appendix_numbers_its_figures_by_its_letter(sources: Path) -> None:
    write_chapter(sources, "00-a", captioned())
    write_chapter(sources, "a-own", captioned("curve"))
    pages, names = notebooks.figures(sources)
    assert pages == {"00-a": ["0.1"], "a-own": ["A.1"]}
    assert names["curve"] == "A.1"


def test_a_figure_nobody_knows_or_two_of_one_name_are_refused(sources: Path, unexecuted: None) -> None:
    write_chapter(sources, "01-a", captioned("curve"), captioned("curve"))
    with pytest.raises(notebooks.ChapterError, match="two figures are called curve"):
        notebooks.build("01-a", directory=sources)
    (sources / "01-a.md").write_text(HEADER + PAIR.replace("One", "One [[curve]]"), encoding="utf-8")
    with pytest.raises(notebooks.ChapterError, match=r"01-a\.md: no figure is called curve"):
        notebooks.build("01-a", directory=sources)


def test_reading_time_is_the_same_in_both_editions(sources: Path) -> None:
    english = "# One\n\n[[minutes]] min" + " word" * 1193
    long = PAIR.replace("# 하나", "# 하나\n\n[[minutes]]분").replace("# One", english)
    (sources / "01-a.md").write_text(HEADER + long + "\n+++\n\n$$x \\tag{1.1}$$\n" * 7, encoding="utf-8")
    notebooks.build("01-a", directory=sources)
    for lang, text in (("ko", "15분"), ("en", "15 min")):
        assert text in (sources.parent / lang / "01-a.md").read_text(encoding="utf-8")


def test_inserting_a_cell_keeps_the_ids_of_the_others(sources: Path, unexecuted: None) -> None:
    write_chapter(sources, "01-a", "print(1)", "print(2)", "print(1)")
    notebooks.build("01-a", directory=sources)
    before = [cell.id for cell in cells_of(sources.parent / "ko" / "01-a.ipynb", "code")]
    write_chapter(sources, "01-a", "print(1)", "print(3)", "print(2)", "print(1)")
    notebooks.build("01-a", directory=sources)
    after = [cell.id for cell in cells_of(sources.parent / "ko" / "01-a.ipynb", "code")]
    assert [*after[:2], *after[3:]] == before


@pytest.mark.slow
def test_widgets_keep_their_names_from_run_to_run(sources: Path) -> None:
    write_chapter(
        sources,
        "01-a",
        "import anywidget, traitlets\n\n"
        "class Dial(anywidget.AnyWidget):\n"
        "    _esm = 'export default {render() {}}'\n"
        "    angle = traitlets.Float(0.5).tag(sync=True)\n"
        "    def __repr__(self): return 'Dial()'\n\n"
        "Dial()",
    )
    notebooks.build("01-a", directory=sources)
    path = sources.parent / "ko" / "01-a.ipynb"
    first = path.read_text(encoding="utf-8")
    assert '"angle": 0.5' in first
    notebooks.build("01-a", directory=sources, force=True)
    assert path.read_text(encoding="utf-8") == first


@pytest.mark.slow
def test_command_names_what_it_does_not_know() -> None:
    command = [sys.executable, str(ROOT / "book" / "notebooks.py"), "99-missing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such chapter: 99-missing; there are: " in done.stderr
