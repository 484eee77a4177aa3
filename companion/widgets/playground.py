"""The playground: points that the reader draws, and all families that learn them in the page."""

from __future__ import annotations

from pathlib import Path

import torch
import traitlets
from torch import Tensor

from companion.checks import check_tensor
from companion.data import hangul, place
from companion.widgets import Widget, script

#: The page shows [−VIEW, VIEW]² and takes at most MOST points, as playground.js does.
VIEW, MOST = 1.5, 1000


class Playground(Widget):
    """Draw points, and watch PPCA, a mixture, a VAE, a GAN and a diffusion model learn them side by side.

    All training happens in the page, in one Web Worker a family: train.js holds losses, gradients and samplers, which
    agree with those of the package. `widget.x` are the points on the screen: the models of the package can learn them.

    Args:
        points: points to start with, shape (n, 2), within [−1.5, 1.5]²; by default a ring of eight modes.
        syllables: Hangul syllables among the sets to pick from.
        lang: "ko" or "en"; empty: the language of the page.

    Raises:
        TypeError: if points is no tensor of floating-point numbers.
        ValueError: if the points are too many, not finite, outside of the view or of another shape; if a character is
            no syllable.
    """

    _esm = script("playground")

    train = traitlets.Unicode(read_only=True).tag(sync=True)
    worker = traitlets.Unicode(read_only=True).tag(sync=True)
    images = traitlets.Dict(read_only=True).tag(sync=True)
    state = traitlets.Unicode().tag(sync=True)
    points = traitlets.List().tag(sync=True)

    def __init__(self, points: Tensor | None = None, *, syllables: str = "한글봄꽃별물", lang: str = "") -> None:
        folder = Path(__file__).parent
        for name, file in (("train", "train.js"), ("worker", "playground_worker.js")):
            self.set_trait(name, (folder / file).read_text(encoding="utf-8"))
        images = hangul(28).x
        rows = {syllable: images[place(syllable)] for syllable in syllables}
        self.set_trait(
            "images", {name: (255 * row).round().to(torch.uint8).numpy().tobytes() for name, row in rows.items()}
        )
        start = []
        if points is not None:
            check_tensor("points", points, columns=2, finite=True)
            if len(points) > MOST or points.abs().max() > VIEW:
                raise ValueError(f"points must be at most {MOST}, with entries from −{VIEW} to {VIEW}")
            start = points.tolist()
        super().__init__(points=start, lang=lang)

    @property
    def x(self) -> Tensor:
        """The points on the screen, shape (n, 2)."""
        return torch.tensor(self.points).reshape(-1, 2)
