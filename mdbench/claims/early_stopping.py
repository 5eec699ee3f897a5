"""Few steps against their limit."""

from __future__ import annotations

import numpy as np

from mdbench.algorithms.mirror_descent import descend_evenly
from mdbench.algorithms.tuning import tuned_step_size
from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.comparing import LABELS
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import SCALES, Laboratory, Row

STEPS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 50, 100, 250, 1000)
STOPPED = 5


def _run(lab: Laboratory) -> Finding:
    rows = lab.judge(["md5", "em"])
    ratio, on_kl = (lab.ratio(rows["md5"], rows["em"], scale) for scale in ("excess_kl", "kl"))
    task = lab.small
    curves: dict[str, list[Curve]] = {scale: [] for scale in SCALES}
    numbers = lab.numbers(rows)
    for length in lab.lengths:
        cell, eta = lab.cells(task.name)[length], tuned_step_size(task, STOPPED, length)
        x = task.likelihoods(cell.contexts)
        path: dict[str, Row] = {}
        for k in STEPS:
            probs = task.truth(np.asarray(descend_evenly(x, eta, k)), cell.contexts)
            path[f"{k} steps of the η of {STOPPED}"] = {(task.name, length): lab.scored(task.name, length, probs[None])}
        numbers += lab.numbers(path)
        for scale in SCALES:
            means = [getattr(row[task.name, length], scale).mean() for row in path.values()]
            limit = getattr(rows["em"][task.name, length], scale).mean()
            curves[scale].append(Curve(f"T = {length}", STEPS, means))
            curves[scale].append(Curve("", [STEPS[0], STEPS[-1]], [limit, limit], dashed=True))
    title = f"{task.name}: steps, and their limit (dashed)"
    return Finding(
        verdict=lab.below(ratio),
        estimate=ratio.value,
        interval=ratio.interval,
        unit="excess KL of md5 over that of maximum likelihood",
        seeds=None,
        says=f"Five steps have {ratio} times maximum likelihood's excess KL, and {on_kl} times its KL to the truth; "
        "going on makes it worse at every length.",
        rows=numbers,
        panels=[Panel(title, "steps", LABELS[scale], curves[scale], log_x=2) for scale in SCALES],
    )


CLAIM = Claim(
    statement="Mirror Descent that stops early is nearer to Bayes than its limit, maximum likelihood.",
    source=PAPER,
    rule="holds if the 95% interval of the ratio of excess KL, md5 over em, lies below 1, fails if above, else "
    "undecided",
    run=_run,
)
