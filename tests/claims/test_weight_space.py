"""A model in another one's basis is the same function, and the basis is found."""

import copy

import numpy as np
import torch
from scipy.stats import ortho_group

from mdbench.claims.weight_space import turned
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import load_task, sample


def test_a_model_turned_by_any_rotations_is_found_again():
    task = load_task("mtd-q5-m3")
    model = copy.deepcopy(build_predictor("trained_l3:seed=0", task).transformer(16)).double()
    tokens = torch.from_numpy(sample(task, 16, 20, 0).contexts)
    away = copy.deepcopy(model)
    with torch.no_grad():
        for k, layer in enumerate(away.layers):  # the rotated values alone are another function
            layer.value_offset.copy_(layer.value_offset @ torch.from_numpy(ortho_group.rvs(16, random_state=k)))
    rotated = turned(model, away)
    with torch.no_grad():
        np.testing.assert_allclose(rotated(tokens), model(tokens), atol=1e-12)
    assert max(float((a - b).abs().max()) for a, b in zip(rotated.parameters(), model.parameters(), strict=True)) > 0.1
    back = turned(rotated, model)
    for a, b in zip(back.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=1e-10)
