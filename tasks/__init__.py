"""Tasks: NumPyro generative models of sequences, with the numbers that define them."""

from mdbench.tasks.mtd import Sample, Stream, mtd, mtd_lags, sample
from mdbench.tasks.task import (
    Suite,
    Task,
    check_contexts,
    check_order,
    check_transition,
    lag_likelihoods,
    load_suite,
    load_task,
    next_token_probs,
    suite_names,
    task_names,
)

__all__ = [
    "Sample",
    "Stream",
    "Suite",
    "Task",
    "check_contexts",
    "check_order",
    "check_transition",
    "lag_likelihoods",
    "load_suite",
    "load_task",
    "mtd",
    "mtd_lags",
    "next_token_probs",
    "sample",
    "suite_names",
    "task_names",
]
