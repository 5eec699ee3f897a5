"""The table of docs/approximations.md: excess KL of approximations over the prior's α and the number of lags m.

    python scripts/approximations.py

Matrices are those of the built-in tasks; each α is a task of its own, so that tuned predictors are tuned for it.
"""

from __future__ import annotations

import argparse

from tables import Table

import mdbench

TASKS = ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
ALPHAS = (0.1, 0.5, 1.0, 3.0)
LENGTHS, N = (16, 32), 2048
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
    """Make the table."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    table = Table("approximations", ["m", "α", "T", *PREDICTORS])
    for name in TASKS:
        task = mdbench.load_task(name)
        for alpha in ALPHAS:
            own = mdbench.MTD(f"{name}-alpha{alpha:g}", task.transition, task.order, alpha, lengths=LENGTHS)
            found = mdbench.evaluate(list(PREDICTORS), task=own, n_sequences=N, references=())
            of = {(r.length, r.predictor): r.excess_kl for r in found.results}
            for length in LENGTHS:
                row = (f"{of[length, predictor]:.2g}" for predictor in PREDICTORS)
                table.add(str(task.order), f"{alpha:g}", str(length), *row)
    table.put()


if __name__ == "__main__":
    main()
