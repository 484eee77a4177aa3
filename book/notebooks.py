"""Derive both editions from the bilingual chapters.

    python book/notebooks.py [CHAPTER ...]

Each `book/chapters/NAME.md` is a MyST Markdown notebook. A `+++ {"lang": "ko"}` cell goes to the Korean edition, a
`+++ {"lang": "en"}` cell to the English one, every other cell to both. A chapter with code is executed once, if its
code or the part of `companion` it imports changed since, and becomes `book/ko/NAME.ipynb` and `book/en/NAME.ipynb` with
the outputs in both. A page without code becomes `NAME.md`. Nothing is written unless the whole chapter succeeds.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "book" / "chapters"
LANGUAGES = ("ko", "en")
WIDGETS = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

BOOTSTRAP = """\
#@title 준비 · Setup
try:
    import companion
except ModuleNotFoundError:  # Colab: install the book's package alone
    from glob import glob
    package = glob("companion-*.whl") or ["git+{url}@{ref}"]  # a wheel beside the notebook comes first
    %pip install -q --no-deps "{{package[0]}}"\
"""


FIGURE = {"ko": "그림 {}", "en": "Figure {}"}
REFERENCE = re.compile(r"\[\[([a-z][a-z-]*)\]\]")


class ChapterError(Exception):
    """A chapter that cannot become a notebook; the message names chapter, cell and line."""


def chapters() -> list[str]:
    """Names of all sources, in reading order."""
    return sorted(path.stem for path in CHAPTERS.glob("*.md"))


def text_of(path: Path) -> str:
    """What somebody has written, whatever the editor: no byte-order mark, and Hangul in whole syllables (NFC)."""
    return unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))


def repository() -> tuple[str, str]:
    """Address of the repository and the release the book's readers get, from `_config.yml`."""
    config = yaml.safe_load(text_of(ROOT / "_config.yml"))
    return config["repository"]["url"], config["repository"]["branch"]


def read(chapter: str, directory: Path = CHAPTERS) -> nbformat.NotebookNode:
    """The chapter's source as one bilingual notebook, the bootstrap cell before its first code cell."""
    path = directory / f"{chapter}.md"
    notebook = jupytext.reads(text_of(path), fmt="md:myst")
    for cell in notebook.cells:
        lang = cell.metadata.get("lang")
        line = _line_of(cell, path)
        if lang is not None and lang not in LANGUAGES:
            raise ChapterError(f"{path.name}:{line}: lang is {lang!r}; use one of {', '.join(LANGUAGES)}")
        if lang is not None and cell.cell_type == "code":
            raise ChapterError(f"{path.name}:{line}: a code cell serves both editions; remove its lang")
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    if code:
        url, ref = repository()
        source = BOOTSTRAP.format(url=url, ref=ref)
        notebook.cells.insert(code[0], new_code_cell(source, metadata={"tags": ["hide-cell"]}))
    return notebook


def figures(directory: Path = CHAPTERS) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Numbers of the figures: those of each page, in order, and {name: number} of those that the text refers to.

    A figure is a code cell with a `caption`, and has a name if it has a `figure`. The pages of one chapter, 03-… and
    03b-…, count on.
    """
    pages: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    count: Counter[str] = Counter()
    for path in sorted(directory.glob("*.md")):
        number = re.match(r"0*(\d+|[a-z](?=-)|)", path.stem)[1].upper() or "0"
        for header in re.findall(r"(?ms)^```\{code-cell\}[^\n]*\n---\n(.*?)^---\n", text_of(path)):
            settings = yaml.safe_load(header)
            if "caption" in settings:
                count[number] += 1
                pages.setdefault(path.stem, []).append(f"{number}.{count[number]}")
                if settings.get("figure") in names:
                    raise ChapterError(f"{path.name}: two figures are called {settings['figure']}")
                names[settings.get("figure", "")] = pages[path.stem][-1]
    return pages, names


def minutes(notebook: nbformat.NotebookNode) -> int:
    """Reading time of a page, in steps of five: 120 words a minute and three quarters of a minute a formula."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.metadata.get("lang") == "en")
    formulas = sum(cell.source.count("\\tag{") for cell in notebook.cells)
    return 5 * round((len(text.split()) / 120 + 0.75 * formulas) / 5)


def derive(
    chapter: str,
    lang: str,
    notebook: nbformat.NotebookNode,
    numbered: tuple[dict[str, list[str]], dict[str, str]] = ({}, {}),
) -> dict[str, str]:
    """The edition's file as {name: text}: the cells of its language, captions below their figures (`numbered` is what
    `figures` gives), neighbouring Markdown merged, `[[name]]` replaced by "Figure 3.4" and `[[minutes]]` by the reading
    time."""
    pages, names = numbered
    numbers = iter(pages.get(chapter, []))

    def named(match: re.Match[str]) -> str:
        if match[1] == "minutes":
            return str(minutes(notebook))
        if match[1] not in names:
            raise ChapterError(f"{chapter}.md: no figure is called {match[1]}")
        return FIGURE[lang].format(names[match[1]])

    cells = []

    def add(cell: nbformat.NotebookNode) -> None:
        if cell.cell_type == "markdown":
            cell.source = REFERENCE.sub(named, cell.source)
        if cell.cell_type == "markdown" and cells and cells[-1].cell_type == "markdown":
            cells[-1].source += "\n\n" + cell.source
        else:
            cells.append(cell)

    for cell in notebook.cells:
        if cell.metadata.get("lang", lang) != lang:
            continue
        metadata = _localise({key: value for key, value in cell.metadata.items() if key != "lang"}, lang)
        caption = metadata.pop("caption", None)
        metadata.pop("figure", None)
        add(nbformat.from_dict({**cell, "metadata": metadata}))
        if caption is not None:
            add(new_markdown_cell(f"**{FIGURE[lang].format(next(numbers))}.** {caption}"))
    if all(cell.cell_type == "markdown" for cell in cells):
        return {f"{chapter}.md": "\n\n".join(cell.source for cell in cells) + "\n"}
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{chapter}/{cell.cell_type}/{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    edition = new_notebook(cells=cells, metadata=_localise(dict(notebook.metadata), lang))
    nbformat.validate(edition)
    return {f"{chapter}.ipynb": nbformat.writes(edition) + "\n"}


def digest(notebook: nbformat.NotebookNode) -> str:
    """Hash of everything the outputs depend on: the code cells, the companion modules they import, bundled data."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    files = _companion_files(code)
    parts = [*(source.encode() for source in code), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def execute(chapter: str, notebook: nbformat.NotebookNode, directory: Path = CHAPTERS) -> None:
    """Run the code cells in an empty folder and keep their outputs, free of anything that names this machine."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path = directory / f"{chapter}.md"
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise ChapterError(_locate(path, notebook, error)) from None
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        stderr = [output for output in cell.outputs if output.get("name") == "stderr"]
        if stderr and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            raise ChapterError(f"{path.name}:{_line_of(cell, path)}: the cell prints to stderr:\n{stderr[0].text}")
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = shrink(output.data["image/png"])
    _rename_widgets(chapter, notebook)


def shrink(png: str) -> str:
    """The figure, in base64, with a palette of at most 256 colours, if it is opaque and becomes smaller by that."""
    from PIL import Image

    image, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if image.mode == "RGBA" and image.getextrema()[3][0] < 255:
        return png
    palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    palette.save(small, "PNG", optimize=True, dpi=image.info.get("dpi"))
    return min(png, base64.b64encode(small.getvalue()).decode(), key=len)


def build(
    chapter: str,
    *,
    run: bool = True,
    force: bool = False,
    directory: Path = CHAPTERS,
    target: Path | None = None,
) -> bool:
    """Bring one chapter's editions up to date; returns whether anything was written.

    Raises:
        ChapterError: if a cell fails, or (with `run=False`) if a code cell changed since the last execution.
    """
    target = target or directory.parent
    notebook = read(chapter, directory)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code:
        stored = target / LANGUAGES[0] / f"{chapter}.ipynb"
        old = nbformat.read(stored, as_version=4) if stored.exists() else None
        fresh = digest(notebook)
        if not force and old is not None and old.metadata.get("digest") == fresh:
            outputs = [cell for cell in old.cells if cell.cell_type == "code"]
            for cell, done in zip(code, outputs, strict=True):
                cell.outputs, cell.execution_count = done.outputs, done.execution_count
            widgets = old.metadata.get("widgets")
        elif run:
            print(f"{chapter}: executing {len(code)} cells", flush=True)
            execute(chapter, notebook, directory)
            widgets = notebook.metadata.get("widgets")
        else:
            raise ChapterError(f"{chapter}: code or companion changed since the stored outputs: run `make notebooks`")
        notebook.metadata = {
            "digest": fresh,
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **({"widgets": widgets} if widgets else {}),
        }
    changed, numbered = False, figures(directory)
    for lang in LANGUAGES:
        for name, text in derive(chapter, lang, notebook, numbered).items():
            changed |= _write(target / lang / name, text)
    return changed


def tables_of_contents(directory: Path = CHAPTERS) -> dict[str, str]:
    """Text of each edition's `_toc.yml`, from the bilingual one."""
    contents = yaml.safe_load(text_of(directory / "_toc.yml"))
    return {lang: yaml.safe_dump(_localise(contents, lang), allow_unicode=True, sort_keys=False) for lang in LANGUAGES}


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
    return True


def _localise(value, lang: str):
    """Replace each {"ko": …, "en": …} by its entry for `lang`."""
    if isinstance(value, dict):
        if set(value) == set(LANGUAGES):
            return value[lang]
        return {key: _localise(entry, lang) for key, entry in value.items()}
    if isinstance(value, list):
        return [_localise(entry, lang) for entry in value]
    return value


def _line_of(cell: nbformat.NotebookNode, path: Path) -> int:
    """Line of the source file on which the cell's text starts."""
    text = text_of(path)
    return text[: max(text.find(cell.source), 0)].count("\n") + 1


def _locate(path: Path, notebook: nbformat.NotebookNode, error: Exception) -> str:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
                within = re.findall(r"(?:Cell In\s*\[\d+\]|<ipython-input[^>]*>), line (\d+)|\.py\)?:(\d+)", trace)
                offset = next((int(first) for first, _ in within if first), 1)
                line = _line_of(cell, path) + offset - 1
                return f"{path.name}:{line}: code cell {number} failed: {output.ename}: {output.evalue}\n{trace}"
    return f"{path.name}: {error}"


def plain(source: str) -> str:
    """A cell's code as Python, without IPython's own commands."""
    return re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)


def _companion_files(cells: list[str]) -> list[Path]:
    """The files of `companion` that the cells import, directly or through another, with scripts and data."""
    found: set[Path] = set()

    def visit(code: str) -> None:
        for node in ast.walk(ast.parse(code)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                base = ROOT.joinpath(*name.split("."))
                for path in (base.with_suffix(".py"), base / "__init__.py"):
                    if name.split(".")[0] == "companion" and path.exists() and path not in found:
                        found.add(path)
                        visit(path.read_text(encoding="utf-8"))

    for source in cells:
        with contextlib.suppress(SyntaxError):  # executing the cell will say it better
            visit(plain(source))
    widgets = [path for path in found if path.parent.name == "widgets"]
    scripts = {
        path.with_name(f"{name}.js")
        for path in widgets
        for name in ("common", path.stem, *re.findall(r'"(\w+)(?:\.js)?"', path.read_text(encoding="utf-8")))
    }
    data = {images for path in found if path.name == "data.py" for images in path.parent.glob("*.npz")}
    return sorted(path for path in found | scripts | data if path.exists())


def _rename_widgets(chapter: str, notebook: nbformat.NotebookNode) -> None:
    """Give the shown widgets names that do not change from run to run, and drop the models nobody shows."""
    stored = notebook.metadata.pop("widgets", {}).get(WIDGETS)
    if stored is None:
        return
    names: dict[str, str] = {}

    def visit(model: str) -> None:
        if model in names or model not in stored["state"]:
            return
        names[model] = hashlib.md5(f"{chapter}/{len(names)}".encode()).hexdigest()
        for reference in re.findall(r'"IPY_MODEL_(\w+)"', json.dumps(stored["state"][model])):
            visit(reference)

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view:
                visit(view["model_id"])
                view["model_id"] = names[view["model_id"]]
    text = json.dumps({new: stored["state"][old] for old, new in names.items()})
    for old, new in names.items():
        text = text.replace(f"IPY_MODEL_{old}", f"IPY_MODEL_{new}")
    if names:
        notebook.metadata["widgets"] = {WIDGETS: {**stored, "state": json.loads(text)}}


def main(names: list[str]) -> int:
    unknown = set(names) - set(chapters())
    if unknown:
        print(
            f"no such chapter: {', '.join(sorted(unknown))}; there are: {', '.join(chapters())}",
            file=sys.stderr,
        )
        return 2
    changed = False
    for lang, text in tables_of_contents().items():
        changed |= _write(ROOT / "book" / lang / "_toc.yml", text)
    for chapter in names or chapters():
        try:
            if build(chapter):
                changed = True
                print(f"{chapter}: written")
        except ChapterError as error:
            print(error, file=sys.stderr)
            return 1
    if not changed:
        print("notebooks are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
