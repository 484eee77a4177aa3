"""Chapter 5: diffusion models, which destroy x by known small steps and learn to undo them.

    x_t = α(t) x_0 + σ(t) ε,  ε ~ N(0, I),  0 ≤ t ≤ 1.      (5.1)

The data are at t = 0, the noise is at t = 1. Data x_0 may have any event shape, (n, d) or (n, channels, height, width);
scale them to about ±1: 2x − 1 for pixels between 0 and 1.

Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models" (2020); Kingma et al., "Variational Diffusion Models"
(2021); Lipman et al., "Flow Matching for Generative Modeling" (2023).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from companion.checks import check_int, check_labels, check_number, check_tensor, first_checked, kind_of
from companion.devices import evaluating, evaluation, randn
from companion.likelihoods import GreyLevels, Levels, normal
from companion.nets import run
from companion.parallel import draw_rows

#: log SNR at t = 1 of `Linear` and `Cosine`, up to 5e-5; for a schedule that leaves less of the data, the bound's last.
_LAST = -10.05

#: Root mean square up to which data are taken to be on the model's scale of about ±1.
_LARGEST = 10.0


#: How far rounding may take a time beyond 0 or 1.
_ROUNDING = 1e-4


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

    Ho, Jain & Abbeel (2020). σ' is infinite at t = 0: the velocity's expected loss is infinite, so `Diffusion` refuses
    it, and `Heun` with evenly spaced times loses its second order even with an exact denoiser; `edm_times` give it
    back. Let a network predict the data; or the noise, and then give the sampler `clip`, as x̂_0 = (x_t − σ ε̂)/α
    magnifies its errors, 152 times at t = 1.
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
        TypeError: if it is neither a name nor such an object.
        ValueError: if there is none of this name.
    """
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if isinstance(schedule, type) or not (isinstance(schedule, str) or hasattr(schedule, "alpha")):
        got = schedule.__name__ if isinstance(schedule, type) else type(schedule).__name__
        raise TypeError(f"schedule must be one of {', '.join(SCHEDULES)}, or an object such as Cosine(), not {got}")
    return SCHEDULES[schedule] if isinstance(schedule, str) else schedule


# --- what a network can predict --------------------------------------------------------------------------------------

PREDICTIONS = ("noise", "data", "velocity")


def target(predict: str, x_0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """What the network is to predict: ε, x_0, or the velocity dx_t/dt = α'(t) x_0 + σ'(t) ε, (5.29)."""
    if predict == "velocity":
        d_alpha, d_sigma = schedule.rates(t)
        return d_alpha * x_0 + d_sigma * eps
    return eps if predict == "noise" else x_0


def split(predict: str, prediction: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """x_0 and ε from x_t and the prediction of either, or of the velocity: two linear equations, (5.1), (5.35)."""
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
    """A point of a trajectory: t, x_t, and x̂_0, where the network believes that it leads; both of shape (n, …)."""

    t: float
    x_t: Tensor
    x_0: Tensor


@dataclass(frozen=True)
class Sampler:
    """Carries x from noise at t = 1 to data at t = 0, step by step; a subclass says how it makes one step.

    Args:
        steps: number of steps, equal in t; or the times themselves, which fall from 1 to 0.
        clip: lowest and highest value of the data, such as (−1, 1). Every x̂_0 is kept between them, and ε̂ becomes
            (x_t − α x̂_0)/σ. A network that predicts the noise needs it: near t = 1 its x̂_0 is far off.

    Raises:
        TypeError: if steps is neither an integer nor a sequence of numbers.
        ValueError: if there is no step, the times do not fall from 1 to 0, or clip is no interval.
    """

    steps: int | Sequence[float] = 50
    clip: tuple[float, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.steps, Sequence | Tensor | np.ndarray) and not isinstance(self.steps, str):
            object.__setattr__(self, "steps", tuple(map(float, self.steps)))
            if (
                self.times[:1] != (1,)
                or self.times[-1] != 0
                or not all(s < t for t, s in itertools.pairwise(self.times))
            ):
                raise ValueError(f"steps, if they are times, must fall from 1 to 0, got {self.steps}")
        else:
            check_int("steps", self.steps)
        if self.clip is not None and not (np.shape(self.clip) == (2,) and self.clip[0] < self.clip[1]):
            raise ValueError(f"clip must be the lowest and the highest value of the data, got {self.clip}")

    @property
    def times(self) -> tuple[float, ...]:
        """The times from 1 to 0."""
        return self.steps if isinstance(self.steps, tuple) else tuple(i / self.steps for i in range(self.steps, -1, -1))

    @torch.no_grad()
    def trajectory(
        self,
        model: Diffusion,
        x_t: Tensor,
        labels: Tensor | None = None,
        guidance: float = 1.0,
        *,
        start: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Point]:
        """The points at `start` and at those of the sampler's times that are smaller, from x_t to x_0.

        The model is in evaluation mode while it computes, and between the points in the mode in which it was.

        Args:
            model: whose predictions it follows.
            x_t: x at time `start`, shape (n, …); at t = 1 noise from the prior.
            labels, guidance: as in `Diffusion.predict`.
            start: t, from 0 to 1, such as 0.5 for data with half of the noise.
            generator: source of the noise that stochastic samplers add.
        """
        if labels is not None:
            labels = model._labels(labels, len(x_t), wait=True).to(x_t.device)
        if check_number("start", start, zero=True) > 1:
            raise ValueError(f"start must be a time from 0, the data, to 1, the noise, got {start}")
        predict = functools.partial(self._predict, model, labels=labels, guidance=guidance)
        x, guess, times = x_t, (), [float(start), *(time for time in self.times if time < start)]
        for i, t in enumerate(times):
            with evaluating(model):
                if i:
                    x = self.step(model, predict, x, *guess, t, times[i - 1], generator)
                guess = predict(x, t) if t else (x,)
            yield Point(t, x, guess[0])

    def _predict(self, model: Diffusion, x_t: Tensor, t: float, **asked: object) -> tuple[Tensor, Tensor]:
        """x̂_0 and ε̂, clipped if it is asked for."""
        x_0, eps = model.predict(x_t, t, **asked)
        if self.clip is None:
            return x_0, eps
        alpha, sigma = _alpha_sigma(model, t, x_t)
        x_0 = x_0.clamp(*self.clip)
        return x_0, (x_t - alpha * x_0) / sigma

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
    """Ancestral sampling, x_s ~ q(x_s | x_t, x̂_0), (5.24) (Ho, Jain & Abbeel 2020).

    The true variance of x_s given x_t, (5.26), lies on average between the two of that paper if the data have at most
    variance 1 in every direction and α² + σ² = 1: the lower is right for a single point, the upper for N(0, I).

    Args:
        steps: number of steps.
        variance: "lower", that of q(x_s | x_t, x_0), (5.11); or "upper", σ²_{t|s} of (5.3), DDPM's β, with no noise in
            the last step.

    Raises:
        ValueError: if there is no such variance.
    """

    variance: str = "lower"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("lower", "upper"):
            raise ValueError(f'variance must be "lower" or "upper", got {self.variance!r}')

    def step(self, model, predict, x_t, x_0, eps, s, t, generator) -> Tensor:
        q = model.q_posterior(x_t, x_0, s, t)
        std = q.stddev
        if self.variance == "upper" and s > 0:
            sigma_s, sigma_t = (_alpha_sigma(model, u, x_t)[1] for u in (s, t))
            std = std * sigma_t / sigma_s  # σ_{t|s}
        return q.mean + std * randn(x_t.shape, x_t, generator)


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = α_s x̂_0 + √(σ_s² − n²) ε̂ + n z with fresh noise z, n = η · the deviation of q(x_s | x_t, x_0), (5.25).

    η = 1 is DDPM; η = 0 adds no noise and is Euler's method for (5.27). Song, Meng & Ermon, "Denoising Diffusion
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
        fresh = self.eta * model.q_posterior(x_t, x_0, s, t).stddev
        kept = (sigma**2 - fresh**2).clamp(min=0).sqrt()
        z = randn(x_t.shape, x_t, generator)
        return alpha * x_0 + kept * eps + fresh * z


@dataclass(frozen=True)
class Heun(Sampler):
    """The trapezoidal rule on dx = x̂_0 dα + ε̂ dσ, (5.30): second order, with 2 · steps − 1 evaluations.

    Euler's step predicts x_s, the network looks there, and the mean of both predictions makes the step; the last step,
    to t = 0, is Euler's. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022).
    """

    def step(self, model, predict, x_t, x_0, eps, s, t, generator) -> Tensor:
        alpha_s, sigma_s = _alpha_sigma(model, s, x_t)
        alpha_t, sigma_t = _alpha_sigma(model, t, x_t)
        x_s = alpha_s * x_0 + sigma_s * eps
        if s == 0:
            return x_s
        x_0_s, eps_s = predict(x_s, s)
        d_alpha, d_sigma = alpha_s - alpha_t, sigma_s - sigma_t
        return x_t + d_alpha * (x_0 + x_0_s) / 2 + d_sigma * (eps + eps_s) / 2


def edm_times(
    steps: int, schedule: str | Schedule, *, smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0
) -> tuple[float, ...]:
    """Times for a `Sampler`, closer together where there is little noise: even in (σ/α)^(1/ρ), (5.34).

    The first is 1, the last 0, and the others have the σ/α of Karras et al., "Elucidating the Design Space of
    Diffusion-Based Generative Models" (2022).

    Args:
        steps: number of steps, at least 2.
        schedule: that of the model.
        smallest, largest: σ/α at the last time before 0, and where the sequence starts; the start itself is moved to 1.
        rho: ρ; the larger, the closer together are the last times.
    """
    check_int("steps", steps, 2)
    low, high = (check_number(name, value) for name, value in (("smallest", smallest), ("largest", largest)))
    ends = torch.tensor([high, low], dtype=torch.float64, device="cpu") ** (1 / check_number("rho", rho))
    share = torch.arange(steps, dtype=torch.float64, device="cpu") / (steps - 1)
    noise = (ends[0] + share * (ends[1] - ends[0])) ** rho
    return (1.0, *find_schedule(schedule).time(-2 * noise.log())[1:].tolist(), 0.0)


def _alpha_sigma(model: Diffusion, t: float, x: Tensor) -> tuple[Tensor, Tensor]:
    t = _column(t, x)
    return model.schedule.alpha(t), model.schedule.sigma(t)


# --- the model -------------------------------------------------------------------------------------------------------


class Diffusion(nn.Module):
    """A deep latent-variable model with a fixed encoder, q(x_t | x_0), and one network for all times.

    Bounds and samples are made in evaluation mode, after which every module is in the mode in which it was; `loss`,
    `predict`, `score` and `velocity` call the network in the mode in which it is.

    Args:
        denoiser: maps x_t, shape (n, …), and t, shape (n,), to what it predicts, of the shape of x_t; for conditional
            models also takes labels, integers of shape (n, k) in which −1 stands for any. If it has an attribute
            `classes`, the number of values of each label, as `ResidualMLP` and `UNet` have, labels must be below.
        dim: d for x of shape (n, d); or the event shape, such as (1, 16, 16) for x of shape (n, 1, 16, 16).
        schedule: "linear", "cosine", "straight", or an object with their methods.
        predict: what the denoiser predicts, "noise", "data" or "velocity".
        weighting: of the squared errors in `loss`: "simple", what the network predicts at t ~ U(0, 1); or "elbo", the
            bound itself.
        levels: number of grey levels, evenly spaced from −1 to 1; without it `elbo` bounds a density.
        resolution: σ/α at the first of the times of `elbo`, from which x is read off: by default 0.001, or a third of
            the distance of two grey levels; but no less than the schedule's σ/α at t = 0.

    Raises:
        TypeError: if denoiser cannot be called, or is a class; if dim is neither an integer nor a sequence of them; in
            the methods, if x is float64 and the denoiser float32, or labels are no integers.
        ValueError: if there is no such schedule, prediction or weighting, or what the network would have to predict is
            infinite or leaves x_0 open at one end of the schedule; in the methods, if x, t or labels have another shape
            or scale than the model's.
    """

    checked = False

    def __init__(
        self,
        denoiser: Callable[..., Tensor],
        dim: int | Sequence[int],
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
        if isinstance(denoiser, type) or not callable(denoiser):
            raise TypeError(f"denoiser must be a module or a function of x_t and t, not {kind_of(denoiser)}")
        self.denoiser = denoiser
        sizes = dim if isinstance(dim, Sequence) and not isinstance(dim, str) else [dim]
        self.event_shape = torch.Size(check_int("dim", size) for size in sizes)
        self.dim = self.event_shape.numel()
        self.schedule = find_schedule(schedule)
        self.predicts = predict
        self._check_ends()
        self.weighting = weighting
        self.levels = None if levels is None else check_int("levels", levels, 2)
        if resolution is None:
            resolution = 1e-3 if levels is None else 2 / 3 / (self.levels - 1)
        self.resolution = check_number("resolution", resolution)
        weight = self._weight()
        like = {} if weight is None else {"dtype": weight.dtype, "device": weight.device}
        self.register_buffer("_origin", torch.zeros(self.event_shape, **like), persistent=False)

    # What is known: distributions of the noising process

    def prior(self) -> Independent:
        """p(x_1) = N(x_1; 0, I)."""
        unit = Normal(self._origin, torch.ones_like(self._origin), validate_args=False)
        return Independent(unit, self._origin.ndim, validate_args=False)

    def q_sample(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = α(t) x_0 + σ(t) ε, (5.1), for x and eps of shape (n, …) and t in [0, 1], shape (n,) or a number.

        Raises:
            TypeError: if x has no floating-point numbers.
            ValueError: if eps has another shape than x; if t has another shape, or is outside of [0, 1], which is not
                looked at on a GPU, where the host would have to wait for it.
        """
        t = _column(t, x)
        if eps.shape != x.shape:
            raise ValueError(f"eps has shape {tuple(eps.shape)}, x {tuple(x.shape)}: use torch.randn_like(x)")
        return self.schedule.alpha(t) * x + self.schedule.sigma(t) * eps

    def posterior(self, x: Tensor, t: Tensor) -> Independent:
        """q(x_t | x_0) = N(x_t; α(t) x_0, σ(t)² I), one distribution for each row of x."""
        t = _column(t, x)
        return normal(self.schedule.alpha(t) * x, self.schedule.sigma(t))

    def q_posterior(self, x_t: Tensor, x_0: Tensor, s: Tensor, t: Tensor) -> Independent:
        """q(x_s | x_t, x_0), (5.11), a Gaussian, for 0 ≤ s < t ≤ 1."""
        s, t = _column(s, x_t), _column(t, x_t)
        alpha_s, sigma_s = self.schedule.alpha(s), self.schedule.sigma(s)
        alpha_ts = self.schedule.alpha(t) / alpha_s
        sigma_t = self.schedule.sigma(t)
        kept = alpha_ts * (sigma_s / sigma_t).square()  # α_{t|s} σ_s²/σ_t²
        variance = sigma_s.square() * (1 - alpha_ts * kept)  # σ_s² σ²_{t|s}/σ_t²
        mean = kept * x_t + alpha_s * (1 - alpha_ts * kept) * x_0
        return normal(mean, variance.clamp(min=0).sqrt())

    # What is learnt: predictions

    def predict(
        self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """x̂_0 and ε̂, the predictions of the network, both of shape (n, …).

        With labels, the network predicts (1 − ω) · without them + ω · with them, (5.40): classifier-free guidance.
        Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022), whose w is ω − 1.

        Args:
            x_t: noisy data, shape (n, …).
            t: times in (0, 1], shape (n,) or a number, checked as in `q_sample`.
            labels: integers, shape (n, k) or (k,), −1 for any. Their values are not looked at on a GPU.
            guidance: ω; 0 ignores the labels, 1 obeys them, more insists on them.
        """
        t = _column(t, x_t)
        self._check_type(x_t)
        if labels is not None:
            labels = self._labels(labels, len(x_t))
        if labels is None or guidance == 0:
            prediction = self._network(x_t, t)
        elif guidance == 1:
            prediction = self._network(x_t, t, labels)
        else:
            prediction = torch.lerp(self._network(x_t, t), self._network(x_t, t, labels), guidance)
        return split(self.predicts, prediction, x_t, t, self.schedule)

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """dx/dt = α'(t) x̂_0 + σ'(t) ε̂, (5.29), the field along which the distribution of x_t flows."""
        x_0, eps = self.predict(x_t, t, labels, guidance)
        return target("velocity", x_0, eps, _column(t, x_t), self.schedule)

    def score(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """∇ log q(x_t) as the network sees it, −ε̂/σ(t), (5.20)."""
        return -self.predict(x_t, t, labels, guidance)[1] / self.schedule.sigma(_column(t, x_t))

    # Training

    def check_data(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Make sure that x and labels are data on the model's scale; `loss` does so with its first batch.

        With `levels`, every pixel must be one of them. Without, the scale is taken to be another if the root mean
        square of x is above 10: standardised data have 1, the book's sets in the plane at most 2.8, images from 0 to
        255 about 100.

        Args:
            x: data, shape (n, …).
            labels: integers, shape (n, k), −1 for any.

        Raises:
            TypeError: if x is no tensor of the model's type, or labels are no integers.
            ValueError: if they have another shape, scale or range, or x is not finite.
        """
        check_rows(self, x, labels)
        size = torch.linalg.vector_norm(x) / math.sqrt(x.numel())
        if not x.is_meta and size > _LARGEST:
            raise ValueError(
                f"x has a root mean square of {size:g}, but should be scaled to about ±1: use x / 127.5 - 1 for pixels "
                "from 0 to 255, or standardise it by (x - x.mean(0)) / x.std(0)"
            )

    @first_checked
    def loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean squared error of what the network predicts, at one random time for each row of x.

        With weighting "simple" it is the mean over the rows and over the d entries of x, so 1/d of the ‖·‖² of (5.15)
        for the noise and of (5.36) for the velocity. With "elbo" it is the part of minus the bound that depends on
        the network, (5.18), for infinitely many steps, in nats, the mean over the rows. The times of a batch are
        stratified, so that it sees all of them.

        Args:
            x: data, shape (n, …).
            labels: integers, shape (n, k). In each row a random number of them are hidden from the network.
        """
        check_rows(self, x, labels, values=False)
        u = draw_rows(functools.partial(_stratified, like=x), len(x), x.device)
        eps = randn(x.shape, x)
        if labels is not None:
            labels = _hide(labels, x)
        if self.weighting == "elbo":
            first, last = self._log_snr_range()
            t = self.schedule.time(first + (last - first) * u)
            error = self.predict(self.q_sample(x, t, eps), t, labels)[1] - eps
            return (first - last) / 2 * error.square().flatten(1).sum(1).mean()
        x_t, t = self.q_sample(x, u, eps), _column(u, x)
        truth = target(self.predicts, x, eps, t, self.schedule)
        return (self._network(x_t, t, labels) - truth).square().mean()

    # The bound

    @evaluation
    def elbo_terms(
        self, x: Tensor, steps: int = 100, *, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The terms of (5.9) in nats: reconstruction (n,), KL of each step (n, T−1), KL of the prior (n,).

        The KL of a step is ½ (SNR(s) − SNR(t)) |x_0 − x̂_0|², (5.13), here at one x_t ~ q(x_t | x_0).

        Args:
            x: data, shape (n, …). Values are checked as in `check_data`; but x may be far from the model's data.
            steps: T, number of times; their log SNR is evenly spaced, from that of `resolution` on, and the last is 1.
            labels: integers, shape (n, k), −1 for any: the terms are those of log p(x | labels).
            generator: source of randomness.
        """
        check_rows(self, x, labels)
        check_int("steps", steps, 2)
        like = {"dtype": x.dtype, "device": x.device}
        log_snr = torch.linspace(*self._log_snr_range(), steps, **like)
        times = self.schedule.time(log_snr)
        times[-1] = 1
        snr = self.schedule.snr(times)
        kl = []
        for i, t in enumerate(times):
            x_t = self.q_sample(x, t, randn(x.shape, x, generator))
            x_0, _ = self.predict(x_t, t, labels)
            if self.levels is not None:
                x_0 = x_0.clamp(-1, 1)  # where all levels are
            if i == 0:
                reconstruction = self._log_likelihood(x, x_0, snr[0])
            else:
                error = (x - x_0).square().flatten(1).sum(1)
                kl.append((snr[i - 1] - snr[i]) / 2 * error)
        prior = kl_divergence(self.posterior(x, times[-1]), self.prior())
        return reconstruction, torch.stack(kl, 1), prior

    def elbo(
        self, x: Tensor, steps: int = 100, *, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """A bound on log p(x), (5.6), for a chain of T = steps times, estimated by one x_t a term, in nats, shape (n,).

        The density, or with `levels` the probability, is that of x on the model's own scale; with labels, given them.
        """
        reconstruction, kl, prior = self.elbo_terms(x, steps, labels=labels, generator=generator)
        return reconstruction - kl.sum(1) - prior

    # The density

    @evaluation
    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        steps: int = 100,
        *,
        labels: Tensor | None = None,
        guidance: float = 1.0,
        probes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x) of what the probability-flow ODE makes of noise, by (5.32), in nats, shape (n,).

        The ODE carries α x, where σ/α is `resolution`, forwards to the noise at t = 1, whose density is known; on the
        way the divergence of the velocity is added up, both by the trapezoidal rule as in `Heun`. This is the density
        of what `Heun` draws, and not the one that `elbo` bounds, which is that of `DDPM`'s chain. With the best
        denoiser it is that of the data, with noise of deviation `resolution`. Song et al., "Score-Based Generative
        Modeling through Stochastic Differential Equations" (2021).

        Args:
            x: data, shape (n, …).
            steps: number of steps, evenly spaced in log SNR; there are steps + 1 predictions.
            labels, guidance: as in `predict`.
            probes: number of random signs e by which Hutchinson's eᵀ(∂x̂_0/∂x)e estimates the divergence; by default it
                is exact, which takes d derivatives at each time. The estimate of log p(x) is unbiased but for `steps`.
            generator: source of the random signs.
        """
        check_rows(self, x, labels)
        check_int("steps", steps)
        if probes is not None:
            shape = (check_int("probes", probes), *x.shape)
            probes = randn(shape, x, generator).sign()
        first, last = self._log_snr_range()
        log_snr = torch.linspace(first, last, steps + 1, dtype=x.dtype)
        times = self.schedule.time(log_snr.to(x))
        times[-1] = 1
        alphas, sigmas = self.schedule.alpha(times), self.schedule.sigma(times)

        def slopes(x_t: Tensor, i: int) -> tuple[Tensor, ...]:
            """x̂_0, ε̂, and the divergence of each."""
            condition = times[i], labels, guidance
            x_0, eps, trace = self._divergence(x_t, *condition, probes)
            return x_0, eps, trace, (self.dim - alphas[i] * trace) / sigmas[i]

        x_t, log_volume = alphas[0] * x, self.dim * alphas[0].log().expand(len(x))
        here = slopes(x_t, 0)
        for i in range(1, steps + 1):
            d_alpha, d_sigma = alphas[i] - alphas[i - 1], sigmas[i] - sigmas[i - 1]
            there = slopes(x_t + d_alpha * here[0] + d_sigma * here[1], i)
            both = zip(here, there, strict=True)
            x_0, eps, of_data, of_noise = ((a + b) / 2 for a, b in both)
            x_t = x_t + d_alpha * x_0 + d_sigma * eps
            log_volume = log_volume + d_alpha * of_data + d_sigma * of_noise
            here = slopes(x_t, i) if i < steps else there
        return self.prior().log_prob(x_t) + log_volume

    def _divergence(
        self, x_t: Tensor, t: Tensor, labels: Tensor | None, guidance: float, probes: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x̂_0, ε̂, and Σⱼ ∂x̂_0ⱼ/∂x_tⱼ, shape (n,), exact or estimated by random signs."""
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            x_0, eps = self.predict(x_t, t, labels, guidance)
            if not x_0.requires_grad:
                return x_0, eps.detach(), x_t.new_zeros(len(x_t))
            flat, trace = x_0.flatten(1), 0
            for e in torch.eye(self.dim).to(x_t) if probes is None else probes.flatten(2):
                (slope,) = torch.autograd.grad((flat * e).sum(), x_t, retain_graph=True, materialize_grads=True)
                trace = trace + (slope.flatten(1) * e).sum(1)
        return x_0.detach(), eps.detach(), trace if probes is None else trace / len(probes)

    def _log_snr_range(self) -> tuple[float, float]:
        return min(-2 * math.log(self.resolution), self._first), self._last

    def _log_likelihood(self, x: Tensor, x_0: Tensor, snr: Tensor) -> Tensor:
        """log p(x | x_t) at the first time: N(x; x̂_0, I/SNR), or the share of the right grey level in it."""
        if self.levels is None:
            return normal(x_0, snr.rsqrt()).log_prob(x)
        levels = torch.linspace(-1, 1, self.levels, dtype=x.dtype, device=x.device)
        logits = -snr / 2 * (levels - x_0.flatten(1)[..., None]).square()
        return GreyLevels(logits).log_prob((x.flatten(1) + 1) / 2)

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
        """n new x, shape (n, …): x_1 ~ p(x_1), which the sampler carries to t = 0.

        Args:
            n: number of samples.
            sampler: `DDPM`, `DDIM` or `Heun`.
            labels: what is asked for, integers of shape (n, k), or (k,) for all; −1 for any.
            guidance: how much the labels count, as in `predict`.
            generator: source of randomness.
        """
        x_1 = randn((check_int("n", n), *self.event_shape), self._origin, generator)
        return self.denoise(x_1, 1.0, sampler, labels, guidance, generator=generator)

    def denoise(
        self,
        x_t: Tensor,
        t: float,
        sampler: Sampler = Heun(),
        labels: Tensor | None = None,
        guidance: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x_0, shape (n, …), to which the sampler carries a given x_t from time t, such as an image with noise.

        Args:
            x_t: noisy data, shape (n, …), such as `q_sample(x, t, eps)`.
            t: its time, one number from 0 to 1 for all rows. Smaller times keep more of x_t.
            sampler, labels, guidance, generator: as in `sample`.
        """
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler must be an object such as Heun(50), not {kind_of(sampler)}")
        *_, end = sampler.trajectory(self, x_t, labels, guidance, start=t, generator=generator)
        return end.x_t

    # What the network gets and gives

    def _network(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network says, in the type of x_t, for t of shape (n, 1, …) or (1, 1, …)."""
        if x_t.shape[1:] != self.event_shape:
            raise ValueError(_wrong_shape("x_t", x_t, self.event_shape))
        t = t.flatten().expand(len(x_t))
        more = () if labels is None else (torch.as_tensor(labels, device=x_t.device).expand(len(x_t), -1),)
        prediction = run("denoiser", self.denoiser, x_t, t, *more)
        if prediction.shape != x_t.shape:
            raise ValueError(
                f"denoiser gives shape {tuple(prediction.shape)} for x_t of shape {tuple(x_t.shape)}: it must give a "
                "number for each entry of x_t, in the same shape"
            )
        return prediction

    def _labels(self, labels: Tensor, rows: int, *, wait: bool = False) -> Tensor:
        return check_labels(labels, rows, getattr(self.denoiser, "classes", None), wait=wait)

    def _weight(self) -> Tensor | None:
        """A tensor of the denoiser's own, whose type and device are the denoiser's; None if it has none."""
        if not isinstance(self.denoiser, nn.Module):
            return None
        tensors = itertools.chain(self.denoiser.parameters(), self.denoiser.buffers())
        return next((tensor for tensor in tensors if tensor.is_floating_point()), None)

    def _check_type(self, x: Tensor) -> None:
        weight = self._weight()
        if weight is not None and {x.dtype, weight.dtype} == {torch.float32, torch.float64}:
            raise TypeError(f"x is {x.dtype}, the denoiser {weight.dtype}: convert one with .to(dtype)")

    def _check_ends(self) -> None:
        """Look at t = 0 and t = 1: is what the network is to predict finite, and where does log SNR begin and end?"""
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu")
        if self.predicts == "velocity" and torch.stack(self.schedule.rates(ends)).isinf().any():
            raise ValueError(
                'predict="velocity" is infinite at t = 0 or 1 with this schedule, as its α\' or σ\' is: choose "data" '
                'or "noise"'
            )
        most, left = self.schedule.snr(ends).tolist()
        if self.predicts == "noise" and not left > 0:
            raise ValueError(
                'predict="noise" leaves x_0 open at t = 1, where the path is all noise: choose "velocity" or "data"'
            )
        self._first = math.log(most) if 0 < most < math.inf else math.inf
        self._last = math.log(left) if left > math.exp(_LAST + 1e-3) else _LAST


def check_rows(model: Diffusion, x: Tensor, labels: Tensor | None, *, values: bool = True) -> None:
    """Let x and labels pass if they have the shapes and types of the model's data, and values that it takes."""
    check_tensor("x", x, ndim=None)
    if x.shape[1:] != model.event_shape:
        raise ValueError(_wrong_shape("x", x, model.event_shape))
    if labels is not None:
        shape = torch.as_tensor(labels).shape
        if len(shape) != 2 or shape[0] != len(x):
            raise ValueError(f"labels must have shape ({len(x)}, k), not {tuple(shape)}: use labels[:, None] for k = 1")
        if values:
            model._labels(labels, len(x), wait=True)
    if not values or x.is_meta:
        return
    model._check_type(x)
    low, high = (end.item() for end in x.aminmax())
    if not math.isfinite(high - low):
        raise ValueError("x has entries that are NaN or infinite: remove those rows")
    if model.levels is not None:
        top = model.levels - 1
        if not Levels(model.levels).check((x + 1) / 2).all():
            scale = 1 if high <= 1 else top if high <= top else 255
            remedy = f"use {'2 * x' if scale == 1 else f'x / {scale / 2:g}'} - 1" if low >= 0 else "choose levels anew"
            raise ValueError(
                f"x must have the {model.levels} grey levels from −1 to 1, but has others, from {low:g} to {high:g}: "
                f"{remedy}"
            )


# --- denoisers that are known: the oracles ---------------------------------------------------------------------------


class GaussianDenoiser(nn.Module):
    """E[x_0 | x_t], (5.19), for Gaussian data, μ + αC(α²C + σ²I)⁻¹(x_t − αμ), for predict="data".

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
    """E[x_0 | x_t] for a finite data set, Σₙ rₙxₙ with r = softmax(−|x_t − αxₙ|²/2σ²), (5.38), for predict="data".

    This is what a network that minimises the loss on these data perfectly would learn: it only copies.

    Args:
        x: the data, shape (N, d).
        schedule: that of the diffusion.
    """

    def __init__(self, x: Tensor, schedule: str | Schedule) -> None:
        super().__init__()
        self.schedule = find_schedule(schedule)
        self.register_buffer("x", check_tensor("x", x))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        length2 = self.x.square().sum(1)
        agreement = alpha * (x_t @ self.x.T) - alpha.square() / 2 * length2
        return (agreement / sigma.square()).softmax(1) @ self.x


def _column(t: Tensor | float, x: Tensor) -> Tensor:
    """t, a number or of shape (n,), as a column of shape (n, 1, …) beside x, shape (n, …)."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        check_tensor("x", x, ndim=None)  # which refuses it
    if isinstance(t, int | float):
        column, inside = x.new_full((), t), -_ROUNDING <= t <= 1 + _ROUNDING
    else:
        column = torch.as_tensor(t, dtype=x.dtype)
        if column.numel() not in (1, len(x)) or column.shape[:1].numel() != column.numel():
            shape = tuple(column.shape)
            raise ValueError(f"t must be a number or have one entry for each of the {len(x)} rows, not {shape}")
        inside = column.device.type != "cpu" or torch.equal(column, column.clamp(-_ROUNDING, 1 + _ROUNDING))
    if not inside:
        wrong = column[~((column >= 0) & (column <= 1))].flatten()[0]
        raise ValueError(f"t must be between 0, the data, and 1, the noise, not {wrong:g}: step i of T is t = i / T")
    return column.to(x.device).reshape(-1, *[1] * (x.ndim - 1))


def _stratified(n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """n numbers in random order, one from each n-th of the interval from 0 to 1."""
    source = {"device": like.device, "generator": generator}
    return (torch.randperm(n, **source) + 1 - torch.rand(n, dtype=like.dtype, **source)) / n


def _hide(labels: Tensor, x: Tensor) -> Tensor:
    """The labels, of which in each row a share is replaced by −1 that is itself drawn at random."""
    labels = torch.as_tensor(labels, device=x.device).long()

    def draw(n: int, generator: torch.Generator | None) -> Tensor:
        source = {"device": x.device, "generator": generator}
        return torch.rand(n, labels.shape[1], **source) < torch.rand(n, 1, **source)

    return labels.masked_fill(draw_rows(draw, len(x), x.device), -1)


def _wrong_shape(name: str, x: Tensor, event_shape: torch.Size) -> str:
    wanted = ", ".join(["n", *map(str, event_shape)])
    return f"{name} must have shape ({wanted}), not {tuple(x.shape)}: reshape it, or give Diffusion another dim"
