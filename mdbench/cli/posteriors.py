"""Posterior methods: posterior of your own sequences, and baseline validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdbench.cli.app import (
    Json,
    NoCache,
    OnCluster,
    Seed,
    Tasks,
    app,
    baseline_app,
    emit,
    fail,
    say,
    this_command,
)


@app.command()
def posterior(
    order: Annotated[int, typer.Option(help="m, the number of lags.")],
    sequences: Annotated[
        Path,
        typer.Option(help="File of sequences: one a line, one long column, a panel (id, state), letters, FASTA; or -."),
    ],
    transition: Annotated[
        Path | None, typer.Option(help="File of π: q rows of q numbers, with labels or without; - is standard input.")
    ] = None,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="In place of --transition: π fitted to all sequences; its error is not counted."),
    ] = False,
    concentration: Annotated[float, typer.Option(help="α of the Dirichlet prior on the weights.")] = 1.0,
    method: Annotated[
        str, typer.Option(help="A baseline (`mdbench list`), as name or name:option=value,option=value.")
    ] = "exact",
    states: Annotated[
        str | None, typer.Option("--states", help="Labels of the matrix's rows, separated by commas: A,C,G,T.")
    ] = None,
    first_state: Annotated[
        int | None, typer.Option("--first-state", help="0 or 1: what states that are numbers begin with; else found.")
    ] = None,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Divide each row of π by its sum: counts and rounded rows will do.")
    ] = False,
    pooled: Annotated[bool, typer.Option("--pooled", help="One λ for all sequences.")] = False,
    prefixes: Annotated[bool, typer.Option("--prefixes", help="Also the posterior mean after every prefix.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the draws as ArviZ data (.nc).")] = None,
    as_json: Json = False,
) -> None:
    """Posterior of the mixture weights for your own sequences; exit code 1 if one fails its gates."""
    from mdbench.core.errors import InputError
    from mdbench.core.verdict import Verdict
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.posteriors import own, reading
    from mdbench.tasks.task import check_order

    check_order(order)
    labels = None if states is None else [label.strip() for label in states.split(",")]
    if transition is not None and not fit:
        pi = reading.read_transition(transition, normalise)
        given = reading.read_sequences(sequences, order, pi, states=labels, first_state=first_state)
    elif fit and transition is None:
        from mdbench.series import fitted

        given = fitted.read(sequences, order, labels)
        pi = fitted.fitted_matrix(given, order)
    else:
        raise InputError("give one of --transition (a file of π) and --fit (π fitted to the sequences).")
    if pi.notes or given.notes:
        say("; ".join([*pi.notes, *given.notes]) + ".")
    with progress_bars() as progress:
        report = own.posterior(
            pi,
            order,
            given,
            concentration=concentration,
            method=method,
            pooled=pooled,
            prefixes=prefixes,
            out=out,
            progress=progress("posterior", 1 if pooled else len(given.sequences)),
        )
    emit(as_json, lambda: report, lambda: terminal.print_posterior(report))
    posteriors = [report["pooled"]] if pooled else report["sequences"]
    failing = [p for p in posteriors if any(c["verdict"] == Verdict.FAIL for c in p["checks_made"])]
    if failing:
        fail(f"{len(failing)} of {len(posteriors)} sequences fail a gate, also when run again longer.", 1)


@baseline_app.command()
def validate(
    task: Tasks = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Baseline; repeat for several, all if none.")
    ] = None,
    length: Annotated[int, typer.Option(help="T of the runs against the exact posterior.")] = 64,
    n_sequences: Annotated[int, typer.Option(help="Sequences of these.")] = 256,
    calibration_length: Annotated[int, typer.Option(help="T of the simulation-based calibration.")] = 32,
    n_simulations: Annotated[int, typer.Option(help="Simulations of it.")] = 1000,
    seed: Seed = 0,
    cluster: OnCluster = None,
    no_cache: NoCache = False,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report: validation.html and validation.json.")
    ] = None,
) -> None:
    """Every posterior method against the exact one, and simulation-based calibration; exit code 1 if one fails."""
    from mdbench.core.files import check_writable, make_folder, write_text
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.posteriors import validation

    targets = {} if out is None else {kind: out / f"validation.{kind}" for kind in ("html", "json")}
    if out is not None:
        make_folder(out)
    for path in targets.values():
        check_writable(path)
    with progress_bars() as progress:
        validated = validation.validate(
            tasks=task,
            methods=method,
            length=length,
            n_sequences=n_sequences,
            calibration_length=calibration_length,
            n_simulations=n_simulations,
            seed=seed,
            cache=not no_cache,
            cluster=cluster,
            progress=progress,
        )
    if targets:
        from mdbench.pages.validation import render

        write_text(targets["json"], validated.to_json() + "\n")
        write_text(targets["html"], render(validated, this_command()))
    emit(as_json, validated.to_dict, lambda: terminal.print_validation(validated))
    if validated.failures:
        names = ", ".join(f"{v.method} on {v.task}" for v in validated.failures)
        fail(f"these methods did not pass: {names}.", 1)
