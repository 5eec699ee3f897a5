"""Tasks: NumPyro generative models of sequences, with the numbers that define them.

What draws imports jax and NumPyro when it is first used; the numbers do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdbench.tasks.atoms import Atoms
from mdbench.tasks.catalogue import (
    Suite,
    as_task,
    boards_of,
    built_in_like,
    family_names,
    load_family,
    load_suite,
    load_task,
    plugin_tasks,
    suite_names,
    task_from_json,
    task_names,
    task_to_json,
)
from mdbench.tasks.context_tree import ContextTree
from mdbench.tasks.finite import FiniteMixture
from mdbench.tasks.hmm import HMM
from mdbench.tasks.markov import Markov
from mdbench.tasks.mixture import (
    DirichletLagMixture,
    DirichletMixture,
    LagMixture,
    Mixture,
    lag_likelihoods,
    next_token_probs,
    tokens_before,
)
from mdbench.tasks.mtd import MTD, mtd_lags, mtd_model
from mdbench.tasks.per_lag import PerLag
from mdbench.tasks.recorded import Recorded
from mdbench.tasks.sequences import N_PUBLIC, PUBLIC_SEED, Sequences, evaluation_sequences, public_sequences
from mdbench.tasks.task import ClosedForm, Predictive, Stream, Task
from mdbench.tasks.unknown_matrix import UnknownMatrix

if TYPE_CHECKING:
    from mdbench.tasks.sampling import Sample, sample

_OF_JAX = ("Sample", "sample")

__all__ = [
    "HMM",
    "MTD",
    "N_PUBLIC",
    "PUBLIC_SEED",
    "Atoms",
    "ClosedForm",
    "ContextTree",
    "DirichletLagMixture",
    "DirichletMixture",
    "FiniteMixture",
    "LagMixture",
    "Markov",
    "Mixture",
    "PerLag",
    "Predictive",
    "Recorded",
    "Sample",
    "Sequences",
    "Stream",
    "Suite",
    "Task",
    "UnknownMatrix",
    "as_task",
    "boards_of",
    "built_in_like",
    "evaluation_sequences",
    "family_names",
    "lag_likelihoods",
    "load_family",
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
    "tokens_before",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_JAX:
        raise AttributeError(f"module 'mdbench.tasks' has no attribute '{name}'")
    return getattr(import_module("mdbench.tasks.sampling"), name)
