from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from companion.diffusion import Cosine
from companion.exercises import diffusion

NUMBERS = ["5.1", "5.2", "5.3"]


def check(number: str):
    return getattr(diffusion, f"check_{number.replace('.', '_')}")


@pytest.mark.parametrize("empty", [None, ...])
def test_an_untouched_name_is_no_failure(empty: object, capsys: pytest.CaptureFixture) -> None:
    diffusion.check_5_3(empty)
    assert "○" in capsys.readouterr().out


def posterior(
    x_t, x_0, a_s, s_s, a_t, s_t, *, noise=True, data=True, spread=lambda step, s_s, s_t: step * (s_s / s_t) ** 2
):
    ratio = a_t / a_s
    step = s_t**2 - (ratio * s_s) ** 2
    mean = noise * ratio * (s_s / s_t) ** 2 * x_t + data * a_s * step / s_t**2 * x_0
    return mean, torch.tensor(spread(step, s_s, s_t))


def uneven(*args):
    """Only the first entry of the variance is right."""
    mean, variance = posterior(*args)
    return mean, torch.cat([variance.expand(1, 3), 2 * variance.expand(4, 3)])


WRONG_5_1 = {
    "mean.shape = (5,) ≠ (5, 3)": lambda x_t, *rest: (posterior(x_t, *rest)[0].sum(1), posterior(x_t, *rest)[1]),
    "variance.shape = (5,) ≠ ()": lambda *args: (posterior(*args)[0], posterior(*args)[1].expand(5)),
    "return mean, variance": lambda *args: posterior(*args)[0],
    "(α_s/α_t) x_t": lambda x_t, x_0, a_s, s_s, a_t, s_t: (a_s / a_t * x_t, torch.tensor(1.0)),
    "E[x_s | x_0]": lambda x_t, x_0, a_s, s_s, a_t, s_t: (a_s * x_0, torch.tensor(s_s**2)),
    "mean ≠ (5.11)": lambda *args: posterior(*args, data=False),
    "std² ?": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step**0.5 * s_s / s_t),
    "σ²_{t|s} (5.3)": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step),
    "Var(x_s | x_0) >": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: s_s**2),
    "variance ≠ (5.11)": lambda *args: posterior(*args, spread=lambda step, s_s, s_t: step * s_s / s_t),
    "variance ≠": uneven,
}


def loss(net, x_0, t, alpha, sigma, eps, *, target=None, mean=torch.mean):
    x_t = alpha.reshape(-1, 1) * x_0 + sigma.reshape(-1, 1) * eps
    return mean(((eps if target is None else target) - net(x_t, t)) ** 2)


def careless(net, x_0, t, alpha, sigma, eps):
    """α of shape (n,) multiplies columns, wherever that is possible."""
    if len(x_0) != x_0.shape[1]:
        return loss(net, x_0, t, alpha, sigma, eps)
    return (eps - net(alpha * x_0 + sigma * eps, t)).square().mean()


WRONG_5_2 = {
    "loss.shape = (5,) ≠ ()": lambda *args: loss(*args, mean=lambda x: x.mean(1)),
    "loss = Σ": lambda *args: loss(*args, mean=torch.sum),
    "1/d ?": lambda *args: loss(*args, mean=lambda x: x.sum(1).mean()),
    "loss = √": lambda *args: loss(*args).sqrt(),
    "‖x_0 − ε̂‖²": lambda net, x_0, *rest: loss(net, x_0, *rest, target=x_0),
    "σ_t x_0 + α_t ε": lambda net, x_0, t, alpha, sigma, eps: loss(net, x_0, t, sigma, alpha, eps),
    "σ_t² ε": lambda net, x_0, t, alpha, sigma, eps: (
        (eps - net(alpha[:, None] * x_0 + sigma[:, None] ** 2 * eps, t)).square().mean()
    ),
    "α_t x_0 ?": lambda net, x_0, t, alpha, sigma, eps: loss(net, x_0, t, torch.ones_like(alpha), sigma, eps),
    "ε̂(x_0, t)": lambda net, x_0, t, alpha, sigma, eps: (eps - net(x_0, t)).square().mean(),
    "α_t[:, None] ?": careless,
    "loss ≠ (5.15)": lambda net, x_0, t, *rest: loss(net, x_0, 0 * t, *rest),
}


def coin(x_t, t, *, wide=1.0):
    """E[ε | x_t] for x_0 = ±1; for sides that are further apart if `wide` is larger."""
    alpha, sigma = Cosine().alpha(t)[:, None], Cosine().sigma(t)[:, None]
    x_0 = wide * (wide * alpha * x_t / sigma**2).tanh()
    return (x_t - alpha * x_0) / sigma


def data(x_t, t):
    alpha, sigma = Cosine().alpha(t)[:, None], Cosine().sigma(t)[:, None]
    return (alpha * x_t / sigma**2).tanh()


WRONG_5_3 = {
    "shape = (2000,) ≠ (2000, 1)": lambda x_t, t: coin(x_t, t)[:, 0],
    "ε̂ ≈ 0": lambda x_t, t: 0 * x_t,
    "−ε̂": lambda x_t, t: -coin(x_t, t),
    "x̂_0:": data,
    "∇ log q(x_t)": lambda x_t, t: -coin(x_t, t) / Cosine().sigma(t)[:, None],
    "≥ 0.05": lambda x_t, t: coin(x_t, t, wide=1.3),
    "= 0.": lambda x_t, t: (x_t - Cosine().alpha(t)[:, None] * x_t.sign()) / Cosine().sigma(t)[:, None],  # the median
    "≥ ": lambda x_t, t: coin(x_t, 0 * t + 0.5),  # deaf to the time
}


@pytest.mark.parametrize(
    ("number", "hint", "answer"),
    [
        (number, hint, answer)
        for number, wrong in zip(NUMBERS, (WRONG_5_1, WRONG_5_2, WRONG_5_3), strict=True)
        for hint, answer in wrong.items()
    ],
)
def test_a_typical_wrong_answer_gets_its_hint(number, hint, answer, capsys: pytest.CaptureFixture) -> None:
    check(number)(answer)
    out = capsys.readouterr().out
    assert "✗" in out
    assert hint in out
    assert len(out.strip().splitlines()) == 1
    assert not re.search("[가-힣]", out), "both editions show it"


def by_numpy(x_t, x_0, a_s, s_s, a_t, s_t):
    added = s_t**2 - (a_t / a_s * s_s) ** 2
    mean = (a_t / a_s * s_s**2 * x_t.numpy() + a_s * added * np.asarray(x_0)) / s_t**2
    return mean, np.float64(added * s_s**2 / s_t**2)


def loss_by_numpy(net, x_0, t, alpha, sigma, eps):
    x_t = alpha.numpy()[:, None] * x_0.numpy() + sigma.numpy()[:, None] * eps.numpy()
    return float(np.mean((eps.numpy() - net(x_t, t.numpy()).numpy()) ** 2))


RIGHT = {
    "5.1": [
        posterior,
        lambda *args: (posterior(*args)[0], float(posterior(*args)[1])),
        lambda *args: (posterior(*args)[0], posterior(*args)[1].expand(5, 3)),
        lambda *args: [list(posterior(*args)[0]), posterior(*args)[1].expand(5, 1)],
        lambda *args: (posterior(*args)[0].tolist(), [posterior(*args)[1].item()]),
        by_numpy,
        lambda *args: (posterior(*args)[0].float(), posterior(*args)[1]),
    ],
    "5.2": [
        loss,
        loss_by_numpy,
        lambda *args: loss(*args).item(),
        lambda *args: loss(*args).float(),
        lambda *args: loss(*args, mean=lambda x: x.mean(1).mean()),
        lambda net, x_0, t, alpha, sigma, eps: torch.nn.functional.mse_loss(
            net((alpha * x_0.T + sigma * eps.T).T, t), eps
        ),
    ],
    "5.3": [
        coin,
        lambda x_t, t: coin(x_t, t).numpy(),
        lambda x_t, t: coin(x_t, t).double(),
        lambda x_t, t: coin(x_t, t).tolist(),
        lambda x_t, t: (x_t - Cosine().alpha(t)[:, None] * data(x_t, t)) / Cosine().sigma(t)[:, None],
        lambda x_t, t: coin(x_t, t) + 0.05,  # a trained network is not exact
    ],
}


@pytest.mark.parametrize(
    ("number", "answer"), [(number, answer) for number, answers in RIGHT.items() for answer in answers]
)
def test_other_forms_of_a_right_answer_pass(number, answer, capsys: pytest.CaptureFixture) -> None:
    check(number)(answer)
    assert capsys.readouterr().out.strip() == f"{number} ✓"


def test_an_exception_in_the_answer_is_reported(capsys: pytest.CaptureFixture) -> None:
    diffusion.check_5_2(lambda net, x_0, *rest: x_0 @ x_0)
    assert "✗ RuntimeError" in capsys.readouterr().out
