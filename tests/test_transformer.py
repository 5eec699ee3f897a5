"""The disentangled transformer against its definition in loops."""

import numpy as np
import torch
from torch.nn import functional as F

from mdbench.predictors.transformer import DisentangledTransformer, run_model

Q, LENGTH, DEPTH, BATCH = 4, 7, 3, 3


def random_model():
    model = DisentangledTransformer(Q, LENGTH, DEPTH, d_rel=3).double()
    model.initialise(0.5, torch.Generator().manual_seed(0))
    return model, torch.randint(Q, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


def by_loops(model, tokens):
    """SPEC section 4, written position by position; returns W_O h_T and every attention map."""
    h = [[F.one_hot(token, Q).double() for token in row] for row in tokens]
    maps = []
    for layer in model.layers:
        attention, new = [], []
        for states in h:
            rows, weights = [], []
            for i, query in enumerate(states):
                scores = [query @ (layer.attend @ states[j] + layer.attend_offset[i - j]) for j in range(i + 1)]
                a = torch.softmax(torch.stack(scores), 0)
                values = [torch.cat([states[j], layer.value_offset[i - j]]) for j in range(i + 1)]
                rows.append(torch.cat([query, sum(a[j] * values[j] for j in range(i + 1))]))
                weights.append(F.pad(a.detach(), (0, LENGTH - 1 - i)))
            attention.append(torch.stack(weights))
            new.append(rows)
        h = new
        maps.append(torch.stack(attention))
    return torch.stack([model.readout @ h[b][-1] for b in range(BATCH)]), maps


def test_output_and_attention_maps_are_the_definition():
    model, tokens = random_model()
    with torch.no_grad():
        output, maps = by_loops(model, tokens)
        torch.testing.assert_close(model(tokens), output, rtol=0, atol=1e-13)
        for found, expected in zip(model.attention_maps(tokens), maps, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_gradients_are_those_of_the_definition():
    """The shifts between offsets and keys are differentiated too."""
    model, tokens = random_model()
    by_loops(model, tokens)[0].square().sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(tokens).square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


def test_run_model_leaves_the_threads_as_they_were():
    model, tokens = random_model()
    before = torch.get_num_threads()
    output = run_model(model, tokens.numpy())
    assert torch.get_num_threads() == before
    assert output.dtype == np.float64
