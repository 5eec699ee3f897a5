"""From draws to a posterior with standard errors and gates.

The gates of a chain, each applied to every weight λ_g of every sequence and prefix, the worst weight counting:

| gate            | passes      | what it sees |
|-----------------|-------------|--------------|
| r_hat           | < 1.01      | rank-normalised split R-hat (Vehtari et al., Bayesian Analysis 16:667, 2021) |
| ess_bulk        | >= 400      | rank-normalised effective sample size |
| ess_tail        | >= 400      | the smaller effective sample size of the 5% and 95% quantiles |
| mcse_next_token | <= 0.01     | Monte Carlo standard error of the next-token probabilities, largest over states |
| divergences     | == 0        | divergent transitions after warm-up |
| e_bfmi          | >= 0.3      | energy: mean squared step over variance, the worst chain's (arXiv 1604.00695) |

What cannot be computed (constant draws, say) fails.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines.posterior import Draws, Gate, Posterior
from mdbench.tasks import Mixture, Task

R_HAT = 1.01
ESS = 400
MCSE_NEXT_TOKEN = 0.01
E_BFMI = 0.3


def from_draws(
    method: str, task: Task, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int], draws: Draws
) -> Posterior:
    """Moments, standard errors and gates of independent chains."""
    weights = draws.weights  # (C, D, B, P, m)
    next_token = draws.next_token
    if next_token is None:
        next_token = _next_token(task, contexts, lengths, weights)
    next_token_se = _by_arviz("mcse", next_token, method="mean")
    return Posterior(
        method,
        tuple(lengths),
        mean=weights.mean(axis=(0, 1)),
        sd=weights.std(axis=(0, 1), ddof=1),
        mean_se=_by_arviz("mcse", weights, method="mean"),
        next_token_se=next_token_se,
        checks_made=_chain_checks(weights, next_token_se, draws.stats),
        draws=replace(draws, next_token=None),
        next_token=None if isinstance(task, Mixture) else next_token.mean(axis=(0, 1)),
        site=task.theta,
    )


def _next_token(
    task: Task, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int], draws: Float[np.ndarray, "C D B P k"]
) -> Float[np.ndarray, "C D B P q"]:
    """p(· | θ, prefix) of every draw."""
    if isinstance(task, Mixture):
        rows = np.stack([task.rows(contexts[:, :length]) for length in lengths], axis=1)  # (B, P, m, q)
        return np.einsum("cdbpg,bpgq->cdbpq", draws, rows)
    probs = np.empty((*draws.shape[:-1], task.n_states))
    for c, d, p in np.ndindex(len(draws), draws.shape[1], len(lengths)):
        theta = draws[c, d, :, p].reshape(len(contexts), *task.prior_mean.shape)
        probs[c, d, :, p] = task.truth(theta, contexts[:, : lengths[p]])
    return probs


def _chain_checks(
    weights: Float[np.ndarray, "C D B P m"], next_token_se: Float[np.ndarray, "B P q"], stats: dict[str, Any]
) -> tuple[Gate, ...]:
    # ArviZ calls a chain that never moved perfect: R-hat undefined, but as many effective draws as draws.
    stuck = (np.ptp(weights, axis=1) == 0).any(axis=(0, -1))[..., None]  # (B, P, 1)
    r_hat = np.where(stuck, np.nan, _by_arviz("rhat", weights, method="rank"))
    ess_bulk = np.where(stuck, np.nan, _by_arviz("ess", weights, method="bulk"))
    ess_tail = np.where(stuck, np.nan, _by_arviz("ess", weights, method="tail"))
    mcse = np.where(stuck, np.nan, next_token_se)
    diverging, energy = stats.get("diverging"), stats.get("energy")
    return (
        at_most("r_hat", r_hat.max(axis=-1), R_HAT, strict=True),
        at_least("ess_bulk", ess_bulk.min(axis=-1), ESS),
        at_least("ess_tail", ess_tail.min(axis=-1), ESS),
        at_most("mcse_next_token", mcse.max(axis=-1), MCSE_NEXT_TOKEN),
        at_most("divergences", None if diverging is None else diverging.sum(axis=(0, 1)).astype(float), 0),
        at_least("e_bfmi", None if energy is None else e_bfmi(energy), E_BFMI),
    )


def at_most(name: str, values: Float[np.ndarray, "B P"] | None, limit: float, *, strict: bool = False) -> Gate:
    """The gate ``values <= limit`` (``<`` where strict); not applicable for None. NaN fails."""
    rule = "== 0" if limit == 0 else f"{'<' if strict else '<='} {limit:g}"
    if values is None:
        return Gate(name, rule, None, None)
    return Gate(name, rule, values, values < limit if strict else values <= limit)


def at_least(name: str, values: Float[np.ndarray, "B P"] | None, limit: float) -> Gate:
    """The gate ``values >= limit``; not applicable for None. NaN fails."""
    return Gate(name, f">= {limit:g}", values, None if values is None else values >= limit)


def e_bfmi(energy: Float[np.ndarray, "C D B P"]) -> Float[np.ndarray, "B P"]:
    """The smallest over chains of E[(E_k - E_{k-1})²] / Var[E]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1)).min(axis=0)


def _by_arviz(function: str, values: Float[np.ndarray, "C D ..."], **options: Any) -> Float[np.ndarray, " ..."]:
    """``arviz.function`` of each scalar in ``values``."""
    import arviz
    import xarray

    dims = ("chain", "draw", *(f"d{k}" for k in range(values.ndim - 2)))
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"), _without_numba(arviz):
        warnings.simplefilter("ignore")
        return getattr(arviz, function)(xarray.Dataset({"x": (dims, values)}), **options)["x"].values


@contextlib.contextmanager
def _without_numba(arviz: Any) -> Iterator[None]:
    """Where numba is installed, ArviZ before 1.0 takes a variance in one pass: NaN for draws that are nearly equal."""
    switch = getattr(arviz, "Numba", None)
    if switch is None or not switch.numba_flag:
        yield
        return
    switch.disable_numba()
    try:
        yield
    finally:
        switch.enable_numba()
