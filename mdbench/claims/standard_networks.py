"""Networks as people use them."""

from mdbench.claims.claim import EQUALITY, Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="Standard transformers (several heads, an MLP, normalised) of three layers predict as one step does.",
    source="a reviewers' question on arXiv 2604.10848: other architectures",
    rule=EQUALITY.format(what="standard_l3 over md1"),
    run=lambda lab: compared(lab, ("standard_l3", "md1"), ["standard_l5", "trained_l3", "md2"], lab.equal),
)
