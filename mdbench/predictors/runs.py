"""Runs of one's own by their folder: ``run:FOLDER``, and ``run:FOLDER@STEP``."""

from __future__ import annotations

import os
from pathlib import Path

from mdbench.core.errors import InputError, shown
from mdbench.predictors.snapshots import Snapshots
from mdbench.predictors.trained import TrainedModel, load_run
from mdbench.predictors.training_config import CARD
from mdbench.tasks import Task

MOST_FOLDERS = 1000  # in which runs are looked for


def run_folder(task: Task, path: str, device: str = "cpu") -> TrainedModel:
    """The predictor ``run:FOLDER``, a run of one's own; ``run:FOLDER@STEP`` is one of its snapshots."""
    folder = Path(path)
    if "@" in folder.name and not folder.exists():
        return _at_step(task, path, device)
    if not path or not os.path.isfile(folder / CARD):
        inside = _runs_inside(path) if os.path.isdir(path) else []
        hint = f" Inside it there are: {', '.join(inside)}." if inside else ""
        raise InputError(f"{shown(path)} is not a finished run of `mdbench train`: it has no {CARD}.{hint}")
    return load_run(task, folder, device)[0]


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


def _at_step(task: Task, text: str, device: str = "cpu") -> TrainedModel:
    """``FOLDER@STEP``.

    Raises:
        InputError: STEP is no whole number, or there is no such snapshot.
    """
    folder, _, step = text.rpartition("@")
    if not step.isdecimal():
        raise InputError(f"after the @ of run:{text} stands a step, a whole number, not {shown(step)}.")
    return Snapshots.of(folder).at(task, int(step), device)
