"""Live figures. All interaction is computed in JavaScript, so that they move on a static page; Python reads it back."""

from __future__ import annotations

from pathlib import Path

import traitlets
from anywidget import AnyWidget
from torch import Tensor


def script(*names: str) -> str:
    """One ES module: what the widgets share, then the parts with these names, of which the last is the widget."""
    folder = Path(__file__).parent
    return "\n".join((folder / f"{part}.js").read_text(encoding="utf-8") for part in ("common", *names))


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
