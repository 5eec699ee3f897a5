"""One step is Bayes to first order in the evidence, and where that stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mdbench.algorithms.mirror_descent import descend_evenly
from mdbench.baselines import Exact
from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict
from mdbench.tasks import MTD

ALPHAS = (0.5, 1.0, 3.0)
STRENGTHS = (0.2, 0.1, 0.05, 0.02, 0.01)  # of the evidence
SECOND, FIRST = 1.9, 1.1  # orders of an error: at least the one at the theorem's η, at most the other elsewhere
LENGTH, N = 16, 64


def _weakened(task: MTD, strength: float, alpha: float) -> MTD:
    """Rows of the transition matrix brought together, so that no lag explains a token much better than another."""
    rows = np.asarray(task.transition)
    return replace(task, transition=(1 - strength) * rows.mean(axis=0) + strength * rows, concentration=alpha)


def _errors(task: MTD, contexts: np.ndarray, alpha: float, factor: float) -> list[float]:
    """|λ̂ - E[λ | y]| of one step by strength, the mean over sequences; the step is ``factor`` times the theorem's."""
    found = []
    for strength in STRENGTHS:
        weak = _weakened(task, strength, alpha)
        x = weak.likelihoods(contexts)
        step = descend_evenly(x, factor / (weak.order * alpha + 1), 1)
        mean = Exact().posterior(weak, contexts, [contexts.shape[1]]).mean[:, 0]
        found.append(float(np.abs(step - mean).max(axis=1).mean()))
    return found


def _order(errors: list[float]) -> float:
    """The slope at the weak end, log against log."""
    return float(np.diff(np.log(errors[-2:]))[0] / np.diff(np.log(STRENGTHS[-2:]))[0])


def _run(lab: Laboratory) -> Finding:
    task = lab.small
    contexts = lab.cells(task.name)[LENGTH].contexts[:N]
    curves: list[Curve] = []
    lines: list[dict[str, Any]] = []
    orders: list[float] = []
    controls: list[float] = []
    for alpha in ALPHAS:
        for factor, into in ((1.0, orders), (2.0, controls)):
            errors = _errors(task, contexts, alpha, factor)
            into.append(_order(errors))
            label = f"α = {alpha:g}" + ("" if factor == 1 else ", twice η")
            curves.append(Curve(label, STRENGTHS, errors, dashed=factor != 1))
            lines += [
                {"alpha": alpha, "eta": factor / (task.order * alpha + 1), "strength": s, "error": e}
                for s, e in zip(STRENGTHS, errors, strict=True)
            ]
    rows = lab.judge(["md:steps=1,eta=theory", "md1", "uniform"], [task.name])
    over_t = [lab.curve(name, row, task.name, dashed=name == "uniform") for name, row in rows.items()]
    worse = [
        place[1]
        for place, j in rows["md:steps=1,eta=theory"].items()
        if j.excess_kl.mean() > rows["uniform"][place].excess_kl.mean()
    ]
    worst = min(orders)
    sharp = max(controls) <= FIRST
    verdict = (Verdict.HOLDS if worst >= SECOND else Verdict.FAILS) if sharp else Verdict.UNDECIDED
    stops = f"is worse than no inference at all at T = {', '.join(map(str, worse))}" if worse else "beats no inference"
    return Finding(
        verdict=verdict,
        estimate=worst,
        interval=None,
        unit="order of the error in the evidence",
        seeds=None,
        says=f"At η = 1/(mα + 1) the error goes as the evidence to the power {worst:.2f} or more, at twice that η as "
        f"{max(controls):.2f}. As T grows the evidence is not weak: one step of this η {stops} ({task.name}, T = "
        f"{', '.join(map(str, lab.lengths))}).",
        rows=lines + lab.numbers(rows),
        panels=[
            Panel(
                "Error of one step",
                "strength of the evidence",
                "mean over sequences of max |λ̂ - E λ|",
                curves,
                log_x=10,
            ),
            Panel(f"The same η at {task.name}", "T", "excess KL, nats", over_t, log_x=2),
        ],
    )


CLAIM = Claim(
    statement="One step of size 1/(mα + 1) is the Bayes-optimal predictor to first order in the evidence.",
    source=f"{PAPER}, Theorem 1 (α = 1); the same derivation for other α",
    rule="holds if, for α = ½, 1 and 3, the error of λ̂ falls with at least the power 1.9 of the evidence at this η, "
    "fails if not; undecided if at twice this η, where theory has the power 1, it is above 1.1",
    run=_run,
)
