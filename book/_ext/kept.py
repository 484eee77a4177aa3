"""Coloured code, kept between builds: after a change `make book` colours only what is new."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pygments
import sphinx
from sphinx.application import Sphinx

VERSIONS = f"{pygments.__version__} {sphinx.__version__}"


def store(path: Path, text: str) -> None:
    """Write a file as a whole: another build may be reading it."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8", newline="\n")
    fresh.replace(path)


def _keep(app: Sphinx) -> None:
    """Let the builder take from `_build` what the last build of this edition coloured."""
    path = Path(app.srcdir).parent.parent / "_build" / f"code-{app.config.language}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before, used = stored.get("code", {}) if stored.get("versions") == VERSIONS else {}, {}
    colour = app.builder.highlighter.highlight_block

    def highlight_block(source: str, lang: str, *given: object, location: object = None, **options: object) -> str:
        key = hashlib.sha256(repr((source, lang, given, options)).encode()).hexdigest()
        if key not in used:
            used[key] = before.get(key) or colour(source, lang, *given, location=location, **options)
        return used[key]

    def write(app: Sphinx, error: Exception | None) -> None:
        if error is None and not app._warncount:
            store(path, json.dumps({"versions": VERSIONS, "code": used}))

    app.builder.highlighter.highlight_block = highlight_block
    app.connect("build-finished", write)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _keep)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
