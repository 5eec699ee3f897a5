"""Newton's normal equations by attention: what seven layers reach with nothing tuned (docs/constructions.md).

`python scripts/newton_layers.py` makes the table in docs/attempts.md: mean excess KL on the public sequences.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from tables import Table

from mdbench.algorithms.reweighting import responsibilities
from mdbench.core import metrics
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import DirichletMixture, load_suite, load_task, next_token_probs, public_sequences

STAGES = 4  # reweighting layers between the second and the last, each of which applies the covariance once


def main() -> None:
    """Three ways to solve the normal equations, and one step beside them."""
    headings = ["task", "T", "second moments, solved", "covariance, solved", "covariance, seven layers", "md1"]
    table = Table("newton layers", headings)
    suite = load_suite("core")
    for name in suite.tasks:
        task = load_task(name)
        assert isinstance(task, DirichletMixture)
        for length in suite.lengths:
            contexts = public_sequences(name).tokens[:, :length]
            bayes, md1 = (metrics.normalise(build_predictor(p, task).predict(contexts)) for p in ("bayes", "md1"))
            solved = [next_token_probs(task, weights, contexts) for weights in _solutions(task, contexts)]
            row = [metrics.kl(bayes, metrics.normalise(probs)).mean() for probs in (*solved, md1)]
            table.add(name, str(length), *(f"{value:.2e}" for value in row))
    table.put()


def _solutions(task: DirichletMixture, contexts: np.ndarray) -> list[np.ndarray]:
    """Estimates of λ: softmax of m u, where (a I + m² n M) u = m n (mean γ - 1/m) and a = m (mα + 1).

    M is the second moment of γ - 1/m, or its covariance: what reweighting by exp(-⟨v, γ⟩) gives to first order in v.
    Layers take Richardson's steps, one application of the covariance each; their size is the best for the largest
    eigenvalue of nine sequences in ten.
    """
    gamma = np.asarray(responsibilities(task.likelihoods(contexts)))
    n, m = gamma.shape[1:]
    mean = gamma.mean(axis=1)
    prior, scale = m * (m * task.concentration + 1), m**2 * n
    moments = [np.einsum("nti,ntj->nij", gamma - c, gamma - c) / n for c in (1 / m, mean[:, None])]
    gradient = m * n * (mean - 1 / m)
    solved = [np.linalg.solve(prior * np.eye(m) + scale * M, gradient[..., None])[..., 0] for M in moments]
    covariance = moments[1]
    step = 2 / (2 * prior + scale * np.quantile(np.linalg.eigvalsh(covariance)[:, -1], 0.9))
    u = np.zeros_like(gradient)
    for _ in range(STAGES + 1):
        u = u + step * (gradient - prior * u - scale * np.einsum("nij,nj->ni", covariance, u))
    return [softmax(m * direction, axis=1) for direction in (*solved, u)]


if __name__ == "__main__":
    main()
