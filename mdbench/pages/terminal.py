"""Tables and progress for the terminal: results to stdout, progress to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from mdbench.board.names import visible
from mdbench.core.errors import shown
from mdbench.core.verdict import Verdict
from mdbench.core.wording import interval_text, p_text, title
from mdbench.evaluation.glossary import TASK
from mdbench.pages.bars import Bars
from mdbench.tasks import load_task

if TYPE_CHECKING:
    from mdbench.algorithms.tuning import Tuned
    from mdbench.board.agreement import Agreement
    from mdbench.board.auditing import Audited
    from mdbench.board.board import Board
    from mdbench.evaluation.comparison import Comparison
    from mdbench.evaluation.contract import Check
    from mdbench.evaluation.evaluation import Evaluation, Skipped
    from mdbench.evaluation.results import Result
    from mdbench.mechanism.identification import Identification
    from mdbench.mechanism.inspection import Inspection
    from mdbench.mechanism.patching import Intervention, Patched
    from mdbench.posteriors.validation import Validation


def console() -> Console:
    """Stdout; wide enough for the tables where it is not a terminal."""
    return Console(emoji=False) if sys.stdout.isatty() else Console(width=120, emoji=False)


LONGEST_LINE = 1000  # characters of what somebody else wrote
ALWAYS_SHOWN = 5  # columns
FEW_ROWS = 8  # whose distances from each other fit into a table


def print_whole(table: Table) -> None:
    """Print a table at its full width: a number cut short is worse than a line that wraps."""
    out = console()
    out.width = max(out.width, _full_width(table))
    out.print(table, soft_wrap=True)


def _full_width(table: Table) -> int:
    out = console()
    return Measurement.get(out, out.options.update(max_width=10_000), table).maximum


def print_results(results: Sequence[Result], skipped: Sequence[Skipped] = (), highlighted: Sequence[str] = ()) -> None:
    """One table a task: for each length the predictors in the order given."""
    from mdbench.evaluation.results import columns

    out = console()
    n_sequences, seed = results[0].n_sequences, results[0].seed
    rows: list[Result | Skipped] = [*results, *skipped]
    cells = sorted({(row.task, row.length) for row in rows})
    for task in dict.fromkeys(row.task for row in rows):
        gold = f", gold by {results[0].gold}" if results[0].gold != "exact" else ""
        title = f"{task}: {n_sequences} sequences a length, seed {seed}, scores in nats{gold}"
        table = Table(title=escape(title))
        for heading in columns(results):
            table.add_column(heading, justify="left" if heading == "predictor" else "right", no_wrap=True)
        for cell in (cell for cell in cells if cell[0] == task):
            for r in (r for r in results if (r.task, r.length) == cell):
                table.add_row(*map(escape, r.row), style="bold" if r.predictor in highlighted else "")
            for s in (s for s in skipped if (s.task, s.length) == cell):
                table.add_row(str(s.length), escape(s.predictor), escape(s.label), style="dim")
            table.add_section()
        while len(table.columns) > ALWAYS_SHOWN and _full_width(table) > out.width:
            table.columns.pop()  # a narrow terminal does without the last columns
        print_whole(table)


def print_evaluation(evaluation: Evaluation, highlighted: Sequence[str], bars: Bars) -> None:
    """One table a task: for each length the predictors by excess KL."""
    with bars.hidden():
        if evaluation.results:
            print_results(evaluation.results, [*evaluation.skipped, *evaluation.failed], highlighted)
        sys.stdout.flush()


def print_notes(evaluation: Evaluation) -> None:
    """What is missing and why, ties, scores by training seed."""
    for note in evaluation.notes:
        print_line(note)


def print_board(board: Board) -> None:
    """The ranking, and what is not in it."""
    from mdbench.board.board import SUITE, all_at_gold
    from mdbench.board.ranking import PLANNED, UNIT

    headings = ("#", "predictor", "kind", "score", "95% interval", "ranks", "ties")
    rows = []
    for row in board.rows:
        s = row.tables.get(SUITE)
        if s is None:
            rows.append(("", row.label, row.kind, "not ranked", "", "", ""))
            continue
        score, interval = f"{s.score:.3g}", interval_text(s.interval)
        if all_at_gold(row, board.suite.tasks):
            score, interval = "at gold", ""
        rows.append(
            (str(s.position), row.label, row.kind, score, interval, f"{s.ranks[0]}-{s.ranks[1]}", " ".join(s.groups))
        )
    print_table(f"{board.suite.name}: excess KL as a ratio to {UNIT}'s, geometric mean over cells", headings, rows)
    if board.planned:
        title = f"planned comparisons; equal: a ratio within {board.suite.margin[0]} .. {board.suite.margin[1]}"
        print_table(title, PLANNED, [p.texts for p in board.planned])
    for note in board.notes:
        print_line(note)


def print_checks(predictor: str, checks: Sequence[Check]) -> None:
    """One row a check; below, what was found where one fails."""
    rows = [(c.name, c.verdict, c.expected if c.verdict != Verdict.PASS or not c.found else c.found) for c in checks]
    print_table(f"{predictor}: the predictor contract", ("check", "verdict", "expected, or found"), rows)
    for c in checks:
        if c.verdict == Verdict.FAIL:
            print_line(f"{c.name}: {c.found}")
        elif c.verdict == Verdict.NOT_APPLICABLE:
            print_line(f"{c.name}: not applicable, {c.found}.")


def print_audited(audited: Sequence[Audited]) -> None:
    """A line a record, and one a fault."""
    for each in audited:
        print_line(f"{visible(each.record, LONGEST_LINE)}: {each.verdict}")
        for fault in each.faults:
            print_line(f"  {visible(fault, LONGEST_LINE)}")
        if each.faults:
            continue
        if each.marked is not None:
            print_line(f"  marked before: {each.marked}")
        for test in each.rerun or []:
            p = "" if test.p is None else f", p: {p_text(test.p)}"
            both = f"{_g(test.published)} published, {_g(test.fresh)} fresh"
            print_line(f"  T = {test.length}: {title(test.score)} {both}{p}")


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """One row a cell."""
    from mdbench.evaluation.results import is_at_gold

    first = comparisons[0]
    title = f"{first.a} and {first.b}: excess KL in nats, {first.n_sequences} sequences a cell, differences paired"
    headings = ("task", "T", first.a, first.b, "difference", "95% interval", "better")
    rows = [
        (
            c.task,
            c.length,
            "at gold" if is_at_gold(c.excess_kl_a, c.gold_error_a) else _g(c.excess_kl_a),
            "at gold" if is_at_gold(c.excess_kl_b, c.gold_error_b) else _g(c.excess_kl_b),
            _g(c.difference),
            interval_text(c.difference_ci),
            c.verdict,
        )
        for c in comparisons
    ]
    print_table(title, headings, rows)
    for c in comparisons:
        if c.n_to_separate is not None:
            n = float(f"{c.n_to_separate:.2g}")
            print_line(
                f"{c.task}, T = {c.length}: about {n:,.0f} sequences would separate them, if they differ as it seems."
            )


def print_inspection(seen: Inspection) -> None:
    """Distances, then what the parts say."""
    title = f"{seen.predictor} at {seen.task}, T = {seen.length}: {seen.n_sequences} sequences, nats"
    rows = [
        (what, _g(m.mean), interval_text(m.interval))
        for what, m in (
            (f"KL from it to {seen.construction}", seen.to_construction),
            ("KL from Bayes to it", seen.to_bayes),
            (f"KL from Bayes to {seen.construction}", seen.construction_to_bayes),
            *((f"KL from it to {seen.construction} at {prior}", m) for prior, m in seen.elsewhere.items()),
        )
    ]
    print_table(title, ("", "mean", "95% interval"), rows)
    for k, layer in enumerate(seen.layers, 1):
        print_line(
            f"Layer {k} shares {layer.overlap:.1%} of its attention with {seen.construction}'s, "
            f"{layer.overlap_last:.1%} at the last position."
        )
    if seen.transition:
        t = seen.transition
        print_line(
            f"W_A against log π: mean KL over rows {_g(t.kl_over_keys)} (softmax over keys), slope {t.scale:.3f}; "
            f"{_g(t.kl_rows)} to the rows of π."
        )
    if seen.step_size:
        s = seen.step_size
        if not s.is_a_step:
            print_line("The last layer takes no step that is linear in mean Γ; the η below means nothing.")
        print_line(
            f"Last layer: η = {s.eta:.4g} ± {s.eta_se:.2g}, R² = {s.r_squared:.4f}; {s.on_lags:.1%} of its attention "
            "falls on the last m positions."
        )
    if seen.probes:
        headings = ("after layer", "R² for Γ_t", "R² for mean Γ")
        print_table(
            "linear probes, held out",
            headings,
            [(p.after_layer, f"{p.gamma:.4f}", f"{p.mean_gamma:.4f}") for p in seen.probes],
        )


def print_identification(identified: Identification, shown: int) -> None:
    """For each length the nearest algorithms, then the verdict; then how step sizes move with the length."""
    for v in identified.verdicts:
        others = list(v.fits[0].elsewhere)
        headings = ("algorithm", "KL to it", "95% interval", "explained", "scalars", *(f"KL at {o}" for o in others))
        rows = [
            (
                f.algorithm + (" =" if f.tied else ""),
                _g(f.kl),
                interval_text(f.kl_ci),
                "" if f.explained is None or f.explained < 0 else f"{f.explained:.1%}",
                " ".join(f"{name}={value:.4g}" for name, value in f.scalars.items()),
                *(_g(f.elsewhere[other]) for other in others),
            )
            for f in v.fits[:shown]
        ]
        where = f"{identified.predictor} at {identified.task}, T = {v.length}"
        title = f"{where}: {identified.n_sequences} sequences, nats; = tied"
        print_table(title, headings, rows)
        if v.verdict is not None:
            print_line(f"T = {v.length}: {identified.predictor} runs {v.verdict}.")
        else:
            share = v[v.nearest].explained
            how = "" if share is None else f", which explains {share:.0%} of its distance from {v.rival}"
            print_line(f"T = {v.length}: none of these; the nearest is {v.nearest}{how}.")
    for algorithm, (slope, low, high) in identified.exponents.items():
        print_line(f"{algorithm}: η ~ T^{slope:.3f} ({low:.3f} .. {high:.3f}).")


def print_validation(validation: Validation) -> None:
    """One row a method and task, then the reasons of what did not pass."""
    verdicts = {(v.method, v.task): v for v in validation.verdicts}
    smallest = {(c.method, c.task): min(c.p) for c in validation.calibrations}
    headings = (
        "task",
        "method",
        "N",
        "largest error",
        "RMS error",
        "z: rms",
        "max |z|",
        "SBC p",
        "s",
        "ESS/s",
        "verdict",
    )
    rows = []
    for a in validation.accuracies:
        key = (a.method, a.task)
        numbers = (a.largest_error, a.rms_error, a.z_sd, a.z_largest, smallest.get(key), a.seconds, a.ess_per_second)
        cells = ["" if value is None else f"{value:.3g}" for value in numbers]
        rows.append((a.task, a.method, a.n_sequences, *cells, verdicts[key].verdict))
    print_table("posterior methods against the exact posterior; SBC p: smallest of its quantities", headings, rows)
    for v in validation.verdicts:
        if v.reasons:
            print_line(f"{v.method} on {v.task}: {v.verdict}; {'; '.join(v.reasons)}.")


def _g(value: float) -> str:
    return f"{value:.4g}"


MOST_TUNED = 20  # numbers of one predictor that a table shows


def print_tuned(tuned: Sequence[Tuned]) -> None:
    """Step sizes, and scalars of constructed transformers."""
    rows = []
    for t in tuned:
        values = [t.value] if isinstance(t.value, float) else t.value
        more = f" .. ({len(values)} numbers)" if len(values) > MOST_TUNED else ""
        rows.append((t.task, t.length, t.predictor, " ".join(f"{a:.6g}" for a in values[:MOST_TUNED]) + more))
    print_table("tuned on calibration sequences", ("task", "T", "predictor", "tuned"), rows)


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A plain table."""
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    print_whole(table)


def print_agreement(found: Agreement) -> None:
    """The nearest row of each, the classes, and of few rows all distances."""
    title = f"{found.task}, T = {found.length}: mean KL(row ‖ column) in nats, {found.n_sequences} {found.source}"
    if len(found.rows) <= FEW_ROWS:
        values = found.matrix
        numbered = [f"{k}" for k in range(1, len(found.rows) + 1)]
        rows = [
            (n, name, *("" if r == c else f"{values[r, c]:.2g}" for c in range(len(found.rows))))
            for r, (n, name) in enumerate(zip(numbered, found.rows, strict=True))
        ]
        print_table(title, ("#", "row", *numbered), rows)
    pairs = [found[row, found.nearest[row]] for row in found.rows]
    nearest = [(p.row, p.column, f"{p.kl:.3g}", interval_text(p.kl_ci)) for p in pairs]
    print_table(f"{title}: the nearest", ("row", "nearest", "KL", "95% interval"), nearest)
    for k, members in enumerate(found.classes, start=1):
        print_line(f"Class {k} (within {found.threshold:g} nats of a member): {', '.join(members)}.")
    if not found.classes:
        print_line(f"No two rows are within {found.threshold:g} nats of each other.")


def print_patched(found: Patched) -> None:
    """A row an intervention; its excess KL for each training seed, as it is and with the readout fitted anew."""
    n_seeds = 1 + max(i.seed for i in found.interventions)
    seeds = [f"seed {k}" for k in range(n_seeds)] if n_seeds > 1 else ["excess KL"]
    title = f"{found.interventions[0].predictor} at {found.task}, T = {found.length}: mean excess KL in nats"
    rows = [
        (layer or "", part, replaced_by, *(_of_seed(of, k) for of in (plain, refit) for k in range(n_seeds)))
        for (layer, part, replaced_by), plain, refit in found.table()
    ]
    headings = ("layer", "part", "replaced by", *seeds, *(f"{s}, refit" for s in seeds))
    print_table(f"{title}, {found.n_sequences} sequences", headings, rows)


def _of_seed(interventions: Sequence[Intervention], seed: int) -> str:
    return next((f"{i.excess_kl:.2e}" for i in interventions if i.seed == seed), "")


def print_posterior(report: dict[str, Any]) -> None:
    """One row a sequence; with prefixes, one row a prefix."""
    title = f"posterior by {report['method']}: order {report['order']}, concentration {report['concentration']:g}"
    sequences = report["sequences"]
    names = [shown(s["name"])[1:-1] if s["name"] else str(k) for k, s in enumerate(sequences, start=1)]
    if "prefixes" in sequences[0]:
        by_prefix = [
            (name, length, _list(mean))
            for name, s in zip(names, sequences, strict=True)
            for length, mean in zip(s["prefixes"]["length"], s["prefixes"]["posterior_mean"], strict=True)
        ]
        print_table(title, ("sequence", "prefix", "E[λ]"), by_prefix)
        return
    pooled = report.get("pooled")
    if pooled is None:
        rows = [_posterior_row(name, s, s) for name, s in zip(names, sequences, strict=True)]
    else:
        length = sum(s["length"] for s in sequences)
        rows = [_posterior_row("all", {"length": length}, pooled)]
    headings = ("sequence", "length", "log evidence", "E[λ]", "sd", "next token", "error of E[λ]", "gates")
    judged = [pooled] if pooled is not None else sequences
    columns = len(headings) if any(s["checks_made"] for s in judged) else len(headings) - 1
    print_table(title, headings[:columns], [row[:columns] for row in rows])
    if pooled is not None:
        of_each = [(name, s["length"], _list(s["next_token"])) for name, s in zip(names, sequences, strict=True)]
        print_table("next token of each, at the pooled E[λ]", ("sequence", "length", "next token"), of_each)
    if report["labels"]:
        print_line(f"States: {', '.join(shown(label)[1:-1] for label in report['labels'])}.")


def _posterior_row(name: str, about: dict[str, Any], report: dict[str, Any]) -> tuple[Any, ...]:
    evidence = report["log_evidence"]
    return (
        name,
        about["length"],
        "unknown" if evidence is None else f"{evidence:.6f}",
        *(_list(report.get(key)) for key in ("posterior_mean", "posterior_sd", "next_token")),
        _error(report),
        _gates(report),
    )


def _gates(sequence: dict[str, Any]) -> str:
    """``pass``, or the gates that fail with what was found."""
    failing = [check for check in sequence["checks_made"] if check["verdict"] == Verdict.FAIL]
    values = ("undefined" if check["value"] is None else f"{check['value']:.3g}" for check in failing)
    return ", ".join(f"{c['name']} {value}" for c, value in zip(failing, values, strict=True)) or Verdict.PASS


def _error(sequence: dict[str, Any]) -> str:
    """The bound of an exact method, the largest standard error of a sampling one."""
    if sequence["error_estimate"] is not None:
        return f"{sequence['error_estimate']:.0e}"
    if sequence["standard_error"] is not None:
        return f"± {max(sequence['standard_error']):.1e}"
    return "unknown"


def print_line(text: str) -> None:
    """A sentence under a table."""
    console().print(escape(text), highlight=False, soft_wrap=True)


def _list(values: Sequence[float] | None) -> str:
    return "" if values is None else " ".join(f"{value:.4f}" for value in values)


def print_task(name: str) -> None:
    """What defines a task."""
    task = load_task(name)
    out = console()
    out.print(f"task {escape(task.name)}: {escape(task.summary)}")
    out.print(f"lengths {', '.join(map(str, task.lengths))}; version {task.version}; hash {task.task_hash}")
    for number, value in task.numbers.items():
        if isinstance(value, np.ndarray):
            _print_array(number if value.ndim != 2 else f"{number} (row: the token before)", value)


def _print_array(title: str, array: np.ndarray) -> None:
    """A table for each matrix in it: of a stack numbered, since only of the first of lags rows are the token before."""
    if array.ndim > 2:
        for k, part in enumerate(array, start=1):
            _print_array(f"{title} {k}", part)
        return
    rows = [(a, *(f"{p:.4f}" for p in row)) for a, row in enumerate(np.atleast_2d(array))]
    print_table(title, ("", *map(str, range(array.shape[-1]))), rows)


def print_described(name: str, details: dict[str, Any]) -> None:
    """What a name means, as :func:`mdbench.evaluation.glossary.described` has it."""
    if details["kind"] == TASK:
        print_task(name)
        return
    for key, value in details.items():
        if value:
            print(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
