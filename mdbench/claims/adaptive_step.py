"""The size of the step that networks take."""

from __future__ import annotations

from typing import Any

import numpy as np

from mdbench.claims.claim import EACH, OURS, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict
from mdbench.mechanism.adaptation import step_adaptation

TRAINED = ["trained_l3", "trained_l5"]
BESIDE = ["md1", "md1_adaptive", "bayes"]


def _run(lab: Laboratory) -> Finding:
    lines: list[dict[str, Any]] = []
    unread = 0
    for name in lab.tasks:
        for predictor, row in lab.judge([*TRAINED, *BESIDE], [name]).items():
            for (_, length), judged in row.items():
                for seed, probs in enumerate(judged.probs):
                    steps = step_adaptation(lab.task(name), lab.cells(name)[length].contexts, probs)
                    if steps is None:
                        unread += predictor == TRAINED[0]
                    else:
                        low, high = steps.slope_ci
                        line = {"task": name, "length": length, "predictor": predictor, "seed": seed}
                        lines.append(line | {"slope": steps.slope, "low": low, "high": high, "eta": steps.eta})
    own = [line for line in lines if line["predictor"] == TRAINED[0]]
    least = min(own, key=lambda line: line["low"])
    if not unread and all(line["low"] > 0 for line in own):
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.FAILS if any(line["high"] <= 0 for line in own) else Verdict.UNDECIDED
    curves = []
    for predictor in [*TRAINED, *BESIDE]:
        of = [line for line in lines if line["predictor"] == predictor and line["task"] == lab.small.name]
        lengths = sorted({line["length"] for line in of})
        slopes = [[line["slope"] for line in of if line["length"] == t] for t in lengths]
        several = max(map(len, slopes)) > 1
        band = ([min(s) for s in slopes], [max(s) for s in slopes]) if several else None
        seeds = max(map(len, slopes)) if predictor in TRAINED else None
        curves.append(Curve(predictor, lengths, [float(np.mean(s)) for s in slopes], band, seeds, not several))
    mean = {
        name: np.mean([line["slope"] for line in lines if line["predictor"] == name]) for name in [*TRAINED, *BESIDE]
    }
    return Finding(
        verdict=verdict,
        estimate=least["slope"],
        interval=(least["low"], least["high"]),
        unit="slope of log effective step on log η_i, the least of all seeds, lengths and tasks",
        seeds=1 + max(line["seed"] for line in own),
        says=f"The least slope of any seed of trained_l3 is {least['slope']:.2f} ({least['low']:.2f} .. "
        f"{least['high']:.2f}; {least['task']}, T = {least['length']}). Means: "
        + ", ".join(f"{name} {value:.2f}" for name, value in mean.items())
        + ".",
        rows=lines,
        panels=[Panel(lab.small.name, "T", "slope (band: all seeds)", curves, log_x=2, log_y=False)],
    )


CLAIM = Claim(
    statement="The step that trained three-layer networks take grows with the one that the sequence calls for.",
    source=f"{OURS} (docs/inside.md)",
    rule="holds if in every training seed of trained_l3, "
    + EACH
    + ", the slope of the log effective step on log η_i is above 0 (95% interval; a step of one size has 0, the "
    "adaptive step 1), fails if one lies below, undecided if one lies around it or no step can be read",
    run=_run,
)
