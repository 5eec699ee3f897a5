"""A claim that is sabotaged is decided otherwise; rules do what they say."""

import dataclasses
import functools

import numpy as np
import pytest

from mdbench.claims import predictions
from mdbench.claims.catalogue import claims_of
from mdbench.claims.laboratory import Laboratory, Ratio, conjunction
from mdbench.core.verdict import Verdict

HOLDS, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNDECIDED


class Small(Laboratory):
    """Short lengths."""

    def __init__(self, lengths=(16, 32), longest=64, **options):
        super().__init__(fast=True, **options)
        self.lengths, self.longest, self.n_sequences = list(lengths), longest, 512


class Mistaken(Small):
    """Where somebody was given another predictor's name."""

    def __init__(self, **instead):
        super().__init__()
        self.instead = instead

    def judge(self, names, tasks=None, lengths=None):
        rows = super().judge([self.instead.get(name, name) for name in names], tasks, lengths)
        return {name: rows[self.instead.get(name, name)] for name in names}


class OfOthers(Small):
    """Where every sequence has the λ of the next."""

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def cells(self, task):
        found = super().cells(task)
        theirs = {t: c.known._replace(theta=np.roll(c.theta, 1, axis=0)) for t, c in found.items()}
        return {t: dataclasses.replace(c, known=theirs[t]) for t, c in found.items()}


@functools.cache
def found(claim, laboratory=Small, **options):
    return claims_of([claim])[claim].run(laboratory(**options))


def test_one_step_is_not_two():
    assert found("one_step").verdict == HOLDS
    sabotaged = found("one_step", Mistaken, md1="md2")
    assert sabotaged.verdict == FAILS
    assert sabotaged.estimate > 1e-3


def test_weights_of_other_sequences_are_noticed(monkeypatch):
    monkeypatch.setattr(predictions, "NAMES", ["md1", "trained_l3", "paper_l3"])  # those that decide
    plain, sabotaged = found("predictions"), found("predictions", OfOthers)
    assert plain.verdict == FAILS  # trained networks are better than one step
    assert sabotaged.verdict == UNDECIDED
    assert sabotaged.estimate == pytest.approx(plain.estimate, rel=1e-12)  # excess KL is what does not ask for λ
    assert "standard errors" in sabotaged.says
    assert "standard errors" not in plain.says
    plain, sabotaged = (found("leaves_bayes", laboratory, longest=256) for laboratory in (Small, OfOthers))
    assert plain.verdict == HOLDS
    assert sabotaged.verdict != HOLDS
    assert abs(sabotaged.estimate) < plain.estimate / 2


@pytest.mark.parametrize(("margin", "verdict"), [(0.0, UNDECIDED), (4.0, HOLDS)])
def test_the_margin_decides_on_equality(margin, verdict):
    assert found("five_layers", lengths=(32, 64), margin=margin).verdict == verdict


def test_what_is_known_to_be_equal_is_not_without_a_margin():
    assert found("tied_steps").verdict == HOLDS
    assert found("tied_steps", margin=0.0).verdict != HOLDS


def test_equal_is_within_the_margin_and_not_merely_not_told_apart():
    lab = Laboratory(fast=True)
    for interval, verdict in (
        ((0.81, 1.24), HOLDS),
        ((0.79, 1.1), UNDECIDED),
        ((0.9, 1.3), UNDECIDED),
        ((0.1, 10.0), UNDECIDED),
        ((0.5, 0.79), FAILS),
        ((1.26, 3.0), FAILS),
    ):
        assert lab.equal(Ratio(1.0, interval)) == verdict, interval
    assert lab.equal(Ratio(1.0, None)) == UNDECIDED
    assert Laboratory(fast=True, margin=0.0).equal(Ratio(1.0, (0.99, 1.01))) == UNDECIDED


def test_below_is_the_whole_interval():
    for interval, verdict in (((0.5, 0.9), HOLDS), ((0.9, 1.1), UNDECIDED), ((1.1, 1.2), FAILS), (None, UNDECIDED)):
        assert Laboratory.below(Ratio(1.0, interval)) == verdict
    assert Laboratory.below(Ratio(1.0, (1.1, 1.2)), 1.25) == HOLDS


def test_one_part_that_fails_decides():
    assert conjunction([HOLDS, HOLDS]) == HOLDS
    assert conjunction([HOLDS, UNDECIDED]) == UNDECIDED
    assert conjunction([UNDECIDED, FAILS, HOLDS]) == FAILS


def test_the_ratio_of_a_row_to_itself_is_one_and_to_another_its_quotient():
    lab = Small()
    rows = lab.judge(["md1", "uniform"], lengths=[16])
    assert lab.ratio(rows["md1"], rows["md1"]).value == 1
    ratio = lab.ratio(rows["uniform"], rows["md1"])
    means = [row["mtd-q5-m3", 16].excess_kl.mean() for row in rows.values()]
    assert ratio.value == pytest.approx(means[1] / means[0], rel=1e-12)
    assert ratio.interval[0] < ratio.value < ratio.interval[1]


def test_a_predictor_has_no_cells_that_it_cannot_serve():
    assert set(Small().judge(["paper_l3"])["paper_l3"]) == {("mtd-q5-m3", 16)}
