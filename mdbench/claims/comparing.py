"""Claims that one predictor is as good as another, or better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mdbench.claims.finding import Curve, Finding, Panel
from mdbench.claims.laboratory import SCALES, Laboratory, Place, Ratio, Row
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
    """Of the ratio of excess KL, first over second, with others in the figure; ``more`` is said behind the numbers."""
    tasks, lengths = list(lab.tasks if tasks is None else tasks), list(lab.lengths if lengths is None else lengths)
    rows = lab.judge([*pair, *beside], tasks, lengths)
    a, b = (rows[name] for name in pair)
    ratio, on_kl = (lab.ratio(a, b, scale) for scale in ("excess_kl", "kl"))
    by_length = {t: lab.ratio(at(a, t), b).value for t in lengths if at(a, t)}
    apart = ", ".join(f"{value:.2f} at T = {t}" for t, value in by_length.items()) if len(by_length) > 1 else ""
    seeds = max((len(judged.probs) for row in (a, b) for judged in row.values()), default=1)
    return Finding(
        verdict=decide(ratio),
        estimate=ratio.value,
        interval=ratio.interval,
        unit=f"excess KL of {pair[0]} over that of {pair[1]}",
        seeds=seeds if seeds > 1 else None,
        says=f"{pair[0]} has {ratio} times {pair[1]}'s excess KL{f' ({apart})' if apart else ''}, and {on_kl} times "
        f"its KL to the truth.{more}",
        rows=lab.numbers(rows),
        panels=panels(lab, rows, tasks[-1] if lab.small.name not in tasks else lab.small.name, pair[0]),
    )


def panels(lab: Laboratory, rows: dict[str, Row], task: str, first: str) -> list[Panel]:
    """Both scales over lengths, all but the first row dashed; or, of a single length, one beside the other."""
    lengths = {length for row in rows.values() for _, length in row}
    if len(lengths) == 1:
        place = (task, lengths.pop())
        return [
            Panel(f"{task}, T = {place[1]}", "", LABELS[scale], [beside_each_other(rows, place, scale)])
            for scale in SCALES
        ]
    return [
        Panel(task, "T", LABELS[scale], [lab.curve(n, r, task, scale, n != first) for n, r in rows.items()], log_x=2)
        for scale in SCALES
    ]


def beside_each_other(rows: dict[str, Row], place: Place, scale: str) -> Curve:
    """A point each, with the range of its training seeds."""
    means = {name: getattr(row[place], scale).mean(axis=1) for name, row in rows.items()}
    band = [of.min() for of in means.values()], [of.max() for of in means.values()]
    return Curve("", list(means), [float(of.mean()) for of in means.values()], band)


def at(row: Row, length: int) -> Row:
    """Its cells of one length."""
    return {place: judged for place, judged in row.items() if place[1] == length}
