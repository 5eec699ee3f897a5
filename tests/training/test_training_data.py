"""The sequences that models are trained on: their distribution, their targets, and that a step's batch is its own."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from mdbench.baselines import Exact
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, load_task, next_token_probs
from mdbench.training.data import BLOCK, Batches, draw_sequences

SHARP = np.array([[0.9, 0.1], [0.3, 0.7]])
ZEROS = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))],
)
@pytest.mark.parametrize(
    ("transition", "order", "concentration", "length"),
    [(SHARP, 2, 1.0, 6), (SHARP, 3, 0.2, 6), (SHARP, 1, 1.0, 4), (ZEROS, 2, 3.0, 4)],
)
def test_sequences_and_weights_have_the_models_distribution(transition, order, concentration, length, device):
    """Every sequence is as frequent as its exact evidence says, and λ given it has the exact posterior's moments."""
    task = MTD("small", transition, order, concentration, lengths=(length,))
    n = 200_000
    tokens, weights = draw_sequences(task, length, n, torch.Generator(device).manual_seed(0))
    tokens, weights = tokens.cpu().numpy(), weights.cpu().numpy()
    q = task.n_states
    count = np.bincount(tokens @ q ** np.arange(length)[::-1], minlength=q**length)
    every = np.array(list(itertools.product(range(q), repeat=length)))
    lags = np.stack([transition[every[:, order - g : length - g], every[:, order:]] for g in range(1, order + 1)])
    possible = (lags.max(axis=0) > 0).all(axis=1)
    assert not count[~possible].any()
    truth = Exact().posterior(task, every[possible])
    count, expected = count[possible], n * q**-order * np.exp(truth.log_evidence[:, 0])
    code = (np.cumsum(possible) - 1)[tokens @ q ** np.arange(length)[::-1]]
    p_values = []
    for k in np.flatnonzero(count > 500) if order > 1 else ():
        z = (weights[code == k].mean(axis=0) - truth.mean[k, 0]) / (truth.sd[k, 0] / np.sqrt(count[k]))
        p_values.append(order * 2 * stats.norm.sf(np.abs(z).max()))
    np.testing.assert_allclose(expected.sum(), n, rtol=1e-12)
    assert stats.chisquare(count, expected).pvalue > 1e-3
    if p_values:
        assert min(p_values) * len(p_values) > 1e-3  # Bonferroni


def test_a_batch_depends_on_its_step_alone():
    task = load_task("mtd-q3-m2")
    batches = [Batches(task, 8, "conditional", 16, 3, seed, "cpu") for seed in (5, 5, 6)]
    forward = [batches[0][k] for k in range(3 * BLOCK + 2)]
    for k in (3 * BLOCK + 1, BLOCK + 3, 0, 2 * BLOCK):
        for found, expected, of_other_seed in zip(batches[1][k], forward[k], batches[2][k], strict=True):
            assert torch.equal(found, expected)
            assert not torch.equal(of_other_seed, expected)


def test_each_sequence_serves_reuse_steps_and_then_new_ones_come():
    task = load_task("mtd-q5-m3")
    batches = Batches(task, 20, "token", 4, 3, 0, "cpu")

    def drawn_in(steps):
        return sorted(tuple(row) for k in steps for row in batches[k][0].tolist())

    rounds = [drawn_in(range(r * BLOCK, (r + 1) * BLOCK)) for r in range(4)]
    assert rounds[0] == rounds[1] == rounds[2]
    assert not set(rounds[0]) & set(rounds[3])
    assert not torch.equal(batches[0][0], batches[BLOCK][0])  # in another order


# In the first two cases the tolerance has an effect.
CASES = [("mtd-q3-m2", 1, 128), ("mtd-q10-m4", 1, 64), ("mtd-q5-m3", 2, 12)]


@pytest.mark.parametrize(("name", "reuse", "length"), CASES)
def test_targets(name, reuse, length):
    task = load_task(name)
    contexts = {}
    for target in ("token", "conditional", "bayes"):
        batches = Batches(task, length, target, 8, reuse, 1, "cpu")
        contexts[target], found = map(torch.cat, zip(*(batches[BLOCK + k] for k in range(BLOCK)), strict=True))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.sum(dim=1).numpy(), 1, atol=1e-6)
        if target == "token":
            assert set(found.unique().tolist()) == {0.0, 1.0}
        if target == "bayes":
            bayes = next_token_probs(
                task, Exact().posterior(task, contexts[target].numpy()).mean[:, 0], contexts[target].numpy()
            )
            np.testing.assert_allclose(found.numpy(), bayes, rtol=6e-7)  # what TOLERANCE says, and float32's rounding
    assert torch.equal(contexts["token"], contexts["bayes"])


@pytest.mark.slow
def test_token_and_conditional_targets_have_the_bayes_target_as_their_mean():
    """Over sequences, weighted by any function of the context; here the Bayes prediction itself and a constant."""
    task = load_task("mtd-q3-m2")
    of = {t: [torch.cat(x) for x in zip(*(Batches(task, 6, t, 128, 1, 2, "cpu")[k] for k in range(64)), strict=True)]
          for t in ("token", "conditional", "bayes")}  # fmt: skip
    bayes = of["bayes"][1].double()
    for target in ("token", "conditional"):
        difference = of[target][1].double() - bayes
        for weight in (torch.ones_like(bayes), bayes):
            values = (difference * weight).numpy()
            z = values.mean(axis=0) / (values.std(axis=0) / np.sqrt(len(values)))
            assert np.abs(z).max() < 4.5


def test_a_task_that_exact_cannot_do_has_no_bayes_target():
    task = MTD("long", SHARP, 8, 1.0, lengths=(128,))
    with pytest.raises(InputError, match="the target 'bayes' needs the exact posterior"):
        Batches(task, 128, "bayes", 4, 1, 0, "cpu")
    assert Batches(task, 128, "conditional", 4, 1, 0, "cpu")[0][0].shape == (4, 128)
