"""Tasks: NumPyro generative models of sequences, with the numbers that define them.

What draws imports jax and NumPyro when it is first used; the numbers do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdbench.tasks.sequences import N_PUBLIC, PUBLIC_SEED, Sequences, evaluation_sequences, public_sequences
from mdbench.tasks.task import (
    Stream,
    Suite,
    Task,
    check_contexts,
    check_order,
    check_transition,
    lag_likelihoods,
    load_suite,
    load_task,
    next_token_probs,
    plugin_tasks,
    suite_names,
    task_from_json,
    task_names,
    task_to_json,
)

if TYPE_CHECKING:
    from mdbench.tasks.mtd import Sample, mtd_lags, mtd_model, sample

_OF_JAX = ("Sample", "mtd_lags", "mtd_model", "sample")

__all__ = [
    "N_PUBLIC",
    "PUBLIC_SEED",
    "Sample",
    "Sequences",
    "Stream",
    "Suite",
    "Task",
    "check_contexts",
    "check_order",
    "check_transition",
    "evaluation_sequences",
    "lag_likelihoods",
    "load_suite",
    "load_task",
    "mtd_lags",
    "mtd_model",
    "next_token_probs",
    "plugin_tasks",
    "public_sequences",
    "sample",
    "suite_names",
    "task_from_json",
    "task_names",
    "task_to_json",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_JAX:
        raise AttributeError(f"module 'mdbench.tasks' has no attribute '{name}'")
    return getattr(import_module("mdbench.tasks.mtd"), name)
