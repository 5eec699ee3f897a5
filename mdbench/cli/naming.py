"""Names and sequences: list, show and sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mdbench.cli.app import (
    Json,
    OneTask,
    Seed,
    app,
    emit,
)
from mdbench.core.errors import InputError


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List tasks, suites, predictors, baselines, families of tasks and scores."""
    from mdbench.evaluation.glossary import listing
    from mdbench.pages import terminal

    names = listing()

    def show() -> None:
        for kind, entries in names.items():
            terminal.print_table(kind, ("name", "what it is"), list(entries.items()))

    emit(as_json, lambda: names, show)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A task (or task file), suite, predictor, baseline, family or score.")],
    as_json: Json = False,
) -> None:
    """Show what a name means."""
    from mdbench.evaluation.glossary import described
    from mdbench.pages import terminal

    details = described(name)
    emit(as_json, lambda: details, lambda: terminal.print_described(name, details))


@app.command()
def sample(
    task: OneTask,
    n_sequences: Annotated[int, typer.Option(help="How many sequences.")],
    length: Annotated[int, typer.Option(help="Length of the contexts; one more token is drawn.")],
    out: Annotated[Path, typer.Option(help="File to write (.npz).")],
    seed: Seed = 0,
) -> None:
    """Write the very sequences that `evaluate` scores for the same task, number and seed."""
    from mdbench.core.files import check_writable, write_whole

    check_writable(out)
    if out.suffix != ".npz":
        raise InputError(f"--out writes .npz, not '{out}'.")

    import numpy as np

    from mdbench import tasks

    loaded = tasks.load_task(task)
    if isinstance(loaded, tasks.Recorded):
        windows = tasks.evaluation_sequences(loaded, length, n_sequences, seed).tokens
        loaded.check_length(length)
        write_whole(out, lambda temporary: np.savez(temporary, tokens=loaded.cut(windows, length + 1)))
        return
    drawn = tasks.sample(loaded, length, n_sequences, seed)
    numbers = {name: value for name, value in loaded.numbers.items() if isinstance(value, np.ndarray)}
    drawn_arrays = {"tokens": drawn.tokens, loaded.theta: drawn.theta, "next_probs": drawn.next_probs}
    arrays: dict[str, Any] = drawn_arrays | numbers
    write_whole(out, lambda temporary: np.savez(temporary, **arrays))
