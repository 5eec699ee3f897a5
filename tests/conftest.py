"""What all tests share: tasks, commands in this process, and a cache folder that no other run sees."""

import contextlib
import functools
import inspect
import io
import itertools
import os
import sys
import types
from fractions import Fraction
from typing import NamedTuple

import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from hypothesis import HealthCheck, settings

_jaxtyped, CHECKED_CALLS = jaxtyping.jaxtyped, 500


def _jaxtyped_for_some_calls(*, typechecker):
    """Each function is checked that many times: a training step alone makes a thousand calls in a second.

    A function within a function is not: it is made anew at each call, and preparing the check costs a millisecond.
    """

    def decorate(what):
        if "<locals>" in getattr(what, "__qualname__", ""):
            return what
        if not inspect.isfunction(what):
            return _jaxtyped(what, typechecker=typechecker)
        calls = itertools.count()
        checked = functools.cache(lambda: _jaxtyped(what, typechecker=typechecker))  # most are never called here

        @functools.wraps(what)
        def call(*arguments, **options):
            return (checked() if next(calls) < CHECKED_CALLS else what)(*arguments, **options)

        return call

    return decorate


# Every function and method of mdbench is held to its annotations, shapes too, by whatever test calls it; an int is a
# float.
sys.modules["mdbench_typechecker"] = types.SimpleNamespace(check=beartype(conf=BeartypeConf(is_pep484_tower=True)))
jaxtyping.jaxtyped = _jaxtyped_for_some_calls
jaxtyping.install_import_hook("mdbench", "mdbench_typechecker.check")

from mdbench import cli  # noqa: E402
from mdbench.tasks import MTD, load_task  # noqa: E402

# Examples of each property: few in `make test`, many in .ci/run (`--hypothesis-profile=ci`); the same every time.
for _profile, _n in (("default", 22), ("ci", 220)):
    settings.register_profile(
        _profile,
        max_examples=_n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """One for all workers of a run; compiled code alone is kept where it always is."""
    base = tmp_path_factory.getbasetemp()
    patch = pytest.MonkeyPatch()
    patch.setenv("MDBENCH_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mdbench-cache"))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _wrong_types(request):
    """What a person may give by mistake must meet our sentences, not the checker's."""
    off = request.node.get_closest_marker("wrong_types") is not None
    jaxtyping.config.update("jaxtyping_disable", off)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Ran(NamedTuple):
    """A command that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run():
    """Run a command in this process: ``run("evaluate", "--predictor", "md1").code``."""

    def run(*arguments):
        out, err, code = io.StringIO(), io.StringIO(), 0
        before, sys.argv = sys.argv, ["mdbench", *map(str, arguments)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.argv = before
            sys.stdout.write(out.getvalue())  # for whoever reads a failed test
            sys.stderr.write(err.getvalue())
        return Ran(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def make_records(run):
    """Record predictors in a leaderboard's folder: ``make_records(folder, "md1", lengths="16", n=40)``; their paths."""

    def make_records(folder, *predictors, lengths="16,32", n=40, task="mtd-q3-m2"):
        names = [part for p in predictors for part in ("--predictor", p)]
        options = ("--task", task, "--lengths", lengths, "--n-sequences", n, "--no-references", "--leaderboard", folder)
        assert run("evaluate", *names, *options, "--record").code == 0
        return [folder / "records" / task / f"{p.replace(':', '+')}.json" for p in predictors]

    return make_records


@pytest.fixture(params=["mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4"])
def core_task(request):
    """Each task of the suite ``core``."""
    return load_task(request.param)


@pytest.fixture
def zeros_task():
    """A task whose π has zeros."""
    return MTD("zeros", np.array([[0.5, 0.5, 0.0], [0.0, 0.3, 0.7], [0.9, 0.0, 0.1]]), order=2)


@pytest.fixture(scope="session")
def by_enumeration():
    """E[λ], E[λ²] and evidence from all m^n assignments of lags, as fractions: ``by_enumeration(x, alpha)``."""

    def by_enumeration(x, alpha):
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

    return by_enumeration
