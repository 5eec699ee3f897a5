"""An inspection as one self-contained HTML page."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mdbench.mechanism.inspection import Inside, Inspection
from mdbench.pages.adaptation import PANEL, pictures
from mdbench.pages.html import render_page
from mdbench.pages.pictures import data_uri

LOWEST_SCORE = -12.0  # of offsets, in a plot: e^-12 of the attention is nothing one could see


def render(found: Inspection, command: str) -> str:
    """The page."""
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8, "image.cmap": "cividis"}):
        steps = pictures([(run.row, run.adaptation, run.leak) for run in found.runs])
        figures = [_figures(found, run) for run in found.runs]
    return render_page("inspection.html", found=found, command=command, steps=steps, figures=figures)


def _figures(seen: Inspection, run: Inside) -> dict[str, str]:
    figures = {"sequence": _maps(seen, run)}
    if run.layers:
        figures["average"] = _average_maps(seen, run)
    if run.layers and run.layers[0].offset_scores is not None:
        figures["offsets"] = _offsets(seen, run)
    if run.transition:
        t = run.transition
        panels = {"softmax of W_A over keys": t.learned, "the same of log π": t.expected}
        figures["transition"] = data_uri(_heatmaps([panels], "state before (key)", "state (query)", shared=True))
    return figures


def _maps(seen: Inspection, run: Inside) -> str:
    """Attention maps of the first sequence: a row a layer; ours and the construction's, or a panel a head."""
    if seen.maps_construction is not None:
        rows = [
            {f"layer {k}: {run.row}": ours, f"layer {k}: {seen.construction}": theirs}
            for k, (ours, theirs) in enumerate(zip(run.maps, seen.maps_construction, strict=True), 1)
        ]
    else:
        rows = [
            {f"layer {k}, head {h}": a for h, a in enumerate(layer, 1)} if layer.ndim == 3 else {f"layer {k}": layer}
            for k, layer in enumerate(run.maps, 1)
        ]
    return data_uri(_heatmaps(rows, "key", "query"))


def _average_maps(seen: Inspection, run: Inside) -> str:
    rows = [
        {
            f"layer {k}: {run.row}": layer.mean_map,
            seen.construction: layer.mean_map_construction,
            "mean of |difference|": layer.mean_difference,
        }
        for k, layer in enumerate(run.layers, 1)
    ]
    return data_uri(_heatmaps(rows, "key", "query"))


def _offsets(seen: Inspection, run: Inside) -> str:
    figure = Figure(figsize=(PANEL * len(run.layers), PANEL), layout="constrained")
    for k, (axes, layer) in enumerate(zip(np.ravel(figure.subplots(1, len(run.layers))), run.layers, strict=True), 1):
        for scores, name, style in (
            (layer.offset_scores, run.row, "o-"),
            (layer.offset_scores_construction, seen.construction, "x--"),
        ):
            if scores is not None:
                axes.plot(np.maximum(scores, LOWEST_SCORE), style, markersize=3, linewidth=0.8, label=name)
        axes.set(title=f"layer {k}", xlabel="offset i - j", ylabel="h_T · R_A, nats")
        axes.legend()
    return data_uri(figure)


def _heatmaps(rows: list[dict[str, Any]], x: str, y: str, shared: bool = False) -> Figure:
    """One row of panels for each dictionary of titled matrices; ``shared`` gives all one scale."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(PANEL * columns, PANEL * len(rows)), layout="constrained")
    top = max(a.max() for row in rows for a in row.values()) if shared else None
    for axes_row, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes in axes_row[len(row) :]:
            axes.axis("off")
        for axes, (title, matrix) in zip(axes_row, row.items(), strict=False):
            image = axes.imshow(matrix, vmin=0, vmax=top, interpolation="nearest")
            axes.set(title=title, xlabel=x, ylabel=y)
            figure.colorbar(image, ax=axes, shrink=0.7)
    return figure
