"""Trained transformers: weights that `mdbench train` made, each with its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from jaxtyping import Float, Int
from safetensors.torch import load
from scipy.special import softmax

from mdbench.core import metrics
from mdbench.core.errors import InputError, Unsupported, shown
from mdbench.core.files import read_bytes, read_json
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS
from mdbench.predictors.training_config import CARD, CROSS_ENTROPY, WEIGHTS, TrainingConfig, build_model
from mdbench.predictors.transformer import Transformer, run_model
from mdbench.tasks import Task

SHOWN_OF_CARD = ("config", "seed", "device", "wall_seconds", "final_scores", "versions")  # where it is summarised
LARGEST_WEIGHTS = 2**32  # bytes

FLOOR = 1e-4  # a linear output is raised to this and divided by its sum; a declared property of the predictor


class TrainedModel:
    """One model at the one length that it was trained for.

    A model trained on cross-entropy gives the softmax of its output. That of one trained on squared error is linear and
    need not lie on the simplex: entries below ``FLOOR`` are raised to it, then each row is divided by its sum.
    """

    precision = "float32"
    fixed_to_task = True

    def __init__(
        self, model: Transformer, config: TrainingConfig, card: dict[str, Any] | None = None, source: str = "this model"
    ) -> None:
        self.model, self.config, self.source = model.eval(), config, source
        self.card = {key: value for key, value in (card or {}).items() if key in SHOWN_OF_CARD}

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for any other length than that it was trained at."""
        if length != self.config.length:
            message = f"{self.source} was trained at length {self.config.length}, not {length}."
            raise Unsupported(message, label="no weights")

    def transformer(self, length: int) -> Transformer:
        """The model."""
        self.check_length(length)
        return self.model

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The output as probabilities."""
        self.check_length(contexts.shape[1])
        output = run_model(self.model, contexts)
        if self.config.loss == CROSS_ENTROPY:
            return softmax(output, axis=-1)
        return metrics.normalise(np.maximum(output, FLOOR))


class Trained:
    """The shipped runs ``weights/<name>/<task>/T<length>/seed<k>``.

    Its score is the mean over the training seeds; a single prediction is that of the first seed. With the option
    ``seed`` it is one of them alone.
    """

    precision = TrainedModel.precision
    fixed_to_task = True

    def __init__(self, task: Task, name: str, seed: int | None = None, device: str = "cpu") -> None:
        if seed is not None and type(seed) is not int:
            raise InputError(f"seed must be a whole number, not {seed!r}.")
        self.task, self.name = task, name
        folder = SHIPPED_WEIGHTS / name / task.name
        self.by_length: dict[int, dict[int, TrainedModel]] = {}
        for card_file in sorted(folder.glob(f"T*/seed*/{CARD}")):
            model, card = load_run(task, card_file.parent, device)
            if seed is None or card["seed"] == seed:
                self.by_length.setdefault(model.config.length, {})[card["seed"]] = model
        self.card = {
            f"T{length}": [model.card for _, model in sorted(by_seed.items())]
            for length, by_seed in sorted(self.by_length.items())
        }
        if not self.by_length:
            what = "" if seed is None else f" of seed {seed}"
            raise Unsupported(f"{name} has no weights{what} for task '{task.name}'.", label="no weights")

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for a length without weights."""
        if length not in self.by_length:
            has = ", ".join(map(str, sorted(self.by_length)))
            message = f"{self.name} has no weights for length {length} of {self.task.name} (it has {has})."
            raise Unsupported(message, label="no weights")

    def transformer(self, length: int) -> Transformer:
        """The model of the first seed."""
        return self.runs(length)[0].transformer(length)

    def runs(self, length: int) -> Sequence[TrainedModel]:
        """One predictor for each training seed."""
        self.check_length(length)
        return [model for _, model in sorted(self.by_length[length].items())]

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """What the model of the first seed says."""
        return self.runs(contexts.shape[1])[0].predict(contexts)


def load_run(task: Task, folder: Path, device: str = "cpu") -> tuple[TrainedModel, dict[str, Any]]:
    """The model of a finished run and its card.

    Raises:
        Unsupported: the run was trained on another task.
        InputError: card or weights are damaged, or do not belong together.
    """
    try:
        card = read_json(folder / CARD, "card")
        config, _ = TrainingConfig(**card["config"]), card["seed"]
        task_hash, weights_hash = card["task_hash"], card["weights_sha256"]
    except (TypeError, KeyError, InputError) as error:
        reason = str(error) if isinstance(error, InputError) else f"{error!r}."
        raise InputError(
            f"{shown(folder / CARD)} is not a card that this version of `mdbench train` wrote: {reason}"
        ) from None
    if task_hash != task.task_hash:
        message = f"the weights in '{folder}' were trained on another task than '{task.name}' (their hashes differ)."
        raise Unsupported(message, label="other task")
    model = build_model(task, config)
    try:
        content = read_bytes(folder / WEIGHTS, "file of weights", LARGEST_WEIGHTS)
        model.load_state_dict(load(content))
        if hashlib.sha256(content).hexdigest() != weights_hash:
            raise RuntimeError("their SHA-256 is another")
    except (RuntimeError, safetensors.SafetensorError, InputError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{shown(folder / WEIGHTS)} does not hold the weights of its card: {reason}.") from None
    return TrainedModel(model.to(device).requires_grad_(False), config, card, f"'{folder}'"), card
