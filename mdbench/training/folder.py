"""The folder of a training run: who may write there, what stands there already, and what it starts from."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from mdbench.core.errors import InputError
from mdbench.predictors.snapshots import CHECKPOINT, METADATA
from mdbench.predictors.trained import load_run
from mdbench.predictors.training_config import CARD, SHAPES, TrainingConfig
from mdbench.tasks import Task
from mdbench.training.presets import STARTED

KEPT = ("seeds", "started_from", "seconds", "trials", "devices")  # in it, besides tensors, the task and configuration


def groups_of(out: Path, seeds: Sequence[int], device: str) -> list[tuple[int, ...]]:
    """The seeds that are not finished, in groups that train together, one group after the other.

    Those that an earlier call began together go on together; on a GPU, those that it began alone, alone.
    """
    held = seeds_of_checkpoint(out)
    if held and not set(held) <= set(seeds):
        raise InputError(
            f"'{out}' holds the checkpoint of seeds {', '.join(map(str, held))} together; go on with these first, or "
            "choose another folder."
        )
    rest = [seed for seed in seeds if not (out / f"seed{seed}" / CARD).exists() and seed not in held]
    alone = [seed for seed in rest if device != "cpu" and (out / f"seed{seed}" / CHECKPOINT).exists()]
    groups = [held, *((seed,) for seed in alone), tuple(seed for seed in rest if seed not in alone)]
    return [group for group in groups if group]


def seeds_of_checkpoint(out: Path) -> tuple[int, ...]:
    """The seeds of the checkpoint of several; it is removed if all are finished: only its removal was interrupted."""
    if not (out / CHECKPOINT).exists():
        return ()
    held = tuple(read_metadata(out / CHECKPOINT)["seeds"])
    if all((out / f"seed{seed}" / CARD).exists() for seed in held):
        (out / CHECKPOINT).unlink()
        return ()
    return held


def check_runs(task: Task, config: TrainingConfig, out: Path, starts: dict[int, Start | None]) -> None:
    """Raise :class:`InputError` for a run or a checkpoint in ``out`` of another task, configuration or start."""
    unfinished = [out]
    for seed, start in starts.items():
        folder = out / f"seed{seed}"
        if (folder / CARD).exists():
            check_finished(task, config, start, folder)
        else:
            unfinished.append(folder)
    for folder in unfinished:
        if (folder / CHECKPOINT).exists():
            metadata = read_metadata(folder / CHECKPOINT)
            check_identity(metadata, identity(task, config), folder)
            for seed, before in zip(metadata["seeds"], metadata["started_from"], strict=True):
                if seed in starts:
                    check_start(before, described(starts[seed]), folder)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Refuse a folder where another command trains; the system forgets the lock when this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another command trains in '{folder}' right now; wait for it, or choose another folder."
            ) from None
        yield
    finally:
        os.close(descriptor)


def check_finished(task: Task, config: TrainingConfig, start: Start | None, folder: Path) -> None:
    """Raise :class:`InputError` unless the finished run in ``folder`` is the one that was asked for, and whole."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        there = {"task_hash": card["task_hash"], "config": card["config"]}
        check_identity(there, identity(task, config), folder)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        raise InputError(
            f"'{folder / CARD}' is not a card that this version of `mdbench train` wrote; remove it to train this seed "
            "again."
        ) from None
    check_start(card.get("started_from"), described(start), folder)
    try:
        load_run(task, folder)  # the weights are those of the card
    except InputError as error:
        raise InputError(f"{error} Remove '{folder / CARD}' to train this seed again.") from None


def read_metadata(file: Path) -> dict[str, Any]:
    """What a checkpoint holds besides tensors, as :meth:`_Training._save` wrote it."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = json.loads(opened.metadata()[METADATA])
        if metadata.keys() != {"task_hash", "config", *KEPT} or not isinstance(metadata["seeds"], list):
            raise ValueError
        TrainingConfig(**metadata["config"])
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError):
        raise InputError(
            f"'{file}' is no checkpoint that this version of `mdbench train` wrote; remove it to begin anew."
        ) from None
    return metadata


def identity(task: Task, config: TrainingConfig) -> dict[str, Any]:
    """What makes two runs of one seed the same, besides what they started from."""
    return {"task_hash": task.task_hash, "config": asdict(config)}


class Start:
    """A finished run that another one begins with."""

    def __init__(self, task: Task, config: TrainingConfig, folder: Path, seed: int) -> None:
        for name, none in STARTED.items():
            if getattr(config, name) != none:
                raise InputError(
                    f"what starts from a finished run takes no {name}; choose {none}, not {getattr(config, name)}."
                )
        self.folder = folder / f"seed{seed}"
        if not (self.folder / CARD).is_file():
            hint = f"; '{folder}' is one itself: give the folder above it" if (folder / CARD).is_file() else ""
            raise InputError(f"there is no finished run in '{self.folder}' for seed {seed} to start from{hint}.")
        before, self.card = load_run(task, self.folder)
        for name in SHAPES[config.model]:
            there, here = getattr(before.config, name), getattr(config, name)
            if there != here:
                raise InputError(f"the run in '{self.folder}' has {name} = {there}, not {here}.")
        for name in ("depth", "length"):
            there, here = getattr(before.config, name), getattr(config, name)
            if there > here:
                raise InputError(
                    f"the run in '{self.folder}' has {name} = {there}, more than {here}, which was asked for."
                )
        self.model = before.model

    @property
    def described(self) -> dict[str, Any]:
        """What a card says of it."""
        kept = ("weights_sha256", "config", "seed", "wall_seconds", "final_scores", "started_from")
        return {key: self.card.get(key) for key in kept}


def start_of(task: Task, config: TrainingConfig, folder: Path | None, seed: int) -> Start | None:
    return None if folder is None else Start(task, config, folder, seed)


def described(start: Start | None) -> dict[str, Any] | None:
    return None if start is None else start.described


def check_identity(metadata: dict, wanted: dict, out: Path) -> None:
    if metadata["task_hash"] != wanted["task_hash"]:
        raise InputError(f"'{out}' holds a run of another task; choose another folder.")
    there = asdict(TrainingConfig(**metadata["config"]))  # an older run lacks what has been added since
    for name, value in wanted["config"].items():
        if there[name] != value:
            raise InputError(f"'{out}' holds a run with {name} = {there[name]}, not {value}; choose another folder.")


def check_start(before: dict | None, wanted: dict | None, out: Path) -> None:
    there, here = (None if start is None else start.get("weights_sha256") for start in (before, wanted))
    if there != here:
        raise InputError(f"'{out}' holds a run that started from other weights, or from none; choose another folder.")
