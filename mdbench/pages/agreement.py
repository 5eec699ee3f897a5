"""How far rows are from each other, as one self-contained HTML page with a heat map."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mdbench.evaluation.agreement import Agreement
from mdbench.pages.html import render_page
from mdbench.pages.pictures import data_uri

CELL = 0.24  # inches
LOWEST = 1e-7  # nats, of the scale of colours: what is nearer is the same by all that one can see
LARGE = 24  # rows; of more no numbers are written into the cells


def render(found: Agreement, command: str) -> str:
    """The page."""
    with matplotlib.rc_context({"font.size": 7}):
        picture = data_uri(_heat_map(found))
    return render_page("agreement.html", found=found, command=command, picture=picture)


def _heat_map(found: Agreement) -> Figure:
    """Rows in the order of their classes, so that these stand along the diagonal."""
    rows, values = found.by_classes()
    shown = np.ma.masked_where((values <= 0) | ~np.isfinite(values), values)
    n, side = len(rows), max(4.0, CELL * len(rows) * (1 if len(rows) > LARGE else 2))
    figure = Figure(figsize=(side + 2.5, side + 1.5), layout="constrained")
    axes = figure.subplots()
    low = max(float(shown.min()), LOWEST) if shown.count() else LOWEST
    high = max(float(shown.max()), 10 * low) if shown.count() else 1.0
    image = axes.imshow(shown, norm=LogNorm(low, high, clip=True), cmap="cividis", interpolation="nearest")
    axes.set(xticks=range(n), yticks=range(n), xlabel="column", ylabel="row")
    axes.set_xticklabels(rows, rotation=90)
    axes.set_yticklabels(rows)
    if n <= LARGE:
        for (r, c), value in np.ndenumerate(values):
            if r != c:
                middle = np.sqrt(low * high)
                axes.text(c, r, f"{value:.1e}", ha="center", va="center", color="w" if value < middle else "k", size=5)
    figure.colorbar(image, ax=axes, shrink=0.6, label="mean KL(row ‖ column), nats")
    return figure
