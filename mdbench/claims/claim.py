"""What a claim is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mdbench.claims.finding import Finding
from mdbench.claims.laboratory import Laboratory


@dataclass(frozen=True)
class Claim:
    """A statement that an experiment can decide.

    Attributes:
        statement: a sentence.
        source: who says so, and where.
        rule: what the verdict goes by; written before the experiment was run.
        run: the experiment.
    """

    statement: str
    source: str
    rule: str
    run: Callable[[Laboratory], Finding]


PAPER = "D'Angelo and Flammarion, arXiv 2604.10848"
OURS = "mdbench"
EQUALITY = (
    "holds if the 95% interval of {what}, lies within the margin (0.8 to 1.25 unless another is given), fails if it "
    "lies outside, else undecided"
)
