"""Models on the way: parameters that ``mdbench train --snapshots`` kept at some steps, in float16.

A finished run has them in ``snapshots.safetensors``, a vector of all parameters for each step; a run under way in its
checkpoint, a row for each model there (several candidates a seed, until one is chosen).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mdbench.core.errors import InputError, Unsupported, shown
from mdbench.predictors.trained import TrainedModel
from mdbench.predictors.training_config import TrainingConfig, build_model
from mdbench.tasks import Task

SNAPSHOTS, CHECKPOINT = "snapshots.safetensors", "checkpoint.safetensors"
PREFIX = "snapshot "  # of the names of tensors, before the step
METADATA = "training"  # of both files, as JSON
MOST_SNAPSHOTS = 1000


def snapshot_steps(n: int, steps: int) -> list[int]:
    """The start, and ``n`` steps at equal ratios from the first to the last; fewer where these fall together."""
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MOST_SNAPSHOTS:
        raise InputError(f"snapshots must be a whole number from 0 to {MOST_SNAPSHOTS}, not {n!r}.")
    if n == 0:
        return []
    at = np.geomspace(1, steps, n) if n > 1 else np.array([steps])
    return sorted({0, *(round(step) for step in at)})


def snapshot_name(step: int) -> str:
    """Of its tensor."""
    return f"{PREFIX}{step}"


def by_step(tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """The snapshots among some tensors."""
    found = {int(name.removeprefix(PREFIX)): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return dict(sorted(found.items()))


def unflatten(row: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, as views of a vector of all of them."""
    parameters = dict(model.named_parameters())
    parts = row.split([p.numel() for p in parameters.values()])
    return {name: part.view(p.shape) for (name, p), part in zip(parameters.items(), parts, strict=True)}


@dataclass(frozen=True)
class Snapshots:
    """Those of one training seed, as they were when they were read.

    Attributes:
        file: where they were.
        task_hash: of the task that it trains on.
        config: of the run.
        seed: of the training.
        rows: all parameters at each step, in float16.
    """

    file: Path
    task_hash: str
    config: TrainingConfig
    seed: int
    rows: dict[int, Tensor]

    @property
    def steps(self) -> list[int]:
        """At which there is one."""
        return [*self.rows]

    @classmethod
    def of(cls, run: str | Path) -> Snapshots:
        """Those of a run's folder ``seed<k>``, finished or not.

        Raises:
            InputError: there are none.
        """
        run = Path(str(run).removeprefix("run:"))
        for file in files_of(run):
            if os.path.isfile(file):
                found = cls._read(file, run)
                if found is not None and found.rows:
                    return found
        raise InputError(
            f"{shown(run)} has no snapshots: it is no folder seed<k> of `mdbench train --snapshots N`, or none was "
            "taken yet. (A step, as in FOLDER@STEP, is left out here.)"
        )

    @classmethod
    def _read(cls, file: Path, run: Path) -> Snapshots | None:
        """None of a checkpoint of other seeds."""
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                metadata: dict[str, Any] = json.loads(opened.metadata()[METADATA])
                taken = [name for name in opened.keys() if name.startswith(PREFIX)]  # noqa: SIM118
                rows = by_step({name: opened.get_tensor(name) for name in taken})
            seeds = metadata["seeds"] if file.name == CHECKPOINT else [metadata["seed"]]
            names = [f"seed{seed}" for seed in seeds]
            if file.parent == run and len(seeds) == 1:  # whatever the folder is called
                k = 0
            elif run.name in names:
                k = names.index(run.name)
            else:
                return None
            if file.name == CHECKPOINT:  # several candidates a seed, the first of which stands for it
                rows = {step: values[k * len(values) // len(seeds)] for step, values in rows.items()}
            return cls(file, metadata["task_hash"], TrainingConfig(**metadata["config"]), seeds[k], rows)
        except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{shown(file)} holds no snapshots of `mdbench train`: {error!r}.") from None

    def check(self, task: Task) -> None:
        """Raise :class:`Unsupported` unless they are of a run on that task."""
        if task.task_hash != self.task_hash:
            message = f"the snapshots in '{self.file}' are of another task than '{task.name}' (their hashes differ)."
            raise Unsupported(message, label="other task")

    def at(self, task: Task, step: int, device: str = "cpu") -> TrainedModel:
        """The model at a step.

        Raises:
            Unsupported: it was trained on another task.
            InputError: there is none at this step.
        """
        self.check(task)
        if step not in self.rows:
            there = ", ".join(map(str, self.steps))
            raise InputError(f"'{self.file}' has no snapshot at step {step}; it has {there}.")
        model = build_model(task, self.config)
        values = unflatten(self.rows[step].float(), model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(values[name])
        card = {"config": asdict(self.config), "seed": self.seed}
        source = f"'{self.file}' at step {step}"
        return TrainedModel(model.to(device).requires_grad_(False), self.config, card, source)


def files_of(run: Path) -> list[Path]:
    """Where a run's snapshots may be, whether they are there or not."""
    return [run / SNAPSHOTS, run / CHECKPOINT, run.parent / CHECKPOINT]
