"""How the best step size goes with the length."""

from __future__ import annotations

import numpy as np

from mdbench.algorithms.mirror_descent import adaptive_constants, deviations
from mdbench.algorithms.tuning import calibration_contexts, tuned_step_size
from mdbench.claims.claim import EQUALITY, OURS, PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory, Row, conjunction, furthest, written

MORE = (8, 512, 1024)  # of the small task, where it is not --fast
AS_INVERSE = -0.9  # slope of log η over log T from which it goes as 1/T


def _run(lab: Laboratory) -> Finding:
    lines, curves, ratios, powers = [], [], {}, {}
    for name in lab.tasks:
        task = lab.task(name)
        a, b = adaptive_constants(task.order, task.concentration)
        lengths = sorted([*lab.lengths, lab.longest, *(() if lab.fast or name != lab.small.name else MORE)])
        tuned, law, each = [], [], 0.0
        at_law: Row = {}
        at_tuned: Row = {}
        for length in lengths:
            d = deviations(task.likelihoods(calibration_contexts(task, length)))
            spread = np.asarray((d**2).sum(axis=(1, 2)))
            tuned.append(tuned_step_size(task, 1, length))
            law.append(float((1 / (a + b * spread)).mean()))
            each = float(spread.mean()) / (length - task.order)
            lines.append({"task": name, "length": length, "tuned": tuned[-1], "law": law[-1]})
        curves += [Curve(f"{name}, tuned", lengths, tuned), Curve(f"{name}, law", lengths, law, dashed=True)]
        for length, eta in zip(lengths, law, strict=True):
            if length in lab.lengths:
                rows = lab.judge([f"md:steps=1,eta={eta:.6g}", "md1"], [name], [length])
                for into, row in zip((at_law, at_tuned), rows.values(), strict=True):
                    into.update(row)
        ratios[name] = lab.ratio(at_law, at_tuned)
        powers[name] = np.diff(np.log(tuned)) / np.diff(np.log(lengths))
        # The law's slope is -b S/(a + b S), S being so much a transition.
        inverse_from = task.order - AS_INVERSE / (1 + AS_INVERSE) * a / (b * each)
        lines[-1]["as_inverse_from"] = inverse_from
    worst = furthest(ratios.values())
    small = next(line for line in lines if line["task"] == lab.small.name and "as_inverse_from" in line)
    own = powers[lab.small.name]
    return Finding(
        verdict=conjunction(map(lab.equal, ratios.values())),
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL at the law's η over that at the tuned one, in the task where it is furthest from 1",
        seeds=None,
        says=f"Excess KL of one step of the law's mean size, which has nothing tuned, over one of the tuned size: "
        f"{written(ratios)}. At {lab.small.name} the tuned η falls as T to the power {own[0]:.2f} at the shortest "
        f"lengths "
        f"and {own[-1]:.2f} at T = {small['length']}; by the law the power is {AS_INVERSE} from T = "
        f"{small['as_inverse_from']:.0f} on.",
        rows=lines,
        panels=[Panel("Tuned step size and the law", "T", "η of one step", curves, log_x=2)],
    )


CLAIM = Claim(
    statement="The best size of one step is the mean of 1/(mα + 1 + m/(m - 1) S) over sequences.",
    source=f"{OURS} (docs/approximations.md); Θ(1/T) is {PAPER}, Theorem 2",
    rule=EQUALITY.format(what="one step of the law's mean size over one of the tuned size"),
    run=_run,
)
