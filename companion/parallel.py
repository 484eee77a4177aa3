"""Several processes that train one model, as torchrun starts them: what they share, and what each takes."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator, Tensor


@dataclass(frozen=True)
class Group:
    """The processes of a job, started together, of which this is one.

    Attributes:
        rank: which one it is, counted from 0.
        size: how many there are; 1 without torchrun.
    """

    rank: int
    size: int

    def agree(self, **values: object) -> None:
        """Make sure that all processes have the same values, which pickle takes.

        Raises:
            ValueError: if a value differs.
        """
        gathered: list[dict] = [{}] * self.size
        with _together():
            dist.all_gather_object(gathered, values)
        for rank, other in enumerate(gathered):
            for name, value in gathered[0].items():
                if other[name] != value:
                    raise ValueError(
                        f"{name} is {value} in process 0, {other[name]} in process {rank}: give all the same"
                    )

    def average(self, tensors: list[Tensor]) -> None:
        """Replace the tensors by their means over the processes."""
        flat = torch.cat([x.flatten() for x in tensors])
        with _together():
            dist.all_reduce(flat)
        _unflatten(flat / self.size, tensors)

    def total(self, x: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        with _together():
            dist.all_reduce(x)

    def copy(self, tensors: list[Tensor]) -> None:
        """Replace the tensors by those of process 0."""
        if tensors:
            flat = torch.cat([x.flatten() for x in tensors])
            with _together():
                dist.broadcast(flat, 0)
            _unflatten(flat, tensors)

    def wait(self) -> None:
        """Go on when all processes are here."""
        with _together():
            dist.barrier()


def join() -> Group:
    """The group to which torchrun has started this process; a group of one without torchrun.

    On GPUs each process of a machine takes its own: torch.cuda.current_device() is the one.

    Raises:
        ValueError: if a machine has GPUs, but fewer than processes.
    """
    if not dist.is_available():
        return Group(0, 1)
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "MASTER_ADDR" not in os.environ:
            return Group(0, 1)
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if 0 < gpus < here:
            raise ValueError(
                f"{here} processes, but {gpus} GPU{'s' * (gpus > 1)} here: start torchrun with --nproc-per-node "
                f"{gpus}, or set CUDA_VISIBLE_DEVICES= to use the CPU"
            )
        if gpus:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
        atexit.register(_leave)
    return Group(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """A block in which this process waits for the others."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            "another process of this job has ended: start the job again, and it goes on from its last checkpoint"
        ) from error


def _unflatten(flat: Tensor, tensors: list[Tensor]) -> None:
    with torch.no_grad():
        for x, values in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
            x.copy_(values.view_as(x))


# --- noise -----------------------------------------------------------------------------------------------------------


#: While a process computes the loss of its share of a batch: its group, and a generator for each type of device.
_sharing: tuple[Group, dict[str, Generator]] | None = None


@contextlib.contextmanager
def sharing(group: Group, generators: list[Generator]) -> Iterator[None]:
    """Inside the block `draw_rows` draws for the whole batch, from generators that are alike in all processes."""
    global _sharing
    before = _sharing
    _sharing = None if group.size == 1 else (group, {generator.device.type: generator for generator in generators})
    try:
        yield
    finally:
        _sharing = before


def draw_rows(
    draw: Callable[[int, Generator | None], Tensor],
    n: int,
    device: torch.device,
    generator: Generator | None = None,
) -> Tensor:
    """Noise for n rows of a batch: draw(n, generator).

    Where several processes share a batch and no generator is given, all draw for the whole of it, and each takes its n
    rows: so the noise of a batch is the same for any number of processes.
    """
    if _sharing is None or generator is not None:
        return draw(n, generator)
    group, generators = _sharing
    return draw(group.size * n, generators[device.type])[group.rank * n :][:n]


def reseed(generators: list[Generator], seed: int, step: int, rank: int) -> None:
    """Noise of a process's own, such as that of dropout: nothing but the numbers decides it."""
    state = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
    for generator in generators:
        generator.manual_seed(state)
