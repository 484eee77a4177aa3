"""Chapter 4: generative adversarial networks, which learn to sample without writing p(x) down.

    z ~ N(0, I),  x = G(z), (4.1);  D(x) = sigmoid(a(x)) is the probability that x is real, a(x) its logit, (4.6).

Goodfellow et al., "Generative Adversarial Nets" (2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from companion.checks import check_alike, check_int, check_number
from companion.devices import randn
from companion.training import Objective

# --- losses, as functions of the logits of real and generated samples ------------------------------------------------


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """D's loss −E[log D(x)] − E[log(1 − D(G(z)))], minus the value V(G, D), (4.5), from logits, shape (n,)."""
    return softplus(-real).mean() + softplus(fake).mean()


def saturating(fake: Tensor) -> Tensor:
    """G's loss E[log(1 − D(G(z)))] of the minimax game; its gradient vanishes where D is sure, (4.13)."""
    return -softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """G's loss −E[log D(G(z))]: same fixed points, but a gradient where D is sure, (4.13) (Goodfellow et al. 2014)."""
    return softplus(-fake).mean()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss E[f(G(z))] − E[f(x)], minus what the best f of (4.16) maximises (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def relativistic(ahead: Tensor, behind: Tensor) -> Tensor:
    """E[−log sigmoid(ahead − behind)] over pairs, (4.26): D wants real ahead of fake, G fake ahead of real.

    Jolicoeur-Martineau (2019); Sun, Fang & Schwing (2020).
    """
    return softplus(behind - ahead).mean()


# --- penalties on the slope of D's logit -----------------------------------------------------------------------------


def gradient_norm(logits: Tensor, x: Tensor) -> Tensor:
    """|∇a(x)|, one norm for each sample over all its entries, shape (n,); can be differentiated further.

    Args:
        logits: a(x), the discriminator's answers, one for each row of x, shape (n,).
        x: where they were asked for, shape (n, …), with `requires_grad`.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return torch.linalg.vector_norm(gradient.flatten(1), dim=1)


def random_interpolates(x: Tensor, x_fake: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """εx + (1 − ε)G(z) with one ε ~ U(0, 1) for each sample, (4.18), shape (n, …)."""
    eps = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device, generator=generator)
    return eps * x + (1 - eps) * x_fake


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, x_fake: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """E[(|∇f(x̂)| − 1)²] at random interpolates x̂, (4.18).

    Gulrajani et al., "Improved Training of Wasserstein GANs" (2017).
    """
    x_hat = random_interpolates(x, x_fake, generator=generator).requires_grad_()
    return (gradient_norm(critic(x_hat), x_hat) - 1).square().mean()


def zero_centred_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """E|∇a(x)|²: R₁ at real samples, R₂ at generated ones, (4.27) (Mescheder, Geiger & Nowozin 2018)."""
    return gradient_norm(logits, x).square().mean()


# --- the model -------------------------------------------------------------------------------------------------------

_GENERATOR_LOSS = {
    "minimax": saturating,
    "non-saturating": non_saturating,
    "wasserstein": lambda fake: -fake.mean(),
}

#: The losses by name, each with its weight of the penalty and D's turns in one step, if they are not given.
LOSSES = {
    "minimax": (0.0, 1),
    "non-saturating": (0.0, 1),
    "wasserstein": (10.0, 5),
    "relativistic": (0.1, 1),
}


class GAN(nn.Module):
    """A generator G(z) and a discriminator D(x), (4.1), (4.5), that are trained against each other.

    Args:
        generator: maps z, shape (n, q), to samples, shape (n, d).
        discriminator: maps x, shape (n, d), to one logit each, shape (n, 1); for "wasserstein" this is the critic.
        latent_dim: q.
        loss: what the players minimise.
            "minimax": D's cross entropy, −V of (4.5), and E[log(1 − D(G(z)))] for G (Goodfellow et al. 2014).
            "non-saturating": D's cross entropy, and −E[log D(G(z))] for G.
            "wasserstein": E[f(G(z))] − E[f(x)], (4.16), with the gradient penalty, (4.18), and −E[f(G(z))] for G
            (Gulrajani et al. 2017).
            "relativistic": (4.26), −E[log sigmoid(a(x) − a(G(z)))] and its mirror image for G, with penalties R₁ and
            R₂, (4.27) (Huang et al., "The GAN is dead; long live the GAN!" (2024)).
        penalty: weight of the penalty: λ of λE[(|∇f| − 1)²], by default 10, or γ of γ/2 (R₁ + R₂), by default 0.1.
        turns: updates of D for one of G; by default 5 for "wasserstein", else 1.

    Raises:
        TypeError: in the methods, if x is of another type than the model.
        ValueError: if there is no such loss, or a penalty for a loss without one; in the methods, if generator,
            discriminator and data do not fit together.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int,
        loss: str = "relativistic",
        *,
        penalty: float | None = None,
        turns: int | None = None,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        default_penalty, default_turns = LOSSES[loss]
        if penalty is not None and not default_penalty:
            raise ValueError(f"{loss} has no penalty: leave penalty out, or choose relativistic or wasserstein")
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.latent_dim = check_int("latent_dim", latent_dim)
        self.penalty = default_penalty if penalty is None else check_number("penalty", penalty, zero=True)
        self.turns = default_turns if turns is None else check_int("turns", turns)
        dtype = next((p.dtype for p in generator.parameters()), None)
        self.register_buffer("_origin", torch.zeros(self.latent_dim, dtype=dtype), persistent=False)

    def prior(self) -> Independent:
        """p(z) = N(z; 0, I), (4.1)."""
        return Independent(Normal(self._origin, torch.ones_like(self._origin)), 1)

    def generate(self, z: Tensor) -> Tensor:
        """x = G(z), (4.1), for each row of z, shape (n, q)."""
        return self.generator(z).to(z.dtype)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n new x, shape (n, d): z ~ p(z), then x = G(z), (4.1)."""
        return self.generate(randn((check_int("n", n), self.latent_dim), self._origin, generator)).detach()

    def discriminate(self, x: Tensor) -> Tensor:
        """The logit a(x) of D(x), (4.6), large where x looks real, shape (n,)."""
        check_alike("x", x, self._origin, "the model")
        logits = self.discriminator(x).to(x.dtype)
        if logits.shape not in ((len(x), 1), (len(x),)):
            raise ValueError(
                f"discriminator gives shape {tuple(logits.shape)} for x of shape {tuple(x.shape)}: it must give one "
                f"logit for each x, shape ({len(x)}, 1)"
            )
        return logits.reshape(len(x))

    def objectives(self) -> list[Objective]:
        """What the two players minimise, for `training.fit`: first the discriminator, then the generator."""
        return [
            Objective("discriminator", list(self.discriminator.parameters()), self.discriminator_loss, self.turns),
            Objective("generator", list(self.generator.parameters()), self.generator_loss),
        ]

    def discriminator_loss(self, x: Tensor) -> Tensor:
        """D's loss on real x and as many generated ones, with the penalty, (4.27) or (4.18); a scalar; G stays out."""
        x_fake = self.sample(len(x))
        if x_fake.shape != x.shape:
            raise ValueError(
                f"generator gives x of shape {tuple(x_fake.shape[1:])}, the data have {tuple(x.shape[1:])}: change the "
                f"number of outputs of its last layer"
            )
        both = torch.cat([x, x_fake]).requires_grad_(self.loss == "relativistic")
        logits = self.discriminate(both)
        real, fake = logits.chunk(2)
        if self.loss == "relativistic":
            return relativistic(real, fake) + self.penalty * zero_centred_penalty(logits, both)  # γ/2 (R₁ + R₂)
        if self.loss == "wasserstein":
            return critic_loss(real, fake) + self.penalty * gradient_penalty(self.discriminate, x, x_fake)
        return cross_entropy(real, fake)

    def generator_loss(self, x: Tensor) -> Tensor:
        """G's loss on as many generated samples as there are real x; a scalar."""
        fake = self.discriminate(self.generate(randn((len(x), self.latent_dim), self._origin)))
        if self.loss == "relativistic":
            with torch.no_grad():
                real = self.discriminate(x)
            return relativistic(fake, real)
        return _GENERATOR_LOSS[self.loss](fake)


# --- what the best discriminator knows -------------------------------------------------------------------------------


def optimal_logit(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """log p(x) − log q(x), (4.8), the logit of the best D*(x) = p(x) / (p(x) + q(x)), (4.7), for generated x ~ q."""
    return p.log_prob(x) - q.log_prob(x)


def game_value(logits: Tensor, p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """V(G, D) = ∫ p log D + q log(1 − D) dx, (4.5), by the trapezoidal rule, in nats.

    Args:
        logits: of D at the points of the grid, shape (m,).
        p: density of the data, over the line.
        q: density of the generated samples, over the line.
        x: increasing points that cover both densities, shape (m,).
    """
    return -torch.trapezoid(_weighted(p, x, softplus(-logits)) + _weighted(q, x, softplus(logits)), x)


def jensen_shannon(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, (4.9), at most log 2, (4.11), by the trapezoidal rule.

    Args:
        p, q: densities over the line.
        x: increasing points that cover both densities, shape (m,).

    Returns:
        The divergence in nats.
    """
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return torch.trapezoid(_weighted(p, x, log_p - log_m) + _weighted(q, x, log_q - log_m), x) / 2


def _weighted(p: Distribution, x: Tensor, value: Tensor) -> Tensor:
    """p(x) · value, which is 0 where p(x) is 0, whatever the value."""
    density = p.log_prob(x).exp()
    return torch.where(density > 0, density * value, 0)
