"""Which algorithm is this predictor running? Known ones are fitted to its predictions and judged on other sequences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from mdbench.algorithms.fitting import fit, fit_positive, kl, lag_rows, mix
from mdbench.algorithms.known import ALGORITHMS, Algorithm
from mdbench.baselines.catalogue import build_baseline
from mdbench.core import metrics
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, Unsupported
from mdbench.core.files import json_ready
from mdbench.core.progress import Advance, Progress, no_advance
from mdbench.core.statistics import CONFIDENCE, mean_interval
from mdbench.core.store import Cache, Store, open_store
from mdbench.evaluation.gold import gold_predictive
from mdbench.evaluation.running import Answers, answers, predict
from mdbench.predictors.catalogue import as_predictor
from mdbench.predictors.predictor import Given, Predictor, check_length, is_told, name_of, runs_of
from mdbench.tasks import DirichletMixture, Stream, Task, as_task, sample

RESOLUTION = 1e-9  # nats; predictions this near to each other are the same but for rounding and the search for scalars

EXPLAINED = 0.9  # share of the distance from its rival that an algorithm must explain to be what a predictor runs

BAYES, ONE_STEP = "bayes", "md1"

ONE_HOT = 1e-6  # a concentration so small that λ is one-hot in float64

OTHER_PRIORS = {"α = 0.1": 0.1, "α = 10": 10.0, "one-hot": ONE_HOT}


@dataclass(frozen=True)
class Fit:
    """One algorithm fitted to a predictor at one length.

    Attributes:
        algorithm: its name.
        scalars: what was fitted, by name.
        kl: mean KL(p̂ ‖ algorithm) in nats over the sequences that judge, p̂ the predictor's.
        kl_ci: its 95% interval, None where it is infinite.
        explained: share of the predictor's distance from Bayes that it explains, 1 - KL(p̂ ‖ algorithm)/KL(p̂ ‖ p_B);
            for Bayes itself, of the distance from one fitted step; None where that distance is nothing.
        tied: whether these sequences cannot tell it from the nearest algorithm.
        elsewhere: the same mean KL, with the same scalars, on sequences of other priors on λ, and at the other lengths
            that were asked for; there step sizes go as 1/(T - m), the paper's Θ(1/T), and all other scalars stay.
    """

    algorithm: str
    scalars: dict[str, float]
    kl: float
    kl_ci: tuple[float, float] | None
    explained: float | None
    tied: bool
    elsewhere: dict[str, float]


@dataclass(frozen=True)
class Identified:
    """What a predictor runs at one length.

    ``nearest`` is the algorithm with the fewest scalars among those that cannot be told from the nearest one;
    ``verdict`` is its name again, or None if it explains too little: none of these. ``fits`` are all, nearest first.
    """

    length: int
    verdict: str | None
    nearest: str
    fits: list[Fit]

    @property
    def rival(self) -> str:
        """What the nearest algorithm's share is measured from: Bayes, or one step if that is Bayes itself."""
        return ONE_STEP if self.nearest == BAYES else BAYES

    def __getitem__(self, algorithm: str) -> Fit:
        """The fit of one algorithm."""
        return next(f for f in self.fits if f.algorithm == algorithm)


@dataclass(frozen=True)
class Identification:
    """What :func:`identify` returns.

    ``exponents`` says of each step size how it moves with the length: the slope of log η against log T with its 95%
    interval, by least squares; it takes three lengths.
    """

    predictor: str
    task: str
    n_sequences: int
    seed: int
    verdicts: list[Identified]
    exponents: dict[str, tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self))


def identify(
    predictor: Given,
    *,
    task: str | Path | Task = "mtd-q5-m3",
    lengths: int | Sequence[int] = (32,),
    n_sequences: int = 1024,
    seed: int = 0,
    device: str = "cpu",
    cache: Cache = "all",
    progress: Progress | None = None,
) -> Identification:
    """Fit every known algorithm to a predictor by KL in function space, and judge the fits on other sequences.

    Args:
        predictor: a name or an object with ``predict``. Of one with several training seeds it is the first.
        task: the task.
        lengths: context lengths; every length is fitted anew.
        n_sequences: to fit on; as many others judge, and as many of each other prior.
        seed: of the sequences.
        device: torch device for predictors that have one.
        cache: as for :func:`mdbench.evaluate`.
        progress: called to show progress.

    Raises:
        InputError: bad arguments, or a length that the predictor cannot serve.
        PredictorError: the predictor broke its contract.
    """
    check_device(device)
    loaded = as_task(task)
    name = name_of(predictor)
    if not isinstance(loaded, DirichletMixture):
        raise Unsupported(f"algorithms on λ need {DirichletMixture.kind}; '{loaded.name}' is {loaded.kind}.")
    built = as_predictor(predictor, loaded, device)
    if is_told(built):
        raise InputError(f"'{name}' is told θ; what it does with a context cannot be identified.")
    wanted = sorted({int(length) for length in np.atleast_1d(lengths)})
    if not wanted:
        raise InputError("lengths is empty; give at least one context length.")
    for length in wanted:
        loaded.check_length(length)
        check_length(built, length)
    advance = progress(f"{name}: algorithms", len(wanted) * len(ALGORITHMS)) if progress else no_advance
    kept = answers(predictor, loaded, device, None, cache) if isinstance(predictor, str) else None
    gold = open_store(cache=cache != "none")
    fitted = [_fit_all(built, name, loaded, length, n_sequences, seed, advance, kept, gold) for length in wanted]
    verdicts = [_verdict(here, [other for other in fitted if other is not here]) for here in fitted]
    return Identification(name, loaded.name, n_sequences, seed, verdicts, _exponents(verdicts))


@dataclass(frozen=True)
class _Sequences:
    """Contexts, what an algorithm needs of them, and what the predictor says."""

    task: DirichletMixture
    contexts: Int[np.ndarray, "N T"]
    x: Float[jax.Array, "N n m"]
    lag_rows: Float[jax.Array, "N m q"]  # π(y_{T+1-g}, ·)
    predicted: Float[np.ndarray, "N q"]
    gold: Store

    def distance(self, algorithm: Algorithm, scalars: Sequence[float]) -> Float[np.ndarray, " N"]:
        """KL(p̂ ‖ algorithm) of each sequence."""
        if algorithm.baseline == "exact":
            probs = gold_predictive(self.task, self.contexts, [self.contexts.shape[1]], kept=self.gold).probs[:, 0]
        elif algorithm.baseline is not None:
            probs = build_baseline(algorithm.baseline).next_token(self.task, self.contexts)
        else:
            assert algorithm.estimate is not None
            weights = algorithm.estimate(self.x, jnp.asarray(scalars), self.task.concentration)
            probs = np.asarray(mix(weights, self.lag_rows))
        return metrics.kl(self.predicted, metrics.normalise(probs))


@dataclass(frozen=True)
class _Fitted:
    """All algorithms fitted at one length: their scalars, their distances from the predictor, and where to judge."""

    length: int
    scalars: dict[str, tuple[float, ...]]
    distances: dict[str, Float[np.ndarray, " N"]]
    elsewhere: dict[str, dict[str, float]]
    judging: _Sequences


def _fit_all(
    built: Predictor,
    name: str,
    task: DirichletMixture,
    length: int,
    n: int,
    seed: int,
    advance: Advance,
    kept: Answers | None,
    gold: Store,
) -> _Fitted:
    built = runs_of(built, length)[0]

    def drawn(task_: DirichletMixture, stream: Stream) -> _Sequences:
        contexts = sample(task_, length, n, seed, stream=stream).contexts
        x = jnp.asarray(task.likelihoods(contexts))
        predicted = predict(name, built, task, contexts, kept)
        return _Sequences(task, contexts, x, lag_rows(task, contexts), predicted, gold)

    to_fit, to_judge = drawn(task, Stream.CALIBRATION), drawn(task, Stream.EVALUATION)
    others = {prior: drawn(with_prior(task, alpha), Stream.EVALUATION) for prior, alpha in OTHER_PRIORS.items()}
    fitted: dict[str, tuple[float, ...]] = {}
    distances, elsewhere = {}, {}
    for algorithm in ALGORITHMS:
        fitted[algorithm.name] = scalars = _fit(algorithm, to_fit, fitted)
        distances[algorithm.name] = to_judge.distance(algorithm, scalars)
        elsewhere[algorithm.name] = {p: float(s.distance(algorithm, scalars).mean()) for p, s in others.items()}
        advance(1)
    return _Fitted(length, fitted, distances, elsewhere, to_judge)


def _verdict(here: _Fitted, others: Sequence[_Fitted]) -> Identified:
    """What the predictor runs at one length; the fits are judged at the other lengths too."""
    distances = here.distances
    means = {name: float(values.mean()) for name, values in distances.items()}
    ranked = sorted(ALGORITHMS, key=lambda a: means[a.name])
    best = ranked[0].name
    tied = {a.name for a in ranked if _cannot_be_told(distances[a.name], distances[best])}
    nearest = min((a for a in ranked if a.name in tied), key=lambda a: (len(a.scalars), means[a.name])).name

    def explained(name: str) -> float | None:
        rival = means[ONE_STEP if name == BAYES else BAYES]
        return 1 - means[name] / rival if rival > RESOLUTION else None

    fits = []
    for a in ranked:
        interval = mean_interval(distances[a.name]).interval
        scalars, n = here.scalars[a.name], here.judging.x.shape[1]
        elsewhere = dict(here.elsewhere[a.name])
        for other in others:
            there = a.carried(scalars, n, other.judging.x.shape[1])
            unchanged = there == other.scalars[a.name]  # none were fitted: already judged
            distance = other.distances[a.name] if unchanged else other.judging.distance(a, there)
            elsewhere[f"T = {other.length}"] = float(distance.mean())
        by_name = dict(zip(a.scalars, scalars, strict=True))
        fits.append(Fit(a.name, by_name, means[a.name], interval, explained(a.name), a.name in tied, elsewhere))
    share = explained(nearest)
    sure = means[nearest] <= RESOLUTION or (share is not None and share >= EXPLAINED)
    return Identified(here.length, nearest if sure else None, nearest, fits)


def with_prior(task: DirichletMixture, concentration: float) -> DirichletMixture:
    """The task with another α."""
    return replace(task, concentration=concentration)  # type: ignore[type-var]


def _fit(algorithm: Algorithm, sequences: _Sequences, fitted: dict[str, tuple[float, ...]]) -> tuple[float, ...]:
    """The scalars that bring an algorithm nearest to the predictor."""
    if not algorithm.scalars:
        return ()
    n, m = sequences.x.shape[1:]
    objective = _mean_distance(algorithm)
    arrays = (sequences.x, sequences.lag_rows, jnp.asarray(sequences.predicted), sequences.task.concentration)
    if len(algorithm.scalars) == 1:
        # Step sizes: from a hundredth of `smooth` to 10, where one step picks a single lag. Counts: from nearly nothing
        # to far more than there are transitions.
        low, high = (1 / (n * m**2) / 100, 10.0) if algorithm.scalars == ("η",) else (1e-2, 1e2 * n)
        scalar = fit_positive(lambda at: float(objective(jnp.log(jnp.asarray([at])), *arrays)), low, high)
        best = None if scalar is None else np.array([scalar])
    else:
        best = fit(objective, algorithm.starts(m, n, fitted), *arrays)
        best = np.exp(best) if best is not None and algorithm.positive else best
    if best is None:
        raise InputError(f"no scalars of '{algorithm.name}' give finite distances from these predictions.")
    return tuple(map(float, best))


@functools.lru_cache(maxsize=64)
def _mean_distance(algorithm: Algorithm) -> Callable[..., Float[jax.Array, ""]]:
    """Mean KL(p̂ ‖ algorithm) of its scalars (positive ones by their logarithms) and the sequences' arrays."""
    estimate = algorithm.estimate
    assert estimate is not None

    @jax.jit
    def mean_distance(
        scalars: jax.Array, x: jax.Array, rows: jax.Array, predicted: jax.Array, alpha: Any
    ) -> Float[jax.Array, ""]:
        weights = estimate(x, jnp.exp(scalars) if algorithm.positive else scalars, alpha)
        return kl(predicted, mix(weights, rows)).mean()

    return mean_distance


def _cannot_be_told(distances: Float[np.ndarray, " N"], best: Float[np.ndarray, " N"]) -> bool:
    with np.errstate(invalid="ignore"):
        difference = mean_interval(distances - best)
    return difference.holds_zero or abs(difference.mean) <= RESOLUTION


def _exponents(verdicts: list[Identified]) -> dict[str, tuple[float, float, float]]:
    """Slope of log η against log T, with its interval, of the algorithms with one step size."""
    if len(verdicts) < 3:
        return {}
    log_lengths = np.log([v.length for v in verdicts])
    slopes = {}
    for algorithm in (a.name for a in ALGORITHMS if a.scalars == ("η",)):
        line = stats.linregress(log_lengths, np.log([v[algorithm].scalars["η"] for v in verdicts]))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(verdicts) - 2)) * line.stderr
        slopes[algorithm] = (float(line.slope), float(line.slope - half), float(line.slope + half))
    return slopes
