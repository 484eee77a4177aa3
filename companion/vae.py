"""Chapter 3: the variational autoencoder, a latent-variable model whose posterior is approximated by a network.

    z ~ N(0, I),  x | z ~ p(x | g(z)),  q(z | x) = N(z; mean(x), diag(exp(log variance(x)))).

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014); Rezende, Mohamed & Wierstra (2014).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints

from companion.latent import _seeded

#: Log variances are kept within ± this number, so that no variance over- or underflows: e^±30 ≈ 10^±13.
MAX_LOG_VARIANCE = 30.0
#: The rows of z that `importance_bound` decodes at once.
BLOCK = 16_384


class VAE(nn.Module):
    """A decoder p(x | z) and an encoder q(z | x), trained together: log p(x) ≥ E_q[log p(x | z)] − KL(q ‖ p(z)).

    Args:
        encoder: maps x, shape (n, d), to the mean and the log variance of z side by side, shape (n, 2q).
        decoder: maps z, shape (n, q), to the parameters of p(x | z), shape (n, number of parameters).
        likelihood: turns these parameters into p(x | z): `bernoulli`, `Gaussian()`, `categorical(levels)`, or any
            function that gives a distribution with event shape (d,).
        beta: weight of the KL term in `loss`; 1 is the bound (Higgins et al., "beta-VAE" (2017)).
        latent_dim: q; by default half the outputs of the encoder's last linear layer.

    Raises:
        ValueError: if beta is negative or q cannot be read from the encoder; later, if encoder, decoder and x disagree.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Callable[[Tensor], Distribution],
        *,
        beta: float = 1.0,
        latent_dim: int | None = None,
    ) -> None:
        super().__init__()
        if not (beta >= 0 and math.isfinite(beta)):
            raise ValueError(f"beta must be a finite number that is not negative, got {beta}")
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.beta = beta
        self.latent_dim = _half_of_last_linear(encoder) if latent_dim is None else latent_dim
        self.register_buffer("_origin", torch.zeros(self.latent_dim), persistent=False)

    def prior(self) -> Independent:
        """p(z) = N(z; 0, I)."""
        return _normal(self._origin, torch.ones_like(self._origin))

    def encode(self, x: Tensor) -> Independent:
        """q(z | x) = N(z; mean(x), diag(variance(x))), for each row of x."""
        output = self.encoder(x).to(x.dtype)
        if output.shape != (*x.shape[:-1], 2 * self.latent_dim):
            raise ValueError(
                f"encoder gives shape {tuple(output.shape)} for x of shape {tuple(x.shape)}: its last layer must have "
                f"2 × latent_dim = {2 * self.latent_dim} outputs, mean and log variance"
            )
        mean, log_variance = output.chunk(2, dim=-1)
        return _normal(mean, (0.5 * _bounded(log_variance)).exp())

    def decode(self, z: Tensor) -> Distribution:
        """p(x | z), for each row of z."""
        return self.likelihood(self.decoder(z).to(z.dtype))

    def elbo_terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """log p(x | z) at one z ~ q(z | x), and KL(q(z | x) ‖ p(z)) in closed form, each of shape (n,), in nats.

        z = mean + standard deviation · ε with ε ~ N(0, I), so that gradients pass through z to the encoder.
        """
        q = self.encode(x)
        eps = torch.randn(q.mean.shape, dtype=x.dtype, device=x.device, generator=generator)
        z = q.mean + q.stddev * eps
        reconstruction = self._log_likelihood(x, z)
        kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(-1)
        return reconstruction, kl

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """An unbiased estimate of E_q[log p(x | z)] − KL(q ‖ p(z)) ≤ log p(x) in nats, shape (n,), whatever beta is."""
        reconstruction, kl = self.elbo_terms(x, generator=generator)
        return reconstruction - kl

    def loss(self, x: Tensor) -> Tensor:
        """−E_q[log p(x | z)] + β KL(q ‖ p(z)), mean over the rows, in nats; for β = 1 minus the mean of `elbo`."""
        reconstruction, kl = self.elbo_terms(x)
        return (self.beta * kl - reconstruction).mean()

    def importance_bound(self, x: Tensor, k: int, *, generator: torch.Generator | None = None) -> Tensor:
        """log 1/k Σᵢ p(x, zᵢ)/q(zᵢ | x) with zᵢ ~ q(z | x), (1.17), shape (n,), in nats.

        Its expectation rises with k from the ELBO to log p(x). Memory does not grow with k unless gradients are
        asked for. Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016).

        Args:
            x: data, shape (n, d).
            k: samples a row.
            generator: source of randomness.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        q = self.encode(x)
        total = torch.full_like(x[:, 0], -math.inf)
        for block in torch.arange(k).split(max(1, BLOCK // len(x))):
            eps = torch.randn(len(block), *q.mean.shape, dtype=x.dtype, device=x.device, generator=generator)
            z = q.mean + q.stddev * eps
            log_w = self._log_likelihood(x, z) + self.prior().log_prob(z) - q.log_prob(z)
            total = torch.logaddexp(total, log_w.logsumexp(0))
        return total - math.log(k)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n new x by ancestral sampling, shape (n, d): first z ~ p(z), then x ~ p(x | z)."""
        with torch.no_grad(), _seeded(generator):
            return self.decode(self.prior().sample((n,))).sample()

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | z) at z = E_q[z | x], shape (n, d)."""
        return self.decode(self.encode(x).mean).mean

    def interpolate(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Means of p(x | z) at n points z evenly spaced between E_q[z | a] and E_q[z | b]; a, b (d,), result (n, d)."""
        start, end = self.encode(torch.stack([a, b])).mean
        return self.decode(torch.lerp(start, end, torch.linspace(0, 1, n).to(start)[:, None])).mean

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        p = self.decode(z)
        if p.event_shape != x.shape[-1:]:
            raise ValueError(
                f"decoder and likelihood give x of shape {tuple(p.event_shape)}, the data have {tuple(x.shape[-1:])}: "
                f"change the number of outputs of the decoder's last layer"
            )
        return p.log_prob(x)


def bernoulli(logits: Tensor) -> Independent:
    """p(x | z) = Π πᵢ^xᵢ (1 − πᵢ)^(1 − xᵢ), πᵢ = sigmoid(logitᵢ), for logits of shape (…, d).

    log p(x | z) is minus the binary cross entropy. For a grey x between 0 and 1 it is the expectation of the
    log-likelihood over black-and-white images in which pixel i is white with probability xᵢ.
    """
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


class Gaussian(nn.Module):
    """p(x | z) = N(x; g(z), σ²I) with σ² learnt: log p(x | z) = −|x − g(z)|²/2σ² − (d/2) log 2πσ².

    Args:
        sigma2: where σ² starts, a positive number, or one for each pixel, shape (d,). It stays there after
            `Gaussian(…).requires_grad_(False)`.
    """

    def __init__(self, sigma2: float | Tensor = 1.0) -> None:
        super().__init__()
        sigma2 = torch.as_tensor(sigma2)
        if sigma2.ndim > 1 or not ((sigma2 > 0) & sigma2.isfinite()).all():
            raise ValueError(f"sigma2 must be one positive number or one for each pixel, got {sigma2.tolist()}")
        self.log_sigma2 = nn.Parameter(sigma2.log())

    @property
    def sigma2(self) -> Tensor:
        """σ², shape () or (d,)."""
        return _bounded(self.log_sigma2).exp()

    def forward(self, mean: Tensor) -> Independent:
        """N(x; mean, σ²I), for means of shape (…, d)."""
        return _normal(mean, self.sigma2.sqrt().expand_as(mean))


class GreyLevels(Distribution):
    """Independent pixels, each one of K evenly spaced grey levels 0, 1/(K−1), …, 1, with probabilities of their own.

    Args:
        logits: unnormalised log-probabilities, shape (…, d, K).
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.log_softmax(-1)
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=False)

    @property
    def levels(self) -> Tensor:
        """The grey values, shape (K,)."""
        return torch.linspace(0, 1, self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)

    @property
    def mean(self) -> Tensor:
        return self.logits.exp() @ self.levels

    @property
    def variance(self) -> Tensor:
        return self.logits.exp() @ self.levels.square() - self.mean.square()

    def log_prob(self, x: Tensor) -> Tensor:
        """Σᵢ log p(xᵢ); −∞ where a pixel is no grey level."""
        K = self.logits.shape[-1]
        level = x * (K - 1)
        index = level.round().clamp(0, K - 1)
        logits = self.logits.expand(*torch.broadcast_shapes(x.shape, self.logits.shape[:-1]), K)
        index_of = index.long().expand(logits.shape[:-1])[..., None]
        log_p = logits.gather(-1, index_of)[..., 0]
        return log_p.masked_fill((level - index).abs() > 0.01, -math.inf).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        index = torch.distributions.Categorical(logits=self.logits).sample(sample_shape)
        return self.levels[index]


def categorical(levels: int) -> Callable[[Tensor], GreyLevels]:
    """p(x | z) over images of so many grey levels between 0 and 1, for decoder outputs of shape (…, d · levels)."""
    return functools.partial(_grey_levels, levels=levels)


def _grey_levels(output: Tensor, levels: int) -> GreyLevels:
    return GreyLevels(output.unflatten(-1, (-1, levels)))


def _normal(mean: Tensor, std: Tensor) -> Independent:
    return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)


def _bounded(log_variance: Tensor) -> Tensor:
    return log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)


def _half_of_last_linear(encoder: nn.Module) -> int:
    widths = [module.out_features for module in encoder.modules() if isinstance(module, nn.Linear)]
    if not widths or widths[-1] % 2:
        raise ValueError(
            "encoder must end in a linear layer with 2q outputs, mean and log variance; if it ends otherwise, name "
            "latent_dim = q"
        )
    return widths[-1] // 2
