"""What gold costs for large MTDs, and how often it fails: the table of docs/worlds.md.

    python scripts/large_mtds.py

Matrices ~ Dirichlet(1, .., 1) with q = 50 and 200 states, m = 8 and 16 lags; 16 sequences a line. `reference` passes
when the standard error of every next-token probability is at most 1e-4, `gibbs` by the gates of chains.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from tables import Table

from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, sample

N = 16
CASES = [
    *((q, m, 1.0, length) for q in (50, 200) for m in (8, 16) for length in (64, 256)),
    (50, 8, 0.3, 256),
    (50, 16, 0.3, 256),
    (50, 8, 1.0, 1024),
    (200, 16, 1.0, 1024),
]


def main() -> None:
    """Make the table."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    headings = ["q", "m", "α", "T", "method", "s a sequence", "fail a gate", "largest standard error of p_B"]
    table = Table("large", headings)
    for q, m, alpha, length in CASES:
        matrix = np.random.default_rng(q).dirichlet(np.ones(q), q)
        task = MTD("large", matrix, m, alpha, lengths=(length,))
        contexts = sample(task, length, N, 0).contexts
        for method in ("reference", "gibbs"):
            start = (str(q), str(m), f"{alpha:g}", str(length), f"`{method}`")
            started = time.perf_counter()
            try:
                found = build_baseline(method).posterior(task, contexts)
            except InputError as error:
                table.add(*start, f"refused: {error}", "", "")
                continue
            seconds, se = (time.perf_counter() - started) / N, found.next_token_se
            assert se is not None, "both sample"
            table.add(*start, f"{seconds:.2g}", f"{int(found.failed.sum())} of {N}", f"{se.max():.1e}")
    table.put()


if __name__ == "__main__":
    main()
