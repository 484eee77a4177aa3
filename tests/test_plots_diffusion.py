from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes

from companion.plots import BLUE, VERMILION, diffusion


def arrows(axis: Axes) -> dict[str, list[tuple[float, float]]]:
    """Where arrows of each colour start and end, along x."""
    found: dict[str, list[tuple[float, float]]] = {}
    for text in axis.texts:
        if getattr(text, "arrow_patch", None) is not None:
            colour = matplotlib.colors.to_hex(text.arrow_patch.get_edgecolor()).upper()
            found.setdefault(colour, []).append((text.xyann[0], text.xy[0]))
    return found


def test_q_runs_forwards_on_the_left_and_after_one_leap_back_on_the_right() -> None:
    figure = diffusion.two_steps()
    left, right = (arrows(axis) for axis in figure.axes)
    for found in (left, right):
        assert all(end < start for start, end in found[BLUE.upper()])
        assert len(found[BLUE.upper()]) == 2
    assert all(end > start for start, end in left[VERMILION.upper()])
    leap, back = right[VERMILION.upper()]
    assert leap == pytest.approx((0, 3.4))
    assert back[1] < back[0]
    assert back == pytest.approx(right[BLUE.upper()][0], abs=1e-6)
    labels = [text.get_text() for text in figure.axes[1].texts]
    assert r"$q(u\,|\,x_1,x_0)$" in labels
    assert r"$q(x_1\,|\,u)$" not in labels
    plt.close(figure)


def test_time_and_labels_reach_every_block() -> None:
    figure = diffusion.denoiser_scheme()
    (axis,) = figure.axes
    ends = [end for _, end in arrows(axis)[VERMILION.upper()]]
    blocks = [text.get_position()[0] for text in axis.texts if text.get_text().startswith("$h\\,+")]
    assert len(blocks) == 2
    assert set(blocks) <= set(ends)
    plt.close(figure)
