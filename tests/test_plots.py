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
from companion.plots import diffusion, gan, vae


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


@pytest.mark.parametrize("shape", [(2, 18, 32), (2, 1, 18, 32), (2, 5, 1), (2, 2, 2)])
def test_images_keep_their_shape(shape: tuple[int, ...]) -> None:
    """18·32 = 24², but the images are not square."""
    x = torch.rand(shape)
    figure = plots.show_images(x, columns=2)
    for axis, image in zip(figure.axes, x, strict=True):
        assert axis.images[0].get_array().tolist() == image.reshape(shape[-2:]).tolist()
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4), r"x must have shape \(n, …\), not shape \(4,\)"),
        (torch.zeros(0, 4), "x is empty"),
        (torch.zeros(2, 5), r"an image must have shape .* got \(5,\)"),
        (torch.zeros(2, 3, 8, 8), r"an image must have shape .* got \(3, 8, 8\)"),
    ],
)
def test_what_is_no_set_of_grey_images_is_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.show_images(x)
    assert not matplotlib.pyplot.get_fignums()


def test_shares_of_variance_are_stacked_up_to_one() -> None:
    shares = torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.1, 0.3]])
    (axis,) = vae.jamo_shares(shares).axes
    heights = torch.tensor([[bar.get_height() for bar in bars] for bars in axis.containers]).T
    torch.testing.assert_close(heights, torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1))
    tops = [bar.get_y() + bar.get_height() for bar in axis.containers[-1]]
    assert tops == pytest.approx([1, 1])
    matplotlib.pyplot.close(axis.figure)


def test_rate_distortion_draws_what_it_is_given() -> None:
    curves = [torch.rand(2, 5), torch.rand(2, 5)]
    linear, deep = torch.rand(3, 2), torch.rand(2, 2)
    (axis,) = vae.rate_distortion(curves, linear, deep, ["a", "b"]).axes
    for line, expected in zip(axis.lines, [*curves, linear.T, deep.T], strict=True):
        torch.testing.assert_close(torch.as_tensor(line.get_xydata()).T.float(), expected)
    assert [text.get_text() for text in axis.texts] == ["a", "b"]
    matplotlib.pyplot.close(axis.figure)


@pytest.mark.parametrize("draw", [vae.autoencoder_blocks, vae.vae_blocks])
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


def test_frames_stand_around_the_marked_cells() -> None:
    counts = torch.arange(12.0).view(3, 4)
    axis = gan.coverage(counts, torch.tensor([1, 6, 11])).axes[0]
    assert axis.images[0].get_array().tolist() == counts.tolist()
    middles = [(frame.get_x() + 0.5, frame.get_y() + 0.5) for frame in axis.patches]
    assert middles == [(1, 0), (2, 1), (3, 2)]
    matplotlib.pyplot.close(axis.figure)


def test_the_density_is_recovered_from_the_other_and_the_logit() -> None:
    grid, p, q, logit = torch.linspace(-1, 1, 5), torch.rand(5) + 0.1, torch.rand(5) + 0.1, torch.randn(5)
    left, right = gan.density_ratio(grid, p, q, logit).axes
    wanted = {"$p_{\\mathrm{data}}$": p, "$p_\\theta$": q, "$D^*$": p / (p + q), "$D$": 1 / (1 + (-logit).exp())}
    wanted |= {"$\\log p_{\\mathrm{data}}$": p.log(), "$\\log p_\\theta+a$": (q * logit.exp()).log()}
    drawn = {line.get_label(): torch.as_tensor(line.get_ydata()) for line in (*left.lines, *right.lines)}
    assert drawn.keys() == wanted.keys()
    for label, values in wanted.items():
        torch.testing.assert_close(drawn[label], values)
    matplotlib.pyplot.close(left.figure)


def test_a_landscape_is_blue_where_the_logit_says_real_and_points_lie_on_their_places() -> None:
    figure, axis = matplotlib.pyplot.subplots()
    real, made = torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 0.5]])
    line = torch.linspace(-2, 2, 9)
    gan.landscape(axis, 20 * line[:, None].expand(9, 9), 2.0, real, made, "title")  # real above, fake below
    (image,) = axis.images
    red, _, blue, _ = image.cmap(image.norm(image.get_array()[-1, 0]))
    assert blue > red
    red, _, blue, _ = image.cmap(image.norm(image.get_array()[0, 0]))
    assert red > blue
    assert (image.origin, image.get_extent()) == ("lower", [-2, 2, -2, 2])
    assert [line.get_xydata().tolist() for line in axis.lines] == [real.tolist(), made.tolist()]
    matplotlib.pyplot.close(figure)


def test_arrows_are_the_flow_and_paths_start_at_a_dot() -> None:
    figure, axis = matplotlib.pyplot.subplots()
    path = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
    gan.vector_field(axis, lambda theta, psi: (theta + 2 * psi, theta * psi), [(path, "k")], 2.0, "title")
    (arrows,) = axis.collections
    theta, psi = torch.as_tensor(arrows.get_offsets()).T
    torch.testing.assert_close(torch.as_tensor(arrows.U).double(), theta + 2 * psi, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.as_tensor(arrows.V).double(), theta * psi, rtol=0, atol=1e-6)
    drawn, dot, answer = (line.get_xydata().tolist() for line in axis.lines)
    assert (drawn, dot, answer) == (path.tolist(), path[:1].tolist(), [[0, 0]])
    matplotlib.pyplot.close(figure)


def test_a_score_field_has_its_arrows_and_its_shades_in_place() -> None:
    figure, axis = matplotlib.pyplot.subplots()

    def density(x: torch.Tensor) -> torch.Tensor:
        return (-(x - torch.tensor([1.0, -0.5])).square().sum(1)).exp()

    diffusion.score_field(axis, lambda x: torch.stack([x[:, 0] + x[:, 1], -x[:, 0]], 1), density, 2.0, "title", cells=4)
    shades, arrows = axis.collections
    x, y = torch.as_tensor(arrows.get_offsets()).T
    assert len(x) == 16
    torch.testing.assert_close(torch.as_tensor(arrows.U).double(), x + y, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.as_tensor(arrows.V).double(), -x, rtol=0, atol=1e-6)
    darkest = torch.as_tensor(shades.get_paths()[-1].vertices)
    torch.testing.assert_close(darkest.mean(0), torch.tensor([1.0, -0.5]).double(), rtol=0, atol=0.05)
    matplotlib.pyplot.close(figure)


def test_nats_lost_and_won_are_filled_apart() -> None:
    log_snr, excess = torch.linspace(4, -4, 9), torch.tensor([2.0, 1, 0, -1, -1, 0, 0.5, 0.5, 0.5])
    left, right = diffusion.nats_over_snr(log_snr, torch.full((9,), 0.2), excess).axes
    lost, won = (torch.as_tensor(fill.get_paths()[0].vertices)[:, 1] for fill in right.collections)
    assert (lost.min(), lost.max()) == (0, 2)
    assert (won.min(), won.max()) == (-1, 0)
    assert right.get_xlim() == (4, -4)
    assert torch.as_tensor(left.lines[1].get_ydata()).tolist() == pytest.approx([1 / 8] * 9)
    matplotlib.pyplot.close(left.figure)


def test_ways_back_lead_from_a_circle_to_a_dot() -> None:
    figure, axis = matplotlib.pyplot.subplots()
    paths = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]], [[0.5, 1.0], [0.0, 0.5]], [[0.25, 0.0], [1.0, 1.0]]])
    diffusion.ways_back(axis, paths, torch.zeros(3, 2), "title")
    first, second, starts, ends = (torch.as_tensor(line.get_xydata()).float() for line in axis.lines)
    torch.testing.assert_close(torch.stack([first, second], 1), paths)
    torch.testing.assert_close(starts, paths[0])
    torch.testing.assert_close(ends, paths[-1])
    assert axis.lines[2].get_markerfacecolor() == "w" != axis.lines[3].get_markerfacecolor()
    matplotlib.pyplot.close(figure)


def test_the_guides_beside_errors_have_the_slopes_they_name() -> None:
    counts, error = [4, 8, 16], torch.tensor([0.1, 0.05, 0.025])
    names = ("DDIM", "Heun", "Heun, linear")
    (axis,) = diffusion.orders(dict.fromkeys(names, counts), {name: error * k for k, name in enumerate(names, 1)}).axes
    for line, name, k in zip(axis.lines, names, (1, 2, 3), strict=False):
        assert line.get_label() == name
        assert line.get_xdata().tolist() == counts
        torch.testing.assert_close(torch.as_tensor(line.get_ydata()), error * k)
    for line, slope in zip(axis.lines[3:], (-1, -2), strict=True):
        (x_1, x_2), (y_1, y_2) = line.get_data()
        assert math.log(y_2 / y_1) / math.log(x_2 / x_1) == pytest.approx(slope)
    assert [text.get_text() for text in axis.texts] == ["$-1$", "$-2$"]
    matplotlib.pyplot.close(axis.figure)


def test_paths_take_the_colour_of_the_side_on_which_they_end() -> None:
    t = torch.tensor([1.0, 0.5, 0.0])
    crossing = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]])
    left, right = diffusion.paths_in_time(t, [crossing, crossing.flip(0)]).axes
    for axis, colours in ((left, (plots.BLUE, plots.VERMILION)), (right, (plots.VERMILION, plots.BLUE))):
        assert tuple(line.get_color() for line in axis.lines[:2]) == colours
        assert axis.lines[2].get_xydata().tolist() == [[0, -1], [0, 1]]
    torch.testing.assert_close(torch.as_tensor(left.lines[1].get_ydata()), crossing[:, 1])
    matplotlib.pyplot.close(left.figure)


def test_memory_draws_each_judge_in_its_colour_and_each_data_set_in_its_style() -> None:
    t = torch.linspace(0, 1, 3)
    curves = {(judge, data): torch.rand(3) for judge in ("copier", "net") for data in ("train", "held out")}
    left, right = diffusion.memory(t, {"a": curves, "b": curves}).axes
    assert (left.get_title(), right.get_title()) == ("a", "b")
    for line, curve in zip(left.lines, curves.values(), strict=True):
        torch.testing.assert_close(torch.as_tensor(line.get_ydata()), curve)
    drawn = [(line.get_color(), line.get_linestyle()) for line in left.lines]
    assert drawn == [(plots.BLUE, "-"), (plots.BLUE, "--"), (plots.VERMILION, "-"), (plots.VERMILION, "--")]
    matplotlib.pyplot.close(left.figure)
