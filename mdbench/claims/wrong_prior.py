"""Bayes with another prior than the sequences have."""

from __future__ import annotations

from dataclasses import replace

from mdbench.baselines import Exact
from mdbench.claims.claim import EACH, OURS, Claim
from mdbench.claims.comparing import panels
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory, Row, conjunction, furthest, written

FACTORS = (0.1, 0.5, 2.0, 10.0)
DECIDE = (0.5, 2.0)
N = 512  # sequences


def _run(lab: Laboratory) -> Finding:
    step = {place: judged.first(N) for place, judged in lab.judge(["md1"])["md1"].items()}
    rows: dict[str, Row] = {f"bayes at α = {factor:g} α": {} for factor in FACTORS}
    for name in lab.tasks:
        task = lab.task(name)
        for length in lab.lengths:
            contexts = lab.cells(name)[length].contexts[:N]
            for factor, row in zip(FACTORS, rows.values(), strict=True):
                wrong = replace(task, concentration=factor * task.concentration)
                row[name, length] = lab.scored(name, length, Exact().next_token(wrong, contexts)[None])
    ratios = {factor: lab.by_task(row, step) for factor, row in zip(FACTORS, rows.values(), strict=True)}
    decisive = [ratio for factor in DECIDE for ratio in ratios[factor].values()]
    worst = furthest(decisive)
    return Finding(
        verdict=conjunction(map(lab.below, decisive)),
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL of Bayes under the wrong prior over md1's, where it is furthest from 1",
        seeds=None,
        says="Excess KL of Bayes under a prior whose α is wrong by a factor, over one step's: "
        + "; ".join(f"factor {factor:g}: {written(of_tasks)}" for factor, of_tasks in ratios.items())
        + f" ({N} sequences a cell).",
        rows=lab.numbers(rows | {"md1": step}),
        panels=panels(lab, rows | {"md1": step}, lab.small.name, ""),
    )


CLAIM = Claim(
    statement="A prior whose concentration is wrong by a factor of two costs less than stopping after one tuned step.",
    source=OURS,
    rule="holds if "
    + EACH
    + ", at half and at twice α, the 95% interval of the ratio of excess KL to md1's lies below 1, fails if one lies "
    "above, else undecided",
    run=_run,
)
