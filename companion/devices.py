"""What there is to compute with, and to draw from."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from companion.parallel import draw_rows

Precision = Literal["auto", "float32", "bfloat16"]


def find_device(device: torch.device | str | None = None, home: torch.device | str = "cpu") -> torch.device:
    """The device asked for; or `home`, where the model is, if that is no CPU; or the best there is: CUDA, MPS, CPU.

    Raises:
        ValueError: if there is no such device here.
    """
    home = torch.device(home)
    if device is None and home.type == "cpu":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    wanted = home if device is None else device
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ValueError(f"device must be such as 'cpu', 'cuda', 'cuda:1' or 'mps', got {wanted!r}") from None
    if device.type == "meta":
        raise ValueError("device is 'meta', which holds no numbers: leave device out to use the best there is")
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device.type, False):
        raise ValueError(f"device is {str(wanted)!r}, but none was found: leave device out to use the best there is")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {str(wanted)!r}, but the last one here is cuda:{torch.cuda.device_count() - 1}")
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def find_precision(precision: Precision, device: torch.device) -> str:
    """What "auto" means on a device: "bfloat16" on GPUs and CPUs with matrix units for it, otherwise "float32"."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return "bfloat16" if fast else "float32"


def global_generators(device: torch.device) -> list[torch.Generator]:
    """The generators from which code on the device draws when it is given none: the CPU's, and the device's own."""
    if device.type == "cuda":
        torch.cuda.init()
        return [torch.default_generator, torch.cuda.default_generators[device.index]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]


@contextlib.contextmanager
def seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Let `generator` decide what is drawn inside the block: torch.distributions take no generator of their own."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block all modules are in evaluation mode; afterwards each is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def randn(shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of the type and on the device of `like`, wherever the generator is; see `draw_rows`."""

    def draw(n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else like.device
        return torch.randn((n, *shape[1:]), dtype=like.dtype, device=device, generator=generator).to(like.device)

    return draw_rows(draw, shape[0], like.device, generator)


def evaluation(method: Callable) -> Callable:
    """The method of a model, run in evaluation mode; `__wrapped__` is the method in the mode that the model is in."""

    @functools.wraps(method)
    def evaluated(self: nn.Module, *args: object, **options: object) -> object:
        with evaluating(self):
            return method(self, *args, **options)

    return evaluated
