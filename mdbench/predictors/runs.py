"""Runs of one's own by their folder: ``run:FOLDER``, and ``run:FOLDER@STEP``."""

from __future__ import annotations

import os
from pathlib import Path

from mdbench.core.errors import InputError, shown
from mdbench.predictors.snapshots import Snapshots, files_of
from mdbench.predictors.trained import TrainedModel, load_run
from mdbench.predictors.training_config import CARD, WEIGHTS
from mdbench.tasks import Task

MOST_FOLDERS = 1000  # in which runs are looked for


def run_folder(task: Task, path: str, device: str = "cpu") -> TrainedModel:
    """The predictor ``run:FOLDER``, a run of one's own; ``run:FOLDER@STEP`` is one of its snapshots."""
    folder, step = parsed(path)
    if step is not None:
        return Snapshots.of(folder).at(task, step, device)
    if not path or not os.path.isfile(folder / CARD):
        inside = _runs_inside(path) if os.path.isdir(path) else []
        hint = f" Inside it there are: {', '.join(inside)}." if inside else ""
        if not inside and any(map(os.path.isfile, files_of(folder))):
            hint = " If it was begun with --snapshots, FOLDER@STEP names one of them."
        raise InputError(f"{shown(path)} is not a finished run of `mdbench train`: it has no {CARD}.{hint}")
    return load_run(task, folder, device)[0]


def parsed(path: str) -> tuple[Path, int | None]:
    """The folder of ``FOLDER`` or ``FOLDER@STEP``, and the step.

    Raises:
        InputError: what stands after the @ is no step.
    """
    before, at, step = path.rpartition("@")
    if not at or not before or os.path.exists(path):
        return Path(path), None
    if not step.isdecimal():
        raise InputError(f"after the @ of run:{path} stands a step, a whole number, not {shown(step)}.")
    return Path(before), int(step)


def sources(path: str) -> list[Path]:
    """The files that such a predictor is made of, as far as they are there."""
    folder, step = parsed(path)
    return [folder / CARD, folder / WEIGHTS] if step is None else files_of(folder)


def _runs_inside(path: str) -> list[str]:
    """Some runs in a folder, as `mdbench train` makes them; it may be anything, so not all of it is looked at."""
    found: list[str] = []
    for n_seen, (folder, folders, files) in enumerate(os.walk(path)):
        if CARD in files:
            found.append(folder)
        if n_seen > MOST_FOLDERS or len(found) == 3:
            break
        folders.sort()
    return found
