"""The same address for a section in both editions: its number, "section-3-6", or else the words of the English heading.

A row of the glossary has one too, from its English term. So a link to a place in one edition finds it in the other, and
the switch between them keeps the place.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from references import markdown, permalink
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

NUMBER = re.compile(r"(\d+)\.(\d+) ")
GLOSSARY = "glossary"
#: The glossary's column of English terms, and what the link to a row is called.
ENGLISH = {"ko": 1, "en": 0}
LINK = {"ko": "이 용어의 주소", "en": "Link to this term"}


@lru_cache
def headings(edition: Path, page: str) -> list[str]:
    """The headings of a page, its title first, as they are written."""
    return re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^(```+).*?^\1[ \t]*$", "", markdown(edition, page)))


def words_of(text: str) -> str:
    return nodes.make_id(text.replace("–", "-"))


@lru_cache
def anchors(english: Path, page: str) -> list[str]:
    """The addresses of a page's sections, its title first, in order."""
    found: list[str] = []
    for heading in headings(english, page):
        number = NUMBER.match(heading)
        words = words_of(re.sub(r"^\w+\. ", "", heading))
        anchor = f"section-{number[1]}-{number[2]}" if number else words
        again = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", one) is not None for one in found)
        found.append(f"{anchor}-{again + 1}" if again else anchor)
    return found


class SectionIds(SphinxTransform):
    default_priority = 390  # before the list of formulas gets its sections

    def apply(self) -> None:
        page = self.env.docname
        found = anchors(Path(self.env.srcdir).parent / "en", page)
        sections = list(self.document.findall(nodes.section))
        if len(sections) != len(found):
            message = "%d sections here and %d headings in the English edition: they must correspond"
            logging.getLogger(__name__).warning(message, len(sections), len(found), location=page)
        for section, anchor in zip(sections, found, strict=False):
            section["ids"] = [anchor]


class TermIds(SphinxTransform):
    default_priority = 390

    def apply(self) -> None:
        if self.env.docname != GLOSSARY:
            return
        lang = self.config.language
        for body in self.document.findall(nodes.tbody):
            for row in body.children:
                anchor = f"term-{words_of(row[ENGLISH[lang]].astext())}"
                row["ids"].append(anchor)
                row[0][0] += permalink(anchor, LINK[lang])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(SectionIds)
    app.add_transform(TermIds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
