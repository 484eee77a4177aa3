"""One yardstick: every family on the same data, with the same parameters and the same time, by the same measures.

    python -m companion compare comparison.json

The families learn the training syllables of `hangul`. Each trained one gets the width at which all its networks
together have the budget of parameters, and as many steps as fit into the budget of seconds, those of the CPU in one
thread (on a GPU those of the clock). Four trials a family, learning rate × one knob, with a seed of their own, decide
its settings: those with the smallest Fréchet distance of `letter_features` to training syllables are taken, or for PPCA
those with the largest log-likelihood of training syllables kept back. Then each seed is a run of its own, in a process
of its own.

Reference rows calibrate the measures. Samples, clipped to [0, 1], are the means of p(x | z) where there is one.
"""

from __future__ import annotations

import bisect
import copy
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

from companion import metrics
from companion.checkpoint import replacing
from companion.checks import check_int, check_number
from companion.data import Hangul, hangul
from companion.devices import find_device
from companion.diffusion import Diffusion, EmpiricalDenoiser, Heun
from companion.gan import GAN
from companion.likelihoods import Gaussian
from companion.nets import ResidualMLP, UNet, conv_decoder, conv_encoder, mlp
from companion.ppca import PPCA
from companion.training import fit
from companion.vae import VAE

#: What a run may use, and what it is measured by: see `measure`.
BUDGET = {"seconds": 40.0, "parameters": 250_000, "samples": 4000, "size": 16, "device": "cpu"}
#: Deviation of the noise on pixels whose density is measured: images as they are have none, as many pixels never vary.
NOISE = 0.05
#: Samples that the measures of two sets compare with as many training syllables.
PAIRED = 1000
#: The seed of the trials, and of what all runs share.
COMMON = 1000

# --- families --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """How a family is built, trained and asked.

    Attributes:
        build: build(width, size, **knobs), the model for images of size × size.
        knobs: {name: values} of the trials; all but "lr" go to `build`.
        settings: those of `fit`.
        images: whether it takes x of shape (n, 1, size, size), not (n, size²).
        draw: draw(model, n), new x on the model's scale.
        log_prob: log_prob(model, x), of x with noise, or a lower bound of it, shape (n,), in nats; None without one.
        scale: the model's pixels are scale · x + shift for x in [0, 1].
        shift: see `scale`.
    """

    build: Callable[..., nn.Module]
    knobs: dict[str, tuple]
    settings: dict = field(default_factory=dict)
    images: bool = False
    draw: Callable[[nn.Module, int], Tensor] = lambda model, n: model.sample(n)
    log_prob: Callable[[nn.Module, Tensor], Tensor] | None = None
    scale: float = 1.0
    shift: float = 0.0

    def given(self, x: Tensor) -> Tensor:
        """Images, shape (n, size²), on [0, 1], as the model takes them."""
        size = math.isqrt(x.shape[1])
        x = self.scale * x + self.shift
        return x.view(-1, 1, size, size) if self.images else x

    def taken(self, x: Tensor) -> Tensor:
        """What `given` was given."""
        return (x.flatten(1) - self.shift) / self.scale


def _vae(width: int, size: int, q: int) -> VAE:
    return VAE(mlp(size**2, width, width, 2 * q), mlp(q, width, width, size**2), Gaussian(0.005))


def _conv_vae(width: int, size: int, q: int) -> VAE:
    shape = 1, size, size
    return VAE(conv_encoder(shape, 2 * q, width), conv_decoder(q, shape, width), Gaussian(0.005))


def _gan(width: int, size: int, penalty: float) -> GAN:
    G = nn.Sequential(mlp(32, width, width, size**2, activation=nn.ReLU), nn.Sigmoid())
    return GAN(G, mlp(size**2, width, width, 1, activation=nn.LeakyReLU), 32, penalty=penalty)


def _conv_gan(width: int, size: int, penalty: float) -> GAN:
    shape = 1, size, size
    G = nn.Sequential(conv_decoder(32, shape, width), nn.Sigmoid())
    return GAN(G, conv_encoder(shape, 1, width), 32, penalty=penalty)


def _diffusion(width: int, size: int, predict: str) -> Diffusion:
    return Diffusion(ResidualMLP(size**2, width, 3), size**2, "straight", predict, resolution=2 * NOISE)


def _unet(width: int, size: int, predict: str) -> Diffusion:
    shape = 1, size, size
    return Diffusion(UNet(shape, 8 * width), shape, "straight", predict, resolution=2 * NOISE)


def _draw_mean(model: VAE | PPCA, n: int) -> Tensor:
    decode = model.likelihood if isinstance(model, PPCA) else model.decode
    return decode(model.prior().sample((n,))).mean


def _vae_bound(model: VAE, x: Tensor) -> Tensor:
    noisy = copy.deepcopy(model)
    noisy.likelihood = Gaussian(model.likelihood.sigma2.item() + NOISE**2).to(x)
    return noisy.importance_bound(x, 100)


def _ppca_log_prob(model: PPCA, x: Tensor) -> Tensor:
    return PPCA(model.W, model.mu, model.sigma2 + NOISE**2).log_prob(x)


def _flow_log_prob(model: Diffusion, x: Tensor) -> Tensor:
    return model.log_prob(x, 30, probes=1)


_VAE = {
    "knobs": {"lr": (1e-3, 4e-3), "q": (16, 32)},
    "settings": {"ema": 0.99},
    "draw": _draw_mean,
    "log_prob": _vae_bound,
}
_GAN = {
    "knobs": {"lr": (1e-3, 3e-3), "penalty": (0.1, 1.0)},
    "settings": {"betas": (0.0, 0.99), "batch_size": 64, "ema": 0.99},
}
_DIFFUSION = {
    "knobs": {"lr": (1e-3, 3e-3), "predict": ("data", "velocity")},
    "settings": {"betas": (0.9, 0.99), "ema": 0.99},
    "draw": lambda model, n: model.sample(n, Heun(10)),
    "log_prob": _flow_log_prob,
    "scale": 2.0,
    "shift": -1.0,
}
FAMILIES = {
    "PPCA": Family(PPCA.fit, {"latent_dim": (16, 32, 64, 128)}, draw=_draw_mean, log_prob=_ppca_log_prob),
    "VAE": Family(_vae, **_VAE),
    "VAE, conv": Family(_conv_vae, images=True, **_VAE),
    "GAN": Family(_gan, **_GAN),
    "GAN, conv": Family(_conv_gan, images=True, **_GAN),
    "diffusion": Family(_diffusion, **_DIFFUSION),
    "diffusion, conv": Family(_unet, images=True, **_DIFFUSION),
}


def widest(build: Callable[[int], nn.Module], parameters: int) -> int:
    """The width at which the model's parameters come nearest to their budget; their number rises with the width."""

    @functools.cache
    def count(width: int) -> int:
        return sum(weight.numel() for weight in build(width).parameters())

    enough = next(2**i for i in itertools.count() if count(2**i) >= parameters)
    width = bisect.bisect_left(range(enough), parameters, lo=1, key=count)
    return min((width, max(width - 1, 1)), key=lambda width: abs(count(width) - parameters))


# --- reference rows --------------------------------------------------------------------------------------------------


def reference(name: str, n: int, data: Hangul, generator: torch.Generator) -> Tensor:
    """n images that calibrate the measures, shape (n, d).

    Args:
        name: "truth": draws from all syllables, 10 % of them held out: the best that a model can do.
            "held out": the held-out syllables, each as often as any other.
            "blurred": training syllables, each pixel the mean of the nine around it.
            "memoriser": draws of the diffusion model with the best possible denoiser of the training syllables.
            "shuffled": the upper 5/8 of one training syllable over the lower 3/8 of another: initial and vowel of one,
            final of the other, most often.
            "noise": every pixel uniform on [0, 1].
        n: number of images.
        data: all syllables.
        generator: source of randomness.
    """

    def some(rows: Tensor) -> Tensor:
        return data.x[rows[torch.randint(len(rows), (n,), generator=generator)]]

    size = math.isqrt(data.x.shape[1])
    if name == "truth":
        return some(torch.arange(len(data.x)))
    if name == "held out":
        order = torch.cat([torch.randperm(len(data.held_out), generator=generator) for _ in range(0, n, 1000)])
        return data.x[data.held_out[order[:n]]]
    if name == "blurred":
        return avg_pool2d(some(data.train).view(n, 1, size, size), 3, 1, 1).flatten(1)
    if name == "memoriser":
        table = EmpiricalDenoiser(2 * data.x[data.train] - 1, "straight")
        return Diffusion(table, size**2, "straight", "data").sample(n, Heun(6), generator=generator) / 2 + 0.5
    if name == "shuffled":
        cut = round(5 / 8 * size) * size
        return torch.cat([some(data.train)[:, :cut], some(data.train)[:, cut:]], 1)
    if name == "noise":
        return torch.rand(n, size**2, generator=generator)
    raise ValueError(f"name must be one of {', '.join(REFERENCES)}, got {name!r}")


REFERENCES = ("truth", "held out", "blurred", "memoriser", "shuffled", "noise")


def mixture_log_prob(x: Tensor, images: Tensor) -> Tensor:
    """log p(x) of one of these images, all alike, plus noise of deviation NOISE, in nats, shape (n,), exact."""
    d, m = images.shape[1], len(images)
    parts = [torch.cdist(rows, images).square() / (-2 * NOISE**2) for rows in x.split(500)]
    return torch.cat(parts).logsumexp(1) - math.log(m) - d / 2 * math.log(2 * math.pi * NOISE**2)


# --- one run ---------------------------------------------------------------------------------------------------------


def score(x: Tensor, data: Hangul) -> dict[str, float]:
    """All measures of images x, shape (n, d), clipped to [0, 1]: syllables are counted in all, the rest sees 1000."""
    x = x.clamp(0, 1)
    strict, lenient = (metrics.hangul_score(x, data, factor=factor) for factor in (1, 2))
    x = x[:PAIRED]
    y = data.x[data.train[_order(len(data.train), len(x))]].to(x)
    precision, recall = metrics.precision_recall(x, y)
    tested = metrics.classifier_test(x, y)
    features = (metrics.letter_features(images, data) for images in (x, y))
    return {
        "legible_1": strict.legible,
        **{"legible_2" if key == "legible" else key: value for key, value in dataclasses.asdict(lenient).items()},
        "precision": precision,
        "recall": recall,
        "frechet": metrics.frechet_distance(*features),
        "frechet_pixels": metrics.frechet_distance(x, y),
        "mmd": metrics.mmd(x, y),
        "accuracy": tested.accuracy,
        "p_value": tested.p_value,
    }


def measure(
    name: str,
    seed: int,
    *,
    knobs: dict | None = None,
    seconds: float = BUDGET["seconds"],
    parameters: int = BUDGET["parameters"],
    samples: int = BUDGET["samples"],
    size: int = BUDGET["size"],
    device: torch.device | str = BUDGET["device"],
) -> dict:
    """Train one family, or take one reference row, and measure it: a record that JSON can hold.

    Args:
        name: one of FAMILIES or REFERENCES.
        seed: decides weights, batches and samples.
        knobs: of a family, the learning rate and what its `build` takes; by default the first of the trials' values.
        seconds: to train, unless there is a closed form.
        parameters: of all networks together, to 5 %, unless there is a closed form.
        samples: number of samples to measure.
        size, device: of the images, 16 or 28; where to train.

    Raises:
        ValueError: if there is no such name, or an argument is out of range.
    """
    if name not in (*FAMILIES, *REFERENCES):
        raise ValueError(f"name must be one of {', '.join((*FAMILIES, *REFERENCES))}, got {name!r}")
    check_int("samples", samples, 4)
    data, device, generator = _data(size), find_device(device), _seeded(seed)
    noisy = data.x[data.held_out][_order(len(data.held_out), 200)]
    noisy = noisy + NOISE * torch.randn(noisy.shape, generator=_seeded(COMMON))
    if name in REFERENCES:
        record = score(reference(name, samples, data, generator), data)
        known = {"truth": data.x, "memoriser": data.x[data.train]}.get(name)
        return record if known is None else record | {"nats": mixture_log_prob(noisy, known).mean().item() / size**2}
    family = FAMILIES[name]
    knobs = {knob: values[0] for knob, values in family.knobs.items()} | (knobs or {})
    before = _memory(device)
    torch.manual_seed(seed)
    x = family.given(data.x[data.train]).to(device)
    model, record = _train(family, x, knobs, seed, check_number("seconds", seconds), parameters)
    trained = _clock(device)
    with torch.no_grad():
        drawn = [family.draw(model, min(PAIRED, samples - i)) for i in range(0, samples, PAIRED)]
    record["seconds_to_draw"] = (_clock(device) - trained) * 1000 / samples
    record["memory"] = (_memory(device) - before) / 2**20
    record |= score(family.taken(torch.cat(drawn)), data)
    if family.log_prob:
        with torch.no_grad():
            log_p = family.log_prob(model, family.given(noisy).to(device)).mean().item()
        record["nats"] = log_p / size**2 + math.log(family.scale)  # the density of x is that of scale · x times scale
    return {"criterion": record["frechet"]} | record


def _train(
    family: Family, x: Tensor, knobs: dict, seed: int, seconds: float, parameters: int
) -> tuple[nn.Module, dict]:
    """The trained model, and what its training was."""
    start = _clock(x.device)
    if family.build == PPCA.fit:
        model = PPCA.fit(x, **knobs)
        record = {"seconds": _clock(x.device) - start, "parameters": model.W.numel() + len(model.mu) + 1}
        kept = _order(len(x), len(x) // 10)
        others = torch.ones(len(x), dtype=torch.bool).index_fill(0, kept, False)
        return model, record | {"criterion": -family.log_prob(PPCA.fit(x[others], **knobs), x[kept]).mean().item()}
    knobs = dict(knobs)
    settings = family.settings | {"lr": knobs.pop("lr"), "precision": "float32", "device": x.device, "progress": False}
    build = functools.partial(family.build, size=math.isqrt(x[0].numel()), **knobs)
    model = build(widest(build, parameters)).to(x.device)
    steps = _steps(copy.deepcopy(model), x, seconds, settings)
    start = _clock(x.device)
    if fit(model, x, steps=steps, schedule="cosine", seed=seed, **settings).interrupted:
        raise KeyboardInterrupt
    count = sum(weight.numel() for weight in model.parameters())
    return model, {"seconds": _clock(x.device) - start, "parameters": count, "steps": steps}


def _steps(model: nn.Module, x: Tensor, seconds: float, settings: dict) -> int:
    """How many steps of training fit into these seconds, judged by a fifteenth of them."""
    fit(model, x, steps=1, **settings)
    steps, used = 1, 0.0
    while used < seconds / 15:
        steps, start = 2 * steps, _clock(x.device)
        fit(model, x, steps=steps, **settings)
        used = _clock(x.device) - start
    return max(1, round(steps * seconds / used))


@functools.lru_cache(maxsize=2)
def _data(size: int) -> Hangul:
    return hangul(size)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _order(rows: int, n: int) -> Tensor:
    """n of the rows, the same in every run."""
    return torch.randperm(rows, generator=_seeded(COMMON))[:n]


def _clock(device: torch.device) -> float:
    """Seconds of the CPU; on a GPU those of the clock, once it has done its work."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def _memory(device: torch.device) -> float:
    """The most bytes that were in use at once so far: of the process, or of the GPU's memory; NaN without /proc."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # getrusage would begin with the peak of the process that started this one
    if not status.exists():
        return math.nan
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))[1])


# --- all runs --------------------------------------------------------------------------------------------------------


def compare(
    path: Path | str,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    seeds: int = 5,
    tuned: dict | None = None,
    progress: bool = True,
    **budget: object,
) -> dict:
    """Make all runs that the file does not hold yet, and write it anew after each: a stopped comparison goes on.

    Args:
        path: a JSON file; it is made if there is none.
        families: names of FAMILIES, in capitals or not.
        seeds: number of runs of each family and reference row.
        tuned: results of another comparison, whose trials decide the settings; by default trials are made.
        progress: whether to show a bar.
        budget: seconds, parameters, samples, size, device, as for `measure`.

    Returns:
        The results: "about", budget, machine and versions; and "runs", a record each.

    Raises:
        ValueError: if there is no such family or folder, the budget is out of range, the file is damaged or holds runs
            with another budget, or `tuned` has no trials.
    """
    path, budget = Path(path), BUDGET | budget
    known = {name.lower(): name for name in FAMILIES}
    families = [known.get(name.lower(), name) for name in families]
    unknown = sorted(map(repr, set(families) - set(FAMILIES)))
    if unknown:
        raise ValueError(f"families must be of {', '.join(map(repr, FAMILIES))}; there is no {', '.join(unknown)}")
    check_number("seconds", budget["seconds"])
    for name, least in (("parameters", 1), ("samples", 4)):
        check_int(name, budget[name], least)
    find_device(budget["device"])
    _data(budget["size"])
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder: make it, or name another")
    if path.exists():
        results = read(path)
        other = {key: results["about"].get(key) for key in budget if results["about"].get(key) != budget[key]}
        if other:
            raise ValueError(f"{path} holds runs with {other}: name another file, or the same budget")
    else:
        results = {"about": budget | _machine(budget["device"]), "runs": []}
    trials = [(name, COMMON, knobs) for name in families for knobs in _grid(name)] if tuned is None else []
    with tqdm(total=seeds * (len(REFERENCES) + len(families)) + len(trials), disable=not progress) as bar:

        def run(name: str, seed: int, knobs: dict | None = None, **other: object) -> None:
            key = {"name": name, "seed": seed, "knobs": knobs}
            bar.set_description(name)
            if not any(key.items() <= record.items() for record in results["runs"]):
                record = _alone(name, seed, knobs=knobs, **(budget | other))
                results["runs"].append(key | {key: _short(value) for key, value in record.items()})
                _write(path, results)
            bar.update()

        for trial in trials:
            run(*trial, samples=min(PAIRED, budget["samples"]))
        settings = {name: chosen(tuned or results, name) for name in families} | dict.fromkeys(REFERENCES)
        for seed, (name, knobs) in itertools.product(range(seeds), settings.items()):
            run(name, seed, knobs)
    return results


def chosen(results: dict, name: str) -> dict:
    """The settings of a family's best trial.

    Raises:
        ValueError: if there was none.
    """
    trials = [record for record in results["runs"] if record["name"] == name and record["seed"] == COMMON]
    if not trials:
        raise ValueError(f"the results hold no trials of {name}: leave `tuned` out, or name other results")
    return min(trials, key=lambda record: record["criterion"])["knobs"]


def stored(name: str = "comparison") -> dict:
    """The results that come with the package: "comparison", and "comparison-large" with more time and parameters."""
    return read(Path(__file__).with_name(f"{name}.json"))


def read(path: Path) -> dict:
    """The results of a file that `compare` has written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(results["about"], dict) and all(
            {"name", "seed", "knobs"} <= record.keys() for record in results["runs"]
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged or holds no results of compare: name another file")
    return results


def _grid(name: str) -> Iterator[dict]:
    """The settings of a family's trials."""
    knobs = FAMILIES[name].knobs
    return (dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values()))


def _alone(name: str, seed: int, **arguments: object) -> dict:
    """`measure` in a process of its own, with one thread, so that its peak of memory is its own."""
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, start, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.submit(measure, name, seed, **arguments).result()


def _short(value: object) -> object:
    """Five digits of a number, None for NaN, which JSON does not know."""
    return value if not isinstance(value, float) else None if math.isnan(value) else float(f"{value:.5g}")


def _write(path: Path, results: dict) -> None:
    """Put the results into a file that at any moment is the old one or the new one."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in results["runs"])
    text = f'{{"about": {json.dumps(results["about"])},\n"runs": [\n{lines}\n]}}\n'
    with replacing(path) as file:
        file.write(text.encode())


def _machine(device: str) -> dict[str, str]:
    kind = torch.cuda.get_device_name(device) if str(device).startswith("cuda") else _processor()
    return {
        "machine": kind,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    """The name of the CPU, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


# --- tables ----------------------------------------------------------------------------------------------------------

#: Head of each column, and the value of a perfect model, if there is one.
COLUMNS = {
    "legible_1": ("legible, r\N{NO-BREAK SPACE}≤\N{NO-BREAK SPACE}1", 1.0),
    "legible_2": ("legible, r\N{NO-BREAK SPACE}≤\N{NO-BREAK SPACE}2", 1.0),
    "held_out": ("held out", 0.1),
    "repeats": ("N Σ p²", 1.0),
    "letters": ("KL letters", 0.0),
    "precision": ("precision", 1.0),
    "recall": ("recall", 1.0),
    "frechet": ("Fréchet, letters", 0.0),
    "frechet_pixels": ("Fréchet, pixels", 0.0),
    "mmd": ("MMD²", 0.0),
    "accuracy": ("classifier", 0.5),
    "nats": ("nats / d", None),
    "seconds": ("s to train", None),
    "seconds_to_draw": ("s for 1000", None),
    "steps": ("steps", None),
    "parameters": ("parameters", None),
    "memory": ("peak MiB", None),
}
#: Measures of what is legible, which say nothing where little is.
_OF_LEGIBLE = ("held_out", "repeats", "letters")


class Table(str):
    """A Markdown table, aligned so that it can be read as it is."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def rows(results: dict) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard error over the seeds, (6.8), of each measure of each row; the error of one run is NaN.

    Trials are left out; so are held-out share, repeats and letters where fewer than 50 samples a run are legible.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in (*REFERENCES, *FAMILIES):
        runs = [record for record in results["runs"] if record["name"] == name and record["seed"] != COMMON]
        few = sum(record["legible_2"] for record in runs) * results["about"]["samples"] < 50 * len(runs)
        for column in COLUMNS:
            values = [record[column] for record in runs if record.get(column) is not None]
            if values and not (few and column in _OF_LEGIBLE):
                one = values[0], math.nan
                found.setdefault(name, {})[column] = one if len(values) == 1 else metrics.mean_and_error(values)
    return found


def cheats(results: dict) -> dict[str, list[str]]:
    """For each measure, the reference rows that are no model of the data and yet score like fresh data.

    They come as near to the perfect value as the truth does, or fail to by less than two standard errors.
    """
    found, cheating = rows(results), {}
    for column, (_, perfect) in COLUMNS.items():
        for name in ("blurred", "memoriser", "shuffled", "noise"):
            if perfect is not None and column in found[name]:
                (value, error), (truth, spread) = found[name][column], found["truth"][column]
                slack = 2 * math.hypot(error, spread)
                if abs(value - perfect) <= abs(truth - perfect) + (0 if math.isnan(slack) else slack):
                    cheating.setdefault(column, []).append(name)
    return cheating


def table(results: dict, columns: Sequence[str] = tuple(COLUMNS)) -> Table:
    """Mean ± standard error of each row that has any; reference rows in parentheses, † where one cheats the measure.

    Args:
        results: what `compare` or `stored` gives.
        columns: of COLUMNS.
    """
    cheating = cheats(results)
    lines = [["", *(COLUMNS[column][0] for column in columns)]]
    for name, row in rows(results).items():
        if row.keys().isdisjoint(columns):
            continue
        cells = [_cell(*row[column]) if column in row else "–" for column in columns]
        marks = ["†" if name in cheating.get(column, []) else "" for column in columns]
        head = f"({name})" if name in REFERENCES else name
        lines.append([head, *(cell + mark for cell, mark in zip(cells, marks, strict=True))])
    return _markdown(lines)


def trials(results: dict) -> Table:
    """The trials of each family, with what they were judged by: the smallest is taken, *."""
    lines = [["", "settings", "criterion"]]
    for record in results["runs"]:
        if record["seed"] == COMMON:
            best = "*" if record["knobs"] == chosen(results, record["name"]) else ""
            knobs = ", ".join(f"{knob} {value}" for knob, value in record["knobs"].items())
            lines.append([record["name"], knobs, f"{record['criterion']:.4g}{best}"])
    return _markdown(lines)


def graded(
    values: dict[str, Sequence[float]],
    columns: Sequence[str],
    best: Sequence[float],
    worst: Sequence[float],
    like: Sequence[float],
) -> Table:
    """Single values of each row, NaN as –; bold what comes as near to the best value as `like`, or almost.

    Args:
        values: {name: a value for each column}.
        columns: names of the measures.
        best, worst: of each measure. Almost is a twentieth of the way from one to the other.
        like: the values of the row that all are held against, such as that of the truth.
    """
    lines = [["", *columns]]
    for name, row in values.items():
        cells = ["–" if math.isnan(value) else f"{value:.2f}" for value in row]
        reached = [
            abs(value - ideal) <= abs(other - ideal) + abs(far - ideal) / 20
            for value, ideal, far, other in zip(row, best, worst, like, strict=True)
        ]
        lines.append([name, *(f"**{cell}**" if good else cell for cell, good in zip(cells, reached, strict=True))])
    return _markdown(lines)


def _cell(value: float, error: float) -> str:
    if math.isnan(error):
        return _signed(f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}")
    places = max(0, min(4, 1 - math.floor(math.log10(error)))) if error > 0 else 0 if abs(value) >= 100 else 2
    return _signed(f"{value:,.{places}f} ±\N{NO-BREAK SPACE}{error:.{places}f}")


def _signed(number: str) -> str:
    """With a true minus sign."""
    return number.replace("-", "\N{MINUS SIGN}")


def _markdown(lines: list[list[str]]) -> Table:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])], *lines[1:]]
    adjust = [str.ljust] + [str.rjust] * (len(widths) - 1)
    return Table(
        "\n".join(
            "| " + " | ".join(put(cell, width) for put, cell, width in zip(adjust, line, widths, strict=True)) + " |"
            for line in lines
        )
    )
