"""The model once more, in Pyro on torch and in float64, by docs/mathematics.md, section 1, and no look at the rest.

It imports nothing of mdbench: numbers go in and arrays come out, so it can be wrong only on its own account.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from torch.distributions import constraints


def model(matrices: torch.Tensor, independent: torch.Tensor, concentration: float, contexts: torch.Tensor) -> None:
    """λ of each of B sequences, the lags summed out: p(y_t | λ, past) = Σ_g λ_g π_g(y_{t-g}, y_t) + λ_{m+1} ι(y_t)."""
    batch, length = contexts.shape
    order = len(matrices)
    prior = torch.full((order + len(independent),), concentration, dtype=torch.float64)
    with pyro.plate("sequence", batch):
        weights = pyro.sample("weights", dist.Dirichlet(prior))
        probability = torch.zeros((), dtype=torch.float64)
        now = contexts[:, order:]
        for lag in range(1, order + 1):
            before = contexts[:, order - lag : length - lag]
            probability = probability + weights[..., lag - 1 : lag] * matrices[lag - 1][before, now]
        if len(independent):
            probability = probability + weights[..., order:] * independent[0][now]
        pyro.factor("tokens", probability.log().sum(-1))


def run_nuts(
    matrices: np.ndarray,
    independent: np.ndarray | None,
    concentration: float,
    contexts: np.ndarray,
    *,
    warmup: int,
    draws: int,
    tree_depth: int,
    seeds: list[int],
) -> dict[str, np.ndarray]:
    """All sequences as one target density, a chain for each seed: ``weights`` (C, D, B, m) and ``diverging`` (C, D)."""
    arguments = _tensors(matrices, independent, concentration, contexts)
    weights, diverging = [], []
    for seed in seeds:
        kernel = NUTS(model, max_tree_depth=tree_depth, jit_compile=True, ignore_jit_warnings=True)
        mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            mcmc.run(*arguments)
        weights.append(mcmc.get_samples()["weights"].detach().numpy())
        flags = np.zeros(draws, dtype=bool)
        flags[list(mcmc.diagnostics()["divergences"]["chain 0"])] = True
        diverging.append(flags)
    return {"weights": np.stack(weights), "diverging": np.stack(diverging)}


def run_svi(
    matrices: np.ndarray,
    independent: np.ndarray | None,
    concentration: float,
    contexts: np.ndarray,
    *,
    steps: int,
    seed: int,
) -> np.ndarray:
    """Concentrations (B, m) of the Dirichlet guides fitted by Pyro's SVI."""
    arguments = _tensors(matrices, independent, concentration, contexts)
    (batch, length), order = contexts.shape, len(matrices)
    m = order + (independent is not None)
    start = torch.full((batch, m), concentration + 0.3 * (length - order) / m, dtype=torch.float64)

    def guide(*_: Any) -> None:
        a = pyro.param("a", start, constraint=constraints.positive)
        with pyro.plate("sequence", batch):
            pyro.sample("weights", dist.Dirichlet(a))

    rate, last = 0.05, 5e-5
    optimiser = pyro.optim.ClippedAdam({"lr": rate, "lrd": (last / rate) ** (1 / steps), "clip_norm": 1e9})
    elbo = Trace_ELBO(num_particles=16, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, guide, optimiser, elbo)
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        for _ in range(steps):
            svi.step(*arguments)
        return pyro.param("a").detach().numpy().copy()


def _tensors(matrices: Any, independent: Any, concentration: float, contexts: Any) -> tuple[Any, ...]:
    """The independent component, if there is one, as the only row of a matrix."""
    alone = [] if independent is None else [independent]
    rows = torch.tensor(np.array(alone).reshape(-1, matrices.shape[-1]), dtype=torch.float64)
    return torch.tensor(np.array(matrices)), rows, concentration, torch.tensor(contexts)
