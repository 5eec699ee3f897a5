"""Inspection: a construction is what it is held against, and a change of one part shows in that part."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mdbench.algorithms.tuning import tuned_scalars, tuned_step_size
from mdbench.core.errors import InputError
from mdbench.mechanism.inspection import inspect
from mdbench.pages.inspection import render
from mdbench.predictors.constructed import Constructed, ConstructedL3
from mdbench.predictors.transformer import StandardTransformer, run_model
from mdbench.tasks import MTD, load_task

TASK = load_task("mtd-q5-m3")
LENGTH = 16


class Changed:
    """The construction after a change of its weights."""

    def __init__(self, depth, change):
        built = ConstructedL3(TASK) if depth == 3 else Constructed(TASK, depth)
        self.model = copy.deepcopy(built.transformer(LENGTH))
        with torch.no_grad():
            change(self.model)

    def transformer(self, _length):
        return self.model

    def predict(self, contexts):
        probs = np.maximum(run_model(self.model, contexts), 1e-9)
        return probs / probs.sum(axis=1, keepdims=True)


def first_of(predictor, n_sequences):
    return inspect(predictor, length=LENGTH, n_sequences=n_sequences).runs[0]


@pytest.mark.parametrize("name", ["constructed_l3", "constructed_l4", "constructed_l5", "constructed_l7"])
def test_a_construction_is_itself(name):
    seen = inspect(name, length=LENGTH, n_sequences=70)
    assert seen.construction == name
    (found,) = seen.runs
    assert found.to_construction.mean <= 1e-30
    assert set(found.elsewhere) == {"α = 0.1", "α = 10", "one-hot"}
    assert all(m.mean <= 1e-28 for m in found.elsewhere.values())
    assert found.to_bayes.mean == pytest.approx(seen.construction_to_bayes.mean, rel=1e-12)
    assert len(found.layers) == seen.depth == int(name[-1])
    for layer in found.layers:
        assert layer.overlap == pytest.approx(1.0, abs=1e-12)
        assert layer.overlap_last == pytest.approx(1.0, abs=1e-12)
        assert np.abs(layer.mean_difference).max() <= 1e-12
        np.testing.assert_allclose(layer.mean_map.sum(axis=1), 1.0)
    task = load_task("mtd-q5-m3")
    temperature = tuned_scalars(task, seen.depth, LENGTH)[0] if seen.depth > 3 else 1.0  # the paper's has none
    assert found.transition.scale == pytest.approx(temperature)
    tempered = softmax(temperature * np.log(task.transition.T), axis=1)
    np.testing.assert_allclose(found.transition.learned, tempered, rtol=1e-9)
    if seen.depth == 3:
        assert found.transition.kl_over_keys <= 1e-25
        assert found.transition.kl_rows <= 1e-25


def test_the_step_size_is_read_from_the_last_layer():
    found = first_of("constructed_l3", 50).step_size
    assert found.eta == pytest.approx(tuned_step_size(TASK, 1, LENGTH), rel=1e-9)
    assert found.r_squared == pytest.approx(1.0)
    assert found.on_lags == pytest.approx(1.0)
    other = first_of("constructed_l3:eta=0.05", 50)
    assert other.step_size.eta == pytest.approx(0.05, rel=1e-9)
    assert other.layers[1].overlap == pytest.approx(1.0)  # only layer 3 has a step size
    assert other.layers[2].overlap_last < 0.999


def test_a_change_shows_where_it_was_made():
    def double_w_a(model):
        model.layers[0].attend *= 2

    found = first_of(Changed(3, double_w_a), 30)
    assert found.transition.scale == pytest.approx(2.0)
    assert found.transition.kl_over_keys > 0.01
    assert found.layers[0].overlap < 0.99
    assert found.layers[1].overlap == pytest.approx(1.0)

    def per_query_constants(model):  # which no attention sees
        model.layers[0].attend += torch.arange(5.0)[:, None]

    found = first_of(Changed(3, per_query_constants), 30)
    assert found.transition.kl_over_keys <= 1e-25
    assert found.transition.kl_rows > 0.1
    assert found.to_construction.mean <= 1e-20

    def shifted_band(model):  # layer 2 sees the first m positions and not the last m
        table = model.layers[1].attend_offset
        table.copy_(table.flip(0))

    found = first_of(Changed(3, shifted_band), 30)
    assert found.layers[1].overlap_last == pytest.approx((LENGTH - 6) / (LENGTH - 3))
    assert found.layers[0].overlap == pytest.approx(1.0)


def test_probes_find_what_a_standard_model_holds(monkeypatch):
    """A residual stream that holds Γ_t in some basis has R² 1; one of the embedding alone has not."""
    from mdbench.mechanism.tracing import Model
    from mdbench.tasks import lag_likelihoods

    model = StandardTransformer(5, LENGTH, depth=1, width=8, heads=2)
    model.initialise(0.1, torch.Generator().manual_seed(0))

    class Planted:
        def transformer(self, _length):
            return model

        def predict(self, contexts):
            return np.full((len(contexts), 5), 0.2)

    def trace(_model, contexts):
        gamma = lag_likelihoods(TASK, contexts)
        gamma = gamma / gamma.sum(axis=-1, keepdims=True)
        padded = np.concatenate([np.zeros((len(contexts), 3, 3)), gamma], axis=1)
        mixed = padded @ np.random.default_rng(0).normal(size=(3, 8)) + 1.0
        return [np.eye(5)[contexts], mixed], [np.zeros((len(contexts), 2, LENGTH, LENGTH))]

    monkeypatch.setattr(Model, "trace", trace)
    found = first_of(Planted(), 100)
    assert found.probes[1].gamma == pytest.approx(1.0)
    assert found.probes[0].gamma < 0.5
    assert found.probes[1].mean_gamma < 0.9  # the mean of all is more than the last one tells


def test_a_standard_model_has_maps_of_every_head_and_probes(tmp_path):
    from mdbench.predictors.training_config import TrainingConfig
    from mdbench.training.run import train

    config = TrainingConfig(length=LENGTH, model="standard", depth=2, width=8, heads=2, steps=100, batch=4)
    (run,) = train(TASK, config, tmp_path)
    found = inspect(f"run:{run}", length=LENGTH, n_sequences=50)
    assert found.model == "standard"
    (of_run,) = found.runs
    assert [layer.shape for layer in of_run.maps] == [(2, LENGTH, LENGTH)] * 2
    assert [probe.after_layer for probe in of_run.probes] == [0, 1, 2]
    assert not of_run.layers
    assert of_run.transition is None
    assert "Linear probes" in render(found, "mdbench inspect")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained_l3", "constructed_l4"])
def test_the_page_is_whole_and_harmless(name):
    found = inspect(name, length=LENGTH, n_sequences=80)
    page = render(found, "mdbench inspect <script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") == 4 * len(found.runs) + 2
    assert "http" not in page.replace("http-equiv", "")
    assert page == render(found, "mdbench inspect <script>alert(1)</script>")


def test_json_says_what_the_object_does():
    found = inspect("trained_l3", length=LENGTH, n_sequences=80)
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(said["runs"]) == len(found.runs) == 3
    for run, of_run in zip(said["runs"], found.runs, strict=True):
        assert run["to_bayes"]["mean"] == of_run.to_bayes.mean
        assert run["layers"][1]["overlap"] == of_run.layers[1].overlap
        assert len(run["layers"][0]["offset_scores"]) == LENGTH
        assert math.isclose(run["transition"]["learned"][2][3], of_run.transition.learned[2, 3])
        assert run["adaptation"]["slope"] == of_run.adaptation.slope
        assert len(run["leak"]["weight"]) == LENGTH - 3


def test_a_construction_leaks_nothing_and_a_leak_is_found():
    found = first_of("constructed_l3", 40)
    np.testing.assert_allclose(found.leak.leak, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.leak.weight, 1 / (LENGTH - 3))
    assert found.leak.correlation == 0.0

    def leaky(model):  # the token before the lags is as likely as its score says
        model.layers[0].attend_offset[4] = model.layers[0].attend_offset[1]

    assert first_of(Changed(3, leaky), 40).leak.leak.max() > 0.05


class Own(torch.nn.Module):
    """A construction's attention in a module that is none of ours."""

    def __init__(self, inner, ahead=False):
        super().__init__()
        self.inner, self.ahead = inner, ahead
        self.maps = torch.nn.ModuleList(torch.nn.Identity() for _ in inner.layers)
        self.parts = {f"attention {k + 1}": f"maps.{k}" for k in range(len(inner.layers))}

    def forward(self, tokens):
        for identity, attention in zip(self.maps, self.inner.trace(tokens)[1], strict=True):
            identity(attention.flip(-1) if self.ahead else attention)
        return self.inner(tokens)


def own(ahead=False):
    inner = ConstructedL3(TASK).transformer(LENGTH)
    model = Own(inner, ahead)

    class Predictor:
        def transformer(self, _length):
            return model

        def predict(self, contexts):
            return run_model(model, contexts)

    return Predictor()


def test_a_module_of_ones_own_is_held_against_the_construction():
    seen = inspect(own(), length=LENGTH, n_sequences=80)
    assert seen.model == "Own"
    (found,) = seen.runs
    assert [layer.overlap for layer in found.layers] == pytest.approx([1.0] * 3)
    assert found.layers[0].offset_scores is None
    assert found.to_construction.mean <= 1e-25
    assert found.adaptation.slope == pytest.approx(0.0, abs=1e-6)
    assert "Own" in render(seen, "mdbench inspect")
    with pytest.raises(InputError, match=r"looks ahead: a position gives .* of attention 1 to later ones"):
        inspect(own(ahead=True), length=LENGTH, n_sequences=30)


@pytest.mark.slow
def test_a_task_of_order_one():
    task = MTD("chain", [[0.8, 0.2], [0.3, 0.7]], 1, lengths=(8,))
    seen = inspect("constructed_l3:eta=0.1", task=task, length=8, n_sequences=30)
    assert seen.runs[0].step_size is None  # one lag: nothing to weigh
    assert seen.runs[0].adaptation is None
    assert "slope of W_A" in render(seen, "mdbench inspect")


@pytest.mark.parametrize(
    ("name", "length", "sentence"),
    [("md1", 16, "'md1' is no transformer"), ("trained_l3", 17, "no weights for length 17"), ("md1", 2, "length")],
)
def test_what_cannot_be_inspected(name, length, sentence):
    with pytest.raises(InputError, match=sentence):
        inspect(name, length=length)
