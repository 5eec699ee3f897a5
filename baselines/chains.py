"""Running chains for many sequences: prefixes, batches of fixed shape, and longer reruns of what fails its gates."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt

from mdbench.baselines.baseline import GATED, SEEDS, Baseline, TaskT, option, sequence_seeds
from mdbench.baselines.gates import from_draws
from mdbench.baselines.posterior import Draws, Posterior
from mdbench.core.device import n_cores
from mdbench.core.progress import Advance

CHUNK = 64  # sequences side by side; fixed, so that no draw depends on the batch around a sequence
RERUN = 4  # times as many draws for sequences that fail their gates


class Batch(NamedTuple):
    """What a sampler is to do for some sequences at one prefix.

    Attributes:
        contexts: (B, T).
        x: (B, n, m) their likelihoods, of a mixture; else the contexts again.
        seeds: (B, 4) of each sequence.
        warmup: steps to throw away first.
        draws: to keep for each chain.
    """

    contexts: Int[np.ndarray, "B T"]
    x: np.ndarray
    seeds: UInt[np.ndarray, "B 4"]
    warmup: int
    draws: int


Sampler = Callable[[Batch], dict[str, np.ndarray]]
"""The draws ``weights`` (B, C, D, m), θ's numbers in a row, and statistics, each (B, C, D).

``next_token`` (B, C, D, q) are what :class:`Draws` has by that name.
"""


@dataclass(frozen=True)
class Chains(Baseline[TaskT]):
    """A method that runs chains; each prefix is a run of its own, from the seeds of its tokens."""

    standing: ClassVar[str] = GATED

    draws: int = option(1000, "kept for each chain, after warm-up", least=4)
    warmup: int = option(300, "steps of adaptation, thrown away", least=1)
    chains: int = option(4, "independent chains", least=2, most=100)
    seed: int = option(0, "with a sequence's tokens it fixes that sequence's draws", least=0, most=SEEDS)

    def run(
        self,
        sampler: Sampler,
        task: TaskT,
        contexts: Int[np.ndarray, "B T"],
        lengths: Sequence[int] | None,
        progress: Advance | None,
        *,
        chunk: int = CHUNK,
        padded: bool = True,
    ) -> Posterior:
        """Posterior from a batched sampler, which gets ``chunk`` sequences at a time, the last ones ``padded`` to that.

        Sequences that fail a gate are sampled again with four times the warm-up and draws; of these every fourth draw
        is kept, so that all sequences have as many, while moments, standard errors and gates rest on all of them.
        """
        contexts, x, wanted = self.prepare(task, contexts, lengths)

        def run(length: int, rows: Any, warmup: int, draws: int, report: Advance | None = None) -> Posterior:
            prefix = contexts[rows, :length]
            of_mixture = prefix if x is None else x[rows, : length - task.given]
            arrays = prefix, of_mixture, sequence_seeds(prefix, self.seed)
            draws_of = _in_chunks(sampler, arrays, chunk, padded, warmup, draws, report)
            return from_draws(self.name, task, prefix, (length,), draws_of)

        parts, n_rerun = [], 0
        for length in wanted:
            part = run(length, slice(None), self.warmup, self.draws, progress and (lambda k: progress(k / len(wanted))))
            again = np.flatnonzero(part.failed)
            n_rerun += again.size
            if again.size:
                part = _merge(part, again, run(length, again, RERUN * self.warmup, RERUN * self.draws))
            parts.append(part)
        joined: Posterior = _join(parts)
        draws_of = _draws_of(joined)
        return replace(joined, draws=Draws(draws_of.weights, draws_of.stats, asdict(self) | {"n_rerun": n_rerun}))


def _in_chunks(
    sampler: Sampler,
    arrays: Sequence[np.ndarray],
    chunk: int,
    padded: bool,
    warmup: int,
    draws: int,
    progress: Advance | None,
) -> Draws:
    """Draws for all sequences, with a prefix dimension of one; the last chunk is filled up by repeating."""
    total = len(arrays[0])

    def run(start: int) -> dict[str, np.ndarray]:
        real = min(chunk, total - start)
        rows = np.minimum(np.arange(start, start + (chunk if padded else real)), total - 1)
        contexts, x, seeds = (array[rows] for array in arrays)
        sampled = sampler(Batch(contexts, x, seeds, warmup, draws))
        if progress:
            progress(real)
        return {name: values[:real] for name, values in sampled.items()}

    with ThreadPoolExecutor(n_cores()) as pool:
        chunks = list(pool.map(run, range(0, total, chunk)))
    by_name = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    vectors = {  # (C, D, B, 1, ..)
        name: np.moveaxis(by_name.pop(name), 0, 2)[:, :, :, None]
        for name in ("weights", "next_token")
        if name in by_name
    }
    stats = {name: np.moveaxis(v, 0, 2)[..., None] for name, v in by_name.items()}
    return Draws(vectors["weights"], stats, next_token=vectors.get("next_token"))


def _merge(part: Posterior, rows: Int[np.ndarray, " R"], longer: Posterior) -> Posterior:
    """``part`` with the rows that were run again, longer, in their place."""

    def put(old: Any, new: Any, axis: int = 0) -> Any:
        old = old.copy()
        old[(slice(None),) * axis + (rows,)] = new
        return old

    checks = tuple(
        old
        if old.passed is None
        else replace(old, values=put(old.values, new.values), passed=put(old.passed, new.passed))
        for old, new in zip(part.checks_made, longer.checks_made, strict=True)
    )

    def every_fourth(values: np.ndarray) -> Any:
        """A divergence among the four counts; energies make sense only one after the other."""
        if values.dtype == bool:
            return values.reshape(len(values), -1, RERUN, *values.shape[2:]).any(axis=2)
        return np.full_like(values[:, ::RERUN], np.nan) if values.dtype == float else values[:, ::RERUN]

    kept, again = _draws_of(part), _draws_of(longer)
    draws = Draws(
        put(kept.weights, again.weights[:, ::RERUN], axis=2),
        {name: put(values, every_fourth(again.stats[name]), axis=2) for name, values in kept.stats.items()},
    )
    moments: dict[str, Any] = {
        name: put(getattr(part, name), getattr(longer, name)) for name in _MOMENTS if getattr(part, name) is not None
    }
    return replace(part, **moments, checks_made=checks, draws=draws)


_MOMENTS = ("mean", "sd", "mean_se", "next_token_se", "next_token")


def _join(parts: Sequence[Posterior]) -> Posterior:
    """One posterior from those of single prefixes."""

    def along_prefixes(arrays: Sequence[Any], axis: int) -> np.ndarray | None:
        return None if arrays[0] is None else np.concatenate(arrays, axis=axis)

    checks = tuple(
        replace(
            same[0],
            values=along_prefixes([check.values for check in same], 1),
            passed=along_prefixes([check.passed for check in same], 1),
        )
        for same in zip(*(part.checks_made for part in parts), strict=True)
    )
    every = [_draws_of(part) for part in parts]
    draws = Draws(
        np.concatenate([each.weights for each in every], axis=3),
        {name: np.concatenate([each.stats[name] for each in every], axis=3) for name in every[0].stats},
    )
    moments: dict[str, Any] = {name: along_prefixes([getattr(part, name) for part in parts], 1) for name in _MOMENTS}
    lengths = tuple(length for part in parts for length in part.lengths)
    return replace(parts[0], lengths=lengths, **moments, checks_made=checks, draws=draws)


_TRACING = threading.Lock()
_TRACED: weakref.WeakKeyDictionary[Any, set[tuple[int, ...]]] = weakref.WeakKeyDictionary()


def run_padded(
    run: Callable[..., Any], keys: jax.Array, x: Float[np.ndarray, "B n m"], filler: float, concentration: float
) -> Any:
    """``run(keys, x, concentration)`` as NumPy arrays, n filled up to a multiple of 16: one compilation for 16 lengths.

    A row of ones multiplies the likelihood by Σ λ = 1; from a row of zeros no lag can be drawn.
    """
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 16), (0, 0)), constant_values=filler)
    return run_traced(run, keys, x, concentration)


def run_traced(run: Callable[..., Any], keys: jax.Array, data: np.ndarray, more: Any) -> Any:
    """``run(keys, data, more)`` as NumPy arrays.

    What is traced for the first time runs alone: NumPyro traces models in a global stack.
    """
    with contextlib.nullcontext() if data.shape in _TRACED.get(run, ()) else _TRACING:
        arrays = jax.tree.map(np.asarray, run(keys, data, more))
        _TRACED.setdefault(run, set()).add(data.shape)
    return arrays


def _draws_of(part: Posterior) -> Draws:
    assert part.draws is not None, "chains are draws"
    return part.draws


def chain_keys(seeds: UInt[np.ndarray, "B 4"], chains: int) -> jax.Array:
    """(B, C) jax keys from the seeds of the sequences."""

    def key(words: Any) -> jax.Array:
        folded = jax.random.key(words[0])
        for k in range(1, 4):
            folded = jax.random.fold_in(folded, words[k])
        return jax.random.split(folded, chains)

    return jax.vmap(key)(seeds)
