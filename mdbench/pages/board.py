"""The board as one HTML page without network use, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from mdbench.board.board import NOT_RERUN, RERUN, SUITE, Board, Row, all_at_gold, at_gold
from mdbench.board.ranking import PLANNED, Standing
from mdbench.board.record import KINDS, PREDICTIONS, CellRecord, json_schema
from mdbench.board.times import N_SEQUENCES as N_TIMED
from mdbench.core.files import json_ready
from mdbench.core.wording import interval_text, title
from mdbench.evaluation.agreement import Agreement
from mdbench.evaluation.results import ranked_by
from mdbench.pages.agreement import LOWEST
from mdbench.pages.html import render_page
from mdbench.predictors.catalogue import BUILT_IN
from mdbench.tasks import N_PUBLIC

MAIN = "core"  # the suite whose board a folder shows first

# Ticked at first on the main board.
CHARTED = ("md1", "md2", "md5", "constructed_l5", "trained_l3", "trained_l5", "uniform")

# Okabe and Ito, with the yellow darkened: told apart by the colour-blind, on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B5A300", "#8C8C8C")

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")

POINTS = alt.NamedData(name="points")

DIGITS = 6  # of all numbers of a page: what other processors compute differs far beyond

CSV_DIGITS = 8  # likewise

COST = f"seconds for {N_TIMED} sequences, as a ratio to those of a fixed reference computation"

WIDTH = 118  # of a line of prose

MOST_REFUSED = 100  # records that are named in the README


def files_of(board: Board, folder: Path, command: str) -> dict[Path, str]:
    """All that `mdbench leaderboard build` writes into the folder of a leaderboard."""
    name = board.suite.short
    return {
        folder / file_of(name, "html"): render_html(board, command),
        folder / file_of(name, "md"): render_markdown(board, command),
        folder / file_of(name, "csv"): render_csv(board),
        folder / "record.schema.json": json_schema() + "\n",
    }


def file_of(suite: str, ending: str) -> str:
    """The board of a suite as a file of that kind; the main suite's is what a folder shows first."""
    if suite == MAIN:
        return {"html": "index.html", "md": "README.md", "csv": "board.csv"}[ending]
    return f"{suite}.{ending}"


def render_html(board: Board, command: str) -> str:
    """The page: the table is there without JavaScript, sorting, filters and charts need it."""
    titles = ["#", "chart", "predictor", "kind", "score", "ranks", "ties"]
    titles += [*board.suite.tasks, "cost", "rerun", "sequences"]
    left = ("predictor", "kind", "ties", "rerun")
    columns = [{"title": t, "left": t in left, "sortable": t != "chart"} for t in titles]
    present = {row.kind for row in board.rows}
    return render_page(
        "board.html",
        board=board,
        command=command,
        n_public=N_PUBLIC,
        recorded=board.ranked_by == "nll",
        ranked_by=board.ranked_by,
        measure=title(board.ranked_by),
        cost=COST,
        unit=_unit(board),
        boards=[(name, file_of(name, "html")) for name in board.beside],
        csv=file_of(board.suite.short, "csv"),
        columns=columns,
        planned=PLANNED,
        scores=_scores(board),
        kinds=[kind for kind in KINDS if kind in present],
        rows=[_row(board, row) for row in board.rows],
        most_charted=len(COLOURS),
        vega=_vega(),
        data=_data(board),
    )


def _n_scored(board: Board) -> str:
    """How many sequences of each task, or tokens of recorded ones."""
    if board.ranked_by == "nll":
        return "all test tokens of the recorded sequences, resampled in blocks; nobody knows a gold of them"
    return f"{N_PUBLIC} sequences a task, fewer where *few* stands"


def _unit(board: Board) -> str:
    """What the row that ratios are taken to is, in a few words."""
    return BUILT_IN[board.suite.unit.partition(":")[0]].summary.split("; option", maxsplit=1)[0]


def _scores(board: Board) -> list[tuple[str, str]]:
    """Those that some record has, with their titles: the one that ranks first."""
    there = dict.fromkeys(name for row in board.rows for _, _, cell in row.cells() for name in cell.scores)
    return [(name, title(name)) for name in sorted(there, key=lambda name: name != board.ranked_by)]


@functools.cache
def _vega() -> str:
    """The code that draws the charts; to bundle it takes seconds."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def render_markdown(board: Board, command: str) -> str:
    """The same table."""
    tasks, measure = board.suite.tasks, title(board.ranked_by)
    titles = ["#", "predictor", "kind", "score", "95% interval", "ranks", "ties", *tasks, "sequences", "rerun", "cost"]
    page, table = (file_of(board.suite.short, ending) for ending in ("html", "csv"))
    boards = [name if name == board.suite.short else f"[{name}]({file_of(name, 'md')})" for name in board.beside]
    lines = [
        f"# Leaderboard: {board.suite.name}",
        "",
        *([f"Boards: {' · '.join(boards)}.", ""] if len(boards) > 1 else []),
        *textwrap.wrap(
            f"Made by `{command}`; [{page}]({page}) is the same with charts, provenance and the command that repeats "
            f"each row. Score: geometric mean over all tasks and lengths of the ratio of the {measure} to that of "
            f"`{board.suite.unit}` ({_unit(board)}); lower is better. Ranks: those that the data do not rule out. Rows "
            "with a letter in common cannot be told apart (paired bootstrap, all pairs at once at 95%). Tasks: mean "
            f"{measure} in nats; of a row that lacks lengths, what it has at the others, which has no rank. Lengths: "
            f"{', '.join(map(str, board.suite.lengths))}; {_n_scored(board)}. *One "
            "seed*: trained with a single seed somewhere, so how much seeds matter is unknown there. *Rerun*: the "
            "keeper of this board ran the predictor again on fresh sequences, and its scores were compatible; *not "
            "repeated*: they were not, somewhere; *not rerun*: nobody checked that it makes these predictions. "
            f"Cost: {COST}, mean over cells, both timed side by side. [{table}]({table}) has the numbers.",
            WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        ),
        "",
        f"| {' | '.join(titles)} |",
        "|" + "---|" * len(titles),
    ]
    for row in board.rows:
        r = _row(board, row)
        cells = [
            r["position"] or "–",
            _code(row.label),
            row.kind,
            r["score"],
            r["interval"],
            r["ranks"],
            r["groups"],
        ]
        cells += [", ".join(task["scores"]) for task in r["tasks"]]
        marks = "".join(mark for mark, there in ((" *few*", row.few), (" *one seed*", row.one_seed)) if there)
        cells += [f"{row.n_sequences}{marks}", row.rerun, r["cost"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append("")
    if board.planned:
        low, high = board.suite.margin
        lines += [
            "## Planned comparisons",
            "",
            "All pairs at once decide little about rows whose training seeds differ. These few are named by the suite",
            f"and corrected among themselves. Ratio: of {measure}, over the cells that both have. "
            "*Equal*: the interval",
            f"lies within {low} .. {high}. *Undecided*: neither equal nor told apart. *One seed*: trained with one "
            "seed everywhere, so of that very training.",
            "",
            f"| {' | '.join(PLANNED)} |",
            "|---" * len(PLANNED) + "|",
            *(f"| {' | '.join(map(_markdown, p.texts))} |" for p in board.planned),
            "",
        ]
    referring = [row for row in board.rows if row.references]
    if referring:
        lines += ["References, as said by the authors of the rows:", ""]
        lines += [f"- {_code(row.label)}: {'; '.join(map(_linked, row.references))}" for row in referring]
        lines.append("")
    missing = [(row, reason, where) for row in board.rows for reason, where in _missing(row)]
    if missing:
        lines += ["Not in every table, since cells are missing:", ""]
        lines += [f"- {_code(row.label)}, {where}: {_markdown(reason)}" for row, reason, where in missing]
        lines.append("")
    if board.refused:
        lines += ["Refused:", "", *(f"- {_code(r.path)}: {_markdown(r.reason)}" for r in board.refused[:MOST_REFUSED])]
        more = len(board.refused) - MOST_REFUSED
        lines += [f"- and {more} more", ""] if more > 0 else [""]
    lines += [*board.notes, ""] if board.notes else []
    lines.append("Posterior methods held to the exact one: [validation.html](validation.html).")
    return "\n".join(lines) + "\n"


def render_csv(board: Board) -> str:
    """The table for programs: a row a predictor, empty where there is nothing; 0 is below the gold's error."""
    head = ["position", "predictor", "kind", "distribution", "version", "score", "interval_low", "interval_high"]
    head += ["rank_low", "rank_high", "ties", *board.suite.tasks, "sequences", "one_seed"]
    head += ["rerun", "rerun_smallest_p", "cost", "reference"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for row in board.rows:
        standing, about = row.tables.get(SUITE), row.first.predictor
        cells: list[Any] = [standing and standing.position, row.label, row.kind, about.distribution, about.version]
        cells.append(standing and standing.score)
        cells += [None, None] if standing is None or standing.interval is None else standing.interval
        cells += [*standing.ranks, " ".join(standing.groups)] if standing else [None, None, None]
        cells += [row.tables[task].score if task in row.tables else None for task in board.suite.tasks]
        p = [mark.p for mark in row.marks.values() if mark.p is not None]
        cells += [row.n_sequences, "yes" if row.one_seed else "no", row.rerun, min(p, default=None), row.cost]
        writer.writerow(map(_plain, [*cells, "; ".join(row.references)]))
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """As CSV has it; a text that a spreadsheet would compute gets an apostrophe, by which spreadsheets know text."""
    if isinstance(value, float):
        return f"{value:.{CSV_DIGITS}g}"
    formula = isinstance(value, str) and (value[:1] in tuple("\t\r\n") or value.lstrip()[:1] in tuple("=+-@＝＋－＠"))
    return f"'{value}" if formula else value


def _link(reference: str) -> str | None:
    """Where a DOI or an arXiv number leads; nothing else becomes a link."""
    if doi := re.fullmatch(r"(?:doi:|https://doi\.org/)?(10\.[0-9]{4,9}/(?!\S*\.\.)[A-Za-z0-9._/()-]+)", reference):
        return f"https://doi.org/{doi[1]}"
    if arxiv := re.fullmatch(r"(?:arXiv:|https://arxiv\.org/abs/)([0-9]{4}\.[0-9]{4,5}(?:v[0-9]+)?)", reference):
        return f"https://arxiv.org/abs/{arxiv[1]}"
    return None


def _linked(reference: str) -> str:
    link = _link(reference)
    return _markdown(reference) if link is None else f"[{_markdown(reference)}](<{link}>)"


def _code(text: str) -> str:
    """A label as it is typed: of what stands in code GitHub makes no link, symbol or formula."""
    return f"<code>{_markdown(text)}</code>"


def _markdown(text: str) -> str:
    """As plain text in a table; what GitHub would make a link of, bare as it stands, is cut by an empty comment."""
    escaped = re.sub(
        r"[<>|&]|[\\`*_{}\[\]#~$]|^[+-]|(?<=\d)[.)](?= )",
        lambda m: f"&#{ord(m[0])};" if m[0] in "<>|&" else f"\\{m[0]}",
        text,
    )
    cut = re.sub(r"(?i)(?<=www)(?=\.)|(?<=:)(?=//)|(?<=@)|(?<=mailto)(?=:)|(?<=xmpp)(?=:)", "<!-- -->", escaped)
    return " ".join(cut.split())


def _row(board: Board, row: Row) -> dict[str, Any]:
    standing = row.tables.get(SUITE)
    return {
        "label": row.label,
        "kind": row.kind,
        "n_sequences": row.n_sequences,
        "few": row.few,
        "one_seed": row.one_seed,
        "position": standing.position if standing else None,
        "score": _score(row, standing, list(board.suite.tasks)),
        "score_sort": _sortable(standing.score if standing else None),
        "interval": interval_text(standing.interval) if standing and not all_at_gold(row, board.suite.tasks) else "",
        "ranks": _ranks(standing),
        "ranks_sort": sum(standing.ranks) if standing else 1e9,
        "groups": " ".join(standing.groups) if standing else "",
        "tasks": [
            {
                "scores": _task_scores(row, task),
                "sort": _sortable(row.tables[task].score if task in row.tables else None),
                "ranks": _ranks(row.tables.get(task)),
            }
            for task in board.suite.tasks
        ],
        "cost": "–" if row.cost is None else _g(row.cost),
        "cost_sort": _sortable(row.cost),
        "rerun": row.rerun,
        "is_rerun": row.rerun == RERUN,
        "charted": row.label in _charted(board),
        "missing": _missing(row),
        "missing_all": any(task in row.tables for task in board.suite.tasks),
        "cells": [_cell(task, cell, board.ranked_by) for (task, _), _, cell in row.cells()],
        "checked": _checked(row),
        "said": _said(row),
        "references": [{"text": reference, "link": _link(reference)} for reference in row.references],
        "commands": [record.command for record in row.records.values()] if row.kind != PREDICTIONS else [],
        "card": json.dumps({task: r.card for task, r in row.records.items()}, indent=1) if row.first.card else "",
    }


def _charted(board: Board) -> list[str]:
    """The rows that the charts show at first."""
    return list(CHARTED) if board.suite.short == MAIN else [row.label for row in board.rows[: len(COLOURS)]]


def _task_scores(row: Row, task: str) -> list[str]:
    """The mean over a task's lengths; of a row that lacks a cell there, each that it has."""
    if task in row.tables:
        return [_score(row, row.tables[task], [task])]
    cells = row.records[task].cells if task in row.records else []
    by = ranked_by(row.first.gold)
    return [f"{_ranking(cell, by)} at T = {cell.length}" for cell in cells if cell.mean(by) is not None] or ["–"]


def _ranking(cell: CellRecord, by: str) -> str:
    value = cell.mean(by)
    return "not ranked" if value is None else "at gold" if at_gold(cell) else _g(value)


def _shown(cell: CellRecord, score: str, by: str) -> str:
    value = cell.mean(score)
    return _ranking(cell, by) if score == by else "–" if value is None else _g(value)


def _cell(task: str, cell: CellRecord, by: str) -> dict[str, Any]:
    gold, ranking = at_gold(cell), cell.scores[by]
    return {
        "task": task,
        "length": cell.length,
        "scores": {name: _shown(cell, name, by) for name in cell.scores},
        "interval": "" if gold or ranking is None else interval_text(ranking.interval),
        "runs": ", ".join(map(_g, cell.runs)) if cell.runs else "",
    }


def _checked(row: Row) -> list[tuple[str, str]]:
    """What was found out here, or follows from what the records hold."""
    options = ", ".join(f"{k} = {v}" for k, v in row.first.predictor.options.items())
    reruns = [f"{task}: {row.marks.get(task, NOT_RERUN)}" for task in row.records]
    reruns = ["nobody can: predicted elsewhere"] if row.kind == PREDICTIONS else reruns
    times = [(task, row.times[task]) for task in row.records if task in row.times]
    costs = [f"{task}, T = {cell.length}: {_g(cell.ratio)}" for task, time in times for cell in time.cells]
    return [
        ("options", options or "none"),
        ("rerun", "; ".join(reruns)),
        ("cost", ", ".join(costs) or "not timed"),
        ("predictions", ", ".join(f"records/{t}/{r.predictions.file}" for t, r in row.records.items())),
        (
            "sequences",
            f"all {row.n_sequences} test tokens"
            if row.first.gold is None
            else f"the first {row.n_sequences} public ones of each task",
        ),
    ]


def _said(row: Row) -> list[tuple[str, str]]:
    """What only the author of its records knows."""
    first = row.first
    host = first.host
    source = "predicted elsewhere" if first.predictor.kind == PREDICTIONS else "a file or folder"
    if first.predictor.distribution is not None:
        source = f"{first.predictor.distribution} {first.predictor.version}"
    commits = dict.fromkeys(
        "unknown" if h.commit is None else h.commit[:12] + (" with changes" if h.dirty else "")
        for h in (record.host for record in row.records.values())
    )
    devices = dict.fromkeys(record.host.device for record in row.records.values())
    seconds = [
        f"{t}, T = {length}: {_g(s)}" for t, r in row.records.items() for length, s in sorted(r.host.seconds.items())
    ]
    return [
        ("from", source),
        ("commit of mdbench", ", ".join(commits)),
        ("date", ", ".join(dict.fromkeys(record.host.date[:10] for record in row.records.values()))),
        ("device", f"{', '.join(devices)}; {host.platform}, {host.processors} processors"),
        ("libraries", ", ".join(f"{k} {v}" for k, v in {"python": host.python, **host.libraries}.items())),
        ("seconds for all sequences", ", ".join(seconds) or "none"),
    ]


def _missing(row: Row) -> list[tuple[str, str]]:
    """(reason, where) of the cells that it lacks."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for (task, length), reason in row.missing.items():
        by_reason.setdefault((task, reason), []).append(str(length))
    return [(reason, f"{task}, T = {', '.join(lengths)}") for (task, reason), lengths in by_reason.items()]


def _score(row: Row, standing: Standing | None, tasks: Sequence[str]) -> str:
    if standing is None:
        return "–"
    return "at gold" if all_at_gold(row, tasks) else _g(standing.score)


def _ranks(standing: Standing | None) -> str:
    if standing is None:
        return ""
    low, high = standing.ranks
    return str(low) if low == high else f"{low}–{high}"


def _g(value: float) -> str:
    return f"{value:.3g}"


def _sortable(value: float | None) -> str:
    return "1e99" if value is None else "1e98" if math.isinf(value) else f"{value:.{DIGITS}g}"


def _data(board: Board) -> dict[str, Any]:
    """What the script draws: a chart is a Vega-Lite specification whose data set `points` the script fills."""
    lowest, by = _lowest(board), board.ranked_by
    scores = [r.tables[SUITE].score for r in board.rows if SUITE in r.tables and not all_at_gold(r, board.suite.tasks)]
    floor = min(scores, default=1.0) / 4
    excess, kl, cost, infinite = [], [], [], []
    for row in board.rows:
        for (task, length), _, cell in row.cells():
            if task not in board.suite.tasks or length not in board.suite.lengths:
                continue
            point = {"predictor": row.label, "task": task, "T": length}
            value, of_score = cell.mean(by), cell.scores[by]
            if value is not None and math.isinf(value):
                infinite.append(row.label)
            elif value is not None:
                gold = at_gold(cell)
                interval = of_score.interval if of_score else None
                low, high = interval if interval and not gold else (None, None)
                drawn = lowest / 3 if gold else value
                shown = "at gold" if gold else _g(value)
                band = {"low": low if low is None else max(low, lowest), "high": high}
                excess.append(point | {"excess": drawn, "shown": shown} | band)
            of_truth = cell.mean("kl")
            if of_truth is not None and math.isfinite(of_truth) and of_truth > 1e-20:
                kl.append(point | {"kl": of_truth})
        standing = row.tables.get(SUITE)
        if standing and row.cost is not None and math.isfinite(standing.score):
            gold = all_at_gold(row, board.suite.tasks)
            score = _score(row, standing, board.suite.tasks)
            where = {"score": standing.score, "cost": row.cost, "shown": score, "gold": gold}
            cost.append({"predictor": row.label, "kind": row.kind} | where)
    for p in cost:
        p["score"] = floor if p.pop("gold") else p["score"]
    agreements = {f"{t}, T = {n}": _agreement(found) for (t, n), found in board.agreements.items()}
    data = {
        "charts": {
            "excess": _lines(board, "excess", f"{title(by)} (nats)", "shown:N", lowest if by == "excess_kl" else None),
            "cost": _cost(board, floor),
            "kl": _lines(board, "kl", "KL (nats)", "kl:Q", None),
        }
        | ({"agreement": _heat_map()} if agreements else {}),
        "agreements": agreements,
        "points": {"excess": excess, "cost": cost, "kl": kl},
        "infinite": infinite,
    }
    return _rounded(data)


def _agreement(found: Agreement) -> dict[str, Any]:
    """The rows in the order of their classes, and KL(row ‖ column)."""
    rows, matrix = found.by_classes()
    values = [[float(f"{kl:.3g}") if r != c else None for c, kl in enumerate(of)] for r, of in enumerate(matrix)]
    return json_ready({"rows": rows, "kl": values, "classes": found.classes, "threshold": found.threshold})


def _heat_map() -> dict[str, Any]:
    """Of one place; the script gives the points and their order."""
    axis = alt.Axis(labelLimit=160, labelFontSize=9, title=None)
    chart = alt.Chart(POINTS).mark_rect()
    scale = alt.Scale(type="log", scheme="cividis", domainMin=LOWEST, clamp=True)
    legend = alt.Legend(title="KL, nats", format=".0e", tickCount=5, orient="bottom", gradientLength=240)
    tip = ["row:N", "column:N", alt.Tooltip("kl:Q", title="KL(row ‖ column)", format=".3g")]
    return _spec(
        chart.encode(
            alt.X("column:N", axis=axis),
            alt.Y("row:N", axis=axis),
            alt.Color("kl:Q", scale=scale, legend=legend),
            tooltip=tip,
        )
    )


def _lowest(board: Board) -> float:
    """The power of ten below all that is drawn and not at gold."""
    drawn = [
        cell.excess_kl
        for row in board.rows
        for (task, _), _, cell in row.cells()
        if task in board.suite.tasks and cell.excess_kl and math.isfinite(cell.excess_kl) and not at_gold(cell)
    ]
    return float(10 ** math.floor(math.log10(min(drawn, default=1e-6))))


def _lines(board: Board, y: str, title: str, shown: str, strip: float | None) -> dict[str, Any]:
    """Against length, a panel a task; what is at gold is below ``strip``, if there is such a thing."""
    base = alt.Chart(POINTS)
    scale = alt.Scale(type="log") if strip is None else alt.Scale(type="log", domainMin=strip / 10)
    x = alt.X(
        "T:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=list(board.suite.lengths), format="d"),
        title="context length T",
    )
    value = alt.Y(
        f"{y}:Q", scale=scale, title=title, axis=alt.Axis(format="~g" if strip is None else ".0e", tickCount=6)
    )
    colour, shape = _by("predictor")
    tip = ["predictor:N", "task:N", "T:Q", alt.Tooltip(shown, title=title)]
    points = base.mark_point(size=60, filled=True, opacity=1).encode(x, value, colour, shape, tooltip=tip)
    layers: list[alt.Chart] = [base.mark_line(strokeWidth=2).encode(x, value, colour), points]
    if strip is not None:
        band = base.mark_area(opacity=0.2).encode(x, alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), colour)
        layers = [*_gold_strip(strip / 10, strip), band, *layers]
    chart = alt.layer(*layers).properties(height=280)
    return _spec(chart.facet(alt.Facet("task:N", title=None, sort=list(board.suite.tasks)), columns=3))


def _cost(board: Board, floor: float) -> dict[str, Any]:
    """Score against cost; what is at gold is drawn at ``floor``."""
    scale = alt.Scale(type="log", domainMin=floor / 2)
    base = alt.Chart(POINTS).encode(
        alt.X(
            "cost:Q",
            scale=alt.Scale(type="log", padding=20),
            title="cost (ratio to the reference computation)",
            axis=alt.Axis(format="~g", tickCount=6),
        ),
        alt.Y(
            "score:Q",
            scale=scale,
            title=f"score (ratio to {board.suite.unit})",
            axis=alt.Axis(format="~g", tickCount=6),
        ),
    )
    tip = ["predictor:N", "kind:N", alt.Tooltip("shown:N", title="score"), "cost:Q"]
    marks = base.mark_point(size=70, filled=True, opacity=1).encode(*_by("kind"), tooltip=tip)
    names = base.mark_text(align="left", dx=7, dy=-5, fontSize=10, limit=160).encode(alt.Text("predictor:N"))
    return _spec(alt.layer(*_gold_strip(floor / 2, floor * 2), marks, names).properties(height=420))


def _by(field_name: str) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape for each value, in one legend of points."""
    legend = alt.Legend(title=None, orient="bottom", symbolLimit=0, labelLimit=200, symbolOpacity=1)
    colour = alt.Color(f"{field_name}:N", scale=alt.Scale(range=list(COLOURS)), legend=legend)
    return colour, alt.Shape(f"{field_name}:N", scale=alt.Scale(range=list(SHAPES)), legend=legend)


def _gold_strip(low: float, high: float) -> list[alt.Chart]:
    """The part of a plot for what is below the gold's error."""
    once = alt.Chart(POINTS).transform_aggregate(n="count()")
    strip = once.mark_rect(color="#808080", opacity=0.12).encode(y=alt.datum(low), y2=alt.datum(high))
    label = once.mark_text(align="left", dx=4, dy=8, fontSize=10, text="at gold")
    return [strip, label.encode(x=alt.value(0), y=alt.datum(high))]


def _spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    spec = chart.to_dict()
    spec.pop("config", None)  # the page has its own, light and dark
    return spec


def _rounded(value: Any) -> Any:
    """``value`` with each number in it to ``DIGITS`` significant ones, at any depth."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
