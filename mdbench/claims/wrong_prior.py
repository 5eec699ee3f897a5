"""Bayes with another prior than the sequences have."""

from __future__ import annotations

from dataclasses import replace

from mdbench.baselines import Exact
from mdbench.claims.claim import OURS, Claim
from mdbench.claims.comparing import panels
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory, Row, conjunction

FACTORS = (0.1, 0.5, 2.0, 10.0)
DECIDE = (0.5, 2.0)
N = 512  # sequences


def _run(lab: Laboratory) -> Finding:
    step = lab.judge(["md1"])["md1"]
    rows: dict[str, Row] = {f"bayes at α = {factor:g} α": {} for factor in FACTORS}
    for name in lab.tasks:
        task = lab.task(name)
        for length in lab.lengths:
            contexts = lab.cells(name)[length].contexts[:N]
            for factor, row in zip(FACTORS, rows.values(), strict=True):
                wrong = replace(task, concentration=factor * task.concentration)
                row[name, length] = lab.scored(name, length, Exact().next_token(wrong, contexts)[None])
    ratios = {factor: lab.ratio(row, step) for factor, row in zip(FACTORS, rows.values(), strict=True)}
    worst = max((ratios[factor] for factor in DECIDE), key=lambda ratio: ratio.value)
    return Finding(
        verdict=conjunction(lab.below(ratios[factor]) for factor in DECIDE),
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL of Bayes under the wrong prior over md1's, the worse of the two",
        seeds=None,
        says="Bayes under a prior whose α is wrong by a factor has this much of one step's excess KL: "
        + ", ".join(f"{ratio} at {factor:g}" for factor, ratio in ratios.items())
        + ".",
        rows=lab.numbers(rows | {"md1": step}),
        panels=panels(lab, rows | {"md1": step}, lab.small.name, ""),
    )


CLAIM = Claim(
    statement="A prior whose concentration is wrong by a factor of two costs less than stopping after one tuned step.",
    source=OURS,
    rule="holds if, at half and at twice α, the 95% interval of the ratio of excess KL to md1's lies below 1, fails "
    "if one lies above, else undecided",
    run=_run,
)
