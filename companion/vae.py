"""Chapter 3: the variational autoencoder, a latent-variable model with a network in place of the exact posterior.

    z ~ N(0, I),  x | z ~ p(x | g(z)),  q(z | x) = N(z; m(x), diag s(x)²).      (3.7), (3.8)

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014); Rezende, Mohamed & Wierstra, "Stochastic Backpropagation and
Approximate Inference in Deep Generative Models" (2014).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from companion.autoencoder import line
from companion.checks import check_alike, check_int, check_module, check_number, check_tensor, first_checked
from companion.devices import evaluating, evaluation, randn, seeded
from companion.likelihoods import Unfolded, bounded, check_support, normal
from companion.nets import run

#: How many rows of z `importance_bound` decodes at once.
BLOCK = 16_384


class VAE(nn.Module):
    """A decoder p(x | z) and an encoder q(z | x), trained by log p(x) ≥ E_q[log p(x | z)] − KL(q ‖ p(z)), (3.11).

    `encode`, `decode`, `loss` and the model itself run in the mode it is in; all else runs in evaluation mode.

    Args:
        encoder: any module that maps x, shape (n, …), to m and log s² side by side, shape (n, 2 d_z).
        decoder: any module that maps z, shape (n, d_z), to the parameters of p(x | z), shape (n, …).
        likelihood: turns these parameters into p(x | z): `bernoulli`, `Gaussian()`, `categorical(levels)`, or any
            function or module that gives a distribution with batch shape (n,), the event shape of x, and a mean.
        beta: weight of the KL term in `loss`; with 1 the loss is minus the bound. Higgins et al., "beta-VAE" (2017).
        latent_dim: d_z; by default half the outputs of the encoder's last linear layer.

    Raises:
        TypeError: if encoder or decoder is no module, or likelihood cannot be called; in the methods, if x is neither
            float32 nor float64, or not of the type of the weights.
        ValueError: if beta is negative or d_z cannot be read from the encoder; in the methods, if encoder, decoder,
            likelihood and data do not fit together; in `loss`, on its first batch, and in the bounds, if x is no data
            for the likelihood.
    """

    checked = False

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
        self.encoder = check_module("encoder", encoder)
        self.decoder = check_module("decoder", decoder)
        if isinstance(likelihood, type) and issubclass(likelihood, nn.Module):
            raise TypeError(f"likelihood is the class {likelihood.__name__}: call it, {likelihood.__name__}()")
        if not callable(likelihood):
            raise TypeError(
                f"likelihood must be a function or module, such as bernoulli, Gaussian() or categorical(levels), not "
                f"{type(likelihood).__name__}"
            )
        self.likelihood = likelihood
        self.beta = check_number("beta", beta, zero=True)
        self.latent_dim = _half_of_last_linear(encoder) if latent_dim is None else check_int("latent_dim", latent_dim)
        weight = next(itertools.chain(decoder.parameters(), encoder.parameters()), torch.empty(0))
        self.register_buffer("_origin", weight.detach().new_zeros(self.latent_dim), persistent=False)

    def prior(self) -> Independent:
        """p(z) = N(z; 0, I), (3.7)."""
        return normal(self._origin, torch.ones_like(self._origin))

    def encode(self, x: Tensor) -> Independent:
        """q(z | x) = N(z; m(x), diag s(x)²), (3.8), one distribution for each row of x."""
        check_alike("x", check_tensor("x", x, ndim=None), self._origin, "the model")
        output = run("encoder", self.encoder, x)
        if output.shape != (len(x), 2 * self.latent_dim):
            raise ValueError(
                f"encoder gives shape {tuple(output.shape)} for x of shape {tuple(x.shape)}, not "
                f"{(len(x), 2 * self.latent_dim)}, mean and log variance of the {self.latent_dim} entries of z: change "
                "its outputs, or name latent_dim, half of their number"
            )
        mean, log_variance = output.chunk(2, dim=1)
        return normal(mean, (0.5 * bounded(log_variance)).exp())

    def decode(self, z: Tensor) -> Distribution:
        """p(x | z), (3.7), one distribution for each z, shape (n, d_z) or with more axes before the last."""
        check_alike("z", z, self._origin, "the model")
        rows = z.reshape(-1, z.shape[-1])
        p = self.likelihood(run("decoder", self.decoder, rows))
        if not isinstance(p, Distribution):
            raise TypeError(f"likelihood must give a torch.distributions.Distribution, not {type(p).__name__}")
        if p.batch_shape != rows.shape[:1]:
            raise ValueError(
                f"decoder and likelihood give p(x | z) batch shape {tuple(p.batch_shape)} for {len(rows)} rows of z, "
                f"not {(len(rows),)}: wrap the distribution in Independent(…, k), k the number of axes of one x"
            )
        return p if z.ndim == 2 else Unfolded(p, z.shape[:-1])

    def check_data(self, x: Tensor) -> None:
        """Let data pass that the model can be trained on, wherever they are.

        Raises:
            TypeError: if x is neither float32 nor float64, or not of the type of the weights.
            ValueError: if x has not the shape (n, …), or entries that are NaN, infinite, or not in the support of
                p(x | z), such as 0 to 255 for `bernoulli`.
        """
        check_tensor("x", x, ndim=None, finite=True)
        with torch.no_grad(), evaluating(self):
            z = self.encode(x[:1].to(self._origin.device)).mean
            check_support(self.decode(z), x)

    @evaluation
    def elbo_terms(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """log p(x | z) at one z ~ q(z | x), and KL(q ‖ p(z)), (3.18), the terms of (3.11), each of shape (n,), in nats.

        z = m(x) + s(x) ε with ε ~ N(0, I), (3.23): so the gradient passes through z to the encoder.
        """
        q = self.encode(x)
        eps = randn(q.mean.shape, x, generator)
        z = q.mean + q.stddev * eps
        reconstruction = self._log_likelihood(x, z)
        kl = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(1)
        return reconstruction, kl

    _terms = elbo_terms.__wrapped__  # in the mode that the model is in

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """E_q[log p(x | z)] − KL(q ‖ p(z)) ≤ log p(x), (3.11), estimated by one z a row, in nats, shape (n,)."""
        reconstruction, kl = self.elbo_terms(x, generator=generator)
        return reconstruction - kl

    @first_checked
    def loss(self, x: Tensor) -> Tensor:
        """D + βR = −E_q[log p(x | z)] + β KL(q ‖ p(z)), (3.29), the mean over the rows, in nats."""
        reconstruction, kl = self._terms(x)  # elbo_terms, in training mode
        return (self.beta * kl - reconstruction).mean()

    @evaluation
    def importance_bound(self, x: Tensor, k: int, *, generator: torch.Generator | None = None) -> Tensor:
        """log 1/k Σᵢ p(x, zᵢ)/q(zᵢ | x) with zᵢ ~ q(z | x), (3.12), shape (n,), in nats.

        Its expectation rises with k from the ELBO to log p(x), (3.13). Memory does not grow with k, unless gradients
        are wanted. Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016).

        Args:
            x: data, shape (n, …).
            k: samples a row.
            generator: source of randomness.
        """
        q, log_sum = self.encode(x), x.new_full((len(x),), -math.inf)
        for block in torch.arange(check_int("k", k)).split(max(1, BLOCK // len(x))):
            eps = randn((len(block), *q.mean.shape), x, generator)
            z = q.mean + q.stddev * eps
            log_joint = self._log_likelihood(x, z) + self.prior().log_prob(z)
            log_w = log_joint - q.log_prob(z)
            log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        return log_sum - math.log(k)

    @torch.no_grad()
    @evaluation
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n new x by ancestral sampling, shape (n, …): first z ~ p(z), then x ~ p(x | z)."""
        with seeded(generator):
            z = self.prior().sample((check_int("n", n),))
            return self.decode(z).sample()

    def forward(self, x: Tensor) -> Tensor:
        """The mean of p(x | z) at z = E_q[z | x], of the shape of x."""
        return self.decode(self.encode(x).mean).mean

    @evaluation
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | z) at z = E_q[z | x], of the shape of x."""
        return self(x)

    @evaluation
    def interpolate(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Means of p(x | z) at n points z on the line from E_q[z | a] to E_q[z | b], one x each; the result (n, …)."""
        return self.decode(line(*self.encode(torch.stack([a, b])).mean, n)).mean

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) for z of shape (n, d_z) or (k, n, d_z)."""
        p = self.decode(z)
        if p.event_shape != x.shape[1:]:
            raise ValueError(
                f"decoder and likelihood give p(x | z) event shape {tuple(p.event_shape)}; for these data it must be "
                f"{tuple(x.shape[1:])}: change the outputs of the decoder's last layer"
            )
        if not self.training:  # in a training only the first batch is checked
            check_support(p, x)
        return p.log_prob(x)


def _half_of_last_linear(encoder: nn.Module) -> int:
    widths = [module.out_features for module in encoder.modules() if isinstance(module, nn.Linear)]
    if not widths or widths[-1] % 2:
        raise ValueError(
            "encoder must end in a linear layer with 2 · latent_dim outputs, mean and log variance of z; if it ends "
            "otherwise, name latent_dim"
        )
    return widths[-1] // 2
