"""The tables of docs/approximations.md on the step size of one step.

    python scripts/step_size_law.py

First the law against what tuning finds, on calibration sequences; then the constant b, by two derivations and in the
limit of long sequences.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from tables import Table

from mdbench.algorithms.mirror_descent import ADAPTIVE, MATRIX, adaptive_constants, adaptive_step, deviations
from mdbench.algorithms.tuning import calibration_contexts, tuned_constants, tuned_step_size
from mdbench.baselines import Exact
from mdbench.core.metrics import kl
from mdbench.tasks import load_task, sample

TASKS = ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
LENGTHS = (16, 32, 64, 128)
LONG, N_LONG = 4096, 1000
N_DRAWS = 200_000


def spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ_t d_t and S = Σ_t |d_t|² of each sequence, d_t = γ_t - 1/m."""
    d = np.asarray(deviations(x))
    return d.sum(axis=1), (d**2).sum(axis=(1, 2))


def through_softmax(m: int, alpha: float) -> float:
    """The b at which softmax(m² (λ - 1/m)/((m - 1) b)) is nearest to λ ~ Dir(α), in squared error."""
    weights = np.random.default_rng(0).dirichlet(np.full(m, alpha), N_DRAWS)

    def error(b: float) -> float:
        return float(((softmax(m**2 / ((m - 1) * b) * (weights - 1 / m), axis=1) - weights) ** 2).sum(axis=1).mean())

    return float(minimize_scalar(error, bounds=(0.2, 8.0), method="bounded").x)


def limit(name: str) -> float:
    """The b of least KL for sequences so long that the posterior mean is λ and a is nothing."""
    task = load_task(name)
    drawn = sample(task, LONG, N_LONG, seed=3)
    total, s = spread(task.likelihoods(drawn.contexts))
    truth = task.truth(drawn.theta, drawn.contexts)

    def kl(b: float) -> float:
        probs = task.truth(softmax(task.order * total / (b * s)[:, None], axis=1), drawn.contexts)
        return float((truth * np.log(truth / probs)).sum(axis=1).mean())

    return float(minimize_scalar(kl, bounds=(0.2, 8.0), method="bounded").x)


def main() -> None:
    """Make the tables."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    headings = ["task", "T", "tuned η", "mean of the law's", "a", "b", "a, b of the matrix step", "excess KL: md1"]
    law = Table("step sizes", [*headings, "adaptive", "Newton", "adaptive_tuned", "matrix"])
    for name in TASKS:
        task = load_task(name)
        for length in LENGTHS:
            contexts = calibration_contexts(task, length)
            x, bayes = task.likelihoods(contexts), Exact().next_token(task, contexts)
            total, s = spread(x)
            a, b = adaptive_constants(task.order, task.concentration)
            fitted, matrix = (tuned_constants(task, kind, length) for kind in (ADAPTIVE, MATRIX))
            eta = tuned_step_size(task, 1, length)
            newton = np.array([a, task.order])  # the normal equations as they stand
            weights = [softmax(eta * task.order * total, axis=1), adaptive_step(x, np.array([a, b]))]
            weights += [adaptive_step(x, newton, matrix=True), adaptive_step(x, np.array(fitted))]
            weights += [adaptive_step(x, np.array(matrix), matrix=True)]
            scores = (kl(bayes, task.truth(np.asarray(each), contexts)).mean() for each in weights)
            sizes = (f"{size:.3f}" for size in (eta, (1 / (a + b * s)).mean()))
            constants = f"{fitted[0]:.2f}", f"{fitted[1]:.2f}", f"{matrix[0]:.2f}, {matrix[1]:.2f}"
            law.add(name, str(length), *sizes, *constants, *(f"{score:.2g}" for score in scores))
    law.put()
    headings = ["m", "isotropic information: m/(m - 1)", "through the softmax, α = 1", "α = 0.1", "α = 3", "T = 4,096"]
    why = Table("why b", headings)
    for name in TASKS:
        m = load_task(name).order
        derived = (m / (m - 1), *(through_softmax(m, alpha) for alpha in (1.0, 0.1, 3.0)), limit(name))
        why.add(str(m), *(f"{b:.2f}" for b in derived))
    why.put()


if __name__ == "__main__":
    main()
