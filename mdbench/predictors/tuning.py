"""Step sizes tuned on calibration sequences, which evaluation never uses (SPEC section 3).

The built-in tasks' step sizes stand in ``tuned_steps.json`` beside this file (``mdbench tune`` makes them anew). For
any other task or length they are tuned at first use and kept in the user's cache folder (``MDBENCH_CACHE`` names
another), one small file each. Both are found by task hash.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.optimize import minimize_scalar

from mdbench import metrics
from mdbench.errors import InputError
from mdbench.files import cache_folder, make_folder, write_text
from mdbench.predictors.mirror_descent import check_steps, mirror_descent
from mdbench.registry import build_baseline
from mdbench.tasks import Stream, Task, lag_likelihoods, next_token_probs, sample

VERSION = 2  # raised when another way of tuning makes cached values stale
N_CALIBRATION = 2048
HIGHEST_QUICK_ORDER = 4  # above it `exact` takes a good part of a second a sequence and more
FEWER = 256  # sequences there, by `reference`
SHIPPED = Path(__file__).parent / "tuned_steps.json"

log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=256)
def tuned_step_size(task: Task, steps: int, length: int) -> float:
    """The stored η for ``steps`` steps at this length, tuned now if nobody did before."""
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8")) if SHIPPED.exists() else {}
    found = shipped.get(task.task_hash, {}).get("eta", {}).get(str(steps), {}).get(str(length))
    if found is not None:
        return float(found)
    path = cache_file(task, steps, length)
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["eta"])
    except FileNotFoundError:
        log.info("%s, T = %d: tuning η for %d steps ...", task.name, length, steps)
    except (OSError, ValueError, TypeError, KeyError):
        log.warning("'%s' is damaged; tuning that step size anew ...", path)
    eta = tune_step_size(task, steps, length)
    try:
        cache(task, steps, length, eta)
    except InputError as error:
        log.warning("%s The step size is tuned again next time.", error)
    return eta


def tune_step_size(task: Task, steps: int, length: int) -> float:
    """The one η, shared by all steps, that minimises mean KL(p_B ‖ p̂) over the calibration sequences."""
    check_steps(steps)
    x, contexts, bayes = _calibration(task, length)

    def excess_kl(log_eta: float) -> float:
        weights = np.asarray(mirror_descent(x, np.exp(log_eta), steps))
        return float(metrics.kl(bayes, next_token_probs(task, weights, contexts)).mean())

    # The objective may have several valleys (large steps overshoot), so look everywhere before going downhill. From
    # a hundredth of `smooth` to 10, beyond which one step already picks a single lag.
    smooth = 1 / ((length - task.order) * task.order**2)
    grid = np.linspace(np.log(smooth / 100), np.log(10.0), 60)
    values = np.array([excess_kl(point) for point in grid])
    if not np.isfinite(values).any():
        raise InputError(
            f"task '{task.name}', length {length}: no step size has a finite excess KL; give eta a number."
        )
    k = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
    return float(np.exp(minimize_scalar(excess_kl, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def tune(
    task: Task, lengths: Iterable[int], steps: Iterable[int], done: Callable[[int], None]
) -> dict[tuple[int, int], float]:
    """Tune every (steps, length) anew; ``done(1)`` is called after each."""
    found = {}
    for length in lengths:
        for k in steps:
            found[k, length] = tune_step_size(task, k, length)
            done(1)
    return found


def store(path: Path, task: Task, found: dict[tuple[int, int], float]) -> None:
    """Add step sizes, keyed by (steps, length), to a table such as the shipped one."""
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        entry = table.setdefault(task.task_hash, {"task": task.name, "n_calibration": N_CALIBRATION, "eta": {}})
        for (steps, length), eta in found.items():
            by_length = entry["eta"].setdefault(str(steps), {}) | {str(length): eta}
            entry["eta"][str(steps)] = dict(sorted(by_length.items(), key=lambda item: int(item[0])))
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InputError(f"'{path}' is not a table of tuned step sizes; name another file or remove it.") from None
    write_text(path, json.dumps(table, indent=1) + "\n")


def cache(task: Task, steps: int, length: int, eta: float) -> None:
    """Keep a step size for the next process."""
    path = cache_file(task, steps, length)
    make_folder(path.parent)
    write_text(path, json.dumps({"task": task.name, "steps": steps, "length": length, "eta": eta}) + "\n")


def cache_file(task: Task, steps: int, length: int) -> Path:
    """Where a step size of a task that is not built in is kept."""
    name = f"v{VERSION}-n{N_CALIBRATION}-{task.task_hash}-k{steps}-T{length}.json"
    return cache_folder() / "step_sizes" / name


@functools.lru_cache(maxsize=2)
def _calibration(task: Task, length: int):
    """(lag likelihoods, contexts, p_B) of the calibration sequences."""
    contexts = sample(task, length, N_CALIBRATION, seed=0, stream=Stream.CALIBRATION).tokens[:, :-1]
    baseline = build_baseline("exact")
    try:
        if task.order > HIGHEST_QUICK_ORDER:
            raise InputError("exact takes too long for so many sequences.")
        baseline.check_size(length - task.order, task.order)
    except InputError:
        contexts = contexts[:FEWER]
        log.info("%s, T = %d: calibrating on %d sequences by `reference` ...", task.name, length, FEWER)
        baseline = build_baseline("reference", standard_error=1e-2)  # its noise does not depend on the step size
    bayes = next_token_probs(task, baseline(task, contexts).mean[:, 0], contexts)
    return jax.numpy.asarray(lag_likelihoods(task, contexts)), contexts, bayes
