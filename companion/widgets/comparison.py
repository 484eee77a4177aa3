"""Chapter 6: what several models make of the same noise, each image beside the syllable that it comes nearest to."""

from __future__ import annotations

import math

import torch
import traitlets
from torch import Tensor

from companion.checks import check_number, check_tensor
from companion.data import Hangul, compose, romanise
from companion.metrics import legible_radius, nearest_syllable
from companion.widgets import Widget, as_bytes, script

#: Grey levels that travel, two pixels in a byte, and images of one model.
LEVELS, MOST = 15, 48


class SamplesWidget(Widget):
    """Samples of several models, sorted by legibility or by the noise they were made of, with their nearest syllables.

    An image's distance is that to its nearest syllable, in units of the distance at which it counts as legible in
    `hangul_score`; below 1 it is legible. `widget.index` is the place in the row, counted from 0, `widget.order` what
    the rows are sorted by.

    Args:
        samples: images of each model by its name, shape (n, d), ink 1 on paper 0, n ≤ 48; row i of every model comes
            from the same noise.
        data: all syllables.
        factor: as for `hangul_score`.
        index: the place that is shown first.
        order: "legible", each row from its most to its least legible image, or "noise".
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        TypeError: if samples are no tensors of float32 or float64.
        ValueError: if there are none, too many, or not equally many of each model, or they have another size than the
            syllables.
    """

    _esm = script("comparison")

    names = traitlets.List(read_only=True).tag(sync=True)
    size = traitlets.Int(read_only=True).tag(sync=True)
    pixels = traitlets.Bytes(read_only=True).tag(sync=True)
    glyphs = traitlets.Bytes(read_only=True).tag(sync=True)
    rows = traitlets.List(read_only=True).tag(sync=True)
    index = traitlets.Int().tag(sync=True)
    order = traitlets.Enum(("legible", "noise")).tag(sync=True)

    def __init__(
        self,
        samples: dict[str, Tensor],
        data: Hangul,
        *,
        factor: float = 2.0,
        index: int = 0,
        order: str = "legible",
        lang: str = "",
    ) -> None:
        check_number("factor", factor)
        d = data.x.shape[1]
        sets = [
            check_tensor(f"samples[{name!r}]", x, columns=d, finite=True).detach().cpu() for name, x in samples.items()
        ]
        counts = {len(x) for x in sets}
        if len(counts) != 1 or not max(counts) <= MOST:
            raise ValueError(f"samples must hold equally many images of each model, 1 to {MOST}, got {sorted(counts)}")
        held_out, rows, shown = set(data.held_out.tolist()), [], []
        for x in sets:
            nearest, distance = nearest_syllable(x, data.x)
            far = distance / (factor * legible_radius(data.x, nearest))
            rows.append(
                [
                    [_name(data, row), round(ratio, 3), row in held_out]
                    for row, ratio in zip(nearest.tolist(), far.tolist(), strict=True)
                ]
            )
            shown.append(data.x[nearest])
        for name, value in {
            "names": list(samples),
            "size": math.isqrt(d),
            "pixels": _packed(torch.cat(sets)),
            "glyphs": _packed(torch.cat(shown)),
            "rows": rows,
        }.items():
            self.set_trait(name, value)
        super().__init__(index=index, order=order, lang=lang)

    @traitlets.validate("index")
    def _there(self, proposal: traitlets.Bunch) -> int:
        if not 0 <= proposal.value < len(self.rows[0]):
            raise ValueError(f"index is {proposal.value}; choose it between 0 and {len(self.rows[0]) - 1}")
        return proposal.value


def _name(data: Hangul, row: int) -> str:
    syllable = compose(*data.labels[row].tolist())
    return f"{syllable} {romanise(syllable)}"


def _packed(images: Tensor) -> bytes:
    """Images in [0, 1], cut off elsewhere, as 16 grey levels: two pixels in a byte, the first in the lower half."""
    levels = (images.clamp(0, 1) * LEVELS).round().to(torch.uint8).flatten()
    return as_bytes(levels[::2] + 16 * levels[1::2])
