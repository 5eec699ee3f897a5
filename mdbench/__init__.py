"""mdbench: the benchmark suite for in-context inference in sequence models.

    evaluate(predictors, task=..., lengths=...)     score predictors against gold
    check(predictor, task)                          hold one to the predictor contract
    compare(a, b, task=...)                         two predictors, paired
    posterior(transition, order, sequences)         posteriors of one's own sequences
    train(task, config, out, seeds)                 transformers
    identify(predictor), inspect(predictor)         which algorithm it runs, and what is inside a transformer
    load_task(name), sample(task, length, n, seed)  the tasks and their sequences; Task, MTD, PerLag, Markov make them

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdbench.compilation import settle_jax
from mdbench.errors import InputError, Unsupported

if TYPE_CHECKING:
    from mdbench.contract import check
    from mdbench.evaluation import Comparison, Evaluation, compare, evaluate
    from mdbench.identification import identify
    from mdbench.inspection import inspect
    from mdbench.posteriors import posterior
    from mdbench.tasks import MTD, Markov, PerLag, Task, load_suite, load_task, sample
    from mdbench.training import train
    from mdbench.training_config import TrainingConfig

_HOMES = {
    "check": "mdbench.contract",
    "Comparison": "mdbench.evaluation",
    "Evaluation": "mdbench.evaluation",
    "compare": "mdbench.evaluation",
    "MTD": "mdbench.tasks",
    "Markov": "mdbench.tasks",
    "PerLag": "mdbench.tasks",
    "Task": "mdbench.tasks",
    "TrainingConfig": "mdbench.training_config",
    "evaluate": "mdbench.evaluation",
    "identify": "mdbench.identification",
    "inspect": "mdbench.inspection",
    "load_suite": "mdbench.tasks",
    "load_task": "mdbench.tasks",
    "posterior": "mdbench.posteriors",
    "sample": "mdbench.tasks",
    "train": "mdbench.training",
}

__all__ = [
    "MTD",
    "Comparison",
    "Evaluation",
    "InputError",
    "Markov",
    "PerLag",
    "Task",
    "TrainingConfig",
    "Unsupported",
    "check",
    "compare",
    "evaluate",
    "identify",
    "inspect",
    "load_suite",
    "load_task",
    "posterior",
    "sample",
    "train",
]

settle_jax()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mdbench' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
