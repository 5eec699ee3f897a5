"""The loss that people use."""

from mdbench.claims.claim import Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="Three layers trained by cross-entropy predict at least as well as by squared error.",
    source="left open by arXiv 2604.10848; the same protocol with either loss",
    rule="holds if the 95% interval of the ratio of excess KL, cross_entropy_l3 over paper_l3 (mtd-q5-m3, T = 16), "
    "lies below {high}, fails if above, else undecided",
    run=lambda lab: compared(
        lab,
        ("cross_entropy_l3", "paper_l3"),
        ["trained_l3", "conditional_l3", "md1"],
        lambda ratio: lab.below(ratio, lab.ends[1]),
        tasks=[lab.small.name],
        lengths=[16],
    ),
)
