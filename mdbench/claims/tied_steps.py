"""One size for all steps, or one for each."""

from mdbench.claims.claim import EQUALITY, Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="Two steps of one size do as well as two steps of sizes of their own.",
    source="a reviewers' question on arXiv 2604.10848: tied or free step sizes",
    rule=EQUALITY.format(what="md2 over md_learned:steps=2,sizes=step"),
    run=lambda lab: compared(
        lab, ("md2", "md_learned:steps=2,sizes=step"), ["md5", "md_learned:steps=5,sizes=step"], lab.equal
    ),
)
