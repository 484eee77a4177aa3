"""Checkpoints: one safetensors file each, tensors and plain values, replaced as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_KEY, _CHECKSUM = "companion.training", "companion.training.crc32"


def write(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Put tensors, and values that JSON can hold, into a file that at any moment is the old one or the new one.

    Raises:
        OSError: if it cannot be written; the old file stays.
    """
    tensors = {name: x.detach().to("cpu", copy=True).contiguous() for name, x in tensors.items()}
    with replacing(path) as file:
        text = json.dumps(about)
        file.write(save(tensors, {_KEY: text, _CHECKSUM: _checksum(tensors, text)}))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` at the end of the block; after an error the old one stays.

    Raises:
        OSError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise OSError(
                f"{path} cannot be written: {reason}; name a folder that you may write to, on a disk with room"
            ) from error
        raise


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the plain values that `write` put into the file.

    Raises:
        ValueError: if it is damaged, or another kind of file.
    """
    try:
        with safe_open(path, "pt") as file:
            text, checksum = (file.metadata()[key] for key in (_KEY, _CHECKSUM))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if checksum != _checksum(tensors, text):
            raise SafetensorError("the checksum is that of another content")
        return tensors, json.loads(text)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint of fit: name another file, or delete it") from error


def form(x: Tensor) -> str:
    """Type and shape of a tensor."""
    return f"{x.dtype} {tuple(x.shape)}"


def fingerprint(x: Tensor) -> str:
    """Type, shape and checksum of a tensor."""
    return f"{form(x)} with SHA-256 {hashlib.sha256(_content(x)).hexdigest()}"


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    """CRC-32 of the text and of the tensors with their names, types and shapes."""
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(f"{name} {form(tensors[name])}".encode(), checksum)
        checksum = zlib.crc32(_content(tensors[name]), checksum)
    return str(checksum)


def _content(x: Tensor) -> np.ndarray:
    return x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
