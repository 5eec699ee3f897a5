"""Stochastic variational inference with NumPyro, for many sequences at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Float, Int
from numpyro.infer import SVI, Trace_ELBO

from mdbench.baselines.baseline import SEEDS, Baseline, TaskT, option, sequence_seeds
from mdbench.baselines.chains import chain_keys
from mdbench.core.device import n_cores
from mdbench.core.progress import Advance

CHUNK = 64  # sequences side by side; fixed, so that no fit depends on the batch around a sequence
PARTICLES = 16  # draws for each gradient
LEARNING_RATE = 0.05  # Adam's at the start; it falls to a thousandth of that on a cosine


def optimised(model: Callable[..., Any], guide: Callable[..., Any], steps: int, key: Any, *data: Any) -> dict[str, Any]:
    """The guide's parameters after so many Adam steps from where they start.

    The guide is called with the model's arguments.
    """

    def rate(step: Any) -> Any:
        return LEARNING_RATE * jnp.maximum((1 + jnp.cos(jnp.pi * step / steps)) / 2, 1e-3)

    svi = SVI(model, guide, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=PARTICLES))
    state = svi.init(key, *data)
    state = jax.lax.fori_loop(0, steps, lambda _, s: svi.update(s, *data)[0], state)
    return svi.get_params(state)


@dataclass(frozen=True)
class Variational(Baseline[TaskT]):
    """A method that fits a guide; each prefix is a fit of its own."""

    steps: int = option(1000, "of Adam", least=1)
    draws: int = option(1000, "independent draws from the guide to return", least=0)
    seed: int = option(0, "with a sequence's tokens it fixes that sequence's fit and draws", least=0, most=SEEDS)

    def fit(
        self,
        run: Callable[[jax.Array, Int[np.ndarray, " chunk"], int], dict[str, np.ndarray]],
        contexts: Int[np.ndarray, "B T"],
        lengths: Sequence[int],
        progress: Advance | None,
    ) -> list[dict[str, Float[np.ndarray, "B ..."]]]:
        """The fitted parameters at each prefix; ``run(keys, rows, length)`` has those of some sequences."""

        def run_chunk(start: int, length: int) -> dict[str, np.ndarray]:
            rows = np.minimum(np.arange(start, start + CHUNK), len(contexts) - 1)
            keys = chain_keys(sequence_seeds(contexts[rows, :length], self.seed), 1)[:, 0]
            fitted = run(keys, rows, length)
            real = min(CHUNK, len(contexts) - start)
            if progress and length == lengths[-1]:
                progress(real)
            return {name: values[:real] for name, values in fitted.items()}

        parameters = []
        with ThreadPoolExecutor(n_cores()) as pool:
            for length in lengths:
                starts = range(0, len(contexts), CHUNK)
                chunks = list(pool.map(lambda start, length=length: run_chunk(start, length), starts))
                parameters.append({name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]})
        return parameters
