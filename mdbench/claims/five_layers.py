"""Five layers against two steps."""

from mdbench.claims.claim import EQUALITY, PAPER, Claim
from mdbench.claims.comparing import compared

CLAIM = Claim(
    statement="Trained five-layer networks do what two steps of Mirror Descent do.",
    source=PAPER,
    rule=EQUALITY.format(what="trained_l5 over md2"),
    run=lambda lab: compared(lab, ("trained_l5", "md2"), ["md1", "md5"], lab.equal),
)
