"""Snapshots: the parameters of a step, kept through interruptions, and no number of the run depends on them."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from mdbench.core.errors import InputError, Unsupported
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.snapshots import SNAPSHOTS, Snapshots, snapshot_steps
from mdbench.predictors.training_config import TrainingConfig
from mdbench.tasks import load_task, sample
from mdbench.training import trainer
from mdbench.training.run import train

TASK = load_task("mtd-q3-m2")
CONFIG = TrainingConfig(length=6, depth=2, steps=400, batch=4, candidates=2)


class Stop(Exception):
    pass


def stop_after(steps):
    done = 0

    def progress(k):
        nonlocal done
        done += k
        if done >= steps:
            raise Stop

    return progress


def test_steps_are_at_equal_ratios():
    assert snapshot_steps(0, 10_000) == []
    assert snapshot_steps(1, 10_000) == [0, 10_000]
    assert snapshot_steps(3, 10_000) == [0, 1, 100, 10_000]
    assert snapshot_steps(50, 4) == [0, 1, 2, 3, 4]
    for n in (-1, True, 10**6):
        with pytest.raises(InputError, match="snapshots must be a whole number from 0 to 1000"):
            snapshot_steps(n, 100)


def test_snapshots_change_nothing_and_end_where_the_run_does(tmp_path):
    (plain,) = train(TASK, CONFIG, tmp_path / "plain")
    (run,) = train(TASK, CONFIG, tmp_path / "run", snapshots=9)
    assert (plain / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    assert not (plain / SNAPSHOTS).exists()
    assert Snapshots.of(run).steps == [0, 1, 2, 4, 9, 20, 42, 89, 189, 400]
    contexts = sample(TASK, 6, 20, seed=0).contexts
    last, whole, first = (build_predictor(f"run:{run}{at}", TASK).predict(contexts) for at in ("@400", "", "@0"))
    np.testing.assert_allclose(last, whole, atol=2e-2)  # float16
    assert np.abs(first - whole).max() > 0.1
    weights, vector = load_file(run / "weights.safetensors"), load_file(run / SNAPSHOTS)["snapshot 400"]
    np.testing.assert_allclose(
        np.sort(np.concatenate([w.numpy().ravel() for w in weights.values()])),
        np.sort(vector.float().numpy()),
        rtol=1e-3,
        atol=1e-6,
    )


def test_a_run_under_way_has_those_that_it_took(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    (unbroken,) = train(TASK, CONFIG, tmp_path / "unbroken", snapshots=9)
    for steps in (100, 300):  # among candidates, and after one was chosen
        with pytest.raises(Stop):
            train(TASK, CONFIG, tmp_path / "broken", snapshots=9, progress=stop_after(steps))
        found = Snapshots.of(tmp_path / "broken" / "seed0")
        assert found.steps == [step for step in snapshot_steps(9, 400) if step <= steps]
        build_predictor(f"run:{tmp_path}/broken/seed0@{found.steps[-1]}", TASK).predict(
            np.zeros((2, 6), dtype=np.int64)
        )
    (run,) = train(TASK, CONFIG, tmp_path / "broken", snapshots=9)
    assert (run / SNAPSHOTS).read_bytes() == (unbroken / SNAPSHOTS).read_bytes()


def test_other_snapshots_than_before_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        train(TASK, CONFIG, tmp_path, snapshots=9, progress=stop_after(100))
    with pytest.raises(InputError, match=r"stands at step 100 and has no snapshot at .*; give --snapshots as before"):
        train(TASK, CONFIG, tmp_path, snapshots=12)
    (run,) = train(TASK, CONFIG, tmp_path, snapshots=9)
    assert train(TASK, CONFIG, tmp_path, snapshots=9) == [run]
    with pytest.raises(InputError, match="is finished and lacks some of these snapshots"):
        train(TASK, CONFIG, tmp_path, snapshots=12)
    (run / "card.json").unlink()  # to train it again, now without any
    train(TASK, CONFIG, tmp_path)
    with pytest.raises(InputError, match="has no snapshots"):
        Snapshots.of(run)


def test_what_was_read_stays_when_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        train(TASK, CONFIG, tmp_path, snapshots=9, progress=stop_after(100))
    found = Snapshots.of(tmp_path / "seed0")
    train(TASK, CONFIG, tmp_path, snapshots=9)  # the checkpoint is gone
    assert found.at(TASK, 0).predict(np.zeros((2, 6), dtype=np.int64)).shape == (2, 3)


@pytest.mark.slow
def test_seeds_that_train_together_have_their_own(tmp_path, monkeypatch):
    """As on a GPU, where one checkpoint holds all of them."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Stop):
        trainer.train_here(TASK, CONFIG, tmp_path, (3, 5), None, "cpu", stop_after(100), snapshots=9)
    contexts = sample(TASK, 6, 5, seed=0).contexts
    under_way = {seed: Snapshots.of(tmp_path / f"seed{seed}").at(TASK, 89).predict(contexts) for seed in (3, 5)}
    assert np.abs(under_way[3] - under_way[5]).max() > 1e-3
    with pytest.raises(InputError, match="has no snapshots"):
        Snapshots.of(tmp_path / "seed4")
    trainer.train_here(TASK, CONFIG, tmp_path, (3, 5), None, "cpu", lambda _: None, snapshots=9)
    for seed in (3, 5):
        (alone,) = train(TASK, CONFIG, tmp_path / "alone", seeds=(seed,), snapshots=9)
        together = Snapshots.of(tmp_path / f"seed{seed}")
        assert together.seed == seed
        np.testing.assert_allclose(
            together.at(TASK, 400).predict(contexts), Snapshots.of(alone).at(TASK, 400).predict(contexts), atol=1e-3
        )


def test_bad_input_is_a_sentence(tmp_path):
    (run,) = train(TASK, TrainingConfig(length=6, depth=1, steps=100, batch=2), tmp_path, snapshots=1)
    for text, error, said in (
        (f"run:{run}@7", InputError, "has no snapshot at step 7; it has 0, 100"),
        (f"run:{run}@x", InputError, "after the @ of run:.* stands a step, a whole number, not 'x'"),
        (f"run:{tmp_path}/none@1", InputError, "has no snapshots: it is no folder seed<k>"),
    ):
        with pytest.raises(error, match=said):
            build_predictor(text, TASK)
    with pytest.raises(Unsupported, match="of another task than 'mtd-q5-m3'"):
        build_predictor(f"run:{run}@100", load_task("mtd-q5-m3"))
    (run / SNAPSHOTS).write_bytes(b"rubbish")
    with pytest.raises(InputError, match="holds no snapshots of `mdbench train`"):
        build_predictor(f"run:{run}@100", TASK)
    assert json.loads((run / "card.json").read_text())["seed"] == 0
