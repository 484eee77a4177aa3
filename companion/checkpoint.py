"""Checkpoints: one safetensors file each, tensors and plain values, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_KEY = "companion.training"


def write(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Put tensors, and values that JSON can hold, into a file that at any moment is the old one or the new one.

    Raises:
        OSError: if it cannot be written; the old file stays.
    """
    tensors = {name: x.detach().to("cpu", copy=True).contiguous() for name, x in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(save(tensors, {_KEY: json.dumps(about)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the plain values that `write` put into the file.

    Raises:
        ValueError: if it is damaged, or another kind of file.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()[_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of fit: name another file, or delete it") from error


def form(x: Tensor) -> str:
    """Type and shape of a tensor."""
    return f"{x.dtype} {tuple(x.shape)}"


def fingerprint(x: Tensor) -> str:
    """Type, shape and checksum of a tensor."""
    content = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{form(x)} with SHA-256 {hashlib.sha256(content).hexdigest()}"
