"""How the best step size goes with the length."""

from __future__ import annotations

import numpy as np

from mdbench.algorithms.mirror_descent import adaptive_constants, deviations
from mdbench.algorithms.tuning import calibration_contexts, tuned_step_size
from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict

MORE = (8, 512, 1024)  # of the small task, where it is not --fast
AS_INVERSE = -0.9  # slope of log η over log T from which it goes as 1/T


def _run(lab: Laboratory) -> Finding:
    lines, curves, slopes = [], [], []
    for name in lab.tasks:
        task = lab.task(name)
        a, b = adaptive_constants(task.order, task.concentration)
        lengths = sorted([*lab.lengths, lab.longest, *(() if lab.fast or name != lab.small.name else MORE)])
        tuned, law, spreads = [], [], []
        for length in lengths:
            spread = np.asarray(
                (deviations(task.likelihoods(calibration_contexts(task, length))) ** 2).sum(axis=(1, 2))
            )
            tuned.append(tuned_step_size(task, 1, length))
            law.append(float((1 / (a + b * spread)).mean()))
            spreads.append(float(spread.mean()) / (length - task.order))
            lines.append({"task": name, "length": length, "tuned": tuned[-1], "law": law[-1]})
        slopes += (np.diff(np.log(tuned)) / np.diff(np.log(lengths))).tolist()
        curves += [Curve(f"{name}, tuned", lengths, tuned), Curve(f"{name}, law", lengths, law, dashed=True)]
        if name == lab.small.name:
            # The law's slope is -b S/(a + b S), S being so much a transition.
            inverse_from = -AS_INVERSE / (1 + AS_INVERSE) * a / (b * spreads[-1])
            range_of = f"T = {lengths[0]} .. {lengths[-1]}"
            steepest = float(np.diff(np.log(tuned[-2:]))[0] / np.diff(np.log(lengths[-2:]))[0])
    off = {(line["task"], line["length"]): line["tuned"] / line["law"] for line in lines}
    worst = max(off, key=lambda place: abs(np.log(off[place])))
    low, high = 1 / (1 + lab.margin), 1 + lab.margin
    return Finding(
        verdict=Verdict.HOLDS if all(low <= ratio <= high for ratio in off.values()) else Verdict.FAILS,
        estimate=off[worst],
        interval=None,
        unit="tuned η over the law's, where it is furthest from 1",
        seeds=None,
        says=f"The law, which has nothing tuned, is furthest off at {worst[0]}, T = {worst[1]}: {off[worst]:.3g}. The "
        f"tuned η falls as T to the power {max(slopes):.2f} to {min(slopes):.2f}, not as 1/T; at the end of {range_of} "
        f"({lab.small.name}) the power is {steepest:.2f}, and by the law it is {AS_INVERSE} from T = "
        f"{inverse_from:.0f} on.",
        rows=lines,
        panels=[Panel("Tuned step size and the law", "T", "η of one step", curves, log_x=2)],
    )


CLAIM = Claim(
    statement="The best size of one step is the mean of 1/(mα + 1 + m/(m - 1) S), which goes as 1/T only for long "
    "contexts.",
    source=f"mdbench (docs/approximations.md); Θ(1/T) is {PAPER}, Theorem 2",
    rule="holds if at every task and length the tuned η is that of the law up to the margin, else fails",
    run=_run,
)
