r"""A posterior with a standard error, for orders beyond the exact methods: self-normalised importance sampling.

The proposal, in the softmax coordinates u of :mod:`mdbench.baselines.softmax`, is an equal mixture of

- a multivariate t at the mode, its scale matrix 1.3 times the inverse Hessian, 5 degrees of freedom;
- a multivariate t with the moments of a pilot run, 8 degrees of freedom;
- the Dirichlet with the pilot's mean and mean variance, which has the posterior's kind of skewness.

The density in u falls off exponentially (λ_g^α as u goes to infinity), a t's polynomially: importance weights
are bounded, so every variance is finite. A normal proposal has an infinite one. Points are independent, an equal number
from each component, which can only make the stated standard error too large; it assumes nothing but a sample that is
large for its weights, which the gates see to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln
from threadpoolctl import threadpool_limits

from mdbench.baselines.baseline import GATED, SEEDS, Baseline, Contexts, Lengths, option, sequence_seeds
from mdbench.baselines.gates import at_least, at_most
from mdbench.baselines.posterior import Posterior
from mdbench.baselines.softmax import Mode, basis, draw_log_gamma, find_mode, log_dirichlet_normaliser
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture

HIGHEST_ORDER = 16
BLOCK = 3 * 2**13  # points at a time, a third from each component
PILOTS, PILOT_BLOCKS = 2, 2  # pilot runs, each with the moments of the one before
ENTRIES = 2**16  # of the matrix of factors at a time: they stay in the cache
FACTORS = 8  # multiplied before a logarithm is taken; each is between its least entry and m times the mean
ESS = 1000
LARGEST_SHARE = 0.01  # of one point in the sum of all weights
SCALE, MODE_DF, PILOT_DF = 1.3, 5.0, 8.0


@dataclass(frozen=True)
class Reference(Baseline[DirichletMixture]):
    """Posterior by importance sampling until it passes its gates.

    Gates: the wanted standard error of every next-token probability, an effective sample size of the weights of at
    least 1,000, and no weight above 1% of their sum. Each prefix is a run of its own.
    """

    name: ClassVar[str] = "reference"
    standing: ClassVar[str] = GATED
    accuracy_options: ClassVar[Mapping[str, Any]] = {"standard_error": 3e-4}

    standard_error: float = option(1e-4, "wanted of every next-token probability")
    points: int = option(
        10_000_000,
        "the most for a sequence; what is reached by then is stated, and fails its gate",
        least=BLOCK,
        most=10**9,
    )
    seed: int = option(0, "with a sequence's tokens it fixes that sequence's points", least=0, most=SEEDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.standard_error, (int, float)) or not self.standard_error > 0:
            raise InputError(f"reference: standard_error must be a number above 0, not {self.standard_error!r}.")

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, x, wanted = self.prepare(task, contexts, lengths)

        def run(i: int) -> list[_Estimate]:
            estimates = []
            for length in wanted:
                prefix = contexts[i, :length]
                rng = np.random.default_rng(sequence_seeds(prefix[None], self.seed)[0])
                columns = task.rows(prefix[None])[0]  # (m, q): what each component says of the next token
                of_prefix = x[i, : length - task.given]
                wanted_error, most = self.standard_error, self.points
                estimates.append(_estimate(of_prefix, task.concentration, columns, rng, wanted_error, most))
            if progress:
                progress(1)
            return estimates

        # One BLAS thread in each of ours: more wait for each other.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_cores()) as pool:
            rows = list(pool.map(run, range(len(x))))
        field = {name: np.array([[getattr(e, name) for e in row] for row in rows]) for name in _Estimate._fields}
        worst = field["next_token_se"].max(axis=-1)
        return Posterior(
            self.name,
            wanted,
            mean=field["mean"],
            sd=field["sd"],
            log_evidence=field["log_evidence"],
            mean_se=field["mean_se"],
            next_token_se=field["next_token_se"],
            checks_made=(
                at_most("standard_error", worst, self.standard_error),
                at_least("ess", field["ess"], ESS),
                at_most("largest_share", field["largest_share"], LARGEST_SHARE),
            ),
        )

    def check_size(self, task: DirichletMixture, length: int) -> None:
        """Raise :class:`InputError` for orders that the method was not made for."""
        super().check_size(task, length)
        if task.n_components > HIGHEST_ORDER:
            raise InputError(f"reference goes up to order {HIGHEST_ORDER}, not {task.n_components}.")


class _Estimate(NamedTuple):
    """Of one sequence at one prefix."""

    mean: Float[np.ndarray, " m"]
    sd: Float[np.ndarray, " m"]
    mean_se: Float[np.ndarray, " m"]
    next_token_se: Float[np.ndarray, " q"]
    log_evidence: float
    ess: float
    largest_share: float


def _estimate(
    x: Float[np.ndarray, "n m"],
    concentration: float,
    columns: Float[np.ndarray, "m q"],
    rng: np.random.Generator,
    wanted: float,
    most_points: int,
) -> _Estimate:
    m = x.shape[1]
    mode = Mode(*(values[0] for values in find_mode(x[None], concentration)))
    target = _Target(x, concentration)
    wide = _T(mode.u, SCALE * np.linalg.inv(mode.precision), MODE_DF)
    proposals: list[_T | _Dirichlet] = [wide]
    for _ in range(PILOTS):
        pilot = _Sums(m)
        for _ in range(PILOT_BLOCKS):
            pilot.add(*_weighted_points(proposals, target, rng))
        proposals = [wide, _T(*pilot.moments_of_u(), PILOT_DF), _Dirichlet.from_moments(pilot.mean, pilot.variance)]
    sums = _Sums(m)
    goal = BLOCK
    while True:
        while sums.n < goal:
            sums.add(*_weighted_points(proposals, target, rng))
        next_token_se = sums.standard_error(columns)
        passes = next_token_se.max() <= wanted and sums.ess >= ESS and sums.largest_share <= LARGEST_SHARE
        if passes or goal + BLOCK > most_points:
            break
        # Judged at a few growing sizes only: stopping at the first lucky block would bias the stated error.
        goal = min(2 * goal, most_points // BLOCK * BLOCK)
    return _Estimate(
        sums.mean,
        np.sqrt(sums.variance),
        sums.standard_error(np.eye(m)),
        next_token_se,
        sums.log_evidence,
        sums.ess,
        sums.largest_share,
    )


class _Target:
    """Log p(y, u) of one sequence; few logarithms, as products of a few factors stay far inside float64's range."""

    def __init__(self, x: Float[np.ndarray, "n m"], concentration: float) -> None:
        self.m, self.concentration = x.shape[1], concentration
        scale = x.max(axis=1)
        self.constant = np.log(scale).sum() + log_dirichlet_normaliser(np.full(self.m, concentration))
        self.rows = x / scale[:, None]  # (n, m)

    def log_density(
        self, log_weights: Float[np.ndarray, "m S"], weights: Float[np.ndarray, "m S"]
    ) -> Float[np.ndarray, " S"]:
        total = self.constant + self.concentration * log_weights.sum(axis=0)
        n = len(self.rows)
        if n == 0:  # the prior
            return total
        size = max(ENTRIES // n, 1)
        for start in range(0, len(total), size):
            part = slice(start, start + size)
            factors = self.rows @ weights[:, part]  # (n, size), of which each is at most 1
            product = np.multiply.reduceat(factors, range(0, n, FACTORS), axis=0)
            with np.errstate(divide="ignore"):
                total[part] += np.log(product).sum(axis=0)
        return total


class _T:
    """Multivariate t in u."""

    def __init__(self, centre: Float[np.ndarray, " d"], scale: Float[np.ndarray, "d d"], df: float) -> None:
        self.centre, self.df = centre, df
        self.root = np.linalg.cholesky(scale)
        self.inverse_root = np.linalg.inv(self.root)
        d = len(centre)
        self.log_constant = (
            gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi) - np.log(np.diag(self.root)).sum()
        )

    def draw(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "d n"]:
        normal = rng.standard_normal((n, len(self.centre))).T
        return self.centre[:, None] + self.root @ (normal / np.sqrt(rng.chisquare(self.df, n) / self.df))

    def log_density(self, u: Float[np.ndarray, "d n"], _log_weights: object) -> Float[np.ndarray, " n"]:
        square = ((self.inverse_root @ (u - self.centre[:, None])) ** 2).sum(axis=0)
        return self.log_constant - (self.df + len(self.centre)) / 2 * np.log1p(square / self.df)


@dataclass
class _Dirichlet:
    """Dirichlet(a) as a distribution of u."""

    a: Float[np.ndarray, " m"]

    @classmethod
    def from_moments(cls, mean: Float[np.ndarray, " m"], variance: Float[np.ndarray, " m"]) -> _Dirichlet:
        total = (mean * (1 - mean)).sum() / variance.sum() - 1
        return cls(np.maximum(mean * max(total, 0.1), 0.02))

    def draw(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "d n"]:
        return basis(len(self.a)).T @ draw_log_gamma(self.a, (n, len(self.a)), rng).T

    def log_density(self, _u: object, log_weights: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " n"]:
        return log_dirichlet_normaliser(self.a) + self.a @ log_weights


def _weighted_points(
    proposals: Sequence[_T | _Dirichlet], target: _Target, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "d S"], Float[np.ndarray, "m S"], Float[np.ndarray, " S"]]:
    """(u, λ, log weights) of one block, weighted by the whole mixture whichever component a point is from.

    u is (m-1, S) and λ (m, S): NumPy sums along the long axis several times faster than along a short last one.
    """
    share = BLOCK // len(proposals)
    u = np.concatenate([proposal.draw(share, rng) for proposal in proposals], axis=1)
    log_weights = basis(target.m) @ u
    log_weights -= np.logaddexp.reduce(log_weights, axis=0)
    weights = np.exp(log_weights)
    densities = [proposal.log_density(u, log_weights) for proposal in proposals]
    mixture = np.logaddexp.reduce(densities, axis=0) - np.log(len(proposals))
    return u, weights, target.log_density(log_weights, weights) - mixture


class _Sums:
    """Running sums of importance weights w: of w and w² times what mean, covariance and standard errors need."""

    def __init__(self, m: int) -> None:
        self.n = 0
        self.shift = -np.inf  # the largest log weight so far; all sums are relative to it
        self.first = np.zeros(m)  # Σ w λ
        self.square = np.zeros(m)  # Σ w λ²
        self.outer = np.zeros((m + 1, m + 1))  # Σ w² (1, λ)(1, λ)ᵀ
        self.u_first, self.u_outer = np.zeros(m - 1), np.zeros((m - 1, m - 1))
        self.total = 0.0

    def add(
        self, u: Float[np.ndarray, "d S"], weights: Float[np.ndarray, "m S"], log_w: Float[np.ndarray, " S"]
    ) -> None:
        self._shift_to(max(self.shift, log_w.max()))
        w = np.exp(log_w - self.shift)
        self.n += len(w)
        self.total += w.sum()
        self.first += weights @ w
        self.square += weights**2 @ w
        scaled = np.vstack([w, w * weights])
        self.outer += scaled @ scaled.T
        self.u_first += u @ w
        self.u_outer += (w * u) @ u.T

    def _shift_to(self, new: float) -> None:
        factor = np.exp(self.shift - new)
        for name in ("total", "first", "square", "u_first", "u_outer"):
            setattr(self, name, getattr(self, name) * factor)
        self.outer = self.outer * factor**2
        self.shift = new

    @property
    def mean(self) -> Float[np.ndarray, " m"]:
        return self.first / self.total

    @property
    def variance(self) -> Float[np.ndarray, " m"]:
        return np.maximum(self.square / self.total - self.mean**2, 0.0)

    def moments_of_u(self) -> tuple[np.ndarray, np.ndarray]:
        centre = self.u_first / self.total
        return centre, self.u_outer / self.total - np.outer(centre, centre)

    def standard_error(self, columns: Float[np.ndarray, "m k"]) -> Float[np.ndarray, " k"]:
        """Of E[λ] @ columns, by the delta method: √(Σ w² (f - f̄)²) / Σ w."""
        centred = np.vstack([-self.mean @ columns, columns])  # (1, λ) @ centred = f - f̄
        return np.sqrt(np.maximum(np.einsum("ak,ab,bk->k", centred, self.outer, centred), 0)) / self.total

    @property
    def ess(self) -> float:
        return float(self.total**2 / self.outer[0, 0])

    @property
    def log_evidence(self) -> float:
        return float(self.shift + np.log(self.total / self.n))

    @property
    def largest_share(self) -> float:
        """Of the sum of all weights, the share of the largest; log weights are relative to that one."""
        return float(1 / self.total)
