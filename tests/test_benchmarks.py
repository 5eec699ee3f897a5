"""The arithmetic and the rules of `make bench`. How fast anything is, no test says."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mdbench.core.errors import InputError

FOLDER = Path(__file__).parent / "benchmarks"
MODULES = ("measuring", "report", "bench", "exact", "harness", "training")


@pytest.fixture(scope="module")
def scripts():
    """Modules of tests/benchmarks, as the scripts there import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES[:3]})
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture
def run_with(scripts):
    """A run of these rows."""

    def run_with(*rows):
        machine = scripts.report.Machine("a processor", 2, 8, "Linux x86_64")
        return scripts.report.Run(
            "2026-01-01T00:00:00+00:00", "abc", machine, {"python": "3"}, 0.0, 1.0, {"a": [*rows]}
        )

    return run_with


def test_a_power_law_has_its_exponent_whatever_the_speed_of_each_round(scripts):
    sizes, speed = np.array([16, 32, 64, 256]), np.array([1.0, 2.0, 0.5, 1.3])
    for power in (-1.0, 0.0, 2.5):
        row = scripts.measuring.fit_growth("f", sizes, 3e-4 * sizes[:, None] ** power * speed)
        np.testing.assert_allclose([row.value, row.low, row.high, *row.repeats], power, atol=1e-12)
    row = scripts.measuring.fit_growth("f", [2, 3, 4, 5], 0.1 * 7.0 ** np.arange(4)[:, None] * speed, "factor")
    np.testing.assert_allclose([row.value, row.low, row.high, *row.repeats], 7, rtol=1e-12)


def test_intervals_cover_as_often_as_they_say(scripts):
    rng = np.random.default_rng(0)
    n, sizes = 200, np.array([16, 32, 64, 128])
    growths = [scripts.measuring.fit_growth("f", sizes, np.exp(rng.normal(0, 0.2, (4, 1)))) for _ in range(n)]
    covered = np.mean([row.low <= 0 <= row.high for row in growths])
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n)
    rounds = scripts.measuring.ROUNDS
    times = np.exp(rng.normal(0, 0.2, (n, 2, rounds)) + rng.normal(0, 2, (n, 1, rounds)))  # a slow round slows both
    ratios = [scripts.measuring.ratio("f", above, below) for above, below in times[:60]]
    nominal = 1 - 2 * stats.binom.cdf(0, rounds, 0.5)  # of the range of seven: 98.4%
    covered = np.mean([row.low <= 1 <= row.high for row in ratios])
    assert abs(covered - nominal) < 3 * np.sqrt(nominal * (1 - nominal) / 60)


def test_work_is_timed_in_turn_after_a_call_that_does_not_count(scripts, monkeypatch):
    done, clock = [], iter(np.cumsum([0, 1, 0, 2, 0, 3, 0, 4.0]))
    monkeypatch.setattr(scripts.measuring.time, "perf_counter", lambda: next(clock))
    seconds = scripts.measuring.in_turn(lambda: done.append("a"), lambda: done.append("b"), rounds=2)
    assert "".join(done) == "ab" + "ab" + "ab"
    assert seconds.tolist() == [[1, 3], [2, 4]]


def test_what_is_short_is_done_many_times_over(scripts, monkeypatch):
    done, tick = [], scripts.measuring.LEAST_SECONDS / 4
    monkeypatch.setattr(scripts.measuring.time, "perf_counter", lambda: len(done) * tick)
    assert scripts.measuring.in_turn(lambda: done.append("a"), rounds=2).tolist() == [[tick, tick]]
    assert len(done) == 1 + 4 + 4


def rounds_of(scripts, rng, name, median, noise, unit="ratio"):
    """A row as measured: of exponents the noise is added, of ratios it is a factor."""
    z = noise * rng.normal(size=scripts.measuring.ROUNDS)
    repeats = median + z if unit == "exponent" else median * np.exp(z)
    return scripts.measuring.Row(name, unit, float(np.median(repeats)), min(repeats), max(repeats), tuple(repeats))


def test_noise_is_called_noise(scripts, run_with):
    """All rows of a run together err in at most 5% of runs, however noisy they are."""
    rng, n, figures = np.random.default_rng(1), 20, [f"f{k}" for k in range(16)]
    runs = [[run_with(*(rounds_of(scripts, rng, f, 3, 0.3) for f in figures)) for _ in range(2)] for _ in range(n)]
    wrong = [any(c.changed for c in scripts.report.changes(*pair).values()) for pair in runs]
    assert sum(wrong) <= 3  # at most one is expected; without Holm's correction eleven


def test_a_run_that_differs_as_a_whole_by_a_few_percent_is_noise(scripts, run_with):
    rng = np.random.default_rng(2)
    old, new = (rounds_of(scripts, rng, "f", median, 0.002) for median in (1.0, 1.06))
    (change,) = scripts.report.changes(run_with(old), run_with(new)).values()
    assert change.p < 0.001
    assert change.verdict == "noise"


@pytest.mark.parametrize(("unit", "before", "after"), [("ratio", 3, 3.9), ("factor", 9, 6.3), ("exponent", 0.9, 1.2)])
def test_a_change_of_30_percent_is_seen_and_no_other(scripts, run_with, unit, before, after):
    rng = np.random.default_rng(3)
    still = [[rounds_of(scripts, rng, f"f{k}", 3, 0.05) for k in range(30)] for _ in range(2)]
    old, new = (rounds_of(scripts, rng, "planted", median, 0.05, unit) for median in (before, after))
    found = scripts.report.changes(run_with(*still[0], old), run_with(*still[1], new))
    assert [name for name, change in found.items() if change.changed] == ["planted"]
    assert "changed" in scripts.report.table(run_with(*still[1], new), found).splitlines()[-1]


def test_what_was_not_measured_before_is_new_and_another_machine_is_not_compared(scripts, run_with):
    rng = np.random.default_rng(4)
    old, new = (rounds_of(scripts, rng, name, 1, 0.1) for name in ("old", "new"))
    now = run_with(old, new)
    found = scripts.report.changes(run_with(old), now)
    assert [*found] == ["old"]
    assert scripts.report.table(now, found).endswith("|  |  | new |")
    elsewhere = replace(run_with(old), machine=replace(now.machine, cores=16))
    with pytest.raises(InputError, match=r"another machine \(a processor, 16 cores, .*nothing is compared"):
        scripts.report.changes(elsewhere, now)


def test_a_goal_is_met_by_the_whole_interval_missed_by_all_of_it_and_open_between(scripts):
    row = scripts.measuring.Row("f", "ratio", 2, 1, 3, (2.0,))
    for at, least, most in ((0.5, "met", "missed"), (2, "open", "open"), (4, "missed", "met")):
        assert scripts.report.goal(replace(row, at_least=at)) == f"at least {at:g}: {least}"
        assert scripts.report.goal(replace(row, at_most=at)) == f"at most {at:g}: {most}"
    assert scripts.report.goal(row) == ""


def test_the_committed_page_shows_the_committed_run(scripts):
    """docs/performance.md and tests/benchmarks/bench.json are made by `tests/benchmarks/bench.py --write`."""
    page, run = scripts.report.PAGE.read_text(encoding="utf-8"), scripts.report.read_run(scripts.report.STORED)
    assert scripts.report.on_page(page, run) == page
    assert scripts.report.table(run) in page
    assert [*run.rows] == [*scripts.bench.BENCHMARKS]
    assert len(run.by_figure) == sum(map(len, run.rows.values()))
    for row in run.by_figure.values():
        assert row.low <= row.value <= row.high
        assert len(row.repeats) >= scripts.measuring.ROUNDS


def test_a_run_that_was_not_alone_says_so(scripts, run_with):
    assert "idle" not in scripts.report.about(run_with())
    assert scripts.report.about(replace(run_with(), busy=0.3)).endswith("not the figures of an idle machine.")


def test_a_run_comes_back_from_its_file_and_a_damaged_file_is_named(scripts, run_with, tmp_path):
    run = run_with(rounds_of(scripts, np.random.default_rng(5), "f", 1e-3, 0.1))
    (tmp_path / "bench.json").write_text(scripts.report.to_json(run))
    assert scripts.report.read_run(tmp_path / "bench.json") == run
    (tmp_path / "bench.json").write_text('{"date": 3}')
    with pytest.raises(InputError, match=r"is no stored run of the benchmarks \(date: .*--write"):
        scripts.report.read_run(tmp_path / "bench.json")


@pytest.fixture
def bench(scripts, monkeypatch, tmp_path, capsys):
    """Call the command, with what each benchmark finds: ``bench(found, "--json")``; its code, stdout and stderr."""
    (tmp_path / "performance.md").write_text("before\n<!-- bench -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(scripts.report, "STORED", tmp_path / "bench.json")
    monkeypatch.setattr(scripts.report, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(scripts.report, "share_taken", lambda: 0.4)

    def call(found, *arguments):
        monkeypatch.setattr(scripts.bench, "alone", lambda _function, name: found(name))
        monkeypatch.setattr(sys, "argv", ["bench.py", *arguments])
        try:
            scripts.bench.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


def test_a_run_is_stored_shown_and_compared(scripts, bench, tmp_path):
    rng = np.random.default_rng(6)
    rows = {name: [rounds_of(scripts, rng, f"of {name}", 2, 0.1)] for name in scripts.bench.BENCHMARKS}
    code, out, err = bench(rows.get, "--write")
    assert code == 0
    assert "Others took 40% of the cores" in err
    page = (tmp_path / "performance.md").read_text()
    assert page.startswith("before\n") and page.endswith("\n<!-- end -->\nafter\n") and "old" not in page  # noqa: PT018
    assert " ".join(out.split()) in " ".join(page.split())  # nothing was stored, so that nothing is compared
    code, out, _ = bench(rows.get, "--json", "--only", "start", "nuts")
    printed = json.loads(out)
    assert [*printed["rows"]] == ["start", "nuts"]
    assert printed["against_stored"]["of start"] == {"before": rows["start"][0].value, "p": 1.0, "changed": False}
    (tmp_path / "performance.md").write_text("<!-- bench -->\n\n<!-- end -->\n")
    assert bench(None, "--page") == (0, "", "")
    assert "of training" in (tmp_path / "performance.md").read_text()


def test_one_that_fails_costs_no_other_its_figures_and_stores_nothing(scripts, bench, tmp_path):
    def found(name):
        if name == "jax":
            raise AssertionError("logsumexp errs by 1e-02")
        return [scripts.measuring.Row(f"of {name}", "ratio", 2, 1, 3, (2.0,) * 7)]

    code, out, err = bench(found, "--write")
    assert code == 1
    assert "jax failed: AssertionError: logsumexp errs by 1e-02" in err
    assert len(out.splitlines()) == 2 + len(scripts.bench.BENCHMARKS) - 1 + 2
    assert not (tmp_path / "bench.json").exists()
    code, out, err = bench(found, "--write", "--only", "nuts")
    assert (code, out) == (2, "")
    assert "leave out --only" in err


@pytest.mark.slow
def test_every_benchmark_still_runs(scripts, monkeypatch):
    """On few sequences; training's takes minutes, and its parts are tested where they stand."""
    exact, harness = map(importlib.import_module, ("exact", "harness"))
    for module, name, small in (
        (exact, "N_EXACT", 64),
        (exact, "N_PLAIN", 32),
        (exact, "N_URN", 8),
        (exact, "N_NUTS", 64),
        (exact, "SIDE", 256),
        (harness, "N", 256),
        (scripts.measuring, "LEAST_SECONDS", 1e-9),
    ):
        monkeypatch.setattr(module, name, small)
    figures = []
    for name, (module, _) in scripts.bench.BENCHMARKS.items():
        if name not in ("training", "growth"):
            assert module in MODULES
            figures += [row.figure for row in scripts.bench.rows_of(name)]
    stored = scripts.report.read_run(scripts.report.STORED)
    without = [row.figure for name, rows in stored.rows.items() for row in rows if name not in ("training", "growth")]
    assert [f.split(",")[0] for f in figures] == [f.split(",")[0] for f in without]
