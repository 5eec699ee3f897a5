"""mdbench: the benchmark suite for in-context inference in sequence models.

    evaluate(predictors, task=..., lengths=...)     score predictors against gold
    check(predictor, task)                          hold one to the predictor contract
    compare(a, b, task=...)                         two predictors, paired
    agree(predictors, task=..., length=...)         how far they and their training seeds are from each other
    posterior(transition, order, sequences)         posteriors of one's own sequences
    fit(data, order)                                mixtures and chains fitted to them, side by side
    train(task, config, out, seeds)                 transformers
    identify(predictor), inspect(predictor)         which algorithm it runs, and what is inside a transformer
    patch(predictor)                                what becomes of it when its parts are replaced
    phases_of(run)                                  what a network computes while it is trained
    reproduce(claims)                               do the paper's claims hold: experiments with verdicts
    load_task(name), sample(task, length, n, seed)  the tasks and their sequences; MTD, PerLag, Atoms, Markov,
                                                    ContextTree and HMM make them, Task is what they all are
    Algorithm, Evidence                             what identify fits: one of another package
    Baseline, Score                                 what a posterior method and a score of another package are

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdbench.core.compilation import settle_jax
from mdbench.core.errors import InputError, Unsupported

if TYPE_CHECKING:
    from mdbench.algorithms.known import Algorithm, Evidence
    from mdbench.baselines import Baseline
    from mdbench.board.agreement import agree
    from mdbench.claims.reproduction import reproduce
    from mdbench.evaluation.comparison import Comparison, compare
    from mdbench.evaluation.contract import check
    from mdbench.evaluation.evaluation import evaluate
    from mdbench.evaluation.isolation import Limits
    from mdbench.evaluation.outcome import Evaluation
    from mdbench.evaluation.scores import Score
    from mdbench.mechanism.identification import identify
    from mdbench.mechanism.inspection import inspect
    from mdbench.mechanism.patching import patch
    from mdbench.mechanism.phases import phases_of
    from mdbench.posteriors.own import posterior
    from mdbench.posteriors.validation import validate
    from mdbench.predictors.catalogue import build_predictor
    from mdbench.predictors.training_config import TrainingConfig
    from mdbench.series.fitted import fit
    from mdbench.tasks import HMM, MTD, Atoms, ContextTree, Markov, PerLag, Task, load_suite, load_task, sample
    from mdbench.training.presets import preset_config
    from mdbench.training.run import train

_HOMES = {
    "mdbench.algorithms.known": ("Algorithm", "Evidence"),
    "mdbench.baselines": ("Baseline",),
    "mdbench.board.agreement": ("agree",),
    "mdbench.claims.reproduction": ("reproduce",),
    "mdbench.evaluation.comparison": ("Comparison", "compare"),
    "mdbench.evaluation.contract": ("check",),
    "mdbench.evaluation.evaluation": ("evaluate",),
    "mdbench.evaluation.outcome": ("Evaluation",),
    "mdbench.evaluation.isolation": ("Limits",),
    "mdbench.evaluation.scores": ("Score",),
    "mdbench.mechanism.identification": ("identify",),
    "mdbench.mechanism.inspection": ("inspect",),
    "mdbench.mechanism.patching": ("patch",),
    "mdbench.mechanism.phases": ("phases_of",),
    "mdbench.posteriors.own": ("posterior",),
    "mdbench.posteriors.validation": ("validate",),
    "mdbench.predictors.catalogue": ("build_predictor",),
    "mdbench.predictors.training_config": ("TrainingConfig",),
    "mdbench.series.fitted": ("fit",),
    "mdbench.tasks": (
        "HMM",
        "MTD",
        "Atoms",
        "ContextTree",
        "Markov",
        "PerLag",
        "Task",
        "load_suite",
        "load_task",
        "sample",
    ),
    "mdbench.training.presets": ("preset_config",),
    "mdbench.training.run": ("train",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "HMM",
    "MTD",
    "Algorithm",
    "Atoms",
    "Baseline",
    "Comparison",
    "ContextTree",
    "Evaluation",
    "Evidence",
    "InputError",
    "Limits",
    "Markov",
    "PerLag",
    "Score",
    "Task",
    "TrainingConfig",
    "Unsupported",
    "agree",
    "build_predictor",
    "check",
    "compare",
    "evaluate",
    "fit",
    "identify",
    "inspect",
    "load_suite",
    "load_task",
    "patch",
    "phases_of",
    "posterior",
    "preset_config",
    "reproduce",
    "sample",
    "train",
    "validate",
]

settle_jax()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mdbench' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
