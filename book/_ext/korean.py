"""Full-text search in Korean, and the theme's texts that it leaves in English.

Korean attaches particles to nouns and writes compounds with or without spaces, so words are no units of search. The
index holds the pairs of neighbouring syllables of each run of Hangul; a query loses its particle and is cut likewise.
Both are composed first (NFC): file names of macOS, and text copied from them, hold the letters of a syllable apart.
"""

from __future__ import annotations

import gettext
import json
import re
import unicodedata
from pathlib import Path

import sphinx.locale
from sphinx.application import Sphinx
from sphinx.search import SearchLanguage

HANGUL = r"[가-힣]"
#: Particles and endings, longest first. A noun that ends like one is spared: 가능도, 정확도, 중요도 …
ENDING = (
    "(?:에서는|에서도|으로는|으로도|이라는|이라고|에서|에게|으로|까지|부터|보다|처럼|이다|이며|이고|이란|이나|라는|라고|"
    "하는|하고|하며|하면|하여|해서|한다|했다|하다|된다|되는|되고|되며|되어|되다|이라|적인|적으로|"
    "은|는|이|가|을|를|의|에|와|과|로|란|들|만|한|할|함|된|될|됨|(?<![능밀뢰확속온척각빈농강잡요감])도)$"
)

SPLIT = """
var splitQuery = (query) => query.normalize("NFC").toLowerCase().match(WORD)?.flatMap((word) => {
  if (!/^[가-힣]{2,}$/.test(word)) return [word.replace(/[가-힣]+$/, "") || word];
  for (let stem = word; (stem = word.replace(/ENDING/, "")) !== word && stem.length > 1; word = stem);
  return Array.from({length: word.length - 1}, (_, i) => word.slice(i, i + 2));
}) ?? [];
""".replace("ENDING", ENDING).replace("WORD", r"/[가-힣]+|[\p{L}\p{N}_]+/gu")


class SearchKorean(SearchLanguage):
    """Pairs of syllables for Hangul, whole words for everything else."""

    lang = "ko"
    language_name = "Korean"
    js_splitter_code = SPLIT

    def split(self, text: str) -> list[str]:
        text = unicodedata.normalize("NFC", text)
        words = re.findall(rf"{HANGUL}+|[^\W가-힣]+", text)
        pairs = []
        for run in re.findall(rf"{HANGUL}+(?: {HANGUL}+)*", text):
            run = run.replace(" ", "")
            pairs += [run[i : i + 2] for i in range(len(run) - 1)]
        return pairs + [word for word in words if not re.match(HANGUL, word) or len(word) == 1]

    def word_filter(self, word: str) -> bool:
        return bool(word)


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
    "Search Results": "검색 결과",
    "Searching": "검색 중",
    "Preparing search...": "검색을 준비하는 중…",
    "Hide Search Matches": "검색어 강조 끄기",
    "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've "
    "selected enough categories.": "검색어가 들어 있는 페이지가 없다.",
    "Search finished, found ${resultCount} page(s) matching the search query.": "${resultCount}개 페이지를 찾았다.",
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
    app.add_search_language(SearchKorean)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
