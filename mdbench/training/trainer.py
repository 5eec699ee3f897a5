"""The steps of training: several models of one shape, their checkpoints, weights and cards."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from torch import Tensor

from mdbench.core.device import n_cores, one_thread, peak_memory
from mdbench.core.errors import InputError
from mdbench.core.files import make_folder, write_text, write_whole
from mdbench.core.progress import Advance
from mdbench.evaluation.evaluation import evaluate
from mdbench.evaluation.gold import check_gold
from mdbench.predictors.snapshots import (
    METADATA,
    PREFIX,
    SNAPSHOTS,
    by_step,
    snapshot_name,
    snapshot_steps,
    unflatten,
)
from mdbench.predictors.trained import TrainedModel
from mdbench.predictors.training_config import (
    CARD,
    DISENTANGLED,
    LOSS_EVERY,
    SQUARED_ERROR,
    STANDARD,
    WEIGHTS,
    TrainingConfig,
    build_model,
)
from mdbench.predictors.transformer import MAP_ENTRIES, Transformer
from mdbench.tasks import Task
from mdbench.training.cuda_graph import StepGraph
from mdbench.training.data import Batches
from mdbench.training.folder import (
    CHECKPOINT,
    KEPT,
    check_identity,
    check_start,
    described,
    identity,
    read_metadata,
    start_of,
)

CHECKPOINT_SECONDS = 20.0

FINAL_SEQUENCES, FINAL_SEED = 1024, 1  # of the scores in a card; the board has those of seed 0
CURVE_POINTS = 200  # at most, in a card


def train_here(
    task: Task,
    config: TrainingConfig,
    out: Path,
    seeds: tuple[int, ...],
    start_from: Path | None,
    device: str,
    progress: Advance,
    n_processes: int = 1,
    snapshots: int = 0,
) -> None:
    """Train these seeds as one batch of models in this process, which is one of ``n_processes`` side by side."""
    try:
        with one_thread(), torch.cuda.device(device) if device != "cpu" else nullcontext():
            Training(task, config, out, seeds, start_from, device, n_processes, snapshots).run(progress)
    except (RuntimeError, MemoryError) as error:
        if not _memory_ran_out(error):
            raise
        n = max(len(seeds), n_processes)
        beside, fewer = (f" and {n} seeds side by side", " train fewer seeds at once,") if n > 1 else ("", "")
        raise InputError(
            f"{config.depth} layers at T = {config.length} with {config.batch} sequences a step{beside} do not fit "
            f"into the memory of '{device}'; lower batch,{fewer} or take a shorter length or a smaller model."
        ) from None


def _memory_ran_out(error: BaseException | None) -> bool:
    """Whether it, or one on whose account it was raised (that of a graph's capture has another text), says so."""
    # Torch's own words, the CPU allocator's, CUDA's and cuBLAS's.
    said = ("allocate memory", "out of memory", "STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED")
    return error is not None and (
        isinstance(error, MemoryError)
        or any(words in str(error) for words in said)
        or _memory_ran_out(error.__context__)
    )


class Training:
    """Several models of one shape, whose parameters are the rows of one tensor."""

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        out: Path,
        seeds: tuple[int, ...],
        start_from: Path | None,
        device: str,
        n_processes: int = 1,
        snapshots: int = 0,
    ) -> None:
        self.task, self.config, self.out, self.device, self.seeds = task, config, out, device, seeds
        self.n_side_by_side = max(len(seeds), n_processes)  # seeds
        self.devices = [_device_name(device)]  # one after the other, if it goes on elsewhere
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
            self.stream = torch.cuda.Stream()  # one for all graphs: CUDA keeps buffers for each
        self.file = make_folder(out if len(seeds) > 1 else out / f"seed{seeds[0]}") / CHECKPOINT
        self.identity = identity(task, config)
        starts = {seed: start_of(task, config, start_from, seed) for seed in seeds}
        self.started_from = [described(starts[seed]) for seed in seeds]
        rows = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for _ in range(config.candidates):
                model = build_model(task, config)
                model.initialise(config.init_scale, generator)
                start = starts[seed]
                if start is not None:
                    model.begin_with(start.model)  # type: ignore[arg-type]  # of its kind: _Start has compared them
                rows.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        self._hold({"parameters": torch.stack(rows)})
        self.snapshot_steps = snapshot_steps(snapshots, config.steps)
        self.snapshots: dict[int, Tensor] = {}  # by step: parameters in float16, a row a model
        self.losses: list[list[float]] = []  # a row every LOSS_EVERY steps, an entry a model
        self.trials: list[list[float | None]] = []  # of each seed: what the candidates lost in the end
        self.seconds = 0.0
        self.data = self._batches(config.first_length)
        n_threads = max(n_cores() // n_processes, 1)
        self.threads = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
        self.map = self.threads.map if n_threads > 1 else map

    def _batches(self, length: int) -> list[Batches]:
        """Contexts of that length, for each seed."""
        config = self.config
        return [
            Batches(self.task, length, config.target, config.batch, config.reuse, seed, self.device)
            for seed in self.seeds
        ]

    def _hold(self, tensors: dict[str, Tensor]) -> None:
        """Take ``parameters``, a row a model, and Adam's state, from the start where there is none."""
        # Copies, since memory that a file is mapped to is aligned otherwise, and BLAS rounds by alignment.
        tensors = {name: value.detach().to(self.device, copy=True) for name, value in tensors.items()}
        rows = tensors["parameters"]
        self.models = [build_model(self.task, self.config).to(self.device) for _ in rows]
        for model, row in zip(self.models, rows, strict=True):
            for parameter, values in zip(model.parameters(), unflatten(row, model).values(), strict=True):
                parameter.data = values
        self.rows = {"parameters": rows}
        self.rows |= {name: tensors.get(name, torch.zeros_like(rows)) for name in ("exp_avg", "exp_avg_sq")}
        on_cpu = self.device == "cpu"
        rate = self.config.learning_rate if on_cpu else torch.tensor(self.config.learning_rate, device=self.device)
        self.parameters = rows.requires_grad_()
        self.parameters.grad = torch.zeros_like(rows)
        self.adam = torch.optim.Adam([rows], lr=rate, fused=True, capturable=not on_cpu)
        self.step = tensors.get("step", torch.zeros((), device=self.device))  # number of steps done
        state = {name: self.rows[name] for name in ("exp_avg", "exp_avg_sq")}
        self.adam.state[rows] = {"step": self.step, **state}

    def run(self, progress: Advance) -> None:
        """From the last checkpoint, if there is one, to the end."""
        self._restore()
        progress(int(self.step))
        self._take_snapshot(int(self.step))
        if len(self.models) > len(self.seeds):
            self._run_until(self.config.trial_steps, progress)
            self._choose()
        if self.config.first_steps:
            self._run_until(self.config.first_steps, progress)
            self.data = self._batches(self.config.length)
        self._run_until(self.config.steps, progress)
        self._check_last_step()
        self.threads.shutdown()
        self.peak_memory = peak_memory(self.device)
        for k in range(len(self.seeds)):
            self._finish(k)
        self.file.unlink()

    def _run_until(self, end: int, progress: Advance) -> None:
        if int(self.step) >= end:
            return
        saved = time.monotonic()
        advance = self._advance if self.device == "cpu" else functools.partial(self._replay, self._graph())
        for start in range(int(self.step), end, LOSS_EVERY):
            steps, began = range(start, min(start + LOSS_EVERY, end)), time.monotonic()
            self._note_losses(self._with_snapshots(advance, steps), start)
            self.seconds += time.monotonic() - began
            if time.monotonic() - saved >= CHECKPOINT_SECONDS or steps.stop == end:
                self._save()
                saved = time.monotonic()
            progress(len(steps))  # last: where seeds take turns, it returns when it is this one's

    def _choose(self) -> None:
        """Keep the best candidate of each seed, by its training loss in the last fifth of the trial."""
        recent = torch.tensor(self.losses[-max(len(self.losses) // 5, 1) :], dtype=torch.float64).mean(dim=0)
        by_seed = recent.where(self._finite(), math.inf).view(len(self.seeds), -1)
        self.trials = [[loss if math.isfinite(loss) else None for loss in losses] for losses in by_seed.tolist()]
        chosen = by_seed.argmin(dim=1) + torch.arange(len(self.seeds)) * by_seed.shape[1]
        self.losses = [[row[k] for k in chosen.tolist()] for row in self.losses]
        kept = {name: values.detach()[chosen.to(self.device)] for name, values in self.rows.items()}
        self.snapshots = {step: rows[chosen] for step, rows in self.snapshots.items()}
        self._hold(kept | {"step": self.step})

    def _with_snapshots(self, advance: Callable[[range], Tensor], steps: range) -> Tensor:
        """These steps, and the snapshots among them; the losses (steps, models)."""
        ends = [step for step in self.snapshot_steps if step in steps[1:]] + [steps.stop]
        losses = []
        for part in (range(start, end) for start, end in pairwise([steps.start, *ends])):
            losses.append(advance(part).cpu())
            self._take_snapshot(part.stop)
        return torch.cat(losses)

    def _take_snapshot(self, step: int) -> None:
        if step in self.snapshot_steps:
            self.snapshots[step] = self.rows["parameters"].detach().half().cpu()

    def batches_at(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Tokens and targets of each model."""
        per_seed = len(self.models) // len(self.seeds)  # its candidates, later one
        return [batch for batch in (data[step] for data in self.data) for _ in range(per_seed)]

    def _advance(self, steps: range) -> Tensor:
        """These steps on the CPU; the losses (steps, models)."""
        return torch.stack([self._step(step) for step in steps])

    def _step(self, step: int) -> Tensor:
        """One step on the CPU; the losses of the models.

        A core takes a part of one model's batch at a time: small enough for its cache, and no more parts than that, as
        Python hands them out. They depend on the configuration alone and are summed in order: the number of cores
        changes no digit.
        """
        config, batches = self.config, self.batches_at(step)
        batch, length = batches[0][0].shape
        size = math.ceil(batch / math.ceil(batch * length**2 / MAP_ENTRIES))
        jobs = [(i, slice(k, k + size)) for i in range(len(self.models)) for k in range(0, batch, size)]

        def gradient(job: tuple[int, slice]) -> tuple[Tensor, Tensor]:
            i, rows = job
            model, (tokens, targets) = self.models[i], batches[i]
            loss = loss_of(config, model(tokens[rows]), targets[rows]).sum() / batch
            parts = torch.autograd.grad(loss, list(model.parameters()))
            return loss.detach(), torch.cat([part.flatten() for part in parts])

        losses, grad = torch.zeros(len(self.models)), self.parameters.grad
        assert grad is not None
        grad.zero_()
        for (i, _), (loss, part) in zip(jobs, self.map(gradient, jobs), strict=True):
            losses[i] += loss
            grad[i] += part
        set_learning_rate(self.adam, config.learning_rate_at(step))
        self.adam.step()
        return losses

    def _graph(self) -> StepGraph:
        """A step of all models on the GPU."""
        shape = (len(self.models), self.config.batch)
        tokens = torch.zeros(*shape, self.data[0].length, dtype=torch.int64, device=self.device)
        targets = torch.zeros(*shape, self.task.n_states, device=self.device)
        return StepGraph(self._stacked_step, tokens, targets, [*self.rows.values(), self.step], self.stream)

    def _replay(self, graph: StepGraph, steps: range) -> Tensor:
        """These steps on the GPU; the losses (steps, models)."""
        losses = torch.zeros(len(steps), len(self.models), device=self.device)
        for row, step in zip(losses, steps, strict=True):
            set_learning_rate(self.adam, self.config.learning_rate_at(step))
            row.copy_(graph.replay(*zip(*self.batches_at(step), strict=True)))
        return losses

    def _stacked_step(self, tokens: Tensor, targets: Tensor) -> Tensor:
        assert self.parameters.grad is not None
        self.parameters.grad.zero_()
        losses = self.stacked_losses(self.parameters, tokens, targets)
        losses.sum().backward()
        self.adam.step()
        return losses.detach()

    def stacked_losses(self, parameters: Tensor, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean losses (models,) of all models in one pass, for tokens (models, batch, T); differentiable."""

        def loss(row: Tensor, tokens: Tensor, targets: Tensor) -> Tensor:
            output = torch.func.functional_call(self.models[0], unflatten(row, self.models[0]), (tokens,))
            return loss_of(self.config, output, targets).mean()

        return torch.vmap(loss)(parameters, tokens, targets)

    def _note_losses(self, window: Tensor, first_step: int) -> None:
        """Losses (steps, models) of some steps; each seed must have a model whose losses have all been finite."""
        finite = torch.isfinite(window).cummin(dim=0).values & self._finite()
        lost = (~finite.view(len(window), len(self.seeds), -1).any(dim=2)).nonzero()
        if len(lost):
            i, k = lost[0].tolist()
            of_seed = window[i].view(len(self.seeds), -1)[k]
            self._fail(k, of_seed[~of_seed.isfinite()][0], first_step + i + 1)
        self.losses.append(window.double().mean(dim=0).tolist())

    def _finite(self) -> Tensor:
        """Which models have had finite losses so far."""
        losses = torch.tensor(self.losses, dtype=torch.float64).view(-1, len(self.models))
        return torch.isfinite(losses).all(dim=0)

    def _check_last_step(self) -> None:
        """It changed the parameters after the last of the losses."""
        for k, (model, (tokens, targets)) in enumerate(
            zip(self.models, self.batches_at(self.config.steps - 1), strict=True)
        ):
            with torch.no_grad():
                loss = loss_of(self.config, model(tokens[:8]), targets[:8]).mean()
            if not loss.isfinite():
                self._fail(k, loss, self.config.steps)

    def _fail(self, k: int, loss: Tensor, step: int) -> NoReturn:
        raise FloatingPointError(
            f"the loss of seed {self.seeds[k]} became {loss.item()} at step {step}; "
            f"lower the learning rate (now {self.config.learning_rate:g}), in another folder."
        )

    # --------------------------------------------------------------------------------------------- checkpoints

    def _save(self) -> None:
        tensors = {name: value.detach().cpu().contiguous() for name, value in (self.rows | {"step": self.step}).items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors |= {snapshot_name(step): rows.contiguous() for step, rows in self.snapshots.items()}
        kept = self.identity | {name: getattr(self, name) for name in KEPT}
        content = safetensors.torch.save(tensors, {METADATA: json.dumps(kept)})
        write_whole(self.file, lambda path: path.write_bytes(content))

    def _restore(self) -> None:
        if not self.file.exists():
            return
        metadata = read_metadata(self.file)
        with safetensors.safe_open(self.file, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if tuple(metadata["seeds"]) != self.seeds:
            there = ", ".join(map(str, metadata["seeds"]))
            raise InputError(f"'{self.file}' is a checkpoint of seed {there}; remove it to begin anew.")
        check_identity(metadata, self.identity, self.out)
        for before, now in zip(metadata["started_from"], self.started_from, strict=True):
            check_start(before, now, self.out)
        self.snapshots = by_step(tensors)
        step = int(tensors["step"])
        if lacking := [at for at in self.snapshot_steps if at <= step and at not in self.snapshots]:
            raise InputError(
                f"'{self.file}' stands at step {step} and has no snapshot at {', '.join(map(str, lacking))}; give "
                "--snapshots as before, or choose another folder."
            )
        self._hold({name: value for name, value in tensors.items() if not name.startswith(PREFIX)})
        self.losses, self.seconds, self.trials = tensors["losses"].tolist(), metadata["seconds"], metadata["trials"]
        self.devices = list(dict.fromkeys([*metadata["devices"], *self.devices]))

    def _finish(self, k: int) -> None:
        """Weights and card of one seed."""
        config, folder = self.config, make_folder(self.out / f"seed{self.seeds[k]}")
        state = {name: value.detach().cpu().contiguous() for name, value in self.models[k].state_dict().items()}
        content = safetensors.torch.save(state)
        write_whole(folder / WEIGHTS, lambda path: path.write_bytes(content))
        if self.snapshots:
            taken = {snapshot_name(step): rows[k].contiguous() for step, rows in self.snapshots.items()}
            of_run = {METADATA: json.dumps(self.identity | {"seed": self.seeds[k]})}
            write_whole(folder / SNAPSHOTS, lambda path: path.write_bytes(safetensors.torch.save(taken, of_run)))
        card = {
            "task": self.task.name,
            **self.identity,
            "seed": self.seeds[k],
            "initialisation": _initialisation(config, self.started_from[k] is not None),
            "started_from": self.started_from[k],
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "loss_curve": _curve([row[k] for row in self.losses], config.steps),
            "wall_seconds": round(self.seconds, 1),
            "seeds_side_by_side": self.n_side_by_side,
            "candidate_losses": self.trials[k] if self.trials else None,
            "device": ", then ".join(self.devices),
            "peak_memory_gib": self.peak_memory and round(self.peak_memory / 2**30, 2),
            "versions": {name: version(name) for name in ("mdbench", "torch")},
            "final_scores": _final_scores(self.task, config, self.models[k]),
        }
        write_text(folder / CARD, json.dumps(card, indent=1) + "\n")


def set_learning_rate(adam: torch.optim.Adam, rate: float) -> None:
    """Of the next step; a captured graph reads it from a tensor."""
    for group in adam.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def loss_of(config: TrainingConfig, output: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sequence."""
    if config.loss == SQUARED_ERROR:
        return (output - targets).square().sum(dim=-1)
    return -(targets * torch.log_softmax(output, dim=-1)).sum(dim=-1)


def _initialisation(config: TrainingConfig, started: bool) -> str:
    """What a card says of it."""
    drawn = f"from N(0, {config.init_scale:g}²), torch.Generator with the seed"
    if not started:
        return f"matrices and tables {drawn}"
    further = {
        DISENTANGLED: f"copies of the last but one, with a tenth of values {drawn}, for entries that it does not have",
        STANDARD: f"{drawn}, what they add a tenth",
    }[config.model]
    return f"the run in started_from; offsets beyond its context as its middle one; further layers {further}"


def _curve(losses: list[float], steps: int) -> dict[str, Any]:
    """The loss curve, averaged until it has few enough points; the last point may stand for fewer steps."""
    every = max(math.ceil(len(losses) / CURVE_POINTS), 1)
    parts = [losses[i : i + every] for i in range(0, len(losses), every)]
    return {
        "every": min(every * LOSS_EVERY, steps),
        "mean_loss": [float(f"{sum(part) / len(part):.6g}") for part in parts],
    }


def _final_scores(task: Task, config: TrainingConfig, model: Transformer) -> dict[str, Any] | None:
    """Excess KL on sequences that the board does not use; None where the exact posterior is out of reach."""
    try:
        check_gold(task, config.length, task.gold)
    except InputError:
        return None
    predictor = TrainedModel(model, config)
    result = evaluate(
        predictor, task=task, lengths=config.length, n_sequences=FINAL_SEQUENCES, seed=FINAL_SEED, references=()
    ).results[0]
    flat = result.to_dict()
    return {name: flat[name] for name in ("excess_kl", "excess_kl_se", "n_sequences", "seed")}


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cores = n_cores()
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"  # on which the last digits depend
    return f"cpu ({kind}, {cores} core{'s' if cores > 1 else ''})"
