"""What there is to name, and what a name means: of tasks, suites, predictors, baselines, families and scores."""

from __future__ import annotations

import inspect
from typing import Any

from mdbench import tasks
from mdbench.baselines.catalogue import baseline_entries, describe_baseline
from mdbench.core.errors import InputError, origin, unknown_name
from mdbench.evaluation.scores import all_scores, score_names
from mdbench.predictors.catalogue import describe_predictor, predictor_entries

TASK = "task"


def listing() -> dict[str, dict[str, str]]:
    """By kind: all names, each with a line."""
    built_in = tasks.task_names()
    suites = {name: tasks.load_suite(name) for name in tasks.suite_names()}
    return {
        "tasks": {name: _summary(name) for name in built_in}
        | {name: origin(point) for name, point in tasks.plugin_tasks().items() if name not in built_in},
        "suites": {name: f"{', '.join(s.tasks)} at {', '.join(map(str, s.lengths))}" for name, s in suites.items()},
        "predictors": {name: entry.summary for name, entry in predictor_entries().items()},
        "baselines": {name: entry.summary for name, entry in baseline_entries().items()},
        "families": tasks.family_names(),
        "scores": score_names(),
    }


def _summary(name: str) -> str:
    """Of a built-in task; what it lacks, where its sequences are in a package that is not installed."""
    try:
        return tasks.load_task(name).summary
    except InputError as error:
        return str(error)


def described(name: str) -> dict[str, Any]:
    """What a name, or a task file, means; the first key is its kind.

    Raises:
        InputError: it means nothing; the message has the nearest name.
    """
    predictors, baselines = predictor_entries(), baseline_entries()
    named_tasks = [*tasks.task_names(), *tasks.plugin_tasks()]
    if name.endswith(".toml") or name in named_tasks:
        task = tasks.load_task(name)
        return {
            "kind": TASK,
            "name": task.name,
            "model": task.family,
            "n_states": task.n_states,
            "lengths": list(task.lengths),
            "version": task.version,
            "task_hash": task.task_hash,
        } | task.described()
    if name in tasks.suite_names():
        suite = tasks.load_suite(name)
        of_suite = {"kind": "suite", "name": suite.name, "tasks": list(suite.tasks), "lengths": list(suite.lengths)}
        if name not in tasks.family_names():
            return of_suite
        return of_suite | {"kind": "suite, and family of tasks"} | _of_family(name)
    if name in baselines:
        return {"kind": "baseline and predictor", "name": name} | describe_baseline(baselines[name])
    if name in predictors:
        return {"kind": "predictor", "name": name} | describe_predictor(predictors[name])
    if name in tasks.family_names():
        return {"kind": "family of tasks", "name": name} | _of_family(name)
    if name in score_names():
        return {"kind": "score", "name": name, "what": all_scores()[name].about}
    known = [*named_tasks, *tasks.suite_names(), *predictors, *baselines, *tasks.family_names(), *score_names()]
    raise unknown_name("task, suite, predictor, baseline, family or score", name, known)


def _of_family(name: str) -> dict[str, Any]:
    family = tasks.load_family(name)
    return {"what": family.kind, "doc": inspect.getdoc(family) or ""}
