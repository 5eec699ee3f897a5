"""Training: it learns, it continues bit by bit, and it says what is wrong."""

import contextlib
import errno
import hashlib
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch

from mdbench.baselines import Exact
from mdbench.core import metrics
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError, Unsupported
from mdbench.predictors import training_config
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS, build_predictor
from mdbench.predictors.trained import load_run
from mdbench.predictors.training_config import TrainingConfig
from mdbench.predictors.transformer import DisentangledTransformer
from mdbench.tasks import MTD, load_task, next_token_probs, sample
from mdbench.training import trainer
from mdbench.training.folder import KEPT, groups_of
from mdbench.training.presets import preset_config
from mdbench.training.run import check_training, train

TASK = load_task("mtd-q3-m2")
RECIPES = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "train_weights.py"))


class Stop(Exception):
    """Planted interruption."""


def stop_after(steps):
    """A progress callback that interrupts when so many steps are done."""
    seen = []

    def progress(k):
        seen.append(k)
        if sum(seen) >= steps:
            raise Stop

    return progress


def shorten_periods(monkeypatch):
    """Losses are noted, and choices made, after a fifth of the steps."""
    for module in (trainer, training_config):
        monkeypatch.setattr(module, "LOSS_EVERY", 20)


def weights_of(run):
    return {name: value.numpy() for name, value in safetensors.torch.load_file(run / "weights.safetensors").items()}


def assert_same_weights(a, b):
    a, b = weights_of(a), weights_of(b)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ({"target": "token"}, (3,)),
        ({"target": "conditional", "schedule": "restarts"}, (3,)),
        ({"target": "bayes", "reuse": 2, "batch": 1}, (3,)),
        ({"model": "standard", "loss": "cross_entropy", "schedule": "constant"}, (3,)),
        ({"candidates": 3, "periods": 5.5}, (3,)),  # chosen after the first
        ({"start_length": 4, "periods": 5.5, "reuse": 2}, (3,)),  # long from the third on
        ({"start_length": 4, "periods": 6.5, "candidates": 2, "model": "standard", "width": 8}, (3,)),  # the fourth
        pytest.param({"start_length": 4, "periods": 5.5}, (3, 4), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch, changes, seeds):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    if len(seeds) == 1:  # several run in processes of their own
        shorten_periods(monkeypatch)
    every = training_config.LOSS_EVERY
    steps = int(changes.get("periods", 3.5) * every)
    own = {name: value for name, value in changes.items() if name != "periods"}
    config = TrainingConfig(**{"length": 6, "depth": 2, "steps": steps, "batch": 8} | own)

    unbroken = train(TASK, config, tmp_path / "unbroken", seeds=seeds)
    for stop in (2 * every, 3 * every):
        with pytest.raises(Stop):
            train(TASK, config, tmp_path / "broken", seeds=seeds, progress=stop_after(stop))
    steps = []
    broken = train(TASK, config, tmp_path / "broken", seeds=seeds, progress=steps.append)
    if len(seeds) == 1:  # of several, one may be ahead of the other
        assert steps[0] == 3 * every  # it went on from the checkpoint
    assert sum(steps) == config.steps
    for a, b in zip(unbroken, broken, strict=True):
        assert_same_weights(a, b)
        cards = [json.loads((run / "card.json").read_text()) for run in (a, b)]
        assert cards[0]["loss_curve"] == cards[1]["loss_curve"]
        assert cards[0]["final_scores"] == cards[1]["final_scores"]
        assert len(cards[0]["loss_curve"]["mean_loss"]) == math.ceil(config.steps / every)
    assert not list(tmp_path.glob("**/checkpoint*"))


@pytest.mark.parametrize("model", ["disentangled", "standard"])
def test_a_run_that_starts_from_another_goes_on_from_its_weights(tmp_path, monkeypatch, model):
    """Broken or not; at a learning rate of 1e-30 what it starts from is what it ends with, in a larger model too."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    shorten_periods(monkeypatch)
    small = TrainingConfig(length=6, depth=1, steps=20, batch=8, model=model, width=8)
    same = replace(small, learning_rate=1e-30)
    for seed in (0, 1):
        train(TASK, small, tmp_path / "small", seeds=(seed,))
        (still,) = train(TASK, same, tmp_path / "still", seeds=(seed,), start_from=tmp_path / "small")
        assert_same_weights(still, tmp_path / "small" / f"seed{seed}")

    large = replace(same, length=9, depth=2, steps=70)
    (unbroken,) = train(TASK, large, tmp_path / "unbroken", seeds=(1,), start_from=tmp_path / "small")
    for stop in (40, 60):
        with pytest.raises(Stop):
            train(
                TASK,
                large,
                tmp_path / "broken",
                seeds=(1,),
                start_from=tmp_path / "small",
                progress=stop_after(stop),
            )
        with pytest.raises(InputError, match="started from other weights, or from none"):
            check_training(TASK, large, tmp_path / "broken", seeds=(1,))
    (broken,) = train(TASK, large, tmp_path / "broken", seeds=(1,), start_from=tmp_path / "small")
    assert_same_weights(unbroken, broken)
    before, after = weights_of(tmp_path / "small" / "seed1"), weights_of(unbroken)
    for name, values in before.items():
        if name != "readout" or model == "standard":  # which reads the mean of the first layer and its copy
            assert np.array_equal(after[name][tuple(map(slice, values.shape))], values)
        if name.endswith("_offset"):
            assert np.array_equal(after[name][6:], np.tile(values[3], (3, 1)))
    card = json.loads((unbroken / "card.json").read_text())
    assert card["started_from"]["seed"] == 1
    assert card["started_from"]["config"] == asdict(small)
    first = json.loads((tmp_path / "small" / "seed1" / "card.json").read_text())
    assert card["started_from"]["final_scores"] == first["final_scores"]
    weights = (tmp_path / "small" / "seed1" / "weights.safetensors").read_bytes()
    assert card["started_from"]["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_what_a_run_cannot_start_from_is_said(tmp_path):
    config = TrainingConfig(length=6, depth=2, steps=100, batch=2)
    start = tmp_path / "start"
    train(TASK, config, start)
    for changes, seed, message in [
        ({}, 1, r"no finished run in '.*seed1' for seed 1 to start from"),
        ({"depth": 1}, 0, "has depth = 2, more than 1, which was asked for"),
        ({"length": 5}, 0, "has length = 6, more than 5"),
        ({"d_rel": 4}, 0, "has d_rel = 16, not 4"),
        ({"model": "standard"}, 0, "has model = disentangled, not standard"),
        ({"start_length": 3, "steps": 200}, 0, "takes no start_length; choose 0, not 3"),
        ({"candidates": 2}, 0, "takes no candidates; choose 1, not 2"),
    ]:
        with pytest.raises(InputError, match=message):
            train(TASK, replace(config, **changes), tmp_path / "out", seeds=(seed,), start_from=start)
    with pytest.raises(InputError, match=r"; '.*seed0' is one itself: give the folder above it"):
        train(TASK, config, tmp_path / "out", start_from=start / "seed0")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Unsupported, match="another task"):
        train(load_task("mtd-q5-m3"), config, tmp_path / "out", start_from=start)
    train(TASK, config, tmp_path / "out", start_from=start)
    with pytest.raises(InputError, match="started from other weights, or from none; choose another folder"):
        train(TASK, config, tmp_path / "out")


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(tmp_path):
    """SIGKILL, at whatever moment it comes; its seeds' processes end with it."""
    config = TrainingConfig(length=6, depth=2, steps=1000, batch=8)
    unbroken = [train(TASK, config, tmp_path / "unbroken", seeds=(seed,))[0] for seed in (0, 1)]
    script = (
        "import mdbench\nfrom mdbench.training import trainer\n"
        "from mdbench.tasks import load_task\n"
        "trainer.CHECKPOINT_SECONDS = 0.0\n"
        "config = mdbench.TrainingConfig(length=6, depth=2, steps=1000, batch=8)\n"
        f"mdbench.train(load_task('mtd-q3-m2'), config, {str(tmp_path / 'killed')!r}, seeds=(0, 1))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    checkpoints = [tmp_path / "killed" / f"seed{seed}" / "checkpoint.safetensors" for seed in (0, 1)]
    while not all(checkpoint.exists() for checkpoint in checkpoints):
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2  # one for each seed
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not list((tmp_path / "killed").glob("*/card.json"))
    done = []
    killed = train(TASK, config, tmp_path / "killed", seeds=(0, 1), progress=done.append)
    assert done[0] >= 100
    for a, b in zip(unbroken, killed, strict=True):
        assert_same_weights(a, b)


def test_what_is_finished_is_not_trained_again(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=100, batch=2)
    (first,) = train(TASK, config, tmp_path, seeds=(1,))
    before = (first / "card.json").stat().st_mtime_ns
    assert train(TASK, config, tmp_path, seeds=(1, 0)) == [tmp_path / "seed1", tmp_path / "seed0"]
    assert (first / "card.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "seed0" / "card.json").read_text())["seed"] == 0


@pytest.mark.parametrize("together", [True, False])
def test_a_checkpoint_that_outlived_its_runs_is_no_obstacle(tmp_path, monkeypatch, together):
    config = TrainingConfig(length=6, depth=1, steps=100, batch=2)
    finish, kept = trainer.Training._finish, []

    def keep(self, k):
        kept.append((self.file, self.file.read_bytes()))
        finish(self, k)

    monkeypatch.setattr(trainer.Training, "_finish", keep)
    trainer.train_here(TASK, config, tmp_path, (0, 1) if together else (0,), None, "cpu", lambda _: None)
    checkpoint, content = kept[0]
    assert checkpoint.parent == (tmp_path if together else tmp_path / "seed0")
    checkpoint.write_bytes(content)
    train(TASK, config, tmp_path, seeds=(2,) if together else (0,))
    assert not checkpoint.exists()


def test_seeds_that_a_gpu_began_together_go_on_together(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = TrainingConfig(length=6, depth=1, steps=300, batch=2)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    trainer.train_here(TASK, config, unbroken, (0, 1), None, "cpu", lambda _: None)
    with pytest.raises(Stop):
        trainer.train_here(TASK, config, broken, (0, 1), None, "cpu", stop_after(200))
    steps = []
    runs = train(TASK, config, broken, seeds=(3, 1, 0), progress=steps.append)  # whatever else is asked for
    assert_same_weights(runs[1], unbroken / "seed1")
    assert_same_weights(runs[2], unbroken / "seed0")
    np.testing.assert_allclose([*steps[:2], sum(steps)], [400 / 3, 200 / 3, 300])  # two seeds of three first, from 200


def test_seeds_that_a_gpu_began_alone_go_on_alone(tmp_path):
    for seed in (1, 3):
        (tmp_path / f"seed{seed}").mkdir()
    (tmp_path / "seed1" / "checkpoint.safetensors").touch()
    (tmp_path / "seed3" / "card.json").touch()
    assert groups_of(tmp_path, (0, 1, 2, 3), "cuda") == [(1,), (0, 2)]
    assert groups_of(tmp_path, (0, 1, 2, 3), "cpu") == [(0, 1, 2)]  # side by side, each from its own checkpoint


def test_a_card_names_the_devices_that_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = TrainingConfig(length=6, depth=1, steps=300, batch=2)
    monkeypatch.setattr(trainer, "_device_name", lambda _: "some GPU")
    with pytest.raises(Stop):
        train(TASK, config, tmp_path, progress=stop_after(200))
    monkeypatch.setattr(trainer, "_device_name", lambda _: "some CPU")
    (run,) = train(TASK, config, tmp_path)
    assert json.loads((run / "card.json").read_text())["device"] == "some GPU, then some CPU"


def test_a_checkpoint_in_the_folder_of_another_seed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = TrainingConfig(length=6, depth=1, steps=300, batch=2)
    with pytest.raises(Stop):
        train(TASK, config, tmp_path, seeds=(4,), progress=stop_after(200))
    (tmp_path / "seed4").rename(tmp_path / "seed7")
    with pytest.raises(InputError, match=r"seed7.checkpoint.safetensors' is a checkpoint of seed 4; remove it"):
        train(TASK, config, tmp_path, seeds=(7,))


def test_a_checkpoint_of_other_seeds_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = TrainingConfig(length=6, depth=1, steps=300, batch=2)
    with pytest.raises(Stop):
        trainer.train_here(TASK, config, tmp_path, (0, 1), None, "cpu", stop_after(200))
    with pytest.raises(InputError, match=r"holds the checkpoint of seeds 0, 1 together; go on with these first"):
        train(TASK, config, tmp_path, seeds=(2,))


def test_a_tiny_model_learns(tmp_path):
    """In seconds, it loses at most a tenth of what ignoring the context loses, and its card says so."""
    (run,) = train("mtd-q3-m2", preset_config("bayes", 16, steps=1000, batch=64, candidates=1), tmp_path)
    model, card = load_run(TASK, run)
    assert card["task_hash"] == TASK.task_hash
    contexts = sample(TASK, 16, 1024, seed=1).contexts
    bayes = next_token_probs(TASK, Exact().posterior(TASK, contexts).mean[:, 0], contexts)
    uniform = build_predictor("uniform", TASK).predict(contexts)
    excess = metrics.kl(bayes, model.predict(contexts)).mean()
    assert excess < metrics.kl(bayes, uniform).mean() / 10
    np.testing.assert_allclose(card["final_scores"]["excess_kl"], excess, rtol=1e-6)


@pytest.mark.parametrize(
    "model", [{"model": "disentangled"}, pytest.param({"model": "standard", "width": 16}, marks=pytest.mark.slow)]
)
def test_cross_entropy_and_the_standard_model_learn_too(tmp_path, model):
    config = preset_config("conditional", 8, loss="cross_entropy", target="bayes", steps=600, batch=64, **model)
    (run,) = train(TASK, config, tmp_path)
    losses = json.loads((run / "card.json").read_text())["loss_curve"]["mean_loss"]
    trained, _ = load_run(TASK, run)
    contexts = sample(TASK, 8, 512, seed=1).contexts
    probs = trained.predict(contexts)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
    bayes = next_token_probs(TASK, Exact().posterior(TASK, contexts).mean[:, 0], contexts)
    constant = np.broadcast_to(bayes.mean(axis=0), bayes.shape)
    assert metrics.kl(bayes, probs).mean() < metrics.kl(bayes, constant).mean() / 5
    # The loss is the cross-entropy: the entropy of the target and the KL to it.
    entropy = metrics.cross_entropy(bayes, bayes).mean()
    assert abs(losses[-1] - entropy - metrics.kl(bayes, probs).mean()) < 0.02


def test_the_best_candidate_goes_on(tmp_path, monkeypatch):
    """It goes on as if it had been alone, which the first candidate of a seed can be."""
    shorten_periods(monkeypatch)
    config = TrainingConfig(length=6, depth=2, steps=80, batch=8, candidates=3, schedule="constant")
    for seed in range(4):
        (run,) = train(TASK, config, tmp_path / "three", seeds=(seed,))
        card = json.loads((run / "card.json").read_text())
        losses = card["candidate_losses"]
        assert len(set(losses)) == 3
        np.testing.assert_allclose(card["loss_curve"]["mean_loss"][0], min(losses), rtol=1e-5)
        if losses[0] == min(losses):
            alone = TrainingConfig(length=6, depth=2, steps=80, batch=8, schedule="constant")
            (other,) = train(TASK, alone, tmp_path / "one", seeds=(seed,))
            a, b = weights_of(run), weights_of(other)
            assert max(np.abs(a[name] - b[name]).max() for name in a) < 0.02
            break
    else:
        pytest.fail("no seed of four has its first candidate chosen; take other seeds")


def test_a_candidate_that_diverges_is_not_chosen(tmp_path, monkeypatch):
    """Nor does it end those of its seed that do not, or change them."""
    shorten_periods(monkeypatch)
    config = TrainingConfig(length=6, depth=2, steps=40, batch=8, candidates=3)

    def losses_of(folder):
        runs = [train(TASK, config, folder, seeds=(seed,))[0] for seed in (0, 1)]
        return [json.loads((run / "card.json").read_text())["candidate_losses"] for run in runs], runs

    right, unharmed = losses_of(tmp_path / "right")
    best = right[0].index(min(right[0]))
    initialise, n = DisentangledTransformer.initialise, iter(range(100))
    bad = {best}

    def harmed(self, *arguments):
        initialise(self, *arguments)
        if next(n) in bad:
            torch.nn.init.constant_(self.readout, math.nan)

    monkeypatch.setattr(DisentangledTransformer, "initialise", harmed)
    found, runs = losses_of(tmp_path / "harmed")
    assert found == [[None if k == best else loss for k, loss in enumerate(right[0])], right[1]]
    assert all(np.isfinite(values).all() for values in weights_of(runs[0]).values())
    assert_same_weights(runs[1], unharmed[1])

    n, bad = iter(range(100)), {3, 4, 5}
    with pytest.raises(FloatingPointError, match="seed 1 became nan at step 1; lower the learning rate"):
        losses_of(tmp_path / "all")


def test_the_first_half_of_the_steps_has_short_contexts(tmp_path, monkeypatch):
    seen = []
    take_step = trainer.Training._step

    def watched(self, step):
        seen.append(self.data[0][step][0].shape[1])
        return take_step(self, step)

    monkeypatch.setattr(trainer.Training, "_step", watched)
    shorten_periods(monkeypatch)
    config = TrainingConfig(length=6, depth=2, steps=100, batch=4, start_length=4, candidates=2)
    (run,) = train(TASK, config, tmp_path)
    assert seen == [4] * 40 + [6] * 60
    assert load_run(TASK, run)[0].config == config


def a_model(model, length, depth, scale=0.5, seed=1):
    config = TrainingConfig(length=length, depth=depth, model=model, width=8)
    built = training_config.build_model(TASK, config).double()
    built.initialise(scale, torch.Generator().manual_seed(seed))
    return built


@pytest.mark.parametrize(("few", "many"), [(1, 1), (1, 2), (2, 2), (2, 4), (3, 4), (3, 6)])
@pytest.mark.parametrize("model", ["disentangled", "standard"])
def test_a_larger_model_begins_as_the_smaller_one_made_longer(model, few, many):
    tokens = torch.randint(3, (50, 9), generator=torch.Generator().manual_seed(0))
    small, longer = a_model(model, 6, few), a_model(model, 9, few, seed=3)
    by_name = dict(longer.named_parameters())
    for name, values in small.named_parameters():  # by hand: all else as it is, offsets 6 to 8 as offset 3
        by_name[name].data = values[[0, 1, 2, 3, 4, 5, 3, 3, 3]] if name.endswith("_offset") else values
    bare = a_model(model, 9, many, scale=0.0)
    bare.begin_with(small)
    torch.testing.assert_close(bare(tokens), longer(tokens), rtol=0, atol=1e-12)
    torch.testing.assert_close(bare(tokens[:, :6]), small(tokens[:, :6]), rtol=0, atol=1e-12)


def test_copies_of_the_last_layer_but_one_are_read_by_their_mean():
    small, large = a_model("disentangled", 6, 3), a_model("disentangled", 6, 5, seed=2)
    initial = {name: values.clone() for name, values in large.named_parameters()}
    large.begin_with(small)
    for layer, source in zip(large.layers[:4], [0, 1, 1, 1], strict=True):
        one = small.layers[source]
        d = len(one.attend)
        assert torch.equal(layer.attend[:d, :d], one.attend)
        assert torch.equal(layer.attend_offset[:, :d], one.attend_offset)
        assert torch.equal(layer.value_offset, one.value_offset)
    # Layers 2 to 4 append [A h; offsets] from the columns 22, 60 and 136 on, the third of them to a stream of 288;
    # of each A h only the first 22 are of what the small model knows, which in it stand at 22 and 44.
    read = [(large.readout, small.readout), (large.layers[4].attend_offset, small.layers[2].attend_offset)]
    for many, few in read:
        torch.testing.assert_close(many[:, :22], few[:, :22])
        for start in (22, 60, 136):
            torch.testing.assert_close(many[:, start : start + 22], few[:, 22:44] / 3)
            torch.testing.assert_close(many[:, 2 * start : 2 * start + 16], few[:, 44:60] / 3)
        name = "readout" if many is large.readout else "layers.4.attend_offset"
        for start, end in ((82, 120), (158, 272)):  # what only copies know of each other: A h, then again
            torch.testing.assert_close(many[:, start:end], 0.1 * initial[name][:, start:end], rtol=0, atol=0)


def test_what_further_layers_of_a_standard_model_add_counts_a_tenth():
    h = torch.randn(20, 6, 8, generator=torch.Generator().manual_seed(0)).double()
    small, large, initial = (a_model("standard", 6, depth, scale=0.1, seed=depth) for depth in (2, 4, 4))
    large.begin_with(small)
    for layer, before in zip(large.layers[2:], initial.layers[2:], strict=True):
        added, would = layer(h) - h, before(h) - h
        assert (added - 0.1 * would).abs().mean() < 0.02 * would.abs().mean()  # the MLP reads what attention adds
    with pytest.raises(ValueError, match="a model of 2 layers for 6 tokens cannot begin with one of 4 for 6"):
        small.begin_with(large)


@pytest.mark.slow
def test_a_seed_whose_process_is_ended_ends_the_others_too(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=100_000, batch=2)

    before = psutil.Process().children()  # such as that of multiprocessing, which outlives an earlier test

    def end_one(_steps):
        [child for child in psutil.Process().children() if child not in before][1].terminate()

    with pytest.raises(ChildProcessError, match=r"trained seed 1 was ended by signal 15 .*goes on from the last"):
        train(TASK, config, tmp_path, seeds=(0, 1), progress=end_one)
    assert psutil.Process().children() == before


def test_one_command_at_a_time_trains_in_a_folder(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=200, batch=2)

    def another(_steps):
        train(TASK, config, tmp_path, seeds=(1,))

    with pytest.raises(InputError, match=r"another command trains in .* right now; wait for it"):
        train(TASK, config, tmp_path, seeds=(0,), progress=another)
    train(TASK, config, tmp_path, seeds=(1,))


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "seed0").mkdir()
    for folder in (tmp_path, tmp_path / "seed0"):
        (folder / ".mdbench-0123.safetensors").write_bytes(b"half")
    (run,) = train(TASK, TrainingConfig(length=6, depth=1, steps=10, batch=2), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["card.json", "seed0", "weights.safetensors"]
    assert sorted(path.name for path in run.iterdir()) == ["card.json", "weights.safetensors"]


def test_damaged_files_are_said(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=10, batch=2)
    for checkpoint in (tmp_path / "checkpoint.safetensors", tmp_path / "seed0" / "checkpoint.safetensors"):
        checkpoint.parent.mkdir(exist_ok=True)
        other = json.dumps(
            dict.fromkeys(("task_hash", *KEPT)) | {"config": {"length": 6, "colour": "red"}, "seeds": [0, 1]}
        )
        for content in (b"garbage", safetensors.torch.save({}), safetensors.torch.save({}, {"training": other})):
            checkpoint.write_bytes(content)
            with pytest.raises(InputError, match=r"checkpoint.safetensors' is no checkpoint .* remove it to begin"):
                train(TASK, config, tmp_path)
        checkpoint.unlink()
    (run,) = train(TASK, config, tmp_path)
    good = (run / "card.json").read_text()
    for text in ("{", "{}", "[]", good.replace('"depth"', '"colour"')):
        (run / "card.json").write_text(text)
        with pytest.raises(InputError, match=r"card.json' is not a card that .* remove it to train this seed again"):
            train(TASK, config, tmp_path)
    (run / "card.json").write_text(good)
    (run / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="does not hold the weights of its card"):
        train(TASK, config, tmp_path)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer.Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write '.*checkpoint.safetensors': No space left on device"):
        train(TASK, TrainingConfig(length=6, depth=1, steps=10, batch=2), tmp_path)


@pytest.mark.slow
def test_seeds_side_by_side_are_what_they_are_alone(tmp_path, monkeypatch):
    """Bit by bit, whatever their processes print. And they differ from one another."""
    (tmp_path / "sitecustomize.py").write_text("print('hello')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = TrainingConfig(length=6, depth=2, steps=20, batch=8)
    beside = train(TASK, config, tmp_path / "beside", seeds=(0, 1))
    for run, seed in zip(beside, (0, 1), strict=True):
        (alone,) = train(TASK, config, tmp_path / f"alone{seed}", seeds=(seed,))
        assert_same_weights(run, alone)
    a, b = (weights_of(run) for run in beside)
    assert max(np.abs(a[name] - b[name]).max() for name in a) > 0.1


def test_one_pass_over_stacked_models_has_the_same_losses_and_gradients(tmp_path, monkeypatch):
    """What a GPU's graph computes, against the CPU's parts."""
    monkeypatch.setattr(trainer, "MAP_ENTRIES", 2 * 9**2)  # three parts of two sequences
    for changes in ({}, {"model": "standard", "loss": "cross_entropy", "width": 8}):
        config = TrainingConfig(**{"length": 9, "depth": 3, "batch": 6} | changes)
        state = trainer.Training(TASK, config, tmp_path, (0, 1), None, "cpu")
        tokens, targets = zip(*state.batches_at(0), strict=True)
        stacked = state.parameters.detach().clone().requires_grad_()
        losses = state.stacked_losses(stacked, torch.stack(tokens), torch.stack(targets))
        (gradient,) = torch.autograd.grad(losses.sum(), stacked)
        torch.testing.assert_close(state._advance(range(1))[0], losses.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state.parameters.grad, gradient, rtol=1e-4, atol=1e-6)


def test_steps_that_are_replayed_are_those_of_the_cpu(tmp_path, monkeypatch):
    """What a GPU runs around its graph, with an object in place of the graph that takes the captured step again."""

    class Graph:
        def replay(self):
            graph.losses.copy_(graphed._stacked_step(graph.tokens, graph.targets))

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for name in ("graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    config = TrainingConfig(length=6, depth=2, batch=8, candidates=2, steps=100)
    plain, graphed = (trainer.Training(TASK, config, tmp_path, (0, 1), None, "cpu") for _ in range(2))
    graphed.stream = Mock(spec=torch.cuda.Stream)
    rate = torch.tensor(config.learning_rate)  # as on a GPU
    adam = torch.optim.Adam([graphed.parameters], lr=rate, fused=True, capturable=True)
    adam.state = graphed.adam.state
    graphed.adam = adam
    graph = graphed._graph()
    torch.testing.assert_close(graphed._replay(graph, range(30)), plain._advance(range(30)), rtol=1e-3, atol=1e-5)
    assert int(graphed.step) == int(plain.step) == 30
    # A step of Adam has the size of the learning rate, so that rounding turns a few entries by more.
    assert (graphed.parameters - plain.parameters).abs().mean() < 1e-4


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@needs_gpu
@pytest.mark.parametrize("changes", [{}, {"model": "standard", "loss": "cross_entropy", "width": 8}])
def test_steps_of_a_gpu_are_those_of_the_cpu(tmp_path, changes):
    config = TrainingConfig(length=9, depth=3, batch=16, candidates=2, steps=100, **changes)
    of_gpu = trainer.Training(TASK, config, tmp_path, (0, 1), None, "cuda")
    of_cpu = trainer.Training(TASK, config, tmp_path, (0, 1), None, "cpu")
    of_cpu.batches_at = lambda step: [(x.cpu(), y.cpu()) for x, y in of_gpu.batches_at(step)]
    found = of_gpu._replay(of_gpu._graph(), range(100)).cpu()
    torch.testing.assert_close(found, of_cpu._advance(range(100)), rtol=1e-2, atol=1e-4)
    assert int(of_gpu.step) == 100


@needs_gpu
def test_an_interrupted_run_on_a_gpu_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    config = TrainingConfig(length=9, depth=2, steps=800, batch=16, candidates=2, start_length=6)
    unbroken = train(TASK, config, tmp_path / "unbroken", seeds=(0, 1), device="cuda")
    for steps in (100, 300, 500):
        with pytest.raises(Stop):
            train(TASK, config, tmp_path / "broken", seeds=(0, 1), device="cuda", progress=stop_after(steps))
        again = trainer.Training(TASK, config, tmp_path / "broken", (0, 1), None, "cuda")
        again._restore()
        saved = safetensors.torch.load_file(tmp_path / "broken" / "checkpoint.safetensors")
        assert int(again.step) == saved["step"] == steps
        assert again.losses == saved["losses"].tolist()
        for name, state in again.adam.state[again.parameters].items():
            assert torch.equal(state.cpu(), saved[name])
        assert torch.equal(again.parameters.cpu(), saved["parameters"])
    for run, whole in zip(train(TASK, config, tmp_path / "broken", seeds=(0, 1), device="cuda"), unbroken, strict=True):
        a, b = (json.loads((folder / "card.json").read_text()) for folder in (run, whole))
        np.testing.assert_allclose(a["loss_curve"]["mean_loss"], b["loss_curve"]["mean_loss"], rtol=0.05)
        assert a["peak_memory_gib"] > 0
        assert a["device"] == torch.cuda.get_device_name()


def test_the_number_of_cores_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "MAP_ENTRIES", 6**2)  # each sequence is a part
    config = TrainingConfig(length=6, depth=2, steps=100, batch=8)
    runs = []
    for cores in (1, 4):
        monkeypatch.setattr(trainer, "n_cores", lambda cores=cores: cores)
        runs += train(TASK, config, tmp_path / str(cores))
    assert_same_weights(*runs)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot tie a process to some cores")
def test_cores_that_this_process_may_not_use_do_not_count():
    allowed = os.sched_getaffinity(0)
    assert n_cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_initialisation_is_random_and_another_for_each_seed(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=1, batch=2, learning_rate=1e-12)
    weights = [weights_of(train(TASK, config, tmp_path, seeds=(seed,))[0]) for seed in (0, 1)]
    for name in weights[0]:
        assert np.abs(weights[0][name] - weights[1][name]).min() > 0
        assert 0.05 < weights[0][name].std() < 0.2  # N(0, 0.1²)


def test_schedules():
    config = {name: TrainingConfig(length=6, steps=700, schedule=name) for name in ("constant", "cosine", "restarts")}
    assert {config["constant"].learning_rate_at(step) for step in (0, 350, 699)} == {0.01}
    cosine = [config["cosine"].learning_rate_at(step) for step in (0, 350, 699)]
    np.testing.assert_allclose(cosine, [0.01, 0.005, 0.01 * math.sin(math.pi / 1400) ** 2], rtol=1e-9)
    restarts = [config["restarts"].learning_rate_at(step) for step in (0, 50, 99, 100, 200, 299, 300, 500, 699)]
    np.testing.assert_allclose(restarts, [0.01, 0.005, 0, 0.01, 0.005, 0, 0.01, 0.005, 0], atol=4e-6)
    halves = TrainingConfig(length=6, steps=1400, start_length=4, schedule="restarts")
    assert [halves.learning_rate_at(700 + step) for step in (0, 50, 400)] == [
        config["restarts"].learning_rate_at(step) for step in (0, 50, 400)
    ]


def test_presets():
    paper = preset_config("paper", 192)
    assert paper == TrainingConfig(192, target="token", steps=500_000, learning_rate=1e-3)
    assert (paper.loss, paper.batch, paper.reuse, paper.schedule) == ("squared_error", 128, 1, "cosine")
    assert preset_config("cross-entropy", 192) == replace(paper, loss="cross_entropy")
    assert preset_config("bayes", 32).target == "bayes"
    assert [preset_config("bayes", length).start_length for length in (8, 16, 64)] == [8, 16, 16]
    assert [preset_config("bayes", length).first_steps for length in (8, 16, 64)] == [0, 0, 5000]
    assert preset_config("paper", 192).first_steps == 0
    assert preset_config("conditional", 192) == TrainingConfig(192)
    assert [preset_config(name, 32, model="standard").learning_rate for name in ("paper", "bayes")] == [1e-3, 3e-3]
    assert [preset_config("paper", 32, model="standard", **given).heads for given in ({}, {"heads": 8})] == [4, 8]
    assert preset_config("paper", 32, model="standard", learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(InputError, match="preset must be one of paper, cross-entropy, conditional, bayes, not 'peper'"):
        preset_config("peper", 32)
    for given, sentence in (
        ({"width": 8}, "width is an option of the standard model; the disentangled one has none"),
        ({"heads": 2, "model": "disentangled"}, "heads is an option of the standard model"),
        ({"d_rel": 3, "model": "standard"}, "d_rel is an option of the disentangled model; the standard one has none"),
    ):
        with pytest.raises(InputError, match=sentence):
            preset_config("paper", 32, **given)


def test_shipped_weights_are_what_the_recipes_make():
    """By their cards, back to the run that began at random; what is shipped, too, of what they started from."""
    recipes = RECIPES["read_recipes"]()
    cards = {file.parent: json.loads(file.read_text()) for file in SHIPPED_WEIGHTS.glob("*/*/T*/seed*/card.json")}
    of_runs = {recipe.runs(SHIPPED_WEIGHTS): recipe for recipe in recipes}
    assert {folder.parent for folder in cards} == {runs for runs in of_runs if "-" not in runs.parts[-3]}
    for folder, card in cards.items():
        made = of_runs[folder.parent].chain()
        while card is not None:
            recipe = made.pop()
            options = recipe.options | {"started": recipe.start is not None}
            assert TrainingConfig(**card["config"]) == preset_config(recipe.preset, recipe.length, **options)
            shipped = cards.get(recipe.runs(SHIPPED_WEIGHTS) / folder.name, card)
            assert (card["weights_sha256"], card["seed"]) == (shipped["weights_sha256"], shipped["seed"])
            card = card.get("started_from")
        assert not made


def test_recipes_are_carried_out_from_what_is_shipped(tmp_path, monkeypatch):
    shipped, out = tmp_path / "shipped", tmp_path / "out"
    monkeypatch.setitem(RECIPES["commands"].__globals__, "SHIPPED_WEIGHTS", shipped)
    *_, recipe = [found for found in RECIPES["read_recipes"]() if found.name == "trained_l6"]
    assert [at.name for at in recipe.chain()] == ["trained_l3", "trained_l5-1", "trained_l5", "trained_l6"]

    def commands(seeds, anew=False):
        found = RECIPES["commands"]([recipe, recipe], seeds, out, "cpu", anew)
        options = [dict(zip(words[::2], words[1::2], strict=True)) for words in found]
        return [(words["--seeds"], words.get("--start-from"), words["--out"]) for words in options]

    def line(seeds, start, name, folder=out):
        return seeds, str(folder / start / "mtd-q5-m3" / "T32"), str(out / name)

    l3, *after = [("trained_l3", "trained_l5-1"), ("trained_l5-1", "trained_l5"), ("trained_l5", "trained_l6")]
    begin = (None, str(out / "trained_l3"))
    assert commands([0, 1]) == [("0,1", *begin), line("0,1", *l3), *(line("0,1", *pair) for pair in after)]
    for name, seed in (("trained_l6", 0), ("trained_l3", 1), ("trained_l3", 0)):
        folder = shipped / name / "mtd-q5-m3" / "T32" / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "card.json").touch()
    assert commands([0]) == []
    assert commands([2, 1, 0]) == [
        ("2", *begin),
        line("2", *l3),
        line("1", *l3, shipped),
        *(line("2,1", *pair) for pair in after),
    ]
    of_preset = [recipe for recipe in RECIPES["read_recipes"]() if recipe.name == "paper_l3"]
    (words,) = RECIPES["commands"](of_preset, [0], out, "cpu", anew=False)
    assert words[words.index("--preset") + 1] == "paper"
    assert commands([0], anew=True) == [("0", *begin), line("0", *l3), *(line("0", *pair) for pair in after)]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path):
    config = TrainingConfig(length=6, steps=1000, batch=4, learning_rate=1e30)
    before = psutil.Process().children()
    with pytest.raises(FloatingPointError, match=r"seed 0 became (nan|inf) at step [23]; lower the learning rate"):
        train(TASK, config, tmp_path)
    with pytest.raises(FloatingPointError, match=r"seed [34] became (nan|inf) at step [23]; lower the learning rate"):
        train(TASK, config, tmp_path, seeds=(3, 4))
    assert psutil.Process().children() == before  # that of the other seed has ended too


@pytest.mark.parametrize("steps", [1, 100])
def test_a_last_step_that_diverges_is_noticed(tmp_path, monkeypatch, steps):
    """No loss of a step tells of it. What has been saved stands in the way of a lower rate there, which is said."""
    message = rf"seed 5 became (nan|inf) at step {steps}; lower the learning rate .*, in another folder\."
    monkeypatch.setattr(TrainingConfig, "learning_rate_at", lambda _, step: 1e30 if step == steps - 1 else 1e-3)
    with pytest.raises(FloatingPointError, match=message):
        train(TASK, TrainingConfig(length=6, depth=2, steps=steps, batch=4), tmp_path, seeds=(5,))
    assert not (tmp_path / "seed5" / "card.json").exists()


def test_what_does_not_fit_into_memory_says_what_to_lower(tmp_path):
    config = TrainingConfig(length=200, batch=10**9)
    with pytest.raises(InputError, match=r"1000000000 sequences .* do not fit into the memory of 'cpu'; lower batch"):
        train(TASK, config, tmp_path)


@pytest.mark.parametrize("said", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"])
def test_memory_that_does_not_suffice_is_recognised(tmp_path, monkeypatch, said):
    monkeypatch.setattr(trainer.Training, "run", Mock(side_effect=RuntimeError(said)))
    with pytest.raises(InputError, match="lower batch"):
        train(TASK, TrainingConfig(length=6, depth=1), tmp_path)
    graph = RuntimeError("operation failed due to a previous error during capture")
    monkeypatch.setattr(trainer.Training, "run", Mock(side_effect=graph))
    with pytest.raises(RuntimeError, match="during capture"):
        train(TASK, TrainingConfig(length=6, depth=1), tmp_path)
    graph.__context__ = RuntimeError(said)
    with pytest.raises(InputError, match="lower batch"):
        train(TASK, TrainingConfig(length=6, depth=1), tmp_path)


def test_a_folder_with_another_run_is_refused(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=100, batch=2)
    train(TASK, config, tmp_path)
    with pytest.raises(InputError, match="holds a run with batch = 2, not 3"):
        train(TASK, TrainingConfig(length=6, depth=1, steps=100, batch=3), tmp_path)
    with pytest.raises(InputError, match="holds a run of another task"):
        train(load_task("mtd-q5-m3"), config, tmp_path)


@pytest.mark.slow
def test_a_run_that_is_not_what_its_card_says_is_refused(tmp_path):
    config = TrainingConfig(length=6, depth=1, steps=10, batch=2)
    run, other = train(TASK, config, tmp_path, seeds=(0, 1))
    with pytest.raises(Unsupported, match="trained on another task than 'mtd-q5-m3'"):
        load_run(load_task("mtd-q5-m3"), run)
    with pytest.raises(InputError, match=r"has no card.json. Inside it there are: .*seed0"):
        build_predictor(f"run:{tmp_path}", TASK)
    card = json.loads((run / "card.json").read_text())
    for damage, sentence in (
        ({"config": card["config"] | {"depth": 2}}, "does not hold the weights of its card"),
        ({"config": card["config"] | {"colour": 1}}, "is not a card that this version of `mdbench train` wrote"),
    ):
        (run / "card.json").write_text(json.dumps(card | damage))
        with pytest.raises(InputError, match=sentence):
            load_run(TASK, run)
    (run / "card.json").write_text(json.dumps(card))
    for content, why in (
        ((other / "weights.safetensors").read_bytes(), "their SHA-256 is another"),  # of the same shape
        (b"pickle", ""),
    ):
        (run / "weights.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=f"does not hold the weights of its card: {why}"):
            load_run(TASK, run)
        with pytest.raises(InputError, match=r"of its card: .*\. Remove '.*card.json' to train this seed again\."):
            train(TASK, config, tmp_path)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": "truth"}, "target must be one of token, conditional, bayes"),
        ({"model": "rnn"}, "model must be one of disentangled, standard"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, restarts"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"depth": 11}, "depth of a disentangled model must be at most 10, not 11"),
        ({"depth": 101, "model": "standard"}, "depth of a standard model must be at most 100, not 101"),
        ({"model": "standard", "heads": 5}, "heads must divide width 64; 5 do not"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"start_length": 7}, "start_length must be from 0 to the length 6, not 7"),
        ({"start_length": 3, "steps": 199}, "199 steps are too few for a first half with start_length; give"),
        ({"steps": True}, r"steps must be a whole number \(int\), not True"),
        ({"batch": np.int64(8)}, "batch must be a whole number"),
        ({"learning_rate": "0.01"}, "learning_rate must be a number"),
    ],
)
def test_bad_configurations(change, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainingConfig(length=6, **change)


@pytest.mark.wrong_types
def test_bad_seeds_and_targets_leave_nothing_behind(tmp_path):
    config = TrainingConfig(length=6)
    for seeds in ((), (1, 1), (-1,), (0.5,)):
        with pytest.raises(InputError, match="seed"):
            train(TASK, config, tmp_path / "run", seeds=seeds)
    with pytest.raises(InputError, match="device 'cuda:77' cannot be used here"):
        train(TASK, config, tmp_path / "run", device="cuda:77")
    with pytest.raises(InputError, match="trained on cpu or cuda, not on 'meta'"):
        train(TASK, config, tmp_path / "run", device="meta")
    with pytest.raises(InputError, match="needs a whole length of at least order"):
        train(TASK, TrainingConfig(length=6, start_length=2), tmp_path / "run")
    long = MTD("long", TASK.transition, 8, lengths=(128,))
    with pytest.raises(InputError, match="needs the exact posterior"):
        train(long, TrainingConfig(length=128, target="bayes"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("**/*"))
