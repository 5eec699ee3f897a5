"""The posterior that predictors are held against: exact, or sampled with every sequence passing its gates.

Computed once and kept on disk (:mod:`mdbench.core.store`; ``MDBENCH_CACHE`` names another folder than the user's
cache), a cell for some hundred sequences, under a name made of all that it depends on: task, tokens, prefixes, method
with all its options, the source of the baselines and the libraries below them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int

from mdbench.baselines import APPROXIMATE, GATED, Baseline
from mdbench.baselines.catalogue import baseline_entries, build_baseline
from mdbench.core.cluster import Cluster
from mdbench.core.errors import InputError, SequenceError, Unsupported
from mdbench.core.progress import Advance, Note, no_advance
from mdbench.core.store import Arrays, Keep, Store, code_hash, foreign_code, hash_of, open_store
from mdbench.evaluation.running import CHUNK
from mdbench.tasks import DirichletMixture, Predictive, Recorded, Task

LEAST_CONCENTRATION = 0.3


def gold_predictive(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    lengths: Sequence[int],
    method: str | None = "exact",
    progress: Advance | None = None,
    kept: Store | None = None,
) -> Predictive:
    """p_B after each prefix by that method, from where it is ``kept`` as far as it is there; by default the cache.

    Raises:
        InputError: the method may not serve as gold, cannot do this size, or leaves a sequence that fails its gates.
    """
    return begin_gold(task, contexts, lengths, method, progress or no_advance, kept)()


def begin_gold(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    lengths: Sequence[int],
    method: str | None,
    progress: Advance,
    kept: Store | None = None,
    cluster: Cluster | None = None,
    sent: Sequence[Any] = (),
    first: int = 0,
) -> Callable[[], Predictive]:
    """What waits for :func:`gold_predictive`: on a cluster all shards are begun at once.

    ``sent`` are the shards' contexts as the cluster was sent them, ``first`` the number of the first sequence.
    """
    baseline = check_gold(task, contexts.shape[1], method)
    lengths = sorted(set(lengths))
    kept = open_store() if kept is None else kept
    begun = []
    for k, start in enumerate(range(0, len(contexts), CHUNK)):
        shard = contexts[start : start + CHUNK]
        n, p, q = len(shard), len(lengths), task.n_states
        shapes = {"probs": (n, p, q), "bound": (n, p), "standard_error": (n, p, q)}

        def compute(shard: np.ndarray = shard) -> Arrays:
            return shard_gold(baseline, task, lengths, shard, progress)

        def elsewhere(note: Note, keep: Keep[Arrays], k: int = k, n: int = n) -> Callable[[], Arrays]:
            assert cluster is not None
            given = baseline, task, lengths, sent[k]
            return cluster.begin(shard_gold, *given, total=n, advance=progress, note=note, keep=keep)

        there = functools.partial(progress, n)
        key = _key(task, shard, lengths, baseline)
        begun.append(kept.begin_arrays("gold", key, shapes, compute, there, elsewhere if cluster else None))

    def wait() -> Predictive:
        parts, failed, gates = [], [], ""
        for k, shard in enumerate(begun):
            try:
                parts.append(shard())
            except SequenceError as error:
                raise SequenceError(first + k * CHUNK + error.index, error.what) from None
            except _GateError as error:
                gates = gates or error.gates
                failed += [first + k * CHUNK + index for index in error.failed]
        if failed:
            instead = "" if baseline.name == task.gold else f" or take {task.gold}"
            raise InputError(
                f"'{method}' cannot be gold for task '{task.name}': {len(failed)} of {len(contexts)} sequences fail a "
                f"gate, the first of them sequence {failed[0] + 1} ({gates}); give more draws{instead}."
            )
        return Predictive(**{name: np.concatenate([part[name] for part in parts]) for name in Predictive._fields})

    return wait


def shard_gold(
    baseline: Baseline[Any], task: Task, lengths: Sequence[int], contexts: Int[np.ndarray, "n T"], progress: Advance
) -> Arrays:
    """The predictive of some sequences, field by field.

    Raises:
        InputError: some of them fail a gate.
    """
    if baseline.is_closed_form(task):
        progress(len(contexts))
        return task.predictive(contexts, lengths)._asdict()  # type: ignore[attr-defined]
    posterior = baseline.posterior(task, contexts, lengths, progress)
    failed = np.flatnonzero(posterior.failed)
    if len(failed):
        first = [c for c in posterior.checks_made if c.passed is not None and not c.passed[failed[0]].all()]
        raise _GateError(failed.tolist(), ", ".join(c.name for c in first))
    return posterior.predictive(task, contexts)._asdict()


class _GateError(InputError):
    """Some sequences of a shard fail a gate: which, and the gates that the first of them fails."""

    def __init__(self, failed: list[int], gates: str) -> None:
        super().__init__(failed, gates)
        self.failed, self.gates = failed, gates


def check_gold(task: Task, length: int, method: str | None) -> Baseline[Any]:
    """The baseline, if it may be gold and can do that length of that task.

    Raises:
        InputError: it may not, or cannot.
    """
    if isinstance(task, Recorded) or method is None:
        raise InputError(
            f"the sequences of '{task.name}' were recorded: nobody knows what they come from, so there is no gold, and "
            "no excess KL; evaluate and compare go by NLL."
        )
    baseline = build_baseline(method)
    if baseline.standing == APPROXIMATE:
        able = ", ".join(name for name, e in baseline_entries().items() if e.load().standing != APPROXIMATE)
        raise InputError(f"'{method}' is an approximation of unknown error and never gold; gold can be: {able}.")
    field, concentration = min(task.concentrations.items(), key=lambda item: item[1], default=("", math.inf))
    if baseline.standing == GATED and concentration < LEAST_CONCENTRATION:
        instead = ", so take exact" if task.gold == "exact" else ""
        raise InputError(
            f"at {field} {concentration:g} the posterior sits in corners that samplers can miss without "
            f"failing a gate; sampled gold needs at least {LEAST_CONCENTRATION:g}{instead}."
        )
    try:
        baseline.check(task, length)
    except Unsupported as error:
        hint = "" if baseline.name == task.gold else f" Its own gold is {task.gold}."
        raise Unsupported(f"{error}{hint}", error.label) from None
    except InputError as error:
        large = isinstance(task, DirichletMixture) and baseline.name != "reference"
        hint = " As gold, --gold reference goes up to order 16." if large else ""
        raise InputError(f"{error}{hint}") from None
    return baseline


def _key(task: Task, contexts: np.ndarray, lengths: Sequence[int], baseline: Baseline[Any]) -> dict[str, Any]:
    """All that the gold of just this depends on."""
    return {
        "task": task.task_hash,
        "data": hash_of(contexts),
        "shape": list(contexts.shape),
        "lengths": list(map(int, lengths)),
        "method": baseline.name,
        "options": {k: str(v) for k, v in asdict(baseline).items()},
        "code": code_hash("mdbench.baselines", "mdbench.tasks"),
        "foreign code": foreign_code(task, baseline),
    }
