"""The theme's texts that it leaves in English."""

from __future__ import annotations

import gettext
import json
from pathlib import Path

import sphinx.locale
from sphinx.application import Sphinx

#: What neither Sphinx nor its themes say in Korean, or say badly.
TEXTS = {
    "Skip to main content": "본문으로 건너뛰기",
    "Back to top": "맨 위로",
    "Color mode": "화면 밝기",
    "Light": "밝게",
    "Dark": "어둡게",
    "System Settings": "기기 설정대로",
    "Version warning": "버전 안내",
    "Announcement": "알림",
    "Site navigation": "차례",
    "previous page": "이전 페이지",
    "next page": "다음 페이지",
    "previous": "이전",
    "next": "다음",
    "Link to this heading": "이 절의 링크",
    "Permalink to this heading": "이 절의 링크",
    "Link to this image": "이 그림의 링크",
    "Link to this table": "이 표의 링크",
    "Error": "오류",
    "Please activate JavaScript to enable the search functionality.": "검색하려면 JavaScript를 켜야 한다.",
    "Search": "검색",
    "By": "지은이",
    "Contents": "차례",
    "Copyright": "저작권",
    "Copyright %(copyright)s": "저작권 %(copyright)s",
    "© Copyright %(copyright)s.": "© %(copyright)s",
    "© %(copyright_prefix)s %(copyright)s.": "© %(copyright)s",
    "Hide Search Matches": "검색어 강조 끄기",
}


class _Texts(gettext.NullTranslations):
    """`TEXTS` first, then what was there before."""

    def gettext(self, message: str) -> str:
        return TEXTS.get(message) or super().gettext(message)


def _speak_korean(app: Sphinx) -> None:
    for catalogue in ("sphinx", "booktheme"):
        texts = _Texts()
        key = "general", catalogue
        if key in sphinx.locale.translators:
            texts.add_fallback(sphinx.locale.translators[key])
        sphinx.locale.translators[key] = texts
        if catalogue == "sphinx":
            app.translator = texts


def _extend_scripts(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        with (Path(app.outdir) / "_static" / "translations.js").open("a", encoding="utf-8", newline="\n") as scripts:
            scripts.write(f"\nObject.assign(Documentation.TRANSLATIONS, {json.dumps(TEXTS)});\n")


def setup(app: Sphinx) -> dict[str, bool]:
    if app.config.language == "ko":
        _speak_korean(app)
        app.connect("build-finished", _extend_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
