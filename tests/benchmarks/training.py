"""Training steps a second against a plain eager loop of the same model, in turn, on this machine.

    python tests/benchmarks/bench.py --only training
    python tests/benchmarks/training.py                 the table of docs/performance.md

The latter has options such as ``--device cuda --model standard --depth 5``. Ours: three
seeds side by side; a step of one seed counts as one. The plain loops: one model, torch's own threads, its Adam, warm;
they too compute only the last row of the last layer, and their batches come from the same sampler. ``formula`` writes
the relative positions as docs/mathematics.md, section 4 has them, by indices i - j, as anyone would; ``our module`` is
the module that we train, whose shifts instead of indices are part of what makes the trainer fast.
"""

import argparse
import contextlib
import functools
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import torch
from measuring import ROUNDS, Row, alone, ratio
from tables import Table
from torch import nn

from mdbench.core.device import n_cores, one_thread, peak_memory
from mdbench.predictors import training_config
from mdbench.predictors.training_config import TrainingConfig
from mdbench.predictors.transformer import DisentangledAttention, StandardLayer
from mdbench.tasks import Task, load_task
from mdbench.training import run, trainer
from mdbench.training.data import Batches
from mdbench.training.presets import preset_config

SEEDS = (0, 1, 2)
LENGTH = 32  # of what is part of `make bench`
WINDOWS = 9  # of 100 steps that are measured at least: a seed may be one ahead of another


class Enough(Exception):
    """The measurement is long enough."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="mtd-q5-m3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="disentangled")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--preset", default="conditional", help="its target, loss and reuse")
    parser.add_argument("--lengths", default="16,32,64,128")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="in which all are measured in turn; medians are shown")
    options = parser.parse_args()
    what = f"{options.task}, {options.model}, {options.depth} layers, preset {options.preset}"
    what += f", {options.device}, T = {options.lengths}"
    print(f"{what}, batch 128, three seeds")
    headings = ["T", "steps a second, all seeds", "the formula, plain", "ratio (range)", "our module, plain"]
    table = Table(f"speed of training: {what}", [*headings, "ratio (range)", "drawing sequences", "peak memory, GiB"])
    whole_sweep = 0.0
    for length in map(int, options.lengths.split(",")):
        # A process each: how fast memory comes depends on what ran before.
        # Without the preset's candidates and short contexts, as of what is started from a finished run.
        config = preset_config(options.preset, length, started=True, model=options.model, depth=options.depth)
        rounds = measured(load_task(options.task), config, options.device, options.seconds, options.rounds)
        rate, share, memory = np.median([ours for ours, *_ in rounds], axis=0)
        whole_sweep += 3 * 500_000 / rate
        cells = []
        for k in (1, 2):
            ratios = sorted(each[0][0] / each[k] for each in rounds)
            plain, ratio = np.median([each[k] for each in rounds]), np.median(ratios)
            cells += [f"{plain:.0f}", f"{ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"]
        table.add(str(length), f"{rate:.0f}", *cells, f"{share:.1%}", f"{memory:.2f}")
    table.put()
    print(f"\nthree seeds of 500,000 steps at these lengths: {whole_sweep / 3600:.1f} hours")


def rows() -> Iterator[Row]:
    """Steps a second of ``train`` against those of both plain loops, three layers."""
    config = preset_config("conditional", LENGTH, started=True)
    rounds = measured(load_task("mtd-q5-m3"), config, "cpu", seconds=2.0, rounds=ROUNDS)
    ours, formula, module = np.array([[ours, *plain] for (ours, *_), *plain in rounds]).T
    yield ratio(f"steps a second of train / an eager loop of the formula, T = {LENGTH}", ours, formula, at_least=1.5)
    yield ratio(f"steps a second of train / an eager loop of our module, T = {LENGTH}", ours, module)


def measured(task: Task, config: TrainingConfig, device: str, seconds: float, rounds: int) -> list[list]:
    """In each round what :func:`our_rate` says, then steps a second of the formula's loop and of our module's."""
    measure = functools.partial(alone, our_rate, task, config, device, seconds)
    plain = functools.partial(alone, plain_rate, task, config, device, seconds)
    return [[measure(), plain(True), plain(False)] for _ in range(rounds)]


def our_rate(task, config, device, seconds) -> tuple[float, float, float]:
    """(steps a second of all seeds, share of the cores' or the GPU's time that drawing takes, peak memory in GiB).

    Of ``train`` itself, from its second call of ``progress`` on, when all seeds are under way.
    """
    calls: list[tuple[float, float]] = []  # when, and how many steps until then
    memory: list[int | None] = []

    def progress(k: float) -> None:
        calls.append((time.perf_counter(), k + (calls[-1][1] if calls else 0)))
        if len(calls) > WINDOWS + 1 and calls[-1][0] - calls[1][0] > seconds:
            memory.append(peak_memory(device))
            if device == "cpu":  # each seed has a process of its own
                memory.extend(peak_memory(process=child.pid) for child in psutil.Process().children())
            raise Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        run.train(task, replace(config, steps=10**6), folder, seeds=SEEDS, device=device, progress=progress)
    (start, first), (end, last) = calls[1], calls[-1]
    rate = len(SEEDS) * (last - first) / (end - start)
    with one_thread():
        drawing = drawing_seconds(task, config, device)
    share = rate * drawing / (n_cores() if device == "cpu" else 1)
    peak = math.nan if None in memory else sum(each for each in memory if each is not None) / 2**30
    return rate, share, peak


def drawing_seconds(task, config, device) -> float:
    """Of one batch, by one core or by the GPU."""
    data = Batches(task, config.length, config.target, config.batch, config.reuse, 0, device)
    data[0]
    rounds = config.reuse * math.ceil(5 / config.reuse)  # so that sequences are drawn as often as in a long run
    started = time.perf_counter()
    for k in range(config.reuse, config.reuse + rounds):
        data[k * data.n_batches]
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / (rounds * data.n_batches)


def as_the_formula(model: nn.Module) -> None:
    """The same model and parameters, with relative positions by index."""
    for layer in model.layers:
        layer.__class__ = {DisentangledAttention: IndexedDisentangled, StandardLayer: IndexedStandard}[type(layer)]


def offsets(length: int, device) -> torch.Tensor:
    """The offsets i - j, 0 above the diagonal."""
    at = torch.arange(length, device=device)
    return (at[:, None] - at).clamp(min=0)


class IndexedDisentangled(DisentangledAttention):
    def attention(self, h):
        by_offset = h @ self.attend_offset.T
        scores = (h @ self.attend) @ h.transpose(1, 2)
        scores = scores + by_offset.gather(-1, offsets(h.shape[1], h.device).expand_as(scores))
        return torch.softmax(scores + self.future, dim=-1)

    def append_values(self, h, attention):
        tables = self.value_offset[offsets(h.shape[1], h.device)]  # (T, T, d_rel)
        return torch.cat([h, attention @ h, torch.einsum("bij,ijr->bir", attention, tables)], dim=-1)


class IndexedStandard(StandardLayer):
    def forward(self, h):
        query, key, value = self.split(self.attention_norm(h))
        at = offsets(h.shape[1], h.device)
        scores = query @ key.transpose(-1, -2)
        scores = scores + (query @ self.key_offset.T).gather(-1, at.expand_as(scores))
        attention = torch.softmax(scores / query.shape[-1] ** 0.5 + self.future, dim=-1)
        heads = attention @ value + torch.einsum("bhij,ijd->bhid", attention, self.value_offset[at])
        return self.add_mlp(h + self.join(heads))


def plain_rate(task, config, device, seconds, formula: bool) -> float:
    """Steps a second of the loop that anyone would write."""
    model = training_config.build_model(task, config).to(device)
    if formula:
        as_the_formula(model)
    model.initialise(config.init_scale, torch.Generator(device).manual_seed(0))
    adam = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    data = Batches(task, config.length, config.target, config.batch, config.reuse, 0, device)

    def step(k: int) -> None:
        tokens, targets = data[k]
        loss = trainer.loss_of(config, model(tokens), targets).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    for k in range(5):
        step(k)
    first = steps = data.n_batches
    started = time.perf_counter()
    while steps % data.n_batches or time.perf_counter() - started < seconds:
        step(steps)
        steps += 1
    if device != "cpu":
        torch.cuda.synchronize()
    return (steps - first) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
