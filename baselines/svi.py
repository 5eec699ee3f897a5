"""Stochastic variational inference with NumPyro, for many sequences at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Float, Int
from numpyro.infer import SVI, Trace_ELBO

from mdbench.baselines.chains import chain_keys, run_padded
from mdbench.baselines.model import mtd_weights
from mdbench.baselines.posterior import Progress, check_whole_number, sequence_seeds
from mdbench.device import n_cores
from mdbench.tasks import DirichletMixture

CHUNK = 64  # sequences side by side; fixed, so that no fit depends on the batch around a sequence
PARTICLES = 16  # draws for each gradient
LEARNING_RATE = 0.05  # Adam's at the start; it falls to a thousandth of that on a cosine


def compiled_fit(guide: Callable[..., None], steps: int) -> Any:
    """``fit(keys, x, concentration)``: the guide's parameters after ``steps`` Adam steps, for each of many sequences.

    The guide is called with the model's arguments; its parameters start where it says.
    """

    def rate(step):
        return LEARNING_RATE * jnp.maximum((1 + jnp.cos(jnp.pi * step / steps)) / 2, 1e-3)

    svi = SVI(mtd_weights, guide, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=PARTICLES))

    def fit(key, x, concentration):
        state = svi.init(key, x, concentration)
        state = jax.lax.fori_loop(0, steps, lambda _, s: svi.update(s, x, concentration)[0], state)
        return svi.get_params(state)

    return jax.jit(jax.vmap(fit, in_axes=(0, 0, None)))


def fit_all(
    fit: Any,
    task: DirichletMixture,
    contexts: Int[np.ndarray, "B T"],
    x: Float[np.ndarray, "B n m"],
    lengths: Sequence[int],
    seed: int,
    progress: Progress | None,
) -> list[dict[str, Float[np.ndarray, "B ..."]]]:
    """The fitted parameters at each prefix."""

    def run(start: int, length: int):
        rows = np.minimum(np.arange(start, start + CHUNK), len(x) - 1)
        keys = chain_keys(sequence_seeds(contexts[rows, :length], seed), 1)[:, 0]
        found = run_padded(fit, keys, x[rows, : length - task.given], 1.0, task.concentration)
        real = min(CHUNK, len(x) - start)
        if progress and length == lengths[-1]:
            progress(real)
        return {name: values[:real] for name, values in found.items()}

    parameters = []
    with ThreadPoolExecutor(n_cores()) as pool:
        for length in lengths:
            chunks = list(pool.map(lambda start, length=length: run(start, length), range(0, len(x), CHUNK)))
            parameters.append({name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]})
    return parameters


def check_options(method: str, steps: Any, draws: Any) -> None:
    """Raise :class:`InputError` unless both are whole numbers that make sense."""
    check_whole_number(method, "steps", steps, 1)
    check_whole_number(method, "draws", draws, 0)
