"""Trained disentangled transformers: weights that :mod:`mdbench.training` made, each with its card."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from jaxtyping import Float, Int

from mdbench import metrics
from mdbench.errors import InputError, Unsupported
from mdbench.predictors.transformer import DisentangledTransformer, run_model
from mdbench.tasks import Task

FLOOR = 1e-4  # the linear output is raised to this and divided by its sum; a declared property of the predictor


class Trained:
    """The shipped runs ``weights/<name>/<task>/T<length>``, one for each length.

    Their output W_O h_T is linear and need not lie on the simplex: entries below ``FLOOR`` are raised to it, then each
    row is divided by its sum.
    """

    def __init__(self, task: Task, name: str, device: str = "cpu") -> None:
        self.task, self.name = task, name
        folder = Path(str(resources.files("mdbench.predictors"))) / "weights" / name / task.name
        self.models: dict[int, DisentangledTransformer] = {}
        for card_file in sorted(folder.glob("T*/card.json")):
            model, card = load_run(task, card_file.parent)
            self.models[card["config"]["length"]] = model.to(device)
        if not self.models:
            raise Unsupported(f"{name} has no weights for task '{task.name}'.", label="no weights")

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for a length without weights."""
        if length not in self.models:
            has = ", ".join(map(str, sorted(self.models)))
            message = f"{self.name} has no weights for length {length} of {self.task.name} (it has {has})."
            raise Unsupported(message, label="no weights")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The floored and renormalised output."""
        self.check_length(contexts.shape[1])
        return _floored(self.models[contexts.shape[1]], contexts)


class Run:
    """A run of one's own, from its folder; its output is treated as that of :class:`Trained`."""

    def __init__(self, task: Task, path: str, device: str = "cpu") -> None:
        self.path = path
        if not path or not (Path(path) / "card.json").is_file():
            raise InputError(f"'{path}' is not a finished run of `mdbench train`: it has no card.json.")
        model, card = load_run(task, Path(path))
        self.model, self.length = model.to(device), card["config"]["length"]

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for any other length than that it was trained at."""
        if length != self.length:
            raise Unsupported(f"'{self.path}' was trained at length {self.length}, not {length}.", label="no weights")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The floored and renormalised output."""
        self.check_length(contexts.shape[1])
        return _floored(self.model, contexts)


def _floored(model: DisentangledTransformer, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
    return metrics.normalise(np.maximum(run_model(model, contexts), FLOOR))


def load_run(task: Task, run: Path) -> tuple[DisentangledTransformer, dict[str, Any]]:
    """The model of a finished run and its card.

    Raises:
        Unsupported: the run was trained on another task.
    """
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    if card["task_hash"] != task.task_hash:
        message = f"the weights in '{run}' were trained on another task than '{task.name}' (their hashes differ)."
        raise Unsupported(message, label="other task")
    config = card["config"]
    model = DisentangledTransformer(task.n_states, config["length"], config["depth"], card["model"]["d_rel"])
    model.load_state_dict(safetensors.torch.load_file(run / "weights.safetensors"))
    return model.eval(), card
