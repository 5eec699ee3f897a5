"""Causal interventions: parts of a transformer are replaced while it predicts, and what that costs is measured."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdbench.core import metrics
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.files import json_ready
from mdbench.core.progress import Progress, no_advance
from mdbench.core.statistics import MeanInterval, mean_interval
from mdbench.evaluation.gold import gold_predictive
from mdbench.mechanism.tracing import ATTENTION, NORMALISER, RESIDUAL, Model, Part, construction_for, hooked, models_of
from mdbench.predictors.predictor import Given
from mdbench.predictors.transformer import part_size
from mdbench.tasks import Stream, Task, as_task, sample

FITTED_ON = 2048  # sequences, at least: a readout has hundreds of numbers
UNTOUCHED = "nothing"
OWN_MEAN, ANOTHER, ZERO, CONSTRUCTION = "its mean", "another sequence's", "zero", "the construction's"


@dataclass(frozen=True)
class Intervention:
    """What one replacement does; in nats.

    Attributes:
        predictor: the name.
        seed: of the training, from 0.
        layer: of the part, from 1; 0 where nothing is replaced.
        part: its name (:class:`Part`).
        replaced_by: ``its mean`` over other sequences, ``another sequence's``, ``the construction's``, ``seed=k``'s,
            a donor's, ``zero``; ``nothing`` for the model as it is.
        refit: whether the readout, which reads it all, was fitted anew: the affine map that brings the patched model
            nearest to the untouched output in squared error, on other sequences than it is judged on.
        excess_kl: mean KL(p_B ‖ patched).
        excess_kl_ci: its 95% interval, None where it is infinite.
        kl_to_untouched: mean KL(untouched ‖ patched).
        kl_to_untouched_ci: likewise.
    """

    predictor: str
    seed: int
    layer: int
    part: str
    replaced_by: str
    refit: bool
    excess_kl: float
    excess_kl_ci: tuple[float, float] | None
    kl_to_untouched: float
    kl_to_untouched_ci: tuple[float, float] | None


@dataclass(frozen=True)
class Patched:
    """What :func:`patch` returns: interventions by seed, layer and part, each seed's untouched model first."""

    task: str
    length: int
    n_sequences: int
    seed: int
    construction: str | None
    interventions: list[Intervention] = field(default_factory=list)

    def of(self, layer: int, part: str, replaced_by: str, refit: bool = False) -> list[Intervention]:
        """Of all training seeds."""
        wanted = (layer, part, replaced_by, refit)
        return [i for i in self.interventions if (i.layer, i.part, i.replaced_by, i.refit) == wanted]

    def table(self) -> Iterator[tuple[tuple[int, str, str], list[Intervention], list[Intervention]]]:
        """(layer, part, replaced by) of each, with the interventions of all seeds, as they are and refit."""
        keys = dict.fromkeys((i.layer, i.part, i.replaced_by) for i in self.interventions)
        parts = list(dict.fromkeys(key[:2] for key in keys))
        for key in sorted(keys, key=lambda key: parts.index(key[:2])):  # what only some seeds have stands with the rest
            yield key, self.of(*key), self.of(*key, refit=True)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self))


def patch(
    predictor: Given,
    *,
    task: str | Path | Task = "mtd-q5-m3",
    length: int = 32,
    n_sequences: int = 1024,
    seed: int = 0,
    device: str = "cpu",
    donor: Given | None = None,
    progress: Progress | None = None,
) -> Patched:
    """Replace each part of a transformer, of every training seed, and measure what becomes of its predictions.

    Args:
        predictor: the name of a transformer, or an object with ``predict`` and ``transformer(length)``, which gives the
            torch module that ``predict`` runs. A module of one's own names its parts in ``parts``, a dict from
            ``"attention 1"`` and the like to modules (as ``named_modules`` has them), and its readout as
            ``"readout"``; without that its ``nn.Softmax`` modules are its attention, in the order of their layers.
        task: the task.
        length: context length.
        n_sequences: that judge; means and readouts are of others, at least 2,048.
        seed: of the sequences.
        device: torch device.
        donor: another transformer, whose first training seed gives its parts, too, where they have the same shape.
        progress: called to show progress.

    Raises:
        InputError: bad arguments, the predictor or the donor is no transformer or cannot serve the length, or no part
            of the donor has the shape of one.
        PredictorError: the module does not run as it says.
    """
    loaded = as_task(task)
    name, models = models_of(predictor, loaded, length, device)
    judged = sample(loaded, length, n_sequences, seed).contexts
    n_others = max(n_sequences, FITTED_ON)
    others = sample(loaded, length, n_others, seed, stream=Stream.CALIBRATION).contexts
    bayes = metrics.normalise(gold_predictive(loaded, judged, [length]).probs[:, 0])
    construction = construction_for(loaded, models[0], length, device)
    named = {} if construction is None else {CONSTRUCTION: construction}
    if donor is not None:
        other_name, (other, *_) = models_of(donor, loaded, length, device)
        named[f"{other_name}'s"] = _fitting(other, models[0], judged[:1])
    advance = progress(f"{name}: interventions", len(models)) if progress else no_advance
    found = Patched(loaded.name, length, n_sequences, seed, None if construction is None else construction.name)
    for k, model in enumerate(models):
        donors = named | {f"seed={j}": other for j, other in enumerate(models) if j != k}
        bench = _Bench(model, judged, others)
        excess, moved = bench.scores(bayes, bench.untouched)
        found.interventions.append(_measured(name, k, 0, UNTOUCHED, UNTOUCHED, False, excess, moved))
        for part in model.parts:
            for replaced_by, replacement in bench.replacements(part, donors).items():
                for refit, probs in bench.run(part, replacement):
                    scores = bench.scores(bayes, probs)
                    found.interventions.append(_measured(name, k, part.layer, part.name, replaced_by, refit, *scores))
            advance(1 / len(model.parts))
    return found


def attention_swapped(
    predictor: Given, task: Task, contexts: Int[np.ndarray, "N T"], device: str = "cpu"
) -> list[tuple[Float[np.ndarray, "N q"], list[Float[np.ndarray, "N q"]]]]:
    """Of each training seed its predictions, and those with the construction's attention in each layer's place.

    Raises:
        InputError: there is no construction of as many layers.
    """
    length = contexts.shape[1]
    name, models = models_of(predictor, task, length, device)
    construction = construction_for(task, models[0], length, device)
    if construction is None:
        raise InputError(f"'{name}' has no construction of as many layers beside it.")
    found = []
    for model in models:
        bench = _Bench(model, contexts, contexts)
        swapped = []
        for part in model.parts:
            if part.name == ATTENTION:
                theirs = construction.by_name[part.layer, part.name]
                swapped.append(bench.replaced(part, functools.partial(_donated, construction, theirs.module)))
        found.append((bench.untouched, swapped))
    return found


def _fitting(donor: Model, model: Model, contexts: Int[np.ndarray, "1 T"]) -> Model:
    """The donor with those of its parts alone that have the shape of the model's.

    Raises:
        InputError: there are none.
    """

    def shape(of: Model, part: Part) -> tuple[int, ...]:
        return tuple(of.seen(part.module, contexts)[1].shape)

    parts = []
    for part in donor.parts:
        ours = model.by_name.get((part.layer, part.name))
        if ours is not None and part.name != RESIDUAL and shape(donor, part) == shape(model, ours):
            parts.append(part)
    if not parts:
        raise InputError(f"no part of '{donor.name}' has the shape of one of '{model.name}', so it has none to give.")
    return replace(donor, parts=parts)


def _measured(
    name: str,
    run: int,
    layer: int,
    part: str,
    replaced_by: str,
    refit: bool,
    excess: MeanInterval,
    moved: MeanInterval,
) -> Intervention:
    return Intervention(
        name, run, layer, part, replaced_by, refit, excess.mean, excess.interval, moved.mean, moved.interval
    )


# ----------------------------------------------------------------------------------------------------- replacements


@dataclass(frozen=True)
class _Batch:
    """Some of all sequences, and what goes into and comes out of a module for them."""

    contexts: Int[np.ndarray, "N T"]
    rows: Int[np.ndarray, " B"]
    x: Tensor
    out: Tensor


Replacement = Callable[[_Batch], Tensor]
"""What takes the place of ``out``."""


class _Bench:
    """One model under test: its sequences, and what it says of them untouched."""

    def __init__(
        self,
        model: Model,
        judged: Int[np.ndarray, "N T"],
        others: Int[np.ndarray, "K T"],
    ) -> None:
        self.model, self.judged, self.others = model, judged, others
        self.untouched = self._predictions()

    def scores(
        self, bayes: Float[np.ndarray, "N q"], probs: Float[np.ndarray, "N q"]
    ) -> tuple[MeanInterval, MeanInterval]:
        """Excess KL, and KL from the untouched model."""
        return mean_interval(metrics.kl(bayes, probs)), mean_interval(metrics.kl(self.untouched, probs))

    def run(self, part: Part, replacement: Replacement) -> Iterator[tuple[bool, Float[np.ndarray, "N q"]]]:
        """(refit, predictions) of one intervention."""
        yield False, self.replaced(part, replacement)
        if self.model.readout is not None:
            readout = self._refit(part, replacement)
            yield True, self._predictions([(part.module, self._by(part, replacement)), (self.model.readout, readout)])

    def replaced(self, part: Part, replacement: Replacement) -> Float[np.ndarray, "N q"]:
        """Predictions with a part replaced."""
        return self._predictions([(part.module, self._by(part, replacement))])

    def replacements(self, part: Part, donors: Mapping[str, Model]) -> dict[str, Replacement]:
        """What can take a part's place."""
        if part.name == NORMALISER:
            return self._normalisers(part)
        mean = self._mean(part.module)
        found: dict[str, Replacement] = {
            OWN_MEAN: lambda batch: mean.to(batch.out).expand_as(batch.out),
            ANOTHER: lambda batch: self.model.seen(part.module, _next(batch))[1],
            ZERO: lambda batch: torch.zeros_like(batch.out),
        }
        for name, donor in donors.items():
            theirs = donor.by_name.get((part.layer, part.name))
            # Blocks mean the same where they have the same place; streams of two models mean nothing to each other.
            if theirs is not None and theirs.piece == part.piece and part.name != RESIDUAL:
                found[name] = functools.partial(_donated, donor, theirs.module)
        return found

    def _mean(self, module: str) -> Tensor:
        """A module's output, averaged over the other sequences."""
        total = sum(self.model.seen(module, self.others[rows])[1].double().sum(dim=0) for rows in _parts(self.others))
        assert isinstance(total, Tensor), "there are sequences"
        return total / len(self.others)

    def _normalisers(self, part: Part) -> dict[str, Replacement]:
        """The weights of a query divided by the mean normaliser of the other sequences, or by another's.

        What is added to all scores of a query cancels, so a normaliser has no size of its own. It gets one from the
        mean score of what a query sees, averaged over the other sequences that have the same token there: exact in a
        first layer, whose queries are tokens, nearly so above. Means are geometric.
        """
        q = self.model.n_states
        seen = [(self.others[rows], self.model.seen(part.module, self.others[rows])[0]) for rows in _parts(self.others)]
        tokens = torch.cat([_query_tokens(contexts, x) for contexts, x in seen])  # (N, n)
        levels = torch.cat([_level(x) for _, x in seen])  # (N, n, heads)
        log_sums = torch.cat([_log_sum(x) for _, x in seen])
        same = nn.functional.one_hot(tokens, q).double()  # (N, n, q)
        count = same.sum(dim=0).clamp(min=1)
        gauge = torch.einsum("inb,inh->nbh", same, levels) / count[..., None]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        mean = (log_sums - gauge[place, tokens]).mean(dim=0)

        def by_mean(batch: _Batch) -> Tensor:
            here = gauge[place, _query_tokens(batch.contexts[batch.rows], batch.x)] + mean
            return torch.exp(batch.x.double() - _as_scores(here, batch.x)).to(batch.out)

        def by_another(batch: _Batch) -> Tensor:
            theirs = _next(batch)
            x = self.model.seen(part.module, theirs)[0]
            there = _log_sum(x) - gauge[place, _query_tokens(theirs, x)]
            here = gauge[place, _query_tokens(batch.contexts[batch.rows], batch.x)] + there
            return torch.exp(batch.x.double() - _as_scores(here, batch.x)).to(batch.out)

        return {OWN_MEAN: by_mean, ANOTHER: by_another}

    def _by(self, part: Part, replacement: Replacement) -> Replacement:
        """The replacement of a part, which may be a piece of what its module puts out."""

        def replace(batch: _Batch) -> Tensor:
            low, high = part.piece or (0, batch.out.shape[-1])
            new, old = replacement(batch).to(batch.out)[..., low:high], batch.out[..., low:high]
            if new.shape != old.shape:
                raise PredictorError(
                    f"'{self.model.name}': {part.name} {part.layer} has shape {tuple(old.shape)}; what would take its "
                    f"place has {tuple(new.shape)}."
                )
            return torch.cat([batch.out[..., :low], new, batch.out[..., high:]], dim=-1)

        return replace

    def _refit(self, part: Part, replacement: Replacement) -> Replacement:
        """The affine readout of the patched model that is nearest to the untouched output on the other sequences."""
        readout = self.model.readout
        assert readout is not None, "there is one"
        states: list[Tensor] = []

        def keep(batch: _Batch) -> Tensor:
            states.append(batch.x)
            return batch.out

        self._predictions([(part.module, self._by(part, replacement)), (readout, keep)], self.others)
        with_one = nn.functional.pad(torch.cat([_last(x) for x in states]).double(), (0, 1), value=1.0)
        # The stream repeats itself, so there are many solutions; gelsd takes the smallest.
        weights = torch.linalg.lstsq(with_one.cpu(), self._outputs.double().cpu(), driver="gelsd").solution

        def anew(batch: _Batch) -> Tensor:
            output = nn.functional.pad(_last(batch.x).double(), (0, 1), value=1.0) @ weights.to(batch.x.device)
            if batch.out.ndim == output.ndim:
                return output
            return torch.cat([batch.out[:, :-1], output[:, None].to(batch.out)], dim=1)

        return anew

    @functools.cached_property
    def _outputs(self) -> Float[Tensor, "N q"]:
        """What the untouched readout puts out for the other sequences."""
        assert self.model.readout is not None, "there is one"
        seen = (self.model.seen(self.model.readout, self.others[rows])[1] for rows in _parts(self.others))
        return torch.cat([_last(output) for output in seen])

    def _predictions(
        self,
        replaced: Sequence[tuple[str, Replacement]] = (),
        contexts: Int[np.ndarray, "N T"] | None = None,
    ) -> Float[np.ndarray, "N q"]:
        """With the outputs of some modules replaced."""
        contexts = self.judged if contexts is None else contexts
        return np.concatenate([self._predict(contexts, rows, replaced) for rows in _parts(contexts)])

    def _predict(
        self,
        contexts: Int[np.ndarray, "N T"],
        rows: Int[np.ndarray, " B"],
        replaced: Sequence[tuple[str, Replacement]],
    ) -> Float[np.ndarray, "B q"]:
        fired: list[str] = []
        asking = False  # a replacement may run this model on other sequences, untouched

        def put(module: str, replacement: Replacement, x: Tensor, out: Tensor) -> Tensor:
            nonlocal asking
            if asking:
                return out
            fired.append(module)
            asking = True
            try:
                return replacement(_Batch(contexts, rows, x.detach(), out.detach())).to(out)
            finally:
                asking = False

        with contextlib.ExitStack() as stack:
            for module, replacement in replaced:
                stack.enter_context(hooked(self.model.at(module), functools.partial(put, module, replacement)))
            probs = self.model.predict(contexts[rows])
        if sorted(fired) != sorted(module for module, _ in replaced):
            raise PredictorError(
                f"'{self.model.name}': not each of the modules {', '.join(m for m, _ in replaced)} ran once for one "
                "call of predict."
            )
        return probs


def _parts(contexts: Int[np.ndarray, "N T"]) -> list[Int[np.ndarray, " B"]]:
    """Rows that are one call of a model."""
    size = part_size(contexts.shape[1])
    return np.array_split(np.arange(len(contexts)), range(size, len(contexts), size))


def _last(tensor: Tensor) -> Float[Tensor, "B d"]:
    """At position T, of what a readout reads or puts out there alone or everywhere."""
    return tensor if tensor.ndim == 2 else tensor[:, -1]


def _next(batch: _Batch) -> Int[np.ndarray, "B T"]:
    """For each sequence of a batch another: the next one."""
    return batch.contexts[(batch.rows + 1) % len(batch.contexts)]


def _donated(donor: Model, module: str, batch: _Batch) -> Tensor:
    return donor.seen(module, batch.contexts[batch.rows])[1]


def _query_tokens(contexts: Int[np.ndarray, "B T"], scores: Tensor) -> Int[Tensor, "B n"]:
    """The tokens at the queries of some scores, which are the last ones."""
    return torch.from_numpy(contexts[:, -scores.shape[-2] :].astype(np.int64)).to(scores.device)


def _heads_last(rows: Tensor) -> Float[Tensor, "B n heads"]:
    """(batch, queries) or (batch, heads, queries)."""
    return rows[..., None] if rows.ndim == 2 else rows.transpose(1, 2)


def _as_scores(values: Float[Tensor, "B n heads"], scores: Tensor) -> Tensor:
    """A value a query in the form of the scores."""
    return values if scores.ndim == 3 else values.transpose(1, 2)[..., None]


def _log_sum(scores: Tensor) -> Float[Tensor, "B n heads"]:
    return _heads_last(torch.logsumexp(scores.double(), dim=-1))


def _level(scores: Tensor) -> Float[Tensor, "B n heads"]:
    """The mean score of the keys that a query sees."""
    there = torch.isfinite(scores)
    total = torch.where(there, scores.double(), 0.0).sum(dim=-1)
    return _heads_last(total / there.sum(dim=-1))
