"""Phases: a planted mixture comes out with its shares, and a run's snapshots are told step by step."""

import json

import numpy as np
import pytest

from mdbench.core.errors import InputError
from mdbench.mechanism import phases as module
from mdbench.mechanism.phases import nearest_mixture, phases_of
from mdbench.predictors.training_config import TrainingConfig
from mdbench.tasks import load_task, sample
from mdbench.training.run import train

TASK = load_task("mtd-q3-m2")


@pytest.fixture(scope="module")
def components():
    contexts = sample(TASK, 16, 200, seed=0).contexts
    from mdbench.baselines.catalogue import build_baseline

    return module._components(TASK, contexts, build_baseline("exact").next_token(TASK, contexts))


@pytest.mark.parametrize(
    "shares",
    [
        {"marginal": 1.0},
        {"lag 1": 0.6, "uniform": 0.4},
        {"marginal": 0.2, "lag 2": 0.3, "md1": 0.5},
        {"bayes": 0.7, "uniform": 0.3},
    ],
)
def test_a_planted_mixture_comes_out(components, shares):
    planted = sum(share * components[name] for name, share in shares.items())
    found, distance = nearest_mixture(planted, components)
    assert sum(found.values()) == pytest.approx(1.0)
    for name, share in found.items():
        assert share == pytest.approx(shares.get(name, 0.0), abs=5e-3)
    assert distance < 1e-6


def test_what_all_lags_have_in_common_is_uniform(components):
    both = 0.5 * components["lag 1"] + 0.5 * components["lag 2"]
    found, _ = nearest_mixture(both, components)
    assert found["uniform"] == pytest.approx(1.0, abs=5e-3)


def test_no_mixture_is_nearer(components):
    """Of something that is none: against random shares."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), size=200)
    _, distance = nearest_mixture(probs, components)
    stacked = np.stack([*components.values()])
    for shares in rng.dirichlet(np.ones(len(components)), size=200):
        mixed = np.tensordot(shares, stacked, axes=1)
        assert distance <= (probs * np.log(probs / mixed)).sum(axis=1).mean() + 1e-9


def test_a_run_is_told_step_by_step(tmp_path, run):
    config = TrainingConfig(length=8, steps=200, batch=8)
    (trained,) = train(TASK, config, tmp_path / "run", snapshots=3)
    code, stdout, _ = run("phases", trained, "--task", TASK.name, "--n-sequences", 64, "--out", tmp_path, "--json")
    assert code == 0
    found = json.loads(stdout)
    assert [phase["step"] for phase in found["snapshots"]] == [0, 1, 14, 200]
    assert found["components"]["bayes"] == 0
    assert found["components"]["md1"] < found["components"]["uniform"] < found["components"]["marginal"]
    last = found["snapshots"][-1]
    assert last["excess_kl"] < found["snapshots"][0]["excess_kl"]
    assert sum(last["mixture"].values()) == pytest.approx(1.0)
    assert last["kl_over_keys"] > 0
    assert (tmp_path / "phases.html").read_text().count("data:image/png;base64,") == 1
    with pytest.raises(InputError, match="has no snapshots"):
        phases_of(tmp_path, task=TASK)
