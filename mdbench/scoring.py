"""What predictions are scored against in one cell (task, length), and the scores (SPEC section 5)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mdbench import metrics
from mdbench.gold import gold as gold_by
from mdbench.statistics import MeanInterval, mean_interval
from mdbench.store import Store
from mdbench.tasks import Task, evaluation_sequences
from mdbench.wording import interval_text

Progress = Callable[[str, int], Callable[[float], None]]
"""``progress(description, total)`` returns ``advance(k)``."""


def no_progress(_description: str, _total: int) -> Callable[[float], None]:
    """A :data:`Progress` that shows nothing."""
    return lambda _k: None


SCORES = ("kl", "excess_kl", "cross_entropy", "nll")  # of a sequence, in nats


COLUMNS = ("T", "predictor", "KL", "excess KL", "95% interval", "cross-entropy", "NLL", "seconds")


@dataclass(frozen=True)
class Result:
    """Scores of one predictor in one cell (task, length): means over sequences, in nats (SPEC section 5).

    ``gold`` is the baseline that excess KL is measured against, and ``gold_error`` what that may be off by, in nats.
    ``excess_kl``, its standard error, its 95% interval and ``gold_error`` are None for the oracle, which is told θ;
    standard errors and intervals are None where they do not exist (one sequence, infinite scores). Of a predictor with
    several training seeds all scores are means over these, with intervals over sequences; ``runs`` is the excess KL of
    each seed, else None. ``seconds`` are those of one run of all predictions, at the median time of a chunk, so that
    compilation counts only where there is just one; None where the predictions were made elsewhere.
    """

    predictor: str
    task: str
    length: int
    n_sequences: int
    seed: int
    kl: float
    kl_se: float | None
    excess_kl: float | None
    excess_kl_se: float | None
    excess_kl_ci: tuple[float, float] | None
    cross_entropy: float
    nll: float
    gold: str
    gold_error: float | None
    seconds: float | None
    runs: tuple[float, ...] | None = None

    @property
    def at_gold(self) -> bool:
        """Whether the excess KL cannot be told from zero because the gold itself is only so good."""
        return is_at_gold(self.excess_kl, self.gold_error)

    @property
    def row(self) -> list[str]:
        """What stands under ``COLUMNS`` wherever people read it."""
        if self.excess_kl is None:
            excess, interval = "not ranked", ""
        elif self.at_gold:
            excess, interval = "at gold", ""
        else:
            excess = f"{self.excess_kl:.4g}"
            interval = interval_text(self.excess_kl_ci)
        kl, cross_entropy, nll = (f"{value:.4g}" for value in (self.kl, self.cross_entropy, self.nll))
        seconds = "unknown" if self.seconds is None else f"{self.seconds:.2f}"
        return [str(self.length), self.predictor, kl, excess, interval, cross_entropy, nll, seconds]


def is_at_gold(excess_kl: float | None, gold_error: float | None) -> bool:
    """Whether there is an excess KL that is finite and within the gold's error."""
    return excess_kl is not None and gold_error is not None and math.isfinite(excess_kl) and excess_kl <= gold_error


@dataclass(frozen=True)
class Scores:
    """One predictor's scores in one cell, by run (training seed) and sequence; excess KL is None if it is told θ.

    ``gold_error`` is the mean over runs: an error of their mean is at most the mean of their errors.
    """

    kl: Float[np.ndarray, "R N"]
    excess_kl: Float[np.ndarray, "R N"] | None
    cross_entropy: Float[np.ndarray, "R N"]
    nll: Float[np.ndarray, "R N"]
    gold_error: float | None

    @property
    def mean_excess_kl(self) -> Float[np.ndarray, " N"] | None:
        """Of each sequence: what is expected of one run."""
        return None if self.excess_kl is None else self.excess_kl.mean(axis=0)

    def frame(self) -> pd.DataFrame:
        """A row a sequence, means over runs."""
        n = self.kl.shape[1]
        by_name = {name: getattr(self, name) for name in SCORES}
        columns = {name: np.full(n, np.nan) if value is None else value.mean(axis=0) for name, value in by_name.items()}
        return pd.DataFrame({"sequence": np.arange(n)} | columns)


@dataclass(frozen=True)
class Cell:
    """Sequences of one task at one length, with their gold.

    Attributes:
        task: the task.
        length: T.
        seed: of the sequences.
        contexts: (N, T).
        next_tokens: (N,) y_{T+1}.
        theta: (N, ...) the θ that each sequence was drawn with.
        bayes: (N, q) p_B by the gold.
        gold: name of the gold.
        bound: (N,) on the error of each entry of ``bayes``.
        next_token_se: (N, q) its standard errors; 0 for an exact gold.
    """

    task: Task
    length: int
    seed: int
    contexts: Int[np.ndarray, "N T"]
    next_tokens: Int[np.ndarray, " N"]
    theta: Float[np.ndarray, "N ..."]
    bayes: Float[np.ndarray, "N q"]
    gold: str
    bound: Float[np.ndarray, " N"]
    next_token_se: Float[np.ndarray, "N q"]

    @functools.cached_property
    def _same(self) -> Int[np.ndarray, " N"]:
        """A number for each different context: equal ones have equal errors of the gold."""
        return np.unique(self.contexts, axis=0, return_inverse=True)[1].ravel()

    def score(self, probs: Float[np.ndarray, "R N q"], told: bool = False) -> Scores:
        """Scores of predictions by run; rows must sum to one. ``told``: they were made by knowing λ.

        Predictions for the first sequences alone are scored on these.
        """
        n = probs.shape[1]
        contexts, bayes = self.contexts[:n], self.bayes[:n]
        truth = metrics.normalise(self.task.truth(self.theta[:n], contexts))
        same = self._same[:n]
        error = [metrics.gold_error(bayes, p, self.bound[:n], self.next_token_se[:n], same) for p in probs]
        return Scores(
            kl=np.stack([metrics.kl(truth, p) for p in probs]),
            excess_kl=None if told else np.stack([metrics.kl(bayes, p) for p in probs]),
            cross_entropy=np.stack([metrics.cross_entropy(truth, p) for p in probs]),
            nll=np.stack([metrics.nll(self.next_tokens[:n], p) for p in probs]),
            gold_error=None if told else float(np.mean(error)),
        )

    def summarise(self, predictor: str, scores: Scores, seconds: float | None = None) -> Result:
        """Means with their intervals."""
        kl = mean_interval(scores.kl.mean(axis=0))
        of_sequences = scores.mean_excess_kl
        excess = None if of_sequences is None else mean_interval(of_sequences)
        mean, se, interval = (excess.mean, excess.se, excess.interval) if excess else (None, None, None)
        runs = scores.excess_kl if len(scores.kl) > 1 else None
        return Result(
            predictor=predictor,
            task=self.task.name,
            length=self.length,
            n_sequences=scores.kl.shape[1],
            seed=self.seed,
            kl=kl.mean,
            kl_se=kl.se,
            excess_kl=mean,
            excess_kl_se=se,
            excess_kl_ci=interval,
            cross_entropy=float(scores.cross_entropy.mean(axis=0).mean()),
            nll=float(scores.nll.mean(axis=0).mean()),
            gold=self.gold,
            gold_error=scores.gold_error,
            seconds=seconds,
            runs=None if runs is None else tuple(float(run.mean()) for run in runs),
        )


def cells(
    task: Task,
    lengths: Sequence[int],
    n_sequences: int,
    seed: int,
    gold: str = "exact",
    progress: Progress = no_progress,
    kept: Store | None = None,
) -> Iterator[Cell]:
    """The cells of a task, shortest first, on the sequences of that seed with the gold of that name.

    Gold is ``kept`` there, by default in the cache folder.
    """
    lengths = sorted(set(lengths))
    drawn = evaluation_sequences(task, max(lengths), n_sequences, seed)
    advance = progress(f"{task.name}: gold by {gold}", n_sequences)
    found = gold_by(task, drawn.tokens[:, :-1], lengths, gold, advance, kept)
    for k, length in enumerate(lengths):
        contexts = drawn.tokens[:, :length].astype(np.int64)
        yield Cell(
            task=task,
            length=length,
            seed=seed,
            contexts=contexts,
            next_tokens=drawn.tokens[:, length],
            theta=drawn.theta,
            bayes=metrics.normalise(found.probs[:, k]),
            gold=gold,
            bound=found.bound[:, k],
            next_token_se=found.standard_error[:, k],
        )


def paired_difference(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> MeanInterval:
    """Mean of a - b over the same sequences; two infinite scores of one sequence differ by nothing known."""
    with np.errstate(invalid="ignore"):
        return mean_interval(a - b)
