"""The live widgets, dragged in a real browser; what JavaScript shows is compared with the package."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import arrow_key_is_felt, hosted, one_tab
from ipywidgets.embed import dependency_state
from torch import nn
from torch.distributions import Normal

from companion.diffusion import Diffusion
from companion.latent import NonlinearGaussian
from companion.nets import ResidualMLP
from companion.ppca import PPCA
from companion.widgets import Widget
from companion.widgets.diffusion import DiffusionWidget, Film
from companion.widgets.latent import LatentWidget
from companion.widgets.ppca import PPCAWidget
from companion.widgets.vae import DecoderWidget


def points(n: int = 120, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return noise @ torch.tensor([[1.5, 0.8], [-0.2, 0.4]], dtype=torch.float64) + torch.tensor([1.0, -0.5])


# What the package says


def latent_truth(b: float, sigma: float, x: float, k: int, proposal: str, eps: list[float]) -> dict[str, float]:
    model = NonlinearGaussian(b, sigma)
    observed = torch.tensor([x], dtype=torch.float64)
    z, density = model.posterior(observed)
    weight = density[0] / density[0].sum()
    mean = (weight * z).sum()
    sd = (weight * (z - mean) ** 2).sum().sqrt()
    q = Normal(torch.tensor(0.0).double(), 1.0) if proposal == "prior" else Normal(mean, sd)
    draws = q.mean + q.stddev * torch.tensor(eps[: int(k)], dtype=torch.float64)
    log_w = model.log_joint(observed, draws) - q.log_prob(draws)
    w = log_w.exp()
    return {
        "logMarginal": model.log_prob(observed).item(),
        "posteriorMean": mean.item(),
        "posteriorSd": sd.item(),
        "logEstimate": w.mean().log().item(),
        "ess": (w.sum() ** 2 / (w**2).sum()).item(),
    }


def assert_latent(data: dict, widget: LatentWidget) -> None:
    given = {name: data[name] for name in ("b", "sigma", "x", "k", "proposal")}
    for name, value in latent_truth(**given, eps=widget.eps).items():
        assert data[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def ppca_of(data: dict) -> PPCA:
    W, mu = (torch.tensor(data[name], dtype=torch.float64) for name in ("w", "mu"))
    return PPCA(W[:, None], mu, data["sigma2"])


def assert_ppca(data: dict, x: torch.Tensor) -> None:
    best = PPCA.fit(x, 1).log_prob(x).mean().item()
    assert data["logLikelihood"] == pytest.approx(ppca_of(data).log_prob(x).mean().item(), abs=1e-5)
    assert data["maximum"] == pytest.approx(best, abs=1e-5)
    assert data["gap"] == pytest.approx(data["maximum"] - data["logLikelihood"], abs=1e-9)


# Python


@pytest.mark.parametrize("widget", [LatentWidget(), PPCAWidget(points(300))], ids=repr)
def test_state_is_small_and_repr_names_only_the_class(widget: Widget) -> None:
    state = dependency_state([widget], drop_defaults=False)
    assert len(json.dumps(state)) < 60_000
    assert repr(widget) == f"{type(widget).__name__}()"
    again = LatentWidget() if isinstance(widget, LatentWidget) else PPCAWidget(points(300))
    first, second = ({**w.get_state(), "layout": None} for w in (widget, again))
    assert first == second


@pytest.mark.parametrize(
    ("name", "value"), [("b", 2.5), ("b", -0.1), ("sigma", 0.05), ("sigma", math.nan), ("x", 6.0), ("k", 0), ("k", 257)]
)
def test_latent_widget_names_a_number_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is .* between"):
        LatentWidget(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(5, 3)}, "x has shape"),
        ({"x": torch.zeros(2, 2)}, "x has shape"),
        ({"x": torch.randn(301, 2)}, "x has shape"),
        ({"x": torch.full((5, 2), math.nan)}, "x has entries"),
        ({"x": torch.arange(10.0).reshape(5, 2)}, "x lies on a line"),
        ({"x": points(), "W": [1.0, 2.0]}, "W is .* shape"),
        ({"x": points(), "mu": [[1.0], [2.0]]}, "mu is .* shape"),
        ({"x": points(), "sigma2": 0.0}, "sigma2 is"),
    ],
)
def test_ppca_widget_names_what_is_wrong(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPCAWidget(**arguments)


def test_ppca_widget_takes_a_fitted_model() -> None:
    x = points()
    model = PPCA.fit(x, 1)
    widget = PPCAWidget(x, model.W, model.mu, model.sigma2)
    shown = PPCA(torch.tensor(widget.W), torch.tensor(widget.mu), widget.sigma2)
    torch.testing.assert_close(shown.C.double(), model.C)


# The functions of the scripts


@one_tab
def test_latent_functions_agree_with_the_package(stage) -> None:
    page = stage(LatentWidget()).page
    for b, sigma in [(0.0, 0.1), (0.0, 1.0), (1.0, 0.3), (2.0, 0.1), (2.0, 1.0)]:
        x = torch.linspace(-5, 5, 41, dtype=torch.float64)
        values = page.evaluate("([x, model]) => module.logMarginal(x, model)", [x.tolist(), {"b": b, "sigma": sigma}])
        torch.testing.assert_close(
            torch.tensor(values).double(), NonlinearGaussian(b, sigma).log_prob(x), rtol=0, atol=1e-5
        )
    linear = page.evaluate("() => module.posterior(2, {b: 0, sigma: 0.5})")
    assert linear["mean"] == pytest.approx(2 / 1.25)  # z | x ~ N(x / (1 + σ²), σ² / (1 + σ²)) when b = 0
    assert linear["sd"] == pytest.approx(math.sqrt(0.25 / 1.25))
    assert page.evaluate("() => module.effectiveSampleSize([0, 0, 0, 0].map((v) => v - 900))") == pytest.approx(4)
    assert page.evaluate("() => module.effectiveSampleSize([0, -800])") == pytest.approx(1)


@one_tab
def test_ppca_functions_agree_with_the_package(stage) -> None:
    page = stage(PPCAWidget(points())).page
    for seed in range(6):
        x = points(30, seed) * 10 ** (seed - 3)
        x = x @ torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)).double())[0]
        best = PPCA.fit(x, 1)
        found = page.evaluate("(x) => module.maximum(module.statistics(x))", x.tolist())
        W, mu = (torch.tensor(found[name], dtype=torch.float64) for name in ("W", "mu"))
        torch.testing.assert_close(PPCA(W[:, None], mu, found["sigma2"]).C, best.C, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(mu, best.mu, rtol=1e-6, atol=1e-12)
        some = {"W": [0.7, -1.1], "mu": [0.2, 0.3], "sigma2": 0.6}
        model = PPCA(*(torch.tensor(v, dtype=torch.float64) for v in ([[0.7], [-1.1]], [0.2, 0.3], 0.6)))
        value = page.evaluate("([x, p]) => module.logLikelihood(module.statistics(x), p)", [x.tolist(), some])
        assert value == pytest.approx(model.log_prob(x).mean().item(), rel=1e-9)
        posterior = page.evaluate("([x, p]) => module.posterior(x, p)", [x[0].tolist(), some])
        assert posterior["mean"] == pytest.approx(model.posterior(x[:1]).mean.item(), rel=1e-6)
        assert posterior["variance"] == pytest.approx(model.posterior(x[:1]).covariance_matrix.item(), rel=1e-6)
        image = page.evaluate("([x, p]) => module.reconstruct(x, p)", [x[0].tolist(), some])
        assert image == pytest.approx(model.reconstruct(x[:1])[0].tolist(), rel=1e-6)


# Chapter 1 in the browser


def test_latent_starts_where_python_says(stage) -> None:
    widget = LatentWidget(b=0.7, sigma=0.25, x=-0.4, k=16, proposal="gaussian")
    data = stage(widget).data
    assert [data[name] for name in ("b", "sigma", "x", "k")] == [0.7, 0.25, -0.4, 16]
    assert_latent(data, widget)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_latent_x_follows_the_hand(stage, hand: str) -> None:
    widget = LatentWidget()
    show = stage(widget)
    getattr(show, hand)(".handle .knob", 0, 60)
    data = show.data
    height = show.find("rect.frame").bounding_box()["height"]
    assert data["x"] == pytest.approx(1.2 - 60 * 10 / height, abs=0.02)
    assert_latent(data, widget)
    assert show.page.evaluate("() => scrollY") == 0
    show.sync()
    assert widget.x == data["x"]


def test_latent_x_jumps_to_a_click_and_stays_in_range(stage) -> None:
    widget = LatentWidget()
    show = stage(widget)
    box = show.find("rect.frame").bounding_box()
    show.page.mouse.click(box["x"] + 40, box["y"] + box["height"] / 2)
    assert show.data["x"] == pytest.approx(0, abs=0.03)
    show.page.touchscreen.tap(box["x"] + 40, box["y"] + box["height"] * 0.75)
    assert show.data["x"] == pytest.approx(-2.5, abs=0.03)
    show.drag(".handle .knob", 0, 2000)
    assert show.data["x"] == -5
    assert_latent(show.data, widget)


def test_latent_x_follows_the_keys(stage) -> None:
    widget = LatentWidget(x=1.0)
    show = stage(widget)
    handle = show.find(".handle")
    for key, x in [("ArrowUp", 1.05), ("ArrowRight", 1.05), ("Shift+ArrowUp", 1.55), ("PageDown", 1.05)]:
        handle.press(key)
        assert show.data["x"] == pytest.approx(x), key
    assert float(handle.get_attribute("aria-valuenow")) == pytest.approx(1.05)
    assert handle.get_attribute("aria-valuetext").startswith("x = 1.05, log p(x) = −")
    show.page.wait_for_timeout(300)  # a page that scrolls takes its time
    assert show.page.evaluate("() => scrollY") == 0
    assert_latent(show.data, widget)


def test_latent_sliders_move_b_sigma_and_k(stage) -> None:
    widget = LatentWidget()
    show = stage(widget)
    for name, position, value in [("b", "1.65", 1.65), ("sigma", "0.12", 0.12), ("k", "8", 256), ("k", "0", 1)]:
        show.find(f"#{name}").fill(position)
        data = show.data
        assert data[name] == value
        assert_latent(data, widget)
        show.sync()
        assert getattr(widget, name) == value
    show.find("#b").press("ArrowLeft")
    assert show.data["b"] == pytest.approx(1.6)


def test_latent_proposal_raises_the_effective_sample_size(stage) -> None:
    widget = LatentWidget(b=0.3, sigma=0.1, x=2.0, k=256)
    show = stage(widget)
    before = show.data
    show.find("#gaussian").click()
    after = show.data
    assert_latent(after, widget)
    assert after["ess"] > 5 * before["ess"]
    assert show.find("#gaussian").get_attribute("aria-checked") == "true"
    show.find("#gaussian").press("ArrowLeft")
    assert show.data["proposal"] == "prior"
    show.sync()
    assert widget.proposal == "prior"


def test_latent_shows_the_numbers_it_computes(stage) -> None:
    show = stage(LatentWidget())
    data = show.data
    for name, key, digits in [("exact", "logMarginal", 3), ("estimate", "logEstimate", 3), ("x-number", "x", 2)]:
        assert show.find(f"#{name}").inner_text() == f"{data[key]:.{digits}f}".replace("-", "−")
    assert show.find("#ess").inner_text() == f"{data['ess']:.1f} / 32"


def test_latent_draws_the_posterior_to_scale(stage) -> None:
    """Area under p(z | x) over area under p(z) is one, as drawn."""
    show = stage(LatentWidget())
    area = """(name) => {
      const path = document.querySelector('#el > div').shadowRoot.querySelector(name).getAttribute('d');
      const points = [...path.matchAll(/[ML](\\S+) (\\S+?)(?=L|$)/g)].map(([, x, y]) => [+x, +y]);
      return points.reduce((sum, [x, y], i) => {
        const [u, v] = points[(i + 1) % points.length];
        return sum + (x * v - u * y) / 2;
      }, 0);
    }"""
    prior, posterior = (show.page.evaluate(area, name) for name in (".prior", ".posterior"))
    assert posterior / prior == pytest.approx(1, abs=0.02)


# Chapter 2 in the browser


@pytest.mark.parametrize("hand", ["drag", "swipe"])
def test_ppca_handles_follow_the_hand(stage, hand: str) -> None:
    x = points()
    widget = PPCAWidget(x)
    show = stage(widget)
    before = show.data
    assert_ppca(before, x)
    getattr(show, hand)(".handle.w .tip", -20, -40)
    turned = show.data
    assert turned["mu"] == before["mu"]
    right, up = (after - start for after, start in zip(turned["w"], before["w"], strict=True))
    assert up == pytest.approx(-2 * right, rel=1e-3)  # both axes have one scale
    assert up > 0
    assert_ppca(turned, x)
    getattr(show, hand)(".handle.mu .centre", 15, 25)
    moved = show.data
    assert moved["w"] == turned["w"]
    assert moved["mu"][1] < before["mu"][1]
    assert_ppca(moved, x)
    show.sync()
    torch.testing.assert_close(
        PPCA(torch.tensor(widget.W), torch.tensor(widget.mu), widget.sigma2).C, ppca_of(moved).C.float()
    )
    assert show.page.evaluate("() => scrollY") == 0


def test_ppca_handles_follow_the_keys(stage) -> None:
    x = points()
    show = stage(PPCAWidget(x, W=[[1.0], [0.0]]))
    show.find(".handle.w").press("ArrowLeft")
    assert show.data["w"] == pytest.approx([math.cos(math.pi / 90), math.sin(math.pi / 90)])
    show.find(".handle.w").press("Shift+ArrowRight")
    assert math.degrees(math.atan2(*show.data["w"][::-1])) == pytest.approx(-18)
    show.find(".handle.w").press("ArrowUp")
    assert math.hypot(*show.data["w"]) > 1.01
    before = show.data["mu"]
    show.find(".handle.mu").press("ArrowUp")
    after = show.data["mu"]
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert_ppca(show.data, x)


def test_ppca_handles_stay_in_sight(stage) -> None:
    x = points()
    show = stage(PPCAWidget(x))
    for part in (".mu .centre", ".w .tip"):
        show.drag(f".handle{part}", 5000, -5000)
        plot, handle = show.find("svg").bounding_box(), show.find(f".handle{part}").bounding_box()
        assert plot["x"] <= handle["x"] + handle["width"] / 2 <= plot["x"] + plot["width"] + 1
        assert plot["y"] - 1 <= handle["y"] + handle["height"] / 2 <= plot["y"] + plot["height"]
    assert_ppca(show.data, x)


def test_ppca_slider_moves_sigma2(stage) -> None:
    x = points()
    widget = PPCAWidget(x)
    show = stage(widget)
    values = []
    for position in ("0", "0.3", "0.6", "1"):
        show.find("#sigma2").fill(position)
        values.append(show.data["sigma2"])
        assert_ppca(show.data, x)
    assert values == sorted(values)
    assert values[0] < PPCA.fit(x, 1).sigma2 < values[-1]
    show.sync()
    assert widget.sigma2 == values[-1]


def test_ppca_button_jumps_to_the_maximum(stage) -> None:
    x = points()
    widget = PPCAWidget(x, W=[[-1.0], [0.1]], mu=[0.0, 0.5])
    show = stage(widget)
    assert show.data["gap"] > 0.1
    show.find("#jump").click()
    data = show.data
    assert abs(data["gap"]) < 1e-12
    assert data["w"][0] < 0  # of ±W the nearer
    torch.testing.assert_close(ppca_of(data).C, PPCA.fit(x, 1).C, rtol=1e-6, atol=1e-9)
    assert_ppca(data, x)
    show.sync()
    assert widget.sigma2 == data["sigma2"]


def test_ppca_jump_is_a_flight_that_a_hand_may_stop(stage) -> None:
    show = stage(PPCAWidget(points()))
    show.page.emulate_media(reduced_motion="no-preference")
    show.find("#jump").click()
    between = show.data["gap"]
    show.page.wait_for_function("() => Math.abs(document.querySelector('#el > div').dataset.gap) < 1e-12")
    assert between > 1e-3
    show.find("#sigma2").fill("0.9")
    show.find("#jump").click()
    show.find("#sigma2").fill("0.1")
    stopped = show.data["gap"]
    show.page.wait_for_timeout(800)
    assert show.data["gap"] == stopped > 0.01


def test_ppca_projections_are_the_reconstructions(stage) -> None:
    """The drawn segments, mapped back through the drawn points, end at W E[z | x] + μ."""
    x = points(40)
    widget = PPCAWidget(x, W=[[0.9], [0.7]], sigma2=0.8)
    show = stage(widget)
    button = show.find("#projections")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    show.sync()
    assert widget.projections
    assert button.get_attribute("aria-pressed") == "true"
    path = show.find("path.segments").get_attribute("d")
    ends = torch.tensor(
        [[float(value) for part in piece.split("L") for value in part.split(" ")] for piece in path.split("M")[1:]]
    ).double()
    start, end = ends[:, :2], ends[:, 2:]
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    to_pixels = torch.linalg.lstsq(torch.cat([x, ones], 1), start).solution
    expected = torch.cat([ppca_of(show.data).reconstruct(x), ones], 1) @ to_pixels
    torch.testing.assert_close(end, expected, rtol=0, atol=0.01)


# All of them


def decoder_widget() -> DecoderWidget:
    decoders = {beta: nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 256)) for beta in (1.0, 4.0)}
    z = points(300).float()
    numbers = {"rate": [2.0, 1.0], "distortion": [-66.4, -50.5]}
    return DecoderWidget(decoders, [z, 0.5 * z], torch.arange(300) % 10, **numbers, walk=True)


def diffusion_widget() -> DiffusionWidget:
    film = Film(Diffusion(ResidualMLP(256, 8, 1), 256), points(2048).float().view(16, 256)[:6])
    return DiffusionWidget(Diffusion(ResidualMLP(2, 32, 2), 2), points().float(), film)


WIDGETS = {
    "latent": LatentWidget,
    "ppca": lambda: PPCAWidget(points()),
    "vae": decoder_widget,
    "diffusion": diffusion_widget,
}
#: A trait and the values that a drag gives it.
DRAGS = {
    "LatentWidget": ("b", [i / 10 for i in range(20)]),
    "PPCAWidget": ("sigma2", list(range(1, 20))),
    "DecoderWidget": ("z", [[i / 10, 1 - i / 10] for i in range(20)]),
    "DiffusionWidget": ("t", [i / 20 for i in range(20)]),
}


@pytest.fixture(params=WIDGETS)
def widget(request: pytest.FixtureRequest) -> Widget:
    return WIDGETS[request.param]()


def test_words_are_in_the_language_of_the_page_or_the_trait(stage, widget: Widget) -> None:
    show = stage(widget)

    def korean() -> bool:
        show.settle()
        labels = show.page.evaluate(
            "() => [...document.querySelector('#el > div').shadowRoot.querySelectorAll('[aria-label]')]"
            ".map((element) => element.ariaLabel)"
        )
        assert len(labels) > 3
        found = {any("가" <= letter <= "힣" for letter in label) for label in labels}
        assert len(found) == 1  # all or none
        return found.pop()

    assert korean() == (show.page.evaluate("() => document.documentElement.lang") == "ko")
    for lang in ("ko", "en"):
        show.page.evaluate("(lang) => model.set('lang', lang)", lang)
        assert korean() == (lang == "ko")
    before = show.data
    show.find(".handle").first.press("ArrowUp")  # the new elements live
    assert show.data != before


def test_every_control_is_named_and_reached_by_tab(stage, widget: Widget) -> None:
    show = stage(widget)
    root = "document.querySelector('#el > div').shadowRoot"
    unnamed = show.page.evaluate(
        f"() => [...{root}.querySelectorAll('input, button, [tabindex]')]"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim())).length"
    )
    assert unnamed == 0
    wanted = show.page.evaluate(
        f"() => {root}.querySelectorAll('input, button:not([tabindex=\"-1\"]), g[tabindex]').length"
    )
    seen = set()
    for _ in range(wanted):
        show.page.keyboard.press("Tab")
        seen.add(show.page.evaluate(f"() => {root}.activeElement?.outerHTML.slice(0, 60)"))
    assert len(seen) == wanted
    assert None not in seen


def test_touch_targets_are_large_enough(stage, widget: Widget) -> None:
    show = stage(widget)
    sizes = show.page.evaluate(
        "() => [...document.querySelector('#el > div').shadowRoot.querySelectorAll('input, button, .hit')]"
        ".map((e) => e.getBoundingClientRect()).map((r) => [r.width, r.height])"
    )
    assert all(min(size) >= 36 for size in sizes)


def test_the_widget_fits_every_width(stage, widget: Widget) -> None:
    show = stage(widget)
    for width in (320, 375, 480, 768, 1280):
        show.page.set_viewport_size({"width": width, "height": 800})
        show.settle()
        outside = show.page.evaluate(
            """() => {
              const host = document.querySelector('#el > div'), frame = host.getBoundingClientRect();
              return [...host.shadowRoot.querySelectorAll('text, button, input, span, canvas')]
                .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
                .filter(([, r]) => r.width && (r.left < frame.left - 1 || r.right > frame.right + 1))
                .map(([name]) => name);
            }"""
        )
        assert outside == [], width
        assert show.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@one_tab
def test_the_theme_follows_the_page(stage, widget: Widget) -> None:
    show = stage(widget)
    assert show.data["theme"] == "light"
    show.page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    assert show.data["theme"] == "dark"


@one_tab
def test_python_can_move_the_widget(stage, widget: Widget) -> None:
    show = stage(widget)
    name, values = DRAGS[type(widget).__name__]
    show.page.evaluate("([name, value]) => model.set(name, value)", [name, values[7]])
    assert show.data[name] == values[7]


@one_tab
def test_it_draws_once_it_is_in_the_page(stage, widget: Widget) -> None:
    """Jupyter renders into an element that it attaches later."""
    show = stage(widget)
    show.page.evaluate(
        "() => { window.late = document.createElement('div'); module.default.render({model, el: late}); }"
    )
    show.settle()
    show.page.evaluate("() => document.body.append(late)")
    show.settle()
    assert show.page.evaluate("() => late.firstChild.dataset.theme") == "light"
    assert show.page.evaluate("() => late.firstChild.shadowRoot.querySelector('svg').clientHeight") > 100


@one_tab
def test_stopping_leaves_nothing_behind(stage, widget: Widget) -> None:
    show = stage(widget)
    assert show.page.evaluate("() => Object.values(listeners).flat().length") > 3
    show.page.evaluate("() => { model.set('lang', 'en'); stop(); }")
    show.settle()
    assert show.page.evaluate("() => Object.values(listeners).flat().length") == 0
    assert show.find("*").count() == 0


def test_a_drag_is_drawn_thirty_times_a_second(stage, widget: Widget) -> None:
    """The best of several frames, since other work on the machine only slows a frame down."""
    show = stage(widget)
    name, values = DRAGS[type(widget).__name__]
    assert show.best_frame(name, values) < 33


def test_it_runs_in_the_site_s_host(browser, widget: Widget) -> None:
    """The stored state and view, as a notebook holds them, drawn by the page's script without a kernel."""
    with hosted(browser, widget) as page:
        arrow_key_is_felt(page)
