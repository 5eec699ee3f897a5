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
from mdbench.tasks import load_task

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


@pytest.mark.parametrize("name", ["constructed_l3", "constructed_l4", "constructed_l5", "constructed_l7"])
def test_a_construction_is_itself(name):
    found = inspect(name, length=LENGTH, n_sequences=70)
    assert found.construction == name
    assert found.to_construction.mean <= 1e-30
    assert set(found.elsewhere) == {"α = 0.1", "α = 10", "one-hot"}
    assert all(m.mean <= 1e-28 for m in found.elsewhere.values())
    assert found.to_bayes.mean == pytest.approx(found.construction_to_bayes.mean, rel=1e-12)
    assert len(found.layers) == found.depth == int(name[-1])
    for layer in found.layers:
        assert layer.overlap == pytest.approx(1.0, abs=1e-12)
        assert layer.overlap_last == pytest.approx(1.0, abs=1e-12)
        assert np.abs(layer.mean_difference).max() <= 1e-12
        np.testing.assert_allclose(layer.mean_map.sum(axis=1), 1.0)
    task = load_task("mtd-q5-m3")
    temperature = tuned_scalars(task, found.depth, LENGTH)[0] if found.depth > 3 else 1.0  # the paper's has none
    assert found.transition.scale == pytest.approx(temperature)
    tempered = softmax(temperature * np.log(task.transition.T), axis=1)
    np.testing.assert_allclose(found.transition.learned, tempered, rtol=1e-9)
    if found.depth == 3:
        assert found.transition.kl_over_keys <= 1e-25
        assert found.transition.kl_rows <= 1e-25


def test_the_step_size_is_read_from_the_last_layer():
    found = inspect("constructed_l3", length=LENGTH, n_sequences=50).step_size
    assert found.eta == pytest.approx(tuned_step_size(TASK, 1, LENGTH), rel=1e-9)
    assert found.r_squared == pytest.approx(1.0)
    assert found.on_lags == pytest.approx(1.0)
    other = inspect("constructed_l3:eta=0.05", length=LENGTH, n_sequences=50)
    assert other.step_size.eta == pytest.approx(0.05, rel=1e-9)
    assert other.layers[1].overlap == pytest.approx(1.0)  # only layer 3 has a step size
    assert other.layers[2].overlap_last < 0.999


def test_a_change_shows_where_it_was_made():
    def double_w_a(model):
        model.layers[0].attend *= 2

    found = inspect(Changed(3, double_w_a), length=LENGTH, n_sequences=30)
    assert found.transition.scale == pytest.approx(2.0)
    assert found.transition.kl_over_keys > 0.01
    assert found.layers[0].overlap < 0.99
    assert found.layers[1].overlap == pytest.approx(1.0)

    def per_query_constants(model):  # which no attention sees
        model.layers[0].attend += torch.arange(5.0)[:, None]

    found = inspect(Changed(3, per_query_constants), length=LENGTH, n_sequences=30)
    assert found.transition.kl_over_keys <= 1e-25
    assert found.transition.kl_rows > 0.1
    assert found.to_construction.mean <= 1e-20

    def shifted_band(model):  # layer 2 sees the first m positions and not the last m
        table = model.layers[1].attend_offset
        table.copy_(table.flip(0))

    found = inspect(Changed(3, shifted_band), length=LENGTH, n_sequences=30)
    assert found.layers[1].overlap_last == pytest.approx((LENGTH - 6) / (LENGTH - 3))
    assert found.layers[0].overlap == pytest.approx(1.0)


def test_probes_find_what_a_standard_model_holds(monkeypatch):
    """A residual stream that holds Γ_t in some basis has R² 1; one of the embedding alone has not."""
    from mdbench.mechanism import inspection
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

    monkeypatch.setattr(inspection, "_trace", trace)
    found = inspect(Planted(), length=LENGTH, n_sequences=100)
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
    assert found.maps.shape == (2, 2, LENGTH, LENGTH)
    assert [probe.after_layer for probe in found.probes] == [0, 1, 2]
    assert not found.layers
    assert found.transition is None
    assert "Linear probes" in render(found, "mdbench inspect")


@pytest.mark.parametrize("name", ["trained_l3", pytest.param("constructed_l4", marks=pytest.mark.slow)])
def test_the_page_is_whole_and_harmless(name):
    found = inspect(name, length=LENGTH, n_sequences=20)
    page = render(found, "mdbench inspect <script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert page == render(found, "mdbench inspect <script>alert(1)</script>")


def test_json_says_what_the_object_does():
    found = inspect("trained_l3", length=LENGTH, n_sequences=20)
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["to_bayes"]["mean"] == found.to_bayes.mean
    assert said["layers"][1]["overlap"] == found.layers[1].overlap
    assert len(said["layers"][0]["offset_scores"]) == LENGTH
    assert math.isclose(said["transition"]["learned"][2][3], found.transition.learned[2, 3])


@pytest.mark.parametrize(
    ("name", "length", "sentence"),
    [("md1", 16, "'md1' is no transformer"), ("trained_l3", 17, "no weights for length 17"), ("md1", 2, "length")],
)
def test_what_cannot_be_inspected(name, length, sentence):
    with pytest.raises(InputError, match=sentence):
        inspect(name, length=length)
