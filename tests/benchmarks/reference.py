"""What `reference` reaches, and at what cost, at orders that exact methods do not: the table of docs/baselines.md."""

import time

import numpy as np

from mdbench.baselines.reference import Reference
from mdbench.tasks import MTD, sample


def main():
    """Two seeds on six sequences of random tasks."""
    print("| m, q, T, α | s a sequence | largest standard error | z-scores between two seeds, rms |")
    print("|---|---|---|---|")
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
        print(
            f"| {m}, {q}, {length}, {alpha} | {seconds:.2g} | {largest:.1e} | {np.sqrt((z**2).mean()):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
