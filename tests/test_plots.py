"""Figures: what they draw is what they are given, and importing them changes nothing."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

matplotlib.use("Agg")

from companion import data, plots
from companion.plots import diffusion, gan, letters, preface, screen, vae

FONT = Path("/usr/share/fonts/truetype/nanum/NanumGothic.ttf")
needs_font = pytest.mark.skipif(not FONT.exists(), reason="Debian's package fonts-nanum is missing")


@pytest.mark.slow
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


# How a figure reaches the screen


@pytest.fixture
def style() -> Iterator[None]:
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def rich() -> Figure:
    """All that a figure of lines may hold: dashes, shades, markers, clipped and turned things, formulas, letters."""
    figure, axis = plt.subplots(figsize=(4, 3))
    x = np.linspace(0.1, 3, 100)
    axis.plot(x, np.sin(3 * x), "--", label=r"$\sin 3x_t^2$")
    axis.plot(x, 3 * np.cos(5 * x), color=plots.GREEN, lw=3)  # leaves the axes
    axis.fill_between(x, -0.5, x / 3, color=plots.VERMILION, alpha=0.3, lw=0)
    axis.plot(x[::10], x[::10] / 3, "o", color=plots.PURPLE, mec=plots.INK)
    axis.scatter(x[::7], -x[::7] / 3, s=30, c=[plots.BLUE, plots.ORANGE, plots.SKY] * 5, marker="^", alpha=0.6)
    axis.bar([1, 2], [0.4, 0.7], width=0.3, color=plots.SKY, edgecolor=plots.INK)
    axis.errorbar([0.5, 1.5], [-0.8, -0.6], yerr=0.1, color=plots.INK)
    axis.quiver([1, 2], [0, 0.5], [1, -1], [0.5, 1])
    axis.contour(x[::10], x[::10] - 1.5, np.add.outer(x[::10], x[::10] ** 2), levels=3, colors="k", linewidths=0.7)
    axis.text(2, -0.7, "turned", rotation=30, color=plots.BLUE, bbox={"boxstyle": "round", "fc": "w", "alpha": 0.5})
    axis.annotate("", (0.5, 0.5), (2.5, 0.9), arrowprops={"arrowstyle": "-|>", "linestyle": (0, (4, 2))})
    plots.write(axis, 0.5, 0.8, "ㅎㅢ", size=20)
    axis.set(ylim=(-1, 1), xlabel="$x$", ylabel=r"$\frac{1}{2}$")
    axis.legend(loc="lower right")
    return figure


def svg_of(figure: Figure) -> str:
    ((bundle, metadata),) = screen.outputs(figure)
    assert metadata == {}
    return bundle["image/svg+xml"]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def quarter(image: np.ndarray) -> np.ndarray:
    """Means over blocks of 4×4 pixels."""
    height, width = (side // 4 for side in image.shape[:2])
    return image[: 4 * height, : 4 * width].reshape(height, 4, width, 4, 3).mean((1, 3))


def test_a_vector_figure_looks_like_the_raster_one(style, browser) -> None:
    """The oracle is Agg, which shares nothing with the rewritten SVG but the figure."""
    figure = rich()
    vector = svg_of(figure)
    with screen._laid_out(figure):
        expected = quarter(pixels(screen._png(figure, figure.get_tightbbox().padded(0.1), 4 * screen.DPI)))
    page = browser.new_page(viewport={"width": 600, "height": 500}, device_scale_factor=4)
    page.set_content(f'<body style="margin:0">{vector}')
    seen = quarter(pixels(page.screenshot()))[: expected.shape[0], : expected.shape[1]]
    page.close()
    difference = abs(seen - expected)[2:-2, 2:-2]
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.999) < 80  # 51; without dashes, clips, shades or turns at least 140
    assert expected.std() > 30


@pytest.mark.slow
def test_an_svg_holds_paths_alone_and_is_the_same_each_time(style) -> None:
    """GitHub takes `<use>`, `<style>` and `style=` out of a notebook, and two figures on a page may not share an id."""
    first, second = svg_of(rich()), svg_of(rich())
    assert first == second
    root = ElementTree.fromstring(first)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {"svg", "g", "path", "defs", "clipPath"}
    keys = {key for element in root.iter() for key in element.attrib}
    assert not keys & {"style", "class", "transform", "href"}
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 0
    assert all(re.fullmatch(r"c[0-9a-f]{8}", name) for name in ids)
    assert len(first) < 30_000


@pytest.mark.slow
def test_a_figure_keeps_its_size(style) -> None:
    figure = rich()
    figure.draw_without_rendering()
    inches = figure.get_tightbbox()
    root = ElementTree.fromstring(svg_of(figure))
    assert float(root.get("width")) == pytest.approx(110 * (inches.width + 0.2), abs=1)
    assert float(root.get("height")) == pytest.approx(110 * (inches.height + 0.2), abs=1)
    ((bundle, metadata),) = screen.outputs(plots.show_images(torch.rand(10, 64)))
    width, _ = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).size
    assert metadata == {"image/png": {"width": width // 2}}
    assert width == pytest.approx(2 * 110 * 7.6, abs=10)


@pytest.mark.parametrize("kind", ["image", "rasterized", "hatch", "long"])
@pytest.mark.slow
def test_what_is_no_short_line_art_becomes_a_sharp_png(style, kind: str) -> None:
    figure, axis = plt.subplots(figsize=(3, 2))
    if kind == "image":
        axis.imshow(np.eye(3))
    elif kind == "rasterized":
        axis.plot([1, 2], rasterized=True)
    elif kind == "hatch":
        axis.bar([1], [1], hatch="/")
    else:
        axis.scatter(*np.random.default_rng(0).random((2, 5000)), alpha=0.5)
    ((bundle, metadata),) = screen.outputs(figure)
    assert "image/svg+xml" not in bundle
    width, _ = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).size
    assert metadata["image/png"]["width"] == width // 2
    assert bundle["text/plain"] == repr(figure)


def test_pixels_of_an_image_stay_sharp(style) -> None:
    """Between two pixels of an image there is no grey."""
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.axis("off")
    plots.draw_image(axis, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    ((bundle, _),) = screen.outputs(figure)
    image = pixels(base64.b64decode(bundle["image/png"]))[..., 0]
    middle = image[image.shape[0] // 4, 60:-60]
    assert set(middle) == {0, 255}
    assert (np.diff(middle) != 0).sum() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "columns", "size", "count"),
    [(1, 2, (5, 1.5), 2), (1, 6, (6, 1.5), 1), (1, 2, (4.9, 1.5), 1), (2, 2, (5, 3), 1)],
)
def test_panels_come_apart_and_lie_as_they_were_drawn(style, rows, columns, size, count) -> None:
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for index, axis in enumerate(axes.flat):
        axis.set(title=f"panel {index}", xlabel="$x$")
    found = screen.outputs(figure)
    assert len(found) == count
    assert all(axis.get_visible() for axis in figure.axes)
    names = [bundle["text/plain"] for bundle, _ in found]
    assert names == ([repr(figure)] if count == 1 else [f"<Figure: panel {k + 1} of {count}>" for k in range(count)])
    images = [pixels(base64.b64decode(bundle["image/png"])) for bundle, _ in found]
    with screen._laid_out(figure):
        expected = pixels(screen._png(figure, figure.get_tightbbox().padded(0.1), screen.DPI))
    together = np.concatenate(images, axis=1)[:, : expected.shape[1] - 4]
    assert abs(together.shape[0] - expected.shape[0]) <= 2
    middle = expected[:200, : together.shape[1]]
    assert abs(together[:200] - middle).mean() < 6, "only moved by parts of a pixel"


@pytest.mark.slow
def test_a_colour_bar_stays_with_its_axis_and_titles_keep_a_figure_whole(style) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(7, 3))
    figure.colorbar(axes[0].imshow(np.eye(3)), ax=axes[0])
    axes[1].plot([1, 2])
    raster, vector = screen.outputs(figure)
    assert "image/svg+xml" not in raster[0]
    assert "image/svg+xml" in vector[0], "each panel in the form that suits it"
    figure.suptitle("both")
    assert len(screen.outputs(figure)) == 1


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("linked", [False, True], ids=["image", "link"])
def test_panels_stand_side_by_side_on_a_desk_and_below_one_another_on_a_phone(
    browser, count: int, linked: bool
) -> None:
    """Sphinx puts an image with a width, which a PNG has, into a link."""
    css = (Path(__file__).parent.parent / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    svg = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='300' height='200'/>"
    image = f'<img class="wide" src="{svg}">\n'
    link = f'<a class="reference internal image-reference"><img src="{svg}" style="width: 300px;" />\n</a>\n'
    images = (link if linked else image) * count
    # As myst-nb writes it; 712 pixels is the width of the site's column.
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_content(
        f'<meta name="viewport" content="width=device-width"><style>{css} main {{ max-width: 712px }}</style>'
        f'<main class="bd-article"><div class="cell"><div class="cell_output docutils container">{images}</div></div>'
        '<div class="cell"><div class="cell_output docutils container"><p class="output">1</p>'
        f'<img src="{svg}"><img src="{svg}"></div></div></main>'
    )
    place = "all => all.map((i) => i.getBoundingClientRect()).map(({x, y, width, height}) => [x, y, width, height])"
    boxes = np.array(page.eval_on_selector_all("img", place))
    panels, others = boxes[:-2], boxes[-2:]
    assert panels[:, 2] / panels[:, 3] == pytest.approx(1.5, abs=0.01)
    in_row = {1: 1, 3: 3, 6: 2}[count]
    assert (panels[:in_row, 1] == panels[0, 1]).all()
    assert panels[:, 2] == pytest.approx(min(300, 712 / in_row), abs=0.5)
    assert others[1, 1] > others[0, 1], "with printed lines they are no panels"
    page.set_viewport_size({"width": 375, "height": 800})
    panels = np.array(page.eval_on_selector_all("img", place))[:-2]
    assert (np.diff(panels[:, 1]) > 190).all()
    assert (panels[:, 2] == 300).all()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


# Letters


def test_every_letter_has_its_own_outline_in_the_common_box() -> None:
    outlines = letters._outlines()
    assert set(outlines) == set(data.CHOSEONG) | set(data.JUNGSEONG) | set(data.JONGSEONG) - {""}
    corners = np.concatenate([path.get_extents().get_points() for path in outlines.values()])
    assert corners.min(0) == pytest.approx(-corners.max(0), abs=0.002)
    assert abs(corners).max() < 0.5
    assert len({path.vertices.tobytes() for path in outlines.values()}) == 51


@needs_font
def test_bundled_outlines_are_what_the_script_draws() -> None:
    from companion.render_hangul import outlines

    with np.load(Path(plots.__file__).parent.parent / "letters.npz") as bundled:
        for name, array in outlines(FONT).items():
            if name == "points":
                assert abs(array - bundled[name]).max() <= 1
            else:
                assert (array == bundled[name]).all()


@needs_font
@pytest.mark.parametrize("letter", "ㅎㅢㄳ")
def test_a_letter_is_drawn_where_it_is_put(style, letter: str) -> None:
    """Against Pillow, which reads the font itself."""
    from PIL import ImageDraw, ImageFont

    figure = plt.figure(figsize=(2, 1), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 2), ylim=(0, 1))
    axis.axis("off")
    plots.write(axis, 1.5, 0.5, letter, size=36, color="k")
    file = io.BytesIO()
    figure.savefig(file, dpi=200)
    ink = pixels(file.getvalue())[..., 0] < 128
    canvas = Image.new("L", (200, 200))
    ImageDraw.Draw(canvas).text((50, 50), letter, fill=255, font=ImageFont.truetype(FONT, 100))
    expected = np.asarray(canvas) >= 128
    box = lambda mask: [line.nonzero()[0][[0, -1]] for line in (mask.any(1), mask.any(0))]  # noqa: E731
    (top, bottom), (left, right) = box(ink)
    (high, low), (west, east) = box(expected)
    assert abs((bottom - top) - (low - high)) <= 2
    assert abs((right - left) - (east - west)) <= 2
    overlap = ink[top : bottom + 1, left : right + 1][: low - high - 1, : east - west - 1]
    assert (overlap == expected[high:, west:][: overlap.shape[0], : overlap.shape[1]]).mean() > 0.93
    assert 300 - 50 < left < right < 300 + 50
    assert 100 - 50 < top < bottom < 100 + 50


def test_a_syllable_is_its_image(style) -> None:
    _, axis = plt.subplots()
    plots.write(axis, 0.5, 0.5, "\u1112\u1161\u11ab", color="#ff0000")  # 한 in letters, as macOS writes it
    (image,) = (child for child in axis.get_children() if type(child).__name__ == "BboxImage")
    array = image.get_array()
    assert abs(array[..., 3].ravel() / 255 - data.hangul(28).x[ord("한") - ord("가")].numpy()).max() < 0.003
    assert (array[..., :3] == [255, 0, 0]).all()
    with pytest.raises(ValueError, match="must be one modern Hangul syllable"):
        plots.write(axis, 0, 0, "a")


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize("names", [None, [data.romanise(letter) for letter in data.JONGSEONG]])
def test_letters_stand_at_their_ticks_outside_the_axes(style, which: str, names: list[str] | None) -> None:
    figure, axis = plt.subplots(figsize=(5, 4))
    axis.set(xlim=(-1, 28), ylim=(-1, 28), xlabel="$a$", ylabel="$b$")
    plots.letter_ticks(axis, which, data.JONGSEONG, names=names)
    figure.draw_without_rendering()
    side = 0 if which == "x" else 1
    inside = axis.get_window_extent()
    drawn = [patch.get_window_extent() for patch in axis.patches]
    assert len(drawn) == 27
    for index, box in enumerate(drawn, start=1):
        middle = axis.transData.transform((index, index))[side]
        assert box.min[side] < middle < box.max[side]
        assert box.max[1 - side] < inside.min[1 - side]
    line = axis.xaxis if which == "x" else axis.yaxis
    labels = [label.get_text() for label in line.get_ticklabels()]
    assert labels == ["∅", *(data.romanise(letter) if names else "" for letter in data.JONGSEONG[1:])]
    label = line.label.get_window_extent()
    assert all(label.max[1 - side] <= box.min[1 - side] for box in drawn), "the axis's name stands outside"


def test_letters_without_a_place_are_refused(style) -> None:
    _, axis = plt.subplots()
    with pytest.raises(ValueError, match='which must be "x" or "y"'):
        plots.letter_ticks(axis, "z", "ㄱ")
    with pytest.raises(ValueError, match="2 letters, 1 positions"):
        plots.letter_ticks(axis, "x", "ㄱㄴ", at=[0])


# The preface


@pytest.mark.slow
def test_what_generates_is_blue_and_what_judges_is_not(style) -> None:
    figure = preface.family_map()
    drawn = [text.arrow_patch for text in figure.axes[2].texts if hasattr(text, "arrow_patch")]
    colours = [matplotlib.colors.to_hex(patch.get_edgecolor(), keep_alpha=False) for patch in drawn]
    assert [colour.upper() for colour in colours] == [plots.BLUE, plots.INK]
    assert len(screen.outputs(figure)) == 4
    assert min(text.get_fontsize() for axis in figure.axes for text in axis.texts if text.get_text()) >= 13


def test_a_syllable_and_its_letters_are_named(style) -> None:
    (axis,) = preface.syllable_parts().axes
    assert [text.get_text() for text in axis.texts if len(text.get_text())] == [*"han", "+", "+", "=", "han"]
    (image,) = axis.images
    assert abs(np.asarray(image.get_array()).ravel() - data.hangul(28).x[ord("한") - ord("가")].numpy()).max() < 1e-6
    left, right, bottom, top = image.get_extent()
    ink = image.get_array() > 0.5
    shades = [patch for patch in axis.patches if isinstance(patch, plt.Rectangle) and patch.get_zorder() == 2]
    covered = np.zeros((28, 28), dtype=int)
    for shade in shades:
        x = 28 * (np.array([0, shade.get_width()]) + shade.get_x() - left) / (right - left)
        y = 28 * (top - shade.get_y() - np.array([shade.get_height(), 0])) / (top - bottom)
        covered[slice(*y.round().astype(int)), slice(*x.round().astype(int))] += 1
    assert len(shades) == 3
    assert (covered == 1).all(), "the three places share the image out"
    assert ink.any()


def test_the_table_names_every_letter(style) -> None:
    axes = preface.letter_table().axes
    for axis, letters_ in zip(axes, (data.CHOSEONG, data.JUNGSEONG, data.JONGSEONG), strict=True):
        assert len(axis.patches) == len([letter for letter in letters_ if letter])
        names = [text.get_text() for text in axis.texts if text.get_text()]
        assert len(names) == len(letters_)
    assert "–" in [text.get_text() for text in axes[0].texts]


def test_look_alikes_mark_the_pixels_that_differ(style) -> None:
    figure = preface.look_alikes()
    assert [axis.get_title() for axis in figure.axes] == ["han", "hyan", "ha", "ho", "hwa"]
    x = data.hangul(28).x.reshape(-1, 28, 28)
    differ = (x[ord("한") - ord("가")] - x[ord("햔") - ord("가")]).abs() > 0.3
    marks = [patch for patch in figure.axes[1].patches if isinstance(patch, plt.Rectangle)]
    places = {(round(mark.get_y() + 0.5), round(mark.get_x() + 0.5)) for mark in marks}
    assert places == {tuple(place) for place in differ.nonzero().tolist()}
