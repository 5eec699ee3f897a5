"""Validation passes what is right and catches planted faults, at half the sizes of `mdbench baseline validate`."""

import functools
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from mdbench.baselines import GATED, Baseline, Exact, Urn
from mdbench.baselines.catalogue import build_baseline
from mdbench.baselines.gates import from_draws
from mdbench.baselines.posterior import Draws
from mdbench.core.errors import InputError
from mdbench.core.statistics import holm
from mdbench.pages.validation import render
from mdbench.posteriors import validation
from mdbench.posteriors.validation import accuracy, calibration, judge, rank, validate
from mdbench.tasks import MTD, DirichletMixture, load_task

TASK = load_task("mtd-q5-m3")


@dataclass(frozen=True)
class Planted(Baseline[DirichletMixture]):
    """Four chains of independent draws from the exact posterior, with a fault planted."""

    name: ClassVar[str] = "nuts"
    standing: ClassVar[str] = GATED
    fault: str | None = None

    def posterior(self, task, contexts, lengths=None, progress=None):  # noqa: ARG002
        fault = self.fault
        n_draws = 20 if fault == "few draws" else 500
        model = MTD("wrong", task.transition, task.order, 1.5) if fault == "wrong prior" else task
        weights = Urn(draws=4 * n_draws).posterior(model, contexts).draws.weights
        weights = weights.reshape(4, n_draws, *weights.shape[2:])
        if fault == "swapped lags":
            weights = weights[..., [1, 0, 2]]
        if fault == "never moves":
            weights = np.broadcast_to(Exact().posterior(task, contexts).mean, weights.shape)
        if fault == "ignores the data":
            weights = np.random.default_rng(0).dirichlet(np.ones(task.order), weights.shape[:-1])
        if fault == "too narrow":
            mean = weights.mean(axis=(0, 1))
            weights = mean + 0.8 * (weights - mean)
        return from_draws("nuts", task, np.asarray(contexts), (contexts.shape[1],), Draws(weights))


@functools.cache
def judged(fault):
    """(accuracy, calibration, verdict) of a planted fault."""
    ran = accuracy(Planted(fault), TASK, 64, 128, 0), calibration(Planted(fault), TASK, 32, 500, 0)
    return *ran, *judge(ran[:1], ran[1:])


@pytest.mark.slow
def test_an_honest_sampler_passes():
    of_accuracy, of_calibration, verdict = judged(None)
    assert verdict.verdict == "pass"
    assert verdict.reasons == ()
    assert 0.9 < of_accuracy.z_sd < 1.1
    assert sum(of_accuracy.z) == 3 * 128
    assert [sum(ranks) for ranks in of_calibration.ranks] == [500] * 4


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        pytest.param("swapped lags", ["z-scores", "ranks"], marks=pytest.mark.slow),
        pytest.param("wrong prior", ["z-scores", "ranks"], marks=pytest.mark.slow),
        pytest.param("few draws", ["gates"], marks=pytest.mark.slow),
        ("never moves", ["gates", "z-scores", "ranks"]),
        pytest.param("too narrow", ["ranks"], marks=pytest.mark.slow),
        # Its ranks of λ are uniform, since the prior is calibrated on average over the data.
        pytest.param("ignores the data", ["z-scores", "ranks of log likelihood"], marks=pytest.mark.slow),
    ],
)
def test_planted_faults_are_caught(fault, caught_by):
    verdict = judged(fault)[-1]
    assert verdict.verdict == "fail"
    for what in caught_by:
        assert any(what in reason for reason in verdict.reasons), (what, verdict.reasons)


def test_exact_methods_are_held_to_their_bounds():
    class Wrong(Urn):
        def posterior(self, task, contexts, lengths=None, progress=None):
            found = super().posterior(task, contexts, lengths, progress)
            found.mean[5, 0, 0] += 1e-9
            return found

    assert judge([accuracy(Urn(), TASK, 32, 20, 0)], [])[0].verdict == "pass"
    verdict = judge([accuracy(Wrong(), TASK, 32, 20, 0)], [])[0]
    assert verdict.verdict == "fail"
    assert "1 sequences are further from exact" in verdict.reasons[0]


def test_approximations_never_pass():
    ran = accuracy(build_baseline("laplace"), TASK, 32, 20, 0)
    assert [verdict.verdict for verdict in judge([ran], [])] == ["approximate"]


def test_rank_counts_draws_below_and_breaks_ties_at_random():
    draws = np.array([[0.1, 0.5], [0.2, 0.5], [0.9, 0.5]])
    assert rank(np.array([0.5, 0.4]), draws, 0).tolist() == [2, 0]
    ties = rank(np.full(4000, 0.5), np.full((3, 4000), 0.5), 0)
    assert stats.chisquare(np.bincount(ties, minlength=4)).pvalue > 1e-4


def test_thinned_draws_come_from_all_chains():
    weights = np.arange(4 * 100, dtype=float).reshape(4, 100, 1, 1, 1)
    found = validation.thinned(from_draws_stub(weights))[:, 0, 0]
    assert len(found) == validation.RANK_DRAWS
    assert (found[0], found[-1]) == (0, 399)
    assert (np.diff(found) >= 6).all()
    with pytest.raises(InputError, match="needs 63 draws"):
        validation.thinned(from_draws_stub(weights[:, :10]))


def from_draws_stub(weights):
    from mdbench.baselines import Posterior

    return Posterior("stub", (3,), weights.mean(axis=(0, 1)), weights.std(axis=(0, 1)), draws=Draws(weights))


def test_holm_by_hand():
    """Holm (1979): sorted p times n, n-1, .., never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path))
    options = {
        "tasks": ["mtd-q3-m2"],
        "methods": ["urn", "laplace"],
        "n_sequences": 20,
        "n_simulations": 80,
        "length": 12,
        "calibration_length": 8,
    }
    ran = []
    run_calibration = validation.calibration

    def calibration(method, *arguments):
        ran.append(method.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run_calibration(method, *arguments)

    monkeypatch.setattr(validation, "calibration", calibration)
    with pytest.raises(KeyboardInterrupt):
        validate(**options)
    resumed = validate(**options)
    assert ran == ["urn", "laplace", "laplace"]
    assert validate(**options).calibrations == resumed.calibrations
    assert len(ran) == 3
    fresh = validate(**options, cache=False)
    assert ran[3:] == ["urn", "laplace"]
    assert [c.p for c in resumed.calibrations] == [c.p for c in fresh.calibrations]
    assert [a.rms_error for a in resumed.accuracies] == [a.rms_error for a in fresh.accuracies]
    for part in tmp_path.rglob("validation/*.cell"):
        part.write_text("{")  # damaged: done again
    assert validate(**options).verdicts == fresh.verdicts
    assert len(ran) == 7


def test_the_page_is_self_contained_and_escaped():
    odd = MTD("<script>alert(1)</script>".replace("/", "|"), TASK.transition, 3)
    ran = accuracy(Planted(), odd, 16, 20, 0), calibration(Planted(), odd, 16, 64, 0)
    whole = validation.Validation([ran[0]], [ran[1]], judge(ran[:1], ran[1:]))
    page = render(whole, "mdbench baseline validate --task '<x>'")
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<svg") == 1 + 4
    assert json.loads(whole.to_json())["verdicts"][0]["method"] == "nuts"


def test_bad_arguments():
    with pytest.raises(InputError, match="no baseline 'nut'; did you mean"):
        validate(methods=["nut"])
    with pytest.raises(InputError, match="plain names"):
        validate(methods=["nuts:draws=5"])
    with pytest.raises(InputError, match="at least 2"):
        validate(methods=["urn"], n_sequences=1)
