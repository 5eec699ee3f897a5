"""More layers by explicit weights."""

from __future__ import annotations

from mdbench.claims.claim import EACH, OURS, Claim
from mdbench.claims.comparing import compared
from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory, conjunction, written

LESS_DEEP = (("constructed_l3_adaptive", "md1"), ("constructed_l4", "md1"), ("constructed_l5", "md2"))


def _run(lab: Laboratory) -> Finding:
    rows = lab.judge([name for pair in LESS_DEEP for name in pair])
    others = {pair: lab.by_task(rows[pair[0]], rows[pair[1]]) for pair in LESS_DEEP}
    more = "".join(f" {a} over {b}: {written(ratios)}." for (a, b), ratios in others.items())
    rest = conjunction(lab.below(ratio) for ratios in others.values() for ratio in ratios.values())
    return compared(
        lab, ("constructed_l7", "md5"), list(rows), lambda deepest: conjunction([lab.below(deepest), rest]), more=more
    )


CLAIM = Claim(
    statement="Explicit weights of 3, 4, 5 and 7 layers are nearer to Bayes than 1, 1, 2 and 5 tuned steps.",
    source=f"{OURS} (docs/constructions.md)",
    rule="holds if "
    + EACH
    + ", the 95% intervals of all four ratios of excess KL lie below 1, fails if one lies above, else undecided; the "
    "number is that of seven layers",
    run=_run,
)
