"""Shared fixtures: tasks, and a cache folder that no other run sees; compiled code alone is kept where it always is."""

import itertools
import os
from fractions import Fraction

import numpy as np
import pytest

from mdbench.tasks import MTD, load_task, sample


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """One for all workers of a run: what one has computed, no other computes."""
    base = tmp_path_factory.getbasetemp()
    patch = pytest.MonkeyPatch()
    patch.setenv("MDBENCH_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mdbench-cache"))
    yield
    patch.undo()


@pytest.fixture(params=["mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4"])
def core_task(request):
    return load_task(request.param)


@pytest.fixture
def zeros_task():
    """A task whose π has zeros."""
    return MTD("zeros", np.array([[0.5, 0.5, 0.0], [0.0, 0.3, 0.7], [0.9, 0.0, 0.1]]), order=2)


def contexts_of(task, length, n, seed=0):
    """Evaluation contexts as predictors get them."""
    return sample(task, length, n, seed).tokens[:, :-1].astype(np.int64)


def relabelled(task, order):
    """The task after a permutation of its states: new state k is the old state ``order[k]``."""
    return MTD("relabelled", task.transition[np.ix_(order, order)], task.order, task.concentration)


def by_enumeration(x, alpha):
    """E[λ], E[λ²] and evidence from all m^n assignments of lags, as fractions."""
    n, m = x.shape
    likelihood = [[Fraction(value) for value in row] for row in x.tolist()]
    evidence, first, second = Fraction(0), [Fraction(0)] * m, [Fraction(0)] * m
    for lags in itertools.product(range(m), repeat=n):
        counts, mass = [alpha] * m, Fraction(1)
        for t, g in enumerate(lags):
            mass *= counts[g] / (m * alpha + t) * likelihood[t][g]
            counts[g] += 1
        evidence += mass
        for g, a in enumerate(counts):
            first[g] += mass * a / (m * alpha + n)
            second[g] += mass * a * (a + 1) / ((m * alpha + n) * (m * alpha + n + 1))
    return [f / evidence for f in first], [s / evidence for s in second], evidence
