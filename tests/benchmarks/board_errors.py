"""How often the board errs where the truth is known: rows with training seeds that are good or bad at all lengths.

python tests/benchmarks/board_errors.py [--repeats 400] [--seeds 3] [--sd 0.03]

Weights of longer contexts start from those of shorter ones, so seed k of a row is good or bad at all lengths of a task.
Null: four equally good rows. Prints how often any two are told apart (nominal 5%), how often a row's interval holds the
truth (nominal 95%), how often a row is told apart from an equal one that has no seeds, at the level of the first of
nine planned comparisons (Holm; nominal 0.56%), and how often a row that is 20% better than another is told apart:
alone, and at that level. Another revision is measured with its own clone in PYTHONPATH.
"""

import argparse

import numpy as np

from mdbench.board import ranking
from mdbench.board.ranking import Excess, Resampling, standings

LENGTHS = (16, 32, 64, 128)
TASKS = ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
N = 200
N_PLANNED = 9  # of suite core


def trained(rng, hard, n_seeds, sd, mean=1.0):
    """A row: skew excess KL, in part common to all rows, times a factor for each seed and task."""
    places = list(hard)
    factors = {task: mean * np.exp(rng.normal(0.0, sd, n_seeds) - sd**2 / 2) for task in TASKS}
    return {
        place: Excess(
            np.stack([f * (0.8 * hard[place] + 0.2 * rng.gamma(0.5, 2.0, N)) for f in factors[place[0]]]), 1e-20
        )
        for place in places
    }


def simulate(n_seeds, sd, tasks, repeats, seed=0):
    """Error of any pair, coverage of an interval, error at the planned level, power at 20% alone, and at that level."""
    rng = np.random.default_rng(seed)
    places = [(task, length) for task in tasks for length in LENGTHS]
    wrong = covered = rows_seen = strict = found = planned = 0
    for _ in range(repeats):
        hard = {place: rng.gamma(0.5, 2.0, N) for place in places}
        unit = {place: Excess(hard[place][None], 1e-20) for place in places}
        rows = {name: trained(rng, hard, n_seeds, sd) for name in "abcd"}
        suite = len(tasks) > 1
        table = standings(rows | ({"unit": unit} if suite else {}), unit if suite else None)
        wrong += any(not set(table[a].groups) & set(table[b].groups) for a in "abcd" for b in "abcd" if a < b)
        for name in "abcd":
            low, high = table[name].interval
            covered += low <= 1.0 <= high
            rows_seen += 1
        rows = {"a": rows["a"], "fixed": trained(rng, hard, 1, 0.0)} | ({"unit": unit} if suite else {})
        strict += N_PLANNED * Resampling(rows, unit if suite else None).p_value("a", "fixed") < 0.05
        pair = {"a": trained(rng, hard, n_seeds, sd), "better": trained(rng, hard, n_seeds, sd, 0.8)}
        two = standings(pair | ({"unit": unit} if suite else {}), unit if suite else None)
        found += not set(two["a"].groups) & set(two["better"].groups)
        rows = pair | ({"unit": unit} if suite else {})
        planned += N_PLANNED * Resampling(rows, unit if suite else None).p_value("a", "better") < 0.05
    return wrong / repeats, covered / rows_seen, strict / repeats, found / repeats, planned / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sd", type=float, default=None, help="of a seed's factor; 0.03 and 0.3 if none")
    arguments = parser.parse_args()
    ranking.DRAWS = 500
    head = f"{'table':<10} {'seeds':>5} {'sd':>5} {'error':>7} {'coverage':>9} {'planned error':>14}"
    print(f"{head} {'power at 20%':>13} {'planned':>8}")
    for tasks in (TASKS[:1], TASKS):
        for sd in (0.03, 0.3) if arguments.sd is None else (arguments.sd,):
            error, coverage, strict, power, planned = simulate(arguments.seeds, sd, tasks, arguments.repeats)
            name = "one task" if len(tasks) == 1 else "suite"
            print(
                f"{name:<10} {arguments.seeds:>5} {sd:>5.2f} {error:>7.1%} {coverage:>9.1%} {strict:>14.2%}",
                f"{power:>13.1%} {planned:>8.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
