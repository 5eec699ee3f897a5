"""Tables and progress for the terminal: results to stdout, progress to stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
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
    from mdbench.board.auditing import Audited
    from mdbench.board.board import Board
    from mdbench.claims.claim import Claim
    from mdbench.claims.reproduction import Reproduced
    from mdbench.core.statistics import MeanInterval
    from mdbench.evaluation.agreement import Agreement
    from mdbench.evaluation.comparison import Comparison
    from mdbench.evaluation.contract import Check
    from mdbench.evaluation.outcome import Evaluation
    from mdbench.evaluation.results import Result, Skipped
    from mdbench.mechanism.adaptation import Leak, StepAdaptation
    from mdbench.mechanism.identification import Fit, Identification
    from mdbench.mechanism.inspection import Inside, Inspection, StepSize, TransitionMatrix
    from mdbench.mechanism.patching import Intervention, Patched
    from mdbench.mechanism.phases import Phases
    from mdbench.posteriors.validation import Validation


def console() -> Console:
    """Stdout; wide enough for the tables where it is not a terminal."""
    return Console(emoji=False) if sys.stdout.isatty() else Console(width=120, emoji=False)


LONGEST_LINE = 1000  # characters of what somebody else wrote
ALWAYS_SHOWN = 5  # columns
LEAST_SHARE = 0.02  # of a mixture that a table shows
MOST_SCALARS = 6  # of one algorithm that a table shows
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
    rows: list[Result | Skipped] = [*results, *skipped]
    cells = sorted({(row.task, row.length) for row in rows})
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [r for r in results if r.task == task] or results
        first = of_task[0]
        gold = f", gold by {first.gold}" if first.gold != "exact" else ""
        title = f"{task}: {first.n_sequences} sequences a length, seed {first.seed}, scores in nats{gold}"
        if first.gold is None:
            title = f"{task}: {first.n_sequences} recorded tokens in {first.n_blocks} blocks, scores in nats, no gold"
        table = Table(title=escape(title))
        for heading in columns(of_task):
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


def print_boards(boards: Sequence[Board]) -> None:
    """One after the other."""
    for board in boards:
        print_board(board)


def print_board(board: Board) -> None:
    """The ranking, and what is not in it."""
    from mdbench.board.board import SUITE, all_at_gold
    from mdbench.board.ranking import PLANNED

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
    print_table(
        f"{board.suite.name}: {title(board.ranked_by)} as a ratio to {board.suite.unit}'s, geometric mean over cells",
        headings,
        rows,
    )
    if board.planned:
        heading = f"planned comparisons; equal: a ratio within {board.suite.margin[0]} .. {board.suite.margin[1]}"
        print_table(heading, PLANNED, [p.texts for p in board.planned])
    for note in board.notes:
        print_line(note)


def print_made_task(about: Mapping[str, Any]) -> None:
    """A task of a person's own sequences: what is in it, and what comes next."""
    lengths = ", ".join(map(str, about["lengths"]))
    print_line(
        f"{about['task']}: {about['observations']} observations in {about['sequences']} sequences, {about['training']} "
        f"of them for training, {about['test']} to predict (T = {lengths})."
    )
    print_line(f"Next: mdbench evaluate --predictor md1 --task {shlex.quote(about['task'])}")


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
    """One row a cell, in a table for each score."""
    for _, same in groupby(comparisons, key=lambda c: c.score):
        _print_compared([*same])


def _print_compared(comparisons: Sequence[Comparison]) -> None:
    from mdbench.evaluation.results import is_at_gold

    first = comparisons[0]
    what = "sequences a cell" if first.score == "excess_kl" else "recorded tokens in blocks"
    heading = f"{first.a} and {first.b}: {title(first.score)} in nats, {first.n_sequences} {what}, differences paired"
    headings = ("task", "T", first.a, first.b, "difference", "95% interval", "better")
    rows = [
        (
            c.task,
            c.length,
            "at gold" if is_at_gold(c.excess_kl_a, c.gold_error_a) else _g(c.mean_a),
            "at gold" if is_at_gold(c.excess_kl_b, c.gold_error_b) else _g(c.mean_b),
            _g(c.difference),
            interval_text(c.difference_ci),
            c.verdict,
        )
        for c in comparisons
    ]
    print_table(heading, headings, rows)
    for c in comparisons:
        if c.n_to_separate is not None:
            n = float(f"{c.n_to_separate:.2g}")
            of = "sequences" if c.score == "excess_kl" else "tokens"
            print_line(
                f"{c.task}, T = {c.length}: about {n:,.0f} {of} would separate them, if they differ as it seems."
            )


def print_inspection(seen: Inspection) -> None:
    """A column for each training seed: distances, then what the parts say."""
    title = f"{seen.predictor} at {seen.task}, T = {seen.length}: {seen.n_sequences} sequences, nats"
    headings = ("", *(run.row for run in seen.runs))
    rows: list[tuple[str, ...]] = []

    def add(what: str, of_run: Callable[[Inside], str]) -> None:
        rows.append((what, *map(of_run, seen.runs)))

    add(f"KL from it to {seen.construction}", lambda run: _with_interval(run.to_construction))
    for prior in seen.runs[0].elsewhere:
        add(f"the same at {prior}", lambda run, prior=prior: _with_interval(run.elsewhere[prior]))  # type: ignore[misc]
    add("KL from Bayes to it", lambda run: _with_interval(run.to_bayes))
    for k in range(len(seen.runs[0].layers)):
        add(
            f"attention in common, layer {k + 1}; at T",
            lambda run, k=k: f"{run.layers[k].overlap:.1%}; {run.layers[k].overlap_last:.1%}",  # type: ignore[misc]
        )
    if seen.runs[0].transition:
        add("W_A to log π over keys; slope", lambda run: _of_matrix(run.transition))
        add("W_A to the rows of π", lambda run: "" if run.transition is None else _g(run.transition.kl_rows))
        add("last layer: η; R²; on the last m", lambda run: _of_step(run.step_size))
    if any(run.adaptation for run in seen.runs):
        add("effective step; its log-log slope on η_i; correlation", lambda run: _adaptation(run.adaptation))
    if any(run.leak for run in seen.runs):
        add("layer 1 leaks, first .. last; with layer 2", lambda run: _leak(run.leak))
    for k, probe in enumerate(seen.runs[0].probes):
        add(
            f"probe after layer {probe.after_layer}: R² for Γ_t; mean Γ",
            lambda run, k=k: f"{run.probes[k].gamma:.4f}; {run.probes[k].mean_gamma:.4f}",  # type: ignore[misc]
        )
    print_table(title, headings, rows)
    print_line(f"KL from Bayes to {seen.construction}: {_with_interval(seen.construction_to_bayes)}.")
    for run in seen.runs:
        if run.step_size and not run.step_size.is_a_step:
            print_line(f"{run.row}: the last layer takes no step that is linear in mean Γ; its η means nothing.")
    _print_classes(seen.classes, [run.row for run in seen.runs])


def _print_classes(classes: Sequence[Sequence[str]], rows: Sequence[str]) -> None:
    """Which training seeds compute the same function."""
    from mdbench.evaluation.agreement import SAME

    if len(rows) > 1:
        alone = [row for row in rows if not any(row in members for members in classes)]
        groups = [" = ".join(members) for members in classes] + alone
        print_line(f"One function (within {SAME:g} nats): {'; '.join(groups)}.")


def _with_interval(m: MeanInterval) -> str:
    return f"{_g(m.mean)} ({interval_text(m.interval)})" if m.interval else _g(m.mean)


def _of_matrix(t: TransitionMatrix | None) -> str:
    return "" if t is None else f"{_g(t.kl_over_keys)}; {t.scale:.3f}"


def _of_step(s: StepSize | None) -> str:
    return "" if s is None else f"{s.eta:.4g} ± {s.eta_se:.2g}; {s.r_squared:.4f}; {s.on_lags:.1%}"


def _adaptation(a: StepAdaptation | None) -> str:
    """The effective step, and how it goes with η_i."""
    return (
        "no steps"
        if a is None
        else (f"{a.eta:.3g}; {a.slope:.2f} ({a.slope_ci[0]:.2f} .. {a.slope_ci[1]:.2f}); {a.correlation:.2f}")
    )


def _leak(found: Leak | None) -> str:
    """At the first and the last position, and the correlation over positions."""
    return "" if found is None else f"{found.leak[0]:.0%} .. {found.leak[-1]:.0%}; {found.correlation:.2f}"


def print_identification(identified: Identification, shown: int) -> None:
    """For each length and training seed the nearest algorithms, then the verdicts, and how step sizes move.

    What is not built in, since somebody asked for it, is shown wherever it ranks.
    """
    from mdbench.algorithms.known import BY_NAME

    for v in identified.verdicts:
        others = list(v.fits[0].elsewhere)
        headings = ("algorithm", "KL to it", "95% interval", "explained", "scalars", *(f"KL at {o}" for o in others))
        rows = [
            (
                ("> " if f.algorithm == v.nearest else "") + f.algorithm + (" =" if f.tied else ""),
                _g(f.kl),
                interval_text(f.kl_ci),
                _share(f) if f.explained is not None and f.explained > 0 else "",
                _few(f.scalars),
                *(_g(f.elsewhere[other]) for other in others),
            )
            for k, f in enumerate(v.fits)
            if k < shown or f.algorithm == v.nearest or f.algorithm not in BY_NAME
        ]
        where = f"{v.row} at {identified.task}, T = {v.length}"
        title = f"{where}: {identified.n_sequences} sequences, nats; > chosen, = tied with the least KL"
        print_table(title, headings, rows)
        if v.adaptation:
            print_line(f"effective step; its log-log slope on η_i; correlation: {_adaptation(v.adaptation)}.")
        if v.leak:
            print_line(f"layer 1 leaks, first .. last position; correlation with layer 2: {_leak(v.leak)}.")
    for v in identified.verdicts:
        if v.verdict is not None:
            print_line(f"T = {v.length}: {v.row} runs {v.verdict}.")
        else:
            nearest = v[v.nearest]
            how = (
                ""
                if nearest.explained is None
                else f", which explains {_share(nearest)} of its distance from {v.rival}"
            )
            print_line(f"T = {v.length}: {v.row} runs none of these; the nearest is {v.nearest}{how}.")
    for length, classes in identified.classes.items():
        _print_classes(classes, [v.row for v in identified.verdicts if v.length == length])
    for algorithm, (slope, low, high) in identified.exponents.items():
        print_line(f"{algorithm}: η ~ T^{slope:.3f} ({low:.3f} .. {high:.3f}).")


def print_phases(found: Phases) -> None:
    """A row for each snapshot."""
    rows = [
        (
            str(phase.step),
            _g(phase.excess_kl),
            ", ".join(f"{name} {share:.0%}" for name, share in phase.mixture.items() if share >= LEAST_SHARE),
            _g(phase.mixture_kl),
            phase.nearest,
            _g(phase.nearest_kl),
            "" if phase.adaptation is None else f"{phase.adaptation:.2f}",
            "" if phase.kl_over_keys is None else f"{phase.kl_over_keys:.3g}; {phase.scale:.2f}",
        )
        for phase in found.snapshots
    ]
    headings = (
        "step",
        "excess KL",
        "nearest mixture",
        "KL to it",
        "nearest",
        "KL to it",
        "slope of step",
        "W_A; slope",
    )
    print_table(f"{found.run}: {found.task}, T = {found.length}, {found.n_sequences} sequences, nats", headings, rows)


def _share(fit: Fit) -> str:
    assert fit.explained is not None
    interval = f" ({fit.explained_ci[0]:.0%} .. {fit.explained_ci[1]:.0%})" if fit.explained_ci else ""
    return f"{fit.explained:.1%}{interval}"


def _few(scalars: Mapping[str, float]) -> str:
    """Not all of many."""
    first = [f"{name}={value:.4g}" for name, value in [*scalars.items()][:MOST_SCALARS]]
    return " ".join(first) + (f" .. ({len(scalars)})" if len(scalars) > MOST_SCALARS else "")


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
    for c in validation.only_calibrated:
        cells = ["is gold", "", "", "", f"{min(c.p):.3g}", f"{c.seconds:.3g}", ""]
        rows.append((c.task, c.method, "", *cells, verdicts[c.method, c.task].verdict))
    print_table("posterior methods against gold; SBC p: smallest of its quantities", headings, rows)
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


def print_claims(claims: Mapping[str, Claim]) -> None:
    """What is claimed, by whom, and by which rule it is decided."""
    from mdbench.claims.reproduction import rule_of

    for name, claim in claims.items():
        print_line(f"{name}: {claim.statement}")
        print_line(f"    Source: {claim.source}.")
        print_line(f"    Rule: {rule_of(claim)}.")


def print_reproduced(found: Sequence[Reproduced]) -> None:
    """Verdicts with their numbers, and a line each on what was found."""
    rows = [
        (
            r.name,
            str(r.finding.verdict),
            f"{r.finding.estimate:.3g}",
            _interval_or_none(r.finding.interval),
            r.finding.unit,
        )
        for r in found
    ]
    print_table("Claims", ("claim", "verdict", "number", "95% interval", "of what"), rows)
    for r in found:
        print_line(f"{r.name}: {r.claim.statement} {str(r.finding.verdict).capitalize()}. {r.finding.says}")


def _interval_or_none(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else interval_text(interval)


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


def print_fit(found: dict[str, Any]) -> None:
    """Models side by side, then weights and matrix of the MTD with the smallest BIC."""
    data, fits = found["data"], found["fits"]
    best = min(fits, key=_bic)
    title = f"{data['predicted']} observations, the first {data['start']} of each sequence given; LL in nats"
    rows = [
        (
            fitted["model"],
            fitted["order"],
            f"{fitted['log_likelihood']:.4f}",
            fitted["n_parameters"],
            f"{fitted['bic']:.1f}{' *' if fitted is best else ''}",
            "" if fitted["weights"] is None else _with_intervals(fitted["weights"], fitted["weights_ci"]),
        )
        for fitted in fits
    ]
    print_table(title, ("model", "order", "LL", "parameters", "BIC", "λ (95%)"), rows)
    mixtures = [fitted for fitted in fits if fitted["model"] == "mtd"]
    if mixtures:
        mtd = min(mixtures, key=_bic)
        states = [shown(state)[1:-1] for state in mtd["states"]]
        rows_of_pi = [
            (state, *(_interval(p, ci) for p, ci in zip(row, of_row, strict=True)))
            for state, row, of_row in zip(states, mtd["transition"], mtd["transition_ci"], strict=True)
        ]
        print_table(f"π of the MTD of order {mtd['order']} (95%)", ("after", *states), rows_of_pi)
        for note in mtd["notes"]:
            print_line(f"MTD of order {mtd['order']}: {note}.")
    for reason in found["left_out"]:
        print_line(f"Left out: {reason}")
    print_line("* the smallest BIC. Intervals by the profile likelihood; 0 and 1 are bounds, where one is one-sided.")
    if "bayes" in found:
        _print_bayes(found["bayes"])


def _print_bayes(bayes: dict[str, Any]) -> None:
    """The posterior of an MTD: weights, which lags matter, what it misses."""
    matter = bayes["lags_matter"] or ["unknown"] * bayes["order"]
    rows = [
        (lag, _interval(mean, ci), p if isinstance(p, str) else f"{p:.3f}")
        for lag, mean, ci, p in zip(
            range(1, bayes["order"] + 1), bayes["weights_mean"], bayes["weights_interval"], matter, strict=True
        )
    ]
    print_table(f"posterior of order {bayes['order']}", ("lag", "E[λ] (95%)", "P(the lag matters)"), rows)
    checks = [
        (
            c["statistic"],
            f"{c['data']:.4g}",
            f"{c['low']:.4g} .. {c['high']:.4g}",
            f"{c['p']:.3f}",
            "yes" * c["extreme"],
        )
        for c in bayes["predictive_checks"]
    ]
    print_table("series drawn from it", ("statistic", "data", "95% of series", "p", "extreme"), checks)
    loo = bayes["loo"]
    influential = f"; {loo['influential']} terms cannot be trusted (Pareto k)" if loo["influential"] else ""
    print_line(
        f"Leave-one-out: {loo['elpd']:.1f} nats, standard error {loo['se']:.1f}, {loo['p_loo']:.1f} parameters in "
        f"effect{influential}. Gates: {_gates(bayes)}."
    )


def _bic(fitted: dict[str, Any]) -> float:
    """Without rounding, so that of equal ones the first is the smallest."""
    return round(fitted["bic"], 6)


def _with_intervals(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> str:
    return ", ".join(_interval(value, interval) for value, interval in zip(values, intervals, strict=True))


def _interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.4f} ({interval[0]:.3g} .. {interval[1]:.3g})"


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
    told = task.described()
    for number, value in task.numbers.items():
        if isinstance(value, np.ndarray) and number in told:
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
