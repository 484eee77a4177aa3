"""Chapter 5: diffusion models, which destroy x by known small steps and learn to undo them.

    x_t = α(t) x_0 + σ(t) ε,  ε ~ N(0, I),  0 ≤ t ≤ 1.      (5.1)

The data are at t = 0, the noise is at t = 1. Data are to be scaled to about ±1: 2x − 1 for pixels between 0 and 1.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models" (2020); Kingma et al., "Variational Diffusion Models"
(2021); Lipman et al., "Flow Matching for Generative Modeling" (2023).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, kl_divergence

from companion.checks import check_int, check_number, check_tensor
from companion.devices import randn
from companion.likelihoods import GreyLevels, normal

#: log SNR at t = 1 where alpha does not end at zero: what the linear schedule leaves of the data.
_LAST = -10.05


# --- schedules -------------------------------------------------------------------------------------------------------


class Schedule:
    """How much data, α(t), and how much noise, σ(t), there is at time t. All methods take and give tensors."""

    def alpha(self, t: Tensor) -> Tensor:
        """α(t), the factor of the data."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """σ(t), the standard deviation of the noise."""
        raise NotImplementedError

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives α'(t) and σ'(t)."""
        raise NotImplementedError

    def time(self, log_snr: Tensor) -> Tensor:
        """The time t at which log SNR(t) is this number."""
        raise NotImplementedError

    def alpha_bar(self, t: Tensor) -> Tensor:
        """α(t)², which is Π(1 − βᵢ) in DDPM's writing, (5.4)."""
        return self.alpha(t).square()

    def snr(self, t: Tensor) -> Tensor:
        """The signal-to-noise ratio α(t)²/σ(t)², (5.2)."""
        return (self.alpha(t) / self.sigma(t)).square()


class Linear(Schedule):
    """α² = exp(−t/10 − 9.95 t²), σ² = 1 − α²: DDPM's βᵢ, which rise linearly, with infinitely many steps.

    Ho, Jain & Abbeel (2020). σ' is infinite at t = 0, which costs `Heun` its second order: predict the noise, not the
    velocity.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return (-(0.05 + 4.975 * t) * t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-(-(0.1 + 9.95 * t) * t).expm1()).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alpha(t)
        rate = -(0.05 + 9.95 * t) * alpha
        return rate, -alpha * rate / self.sigma(t)

    def time(self, log_snr: Tensor) -> Tensor:
        b = nn.functional.softplus(-log_snr)  # −log α²
        return 2 * b / (0.1 + (0.01 + 39.8 * b).sqrt())


class Cosine(Schedule):
    """α = cos θt, σ = sin θt with an angle θ just below π/2, so that as much data is left at t = 1 as with `Linear`.

    Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021).
    """

    angle = math.acos(math.exp(_LAST / 2))

    def alpha(self, t: Tensor) -> Tensor:
        return (self.angle * t).cos()

    def sigma(self, t: Tensor) -> Tensor:
        return (self.angle * t).sin()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.angle * self.sigma(t), self.angle * self.alpha(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).exp().atan() / self.angle


class Straight(Schedule):
    """α = 1 − t, σ = t: the straight path of flow matching, all noise at t = 1 (Lipman et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).sigmoid()


SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "straight": Straight()}


def find_schedule(schedule: str | Schedule) -> Schedule:
    """The schedule of this name, or the object itself.

    Raises:
        ValueError: if there is none of this name.
    """
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    return SCHEDULES[schedule] if isinstance(schedule, str) else schedule


# --- what a network can predict --------------------------------------------------------------------------------------

PREDICTIONS = ("noise", "data", "velocity")


def target(predict: str, x_0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """What the network is to predict: ε, x_0, or the velocity dx_t/dt = α'(t) x_0 + σ'(t) ε, (5.21)."""
    if predict == "velocity":
        d_alpha, d_sigma = schedule.rates(t)
        return d_alpha * x_0 + d_sigma * eps
    return eps if predict == "noise" else x_0


def split(predict: str, prediction: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """x_0 and ε from x_t and the prediction of either, or of the velocity: two linear equations, (5.1), (5.22)."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if predict == "noise":
        return (x_t - sigma * prediction) / alpha, prediction
    if predict == "data":
        return prediction, (x_t - alpha * prediction) / sigma
    d_alpha, d_sigma = schedule.rates(t)
    determinant = alpha * d_sigma - d_alpha * sigma
    x_0 = (d_sigma * x_t - sigma * prediction) / determinant
    return x_0, (alpha * prediction - d_alpha * x_t) / determinant


# --- samplers --------------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A point of a trajectory: t, x_t, and x̂_0, where the network believes that it leads; both of shape (n, d)."""

    t: float
    x_t: Tensor
    x_0: Tensor


@dataclass(frozen=True)
class Sampler:
    """Carries x from noise at t = 1 to data at t = 0, in equal steps of t; a subclass says how it makes one step.

    Args:
        steps: number of steps.
    """

    steps: int = 50

    def __post_init__(self) -> None:
        check_int("steps", self.steps)

    @torch.no_grad()
    def trajectory(
        self,
        model: Diffusion,
        x_1: Tensor,
        labels: Tensor | None = None,
        guidance: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Point]:
        """The points at steps + 1 times, from x_1, shape (n, d), to x_0.

        Args:
            model: whose predictions it follows.
            x_1: noise from the prior.
            labels, guidance: as in `Diffusion.predict`.
            generator: source of the noise that stochastic samplers add.
        """
        predict = functools.partial(model.predict, labels=labels, guidance=guidance)
        x = x_1
        for i in range(self.steps, 0, -1):
            s, t = (i - 1) / self.steps, i / self.steps
            x_0, eps = predict(x, t)
            yield Point(t, x, x_0)
            x = self.step(model, predict, x, x_0, eps, s, t, generator)
        yield Point(0.0, x, x)

    def step(
        self,
        model: Diffusion,
        predict: Callable[[Tensor, float], tuple[Tensor, Tensor]],
        x_t: Tensor,
        x_0: Tensor,
        eps: Tensor,
        s: float,
        t: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """x_s, for s < t, from x_t and the predictions x̂_0 and ε̂ there."""
        raise NotImplementedError


@dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling, x_s ~ q(x_s | x_t, x̂_0), (5.17) (Ho, Jain & Abbeel 2020)."""

    def step(self, model, predict, x_t, x_0, eps, s, t, generator) -> Tensor:
        q = model.q_posterior(x_t, x_0, s, t)
        return q.mean + q.stddev * randn(x_t.shape, x_t, generator)


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = α_s x̂_0 + √(σ_s² − n²) ε̂ + n z with fresh noise z, n = η · the deviation of q(x_s | x_t, x_0), (5.18).

    η = 1 is DDPM; η = 0 adds no noise and is Euler's method for (5.19). Song, Meng & Ermon, "Denoising Diffusion
    Implicit Models" (2021).

    Args:
        steps: number of steps.
        eta: η, from 0 to 1.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be from 0 to 1, got {self.eta}")

    def step(self, model, predict, x_t, x_0, eps, s, t, generator) -> Tensor:
        alpha, sigma = _alpha_sigma(model, s, x_t)
        if not self.eta:
            return alpha * x_0 + sigma * eps
        noise = self.eta * model.q_posterior(x_t, x_0, s, t).stddev
        return alpha * x_0 + (sigma**2 - noise**2).clamp(min=0).sqrt() * eps + noise * randn(x_t.shape, x_t, generator)


@dataclass(frozen=True)
class Heun(Sampler):
    """The trapezoidal rule on dx = x̂_0 dα + ε̂ dσ, (5.20): second order, with 2 · steps − 1 evaluations.

    Euler's step predicts x_s, the network looks there, and the mean of both predictions makes the step; the last step,
    to t = 0, is Euler's. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022).
    """

    def step(self, model, predict, x_t, x_0, eps, s, t, generator) -> Tensor:
        (alpha_s, sigma_s), (alpha_t, sigma_t) = _alpha_sigma(model, s, x_t), _alpha_sigma(model, t, x_t)
        x_s = alpha_s * x_0 + sigma_s * eps
        if s == 0:
            return x_s
        x_0_s, eps_s = predict(x_s, s)
        return x_t + (alpha_s - alpha_t) * (x_0 + x_0_s) / 2 + (sigma_s - sigma_t) * (eps + eps_s) / 2


def _alpha_sigma(model: Diffusion, t: float, x: Tensor) -> tuple[Tensor, Tensor]:
    t = _column(t, x)
    return model.schedule.alpha(t), model.schedule.sigma(t)


# --- the model -------------------------------------------------------------------------------------------------------


class Diffusion(nn.Module):
    """A deep latent-variable model with a fixed encoder, q(x_t | x_0), and one network for all times.

    Args:
        denoiser: maps x_t, shape (n, d), and t, shape (n,), to what it predicts, shape (n, d); for conditional models
            also takes labels, integers of shape (n, k) in which −1 stands for any.
        dim: d.
        schedule: "linear", "cosine", "straight", or an object with their methods.
        predict: what the denoiser predicts, "noise", "data" or "velocity".
        weighting: of the squared errors in `loss`: "simple", what the network predicts at t ~ U(0, 1); or "elbo", the
            bound itself.
        levels: number of grey levels, evenly spaced from −1 to 1; without it `elbo` bounds a density.
        resolution: σ/α at the first of the times of `elbo`, from which x is read off: by default 0.001, or a third of
            the distance of two grey levels.

    Raises:
        ValueError: if there is no such schedule, prediction or weighting, or the straight path is to predict noise.
    """

    def __init__(
        self,
        denoiser: Callable[..., Tensor],
        dim: int,
        schedule: str | Schedule = "cosine",
        predict: str = "velocity",
        *,
        weighting: str = "simple",
        levels: int | None = None,
        resolution: float | None = None,
    ) -> None:
        super().__init__()
        if predict not in PREDICTIONS:
            raise ValueError(f"predict must be one of {', '.join(PREDICTIONS)}, got {predict!r}")
        if weighting not in ("simple", "elbo"):
            raise ValueError(f'weighting must be "simple" or "elbo", got {weighting!r}')
        self.denoiser = denoiser
        self.dim = check_int("dim", dim)
        self.schedule = find_schedule(schedule)
        self.predicts = predict
        if predict == "noise" and not self.schedule.alpha(torch.ones(())) > 0:
            raise ValueError(
                'predict="noise" leaves x_0 open at t = 1, where the path is all noise: choose "velocity" or "data"'
            )
        self.weighting = weighting
        self.levels = None if levels is None else check_int("levels", levels, 2)
        if resolution is None:
            resolution = 1e-3 if levels is None else 2 / 3 / (self.levels - 1)
        self.resolution = check_number("resolution", resolution)
        dtype = next((p.dtype for p in self.parameters()), None)
        self.register_buffer("_origin", torch.zeros(self.dim, dtype=dtype), persistent=False)

    # What is known: distributions of the noising process

    def prior(self) -> Independent:
        """p(x_1) = N(x_1; 0, I)."""
        return normal(self._origin, torch.ones_like(self._origin))

    def q_sample(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = α(t) x_0 + σ(t) ε, (5.1), for t of shape (n,) or a number."""
        t = _column(t, x)
        return self.schedule.alpha(t) * x + self.schedule.sigma(t) * eps

    def posterior(self, x: Tensor, t: Tensor) -> Independent:
        """q(x_t | x_0) = N(x_t; α(t) x_0, σ(t)² I), one distribution for each row of x."""
        t = _column(t, x)
        return normal(self.schedule.alpha(t) * x, self.schedule.sigma(t))

    def q_posterior(self, x_t: Tensor, x_0: Tensor, s: Tensor, t: Tensor) -> Independent:
        """q(x_s | x_t, x_0), (5.8), a Gaussian, for 0 ≤ s < t ≤ 1."""
        s, t = _column(s, x_t), _column(t, x_t)
        alpha_s, sigma_s = self.schedule.alpha(s), self.schedule.sigma(s)
        alpha_ts = self.schedule.alpha(t) / alpha_s
        kept = alpha_ts * (sigma_s / self.schedule.sigma(t)).square()  # α_{t|s} σ_s²/σ_t²
        variance = sigma_s.square() * (1 - alpha_ts * kept)  # σ_s² σ²_{t|s}/σ_t²
        return normal(kept * x_t + alpha_s * (1 - alpha_ts * kept) * x_0, variance.clamp(min=0).sqrt())

    # What is learnt: predictions

    def predict(
        self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """x̂_0 and ε̂, the predictions of the network, both of shape (n, d).

        With labels, the network predicts (1 − w) · without them + w · with them, (5.27): classifier-free guidance.
        Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022).

        Args:
            x_t: noisy data, shape (n, d).
            t: times in (0, 1], shape (n,) or a number.
            labels: integers, shape (n, k) or (k,), −1 for any.
            guidance: w; 0 ignores the labels, 1 obeys them, more insists on them.
        """
        t = _column(t, x_t)
        if labels is None or guidance == 0:
            prediction = self._network(x_t, t)
        elif guidance == 1:
            prediction = self._network(x_t, t, labels)
        else:
            prediction = torch.lerp(self._network(x_t, t), self._network(x_t, t, labels), guidance)
        return split(self.predicts, prediction, x_t, t, self.schedule)

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """dx/dt = α'(t) x̂_0 + σ'(t) ε̂, (5.21), the field along which the distribution of x_t flows."""
        x_0, eps = self.predict(x_t, t, labels, guidance)
        return target("velocity", x_0, eps, _column(t, x_t), self.schedule)

    def score(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """∇ log q(x_t) as the network sees it, −ε̂/σ(t), (5.15)."""
        return -self.predict(x_t, t, labels, guidance)[1] / self.schedule.sigma(_column(t, x_t))

    # Training

    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean squared error of what the network predicts, at one random time for each row of x.

        For "noise" it is DDPM's simple loss, (5.12), for "velocity" on the straight path flow matching, (5.23). With
        weighting="elbo" it is minus the bound in the limit of many steps, (5.13), in nats, up to a constant.

        Args:
            x: data, shape (n, d).
            labels: integers, shape (n, k), of which 0 to k at random are hidden from the network.
        """
        check_tensor("x", x, columns=self.dim)
        u = (torch.randperm(len(x), device=x.device) + 1 - torch.rand(len(x), dtype=x.dtype, device=x.device)) / len(x)
        eps = torch.randn_like(x)
        if labels is not None:
            if labels.ndim != 2 or len(labels) != len(x):
                shape = tuple(labels.shape)
                raise ValueError(f"labels must have shape ({len(x)}, k), not {shape}: use labels[:, None] for k = 1")
            hidden = torch.rand(labels.shape, device=x.device) < torch.rand(len(x), 1, device=x.device)
            labels = labels.masked_fill(hidden, -1)
        if self.weighting == "elbo":
            first, last = self._log_snr_range()
            t = self.schedule.time(first + (last - first) * u)
            error = self.predict(self.q_sample(x, t, eps), t, labels)[1] - eps
            return (first - last) / 2 * error.square().sum(1).mean()
        t = u[:, None]
        x_t = self.q_sample(x, t, eps)
        return (self._network(x_t, t, labels) - target(self.predicts, x, eps, t, self.schedule)).square().mean()

    # The bound

    def elbo_terms(
        self, x: Tensor, steps: int = 100, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The terms of (5.7) in nats: reconstruction (n,), KL of each step (n, T−1), KL of the prior (n,).

        The KL of a step is ½ (SNR(s) − SNR(t)) |x_0 − x̂_0|², (5.10), here at one x_t ~ q(x_t | x_0).

        Args:
            x: data, shape (n, d).
            steps: T, number of times; their log SNR is evenly spaced, from that of `resolution` on, and the last is 1.
            generator: source of randomness.
        """
        check_tensor("x", x, columns=self.dim)
        first, last = self._log_snr_range()
        log_snr = torch.linspace(first, last, check_int("steps", steps, 2), dtype=x.dtype, device=x.device)
        times = self.schedule.time(log_snr)
        times[-1] = 1
        snr = self.schedule.snr(times)
        kl = []
        for i, t in enumerate(times):
            x_0, _ = self.predict(self.q_sample(x, t, randn(x.shape, x, generator)), t)
            if self.levels is not None:
                x_0 = x_0.clamp(-1, 1)  # where all levels are
            if i == 0:
                reconstruction = self._log_likelihood(x, x_0, snr[0])
            else:
                kl.append((snr[i - 1] - snr[i]) / 2 * (x - x_0).square().sum(1))
        return reconstruction, torch.stack(kl, 1), kl_divergence(self.posterior(x, times[-1]), self.prior())

    def elbo(self, x: Tensor, steps: int = 100, *, generator: torch.Generator | None = None) -> Tensor:
        """A bound on log p(x), (5.6), for a chain of T = steps times, estimated by one x_t a term, in nats, shape (n,).

        The density, or with `levels` the probability, is that of x on the model's own scale.
        """
        reconstruction, kl, prior = self.elbo_terms(x, steps, generator=generator)
        return reconstruction - kl.sum(1) - prior

    def _log_snr_range(self) -> tuple[float, float]:
        return -2 * math.log(self.resolution), _LAST

    def _log_likelihood(self, x: Tensor, x_0: Tensor, snr: Tensor) -> Tensor:
        """log p(x | x_t) at the first time: N(x; x̂_0, I/SNR), or the share of the right grey level in it."""
        if self.levels is None:
            return normal(x_0, snr.rsqrt()).log_prob(x)
        levels = torch.linspace(-1, 1, self.levels, dtype=x.dtype, device=x.device)
        return GreyLevels(-snr / 2 * (levels - x_0[..., None]).square()).log_prob((x + 1) / 2)

    # Sampling

    @torch.no_grad()
    def sample(
        self,
        n: int,
        sampler: Sampler = Heun(),
        labels: Tensor | None = None,
        guidance: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n new x, shape (n, d): x_1 ~ p(x_1), which the sampler carries to t = 0.

        Args:
            n: number of samples.
            sampler: `DDPM`, `DDIM` or `Heun`.
            labels: what is asked for, integers of shape (n, k), or (k,) for all; −1 for any.
            guidance: how much the labels count, as in `predict`.
            generator: source of randomness.
        """
        x = randn((check_int("n", n), self.dim), self._origin, generator)
        for point in sampler.trajectory(self, x, labels, guidance, generator=generator):
            x = point.x_t
        return x

    def _network(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network says, in the type of x_t, for t of shape (n, 1) or (1, 1)."""
        t = t.expand(len(x_t), 1)[:, 0]
        more = () if labels is None else (torch.as_tensor(labels, device=x_t.device).expand(len(x_t), -1),)
        prediction = self.denoiser(x_t, t, *more).to(x_t.dtype)
        if prediction.shape != x_t.shape:
            raise ValueError(
                f"denoiser gives shape {tuple(prediction.shape)} for x_t of shape {tuple(x_t.shape)}: it must predict "
                f"{x_t.shape[1]} numbers for each row"
            )
        return prediction


# --- denoisers that are known: the oracles ---------------------------------------------------------------------------


class GaussianDenoiser(nn.Module):
    """E[x_0 | x_t], (5.14), for Gaussian data, μ + αC(α²C + σ²I)⁻¹(x_t − αμ), for predict="data".

    Args:
        mu: mean of the data, shape (d,).
        C: their covariance, shape (d, d); it may be singular.
        schedule: that of the diffusion.
    """

    def __init__(self, mu: Tensor, C: Tensor, schedule: str | Schedule) -> None:
        super().__init__()
        self.schedule = find_schedule(schedule)
        values, vectors = torch.linalg.eigh(C)
        for name, value in (("mu", mu), ("values", values.clamp(min=0)), ("vectors", vectors)):
            self.register_buffer(name, value)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        gain = alpha * self.values / (alpha.square() * self.values + sigma.square())
        return self.mu + (gain * ((x_t - alpha * self.mu) @ self.vectors)) @ self.vectors.T


class EmpiricalDenoiser(nn.Module):
    """E[x_0 | x_t] for a finite data set, Σᵢ wᵢxᵢ with w = softmax(−|x_t − αxᵢ|²/2σ²), (5.25), for predict="data".

    This is what a network that minimises the loss on these data perfectly would learn: it only copies.

    Args:
        x: the data, shape (m, d).
        schedule: that of the diffusion.
    """

    def __init__(self, x: Tensor, schedule: str | Schedule) -> None:
        super().__init__()
        self.schedule = find_schedule(schedule)
        self.register_buffer("x", check_tensor("x", x))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        agreement = alpha * (x_t @ self.x.T) - alpha.square() / 2 * self.x.square().sum(1)
        return (agreement / sigma.square()).softmax(1) @ self.x


def _column(t: Tensor | float, x: Tensor) -> Tensor:
    """t, of shape (n,), (n, 1) or a number, as a column beside x."""
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    if t.numel() not in (1, len(x)):
        raise ValueError(f"t must be a number or have one entry for each of the {len(x)} rows, not {tuple(t.shape)}")
    return t.reshape(-1, 1)
