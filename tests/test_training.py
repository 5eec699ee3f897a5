"""Training: it learns, it continues bit by bit, and it says what is wrong."""

import json

import numpy as np
import pytest
import safetensors.torch

from mdbench import metrics, training
from mdbench.baselines import exact
from mdbench.errors import InputError
from mdbench.predictors.trained import load_run
from mdbench.predictors.transformer import run_model
from mdbench.registry import build_predictor
from mdbench.tasks import load_task, next_token_probs, sample
from mdbench.training import TrainingConfig, train

TASK = load_task("mtd-q3-m2")


class Stop(Exception):
    """Planted interruption."""


@pytest.mark.parametrize("target", ["token", "conditional", "bayes"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch, target):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 100)
    config = TrainingConfig(length=6, depth=2, target=target, steps=350, batch=8, seed=3)

    def stop_at(stop):
        seen = []

        def progress(steps):
            seen.append(steps)
            if sum(seen) >= stop:
                raise Stop

        return progress

    unbroken = train(TASK, config, tmp_path / "unbroken")
    for stop in (200, 300):
        with pytest.raises(Stop):
            train(TASK, config, tmp_path / "broken", progress=stop_at(stop))
    steps = []
    broken = train(TASK, config, tmp_path / "broken", progress=steps.append)
    assert steps == [200, 100, 50]  # it went on from the checkpoint at 200, the last whole one before 300
    a, b = (safetensors.torch.load_file(run / "weights.safetensors") for run in (unbroken, broken))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)
    cards = [json.loads((run / "card.json").read_text()) for run in (unbroken, broken)]
    assert cards[0]["loss_curve"] == cards[1]["loss_curve"]
    assert len(cards[0]["loss_curve"]["mean_loss"]) == 4
    assert not (broken / "checkpoint.safetensors").exists()


def test_a_tiny_model_learns(tmp_path):
    """In seconds, it loses at most a third of what ignoring the context loses."""
    run = train(TASK, TrainingConfig(length=16, steps=2500, batch=64), tmp_path / "run")
    model, card = load_run(TASK, run)
    assert card["task_hash"] == TASK.task_hash
    contexts = sample(TASK, 16, 1000, seed=0).tokens[:, :-1].astype(np.int64)
    bayes = next_token_probs(TASK, exact(TASK, contexts).mean[:, 0], contexts)
    probs = metrics.normalise(np.maximum(run_model(model, contexts), 1e-4))
    uniform = build_predictor("uniform", TASK).predict(contexts)
    assert metrics.kl(bayes, probs).mean() < metrics.kl(bayes, uniform).mean() / 3


def test_a_different_seed_starts_elsewhere_and_the_initialisation_is_random(tmp_path):
    weights = []
    for seed in (0, 1):
        config = TrainingConfig(length=6, depth=1, steps=1, batch=2, learning_rate=1e-12, seed=seed)
        run = train(TASK, config, tmp_path / str(seed))
        weights.append(safetensors.torch.load_file(run / "weights.safetensors"))
    for name in weights[0]:
        a, b = weights[0][name].numpy(), weights[1][name].numpy()
        assert np.abs(a - b).min() > 0
        assert 0.05 < a.std() < 0.2  # N(0, 0.1²)


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path):
    config = TrainingConfig(length=6, steps=1000, batch=4, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"within the 100 steps before step \d+00; lower the learning rate"):
        train(TASK, config, tmp_path / "run")


def test_a_folder_with_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 100)
    config = TrainingConfig(length=6, depth=1, steps=100, batch=2)
    train(TASK, config, tmp_path)
    assert train(TASK, config, tmp_path) == tmp_path  # the same run is simply finished
    with pytest.raises(InputError, match="holds a run with seed = 0, not 1"):
        train(TASK, TrainingConfig(length=6, depth=1, steps=100, batch=2, seed=1), tmp_path)
    with pytest.raises(InputError, match="holds a run of another task"):
        train(load_task("mtd-q5-m3"), config, tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "truth"}, "target must be one of token, conditional, bayes"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"seed": -1}, "seed must be between 0"),
    ],
)
def test_bad_configurations(change, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainingConfig(length=6, **change)


def test_an_unusable_device_leaves_nothing_behind(tmp_path):
    for device in ("cuda:77", "nonsense", "meta"):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used here"):
            train(TASK, TrainingConfig(length=6), tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()
