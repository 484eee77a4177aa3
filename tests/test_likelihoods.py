"""`companion.likelihoods` against torch.distributions, torch's losses and sums over everything."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    Uniform,
    kl_divergence,
)
from torch.nn import functional as F

from companion import data
from companion.likelihoods import Gaussian, GreyLevels, bernoulli, categorical, check_support


def within(estimates, truth, errors=4.0):
    """The mean over the first axis agrees with the truth up to so many standard errors."""
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - truth).abs() < errors * error + 1e-9).all()


def test_bernoulli_is_minus_the_binary_cross_entropy():
    logits, x = 5 * torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 6, dtype=torch.float64)
    expected = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(bernoulli(logits).log_prob(x), expected)
    torch.testing.assert_close(
        bernoulli(logits).log_prob(x), -F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(1)
    )
    torch.testing.assert_close(bernoulli(logits).mean, 1 / (1 + (-logits).exp()))


def test_bernoulli_of_a_grey_image_is_an_expectation_over_binary_ones():
    logits, x = torch.randn(3, dtype=torch.float64), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    binary = torch.cartesian_prod(*(torch.tensor([0.0, 1.0], dtype=torch.float64),) * 3)
    weight = torch.where(binary > 0, x, 1 - x).prod(1)
    expected = (weight * bernoulli(logits).log_prob(binary)).sum()
    torch.testing.assert_close(bernoulli(logits).log_prob(x), expected)


@pytest.mark.parametrize("sigma2", [0.3, torch.tensor([0.1, 0.2, 0.4])])
def test_gaussian_is_the_dense_gaussian(sigma2):
    mean, x = torch.randn(4, 3), torch.randn(4, 3)
    covariance = (torch.as_tensor(sigma2) * torch.ones(3)).diag()
    torch.testing.assert_close(Gaussian(sigma2)(mean).log_prob(x), MultivariateNormal(mean, covariance).log_prob(x))


def test_gaussian_keeps_the_type_of_the_mean():
    mean = torch.zeros(4, 3)
    assert Gaussian(torch.ones(3, dtype=torch.float64))(mean).log_prob(mean).dtype == torch.float32


@pytest.mark.parametrize("shape", [(), (3,)])
def test_best_sigma2_is_the_mean_squared_error(shape):
    mean, x = torch.randn(40, 3, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64)
    x[:, 0] *= 3
    error = (x - mean).square()
    best = error.mean() if shape == () else error.mean(0)
    likelihood = Gaussian(best)
    (gradient,) = torch.autograd.grad(likelihood(mean).log_prob(x).mean(), [likelihood.log_sigma2])
    assert gradient.shape == shape
    assert gradient.abs().max() < 1e-12
    for factor in (0.9, 1.1):
        assert Gaussian(best * factor)(mean).log_prob(x).mean() < likelihood(mean).log_prob(x).mean()


@pytest.mark.parametrize("K", [2, 17])
def test_categorical_is_minus_the_cross_entropy(K):
    output, level = 3 * torch.randn(4, 6 * K), torch.randint(K, (4, 6))
    p = categorical(K)(output)
    expected = -F.cross_entropy(output.reshape(4, 6, K).movedim(2, 1), level, reduction="none").sum(1)
    torch.testing.assert_close(p.log_prob(level / (K - 1)), expected)


def test_categorical_moments_and_samples():
    p = categorical(5)(torch.randn(30))
    draws = p.sample((20_000,))
    assert draws.shape == (20_000, 6)
    assert set(draws.unique().tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    within(draws, p.mean)
    within((draws - p.mean).square(), p.variance)


def test_categorical_gives_no_density_to_what_is_no_grey_level():
    p = categorical(3)(torch.zeros(2, 6))
    x = torch.tensor([[0.0, 0.5], [0.3, 1.0]])
    assert p.log_prob(x).tolist() == [pytest.approx(-2 * math.log(3)), -math.inf]
    for wrong in (16.0, -1.0, math.nan, math.inf):
        assert p.log_prob(torch.tensor([[wrong, 0.0], [0.0, wrong]])).tolist() == [-math.inf] * 2


def test_all_digits_are_grey_levels():
    x = data.digits()[0]
    p = GreyLevels(torch.zeros(64, 17))
    torch.testing.assert_close(p.log_prob(x), torch.full((len(x),), -64 * math.log(17.0)))


@torch.no_grad()
def test_one_pixel_mass_sums_to_one():
    levels = torch.linspace(0, 1, 17)[:, None]
    p = categorical(17)(torch.randn(17))
    torch.testing.assert_close(p.log_prob(levels).logsumexp(0).item(), 0.0, rtol=0, atol=1e-5)


# Images


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4), (1, 1)])
def test_densities_are_summed_over_all_event_axes(shape):
    x = (torch.randint(5, (7, *shape)) / 4).double()
    output = torch.randn(7, *shape, dtype=torch.float64)
    axes = tuple(range(1, x.ndim))
    sigma2 = torch.rand(shape, dtype=torch.float64) + 0.1
    for p, expected in (
        (bernoulli(output), -F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(axes)),
        (Gaussian(0.3)(output), Normal(output, 0.3**0.5).log_prob(x).sum(axes)),
        (Gaussian(sigma2)(output), Normal(output, sigma2.sqrt()).log_prob(x).sum(axes)),
    ):
        assert (p.batch_shape, p.event_shape) == ((7,), shape)
        torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-6, atol=1e-6)
        assert p.mean.shape == p.sample().shape == x.shape


def test_categorical_of_grey_images_takes_the_outputs_of_a_cross_entropy():
    output, level = torch.randn(4, 5, 3, 2, dtype=torch.float64), torch.randint(5, (4, 3, 2))
    p = categorical(5)(output)
    assert (p.batch_shape, p.event_shape) == ((4,), (1, 3, 2))
    expected = -F.cross_entropy(output, level, reduction="none").sum((1, 2))
    torch.testing.assert_close(p.log_prob((level[:, None] / 4).double()), expected)
    levels = torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(p.mean[:, 0], (output.softmax(1) * levels[:, None, None]).sum(1))
    draws = p.sample((4000,))
    assert draws.shape == (4000, 4, 1, 3, 2)
    within(draws, p.mean, 5)


def test_categorical_keeps_the_levels_of_a_channel_together():
    red, blue = torch.randn(2, 4, 5, 3, 2, dtype=torch.float64)
    x = torch.randint(5, (4, 2, 3, 2)).double() / 4
    both = categorical(5)(torch.cat([red, blue], 1)).log_prob(x)
    apart = categorical(5)(red).log_prob(x[:, :1]) + categorical(5)(blue).log_prob(x[:, 1:])
    torch.testing.assert_close(both, apart)


# What data they take


@pytest.mark.parametrize(
    ("p", "x", "message"),
    [
        (
            bernoulli(torch.zeros(2, 3)),
            [-1.0, 0.0, 1.0],
            r"from -1 to 1; bernoulli takes .* 0 and 1: use \(x \+ 1\) / 2$",
        ),
        (
            bernoulli(torch.zeros(2, 3)),
            [0.0, 3.0, 250.0],
            r"from 0 to 250; .*: use x / 255, the largest possible value$",
        ),
        (bernoulli(torch.zeros(2, 3)), [0.0, 3.0, 16.0], r"from 0 to 16; .*: use x / 16, the largest"),
        (bernoulli(torch.zeros(2, 3)), [0.0, 3.0, 4095.0], r"from 0 to 4095; .*: use x / 4095, the largest"),
        (bernoulli(torch.zeros(2, 3)), [-2.1, 0.0, 1.7], r"from -2\.1 to 1\.7; .* or Gaussian\(\)$"),
        (categorical(17)(torch.zeros(2, 51)), [0.0, 3.0, 15.0], r"categorical\(17\) takes .* 1/16, …, 1: use x / 16"),
        (categorical(256)(torch.zeros(2, 768)), [0.0, 3.0, 15.0], r"takes the grey levels 0, 1/255, …, 1: use x / 255"),
        (categorical(17)(torch.zeros(2, 51)), [-1.0, 0.0, 1.0], r"categorical\(17\) takes .*: use \(x \+ 1\) / 2$"),
        (categorical(256)(torch.zeros(2, 768)), [0.0, 1 / 16, 1.0], r"x has 3 different values; name .* \(x \* 255\)"),
        (Independent(Bernoulli(logits=torch.zeros(2, 3)), 1), [0.0, 0.5, 1.0], r"Bernoulli takes Boolean\(\): rescale"),
        (Independent(Beta(torch.ones(2, 3), 1.0), 1), [0.0, 0.5, 2.0], r"Beta takes Interval\(.*\): rescale x"),
        (Gaussian()(torch.zeros(2, 3)), [0.0, math.nan, 1.0], "NaN or infinite"),
        (Gaussian()(torch.zeros(2, 3)), [0.0, math.inf, 1.0], "NaN or infinite"),
        (categorical(3)(torch.zeros(2, 9)), [0.0, math.nan, 1.0], "NaN or infinite"),
    ],
)
def test_data_outside_the_support_are_named_with_the_remedy(p, x, message):
    with pytest.raises(ValueError, match=message):
        check_support(p, torch.tensor([[0.0, 1.0, 0.0], x]))


class Silent(Distribution):
    """A distribution that does not say what its support is."""

    arg_constraints = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("p", "x"),
    [
        (bernoulli(torch.zeros(2, 3)), [0.0, 0.3, 1.0000001]),
        (Gaussian()(torch.zeros(2, 3)), [-300.0, 0.0, 1e30]),
        (categorical(17)(torch.zeros(2, 51)), [0.0, 3 / 16, 1.0]),
        (MultivariateNormal(torch.zeros(2, 3), torch.eye(3)), [-300.0, 0.0, 255.0]),
        (Independent(Uniform(torch.zeros(2, 3), 1.0), 1), [0.0, 1.0, 2.0]),  # depends on z: the decoder may learn it
        (Silent((2,), (3,), validate_args=False), [0.0, 1.0, 2.0]),
    ],
)
def test_data_that_are_taken(p, x):
    check_support(p, torch.tensor([[0.0, 1.0, 0.0], x]))


def test_a_grey_bernoulli_is_torchs_own_in_all_else():
    a, b = torch.randn(2, 4, 3)
    ours, theirs = (kl_divergence(f(a), f(b)) for f in (bernoulli, lambda x: Independent(Bernoulli(logits=x), 1)))
    torch.testing.assert_close(ours, theirs)


# What does not fit


@pytest.mark.parametrize("sigma2", [0, -1.0, math.nan, math.inf, torch.tensor([[1.0, 0.0]])])
def test_bad_sigma2(sigma2):
    with pytest.raises(ValueError, match="sigma2 must be"):
        Gaussian(sigma2)


def test_a_large_sigma2_is_not_printed():
    with pytest.raises(ValueError, match=r"got -1\.0 in shape \(32, 256\)$") as error:
        Gaussian(-torch.ones(32, 256))
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("shape", [(16,), (16, 16), (256,), (1,)])
def test_a_sigma2_of_another_shape_is_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"the mean of one x \(1, 16, 16\)"):
        Gaussian(torch.ones(shape))(torch.zeros(5, 1, 16, 16))


def test_bad_levels():
    with pytest.raises(ValueError, match="levels must be at least 2"):
        categorical(1)


def test_outputs_that_are_no_multiple_of_the_levels():
    with pytest.raises(ValueError, match="decoder has 16 outputs along the axis after the batch's"):
        categorical(17)(torch.zeros(5, 16, 17, 17))
