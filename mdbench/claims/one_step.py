"""The construction is one step, exactly."""

from __future__ import annotations

import numpy as np

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.verdict import Verdict

EXACT = 1e-12  # of a probability: rounding of float64 at these lengths
NAMES = ["constructed_l3", "md1"]


def _run(lab: Laboratory) -> Finding:
    rows = lab.judge(NAMES)
    ours, step = (rows[name] for name in NAMES)
    apart = {place: float(np.abs(ours[place].probs - step[place].probs).max()) for place in step}
    worst = max(apart.values())
    curves = [
        Curve(task, [t for name, t in apart if name == task], [v for (name, _), v in apart.items() if name == task])
        for task in lab.tasks
    ]
    curves.append(Curve("what is allowed", [min(lab.lengths), max(lab.lengths)], [EXACT, EXACT], dashed=True))
    return Finding(
        verdict=Verdict.HOLDS if worst <= EXACT else Verdict.FAILS,
        estimate=worst,
        interval=None,
        unit="probability",
        seeds=None,
        says=f"No probability of the three layers differs from one step's by more than {worst:.1e}.",
        rows=[line | {"largest_difference": apart[line["task"], line["length"]]} for line in lab.numbers(rows)],
        panels=[Panel("Three layers against one step", "T", "largest difference of a probability", curves, log_x=2)],
    )


CLAIM = Claim(
    statement="A three-layer transformer with weights set by hand does one step of Mirror Descent, exactly.",
    source=f"{PAPER}: the construction",
    rule="holds if no probability of constructed_l3 differs from md1's by more than 1e-12 on any public sequence, "
    "else fails",
    run=_run,
)
