"""The posterior that predictors are held against: exact, or sampled with every sequence passing its gates.

Computed once and kept on disk (``MDBENCH_CACHE`` names another folder than the user's cache), under a name made of all
that it depends on: task, tokens, prefixes, method with all its options, the source of the baselines and the libraries
below them. A file carries its own checksum, so a damaged one is noticed; it is written under a name of its own and then
moved into place, so processes that share the folder cannot spoil it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.errors import InputError
from mdbench.files import cache_folder, make_folder, write_whole
from mdbench.registry import APPROXIMATE, BASELINES, EXACT, GATED, Baseline, baseline_options, build_baseline
from mdbench.tasks import Task

log = logging.getLogger(__name__)

FORMAT = 1  # raised when the files hold something else
LEAST_CONCENTRATION = 0.3


@dataclass(frozen=True)
class Gold:
    """E[λ | y] of some sequences at some prefixes, and how far it may be off.

    Attributes:
        method: the baseline with its options.
        mean: (B, P, m).
        error: (B,) bound on the error of each weight; 0 where standard errors take its place.
        next_token_se: (B, P, q) standard errors of the next-token probabilities; 0 for an exact method.
    """

    method: str
    mean: Float[np.ndarray, "B P m"]
    error: Float[np.ndarray, " B"]
    next_token_se: Float[np.ndarray, "B P q"]


def gold_posterior(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    lengths: Sequence[int],
    method: str = "exact",
    progress: Callable[[float], None] | None = None,
) -> Gold:
    """The gold by that method, from the cache where it is there.

    Raises:
        InputError: the method may not serve as gold, cannot do this size, or leaves a sequence that fails its gates.
    """
    baseline = check_gold(task, contexts.shape[1], method)
    lengths = sorted(set(lengths))
    path = _file(task, contexts, lengths, baseline)
    arrays = _read(path)
    if arrays is None:
        found = baseline(task, contexts, lengths=lengths, progress=progress)
        failed = np.flatnonzero(found.failed)
        if failed.size:
            gates = [c.name for c in found.checks_made if c.passed is not None and not c.passed[failed[0]].all()]
            raise InputError(
                f"'{method}' cannot be gold for task '{task.name}': {failed.size} of {len(contexts)} sequences fail a "
                f"gate, the first of them sequence {failed[0] + 1} ({', '.join(gates)}); give more draws or take exact."
            )
        arrays = {
            "mean": found.mean,
            "error": np.zeros(len(contexts)) if found.error is None else found.error,
            "next_token_se": np.zeros((len(contexts), len(lengths), task.n_states))
            if found.next_token_se is None
            else found.next_token_se,
        }
        _write(path, arrays)
    elif progress:
        progress(len(contexts))
    return Gold(baseline.label, **arrays)


def check_gold(task: Task, length: int, method: str) -> Baseline:
    """The baseline, if it may be gold and can do that length of that task.

    Raises:
        InputError: it may not, or cannot.
    """
    baseline = build_baseline(method)
    if baseline.entry.standing == APPROXIMATE:
        able = ", ".join(name for name, entry in BASELINES.items() if entry.standing in (EXACT, GATED))
        raise InputError(f"'{method}' is an approximation of unknown error and never gold; gold can be: {able}.")
    if baseline.entry.standing == GATED and task.concentration < LEAST_CONCENTRATION:
        raise InputError(
            f"at concentration {task.concentration:g} the posterior sits in corners that samplers can miss without "
            f"failing a gate; sampled gold needs at least {LEAST_CONCENTRATION:g}, so take exact."
        )
    try:
        baseline.check_size(length - task.order, task.order)
    except InputError as error:
        hint = "" if baseline.entry.name == "reference" else " As gold, --gold reference goes up to order 16."
        raise InputError(f"{error}{hint}") from None
    return baseline


def _file(task: Task, contexts, lengths, baseline) -> Path:
    """Where the gold of just this is kept."""
    key = {
        "task": task.task_hash,
        "data": hashlib.sha256(np.ascontiguousarray(contexts, dtype="<i8").tobytes()).hexdigest(),
        "shape": list(contexts.shape),
        "lengths": list(map(int, lengths)),
        "method": baseline.entry.name,
        "options": {k: str(v) for k, v in (baseline_options(baseline.entry) | baseline.options).items()},
        "code": code_hash(),
        "format": FORMAT,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "gold" / f"{name}.gold"


@functools.cache
def code_hash() -> str:
    """Of the baselines' source and the libraries that compute: a change of either makes old gold stale."""
    digest = hashlib.sha256()
    for package in ("mdbench.baselines", "mdbench.tasks"):
        sources = [file for file in resources.files(package).iterdir() if file.name.endswith(".py")]
        for file in sorted(sources, key=lambda file: file.name):
            digest.update(file.read_bytes())
    for library in ("numpy", "jax", "jaxlib", "numpyro", "scipy", "torch", "pyro-ppl", "arviz"):
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None if it is not there or not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() == checksum:
        try:
            with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, zipfile.BadZipFile):
            pass
    log.warning("'%s' is damaged; computing that gold anew ...", path)
    return None


def _write(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    payload = buffer.getvalue()
    try:
        make_folder(path.parent)
        write_whole(path, lambda temporary: temporary.write_bytes(hashlib.sha256(payload).digest() + payload))
    except InputError as error:
        log.warning("%s The gold is computed again next time.", error)
