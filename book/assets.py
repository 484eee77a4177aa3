"""What a page of the built site loads, and when: one stylesheet with what the pages use, scripts and the state of live
figures that wait until the text is there, and pictures that come when the reader does."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from functools import cache
from itertools import chain
from pathlib import Path

import tinycss2

FOLDER = "assets"
STYLESHEET = re.compile(r'\s*<link (?=[^>]*rel="stylesheet")[^>]*?href="([^"?]+)[^>]*>')
STATE = re.compile(r'<script type="application/vnd\.jupyter\.widget-state\+json">(.*?)</script>', re.DOTALL)
CELL = re.compile(r"<td[ >].*?</td>", re.DOTALL)
CORNER = re.compile(r'<th class="head([^"]*)"><p></p></th>')  # above the names of the rows
SENTENCE = 45  # letters in a row of a table that a phone is too narrow for
FOLDED = re.compile(r"<(details|script|noscript|textarea|mjx-container)\b.*?</\1>", re.DOTALL)
PHONE = 380  # pixels of its column
ICON_FONT = "Font Awesome"  # custom.css draws the icons


def lighten(site: Path) -> None:
    """Rewrite the pages below `site`/language, and put what they share into `site`/assets."""
    paths = sorted(site.glob("*/*.html"))
    pages = {path: _apart(_named(_tall(_sized(path.read_text(encoding="utf-8"), path.parent))), path) for path in paths}
    scripts = (path.read_text(encoding="utf-8") for path in site.rglob("*.js"))
    words = {word for text in chain(pages.values(), scripts) for word in re.findall(r"[\w-]+", text)}
    (site / FOLDER).mkdir()
    bundles: dict[tuple[str, ...], str] = {}
    for path, page in pages.items():
        head, end, body = page.partition("</head>")
        sheets = tuple(STYLESHEET.findall(head))
        if sheets not in bundles:  # the editions have the same files
            bundles[sheets] = _bundle([(path.parent / sheet).resolve() for sheet in sheets], words, site / FOLDER)
        first = STYLESHEET.search(head).start()
        link = f'\n<link rel="stylesheet" href="../{FOLDER}/{bundles[sheets]}">'
        head = head[:first] + link + STYLESHEET.sub("", head[first:])
        path.write_text(_later(head + end + body), encoding="utf-8", newline="\n")
    for sheets in bundles:
        for path in site.glob("*/"):
            for sheet in sheets:
                (path / sheet).unlink(missing_ok=True)


def _bundle(sheets: list[Path], words: set[str], folder: Path) -> str:
    """Write the rules of these files that some page can use into one; its name changes with its text."""
    text = "\n".join(_used(_moved(sheet, folder), words) for sheet in sheets)
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.css"
    (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return name


def _moved(sheet: Path, folder: Path) -> str:
    """The text of a stylesheet as it must be in another folder, with what it imports."""

    def address(match: re.Match[str]) -> str:
        return f'url("{Path(os.path.relpath(sheet.parent / match[1], folder)).as_posix()}")'

    text = re.sub(r"""url\(["']?(?!data:|#)([^"')]+)["']?\)""", address, sheet.read_text(encoding="utf-8"))
    return re.sub(r'@import "([^"]+)";', lambda match: _moved((sheet.parent / match[1]).resolve(), folder), text)


def _used(css: str | list, words: set[str]) -> str:
    """The rules whose classes and ids are words of some page or script."""
    parse = tinycss2.parse_stylesheet if isinstance(css, str) else tinycss2.parse_rule_list
    kept = []
    for rule in parse(css, skip_comments=True, skip_whitespace=True):
        if rule.type == "qualified-rule":
            selectors = ",".join(filter(None, (_selector(part, words) for part in _split(rule.prelude))))
            if selectors:
                kept.append(f"{selectors}{{{tinycss2.serialize(rule.content).strip()}}}")
        elif (
            rule.type == "at-rule"
            and rule.lower_at_keyword in ("media", "supports", "layer", "container")
            and rule.content
        ):
            inner = _used(rule.content, words)
            if inner:
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}")
        elif not (rule.type == "at-rule" and rule.lower_at_keyword == "font-face" and ICON_FONT in rule.serialize()):
            kept.append(rule.serialize())
    return re.sub(r"\s+", " ", "\n".join(kept))


def _split(prelude: list) -> list[list]:
    parts: list[list] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _selector(tokens: list, words: set[str]) -> str:
    """The selector, or nothing if no element can have its classes and ids; what stands in brackets is not looked at."""
    for before, token in zip([None, *tokens], tokens, strict=False):
        name = token.value if token.type == "hash" or (token.type == "ident" and before == ".") else None
        if name and name not in words:
            return ""
    return tinycss2.serialize(tokens).strip()


def _later(page: str) -> str:
    """Scripts run when the page has been read, in the same order: a module does so by itself."""
    page = re.sub(r"<script (?![^>]*\b(?:defer|type)\b)(?=[^>]*\bsrc=)", "<script defer ", page)
    return page.replace("<script>DOCUMENTATION_OPTIONS", '<script type="module">DOCUMENTATION_OPTIONS')


def _apart(page: str, path: Path) -> str:
    """The state of the live figures as a script of its own: in the page, the text would come after it."""
    state = STATE.search(page)
    if not state:
        return page
    script = path.parent / "_static" / "states" / f"{path.stem}.js"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"const WIDGETS = {state[1]};\n", encoding="utf-8", newline="\n")
    version = hashlib.sha256(state[1].encode()).hexdigest()[:8]
    return page.replace(state[0], f'<script defer src="_static/states/{script.name}?v={version}"></script>')


def _sized(page: str, folder: Path) -> str:
    """Pictures have their size; all but the first load when they come near."""
    first = True

    def size(match: re.Match[str]) -> str:
        nonlocal first
        width, height = _size(folder / match[1])
        lazy, first = "" if first else ' loading="lazy"', False
        return f'{match[0]} width="{width}" height="{height}"{lazy}'

    return re.sub(r'<img\b[^>]*? src="(_images/[^"]+\.(?:png|svg))"', size, page)


def _tall(page: str) -> str:
    """Sections know about how high they are on a phone: custom.css keeps that place until they come near."""
    depth, begin, found = 0, 0, []
    for tag in re.finditer(r"<(/?)section\b", page):
        depth += -1 if tag[1] else 1
        if depth == 2 and not tag[1]:
            begin = tag.end()
        elif depth == 1 and tag[1]:
            found.append((begin, tag.start()))
    for begin, end in reversed(found):
        page = f'{page[:begin]} style="--tall: {_height(page[begin:end])}px"{page[begin:]}'
    return page


def _height(section: str) -> int:
    """Rather too much, for what does not fit its place would lie upon the next section: fitted to six pages."""
    shown = FOLDED.sub("", section)
    letters = re.sub(r"<[^>]*>|\s+", "", shown)
    text = len(letters) + len(re.findall("[가-힣]", letters)) + 6 * shown.count('<span class="math')
    pictures = (
        int(height) * min(1, PHONE / int(width)) for width, height in re.findall(r'width="(\d+)" height="(\d+)"', shown)
    )
    live = map(int, re.findall(r"--phone: (\d+)px", shown))
    lines = 13 * shown.count("\n") + 110 * shown.count('<div class="math')
    return round(1.1 * text + lines + sum(pictures) + sum(live))


def _named(page: str) -> str:
    """Cells of a table with sentences carry the name of their column: on a phone custom.css stacks them. A head without
    words is no head."""

    def rows(table: re.Match[str]) -> str:
        columns = [_text(head) for head in re.findall(r'<th class="head.*?</th>', table[0], re.DOTALL)]
        texts = [_text(cell) for cell in CELL.findall(table[0])]
        if max(len("".join(texts[i : i + len(columns)])) for i in range(0, len(texts), len(columns))) < SENTENCE:
            return table[0]
        names = (f' data-column="{columns[i % len(columns)]}"' if text else "" for i, text in enumerate(texts))
        named = CELL.sub(lambda cell: f"<td{next(names)}{cell[0][3:]}", table[0])
        return named.replace('<table class="table"', '<table class="table stacks"', 1)

    return CORNER.sub(r'<td class="\1"></td>', re.sub(r'<table class="table".*?</table>', rows, page, flags=re.DOTALL))


def _text(element: str) -> str:
    return re.sub(r"<[^>]*>", "", element).strip().replace('"', "&quot;")


@cache
def _size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG or an SVG in pixels."""
    if path.suffix == ".png":
        return struct.unpack(">16x2I", path.read_bytes()[:24])
    width, height = re.search(
        r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"', path.read_text(encoding="utf-8")
    ).groups()
    return round(float(width)), round(float(height))
