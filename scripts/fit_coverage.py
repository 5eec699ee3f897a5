"""The tables of docs/guides/real_sequences.md: how often intervals of `mdbench.fit` hold the truth, what a fit takes.

    python scripts/fit_coverage.py
    python scripts/fit_coverage.py --times

Series are drawn from an MTD whose weights and matrix stay the same; each is fitted, and it is counted how often the
95% interval of a number holds it. A number at a bound (a weight of 0) is counted by itself.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from tables import Table

from mdbench.series.association import replicates
from mdbench.series.models import fit_mixture
from mdbench.series.transitions import Transitions, transitions_of
from mdbench.tasks import MTD, load_task

CASES = (
    ("mtd-q3-m2", (0.6, 0.4), 500, 500),
    ("mtd-q3-m2", (0.6, 0.4), 2000, 300),
    ("mtd-q3-m2", (0.7, 0.3, 0.0), 2000, 300),
    ("mtd-q5-m3", (0.5, 0.3, 0.2), 2000, 60),
)  # task whose π it is, λ, T, and how many series: ten minutes or so
TIMED = (("mtd-q3-m2", (2, 3, 4)), ("mtd-q5-m3", (2, 3, 4)), ("mtd-q10-m4", (2,)))
LENGTHS = (1000, 10_000, 100_000)


def drawn(transition: np.ndarray, weights: tuple[float, ...], length: int, n: int) -> list[np.ndarray]:
    """Series from the MTD, after m uniform tokens."""
    m, q, rng = len(weights), len(transition), np.random.default_rng(0)
    series = []
    for tokens in rng.integers(q, size=(n, length)):
        after = transitions_of([tokens], q, m, m)
        matrices = np.broadcast_to(transition, (1, m, q, q))
        series.append(replicates(after, np.array([weights]), matrices, rng)[0][0])
    return series


def transitions_in(series: np.ndarray, q: int, m: int) -> Transitions:
    """Of one series, the first m given."""
    return transitions_of([series], q, m, m)


def coverage() -> None:
    """How often 95% intervals hold the truth, by the kind of number."""
    table = Table("fit coverage", ["task", "λ", "T", "series", "numbers", "cover, of 95%", "standard error"])
    for name, weights, length, n in CASES:
        task = load_task(name)
        assert isinstance(task, MTD), "they are"
        q, m = task.n_states, len(weights)
        held: dict[str, list[float]] = {"λ": [], "λ that is 0": [], "π": []}
        for series in drawn(task.transition, weights, length, n):
            found = fit_mixture(transitions_in(series, q, m), m, False, [*map(str, range(q))])
            assert found.weights_ci is not None, "of an MTD there are"
            assert found.transition_ci is not None, "of an MTD there are"
            inside = [ci.low <= w <= ci.high for w, ci in zip(weights, found.weights_ci, strict=True)]
            for kind, wanted in (("λ", True), ("λ that is 0", False)):
                of_kind = [hit for hit, w in zip(inside, weights, strict=True) if (w > 0) == wanted]
                held[kind] += [float(np.mean(of_kind))] if of_kind else []
            truth = task.transition
            rows = [
                [ci.low <= p <= ci.high for p, ci in zip(*r, strict=True)]
                for r in zip(truth, found.transition_ci, strict=True)
            ]
            held["π"].append(float(np.mean(rows)))
        for kind, shares in held.items():
            if shares:
                se = np.std(shares, ddof=1) / math.sqrt(n)
                given = ", ".join(f"{w:g}" for w in weights)
                table.add(name, given, str(length), str(n), kind, f"{np.mean(shares):.3f}", f"{se:.3f}")
    table.put()


def times() -> None:
    """Seconds of a processor for a fit with all intervals, over length and order."""
    table = Table("fit times", ["q", "order", *(f"T = {length}" for length in LENGTHS)])
    for name, orders in TIMED:
        task = load_task(name)
        assert isinstance(task, MTD), "they are"
        q = task.n_states
        for m in orders:
            weights = tuple(np.arange(m, 0, -1) / (m * (m + 1) / 2))
            cells = []
            for length in LENGTHS:
                after = transitions_in(drawn(task.transition, weights, length, 1)[0], q, m)
                began = time.process_time()
                fit_mixture(after, m, False, [*map(str, range(q))])
                cells.append(f"{time.process_time() - began:.2g}")
            table.add(str(q), str(m), *cells)
    table.put()


def main() -> None:
    """Make a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--times", action="store_true", help="the table of times instead")
    given = parser.parse_args()
    times() if given.times else coverage()


if __name__ == "__main__":
    main()
