"""Records and the board: verify, leaderboard build and leaderboard time."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mdbench.cli.app import (
    LEADERBOARD,
    Device,
    Json,
    Leaderboard,
    OnCluster,
    app,
    emit,
    fail,
    leaderboard_app,
    say,
)
from mdbench.core.errors import InputError


@app.command()
def verify(
    record: Annotated[
        list[Path] | None, typer.Argument(help="Records (.json); all of the leaderboard's if none.")
    ] = None,
    leaderboard: Leaderboard = LEADERBOARD,
    task: Annotated[
        Path | None, typer.Option("--task", help="Task file of recorded sequences of your own that records are of.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--rerun", help="Run the predictor on fresh sequences: are its scores compatible?")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="With --rerun: seed of the fresh sequences; at random if none, and printed.")
    ] = None,
    n_sequences: Annotated[int, typer.Option("--n-sequences", help="With --rerun: fresh sequences a cell.")] = 256,
    run_files: Annotated[
        bool,
        typer.Option("--run-files", help="With --rerun: run predictors whose name is a path, too."),
    ] = False,
    mark: Annotated[
        bool,
        typer.Option(
            "--mark",
            help="With --rerun, for the keeper of a board: write what came of it to reruns.json, which the board "
            "shows, and leave out records that are marked there already.",
        ),
    ] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Check records: score their probabilities again, or run their predictors again; exit code 1 if one fails."""
    from mdbench.board import auditing
    from mdbench.board.files import record_paths
    from mdbench.core.verdict import Verdict
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.tasks import load_task

    if mark and not again:
        raise InputError("--mark writes down what --rerun finds; give both.")
    paths = record or record_paths(leaderboard)
    if not paths:
        raise InputError(f"there are no records in '{leaderboard / 'records'}'; name one, or make one with --record.")
    own = None if task is None else load_task(task)
    with progress_bars() as progress:
        if again:
            # Whoever knows the seed knows the sequences.
            seed = secrets.randbelow(2**63 - 1) + 1 if seed is None else seed
            say(f"fresh sequences of seed {seed}.")
            how: dict[str, Any] = {"n_sequences": n_sequences, "files": run_files, "device": device, "own": own}
            audited = list(auditing.rerun_all(paths, seed, leaderboard if mark else None, progress=progress, **how))
        else:
            audited = list(auditing.verify_all(paths, in_place=not record, progress=progress, own=own))
    emit(as_json, lambda: [each.to_dict() for each in audited], lambda: terminal.print_audited(audited))
    failed = sum(each.verdict == Verdict.FAIL for each in audited)
    if failed:
        fail(f"{failed} of {len(audited)} records do not hold.", 1)


@leaderboard_app.command()
def build(
    leaderboard: Leaderboard = LEADERBOARD,
    suite: Annotated[
        str, typer.Option("--suite", help="Suite of tasks; all: of every suite that has records there.")
    ] = "core",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if what is there is not what would be written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank the records of a folder: index.html, README.md, board.csv and the schema of records beside them.

    Of another suite than core the files are called after it: markov.html, markov.md, markov.csv.
    """
    from mdbench.board import board as boards
    from mdbench.core.files import check_writable, write_text
    from mdbench.pages import board as pages
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    every = suite == "all"
    there = boards.suites_in(leaderboard)
    if every and not there:
        raise InputError(f"there are no records to rank in '{leaderboard / 'records'}'.")
    built, left_out = [], []
    with progress_bars() as progress:
        for name in there if every else [suite]:
            try:
                built.append(boards.build(leaderboard, name, progress))
            except InputError as error:
                left_out.append(str(error))
                if not every:
                    raise
    command = "mdbench leaderboard build"
    files: dict[Path, str] = {}
    made = {board.suite.short for board in built}
    beside = [name for name in there if name in made or (leaderboard / pages.file_of(name, "html")).is_file()]
    for board in built:
        short = board.suite.short
        whole = command + ("" if short == pages.MAIN else f" --suite {short}")
        files |= pages.files_of(replace(board, beside=beside), leaderboard, whole)
    stale = [path.name for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
    if not check:
        for path in files:
            check_writable(path)
        for path, text in files.items():
            write_text(path, text)
    emit(
        as_json,
        lambda: [board.to_dict() for board in built] if every else built[0].to_dict(),
        lambda: terminal.print_boards(built),
    )
    for refused in dict.fromkeys(refused for board in built for refused in board.refused):
        say(f"refused '{refused.path}': {refused.reason}")
    if left_out:
        fail(" ".join(dict.fromkeys(left_out)), 1)
    if check and stale:
        again = command + (f" --suite {suite}" if suite != pages.MAIN else "")
        fail(f"not up to date: {', '.join(stale)} in '{leaderboard}'; run `{again}` and commit what it writes.", 1)


@leaderboard_app.command("time")
def time_(
    leaderboard: Leaderboard = LEADERBOARD,
    run_files: Annotated[bool, typer.Option("--run-files", help="Run predictors whose name is a path, too.")] = False,
    cluster: OnCluster = None,
) -> None:
    """Time all rows that can be run, beside one fixed computation: times.json. The same command goes on there."""
    from mdbench.board import times
    from mdbench.board.verification import CannotRerun
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    failed = 0
    with progress_bars() as progress:
        for record, timed in times.time_records(leaderboard, run_files, progress, cluster):
            where = f"{record.predictor.label} on {record.task}"
            if isinstance(timed, times.Time):
                terminal.print_line(f"{where}: {timed.mean:.3g} times the reference")
            else:
                terminal.print_line(f"{where}: not timed: {timed}")
                failed += not isinstance(timed, CannotRerun)
    if failed:
        fail(f"{failed} records could not be timed.", 1)
