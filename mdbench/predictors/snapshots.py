"""Models on the way: parameters that ``mdbench train --snapshots`` kept at some steps, in float16.

A finished run has them in ``snapshots.safetensors``, a vector of all parameters for each step; a run under way in its
checkpoint, a row for each model there (several candidates a seed, until one is chosen).
"""

from __future__ import annotations

import json
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
    return f"snapshot {step}"


def unflatten(row: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, as views of a vector of all of them."""
    parameters = dict(model.named_parameters())
    parts = row.split([p.numel() for p in parameters.values()])
    return {name: part.view(p.shape) for (name, p), part in zip(parameters.items(), parts, strict=True)}


@dataclass(frozen=True)
class Snapshots:
    """Those of one training seed.

    Attributes:
        file: where they are.
        row: of a checkpoint's models, the first of this seed; None in a finished run.
        task_hash: of the task that it trains on.
        config: of the run.
        seed: of the training.
        steps: at which there is one.
    """

    file: Path
    row: int | None
    task_hash: str
    config: TrainingConfig
    seed: int
    steps: list[int]

    @classmethod
    def of(cls, run: str | Path) -> Snapshots:
        """Those of a run's folder ``seed<k>``, finished or not.

        Raises:
            InputError: there are none.
        """
        run = Path(run)
        for file in (run / SNAPSHOTS, run / CHECKPOINT, run.parent / CHECKPOINT):
            if file.is_file():
                found = cls._read(file, run)
                if found is not None and found.steps:
                    return found
        raise InputError(
            f"{shown(run)} has no snapshots: it is no folder seed<k> of `mdbench train --snapshots N`, or none was "
            "taken yet."
        )

    @classmethod
    def _read(cls, file: Path, run: Path) -> Snapshots | None:
        """None of a checkpoint of other seeds."""
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                metadata: dict[str, Any] = json.loads(opened.metadata()[METADATA])
                names = [name for name in opened.keys() if name.startswith(snapshot_name(0)[:-1])]  # noqa: SIM118
                n_models = opened.get_slice(names[0]).get_shape()[0] if names else 0
            config = TrainingConfig(**metadata["config"])
            steps = sorted(int(name.rpartition(" ")[2]) for name in names)
            row = None
            if file.name == CHECKPOINT:
                seeds = metadata["seeds"]
                if run.name not in (f"seed{seed}" for seed in seeds):
                    return None
                k = [f"seed{seed}" for seed in seeds].index(run.name)
                row, seed = k * n_models // len(seeds), seeds[k]
            else:
                seed = metadata["seed"]
            return cls(file, row, metadata["task_hash"], config, seed, steps)
        except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{shown(file)} holds no snapshots of `mdbench train`: {error!r}.") from None

    def at(self, task: Task, step: int, device: str = "cpu") -> TrainedModel:
        """The model at a step.

        Raises:
            Unsupported: it was trained on another task.
            InputError: there is none at this step.
        """
        if task.task_hash != self.task_hash:
            message = f"the snapshots in '{self.file}' are of another task than '{task.name}' (their hashes differ)."
            raise Unsupported(message, label="other task")
        if step not in self.steps:
            there = ", ".join(map(str, self.steps))
            raise InputError(f"'{self.file}' has no snapshot at step {step}; it has {there}.")
        with safetensors.safe_open(self.file, framework="pt") as opened:
            values = opened.get_tensor(snapshot_name(step))
        values = (values if self.row is None else values[self.row]).float()
        model = build_model(task, self.config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(unflatten(values, model)[name])
        card = {"config": asdict(self.config), "seed": self.seed}
        source = f"'{self.file}' at step {step}"
        return TrainedModel(model.to(device).requires_grad_(False), self.config, card, source)
