"""`companion.checks`: what passes, what is refused, and what the refusal says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from companion.checks import check_alike, check_int, check_labels, check_number, check_tensor

X = torch.ones(4, 3)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_every_library_pass(value):
    assert check_int("n", value) == 3
    assert type(check_int("n", value)) is int


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), torch.tensor(3.0)])
def test_numbers_of_every_library_pass(value):
    assert check_number("std", value) == 3
    assert type(check_number("std", value)) is float


def test_what_is_in_range_passes():
    assert check_int("n", 0, least=0) == 0
    assert check_number("std", 0, zero=True) == 0
    assert check_number("decay", 0.999, below=1) == 0.999
    for x in (X, X.double(), X.clone().requires_grad_()):
        assert check_tensor("x", x, columns=3, finite=True) is x
    assert check_tensor("x", X[:0], empty=True).shape == (0, 3)
    assert check_tensor("x", X[0] / 0, ndim=1).shape == (3,)
    check_alike("x", X, torch.zeros(2), "the model")


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "^n must be at least 1, got 0$", lambda: check_int("n", 0)),
        (ValueError, "^n must be at least 2, got 1$", lambda: check_int("n", np.int64(1), least=2)),
        (TypeError, "^n must be an int, not float$", lambda: check_int("n", 2.0)),
        (TypeError, "^n must be an int, not bool$", lambda: check_int("n", True)),
        (TypeError, "^n must be an int, not str$", lambda: check_int("n", "2")),
        (ValueError, "^std must be positive and finite, got 0$", lambda: check_number("std", 0)),
        (ValueError, "^std must be at least 0 and finite, got -1$", lambda: check_number("std", -1, zero=True)),
        (ValueError, "^std must be positive and finite, got nan$", lambda: check_number("std", math.nan)),
        (ValueError, "^std must be at least 0 and finite, got inf$", lambda: check_number("std", math.inf, zero=True)),
        (ValueError, "^decay must be positive and less than 1, got 1$", lambda: check_number("decay", 1, below=1)),
        (TypeError, "^std must be a number, not str$", lambda: check_number("std", "1")),
        (TypeError, "^std must be a number, not NoneType$", lambda: check_number("std", None)),
        (TypeError, "^std must be a number, not bool$", lambda: check_number("std", True)),
        (TypeError, "x must be a torch.Tensor, not ndarray: use torch.as_tensor", lambda: check_tensor("x", X.numpy())),
        (TypeError, r"x must be float32 or float64, not torch.int64: use x.float", lambda: check_tensor("x", X.long())),
        (TypeError, "not torch.uint8: use x / 255 if it holds pixels", lambda: check_tensor("x", X.to(torch.uint8))),
        (TypeError, "^std must be a number, not Tensor$", lambda: check_number("std", X)),
        (ValueError, r"not shape \(4, 3, 1\): use x.flatten", lambda: check_tensor("x", X[..., None])),
        (TypeError, "x must be float32 or float64, not torch.float16", lambda: check_tensor("x", X.half())),
        (ValueError, r"x must have shape \(rows, columns\), not shape \(3,\)", lambda: check_tensor("x", X[0])),
        (ValueError, r"x must have shape \(n,\), not shape \(4, 3\)", lambda: check_tensor("x", X, ndim=1)),
        (ValueError, r"x must have 3 axes, not shape \(4, 3\)", lambda: check_tensor("x", X, ndim=3)),
        (ValueError, r"x is empty, of shape \(0, 3\)", lambda: check_tensor("x", X[:0])),
        (ValueError, r"x must have 2 columns, not shape \(4, 3\)", lambda: check_tensor("x", X, columns=2)),
        (ValueError, "x must have 2 entries along its last", lambda: check_tensor("x", X[0], ndim=1, columns=2)),
        (ValueError, "x has entries that are NaN or infinite", lambda: check_tensor("x", X / 0, finite=True)),
        (ValueError, "x has entries that are NaN", lambda: check_tensor("x", X * math.nan, finite=True)),
        (ValueError, "x is on meta, the model on cpu", lambda: check_alike("x", X.to("meta"), X, "the model")),
        (
            TypeError,
            r"x is torch.float64, mu torch.float32: .* x.to\(torch.float32\)",
            lambda: check_alike("x", X.double(), X, "mu"),
        ),
    ],
)
def test_what_is_refused_is_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_single_entry_that_is_not_finite_is_found(bad):
    x = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    x[0, 0], x[0, 1] = torch.finfo(x.dtype).max, torch.finfo(x.dtype).min
    assert check_tensor("x", x, finite=True) is x
    x[150, 7] = bad
    with pytest.raises(ValueError, match="x has entries that are NaN or infinite"):
        check_tensor("x", x, finite=True)


def test_no_entries_are_finite_where_none_are_needed():
    assert not check_tensor("x", X[:0], empty=True, finite=True).numel()


def test_an_array_is_told_to_become_a_tensor():
    """NumPy's arrays have a device too, "cpu", which is none of torch's."""
    with pytest.raises(TypeError, match=r"z must be a torch.Tensor, not ndarray: use torch.as_tensor\(z, dtype=torch"):
        check_alike("z", np.zeros((2, 2), np.float32), torch.zeros(2), "the model")


def test_labels_for_a_network_made_without_any_are_to_be_left_out():
    with pytest.raises(ValueError, match=r"labels are given to a network that was made without any: leave them out"):
        check_labels(torch.zeros(4, 1, dtype=torch.long), 4, ())
