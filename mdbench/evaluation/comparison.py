"""Two predictors on the same sequences: the paired difference of their excess KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mdbench.core.errors import InputError
from mdbench.core.statistics import sequences_to_separate
from mdbench.evaluation.evaluation import evaluate
from mdbench.evaluation.results import Result, is_tied, within_gold
from mdbench.predictors.predictor import Given, name_of


@dataclass(frozen=True)
class Comparison:
    """Two predictors in one cell: means of each, and the paired difference a - b over the same sequences.

    ``score`` says of what: ``excess_kl``, or ``nll`` where sequences were recorded and have no gold.
    ``difference_ci`` is the 95% interval (None where there is none: one sequence, infinite scores). ``verdict`` names
    the better one, or is ``tied``: the interval holds zero, or the difference is within the two errors of the gold.
    ``n_to_separate`` says how many sequences would tell a tied pair apart (with a power of 80%, were the difference
    what it seems); None if they are not tied, or differ by no more than the errors of the gold.
    """

    task: str
    length: int
    n_sequences: int
    a: str
    b: str
    score: str
    mean_a: float
    mean_b: float
    excess_kl_a: float | None
    excess_kl_b: float | None
    difference: float
    difference_se: float | None
    difference_ci: tuple[float, float] | None
    gold_error_a: float | None
    gold_error_b: float | None
    verdict: str
    n_to_separate: int | None


def compare(a: Given, b: Given, **options: Any) -> list[Comparison]:
    """Compare two predictors on the same sequences, cell by cell; ``options`` are those of :func:`evaluate`.

    Raises:
        InputError: as :func:`evaluate`; or no cell has an excess KL of both.
    """
    both = evaluate([a, b], references=(), **options)
    name_a, name_b = name_of(a), name_of(b)
    by_cell: dict[tuple[str, int], dict[str, Result]] = {}
    for result in both.results:
        if result.ranking is not None:
            by_cell.setdefault((result.task, result.length), {})[result.predictor] = result
    comparisons = []
    for (task, length), results in by_cell.items():
        if len(results) < 2:
            continue
        of_a, of_b = results[name_a], results[name_b]
        assert of_a.ranking is not None
        assert of_b.ranking is not None
        difference = both.differences[task, length].between(name_a, name_b)
        tied = is_tied(difference, of_a, of_b)
        open_ = tied and not within_gold(difference, of_a, of_b)
        comparisons.append(
            Comparison(
                task=task,
                length=length,
                n_sequences=of_a.n_sequences,
                a=name_a,
                b=name_b,
                score=of_a.ranked_by,
                mean_a=of_a.ranking,
                mean_b=of_b.ranking,
                excess_kl_a=of_a.excess_kl,
                excess_kl_b=of_b.excess_kl,
                difference=difference.mean,
                difference_se=difference.se,
                difference_ci=difference.interval,
                gold_error_a=of_a.gold_error,
                gold_error_b=of_b.gold_error,
                verdict="tied" if tied else name_a if difference.mean < 0 else name_b,
                n_to_separate=sequences_to_separate(difference, of_a.n_sequences) if open_ else None,
            )
        )
    if not comparisons:
        reasons = [skipped.reason for skipped in both.skipped] or ["'oracle' is told θ and has no excess KL."]
        raise InputError(f"'{name_a}' and '{name_b}' have no cell in common: {reasons[0]}")
    return comparisons
