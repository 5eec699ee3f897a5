"""Minimise an excess KL over a few scalars."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdbench.tasks import Mixture

GRID = 60

ITERATIONS = 500


def kl(p: Float[Array, "batch q"], p_hat: Float[Array, "batch q"]) -> Float[Array, " batch"]:
    """:func:`mdbench.core.metrics.kl` where p̂ is positive, differentiable."""
    r = jnp.where(p > 0, (p_hat - p) / jnp.where(p > 0, p, 1.0), 0.0)
    return jnp.where(p > 0, p * (r - jnp.log1p(r)), p_hat).sum(axis=-1)


def lag_rows(task: Mixture, contexts: Int[np.ndarray, "batch length"]) -> Float[Array, "batch m q"]:
    """Each component's distribution of the next token; of the MTD π(y_{T+1-g}, ·), lag 1 first."""
    return jnp.asarray(task.rows(contexts))


def mix(weights: Float[Array, "batch m"], rows: Float[Array, "batch m q"]) -> Float[Array, "batch q"]:
    """p_λ from the :func:`lag_rows`: :func:`mdbench.tasks.next_token_probs`, differentiable."""
    return jnp.einsum("ng,ngb->nb", weights, rows)


def fit_positive(objective: Callable[[float], float], low: float, high: float, n_looks: int = GRID) -> float | None:
    """Argmin over [low, high]; None where nothing is finite.

    The objective may have several valleys, so look everywhere on a logarithmic scale before going downhill.
    """
    from scipy.optimize import minimize_scalar

    grid = np.linspace(np.log(low), np.log(high), n_looks)
    values = np.array([objective(float(np.exp(point))) for point in grid])
    if not np.isfinite(values).any():
        return None
    k = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    bounds = (grid[max(k - 1, 0)], grid[min(k + 1, n_looks - 1)])
    minimum = minimize_scalar(
        lambda x: objective(float(np.exp(x))), bounds=bounds, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(minimum.x))


Objective = Callable[..., Float[Array, ""]]  # of the scalars and some arrays

Downhill = Callable[[Float[np.ndarray, " k"]], "tuple[float, Float[np.ndarray, ' k']]"]  # value and gradient


def fit(
    objective: Objective, starts: Iterable[Float[np.ndarray, " k"]], *arrays: Any
) -> Float[np.ndarray, " k"] | None:
    """Argmin of a differentiable ``objective(scalars, *arrays)``, by BFGS on its logarithm; None if none is finite."""
    compiled = _log_and_gradient(objective)

    def for_scipy(scalars: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = compiled(jnp.asarray(scalars), *arrays)
        return float(value), np.asarray(gradient)

    return lowest(for_scipy, starts)


def lowest(
    downhill: Downhill,
    starts: Iterable[Float[np.ndarray, " k"]],
    iterations: int = ITERATIONS,
    trial: int | None = None,
) -> Float[np.ndarray, " k"] | None:
    """Where BFGS ends lowest, None if nowhere finite; after ``trial`` iterations each only the best start goes on."""
    from scipy.optimize import minimize

    def from_each(starts: Iterable[np.ndarray], iterations: int) -> Any:
        minima = [minimize(downhill, s, jac=True, method="BFGS", options={"maxiter": iterations}) for s in starts]
        return min((f for f in minima if np.isfinite(f.fun)), key=lambda f: f.fun, default=None)

    starts = list(starts)
    if trial is not None and len(starts) > 1:
        best = from_each(starts, trial)
        starts = [] if best is None else [best.x]
    best = from_each(starts, iterations)
    return None if best is None else best.x


@functools.lru_cache(maxsize=64)
def _log_and_gradient(objective: Objective) -> Callable[..., Any]:
    """Compiled once for each objective and each shape of its arrays."""
    return jax.jit(jax.value_and_grad(lambda scalars, *arrays: jnp.log(objective(scalars, *arrays))))
