"""Time in the reader's hand: what JavaScript computes from the bytes of a network is compared with PyTorch."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FRAMES, one_tab, parsed
from ipywidgets.embed import dependency_state
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from traitlets import TraitError

from companion.diffusion import DDIM, SCHEDULES, Cosine, Diffusion, EmpiricalDenoiser, Heun, split
from companion.nets import ResidualMLP
from companion.widgets.diffusion import DiffusionWidget, Film

BOOK = Path(__file__).parent.parent / "book"
ROOT = "document.querySelector('#el > div').shadowRoot"
KINDS = [("linear", "noise"), ("cosine", "noise"), ("cosine", "data"), ("straight", "velocity")]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@functools.cache
def plane(schedule: str = "cosine", predict: str = "velocity", width: int = 12, labels: tuple = ()) -> Diffusion:
    """A network that says something, though it has learnt nothing, in numbers of half precision."""
    torch.manual_seed(1)
    net = ResidualMLP(2, width, 2, labels)
    nn.init.normal_(net.outward.weight, std=0.7 / math.sqrt(width))
    return Diffusion(net.half().float(), 2, schedule, predict)


def data(n: int = 60) -> Tensor:
    return (torch.randn(n, 2, generator=gen(3)) * torch.tensor([1.0, 0.3])).half().float()


def film(count: int = 5, size: tuple[int, int] = (4, 3), schedule: str = "straight", steps: int = 8) -> Film:
    """Of a model that knows a few images by heart."""
    d = math.prod(size)
    known = torch.randint(2, (7, d), generator=gen(4)) * 2.0 - 1
    model = Diffusion(EmpiricalDenoiser(known, schedule), d, schedule, "data")
    return Film(model, known[:count], size=size, steps=steps, generator=gen(5))


def widget_of(schedule: str = "cosine", predict: str = "velocity", **options) -> DiffusionWidget:
    return DiffusionWidget(plane(schedule, predict), data(), **{"film": film(), "generator": gen(6), **options})


def stored(widget: DiffusionWidget) -> Diffusion:
    """The model as the bytes of the widget tell it, in double precision."""
    return read(widget.network, widget.weights)


def read(about: dict, weights: bytes) -> Diffusion:
    numbers = torch.from_numpy(np.frombuffer(weights, "<f2").astype("float64"))
    net = ResidualMLP(2, about["width"], about["depth"]).double()
    linear = lambda layer: [layer.weight, layer.bias]  # noqa: E731
    places = [*linear(net.inward), net.time[0].B, *linear(net.time[1])]
    for block in net.blocks:
        places += [p for layer in (block.norm, block.first, block.second, block.condition) for p in linear(layer)]
    for place in [*places, *linear(net.norm), *linear(net.outward)]:
        part, numbers = numbers[: place.numel()], numbers[place.numel() :]
        place.data = part.reshape(place.shape)
    assert not len(numbers)
    net.requires_grad_(False)
    return Diffusion(net, 2, about["schedule"], about["predicts"])


def noised(widget: DiffusionWidget) -> tuple[Tensor, Tensor]:
    """The points x_0 and ε in the widget."""
    return torch.from_numpy(np.frombuffer(widget.points, "<f2").astype("float64")).reshape(2, -1, 2).unbind()


@torch.no_grad()
def assert_numbers(data: dict, model: Diffusion) -> None:
    """What the page says of the reader's point is what PyTorch finds."""
    t = torch.tensor(data["t"], dtype=torch.float64)
    assert data["alpha"] == pytest.approx(model.schedule.alpha(t).item(), abs=1e-12)
    assert data["sigma"] == pytest.approx(model.schedule.sigma(t).item(), abs=1e-12)
    x = torch.tensor([data["point"]], dtype=torch.float64)
    late = max(data["t"], 0.01)
    torch.testing.assert_close(torch.tensor([data["guess"]]).double(), model.predict(x, late)[0], rtol=1e-6, atol=1e-6)
    for end, name in [(0, "end"), (50, "origin")]:
        times = sorted({late, *(k / 50 for k in range(51) if min(late, end / 50) <= k / 50 <= max(late, end / 50))})
        there = heun(model, x, times if end else times[::-1])
        assert data[name] == pytest.approx(there.tolist(), abs=1e-5), name


def heun(model: Diffusion, x: Tensor, times: list[float]) -> Tensor:
    """Where `Heun` leads through these times, up or down; onto t = 1 or 0 as onto any other."""
    for t, s in itertools.pairwise(times):
        x = Heun(1).step(model, model.predict, x, *model.predict(x, t), s, t, None)
    return x[0]


def solve(model: Diffusion, x: Tensor, t: float, s: float) -> list[float]:
    """Where dx/dt = v leads from t to s, by a Runge–Kutta method of order 5 with small steps."""

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        return model.velocity(torch.from_numpy(x)[None], max(t, 1e-9))[0].numpy()

    return solve_ivp(velocity, (t, s), x.numpy(), rtol=1e-8, atol=1e-8).y[:, -1].tolist()


# Python


@pytest.mark.parametrize(("schedule", "predict"), KINDS)
def test_the_bytes_are_the_network_and_the_points(schedule: str, predict: str) -> None:
    widget = widget_of(schedule, predict)
    x, t = torch.randn(9, 2, generator=gen()), torch.rand(9, generator=gen())
    with torch.no_grad():
        expected = plane(schedule, predict).predict(x, t)
        found = stored(widget).predict(x.double(), t.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=1e-4, atol=1e-4)
    x_0, eps = noised(widget)
    assert torch.equal(x_0.float(), data())
    assert torch.equal(eps, torch.randn(60, 2, generator=gen(6)).half().double())


def test_a_network_with_labels_is_shown_as_it_is_without_them() -> None:
    model = plane(labels=(3, 4))
    x, t = torch.randn(9, 2, generator=gen()), torch.rand(9, generator=gen())
    with torch.no_grad():
        found = stored(DiffusionWidget(model, data())).denoiser(x.double(), t.double())
        torch.testing.assert_close(found.float(), model.denoiser(x, t), rtol=0, atol=2e-3)  # sums are rounded again
        assert (model.denoiser(x, t) - model.denoiser(x, t, torch.zeros(9, 2).long())).abs().max() > 0.05


def test_a_film_goes_to_noise_and_back_from_there() -> None:
    h = film()
    assert h.denoised.shape == (8, *h.x.shape)
    widget = widget_of()
    assert widget.images["count"] == 5
    assert (widget.images["size"], widget.images["steps"], widget.images["schedule"]) == ([4, 3], 8, "straight")
    scales = torch.tensor(widget.images["scales"])
    levels = torch.from_numpy(np.frombuffer(widget.pixels, np.int8).copy()).reshape(10, 5, 12)
    frames = torch.stack([h.x, h.eps, *h.denoised])
    assert ((levels * scales[:, None, None] - frames).abs() <= 0.501 * scales[:, None, None]).all()
    model = Diffusion(EmpiricalDenoiser(torch.tensor([[-1.0], [1.0]]), "cosine"), 1, predict="data")
    assert Film(model, torch.ones(3, 1)).denoised.shape == (16, 3, 1)


def test_a_film_shows_what_was_asked_for() -> None:
    model, wanted = plane(labels=(3, 4)), torch.tensor([2, 1])
    h = Film(model, data(5), wanted, 1.5, size=(1, 2), steps=4, generator=gen())
    points = list(DDIM(4).trajectory(model, model.q_sample(h.x, 1.0, h.eps), wanted, 1.5))
    assert torch.equal(h.denoised, torch.stack([point.x_0 for point in points[:-1]]).detach())


@pytest.mark.parametrize("shift", [[0.0, 0.0], [3.0, -5.0]])
def test_data_and_noise_are_in_sight(shift: list[float]) -> None:
    x = data(500) + torch.tensor(shift)
    widget = DiffusionWidget(plane(), x)
    x_0, _ = noised(widget)
    assert len(x_0) == 150
    *centre, half = widget.view
    for seen in (x_0, torch.tensor([[2.5, 2.5], [-2.5, -2.5]])):
        assert ((seen - torch.tensor(centre)).abs() <= half + 1e-3).all()
    assert half <= 2.5 + 0.5 * max(map(abs, shift)) + 1


def test_the_widget_of_the_chapter_fits_into_its_notebook() -> None:
    model = Diffusion(ResidualMLP(2, 32, 2), 2)
    widget = DiffusionWidget(model, data(500), film(6, (16, 16), steps=16))
    assert len(json.dumps(dependency_state([widget], drop_defaults=False))) < 110_000


def test_repr_and_state_do_not_change_from_run_to_run() -> None:
    states = [{**widget.get_state(), "layout": None} for widget in (widget_of(), widget_of())]
    assert states[0] == states[1]
    assert repr(widget_of()) == "DiffusionWidget()"


class Own(Cosine):
    pass


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": Diffusion(nn.Identity(), 2)}, TypeError, "denoiser Identity; JavaScript knows ResidualMLP"),
        ({"model": Diffusion(ResidualMLP(3, 4, 1), 3)}, ValueError, "model is of 3 dimensions"),
        ({"model": Diffusion(ResidualMLP(2, 64, 2), 2)}, ValueError, "29,922 weights, at most 20,000"),
        ({"model": Diffusion(ResidualMLP(2, 4, 1), 2, Own())}, ValueError, "schedule of its own; .* linear, cosine"),
        ({"x": torch.zeros(5, 3)}, ValueError, "x must"),
        ({"x": torch.full((5, 2), math.nan)}, ValueError, "x has entries"),
        ({"t": 1.2}, ValueError, "t is 1.2; choose it between 0 and 1"),
        ({"point": (1.0,)}, ValueError, r"point is \[1.0\]; give two finite numbers"),
        ({"point": (1.0, math.inf)}, ValueError, "give two finite numbers"),
        ({"direction": "backward"}, TraitError, "direction.*forward.*reverse"),
        ({"field": "noise"}, TraitError, "field.*score.*velocity"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DiffusionWidget(**{"model": plane(), "x": data(), **arguments})


def test_weights_that_are_not_finite_are_refused() -> None:
    net = ResidualMLP(2, 4, 1)
    net.outward.bias.data[0] = 1e6  # infinite in half precision
    with pytest.raises(ValueError, match="weights that are not finite"):
        DiffusionWidget(Diffusion(net, 2), data())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(5, 4)}, "x must"),
        ({"size": (2, 3)}, r"x has 5 pixels, size is \(2, 3\)"),
        ({}, "x has 5 pixels, size is None"),
        ({"size": (1, 5), "steps": 0}, "steps"),
    ],
)
def test_a_film_names_what_is_wrong(arguments: dict, message: str) -> None:
    model = Diffusion(EmpiricalDenoiser(torch.ones(2, 5), "cosine"), 5, predict="data")
    with pytest.raises(ValueError, match=message):
        Film(model, **{"x": torch.zeros(3, 5), **arguments})


# The functions of the script


@one_tab
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedules_agree(stage, name: str) -> None:
    t = torch.linspace(0.01, 1, 34, dtype=torch.float64)
    page = stage(widget_of()).page
    found = page.evaluate("([name, all]) => all.map((t) => module.SCHEDULES[name](t))", [name, t.tolist()])
    schedule = SCHEDULES[name]
    truth = dict(
        zip(
            ("alpha", "sigma", "dAlpha", "dSigma"),
            [schedule.alpha(t), schedule.sigma(t), *schedule.rates(t)],
            strict=True,
        )
    )
    for key, values in truth.items():
        found_values = torch.tensor([one[key] for one in found], dtype=torch.float64)
        torch.testing.assert_close(found_values, values, rtol=1e-9, atol=1e-9)
    assert page.evaluate("(name) => module.SCHEDULES[name](0).alpha", name) == 1
    assert page.evaluate("(name) => module.SCHEDULES[name](0).sigma", name) == 0


@one_tab
@pytest.mark.parametrize(("schedule", "predict"), KINDS)
def test_one_evaluation_agrees_with_pytorch(stage, schedule: str, predict: str) -> None:
    widget = widget_of(schedule, predict)
    x, times = 2 * torch.randn(7, 2, generator=gen(), dtype=torch.float64), [0.02, 0.3, 0.7, 1.0]
    found = stage(widget).page.evaluate(
        """([x, times]) => {
          const net = module.network(model.get("network"), module.numbers(model.get("weights"), true));
          return times.map((t) => Array.from(net(Float64Array.from(x), t)));
        }""",
        [x.flatten().tolist(), times],
    )
    model = stored(widget)
    with torch.no_grad():
        truth = torch.stack([model.denoiser(x, torch.full((7,), t, dtype=torch.float64)) for t in times])
    assert truth.std() > 0.2
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64).reshape(truth.shape), truth, rtol=0, atol=1e-9)
    values = torch.randn(6, 2, generator=gen(1), dtype=torch.float64)
    t = torch.tensor(0.4, dtype=torch.float64)
    found = stage(widget).page.evaluate(
        "([name, predicts, all]) => all.map(([x, p]) => module.split(predicts, p, x, module.SCHEDULES[name](0.4)))",
        [schedule, predict, values.tolist()],
    )
    truth = torch.stack(split(predict, values[:, 1], values[:, 0], t, SCHEDULES[schedule]), 1)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), truth, rtol=1e-9, atol=1e-9)


@one_tab
@pytest.mark.parametrize(("schedule", "predict"), KINDS)
def test_the_samples_are_those_of_heun(stage, schedule: str, predict: str) -> None:
    """From the page's x_1, 50 steps: at t = 0 and on the way."""
    widget = widget_of(schedule, predict, t=0.0)
    show = stage(widget)
    model = stored(widget)
    x_0, eps = noised(widget)
    to = to_pixels(show)
    trajectory = list(Heun(50).trajectory(model, model.q_sample(x_0, 1.0, eps)))
    for point in (trajectory[-1], trajectory[20], trajectory[0]):
        show.page.evaluate("(t) => model.set('t', t)", point.t)
        show.settle()
        torch.testing.assert_close(drawn(show, ".points"), to(point.x_t), rtol=0, atol=0.03)
    show.page.evaluate("() => model.set('t', 0.41)")
    show.settle()
    middle = (trajectory[29].x_t + trajectory[30].x_t) / 2
    torch.testing.assert_close(drawn(show, ".points"), to(middle), rtol=0, atol=0.03)


@one_tab
def test_the_samples_way_is_found_in_pieces(stage) -> None:
    """A step a frame where a step takes long: the page answers in between, and the points move when all is there."""
    widget = widget_of(t=0.9, direction="forward")
    show = stage(widget)
    frames = show.page.evaluate(
        f"""async () => {{
          let clock = 0, frames = 0;
          performance.now = () => (clock += 100);
          const points = {ROOT}.querySelector(".points"), before = points.getAttribute("d");
          model.set("direction", "reverse");
          for (; points.getAttribute("d") === before; frames++) await new Promise(requestAnimationFrame);
          return frames;
        }}"""
    )
    assert 5 <= frames <= 7  # so many steps lead from t = 1 to 0.9
    x_0, eps = noised(widget)
    trajectory = list(Heun(50).trajectory(stored(widget), plane().q_sample(x_0, 1.0, eps)))
    torch.testing.assert_close(drawn(show, ".points"), to_pixels(show)(trajectory[5].x_t), rtol=0, atol=0.03)


@one_tab
def test_a_flow_agrees_with_heun_to_the_last_digits(stage) -> None:
    widget = widget_of()
    model = stored(widget)
    x = torch.randn(6, 2, generator=gen(), dtype=torch.float64)
    found = stage(widget).page.evaluate(
        """([x, times]) => {
          const schedule = module.SCHEDULES.cosine;
          const net = module.network(model.get("network"), module.numbers(model.get("weights"), true));
          const predict = (x, t) => {
            const v = net(x, t);
            const both = Array.from(x, (value, i) => module.split("velocity", v[i], value, schedule(t)));
            return [both.map(([a]) => a), both.map(([, b]) => b)];
          };
          return module.flow(predict, schedule, x, times).map((x) => Array.from(x));
        }""",
        [x.flatten().tolist(), [(10 - i) / 10 for i in range(11)]],
    )
    truth = torch.stack([point.x_t for point in Heun(10).trajectory(model, x)])
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64).reshape(truth.shape), truth, rtol=0, atol=1e-8)


@one_tab
def test_between_is_linear_and_ends_where_it_ends(stage) -> None:
    page = stage(widget_of()).page
    times, path = [1.0, 0.6, 0.5, 0.0], [[2.0, 0.0], [1.0, 1.0], [4.0, -1.0], [0.0, 0.0]]
    for t in (1.0, 0.9, 0.6, 0.55, 0.5, 0.2, 0.0):
        found = page.evaluate("([times, path, t]) => module.between(times, path, t)", [times, path, t])
        expected = [np.interp(t, times[::-1], [point[i] for point in path][::-1]) for i in range(2)]
        assert found == pytest.approx(expected), t


@one_tab
@pytest.mark.parametrize("schedule", ["straight", "cosine"])
def test_the_film_goes_back_as_ddim_does(stage, schedule: str) -> None:
    h = film(schedule=schedule)
    show = stage(widget_of(film=h))
    d = math.prod(h.size)
    known = torch.randint(2, (7, d), generator=gen(4)) * 2.0 - 1
    model = Diffusion(EmpiricalDenoiser(known, schedule), d, schedule, "data")
    points = list(DDIM(h.steps).trajectory(model, model.q_sample(h.x, 1.0, h.eps)))
    for point, after in zip(points, [*points[1:], None], strict=True):
        shown = images(show, point.t)
        torch.testing.assert_close(shown["noisy"], ink_of(point.x_t), rtol=0, atol=0.03)
        before = point.x_0 if after else points[-2].x_0
        torch.testing.assert_close(shown["clean"], ink_of(before), rtol=0, atol=0.03)
        if after:  # between two times the step is shorter
            s = 0.3 * point.t + 0.7 * after.t
            eps = split("data", point.x_0, point.x_t, torch.tensor(point.t), model.schedule)[1]
            x_s = model.q_sample(point.x_0, s, eps)
            torch.testing.assert_close(images(show, s)["noisy"], ink_of(x_s), rtol=0, atol=0.03)


@one_tab
def test_the_film_goes_forward_by_the_closed_form(stage) -> None:
    h = film()
    show = stage(widget_of(film=h, direction="forward"))
    for t in (0.0, 0.35, 1.0):
        shown = images(show, t)
        torch.testing.assert_close(shown["noisy"], ink_of((1 - t) * h.x + t * h.eps), rtol=0, atol=0.03)
        torch.testing.assert_close(shown["clean"], ink_of(h.x), rtol=0, atol=0.01)
    label = show.find(".clean").get_attribute("aria-label")
    show.find("#reverse").click()
    show.settle()
    assert show.find(".clean").get_attribute("aria-label") != label
    torch.testing.assert_close(images(show, 1.0)["clean"], ink_of(h.denoised[0]), rtol=0, atol=0.01)


def ink_of(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1)


def images(show, t: float) -> dict[str, Tensor]:
    """Ink of the two strips at time t, each image flat."""
    show.page.evaluate("(t) => model.set('t', t)", t)
    show.settle()
    found = {}
    for name in ("noisy", "clean"):
        width, text = show.page.evaluate(
            f"""(name) => {{
              const canvas = {ROOT}.querySelector(`.${{name}}`), {{width, height}} = canvas;
              const copy = Object.assign(document.createElement("canvas"), {{width, height}}).getContext("2d");
              copy.drawImage(canvas, 0, 0);
              const {{data}} = copy.getImageData(0, 0, width, height);
              return [width, btoa(String.fromCharCode(...data.filter((_, i) => i % 4 === 3)))];
            }}""",
            name,
        )
        ink = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8).reshape(-1, width) / 255
        height, across = show.widget.images["size"]
        each = torch.nn.functional.pad(ink, (0, 1)).reshape(height, -1, across + 1)[:, :, :across]
        found[name] = each.transpose(0, 1).flatten(1)
    return found


def drawn(show, selector: str) -> Tensor:
    """Centres of the discs of a path, in pixels."""
    path = show.find(selector).get_attribute("d")
    radius = float(path.split("a")[1].split(" ")[0])
    starts = [[float(v) for v in piece.split("a")[0].split(" ")] for piece in path.split("M")[1:]]
    return torch.tensor(starts).double() + torch.tensor([radius, 0.0])


def to_pixels(show) -> Callable[[Tensor], Tensor]:
    """From the plane to pixels of the picture."""
    frame = show.find(".frame")
    width, height = (float(frame.get_attribute(name)) for name in ("width", "height"))
    a, b, half = show.widget.view
    scale = min(width, height) / (2 * half)
    middle, centre = torch.tensor([width / 2, height / 2]).double(), torch.tensor([a, b]).double()
    return lambda x: middle + (x - centre) * scale * torch.tensor([1.0, -1.0])


# In the browser


@pytest.mark.parametrize(("schedule", "predict"), KINDS)
def test_it_shows_what_python_says(stage, schedule: str, predict: str) -> None:
    widget = widget_of(schedule, predict, t=0.62, direction="forward", field="velocity", point=(0.4, -0.7))
    data = stage(widget).data
    assert (data["t"], data["direction"], data["field"], data["point"]) == (0.62, "forward", "velocity", [0.4, -0.7])
    assert_numbers(data, stored(widget))


def test_the_text_says_what_is_drawn(stage) -> None:
    show = stage(widget_of(t=0.3, film=film(schedule="straight")))
    data = show.data
    pair = lambda name: "({:.2f}, {:.2f})".format(*data[name]).replace("-", "−")  # noqa: E731
    for name, key in [("xt", "point"), ("guess", "guess"), ("x0", "end")]:
        assert show.find(f"#{name}").inner_text() == pair(key)
    assert show.find(".handle").get_attribute("aria-valuetext") == f"x_t = {pair('point')}, x_0 = {pair('end')}"
    assert show.find("#t-number").inner_text() == "0.30"
    numbers = [
        [show.find(f".shares .{name}").nth(i).inner_text() for name in ("alpha", "sigma", "snr")] for i in range(2)
    ]
    snr = SCHEDULES["cosine"].snr(torch.tensor(0.3)).item()
    assert numbers == [[f"{data['alpha']:.2f}", f"{data['sigma']:.2f}", f"{snr:.2f}"], ["0.70", "0.30", "5.44"]]
    place = to_pixels(show)
    for selector, key in [(".end", "end"), (".handle", "point")]:
        if selector == ".end":
            found = [float(show.find(selector).get_attribute(name)) for name in ("cx", "cy")]
        else:
            found = [float(v) for v in show.find(selector).get_attribute("transform")[10:-1].split(" ")]
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), place(torch.tensor(data[key]).double()))


def test_the_ratio_is_legible_at_every_time(stage) -> None:
    show = stage(widget_of(film=None))
    for t in (0.0, 0.01, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0):
        show.find("#t").fill(str(t))
        show.settle()
        snr = SCHEDULES["cosine"].snr(torch.tensor(t).double()).item()
        text = show.find(".shares .snr").inner_text().translate(str.maketrans("∞⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "i-0123456789"))
        digits, _, power = text.replace("i", "inf").partition("·10")
        assert float(digits) * 10 ** int(power or 0) == pytest.approx(snr, rel=0.05, abs=0.005 if snr > 0.01 else 0), t
        assert len(text) <= 8


@pytest.mark.parametrize("field", ["score", "velocity"])
def test_the_arrows_point_along_the_field(stage, field: str) -> None:
    widget = widget_of(t=0.35, field=field)
    show = stage(widget)
    model = stored(widget)
    to = to_pixels(show)
    origin, unit = to(torch.zeros(2)), to(torch.eye(2).double())
    seen = set()
    for t in (0.35, 0.8):
        show.find("#t").fill(str(t))
        show.settle()
        d = show.find(".arrows").get_attribute("d")
        seen.add(d)
        corners = torch.tensor(
            [
                [[float(v) for v in corner.split(" ")] for corner in one.strip("z").split("L")]
                for one in d.split("M")[1:]
            ]
        ).double()
        tip, tail = corners[:, 0], corners[:, 1:].mean(1)
        assert len(tip) > 100
        middle = (tip + tail) / 2
        x = torch.linalg.lstsq((unit - origin).T, (middle - origin).T).solution.T
        with torch.no_grad():
            vectors = model.score(x, t) if field == "score" else -model.velocity(x, t)
        along = (tip - tail) * torch.tensor([1.0, -1.0])
        sure = along.norm(dim=1) > 6
        assert sure.sum() > 50
        cosines = nn.functional.cosine_similarity(along[sure], vectors[sure])
        assert cosines.min() > 0.99
        order = vectors.norm(dim=1).argsort()
        lengths = along.norm(dim=1)[order]
        assert (lengths.diff() > -0.4).all()  # longer where the field is stronger
        assert lengths[-1] > 1.5 * lengths[0]
    show.find("#velocity" if field == "score" else "#score").click()
    show.settle()
    seen.add(show.find(".arrows").get_attribute("d"))
    assert len(seen) == 3  # the arrows follow t and the choice


def test_forward_points_are_data_with_their_noise(stage) -> None:
    widget = widget_of(direction="forward")
    show = stage(widget)
    x_0, eps = noised(widget)
    to = to_pixels(show)
    torch.testing.assert_close(drawn(show, ".data"), to(x_0), rtol=0, atol=0.03)
    for t in (0.0, 0.4, 1.0):
        show.find("#t").fill(str(t))
        show.settle()
        torch.testing.assert_close(drawn(show, ".points"), to(plane().q_sample(x_0, t, eps)), rtol=0, atol=0.03)
        assert show.find(".tails").get_attribute("d") == ""
    both = [drawn(show, ".points")]  # forward ends where reverse begins
    legend = show.find(".legend").inner_text()
    show.find("#reverse").click()
    show.settle()
    assert show.find(".legend").inner_text() != legend
    both.append(drawn(show, ".points"))
    assert torch.equal(*both)
    show.sync()
    assert (widget.direction, widget.t) == ("reverse", 1.0)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_the_point_follows_the_hand(stage, hand: str) -> None:
    widget = widget_of(t=0.5, point=(0.2, 0.1))
    show = stage(widget)
    before, start = show.data, show.find(".knob").bounding_box()
    getattr(show, hand)(".knob", 40, -30)
    after, stop = show.data, show.find(".knob").bounding_box()
    assert (stop["x"] - start["x"], stop["y"] - start["y"]) == pytest.approx((40, -30), abs=0.1)
    right, up = (b - a for a, b in zip(before["point"], after["point"], strict=True))
    assert up == pytest.approx(0.75 * right, rel=1e-3)
    assert_numbers(after, stored(widget))
    assert show.page.evaluate("() => scrollY") == 0
    show.sync()
    assert widget.point == after["point"]
    assert widget.since == 0.5


def test_the_point_jumps_to_a_click_and_stays_in_the_plane(stage) -> None:
    widget = widget_of(t=0.3)
    show = stage(widget)
    show.find(".frame").scroll_into_view_if_needed()
    box = show.find(".frame").bounding_box()
    inverse = torch.linalg.inv((to_pixels(show)(torch.eye(2).double()) - to_pixels(show)(torch.zeros(2))).T)
    for click, across, down in [(show.page.mouse.click, 0.3, 0.8), (show.page.touchscreen.tap, 0.8, 0.25)]:
        click(box["x"] + across * box["width"], box["y"] + down * box["height"])
        pixels = torch.tensor([across * box["width"], down * box["height"]]).double()
        expected = inverse @ (pixels - to_pixels(show)(torch.zeros(2)))
        assert show.data["point"] == pytest.approx(expected.tolist(), abs=0.02)
    show.drag(".knob", 5000, 5000)
    place = torch.tensor(show.data["point"]).double()
    assert to_pixels(show)(place).tolist() == pytest.approx([box["width"], box["height"]])
    assert_numbers(show.data, stored(widget))


def test_the_point_follows_the_keys(stage) -> None:
    widget = widget_of(t=0.5, point=(0.0, 0.0))
    show = stage(widget)
    handle = show.find(".handle")
    step = 4 / (to_pixels(show)(torch.eye(2).double()) - to_pixels(show)(torch.zeros(2)))[0, 0].item()
    for key, at in [("ArrowUp", [0, 1]), ("ArrowRight", [1, 1]), ("Shift+ArrowLeft", [-9, 1]), ("PageDown", [-9, -9])]:
        handle.press(key)
        assert show.data["point"] == pytest.approx([step * part for part in at]), key
    assert_numbers(show.data, stored(widget))


def test_the_point_rides_along_the_equation_when_time_moves(stage) -> None:
    widget = widget_of(t=0.5, point=(0.6, -0.4))
    show = stage(widget)
    start = show.data
    model = stored(widget)
    for t in (0.2, 0.83, 0.0, 1.0, 0.5):
        show.find("#t").fill(str(t))
        data = show.data
        if t in (0.0, 1.0):
            assert data["point"] == data["end" if t == 0 else "origin"]
        else:
            assert math.dist(data["point"], solve(model, torch.tensor([0.6, -0.4]).double(), 0.5, t)) < 3e-3
        assert (data["end"], data["origin"]) == (start["end"], start["origin"])
    assert show.data == start
    show.sync()
    assert (widget.t, widget.since, widget.point) == (0.5, 0.5, [0.6, -0.4])


def test_a_point_may_be_put_down_at_either_end(stage) -> None:
    widget = widget_of()
    show = stage(widget)
    for t in (0.0, 1.0):
        show.find("#t").fill(str(t))
        show.find(".handle").press("Shift+ArrowLeft")
        data = show.data
        assert all(map(math.isfinite, [*data["end"], *data["origin"], *data["guess"]]))
        show.sync()
        assert math.dist(data["point"], widget.point) < 0.05  # at t = 0 it is taken for one of t = 0.01
        late = data["t"] or 0.01
        for time, name in [(0.0, "end"), (1.0, "origin")]:
            there = solve(stored(widget), torch.tensor(widget.point).double(), late, time)
            assert math.dist(data[name], there) < 5e-3


def test_its_path_is_drawn_from_noise_to_data(stage) -> None:
    show = stage(widget_of(t=0.4))
    data = show.data
    to = to_pixels(show)
    ends = []
    for selector in (".path:not(.past)", ".past"):
        d = show.find(selector).get_attribute("d")
        line = torch.tensor([[float(v) for v in piece.split(" ")] for piece in d[1:].split("L")]).double()
        assert len(line) > 15
        ends += [line[0], line[-1]]
    names = ("point", "end", "origin", "point")
    expected = torch.stack([to(torch.tensor(data[name]).double()) for name in names])
    torch.testing.assert_close(torch.stack(ends), expected, rtol=0, atol=0.06)


def test_the_slider_and_its_keys_move_time(stage) -> None:
    widget = widget_of(t=0.5)
    show = stage(widget)
    slider = show.find("#t")
    slider.press("ArrowLeft")
    assert show.data["t"] == pytest.approx(0.49)
    slider.press("End")
    assert show.data["t"] == 1
    assert slider.get_attribute("aria-valuetext").startswith("t = 1.00, SNR = ")
    box = slider.bounding_box()
    show.page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    assert 0.15 < show.data["t"] < 0.35
    show.sync()
    assert widget.t == show.data["t"]


def test_choices_are_radio_groups(stage) -> None:
    widget = widget_of()
    show = stage(widget)
    show.find("#velocity").click()
    assert (show.data["field"], show.data["direction"]) == ("velocity", "reverse")
    assert show.find("#velocity").get_attribute("aria-checked") == "true"
    assert show.find("#score").get_attribute("aria-checked") == "false"
    show.find("#reverse").press("ArrowLeft")
    assert show.data["direction"] == "forward"
    assert show.page.evaluate(f"() => {ROOT}.activeElement.id") == "forward"
    show.sync()
    assert (widget.field, widget.direction) == ("velocity", "forward")


WATCH = """() => new Promise((done) => {
  const host = document.querySelector('#el > div'), seen = new Set();
  host.shadowRoot.querySelector('#play').click();
  const start = performance.now();
  const look = () => {
    seen.add(Number(host.dataset.t));
    if (host.dataset.playing === 'true') return requestAnimationFrame(look);
    done([[...seen], (performance.now() - start) / 1000]);
  };
  requestAnimationFrame(() => requestAnimationFrame(look));
})"""


@one_tab
@pytest.mark.parametrize(("direction", "end"), [("forward", 1.0), ("reverse", 0.0)])
def test_a_play_takes_time_to_its_end(stage, direction: str, end: float) -> None:
    widget = widget_of(direction=direction, t=0.8 if direction == "forward" else 0.2)
    show = stage(widget)
    name = show.find("#play").get_attribute("aria-label")
    show.page.emulate_media(reduced_motion="no-preference")
    seen, seconds = show.page.evaluate(WATCH)
    assert 0.9 < seconds < 20  # a fifth of five seconds; frames that other work delays take their time
    assert len(seen) > 5
    assert seen == sorted(seen, reverse=not end)
    assert seen[-1] == end
    assert show.find("#play").get_attribute("aria-label") == name
    show.sync()
    assert widget.t == end
    show.find("#play").click()  # again, from the start
    show.page.wait_for_function("() => document.querySelector('#el > div').dataset.playing === 'true'")
    assert show.find("#play").get_attribute("aria-label") != name
    assert abs(show.data["t"] - (1 - end)) < 0.5
    show.find("#play").click()
    stopped = show.data["t"]
    show.page.wait_for_timeout(300)
    assert show.data["t"] == stopped != end


def test_unwanted_motion_becomes_a_few_stills(stage) -> None:
    show = stage(widget_of(direction="forward", t=0.6))
    seen, _ = show.page.evaluate(WATCH)
    assert set(seen) <= {0.6, 0.7, 0.8, 0.9, 1.0}
    assert len(seen) >= 3


def test_a_hand_on_the_slider_stops_a_play(stage) -> None:
    show = stage(widget_of(t=0.9))
    show.page.emulate_media(reduced_motion="no-preference")
    show.find("#play").click()
    show.find("#t").fill("0.7")
    show.page.wait_for_timeout(300)
    data = show.data
    assert (data["t"], data["playing"]) == (0.7, "false")


def test_the_plane_may_stand_alone(stage) -> None:
    show = stage(widget_of(film=None))
    assert show.find(".film").count() == show.find("canvas").count() == 0
    assert_numbers(show.data, stored(show.widget))


def test_one_schedule_is_shown_once(stage) -> None:
    show = stage(widget_of(film=film(schedule="cosine")))
    assert show.find(".shares").count() == 1


def test_images_follow_the_theme(stage) -> None:
    show = stage(widget_of(t=0.2))
    pixels = f"() => {ROOT}.querySelector('.noisy').toDataURL()"
    light = show.page.evaluate(pixels)
    show.page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    assert show.data["theme"] == "dark"
    assert show.page.evaluate(pixels) != light


def test_numbers_that_change_do_not_move_the_page(stage) -> None:
    show = stage(widget_of())
    heights = set()
    for t in (0.0, 0.01, 0.5, 0.97, 1.0):
        for direction in ("forward", "reverse"):
            show.page.evaluate("([t, way]) => { model.set('t', t); model.set('direction', way); }", [t, direction])
            show.settle()
            heights.add(show.page.evaluate("() => document.querySelector('#el > div').clientHeight"))
    assert len(heights) == 1


@pytest.mark.parametrize("name", ["t", "point"])
def test_a_full_widget_is_drawn_thirty_times_a_second(stage, name: str) -> None:
    """The best of several frames, each with a field not seen before; other work only slows a frame down."""
    widget = DiffusionWidget(plane(width=48), data(150), film(8, (16, 16), steps=16))
    show = stage(widget)
    values = [i / 30 for i in range(30)] if name == "t" else [[i / 30, 0.5 - i / 60] for i in range(30)]
    assert show.best_frame(name, values) < 33


def test_chapter_5_leads_the_point_as_pytorch_does(server: str, browser) -> None:
    """On the built page, without a kernel, for the network that the chapter's own cells trained."""
    notebook = json.loads((BOOK / "ko" / "05-diffusion.ipynb").read_text())
    models = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    (widget,) = (model for model in models.values() if "network" in model["state"])
    assert len(json.dumps(widget)) < 110_000
    weights = {buffer["path"][0]: base64.b64decode(buffer["data"]) for buffer in widget["buffers"]}["weights"]
    model = read(widget["state"]["network"], weights)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{server}/ko/05-diffusion.html")
    frame = page.locator(".widget .frame")
    frame.scroll_into_view_if_needed()
    side = frame.bounding_box()
    for t, across, down in [(0.9, 0.3, 0.4), (0.5, 0.6, 0.7), (0.2, 0.5, 0.5)]:
        page.locator(".widget #t").fill(str(t))
        page.evaluate(FRAMES)
        frame.click(position={"x": across * side["width"], "y": down * side["height"]})
        page.evaluate(FRAMES)
        data = page.locator(".widget > div").evaluate("(host) => ({...host.dataset})")
        assert_numbers({name: parsed(text) for name, text in data.items()}, model)
        assert float(data["t"]) == t
    strip = page.locator(".widget .noisy")
    before = strip.evaluate("(canvas) => canvas.toDataURL()")
    page.locator(".widget #forward").click()
    page.evaluate(FRAMES)
    assert strip.evaluate("(canvas) => canvas.toDataURL()") != before
    page.close()
    assert complaints == []
