"""What is said of something that was held to something."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """One word for each outcome, the same wherever people or files read it."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"  # it says nothing about this
    APPROXIMATE = "approximate"  # not on trial: nobody claims that it holds
    CANNOT_RERUN = "cannot be rerun"
    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"  # neither is shown
