"""Both transformers against their definitions in loops."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mdbench.core.errors import InputError
from mdbench.predictors import transformer
from mdbench.predictors.transformer import DisentangledTransformer, StandardTransformer, run_model

Q, LENGTH, DEPTH, BATCH, WIDTH, HEADS = 4, 7, 3, 3, 6, 2
BUILD = {
    "disentangled": lambda: DisentangledTransformer(Q, LENGTH, DEPTH, d_rel=3),
    "standard": lambda: StandardTransformer(Q, LENGTH, DEPTH, WIDTH, HEADS),
}


def random_model(name):
    model = BUILD[name]().double()
    model.initialise(0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():  # no bias zero and no norm one, so that a forgotten one shows
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model, torch.randint(Q, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


def disentangled_layer(layer, states):
    """docs/mathematics.md, section 4, position by position: the new states and the attention map."""
    new, maps = [], []
    for i, query in enumerate(states):
        scores = [query @ (layer.attend @ states[j] + layer.attend_offset[i - j]) for j in range(i + 1)]
        a = torch.softmax(torch.stack(scores), 0)
        values = [torch.cat([states[j], layer.value_offset[i - j]]) for j in range(i + 1)]
        new.append(torch.cat([query, sum(a[j] * values[j] for j in range(i + 1))]))
        maps.append(F.pad(a.detach(), (0, len(states) - 1 - i)))
    return new, torch.stack(maps)


def norm(module, x):
    centred = x - x.mean()
    return module.weight * centred / (centred.square().mean() + module.eps).sqrt() + module.bias


def standard_layer(layer, states):
    """Shaw et al., equations 3 and 4, in a pre-norm block."""
    d = WIDTH // HEADS
    normed = [norm(layer.attention_norm, h) for h in states]
    query, key, value = (
        [layer.queries_keys_values.weight[k * WIDTH :][:WIDTH] @ h + layer.queries_keys_values.bias[k * WIDTH :][:WIDTH]
         for h in normed]
        for k in range(3)
    )  # fmt: skip
    new, maps = [], []
    for i, h in enumerate(states):
        heads, rows = [], []
        for head in range(HEADS):
            part = slice(head * d, (head + 1) * d)
            scores = [query[i][part] @ (key[j][part] + layer.key_offset[i - j]) / d**0.5 for j in range(i + 1)]
            a = torch.softmax(torch.stack(scores), 0)
            heads.append(sum(a[j] * (value[j][part] + layer.value_offset[i - j]) for j in range(i + 1)))
            rows.append(F.pad(a.detach(), (0, len(states) - 1 - i)))
        h = h + layer.mix.weight @ torch.cat(heads) + layer.mix.bias
        first, _, second = layer.mlp
        hidden = first.weight @ norm(layer.mlp_norm, h) + first.bias
        hidden = hidden * torch.special.ndtr(hidden)  # GELU
        new.append(h + second.weight @ hidden + second.bias)
        maps.append(torch.stack(rows))
    return new, torch.stack(maps, dim=1)


def by_loops(name, model, tokens):
    """W_O h_T and every attention map."""
    outputs, maps = [], []
    for row in tokens:
        states, of_row = [F.one_hot(token, Q).double() for token in row], []
        if name == "standard":
            states = [h @ model.embedding for h in states]
        for layer in model.layers:
            states, found = (disentangled_layer if name == "disentangled" else standard_layer)(layer, states)
            of_row.append(found)
        last = states[-1] if name == "disentangled" else norm(model.norm, states[-1])
        outputs.append(model.readout @ last)
        maps.append(of_row)
    return torch.stack(outputs), [torch.stack(of_layer) for of_layer in zip(*maps, strict=True)]


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", BUILD)
def test_attention_maps_take_what_the_model_knows(name):
    model, tokens = random_model(name)
    sentence = rf"with a length from 1 to {LENGTH}, not \({len(tokens)}, "
    for wrong, message in (
        (tokens.repeat(1, 2), sentence),
        (tokens[:, :0], sentence),
        (tokens[0], "contexts must be tokens"),
        (tokens + 1, f"whole numbers from 0 to {model.n_states - 1}"),
        (tokens - 1, "whole numbers from 0"),
        (tokens.double(), "whole numbers from 0"),
    ):
        with pytest.raises(InputError, match=message):
            model.attention_maps(wrong)


@pytest.mark.parametrize("length", [LENGTH, LENGTH - 2])
@pytest.mark.parametrize("name", BUILD)
def test_output_and_attention_maps_are_the_definition(name, length):
    model, tokens = random_model(name)
    tokens = tokens[:, :length]
    with torch.no_grad():
        output, maps = by_loops(name, model, tokens)
        torch.testing.assert_close(model(tokens), output, rtol=0, atol=1e-13)
        for found, expected in zip(model.attention_maps(tokens), maps, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", BUILD)
def test_gradients_are_those_of_the_definition(name):
    """The shifts between offsets and keys are differentiated too."""
    model, tokens = random_model(name)
    by_loops(name, model, tokens)[0].square().sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(tokens).square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-11)


def test_a_standard_model_starts_with_zero_biases_and_unit_norms():
    model = BUILD["standard"]()
    model.initialise(0.1, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == ("norm" in name and "weight" in name)).all()


def test_run_model_is_the_model_and_leaves_the_threads_as_they_were(monkeypatch):
    model, tokens = random_model("disentangled")
    before = torch.get_num_threads()
    monkeypatch.setattr(transformer, "MOST_TOGETHER", 2)
    for n in (0, 1, len(tokens)):
        output = run_model(model, tokens[:n].numpy())
        assert torch.get_num_threads() == before
        assert output.dtype == np.float64
        np.testing.assert_allclose(output, model(tokens[:n]).detach().numpy(), rtol=1e-5, atol=1e-7)
