"""Which algorithm is this predictor running? Known ones are fitted to its predictions and judged on other sequences."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from mdbench.algorithms.fitting import fit_positive, kl, lag_rows, lowest, mix
from mdbench.algorithms.known import BY_NAME, Algorithm, Evidence, Setting
from mdbench.baselines.catalogue import build_baseline
from mdbench.core import metrics
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, Unsupported, foreign
from mdbench.core.files import json_ready
from mdbench.core.progress import Advance, Progress, no_advance
from mdbench.core.statistics import CONFIDENCE, mean_interval, ratio_interval
from mdbench.core.store import Cache, Store, code_hash, hash_of, open_store
from mdbench.evaluation.agreement import pairwise, rows_of
from mdbench.evaluation.running import Answers, answers, may_refuse, predict
from mdbench.mechanism.adaptation import Leak, StepAdaptation, step_adaptation
from mdbench.mechanism.family import all_algorithms, is_built_in
from mdbench.predictors.catalogue import as_predictor
from mdbench.predictors.predictor import SUM_TOLERANCE, Given, Parts, Predictor, check_length, is_told, name_of, runs_of
from mdbench.tasks import MTD, DirichletMixture, Recorded, Stream, Task, as_task, sample
from mdbench.tasks.mixture import tokens_before

RESOLUTION = 1e-9  # nats; predictions this near to each other are the same but for rounding and the search for scalars

SMOOTH = RESOLUTION / 1000  # is added before a logarithm, whose cusp at an exact match no line search finds

EXPLAINED = 0.9  # share of the distance from its rival that an algorithm must explain to be what a predictor runs

BAYES, ONE_STEP = "bayes", "md1"

ONE_HOT = 1e-6  # a concentration so small that λ is one-hot in float64

OTHER_PRIORS = {"α = 0.1": 0.1, "α = 10": 10.0, "one-hot": ONE_HOT}

LEAK_OF = 256  # sequences, whose attention maps are averaged
LOOKS = 16  # points of a grid for one scalar
TRIAL, AT_MOST = 20, 200  # iterations of a search: from each of several starts, and on from the best

CODE = (
    "mdbench.core",
    "mdbench.algorithms",
    "mdbench.baselines",
    "mdbench.mechanism",
    "mdbench.tasks",
)  # a fit depends on


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
        explained_ci: its 95% interval, by the delta method.
        score: log of the KL (of at least 1e-9) plus log(N)/N for each free scalar: what is chosen by, the least.
        tied: whether these sequences cannot tell its KL from the least one.
        elsewhere: the same mean KL, with the same scalars, on sequences of other priors on λ, and at the other lengths
            that were asked for; there step sizes go as 1/(T - m), the paper's Θ(1/T), and all other scalars stay.
    """

    algorithm: str
    scalars: dict[str, float]
    kl: float
    kl_ci: tuple[float, float] | None
    explained: float | None
    explained_ci: tuple[float, float] | None
    score: float
    tied: bool
    elsewhere: dict[str, float]


@dataclass(frozen=True)
class Identified:
    """What a predictor, or one of its training seeds, runs at one length.

    Attributes:
        length: T.
        row: the predictor's name, with ``:seed=k`` where it has several training seeds.
        verdict: the chosen algorithm's name, or None if it explains too little: none of these.
        nearest: the chosen one, of the least score.
        fits: all, those of least KL first.
        adaptation: whether its step adapts to the sequence; None where no steps can be told.
        leak: of a disentangled transformer of three layers or more.
    """

    length: int
    row: str
    verdict: str | None
    nearest: str
    fits: list[Fit]
    adaptation: StepAdaptation | None
    leak: Leak | None

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

    Attributes:
        predictor: its name.
        task: the task's.
        n_sequences: that fit, and as many others that judge.
        seed: of the sequences.
        verdicts: one for each length and training seed.
        classes: by length, of training seeds that compute the same function (``mdbench agree``); who stands alone is
            not in it.
        exponents: of each step size, how it moves with the length: the slope of log η against log T over all training
            seeds with its 95% interval, by least squares; it takes three lengths.
    """

    predictor: str
    task: str
    n_sequences: int
    seed: int
    verdicts: list[Identified]
    classes: dict[int, list[list[str]]]
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
    algorithms: Sequence[str | Algorithm] = (),
    device: str = "cpu",
    cache: Cache = "all",
    progress: Progress | None = None,
) -> Identification:
    """Fit every known algorithm to a predictor by KL in function space, and judge the fits on other sequences.

    Args:
        predictor: a name or an object with ``predict``. Each of several training seeds is identified by itself.
        task: the task.
        lengths: context lengths; every length is fitted anew.
        n_sequences: to fit on; as many others judge, and as many of each other prior.
        seed: of the sequences.
        algorithms: more of them: ``FILE.py:name``, or objects.
        device: torch device for predictors that have one.
        cache: as for :func:`mdbench.evaluate`; fits of built-in algorithms are kept too.
        progress: called to show progress.

    Raises:
        InputError: bad arguments, or a length that the predictor cannot serve.
        PredictorError: the predictor broke its contract, or an algorithm of somebody else failed.
    """
    check_device(device)
    loaded = as_task(task)
    name = name_of(predictor)
    if not isinstance(loaded, DirichletMixture):
        raise Unsupported(f"algorithms on λ need {DirichletMixture.kind}; '{loaded.name}' is {loaded.kind}.")
    if isinstance(loaded, Recorded):
        why = f"the sequences of '{loaded.name}' were recorded; algorithms are told apart on drawn ones, so take a task"
        raise Unsupported(f"{why} that draws them.", label="no truth")
    built = as_predictor(predictor, loaded, device)
    if is_told(built):
        raise InputError(f"'{name}' is told θ; what it does with a context cannot be identified.")
    wanted = sorted({int(length) for length in np.atleast_1d(lengths)})
    if not wanted:
        raise InputError("lengths is empty; give at least one context length.")
    for length in wanted:
        loaded.check_length(length)
        check_length(built, length)
    fitting = [a for a in all_algorithms(algorithms) if a.variant is None or isinstance(loaded, MTD)]
    kept = answers(predictor, loaded, device, None, cache) if isinstance(predictor, str) else None
    gold, store = open_store(cache=cache != "none"), open_store(cache=cache == "all")
    rows = {length: rows_of(name, [*enumerate(runs_of(built, length))]) for length in wanted}
    n_fits = sum(map(len, rows.values())) * len(fitting)
    advance = progress(f"{name}: algorithms", n_fits) if progress else no_advance
    fitted: list[_Fitted] = []
    classes = {}
    for length in wanted:
        sequences = _Drawn.of(loaded, length, n_sequences, seed, gold)
        of_length: list[_Fitted] = []
        for row, (k, run) in rows[length].items():
            predicted = sequences.predicted(name, run, k, kept)
            first = of_length[0].scalars if of_length else None
            leak = _leak(name, run, sequences.judge)
            of_length.append(_fit_all(row, sequences, predicted, fitting, store, first, leak, advance))
        if len(of_length) > 1:
            judged = {each.row: each.predicted.judge for each in of_length}
            classes[length] = pairwise(judged, loaded, length, "").classes
        fitted += of_length
    verdicts = [_verdict(here, [o for o in fitted if o.length != here.length and o.row == here.row]) for here in fitted]
    exponents = _exponents(verdicts, fitting)
    return Identification(name, loaded.name, n_sequences, seed, verdicts, classes, exponents)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Contexts, and what an algorithm needs of them; ``store`` keeps gold and what has nothing to fit."""

    task: DirichletMixture
    contexts: Int[np.ndarray, "N T"]
    evidence: Evidence
    lag_rows: Float[jax.Array, "N m q"]  # π(y_{T+1-g}, ·)
    store: Store

    @classmethod
    def of(cls, task: DirichletMixture, contexts: Int[np.ndarray, "N T"], store: Store) -> Sequences:
        evidence = Evidence(jnp.asarray(task.likelihoods(contexts)), task.concentration)
        if isinstance(task, MTD):
            m, length = task.order, contexts.shape[1]
            lagged = tokens_before(contexts, m, np.arange(m, length))
            evidence = evidence._replace(tokens=jnp.asarray(contexts[:, m:]), lagged=jnp.asarray(lagged))
        drawn = cls(task, contexts, evidence, lag_rows(task, contexts), store)
        return replace(drawn, evidence=evidence._replace(posterior=jnp.asarray(drawn.estimated(BY_NAME[BAYES]))))

    def estimated(self, algorithm: Algorithm) -> Float[np.ndarray, "N m"]:
        """λ̂ of an algorithm that has nothing to fit; of a built-in one kept on disk."""
        shape = (len(self.contexts), self.lag_rows.shape[1])

        def compute() -> dict[str, np.ndarray]:
            if algorithm.baseline is not None:
                return {"weights": build_baseline(algorithm.baseline).posterior(self.task, self.contexts).mean[:, -1]}
            assert algorithm.estimate is not None
            if not is_built_in(algorithm):
                self.check(algorithm, ())
            return {"weights": np.asarray(algorithm.estimate(self.evidence, jnp.zeros(0)), dtype=np.float64)}

        if is_built_in(algorithm):
            key = {"algorithm": algorithm.name, "code": code_hash(*CODE), **self.key}
            return self.store.arrays("estimates", key, {"weights": shape}, compute)["weights"]
        return compute()["weights"]

    def check(self, algorithm: Algorithm, scalars: Sequence[float]) -> None:
        """Raise ``ValueError`` unless somebody's algorithm gives weights."""
        assert algorithm.estimate is not None
        weights = np.asarray(algorithm.estimate(self.evidence, jnp.asarray(scalars, dtype=float)))
        shape = (len(self.contexts), self.lag_rows.shape[1])
        off = weights.shape != shape or not (np.isfinite(weights).all() and (weights >= -SUM_TOLERANCE).all())
        if off or np.abs(weights.sum(axis=-1) - 1).max() > SUM_TOLERANCE:
            raise ValueError(f"it must give λ: {shape} numbers that are finite, not negative and sum to 1 in each row")

    def setting(self, fitted: Mapping[str, tuple[float, ...]]) -> Setting:
        """What a search may begin from."""
        n, m = self.evidence.x.shape[1:]
        transition = self.task.transition if isinstance(self.task, MTD) else None
        return Setting(m, n, self.task.concentration, transition, fitted)

    @property
    def key(self) -> dict[str, Any]:
        """What an estimate depends on besides the algorithm."""
        return {"task": self.task.task_hash, "data": hash_of(self.contexts), "shape": list(self.contexts.shape)}

    def distance(
        self, predicted: Float[np.ndarray, "N q"], algorithm: Algorithm, scalars: Sequence[float]
    ) -> Float[np.ndarray, " N"]:
        """KL(p̂ ‖ algorithm) of each sequence."""
        if scalars:
            probs = self.fitted(predicted, algorithm, _unbounded(algorithm, scalars))[2]
        else:
            probs = np.asarray(mix(jnp.asarray(self.estimated(algorithm)), self.lag_rows))
        return metrics.kl(predicted, metrics.normalise(probs))

    def fitted(
        self, predicted: Float[np.ndarray, "N q"], algorithm: Algorithm, at: Float[np.ndarray, " k"]
    ) -> tuple[float, Float[np.ndarray, " k"], Float[np.ndarray, "N q"]]:
        """Log of the mean KL(p̂ ‖ algorithm), its gradient (0 if none is used), and p, at scalars of a search."""
        (value, probs), gradient = _compiled(algorithm)(
            jnp.asarray(at), self.evidence, self.lag_rows, jnp.asarray(predicted)
        )
        return float(value), np.asarray(gradient), np.asarray(probs)


@dataclass(frozen=True)
class _Predicted:
    """What one run says of each of the drawn sequences."""

    fit: Float[np.ndarray, "N q"]
    judge: Float[np.ndarray, "N q"]
    others: dict[str, Float[np.ndarray, "N q"]]

    @functools.cached_property
    def hash(self) -> str:
        digest = hashlib.sha256()
        for probs in (self.fit, self.judge, *self.others.values()):
            digest.update(np.ascontiguousarray(probs, dtype="<f8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Drawn:
    """All sequences of one length."""

    length: int
    fit: Sequences
    judge: Sequences
    others: dict[str, Sequences]

    @classmethod
    def of(cls, task: DirichletMixture, length: int, n: int, seed: int, store: Store) -> _Drawn:
        def drawn(task_: DirichletMixture, stream: Stream) -> Sequences:
            return Sequences.of(task, sample(task_, length, n, seed, stream=stream).contexts, store)

        others = {prior: drawn(with_prior(task, alpha), Stream.EVALUATION) for prior, alpha in OTHER_PRIORS.items()}
        return cls(length, drawn(task, Stream.CALIBRATION), drawn(task, Stream.EVALUATION), others)

    def predicted(self, name: str, run: Predictor, k: int, kept: Answers | None) -> _Predicted:
        """By the predictor of training seed ``k``, which was built for the task and stays that elsewhere."""

        def of(sequences: Sequences) -> Float[np.ndarray, "N q"]:
            return predict(name, run, self.judge.task, sequences.contexts, kept=kept, run=k)

        return _Predicted(of(self.fit), of(self.judge), {prior: of(s) for prior, s in self.others.items()})


@dataclass(frozen=True, eq=False)
class _Fitted:
    """All algorithms fitted to one run at one length: their scalars and their distances from it."""

    row: str
    length: int
    algorithms: Sequence[Algorithm]
    scalars: dict[str, tuple[float, ...]]
    distances: dict[str, Float[np.ndarray, " N"]]
    elsewhere: dict[str, dict[str, float]]
    judging: Sequences
    predicted: _Predicted
    leak: Leak | None


def _fit_all(
    row: str,
    drawn: _Drawn,
    predicted: _Predicted,
    algorithms: Sequence[Algorithm],
    store: Store,
    near: Mapping[str, tuple[float, ...]] | None,
    leak: Leak | None,
    advance: Advance,
) -> _Fitted:
    """Fit and judge; ``near`` are the scalars of another training seed, which a search begins with too."""
    fitted: dict[str, tuple[float, ...]] = {}
    distances, elsewhere = {}, {}
    for algorithm in algorithms:

        def compute(algorithm: Algorithm = algorithm) -> dict[str, Any]:
            scalars = _fit(algorithm, drawn.fit, predicted.fit, fitted, near)
            distance = drawn.judge.distance(predicted.judge, algorithm, scalars)
            others = {p: s.distance(predicted.others[p], algorithm, scalars).mean() for p, s in drawn.others.items()}
            return {
                "scalars": list(scalars),
                "distance": distance.tolist(),
                "others": {p: float(value) for p, value in others.items()},
            }

        if is_built_in(algorithm):
            begun = [start.tolist() for start in _starts(algorithm, drawn.fit, fitted, near)]
            key = {"algorithm": algorithm.name, "probs": predicted.hash, "begun": begun, "code": code_hash(*CODE)}
            found = store.json("fits", key | drawn.fit.key, compute)
        else:
            with foreign(f"algorithm '{algorithm.name}' failed"):
                found = compute()
                if found["scalars"]:
                    drawn.judge.check(algorithm, found["scalars"])
        fitted[algorithm.name] = tuple(found["scalars"])
        distances[algorithm.name] = np.array(found["distance"])
        elsewhere[algorithm.name] = found["others"]
        advance(1)
    return _Fitted(row, drawn.length, algorithms, fitted, distances, elsewhere, drawn.judge, predicted, leak)


def _verdict(here: _Fitted, others: Sequence[_Fitted]) -> Identified:
    """What the predictor runs at one length; the fits are judged at the other lengths too."""
    distances, n_states = here.distances, here.judging.task.n_states
    means = {name: float(values.mean()) for name, values in distances.items()}
    ranked = sorted(here.algorithms, key=lambda a: means[a.name])
    best = ranked[0].name
    n = len(here.predicted.judge)

    def score(a: Algorithm) -> float:
        return _score(a, means[a.name], n_states, n)

    nearest = min(here.algorithms, key=score).name  # of equal ones the first of the catalogue, whatever rounding says
    fits = []
    for a in ranked:
        scalars, n_transitions = here.scalars[a.name], here.judging.evidence.x.shape[1]
        elsewhere = dict(here.elsewhere[a.name])
        for other in others:
            there = a.carried(scalars, n_transitions, other.judging.evidence.x.shape[1])
            unchanged = there == other.scalars[a.name]  # none were fitted: already judged
            distance = other.distances[a.name]
            if not unchanged:
                distance = other.judging.distance(other.predicted.judge, a, there)
            elsewhere[f"T = {other.length}"] = float(distance.mean())
        share, interval = _explained(a.name, distances)
        fits.append(
            Fit(
                a.name,
                dict(zip(a.names(n_states), scalars, strict=True)),
                means[a.name],
                mean_interval(distances[a.name]).interval,
                share,
                interval,
                score(a),
                _cannot_be_told(distances[a.name], distances[best]),
                elsewhere,
            )
        )
    share, _ = _explained(nearest, distances)
    sure = means[nearest] <= RESOLUTION or (share is not None and share >= EXPLAINED)
    adaptation = step_adaptation(here.judging.task, here.judging.contexts, here.predicted.judge)
    return Identified(here.length, here.row, nearest if sure else None, nearest, fits, adaptation, here.leak)


def _leak(name: str, run: Predictor, sequences: Sequences) -> Leak | None:
    """Of a transformer; torch is imported for that alone."""
    look = Parts.of(run).transformer
    if look is None or not isinstance(sequences.task, MTD):
        return None
    from mdbench.mechanism.tracing import Model, mean_leak
    from mdbench.predictors.transformer import DisentangledTransformer

    length = sequences.contexts.shape[1]
    with foreign(f"predictor '{name}' failed to give its transformer", *may_refuse(name)):
        module = look(length)
    if not isinstance(module, DisentangledTransformer):
        return None
    return mean_leak(sequences.task, Model.of(name, run, length, sequences.task.n_states), sequences.contexts[:LEAK_OF])


def fitted_to(
    sequences: tuple[Sequences, Sequences],
    predicted: tuple[Float[np.ndarray, "N q"], Float[np.ndarray, "N q"]],
    algorithms: Sequence[Algorithm],
) -> tuple[str, float]:
    """The nearest of some algorithms, by score, and its mean KL: fitted on the first, judged on the second."""
    (to_fit, to_judge), task = sequences, sequences[0].task
    scalars: dict[str, tuple[float, ...]] = {}
    means = {}
    for algorithm in algorithms:
        scalars[algorithm.name] = _fit(algorithm, to_fit, predicted[0], scalars, None)
        distance = to_judge.distance(predicted[1], algorithm, scalars[algorithm.name])
        means[algorithm.name] = float(distance.mean())
    best = min(algorithms, key=lambda a: _score(a, means[a.name], task.n_states, len(predicted[1])))
    return best.name, means[best.name]


def _score(algorithm: Algorithm, mean: float, n_states: int, n: int) -> float:
    return math.log(max(mean, RESOLUTION)) + algorithm.n_free(n_states) * math.log(n) / n


def _explained(
    name: str, distances: Mapping[str, Float[np.ndarray, " N"]]
) -> tuple[float | None, tuple[float, float] | None]:
    """The share of the distance from its rival, and its interval."""
    rival = distances[ONE_STEP if name == BAYES else BAYES]
    if rival.mean() <= RESOLUTION:
        return None, None
    left = ratio_interval(distances[name], rival)
    return 1 - left.mean, left.interval and (1 - left.interval[1], 1 - left.interval[0])


def with_prior(task: DirichletMixture, concentration: float) -> DirichletMixture:
    """The task with another α."""
    return replace(task, concentration=concentration)  # type: ignore[type-var]


def _fit(
    algorithm: Algorithm,
    sequences: Sequences,
    predicted: Float[np.ndarray, "N q"],
    fitted: Mapping[str, tuple[float, ...]],
    near: Mapping[str, tuple[float, ...]] | None,
) -> tuple[float, ...]:
    """The scalars that bring an algorithm nearest to the predictor."""
    if not algorithm.names(sequences.task.n_states):
        return ()

    def downhill(at: Float[np.ndarray, " k"]) -> tuple[float, Float[np.ndarray, " k"]]:
        return sequences.fitted(predicted, algorithm, at)[:2]

    if algorithm.between is not None:
        low, high = algorithm.between(sequences.setting(fitted))
        scalar = fit_positive(lambda at: math.exp(downhill(np.log([at]))[0]), low, high, LOOKS)
        best = None if scalar is None else np.array([scalar])
    else:
        best = lowest(downhill, _starts(algorithm, sequences, fitted, near), AT_MOST, TRIAL)
        best = np.exp(best) if best is not None and algorithm.positive else best
    if best is None:
        raise InputError(f"no scalars of '{algorithm.name}' give finite distances from these predictions.")
    return tuple(map(float, best))


def _starts(
    algorithm: Algorithm,
    sequences: Sequences,
    fitted: Mapping[str, tuple[float, ...]],
    near: Mapping[str, tuple[float, ...]] | None,
) -> list[Float[np.ndarray, " k"]]:
    """Where a search for scalars begins: as the algorithm has it, and at another training seed's."""
    if algorithm.between is not None or not algorithm.names(sequences.task.n_states):
        return []
    starts = algorithm.starts(sequences.setting(fitted))
    return starts if near is None else [_unbounded(algorithm, near[algorithm.name]), *starts]


def _unbounded(algorithm: Algorithm, scalars: Sequence[float]) -> Float[np.ndarray, " k"]:
    """As a search has them: positive ones by their logarithms."""
    at = np.asarray(scalars, dtype=np.float64)
    return np.log(at) if algorithm.positive else at


@functools.lru_cache(maxsize=64)
def _compiled(algorithm: Algorithm) -> Callable[..., Any]:
    """Of scalars and arrays, compiled once for a shape: ((log of the mean KL, predictions), gradient)."""
    estimate = algorithm.estimate
    assert estimate is not None

    def log_mean(
        scalars: jax.Array, evidence: Evidence, rows: jax.Array, predicted: jax.Array
    ) -> tuple[Float[jax.Array, ""], Float[jax.Array, "N q"]]:
        probs = mix(estimate(evidence, jnp.exp(scalars) if algorithm.positive else scalars), rows)
        return jnp.log(kl(predicted, probs).mean() + SMOOTH), probs

    if algorithm.between is not None:  # looked for without a gradient
        return jax.jit(lambda scalars, *arrays: (log_mean(scalars, *arrays), jnp.zeros_like(scalars)))
    return jax.jit(jax.value_and_grad(log_mean, has_aux=True))


def _cannot_be_told(distances: Float[np.ndarray, " N"], best: Float[np.ndarray, " N"]) -> bool:
    with np.errstate(invalid="ignore"):
        difference = mean_interval(distances - best)
    return difference.holds_zero or abs(difference.mean) <= RESOLUTION


def _exponents(verdicts: list[Identified], algorithms: Sequence[Algorithm]) -> dict[str, tuple[float, float, float]]:
    """Slope of log η against log T, with its interval, of the algorithms with one step size."""
    if len({v.length for v in verdicts}) < 3:
        return {}
    log_lengths = np.log([v.length for v in verdicts])
    slopes = {}
    for algorithm in (a.name for a in algorithms if a.scalars == ("η",)):
        line = stats.linregress(log_lengths, np.log([v[algorithm].scalars["η"] for v in verdicts]))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(verdicts) - 2)) * line.stderr
        slopes[algorithm] = (float(line.slope), float(line.slope - half), float(line.slope + half))
    return slopes
