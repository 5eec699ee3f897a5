"""Tasks: NumPyro generative models of sequences, with the numbers that define them."""

from mdbench.tasks.mtd import Sample, Stream, mtd, mtd_lags, sample
from mdbench.tasks.sequences import N_PUBLIC, PUBLIC_SEED, Sequences, evaluation_sequences, public_sequences
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
    plugin_tasks,
    suite_names,
    task_from_json,
    task_names,
    task_to_json,
)

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
    "mtd",
    "mtd_lags",
    "next_token_probs",
    "plugin_tasks",
    "public_sequences",
    "sample",
    "suite_names",
    "task_from_json",
    "task_names",
    "task_to_json",
]
