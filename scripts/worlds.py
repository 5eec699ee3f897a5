"""The tables and pictures of docs/worlds.md and docs/worlds/.

    python scripts/worlds.py [NAME ..]

Of each world a picture, excess KL against T; what a shift costs; the two golds of atoms; what gold costs. 2,048
sequences a cell (fewer where gold is sampled), excess KL in nats over the world's own Bayes. A table goes to the place
in the pages that has its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tables import SUITES, make, put_found

import mdbench
from mdbench.claims.finding import Curve, Panel
from mdbench.core.metrics import kl
from mdbench.core.store import open_store
from mdbench.evaluation.gold import gold_predictive
from mdbench.evaluation.outcome import Evaluation
from mdbench.pages.claims import draw, write_figure
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS
from mdbench.predictors.trained import Trained
from mdbench.tasks import evaluation_sequences, load_suite, load_task

ROOT = Path(__file__).parents[1]
WORLDS, DOCS = ROOT / "examples" / "worlds", ROOT / "docs" / "worlds"
TASK, N, N_SAMPLED = "mtd-q5-m3", 2048, 256
LENGTHS = (8, 16, 32, 64, 128)
BUILT = ("bayes", "trained_l3", "standard_l3", "md1", "one_lag", "add_constant", "ctw:depth=2", "induction_head")
SHIFTS = ("sparse-q5-m3", "selective-q5-m3", "atoms64-q5-m3", "order2-q5", "chain-q5", "tree-q5-d2", "hmm-q5")
COUNTING = ("add_constant", "add_constant:order=2", "back_off", "ctw", "induction_head", "uniform")
PICTURES = {  # family: a task, and the predictors that the picture shows
    "per_lag": ("per_lag-q5-m3", ("md1", "em", "one_lag", "ctw", "uniform")),
    "atoms": ("selective-q5-m3", ("one_lag", *COUNTING)),
    "markov": ("markov-q5-k1", ("add_constant:c=1", *COUNTING)),
    "context_tree": ("tree-q3-d3", COUNTING),
    "hmm": ("hmm-q3-h2-k4", COUNTING),
    "unknown_matrix": ("unknown-q5-m3", ("plug_in", "plug_in:rounds=10", "add_constant", "ctw", "uniform")),
}
ATOMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def find(name: str) -> mdbench.Task:
    """A world of the examples, or a built-in one."""
    path = WORLDS / f"{name}.toml"
    return load_task(path if path.exists() else name)


def shown(found: Evaluation, names: Sequence[str], length: int) -> list[str]:
    """Excess KL of each."""
    of = {r.predictor: r for r in found.results if r.length == length}
    return ["at gold" if of[n].at_gold else f"{of[n].excess_kl:.2g}" for n in names]


def picture(family: str) -> None:
    """Excess KL against T."""
    name, names = PICTURES[family]
    task = find(name)
    sampled = task.gold == "gibbs"
    lengths = [t for t in LENGTHS if t > task.given and not (sampled and t > 64)]
    n = N_SAMPLED if sampled else N
    found = mdbench.evaluate(names, task=task, lengths=lengths, n_sequences=n, references=())
    of = {(r.predictor, r.length): r for r in found.results}
    curves = []
    for predictor in names:
        above = [t for t in lengths if (predictor, t) in of and not of[predictor, t].at_gold]
        if above:
            curves.append(Curve(predictor, above, [of[predictor, t].excess_kl for t in above]))
    panel = Panel(task.name, "context length T", "excess KL (nats)", curves, log_x=2)
    write_figure(draw([panel]), DOCS / family)
    headings = ["predictor", *(f"T = {t}" for t in lengths)]
    by_length = [shown(found, names, t) for t in lengths]
    rows = [[f"`{p}`", *cells] for p, *cells in zip(names, *by_length, strict=True)]
    put_found(f"picture {family}", headings, rows)


def shifts() -> None:
    """Predictors that were built for one task, on the sequences of others."""
    rows = []
    for name in (TASK, *SHIFTS):
        found = mdbench.evaluate(BUILT, task=TASK, world=find(name), lengths=[32], n_sequences=N, references=())
        rows.append([name, *shown(found, BUILT, 32)])
    put_found("shifts", ["world", *(f"`{p}`" for p in BUILT)], rows)


def diversity() -> None:
    """Two golds: the Bayes of K atoms, and that of the Dirichlet they were drawn from."""
    task, length = load_task(TASK), 32
    assert isinstance(task, mdbench.MTD), "it is one"
    rows, apart, inferring, trained = [], [], [], []
    for n_atoms in ATOMS:
        world = mdbench.Atoms(f"diversity-q5-m3-{n_atoms}", task.order, task.transition, n_atoms=n_atoms, atom_seed=0)
        contexts = evaluation_sequences(world, length, N, 0).tokens[:, :-1].astype("int64")
        atoms, dirichlet = (gold_predictive(t, contexts, [length]).probs[:, 0] for t in (world, task))
        learned: list[mdbench.Task] = [task]
        if (SHIPPED_WEIGHTS / "trained_l3" / world.name).is_dir():
            learned.append(world)
        seeds = [[run.predict(contexts) for run in Trained(of, "trained_l3").runs(length)] for of in learned]
        numbers = [float(np.mean([kl(gold, p).mean() for p in of])) for of in seeds for gold in (atoms, dirichlet)]
        apart.append(float(kl(atoms, dirichlet).mean()))
        inferring.append(numbers[:2])
        if len(learned) > 1:
            trained.append((n_atoms, *numbers[2:]))
        cells = [f"{value:.2g}" for value in (apart[-1], *numbers)]
        rows.append([str(n_atoms), *cells, *["" for _ in range(5 - len(cells))]])
    headings = ["K", "the two golds apart", "trained on the Dirichlet: to the atoms' gold", "to the Dirichlet's"]
    headings += ["trained on the atoms: to the atoms' gold", "to the Dirichlet's"]
    put_found("diversity", headings, rows)
    curves = [
        Curve("the two golds apart", ATOMS, apart, dashed=True),
        Curve("trained on the Dirichlet, to the atoms' gold", ATOMS, [a for a, _ in inferring]),
        Curve("trained on the Dirichlet, to its gold", ATOMS, [d for _, d in inferring]),
    ]
    if trained:
        ks = [k for k, _, _ in trained]
        curves += [
            Curve("trained on the atoms, to their gold", ks, [a for _, a, _ in trained]),
            Curve("trained on the atoms, to the Dirichlet's gold", ks, [d for _, _, d in trained]),
        ]
    panel = Panel("mtd-q5-m3, T = 32", "atoms K", "KL from gold (nats)", curves, log_x=2)
    write_figure(draw([panel]), DOCS / "diversity")


def cost() -> None:
    """Seconds of gold for the sequences of a suite's task, computed anew."""
    rows = []
    tasks = [name for suite in SUITES for name in load_suite(suite).tasks]
    for name, lengths, n in (*((name, (32, 128), N) for name in tasks), ("unknown-q5-m3", (32, 64), 64)):
        task = find(name)
        contexts = evaluation_sequences(task, max(lengths), n, 0).tokens[:, :-1].astype("int64")
        cells = []
        for length in lengths:
            gold_predictive(task, contexts[:4, :length], [length], task.gold, kept=open_store(cache=False))
            started = time.perf_counter()
            gold_predictive(task, contexts[:, :length], [length], task.gold, kept=open_store(cache=False))
            cells.append(f"{time.perf_counter() - started:.2g} s (T = {length})")
        rows.append([name, f"{n:,}", *cells])
    put_found("cost", ["task", "sequences", "shorter", "longer"], rows)


PARTS: dict[str, Callable[[], None]] = {
    **{family: lambda family=family: picture(family) for family in PICTURES},  # type: ignore[misc]
    "shifts": shifts,
    "diversity": diversity,
    "cost": cost,
}


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    make((__doc__ or "").split("\n", maxsplit=1)[0], PARTS)
