"""The table of docs/approximations.md: excess KL of approximations over the prior's α and the number of lags m.

    python scripts/approximations.py [--lengths 16,32] [--n-sequences 2048] [--csv FILE]

Matrices are those of the built-in tasks; each α is a task of its own, so that tuned predictors are tuned for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mdbench

TASKS = ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
ALPHAS = (0.1, 0.5, 1.0, 3.0)
PREDICTORS = (
    "ep",
    "adf",
    "adf:split=1",
    "adf:split=2",
    "tierney_kadane",
    "cvb0",
    "dirichlet_em",
    "md1_adaptive",
    "md1",
    "md5",
)


def main() -> None:
    """Print the table, and write every result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--lengths", default="16,32", help="context lengths, separated by commas")
    parser.add_argument("--n-sequences", type=int, default=2048)
    parser.add_argument("--csv", type=Path, help="file for all results")
    given = parser.parse_args()
    lengths = [int(length) for length in given.lengths.split(",")]
    frames = []
    print(f"| m | α | T | {' | '.join(PREDICTORS)} |\n|{'---|' * (len(PREDICTORS) + 3)}")
    for name in TASKS:
        task = mdbench.load_task(name)
        for alpha in ALPHAS:
            own = mdbench.MTD(f"{name}-alpha{alpha:g}", task.transition, task.order, alpha, lengths=tuple(lengths))
            found = mdbench.evaluate(list(PREDICTORS), task=own, n_sequences=given.n_sequences, references=())
            of = {(r.length, r.predictor): r.excess_kl for r in found.results}
            for length in lengths:
                row = " | ".join(f"{of[length, predictor]:.2g}" for predictor in PREDICTORS)
                print(f"| {task.order} | {alpha:g} | {length} | {row} |", flush=True)
            frames.append(found.table.assign(alpha=alpha, order=task.order))
    if given.csv:
        import pandas as pd

        pd.concat(frames).to_csv(given.csv, index=False)


if __name__ == "__main__":
    main()
