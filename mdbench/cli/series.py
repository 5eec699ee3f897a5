"""Your own sequences: fit, and task from-data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdbench.cli.app import Json, app, emit, fail, say, task_app, this_command, whole_numbers

SEQUENCES = "File of sequences: one a line, one long column, a panel (id, state), letters, FASTA; or -."
States = Annotated[
    str | None, typer.Option("--states", help="Labels of the states in their order, by commas; else found.")
]


@app.command()
def fit(
    data: Annotated[Path, typer.Option(help=SEQUENCES)],
    order: Annotated[int, typer.Option(help="m, the number of lags; all orders from 2 to m are fitted.")],
    start: Annotated[
        int | None,
        typer.Option(
            help="S: the first S observations of each sequence are given; m or 3, whichever is more, if none."
        ),
    ] = None,
    states: States = None,
    bayes: Annotated[
        bool, typer.Option("--bayes", help="Also the posterior: weights, matrix, which lags matter, how well it fits.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for fit.json and pictures (.svg, .png).")] = None,
    as_json: Json = False,
) -> None:
    """Fit mixtures over lags to your own sequences; with --bayes exit code 1 if the posterior fails a gate."""
    import json

    from mdbench.core.files import check_writable, json_ready, make_folder, write_text
    from mdbench.core.verdict import Verdict
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.series.fitted import fit as fit_models
    from mdbench.series.fitted import read

    given = read(data, order, _labels(states))
    if out is not None:
        check_writable(make_folder(out) / "fit.json")
    if given.notes:
        say("; ".join(given.notes) + ".")
    with progress_bars() as progress:
        found = json_ready(fit_models(given, order, start=start, bayes=bayes, progress=progress))
    if out is not None:
        from mdbench.pages.series import write_pictures

        write_text(out / "fit.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        write_pictures(found, out)
    emit(as_json, lambda: found, lambda: terminal.print_fit(found))
    if bayes:
        failing = [check["name"] for check in found["bayes"]["checks_made"] if check["verdict"] == Verdict.FAIL]
        if failing:
            fail(f"the posterior fails {', '.join(failing)}, also when run again longer.", 1)


@task_app.command("from-data")
def from_data(
    data: Annotated[Path, typer.Argument(help=SEQUENCES)],
    out: Annotated[Path, typer.Option(help="Folder to make: task.toml, data.npz, fit.json.")],
    order: Annotated[int, typer.Option(help="m of the MTD that is fitted to the training part.")],
    share: Annotated[float, typer.Option(help="Of each sequence the first so much, for training.")] = 0.7,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", help="Context lengths; those of 16, 32, 64, 128 that leave half of the test part."),
    ] = None,
    states: States = None,
    as_json: Json = False,
) -> None:
    """Make a task of your own sequences: fitted to their first part, scored by NLL on the rest."""
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars
    from mdbench.series import benchmark
    from mdbench.series.fitted import read

    benchmark.check_folder(out)
    benchmark.check_options(order, share)
    given = read(data, order, _labels(states))
    if given.notes:
        say("; ".join(given.notes) + ".")
    at = whole_numbers(lengths, "--lengths")
    with progress_bars() as progress:
        task, found = benchmark.task_from_data(given, order, out.name, share=share, lengths=at, progress=progress)
    benchmark.write_task(out, task, found, given.labels or (), this_command())
    about = task.described() | {"task": str(out / benchmark.TASK), "lengths": [*task.lengths]}
    emit(as_json, lambda: about, lambda: terminal.print_made_task(about))


def _labels(states: str | None) -> list[str] | None:
    return None if states is None else [label.strip() for label in states.split(",")]
