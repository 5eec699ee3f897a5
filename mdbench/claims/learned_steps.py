"""Steps that are meta-trained through the unrolled algorithm."""

from __future__ import annotations

from mdbench.claims.claim import OURS, Claim
from mdbench.claims.comparing import compared
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory

LEARNED = "md_learned:steps=1,sizes=evidence"
LAW = "md1_adaptive"
BESIDE = [f"md_learned:steps={k},sizes={sizes}" for sizes in ("position", "evidence") for k in (1, 2, 5)]


def _run(lab: Laboratory) -> Finding:
    beside = [name for name in BESIDE if name != LEARNED] + ["md2", "md5"]
    rows = lab.judge([*beside, LEARNED, LAW])
    pairs = (
        ("md_learned:steps=2,sizes=evidence", "md2"),
        ("md_learned:steps=5,sizes=evidence", "md5"),
        ("md_learned:steps=2,sizes=position", "md2"),
    )
    more = "".join(f" {a} has {lab.ratio(rows[a], rows[b])} times {b}'s." for a, b in pairs)
    return compared(lab, (LEARNED, LAW), beside, lab.below, more=more)


CLAIM = Claim(
    statement="One step whose size is meta-trained as a function of S is nearer to Bayes than the law that has "
    "nothing tuned.",
    source=OURS,
    rule="holds if the 95% interval of the ratio of excess KL, learned over law (md1_adaptive), lies below 1, fails "
    "if above, else undecided",
    run=_run,
)
