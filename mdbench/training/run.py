"""Train transformers on fresh sequences (docs/mathematics.md, section 6), several seeds side by side.

A run is a folder ``seed<k>`` with ``weights.safetensors`` and ``card.json``, which a predictor loads. While it trains,
``checkpoint.safetensors`` beside them holds parameters, Adam's state and the losses so far; on a GPU, where several
seeds are one batch of models, one checkpoint in the folder above holds them all. What a step does is a function of
(task, configuration, start, seed, step) on one kind of device (a GPU may round otherwise for other seeds beside), so
training that was interrupted at any moment goes on from its last whole checkpoint to the same weights.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mdbench.core.cluster import CellFailure, Cluster, ahead, open_cluster
from mdbench.core.device import check_device
from mdbench.core.errors import InputError
from mdbench.core.files import TEMPORARY, make_folder
from mdbench.core.progress import Advance, no_advance
from mdbench.predictors.snapshots import SNAPSHOTS, Snapshots, snapshot_steps
from mdbench.predictors.training_config import CARD, TrainingConfig
from mdbench.tasks import Task, as_task
from mdbench.training.data import Batches
from mdbench.training.folder import CHECKPOINT, Start, alone_in, check_runs, groups_of, start_of
from mdbench.training.process import train_side_by_side
from mdbench.training.trainer import train_here


def train(
    task: str | Path | Task,
    config: TrainingConfig,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    start_from: str | Path | None = None,
    snapshots: int = 0,
    cluster: str | Cluster | None = None,
    progress: Advance = no_advance,
) -> list[Path]:
    """Train, or go on training, the runs ``out/seed<k>`` on a task or the one of that name or file; return the folders.

    With ``start_from`` each begins where the finished run ``start_from/seed<k>`` ended, which has the same kind of
    model, as many layers or fewer, and the same length or a shorter one (see ``begin_with`` of the models).

    With ``snapshots`` its models at so many steps, at equal ratios, are kept beside it (``run:FOLDER@STEP``); no number
    of the run depends on that.

    On a ``cluster``, as :func:`mdbench.evaluate` has it, each seed is trained by a worker of its own; all workers share
    the folder ``out``, by the same path.

    ``progress(k)`` is called when k more steps are done, those of an earlier, interrupted call first; k is a fraction
    of the steps where some seeds go before others.

    Raises:
        InputError: a seed's folder holds a run of another task, configuration or start, another command trains beside
            it, the target is out of reach for this task, what it shall start from does not suit it, or it does not fit
            into memory.
        FloatingPointError: a loss is not finite.
        ChildProcessError: the process that trained a seed was ended, on a cluster three times.
    """
    out, start_from = Path(out), None if start_from is None else Path(start_from)
    task = as_task(task)
    starts = _check_request(task, config, seeds, device, start_from)
    wanted = snapshot_steps(snapshots, config.steps)
    folders = [out / f"seed{seed}" for seed in seeds]
    with alone_in(make_folder(out)):
        check_runs(task, config, out, starts)
        for left in (left for folder in (out, *folders) for left in folder.glob(".mdbench-*")):
            left.unlink()  # by a process that was ended while it wrote
        for folder in folders:
            if (folder / CARD).exists():
                (folder / CHECKPOINT).unlink(missing_ok=True)  # only its removal was interrupted
                if wanted and not set(wanted) <= set(Snapshots.of(folder).steps):
                    raise InputError(
                        f"the run in '{folder}' is finished and lacks some of these snapshots; choose another folder."
                    )
            else:
                (folder / SNAPSHOTS).unlink(missing_ok=True)  # of a run whose card was removed
        groups = groups_of(out, seeds, device)
        if cluster is not None and groups:
            if (out / CHECKPOINT).exists():
                raise InputError(f"'{out}' holds a checkpoint of several seeds at once; go on without a cluster.")
            unfinished = [seed for group in groups for seed in group]
            with open_cluster(cluster) as workers:
                assert workers is not None
                _train_on(workers, task, config, out, unfinished, start_from, device, snapshots, progress)
            return folders
        n_seeds = sum(map(len, groups))
        for group in groups:

            def of_all(steps: float, share: float = len(group) / n_seeds) -> None:
                progress(steps * share)

            if device == "cpu" and len(group) > 1 and not (out / CHECKPOINT).exists():
                train_side_by_side(task, config, out, group, start_from, of_all, snapshots)
            else:
                train_here(task, config, out, group, start_from, device, of_all, snapshots=snapshots)
    return folders


def _train_on(
    workers: Cluster,
    task: Task,
    config: TrainingConfig,
    out: Path,
    seeds: Sequence[int],
    start_from: Path | None,
    device: str,
    snapshots: int,
    progress: Advance,
) -> None:
    """Each seed on a worker: one that is lost is replaced, and goes on from the last checkpoint."""
    out, start_from = out.resolve(), start_from and start_from.resolve()
    with tempfile.NamedTemporaryFile(dir=out, prefix=TEMPORARY) as mark:
        blind = [address for address, sees in workers.everywhere(os.path.exists, mark.name).items() if not sees]
    if blind:
        raise InputError(f"worker {blind[0]} does not see the folder '{out}'; all workers must share it, by this path.")

    def of_all(steps: float) -> None:
        progress(steps / len(seeds))

    def begin(seed: int) -> Callable[[], None]:
        given = task, config, out, seed, start_from, device, snapshots
        return workers.begin(train_seed, *given, total=config.steps, advance=of_all)

    ended = [(seed, error) for seed, error in ahead(seeds, begin, len(seeds), CellFailure) if error is not None]
    if ended:
        seed, error = ended[0]
        raise ChildProcessError(f"training of seed {seed}: {error}. The same command goes on from the last checkpoint.")


def train_seed(
    task: Task,
    config: TrainingConfig,
    out: Path,
    seed: int,
    start_from: Path | None,
    device: str,
    snapshots: int,
    advance: Advance,
) -> None:
    """On a worker."""
    train_here(task, config, out, (seed,), start_from, device, advance, snapshots=snapshots)


def check_training(
    task: Task,
    config: TrainingConfig,
    out: Path,
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    start_from: Path | None = None,
) -> None:
    """Raise :class:`InputError` for what :func:`train` would refuse."""
    check_runs(task, config, out, _check_request(task, config, seeds, device, start_from))


def _check_request(
    task: Task, config: TrainingConfig, seeds: Sequence[int], device: str, start_from: Path | None
) -> dict[int, Start | None]:
    """Raise :class:`InputError` for what no folder could make good; return what each seed starts from."""
    task.check_length(config.length)
    task.check_length(config.first_length)
    if not device.startswith("cuda") and device != "cpu":
        raise InputError(f"models are trained on cpu or cuda, not on '{device}'.")
    check_device(device)
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise InputError(f"a seed must be a whole number (int) from 0 to 2^63 - 1, not {seed!r}.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError("seeds must be at least one, and each given once.")
    Batches(task, config.length, config.target, config.batch, config.reuse, seeds[0], device)  # if it can be had
    return {seed: start_of(task, config, start_from, seed) for seed in seeds}
