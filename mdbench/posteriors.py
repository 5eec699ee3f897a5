"""Posteriors of a person's own sequences under their own transition matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines import Baseline, Check, Posterior
from mdbench.errors import InputError, SequenceError
from mdbench.files import check_writable, write_whole
from mdbench.registry import build_baseline
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
    progress: Callable[[float], None] | None = None,
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
        found = baseline.posterior(task, contexts, lengths, progress)
        if out is not None:
            _write_draws(out, found, task, contexts)
        next_token = found.predictive(task, contexts).probs[:, -1]
        for row, k in enumerate(group):
            reports[k] = {"length": length} | _report(found, row, next_token[row])
            if prefixes:
                reports[k]["prefixes"] = {"length": list(found.lengths), "posterior_mean": found.mean[row].tolist()}
    return {"method": baseline.label, "order": order, "concentration": concentration, "sequences": reports}


def _write_draws(out: str | Path, found: Posterior, task: MTD, contexts: np.ndarray) -> None:
    """The draws with all that is needed to make them again."""
    assert found.draws is not None, "checked before"
    made_of = {
        "mdbench_version": version("mdbench"),
        "order": task.order,
        "concentration": task.concentration,
        "transition": json.dumps(task.transition.tolist()),
        "sequences": json.dumps(contexts.tolist()),
    }
    data = replace(found, draws=replace(found.draws, settings=found.draws.settings | made_of)).to_arviz()
    write_whole(out, lambda temporary: data.to_netcdf(str(temporary)))


def _report(found: Posterior, row: int, next_token: Float[np.ndarray, " q"]) -> dict[str, Any]:
    """What is said of one sequence: of its last prefix, but for the gates, which count all."""

    def last(values):
        return None if values is None else values[row, -1].tolist()

    return {
        "log_evidence": last(found.log_evidence),
        "posterior_mean": last(found.mean),
        "posterior_sd": last(found.sd),
        "next_token": next_token.tolist(),
        "error_estimate": None if found.error is None else float(found.error[row]),
        "standard_error": last(found.mean_se),
        "next_token_standard_error": last(found.next_token_se),
        "checks_made": [
            {
                "name": check.name,
                "limit": check.limit,
                "value": _finite(_telling(check, row)),
                "verdict": check.verdict(row),
            }
            for check in found.checks_made
        ],
    }


def _telling(check: Check, row: int) -> float | None:
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


def _check_sequence(task: MTD, k: int, sequence: Sequence[int]) -> Int[np.ndarray, " length"]:
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


# -------------------------------------------------------------------------------------------------------- files


def read_transition(path: str | Path) -> Float[np.ndarray, "rows columns"]:
    """The numbers of a CSV file with one row of the matrix a line."""
    rows = _read_csv(path, float, "number")
    if len({len(row) for _, row in rows}) > 1:
        first, odd = len(rows[0][1]), next((line, row) for line, row in rows if len(row) != len(rows[0][1]))
        raise InputError(f"'{path}', line {odd[0]}: {len(odd[1])} numbers, but the first line has {first}.")
    return np.array([row for _, row in rows])


def read_sequences(path: str | Path) -> list[list[int]]:
    """The sequences of a CSV file with one sequence a line, states separated by commas."""
    return [row for _, row in _read_csv(path, int, "state (a whole number)")]


def _read_csv(path: str | Path, convert: Callable[[str], Any], what: str) -> list[tuple[int, list[Any]]]:
    """(line number, values) of every line that is not blank."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{path}' cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
        ) from None
    rows = []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        values = []
        for cell in content.split(","):
            try:
                if "_" in cell or not cell.isascii():  # Python would take 1_0 for 10, and digits of other scripts
                    raise ValueError
                values.append(convert(cell.strip()))
            except ValueError:
                raise InputError(f"'{path}', line {line}: '{cell.strip()}' is not a {what}.") from None
        rows.append((line, values))
    if not rows:
        raise InputError(f"'{path}' is empty.")
    return rows
