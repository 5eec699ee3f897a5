"""Few steps against their limit."""

from __future__ import annotations

import numpy as np

from mdbench.algorithms.mirror_descent import descend_evenly
from mdbench.algorithms.tuning import tuned_step_size
from mdbench.claims.claim import BETTER, PAPER, Claim
from mdbench.claims.comparing import LABELS
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import SCALES, Laboratory, Row, conjunction, furthest, written

STEPS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 50, 100, 250, 1000)
STOPPED = 5


def _run(lab: Laboratory) -> Finding:
    rows = lab.judge(["md5", "em"])
    ratios, on_kl = (lab.by_task(rows["md5"], rows["em"], scale) for scale in SCALES[::-1])
    worst = furthest(ratios.values())
    task = lab.small
    curves: dict[str, list[Curve]] = {scale: [] for scale in SCALES}
    numbers = lab.numbers(rows)
    best: dict[int, int] = {}
    for length in lab.lengths:
        cell, eta = lab.cells(task.name)[length], tuned_step_size(task, STOPPED, length)
        x = task.likelihoods(cell.contexts)
        path: dict[str, Row] = {}
        for k in STEPS:
            probs = task.truth(descend_evenly(x, eta, k), cell.contexts)
            path[f"{k} steps of the η of {STOPPED}"] = {(task.name, length): lab.scored(task.name, length, probs[None])}
        numbers += lab.numbers(path)
        means = [row[task.name, length].excess_kl.mean() for row in path.values()]
        best[length] = STEPS[int(np.argmin(means))]
        for scale in SCALES:
            means = [getattr(row[task.name, length], scale).mean() for row in path.values()]
            limit = getattr(rows["em"][task.name, length], scale).mean()
            curves[scale].append(Curve(f"T = {length}", STEPS, means))
            curves[scale].append(Curve("", [STEPS[0], STEPS[-1]], [limit, limit], dashed=True))
    title = f"{task.name}: steps of the η tuned for 5, and their limit (dashed)"
    least = ", ".join(f"{k} at T = {length}" for length, k in best.items())
    return Finding(
        verdict=conjunction(lab.below(ratio) for ratio in ratios.values()),
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL of md5 over that of maximum likelihood, in the task where it is furthest from 1",
        seeds=None,
        says=f"Excess KL of five steps over that of maximum likelihood: {written(ratios)}; KL to the truth: "
        f"{written(on_kl)}. With the step size tuned for five steps, the best number of steps is {least} "
        f"({task.name}).",
        rows=numbers,
        panels=[Panel(title, "steps", LABELS[scale], curves[scale], log_x=2) for scale in SCALES],
    )


CLAIM = Claim(
    statement="Mirror Descent that stops early is nearer to Bayes than its limit, maximum likelihood.",
    source=PAPER,
    rule=BETTER.format(what="md5 over em"),
    run=_run,
)
