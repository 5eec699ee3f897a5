"""Phases of training as one self-contained HTML page with a picture."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mdbench.mechanism.phases import Phases
from mdbench.pages.html import render_page
from mdbench.pages.pictures import data_uri

BEFORE = 0.5  # where step 0 stands on a logarithmic axis


def render(found: Phases, command: str) -> str:
    """The page."""
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8}):
        picture = data_uri(_picture(found))
    return render_page("phases.html", found=found, command=command, picture=picture)


def _picture(found: Phases) -> Figure:
    """Excess KL, the nearest mixture, W_A against pi and the adaptation, over steps."""
    steps = np.array([max(phase.step, BEFORE) for phase in found.snapshots])
    figure = Figure(figsize=(7.5, 8.0), layout="constrained")
    excess, mixture, apart, matrix = figure.subplots(4, 1, sharex=True, height_ratios=[3, 3, 2, 2])
    excess.plot(steps, [phase.excess_kl for phase in found.snapshots], "o-", markersize=2.5, color="#0072B2")
    for name in ("marginal", "lag 1", "uniform", "md1"):
        excess.axhline(found.components[name], color="0.6", linewidth=0.7, linestyle="--")
        excess.annotate(name, (steps[-1], found.components[name]), fontsize=6, va="bottom", ha="right")
    excess.set(yscale="log", ylabel="excess KL, nats")
    names = list(found.snapshots[0].mixture)
    shares = [[phase.mixture[name] for phase in found.snapshots] for name in names]
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(names)))
    mixture.stackplot(steps, shares, labels=names, colors=colours)
    mixture.set(ylabel="shares of the nearest mixture", ylim=(0, 1))
    mixture.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    apart.plot(steps, [phase.mixture_kl for phase in found.snapshots], "-", label="to the mixture")
    apart.plot(steps, [phase.nearest_kl for phase in found.snapshots], "--", label="to the nearest algorithm")
    apart.set(yscale="log", ylabel="KL from it, nats")
    apart.legend(fontsize=6)
    if found.snapshots[0].scale is not None:
        matrix.plot(steps, [phase.scale for phase in found.snapshots], "-", label="slope of W_A against log \u03c0")
        matrix.plot(steps, [phase.kl_over_keys for phase in found.snapshots], "--", label="KL over keys, nats")
    matrix.plot(
        steps,
        [np.nan if phase.adaptation is None else phase.adaptation for phase in found.snapshots],
        ":",
        label="slope of effective step",
    )
    matrix.set(xscale="log", xlabel="step (the first mark is the start)", ylim=(-1.5, 2.5))
    matrix.legend(fontsize=6)
    return figure
