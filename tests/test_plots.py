"""Figures: what they draw is what they are given, and importing them changes nothing."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

from companion import plots


def test_import_leaves_matplotlib_alone() -> None:
    code = (
        "import matplotlib as m; before = dict(m.rcParams)\n"
        "from companion import plots; assert dict(m.rcParams) == before\n"
        "plots.use_style(); assert dict(m.rcParams) != before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_images_are_clipped_and_missing_pixels_stay_missing() -> None:
    x = torch.tensor([[0.0, 0.5, 1.0, 2.0], [-1.0, math.nan, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    figure = plots.show_images(x, columns=2, titles=["a", "b", "c"])
    first, second, _, empty = figure.axes
    assert first.images[0].get_array().tolist() == [[0.0, 0.5], [1.0, 1.0]]
    assert second.images[0].get_array().mask.tolist() == [[False, True], [False, False]]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    assert not empty.images
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize("x", [torch.zeros(4), torch.zeros(0, 4), torch.zeros(2, 5), torch.zeros(2, 2, 2)])
def test_what_is_no_set_of_square_images_is_refused(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"x must hold flat square images, shape \(n, side²\)"):
        plots.show_images(x)
