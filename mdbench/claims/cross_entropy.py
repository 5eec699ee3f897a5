"""The loss that people use."""

from mdbench.claims.claim import EQUALITY, Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="Three layers trained by cross-entropy predict as well as by squared error.",
    source="left open by arXiv 2604.10848; the same protocol with either loss",
    rule=EQUALITY.format(what="the ratio of excess KL, cross_entropy_l3 over paper_l3, at T = 16"),
    run=lambda lab: compared(
        lab,
        ("cross_entropy_l3", "paper_l3"),
        ["trained_l3", "conditional_l3", "md1"],
        lab.equal,
        tasks=[lab.small.name],
        lengths=[16],
    ),
)
