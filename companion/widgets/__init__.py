"""Live figures. All interaction is computed in JavaScript, so that they move on a static page; Python reads it back."""

from __future__ import annotations

from pathlib import Path

import traitlets
from anywidget import AnyWidget
from torch import Tensor


def script(name: str, before: str = "common") -> str:
    """One ES module: the script called `before`, which holds what the widgets share, then the one called `name`."""
    folder = Path(__file__).parent
    return "\n".join((folder / f"{part}.js").read_text(encoding="utf-8") for part in (before, name))


def as_bytes(values: Tensor) -> bytes:
    """The numbers of a tensor as JavaScript reads them, little-endian on every machine."""
    return values.numpy().astype(values.numpy().dtype.newbyteorder("<")).tobytes()


class Widget(AnyWidget):
    """What the book's widgets share.

    Args:
        lang: "ko" or "en"; empty: the language of the page.
    """

    lang = traitlets.Enum(("", "ko", "en"), "").tag(sync=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
