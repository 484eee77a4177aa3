"""Coloured code that a build takes over from the one before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import kept


def build(root: Path, *codes: str, error: Exception | None = None, warnings: int = 0) -> list[str]:
    """What an edition colours anew; the result of each code is checked."""
    coloured, ends = [], []

    def colour(source: str, lang: str, *, location: object) -> str:
        coloured.append(source)
        return f"<{lang}>{source}"

    highlighter = SimpleNamespace(highlight_block=colour)
    app = SimpleNamespace(
        srcdir=root / "book" / "ko",
        config=SimpleNamespace(language="ko"),
        builder=SimpleNamespace(highlighter=highlighter),
        connect=lambda event, end: ends.append(end),
        _warncount=warnings,
    )
    kept._keep(app)
    for place, code in enumerate(codes):
        assert highlighter.highlight_block(code, "python", location=place) == f"<python>{code}"
    for end in ends:
        end(app, error)
    return coloured


def test_only_new_code_is_coloured(tmp_path, monkeypatch):
    assert build(tmp_path, "a", "b", "a") == ["a", "b"]
    assert build(tmp_path, "b", "c") == ["c"]
    assert build(tmp_path, "a", "b") == ["a"]
    monkeypatch.setattr(kept, "VERSIONS", "newer")
    assert build(tmp_path, "b") == ["b"]


def test_a_build_that_fails_or_warns_keeps_nothing(tmp_path):
    build(tmp_path, "a", error=ValueError())
    build(tmp_path, "a", warnings=1)
    assert build(tmp_path, "a") == ["a"]
