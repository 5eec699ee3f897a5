"""What a predictor computes: agree, inspect, patch and identify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdbench.cli.app import (
    LEADERBOARD,
    Device,
    Json,
    Leaderboard,
    NoCache,
    OneTask,
    Predictor,
    Seed,
    app,
    cache_of,
    emit,
    this_command,
    whole_numbers,
)


@app.command()
def agree(
    predictors: Annotated[
        list[str] | None,
        typer.Argument(help="Predictors, or NAME:seed=K for one training seed; all of the board if none."),
    ] = None,
    task: OneTask = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    n_sequences: Annotated[
        int | None, typer.Option(help="Run the predictors on so many fresh sequences; else their records are read.")
    ] = None,
    seed: Seed = 0,
    threshold: Annotated[
        float | None, typer.Option(help="Rows nearer than that (nats) are of one class; 5e-5 if not given.")
    ] = None,
    leaderboard: Leaderboard = LEADERBOARD,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, agreement.html.")] = None,
    device: Device = "cpu",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """How far predictors and their training seeds are from each other: which compute the same function."""
    from mdbench.board import agreement
    from mdbench.core.files import check_writable, make_folder, write_text
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = None if out is None else make_folder(out) / "agreement.html"
    if page is not None:
        check_writable(page)
    with progress_bars() as progress:
        found = agreement.agree(
            predictors or (),
            task=task,
            length=length,
            leaderboard=leaderboard,
            n_sequences=n_sequences,
            seed=seed,
            threshold=agreement.SAME if threshold is None else threshold,
            device=device,
            cache=cache_of(no_cache),
            progress=progress,
        )
    if page is not None:
        from mdbench.pages.agreement import render

        write_text(page, render(found, this_command()))
    emit(as_json, found.to_dict, lambda: terminal.print_agreement(found))
    if page is not None and not as_json:
        terminal.print_line(f"The page is '{page}'.")


@app.command()
def inspect(
    predictor: Annotated[str, typer.Argument(help="A transformer: trained_*, standard_*, constructed_*, run:FOLDER.")],
    task: OneTask = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, inspection.html.")] = None,
    n_sequences: Annotated[int, typer.Option(help="Sequences to average over.")] = 512,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Look inside a transformer: its parts beside those of the construction."""
    from mdbench.core.files import check_writable, make_folder, write_text
    from mdbench.mechanism import inspection
    from mdbench.pages import terminal

    page = None if out is None else make_folder(out) / "inspection.html"
    if page is not None:
        check_writable(page)
    seen = inspection.inspect(predictor, task=task, length=length, n_sequences=n_sequences, seed=seed, device=device)
    if page is not None:
        from mdbench.pages.inspection import render

        write_text(page, render(seen, this_command()))
    emit(as_json, seen.to_dict, lambda: terminal.print_inspection(seen))
    if page is not None and not as_json:
        terminal.print_line(f"The page is '{page}'.")


@app.command()
def patch(
    predictor: Annotated[
        str, typer.Argument(help="A transformer: trained_*, standard_*, constructed_*, run:, file.py:.")
    ],
    task: OneTask = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, patches.html.")] = None,
    n_sequences: Annotated[int, typer.Option(help="Sequences that judge; means and readouts are of others.")] = 1024,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Replace each part of a transformer while it predicts, and measure what becomes of its predictions."""
    from mdbench.core.files import check_writable, make_folder, write_text
    from mdbench.mechanism import patching
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = None if out is None else make_folder(out) / "patches.html"
    if page is not None:
        check_writable(page)
    with progress_bars() as progress:
        found = patching.patch(
            predictor,
            task=task,
            length=length,
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            progress=progress,
        )
    if page is not None:
        from mdbench.pages.patches import render

        write_text(page, render(found, this_command()))
    emit(as_json, found.to_dict, lambda: terminal.print_patched(found))
    if page is not None and not as_json:
        terminal.print_line(f"The page is '{page}'.")


@app.command()
def identify(
    predictor: Predictor,
    task: OneTask = "mtd-q5-m3",
    lengths: Annotated[
        str, typer.Option("--lengths", help="Context lengths, separated by commas; three show how steps move.")
    ] = "32",
    n_sequences: Annotated[int, typer.Option(help="Sequences to fit on, and as many others to judge.")] = 1024,
    seed: Seed = 0,
    device: Device = "cpu",
    shown: Annotated[int, typer.Option(help="Rows of the ranking to show.")] = 8,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Which algorithm is this predictor running? Known ones are fitted to its predictions."""
    from mdbench.mechanism import identification
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    with progress_bars() as progress:
        identification_ = identification.identify(
            predictor,
            task=task,
            lengths=whole_numbers(lengths, "--lengths") or [],
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            cache=cache_of(no_cache),
            progress=progress,
        )
    emit(as_json, identification_.to_dict, lambda: terminal.print_identification(identification_, shown))
