"""The samples of several models in the page: what JavaScript unpacks, sorts and shows is what Python measured."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from ipywidgets.embed import dependency_state
from torch import Tensor

from companion.data import Hangul, hangul
from companion.metrics import hangul_score, nearest_syllable
from companion.widgets.comparison import SamplesWidget

SHADOW = "document.querySelector('#el > div').shadowRoot"
FAMILIES = ("PPCA", "VAE", "GAN", "VAE + diffusion", "diffusion")


@functools.cache
def glyphs() -> Hangul:
    return hangul(16)


def images(n: int, seed: int, noise: float) -> Tensor:
    """Syllables with noise: the more noise, the fewer are legible."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(glyphs().x), generator=g)[:n]
    return glyphs().x[rows] + noise * torch.linspace(0, 1, n)[:, None] * torch.randn(n, 256, generator=g)


def samples() -> dict[str, Tensor]:
    return {name: images(24, seed, 0.1 + 0.15 * seed) for seed, name in enumerate(FAMILIES)}


def widget(**options) -> SamplesWidget:
    return SamplesWidget(samples(), glyphs(), **options)


# Python


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0])
def test_what_is_below_one_is_what_the_score_calls_legible(factor: float) -> None:
    one = widget(factor=factor)
    for (name, x), rows in zip(samples().items(), one.rows, strict=True):
        score = hangul_score(x, glyphs(), factor=factor)
        legible = [row for row in rows if row[1] < 1]
        assert len(legible) == round(24 * score.legible), name
        if legible:
            assert sum(row[2] for row in legible) == round(len(legible) * score.held_out)


def test_every_sample_is_named_by_its_nearest_syllable() -> None:
    x = glyphs().x[[0, 1, 5000]]
    rows = SamplesWidget({"a": x}, glyphs()).rows[0]
    assert [row[0] for row in rows[:2]] == ["가 ga", "각 gag"]
    assert [row[1] for row in rows] == [0, 0, 0]
    held_out = set(glyphs().held_out.tolist())
    assert [row[2] for row in rows] == [index in held_out for index in (0, 1, 5000)]


def test_the_chapters_widget_fits_into_its_notebook() -> None:
    assert len(json.dumps(dependency_state([widget()], drop_defaults=False))) < 90_000


def test_repr_and_state_do_not_change_from_run_to_run() -> None:
    first, second = ({**each.get_state(), "layout": None} for each in (widget(), widget()))
    assert first == second
    assert repr(widget()) == "SamplesWidget()"


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({}, r"1 to 48, got \[\]"),
        ({"a": images(3, 0, 0.1), "b": images(4, 0, 0.1)}, r"equally many images of each model, 1 to 48, got \[3, 4\]"),
        ({"a": images(49, 0, 0.1)}, r"1 to 48, got \[49\]"),
        ({"a": torch.zeros(3, 64)}, r"samples\['a'\]"),
        ({"a": torch.full((3, 256), torch.nan)}, r"samples\['a'\]"),
    ],
)
def test_what_is_wrong_is_named(samples: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplesWidget(samples, glyphs())


def test_the_place_must_exist() -> None:
    one = widget(index=23)
    with pytest.raises(ValueError, match="index is 24; choose it between 0 and 23"):
        one.index = 24


# In the browser


def order_of(one: SamplesWidget, order: str) -> list[list[int]]:
    places = [list(range(24)) for _ in one.rows]
    if order == "legible":
        places = [sorted(range(24), key=lambda i, rows=rows: rows[i][1]) for rows in one.rows]
    return places


def test_the_bytes_are_the_images_to_half_a_grey_level(stage) -> None:
    one = widget()
    page = stage(one).page
    found = page.evaluate("() => module.unpack(model.get('pixels'), 16).map((image) => Array.from(image))")
    x = torch.cat(list(samples().values()))
    assert (torch.tensor(found) - x.clamp(0, 1)).abs().max() <= 1 / 30 + 1e-6
    nearest = nearest_syllable(x, glyphs().x)[0]
    found = page.evaluate("() => module.unpack(model.get('glyphs'), 16).map((image) => Array.from(image))")
    assert (torch.tensor(found) - glyphs().x[nearest]).abs().max() <= 1 / 30 + 1e-6


@pytest.mark.parametrize("order", ["legible", "noise"])
def test_it_shows_what_python_says(stage, order: str) -> None:
    one = widget(index=7, order=order)
    show = stage(one)
    data = show.data
    assert (data["index"], data["order"]) == (7, order)
    assert data["picked"] == [places[7] for places in order_of(one, order)]
    for i, rows in enumerate(one.rows):
        syllable, far, _ = rows[int(data["picked"][i])]
        assert show.find(f"#family{i} .text b").inner_text() == syllable
        assert f"{far:.2f} {'✓' if far < 1 else '✗'}" in show.find(f"#family{i} .text span").inner_text()
        assert show.find(f"#family{i} .count").inner_text() == f"{sum(row[1] < 1 for row in rows)} / 24"


def test_a_press_on_an_image_picks_its_place_in_every_row(stage) -> None:
    one = widget()
    show = stage(one)
    box = show.find("#family2 .sheet").bounding_box()
    lines = show.page.evaluate(f"() => {SHADOW}.querySelector('#family2 .sheet canvas').height / 20")
    columns = 24 / lines
    x = box["x"] + (3 + 0.5) * box["width"] / columns
    y = box["y"] + 0.5 * box["height"] / lines
    show.page.touchscreen.tap(x, y)
    assert show.data["index"] == 3
    assert show.data["picked"] == [places[3] for places in order_of(one, "legible")]
    show.sync()
    assert one.index == 3


def test_slider_and_order_follow_the_keys(stage) -> None:
    one = widget()
    show = stage(one)
    show.find("#index").press("ArrowRight")
    assert show.data["index"] == 1
    show.find("#index").press("End")
    assert show.data["index"] == 23
    assert one.rows[4][order_of(one, "legible")[4][23]][0] in show.find("#index").get_attribute("aria-valuetext")
    show.find("#legible").press("ArrowRight")
    assert show.data["order"] == "noise"
    assert show.find("#noise").get_attribute("aria-checked") == "true"
    assert show.page.evaluate(f"() => {SHADOW}.activeElement.id") == "noise"
    assert show.data["picked"] == [23] * 5
    show.sync()
    assert (one.index, one.order) == (23, "noise")


def test_illegible_images_are_pale_and_legible_ones_marked(stage) -> None:
    one = widget(order="noise")
    show = stage(one)
    for i, rows in enumerate(one.rows):
        found = show.page.evaluate(
            f"""(i) => {{
              const canvas = {SHADOW}.querySelector(`#family${{i}} .sheet canvas`);
              const {{width, height}} = canvas;
              const copy = Object.assign(document.createElement("canvas"), {{width, height}});
              const context = copy.getContext("2d", {{willReadFrequently: true}});
              context.drawImage(canvas, 0, 0);
              const columns = canvas.width / 18;
              return Array.from({{length: 24}}, (_, at) => {{
                const [x, y] = [(at % columns) * 18 + 1, Math.floor(at / columns) * 20 + 1];
                const bar = context.getImageData(x + 8, y + 17, 1, 1).data[3];
                const ink = context.getImageData(x, y, 16, 16).data.filter((_, j) => j % 4 === 3);
                return [bar > 0, Math.max(...ink)];
              }});
            }}""",
            i,
        )
        assert [bar for bar, _ in found] == [far < 1 for _, far, _ in rows]
        assert all((ink > 130) == (far < 1) for (_, ink), (_, far, _) in zip(found, rows, strict=True))


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_nothing_is_cut_off(stage, width: int) -> None:
    one = widget()
    show = stage(one)
    show.page.set_viewport_size({"width": width, "height": 800})
    show.settle()
    assert show.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    for selector in ("#legible", "#noise", "#index"):
        box = show.find(selector).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["height"] >= 36
