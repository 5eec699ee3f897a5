"""An identification as one self-contained HTML page."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mdbench.mechanism.identification import BAYES, Identification
from mdbench.pages.adaptation import pictures
from mdbench.pages.html import render_page
from mdbench.pages.pictures import data_uri

ROW = 0.2  # inches


def render(found: Identification, command: str) -> str:
    """The page."""
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8}):
        steps = pictures([(f"{v.row}, T = {v.length}", v.adaptation, v.leak) for v in found.verdicts])
        explained = data_uri(_explained(found))
    return render_page("identification.html", found=found, command=command, steps=steps, explained=explained)


def _explained(found: Identification) -> Figure:
    """A mark for each algorithm, training seed and length."""
    best: dict[str, float] = {}
    for v in found.verdicts:
        for f in v.fits:
            if f.explained is not None and f.algorithm != BAYES:  # that has another rival
                best[f.algorithm] = max(best.get(f.algorithm, 0.0), f.explained)
    names = [name for name in sorted(best, key=best.__getitem__) if best[name] > 0]
    figure = Figure(figsize=(7.5, 1.2 + ROW * max(len(names), 1)), layout="constrained")
    axes = figure.subplots()
    for k, v in enumerate(found.verdicts):
        shown = [(y, v[name]) for y, name in enumerate(names) if (v[name].explained or 0) > 0]
        y = np.array([y for y, _ in shown]) + 0.6 * ((k + 0.5) / len(found.verdicts) - 0.5)
        x = np.array([f.explained for _, f in shown])
        ends = np.array([f.explained_ci or (f.explained, f.explained) for _, f in shown]).reshape(-1, 2)
        label = f"{v.row}, T = {v.length}"
        axes.errorbar(x, y, xerr=np.abs(ends.T - x), fmt="o", markersize=2.5, linewidth=0.7, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="share explained of the distance from Bayes", xlim=(0, 1))
    axes.grid(axis="x", alpha=0.3)
    if len(found.verdicts) <= 12:
        axes.legend(fontsize=6)
    return figure
