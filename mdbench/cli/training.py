"""Numbers that are found by training and tuning: train and tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdbench.cli.app import (
    Json,
    Lengths,
    OnCluster,
    OneTask,
    Tasks,
    app,
    emit,
    fail,
    say,
    whole_numbers,
)

if TYPE_CHECKING:
    from mdbench.predictors.training_config import TrainingConfig


@app.command()
def train(
    task: OneTask,
    lengths: Annotated[str, typer.Option("--lengths", help="Context lengths, separated by commas.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs OUT/<task>/T<length>/seed<seed>.")],
    preset: Annotated[
        str,
        typer.Option(
            help="paper (squared error against the next token, 500,000 steps), cross-entropy (the same, that loss), "
            "conditional (against the true next-token probabilities) or bayes (against the exact posterior's)."
        ),
    ] = "bayes",
    model: Annotated[str, typer.Option(help="disentangled or standard.")] = "disentangled",
    depth: Annotated[int, typer.Option(help="Number of layers.")] = 3,
    d_rel: Annotated[
        int | None, typer.Option("--d-rel", help="Width of a disentangled model's relative-position values (16).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of a standard model's residual stream (64).")] = None,
    heads: Annotated[int | None, typer.Option(help="Of a standard model's attention (4).")] = None,
    target: Annotated[str | None, typer.Option(help="token, conditional or bayes; instead of the preset's.")] = None,
    loss: Annotated[str | None, typer.Option(help="squared_error or cross_entropy; likewise.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, cosine or restarts; likewise.")] = None,
    steps: Annotated[int | None, typer.Option(help="Adam steps; likewise.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences a step; likewise.")] = None,
    reuse: Annotated[int | None, typer.Option(help="Steps that each sequence serves; likewise.")] = None,
    start_length: Annotated[
        int | None,
        typer.Option(help="Length of the contexts in the first half of the steps (0: the full one); likewise."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Initialisations tried for each seed; likewise."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Folder with finished runs seed<k> to go on from: the same kind of model, with no more layers and no "
            "longer contexts than are asked for here. What the preset says of --start-length and --candidates does not "
            "count then."
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's, at the start; instead of the preset's.")] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Of initialisation and sequences, separated by commas; trained side by side.")
    ] = "0",
    snapshots: Annotated[
        int, typer.Option(help="Keep the models at so many steps, at equal ratios, as run:FOLDER@STEP; see phases.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cluster: OnCluster = None,
) -> None:
    """Train transformers; the same command goes on where it was interrupted."""
    from concurrent.futures import ThreadPoolExecutor

    from mdbench import tasks
    from mdbench.core.cluster import open_cluster
    from mdbench.pages.bars import progress_bars
    from mdbench.training import run
    from mdbench.training.presets import preset_config

    loaded = tasks.load_task(task)
    given = {"model": model, "depth": depth, "width": width, "heads": heads, "d_rel": d_rel, "target": target}
    given |= {"loss": loss, "schedule": schedule, "steps": steps, "batch": batch, "reuse": reuse}
    given |= {"start_length": start_length, "candidates": candidates, "learning_rate": learning_rate}
    changes = {name: value for name, value in given.items() if value is not None}
    of_seeds = whole_numbers(seeds, "--seeds") or []
    runs = []
    for length in whole_numbers(lengths, "--lengths") or []:  # all checked before the first has taken its hours
        config = preset_config(preset, length, started=start_from is not None, **changes)
        folder = out / loaded.name / f"T{length}"
        run.check_training(loaded, config, folder, seeds=of_seeds, device=device, start_from=start_from)
        runs.append((config, folder))
        if isinstance(loaded, tasks.Recorded):
            n = len(loaded.training_windows(length + 1))
            times = config.steps * config.batch / n
            say(f"{n} training windows at T = {length}, each seen about {times:,.0f} times; none of them is held out.")

    def train_one(of_length: tuple[TrainingConfig, Path]) -> list[Path]:
        config, folder = of_length
        advance = progress(f"{loaded.name}, T = {config.length}: steps", config.steps)
        return run.train(
            loaded,
            config,
            folder,
            seeds=of_seeds,
            device=device,
            start_from=start_from,
            snapshots=snapshots,
            cluster=workers,
            progress=advance,
        )

    try:
        # The cluster is left first, and with it all that waits for it.
        with progress_bars() as progress, ThreadPoolExecutor() as pool, open_cluster(cluster) as workers:
            for folders in map(train_one, runs) if workers is None else pool.map(train_one, runs):
                for made in folders:
                    print(made)
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on from the last checkpoints in '{out}'.", 130)


@app.command()
def tune(
    task: Tasks = None,
    lengths: Lengths = None,
    steps: Annotated[
        str | None,
        typer.Option(
            help="Numbers of Mirror Descent's steps, adaptive and matrix (their a and b), learned (md_learned's "
            "sizes), separated by commas (without either option: 1,2,5,adaptive,matrix,learned)."
        ),
    ] = None,
    depths: Annotated[
        str | None, typer.Option(help="Numbers of layers of constructed transformers, likewise (3,4,5,7).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table (JSON) to store them in; by default where they are looked up.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tune step sizes and constructed transformers' scalars anew on calibration sequences and store them."""
    from mdbench.algorithms import tuning
    from mdbench.algorithms.mirror_descent import ADAPTIVE, MATRIX
    from mdbench.pages import terminal
    from mdbench.pages.bars import progress_bars

    if steps is None and depths is None:
        steps, depths = "1,2,5,adaptive,matrix,learned", "3,4,5,7"
    named = [word for word in (steps or "").split(",") if word in (ADAPTIVE, MATRIX, "learned")]
    numbers = ",".join(word for word in (steps or "").split(",") if word not in named) or None
    wanted = [tuning.Wanted(tuning.ETA, k) for k in whole_numbers(numbers, "--steps") or []]
    wanted += [tuning.Wanted(kind, 1) for kind in named if kind != "learned"]
    wanted += tuning.LEARNED if "learned" in named else []
    wanted += [tuning.Wanted(tuning.SCALARS, depth) for depth in whole_numbers(depths, "--depths") or []]
    with progress_bars() as progress:
        tuned = list(tuning.tune_tasks(task, whole_numbers(lengths, "--lengths"), wanted, out, progress))
    emit(as_json, lambda: [each.to_dict() for each in tuned], lambda: terminal.print_tuned(tuned))
