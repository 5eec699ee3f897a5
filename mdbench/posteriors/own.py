"""Posteriors of a person's own sequences under their own transition matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines import Baseline, Gate, Posterior
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError, SequenceError
from mdbench.core.files import check_writable, write_whole
from mdbench.core.progress import Advance
from mdbench.tasks import MTD
from mdbench.tasks.task import check_order


def posterior(
    transition: Any,
    order: int,
    sequences: Sequence[Sequence[int]],
    *,
    concentration: float = 1.0,
    method: str = "exact",
    prefixes: bool = False,
    out: str | Path | None = None,
    progress: Advance | None = None,
) -> dict[str, Any]:
    """Posterior of the mixture weights for each of some sequences, which may differ in length.

    Args:
        transition: π, q rows of q probabilities.
        order: m, the number of lags.
        sequences: states 0..q-1; each of at least m + 1.
        concentration: α of the symmetric Dirichlet prior on the weights.
        method: a baseline, such as ``exact``, ``nuts`` or ``gibbs:draws=2000``.
        prefixes: also give the posterior mean after every prefix, from length m (the prior) on.
        out: file (.nc) for the draws, as ArviZ data; the method must have draws and the sequences one length.
        progress: called as ``progress(k)`` when k more sequences are done.

    Returns:
        What ``mdbench posterior --json`` prints: method, order, concentration and, for each sequence, length,
        log_evidence (of y_{m+1..T} given the first m, in nats), posterior_mean, posterior_sd, next_token (p_B),
        error_estimate (bound on the error of the mean, and of log evidence relative to 1 + |log evidence|),
        standard_error and next_token_standard_error (of sampling methods), and checks_made (name, limit, value,
        verdict). What a method does not have is None.

    Raises:
        InputError: bad numbers, or an impossible sequence; the message names it.
    """
    baseline = build_baseline(method)
    check_order(order)
    task = MTD("posterior", transition, order, concentration, lengths=(order + 1,))
    tokens = [_check_sequence(task, k, sequence) for k, sequence in enumerate(sequences)]
    if not tokens:
        raise InputError("there are no sequences; give at least one.")
    own_lengths = sorted({len(sequence) for sequence in tokens})
    for length in own_lengths:
        baseline.check(task, length)
    if out is not None:
        _check_out(out, baseline, own_lengths)

    reports: list[dict[str, Any]] = [{}] * len(tokens)
    for length in own_lengths:
        group = [k for k, sequence in enumerate(tokens) if len(sequence) == length]
        contexts = np.stack([tokens[k] for k in group])
        lengths = range(order, length + 1) if prefixes else [length]
        of_group = baseline.posterior(task, contexts, lengths, progress)
        if out is not None:
            _write_draws(out, of_group, task, contexts)
        next_token = of_group.predictive(task, contexts).probs[:, -1]
        for row, k in enumerate(group):
            reports[k] = {"length": length} | _report(of_group, row, next_token[row])
            if prefixes:
                means = of_group.mean[row].tolist()
                reports[k]["prefixes"] = {"length": list(of_group.lengths), "posterior_mean": means}
    return {"method": baseline.label, "order": order, "concentration": concentration, "sequences": reports}


def _write_draws(out: str | Path, result: Posterior, task: MTD, contexts: np.ndarray) -> None:
    """The draws with all that is needed to make them again."""
    assert result.draws is not None, "checked before"
    made_of = {
        "mdbench_version": version("mdbench"),
        "order": task.order,
        "concentration": task.concentration,
        "transition": json.dumps(task.transition.tolist()),
        "sequences": json.dumps(contexts.tolist()),
    }
    data = replace(result, draws=replace(result.draws, settings=result.draws.settings | made_of)).to_arviz()
    write_whole(out, lambda temporary: data.to_netcdf(str(temporary)))


def _report(result: Posterior, row: int, next_token: Float[np.ndarray, " q"]) -> dict[str, Any]:
    """What is said of one sequence: of its last prefix, but for the gates, which count all."""

    def last(values: np.ndarray | None) -> Any:
        return None if values is None else values[row, -1].tolist()

    return {
        "log_evidence": last(result.log_evidence),
        "posterior_mean": last(result.mean),
        "posterior_sd": last(result.sd),
        "next_token": next_token.tolist(),
        "error_estimate": None if result.error is None else float(result.error[row]),
        "standard_error": last(result.mean_se),
        "next_token_standard_error": last(result.next_token_se),
        "checks_made": [
            {
                "name": check.name,
                "limit": check.limit,
                "value": _finite(_telling(check, row)),
                "verdict": check.verdict(row),
            }
            for check in result.checks_made
        ],
    }


def _telling(check: Gate, row: int) -> float | None:
    """The value at the first prefix that fails, or else at the last prefix."""
    if check.values is None or check.passed is None:
        return None
    failing = np.flatnonzero(~check.passed[row])
    return float(check.values[row, failing[0] if failing.size else -1])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _check_out(out: str | Path, baseline: Baseline[Any], lengths: Sequence[int]) -> None:
    if Path(out).suffix != ".nc":
        raise InputError(f"--out writes .nc (netCDF), not '{out}'.")
    if not baseline.n_draws:
        raise InputError(f"'{baseline.label}' has no draws to write; --method urn:draws=1000 has independent ones.")
    if len(lengths) > 1:
        raise InputError(f"--out needs sequences of one length, not of {len(lengths)}; write one file for each length.")
    check_writable(out)


def _check_sequence(task: MTD, k: int, sequence: Any) -> Int[np.ndarray, " length"]:
    """The k-th sequence as an array, if it is long enough, of the task's states, and possible."""
    array = np.asarray(sequence)
    if array.ndim != 1 or (len(array) and not np.issubdtype(array.dtype, np.integer)):
        raise SequenceError(k, "it must be a list of whole numbers.")
    if len(array) < task.order + 1:
        raise SequenceError(
            k, f"its length is {len(array)}; order {task.order} needs at least {task.order + 1} states."
        )
    try:
        task.likelihoods(array[None])
    except SequenceError as error:
        raise SequenceError(k, error.what) from None
    return array
