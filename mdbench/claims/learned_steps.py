"""Steps that are meta-trained through the unrolled algorithm."""

from __future__ import annotations

from mdbench.claims.claim import BETTER, OURS, Claim
from mdbench.claims.comparing import compared
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory, written

LEARNED = "md_learned:steps=1,sizes=evidence"
LAW = "md1_adaptive"
PAIRS = (
    ("md1", LAW),  # of one step, sizes by step are the tuned one
    ("md_learned:steps=1,sizes=position", LAW),
    ("md_learned:steps=2,sizes=position", "md2"),
    ("md_learned:steps=5,sizes=position", "md5"),
    ("md_learned:steps=2,sizes=evidence", "md2"),
    ("md_learned:steps=5,sizes=evidence", "md5"),
)


def _run(lab: Laboratory) -> Finding:
    beside = [*dict.fromkeys(name for pair in PAIRS for name in pair if name != LAW)]
    rows = lab.judge([*beside, LAW])
    more = "".join(f" {a} over {b}: {written(lab.by_task(rows[a], rows[b]))}." for a, b in PAIRS)
    return compared(lab, (LEARNED, LAW), beside, lab.below, more=more)


CLAIM = Claim(
    statement="A step whose size is meta-trained as a function of S is nearer to Bayes than the law with nothing "
    "tuned.",
    source=OURS,
    rule=BETTER.format(what=f"{LEARNED} over {LAW}"),
    run=_run,
)
