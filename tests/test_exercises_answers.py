"""What the exercises' helpers make of the forms in which an answer may come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from companion.exercises import Hint, NotAnswered, expect, parts, tensor

ROWS = [[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]

FORMS = {
    "tensor": torch.tensor(ROWS),
    "with a gradient": torch.tensor(ROWS, requires_grad=True),
    "NumPy": np.array(ROWS, dtype=np.float32),
    "integers": np.array(ROWS, dtype=int),
    "backwards": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[:, ::-1],
    "read-only": np.broadcast_to(np.array(ROWS), (2, 3)),
    "lists": ROWS,
    "tuple of tensors": tuple(torch.tensor(ROWS)),
    "list of arrays": list(np.array(ROWS)),
    "numbers of every kind": [[torch.tensor(3.0, requires_grad=True), np.float32(2), 1], ROWS[1]],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_tensor(form: str) -> None:
    value = tensor(FORMS[form], (2, 3))
    assert value.dtype == torch.float64
    assert not value.requires_grad
    assert value.tolist() == ROWS


def test_a_number_keeps_its_digits() -> None:
    assert tensor(0.1, ()).item() == 0.1
    assert tensor([0.1], (1,)).item() == 0.1


@pytest.mark.parametrize(
    ("answer", "name", "hint"),
    [
        ([1.0, 2.0], "", "shape = (2,) ≠ (2, 3)"),
        ([1.0, 2.0], "mean", "mean.shape = (2,) ≠ (2, 3)"),
        ([], "", "shape = (0,) ≠ (2, 3)"),
        ([[1.0, 2.0], [3.0]], "", "list[i].shape: (2,) ≠ (1,)"),
        ([[1.0, 2.0], [3.0]], "mean", "mean[i].shape: (2,) ≠ (1,)"),
        ("0", "", "Tensor, np.ndarray, list; not str"),
        ([["0"]], "mean", "mean: Tensor, np.ndarray, list; not str"),
    ],
)
def test_another_shape_or_type_gets_a_hint(answer: object, name: str, hint: str) -> None:
    with pytest.raises(Hint) as raised:
        tensor(answer, (2, 3), name)
    assert str(raised.value) == hint


@pytest.mark.parametrize("empty", [None, ..., (1.0, None), [[...]]])
def test_what_is_left_empty_is_not_answered(empty: object) -> None:
    with pytest.raises(NotAnswered):
        tensor(empty)


def test_several_values_are_named_where_they_are_missing() -> None:
    assert parts([1, 2], "mean", "variance") == [1, 2]
    for answer in ((1, 2, 3), torch.zeros(2), 1.0):
        with pytest.raises(Hint, match=r"^return mean, variance$"):
            parts(answer, "mean", "variance")


def test_only_what_fails_is_hinted_at() -> None:
    expect(torch.tensor(True), "never")
    with pytest.raises(Hint, match=r"^x → y$"):
        expect(torch.tensor(False), "x → y")
