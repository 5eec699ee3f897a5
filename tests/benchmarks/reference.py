"""What `reference` reaches, and at what cost, at orders that exact methods do not: the table of docs/baselines.md."""

import time

import measuring  # noqa: F401  # it says where tables is
import numpy as np
from tables import Table

from mdbench.baselines.reference import Reference
from mdbench.tasks import MTD, sample


def main():
    """Two seeds on six sequences of random tasks."""
    headings = ["m, q, T, α", "s a sequence", "largest standard error", "z-scores between two seeds, rms"]
    table = Table("reference", headings)
    cases = ((8, 5, 128, 1), (16, 5, 128, 1), (16, 10, 256, 1), (12, 3, 192, 5), (8, 5, 128, 0.2), (16, 5, 64, 0.3))
    for m, q, length, alpha in cases:
        rng = np.random.default_rng(m)
        task = MTD("random", rng.dirichlet(np.ones(q), size=q), m, alpha, lengths=(length,))
        contexts = sample(task, length, 6, 0).contexts
        started = time.perf_counter()
        found = Reference().posterior(task, contexts)
        seconds = (time.perf_counter() - started) / 6
        other = Reference(seed=1).posterior(task, contexts)
        z = (found.mean - other.mean) / np.hypot(found.mean_se, other.mean_se)
        largest = found.next_token_se.max()
        numbers = f"{seconds:.2g}", f"{largest:.1e}", f"{np.sqrt((z**2).mean()):.2f}"
        table.add(f"{m}, {q}, {length}, {alpha}", *numbers)
    table.put()


if __name__ == "__main__":
    main()
