"""Predictors against gold: evaluate, compare, check, score, and a package for a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdbench.cli.app import (
    LEADERBOARD,
    Device,
    Gold,
    Json,
    Leaderboard,
    Lengths,
    NoCache,
    NSequences,
    OnCluster,
    OneTask,
    Predictor,
    Reference,
    Seed,
    Suite,
    Tasks,
    app,
    cache_of,
    emit,
    fail,
    say,
    whole_numbers,
)
from mdbench.core.errors import InputError

if TYPE_CHECKING:
    from mdbench.evaluation.isolation import Limits


@app.command()
def evaluate(
    predictor: Annotated[
        list[str],
        typer.Option(
            "--predictor", help="Name, or name:option=value,option=value; FILE.py:NAME, run:FOLDER. Repeat for several."
        ),
    ],
    task: Tasks = None,
    suite: Suite = None,
    world: Annotated[
        str | None,
        typer.Option(
            "--world",
            help="Another task (or file) over the same states, whose sequences and gold these are, while predictors "
            "are built for --task.",
        ),
    ] = None,
    lengths: Lengths = None,
    n_sequences: Annotated[
        int | None,
        typer.Option(
            "--n-sequences",
            help="Sequences for each task and length; 1024, or with --record all public ones; all recorded ones.",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    gold: Gold = None,
    references: Annotated[
        bool | None,
        typer.Option(
            "--references/--no-references",
            help="Also score rows that suit the task, such as bayes and uniform; not with --record, unless asked for.",
        ),
    ] = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    per_sequence: Annotated[Path | None, typer.Option(help="Write every sequence's scores (.csv or .parquet).")] = None,
    record: Annotated[bool, typer.Option("--record", help="Also write records for the leaderboard.")] = False,
    reference: Reference = None,
    leaderboard: Leaderboard = LEADERBOARD,
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="Run the predictors in processes of their own; what --record does if one is not built in.",
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="With --isolate: seconds for building it, and for 256 contexts (600).")
    ] = None,
    memory_limit: Annotated[float | None, typer.Option(help="With --isolate: GiB of memory (8).")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps what is finished: the same command goes on there.")
    ] = None,
    cluster: OnCluster = None,
    no_cache: NoCache = False,
) -> None:
    """Score predictors against the exact posterior, or another gold."""
    from mdbench.core.files import check_writable, make_folder, write_text

    if out is not None:
        check_writable(out)

    from mdbench.evaluation import evaluation
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.predictors.catalogue import is_built_in

    if isolate is None:
        isolate = record and not all(is_built_in(p) for p in predictor)
    limits = _limits(isolate, time_limit, memory_limit)
    _check_reference(reference, record)
    at = whole_numbers(lengths, "--lengths")
    if record and world is not None:
        raise InputError("records are of a task's own sequences; leave out --record or --world.")
    if record:
        from mdbench.board import writing
        from mdbench.tasks import Recorded

        make_folder(leaderboard)
        grid = evaluation.grid(task, suite, at)
        recorded = [task_ for task_, _ in grid if isinstance(task_, Recorded)]
        if recorded and len(recorded) < len(grid):
            raise InputError("tasks of recorded sequences have as many as they have; record the others apart.")
        if n_sequences is None and not recorded:
            n_sequences = writing.N_PUBLIC
        most = max(len(of_task) for _, of_task in grid)
        writing.check_recordable([task_ for task_, _ in grid], most, n_sequences, seed, gold, predictor)
    with progress_bars() as progress:
        evaluated = evaluation.evaluate(
            predictor,
            task=task,
            suite=suite,
            world=world,
            lengths=at,
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            references=None if references or (references is None and not record) else (),
            gold=gold,
            isolate=limits,
            work=work,
            cache=cache_of(no_cache),
            cluster=cluster,
            per_sequence=per_sequence,
            progress=progress,
            done=None if as_json else lambda part: terminal.print_evaluation(part, predictor, progress),
        )
    if record:
        for path in writing.record_evaluation(evaluated, predictor, leaderboard, device, reference, recorded):
            say(f"wrote '{path}'.")
    if out is not None:
        write_text(out, evaluated.to_json() + "\n")
    emit(as_json, evaluated.to_dict, lambda: terminal.print_notes(evaluated))
    if evaluated.failed:
        names = ", ".join(dict.fromkeys(f"'{f.predictor}'" for f in evaluated.failed))
        fail(f"{names} failed; the others have been scored.", 1)


@app.command()
def compare(
    a: Predictor,
    b: Annotated[str, typer.Argument(help="Another.")],
    task: Tasks = None,
    suite: Suite = None,
    lengths: Lengths = None,
    n_sequences: NSequences = None,
    seed: Seed = 0,
    device: Device = "cpu",
    gold: Gold = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Compare two predictors by the paired difference of their excess KL."""
    from mdbench.core.files import as_dicts
    from mdbench.evaluation import comparison
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    with progress_bars() as progress:
        comparisons = comparison.compare(
            a,
            b,
            task=task,
            suite=suite,
            lengths=whole_numbers(lengths, "--lengths"),
            n_sequences=n_sequences,
            seed=seed,
            device=device,
            gold=gold,
            cache=cache_of(no_cache),
            progress=progress,
        )
    emit(as_json, lambda: as_dicts(comparisons), lambda: terminal.print_comparisons(comparisons))


@app.command()
def check(
    predictor: Annotated[str, typer.Argument(help="Name, name:option=value or path/to/file.py:function.")],
    task: OneTask = "mtd-q3-m2",
    lengths: Lengths = None,
    device: Device = "cpu",
    time_limit: Annotated[
        float,
        typer.Option(help="Of the fresh process that it runs in first: seconds for building it, and for a batch."),
    ] = 600,
    as_json: Json = False,
) -> None:
    """Hold a predictor to its contract; exit code 1 if a check fails."""
    from mdbench.core.files import as_dicts
    from mdbench.core.verdict import Verdict
    from mdbench.evaluation import contract
    from mdbench.evaluation.isolation import Limits
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    with progress_bars() as progress:
        checks = contract.check(
            predictor,
            task,
            whole_numbers(lengths, "--lengths"),
            device=device,
            limits=Limits(time_limit),
            progress=progress(f"{predictor}: checks", len(contract.CLAUSES)),
        )
    emit(as_json, lambda: as_dicts(checks), lambda: terminal.print_checks(predictor, checks))
    failed = [c.name for c in checks if c.verdict == Verdict.FAIL]
    if failed:
        fail(f"'{predictor}' breaks the contract: {', '.join(failed)}.", 1)


@app.command("new-predictor")
def new_predictor(
    name: Annotated[str, typer.Argument(help="Name of the predictor: small letters, digits, underscores.")],
    framework: Annotated[str, typer.Option(help="numpy, jax or torch.")] = "numpy",
) -> None:
    """Write a complete package for a predictor of your own, which works as it is: the folder NAME."""
    from mdbench.evaluation import scaffold

    folder = scaffold.new_predictor(name, framework)
    print(f"Wrote {folder}. Next: pip install -e {folder}, mdbench check {name}, mdbench evaluate --predictor {name}")


@app.command()
def score(
    predictions: Annotated[
        Path,
        typer.Option(help=".npz with arrays (N, q) called T<length> (of several seeds seed0/T<length>, ..), or .csv."),
    ],
    task: Annotated[str, typer.Option("--task", help="Name of a built-in task.")],
    name: Annotated[str, typer.Option(help="What to call the row.")],
    record: Annotated[bool, typer.Option("--record", help="Also write a record for the leaderboard.")] = False,
    reference: Reference = None,
    leaderboard: Leaderboard = LEADERBOARD,
    as_json: Json = False,
) -> None:
    """Score predictions that were made elsewhere, in any language, for the public sequences (`sample`, seed 0)."""
    from mdbench import tasks
    from mdbench.board import writing
    from mdbench.core.files import as_dicts, make_folder
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    _check_reference(reference, record)
    folder = make_folder(leaderboard) if record else None
    with progress_bars() as progress:
        results, path = writing.score_predictions(predictions, tasks.load_task(task), name, folder, progress, reference)
    if path is not None:
        say(f"wrote '{path}'.")
    emit(as_json, lambda: as_dicts(results), lambda: terminal.print_results(results, highlighted=[name]))


def _limits(isolate: bool, seconds: float | None, gibibytes: float | None) -> Limits | None:
    """Those of processes of their own; None where there are none."""
    from mdbench.evaluation.isolation import Limits

    if not isolate and (seconds, gibibytes) != (None, None):
        raise InputError("--time-limit and --memory-limit are for processes of their own; add --isolate.")
    given = {name: v for name, v in (("seconds", seconds), ("gibibytes", gibibytes)) if v is not None}
    return Limits(**given) if isolate else None


def _check_reference(reference: str | None, record: bool) -> None:
    """Before anything runs."""
    from mdbench.board.names import check_reference

    if reference is not None:
        check_reference(reference)
        if not record:
            raise InputError("--reference is written into a record; add --record.")
