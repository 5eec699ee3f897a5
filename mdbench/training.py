"""Train a disentangled transformer on fresh sequences (SPEC section 6).

A run is a folder. While it trains: ``checkpoint.safetensors`` (parameters, Adam's state, step, losses so far). When it
is done: ``weights.safetensors`` and ``card.json``, which a predictor loads. Every batch is a function of (task, seed,
step), so a run that was interrupted at any moment continues from its last whole checkpoint to the same weights.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mdbench.device import check_device, one_thread
from mdbench.errors import InputError
from mdbench.files import make_folder, write_text, write_whole
from mdbench.predictors.transformer import DisentangledTransformer
from mdbench.tasks import Sample, Stream, Task, batches, next_token_probs

TARGETS = ("token", "conditional", "bayes")
DEEPEST = 10
LOSS_EVERY = 100  # steps averaged into one point of the loss curve
CHECKPOINT_EVERY = 1000  # steps; a multiple of LOSS_EVERY
WEIGHTS, CARD, CHECKPOINT = "weights.safetensors", "card.json", "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingConfig:
    """All that a run depends on besides the task.

    Attributes:
        length: context length T.
        depth: number of layers.
        target: what the squared error at the last position is against: ``token`` (one-hot y_{T+1}, the paper's),
            ``conditional`` (p_λ(· | y)) or ``bayes`` (p_B(· | y)); all three have the same optimum.
        steps: Adam steps, with cosine decay of the learning rate to zero.
        batch: fresh sequences a step.
        learning_rate: Adam's, at the start.
        init_scale: standard deviation of the normal initialisation.
        seed: of the initialisation and of the sequences.
    """

    length: int
    depth: int = 3
    target: str = "conditional"
    steps: int = 60_000
    batch: int = 128
    learning_rate: float = 1e-2
    init_scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise InputError(f"target must be one of {', '.join(TARGETS)}, not '{self.target}'.")
        for name in ("length", "depth", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.depth > DEEPEST:
            raise InputError(f"depth must be at most {DEEPEST}, not {self.depth}: each layer doubles the width.")
        for name in ("learning_rate", "init_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive and finite, not {getattr(self, name)}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be between 0 and 2^63 - 1, not {self.seed}.")


def train(
    task: Task,
    config: TrainingConfig,
    out: str | Path,
    *,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda _steps: None,
) -> Path:
    """Train, or go on training, the run in the folder ``out``; return that folder.

    ``progress(k)`` is called when k more steps are done, those of an earlier, interrupted call first.

    Raises:
        InputError: the folder holds a run of another task or configuration, or a target that this task cannot have.
        FloatingPointError: the loss is not finite.
    """
    task.check_length(config.length)
    check_device(device)
    out = make_folder(out)
    identity = {"task_hash": task.task_hash, "config": asdict(config)}
    if (out / CARD).exists():
        _check_identity(json.loads((out / CARD).read_text(encoding="utf-8")), identity, out)
        return out

    with one_thread():
        _run(task, config, out, identity, device, progress)
    return out


def _run(task: Task, config: TrainingConfig, out: Path, identity: dict, device: str, progress) -> None:
    """Train from the last checkpoint, if there is one, to the end; leave weights and card in ``out``."""
    model = DisentangledTransformer(task.n_states, config.length, config.depth, d_rel=task.order)
    model.initialise(config.init_scale, torch.Generator().manual_seed(config.seed))
    model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    done, losses, seconds = _restore(out / CHECKPOINT, identity, model, optimiser)

    progress(done)

    started = time.monotonic() - seconds
    window = 0.0
    fresh = _training_batches(task, config, start=done, device=device)
    for step, (tokens, target) in zip(range(done + 1, config.steps + 1), fresh, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
        loss = (model(tokens) - target).square().sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        window += loss.detach()
        if step % LOSS_EVERY == 0 or step == config.steps:
            in_window = (step - 1) % LOSS_EVERY + 1
            mean_loss = float(window) / in_window
            if not math.isfinite(mean_loss):
                raise FloatingPointError(
                    f"the loss became {mean_loss} within the {LOSS_EVERY} steps before step {step}; "
                    f"lower the learning rate (now {config.learning_rate:g})."
                )
            losses.append(mean_loss)
            window = 0.0
            progress(in_window)
        if step % CHECKPOINT_EVERY == 0:
            _save_checkpoint(out / CHECKPOINT, identity, model, optimiser, losses, time.monotonic() - started)

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_whole(out / WEIGHTS, lambda path: safetensors.torch.save_file(state, path))
    card = {
        "task": task.name,
        **identity,
        "model": {"name": "DisentangledTransformer", "d_rel": task.order, "dtype": "float32"},
        "initialisation": f"every parameter from N(0, {config.init_scale:g}²), torch.Generator seed {config.seed}",
        "loss": "squared error at the last position, summed over states, mean over the batch",
        "loss_curve": {"every": LOSS_EVERY, "mean_loss": [float(f"{loss:.6g}") for loss in losses]},
        "wall_seconds": round(time.monotonic() - started, 1),
        "device": _device_name(device),
        "versions": {name: version(name) for name in ("mdbench", "torch", "jax", "numpyro")},
    }
    write_text(out / CARD, json.dumps(card, indent=1) + "\n")
    (out / CHECKPOINT).unlink(missing_ok=True)


def _training_batches(task: Task, config: TrainingConfig, start: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """(tokens (batch, T), target (batch, q)) of each step from ``start`` on."""
    for sample in batches(task, config.length, config.batch, config.seed, stream=Stream.TRAINING, start=start):
        target = _target(task, config.target, sample)
        yield (
            torch.from_numpy(sample.tokens[:, :-1].astype(np.int64)).to(device),
            torch.from_numpy(target.astype(np.float32)).to(device),
        )


def _target(task: Task, target: str, sample: Sample) -> np.ndarray:
    if target == "token":
        return np.eye(task.n_states)[sample.tokens[:, -1]]
    if target == "conditional":
        return sample.next_probs
    from mdbench.baselines.urn import urn

    contexts = sample.tokens[:, :-1]
    return next_token_probs(task, urn(task, contexts).mean[:, 0], contexts)


# ------------------------------------------------------------------------------------------------- checkpoints


def _save_checkpoint(path: Path, identity: dict, model, optimiser, losses: list[float], seconds: float) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    state = optimiser.state_dict()["state"]
    for k, slots in state.items():
        for slot, value in slots.items():
            tensors[f"adam.{k}.{slot}"] = value
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"identity": json.dumps(identity), "seconds": repr(seconds)}
    write_whole(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))


def _restore(path: Path, identity: dict, model, optimiser) -> tuple[int, list[float], float]:
    """Load a checkpoint, if there is one, into model and optimiser; return (step, losses so far, seconds so far)."""
    if not path.exists():
        return 0, [], 0.0
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    _check_identity(json.loads(metadata["identity"]), identity, path.parent)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, k, slot = name.split(".")
            slots.setdefault(int(k), {})[slot] = value
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(slots[0]["step"]), tensors["losses"].tolist(), float(metadata["seconds"])


def _check_identity(found: dict, wanted: dict, out: Path) -> None:
    if found["task_hash"] != wanted["task_hash"]:
        raise InputError(f"'{out}' holds a run of another task; choose another folder.")
    for name, value in wanted["config"].items():
        if found["config"].get(name) != value:
            raise InputError(
                f"'{out}' holds a run with {name} = {found['config'].get(name)}, not {value}; choose another folder."
            )


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
