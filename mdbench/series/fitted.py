"""Models of a person's own sequences, side by side: which order, which weights, how sure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mdbench.core.errors import InputError, foreign
from mdbench.core.progress import Progress, no_progress
from mdbench.core.tables import read_table
from mdbench.posteriors.labels import alphabet_in, alphabet_of, stand_in
from mdbench.posteriors.reading import GAP, Matrix, Tokens, as_sequences, sequences_in
from mdbench.series.association import LAGS, cramers_v, replicates
from mdbench.series.models import Fitted, fit_markov, fit_mixture, likelihood_of
from mdbench.series.transitions import Transitions, transitions_of
from mdbench.tasks.task import Whole, check_order, is_whole

LONGEST_CHAIN = 3  # the highest order of the Markov chains beside
REPLICATES = 200
BAND = (2.5, 97.5)  # percent of the replicates
LONGEST_ORDER = 20


def fit(
    data: Any,
    order: Whole,
    *,
    start: Whole | None = None,
    states: Sequence[str] | None = None,
    bayes: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Mixtures over lags fitted to sequences by maximum likelihood, beside independence and Markov chains.

    All models predict the same observations: those after the first S of their sequence that are there, as are the M
    before them, where M is the longest order of all. So S observations of every sequence are given, and M after a gap.

    Args:
        data: sequences, as :func:`mdbench.posterior` takes them; a missing state is a gap.
        order: m, the number of lags; mixtures of orders 2 to m are fitted, and Markov chains of orders up to 3 (or S).
        start: S, at least m; m or 3, whichever is more, if None.
        states: labels, in the order that the rows are to have; else those that occur, in order.
        bayes: also the posterior of weights and matrix (:mod:`mdbench.series.bayes`).
        progress: how long it takes.

    Returns:
        What ``mdbench fit --json`` prints. ``data``: sequences, observations, missing, predicted (n), start, memory
        (M), understood. ``fits``: a dict for each model with model (independence, markov, mtd or per_lag), order,
        start, log_likelihood (nats), n_parameters, bic, weights, weights_ci, transition, transition_ci, states, notes
        (:class:`mdbench.series.models.Fitted`); intervals are of 95%, by the profile likelihood. ``association``:
        Cramér's V of tokens k apart in the data, and the middle 95% of series drawn from the MTD of order m.
        ``left_out``: models that the data are too few for, with the reason. ``bayes``, if asked for.

    Raises:
        InputError: data that cannot be read, or that cannot tell what the parameters are.
    """
    tokens = data if isinstance(data, Tokens) else _read(data, order, states)
    transitions = _transitions(tokens, order, start)
    order, labels = int(order), [*(tokens.labels or ())]
    chains = [fit_markov(transitions, k, labels) for k in range(min(LONGEST_CHAIN, transitions.start) + 1)]
    mixtures: dict[bool, list[Fitted]] = {False: [], True: []}
    left_out = []
    advance = progress("fit", 2 * (order - 1))
    for m in range(2, order + 1):
        for per_lag, fits in mixtures.items():
            shorter = fits[-1] if fits and fits[-1].order == m - 1 else None
            try:
                fits.append(fit_mixture(transitions, m, per_lag, labels, shorter, advance))
            except InputError as error:
                if not per_lag:
                    raise
                left_out.append(str(error))
    result = {
        "data": {
            "sequences": len(tokens.sequences),
            "observations": int(sum((sequence != GAP).sum() for sequence in tokens.sequences)),
            "missing": int(sum((sequence == GAP).sum() for sequence in tokens.sequences)),
            "predicted": len(transitions),
            "start": transitions.start,
            "memory": transitions.memory,
            "understood": [*tokens.notes],
        },
        "fits": [asdict(found) for found in (*chains, *mixtures[False], *mixtures[True])],
        "left_out": left_out,
        "association": _association(transitions, mixtures[False][-1]) if mixtures[False] else None,
    }
    if bayes:
        from mdbench.series.bayes import posterior_of

        result["bayes"] = posterior_of(transitions, order, progress)
    return result


def read(path: str | Path, order: Whole, states: Sequence[str] | None = None) -> Tokens:
    """The sequences in a file, whose states are those that occur unless they are given.

    Raises:
        InputError: they cannot be read; the message says where, and what would be right.
    """
    check_order(order)
    table = read_table(path)
    return sequences_in(table, int(order), alphabet_in(table) if states is None else stand_in(states), states)


def _read(data: Any, order: Whole, states: Sequence[str] | None) -> Tokens:
    check_order(order)
    labels = None if states is None else [*map(str, states)]
    with foreign("data must be sequences of states", InputError, kind=InputError):
        alphabet = alphabet_of(data) if labels is None else stand_in(labels)
    return as_sequences(data, alphabet, labels, order=int(order))


def _transitions(tokens: Tokens, order: Whole, start: Whole | None) -> Transitions:
    """What is predicted.

    Raises:
        InputError: order and start cannot be, or leave nothing.
    """
    check_order(order)
    if order > LONGEST_ORDER:
        raise InputError(f"order {order} is more than {LONGEST_ORDER}, the most that is fitted.")
    if start is None:
        start = max(int(order), LONGEST_CHAIN)
    if not is_whole(start) or start < order:
        raise InputError(f"start must be a whole number of at least the order, {order}, not {start!r}.")
    if not tokens.sequences or not any((sequence != GAP).any() for sequence in tokens.sequences):
        raise InputError("there is no state in the sequences; every value is missing.")
    memory = max(int(order), min(LONGEST_CHAIN, int(start)))
    return transitions_of(tokens.sequences, len(tokens.labels or ()), memory, int(start))


def fitted_matrix(tokens: Tokens, order: Whole) -> Matrix:
    """π of the MTD of an order that fits all sequences together best, for :func:`mdbench.posterior`.

    Raises:
        InputError: the data cannot tell it.
    """
    transitions = _transitions(tokens, order, order)
    labels = tokens.labels or ()
    likelihood = likelihood_of(transitions, int(order), False, labels)
    values = likelihood.matrices(likelihood.maximum().theta)[0]
    note = (
        f"π fitted to all {len(transitions)} transitions of order {order}, with one λ for all; its own error is in no "
        "interval"
    )
    return Matrix(values.copy(), tuple(labels), (note,))


def _association(transitions: Transitions, found: Fitted) -> dict[str, Any]:
    """Cramér's V in the data and in replicates from the fitted model."""
    longest = max(len(tokens) for tokens in transitions.stretches)
    lags = range(1, min(LAGS, longest - 1) + 1)
    q = transitions.n_states
    weights = np.repeat(np.array(found.weights)[None], REPLICATES, axis=0)
    matrices = np.broadcast_to(np.array(found.transition), (REPLICATES, found.order, q, q))
    drawn = replicates(transitions, weights, matrices, np.random.default_rng(0))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # of a lag at which no pair is there
        band = np.nanpercentile(cramers_v(drawn, q, lags), BAND, axis=1)
    return {
        "measure": "Cramér's V",
        "model": found.label,
        "lag": [*lags],
        "data": cramers_v(transitions.stretches, q, lags).tolist(),
        "low": band[0].tolist(),
        "high": band[1].tolist(),
    }
