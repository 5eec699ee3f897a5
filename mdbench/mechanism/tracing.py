"""A predictor's torch module, its parts, and what passes through them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdbench.algorithms.reweighting import STAGES
from mdbench.core import metrics
from mdbench.core.device import check_device, one_thread
from mdbench.core.errors import InputError, PredictorError
from mdbench.mechanism.adaptation import Leak, leak
from mdbench.predictors.catalogue import as_predictor
from mdbench.predictors.constructed import Constructed, ConstructedL3
from mdbench.predictors.predictor import (
    SUM_TOLERANCE,
    Given,
    Parts,
    check_length,
    check_output,
    name_of,
    runs_of,
    to_numpy,
)
from mdbench.predictors.trained import FLOOR
from mdbench.predictors.transformer import DisentangledTransformer, StandardTransformer
from mdbench.tasks import MTD, Task, sample

NORMALISER = "normaliser"
ATTENTION, VALUES, OFFSETS, RESIDUAL = "attention", "values", "offsets", "residual"
BATCH = 64  # sequences whose attention maps are held at once
LOOKS_AHEAD = 1e-6  # of attention; rounding is less
LEAST_LAYERS = 3  # of a model whose second layer weighs what the first one found


def models_of(predictor: Given, task: Task, length: int, device: str) -> tuple[str, list[Model]]:
    """A predictor's name, and the module of each of its training seeds.

    Raises:
        InputError: it is no transformer, or cannot serve the length.
    """
    check_device(device)
    task.check_length(length)
    name = name_of(predictor)
    built = as_predictor(predictor, task, device)
    if Parts.of(built).transformer is None:
        raise InputError(f"'{name}' is no transformer: it has no transformer(length) that gives a torch module.")
    check_length(built, length)
    models = [Model.of(name, run, length, task.n_states) for run in runs_of(built, length)]
    contexts = sample(task, length, 2, 0).contexts
    for model in models:
        check_causal(name, model.trace(contexts)[1])
    return name, models


def check_causal(name: str, maps: Sequence[np.ndarray]) -> None:
    """Raise :class:`InputError` for attention from a position to a later one."""
    for k, attention in enumerate(maps, start=1):
        if attention.ndim >= 3 and attention.shape[-1] == attention.shape[-2]:
            ahead = float(np.triu(attention, 1).sum(axis=-1).max())
            if ahead > LOOKS_AHEAD:
                raise InputError(
                    f"'{name}' looks ahead: a position gives {ahead:.1%} of attention {k} to later ones; a model that "
                    "predicts the next token sees those before it."
                )


def construction_for(task: Task, model: Model, length: int, device: str) -> Model | None:
    """The construction of as many layers as a disentangled transformer has."""
    depth = model.depth if model.kind == "disentangled" else 0
    return constructed(task, depth, length, device) if isinstance(task, MTD) and depth in STAGES else None


def constructed(task: MTD, depth: int, length: int, device: str) -> Model:
    """The construction of so many layers."""
    other = Constructed(task, depth, device) if depth > 3 else ConstructedL3(task, device=device)
    return Model.of(f"constructed_l{depth}", other, length, task.n_states)


@dataclass(frozen=True)
class Part:
    """One part of a model: what a module puts out, or a piece of it.

    Attributes:
        layer: its layer, from 1.
        name: ``attention``, ``normaliser`` (of the attention: what its weights are divided by), ``values`` and
            ``offsets`` (the blocks that a disentangled layer appends to the residual stream), ``residual`` (the whole
            stream after a layer), or a name of the model's own.
        module: where it stands, as PyTorch names modules.
        piece: which columns of the output, None for all.
    """

    layer: int
    name: str
    module: str
    piece: tuple[int, int] | None = None


@dataclass(frozen=True)
class Model:
    """A predictor, the module that it runs, and the parts of that."""

    name: str
    predictor: Any
    module: nn.Module
    parts: list[Part]
    readout: str | None
    n_states: int

    @classmethod
    def of(cls, name: str, predictor: Any, length: int, n_states: int) -> Model:
        transformer = Parts.of(predictor).transformer
        assert transformer is not None, "checked before"
        module = transformer(length)
        if not isinstance(module, nn.Module):
            raise InputError(f"'{name}': transformer({length}) gives {type(module).__name__}, not a torch module.")
        parts, readout = parts_of(name, module)
        return cls(name, predictor, module, parts, readout, n_states)

    @property
    def kind(self) -> str:
        """``disentangled``, ``standard``, or the name of a class of somebody's own."""
        kinds = {DisentangledTransformer: "disentangled", StandardTransformer: "standard"}
        return kinds.get(type(self.module), type(self.module).__name__)

    @property
    def depth(self) -> int:
        """Its layers, or those that have a part."""
        return max(part.layer for part in self.parts)

    def trace(self, contexts: Int[np.ndarray, "B T"]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The residual stream before each layer and after the last, and the attention maps, in float64.

        Of a module of somebody's own the maps alone, of the parts called attention.
        """
        if isinstance(self.module, (DisentangledTransformer, StandardTransformer)):
            device = next(self.module.parameters()).device
            with one_thread(), torch.no_grad():
                states, maps = self.module.trace(torch.from_numpy(contexts.astype(np.int64)).to(device))
        else:
            states = []
            maps = [self.seen(part.module, contexts)[1] for part in self.parts if part.name == ATTENTION]
        return [s.cpu().double().numpy() for s in states], [a.cpu().double().numpy() for a in maps]

    def maps(self, contexts: Int[np.ndarray, "N T"]) -> Iterator[list[np.ndarray]]:
        """The attention maps of all layers, a batch of sequences at a time."""
        for start in range(0, len(contexts), BATCH):
            yield self.trace(contexts[start : start + BATCH])[1]

    def at(self, module: str) -> nn.Module:
        return self.module.get_submodule(module)

    @functools.cached_property
    def by_name(self) -> dict[tuple[int, str], Part]:
        return {(part.layer, part.name): part for part in self.parts}

    def predict(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """Of at most ``part_size`` contexts, which are one call of the module.

        A linear output that was patched may leave the simplex: it is mended as that of a trained model is.
        """
        output = to_numpy(self.predictor.predict(contexts.astype(np.int64))).astype(np.float64)
        off = ((output < 0).any(axis=-1) | (np.abs(output.sum(axis=-1) - 1) > SUM_TOLERANCE))[:, None]
        mended = metrics.normalise(np.maximum(output, FLOOR)) if off.any() else output
        return check_output(self.name, np.where(off, mended, output), (len(contexts), self.n_states))

    def seen(self, module: str, contexts: Int[np.ndarray, "B T"]) -> tuple[Tensor, Tensor]:
        """First input and output of a module while the model predicts."""
        caught: list[tuple[Tensor, Tensor]] = []
        with hooked(self.at(module), lambda x, out: caught.append((x.detach(), out.detach()))):
            self.predict(contexts)
        if len(caught) != 1:
            raise PredictorError(
                f"'{self.name}': its module '{module}' ran {len(caught)} times for one call of predict with "
                f"{len(contexts)} contexts; a part runs once."
            )
        return caught[0]


def parts_of(name: str, module: nn.Module) -> tuple[list[Part], str | None]:
    """The parts that can be replaced, layer by layer, and the readout.

    Raises:
        InputError: the module declares none, and has no ``nn.Softmax`` whose output could be its attention.
    """
    if isinstance(module, DisentangledTransformer):
        parts = []
        for k, layer in enumerate(module.layers, start=1):
            d, d_rel = layer.attend.shape[0], layer.value_offset.shape[1]
            at = f"layers.{k - 1}"
            parts += [Part(k, ATTENTION, f"{at}.softmax"), Part(k, NORMALISER, f"{at}.softmax")]
            parts += [Part(k, VALUES, at, (d, 2 * d)), Part(k, OFFSETS, at, (2 * d, 2 * d + d_rel))]
        return parts, "read"
    if isinstance(module, StandardTransformer):
        parts = []
        for k in range(1, module.depth + 1):
            at = f"layers.{k - 1}"
            parts += [Part(k, ATTENTION, f"{at}.softmax"), Part(k, NORMALISER, f"{at}.softmax")]
            parts += [Part(k, RESIDUAL, at)]
        return parts, "read"
    there = dict(module.named_modules())
    declared: Mapping[str, str] | None = getattr(module, "parts", None)
    if declared is None:
        softmaxes = [at for at, m in there.items() if isinstance(m, nn.Softmax)]
        declared = {f"{ATTENTION} {k}": at for k, at in enumerate(softmaxes, start=1)}
    if not isinstance(declared, Mapping):
        raise InputError(
            f"'{name}': parts of a module are a dict from 'attention 1' and the like to names of modules, not "
            f"{type(declared).__name__}."
        )
    parts, readout = [], None
    for label, at in declared.items():
        if at not in there:
            raise InputError(f"'{name}': its parts name the module {at!r}, which it does not have.")
        word, _, number = str(label).rpartition(" ")
        if label == "readout":
            readout = at
        elif word and number.isdecimal():
            parts.append(Part(int(number), word, at))
            if isinstance(there[at], nn.Softmax):
                parts.append(Part(int(number), NORMALISER, at))
        else:
            raise InputError(f"'{name}': parts are called 'readout' or such as 'attention 1', not {label!r}.")
    if not parts:
        raise InputError(
            f"'{name}': its module has no nn.Softmax and no attribute 'parts' (a dict from 'attention 1' and the like "
            "to names of modules), so there is nothing to replace."
        )
    return sorted(parts, key=lambda part: part.layer), readout


@contextlib.contextmanager
def hooked(module: nn.Module, function: Callable[[Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Call ``function(first input, output)`` whenever a module has run; what it returns takes the output's place."""
    handle = module.register_forward_hook(lambda _, inputs, output: function(inputs[0], output))
    try:
        yield
    finally:
        handle.remove()


def mean_leak(task: Task, model: Model, contexts: Int[np.ndarray, "N T"]) -> Leak | None:
    """By position, averaged over sequences; None where there are no such layers."""
    if model.kind != "disentangled" or model.depth < LEAST_LAYERS or not isinstance(task, MTD):
        return None
    first: Any = 0.0
    second: Any = 0.0
    for maps in model.maps(contexts):
        first, second = first + maps[0].sum(axis=0), second + maps[1].sum(axis=0)
    return leak(task.order, first / len(contexts), second / len(contexts))
