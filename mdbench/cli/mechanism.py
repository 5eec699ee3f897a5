"""What a predictor computes: agree, inspect, patch, identify and phases."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

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


def _page(out: Path | None, name: str) -> Path | None:
    """Where a page is to be written; that it can be is checked before anything runs."""
    from mdbench.core.files import check_writable, make_folder

    if out is None:
        return None
    page = make_folder(out) / name
    check_writable(page)
    return page


def _show(found: Any, page: Path | None, module: str, show: Callable[[Any], None], as_json: bool) -> None:
    """What was found on stdout and, where one was asked for, as a page, by ``render`` of that module of the pages."""
    from mdbench.core.files import write_text
    from mdbench.pages import terminal

    if page is not None:
        write_text(page, import_module(f"mdbench.pages.{module}").render(found, this_command()))
    emit(as_json, found.to_dict, lambda: show(found))
    if page is not None and not as_json:
        terminal.print_line(f"The page is '{page}'.")


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
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = _page(out, "agreement.html")
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
    _show(found, page, "agreement", terminal.print_agreement, as_json)


@app.command()
def inspect(
    predictor: Annotated[
        str, typer.Argument(help="A transformer: trained_*, standard_*, constructed_*, run:FOLDER, FILE.py:NAME.")
    ],
    task: OneTask = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, inspection.html.")] = None,
    n_sequences: Annotated[int, typer.Option(help="Sequences to average over.")] = 512,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Look inside a transformer: its parts beside those of the construction."""
    from mdbench.mechanism import inspection
    from mdbench.pages import terminal

    page = _page(out, "inspection.html")
    seen = inspection.inspect(predictor, task=task, length=length, n_sequences=n_sequences, seed=seed, device=device)
    _show(seen, page, "inspection", terminal.print_inspection, as_json)


@app.command()
def patch(
    predictor: Annotated[
        str, typer.Argument(help="A transformer: trained_*, standard_*, constructed_*, run:FOLDER, FILE.py:NAME.")
    ],
    task: OneTask = "mtd-q5-m3",
    length: Annotated[int, typer.Option("--length", help="Context length.")] = 32,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, patches.html.")] = None,
    n_sequences: Annotated[
        int,
        typer.Option(
            help="Sequences that judge; means and readouts are of 2,048 others or more, which take most of the time."
        ),
    ] = 1024,
    donor: Annotated[str | None, typer.Option(help="Another transformer, whose parts are put in, too.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Replace each part of a transformer while it predicts, and measure what becomes of its predictions."""
    from mdbench.mechanism import patching
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = _page(out, "patches.html")
    with progress_bars() as progress:
        found = patching.patch(
            predictor,
            task=task,
            length=length,
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            donor=donor,
            progress=progress,
        )
    _show(found, page, "patches", terminal.print_patched, as_json)


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
    algorithm: Annotated[
        list[str] | None, typer.Option(help="One more, FILE.py:NAME; may be given several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, identification.html.")] = None,
    shown: Annotated[int, typer.Option(help="Rows of the ranking to show.")] = 8,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Which algorithm is this predictor running? Known ones are fitted to its predictions, of each training seed."""
    from mdbench.mechanism import identification
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = _page(out, "identification.html")
    with progress_bars() as progress:
        found = identification.identify(
            predictor,
            task=task,
            lengths=whole_numbers(lengths, "--lengths") or [],
            n_sequences=n_sequences,
            seed=seed,
            algorithms=algorithm or (),
            device=device,
            cache=cache_of(no_cache),
            progress=progress,
        )
    _show(found, page, "identification", lambda found: terminal.print_identification(found, shown), as_json)


@app.command()
def phases(
    run: Annotated[str, typer.Argument(help="Folder seed<k> of `mdbench train --snapshots N`, finished or not.")],
    task: OneTask = "mtd-q5-m3",
    out: Annotated[Path | None, typer.Option(help="Folder for the page, phases.html.")] = None,
    n_sequences: Annotated[int, typer.Option(help="Sequences to judge on, and as many others to fit.")] = 512,
    seed: Seed = 0,
    device: Device = "cpu",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """What a network computes while it is trained, snapshot by snapshot."""
    from mdbench.mechanism import phases as module
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    page = _page(out, "phases.html")
    with progress_bars() as progress:
        found = module.phases_of(
            run,
            task=task,
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            cache=cache_of(no_cache),
            progress=progress,
        )
    _show(found, page, "phases", terminal.print_phases, as_json)
