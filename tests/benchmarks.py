"""Time the package against its peers: `make bench`, or `python tests/benchmarks.py [--threads N] [SECTION ...]`.

Every section has a process of its own and measures all its contestants there, in interleaved rounds, after one round
to warm up, with the same number of threads. It prints minimum, median and maximum, and asserts nothing. What it printed
takes the place of this machine's last run of the section in `book/benchmarks.json`, which the book shows.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.decomposition import PCA, IncrementalPCA
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from companion import data
from companion.checkpoint import replacing
from companion.devices import find_device, find_precision
from companion.diffusion import DDIM, DDPM, Diffusion, Heun
from companion.gan import GAN
from companion.likelihoods import bernoulli, categorical
from companion.metrics import ModeScore, frechet_distance, hangul_score, mmd, mode_score, nearest_syllable
from companion.nets import FourierFeatures, ResidualMLP, mlp
from companion.ppca import PPCA
from companion.training import fit
from companion.vae import VAE

STORED = Path(__file__).resolve().parent.parent / "book" / "benchmarks.json"
SECTIONS: dict[str, Callable[[], None]] = {}
TABLES: list[list[list[str]]] = []


def section(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a benchmark under the name that selects it."""
    return lambda function: SECTIONS.setdefault(name, function)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, and keep it for the book."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        print(name.ljust(widths[0]), *map(str.rjust, cells, widths[1:]), sep="  ")
    TABLES.append(lines)


def spread(values: Sequence[float], digits: int) -> list[str]:
    """Minimum, median and maximum."""
    return [f"{of(values):.{digits}f}" for of in (min, statistics.median, max)]


def machine() -> str:
    """The model of the CPU, and of the GPU if there is one."""
    if sys.platform == "darwin":
        cpu = subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], encoding="utf-8").strip()
    else:
        info = Path("/proc/cpuinfo")
        named = re.search(r"(?m)^model name\s*: (.+)$", info.read_text(encoding="utf-8") if info.exists() else "")
        cpu = named[1] if named else platform.processor() or platform.machine()
    return f"{cpu}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu


def store(section: str, threads: int, path: Path = STORED) -> None:
    """Put the section's tables in the place of those that this machine stored before."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    about = {"date": date.today().isoformat(), "torch": torch.__version__, "threads": threads, "tables": TABLES}
    stored.setdefault(machine(), {})[section] = about
    with replacing(path) as file:
        file.write((json.dumps(stored, ensure_ascii=False, indent=1) + "\n").encode())


def race(
    contestants: dict[str, Callable[[], object]], rounds: int, *, items: int = 0, unit: str = "seconds"
) -> dict[str, object]:
    """Run all contestants in interleaved rounds, print their times, and return their last results.

    With `items`, what a run works off, it prints the rate, in the unit, instead.
    """
    results = {name: run() for name, run in contestants.items()}
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            results[name] = run()
            seconds = time.perf_counter() - start
            measured[name].append(items / seconds if items else seconds)
    first, digits = statistics.median(next(iter(measured.values()))), 0 if items else 3
    table(
        [unit, "min", "median", "max", "of first"],
        (
            [name, *spread(values, digits), f"{statistics.median(values) / first:.2f}"]
            for name, values in measured.items()
        ),
    )
    return results


@section("ppca-fit")
def ppca_fit() -> None:
    """60000 × 784, q = 20, float32: PPCA.fit against scikit-learn's PCA."""
    try:
        x, what = data.fashion_mnist("train")[0], "Fashion-MNIST"
    except OSError:
        generator = torch.Generator().manual_seed(0)
        scales = torch.arange(1, 785.0) ** -0.8
        mixing = torch.linalg.qr(torch.randn(784, 784, generator=generator)).Q
        x = 0.5 + torch.randn(60_000, 784, generator=generator) * scales @ mixing
        what = "Gaussian, k-th deviation ∝ k^-0.8"
    array, q = x.numpy(), 20
    results = race(
        {
            "PCA covariance_eigh": lambda: PCA(q, svd_solver="covariance_eigh").fit(array),
            "PCA randomized": lambda: PCA(q, svd_solver="randomized", random_state=0).fit(array),
            "PPCA.fit": lambda: PPCA.fit(x, q),
        },
        rounds=7,
    )
    model = results["PPCA.fit"]
    score = PCA(q, svd_solver="covariance_eigh").fit(array.astype(np.float64)).score(array.astype(np.float64))
    ours = model.log_prob(x).double().mean().item()
    double = PPCA.fit(x.double(), q).log_prob(x.double()).mean().item()
    table(
        [what, "mean log p", "relative difference"],
        [
            ["PCA.score in float64", f"{score:.9f}", ""],
            ["PPCA.log_prob, all in float64", f"{double:.9f}", f"{abs(double / score - 1):.1e}"],
            ["PPCA.log_prob, all in float32", f"{ours:.9f}", f"{abs(ours / score - 1):.1e}"],
        ],
    )


@section("ppca-stream")
def ppca_stream() -> None:
    """10⁷ rows of 64 columns, never all in memory: PPCA.fit_stream; a tenth of them against IncrementalPCA."""
    d, q, size, sigma2 = 64, 8, 100_000, 0.25
    W = 2 * torch.randn(d, q, generator=torch.Generator().manual_seed(0))
    truth = PPCA(W, torch.linspace(-100, 100, d), sigma2)
    generating, peaks = [0.0], []

    def batches(count: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(count):
            start = time.perf_counter()
            batch = truth.sample(size, generator=generator)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            generating[0] += time.perf_counter() - start
            yield batch

    start = time.perf_counter()
    model = PPCA.fit_stream(batches(100), q)
    total = time.perf_counter() - start
    unit = 2**20 if sys.platform == "darwin" else 2**10
    table(
        ["PPCA.fit_stream, 10⁷ rows", "value"],
        [
            ["seconds, without those that make the data", f"{total - generating[0]:.1f}"],
            ["peak memory after 5 of 100 batches, MiB", f"{peaks[4] / unit:.0f}"],
            ["peak memory after all batches, MiB", f"{peaks[-1] / unit:.0f}"],
            ["relative error of sigma2", f"{abs(model.sigma2.item() / sigma2 - 1):.1e}"],
            ["largest error of C", f"{(model.C - truth.C).abs().max():.4f}"],
        ],
    )

    part = list(batches(10))

    def incremental() -> IncrementalPCA:
        pca = IncrementalPCA(q)
        for batch in part:
            pca.partial_fit(batch.numpy())
        return pca

    race(
        {"IncrementalPCA, 10⁶ rows": incremental, "PPCA.fit_stream, 10⁶ rows": lambda: PPCA.fit_stream(part, q)},
        rounds=5,
    )


@section("ppca-missing")
def ppca_missing() -> None:
    """Digits with 20 % of the entries missing at random, q = 10: PPCA.fit against ppca-rs."""
    try:
        from ppca_rs import Dataset, PPCAModel, PPCATrainer
    except ImportError:
        print("ppca-rs is not installed: pip install 'companion[bench]'")
        return
    complete, q = data.digits()[0].double(), 10
    hidden = torch.rand(complete.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    x = complete.masked_fill(hidden, float("nan"))
    dataset = Dataset(x.numpy())

    def peer(steps: int) -> PPCAModel:
        return PPCATrainer(dataset).train(state_size=q, n_iters=steps, quiet=True)

    def steps_to_converge(tol: float) -> int:
        model, last, steps = PPCAModel.init(q, dataset), -float("inf"), 0
        while (now := model.llk(dataset) / len(x)) - last >= tol:
            model, last, steps = model.iterate(dataset), now, steps + 1
        return steps

    def report(results: dict[str, object]) -> None:
        rows = []
        for name, model in results.items():
            if not isinstance(model, PPCA):
                model = PPCA(*(torch.as_tensor(v) for v in (model.transform, model.mean, model.isotropic_noise**2)))
            error = (model.impute(x) - complete)[hidden].square().mean().sqrt()
            rows.append([name, f"{model.log_prob(x).mean():.6f}", f"{error:.6f}"])
        table(["", "mean log p(observed)", "RMSE of missing"], rows)

    for steps in (10, 50):
        report(
            race(
                {
                    f"ppca-rs, {steps} steps": lambda steps=steps: peer(steps),
                    f"PPCA.fit, {steps} steps": lambda steps=steps: PPCA.fit(x, q, max_iter=steps, tol=-1),
                },
                rounds=5,
            )
        )
    tol = 1e-6
    steps = steps_to_converge(tol)
    ours = len(PPCA.fit(x, q, tol=tol).history) - 1
    report(
        race(
            {
                f"ppca-rs, {steps} steps, to a gain < {tol:.0e}": lambda: peer(steps),
                f"PPCA.fit, {ours} steps, to a gain < {tol:.0e}": lambda: PPCA.fit(x, q, tol=tol),
            },
            rounds=5,
        )
    )


def mode_gan(loss: str, penalty: float) -> GAN:
    """The networks of `gan-modes`: G with steep walls, D with an eye for detail."""
    generator = mlp(2, 128, 128, 128, 2, activation=nn.ReLU)
    discriminator = nn.Sequential(FourierFeatures(2, 64, 3.0), mlp(130, 128, 128, 1, activation=nn.ReLU))
    return GAN(generator, discriminator, 2, loss, penalty=penalty if loss == "relativistic" else None)


def mode_run(name: str, loss: str, seed: int, steps: int) -> tuple[ModeScore, float]:
    """Score of 2500 samples after training on the ring of 8 or the 5 × 5 grid (scaled to ±1), and the seconds."""
    generator = torch.Generator().manual_seed(seed)
    x, modes, std, scale, penalty = {
        "ring": (data.ring(100_000, generator=generator), data.ring_modes(), 0.01, 1.0, 0.03),
        "grid": (data.grid(100_000, generator=generator), data.grid_modes(), 0.05, 4.0, 0.004),
    }[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = mode_gan(loss, penalty)
    history = fit(
        model,
        x / scale,
        steps=steps,
        batch_size=256,
        lr=3e-3,
        betas=(0.0, 0.9),
        schedule="cosine",
        ema=1 - 9 / steps,
        precision="float32",
        seed=seed,
        progress=False,
    )
    return mode_score(scale * model.sample(2500, generator=generator), modes, std), history.seconds


@section("gan-modes")
def gan_modes() -> None:
    """Ring of 8 and 5 × 5 grid by PacGAN's protocol, 10 seeds: the recommended loss and the original ones.

    All three get the same steps, 9000 on the ring and 13,500 on the grid.
    """
    for name, steps in (("ring", 9000), ("grid", 13_500)):
        rows = []
        for loss in ("relativistic", "non-saturating", "minimax"):
            scores, seconds = zip(*(mode_run(name, loss, seed, steps) for seed in range(10)), strict=True)
            columns = (
                ([score.captured for score in scores], 0),
                ([score.high_quality for score in scores], 3),
                ([score.reverse_kl for score in scores], 4),
                (seconds, 1),
            )
            rows.append([loss, *(" / ".join(spread(values, digits)) for values, digits in columns)])
        perfect = {"ring": ["8", "0.989", "0.0014"], "grid": ["25", "0.989", "0.0048"]}[name]
        rows.append(["a perfect sampler", *perfect, ""])
        table([name, "captured", "high quality", "reverse KL", "seconds"], rows)


class Rows(Dataset):
    """One row at a time, as tutorials write it."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.x[index]


class Images(Rows):
    """One image at a time, with the steps of torchvision's MNIST and ToTensor: array, Pillow, array, tensor, divide."""

    def __getitem__(self, index: int) -> Tensor:
        image = Image.fromarray(self.x[index])
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(28, 28, 1)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def minus_elbo(vae: VAE, x: Tensor) -> float:
    """Mean of −ELBO over the rows, in nats, over 20 draws of z a row."""
    with torch.no_grad():
        return -statistics.fmean(vae.elbo(x).mean().item() for _ in range(20))


@section("vae-digits")
def vae_digits() -> None:
    """Digits with 17 grey levels, rows, network and loop of the notebook `vaes` of jmtomczak/intro_dgm, 5 seeds.

    The loop: DataLoader, batches of 64, Adamax at 1e-3, grey levels 0 to 16 as input, the validation rows after every
    epoch, the best weights kept in memory, the end when 20 epochs brought nothing better. Its pictures are left out.
    Ours: the same network and rows. Batch size, learning rate, weight decay, averaged weights, the scale of the input
    (0 to 8) and the number of epochs are its own, chosen by the validation rows.
    """
    x = data.digits()[0]
    train, validation, test = x[:1000], x[1000:1350], x[1350:]
    d, q, hidden, levels, epochs = 64, 16, 256, 17, 34

    def networks(seed: int) -> nn.ModuleList:
        torch.manual_seed(seed)
        sizes = ((d, hidden, hidden, 2 * q), (q, hidden, hidden, d * levels))
        return nn.ModuleList(mlp(*size, activation=nn.LeakyReLU) for size in sizes)

    def peer_loss(networks: nn.ModuleList, x: Tensor) -> Tensor:
        mean, log_variance = networks[0](x).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        p = networks[1](z).view(-1, d, levels).softmax(2)
        one_hot = F.one_hot(x.long(), levels)
        log_likelihood = (one_hot * p.clamp(1e-5, 1 - 1e-5).log()).sum((1, 2))
        log_ratio = -0.5 * (z.square() - log_variance - (z - mean).square() * (-log_variance).exp()).sum(1)
        return -(log_likelihood + log_ratio)

    def peer(seed: int, most: int, patience: int) -> tuple[float, float, int]:
        nets = networks(seed)
        loaders = [DataLoader(Rows((16 * rows).numpy()), 64, shuffle=rows is train) for rows in (train, validation)]
        optimizer = torch.optim.Adamax(nets.parameters(), lr=1e-3)
        best, waited, epoch, start = float("inf"), 0, 0, time.perf_counter()
        while epoch < most and waited <= patience:
            for batch in loaders[0]:
                loss = peer_loss(nets, batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                now = sum(peer_loss(nets, batch).sum().item() for batch in loaders[1])
            waited += 1
            if now < best:
                best, waited, kept = now, 0, copy.deepcopy(nets.state_dict())
            epoch += 1
        seconds = time.perf_counter() - start
        nets.load_state_dict(kept)
        with torch.no_grad():
            nets[0][0].weight *= 16  # for inputs from 0 to 1
        return seconds, minus_elbo(VAE(*nets, categorical(levels)), test), epoch

    def ours(seed: int) -> tuple[float, float, int]:
        nets, size = networks(seed), 50
        with torch.no_grad():
            nets[0][0].weight *= 8
        vae = VAE(*nets, categorical(levels))
        start = time.perf_counter()
        steps = epochs * (len(train) // size)
        settings = {"lr": 2e-3, "weight_decay": 0.5, "ema": 0.992, "precision": "float32"}
        fit(vae, train, steps=steps, batch_size=size, seed=seed, progress=False, **settings)
        return time.perf_counter() - start, minus_elbo(vae, test), epochs

    contestants = {
        "DataLoader loop, patience 20": lambda seed: peer(seed, 1000, 20),
        "DataLoader loop, epochs as ours": lambda seed: peer(seed, epochs, epochs),
        "fit": ours,
    }
    for run in (lambda: peer(0, 2, 2), lambda: ours(0)):
        run()
    results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contestants}
    for seed in range(5):
        for name, run in contestants.items():
            results[name].append(run(seed))
    first, rows = statistics.median(result[0] for result in results["DataLoader loop, patience 20"]), []
    for name, runs in results.items():
        seconds, bounds, counts = zip(*runs, strict=True)
        ratio = f"{statistics.median(seconds) / first:.2f}"
        bound = [f"{statistics.fmean(bounds):.2f}", f"({min(bounds):.2f}, {max(bounds):.2f})"]
        rows.append([name, *spread(seconds, 2), ratio, f"{statistics.fmean(counts):.1f}", *bound])
    table(["seconds", "min", "median", "max", "of first", "epochs", "test −ELBO", "(min, max)"], rows)


@section("vae-throughput")
def vae_throughput() -> None:
    """A VAE 784-400-20 on Fashion-MNIST: fit against a DataLoader with a transform for each image, in images/s.

    The loop is that of the VAE in pytorch/examples: ReLU, binary cross entropy, Adam at 1e-3, `loss.item()` each step.
    """
    x = data.fashion_mnist("train")[0][:25_600]
    images = (255 * x).round().to(torch.uint8).view(-1, 28, 28).numpy()

    def networks() -> tuple[nn.Sequential, nn.Sequential]:
        return mlp(784, 400, 40, activation=nn.ReLU), mlp(20, 400, 784, activation=nn.ReLU)

    def loop(size: int) -> None:
        nets = nn.ModuleList(networks())
        optimizer, total = torch.optim.Adam(nets.parameters(), lr=1e-3), 0.0
        for batch in DataLoader(Images(images), size, shuffle=True):
            x = batch.view(-1, 784)
            mean, log_variance = nets[0](x).chunk(2, 1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            bce = F.binary_cross_entropy(torch.sigmoid(nets[1](z)), x, reduction="sum")
            kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
            optimizer.zero_grad()
            (bce + kl).backward()
            optimizer.step()
            total += (bce + kl).item()

    def ours(size: int, precision: str) -> None:
        vae = VAE(*networks(), bernoulli)
        fit(vae, x, steps=len(x) // size, batch_size=size, precision=precision, progress=False)

    precisions = dict.fromkeys(("float32", find_precision("auto", find_device())))
    for size in (128, 512):
        contestants = {f"DataLoader loop, batch {size}, float32": functools.partial(loop, size)}
        contestants |= {
            f"fit, batch {size}, {precision}": functools.partial(ours, size, precision) for precision in precisions
        }
        race(contestants, rounds=7, items=len(x), unit="images/s")


@section("diffusion-points")
def diffusion_points() -> None:
    """Flow matching in the plane: fit against a DataLoader loop with batches of 32, same net, 50 epochs, 3 seeds.

    The loop is that of tutorials: AdamW at 1e-3, one time for each point, `loss.item()` each step. MMD: 5000 samples
    of each model, by the same sampler, against 5000 fresh points.
    """
    n, epochs = 8192, 50
    points = {"moons": data.moons, "checkerboard": data.checkerboard}

    def loop(x: Tensor, seed: int) -> Diffusion:
        torch.manual_seed(seed)
        model, total = Diffusion(ResidualMLP(2, 64, 3), 2, "straight"), 0.0
        loader = DataLoader(TensorDataset(x), 32, shuffle=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            for (batch,) in loader:
                eps, t = torch.randn_like(batch), torch.rand(len(batch))
                x_t = (1 - t[:, None]) * batch + t[:, None] * eps
                loss = F.mse_loss(model.denoiser(x_t, t), eps - batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
        return model

    def ours(x: Tensor, seed: int, size: int) -> Diffusion:
        torch.manual_seed(seed)
        model, steps = Diffusion(ResidualMLP(2, 64, 3), 2, "straight"), epochs * n // size
        options = {"lr": size / 64_000, "warmup": 50, "betas": (0.9, 0.99), "schedule": "cosine"}
        fit(model, x, steps=steps, batch_size=size, seed=seed, progress=False, **options)
        return model

    contestants = {
        "DataLoader loop, batch 32": loop,
        **{f"fit, batch {size}": functools.partial(ours, size=size) for size in (256, 512)},
    }
    for name, draw in points.items():
        generator = torch.Generator().manual_seed(0)
        x, fresh, other = (draw(m, generator=generator) for m in (n, 5000, 5000))
        distances: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        rates: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        for seed in range(3):
            for contestant, train in contestants.items():
                start = time.perf_counter()
                model = train(x, seed)
                rates[contestant].append(epochs * n / (time.perf_counter() - start))
                samples = model.sample(5000, Heun(20), generator=torch.Generator().manual_seed(seed))
                distances[contestant].append(mmd(samples, fresh))
        first, rows = statistics.median(next(iter(rates.values()))), []
        for contestant, values in rates.items():
            ratio, found = f"{statistics.median(values) / first:.2f}", distances[contestant]
            distance = [f"{statistics.fmean(found):.5f}", f"({min(found):.5f}, {max(found):.5f})"]
            rows.append([contestant, *spread(values, 0), ratio, *distance])
        rows.append(["other fresh points", "", "", "", "", f"{mmd(other, fresh):.5f}", ""])
        table([f"{name}, points/s", "min", "median", "max", "of first", "MMD²", "(min, max)"], rows)


@section("diffusion-hangul")
def diffusion_hangul() -> None:
    """Hangul 16 × 16: training, samplers with few evaluations against 1000 steps, and the time of 200 samples.

    Fréchet distance of 5000 samples, cut off at black and white, to the training syllables, pixels from 0 to 1.
    Legible: within 1, 2, 3 legible radii of a syllable; distinct and held out: among those within 3.
    """
    hangul, n = data.hangul(), 5000
    x, labels = 2 * hangul.x[hangul.train] - 1, hangul.labels[hangul.train]
    torch.manual_seed(0)
    model = Diffusion(ResidualMLP(256, 256, 3, labels=(19, 21, 28)), 256, "cosine", "data")
    options = {"lr": 3e-3, "betas": (0.9, 0.99), "schedule": "cosine"}
    history = fit(model, x, labels, steps=3000, batch_size=128, progress=False, **options)
    weights = sum(p.numel() for p in model.parameters())
    table(["training", "weights", "steps", "seconds"], [["fit", f"{weights}", "3000", f"{history.seconds:.1f}"]])

    def scored(name: str, count: int, samples: Tensor, asked: Tensor | None = None) -> list[str]:
        samples = ((samples + 1) / 2).clamp(0, 1)
        frechet = frechet_distance(samples, hangul.x[hangul.train])
        scores = [hangul_score(samples, hangul, factor=factor) for factor in (1, 2, 3)]
        legible = " / ".join(f"{score.legible:.3f}" for score in scores)
        row = [name, f"{count}", f"{frechet:.3f}", legible, f"{scores[2].distinct}", f"{scores[2].held_out:.3f}"]
        if asked is None:
            return [*row, "", ""]
        right = hangul.labels[nearest_syllable(samples, hangul.x)[0]] == asked
        return [*row, f"{right.double().mean():.3f}", f"{right.all(1).double().mean():.3f}"]

    samplers = {
        "DDPM(1000)": (DDPM(1000), 1000),
        "DDIM(1000)": (DDIM(1000), 1000),
        "DDPM(10)": (DDPM(10), 10),
        "DDIM(10)": (DDIM(10), 10),
        "Heun(5)": (Heun(5), 9),
        "Heun(20)": (Heun(20), 39),
    }
    rows = [
        scored(name, count, model.sample(n, sampler, generator=torch.Generator().manual_seed(1)))
        for name, (sampler, count) in samplers.items()
    ]
    asked = hangul.labels[torch.randint(len(hangul.x), (n,), generator=torch.Generator().manual_seed(2))]
    for w in (1, 2):
        samples = model.sample(n, Heun(5), asked, w, generator=torch.Generator().manual_seed(1))
        rows.append(scored(f"Heun(5), labels, ω = {w}", 9 * w, samples, asked))
    head = ("sampler", "evaluations", "Fréchet", "legible at 1, 2, 3", "distinct", "held out", "right letters", "all 3")
    table(head, rows)
    race(
        {
            name: functools.partial(model.sample, 200, sampler)
            for name, (sampler, count) in samplers.items()
            if count < 1000
        },
        9,
    )


@section("diffusion-digits")
def diffusion_digits() -> None:
    """−ELBO of digits with 17 grey levels, rows as in `vae-digits`, T = 100 and 1000, for both weightings, 3 seeds."""
    x = 2 * data.digits()[0] - 1
    train, test = x[:1000], x[1350:]
    rows = []
    for weighting in ("simple", "elbo"):
        runs = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = Diffusion(ResidualMLP(64, 128, 2), 64, weighting=weighting, levels=17)
            options = {"lr": 4e-3, "betas": (0.9, 0.99), "schedule": "cosine"}
            history = fit(model, train, steps=2000, batch_size=256, seed=seed, progress=False, **options)
            with torch.no_grad():
                bounds = [-model.elbo(*pair).mean().item() for pair in ((test, 100), (test, 1000), (train, 100))]
            runs.append((history.seconds, *bounds))
        seconds, *bounds = zip(*runs, strict=True)
        columns = (f"{statistics.fmean(b):.2f} ± {(max(b) - min(b)) / 2:.2f}" for b in bounds)
        rows.append([weighting, f"{statistics.median(seconds):.1f}", *columns])
    table(["loss", "seconds", "test, T = 100", "test, T = 1000", "training rows, T = 100"], rows)


@section("gpu")
def gpu() -> None:
    """Training steps a second on the best device there is, with what `fit` chooses by itself; 28 × 28 Hangul."""
    device, x = find_device(), data.hangul(28).x
    plane, measured = data.ring(100_000), []
    for name, make, rows, batch_size, steps in (
        ("VAE 784-400-20", lambda: VAE(mlp(784, 400, 40), mlp(20, 400, 784), bernoulli), x, 128, 1000),
        ("VAE 784-400-20", lambda: VAE(mlp(784, 400, 40), mlp(20, 400, 784), bernoulli), x, 2048, 500),
        ("GAN of the ring, relativistic", lambda: mode_gan("relativistic", 0.03), plane, 256, 500),
        ("Diffusion, ResidualMLP 512 × 4", lambda: Diffusion(ResidualMLP(784, 512, 4), 784), 2 * x - 1, 512, 300),
    ):
        for compiled in (False, True):
            model, options = make().to(device), {"batch_size": batch_size, "compiled": compiled, "progress": False}
            fit(model, rows, steps=20, **options)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            rate = steps / fit(model, rows, steps=steps, **options).seconds
            peak = f"{torch.cuda.max_memory_allocated() / 2**20:.0f}" if device.type == "cuda" else ""
            epoch = f"{60_000 / rate / batch_size:.2f}"
            named = name + ", compiled" * compiled
            measured.append([named, f"{batch_size}", f"{rate:.1f}", f"{rate * batch_size:.0f}", epoch, peak])
    table([f"model, on {device}", "batch", "steps/s", "rows/s", "s for 60,000 rows", "peak MiB"], measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all but gpu by default"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of every contestant")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    names, threads = arguments.sections or [name for name in SECTIONS if name != "gpu"], arguments.threads
    if len(names) > 1:
        for name in names:
            subprocess.run([sys.executable, __file__, name, "--threads", str(threads)], check=True)
        return
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    print(f"\n## {names[0]}: {SECTIONS[names[0]].__doc__}\n{threads} threads, torch {torch.__version__}")
    with threadpool_limits(threads):
        SECTIONS[names[0]]()
    if TABLES:
        store(names[0], threads)


if __name__ == "__main__":
    main()
