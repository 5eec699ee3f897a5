"""How smooth the log-likelihood is relative to the entropy.

At λ⁰ = 1/m the constant is m times the largest eigenvalue of Σ_t γ_t γ_tᵀ along the simplex, γ_t = x_t/Σ_g x_t(g) and
|γ_t|² ≤ (Σ_g γ_t(g))² = 1, so that it is at most (T - m) m, an m-th of the bound.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict
from mdbench.tasks import MTD

STICKY = MTD("sticky", order=2, transition=np.array([[0.99, 0.01], [0.01, 0.99]]), concentration=1.0)
LENGTH, N = 32, 64
GRIDS = {2: 12, 3: 8, 4: 5}  # points along an edge of the simplex, by the number of lags
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
    values = np.geomspace(SMALLEST, 1, GRIDS[m])
    return [np.array(p) / sum(p) for p in itertools.product(values, repeat=m) if max(p) == 1]


def _run(lab: Laboratory) -> Finding:
    lines: list[dict[str, Any]] = []
    at_start, anywhere = 0.0, 0.0
    for name in lab.tasks:
        task = lab.task(name)
        m, bound = task.order, (LENGTH - task.order) * task.order**2
        points = _grid(m)
        for k, x in enumerate(task.likelihoods(lab.cells(name)[LENGTH].contexts[:N])):
            start = constant(x, np.full(m, 1 / m)) / bound
            highest = max(constant(x, point) for point in points) / bound
            at_start, anywhere = max(at_start, start), max(anywhere, highest)
            lines.append({"task": name, "sequence": k, "at_start": start, "largest_on_grid": highest})
    x = STICKY.likelihoods(np.arange(LENGTH)[None] % 2)[0]
    bound = (LENGTH - 2) * 4
    other = np.geomspace(SMALLEST, 1 - SMALLEST, 400).tolist()  # λ of lag 2, which explains no token
    ratios = [constant(x, np.array([1 - b, b])) / bound for b in other]
    worst = max(*ratios, anywhere)
    lines += [{"task": "sticky", "weight_of_lag_2": b, "ratio": r} for b, r in zip(other, ratios, strict=True)]
    ends = [SMALLEST, 1.0]
    curves = [
        Curve("alternating tokens, sticky matrix", other, ratios),
        Curve("public sequences, the largest on the grid", ends, [anywhere] * 2, dashed=True),
        Curve("public sequences, the largest at λ⁰", ends, [at_start] * 2, dashed=True),
        Curve("the bound", ends, [1.0, 1.0], dashed=True),
    ]
    return Finding(
        verdict=Verdict.FAILS if worst > 1 else Verdict.UNDECIDED,
        estimate=worst,
        interval=None,
        unit="of the bound (T - m) m²",
        seeds=None,
        says="At λ⁰ it holds always (mdbench/claims/smoothness.py has the proof); no public sequence has more than "
        f"{at_start:.2g} of the bound there, and none more than {anywhere:.2g} on a grid over the simplex. But "
        f"alternating tokens under a sticky matrix have {max(ratios):.2g} times the bound near a corner, so that the "
        "theorem must assume something else, which we do not know.",
        rows=lines,
        panels=[Panel("Smoothness over the simplex, m = 2", "λ of lag 2", "constant over bound", curves, log_x=10)],
    )


CLAIM = Claim(
    statement="Theorem 2 read without further assumptions: the log-likelihood is (T - m) m²-smooth relative to the "
    "entropy on the whole simplex.",
    source=f"{PAPER}, Theorem 2, in our reading",
    rule="fails if a point of the simplex has a larger constant, for a public sequence (T = 32) or the alternating "
    "one under [.99 .01; .01 .99], else undecided: a grid proves nothing",
    run=_run,
)
