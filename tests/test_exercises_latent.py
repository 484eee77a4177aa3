"""Each checker of chapter 1 on right alternatives, which pass, and on wrong answers, which get their hint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import Categorical, MixtureSameFamily, Normal

from companion.exercises import latent
from companion.latent import GaussianMixture


def check(number: str):
    return getattr(latent, f"check_{number.replace('.', '_')}")


def gauss(x, mu, sigma):
    return torch.exp(-((x[:, None] - mu) ** 2) / (2 * sigma**2)) / sigma


def normalised(joint, axis=1):
    return joint / joint.sum(axis, keepdim=True)


def log_joint(x, pi, mu, sigma):
    return pi.log() + Normal(mu, sigma).log_prob(x[:, None])


def weighted(x, r):
    n_c = r.sum(0)
    mu = r.T @ x / n_c
    return n_c, mu, (r * (x[:, None] - mu) ** 2).sum(0) / n_c


def numpy_m_step(x, r):
    x, r = np.asarray(x), np.asarray(r)
    mu = np.average(np.tile(x[:, None], r.shape[1]), axis=0, weights=r)
    return r.mean(0), mu, (r * (x[:, None] - mu) ** 2).sum(0) / r.sum(0)


def fitted(train, K, generator, floor=0.02):
    return GaussianMixture.fit(train, K, floor=floor, tol=1e-4, generator=generator)


RIGHT = {
    "1.1": {
        "logsumexp": lambda w: w.logsumexp(0) - np.log(len(w)),
        "NumPy": lambda w: np.logaddexp.reduce(w.numpy(), 0) - np.log(len(w)),
        "list": lambda w: [(column.logsumexp(0) - np.log(len(column))).item() for column in w.T],
        "SciPy": lambda w: special.logsumexp(w.numpy(), axis=0, b=1 / len(w)),
        "single": lambda w: w.float().logsumexp(0) - torch.tensor(float(len(w))).log(),
        "a graph": lambda w: torch.logsumexp(w.clone().requires_grad_(), 0) - np.log(len(w)),
    },
    "1.2": {
        "joint": lambda model, x, z, q: model.log_joint(x, z) - q.log_prob(z),
        "NumPy": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).numpy(),
        "list": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).tolist(),
        "SciPy": lambda model, x, z, q: (
            stats.norm.logpdf(z)
            + stats.norm.logpdf(x, model.f(z), model.sigma)
            - stats.norm.logpdf(z, q.mean, q.stddev)
        ),
        "ratio": lambda model, x, z, q: (model.log_joint(x, z).exp() / q.log_prob(z).exp()).log(),
    },
    "1.3": {
        "where": lambda j, q: torch.where(q > 0, q * (j - q.clamp_min(1e-300).log()), 0 * q).sum(1),
        "entropy": lambda j, q: (q * j).sum(1) + Categorical(probs=q).entropy(),
        "NumPy": lambda j, q: (q * j).sum(1).numpy() + special.entr(q.numpy()).sum(1),
        "list": lambda j, q: ((q * j).sum(1).numpy() + special.entr(q.numpy()).sum(1)).tolist(),
        "KL": lambda j, q: j.logsumexp(1) - special.kl_div(q.numpy(), j.softmax(1).numpy()).sum(1),
    },
    "1.6": {
        "softmax": lambda *a: log_joint(*a).softmax(-1),
        "subtract": lambda *a: (log_joint(*a) - log_joint(*a).logsumexp(1, keepdim=True)).exp(),
        "NumPy": lambda *a: special.softmax(log_joint(*a).numpy(), axis=1),
        "list": lambda *a: log_joint(*a).softmax(1).tolist(),
        "Categorical": lambda *a: Categorical(logits=log_joint(*a)).probs,
        "no constants": lambda x, pi, mu, sigma: ((pi / sigma).log() - (x[:, None] - mu) ** 2 / (2 * sigma**2)).softmax(
            1
        ),
    },
    "1.7": {
        "einsum": lambda x, r: (
            r.mean(0),
            torch.einsum("nk,n->k", r, x) / r.sum(0),
            torch.einsum("nk,nk->k", r, (x[:, None] - weighted(x, r)[1]) ** 2) / r.sum(0),
        ),
        "second moment": lambda x, r: (
            r.mean(0),
            weighted(x, r)[1],
            r.T @ x**2 / r.sum(0) - weighted(x, r)[1] ** 2,
        ),
        "NumPy": numpy_m_step,
        "list": lambda x, r: [part.tolist() for part in (r.mean(0), *weighted(x, r)[1:])],
        "the book": lambda x, r: (lambda m: (m.pi, m.mu[:, 0], m.Sigma[:, 0, 0]))(
            GaussianMixture.m_step(x[:, None], r)
        ),
    },
    "1.8": {
        "mean": lambda train, test, K, g: fitted(train, K, g).log_prob(test).mean(),
        "float": lambda train, test, K, g: fitted(train, K, g).log_prob(test).mean().item(),
        "NumPy": lambda train, test, K, g: np.mean(fitted(train, K, g).log_prob(test).numpy()),
        "sum": lambda train, test, K, g: fitted(train, K, g).log_prob(test).sum() / len(test),
        "marginal": lambda train, test, K, g: fitted(train, K, g).marginal().log_prob(test).mean(),
        "by hand": lambda train, test, K, g: (
            lambda m: MixtureSameFamily(m.prior(), m.likelihood(torch.arange(K))).log_prob(test).mean()
        )(fitted(train, K, g)),
    },
}

WRONG = {
    "1.1": {
        "Jensen": lambda w: w.mean(0),
        "− log k": lambda w: w.logsumexp(0),
        "log w − max log w": lambda w: w.exp().mean(0).log(),
        "shape = (2,) ≠ (3,)": lambda w: w.exp().mean(1).log(),
        "→ log (1/k)": lambda w: w.exp().mean(0),
        "k = 5": lambda w: w.logsumexp(0) - np.log(2),
        "maxᵢ": lambda w: w.max() + (w - w.max()).exp().mean(0).log(),
        "≠ log": lambda w: w.max(0).values,
    },
    "1.2": {
        "p(z)?": lambda model, x, z, q: model.likelihood(z).log_prob(x) - q.log_prob(z),
        "w = p(x, z) / q(z)": lambda model, x, z, q: model.log_joint(x, z),
        "+ log q(z) →": lambda model, x, z, q: model.log_joint(x, z) + q.log_prob(z),
        "w → log w": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).exp(),
        "≠ log p(z)": lambda model, x, z, q: model.log_joint(z, x) - q.log_prob(z),
        "≠": lambda model, x, z, q: latent.NonlinearGaussian().log_joint(x, z) - Normal(0.4, 0.7).log_prob(z),
        "shape": lambda model, x, z, q: (model.log_joint(x, z) - q.log_prob(z)).sum(),
    },
    "1.3": {
        "− log q(z)?": lambda j, q: (q * j).sum(1),
        "+ log q(z) →": lambda j, q: (q * j).sum(1) + torch.xlogy(q, q).sum(1),
        "q_c log q_c = 0": lambda j, q: (q * (j - q.log())).sum(1),
        "log p(x) ≥": lambda j, q: j.logsumexp(1),
        "(1/K)": lambda j, q: (j - q.log()).mean(1),
        "−L(q)": lambda j, q: -(q * j - torch.xlogy(q, q)).sum(1),
        "≠": lambda j, q: (q.exp() * (j - q.log())).sum(1),
        "shape": lambda j, q: (q * j - torch.xlogy(q, q)).sum(),
    },
    "1.6": {
        "Σ_c r_nc = 1": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma), 0),
        "π_c?": lambda x, pi, mu, sigma: normalised(gauss(x, mu, sigma)),
        "sigma = σ": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma.sqrt())),
        "1/σ_c?": lambda x, pi, mu, sigma: normalised(pi * sigma * gauss(x, mu, sigma)),
        "softmax": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma)),
        "0/0": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma)).nan_to_num(1 / len(pi)),
        "∓500": lambda x, pi, mu, sigma: torch.where(
            gauss(x, mu, sigma).sum(1, keepdim=True) > 0,
            normalised(pi * gauss(x, mu, sigma)),
            torch.eye(len(pi)).double()[-1],
        ),
        "shape": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma)).T,
        "≠ (1.23)": lambda x, pi, mu, sigma: normalised(pi * gauss(x, mu, sigma) ** 2),
    },
    "1.7": {
        "return pi, mu": lambda x, r: weighted(x, r)[1],
        "N_c →": lambda x, r: weighted(x, r),
        "μ_c = (1/N)": lambda x, r: (r.mean(0), r.T @ x / len(x), weighted(x, r)[2]),
        "μ_c ≠": lambda x, r: (r.mean(0), x.mean().expand(r.shape[1]), weighted(x, r)[2]),
        "σ_c → σ_c²": lambda x, r: (r.mean(0), weighted(x, r)[1], weighted(x, r)[2].sqrt()),
        "x̄": lambda x, r: (r.mean(0), weighted(x, r)[1], r.T @ (x - x.mean()) ** 2 / r.sum(0)),
        "σ_c² = (1/N)": lambda x, r: (r.mean(0), weighted(x, r)[1], weighted(x, r)[2] * r.mean(0)),
        "π_c ≠": lambda x, r: (r.mean(0).flip(0), *weighted(x, r)[1:]),
        "σ_c² ≠": lambda x, r: (r.mean(0), weighted(x, r)[1], r.T @ x**2 / r.sum(0)),
        "shape": lambda x, r: (r.mean(1), *weighted(x, r)[1:]),
    },
    "1.8": {
        "log p(train)": lambda train, test, K, g: fitted(train, K, g).log_prob(train).mean(),
        "Σₙ →": lambda train, test, K, g: fitted(train, K, g).log_prob(test).sum(),
        "fit(test)": lambda train, test, K, g: fitted(test, K, g).log_prob(test).mean(),
        "floor=0.02?": lambda train, test, K, g: fitted(train, K, g, 1e-4).log_prob(test).mean(),
        "K?": lambda train, test, K, g: fitted(train, 3, g).log_prob(test).mean(),
        "p → log p": lambda train, test, K, g: fitted(train, K, g).log_prob(test).mean().exp(),
        "log (1/N)": lambda train, test, K, g: fitted(train, K, g).log_prob(test).exp().mean().log(),
        "generator=generator": lambda train, test, K, g: (
            fitted(train, K, torch.Generator().manual_seed(1)).log_prob(test).mean()
        ),
        "shape": lambda train, test, K, g: fitted(train, K, g).log_prob(test),
    },
}


@pytest.mark.parametrize(("number", "name"), [(number, name) for number, all_ in RIGHT.items() for name in all_])
def test_a_right_alternative_passes(number: str, name: str, capsys: pytest.CaptureFixture) -> None:
    check(number)(RIGHT[number][name])
    assert capsys.readouterr().out.strip() == f"{number} ✓"


@pytest.mark.parametrize(("number", "hint"), [(number, hint) for number, all_ in WRONG.items() for hint in all_])
@pytest.mark.slow
def test_a_typical_wrong_answer_gets_its_hint(number: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    check(number)(WRONG[number][hint])
    out = capsys.readouterr().out
    assert out.startswith(f"{number} ✗")
    assert hint in out
    assert not any("가" <= letter <= "힣" for letter in out)
