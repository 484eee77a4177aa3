"""Figures: what they draw is what they are given, and importing them changes nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

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


def test_shares_of_variance_are_stacked_up_to_one() -> None:
    shares = torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.1, 0.3]])
    (axis,) = plots.jamo_shares(shares).axes
    heights = torch.tensor([[bar.get_height() for bar in bars] for bars in axis.containers]).T
    torch.testing.assert_close(heights, torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1))
    tops = [bar.get_y() + bar.get_height() for bar in axis.containers[-1]]
    assert tops == pytest.approx([1, 1])
    matplotlib.pyplot.close(axis.figure)


def test_rate_distortion_draws_what_it_is_given() -> None:
    curves = [torch.rand(2, 5), torch.rand(2, 5)]
    linear, deep = torch.rand(3, 2), torch.rand(2, 2)
    (axis,) = plots.rate_distortion(curves, linear, deep, ["a", "b"]).axes
    for line, expected in zip(axis.lines, [*curves, linear.T, deep.T], strict=True):
        torch.testing.assert_close(torch.as_tensor(line.get_xydata()).T.float(), expected)
    assert [text.get_text() for text in axis.texts] == ["a", "b"]
    matplotlib.pyplot.close(axis.figure)


@pytest.mark.parametrize("draw", [plots.autoencoder_blocks, plots.vae_blocks])
def test_every_block_stays_inside_its_diagram(draw: Callable) -> None:
    (axis,) = draw().axes
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for patch in axis.patches:
        points = patch.get_patch_transform().transform_path(patch.get_path()).vertices
        assert left <= points[:, 0].min()
        assert points[:, 0].max() <= right
        assert bottom <= points[:, 1].min()
        assert points[:, 1].max() <= top
    matplotlib.pyplot.close(axis.figure)
