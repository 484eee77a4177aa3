from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from companion import __main__, compare
from companion.data import Hangul, hangul
from companion.diffusion import Diffusion, GaussianDenoiser
from companion.likelihoods import Gaussian
from companion.ppca import PPCA
from companion.training import History
from companion.vae import VAE

TINY = {"seconds": 0.05, "parameters": 20_000, "samples": 64}
TRAINED = [name for name in compare.FAMILIES if name != "PPCA"]


@pytest.fixture(scope="module")
def syllables() -> Hangul:
    return hangul()


def first(name: str) -> dict:
    """The settings of a family's first trial."""
    return next(compare._grid(name))


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("name", TRAINED)
def test_every_family_gets_the_same_number_of_parameters(name, size):
    knobs = {knob: value for knob, value in first(name).items() if knob != "lr"}

    def build(width: int) -> torch.nn.Module:
        return compare.FAMILIES[name].build(width, size, **knobs)

    for budget in (250_000, 1_000_000):
        width = compare.widest(build, budget)
        counts = [
            sum(weight.numel() for weight in build(width + step).parameters()) for step in (-1, 0, 1) if width + step
        ]
        assert min(abs(count - budget) for count in counts) <= 0.05 * budget
        assert abs(sum(weight.numel() for weight in build(width).parameters()) - budget) <= 0.05 * budget


def test_the_width_is_the_nearest_of_all():
    def square(width: int) -> torch.nn.Module:
        return torch.nn.Linear(width, width, bias=False)

    for budget in range(1, 120):
        nearest = min(range(1, 20), key=lambda width: abs(width**2 - budget))
        assert compare.widest(square, budget) == nearest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE", "diffusion"])
def test_training_takes_the_seconds_it_is_given(name, monkeypatch):
    """By a clock on which a step takes .01 s and a call of `fit` .02 s besides, whatever else the machine does."""
    fit, clock = compare.fit, [0.0]

    def timed(model, x, *, steps: int, **settings) -> History:
        clock[0] += 0.02 + 0.01 * steps
        return fit(model, x, steps=steps, **settings)

    monkeypatch.setattr(compare, "fit", timed)
    monkeypatch.setattr(compare, "_clock", lambda device: clock[0])
    record = compare.measure(name, 0, **TINY | {"seconds": 2.0})
    assert record["seconds"] == pytest.approx(0.02 + 0.01 * record["steps"])
    assert record["seconds"] == pytest.approx(2, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", compare.FAMILIES)
def test_every_family_is_trained_and_measured(name, device):
    if name == "diffusion, conv":
        pytest.skip("a minute to draw on a CPU") if device.type == "cpu" else None
    record = compare.measure(name, 1, **TINY, device=device)
    json.dumps({key: compare._short(value) for key, value in record.items()}, allow_nan=False)
    assert (record.get("nats") is None) == name.startswith("GAN")
    wanted = {"criterion", "parameters", "seconds", "seconds_to_draw", "memory", "legible_1", "precision", "accuracy"}
    assert wanted <= record.keys()
    assert name == "PPCA" or record["parameters"] == pytest.approx(20_000, rel=0.25)


@pytest.mark.slow
def test_large_images_take_one_option():
    record = compare.measure("VAE", 0, **TINY | {"parameters": 60_000}, size=28)
    assert record["parameters"] == pytest.approx(60_000, rel=0.05)


def test_what_is_stopped_is_no_result(monkeypatch):
    stopped = History({}, 1.0, interrupted=True)
    monkeypatch.setattr(compare, "fit", lambda *args, **settings: stopped)
    monkeypatch.setattr(compare, "_steps", lambda *args: 1)
    with pytest.raises(KeyboardInterrupt):
        compare.measure("GAN", 0, **TINY)


# --- densities -------------------------------------------------------------------------------------------------------


def test_the_density_of_noisy_images_is_a_mixture():
    images, x = torch.rand(7, 16).double(), torch.rand(5, 16).double()
    parts = Independent(Normal(images, compare.NOISE), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(7)), parts).log_prob(x)
    assert torch.allclose(compare.mixture_log_prob(x, images), expected, rtol=1e-6)


def normal(d: int = 4) -> MultivariateNormal:
    factor = 0.2 * torch.randn(d, d).double()
    return MultivariateNormal(torch.rand(d).double(), factor @ factor.T + 0.01 * torch.eye(d))


def with_noise(p: MultivariateNormal) -> MultivariateNormal:
    return MultivariateNormal(p.mean, p.covariance_matrix + compare.NOISE**2 * torch.eye(len(p.mean)))


def test_the_density_of_ppca_counts_the_noise():
    model = PPCA(0.2 * torch.randn(4, 2).double(), torch.rand(4).double(), 0.01)
    x = torch.rand(6, 4).double()
    expected = with_noise(model.marginal()).log_prob(x)
    assert torch.allclose(compare.FAMILIES["PPCA"].log_prob(model, x), expected)


def test_the_bound_of_a_vae_counts_the_noise_and_is_tight_with_the_exact_posterior():
    """A decoder that ignores z: p(x) = N(mean, σ² + NOISE²), and with q(z | x) = p(z) the bound is exact."""
    encoder, decoder = torch.nn.Linear(4, 4), torch.nn.Linear(2, 4)
    for weight in (encoder.weight, encoder.bias, decoder.weight):
        torch.nn.init.zeros_(weight)
    model, x = VAE(encoder, decoder, Gaussian(0.01)), torch.rand(6, 4)
    expected = Independent(Normal(decoder.bias, math.sqrt(0.01 + compare.NOISE**2)), 1).log_prob(x)
    assert torch.allclose(compare.FAMILIES["VAE"].log_prob(model, x), expected, atol=1e-4)
    assert model.likelihood.sigma2.item() == pytest.approx(0.01)


def test_the_density_of_the_flow_is_that_of_images_from_0_to_1():
    p, family = normal(), compare.FAMILIES["diffusion"]
    denoiser = GaussianDenoiser(2 * p.mean - 1, 4 * p.covariance_matrix, "straight")
    model = Diffusion(denoiser, 4, "straight", "data", resolution=2 * compare.NOISE)
    x = with_noise(p).sample((200,))
    found = family.log_prob(model, family.given(x)) + 4 * math.log(family.scale)
    assert found.mean().item() == pytest.approx(with_noise(p).log_prob(x).mean().item(), abs=0.1)
    assert torch.allclose(family.taken(family.given(x)), x)


# --- reference rows --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> dict[str, dict]:
    """Records of the reference rows, 500 samples each."""
    return {name: compare.measure(name, 0, samples=500) for name in compare.REFERENCES}


@pytest.mark.slow
def test_the_reference_rows_are_what_they_are_called(measured):
    legible = {name: record["legible_2"] for name, record in measured.items()}
    assert (legible["truth"], legible["held out"], legible["memoriser"], legible["noise"]) == (1, 1, 1, 0)
    assert measured["memoriser"]["held_out"] == 0
    assert measured["held out"]["held_out"] == 1
    assert abs(measured["truth"]["held_out"] - 0.1) < 4 * measured["truth"]["held_out_error"]
    assert measured["blurred"]["legible_2"] < 0.01
    assert 0.05 < measured["shuffled"]["legible_2"] < 0.3
    assert abs(measured["shuffled"]["held_out"] - 0.1) < 4 * measured["shuffled"]["held_out_error"]


@pytest.mark.slow
def test_the_measures_put_the_truth_first_except_where_they_are_cheated(measured):
    assert measured["blurred"]["precision"] >= measured["truth"]["precision"]
    assert measured["blurred"]["recall"] < 0.01
    assert measured["noise"]["precision"] == 0
    for column in ("frechet", "mmd", "accuracy"):
        assert measured["truth"][column] < min(measured[name][column] for name in ("blurred", "shuffled", "noise"))
    assert measured["truth"]["nats"] > measured["memoriser"]["nats"] + 1


def test_shuffled_images_are_halves_of_training_syllables(syllables):
    x = compare.reference("shuffled", 20, syllables, torch.Generator().manual_seed(0))
    seen = syllables.x[syllables.train]
    for half in (slice(0, 160), slice(160, 256)):
        apart = torch.cdist(x[:, half], seen[:, half], compute_mode="donot_use_mm_for_euclid_dist")
        assert (apart.amin(1) == 0).all()
    with pytest.raises(ValueError, match="name must be one of truth, "):
        compare.reference("copies", 20, syllables, torch.Generator())


def test_blurred_pixels_are_means_of_nine(syllables):
    x = compare.reference("blurred", 5, syllables, torch.Generator().manual_seed(0)).view(-1, 16, 16)
    rows = syllables.train[torch.randint(len(syllables.train), (5,), generator=torch.Generator().manual_seed(0))]
    assert torch.allclose(x[:, 3, 7], syllables.x[rows].view(-1, 16, 16)[:, 2:5, 6:9].mean((1, 2)))


# --- all runs --------------------------------------------------------------------------------------------------------


class Runs:
    """Stands in for processes; the records are made up, and known."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.made, self.fail_at = [], fail_at

    def __call__(self, name: str, seed: int, *, knobs: dict | None, **budget) -> dict:
        if len(self.made) == self.fail_at:
            raise KeyboardInterrupt
        self.made.append((name, seed, json.dumps(knobs)))
        number = len(name) + seed + 10 * (knobs or {}).get("lr", 0)
        legible = 0.0 if name == "noise" else 1.0
        return {"legible_1": legible, "legible_2": legible, "held_out": math.nan, "criterion": number, "mmd": number}


@pytest.fixture
def runs(monkeypatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(compare, "_alone", runs)
    return runs


OPTIONS = {"families": ["PPCA", "GAN"], "seeds": 2, "progress": False}


def test_a_killed_comparison_goes_on(runs, monkeypatch, tmp_path):
    path = tmp_path / "results.json"
    whole = compare.compare(tmp_path / "whole.json", **OPTIONS)
    for stop in (0, 3, 9):
        path.unlink(missing_ok=True)
        stopped, rest = Runs(stop), Runs()
        monkeypatch.setattr(compare, "_alone", stopped)
        with pytest.raises(KeyboardInterrupt):
            compare.compare(path, **OPTIONS)
        assert len(json.loads(path.read_text())["runs"]) == stop if stop else not path.exists()
        monkeypatch.setattr(compare, "_alone", rest)
        assert compare.compare(path, **OPTIONS) == whole
        assert stopped.made + rest.made == runs.made
    assert json.loads(path.read_text()) == whole
    assert list(tmp_path.glob("*.partial")) == []
    assert len(runs.made) == 4 + 4 + 2 * (len(compare.REFERENCES) + 2)


def test_the_best_trial_decides_and_trials_can_come_from_elsewhere(runs, tmp_path):
    results = compare.compare(tmp_path / "a.json", **OPTIONS)
    assert compare.chosen(results, "GAN") == {"lr": 1e-3, "penalty": 0.1}
    assert {knobs for name, seed, knobs in runs.made if name == "GAN" and seed < 2} == {'{"lr": 0.001, "penalty": 0.1}'}
    runs.made.clear()
    compare.compare(tmp_path / "b.json", **OPTIONS | {"seeds": 1}, tuned=results, seconds=7.0)
    assert len(runs.made) == len(compare.REFERENCES) + 2
    small = [name.lower() for name in OPTIONS["families"]]
    assert compare.compare(tmp_path / "a.json", **OPTIONS | {"families": small}) == results
    with pytest.raises(ValueError, match="no trials of VAE"):
        compare.compare(tmp_path / "c.json", families=["VAE"], tuned=results, progress=False)


def test_results_of_another_budget_are_refused(runs, tmp_path):
    compare.compare(tmp_path / "a.json", **OPTIONS)
    with pytest.raises(ValueError, match=r"holds runs with \{'seconds': 40.0\}"):
        compare.compare(tmp_path / "a.json", **OPTIONS, seconds=7.0)
    with pytest.raises(ValueError, match="there is no 'GANs'"):
        compare.compare(tmp_path / "a.json", families=["GANs"])
    with pytest.raises(ValueError, match="name must be one of PPCA, "):
        compare.measure("GANs", 0)


@pytest.mark.slow
def test_a_run_has_a_process_of_its_own():
    record = compare._alone("VAE", 0, knobs=None, **TINY)
    assert 0 < record["memory"] < 500


def test_the_command_line_makes_runs_and_prints_them(runs, tmp_path, capsys):
    path = str(tmp_path / "a.json")
    __main__.main(["compare", path, "--families", "GAN", "--seeds", "2", "--seconds", "3"])
    printed = capsys.readouterr().out
    assert "lr 0.001, penalty 0.1" in printed
    assert json.loads((tmp_path / "a.json").read_text())["about"]["seconds"] == 3
    assert "| GAN " in printed
    with pytest.raises(SystemExit):
        __main__.main([])


# --- tables ----------------------------------------------------------------------------------------------------------


def made_up(**columns: dict[str, list[float | None]]) -> dict:
    """Results whose values are given by column and row."""
    seeds = len(next(iter(next(iter(columns.values())).values())))
    runs = []
    for name in (*compare.REFERENCES, "VAE"):
        for seed in range(seeds):
            values = {column: rows[name][seed] for column, rows in columns.items() if name in rows}
            runs.append({"name": name, "seed": seed, "knobs": None, "legible_2": 1.0} | values)
    return {"about": {"samples": 100}, "runs": runs}


def test_rows_are_means_with_their_errors():
    values = [0.1, 0.4, 0.5, 0.2]
    found = compare.rows(made_up(mmd={"VAE": values, "truth": [0.0] * 4}))["VAE"]["mmd"]
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1) / 2))
    (mean, error) = compare.rows(made_up(mmd={"VAE": [0.3]}))["VAE"]["mmd"]
    assert (mean, math.isnan(error)) == (0.3, True)


def test_what_is_said_of_legible_samples_needs_some():
    results = made_up(held_out={"VAE": [0.1, 0.2], "truth": [0.1, 0.1]}, precision={"VAE": [0.5, 0.5]})
    assert "held_out" in compare.rows(results)["VAE"]
    for record in results["runs"]:
        record["legible_2"] = 0.4
    assert compare.rows(results)["VAE"].keys() == {"legible_2", "precision"}


def test_a_reference_row_that_scores_like_the_truth_cheats():
    results = made_up(
        precision={"truth": [0.95, 0.96], "blurred": [0.99, 0.99], "noise": [0.0, 0.0], "memoriser": [0.95, 0.95]},
        mmd={"truth": [0.0, 0.001], "blurred": [0.2, 0.2], "noise": [0.1, 0.1], "memoriser": [0.0, 0.0]},
        accuracy={"truth": [0.45, 0.55], "blurred": [1.0, 1.0], "shuffled": [0.52, 0.52], "noise": [1.0, 1.0]},
        nats={"truth": [1.5, 1.5], "memoriser": [1.5, 1.5]},
    )
    for record in results["runs"]:
        record["legible_2"] = 0.7 if record["name"] == "VAE" else 1.0 if record["name"] == "truth" else 0.6
    assert compare.cheats(results) == {
        "precision": ["blurred", "memoriser"],
        "mmd": ["memoriser"],
        "accuracy": ["shuffled"],
    }
    text = str(compare.table(results, ("precision", "mmd")))
    assert "(blurred)" in text
    assert "0.9900 ±\N{NO-BREAK SPACE}0.0000†" in text or "0.99 ±\N{NO-BREAK SPACE}0.00†" in text


def test_a_table_is_aligned_markdown():
    text = compare.table(made_up(mmd={"VAE": [0.12345, 0.13], "truth": [12345.0, 12000.0]}), ("mmd", "nats"))
    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["(truth)", "VAE"], "no row without a value"
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("|")[2].strip() == "MMD²"
    assert any("VAE" in line and "0.1267 ±\N{NO-BREAK SPACE}0.0033" in line and "–" in line for line in lines)
    assert text._repr_markdown_() == repr(text) == text


def test_what_is_as_good_as_the_truth_is_bold_whichever_way_is_good():
    values = {"truth": [0.9, 0.2], "near": [0.86, 0.69], "far": [0.84, 0.71], "none": [math.nan, 0.0]}
    text = compare.graded(values, ["precision", "F"], [1, 0], [0, 10], values["truth"])
    cells = [[cell.strip() for cell in line.split("|")[2:4]] for line in text.splitlines()[2:]]
    assert cells == [["**0.90**", "**0.20**"], ["**0.86**", "**0.69**"], ["0.84", "0.71"], ["–", "**0.00**"]]


# --- what comes with the package -------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not Path(compare.__file__).with_name("comparison.json").exists(),
    reason="nobody has run `python -m companion compare companion/comparison.json` yet",
)
def test_the_stored_comparison_is_complete_and_fair():
    results = compare.stored()
    about, names = results["about"], {record["name"] for record in results["runs"]}
    assert {"machine", "torch", "python", "seconds", "parameters"} <= about.keys()
    assert {*compare.REFERENCES, "PPCA", "VAE", "GAN", "diffusion"} <= names
    for name in names:
        seeds = [record["seed"] for record in results["runs"] if record["name"] == name]
        assert seeds.count(compare.COMMON) == (0 if name in compare.REFERENCES else 4)
        if name in compare.REFERENCES or not compare.FAMILIES[name].images:
            assert set(range(5)) <= set(seeds)
    for record in results["runs"]:
        if record.get("steps"):
            assert record["parameters"] == pytest.approx(about["parameters"], rel=0.05)
            assert record["seconds"] == pytest.approx(about["seconds"], rel=0.25)
        if record["name"] == "memoriser":
            assert record["held_out"] == 0
