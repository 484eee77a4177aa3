"""`companion.checkpoint`: what is written is read, and two tensors have one fingerprint only if they are equal."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from companion import checkpoint
from companion.checkpoint import fingerprint, form, read, write


def test_what_is_written_is_read(tmp_path, device):
    path = tmp_path / "a.safetensors"
    x = torch.randn(4, 3, device=device)
    tensors = {"x": x, "view": x.T, "same": x, "count": torch.tensor(7), "half": x.to(torch.bfloat16), "none": x[:0]}
    about = {"lr": 0.1 + 0.2, "name": "한글", "list": [1, None, True]}
    write(path, tensors, about)
    found, values = read(path)
    assert values == about
    assert found.keys() == tensors.keys() == load_file(path).keys()
    for name, x in tensors.items():
        assert torch.equal(found[name], x.cpu())
        assert found[name].dtype == x.dtype
    write(path, {"x": x}, {})
    assert read(path)[0].keys() == {"x"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_was_read_outlives_the_file(tmp_path):
    path, x = tmp_path / "a.safetensors", torch.randn(1000)
    write(path, {"x": x}, {})
    found = read(path)[0]["x"]
    write(path, {"x": -x}, {})
    path.unlink()
    assert torch.equal(found, x)


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write(path, {"x": torch.ones(1)}, {"step": 1})

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(path, {"x": torch.zeros(1)}, {"step": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert read(path)[1] == {"step": 1}


def test_a_flipped_bit_is_noticed_wherever_it_matters(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors, about = {"x": torch.randn(3), "half": torch.ones(2).bfloat16(), "on": torch.tensor([True])}, {"step": 17}
    write(path, tensors, about)
    content = path.read_bytes()
    for place, byte in enumerate(content):
        path.write_bytes(content[:place] + bytes([byte ^ 1 << place % 8]) + content[place + 1 :])
        try:
            found, values = read(path)
        except ValueError as error:
            assert "a.safetensors is damaged" in str(error)  # noqa: PT017
        else:
            assert place < len(content) - 17, "the last 17 bytes are the tensors"
            assert values == about
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], x) for name, x in tensors.items())


def test_the_file_is_readable_by_whom_the_umask_allows(tmp_path):
    path, other = tmp_path / "a.safetensors", tmp_path / "other"
    write(path, {"x": torch.ones(1)}, {})
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_a_fingerprint_tells_tensors_apart(dtype):
    x = torch.arange(12).remainder(2).reshape(3, 4).to(dtype)
    other = x.clone()
    other[2, 3] = 1 - other[2, 3].int()
    prints = {fingerprint(x), fingerprint(other), fingerprint(x.T), fingerprint(x.reshape(4, 3)), fingerprint(x[:2])}
    assert len(prints) == 5
    assert fingerprint(x) == fingerprint(x.T.contiguous().T) == fingerprint(x.repeat(1, 2)[:, :4])
    assert fingerprint(x).startswith(form(x))
    assert form(x) == f"{dtype} (3, 4)"
