"""Pictures of steps that adapt, and of what layers 1 and 2 do to each other; for pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mdbench.mechanism.adaptation import Leak, StepAdaptation
from mdbench.pages.pictures import data_uri

PANEL = 2.6  # inches
ACROSS = 4  # panels


def pictures(rows: Sequence[tuple[str, StepAdaptation | None, Leak | None]]) -> dict[str, str]:
    """``steps`` and ``leak``, where there is any."""
    steps = [(name, adaptation) for name, adaptation, _ in rows if adaptation is not None]
    leaks = [(name, leak) for name, _, leak in rows if leak is not None]
    found = {"steps": data_uri(_steps(steps))} if steps else {}
    return found | ({"leak": data_uri(_leak(leaks))} if leaks else {})


def _panels(n: int) -> tuple[Figure, list]:
    down, across = -(-n // ACROSS), min(n, ACROSS)
    figure = Figure(figsize=(PANEL * across, PANEL * down), layout="constrained")
    panels = [*np.ravel(figure.subplots(down, across, squeeze=False))]
    for axes in panels[n:]:
        axes.axis("off")
    return figure, panels[:n]


def _steps(rows: Sequence[tuple[str, StepAdaptation]]) -> Figure:
    """Each sequence's effective step against η_i; the line is their equality."""
    figure, panels = _panels(len(rows))
    for axes, (name, adaptation) in zip(panels, rows, strict=True):
        derived, found = adaptation.steps.T
        axes.scatter(derived, found, s=4, color="#0072B2", alpha=0.4, linewidths=0)
        axes.axline((derived.min(), derived.min()), (derived.max(), derived.max()), color="0.4", linewidth=0.8)
        axes.set(xscale="log", yscale="log", title=name, xlabel="η_i of the adaptive step", ylabel="effective step")
        axes.set_ylim(*np.quantile(found, [0.01, 0.99]) * [0.7, 1.4])
    return figure


def _leak(rows: Sequence[tuple[str, Leak]]) -> Figure:
    """By position: what stays on the lags in layer 1, layer 2's weight, and their product, each over its mean."""
    figure, panels = _panels(len(rows))
    for axes, (name, leak) in zip(panels, rows, strict=True):
        stays = 1 - leak.leak
        for values, label, style in (
            (stays, "on the lags, layer 1", "-"),
            (leak.weight, "weight in layer 2", "--"),
            (stays * leak.weight, "product", ":"),
        ):
            axes.plot(leak.positions, values / values.mean(), style, linewidth=1.0, label=label)
        axes.set(title=name, xlabel="position", ylabel="over its mean", ylim=(0, None))
        axes.legend(fontsize=6)
    return figure
