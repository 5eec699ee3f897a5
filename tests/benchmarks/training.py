"""Training steps a second against a plain eager loop of the same model, in one run on this machine.

``python tests/benchmarks/training.py``, with options such as ``--device cuda --model standard --depth 5``. Ours: three
seeds side by side; a step of one seed counts as one. The plain loops: one model, torch's own threads, its Adam, warm;
they too compute only the last row of the last layer, and their batches come from the same sampler. ``formula`` writes
the relative positions as SPEC section 4 has them, by indices i - j, as anyone would; ``our module`` is the module that
we train, whose shifts instead of indices are part of what makes the trainer fast.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from mdbench import training
from mdbench.device import one_thread
from mdbench.predictors.transformer import DisentangledAttention, StandardLayer
from mdbench.tasks import load_task
from mdbench.training_config import preset_config
from mdbench.training_data import BLOCK, Batches

SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="mtd-q5-m3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="disentangled")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--lengths", default="16,32,64,128")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    options = parser.parse_args()
    task = load_task(options.task)
    print(f"{options.task}, {options.model}, {options.depth} layers, batch 128, {options.device}, three seeds")
    print("| T | steps a second | formula | ratio | our module | ratio | drawing sequences | peak memory, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    whole_sweep = 0.0
    for length in map(int, options.lengths.split(",")):
        config = preset_config("conditional", length, model=options.model, depth=options.depth)
        formula = plain_rate(as_the_formula, task, config, options.device, options.seconds)
        module = plain_rate(lambda model: model, task, config, options.device, options.seconds)
        rate, share = our_rate(task, config, options.device, options.seconds)
        whole_sweep += 3 * 500_000 / rate
        memory = training._peak_memory(options.device) / 2**30
        ratios = " | ".join(f"{plain:.0f} | {rate / plain:.2f}" for plain in (formula, module))
        print(f"| {length} | {rate:.0f} | {ratios} | {share:.1%} | {memory:.2f} |", flush=True)
    print(f"\nthree seeds of 500,000 steps at these lengths: {whole_sweep / 3600:.1f} hours")


def our_rate(task, config, device, seconds) -> tuple[float, float]:
    """(steps a second, of all seeds together; share of the time that drawing the sequences takes)."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        state = training._Training(task, config, SEEDS, SEEDS, Path(folder), {}, device)
        advance = state._advance if device == "cpu" else training._Graph(state).advance
        steps = drawing = 0

        def step() -> None:
            nonlocal drawing
            before = time.perf_counter()
            tokens, targets = zip(*(data[steps] for data in state.data), strict=True)
            drawing += time.perf_counter() - before
            advance(tokens, targets)

        # Whole blocks of the sampler, so that its cost is neither left out nor counted twice.
        for _ in range(3):
            step()
        steps, drawing, started = BLOCK, 0.0, time.perf_counter()
        while steps % BLOCK or time.perf_counter() - started < seconds:
            step()
            steps += 1
        if device != "cpu":
            torch.cuda.synchronize()
        wall = time.perf_counter() - started
    return len(SEEDS) * (steps - BLOCK) / wall, drawing / wall


def as_the_formula(model: nn.Module) -> nn.Module:
    """The same model and parameters, with relative positions by index."""
    for layer in model.layers:
        layer.__class__ = {DisentangledAttention: IndexedDisentangled, StandardLayer: IndexedStandard}[type(layer)]
    return model


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

    def values(self, attention, h):
        tables = self.value_offset[offsets(h.shape[1], h.device)]  # (T, T, d_rel)
        return torch.cat([attention @ h, torch.einsum("bij,ijr->bir", attention, tables)], dim=-1)


class IndexedStandard(StandardLayer):
    def forward(self, h):
        query, key, value = self.split(self.attention_norm(h))
        at = offsets(h.shape[1], h.device)
        scores = query @ key.transpose(-1, -2)
        scores = scores + (query @ self.key_offset.T).gather(-1, at.expand_as(scores))
        attention = torch.softmax(scores / query.shape[-1] ** 0.5 + self.future, dim=-1)
        heads = attention @ value + torch.einsum("bhij,ijd->bhid", attention, self.value_offset[at])
        return self.add_mlp(h + self.join(heads))


def plain_rate(change, task, config, device, seconds) -> float:
    """Steps a second of the loop that anyone would write."""
    model = change(training.build_model(task, config).to(device))
    model.initialise(config.init_scale, torch.Generator(device).manual_seed(0))
    adam = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    data = Batches(task, config.length, config.target, config.batch, config.reuse, 0, device)

    def step(k: int) -> None:
        tokens, targets = data[k]
        loss = training.loss_of(config, model(tokens), targets).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    for k in range(5):
        step(k)
    steps, started = BLOCK, time.perf_counter()
    while steps % BLOCK or time.perf_counter() - started < seconds:
        step(steps)
        steps += 1
    if device != "cpu":
        torch.cuda.synchronize()
    return (steps - BLOCK) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
