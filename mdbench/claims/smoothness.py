"""How smooth the log-likelihood is relative to the entropy."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict
from mdbench.tasks import MTD

STICKY = MTD("sticky", order=2, transition=np.array([[0.99, 0.01], [0.01, 0.99]]), concentration=1.0)
LENGTH, N = 32, 64
GRID = 12  # points along an edge of the simplex
SMALLEST = 1e-3  # weight there


def constant(x: Float[np.ndarray, "n m"], weights: Float[np.ndarray, " m"]) -> float:
    """The least L with L ∇²h - ∇²(-ℓ) positive there along the simplex, h the negative entropy.

    The largest vᵀHv / Σ_g v_g²/λ_g over Σ_g v_g = 0, H = Σ_t x_t x_tᵀ/⟨λ, x_t⟩².
    """
    scaled = x / (x @ weights)[:, None]
    root = np.sqrt(weights)
    matrix = (scaled.T @ scaled) * np.outer(root, root)
    along = np.eye(len(root)) - np.outer(root, root)  # u = v/√λ is orthogonal to √λ
    return float(np.linalg.eigvalsh(along @ matrix @ along)[-1])


def _grid(m: int) -> list[np.ndarray]:
    """Points of the simplex, towards its corners on a logarithmic scale."""
    values = np.geomspace(SMALLEST, 1, GRID)
    return [np.array(p) / sum(p) for p in itertools.product(values, repeat=m) if max(p) == 1]


def _run(lab: Laboratory) -> Finding:
    lines, curves = [], []
    at_start, anywhere = 0.0, 0.0
    for name in lab.tasks:
        task = lab.task(name)
        m, bound = task.order, (LENGTH - task.order) * task.order**2
        points = _grid(m) if m < 4 else [np.full(m, 1 / m)]
        for k, x in enumerate(task.likelihoods(lab.cells(name)[LENGTH].contexts[:N])):
            start = constant(x, np.full(m, 1 / m)) / bound
            highest = max(constant(x, point) for point in points) / bound
            at_start, anywhere = max(at_start, start), max(anywhere, highest)
            lines.append({"task": name, "sequence": k, "at_start": start, "largest_on_grid": highest})
    x = STICKY.likelihoods(np.arange(LENGTH)[None] % 2)[0]
    bound = (LENGTH - 2) * 4
    first = np.geomspace(SMALLEST, 1 - SMALLEST, 400).tolist()
    ratios = [constant(x, np.array([a, 1 - a])) / bound for a in first]
    worst = max(*ratios, anywhere)
    lines += [{"task": "sticky", "first_weight": a, "ratio": r} for a, r in zip(first, ratios, strict=True)]
    curves = [
        Curve("alternating tokens, sticky matrix", first, ratios),
        Curve("the bound", [SMALLEST, 1.0], [1.0, 1.0], dashed=True),
    ]
    return Finding(
        verdict=Verdict.FAILS if worst > 1 else Verdict.HOLDS,
        estimate=worst,
        interval=None,
        unit="of the bound (T - m) m²",
        seeds=None,
        says=f"At λ⁰ no public sequence has more than {at_start:.2g} of the bound, and it can be proved there. On the "
        f"whole simplex alternating tokens under a sticky matrix have {max(ratios):.2g} times the bound, public "
        f"sequences {anywhere:.2g}: near a corner the assumption has to be another one, which we do not know from the "
        "paper.",
        rows=lines,
        panels=[Panel("Smoothness over the simplex, m = 2", "λ of lag 1", "constant over bound", curves, log_x=10)],
    )


CLAIM = Claim(
    statement="The log-likelihood is (T - m) m²-smooth relative to the entropy on the whole simplex.",
    source=f"{PAPER}, Theorem 2, read without further assumptions",
    rule="fails if a point of the simplex has a larger constant, for a public sequence or the alternating one under "
    "[.99 .01; .01 .99], else holds",
    run=_run,
)
