"""Claims that one predictor is as good as another, or better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import SCALES, Laboratory, Place, Ratio, Row, conjunction, furthest, written
from mdbench.core.verdict import Verdict

LABELS = {"kl": "KL to the truth, nats", "excess_kl": "excess KL, nats"}


def compared(
    lab: Laboratory,
    pair: tuple[str, str],
    beside: Sequence[str],
    decide: Callable[[Ratio], Verdict],
    tasks: Iterable[str] | None = None,
    lengths: Iterable[int] | None = None,
    more: str = "",
) -> Finding:
    """Of the ratio of excess KL, first over second, in each task; ``decide`` says what one ratio shows.

    Others stand in the figure; ``more`` is said behind the numbers. The number is the ratio that is furthest from 1.
    """
    rows = lab.judge([*dict.fromkeys([*pair, *beside])], tasks, lengths)
    a, b = (rows[name] for name in pair)
    ratios, on_kl = (lab.by_task(a, b, scale) for scale in ("excess_kl", "kl"))
    worst = furthest(ratios.values())
    return Finding(
        verdict=conjunction(decide(ratio) for ratio in ratios.values()),
        estimate=worst.value,
        interval=worst.interval,
        unit=f"excess KL of {pair[0]} over that of {pair[1]}, in the task where it is furthest from 1",
        seeds=several(a, b),
        says=f"Excess KL of {pair[0]} over that of {pair[1]}: {written(ratios)}; KL to the truth: "
        f"{written(on_kl)}.{more}",
        rows=lab.numbers(rows),
        panels=panels(lab, rows, lab.small.name, pair[0]),
    )


def several(*rows: Row) -> int | None:
    """Training seeds behind some rows, if there are several."""
    seeds = max((len(judged.probs) for row in rows for judged in row.values()), default=1)
    return seeds if seeds > 1 else None


def panels(lab: Laboratory, rows: dict[str, Row], task: str, first: str) -> list[Panel]:
    """Both scales over lengths, all but the first row dashed; or, of a single length, one beside the other."""
    lengths = {length for row in rows.values() for _, length in row}
    if len(lengths) == 1:
        place = (task, lengths.pop())
        return [
            Panel(
                f"{task}, T = {place[1]} (bars: range of training seeds)",
                "",
                LABELS[scale],
                [beside_each_other(rows, place, scale)],
            )
            for scale in SCALES
        ]
    return [
        Panel(task, "T", LABELS[scale], [lab.curve(n, r, task, scale, n != first) for n, r in rows.items()], log_x=2)
        for scale in SCALES
    ]


def beside_each_other(rows: dict[str, Row], place: Place, scale: str) -> Curve:
    """A point each, the best first, with the range of its training seeds."""
    means = {name: getattr(row[place], scale).mean(axis=1) for name, row in rows.items()}
    means = dict(sorted(means.items(), key=lambda item: item[1].mean()))
    band = [of.min() for of in means.values()], [of.max() for of in means.values()]
    return Curve("", list(means), [float(of.mean()) for of in means.values()], band)
