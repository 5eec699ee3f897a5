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
        rule: what the verdict goes by; ``{low}`` and ``{high}`` stand for the ends of the margin.
        run: the experiment.
    """

    statement: str
    source: str
    rule: str
    run: Callable[[Laboratory], Finding]


PAPER = "D'Angelo and Flammarion, arXiv 2604.10848"
OURS = "mdbench"
EACH = "in each task (all of core; --fast: mtd-q5-m3), over T = 16 to 128"
EQUALITY = (
    "holds if "
    + EACH
    + ", the 95% interval of the ratio of excess KL, {what}, lies within {{low}} .. {{high}}, fails if in one it lies "
    "outside, else undecided"
)
BETTER = (
    "holds if " + EACH + ", the 95% interval of the ratio of excess KL, {what}, lies below 1, fails if in one it lies "
    "above, else undecided"
)
