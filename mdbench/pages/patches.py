"""Interventions as one self-contained HTML page with a picture."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mdbench.mechanism.patching import UNTOUCHED, Patched
from mdbench.pages.html import render_page
from mdbench.pages.pictures import data_uri

ROW = 0.19  # inches


def render(found: Patched, command: str) -> str:
    """The page."""
    with matplotlib.rc_context({"font.size": 7}):
        picture = data_uri(_picture(found))
    n_seeds = 1 + max(i.seed for i in found.interventions)
    return render_page("patches.html", found=found, command=command, picture=picture, n_seeds=n_seeds)


def _picture(found: Patched) -> Figure:
    """Excess KL of each intervention, a mark a training seed; filled as it is, hollow with the readout fitted anew."""
    rows = [row for row in found.table() if row[0][1] != UNTOUCHED]
    figure = Figure(figsize=(7.5, 1.2 + ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    for untouched in found.of(0, UNTOUCHED, UNTOUCHED):
        axes.axvline(untouched.excess_kl, color="0.5", linewidth=0.8)
    for y, (_, plain, refit) in enumerate(rows):
        for interventions, face in ((plain, "#0072B2"), (refit, "none")):
            values = np.array([i.excess_kl for i in interventions if np.isfinite(i.excess_kl)])
            axes.scatter(values, np.full(len(values), y), s=16, facecolors=face, edgecolors="#0072B2", linewidths=0.8)
        if y and rows[y - 1][0][0] != rows[y][0][0]:
            axes.axhline(y - 0.5, color="0.85", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"layer {k[0]}, {k[1]}: {k[2]}" for k, *_ in rows])
    axes.set(xscale="log", xlabel="mean excess KL, nats", ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    return figure
