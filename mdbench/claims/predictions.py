"""The main figure: who predicts how well, over the length of the context."""

from __future__ import annotations

from mdbench.claims.claim import EQUALITY, PAPER, Claim
from mdbench.claims.comparing import LABELS, several
from mdbench.claims.finding import Finding, Panel
from mdbench.claims.laboratory import SCALES, Laboratory, conjunction, furthest, written
from mdbench.core.verdict import Verdict

NAMES = [
    "md1",
    "md2",
    "md5",
    "constructed_l3",
    "trained_l3",
    "trained_l5",
    "standard_l3",
    "standard_l5",
    "paper_l3",
]  # fmt: skip
MOST_SE = 4.0  # that the two scales may differ by


def _run(lab: Laboratory) -> Finding:
    task = lab.small.name
    rows = lab.judge(NAMES, [task], [*lab.lengths, lab.longest])
    bayes = lab.bayes(task)
    trained, step = (lab.judge([name])[name] for name in ("trained_l3", "md1"))
    ratios, on_kl = (lab.by_task(trained, step, scale) for scale in SCALES[::-1])
    worst = furthest(ratios.values())
    longest = lab.ratio({(task, lab.longest): rows["trained_l3"][task, lab.longest]}, rows["md1"])
    own, own_kl = (lab.ratio(rows["paper_l3"], rows["md1"], scale) for scale in SCALES[::-1])
    off = lab.apart_from_gold(lab.judge(["uniform"], [task])["uniform"])  # which knows nothing that Bayes does not
    panels = []
    for scale in SCALES:
        curves = [lab.curve(name, row, task, scale, dashed=name.startswith("md")) for name, row in rows.items()]
        if scale == "kl":
            curves.insert(0, lab.curve("bayes", bayes, task, scale, dashed=True))
        title = "the paper's scale" if scale == "kl" else "the noise of λ integrated out"
        panels.append(Panel(f"{task}, {title}", "T", LABELS[scale], curves, log_x=2))
    disagree = f" The two scales disagree by {off:.1f} standard errors: these λ are not those of the sequences."
    return Finding(
        verdict=conjunction(map(lab.equal, ratios.values())) if off <= MOST_SE else Verdict.UNDECIDED,
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL of trained_l3 over md1's, in the task where it is furthest from 1",
        seeds=several(trained),
        says=f"Excess KL of trained networks over one step's: {written(ratios)} (T = "
        f"{', '.join(map(str, lab.lengths))}), and {longest} at T = {lab.longest} of {task}; KL to the truth: "
        f"{written(on_kl)}. By the paper's own protocol (paper_l3, T = 16 of {task}): excess KL {own}, KL {own_kl}."
        + (disagree if off > MOST_SE else ""),
        rows=lab.numbers({"bayes": bayes, **rows}),
        panels=panels,
    )


CLAIM = Claim(
    statement="Trained three-layer networks predict as one step of Mirror Descent does.",
    source=f"{PAPER}, the main figure",
    rule=EQUALITY.format(what="trained_l3 over md1")
    + "; undecided, too, if KL and excess KL of `uniform` disagree by more than 4 standard errors",
    run=_run,
)
