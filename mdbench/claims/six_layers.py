"""Is there a use for a sixth layer?"""

from mdbench.claims.claim import Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="A sixth layer gains nothing over five.",
    source="a reviewers' question on arXiv 2604.10848: other depths",
    rule="holds if the 95% interval of the ratio of excess KL, trained_l6 over trained_l5 (mtd-q5-m3, T = 32), lies "
    "above {low}, fails if below, else undecided",
    run=lambda lab: compared(
        lab,
        ("trained_l6", "trained_l5"),
        ["trained_l2", "trained_l3", "trained_l4", "md1", "md2", "md5"],
        lambda ratio: lab.above(ratio, lab.ends[0]),
        tasks=[lab.small.name],
        lengths=[32],
    ),
)
