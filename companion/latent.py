"""Chapter 1: latent-variable models small enough that p(x) is known, and the estimates one needs where it is not."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal

from companion.checks import check_alike, check_int, check_number, check_tensor
from companion.devices import seeded


class LatentModel(Protocol):
    """What the estimates below need of a model."""

    def prior(self) -> Distribution: ...

    def likelihood(self, z: Tensor) -> Distribution: ...


class Estimate(NamedTuple):
    """An estimate of log p(x) from k weighted samples, one entry for each x.

    Attributes:
        log_prob: log of the unbiased estimate of p(x), in nats, shape (n,); itself biased low, (1.14).
        ess: effective sample size between 1 and k, (1.19), shape (n,).
    """

    log_prob: Tensor
    ess: Tensor


def effective_sample_size(log_w: Tensor) -> Tensor:
    """(Σw)² / Σw², (1.19), of log-weights of shape (k, n): between 1 and k, shape (n,)."""
    log_sum, log_sum_sq = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
    return (2 * log_sum - log_sum_sq).exp()


def monte_carlo(
    model: LatentModel,
    x: Tensor,
    k: int,
    *,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Average the likelihood over the prior, p̂(x) = (1/k) Σᵢ p(x | zᵢ) with zᵢ ~ p(z), (1.12).

    Args:
        model: anything with `prior()` and `likelihood(z)`.
        x: observations, shape (n,) or (n, d).
        k: draws of z for each observation.
        generator: source of randomness.

    Raises:
        ValueError: if k < 1 or the rows of x have another shape than the model's.
    """
    with seeded(generator):
        z = model.prior().sample((check_int("k", k), len(x))).to(x.device)
    likelihood = model.likelihood(z)
    check_event(x, likelihood.event_shape)
    log_w = likelihood.log_prob(x)
    log_mean = log_w.logsumexp(0) - math.log(k)
    return Estimate(log_mean, effective_sample_size(log_w))


def importance(
    model: LatentModel,
    x: Tensor,
    proposal: Distribution,
    k: int,
    *,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Average importance weights, p̂(x) = (1/k) Σᵢ p(x, zᵢ) / q(zᵢ) with zᵢ ~ q(z), (1.17).

    Args:
        model: anything with `prior()` and `likelihood(z)`.
        x: observations, shape (n,) or (n, d).
        proposal: q(z), one for all x (batch shape ()) or one for each (batch shape (n,)).
        k: draws of z for each observation.
        generator: source of randomness.

    Raises:
        ValueError: if k < 1, the proposal has another batch shape, or the rows of x another shape than the model's.
    """
    check_batch(proposal, len(x))
    q = proposal.expand((len(x),))
    with seeded(generator):
        z = q.sample((check_int("k", k),))
    likelihood = model.likelihood(z)
    check_event(x, likelihood.event_shape)
    log_joint = model.prior().log_prob(z) + likelihood.log_prob(x)
    log_w = log_joint - q.log_prob(z)
    log_mean = log_w.logsumexp(0) - math.log(k)
    return Estimate(log_mean, effective_sample_size(log_w))


@dataclass(frozen=True)
class NonlinearGaussian:
    """A folded curve with noise: z ~ N(0, 1), x | z ~ N(f(z), σ²), f(z) = z + b sin 3z, (1.11).

    One dimension for z and for x, so that a quadrature gives p(x) and p(z | x) to machine precision. With b = 0 the
    marginal is N(0, 1 + σ²).

    Args:
        b: how strongly the curve folds; it is monotone for |b| ≤ 1/3.
        sigma: standard deviation of the noise, in units of x.

    Raises:
        ValueError: if sigma is not positive or b is not finite.
    """

    b: float = 1.0
    sigma: float = 0.3

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma)
        if not math.isfinite(self.b):
            raise ValueError(f"b must be finite, got {self.b}")

    def f(self, z: Tensor) -> Tensor:
        """Mean of x given z."""
        return z + self.b * torch.sin(3 * z)

    def prior(self) -> Normal:
        """p(z) = N(0, 1)."""
        return Normal(0.0, 1.0)

    def likelihood(self, z: Tensor) -> Normal:
        """p(x | z) = N(f(z), σ²)."""
        return Normal(self.f(z), self.sigma)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) = log p(z) + log p(x | z); x and z broadcast."""
        return self.prior().log_prob(z) + self.likelihood(z).log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log ∫ p(x, z) dz, (1.5), by the trapezoidal rule, exponentially exact here; shape (n,)."""
        z = self.grid(x)
        return self.log_joint(x[:, None], z).logsumexp(-1) + torch.log(z[1] - z[0])

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A grid z, shape (m,), and the density p(z | x) on it, (1.9), shape (n, m)."""
        z = self.grid(x)
        return z, (self.log_joint(x[:, None], z) - self.log_prob(x)[:, None]).exp()

    def grid(self, x: Tensor) -> Tensor:
        """Evenly spaced z that cover p(z | x) for every x, with several on its narrowest peak; shape (m,).

        Raises:
            ValueError: if x is not a finite floating-point tensor of shape (n,).
        """
        check_tensor("x", x, ndim=1, finite=True)
        reach = 10 + abs(self.b) + x.abs().max().item()
        narrowest = min(1.0, self.sigma) / (1 + 3 * abs(self.b))
        m = 2 * math.ceil(reach / (0.4 * narrowest)) + 1
        return torch.linspace(-reach, reach, m, dtype=x.dtype, device=x.device)

    def sample_joint(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n pairs (z, x) by ancestral sampling, (1.8), each of shape (n,)."""
        z = _draw(self.prior(), (check_int("n", n),), generator)
        return z, _draw(self.likelihood(z), (), generator)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n values of x, shape (n,)."""
        return self.sample_joint(n, generator=generator)[1]


class DiscreteLatent(nn.Module):
    """What all models with a latent z in {0, …, K−1} share; a subclass gives `prior`, `likelihood` and `log_joint`."""

    def prior(self) -> Categorical:
        """p(z)."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x | z)."""
        raise NotImplementedError

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) for every z, shape (n, K)."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log Σ_z p(z) p(x | z), (1.6), shape (n,)."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor) -> Categorical:
        """p(z | x) by Bayes, (1.9); for a mixture these are the responsibilities."""
        return Categorical(logits=self.log_joint(x))

    def elbo(self, x: Tensor, q: Categorical) -> Tensor:
        """The bound E_q[log p(x, z)] + H(q) ≤ log p(x), (1.20), shape (n,); tight when q is the posterior, (1.21)."""
        return (q.probs * self.log_joint(x)).sum(-1) + q.entropy()

    def sample_joint(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n pairs (z, x) by ancestral sampling, (1.8), of shapes (n,) and (n, d)."""
        z = _draw(self.prior(), (check_int("n", n),), generator)
        return z, _draw(self.likelihood(z), (), generator)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n values of x, shape (n, d)."""
        return self.sample_joint(n, generator=generator)[1]


class PrototypeMixture(DiscreteLatent):
    """z picks one of K prototypes uniformly, x is that prototype with noise: x | z ~ N(g_z, σ²I), (1.7).

    Args:
        prototypes: g, shape (K, d).
        sigma: standard deviation of the noise, in units of x.

    Raises:
        ValueError: if prototypes is not a finite matrix or sigma is not positive.
    """

    def __init__(self, prototypes: Tensor, sigma: float) -> None:
        super().__init__()
        self.register_buffer("g", check_tensor("prototypes", prototypes, finite=True))
        self.sigma = check_number("sigma", sigma)

    def prior(self) -> Categorical:
        """p(z) = 1/K."""
        return Categorical(logits=self.g.new_zeros(len(self.g)))

    def likelihood(self, z: Tensor) -> Independent:
        """p(x | z) = N(g_z, σ²I)."""
        return Independent(Normal(self.g[z], self.sigma), 1)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) = −log K − (d/2) log 2πσ² − ‖x − g_z‖² / 2σ² for every z, shape (n, K)."""
        check_tensor("x", x, columns=self.g.shape[1], finite=True)
        check_alike("x", x, self.g, "the model")
        exact = "donot_use_mm_for_euclid_dist"
        distance_sq = torch.cdist(x, self.g, compute_mode=exact).square()
        log_norm = 0.5 * x.shape[1] * math.log(2 * math.pi * self.sigma**2)
        log_prior = -math.log(len(self.g))
        return log_prior - log_norm - distance_sq / (2 * self.sigma**2)


class GaussianMixture(DiscreteLatent):
    """A mixture of K Gaussians: z ~ Categorical(π), x | z ~ N(μ_z, Σ_z), (1.22).

    Args:
        pi: weights, positive, summing to one, shape (K,).
        mu: means, shape (K, d).
        Sigma: covariances, symmetric and positive definite, shape (K, d, d).

    Raises:
        TypeError: if they are not all float32 or all float64.
        ValueError: if the shapes disagree, a weight is not positive or a covariance is not positive definite.
    """

    def __init__(self, pi: Tensor, mu: Tensor, Sigma: Tensor) -> None:
        super().__init__()
        check_tensor("mu", mu, finite=True)
        K, d = mu.shape
        check_tensor("pi", pi, ndim=1, columns=K, finite=True)
        check_tensor("Sigma", Sigma, ndim=3, columns=d, finite=True)
        for name, value in (("pi", pi), ("Sigma", Sigma)):
            check_alike(name, value, mu, "mu")
        if Sigma.shape != (K, d, d):
            raise ValueError(f"Sigma must have shape {(K, d, d)} to agree with mu, got {tuple(Sigma.shape)}")
        if (pi <= 0).any() or not torch.isclose(pi.sum(), pi.new_ones(()), atol=1e-4):
            raise ValueError("pi must be positive and sum to one; drop empty components or divide pi by its sum")
        if torch.linalg.cholesky_ex(Sigma).info.any() or not torch.allclose(
            Sigma, Sigma.mT, rtol=1e-3, atol=1e-6 * float(Sigma.abs().max())
        ):
            raise ValueError("Sigma must be symmetric positive definite; add a multiple of the identity to it")
        self.register_buffer("pi", pi / pi.sum())
        self.register_buffer("mu", mu)
        self.register_buffer("Sigma", Sigma)
        #: Mean log p(x) in nats before each EM step and after the last, when made by `fit`.
        self.history: list[float] = []
        #: Whether the last EM step gained less than tol, when made by `fit`.
        self.converged: bool | None = None

    def prior(self) -> Categorical:
        """p(z) = π_z."""
        return Categorical(probs=self.pi)

    @property
    def scale_tril(self) -> Tensor:
        """Lower Cholesky factors of Σ, shape (K, d, d)."""
        return torch.linalg.cholesky(self.Sigma)

    def likelihood(self, z: Tensor) -> MultivariateNormal:
        """p(x | z) = N(μ_z, Σ_z)."""
        return MultivariateNormal(self.mu[z], scale_tril=self.scale_tril[z])

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) = log π_z + log N(x; μ_z, Σ_z) for every z, shape (n, K)."""
        check_tensor("x", x, columns=self.mu.shape[1], finite=True)
        check_alike("x", x, self.mu, "the model")
        every_z = torch.arange(len(self.pi), device=self.pi.device)
        return self.pi.log() + self.likelihood(every_z).log_prob(x[:, None])

    def marginal(self) -> MixtureSameFamily:
        """p(x) as one distribution."""
        every_z = torch.arange(len(self.pi), device=self.pi.device)
        return MixtureSameFamily(self.prior(), self.likelihood(every_z))

    @classmethod
    def m_step(cls, x: Tensor, r: Tensor, *, floor: float = 0.0) -> GaussianMixture:
        """The mixture that maximises Σ_n Σ_c r_nc log p(x_n, z = c), (1.24), by (1.25), over covariances Σ ⪰ floor · I.

        Raising the eigenvalues of the weighted covariance to the floor is the exact constrained maximum, so EM with a
        floor still never lowers the likelihood.

        Args:
            x: data, shape (n, d).
            r: responsibilities, rows summing to one, shape (n, K).
            floor: least variance in any direction, in squared units of x.

        Raises:
            ValueError: if a covariance is singular and there is no floor.
        """
        n_c = r.sum(0).clamp_min(torch.finfo(x.dtype).tiny * len(x))
        mu = r.T @ x / n_c[:, None]
        centred = x - mu[:, None]
        S = (r.T[:, :, None] * centred).mT @ centred / n_c[:, None, None]
        variance, direction = torch.linalg.eigh(S)
        Sigma = (direction * variance.clamp_min(floor)[:, None]) @ direction.mT
        return cls(n_c / n_c.sum(), mu, Sigma)

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        x: Tensor,
        components: int,
        *,
        max_iter: int = 200,
        tol: float = 1e-6,
        floor: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> GaussianMixture:
        """Maximise the likelihood by EM, (1.23) and (1.25), from a k-means++ start (Arthur & Vassilvitskii 2007).

        Args:
            x: data, shape (n, d), float32 or float64.
            components: K.
            max_iter: at most so many steps of EM.
            tol: EM stops when the mean log p(x) rises by less, in nats.
            floor: least variance of a component in any direction, as a fraction of the data's mean variance. Without
                it the likelihood has no maximum: a component that shrinks onto one point sends it to infinity, (1.28).
            generator: source of the random start.

        Returns:
            The mixture; its `history` holds the mean log p(x) before each step and after the last, and `converged`
            whether the last gained less than tol. A warning says when EM stops at max_iter.

        Raises:
            TypeError: if x is no tensor of float32 or float64, or components no int.
            ValueError: if x is not a finite matrix, is constant, has fewer rows than components, or floor is not
                positive.
        """
        check_tensor("x", x, finite=True)
        if check_int("components", components) > len(x):
            raise ValueError(f"components must be at most the {len(x)} rows of x, got {components}")
        check_number("floor", floor)
        check_int("max_iter", max_iter)
        variance = float(x.var(0, correction=0).mean())
        if not variance > 0:
            raise ValueError("x is constant: a mixture needs at least two distinct rows")
        floor *= variance
        with seeded(generator):
            model = cls._start(x, components, floor)
        history = [float(model.log_prob(x).mean())]
        for _ in range(max_iter):
            r = model.posterior(x).probs
            model = cls.m_step(x, r, floor=floor)
            history.append(float(model.log_prob(x).mean()))
            if history[-1] - history[-2] < tol:
                break
        gain = history[-1] - history[-2]
        model.history, model.converged = history, gain < tol
        if not model.converged:
            warnings.warn(
                f"EM stopped at max_iter = {max_iter} while a step still gained {gain:.1e} nats, more than tol = "
                f"{tol:g}: raise max_iter or tol",
                stacklevel=3,
            )
        return model

    @classmethod
    def _start(cls, x: Tensor, components: int, floor: float) -> GaussianMixture:
        """Means drawn from the data, each far from those before; equal weights; one pooled covariance."""
        chosen = [int(torch.randint(len(x), ()))]
        distance_sq = (x - x[chosen[0]]).square().sum(1)
        while len(chosen) < components:
            spread = distance_sq if distance_sq.sum() > 0 else torch.ones_like(distance_sq)
            chosen.append(int(torch.multinomial(spread / spread.sum(), 1)))
            distance_sq = torch.minimum(distance_sq, (x - x[chosen[-1]]).square().sum(1))
        nearest = torch.cdist(x, x[chosen]).argmin(1)
        residual = x - x[chosen][nearest]
        pooled = cls.m_step(residual, residual.new_ones(len(x), 1), floor=floor).Sigma
        pi = x.new_full((components,), 1 / components)
        return cls(pi, x[chosen], pooled.expand(components, -1, -1).clone())


def check_event(x: Tensor, event_shape: torch.Size) -> None:
    """Let x pass if each of its rows has the shape of the model's x."""
    if x.shape[1:] != event_shape:
        shape = tuple(event_shape)
        raise ValueError(
            f"each x has shape {tuple(x.shape[1:])}, but the model's has {shape}: reshape x to (n, *{shape})"
        )


def check_batch(proposal: Distribution, n: int) -> None:
    """Let a proposal pass if it is one distribution, or one for each of the n x."""
    if proposal.batch_shape not in ((), (1,), (n,)):
        raise ValueError(
            f"proposal has batch shape {tuple(proposal.batch_shape)}: give one distribution, or one for each of the "
            f"{n} x; if z is a vector, wrap it in Independent(…, 1)"
        )


def _draw(distribution: Distribution, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    with seeded(generator):
        return distribution.sample(shape)
