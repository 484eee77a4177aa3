"""Chapter 4: generative adversarial networks, which learn to sample without writing p(x) down.

    z ~ N(0, I),  x = G(z), (4.1);  D(x) = sigmoid(a(x)) is the probability that x is real, a(x) its logit, (4.6).

Goodfellow et al., "Generative Adversarial Nets" (2014).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from companion.checks import (
    check_alike,
    check_int,
    check_labels,
    check_module,
    check_number,
    check_tensor,
    first_checked,
)
from companion.devices import evaluating, randn
from companion.nets import run
from companion.parallel import draw_rows
from companion.training import Objective

# --- losses, as functions of the logits of real and generated samples ------------------------------------------------


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """D's loss −E[log D(x)] − E[log(1 − D(G(z)))], minus the value V(G, D), (4.5), from logits, shape (n,)."""
    return softplus(-real).mean() + softplus(fake).mean()


def saturating(fake: Tensor) -> Tensor:
    """G's loss E[log(1 − D(G(z)))] of the minimax game; its gradient vanishes where D is sure, (4.14)."""
    return -softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """G's loss −E[log D(G(z))]: same fixed points, but a gradient where D is sure, (4.14) (Goodfellow et al. 2014)."""
    return softplus(-fake).mean()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss E[f(G(z))] − E[f(x)], minus what the best f of (4.17) maximises (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def relativistic(ahead: Tensor, behind: Tensor) -> Tensor:
    """E[−log sigmoid(ahead − behind)] over pairs, (4.28): D wants real ahead of fake, G fake ahead of real.

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
    """εx + (1 − ε)G(z) with one ε ~ U(0, 1) for each sample, (4.19), shape (n, …)."""
    ones = [1] * (x.ndim - 1)

    def draw(n: int, generator: torch.Generator | None) -> Tensor:
        return x.new_empty(n, *ones).uniform_(generator=generator)

    eps = draw_rows(draw, len(x), x.device, generator)
    return eps * x + (1 - eps) * x_fake


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, x_fake: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """E[(|∇f(x̂)| − 1)²] at random interpolates x̂, (4.19).

    Gulrajani et al., "Improved Training of Wasserstein GANs" (2017).
    """
    x_hat = random_interpolates(x, x_fake, generator=generator)
    norm = gradient_norm(critic(x_hat.requires_grad_()), x_hat)
    return (norm - 1).square().mean()


def zero_centred_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """E|∇a(x)|²: R₁ at real samples, R₂ at generated ones, (4.29) (Mescheder, Geiger & Nowozin 2018)."""
    return gradient_norm(logits, x).square().mean()


# --- the model -------------------------------------------------------------------------------------------------------

_DISCRIMINATOR_LOSS = {
    "minimax": cross_entropy,
    "non-saturating": cross_entropy,
    "wasserstein": critic_loss,
    "relativistic": relativistic,
}

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

#: Where the slope of D's logit can be penalised.
PLACES = ("real", "fake", "both", "between")

#: What bounded layers give, and how x gets there.
_RANGES = {
    nn.Sigmoid: (0, 1, "(x - x.min()) / (x.max() - x.min())"),
    nn.Tanh: (-1, 1, "2 * (x - x.min()) / (x.max() - x.min()) - 1"),
}


class GAN(nn.Module):
    """A generator G(z) and a discriminator D(x), (4.1), (4.5), that are trained against each other.

    x has any event shape, (n, …). With labels the GAN is conditional (Mirza & Osindero 2014): the networks also take
    labels, integers of shape (n, k), and `fit(model, x, labels)` trains them. Each player may have its own learning
    rate, `fit(model, x, lr={"discriminator": 4e-4, "generator": 1e-4})` (Heusel et al. 2017).

    Losses run the networks in the mode that they are in, `sample`, `generate` and `discriminate` in evaluation mode.
    Batch normalisation in D sees real and generated x in separate batches (Radford, Metz & Chintala 2016).

    Args:
        generator: maps z, shape (n, d_z), and labels, if there are any, to samples, shape (n, …).
        discriminator: maps x, shape (n, …), and labels, if there are any, to one logit each, shape (n, 1) or (n,); for
            "wasserstein" this is the critic. With a penalty it is to be without batch normalisation, which makes the
            logit of one x depend on the others.
        latent_dim: d_z, entries of z.
        loss: what the players minimise.
            "minimax": D's cross entropy, −V of (4.5), and E[log(1 − D(G(z)))] for G (Goodfellow et al. 2014).
            "non-saturating": D's cross entropy, and −E[log D(G(z))] for G.
            "wasserstein": E[f(G(z))] − E[f(x)], (4.17), with the gradient penalty, (4.19), and −E[f(G(z))] for G
            (Gulrajani et al. 2017).
            "relativistic": (4.28), −E[log sigmoid(a(x) − a(G(z)))] and its mirror image for G, with penalties R₁ and
            R₂, (4.29) (Huang et al., "The GAN is dead; long live the GAN!" (2024)).
        penalty: weight of the penalty in D's loss, γ; 0 for none. By default 10 for "wasserstein", 0.1 for
            "relativistic", 0 for the others.
        at: where the slope of D's logit is penalised. By default "between" for "wasserstein", "both" for the others.
            "real": γ/2 R₁, (4.29), as in (4.24) (Mescheder, Geiger & Nowozin 2018).
            "fake": γ/2 R₂.
            "both": γ/2 (R₁ + R₂).
            "between": γE[(|∇a| − 1)²] at random interpolates, (4.19).
        turns: updates of D for one of G; by default 5 for "wasserstein", else 1.

    Raises:
        TypeError: if a network is no module; in the methods, if x or z is of another type than the model, labels are no
            integers, or a network takes no labels, or needs some.
        ValueError: if there is no such loss or place, or a place for a penalty of weight 0; in the methods, if
            generator, discriminator and data do not fit together.
    """

    checked = False

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int,
        loss: str = "relativistic",
        *,
        penalty: float | None = None,
        at: str | None = None,
        turns: int | None = None,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        if at is not None and at not in PLACES:
            raise ValueError(f"at must be one of {', '.join(PLACES)}, got {at!r}")
        default_penalty, default_turns = LOSSES[loss]
        self.generator = check_module("generator", generator)
        self.discriminator = check_module("discriminator", discriminator)
        self.loss = loss
        self.latent_dim = check_int("latent_dim", latent_dim)
        self.penalty = default_penalty if penalty is None else check_number("penalty", penalty, zero=True)
        if at is not None and not self.penalty:
            raise ValueError(f"at={at!r} needs a penalty of more than 0, as in penalty=0.1")
        self.at = at or ("between" if loss == "wasserstein" else "both")
        self.turns = default_turns if turns is None else check_int("turns", turns)
        like = next(self.parameters(), torch.zeros(()))
        origin = torch.zeros(self.latent_dim, dtype=like.dtype, device=like.device)
        self.register_buffer("_origin", origin, persistent=False)

    def prior(self) -> Independent:
        """p(z) = N(z; 0, I), (4.1)."""
        return Independent(Normal(self._origin, torch.ones_like(self._origin)), 1)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """x = G(z), (4.1), for each row of z, shape (n, d_z), and of labels, shape (n, k), in evaluation mode."""
        check_alike("z", z, self._origin, "the model")
        with evaluating(self):
            return self._G(z, _find_labels("generator", self.generator, labels, z))

    @torch.no_grad()
    def sample(self, n: int, labels: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """n new x, shape (n, …), in evaluation mode: z ~ p(z), then x = G(z), (4.1).

        Args:
            n: number of samples.
            labels: what is asked for, integers, shape (n, k).
            generator: source of the z.
        """
        return self.generate(self._noise(check_int("n", n), generator), labels).detach()

    def discriminate(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logit a(x) of D(x), (4.6), large where x looks real, shape (n,), in evaluation mode."""
        check_alike("x", x, self._origin, "the model")
        with evaluating(self):
            return self._D(x, _find_labels("discriminator", self.discriminator, labels, x))

    def objectives(self) -> list[Objective]:
        """What the two players minimise, for `training.fit`: first the discriminator, then the generator."""
        return [
            Objective(
                "discriminator",
                list(self.discriminator.parameters()),
                self.discriminator_loss,
                self.turns,
                compilable=not self.penalty,
            ),
            Objective("generator", list(self.generator.parameters()), self.generator_loss),
        ]

    @first_checked
    @torch.enable_grad()  # the penalty needs gradients, in a validation too
    def discriminator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """D's loss on real x and as many generated ones, with the penalty, (4.29) or (4.19); a scalar; G stays out.

        Args:
            x: data, shape (n, …).
            labels: integers, shape (n, k); the generated x get the same.
        """
        labels = _integers(labels, x)
        with torch.no_grad():
            x_fake = self._G(self._noise(len(x)), labels)
        both = torch.cat([x, x_fake]).detach().requires_grad_(self.penalty > 0)
        real, fake = self._D_of_halves(both, labels)
        loss = _DISCRIMINATOR_LOSS[self.loss](real, fake)
        if self.penalty:
            loss = loss + self.penalty * self._slope(both, real, fake, labels)
        return loss

    @first_checked
    def generator_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """G's loss on as many generated samples as there are real x, with their labels; a scalar."""
        labels = _integers(labels, x)
        x_fake = self._G(self._noise(len(x)), labels)
        fake = self._D(x_fake, labels)
        if self.loss == "relativistic":
            with torch.no_grad():
                real = self._D(x, labels)
            return relativistic(fake, real)
        return _GENERATOR_LOSS[self.loss](fake)

    @torch.enable_grad()
    def check_data(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Make sure that the networks can be trained on these data; `fit` and the first loss do it. It draws nothing.

        Args:
            x: data, shape (n, …), on any device.
            labels: integers, shape (n, k).

        Raises:
            TypeError: if x is of another type than the model, labels are no integers, or a network takes no labels, or
                needs some.
            ValueError: if x is not finite, or outside the range of the generator's last layer; if labels have another
                shape; if the generator gives x of another shape, the discriminator not one logit for each x, or an
                output does not depend on what is trained.
        """
        check_tensor("x", x, ndim=None, finite=True)
        _find_labels("generator", self.generator, labels, x)
        rows = x[:2].detach().to(self._origin.device)
        few = None if labels is None else labels[:2]
        x_fake = self.generate(self._origin.expand(len(rows), -1), few)
        if x_fake.shape != rows.shape:
            raise ValueError(
                f"generator gives shape {tuple(x_fake.shape)} for {len(rows)} rows of z, where the data have "
                f"{tuple(rows.shape)}: change its last layer, or reshape the data"
            )
        logits = self.discriminate(rows.requires_grad_(), few)
        for what, output, inputs in (
            ("the discriminator's logit does not depend on x", logits, [rows]),
            ("the discriminator's logit does not depend on its weights", logits, _trained(self.discriminator)),
            ("the generator's output does not depend on its weights", x_fake, _trained(self.generator)),
        ):
            if inputs and not _depends(output, inputs):
                raise ValueError(f"{what}: compute one from the other, without detach() and no_grad()")
        if not x.is_meta:
            _check_range(x, self.generator)

    def _noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws from p(z), shape (n, d_z)."""
        return randn((n, self.latent_dim), self._origin, generator)

    def _G(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """G(z) in the mode that the generator is in, in the type of z."""
        return run("generator", self.generator, z, *_given(labels))

    def _D(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """a(x) in the mode that the discriminator is in, in the type of x, shape (n,)."""
        logits = run("discriminator", self.discriminator, x, *_given(labels))
        if logits.shape not in ((len(x), 1), (len(x),)):
            raise ValueError(
                f"discriminator gives shape {tuple(logits.shape)} for x of shape {tuple(x.shape)}: it must give one "
                f"logit for each x, shape ({len(x)}, 1)"
            )
        return logits.reshape(len(x))

    def _D_of_halves(self, both: Tensor, labels: Tensor | None) -> Sequence[Tensor]:
        """a(x) of real and of generated x: in one batch, unless batch normalisation would mix their statistics."""
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.discriminator.modules()):
            return [self._D(half, labels) for half in both.chunk(2)]
        return self._D(both, None if labels is None else torch.cat([labels, labels])).chunk(2)

    def _slope(self, both: Tensor, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """E[(|∇a| − 1)²] between the real and the generated x, (4.19), or half of R₁, of R₂ or of both, (4.29)."""
        if self.at == "between":
            x, x_fake = both.detach().chunk(2)
            return gradient_penalty(lambda x: self._D(x, labels), x, x_fake)
        logits = {"real": [real], "fake": [fake], "both": [real, fake]}[self.at]
        return zero_centred_penalty(torch.cat(logits), both)  # over 2n rows: half


def _given(labels: Tensor | None) -> tuple[Tensor, ...]:
    return () if labels is None else (labels,)


def _integers(labels: Tensor | None, x: Tensor) -> Tensor | None:
    """Labels that were checked, as 64-bit integers, which an embedding takes, on the device of x."""
    return None if labels is None else torch.as_tensor(labels, device=x.device).long()


def _find_labels(name: str, network: nn.Module, labels: Tensor | None, x: Tensor) -> Tensor | None:
    """The labels on the device of x, whose rows they describe, if the network takes what is given."""
    try:
        inspect.signature(network.forward).bind(x, *_given(labels))
    except TypeError:
        if labels is None:
            raise TypeError(f"{name} needs more than one input: give labels, as in fit(model, x, labels)") from None
        raise TypeError(f"{name} takes no labels: leave them out, or let its forward take them as second") from None
    if labels is None:
        return None
    labels = check_labels(labels, len(x), getattr(network, "classes", None), wait=True)
    return labels.expand(len(x), -1).to(x.device)


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _depends(output: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Whether the output can be differentiated with respect to any of the inputs."""
    if not output.requires_grad:
        return False
    gradients = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


def _check_range(x: Tensor, generator: nn.Module) -> None:
    """Refuse x where the generator, a sequence that ends in a bounded activation, cannot come."""
    last = [None, *_layers(generator)][-1]
    low, high, scaled = _RANGES.get(type(last), (-math.inf, math.inf, ""))
    least, most = x.aminmax()
    if least < low - 1e-4 or most > high + 1e-4:
        raise ValueError(
            f"x goes from {least:g} to {most:g}, but the generator ends in {type(last).__name__} and gives {low} to "
            f"{high}: scale x, for instance to {scaled}, or leave {type(last).__name__} out"
        )


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of a sequence in the order in which they are applied, without those that only reshape."""
    if isinstance(network, nn.Sequential):
        for part in network:
            yield from _layers(part)
    elif not isinstance(network, nn.Identity | nn.Flatten | nn.Unflatten):
        yield network


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
    real = _weighted(p, x, -softplus(-logits))  # p log D
    fake = _weighted(q, x, -softplus(logits))  # q log(1 − D)
    return torch.trapezoid(real + fake, x)


def jensen_shannon(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    """JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2, (4.9), at most log 2, (4.12), by the trapezoidal rule.

    Args:
        p, q: densities over the line.
        x: increasing points that cover both densities, shape (m,).

    Returns:
        The divergence in nats.
    """
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    left = _weighted(p, x, log_p - log_m)
    right = _weighted(q, x, log_q - log_m)
    return torch.trapezoid(left + right, x) / 2


def _weighted(p: Distribution, x: Tensor, value: Tensor) -> Tensor:
    """p(x) · value, which is 0 where p(x) is 0, whatever the value."""
    density = p.log_prob(x).exp()
    return torch.where(density > 0, density * value, 0)
