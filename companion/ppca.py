"""Chapter 2: probabilistic principal component analysis, the latent-variable model whose every integral is known.

    z ~ N(0, I),  x | z ~ N(Wz + μ, σ²I),  hence  x ~ N(μ, WWᵀ + σ²I).

Tipping & Bishop, "Probabilistic Principal Component Analysis", JRSS B 61 (1999). An entry of x that is NaN is missing:
it is integrated out exactly, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal
from torch.nn.functional import pad

LOG_2PI = math.log(2 * math.pi)

#: The smallest σ² that a fit returns, relative to the mean variance of a column: what the arithmetic can resolve.
FLOOR = {torch.float32: 1e-7, torch.float64: 1e-12}


class PPCA(nn.Module):
    """Probabilistic PCA: p(x) = N(x; μ, WWᵀ + σ²I).

    Args:
        W: loadings, shape (d, q), float32 or float64.
        mu: mean, shape (d,).
        sigma2: variance of the noise, a positive number or a tensor of shape ().

    Attributes:
        history: after a fit by EM, the mean of log p(x) over the rows, in nats, before the first and after each step.

    Raises:
        TypeError: if W is no tensor of float32 or float64.
        ValueError: if the shapes disagree or sigma2 is not positive.
    """

    def __init__(self, W: Tensor, mu: Tensor, sigma2: Tensor | float) -> None:
        super().__init__()
        _check_tensor("W", W)
        mu = torch.as_tensor(mu, dtype=W.dtype, device=W.device)
        sigma2 = torch.as_tensor(sigma2, dtype=W.dtype, device=W.device)
        if mu.shape != W.shape[:1]:
            raise ValueError(f"mu has shape {tuple(mu.shape)}, W {tuple(W.shape)}; give mu the shape ({W.shape[0]},)")
        if sigma2.ndim or not sigma2 > 0:
            raise ValueError(f"sigma2 must be one positive number, not {sigma2.tolist()}")
        self.register_buffer("W", W)
        self.register_buffer("mu", mu)
        self.register_buffer("sigma2", sigma2)
        self.history: list[float] = []

    @property
    def latent_dim(self) -> int:
        """q, the number of columns of W."""
        return self.W.shape[1]

    @property
    def M(self) -> Tensor:
        """M = WᵀW + σ²I, shape (q, q)."""
        return self.W.T @ self.W + self.sigma2 * torch.eye(self.latent_dim).to(self.W)

    @property
    def C(self) -> Tensor:
        """C = WWᵀ + σ²I, the covariance of x, shape (d, d)."""
        return self.W @ self.W.T + self.sigma2 * torch.eye(len(self.mu)).to(self.W)

    def prior(self) -> Independent:
        """p(z) = N(z; 0, I)."""
        zeros = torch.zeros_like(self.W[0])
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

    def likelihood(self, z: Tensor) -> Independent:
        """p(x | z) = N(x; Wz + μ, σ²I) for z of shape (n, q)."""
        return Independent(Normal(z @ self.W.T + self.mu, self.sigma2.sqrt()), 1)

    def marginal(self) -> LowRankMultivariateNormal:
        """p(x) = N(x; μ, WWᵀ + σ²I)."""
        return LowRankMultivariateNormal(self.mu, self.W, self.sigma2.expand_as(self.mu))

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x) = N(z; M⁻¹Wᵀ(x − μ), σ²M⁻¹) for each row of x, shape (n, d).

        Where entries are missing, W and μ lose the rows of these entries: each row of x then has its own covariance.
        """
        if self._has_missing(x):
            return self._posterior_missing(x)
        M_inv = torch.linalg.inv(self.M)
        mean = (x - self.mu) @ self.W @ M_inv
        return MultivariateNormal(mean, self.sigma2 * M_inv, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,), in O(dq) a row; the density of the observed entries where some are missing.

        C is never formed. With ẑ = E[z | x], Woodbury's identity gives (x−μ)ᵀC⁻¹(x−μ) = |x−μ−Wẑ|²/σ² + |ẑ|², a sum of
        squares that nothing cancels in, and the determinant lemma log|C| = log|M| + (d−q) log σ².
        """
        if self._has_missing(x):
            return self._log_prob_missing(x)
        d, q = self.W.shape
        y = x - self.mu
        z = torch.linalg.solve(self.M, self.W.T @ y.T).T
        distance = (y - z @ self.W.T).square().sum(1) / self.sigma2 + z.square().sum(1)
        log_det = torch.logdet(self.M) + (d - q) * self.sigma2.log()
        return -0.5 * (d * LOG_2PI + log_det + distance)

    def elbo(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """E_q[log p(x | z)] − KL(q ‖ p(z)) ≤ log p(x) in nats, shape (n,), in closed form.

        Args:
            x: data, shape (n, d).
            q: Gaussians over z with batch shape (n,) and event shape (q,): MultivariateNormal or Independent Normal. By
                default the exact posterior, where the bound is tight.
        """
        missing = self._has_missing(x)
        q = self.posterior(x) if q is None else q
        mean, covariance = q.mean, _scale_tril(q) @ _scale_tril(q).mT
        observed = ~x.isnan() if missing else torch.ones_like(x, dtype=torch.bool)
        residual = torch.where(observed, x - mean @ self.W.T - self.mu, 0)
        spread = ((self.W @ covariance) * self.W).sum(-1) * observed  # Var_q[(Wz)_j]
        squared_error = (residual.square() + spread).sum(1) / self.sigma2
        reconstruction = -0.5 * (observed.sum(1) * (LOG_2PI + self.sigma2.log()) + squared_error)
        cross_entropy = 0.5 * (mean.square().sum(1) + q.variance.sum(-1) + self.latent_dim * LOG_2PI)
        return reconstruction - (cross_entropy - q.entropy())

    def importance_bound(
        self, x: Tensor, k: int, q: Distribution | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """An estimate of E[log 1/k Σᵢ p(x, zᵢ)/q(zᵢ)], zᵢ ~ q, which rises with k from the ELBO to log p(x).

        Args:
            x: data, shape (n, d).
            k: samples a row.
            q: as in `elbo`; with the exact posterior, its default, every k gives log p(x).
            generator: source of randomness.

        Returns:
            nats, shape (n,). Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016).
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        observed = torch.where(x.isnan(), 0, 1) if self._has_missing(x) else torch.ones_like(x)
        q = self.posterior(x) if q is None else q
        noise = torch.randn(k, len(x), self.latent_dim, dtype=x.dtype, device=x.device, generator=generator)
        z = q.mean + (_scale_tril(q) @ noise[..., None])[..., 0]
        pixels = Normal(z @ self.W.T + self.mu, self.sigma2.sqrt()).log_prob(torch.nan_to_num(x)) * observed
        weights = pixels.sum(-1) + self.prior().log_prob(z) - q.log_prob(z)
        return weights.logsumexp(0) - math.log(k)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n new x by ancestral sampling, shape (n, d): first z ~ p(z), then x ~ p(x | z)."""
        (d, q), like = self.W.shape, {"dtype": self.W.dtype, "device": self.W.device, "generator": generator}
        z = torch.randn(n, q, **like)
        return z @ self.W.T + self.mu + self.sigma2.sqrt() * torch.randn(n, d, **like)

    def reconstruct(self, x: Tensor) -> Tensor:
        """W E[z | x] + μ, shape (n, d)."""
        return self.posterior(x).mean @ self.W.T + self.mu

    def impute(self, x: Tensor) -> Tensor:
        """x with each missing entry replaced by its conditional mean given the row's observed entries."""
        return torch.where(x.isnan(), self.reconstruct(x), x)

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        x: Tensor,
        latent_dim: int,
        method: str | None = None,
        *,
        max_iter: int = 1000,
        tol: float = 1e-7,
        generator: torch.Generator | None = None,
    ) -> PPCA:
        """The model that maximises the mean of log p(x) over the rows of x; missing entries are integrated out.

        The columns of W come out orthogonal, longest first, the entry of largest magnitude positive. σ² stays above
        FLOOR × the mean variance of a column, and above what rounding adds to x.

        Args:
            x: data, shape (n, d), float32 or float64, NaN where missing. The sums are kept in float64.
            latent_dim: q, between 1 and d − 1.
            method: "eigen" (closed form, complete data), "em", or None: closed form unless entries are missing.
            max_iter: at most so many EM steps.
            tol: EM stops when a step gains less, in nats a row.
            generator: source of EM's random start (complete data only: else it starts from the eigen-solution of x with
                column means for missing entries).

        Raises:
            TypeError: if x is no tensor of float32 or float64, or latent_dim no int.
            ValueError: if x is empty, has infinite entries, or a row or column without any observed entry; if
                latent_dim is out of range; if method is unknown, or "eigen" with missing entries.
        """
        _check_tensor("x", x)
        _check_latent_dim(latent_dim, x.shape[1])
        if method not in (None, "eigen", "em"):
            raise ValueError(f"method must be 'eigen' or 'em', not {method!r}")
        n, d = x.shape
        if n >= d:
            moments = Moments(x).update(x)
            mu, S, basis = moments.mean, moments.covariance, None
        else:
            mu, S, basis = _span(x)
        if not S.isfinite().all():
            _check_missing(x)
            if method == "eigen":
                raise ValueError("x has missing entries (NaN): use method='em', or impute them first")
            return cls._fit_missing(x, latent_dim, max_iter, tol)
        floor = _floor(S.trace() / d, mu, x.dtype)
        if method == "em":
            W, sigma2, history = _em(S, latent_dim, d, floor, max_iter, tol, generator)
        else:
            W, sigma2 = closed_form(S, latent_dim, d)
            history = []
        W = W if basis is None else basis @ W
        return cls._build(W, mu, sigma2.clamp(min=floor), x, history)

    @classmethod
    @torch.no_grad()
    def fit_stream(cls, batches: Iterable[Tensor], latent_dim: int) -> PPCA:
        """The closed-form fit of data that arrives in batches, shape (n_i, d) each, in memory O(d²).

        Raises:
            TypeError, ValueError: as `fit`, for each batch; ValueError if batches differ in columns, type or device, or
                have missing entries.
        """
        moments = None
        for batch in batches:
            _check_tensor("batch", batch)
            if moments is None:
                _check_latent_dim(latent_dim, batch.shape[1])
                moments, first = Moments(batch), batch[:0]
            _check_alike("batch", batch, first, "the first batch")
            moments.update(batch)
            if not moments.total.isfinite().all():
                _check_missing(batch)
                raise ValueError("batch has missing entries (NaN): impute them first, or use fit(x, method='em')")
        if moments is None:
            raise ValueError("batches is empty: give at least one batch")
        W, sigma2 = closed_form(moments.covariance, latent_dim, len(moments.mean))
        floor = _floor(moments.covariance.diagonal().mean(), moments.mean, first.dtype)
        return cls._build(W, moments.mean, sigma2.clamp(min=floor), first, [])

    @classmethod
    def _fit_missing(cls, x: Tensor, latent_dim: int, max_iter: int, tol: float) -> PPCA:
        observed = ~x.isnan()
        shift = x.nanmean(0, keepdim=True).double()
        y = torch.where(observed, x - shift, 0)
        S = y.T @ y / len(y)
        floor = _floor(y.square().sum() / observed.sum(), shift, x.dtype)
        W, sigma2 = closed_form(S, latent_dim, y.shape[1])
        mu, sigma2 = torch.zeros_like(y[0]), sigma2.clamp(min=floor)
        patterns, group = observed.unique(dim=0, return_inverse=True)
        history: list[float] = []
        while True:
            z, M, log_prob = e_step(y, patterns, group, W, mu, sigma2)
            history.append(log_prob.mean().item())
            if len(history) > max_iter or (len(history) > 1 and history[-1] - history[-2] < tol):
                break
            W, mu, sigma2 = m_step(y, observed, z, sigma2 * torch.linalg.inv(M)[group])
            sigma2 = sigma2.clamp(min=floor)
        return cls._build(W, mu + shift[0], sigma2, x, history)

    @classmethod
    def _build(cls, W: Tensor, mu: Tensor, sigma2: Tensor, like: Tensor, history: list[float]) -> PPCA:
        model = cls(_canonical(W).to(like), mu.to(like), sigma2.to(like))
        model.history = history
        return model

    def _posterior_missing(self, x: Tensor) -> MultivariateNormal:
        z, M, _, group = self._infer_missing(x)
        covariance = (self.sigma2 * torch.linalg.inv(M))[group]
        return MultivariateNormal(z.to(x), covariance.to(x), validate_args=False)

    def _log_prob_missing(self, x: Tensor) -> Tensor:
        return self._infer_missing(x)[2].to(x)

    def _infer_missing(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        patterns, group = (~x.isnan()).unique(dim=0, return_inverse=True)
        y = torch.nan_to_num(x.double() - self.mu)
        z, M, log_prob = e_step(y, patterns, group, self.W.double(), torch.zeros_like(y[0]), self.sigma2.double())
        return z, M, log_prob, group

    def _has_missing(self, x: Tensor) -> bool:
        """Whether entries are missing, after a check of x against the model."""
        _check_tensor("x", x, empty=True)
        _check_alike("x", x, self.W.T, "the model")
        if x.sum().isfinite():
            return False
        if x.isinf().any():
            raise ValueError("x has infinite entries: remove them, or mark them as missing with NaN")
        return bool(x.isnan().any())

    def extra_repr(self) -> str:
        return f"d={len(self.mu)}, q={self.latent_dim}, sigma2={self.sigma2.item():.4g}"


class Moments:
    """Sufficient statistics of data that arrives in pieces: n, Σ(x − shift) and Σ(x − shift)(x − shift)ᵀ in float64.

    They are the blocks of `total`, shape (d + 1, d + 1). Processes that share one `shift` add their totals to get the
    statistics of all their data: one all-reduce. `shift`, the mean of some rows, keeps the sums small; each block is
    centred on its own mean before its products are taken, so that they are exact enough in the data's own type.

    Args:
        x: rows that set the shift, shape (n, d).
    """

    def __init__(self, x: Tensor) -> None:
        self.shift = x[: self._rows(x)].mean(0)
        self.total = torch.zeros(x.shape[1] + 1, x.shape[1] + 1, dtype=torch.float64, device=x.device)

    def update(self, x: Tensor) -> Moments:
        """Add the rows of x, shape (n, d)."""
        for block in x.split(self._rows(x)):
            mean = block.mean(0)
            y = block - mean
            first = torch.cat([torch.ones_like(mean[:1]), mean - self.shift]).double()
            self.total += len(block) * first.outer(first)
            self.total[1:, 1:] += y.T @ y
        return self

    @property
    def mean(self) -> Tensor:
        """Mean of all rows, shape (d,)."""
        return self.shift + self.total[0, 1:] / self.total[0, 0]

    @property
    def covariance(self) -> Tensor:
        """Maximum-likelihood covariance of all rows, shape (d, d)."""
        mean = self.total[0, 1:] / self.total[0, 0]
        return self.total[1:, 1:] / self.total[0, 0] - mean.outer(mean)

    @staticmethod
    def _rows(x: Tensor) -> int:
        return max(256, 2**21 // x.shape[1])


def closed_form(S: Tensor, latent_dim: int, dim: int) -> tuple[Tensor, Tensor]:
    """W = U_q(Λ_q − σ²I)^½ and σ² = the mean of the d − q discarded eigenvalues of the covariance S = UΛUᵀ.

    Args:
        S: covariance, in any orthonormal basis that spans the data.
        latent_dim: q.
        dim: d; eigenvalues that S lacks are 0.
    """
    values, vectors = torch.linalg.eigh(S)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    sigma2 = values[latent_dim:].sum() / (dim - latent_dim)
    W = vectors[:, :latent_dim] * (values[:latent_dim] - sigma2).clamp(min=0).sqrt()
    return pad(W, (0, latent_dim - W.shape[1])), sigma2


def em_step(S: Tensor, W: Tensor, sigma2: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """One step of EM: the moments of z under p(z | x), averaged over data of covariance S, then the best W and σ²."""
    M_inv = torch.linalg.inv(W.T @ W + sigma2 * torch.eye(W.shape[1]).to(W))
    A = M_inv @ W.T  # E[z | x] = A(x − μ)
    xz = S @ A.T  # mean of (x − μ)E[z | x]ᵀ
    zz = sigma2 * M_inv + A @ xz  # mean of E[zzᵀ | x]
    W = torch.linalg.solve(zz, xz.T).T
    sigma2 = (S.trace() - (W * xz).sum()) / dim
    return W, sigma2


def e_step(
    y: Tensor, patterns: Tensor, group: Tensor, W: Tensor, mu: Tensor, sigma2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """p(z | x_o) and log p(x_o) when each row observes its own set o of entries.

    Args:
        y: data, shape (n, d), 0 where missing.
        patterns: the different sets o as rows of booleans, shape (g, d).
        group: the pattern of each row, shape (n,).

    Returns:
        E[z | x_o], shape (n, q); M_o = W_oᵀW_o + σ²I for each pattern, shape (g, q, q); log p(x_o), shape (n,).
    """
    q, observed = W.shape[1], patterns.to(W)
    products = (W[:, :, None] * W[:, None, :]).flatten(1)
    M = (observed @ products).view(-1, q, q) + sigma2 * torch.eye(q).to(W)
    L = torch.linalg.cholesky(M)
    y = y - mu * observed[group]
    z = torch.cholesky_solve((y @ W)[:, :, None], L[group])[:, :, 0]
    distance = (y - z @ W.T * observed[group]).square().sum(1) / sigma2 + z.square().sum(1)
    size = observed.sum(1)
    log_det = 2 * L.diagonal(dim1=1, dim2=2).log().sum(1) + (size - q) * sigma2.log()
    return z, M, -0.5 * ((size * LOG_2PI + log_det)[group] + distance)


def m_step(y: Tensor, observed: Tensor, z: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best W, μ, σ² given p(z | x_o): one least-squares problem a column, over the rows that observe it."""
    q, observed = z.shape[1], observed.to(y)
    z1 = pad(z, (0, 1), value=1)
    zz = z1[:, :, None] * z1[:, None, :] + pad(covariance, (0, 1, 0, 1))
    A = (observed.T @ zz.flatten(1)).view(-1, q + 1, q + 1)
    b = y.T @ z1
    solution = torch.linalg.solve(A, b)
    sigma2 = (y.square().sum() - (solution * b).sum()) / observed.sum()
    return solution[:, :q], solution[:, q], sigma2


def _em(S, latent_dim, dim, floor, max_iter, tol, generator):
    scale = S.trace() / dim
    W = torch.randn(len(S), latent_dim, dtype=S.dtype, device=S.device, generator=generator) * scale.sqrt()
    sigma2 = scale.clamp(min=floor)
    history = [_mean_log_prob(S, W, sigma2, dim)]
    for _ in range(max_iter):
        W, sigma2 = em_step(S, W, sigma2, dim)
        sigma2 = sigma2.clamp(min=floor)
        history.append(_mean_log_prob(S, W, sigma2, dim))
        if history[-1] - history[-2] < tol:
            break
    return W, sigma2, history


def _mean_log_prob(S: Tensor, W: Tensor, sigma2: Tensor, dim: int) -> float:
    """−½(d log 2π + log|C| + tr C⁻¹S)."""
    M = W.T @ W + sigma2 * torch.eye(W.shape[1]).to(W)
    distance = (S.trace() - torch.linalg.solve(M, W.T @ S @ W).trace()) / sigma2
    log_det = torch.logdet(M) + (dim - W.shape[1]) * sigma2.log()
    return (-0.5 * (dim * LOG_2PI + log_det + distance)).item()


def _span(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and covariance in an orthonormal basis of the span of n < d rows, from their n×n Gram matrix."""
    y = x.double()
    mu = y.mean(0)
    y = y - mu
    K = y @ y.T / len(y)
    if not K.isfinite().all():
        return mu, K, y.T
    values, vectors = torch.linalg.eigh(K)
    values = values.clamp(min=0)
    basis = y.T @ vectors / (values * len(y)).sqrt()
    return mu, values.diag(), torch.where(values > 1e-14 * values.max(), basis, 0)


def _canonical(W: Tensor) -> Tensor:
    """W rotated so that its columns are orthogonal, longest first, each with its largest entry positive."""
    U, lengths, _ = torch.linalg.svd(W, full_matrices=False)
    largest = U.gather(0, U.abs().argmax(0, keepdim=True))
    return U * torch.where(largest < 0, -lengths, lengths)


def _floor(variance: Tensor, mu: Tensor, dtype: torch.dtype) -> Tensor:
    rounding = (torch.finfo(dtype).eps * mu).square().mean() / 12
    return torch.maximum(FLOOR[dtype] * variance, rounding).clamp(min=torch.finfo(dtype).tiny * 1e8)


def _scale_tril(q: Distribution) -> Tensor:
    if isinstance(q, MultivariateNormal):
        return q.scale_tril
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return q.stddev.diag_embed()
    raise TypeError(f"q must be MultivariateNormal or Independent(Normal(…), 1), not {type(q).__name__}")


def _check_tensor(name: str, x: Tensor, empty: bool = False) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(x).__name__}: use torch.as_tensor({name})")
    if x.dtype not in FLOOR:
        raise TypeError(f"{name} must be float32 or float64, not {x.dtype}: use {name}.float()")
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (rows, columns), not {tuple(x.shape)}: reshape it")
    if not empty and not x.numel():
        raise ValueError(f"{name} is empty (shape {tuple(x.shape)}): give at least one row")


def _check_alike(name: str, x: Tensor, other: Tensor, whose: str) -> None:
    if x.shape[1] != other.shape[1]:
        raise ValueError(f"{name} has {x.shape[1]} columns, {whose} {other.shape[1]}: give data of the same columns")
    if x.device != other.device:
        raise ValueError(f"{name} is on {x.device}, {whose} on {other.device}: move one with .to(device)")
    if x.dtype != other.dtype:
        raise TypeError(f"{name} is {x.dtype}, {whose} {other.dtype}: convert one with .to(dtype)")


def _check_latent_dim(latent_dim: int, dim: int) -> None:
    if not isinstance(latent_dim, int) or isinstance(latent_dim, bool):
        raise TypeError(f"latent_dim must be an int, not {type(latent_dim).__name__}")
    if not 1 <= latent_dim < dim:
        raise ValueError(f"latent_dim must be between 1 and {dim - 1} for x with {dim} columns, not {latent_dim}")


def _check_missing(x: Tensor) -> None:
    """Say why sums over x are not finite, unless missing entries are the only reason."""
    missing = x.isnan()
    if x.isinf().any():
        raise ValueError("x has infinite entries: remove them, or mark them as missing with NaN")
    if not missing.any():
        raise ValueError(f"x is too large for {x.dtype}: rescale it, or use x.double()")
    for axis, what in ((1, "row"), (0, "column")):
        if missing.all(axis).any():
            index = missing.all(axis).nonzero()[0].item()
            raise ValueError(f"x has no observed entry in {what} {index}: remove every {what} that is all NaN")
