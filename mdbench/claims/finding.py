"""What an experiment finds: a verdict with its number, all numbers, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mdbench.core.verdict import Verdict

Interval = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        label: what it shows.
        x: numbers, or words.
        y: likewise long.
        band: the lowest and the highest of its training seeds at each x; None where there are not several.
        seeds: training seeds behind it; None where nothing was trained.
        dashed: of what others are held against.
    """

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None
    seeds: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One part of a claim's figure: curves, or an image."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve] = ()
    log_x: int = 0
    """Base of a logarithmic axis; 0 for a linear one."""
    log_y: bool = True
    image: Any = None
    """(rows, columns), drawn instead of curves."""


@dataclass(frozen=True)
class Finding:
    """What an experiment found.

    Attributes:
        verdict: by the claim's rule.
        estimate: the number that decided.
        interval: its 95% interval; None where it is exact, or there is none.
        unit: of the estimate.
        seeds: training seeds that it rests on; None where nothing was trained.
        says: the numbers in a plain sentence or two.
        rows: all numbers, as a table.
        panels: the figure.
    """

    verdict: Verdict
    estimate: float
    interval: Interval | None
    unit: str
    seeds: int | None
    says: str
    rows: list[dict[str, Any]] = field(repr=False)
    panels: list[Panel] = field(repr=False)
