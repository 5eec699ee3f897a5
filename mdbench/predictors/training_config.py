"""What a training run depends on besides task and seed, as its card says it, and the model that it means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch

from mdbench.core.errors import InputError
from mdbench.predictors.transformer import DisentangledTransformer, StandardTransformer, Transformer
from mdbench.tasks import Task

DISENTANGLED, STANDARD = "disentangled", "standard"

TOKEN, CONDITIONAL, BAYES = "token", "conditional", "bayes"  # what is learned

TARGETS = (TOKEN, CONDITIONAL, BAYES)

SQUARED_ERROR, CROSS_ENTROPY = "squared_error", "cross_entropy"

SHAPES = {DISENTANGLED: ("model", "d_rel"), STANDARD: ("model", "width", "heads")}  # besides depth and length

CONSTANT, COSINE, RESTARTS = "constant", "cosine", "restarts"

DEEPEST = {DISENTANGLED: 10, STANDARD: 100}  # each layer of a disentangled model doubles its width

LARGEST = {  # of what is counted; beyond it no machine of today goes
    "length": 2**16,
    "depth": 2**10,  # of no model: DEEPEST says more
    "d_rel": 2**12,
    "width": 2**14,
    "heads": 2**10,
    "steps": 10**9,
    "batch": 2**30,
    "reuse": 10**6,
    "candidates": 1000,
}

MOST_PARAMETERS = 2**30

LOSS_EVERY = 100  # steps averaged into one point of the loss curve

WEIGHTS, CARD = "weights.safetensors", "card.json"  # the files of a run


@dataclass(frozen=True)
class TrainingConfig:
    """All that a run depends on besides task and seed; the defaults are the preset ``conditional``.

    Attributes:
        length: context length T.
        model: ``disentangled`` or ``standard``.
        depth: number of layers.
        d_rel: width of a disentangled model's relative-position values; the construction needs the order m, but wider
            ones make the optimiser find it many times sooner.
        width: of a standard model's residual stream.
        heads: of a standard model's attention; the presets give it 4.
        target: what is learned at the last position: ``token`` (one-hot y_{T+1}, the paper's), ``conditional``
            (p_λ(· | y)) or ``bayes`` (p_B(· | y)); all three have the same optimum.
        loss: ``squared_error`` of the linear output, or ``cross_entropy`` of its softmax.
        schedule: of the learning rate, begun anew after the first half where that differs: ``constant``, ``cosine``
            (to zero) or ``restarts`` (three cosines, each twice as long as the one before; Loshchilov and Hutter, arXiv
            1608.03983).
        steps: of Adam.
        batch: sequences a step.
        reuse: steps that each sequence serves; 1 means fresh sequences each step.
        start_length: length of the contexts in the first half of the steps; 0 for T throughout. What attention has to
            find is the same at every length, and found sooner at a short one. The offsets beyond it keep their random
            initial values until then; Adam's averages are 0 there while its count of steps goes on, so their first
            steps are up to six times as large as the rate.
        candidates: random initialisations for each seed that are trained side by side for the first quarter of the
            steps, after which the one with the lowest training loss goes on alone.
        learning_rate: Adam's, at the start.
        init_scale: standard deviation of the normal initialisation.
    """

    length: int
    model: str = DISENTANGLED
    depth: int = 3
    d_rel: int = 16
    width: int = 64
    heads: int = 2
    target: str = CONDITIONAL
    loss: str = SQUARED_ERROR
    schedule: str = COSINE
    steps: int = 60_000
    batch: int = 128
    reuse: int = 1
    start_length: int = 0
    candidates: int = 1
    learning_rate: float = 1e-2
    init_scale: float = 0.1

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "model": (DISENTANGLED, STANDARD),
        "target": TARGETS,
        "loss": (SQUARED_ERROR, CROSS_ENTROPY),
        "schedule": (CONSTANT, COSINE, RESTARTS),
    }

    def __post_init__(self) -> None:
        for name, choices in self.CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not '{getattr(self, name)}'.")
        for name in (*LARGEST, "start_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} must be a whole number (int), not {value!r}.")
        for name in ("learning_rate", "init_scale"):
            if not isinstance(getattr(self, name), (int, float)):
                raise InputError(f"{name} must be a number (float), not {getattr(self, name)!r}.")
        for name, largest in LARGEST.items():
            if not 1 <= getattr(self, name) <= largest:
                raise InputError(f"{name} must be at least 1 and at most {largest}, not {getattr(self, name)}.")
        if self.depth > DEEPEST[self.model]:
            raise InputError(f"depth of a {self.model} model must be at most {DEEPEST[self.model]}, not {self.depth}.")
        if self.model == STANDARD and self.width % self.heads:
            raise InputError(f"heads must divide width {self.width}; {self.heads} do not.")
        if not 0 <= self.start_length <= self.length:
            raise InputError(f"start_length must be from 0 to the length {self.length}, not {self.start_length}.")
        if self.shorter_first and not self.first_steps:
            raise InputError(
                f"{self.steps} steps are too few for a first half with start_length; give at least {2 * LOSS_EVERY} "
                "steps, or no start_length."
            )
        if self.trial_steps > self.steps:
            raise InputError(
                f"{self.steps} steps are too few to choose among candidates; give at least {LOSS_EVERY} steps, or one "
                "candidate."
            )
        for name in ("learning_rate", "init_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive and finite, not {getattr(self, name)}.")

    @property
    def shorter_first(self) -> bool:
        """Whether ``start_length`` makes a difference."""
        return 0 < self.start_length < self.length

    @property
    def first_steps(self) -> int:
        """Steps with ``start_length``, if it makes a difference: whole points of the curve."""
        return self.steps // 2 // LOSS_EVERY * LOSS_EVERY if self.shorter_first else 0

    @property
    def first_length(self) -> int:
        """Of the contexts at the start."""
        return self.start_length if self.first_steps else self.length

    @property
    def trial_steps(self) -> int:
        """Steps after which one candidate is left: whole points of the loss curve."""
        return 0 if self.candidates == 1 else max(self.steps // 4 // LOSS_EVERY, 1) * LOSS_EVERY

    def learning_rate_at(self, step: int) -> float:
        """Of a step, counted from 0."""
        first = self.first_steps
        if self.schedule == CONSTANT:
            return self.learning_rate
        start, end = (0.0, float(first)) if step < first else (float(first), float(self.steps))
        if self.schedule == RESTARTS:
            seventh = (end - start) / 7
            bounds = [start, start + seventh, start + 3 * seventh, end]
            start, end = next((a, b) for a, b in pairwise(bounds) if step < b)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))


def build_model(task: Task, config: TrainingConfig) -> Transformer:
    """The model that is trained, not yet initialised.

    Raises:
        InputError: it would be too large.
    """

    def build() -> Transformer:
        if config.model == DISENTANGLED:
            return DisentangledTransformer(task.n_states, config.length, config.depth, config.d_rel)
        return StandardTransformer(task.n_states, config.length, config.depth, config.width, config.heads)

    with torch.device("meta"):  # shapes alone
        n_parameters = sum(p.numel() for p in build().parameters())
    if n_parameters > MOST_PARAMETERS:
        raise InputError(f"the model would have {n_parameters} parameters; {MOST_PARAMETERS} are the most.")
    return build()
