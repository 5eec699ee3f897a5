"""A validation as one self-contained HTML page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from mdbench.core.device import n_cores
from mdbench.core.verdict import Verdict
from mdbench.pages.html import render_page
from mdbench.posteriors.validation import LEVEL, RANK_DRAWS, Z_BINS, Accuracy, Calibration, Validation, band

HEIGHT = 60.0


def render(validation: Validation, command: str) -> str:
    """The page."""
    names = dict.fromkeys(row.task for row in validation.verdicts)
    on_trial = {(v.method, v.task) for v in validation.verdicts if v.verdict != Verdict.APPROXIMATE}
    n_tests = sum(len(a.z_p) for a in validation.accuracies if (a.method, a.task) in on_trial)
    n_tests += sum(len(c.p) for c in validation.calibrations if (c.method, c.task) in on_trial)
    return render_page(
        "validation.html",
        command=command,
        host=f"{platform.system()} {platform.machine()}, {n_cores()} cores, Python {platform.python_version()}",
        level=LEVEL,
        n_tests=n_tests,
        tasks=[_task(validation, name) for name in names],
    )


def _task(validation: Validation, name: str) -> dict[str, Any]:
    accuracies = [a for a in validation.accuracies if a.task == name]
    calibrations = [c for c in validation.calibrations if c.task == name]
    verdicts = {v.method: v for v in validation.verdicts if v.task == name}
    rows = []
    for a in accuracies:
        verdict = verdicts[a.method]
        row = {key: _number(value) for key, value in vars(a).items()}
        rows.append(row | {"verdict": verdict.verdict, "reasons": "; ".join(verdict.reasons)})
    for c in validation.only_calibrated:
        if c.task == name:
            verdict = verdicts[c.method]
            of_gold = {"method": c.method, "options": f"{c.options} (gold)", "n_failed": str(c.n_failed)}
            of_gold |= {"seconds": _number(c.seconds), "verdict": verdict.verdict}
            rows.append(of_gold | {"reasons": "; ".join(verdict.reasons)})
    groups = []
    if any(a.z for a in accuracies):
        groups.append(
            {
                "title": "z-scores",
                "note": "Errors over stated standard errors, all weights together; the line is the standard normal.",
                "plots": [_z_plot(a) for a in accuracies if a.z],
            }
        )
    if calibrations:
        first = calibrations[0]
        groups.append(
            {
                "title": "Simulation-based calibration",
                "note": f"Ranks of the true value among {RANK_DRAWS} draws, {first.n_simulations} simulations at T = "
                f"{first.length}. All bars of a calibrated method lie within the band with probability "
                f"{1 - LEVEL:.0%}.",
                "plots": [_rank_plot(c, k) for c in calibrations for k in range(len(c.quantities))],
            }
        )
    return {"name": name, "rows": rows, "groups": groups}


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bars(counts: Sequence[int], top: float, outside: Sequence[bool]) -> list[dict[str, Any]]:
    return [
        {
            "x": 10 * k,
            "y": round(HEIGHT * (1 - count / top), 2),
            "height": round(HEIGHT * count / top, 2),
            "count": count,
            "out": out,
        }
        for k, (count, out) in enumerate(zip(counts, outside, strict=True))
    ]


def _z_plot(a: Accuracy) -> dict[str, Any]:
    expected = sum(a.z) * (stats.norm.cdf(Z_BINS[1:]) - stats.norm.cdf(Z_BINS[:-1]))
    top = 1.1 * max(*a.z, *expected)
    points = [f"{10 * k + 4.5:.1f} {HEIGHT * (1 - e / top):.2f}" for k, e in enumerate(expected)]
    return {
        "label": f"{a.method}: smallest p = {min(a.z_p):.2g}",
        "width": 10 * len(a.z),
        "bars": _bars(a.z, top, [False] * len(a.z)),
        "curve": "M" + " L".join(points),
    }


def _rank_plot(c: Calibration, k: int) -> dict[str, Any]:
    counts = np.array(c.ranks[k])
    low, high = band(c.n_simulations)
    top = 1.1 * max(counts.max(), high)
    return {
        "label": f"{c.method}, {c.quantities[k]}: p = {c.p[k]:.2g}",
        "width": 10 * len(counts),
        "band": [round(HEIGHT * (1 - high / top), 2), round(HEIGHT * (high - low) / top, 2)],
        "bars": _bars(counts.tolist(), top, ((counts < low) | (counts > high)).tolist()),
    }
