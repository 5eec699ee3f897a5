"""An evaluation in shards is the same evaluation, and holds no more of it at a time."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mdbench
from mdbench.core.errors import PredictorError
from mdbench.core.statistics import Moments, mean_interval
from mdbench.evaluation import evaluation, outcome, streaming
from mdbench.evaluation.cell import Gold, cells
from mdbench.evaluation.results import Tally, score_cell

TASK = "mtd-q3-m2"
GIVEN = {"task": TASK, "lengths": [8, 16], "n_sequences": 1100, "seed": 5, "references": ()}


@pytest.fixture
def shards(monkeypatch):
    monkeypatch.setattr(streaming, "SHARD", 512)


@pytest.fixture
def kept_few(monkeypatch):
    for module in (evaluation, outcome, streaming):
        monkeypatch.setattr(module, "MOST_KEPT", 1000)


@pytest.fixture(scope="module")
def whole():
    return mdbench.evaluate(["md1", "oracle", "uniform", "trained_l3"], **GIVEN | {"lengths": [16]})


def test_moments_add_up_however_values_are_split():
    rng = np.random.default_rng(0)
    values = rng.gamma(0.2, size=1000) + 1e3  # a mean far above the spread: where a sum of squares would fail
    for _ in range(20):
        cuts = np.sort(rng.integers(1, 1000, 4))
        parts = [Moments.of(part) for part in np.split(values, cuts) if len(part)]
        found, whole = sum(parts[1:], parts[0]).interval, mean_interval(values)
        assert found.mean == pytest.approx(whole.mean, rel=1e-14)
        assert found.se == pytest.approx(whole.se, rel=1e-11)
    assert Moments.of(values).interval == whole
    infinite = Moments.of(values) + Moments.of(np.array([np.inf, 1.0]))
    assert (infinite.n, infinite.interval.mean, infinite.interval.se) == (1002, np.inf, None)
    assert np.isnan((infinite + Moments.of(np.array([-np.inf]))).mean)


@pytest.mark.usefixtures("shards")
def test_shards_come_to_the_whole(whole):
    found = mdbench.evaluate(["md1", "oracle", "uniform", "trained_l3"], **GIVEN | {"lengths": [16]})
    assert found.per_sequence.sort_values(["predictor", "sequence"], ignore_index=True).equals(
        whole.per_sequence.sort_values(["predictor", "sequence"], ignore_index=True)
    )
    for key, probs in whole.predictions.items():
        np.testing.assert_array_equal(found.predictions[key], probs)
    for a, b in zip(found.results, whole.results, strict=True):
        assert (a.predictor, a.n_sequences) == (b.predictor, 1100)
        for name, score in b.scores.items():
            if score is None:
                assert a.scores[name] is None
            else:
                assert a.scores[name].mean == pytest.approx(score.mean, rel=1e-12)
                assert a.scores[name].interval == pytest.approx(score.interval, rel=1e-12)
        assert a.runs == (None if b.runs is None else pytest.approx(b.runs, rel=1e-12))
        assert a.gold_error == (None if b.gold_error is None else pytest.approx(b.gold_error, rel=1e-12))
    assert [(t.predictors, t.length) for t in found.ties] == [(t.predictors, t.length) for t in whole.ties]
    between = whole.differences[TASK, 16].between("md1", "trained_l3")
    excess = whole.per_sequence.pivot(index="sequence", columns="predictor", values="excess_kl")
    assert between == mean_interval((excess["md1"] - excess["trained_l3"]).to_numpy())
    assert found.differences[TASK, 16].between("md1", "trained_l3").interval == pytest.approx(between.interval)


def test_what_noisy_gold_is_off_by_does_not_shrink_by_shards():
    """Equal contexts in two shards have one and the same error: it may not count as two."""
    (cell,) = cells(mdbench.load_task(TASK), [16], 64, 0)
    known = cell.known._replace(next_token_se=np.full((64, 3), 1e-3))
    twice = {f: np.concatenate([getattr(cell, f)] * 2) for f in ("contexts", "next_tokens")}
    noisy = replace(cell, **twice, known=Gold(*(np.concatenate([array] * 2) for array in known)))
    probs = np.full((1, 128, 3), 1 / 3)
    at_once = Tally(score_cell(noisy, probs)).result("uniform", TASK, 16, 0, "exact").gold_error
    by_shards = Tally(score_cell(noisy.first(64), probs[:, :64]))
    by_shards.add(Tally(score_cell(noisy.first(64), probs[:, 64:])))
    assert by_shards.result("uniform", TASK, 16, 0, "exact").gold_error == pytest.approx(at_once, rel=1e-12)
    assert at_once > 1e-4


@pytest.mark.usefixtures("shards", "kept_few")
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_of_many_sequences_go_to_a_file_alone(whole, tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    found = mdbench.evaluate(["md1", "oracle", "uniform", "trained_l3"], **GIVEN | {"lengths": [16]}, per_sequence=path)
    assert found.per_sequence is None
    assert found.predictions == {}
    written = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    order = ["predictor", "sequence"]
    pd.testing.assert_frame_equal(
        written.sort_values(order, ignore_index=True), whole.per_sequence.sort_values(order, ignore_index=True)
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    (compared,) = mdbench.compare("md1", "trained_l3", **{k: v for k, v in GIVEN.items() if k != "references"})
    assert compared.length == 16
    assert compared.difference == pytest.approx(
        whole.differences[TASK, 16].between("md1", "trained_l3").mean, rel=1e-12
    )


def test_a_table_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    for path, says in ((tmp_path / "x.txt", "written as .csv or .parquet"), (tmp_path / "no" / "x.csv", "no folder")):
        with pytest.raises(mdbench.InputError, match=says):
            mdbench.evaluate("uniform", **GIVEN, per_sequence=path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_begins_with_the_first_task_that_has_scores_and_is_not_replaced_by_a_failure(tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    given = {"lengths": [32], "n_sequences": 20, "references": (), "per_sequence": path}
    # No network was trained for the first task at that length.
    mdbench.evaluate(["trained_l6"], task=["mtd-q3-m2", "mtd-q5-m3"], **given)
    before = read(path)
    assert list(before["task"].unique()) == ["mtd-q5-m3"]
    assert list(before["sequence"]) == list(range(20))

    def fails(contexts):
        raise ValueError(len(contexts))

    with pytest.raises(PredictorError, match="fails"):
        mdbench.evaluate([fails], task=TASK, **given)
    pd.testing.assert_frame_equal(read(path), before)


@pytest.mark.usefixtures("shards")
def test_what_fails_in_a_later_shard_has_failed():
    calls = []

    def tires(contexts):
        calls.append(len(contexts))
        if len(calls) > 3:
            raise ValueError("tired")
        return np.full((len(contexts), 3), 1 / 3)

    found = mdbench.evaluate([tires, "uniform"], **GIVEN | {"lengths": [8]})
    assert [r.predictor for r in found.results] == ["uniform"]
    assert [f.predictor for f in found.failed] == ["tires"]
    assert "tired" in found.failed[0].reason
    assert len(calls) == 4  # it is not asked again
    assert ("tires", TASK, 8) not in found.predictions


@pytest.mark.usefixtures("shards", "kept_few")
def test_memory_does_not_grow_with_the_number_of_sequences():
    peaks = {}
    for n in (512, 1024, 5120):  # the first is not counted: it imports and compiles
        tracemalloc.start()
        mdbench.evaluate("uniform", **GIVEN | {"lengths": [16], "n_sequences": n, "cache": "none"})
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[5120] < 1.25 * peaks[1024]
