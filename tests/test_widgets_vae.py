"""The decoders that run in the page: what JavaScript computes from the bytes is compared with PyTorch."""

from __future__ import annotations

import base64
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FRAMES, one_tab
from ipywidgets.embed import dependency_state
from torch import Tensor, nn

from companion.widgets.vae import DecoderWidget

ROOT = Path(__file__).parent.parent
SHADOW = "document.querySelector('#el > div').shadowRoot"
ACTIVATIONS = [nn.ReLU(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU(0.2), nn.Sigmoid()]


def decoder(*sizes: int, activation: nn.Module | None = None, seed: int = 0, half: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation or nn.SiLU()]
        nn.init.normal_(layers[-2].weight, std=2 / math.sqrt(inputs))
    network = nn.Sequential(*layers[:-1])
    return network.half().float() if half else network


def cloud(n: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def several(**options) -> DecoderWidget:
    decoders = {beta: decoder(2, 16, 64, seed=i) for i, beta in enumerate((0.5, 1.0, 4.0))}
    clouds = [cloud(seed=i) for i in range(3)]
    return DecoderWidget(decoders, clouds, rate=[5.0, 3.0, 0.5], distortion=[20.0, 21.5, 26.0], **options)


def stored(widget: DecoderWidget) -> dict[float, nn.Sequential]:
    """The decoders as PyTorch modules, read from the bytes that the page gets."""
    return networks({name: getattr(widget, name) for name in ("layers", "weights", "half", "betas")})


def networks(state: dict) -> dict[float, nn.Sequential]:
    numbers = torch.from_numpy(np.frombuffer(state["weights"], "<f2" if state["half"] else "<f4").astype("float32"))
    kinds = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh, "leaky": nn.LeakyReLU, "sigmoid": nn.Sigmoid}
    found, at = {}, 0
    for beta, layers in zip(state["betas"], state["layers"], strict=True):
        modules = []
        for layer in layers:
            if layer["kind"] == "linear":
                linear = nn.Linear(layer["inputs"], layer["outputs"])
                for parameter in (linear.weight, linear.bias):
                    parameter.data = numbers[at : at + parameter.numel()].reshape(parameter.shape)
                    at += parameter.numel()
                modules.append(linear)
            else:
                modules.append(kinds[layer["kind"]](*([layer["slope"]] if "slope" in layer else [])))
        found[beta] = nn.Sequential(*modules)
    assert at == len(numbers)
    return found


def assert_image(data: dict, widget: DecoderWidget) -> None:
    with torch.no_grad():
        image = stored(widget)[data["beta"]](torch.tensor(data["z"], dtype=torch.float32))
    torch.testing.assert_close(torch.tensor(data["image"]), image, rtol=0, atol=1e-4)


# Python


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_the_bytes_are_the_decoder(half: bool, output: str) -> None:
    network = decoder(2, 7, 9, 12, activation=nn.LeakyReLU(0.3), half=half)
    widget = DecoderWidget(network, cloud(), size=(3, 4), output=output)
    assert widget.half == half
    assert len(widget.weights) == (2 if half else 4) * sum(p.numel() for p in network.parameters())
    z = cloud(9, seed=1)
    truth = network(z).sigmoid() if output == "sigmoid" else network(z)
    assert torch.equal(stored(widget)[1.0](z), truth)


def test_a_missing_bias_is_zero_and_the_precision_single() -> None:
    network = nn.Sequential(nn.Linear(2, 5, bias=False), nn.Tanh(), nn.Linear(5, 4, bias=False)).double()
    z = cloud(9)
    shown = stored(DecoderWidget(network, z, output="identity"))[1.0](z)
    torch.testing.assert_close(shown, network(z.double()).float())


def test_both_widgets_of_the_chapter_fit_into_its_notebook() -> None:
    digits = {beta: decoder(2, 64, 64, 64, half=True) for beta in (0.25, 0.5, 1.0, 2.0, 4.0)}
    numbers = list(range(5))
    first = DecoderWidget(digits, [cloud(300)] * 5, torch.arange(300) % 10, rate=numbers, distortion=numbers)
    second = DecoderWidget(decoder(2, 64, 256, half=True), cloud(1000), torch.arange(1000) % 3)
    assert sum(len(json.dumps(dependency_state([one], drop_defaults=False))) for one in (first, second)) < 260_000


def test_repr_and_state_do_not_change_from_run_to_run() -> None:
    states = [{**widget.get_state(), "layout": None} for widget in (several(), several())]
    assert states[0] == states[1]
    assert repr(several()) == "DecoderWidget()"


def test_it_starts_at_the_first_point_the_one_farthest_from_it_and_beta_one() -> None:
    widget = several()
    assert widget.beta == 1.0
    points = cloud(seed=1)
    assert widget.z == points[0].tolist()
    assert widget.end == max(points.tolist(), key=lambda point: math.dist(point, widget.z))
    assert DecoderWidget({0.5: decoder(2, 4), 2.0: decoder(2, 4)}, [cloud(), cloud()]).beta == 0.5


@pytest.mark.parametrize("layer", [nn.GELU(), nn.Dropout(), nn.Sequential(), nn.ReLU6()], ids=repr)
def test_a_layer_that_javascript_does_not_know_is_named(layer: nn.Module) -> None:
    known = "Linear, ReLU, SiLU, Tanh, LeakyReLU, Sigmoid"
    with pytest.raises(TypeError, match=f"layer {type(layer).__name__}; JavaScript knows {known}"):
        DecoderWidget(nn.Sequential(nn.Linear(2, 4), layer), cloud())
    with pytest.raises(TypeError, match=f"holds a Linear; give nn.Sequential of {known}"):
        DecoderWidget(nn.Linear(2, 4), cloud())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoders": {}}, "z holds 1 sets of points for 0 decoders"),
        ({"decoders": decoder(3, 4)}, "does not start from 2 numbers"),
        ({"decoders": nn.Sequential(nn.Tanh())}, "does not start from 2 numbers"),
        ({"decoders": decoder(2, 6)}, r"gives 6 pixels, size is None; give size=\(height, width\)"),
        ({"size": (2, 3)}, r"gives 4 pixels, size is \(2, 3\)"),
        ({"decoders": {1.0: decoder(2, 4), 2.0: decoder(2, 9)}, "z": [cloud(), cloud()]}, "gives 4, 9 pixels"),
        ({"decoders": {2.0: decoder(2, 4), 1.0: decoder(2, 4)}, "z": [cloud(), cloud()]}, r"order \[2.0, 1.0\]; sort"),
        ({"decoders": {1.0: decoder(2, 4), 2.0: decoder(2, 4)}}, "z holds 1 sets of points for 2 decoders"),
        ({"decoders": {1.0: decoder(2, 4), 2.0: decoder(2, 4)}, "z": [cloud(), cloud(41)]}, "another number of points"),
        ({"z": torch.zeros(5, 3)}, r"z has shape \(5, 3\)"),
        ({"z": torch.zeros(1001, 2)}, r"z has shape \(1001, 2\)"),
        ({"z": torch.zeros(0, 2)}, r"z has shape \(0, 2\)"),
        ({"z": torch.full((5, 2), math.nan)}, "z has entries"),
        ({"classes": torch.zeros(5)}, "classes has 5 labels for 40 points"),
        ({"classes": torch.full((40,), 10)}, "classes must be integers from 0"),
        ({"classes": torch.full((40,), 0.5)}, "classes must be integers from 0"),
        ({"classes": torch.full((40,), 2), "names": ["a", "b"]}, "classes must be integers from 0"),
        ({"classes": torch.zeros(40), "names": list("abcdefghijk")}, "classes must be integers from 0"),
        ({"names": ["a"]}, "names belong to classes"),
        ({"output": "softmax"}, "output is 'softmax'"),
        ({"rate": [1.0]}, "rate and distortion belong together"),
        ({"rate": [1.0, 2.0], "distortion": [1.0]}, r"rate is \[1.0, 2.0\]; give 1 finite"),
        ({"rate": [1.0], "distortion": [math.inf]}, r"distortion is \[inf\]; give 1 finite"),
    ],
)
def test_what_is_wrong_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderWidget(**{"decoders": decoder(2, 4), "z": cloud(), **changes})


def test_weights_that_are_not_finite_are_refused() -> None:
    network = decoder(2, 4)
    network[0].bias.data[0] = math.nan
    with pytest.raises(ValueError, match="weights that are not finite"):
        DecoderWidget(network, cloud())


def test_the_handle_and_beta_may_be_set_to_what_exists() -> None:
    widget = several()
    widget.beta, widget.z = 4.0, [1.0, -2.0]
    with pytest.raises(ValueError, match=r"beta is 3.0; choose one of 0.5, 1.0, 4.0"):
        widget.beta = 3.0
    with pytest.raises(ValueError, match=r"z is .*two finite numbers"):
        widget.z = [1.0, math.inf]
    with pytest.raises(ValueError, match=r"end is .*two finite numbers"):
        widget.end = [1.0]


# The functions of the script


@one_tab
@pytest.mark.parametrize("sizes", [(2, 64), (2, 64, 64, 64), (2, 128, 256)], ids=str)
def test_decode_agrees_with_pytorch(stage, sizes: tuple[int, ...]) -> None:
    """All activations at once: one decoder for each, as if they were of different β."""
    for half in (False, True):
        decoders = {float(i): decoder(*sizes, activation=one, half=half) for i, one in enumerate(ACTIVATIONS)}
        z = 2 * cloud(50, seed=3)
        show = stage(DecoderWidget(decoders, [z] * len(decoders), output="identity"))
        values = show.page.evaluate(
            """(zs) => {
              const weights = module.numbers(model.get("weights"), model.get("half"));
              const decoders = module.unpack(model.get("layers"), weights);
              return decoders.map((layers) => zs.map((z) => Array.from(module.decode(layers, z))));
            }""",
            z.tolist(),
        )
        truth = torch.stack([network(z) for network in decoders.values()]).detach()
        assert truth.std() > 0.5
        torch.testing.assert_close(torch.tensor(values), truth, rtol=0, atol=1e-4)


@one_tab
def test_every_finite_number_of_half_precision_is_read(stage) -> None:
    page = stage(several()).page
    bits = torch.arange(2**16)
    values = torch.from_numpy(bits.numpy().astype("<u2").view("<f2").astype("float64"))
    finite = values.isfinite()
    found = page.evaluate("(all) => all.map(module.fromHalf)", bits[finite].tolist())
    assert torch.equal(torch.tensor(found, dtype=torch.float64), values[finite])


@one_tab
def test_interpolate_goes_straight_in_even_steps(stage) -> None:
    page = stage(several()).page
    a, b = torch.tensor([0.3, -2.0]).double(), torch.tensor([-1.0, 0.7]).double()
    found = page.evaluate("([a, b]) => module.interpolate(a, b, 7)", [a.tolist(), b.tolist()])
    expected = torch.lerp(a, b, torch.linspace(0, 1, 7, dtype=torch.float64)[:, None])
    torch.testing.assert_close(torch.tensor(found).double(), expected)


# In the browser


def test_it_shows_what_python_says(stage) -> None:
    widget = several(grid=True, walk=True)
    widget.z, widget.end, widget.beta = [0.25, -1.5], [1.0, 2.0], 4.0
    data = stage(widget).data
    assert (data["z"], data["end"], data["beta"]) == ([0.25, -1.5], [1.0, 2.0], 4.0)
    assert (data["grid"], data["walk"]) == ("true", "true")
    assert_image(data, widget)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
@pytest.mark.parametrize("name", ["z", "end"])
def test_the_points_follow_the_hand(stage, hand: str, name: str) -> None:
    widget = several(walk=True)
    widget.z, widget.end = [-1.0, 1.0], [1.0, -1.0]
    show = stage(widget)
    before, start = show.data, show.find(f".handle.{name} .knob").bounding_box()
    getattr(show, hand)(f".handle.{name} .knob", 30, -45)
    after, stop = show.data, show.find(f".handle.{name} .knob").bounding_box()
    assert (stop["x"] - start["x"], stop["y"] - start["y"]) == pytest.approx((30, -45), abs=0.1)
    right, up = (b - a for a, b in zip(before[name], after[name], strict=True))
    side = show.find(".frame").bounding_box()["width"]
    reach = float(show.find(".handle.z").get_attribute("aria-valuemax"))
    assert right == pytest.approx(30 * 2 * reach / side, rel=1e-3)
    assert up == pytest.approx(1.5 * right, rel=1e-3)
    other = "end" if name == "z" else "z"
    assert after[other] == before[other]
    assert_image(after, widget)
    assert show.page.evaluate("() => scrollY") == 0
    show.sync()
    assert getattr(widget, name) == after[name]


def test_z_jumps_to_a_click_and_stays_in_the_plane(stage) -> None:
    widget = several()
    show = stage(widget)
    box = show.find(".frame").bounding_box()
    x, y, side = box["x"], box["y"], box["width"]
    reach = float(show.find(".handle.z").get_attribute("aria-valuemax"))
    show.page.mouse.click(x + 0.75 * side, y + 0.9 * side)
    assert show.data["z"] == pytest.approx([0.5 * reach, -0.8 * reach], abs=0.02)
    show.page.touchscreen.tap(x + 0.5 * side, y + 0.25 * side)
    assert show.data["z"] == pytest.approx([0, 0.5 * reach], abs=0.02)
    show.drag(".handle.z .knob", 5000, 5000)
    assert show.data["z"] == [reach, -reach]
    assert_image(show.data, widget)


def test_z_follows_the_keys(stage) -> None:
    widget = several()
    widget.z = [0.0, 0.0]
    show = stage(widget)
    handle = show.find(".handle.z")
    step = float(handle.get_attribute("aria-valuemax")) / 64
    for key, z in [("ArrowUp", [0, 1]), ("ArrowRight", [1, 1]), ("Shift+ArrowLeft", [-9, 1]), ("PageDown", [-9, -9])]:
        handle.press(key)
        assert show.data["z"] == pytest.approx([step * part for part in z]), key
    assert handle.get_attribute("aria-valuetext") == f"(−{9 * step:.2f}, −{9 * step:.2f})"
    assert show.find("#point").inner_text() == f"(−{9 * step:.2f}, −{9 * step:.2f})"
    assert_image(show.data, widget)
    show.sync()
    assert widget.z == pytest.approx([-9 * step, -9 * step])


def test_the_slider_exchanges_the_decoder(stage) -> None:
    widget = several()
    show = stage(widget)
    planes = set()
    for beta, numbers in {0.5: "5.00 20.00 25.00", 4.0: "0.50 26.00 26.50", 1.0: "3.00 21.50 24.50"}.items():
        show.find("#beta").fill(str(widget.betas.index(beta)))
        data = show.data
        assert data["beta"] == beta
        assert " ".join(show.find(f"#{name}").inner_text() for name in ("rate", "distortion", "sum")) == numbers
        assert show.find("#beta").get_attribute("aria-valuetext") == f"{beta:g}"
        assert_image(data, widget)
        planes.add(show.page.evaluate(f"() => {SHADOW}.querySelector('.plane').toDataURL()"))
        show.sync()
        assert widget.beta == beta
    assert len(planes) == 3  # each with its own points


def test_one_decoder_has_neither_slider_nor_curve(stage) -> None:
    show = stage(DecoderWidget(decoder(2, 9), cloud(), rate=[1.0], distortion=[2.0]))
    assert show.find("#beta").count() == show.find(".curve").count() == 0
    assert show.data["z"] == pytest.approx(cloud()[0].tolist())


def ink(show, selector: str) -> Tensor:
    """Opacity of a canvas's pixels, in [0, 1]; where there is ink, it has the colour of the text."""
    width, opacity, off = show.page.evaluate(
        f"""(selector) => {{
          const canvas = {SHADOW}.querySelector(selector), {{width, height}} = canvas;
          const copy = Object.assign(document.createElement("canvas"), {{width, height}}).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          const {{data}} = copy.getImageData(0, 0, width, height);
          const text = getComputedStyle(document.querySelector("#el")).color.match(/\\d+/g);
          let opacity = "", off = 0;
          for (let i = 0; i < data.length; i += 4) {{
            opacity += String.fromCharCode(data[i + 3]);
            for (let j = 0; j < 3; j++) if (data[i + 3] > 200) off = Math.max(off, Math.abs(data[i + j] - text[j]));
          }}
          return [width, btoa(opacity), off];
        }}""",
        selector,
    )
    assert off <= 2
    return torch.frombuffer(bytearray(base64.b64decode(opacity)), dtype=torch.uint8).reshape(-1, width) / 255


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_image_is_drawn_in_ink_on_paper(stage, theme: str) -> None:
    widget = DecoderWidget(decoder(2, 16, 12), cloud(), size=(3, 4), walk=True)
    show = stage(widget)
    show.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    data = show.data
    assert data["theme"] == theme
    network = stored(widget)[1.0]
    image = network(torch.tensor(data["z"])).reshape(3, 4)
    torch.testing.assert_close(ink(show, ".image"), image, rtol=0, atol=0.51 / 255)
    strip = ink(show, ".strip")
    n = (strip.shape[1] + 1) // 5
    assert n >= 8
    path = torch.lerp(torch.tensor(data["z"]), torch.tensor(data["end"]), torch.linspace(0, 1, n)[:, None])
    for i, image in enumerate(network(path).reshape(n, 3, 4)):
        torch.testing.assert_close(strip[:, 5 * i : 5 * i + 4], image, rtol=0, atol=0.51 / 255)


def test_ink_outside_the_unit_interval_is_clipped(stage) -> None:
    network = nn.Sequential(nn.Linear(2, 4))
    network[0].weight.data.zero_()
    network[0].bias.data = torch.tensor([-0.5, 0.25, 1.0, 1.5])
    show = stage(DecoderWidget(network, cloud(), output="identity"))
    assert show.data["image"] == [-0.5, 0.25, 1.0, 1.5]
    torch.testing.assert_close(ink(show, ".image").flatten(), torch.tensor([0, 64, 255, 255]) / 255)


def test_the_walk_is_switched_on_and_off(stage) -> None:
    widget = several()
    show = stage(widget)
    for selector in (".film", ".handle.end", ".path"):
        assert not show.find(selector).is_visible()
    assert show.find("#walk").get_attribute("aria-pressed") == "false"
    show.find("#walk").click()
    show.settle()
    for selector in (".film", ".handle.end"):
        assert show.find(selector).is_visible()
    assert show.find("#walk").get_attribute("aria-pressed") == "true"
    show.sync()
    assert widget.walk
    before = ink(show, ".strip")
    show.find(".handle.end").press("PageUp")
    show.settle()
    changed = (ink(show, ".strip") != before).any(0).nonzero()
    assert changed.min() >= 8  # the first image is that of z


def test_the_grid_shows_the_image_of_its_place(stage) -> None:
    """A decoder whose left pixels are z₁ and whose right ones z₂: ink rises to the right and upward."""
    network = nn.Sequential(nn.Linear(2, 4, bias=False))
    network[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(2, 1)
    widget = DecoderWidget(network, torch.zeros(1, 2))
    show = stage(widget)
    bare = ink(show, ".plane")
    assert not bare[: len(bare) // 3].any()
    show.find("#grid").click()
    show.settle()
    full = ink(show, ".plane")
    reach = float(show.find(".handle.z").get_attribute("aria-valuemax"))
    top = full[full.any(1).nonzero().min() + 2]  # through the upper pixels of the first row of images
    used = top.nonzero().flatten()
    images = torch.tensor_split(used, (used.diff() > 1).nonzero().flatten() + 1)
    assert len(images) >= 6
    z1 = torch.tensor([one.double().mean() + 0.5 for one in images]) / len(full) * 2 * reach - reach
    left = torch.stack([top[one[len(one) // 4]] for one in images])
    strength = left.mean() / z1.sigmoid().mean()
    torch.testing.assert_close(left, (strength * z1.sigmoid()).float(), rtol=0, atol=0.01)
    upper = [top[one[3 * len(one) // 4]] for one in images]
    assert max(upper) - min(upper) < 0.01
    bottom = full[full.any(1).nonzero().max() - 2]
    assert bottom[images[0][3 * len(images[0]) // 4]] < 0.2 * upper[0]
    show.sync()
    assert widget.grid


def test_points_lie_where_the_handle_finds_them(stage) -> None:
    widget = DecoderWidget(decoder(2, 4), torch.tensor([[1.5, -2.0], [-2.5, 0.5]]))
    widget.z = [0.0, 0.0]
    show = stage(widget)
    plane = ink(show, ".plane")
    side = show.find(".frame").bounding_box()
    for z, found in [([1.5, -2.0], True), ([-2.5, 0.5], True), ([1.5, 2.0], False)]:
        show.page.evaluate("(z) => model.set('z', z)", z)
        show.settle()
        knob = show.find(".handle.z .knob").bounding_box()
        x = knob["x"] + knob["width"] / 2 - side["x"]
        y = knob["y"] + knob["height"] / 2 - side["y"]
        near = plane[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
        assert (near.max() > 0.5) == found


def test_one_cloud_is_shown_whole_and_several_but_for_the_rarest(stage) -> None:
    z = 0.5 * cloud(100)
    z[0] = torch.tensor([0.0, -10.0])
    reach = []
    for widget in (DecoderWidget(decoder(2, 4), z), DecoderWidget({1.0: decoder(2, 4), 2.0: decoder(2, 4)}, [z, z])):
        show = stage(widget)
        reach.append(float(show.find(".handle.z").get_attribute("aria-valuemax")))
        show.page.evaluate("() => stop()")
    assert reach == pytest.approx([10.6, 3.2])  # and never less than the prior's circles


def test_classes_are_marked_by_letter_or_named_in_a_legend(stage) -> None:
    classes = torch.arange(40) % 3
    letters = stage(DecoderWidget(decoder(2, 4), cloud(), classes))
    assert letters.find(".legend").count() == 0
    letters.page.evaluate("() => { stop(); }")
    names = ["ㅏ ㅓ", "<b>ㅗ", "none"]
    show = stage(DecoderWidget(decoder(2, 4), cloud(), classes, names=names))
    entries = show.find(".legend li")
    assert entries.locator("span").all_inner_texts() == names
    marks = [entry.locator("b").inner_text() for entry in entries.all()]
    assert len(set(marks)) == 3


def test_the_curve_is_to_scale_and_its_tangent_has_slope_minus_beta(stage) -> None:
    show = stage(several())
    here, tangents = [], []
    for position in range(3):
        show.find("#beta").fill(str(position))
        show.settle()
        attribute = lambda selector, name: float(show.find(selector).get_attribute(name))  # noqa: E731
        here.append([attribute(".here", "cx"), attribute(".here", "cy")])
        tangents.append([attribute(".tangent", name) for name in ("x1", "y1", "x2", "y2")])
    x, y = torch.tensor(here).double().T
    R, D = torch.tensor([5.0, 3.0, 0.5]).double(), torch.tensor([20.0, 21.5, 26.0]).double()
    per_R, per_D = (x[0] - x[2]) / (R[0] - R[2]), (y[0] - y[2]) / (D[0] - D[2])
    assert per_R > 0 > per_D  # to the right, and up the page
    assert x[1] == pytest.approx((x[0] + per_R * (R[1] - R[0])).item(), abs=0.1)
    assert y[1] == pytest.approx((y[0] + per_D * (D[1] - D[0])).item(), abs=0.1)
    for beta, (x1, y1, x2, y2), (cx, cy) in zip((0.5, 1.0, 4.0), tangents, here, strict=True):
        assert (y2 - y1) / per_D / ((x2 - x1) / per_R) == pytest.approx(-beta)
        assert (cy - y1) * (x2 - x1) == pytest.approx((cx - x1) * (y2 - y1), abs=1e-6)


@pytest.mark.parametrize(("lang", "chapter", "count"), [("ko", "03-vae", 3), ("en", "03b-rate-distortion", 9)])
def test_chapter_3_decodes_as_pytorch_does(server: str, browser, lang: str, chapter: str, count: int) -> None:
    """On the built page, without a kernel, for the decoders that the chapter's own cells trained."""
    notebook = json.loads((ROOT / "book" / lang / f"{chapter}.ipynb").read_text())
    models = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{server}/{lang}/{chapter}.html")
    views = page.locator("script[type='application/vnd.jupyter.widget-view+json']").all_inner_texts()
    seen = 0
    for view, figure in zip(map(json.loads, views), page.locator(".widget").all(), strict=True):
        model = models[view["model_id"]]
        if "layers" not in model["state"]:
            continue
        binary = {buffer["path"][0]: base64.b64decode(buffer["data"]) for buffer in model["buffers"]}
        decoders = networks({**model["state"], **binary})
        frame, slider = figure.locator(".frame"), figure.locator("#beta")
        frame.scroll_into_view_if_needed()
        for turn, beta in enumerate(decoders):
            if slider.count():
                slider.fill(str(turn))
            side = frame.bounding_box()["width"]
            for part in (0.2, 0.45, 0.8):
                frame.click(position={"x": part * side, "y": (1 - part) ** 2 * side})
                page.evaluate(FRAMES)
                data = figure.locator("> div").evaluate("(host) => ({...host.dataset})")
                z, image = (torch.tensor([float(v) for v in data[name].split(",")]) for name in ("z", "image"))
                assert float(data["beta"]) == beta
                torch.testing.assert_close(image, decoders[beta](z).detach(), rtol=0, atol=1e-4)
                seen += 1
    page.close()
    assert complaints == []
    assert seen >= count
