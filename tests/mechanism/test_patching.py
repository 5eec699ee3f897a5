"""Interventions do what they say: on constructions, where every part is known, and on models of somebody else."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import mdbench
from mdbench.algorithms.reweighting import responsibilities
from mdbench.algorithms.token_weighting import TokenWeights
from mdbench.core import metrics
from mdbench.core.errors import InputError, PredictorError
from mdbench.mechanism import patching
from mdbench.mechanism.patching import ANOTHER, CONSTRUCTION, OWN_MEAN, UNTOUCHED, ZERO
from mdbench.pages.terminal import print_patched
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.constructed import construct_adaptive
from mdbench.predictors.transformer import DisentangledTransformer, StandardTransformer
from mdbench.tasks import Stream, load_task, next_token_probs, sample

TASK, LENGTH, N, N_OTHERS = load_task("mtd-q3-m2"), 16, 192, 256
JUDGED = sample(TASK, LENGTH, N, 0).contexts
BAYES = metrics.normalise(build_predictor("bayes", TASK).predict(JUDGED))


@pytest.fixture(scope="module", autouse=True)
def _few_others():
    """Readouts of these small models need no more, and a test has better things to do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(patching, "FITTED_ON", N_OTHERS)
        yield


@pytest.fixture(scope="module")
def constructed(_few_others):
    return mdbench.patch("constructed_l3", task=TASK, length=LENGTH, n_sequences=N)


def one(found, *which, **options):
    (intervention,) = found.of(*which, **options)
    return intervention


def md1_weights(contexts):
    predictor = build_predictor("md1", TASK)
    step = predictor.step_size(LENGTH) * TASK.order * responsibilities(TASK.likelihoods(contexts)).sum(axis=1)
    return np.asarray(np.exp(step) / np.exp(step).sum(axis=1, keepdims=True))


def test_what_a_construction_does_not_use_may_be_anything(constructed):
    untouched = one(constructed, 0, UNTOUCHED, UNTOUCHED)
    for layer, part in ((1, "values"), (2, "offsets"), (3, "offsets")):
        for replaced_by in (OWN_MEAN, ANOTHER, ZERO):
            assert one(constructed, layer, part, replaced_by).kl_to_untouched <= 1e-25
    for replaced_by in (OWN_MEAN, ANOTHER):  # it averages, whatever the sequence
        assert one(constructed, 2, "attention", replaced_by).kl_to_untouched <= 1e-25
        assert one(constructed, 2, "normaliser", replaced_by).kl_to_untouched <= 1e-20
    for part in ("attention", "values", "offsets"):  # it is its own construction
        for layer in (1, 2, 3):
            for refit in (False, True):
                found = one(constructed, layer, part, CONSTRUCTION, refit=refit)
                assert found.kl_to_untouched <= 1e-20
                assert found.excess_kl == pytest.approx(untouched.excess_kl, rel=1e-9)


def test_an_interchange_moves_the_output_as_planted(constructed):
    """With another sequence's last attention the prediction mixes its own lags with that one's weights."""
    moved = next_token_probs(TASK, np.roll(md1_weights(JUDGED), -1, axis=0), JUDGED)
    plain = next_token_probs(TASK, md1_weights(JUDGED), JUDGED)
    found = one(constructed, 3, "attention", ANOTHER)
    assert found.excess_kl == pytest.approx(metrics.kl(BAYES, moved).mean(), rel=1e-9)
    assert found.kl_to_untouched == pytest.approx(metrics.kl(plain, moved).mean(), rel=1e-9)
    assert found.excess_kl > 10 * one(constructed, 0, UNTOUCHED, UNTOUCHED).excess_kl


def test_the_mean_of_the_last_attention_is_the_mean_weights(constructed):
    others = sample(TASK, LENGTH, N_OTHERS, 0, stream=Stream.CALIBRATION).contexts
    mean = np.broadcast_to(md1_weights(others).mean(axis=0), (N, TASK.order))
    expected = metrics.kl(BAYES, next_token_probs(TASK, mean, JUDGED)).mean()
    assert one(constructed, 3, "attention", OWN_MEAN).excess_kl == pytest.approx(expected, rel=1e-9)


class Holding:
    """A predictor that runs one module."""

    def __init__(self, module):
        self.module = module.eval()

    def transformer(self, _length):
        return self.module

    def predict(self, contexts):
        with torch.no_grad():
            return self.module(torch.from_numpy(contexts)).double().numpy()


def test_a_fixed_normaliser_makes_the_step_fixed():
    """λ̂ = softmax(β Σ w γ̃ / Σ w) with token weights w, in which Σ w becomes a constant of the last token."""
    rng = np.random.default_rng(0)
    q, m = TASK.n_states, TASK.order
    weights = TokenWeights(np.log(TASK.transition.T), rng.normal(0.0, 0.7, q), np.array(4.0))
    model = construct_adaptive(TASK, LENGTH, weights)
    found = mdbench.patch(Holding(model), task=TASK, length=LENGTH, n_sequences=N)

    def parts(contexts):
        w = np.exp(np.asarray(weights.log_weights))[contexts[:, m:]]
        gamma = np.asarray(responsibilities(TASK.likelihoods(contexts)))
        scores = np.log(np.concatenate([np.exp(np.asarray(weights.log_weights))[contexts[:, :m]], w], axis=1))
        scores[:, :m] -= 2000.0
        return np.einsum("nt,ntg->ng", w, gamma), np.log(w.sum(axis=1)), scores.mean(axis=1)

    others = sample(TASK, LENGTH, N_OTHERS, 0, stream=Stream.CALIBRATION).contexts
    _, log_sum, level = parts(others)
    gauge = np.array([level[others[:, -1] == b].mean() for b in range(q)])
    fixed = gauge + (log_sum - gauge[others[:, -1]]).mean()
    total, own, _ = parts(JUDGED)
    for replaced_by, log_z in ((None, own), (OWN_MEAN, fixed[JUDGED[:, -1]])):
        step = 4.0 * total / np.exp(log_z)[:, None]
        lam = np.exp(step) / np.exp(step).sum(axis=1, keepdims=True)
        expected = metrics.kl(BAYES, next_token_probs(TASK, lam, JUDGED)).mean()
        which = (2, "normaliser", replaced_by) if replaced_by else (0, UNTOUCHED, UNTOUCHED)
        assert one(found, *which).excess_kl == pytest.approx(expected, rel=1e-8)


def test_hooks_fire_on_layers_attention_and_readout():
    tokens = torch.from_numpy(JUDGED[:5])
    for model in (DisentangledTransformer(3, LENGTH, 3, 2), StandardTransformer(3, LENGTH, 3, 8, 2)):
        model.initialise(0.5, torch.Generator().manual_seed(0))
        seen = {name: [] for name, _ in model.named_modules()}
        for name, module in model.named_modules():
            module.register_forward_hook(lambda _m, _i, out, there=seen[name]: there.append(out))
        output = model(tokens)
        assert all(len(seen[name]) == 1 for name in ("layers.0", "layers.1", "layers.2", "read", "layers.1.softmax"))
        torch.testing.assert_close(seen["read"][0], output)
        torch.testing.assert_close(
            seen["layers.2.softmax"][0].sum(-1), torch.ones(seen["layers.2.softmax"][0].shape[:-1])
        )
        again = model.trace(tokens)[1][0]
        torch.testing.assert_close(seen["layers.0.softmax"][0], again)


@pytest.mark.slow
def test_training_seeds_take_each_others_parts():
    found = mdbench.patch("trained_l3", task=TASK, length=LENGTH, n_sequences=64)
    seeds = {i.seed for i in found.interventions}
    assert seeds == {0, 1, 2}
    for k in seeds:
        by = {i.replaced_by for i in found.interventions if i.seed == k}
        assert {f"seed={j}" for j in seeds - {k}} <= by
        assert f"seed={k}" not in by
    contexts = sample(TASK, LENGTH, 64, 0).contexts
    bayes = metrics.normalise(build_predictor("bayes", TASK).predict(contexts))
    for run, untouched in zip(
        build_predictor("trained_l3", TASK).runs(LENGTH), found.of(0, UNTOUCHED, UNTOUCHED), strict=True
    ):
        assert untouched.excess_kl == pytest.approx(metrics.kl(bayes, run.predict(contexts)).mean(), rel=1e-5)


class Tiny(nn.Module):
    """Attention over the last two tokens, by somebody else."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 4)
        self.weigh = nn.Softmax(dim=-1)
        self.out = nn.Linear(4, 3)

    def forward(self, tokens):
        h = self.embed(tokens)
        a = self.weigh(h[:, -1:] @ h.transpose(1, 2))
        return torch.softmax(self.out((a @ h)[:, 0]), -1)


def test_a_module_of_ones_own():
    torch.manual_seed(0)
    plain = Tiny()
    found = mdbench.patch(Holding(plain), task=TASK, length=LENGTH, n_sequences=64)
    assert {(i.layer, i.part) for i in found.interventions} == {(0, UNTOUCHED), (1, "attention"), (1, "normaliser")}
    assert not any(i.refit for i in found.interventions)
    plain.parts = {"attention 1": "weigh", "embedding 1": "embed", "readout": "out"}
    found = mdbench.patch(Holding(plain), task=TASK, length=LENGTH, n_sequences=64)
    assert {i.part for i in found.interventions} >= {"attention", "embedding"}
    assert one(found, 1, "embedding", ANOTHER).kl_to_untouched > 0
    assert one(found, 1, "embedding", ANOTHER, refit=True).refit


def test_another_model_gives_its_parts():
    """With the step of another size in the place of layer 3's attention, it is that other model."""
    other = "constructed_l3:eta=0.05"
    found = mdbench.patch("constructed_l3", task=TASK, length=LENGTH, n_sequences=N, donor=other)
    whole = metrics.kl(BAYES, build_predictor(other, TASK).predict(JUDGED)).mean()
    assert one(found, 3, "attention", f"{other}'s").excess_kl == pytest.approx(whole)
    assert one(found, 1, "attention", f"{other}'s").kl_to_untouched <= 1e-20  # layer 1 knows no step
    with pytest.raises(InputError, match="'md1' is no transformer"):
        mdbench.patch("constructed_l3", task=TASK, length=LENGTH, n_sequences=8, donor="md1")
    with pytest.raises(InputError, match="no part of 'standard_l3' has the shape of one of"):
        mdbench.patch("constructed_l3", task=TASK, length=LENGTH, n_sequences=8, donor="standard_l3")


class Everywhere(Tiny):
    """Its head is applied at all positions, as a language model's; the last one is read."""

    def forward(self, tokens):
        h = self.embed(tokens)
        a = self.weigh(h @ h.transpose(1, 2) + torch.full((LENGTH, LENGTH), -torch.inf).triu(1))
        return torch.softmax(self.out(a @ h)[:, -1], -1)


def test_a_readout_at_all_positions_is_fitted_anew_at_the_last():
    torch.manual_seed(0)
    last, everywhere = Tiny(), Everywhere()
    everywhere.load_state_dict(last.state_dict())
    for model in (last, everywhere):
        model.parts = {"embedding 1": "embed", "readout": "out"}
    a, b = (mdbench.patch(Holding(m), task=TASK, length=LENGTH, n_sequences=64) for m in (last, everywhere))
    for replaced_by in (ANOTHER, ZERO):
        for refit in (False, True):
            x, y = (one(found, 1, "embedding", replaced_by, refit=refit) for found in (a, b))
            assert x.excess_kl == pytest.approx(y.excess_kl, rel=1e-3)
    everywhere.parts = ["weigh"]
    with pytest.raises(InputError, match=r"parts of a module are a dict .* not list"):
        mdbench.patch(Holding(everywhere), task=TASK, length=LENGTH, n_sequences=8)


class Twice(Tiny):
    def forward(self, tokens):
        super().forward(tokens)
        return super().forward(tokens)


def test_what_cannot_be_patched_is_a_sentence():
    with pytest.raises(InputError, match="'md1' is no transformer"):
        mdbench.patch("md1", task=TASK, length=LENGTH)
    bare = Tiny()
    bare.weigh = nn.Identity()
    with pytest.raises(InputError, match=r"has no nn.Softmax and no attribute 'parts'"):
        mdbench.patch(Holding(bare), task=TASK, length=LENGTH)
    bare.parts = {"attention 1": "gone"}
    with pytest.raises(InputError, match="parts name the module 'gone', which it does not have"):
        mdbench.patch(Holding(bare), task=TASK, length=LENGTH)
    bare.parts = {"attention": "embed"}
    with pytest.raises(InputError, match="parts are called 'readout' or such as 'attention 1', not 'attention'"):
        mdbench.patch(Holding(bare), task=TASK, length=LENGTH)
    with pytest.raises(PredictorError, match="ran 2 times for one call of predict"):
        mdbench.patch(Holding(Twice()), task=TASK, length=LENGTH, n_sequences=64)
    holding = Holding(Tiny())
    holding.transformer = lambda _length: "no module"
    with pytest.raises(InputError, match="gives str, not a torch module"):
        mdbench.patch(holding, task=TASK, length=LENGTH)


@pytest.mark.slow
def test_command(run, tmp_path, constructed, capsys):
    asked = ("patch", "constructed_l3", "--task", TASK.name, "--length", LENGTH, "--n-sequences", 64)
    rows = json.loads(run(*asked, "--json", "--out", tmp_path).out)["interventions"]
    keys = {
        "predictor",
        "seed",
        "layer",
        "part",
        "replaced_by",
        "refit",
        "excess_kl",
        "excess_kl_ci",
        "kl_to_untouched",
    }
    assert all(keys <= row.keys() for row in rows)
    assert "data:image/png;base64," in (tmp_path / "patches.html").read_text(encoding="utf-8")
    capsys.readouterr()
    print_patched(constructed)
    assert "another sequence's" in capsys.readouterr().out
