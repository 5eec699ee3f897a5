"""What a network computes while it is trained: its snapshots, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize

from mdbench.algorithms.known import ALGORITHMS
from mdbench.core import metrics
from mdbench.core.device import check_device
from mdbench.core.errors import Unsupported
from mdbench.core.files import json_ready
from mdbench.core.progress import Progress, no_advance
from mdbench.core.statistics import mean_interval
from mdbench.core.store import Cache, open_store
from mdbench.evaluation.gold import gold_predictive
from mdbench.evaluation.running import predict
from mdbench.mechanism.adaptation import step_adaptation
from mdbench.mechanism.identification import Sequences, fitted_to
from mdbench.mechanism.inspection import transition_matrix
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.snapshots import Snapshots
from mdbench.predictors.transformer import DisentangledTransformer
from mdbench.tasks import MTD, Stream, Task, as_task, sample

BAYES, ONE_STEP, UNIFORM, MARGINAL = "bayes", "md1", "uniform", "marginal"

GAP, MOST_ITERATIONS = 1e-6, 20_000  # nats from the nearest mixture

FITTED = ("md1", "md2", "md1_adaptive_tuned")  # algorithms with scalars that are tried: those that are quickly fitted


@dataclass(frozen=True)
class Phase:
    """One snapshot.

    Attributes:
        step: of training.
        excess_kl: mean KL(p_B ‖ p̂) in nats.
        excess_kl_ci: its 95% interval, None where it is infinite.
        mixture: the shares of the convex mixture nearest to it (least mean KL(p̂ ‖ mixture)) of ``marginal`` (one
            distribution whatever the context), ``lag 1`` .. (π's row of that token), ``uniform`` over lags, ``md1`` and
            ``bayes``; what all lags have in common counts as ``uniform``.
        mixture_kl: that mean KL.
        nearest: of the algorithms with nothing to fit and ``md1``, ``md2``, ``md1_adaptive_tuned``, fitted anew.
        nearest_kl: mean KL(p̂ ‖ nearest).
        adaptation: log-log slope of its effective step on η_i; None where no steps can be told.
        kl_over_keys: W_A against π, softmax over keys; None of a standard transformer.
        scale: slope of W_A against log π, likewise.
    """

    step: int
    excess_kl: float
    excess_kl_ci: tuple[float, float] | None
    mixture: dict[str, float]
    mixture_kl: float
    nearest: str
    nearest_kl: float
    adaptation: float | None
    kl_over_keys: float | None
    scale: float | None


@dataclass(frozen=True)
class Phases:
    """What :func:`phases` returns; ``components`` are the excess KLs of what snapshots are mixed from."""

    run: str
    task: str
    length: int
    seed: int
    n_sequences: int
    components: dict[str, float]
    snapshots: list[Phase]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self))


def phases_of(
    run: str | Path,
    *,
    task: str | Path | Task = "mtd-q5-m3",
    n_sequences: int = 512,
    seed: int = 0,
    device: str = "cpu",
    cache: Cache = "all",
    progress: Progress | None = None,
) -> Phases:
    """What a run computes at each of its snapshots.

    Args:
        run: its folder ``seed<k>``, finished or under way, of ``mdbench train --snapshots N``.
        task: that it trains on.
        n_sequences: to judge on; algorithms are fitted on as many others.
        seed: of these.
        device: torch device.
        cache: "none" keeps no gold, and takes none that is kept.
        progress: called to show progress.

    Raises:
        InputError: the folder has no snapshots.
        Unsupported: they are of another task.
    """
    check_device(device)
    loaded = as_task(task)
    if not isinstance(loaded, MTD):
        raise Unsupported(f"phases are of runs on {MTD.kind}; '{loaded.name}' is {loaded.kind}.")
    snapshots = Snapshots.of(run)
    snapshots.check(loaded)
    length = snapshots.config.length
    contexts = sample(loaded, length, n_sequences, seed).contexts
    to_fit = sample(loaded, length, n_sequences, seed, stream=Stream.CALIBRATION).contexts
    store = open_store(cache=cache != "none")
    bayes = metrics.normalise(gold_predictive(loaded, contexts, [length], kept=store).probs[:, 0])
    components = _components(loaded, contexts, bayes)
    advance = progress(f"{run}: snapshots", len(snapshots.steps)) if progress else no_advance
    tried = [a for a in ALGORITHMS if a.name in FITTED or not a.names(loaded.n_states)]
    sequences = Sequences.of(loaded, to_fit, store), Sequences.of(loaded, contexts, store)
    found = []
    for step in snapshots.steps:
        model = snapshots.at(loaded, step, device)
        name = f"run:{run}@{step}"
        probs = predict(name, model, loaded, contexts)
        shares, apart = nearest_mixture(probs, components)
        nearest, distance = fitted_to(sequences, (predict(name, model, loaded, to_fit), probs), tried)
        excess = mean_interval(metrics.kl(bayes, probs))
        ours = model.model if isinstance(model.model, DisentangledTransformer) else None
        matrix = None if ours is None else transition_matrix(loaded, ours)
        adaptation = step_adaptation(loaded, contexts, probs)
        found.append(
            Phase(
                step,
                excess.mean,
                excess.interval,
                shares,
                apart,
                nearest,
                distance,
                None if adaptation is None else adaptation.slope,
                None if matrix is None else matrix.kl_over_keys,
                None if matrix is None else matrix.scale,
            )
        )
        advance(1)
    of_components = {name: float(metrics.kl(bayes, probs).mean()) for name, probs in components.items()}
    return Phases(str(run), loaded.name, length, snapshots.seed, n_sequences, of_components, found)


def _components(task: MTD, contexts: Any, bayes: Float[np.ndarray, "N q"]) -> dict[str, Float[np.ndarray, "N q"]]:
    rows = task.rows(contexts)
    found = {MARGINAL: np.broadcast_to(bayes.mean(axis=0), bayes.shape)}
    found |= {f"lag {g + 1}": rows[:, g] for g in range(rows.shape[1])}
    found[UNIFORM] = rows.mean(axis=1)
    found[ONE_STEP] = metrics.normalise(np.asarray(build_predictor(ONE_STEP, task).predict(contexts)))
    return {name: metrics.normalise(np.asarray(probs)) for name, probs in found.items()} | {BAYES: bayes}


def nearest_mixture(
    probs: Float[np.ndarray, "N q"], components: Mapping[str, Float[np.ndarray, "N q"]]
) -> tuple[dict[str, float], float]:
    """The shares of the convex mixture of least mean KL(p̂ ‖ mixture), and that KL.

    The lags together make up ``uniform``, so what all of them have in common is given to it.
    """
    stacked = np.stack([*components.values()])  # (K, N, q)
    k, n = stacked.shape[:2]

    def loss(shares: Float[np.ndarray, " K"]) -> tuple[float, Float[np.ndarray, " K"]]:
        mixed = np.tensordot(shares, stacked, axes=1)
        ratio = np.divide(probs, mixed, out=np.zeros_like(mixed), where=mixed > 0)
        return -float((probs * np.log(np.maximum(mixed, 1e-300))).sum() / n), -(stacked * ratio).sum(axis=(1, 2)) / n

    solved = optimize.minimize(
        loss,
        np.full(k, 1 / k),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * k,
        constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1, "jac": lambda shares: np.ones_like(shares)},
        options={"maxiter": 300, "ftol": 1e-12},
    )
    weights = np.maximum(solved.x, 0) / np.maximum(solved.x, 0).sum()
    for _ in range(MOST_ITERATIONS):  # of EM, where the solver stopped short; the gap bounds what is left, in nats
        slopes = -loss(weights)[1]
        if slopes.max() - 1 <= GAP:
            break
        weights = weights * slopes
    shares = dict(zip(components, weights, strict=True))
    lags = [name for name in shares if name.startswith("lag ")]
    common = min(shares[name] for name in lags)
    for name in lags:
        shares[name] -= common
    shares[UNIFORM] += common * len(lags)
    mixed = sum(share * components[name] for name, share in shares.items())
    return {name: float(share) for name, share in shares.items()}, float(metrics.kl(probs, mixed).mean())
