"""Attention beside the construction's: how much is alike, and whether one can take the other's place."""

from __future__ import annotations

from typing import Any

from mdbench.claims.claim import PAPER, Claim
from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import Laboratory, conjunction, geometric
from mdbench.mechanism.inspection import inspect
from mdbench.mechanism.patching import attention_swapped

NAME = "trained_l3"
LENGTH, N = 32, 256


def _run(lab: Laboratory) -> Finding:
    task = lab.small
    seen = inspect(NAME, task=task, length=LENGTH, n_sequences=N, device=lab.device)
    contexts, place = lab.cells(task.name)[LENGTH].contexts, (task.name, LENGTH)
    lines: list[dict[str, Any]] = []
    ratios = {}
    for run, (untouched, swapped) in zip(seen.runs, attention_swapped(NAME, task, contexts, lab.device), strict=True):
        own = lab.scored(*place, untouched[None])
        for layer, (beside, probs) in enumerate(zip(run.layers, swapped, strict=True), start=1):
            other = lab.scored(*place, probs[None])
            ratio = ratios[run.row, layer] = lab.ratio({place: other}, {place: own})
            line = {"row": run.row, "layer": layer, "overlap": beside.overlap, "overlap_last": beside.overlap_last}
            line |= {"kl": float(other.kl.mean()), "kl_untouched": float(own.kl.mean())}
            line |= {"excess_kl": float(other.excess_kl.mean()), "excess_kl_untouched": float(own.excess_kl.mean())}
            lines.append(line | {"ratio": ratio.value})
    worst = max(ratios.values(), key=lambda ratio: ratio.value)
    by_layer = {k: geometric(v["ratio"] for v in lines if v["layer"] == k) for k in (1, 2, 3)}
    first = [line["overlap"] for line in lines if line["layer"] == 1]
    others = [line["overlap_last"] for line in lines if line["layer"] > 1]
    seeds = len(seen.runs)
    overlaps, costs, layers = [], [], ["layer 1", "layer 2", "layer 3"]
    for run in seen.runs:
        own_lines = [line for line in lines if line["row"] == run.row]
        label = run.row.rpartition(":")[2]
        overlaps.append(Curve(label, layers, [line["overlap_last"] for line in own_lines]))
        costs.append(Curve(label, layers, [line["excess_kl"] for line in own_lines]))
    mean = geometric(v["excess_kl_untouched"] for v in lines)
    costs.append(Curve("untouched, mean", layers, [mean] * 3, dashed=True))
    return Finding(
        verdict=conjunction(lab.below(ratio, 1 + lab.margin) for ratio in ratios.values()),
        estimate=worst.value,
        interval=worst.interval,
        unit="excess KL with the construction's attention over the network's own, the worst layer and seed",
        seeds=seeds,
        says=f"Overlaps are {min(first):.2f} to {max(first):.2f} in layer 1, {min(others):.2f} to {max(others):.2f} "
        "for the last query of layers 2 and 3; with the construction's attention in its place the excess KL is "
        + ", ".join(f"{value:.3g} times in layer {k}" for k, value in by_layer.items())
        + f" in the geometric mean of {seeds} training seeds, and {worst.value:.3g} times in the worst layer of the "
        f"worst seed ({NAME}, T = {LENGTH}).",
        rows=lines,
        panels=[
            Panel("overlap with the construction, last query", "", "share of attention", overlaps, log_y=False),
            Panel("the construction's attention put in", "", "excess KL, nats", costs),
        ],
    )


CLAIM = Claim(
    statement="The construction's attention can take the place of that of trained three-layer networks.",
    source=f"{PAPER}, attention maps",
    rule="holds if the construction's attention can take the place of each layer's, in each seed, at a cost within "
    "the margin (95% interval of the ratio of excess KL below {high}; mtd-q5-m3, T = 32, nothing fitted anew), fails "
    "if one costs more, else undecided; overlaps stand beside it",
    run=_run,
)
