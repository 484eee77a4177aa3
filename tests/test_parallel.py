"""Several processes against one: the same losses and weights, one writer, and an end when one of them dies.

All processes are forked from a server that has imported everything: importing torch takes longer than all trainings
here. Torchrun's agent starts those that signals meet; the others get its variables.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from companion import checkpoint, parallel
from companion.autoencoder import deep_autoencoder
from companion.data import checkerboard
from companion.diffusion import Diffusion
from companion.gan import GAN
from companion.likelihoods import bernoulli
from companion.nets import ResidualMLP, mlp
from companion.parallel import Group, draw_rows, join, sharing
from companion.ppca import PPCA
from companion.training import fit
from companion.vae import VAE

STEPS = 50


def plane() -> torch.Tensor:
    return checkerboard(100, generator=torch.Generator().manual_seed(3)).double()


def pixels() -> torch.Tensor:
    return torch.rand(100, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def letters() -> torch.Tensor:
    return torch.randint(3, (100, 2), generator=torch.Generator().manual_seed(5))


def gan(**options: object) -> GAN:
    return GAN(mlp(4, 16, 2), mlp(2, 16, 1), 4, **options)


def vae() -> VAE:
    return VAE(mlp(16, 16, 8), mlp(4, 16, 16), bernoulli)


class Normalised(nn.Module):
    """Batch norm, and noise from the global generator, which it writes down."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.drawn: list[torch.Tensor] = []

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        self.drawn.append(torch.rand(2))
        return self.net(x).square().mean()


#: The families: a model, its data, and options of fit.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[torch.Tensor]], dict]] = {
    "autoencoder": (lambda: deep_autoencoder(16, 8, 4), lambda: [pixels()], {}),
    "vae": (vae, lambda: [pixels()], {"ema": 0.9}),
    "relativistic": (gan, lambda: [plane()], {"ema": 0.9}),
    "wasserstein": (lambda: gan(loss="wasserstein", turns=2), lambda: [plane()], {"clip_norm": 1.0}),
    "diffusion": (lambda: Diffusion(ResidualMLP(2, 16, 1), 2), lambda: [plane()], {"schedule": "cosine"}),
    "labels": (
        lambda: Diffusion(ResidualMLP(16, 8, 1, (3, 3)), 16, predict="noise", weighting="elbo"),
        lambda: [pixels(), letters()],
        {},
    ),
}


def train(model: nn.Module, *data: torch.Tensor, **options: object) -> dict[str, torch.Tensor]:
    """The losses and the weights of a training."""
    defaults = {"steps": STEPS, "batch_size": 12, "lr": 1e-2, "device": "cpu", "progress": False}
    history = fit(model, *data, **{**defaults, "precision": "float32", **options})
    losses = {f"loss.{name}": loss for name, loss in history.losses.items()}
    return losses | {name: x.clone() for name, x in model.state_dict().items()}


def train_family(name: str, rank: int = 0, **options: object) -> dict[str, torch.Tensor]:
    """The weights of process 0 count: the others start from their own, which are to be replaced."""
    make, data, more = FAMILIES[name]
    torch.manual_seed(rank)
    return train(make().double(), *data(), **more, **options)


def fit_ppca(rank: int = 0, size: int = 1) -> dict[str, torch.Tensor]:
    """Each process has its own rows, unequally many and in batches of its own size, far from the origin."""
    x = pixels() + 1e3
    mine = x.tensor_split([10, 45, 60][: size - 1])
    return dict(PPCA.fit_stream(mine[rank].split(7 + rank), 3).state_dict())


# --- what the processes do -------------------------------------------------------------------------------------------


def compare(rank: int, size: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    results = {name: train_family(name, rank) for name in FAMILIES} | {"ppca": fit_ppca(rank, size)}
    torch.manual_seed(rank)
    model = Normalised().double()
    results["normalised"] = train(model, plane(), steps=5)
    results["drawn"] = {str(i): x for i, x in enumerate(model.drawn)}
    results["resumed"] = train_family("relativistic", rank, checkpoint=folder / "from_one")
    train_family("relativistic", rank, checkpoint=folder / "from_many", steps=20)
    refusals = []
    for options in ({"batch_size": 13}, {"lr": 0.1 + rank}, {"checkpoint": folder / str(rank)}):
        with pytest.raises(ValueError, match=r".") as refusal:
            train_family("vae", rank, **options)
        refusals.append(str(refusal.value))
    torch.save((results, refusals), folder / f"{rank}.pt")


def train_long(folder: Path) -> None:
    """A training that only a signal or a death ends, with one line on what has happened."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not the agent's, from which this was forked
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    (folder / f"pid{join().rank}").write_text(str(os.getpid()), encoding="utf-8")
    torch.manual_seed(0)
    make, data, options = FAMILIES["relativistic"]
    common = {"device": "cpu", "precision": "float32", "batch_size": 12, "lr": 1e-2, **options}
    try:
        history = fit(make().double(), *data(), steps=10**6, checkpoint=folder / "run", checkpoint_every=20, **common)
    except ConnectionError as error:
        sys.exit(f"line: {error}")
    # in one write: two processes share the stream
    print(f"line: interrupted {history.interrupted} at {len(history.losses['generator'])}\n", end="", flush=True)
    sys.exit()  # what returns waits for an agent that has ended


def as_torchrun(size: int, folder: Path, target: Callable[..., None], *arguments: object) -> None:
    """`torchrun --standalone --nproc-per-node=size`, as from a terminal of its own, whose lines the folder gets."""
    os.setsid()
    with (folder / "output").open("w") as output, (folder / "errors").open("w") as errors:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, target)(*arguments)


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that is forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", __name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, torch.Tensor]]:
    return {name: train_family(name) for name in FAMILIES} | {"ppca": fit_ppca()}


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict], list]:
    """The folder, and of each process its results and its refusals."""
    folder, size = tmp_path_factory.mktemp("job"), request.param
    train_family("relativistic", checkpoint=folder / "from_one", steps=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(compare, rank, size, port, folder) for rank in range(size)]
    for process in processes:
        process.join(timeout=500)
    assert [process.exitcode for process in processes] == [0] * size
    saved = [torch.load(folder / f"{rank}.pt") for rank in range(size)]
    return folder, [results for results, _ in saved], [refusals for _, refusals in saved]


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=1e-5, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "ppca"])
def test_the_number_of_processes_makes_no_difference(name: str, alone: dict, together: tuple) -> None:
    _, results, _ = together
    for result in results:
        assert_close(result[name], alone[name])


@pytest.mark.slow
def test_all_processes_have_the_same_model_but_noise_of_their_own(together: tuple) -> None:
    _, results, _ = together
    for result in results[1:]:
        assert_close(result["normalised"], results[0]["normalised"], atol=0)  # weights and running statistics
    drawn = torch.stack([x for result in results for x in result["drawn"].values()])
    assert len(drawn.unique(dim=0)) == len(drawn) == 5 * len(results)


@pytest.mark.slow
def test_the_number_of_processes_may_change_at_a_checkpoint(alone: dict, together: tuple) -> None:
    folder, results, _ = together
    assert_close(results[0]["resumed"], alone["relativistic"])
    assert_close(train_family("relativistic", checkpoint=folder / "from_many"), alone["relativistic"])


@pytest.mark.slow
def test_processes_that_do_not_fit_together_are_refused_alike(together: tuple) -> None:
    folder, results, refusals = together
    size = len(results)
    assert refusals == [refusals[0]] * size
    batch, rate, file = refusals[0]
    multiple = 13 - 13 % size
    assert batch.startswith(f"{size} processes cannot share batches of 13 rows")
    assert batch.endswith(f"such as {multiple}")
    assert rate == "lr is 0.1 in process 0, 1.1 in process 1: give all the same"
    assert file.startswith("checkpoint is ")
    assert not (folder / "0").exists()


def steps_done(path: Path) -> int:
    return checkpoint.read(path)[1]["done"] if path.exists() else 0


@pytest.fixture
def job(tmp_path: Path) -> Iterator[BaseProcess]:
    """Two processes of `train_long` that have written a checkpoint."""
    job, end = start(as_torchrun, 2, tmp_path, train_long, tmp_path), time.monotonic() + 200
    try:
        while not steps_done(tmp_path / "run"):
            assert job.exitcode is None, (tmp_path / "errors").read_text(encoding="utf-8")
            assert time.monotonic() < end
            time.sleep(0.1)
        yield job
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("line: ")]


@pytest.mark.slow
def test_a_killed_process_ends_the_job_with_one_line_and_a_checkpoint(job: BaseProcess, tmp_path: Path) -> None:
    os.kill(int((tmp_path / "pid1").read_text(encoding="utf-8")), signal.SIGKILL)
    job.join(timeout=60)
    assert job.exitcode
    assert lines(tmp_path / "errors") == [
        "line: another process of this job has ended: start the job again, and it goes on from its last checkpoint"
    ]
    done = steps_done(tmp_path / "run")
    resumed = train_family("relativistic", checkpoint=tmp_path / "run", steps=done + 2)
    assert_close(resumed, train_family("relativistic", steps=done + 2))


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_at_the_same_step_with_a_checkpoint(job: BaseProcess, tmp_path: Path) -> None:
    """Torchrun passes on the signal that the terminal has sent to its processes already: they get it twice."""
    os.killpg(job.pid, signal.SIGINT)
    job.join(timeout=60)
    assert job.exitcode is not None
    done = steps_done(tmp_path / "run")
    assert lines(tmp_path / "output") == [f"line: interrupted True at {done}"] * 2


def test_without_torchrun_there_is_one_process() -> None:
    assert join() == Group(0, 1)
    assert draw_rows(lambda n, generator: torch.arange(n), 3, torch.device("cpu")).tolist() == [0, 1, 2]


def test_each_process_takes_its_rows_of_the_same_noise() -> None:
    def draw(n: int, generator: torch.Generator | None) -> torch.Tensor:
        return torch.rand(n, 2, generator=generator)

    def of(rank: int) -> torch.Tensor:
        with sharing(Group(rank, 3), [torch.Generator().manual_seed(5)]):
            return draw_rows(draw, 4, torch.device("cpu"))

    whole = draw(12, torch.Generator().manual_seed(5))
    assert torch.equal(torch.cat([of(0), of(1), of(2)]), whole)
    given = torch.Generator().manual_seed(6)
    with sharing(Group(1, 3), [torch.Generator()]):  # a generator that the caller gives is his own
        assert torch.equal(draw_rows(draw, 4, torch.device("cpu"), given), draw(4, torch.Generator().manual_seed(6)))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"3 processes, but 1 GPU here: start torchrun with --nproc-per-node 1"):
        join()
