"""One step over the length of the context."""

from __future__ import annotations

import numpy as np

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory
from mdbench.core.statistics import mean_interval
from mdbench.core.verdict import Verdict


def _run(lab: Laboratory) -> Finding:
    task = lab.small.name
    lengths = [*lab.lengths, lab.longest]
    rows = lab.judge(["md1", "md2", "uniform"], [task], lengths)
    bayes = lab.bayes(task)
    curves, influences, ratios = [], {}, {}
    for name in ("md1", "md2"):
        for t in lengths:
            above, below = rows[name][task, t].kl[0], bayes[task, t].kl[0]
            ratios[name, t] = above.mean() / below.mean()
            influences[name, t] = (above - ratios[name, t] * below) / below.mean()
        halves = {t: mean_interval(influences[name, t]).interval or (0.0, 0.0) for t in lengths}
        band = tuple([ratios[name, t] + halves[t][end] for t in lengths] for end in (0, 1))
        curves.append(Curve(name, lengths, [ratios[name, t] for t in lengths], (band[0], band[1])))
    grown = ratios["md1", lengths[-1]] - ratios["md1", lengths[0]]
    around = mean_interval(influences["md1", lengths[-1]] - influences["md1", lengths[0]]).interval
    assert around is not None, "there are many sequences"
    interval = (float(grown + around[0]), float(grown + around[1]))
    verdict = Verdict.HOLDS if interval[0] > 0 else Verdict.FAILS if interval[1] <= 0 else Verdict.UNDECIDED
    excess = [np.mean(rows["md1"][task, t].excess_kl) for t in (lengths[0], lengths[-1])]
    return Finding(
        verdict=verdict,
        estimate=float(grown),
        interval=interval,
        unit="growth of KL over Bayes' KL",
        seeds=None,
        says=f"From T = {lengths[0]} to {lengths[-1]} one tuned step goes from {ratios['md1', lengths[0]]:.3f} to "
        f"{ratios['md1', lengths[-1]]:.3f} times Bayes' KL to the truth, its excess KL from {excess[0]:.2g} to "
        f"{excess[1]:.2g} nats; two steps end at {ratios['md2', lengths[-1]]:.3f} ({task}).",
        rows=lab.numbers({"bayes": bayes, **rows}),
        panels=[
            Panel(task, "T", "KL over Bayes' KL (band: 95%)", curves, log_x=2, log_y=False),
            Panel(task, "T", "excess KL, nats", [lab.curve(n, r, task) for n, r in rows.items()], log_x=2),
        ],
    )


CLAIM = Claim(
    statement="One step of Mirror Descent leaves the Bayes-optimal predictor as the context grows.",
    source=PAPER,
    rule="holds if KL(truth ‖ md1) over KL(truth ‖ Bayes) is larger at T = 256 than at T = 16 (mtd-q5-m3; 95% "
    "interval of the difference, the same sequences), fails if it is smaller, else undecided",
    run=_run,
)
