"""The replayed training of GANs: recorded without a trace, and in the page what autograd finds."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import FRAMES, arrow_key_is_felt, hosted, one_tab
from torch import Tensor, nn
from torch.nn.functional import softplus

from companion.data import ring, ring_modes
from companion.gan import GAN
from companion.nets import FourierFeatures, mlp
from companion.training import fit
from companion.widgets.gan import GANWidget, Recording

LOSSES = ("minimax", "non-saturating", "wasserstein", "relativistic")
STD = 0.05
CALL = {"batch_size": 64, "lr": 3e-3, "betas": (0.0, 0.99), "precision": "float32", "progress": False}


def points(n: int = 500) -> Tensor:
    return ring(n, std=STD, generator=torch.Generator().manual_seed(0))


def gan(loss: str = "relativistic", *, width: int = 12, activation: type[nn.Module] = nn.SiLU, waves: int = 0) -> GAN:
    torch.manual_seed(1)
    discriminator = mlp(2, width, width, 1, activation=activation)
    if waves:
        discriminator = nn.Sequential(
            FourierFeatures(2, waves, 3.0), mlp(2 + 2 * waves, width, 1, activation=activation)
        )
    return GAN(mlp(3, 16, 2), discriminator, 3, loss)


def record(loss: str = "relativistic", *, every: int = 10, steps: int = 60, n: int = 300, **options) -> Recording:
    recording = Recording(gan(loss, **options), every, n, generator=torch.Generator().manual_seed(2))
    fit(recording, points(), steps=steps, **CALL)
    return recording


@functools.cache
def trained(loss: str) -> Recording:
    """A recording that tests do not change."""
    return record(loss)


def pair(first: str = "minimax", second: str = "relativistic", **options) -> GANWidget:
    return GANWidget({first: trained(first), second: trained(second)}, points(), modes=ring_modes(), std=STD, **options)


class Content:
    """What travels in the widget, read back as the class's text describes it, independently of JavaScript."""

    def __init__(self, widget: GANWidget) -> None:
        self.bytes, self.view = widget.content, widget.view
        self.x = self.points(widget.n)
        self.samples, self.networks, self.scales, self.losses = [], [], [], []
        for about in widget.recordings:
            self.samples.append([self.points(about["samples"]) for _ in widget.steps])
            shapes = [shape for layer in about["layers"] for shape in self.shapes(layer)]
            sizes = [math.prod(shape) for shape in shapes]
            weights, scales = [self.read("<f4", sum(sizes))], []
            for _ in widget.steps[1:]:
                scales.append(self.read("<f4", len(sizes)))
                level = self.read("i1", sum(sizes))
                weights.append(weights[-1] + np.repeat(scales[-1], sizes) * level)
            self.scales.append([np.repeat(scale, sizes) for scale in scales])
            self.networks.append([self.network(about, w) for w in weights])
            self.losses.append(self.read("<f4", 2 * about["bins"]).reshape(2, -1))
        assert not self.bytes

    def read(self, kind: str, count: int) -> np.ndarray:
        size = count * np.dtype(kind).itemsize
        part, self.bytes = self.bytes[:size], self.bytes[size:]
        return np.frombuffer(part, kind).astype(float)

    def points(self, count: int) -> Tensor:
        a, b, c = self.read("u1", 3 * count).reshape(-1, 3).T
        both = (a + 256 * b + 65536 * c).astype(int)
        level = np.stack([both % 4096, both // 4096], 1)
        return torch.tensor(self.view[:2]) + torch.from_numpy((level - 2048) / 1365) * self.view[2]

    @staticmethod
    def shapes(layer: dict) -> list[tuple[int, ...]]:
        return [(layer["outputs"], layer["inputs"]), (layer["outputs"],)]

    @staticmethod
    def network(about: dict, weights: np.ndarray) -> nn.Sequential:
        modules, frequencies = [], torch.tensor(about["frequencies"], dtype=torch.float64)
        if frequencies.numel():
            modules.append(FourierFeatures(2, frequencies.shape[1], 1.0))
            modules[0].B = frequencies
        for layer in about["layers"]:
            linear = nn.Linear(layer["inputs"], layer["outputs"]).double()
            kinds = {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(layer["slope"]), "silu": nn.SiLU(), "tanh": nn.Tanh()}
            modules += [linear, kinds.get(layer["activation"])]
        network = nn.Sequential(*(module for module in modules if module))
        nn.utils.vector_to_parameters(torch.from_numpy(weights), network.parameters())
        return network


def probability(loss: str, logit: Tensor, real: Tensor) -> Tensor:
    """D(x), or the probability that x looks more real than data do, shape (n,)."""
    return logit.sigmoid() if loss in LOSSES[:2] else (logit[:, None] - real).sigmoid().mean(1)


def force(network: nn.Sequential, x: Tensor, y: Tensor, kind: str, *, relative: bool) -> Tensor:
    """−∂/∂y of G's loss at a sample y, by autograd, with the logits of data x beside it."""
    y = y.detach().requires_grad_()
    fake, real = network(y), network(x).detach().T if relative else torch.zeros(1, 1)
    loss = {
        "saturating": lambda: -softplus(fake - real).mean(1).sum(),  # E log(1 − D)
        "non-saturating": lambda: softplus(real - fake).mean(1).sum(),  # −E log D
        "wasserstein": lambda: -fake.sum(),
    }[kind]()
    return -torch.autograd.grad(loss, y)[0]


def assert_force(data: dict, widget: GANWidget) -> None:
    """What the page shows at the point is what autograd finds for the network in the bytes."""
    content = Content(widget)
    y = torch.tensor([data["point"]], dtype=torch.float64)
    for i, about in enumerate(widget.recordings):
        network, relative = content.networks[i][int(data["frame"])], about["loss"] not in LOSSES[:2]
        D = probability(about["loss"], network(y)[:, 0], network(content.x)[:, 0])
        assert data[f"d{i}"] == pytest.approx(D.item(), abs=1e-6)
        own = {"minimax": "saturating", "wasserstein": "wasserstein"}.get(about["loss"], "non-saturating")
        for kind, name in [
            ("saturating", f"saturating{i}"),
            ("non-saturating", f"nonSaturating{i}"),
            (own, f"length{i}"),
        ]:
            pull = force(network, content.x, y, kind, relative=relative)[0]
            assert data[name] == pytest.approx(pull.norm().item(), rel=1e-4, abs=1e-9)
            torch.testing.assert_close(
                torch.tensor(data[f"direction{i}"]).double(), pull / pull.norm(), rtol=0, atol=1e-4
            )


# Recording


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.slow
def test_recording_leaves_the_training_as_it_is(loss: str) -> None:
    plain, recorded = gan(loss), Recording(gan(loss), 7, 50)
    history = fit(plain, points(), steps=30, ema=0.9, **CALL)
    fit(recorded, points(), steps=30, ema=0.9, **CALL)
    for first, second in zip(plain.state_dict().values(), recorded.model.state_dict().values(), strict=True):
        assert torch.equal(first, second)
    for first, second in zip(history.losses.values(), recorded.losses, strict=True):
        torch.testing.assert_close(first, second)
    assert recorded.steps == [0, 7, 14, 21, 28]


def test_recording_leaves_a_generator_with_dropout_and_running_means_as_it_is() -> None:
    def restless() -> GAN:
        model = gan()
        model.generator = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2))
        return model

    torch.manual_seed(3)
    plain = restless()
    torch.manual_seed(3)
    recorded = Recording(restless(), 2, 50)
    fit(plain, points(), steps=6, **CALL)
    fit(recorded, points(), steps=6, **CALL)
    recorded.model.generator[1].eval()
    recorded.record()
    assert recorded.model.training
    assert [module.training for module in recorded.model.generator] == [True, False, True, True]
    for first, second in zip(plain.state_dict().values(), recorded.model.state_dict().values(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("loss", ["minimax", "wasserstein"])
@pytest.mark.slow
def test_a_frame_is_the_model_after_so_many_steps(loss: str) -> None:
    recording = trained(loss)
    for frame, step in enumerate(recording.steps[:4]):
        model = gan(loss)
        if step:
            fit(model, points(), steps=step, **CALL)
        weights = torch.cat([parameter.flatten() for parameter in model.discriminator.parameters()])
        assert torch.equal(recording.weights[frame], weights)
        assert torch.equal(recording.samples[frame], model.generator(recording.z))


def test_a_frame_is_drawn_in_full_precision() -> None:
    recording = Recording(gan(), 10, 20)
    fit(recording, points(), steps=1, **{**CALL, "precision": "bfloat16"})
    assert torch.equal(recording.samples[0], gan().generator(recording.z))


def test_a_frame_may_be_added_and_the_training_continued() -> None:
    recording = Recording(gan(), 10, 20)
    fit(recording, points(), steps=20, **CALL)
    recording.record()
    recording.record()
    assert recording.steps == [0, 10, 20]
    fit(recording, points(), steps=15, **CALL)
    assert recording.steps == [0, 10, 20, 30]
    assert [len(loss) for loss in recording.losses] == [35, 35]


def test_recording_checks_the_data_as_the_model_does() -> None:
    with pytest.raises(ValueError, match="x has entries that are NaN or infinite"):
        Recording(gan()).check_data(points() / 0)


def test_a_model_of_float64_is_recorded() -> None:
    model = gan().double()
    recording = Recording(model, 10, 20)
    recording.record()
    torch.testing.assert_close(recording.samples[0], model.generator(recording.z).float())


@pytest.mark.parametrize("arguments", [{"every": 0}, {"n": 0}])
def test_recording_names_a_number_that_is_too_small(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1"):
        Recording(gan(), **arguments)


# What travels


def test_points_travel_with_a_small_error() -> None:
    widget = pair()
    content = Content(widget)
    (a, b, half), x = widget.view, points()
    assert [a, b] == pytest.approx(((x.amin(0) + x.amax(0)) / 2).tolist())
    assert half == pytest.approx(0.7 * (x.amax(0) - x.amin(0)).max().item())
    pixel = 2 * half / 336
    assert (content.x - x[:200]).abs().max() < pixel / 5
    for loss, frames in zip(("minimax", "relativistic"), content.samples, strict=True):
        for k, samples in enumerate(frames):
            truth = trained(loss).samples[k][:160].double()
            inside = ((truth - torch.tensor([a, b])).abs() < 1.4 * half).all(1)
            assert inside.double().mean() > 0.9
            assert (samples - truth)[inside].abs().max() < pixel / 5


def test_points_outside_the_view_stop_at_its_margin() -> None:
    recording = record(steps=10)
    recording.samples[0][:2] = torch.tensor([[99.0, -99.0], [0.0, 99.0]])
    widget = GANWidget({"relativistic": recording}, points())
    a, b, half = widget.view
    assert Content(widget).samples[0][0][0].tolist() == pytest.approx([a + 1.5 * half, b - 1.5 * half], rel=2e-3)
    assert Content(widget).samples[0][0][1].tolist() == pytest.approx([0, b + 1.5 * half], rel=2e-3, abs=1e-3)


def test_weights_travel_in_eight_bits_and_rounding_does_not_add_up() -> None:
    recording = record(every=5, steps=200)
    content = Content(GANWidget({"relativistic": recording}, points()))
    [networks], [scales] = content.networks, content.scales
    sent = torch.stack([nn.utils.parameters_to_vector(network.parameters()).detach() for network in networks])
    truth = torch.stack(recording.weights).double()
    half = torch.from_numpy(np.stack(scales)) / 2
    assert torch.equal(sent[0], truth[0])
    assert ((sent - truth)[1:].abs() <= half + 1e-9).all()
    widest = (truth[1:] - sent[:-1]).abs().amax(1)
    torch.testing.assert_close(2 * half.amax(1), widest / 127, rtol=1e-4, atol=0)  # all levels serve
    assert len(networks) == 40


@pytest.mark.slow
def test_the_rounded_discriminator_is_the_discriminator() -> None:
    recording = record(every=25, steps=800, width=32, activation=nn.LeakyReLU)
    widget = GANWidget({"relativistic": recording}, points())
    a, b, half = widget.view
    x = torch.cartesian_prod(torch.linspace(a - half, a + half, 25), torch.linspace(b - half, b + half, 25)).double()
    truth = recording.model.discriminator.double()
    for k, network in enumerate(Content(widget).networks[0]):
        nn.utils.vector_to_parameters(recording.weights[k].double(), truth.parameters())
        logit, sent = truth(x).detach(), network(x).detach()
        assert (sent - logit).abs().max() < 0.03 * (logit.max() - logit.min())


def test_losses_are_means_between_frames() -> None:
    for loss, curves in zip(("minimax", "wasserstein"), Content(pair("minimax", "wasserstein")).losses, strict=True):
        recording = trained(loss)
        assert curves.shape == (2, 30)
        for values, curve in zip(recording.losses, curves, strict=True):
            expected = [values[k : k + 2].mean().item() for k in range(0, 60, 2)]
            assert curve == pytest.approx(expected, rel=1e-5)
    (about,) = GANWidget({"a": record(every=20, steps=40)}, points()).recordings
    assert (about["width"], about["bins"]) == (4, 10)


def test_scores_count_the_modes() -> None:
    about = pair().recordings[1]
    assert about["modes"] == 8
    for k, samples in enumerate(trained("relativistic").samples):
        near = (samples[:, None] - ring_modes()).norm(dim=2) <= 3 * STD
        assert about["captured"][k] == near.any(0).sum()
        assert about["high_quality"][k] == pytest.approx(near.any(1).float().mean().item(), abs=1e-4)
    bare = GANWidget({"minimax": trained("minimax")}, points()).recordings[0]
    assert (bare["modes"], bare["captured"], bare["high_quality"]) == (0, [], [])


def test_forty_frames_of_two_small_networks_fit_a_page() -> None:
    recordings = {loss: record(loss, every=2, steps=80, n=160, width=32) for loss in ("minimax", "relativistic")}
    widget = GANWidget(recordings, points(), modes=ring_modes(), std=STD)
    assert len(widget.steps) == 40
    state = {**widget.get_state(), "_esm": ""}
    assert len(json.dumps({**state, "content": "", "layout": ""})) + 4 * len(state["content"]) / 3 < 202_000
    with pytest.raises(ValueError, match=r"at most 150,000 are allowed on a page: record fewer frames"):
        GANWidget({loss: record(loss, every=1, steps=60, width=40) for loss in recordings}, points())


def test_repr_and_state_do_not_change_from_run_to_run() -> None:
    first, second = ({**GANWidget({"a": record()}, points()).get_state(), "layout": None} for _ in range(2))
    assert first == second
    assert repr(pair()) == "GANWidget()"
    assert pair().frame == len(pair().steps) - 1


# Python


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recordings": {}}, "recordings must be one or two, got 0"),
        ({"recordings": {name: trained("minimax") for name in "abc"}}, "recordings must be one or two, got 3"),
        ({"recordings": {"a": Recording(gan())}}, "recordings must have the same steps"),
        ({"recordings": {"a": trained("minimax"), "b": record(steps=30)}}, "recordings must have the same steps"),
        ({"data": torch.zeros(5, 3)}, "data must have 2 columns"),
        ({"data": torch.full((5, 2), math.nan)}, "data has entries"),
        ({"modes": ring_modes()}, "modes and std go together"),
        ({"std": 0.1}, "modes and std go together"),
        ({"frame": 6}, "frame is 6; choose it between 0 and 5"),
        ({"frame": -1}, "frame is -1"),
        ({"point": (1.0, math.inf)}, "point is"),
        ({"point": (1.0,)}, "point is"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANWidget(**{"recordings": {"minimax": trained("minimax")}, "data": points(), **arguments})


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Linear(2, 2), ValueError, "not from 2 to 2"),
        (nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 1)), TypeError, "must be nn.Linear"),
        (nn.Sequential(nn.Linear(2, 1), nn.Tanh()), TypeError, "must be nn.Linear"),
        (nn.Sequential(nn.Linear(2, 1, bias=False)), TypeError, "nn.Linear, biased"),
        (nn.Sequential(nn.Linear(3, 1)), ValueError, "not from 3 to 1"),
        (nn.Sequential(FourierFeatures(3, 4, 1.0), nn.Linear(11, 1)), ValueError, "not from 3 to 1"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), FourierFeatures(2, 4, 1.0)), TypeError, "must be nn.Linear"),
    ],
)
def test_a_discriminator_that_javascript_cannot_run_is_named(network: nn.Module, error: type, message: str) -> None:
    recording = record(steps=10)
    recording.model.discriminator = network
    with pytest.raises(error, match=message):
        GANWidget({"relativistic": recording}, points())


# The functions of the script

UNPACKED = """
  const names = ["view", "n", "steps", "recordings", "content"];
  const state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const {x, recordings} = module.unpack(state);
"""


@functools.cache
def of_kind(loss: str, kind: str) -> Recording:
    options = {
        "relu": {"activation": nn.ReLU},
        "leaky": {"activation": functools.partial(nn.LeakyReLU, 0.3)},
        "silu": {"activation": nn.SiLU},
        "tanh": {"activation": nn.Tanh},
        "waves": {"waves": 5},
    }
    return record(loss, steps=30, **options[kind])


@one_tab
@pytest.mark.parametrize("kind", ["relu", "leaky", "silu", "tanh", "waves"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_autograd(stage, loss: str, kind: str) -> None:
    widget = GANWidget({loss: of_kind(loss, kind)}, points())
    y = torch.randn(40, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = stage(widget).page.evaluate(
        f"""(ys) => {{{UNPACKED}
          const [about] = state.recordings, {{loss}} = about;
          const net = module.network(about, recordings[0].weights[2]);
          const against = module.rivals(loss, net, x);
          return ys.map((y) => module.pull(loss, net, against, y));
        }}""",
        y.tolist(),
    )
    content = Content(widget)
    network, relative = content.networks[0][2], loss not in LOSSES[:2]
    D = probability(loss, network(y)[:, 0], network(content.x)[:, 0])
    torch.testing.assert_close(torch.tensor([one["D"] for one in found]).double(), D)
    own = {"minimax": "saturating", "wasserstein": "wasserstein"}.get(loss, "non-saturating")
    for kind in ("saturating", "non-saturating", "wasserstein"):
        arrows = torch.tensor([one["direction"] for one in found]).double()
        arrows *= torch.tensor([one["lengths"][kind] for one in found])[:, None]
        truth = force(network, content.x, y, kind, relative=relative)
        torch.testing.assert_close(arrows, truth, rtol=1e-5, atol=1e-7)
    assert {one["own"] for one in found} == {own}
    assert [one["length"] for one in found] == [one["lengths"][own] for one in found]


@one_tab
def test_a_sure_discriminator_leaves_the_saturating_loss_no_gradient(stage) -> None:
    """σ(ℓ)|∇ℓ| and (1 − σ(ℓ))|∇ℓ| of ℓ = 5x − 40 at 0: without cancellation, and the ratio e⁻⁴⁰."""
    layers = [{"inputs": 2, "outputs": 1, "activation": "none", "slope": 0}]
    found = stage(pair()).page.evaluate(
        "(layers) => module.pull('minimax', module.network({frequencies: [[], []], layers}, [5, 0, -40]), [0], [0, 0])",
        layers,
    )
    assert found["lengths"]["saturating"] == pytest.approx(5 * math.exp(-40), rel=1e-9)
    assert found["lengths"]["non-saturating"] == pytest.approx(5)
    assert found["direction"] == [1, 0]


@one_tab
@pytest.mark.parametrize("loss", LOSSES)
def test_the_landscape_is_d_at_the_cells(stage, loss: str) -> None:
    widget = GANWidget({loss: trained(loss)}, points())
    window = {"x0": -1.5, "x1": 1.0, "y0": -0.5, "y1": 2.0}
    found = stage(widget).page.evaluate(
        f"""(window) => {{{UNPACKED}
          const [about] = state.recordings, {{loss}} = about;
          const net = module.network(about, recordings[0].weights.at(-1));
          const logits = module.landscape(net, window, 160, 80);
          return Array.from(module.shade(logits, module.rivals(loss, net, x), 160, 80));
        }}""",
        window,
    )
    content = Content(widget)
    lines = 2.0 - 2.5 / 160 * (0.5 + torch.arange(160)), -1.5 + 2.5 / 320 * (0.5 + torch.arange(320))
    down, right = torch.meshgrid(*lines, indexing="ij")
    network = content.networks[0][-1]
    cells = torch.stack([right.flatten(), down.flatten()], 1).double()
    truth = probability(loss, network(cells)[:, 0], network(content.x)[:, 0])
    torch.testing.assert_close(torch.tensor(found).double(), truth, rtol=0, atol=1e-4)


@one_tab
def test_a_steep_landscape_is_d_of_the_interpolated_logit(stage) -> None:
    """Of a linear logit exactly, however few the cells; D itself, interpolated, would be off by up to a half."""
    layers = [{"inputs": 2, "outputs": 1, "activation": "none", "slope": 0}]
    found = stage(pair()).page.evaluate(
        """(layers) => {
          const net = module.network({frequencies: [[], []], layers}, [40, -30, 3]);
          return Array.from(module.shade(module.landscape(net, {x0: -1, x1: 1, y0: 0, y1: 1}, 6, 3), [0], 6, 3));
        }""",
        layers,
    )
    down, right = torch.meshgrid(1 - (0.5 + torch.arange(6)) / 6, -1 + (0.5 + torch.arange(12)) / 6, indexing="ij")
    truth = (40 * right - 30 * down + 3).flatten().sigmoid()
    torch.testing.assert_close(torch.tensor(found), truth, rtol=0, atol=1e-5)


@one_tab
def test_the_contour_follows_the_level(stage) -> None:
    """Of a plane the straight line, of a cone the circle, closed."""
    page = stage(pair()).page
    draw = """([columns, rows, f, level]) => {
      const value = new Function("x", "y", `return ${f}`);
      const at = (i) => value((i % columns) + 0.5, Math.floor(i / columns) + 0.5);
      const values = Array.from({length: columns * rows}, (_, i) => at(i));
      return module.contour(values, columns, rows, level);
    }"""
    plane = torch.tensor(page.evaluate(draw, [9, 7, "2 * x - y", 5]))
    torch.testing.assert_close(2 * plane[..., 0] - plane[..., 1], torch.full(plane.shape[:2], 5.0))
    cone = torch.tensor(page.evaluate(draw, [30, 30, "Math.hypot(x - 14, y - 15)", 9])) - torch.tensor([14.0, 15.0])
    torch.testing.assert_close(cone.norm(dim=2), torch.full(cone.shape[:2], 9.0), rtol=0, atol=0.03)
    length = (cone[:, 0] - cone[:, 1]).norm(dim=1).sum()
    assert length == pytest.approx(2 * math.pi * 9, rel=0.01)
    assert page.evaluate(draw, [5, 5, "x", 50]) == []


@one_tab
def test_small_lengths_keep_their_digits(stage) -> None:
    lengths = {
        0: "0.00",
        0.01: "0.01",
        1.234: "1.23",
        12.34: "12.3",
        123.4: "123",
        4.2e-7: "4.2·10⁻⁷",
        9.96e-4: "1.0·10⁻³",
    }
    assert stage(pair()).page.evaluate("(all) => all.map(module.figure)", list(lengths)) == list(lengths.values())


# In the browser

ROOT = "document.querySelector('#el > div').shadowRoot"


def drawn(show, selector: str) -> Tensor:
    """Centres of the discs in a path, in pixels."""
    path = show.find(selector).get_attribute("d")
    starts = [piece.split("a")[0].split(" ") for piece in path.split("M")[1:]]
    radius = float(path.split("a")[1].split(" ")[0])
    return torch.tensor([[float(x) + radius, float(y)] for x, y in starts], dtype=torch.float64)


def test_it_shows_what_python_says(stage) -> None:
    widget = pair(frame=3, point=(0.25, -0.5))
    data = stage(widget).data
    assert (data["frame"], data["step"], data["point"]) == (3, 30, [0.25, -0.5])
    assert data["playing"] == "false"
    assert_force(data, widget)
    losses = Content(widget).losses
    for i in range(2):
        assert data[f"losses{i}"] == pytest.approx(losses[i][:, 15].tolist(), rel=1e-6)
    last = pair()
    assert last.frame == 5
    assert all(math.isfinite(value) for value in last.point)


@pytest.mark.parametrize("hand", ["drag", "swipe"])
@pytest.mark.parametrize("panel", [0, 1])
def test_the_point_follows_the_hand(stage, hand: str, panel: int) -> None:
    widget = pair(point=(0.0, 0.0))
    show = stage(widget)
    getattr(show, hand)(f".panel[data-panel='{panel}'] .knob", 30, -45)
    data = show.data
    box = show.find(".picture").first.bounding_box()
    scale = min(box["width"], box["height"]) / (2 * widget.view[2])
    assert data["point"] == pytest.approx([30 / scale, 45 / scale], rel=0.02)
    assert_force(data, widget)
    assert show.page.evaluate("() => scrollY") == 0
    show.sync()
    assert widget.point == data["point"]


def test_the_point_follows_the_keys_and_stays_in_the_picture(stage) -> None:
    widget = pair(point=(0.0, 0.0))
    show = stage(widget)
    handle = show.find(".handle").last
    handle.press("ArrowUp")
    step = show.data["point"][1]
    assert step > 0
    for key, expected in [("ArrowLeft", [-1, 1]), ("Shift+ArrowRight", [9, 1]), ("PageDown", [9, -9])]:
        handle.press(key)
        assert show.data["point"] == pytest.approx([step * part for part in expected]), key
    assert_force(show.data, widget)
    assert handle.get_attribute("aria-valuetext").startswith(f"x = ({9 * step:.2f}, −{9 * step:.2f}), D(x) = ")
    show.drag(".handle .knob >> nth=0", 3000, 3000)
    picture, knob = show.find(".picture").first.bounding_box(), show.find(".knob").first.bounding_box()
    assert knob["x"] + knob["width"] / 2 == pytest.approx(picture["x"] + picture["width"], abs=2)
    assert knob["y"] + knob["height"] / 2 == pytest.approx(picture["y"] + picture["height"], abs=2)
    assert_force(show.data, widget)


def test_the_scrubber_moves_both_trainings(stage) -> None:
    widget = pair()
    show = stage(widget)
    content = Content(widget)
    for frame in (0, 4, 2):
        show.find("#frame").fill(str(frame))
        data = show.data
        assert (data["frame"], data["step"]) == (frame, 10 * frame)
        assert_force(data, widget)
        assert show.find("#step").inner_text() == str(10 * frame)
        for i, about in enumerate(widget.recordings):
            panel, details = (show.find(f".{part}[data-panel='{i}']") for part in ("panel", "details"))
            assert panel.locator(".captured").inner_text() == f"{about['captured'][frame]}/8"
            assert panel.locator(".quality").inner_text() == f"{round(100 * about['high_quality'][frame])} %"
            for name, value in zip((".lossd", ".lossg"), data[f"losses{i}"], strict=True):
                shown = details.locator(f"{name} .number").inner_text().replace("−", "-")
                assert float(shown) == pytest.approx(value, abs=0.0051)
            numbers = details.locator(".lengths .number").all_inner_texts()
            values = [data[f"d{i}"], data[f"saturating{i}"], data[f"nonSaturating{i}"]]
            assert numbers == [show.page.evaluate("(value) => module.figure(value)", value) for value in values]
        show.sync()
        assert widget.frame == frame
    show.find("#frame").press("ArrowRight")
    assert show.data["frame"] == 3
    show.find("#frame").press("Home")
    assert show.data["frame"] == 0
    assert len(content.samples[0]) == 6


def test_samples_and_data_lie_where_the_handle_finds_them(stage) -> None:
    widget = pair(frame=2)
    show = stage(widget)
    content = Content(widget)
    pixels = to_pixels(show)
    box = show.find(".picture").first.bounding_box()
    for i in range(2):
        panel = f".panel[data-panel='{i}']"
        torch.testing.assert_close(drawn(show, f"{panel} .real"), pixels(content.x), rtol=0, atol=0.02)
        torch.testing.assert_close(drawn(show, f"{panel} path.fake"), pixels(content.samples[i][2]), rtol=0, atol=0.02)
    show.page.evaluate("(x) => model.set('point', x)", content.x[7].tolist())
    show.settle()
    knob = show.find(".knob").first.bounding_box()
    there = torch.tensor([knob["x"] + knob["width"] / 2 - box["x"], knob["y"] + knob["height"] / 2 - box["y"]])
    torch.testing.assert_close(there.double(), pixels(content.x[7]), rtol=0, atol=0.6)


def test_the_arrow_points_along_the_gradient_and_the_used_loss_is_marked(stage) -> None:
    show = stage(pair(point=(0.4, 0.3)))
    data = show.data
    for i, own in enumerate(("saturating", "non-saturating")):
        path = show.find(f".panel[data-panel='{i}'] .own").get_attribute("d")
        start, end = ([float(v) for v in piece.split(" ")] for piece in path.split("M")[1].split("L"))
        arrow = torch.tensor([end[0] - start[0], start[1] - end[1]])
        assert arrow.norm() > 4
        torch.testing.assert_close(arrow / arrow.norm(), torch.tensor(data[f"direction{i}"]), rtol=0, atol=0.03)
        marked = show.find(f".details[data-panel='{i}'] .own-row")
        assert marked.get_attribute("data-length") == own
        assert marked.count() == 1


def test_the_losses_are_drawn_to_scale_with_a_mark_at_the_frame(stage) -> None:
    widget = pair()
    show = stage(widget)
    curves = Content(widget).losses
    for i in range(2):
        details = show.find(f".details[data-panel='{i}']")
        ends = []
        for name, values in zip(("d", "g"), curves[i], strict=True):
            path = details.locator(f".curve.{name}").get_attribute("d")
            xy = torch.tensor([[float(v) for v in piece.split(" ")] for piece in path[1:].split("L")]).double()
            slope = (xy[:, 1].max() - xy[:, 1].min()) / (values.max() - values.min())
            torch.testing.assert_close(
                xy[:, 1], xy[0, 1] - slope * torch.from_numpy(values - values[0]), rtol=0, atol=0.2
            )
            ends.append(slope.item())
            for frame in (0, 3):
                show.find("#frame").fill(str(frame))
                show.settle()
                mark = details.locator(f".mark.{name}")
                place = [float(mark.get_attribute(name)) for name in ("cx", "cy")]
                assert place == pytest.approx(xy[5 * frame].tolist(), abs=0.1)
        assert ends[0] == pytest.approx(ends[1], rel=0.1)


def to_pixels(show) -> Callable[[Tensor], Tensor]:
    """From the plane to pixels of the first picture."""
    width, height = show.page.evaluate(
        f"() => (({{clientWidth, clientHeight}}) => [clientWidth, clientHeight])({ROOT}.querySelector('.picture'))"
    )
    a, b, half = show.widget.view
    scale = min(width, height) / (2 * half)
    middle, centre = torch.tensor([width / 2, height / 2]).double(), torch.tensor([a, b]).double()
    return lambda x: middle + (x - centre) * scale * torch.tensor([1.0, -1.0])


def replay(show, *, pause: bool = False) -> dict:
    """What the widget says of itself two frames after a click on play; then it goes on, or is paused.

    All in the page, because a replay does not wait for what a test asks of the browser.
    """
    show.page.emulate_media(reduced_motion="no-preference")
    return show.page.evaluate(
        """async (pause) => {
          const host = document.querySelector('#el > div'), play = host.shadowRoot.querySelector('#play');
          const frames = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          play.click();
          await frames();
          const said = {...host.dataset, label: play.getAttribute('aria-label')};
          if (pause) play.click();
          return said;
        }""",
        pause,
    )


@one_tab
def test_the_replay_runs_to_the_end_and_starts_again(stage) -> None:
    widget = pair(frame=0)
    show = stage(widget)
    assert show.data["playing"] == "false"
    said = replay(show)
    assert said["playing"] == "true"
    show.page.wait_for_function("() => document.querySelector('#el > div').dataset.frame === '5'", timeout=20_000)
    show.page.wait_for_function("() => document.querySelector('#el > div').dataset.playing === 'false'")
    assert show.find("#play").get_attribute("aria-label") != said["label"]
    show.sync()
    assert widget.frame == 5
    show.find("#speed").click()
    assert show.data["speed"] == 2
    show.find("#speed").click()
    assert show.data["speed"] == 0.5
    assert float(replay(show, pause=True)["frame"]) < 5
    stopped = show.data["frame"]
    assert show.data["playing"] == "false"
    show.page.wait_for_timeout(400)
    assert show.data["frame"] == stopped


@one_tab
def test_the_replay_takes_the_time_of_its_frames(stage) -> None:
    show = stage(pair(frame=0))
    show.page.emulate_media(reduced_motion="no-preference")
    seconds = show.page.evaluate(
        """() => new Promise((done) => {
          const host = document.querySelector('#el > div'), start = performance.now();
          host.shadowRoot.querySelector('#play').click();
          const seconds = () => (performance.now() - start) / 1000;
          const look = () => host.dataset.frame === '5' ? done(seconds()) : requestAnimationFrame(look);
          look();
        })"""
    )
    assert 4.5 / 8 - 0.05 < seconds < 20  # frames that other work delays take their time


def test_a_hand_on_the_scrubber_stops_the_replay(stage) -> None:
    show = stage(pair(frame=0))
    replay(show)
    show.find("#frame").fill("1")
    assert show.data["playing"] == "false"
    show.page.wait_for_timeout(400)
    assert show.data["frame"] == 1


def test_between_frames_samples_move_on_straight_lines_unless_motion_is_unwanted(stage) -> None:
    widget = pair(frame=0)
    show = stage(widget)
    watch = """() => new Promise((done) => {
      const host = document.querySelector('#el > div'), seen = [];
      const path = () => host.shadowRoot.querySelector('path.fake').getAttribute('d');
      host.shadowRoot.querySelector('#play').click();
      const look = () => {
        seen.push(path());
        host.dataset.playing === 'false' && seen.length > 3 ? done([...new Set(seen)]) : requestAnimationFrame(look);
      };
      requestAnimationFrame(() => requestAnimationFrame(look));
    })"""
    assert len(show.page.evaluate(watch)) <= 6
    show.page.emulate_media(reduced_motion="no-preference")
    paths = show.page.evaluate(watch)
    assert len(paths) > 6
    first = [[float(v) for v in path.split("a")[0][1:].split(" ")] for path in paths]
    frames = to_pixels(show)(torch.stack([samples[0] for samples in Content(widget).samples[0]]))
    frames -= torch.tensor([3, 0])  # a disc's path starts at its left
    for place in torch.tensor(first).double():  # each on one of the segments from frame to frame
        along = (frames[1:] - frames[:-1]).double()
        part = ((place - frames[:-1]) * along).sum(1) / along.square().sum(1)
        foot = frames[:-1] + part.clamp(0, 1)[:, None] * along
        assert (foot - place).norm(dim=1).min() < 0.05


def test_the_landscape_is_blue_where_d_says_real(stage) -> None:
    recording = record("minimax", steps=20)
    recording.model.discriminator = nn.Sequential(nn.Linear(2, 1))
    recording.weights = [torch.tensor([4.0, -2.0, 0.5])] * len(recording.steps)
    widget = GANWidget({"minimax": recording}, points())
    show = stage(widget)
    columns, values = show.page.evaluate(
        f"""() => {{
          const canvas = {ROOT}.querySelector('canvas');
          const {{width, height}} = canvas;
          return [width, Array.from(canvas.getContext('2d').getImageData(0, 0, width, height).data)];
        }}"""
    )
    pixels = torch.tensor(values).reshape(-1, columns, 4).double()
    box = show.find(".picture").first.bounding_box()
    scale = min(box["width"], box["height"]) / (2 * widget.view[2])
    rows = len(pixels)
    right = ((torch.arange(columns) + 0.5) / columns - 0.5) * box["width"] / scale + widget.view[0]
    up = (0.5 - (torch.arange(rows) + 0.5) / rows) * box["height"] / scale + widget.view[1]
    cells = torch.stack([right.repeat(rows), up.repeat_interleave(columns)], 1).double()
    D = Content(widget).networks[0][-1](cells).sigmoid().reshape(rows, columns).detach()
    assert D.min() < 0.3
    assert D.max() > 0.7
    blue = pixels[..., 2] > pixels[..., 0]
    sure = pixels[..., 3] > 20
    assert torch.equal(blue[sure], (D > 0.5)[sure])
    order = (D - 0.5).abs().flatten().argsort()
    ink = pixels[..., 3].flatten()[order]
    assert (ink.diff() >= -1).all()


def test_one_recording_may_stand_alone(stage) -> None:
    widget = GANWidget({"<b> & γ = 0": trained("wasserstein")}, points())
    show = stage(widget)
    assert show.find(".panel").count() == 1
    assert show.find(".head b").first.inner_text() == "<b> & γ = 0"
    assert show.find(".captured").count() == 0
    assert_force(show.data, widget)
    assert show.find(".row").count() == 2


# What all widgets promise


def test_words_are_in_the_language_of_the_page_or_the_trait(stage) -> None:
    show = stage(pair())

    def korean() -> bool:
        show.settle()
        labels = show.page.evaluate(f"() => [...{ROOT}.querySelectorAll('[aria-label]')].map((e) => e.ariaLabel)")
        labels += show.find(".head b").all_inner_texts() + show.find(".legend span:first-child").all_inner_texts()[:1]
        assert len(labels) > 10
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
    show.find("#frame").fill("1")
    assert show.data["frame"] == 1


def test_every_control_is_named_and_reached_by_tab(stage) -> None:
    show = stage(pair())
    unnamed = show.page.evaluate(
        f"() => [...{ROOT}.querySelectorAll('input, button, [tabindex]')]"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim())).length"
    )
    assert unnamed == 0
    seen = set()
    for _ in range(5):
        show.page.keyboard.press("Tab")
        seen.add(show.page.evaluate(f"() => {ROOT}.activeElement?.outerHTML.slice(0, 120)"))
    assert len(seen) == show.find("input, button, g[tabindex]").count() == 5
    assert None not in seen


def test_touch_targets_are_large_enough(stage) -> None:
    sizes = stage(pair()).page.evaluate(
        f"() => [...{ROOT}.querySelectorAll('input, button, .hit')]"
        ".map((e) => e.getBoundingClientRect()).map((r) => [r.width, r.height])"
    )
    assert all(min(size) >= 36 for size in sizes)


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_it_fits_every_width(stage, lang: str) -> None:
    show = stage(pair("non-saturating", "wasserstein", lang=lang))
    for width in (320, 375, 480, 600, 768, 1280):
        show.page.set_viewport_size({"width": width, "height": 800})
        show.settle()
        outside = show.page.evaluate(
            """() => {
              const host = document.querySelector('#el > div'), frame = host.getBoundingClientRect();
              return [...host.shadowRoot.querySelectorAll('.losses text, button, input, span, canvas, .picture > svg')]
                .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
                .filter(([, r]) => r.width && (r.left < frame.left - 1 || r.right > frame.right + 1))
                .map(([name]) => name);
            }"""
        )
        assert outside == [], width
        assert show.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        first, second = (show.find(".picture").nth(i).bounding_box() for i in range(2))
        assert (first["y"] == second["y"]) == (width >= 600)
        assert_force(show.data, show.widget)
        if width < 480:  # on a phone both pictures and the scrubber are in sight at once
            scrubber = show.find("#frame").bounding_box()
            assert scrubber["y"] + scrubber["height"] - first["y"] < 660


@one_tab
def test_the_theme_follows_the_page(stage) -> None:
    show = stage(pair())
    assert show.data["theme"] == "light"
    colour = f"() => {ROOT}.querySelector('canvas').toDataURL()"
    light = show.page.evaluate(colour)
    show.page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    assert show.data["theme"] == "dark"
    assert show.page.evaluate(colour) != light


@one_tab
def test_python_can_move_it(stage) -> None:
    widget = pair()
    show = stage(widget)
    show.page.evaluate("() => { model.set('frame', 2); model.set('point', [0.5, -0.25]); }")
    data = show.data
    assert (data["frame"], data["point"]) == (2, [0.5, -0.25])
    assert_force(data, widget)


@one_tab
def test_it_draws_once_it_is_in_the_page(stage) -> None:
    show = stage(pair())
    show.page.evaluate(
        "() => { window.late = document.createElement('div'); module.default.render({model, el: late}); }"
    )
    show.settle()
    show.page.evaluate("() => document.body.append(late)")
    show.settle()
    assert show.page.evaluate("() => late.firstChild.dataset.theme") == "light"
    assert show.page.evaluate("() => late.firstChild.shadowRoot.querySelector('svg.losses').clientHeight") > 50
    assert show.page.evaluate("() => late.firstChild.shadowRoot.querySelector('path.fake').getAttribute('d')")


@one_tab
def test_stopping_leaves_nothing_behind(stage) -> None:
    show = stage(pair(frame=0))
    replay(show)
    assert show.page.evaluate("() => Object.values(listeners).flat().length") == 3
    show.page.evaluate("() => { model.set('lang', 'en'); stop(); }")
    show.settle()
    assert show.page.evaluate("() => Object.values(listeners).flat().length") == 0
    assert show.find("*").count() == 0
    frame = show.page.evaluate("() => model.get('frame')")
    show.page.wait_for_timeout(300)
    assert show.page.evaluate("() => model.get('frame')") == frame


@pytest.mark.parametrize("name", ["frame", "point"])
def test_it_is_drawn_thirty_times_a_second(stage, name: str) -> None:
    """The best of several frames, each with landscapes not seen before; other work only slows a frame down."""
    sizes = {"every": 2, "steps": 80, "n": 160, "width": 32, "activation": nn.LeakyReLU}
    recordings = {loss: record(loss, **sizes) for loss in ("minimax", "relativistic")}
    show = stage(GANWidget(recordings, points(), frame=0))
    values = list(range(1, 40)) if name == "frame" else [[i / 30, 0.5 - i / 60] for i in range(30)]
    assert show.best_frame(name, values) < 33


def test_it_runs_in_the_site_s_host(browser) -> None:
    """The stored state and view, as a notebook holds them, drawn by the page's script without a kernel."""
    widget = pair()
    with hosted(browser, widget) as page:
        arrow_key_is_felt(page)
        page.locator("#frame").fill("0")
        page.evaluate(FRAMES)
        assert page.locator("#step").inner_text() == "0"
