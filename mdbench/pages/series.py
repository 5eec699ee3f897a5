"""Pictures of models fitted to a person's own sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mdbench.pages.claims import COLOURS, write_figure

WIDTH, HEIGHT = 4.2, 3.0  # of a picture, in inches
SPREAD = 0.6  # of the intervals of one lag


def write_pictures(found: dict[str, Any], out: Path) -> None:
    """``weights`` and ``association`` in a folder; nothing of what has no mixture."""
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8, "svg.fonttype": "path"}):
        if any(fitted["weights"] for fitted in found["fits"]):
            write_figure(_weights(found), out / "weights")
        if found["association"]:
            write_figure(_association(found["association"]), out / "association")


def _weights(found: dict[str, Any]) -> Figure:
    """Of each mixture, with 95% intervals, and of the posterior where there is one."""
    shown = [
        (f"{'MTD' if f['model'] == 'mtd' else 'per lag'}, order {f['order']}", f["weights"], f["weights_ci"])
        for f in found["fits"]
        if f["weights"]
    ]
    if "bayes" in found:
        bayes = found["bayes"]
        shown.append((f"posterior, order {bayes['order']}", bayes["weights_mean"], bayes["weights_interval"]))
    figure = Figure(figsize=(WIDTH + 1.5, HEIGHT), layout="constrained")
    axes = figure.subplots()
    for k, (label, weights, intervals) in enumerate(shown):
        low, high = np.array(intervals).T
        at = np.arange(1, len(weights) + 1) + SPREAD * ((k + 0.5) / len(shown) - 0.5)
        error = np.maximum([np.array(weights) - low, high - np.array(weights)], 0)
        axes.errorbar(at, weights, error, fmt="o", markersize=3, color=COLOURS[k % len(COLOURS)], label=label)
    longest = max(len(weights) for _, weights, _ in shown)
    axes.set(xlabel="lag", ylabel="λ, with 95% intervals", ylim=(-0.03, 1.03), xticks=range(1, longest + 1))
    figure.legend(loc="outside right center", fontsize=6)
    return figure


def _association(found: dict[str, Any]) -> Figure:
    """Of tokens k apart, in the data and in series drawn from the fitted model."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    low, high = (np.array(found[end], dtype=float) for end in ("low", "high"))
    axes.fill_between(
        found["lag"], low, high, color=COLOURS[0], alpha=0.25, linewidth=0, label=f"{found['model']}: 95%"
    )
    axes.plot(found["lag"], np.array(found["data"], dtype=float), "o-", markersize=3, color=COLOURS[1], label="data")
    axes.set(xlabel="lag k", ylabel=f"{found['measure']} of tokens k apart", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=6)
    return figure
