"""Checks of arguments, shared by all modules: one clear error that names the argument and the remedy."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def check_int(name: str, value: int, least: int = 1) -> int:
    """The value as an int: an integer of Python, NumPy or torch, at least `least`.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is less.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, got {whole}")
    return whole


def check_number(name: str, value: float, *, zero: bool = False, below: float = math.inf) -> float:
    """The value as a float: positive, or with `zero` also zero, and less than `below`.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is NaN or outside.
    """
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        number = None
    if number is None or isinstance(value, str | bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not (0 < number < below or (zero and number == 0)):
        lower = "at least 0" if zero else "positive"
        upper = "finite" if below == math.inf else f"less than {below:g}"
        raise ValueError(f"{name} must be {lower} and {upper}, got {number:g}")
    return number


def check_tensor(
    name: str, x: Tensor, *, ndim: int | None = 2, columns: int | None = None, empty: bool = False, finite: bool = False
) -> Tensor:
    """The tensor itself: float32 or float64 with `ndim` axes, or rows of any event shape.

    Args:
        name: what the caller calls it.
        x: the tensor.
        ndim: how many axes it must have; None: rows of any event shape, (n, …).
        columns: how many entries its last axis must have.
        empty: whether it may have no entries.
        finite: whether entries that are NaN or infinite are refused; those of a meta tensor are not known.

    Raises:
        TypeError: if it is no tensor, or neither float32 nor float64.
        ValueError: if it has another shape, is empty, or not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, not {type(x).__name__}: use torch.as_tensor({name}, dtype=torch.float32)"
        )
    if x.dtype not in (torch.float32, torch.float64):
        remedy = f"{name} / 255 if it holds pixels" if x.dtype == torch.uint8 else f"{name}.float()"
        raise TypeError(f"{name} must be float32 or float64, not {x.dtype}: use {remedy}")
    if x.ndim != ndim if ndim else x.ndim < 2:
        wanted = {None: "shape (n, …)", 1: "shape (n,)", 2: "shape (rows, columns)"}.get(ndim, f"{ndim} axes")
        remedy = f"use {name}.flatten(1)" if ndim == 2 and x.ndim > 2 else "reshape it"
        raise ValueError(f"{name} must have {wanted}, not shape {tuple(x.shape)}: {remedy}")
    if not empty and not x.numel():
        raise ValueError(f"{name} is empty, of shape {tuple(x.shape)}: give at least one row")
    if columns is not None and x.shape[-1] != columns:
        what = "columns" if ndim == 2 else "entries along its last axis"
        raise ValueError(f"{name} must have {columns} {what}, not shape {tuple(x.shape)}: reshape or select")
    if finite and not x.is_meta and x.numel() and not (x.amin().isfinite() and x.amax().isfinite()):
        raise ValueError(f"{name} has entries that are NaN or infinite: remove those rows")
    return x


def check_alike(name: str, x: Tensor, other: Tensor, whose: str) -> None:
    """Let x pass if it is on the device and of the type of `other`.

    Raises:
        ValueError: if it is on another device.
        TypeError: if it is no tensor, or of another type.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, not {type(x).__name__}: use torch.as_tensor({name}, dtype={other.dtype})"
        )
    if x.device != other.device:
        raise ValueError(f"{name} is on {x.device}, {whose} on {other.device}: move one with .to(device)")
    if x.dtype != other.dtype:
        raise TypeError(f"{name} is {x.dtype}, {whose} {other.dtype}: convert one, such as {name}.to({other.dtype})")


def check_labels(labels: Tensor, rows: int, classes: Sequence[int] | None = None, *, wait: bool = False) -> Tensor:
    """The labels as 64-bit integers: of shape (rows, k), or for all rows alike (1, k) or (k,), where −1 stands for any.

    Args:
        labels: integers, a tensor or what torch.as_tensor takes.
        rows: n, rows of the batch.
        classes: for each of the k labels the number of its values, if known.
        wait: whether to look at the values on a GPU too, for which the host has to wait.

    Raises:
        TypeError: if they are no integers.
        ValueError: if they have another shape, or a value is out of range.
    """
    labels = torch.as_tensor(labels)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, not {labels.dtype}: use labels.long()")
    if classes is not None and not len(classes):
        raise ValueError("labels are given to a network that was made without any: leave them out")
    k, shape = labels.shape[-1:].numel() if classes is None else len(classes), tuple(labels.shape)
    unclear = classes is None and shape == (rows,) and rows > 1
    if unclear or shape not in ((rows, k), (1, k), (k,)):
        wanted = f"({rows}, {'k' if classes is None else k})"
        raise ValueError(
            f"labels must have shape {wanted}, a column for each label, not {shape}: use labels[:, None] for one label "
            "a row, labels[None] for the labels of all rows"
        )
    labels = labels.long()
    if labels.device.type == "cpu" or (wait and not labels.is_meta):
        wrong = (labels < -1) | (labels >= torch.tensor(classes if classes else math.inf, device=labels.device))
        if wrong.any():
            column = int(wrong.reshape(-1, k).any(0).nonzero()[0])
            value = int(labels[..., column][wrong[..., column]][0])
            values = "at least 0" if classes is None else f"from 0 to {classes[column] - 1}"
            raise ValueError(f"labels has {value} in column {column}, where they are {values}, or −1 for any")
    return labels


def check_module(name: str, module: nn.Module) -> nn.Module:
    """The module itself.

    Raises:
        TypeError: if it is none, such as a class of modules.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, not {kind_of(module)}")
    return module


def kind_of(value: object) -> str:
    """What an error calls a value of the wrong kind: its type, or "the class …" where an object was forgotten."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def first_checked(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss of a model, which gives its first batch to `check_data` and takes all later ones as they are."""

    @functools.wraps(loss)
    def checked(self: nn.Module, *data: Tensor, **named: Tensor) -> Tensor:
        if not self.checked:
            self.check_data(*data, **named)
            self.checked = True
        return loss(self, *data, **named)

    return checked
