"""Posteriors of a person's own sequences under their own transition matrix."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines import Baseline, Gate, Posterior
from mdbench.baselines.baseline import MEMORY_LIMIT
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError, SequenceError, shown
from mdbench.core.files import check_writable, write_whole
from mdbench.core.progress import Advance
from mdbench.posteriors.gapped import Gapped
from mdbench.posteriors.reading import GAP, Matrix, Tokens, as_sequences, as_transition
from mdbench.tasks import MTD, DirichletMixture
from mdbench.tasks.task import Real, Whole, check_order

OTHERS = ("exact", "urn", "reference", "laplace")  # what may do a size that a method refuses, best first


def posterior(
    transition: Any,
    order: Whole,
    sequences: Any,
    *,
    concentration: Real = 1.0,
    method: str = "exact",
    states: Sequence[str] | None = None,
    first_state: int | None = None,
    normalise: bool = False,
    pooled: bool = False,
    prefixes: bool = False,
    out: str | Path | None = None,
    progress: Advance | None = None,
) -> dict[str, Any]:
    """Posterior of the mixture weights for each of some sequences, which may differ in length.

    Args:
        transition: π, q rows of q probabilities: lists, an array, or a DataFrame, whose labels are kept.
        order: m, the number of lags.
        sequences: lists of states, numbers or labels, each of at least m + 1; arrays, of which masked entries are
            missing; a DataFrame (a row each) or a Series; or a single sequence. A missing state (None, NaN, NA) is a
            gap that no transition crosses; at either end it is padding.
        concentration: α of the symmetric Dirichlet prior on the weights.
        method: a baseline, such as ``exact``, ``nuts`` or ``gibbs:draws=2000``.
        states: the labels of π's rows, where it has none of its own or the sequences have others.
        first_state: 0 or 1: what states that are numbers begin with; found if None.
        normalise: divide each row of π by its sum, so that counts and rounded rows will do.
        pooled: one λ for all sequences.
        prefixes: also give the posterior mean after every prefix, from length m (the prior) on.
        out: file (.nc) for the draws and the log likelihood of each transition, as ArviZ data; the method must have
            draws and the sequences one length, or be pooled.
        progress: called as ``progress(k)`` when k more sequences are done.

    Returns:
        What ``mdbench posterior --json`` prints: method, order, concentration, labels (of the states), understood (what
        was found out about the data) and, for each sequence, name, length, log_evidence (of y_{m+1..T} given the first
        m, in nats), posterior_mean, posterior_sd, next_token (p_B; None where a lag of it is missing), error_estimate
        (bound on the error of the mean, and of log evidence relative to 1 + |log evidence|), standard_error and
        next_token_standard_error (of sampling methods), and checks_made (name, limit, value, verdict). What a method
        does not have is None. With ``pooled`` these stand once, under that name, and each sequence has its next token.

    Raises:
        InputError: bad numbers, or an impossible sequence; the message names it.
    """
    for name, value in (("normalise", normalise), ("pooled", pooled), ("prefixes", prefixes)):
        if not isinstance(value, (bool, np.bool_)):
            raise InputError(f"{name} must be True or False, not {shown(repr(value))[1:-1]}.")
    if not isinstance(method, str):
        raise InputError(f"method must be the name of a baseline, not {shown(repr(method))[1:-1]}.")
    if out is not None and (isinstance(out, bool) or not isinstance(out, (str, os.PathLike))):
        raise InputError(f"out must be the path of a file, not {shown(repr(out))[1:-1]}.")
    baseline = build_baseline(method)
    check_order(order)
    order = int(order)  # which json.dumps takes
    matrix = transition if isinstance(transition, Matrix) else as_transition(transition, normalise)
    given = sequences
    if not isinstance(given, Tokens):
        given = as_sequences(sequences, matrix, states, first_state, order)
    task = MTD("posterior", matrix.values, order, concentration, lengths=(order + 1,))
    tokens = [_check_sequence(task, k, sequence) for k, sequence in enumerate(given.sequences)]
    if not tokens:
        raise InputError("there are no sequences; give at least one.")
    if pooled and prefixes:
        raise InputError("prefixes are of single sequences; take them without pooled.")
    whole = [_joined(tokens)] if pooled else tokens
    groups: dict[tuple[int, bool], list[int]] = {}
    for k, sequence in enumerate(whole):
        groups.setdefault((len(sequence), bool((sequence == GAP).any())), []).append(k)
    models = {key: Gapped(task) if key[1] else task for key in groups}
    for (length, _), model in models.items():
        _check_method(baseline, model, length)
    if out is not None:
        _check_out(out, baseline, sorted({length for length, _ in groups}), len(groups))

    reports: list[dict[str, Any]] = [{}] * len(whole)
    means: list[Float[np.ndarray, " m"]] = [np.empty(0)] * len(whole)
    for key, group in sorted(groups.items()):
        contexts, model = np.stack([whole[k] for k in group]), models[key]
        lengths = range(order, key[0] + 1) if prefixes else [key[0]]
        of_group = baseline.posterior(model, contexts, lengths, progress)
        if out is not None:
            _write_draws(out, of_group, task, model, contexts)
        next_token = of_group.predictive(model, contexts).probs[:, -1]
        for row, k in enumerate(group):
            means[k] = of_group.mean[row, -1]
            known = (whole[k][-order:] != GAP).all()
            reports[k] = _report(of_group, row, next_token[row] if known else None)
            if prefixes:
                by_prefix = of_group.mean[row].tolist()
                reports[k]["prefixes"] = {"length": list(of_group.lengths), "posterior_mean": by_prefix}
    described = [{"name": _name(given, k), "length": len(sequence)} for k, sequence in enumerate(tokens)]
    result: dict[str, Any] = {
        "method": baseline.label,
        "order": order,
        "concentration": task.concentration,
        "labels": list(given.labels or matrix.labels or []) or None,
        "understood": [*matrix.notes, *given.notes],
    }
    if not pooled:
        return result | {"sequences": [about | report for about, report in zip(described, reports, strict=True)]}
    for about, sequence in zip(described, tokens, strict=True):
        known = (sequence[-order:] != GAP).all()
        about["next_token"] = task.truth(means[0][None], sequence[None])[0].tolist() if known else None
    of_all = {key: value for key, value in reports[0].items() if not key.startswith("next_token")}
    return result | {"pooled": of_all, "sequences": described}


def _check_method(baseline: Baseline[Any], task: DirichletMixture, length: int) -> None:
    """Raise :class:`InputError` for what the method cannot do, with a method that can."""
    try:
        baseline.check(task, length)
    except InputError as error:
        able = next((name for name in OTHERS if _can(name, task, length)), None)
        if able is None:
            raise
        raise InputError(f"{str(error).rstrip('.')}; --method {able} does this size.") from None


def _can(method: str, task: DirichletMixture, length: int) -> bool:
    try:
        build_baseline(method).check(task, length)
    except InputError:
        return False
    return True


def _name(given: Tokens, k: int) -> str | None:
    return None if given.names is None else given.names[k]


def _joined(tokens: Sequence[Int[np.ndarray, " _"]]) -> Int[np.ndarray, " _"]:
    """One sequence with a gap between each two, which no transition crosses."""
    parts = [part for sequence in tokens for part in (np.array([GAP]), sequence)]
    return np.concatenate(parts[1:])


def _write_draws(
    out: str | Path, result: Posterior, task: MTD, model: DirichletMixture, contexts: Int[np.ndarray, "B T"]
) -> None:
    """The draws with all that is needed to make them again, and the log likelihood of each transition."""
    assert result.draws is not None, "checked before"
    made_of = {
        "mdbench_version": version("mdbench"),
        "order": task.order,
        "concentration": task.concentration,
        "transition": json.dumps(task.transition.tolist()),
        "sequences": json.dumps(contexts.tolist()),
    }
    with_settings = replace(result, draws=replace(result.draws, settings=result.draws.settings | made_of))
    data = with_settings.to_arviz(_log_likelihood(result, task, model, contexts))
    write_whole(out, lambda temporary: data.to_netcdf(str(temporary)))


def _log_likelihood(
    result: Posterior, task: MTD, model: DirichletMixture, contexts: Int[np.ndarray, "B T"]
) -> dict[str, np.ndarray]:
    """Log ⟨λ, x_t⟩ for each draw and transition, in nats, and which transition of which sequence that is."""
    assert result.draws is not None, "checked before"
    x = model.likelihoods(contexts)  # (B, n, m)
    sequence, place = np.nonzero(~model.neutral(contexts) if isinstance(model, Gapped) else np.ones(x.shape[:2], bool))
    weights = result.draws.weights[..., -1, :]  # (C, D, B, m)
    if 8 * weights[..., 0, 0].size * len(place) > MEMORY_LIMIT:
        raise InputError(
            f"the log likelihood of {len(place)} transitions for {weights[..., 0, 0].size} draws takes more than "
            f"{MEMORY_LIMIT // 2**30} GiB; take fewer draws, or no --out."
        )
    values = np.log(np.einsum("cdog,og->cdo", weights[:, :, sequence], x[sequence, place]))
    return {"values": values, "sequence": sequence + 1, "position": place + task.order + 1}


def _report(result: Posterior, row: int, next_token: Float[np.ndarray, " q"] | None) -> dict[str, Any]:
    """What is said of one sequence: of its last prefix, but for the gates, which count all."""

    def last(values: np.ndarray | None) -> Any:
        return None if values is None else values[row, -1].tolist()

    return {
        "log_evidence": last(result.log_evidence),
        "posterior_mean": last(result.mean),
        "posterior_sd": last(result.sd),
        "next_token": None if next_token is None else next_token.tolist(),
        "error_estimate": None if result.error is None else float(result.error[row]),
        "standard_error": last(result.mean_se),
        "next_token_standard_error": None if next_token is None else last(result.next_token_se),
        "checks_made": checks_of(result, row),
    }


def checks_of(result: Posterior, row: int) -> list[dict[str, Any]]:
    """The gates of one sequence: name, limit, value and verdict."""
    return [
        {
            "name": check.name,
            "limit": check.limit,
            "value": _finite(_telling(check, row)),
            "verdict": check.verdict(row),
        }
        for check in result.checks_made
    ]


def _telling(check: Gate, row: int) -> float | None:
    """The value at the first prefix that fails, or else at the last prefix."""
    if check.values is None or check.passed is None:
        return None
    failing = np.flatnonzero(~check.passed[row])
    return float(check.values[row, failing[0] if failing.size else -1])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _check_out(out: str | Path, baseline: Baseline[Any], lengths: Sequence[int], n_groups: int) -> None:
    if Path(out).suffix != ".nc":
        raise InputError(f"--out writes .nc (netCDF), not '{out}'.")
    if not baseline.n_draws:
        raise InputError(f"'{baseline.label}' has no draws to write; --method urn:draws=1000 has independent ones.")
    if len(lengths) > 1:
        raise InputError(f"--out needs sequences of one length, not of {len(lengths)}; write one file for each length.")
    if n_groups > 1:
        raise InputError("--out needs sequences with gaps in a file of their own.")
    check_writable(out)


def _check_sequence(task: MTD, k: int, tokens: Int[np.ndarray, " length"]) -> Int[np.ndarray, " length"]:
    """The k-th sequence, if it is long enough, of the task's states, and possible."""
    if len(tokens) < task.order + 1:
        raise SequenceError(
            k, f"its length is {len(tokens)}; order {task.order} needs at least {task.order + 1} states."
        )
    model = Gapped(task) if (tokens == GAP).any() else task
    try:
        model.likelihoods(tokens[None])
    except SequenceError as error:
        raise SequenceError(k, error.what) from None
    if isinstance(model, Gapped) and model.neutral(tokens[None]).all():
        raise SequenceError(k, f"gaps leave no {task.order + 1} states in a row.")
    return tokens
