"""The posterior of weights and matrix of an MTD given several sequences with gaps, and how well the model fits.

The model is that of :mod:`mdbench.tasks.unknown_matrix`, with λ and π the same for all sequences; the sampler is
collapsed Gibbs (:mod:`mdbench.baselines.gibbs`) with its gates.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from mdbench.baselines.catalogue import build_baseline
from mdbench.core.progress import Progress
from mdbench.posteriors.own import checks_of
from mdbench.posteriors.reading import GAP
from mdbench.series.association import cramers_v, replicates
from mdbench.series.evidence import LARGEST, evidence_of_lags, probabilities
from mdbench.series.transitions import Counted, Transitions
from mdbench.tasks import UnknownMatrix, tokens_before

INTERVAL = (2.5, 97.5)  # percent
REPLICATES = 400
EXTREME = 0.05  # two-sided p-value
CHECKED_LAGS = 3  # beyond the order
MOST_TERMS = 10**8  # of leave-one-out: numbers in memory; longer data do with fewer draws
INFLUENTIAL = 0.7  # Pareto k, from which the estimate of a term of leave-one-out is not to be trusted


@dataclass(frozen=True, eq=False, init=False)
class GappedUnknownMatrix(UnknownMatrix):
    """An MTD with unknown matrix of sequences with gaps: what a gap touches says nothing."""

    family: ClassVar[str] = "gapped_unknown_matrix"

    def check_contexts(self, contexts: Any) -> Int[np.ndarray, "B T"]:
        """As those without gaps."""
        tokens = np.asarray(contexts)
        super().check_contexts(np.where(tokens == GAP, 0, tokens))
        return tokens.astype(np.int64)

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence with z summed out; what is drawn has no gaps."""
        if tokens is None:
            return super().model(length=length)
        return self._with_matrix(_gapped_tokens, tokens, length)


def _gapped_tokens(known: Any, weights: Any, tokens: Any, length: int | None) -> Any:  # noqa: ARG001
    import jax.numpy as jnp
    import numpyro

    m = known.order
    lagged, came = tokens_before(tokens, m, np.arange(m, len(tokens))), tokens[m:]
    there = (lagged != GAP).all(axis=-1) & (came != GAP)
    probs = known.transition[lagged, came[:, None]] @ weights
    return numpyro.factor("tokens", jnp.where(there, jnp.log(probs), 0.0).sum())


def posterior_of(transitions: Transitions, order: int, progress: Progress) -> dict[str, Any]:
    """Posterior, gates, which lags matter, predictive checks and leave-one-out, for JSON.

    Raises:
        InputError: θ has more numbers than the sampler looks at.
    """
    q, data = transitions.n_states, transitions.counted(order)
    task = GappedUnknownMatrix("fit", q, order, lengths=(order + 1,))
    result = build_baseline("gibbs").posterior(task, _joined(transitions, order)[None], None, progress("posterior", 1))
    assert result.draws is not None, "chains are draws"
    theta = result.draws.weights[:, :, 0, 0]  # (C, D, m + q²)
    low, high = np.percentile(theta, INTERVAL, axis=(0, 1))
    intervals = np.stack([low, high], axis=-1)
    n_sets = 2**order
    evidence = (
        evidence_of_lags(transitions.lagged[:, :order], transitions.came, q, advance=progress("sets of lags", n_sets))
        if order <= LARGEST
        else []
    )
    return {
        "order": order,
        "prior": "λ and every row of π uniform on their simplices",
        "weights_mean": result.mean[0, 0, :order].tolist(),
        "weights_interval": intervals[:order].tolist(),
        "transition_mean": result.mean[0, 0, order:].reshape(q, q).tolist(),
        "transition_interval": intervals[order:].reshape(q, q, 2).tolist(),
        "checks_made": checks_of(result, 0),
        "lags_matter": probabilities(evidence, order) if evidence else None,
        "lag_sets": [each._asdict() for each in evidence],
        "predictive_checks": _predictive_checks(transitions, theta.reshape(-1, theta.shape[-1]), order),
        "loo": _leave_one_out(data, theta, q),
    }


def _joined(transitions: Transitions, order: int) -> Int[np.ndarray, " T"]:
    """All stretches with a gap between each two, which no transition crosses."""
    spare = transitions.memory - order
    parts = [part for tokens in transitions.stretches for part in (np.array([GAP]), tokens[spare:])]
    return np.concatenate(parts[1:])


# -------------------------------------------------------------------------------------------------- does it fit?


def _predictive_checks(transitions: Transitions, theta: Float[np.ndarray, "S P"], order: int) -> list[dict[str, Any]]:
    """Statistics of the data among those of series drawn at draws of the posterior, each with a two-sided p-value."""
    q = transitions.n_states
    some = theta[np.linspace(0, len(theta) - 1, REPLICATES).astype(int)]
    matrices = np.broadcast_to(some[:, None, order:].reshape(-1, 1, q, q), (len(some), order, q, q))
    drawn = replicates(transitions, some[:, :order], matrices, np.random.default_rng(0))
    of_data = _statistics([tokens[None] for tokens in transitions.stretches], transitions, order)
    of_drawn = _statistics(drawn, transitions, order)
    checks = []
    for name, values in of_drawn.items():
        seen, values = float(of_data[name][0]), values[np.isfinite(values)]
        if not np.isfinite(seen) or not len(values):
            continue
        above, below = (
            (np.sum(values >= seen) + 1) / (len(values) + 1),
            (np.sum(values <= seen) + 1) / (len(values) + 1),
        )
        p = min(1.0, 2 * float(min(above, below)))
        low, high = np.percentile(values, INTERVAL)
        checks.append(
            {"statistic": name, "data": seen, "low": float(low), "high": float(high), "p": p, "extreme": p < EXTREME}
        )
    return checks


def _statistics(
    stretches: list[Int[np.ndarray, "R _"]], transitions: Transitions, order: int
) -> dict[str, Float[np.ndarray, " R"]]:
    """What an MTD may miss, of each series."""
    q, memory = transitions.n_states, transitions.memory
    lags = range(1, order + CHECKED_LAGS + 1)
    by_lag = cramers_v(stretches, q, lags)
    found = {f"Cramér's V at lag {k}": values for k, values in zip(lags, by_lag, strict=True)}
    after = [tokens[:, memory:] for tokens in stretches]
    repeats = np.sum([(tokens[:, memory:] == tokens[:, memory - 1 : -1]).sum(axis=1) for tokens in stretches], axis=0)
    found["share of tokens like the one before"] = repeats / len(transitions)
    found["longest run of one state"] = np.max([_longest_run(tokens) for tokens in stretches], axis=0)
    counts = [np.sum([(tokens == a).sum(axis=1) for tokens in after], axis=0) for a in range(q)]
    found["share of the most frequent state"] = np.max(counts, axis=0) / len(transitions)
    found["gain of two lags together, nats"] = np.array(
        [_interaction([tokens[r] for tokens in stretches], q) for r in range(len(stretches[0]))]
    )
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def _longest_run(tokens: Int[np.ndarray, "R T"]) -> Int[np.ndarray, " R"]:
    longest, run = np.ones(len(tokens), dtype=np.int64), np.ones(len(tokens), dtype=np.int64)
    for t in range(1, tokens.shape[1]):
        run = np.where(tokens[:, t] == tokens[:, t - 1], run + 1, 1)
        longest = np.maximum(longest, run)
    return longest


def _interaction(stretches: list[Int[np.ndarray, " _"]], q: int) -> float:
    """Log-likelihood of a Markov chain of order 2 over that of order 1: what two tokens say beyond the last one."""
    triples = np.zeros((q, q, q))
    for tokens in stretches:
        np.add.at(triples, (tokens[:-2], tokens[1:-1], tokens[2:]), 1)
    return _log_likelihood(triples) - _log_likelihood(triples.sum(axis=0))


def _log_likelihood(counts: Float[np.ndarray, "... q"]) -> float:
    return float(xlogy(counts, counts).sum() - xlogy(counts.sum(axis=-1), counts.sum(axis=-1)).sum())


def _leave_one_out(data: Counted, theta: Float[np.ndarray, "C D P"], q: int) -> dict[str, Any]:
    """Expected log density of a token given its past, each left out of the fit, by Pareto-smoothed importance sampling.

    A token is left out as something to predict; it still stands before those after it. Equal transitions have equal
    terms, so each is computed once (Vehtari, Gelman and Gabry, Statistics and Computing 27:1413, 2017; ArviZ).
    """
    import arviz
    import xarray

    m = data.lagged.shape[1]
    theta = theta[:, :: max(1, theta[..., 0].size * data.lagged.size // MOST_TERMS)]
    matrix = theta[..., m:].reshape(*theta.shape[:2], q, q)
    values = np.log(np.einsum("cdg,cdkg->cdk", theta[..., :m], matrix[:, :, data.lagged, data.came[:, None]]))
    groups = {
        "posterior": xarray.Dataset({"weights": (("chain", "draw", "lag"), theta[..., :m])}),
        "log_likelihood": xarray.Dataset({"token": (("chain", "draw", "transition"), values)}),
    }
    # ArviZ before 1.0; afterwards xarray's DataTree takes its place
    gathered = (lambda g: arviz.InferenceData(**g)) if hasattr(arviz, "InferenceData") else xarray.DataTree.from_dict
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pareto k, which is given
        found = arviz.loo(gathered(groups), pointwise=True)
    terms = np.asarray(found.loo_i if hasattr(found, "loo_i") else found.elpd_i).ravel()
    together = np.asarray(values).reshape(-1, values.shape[-1])
    of_all = np.log(np.exp(together).mean(axis=0))
    n, counts = data.counts.sum(), data.counts
    mean = float(counts @ terms / n)
    variance = float(counts @ (terms - mean) ** 2 / (n - 1))
    return {
        "elpd": mean * n,
        "se": float(np.sqrt(n * variance)),
        "p_loo": float(counts @ (of_all - terms)),
        "influential": int(counts[np.asarray(found.pareto_k).ravel() > INFLUENTIAL].sum()),
    }
