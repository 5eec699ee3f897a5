"""The tables of docs/worlds.md.

    python scripts/worlds.py

First predictors that were built for mtd-q5-m3 on the sequences of other worlds; then predictors that know no matrix in
worlds of their own; then the two golds of atoms. 2,048 sequences a cell, excess KL in nats over the world's own Bayes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mdbench
from mdbench.core.metrics import kl
from mdbench.evaluation.evaluation import Evaluation

WORLDS = Path(__file__).parents[1] / "examples" / "worlds"
TASK = "mtd-q5-m3"
BUILT = ("bayes", "trained_l3", "standard_l3", "md1", "one_lag", "add_constant", "ctw:depth=2", "induction_head")
SHIFTS = ("sparse-q5-m3", "one_hot-q5-m3", "atoms64-q5-m3", "order2-q5", "chain-q5", "tree-q5-d2", "hmm-q5")
COUNTING = ("bayes", "uniform", "add_constant", "add_constant:order=2", "back_off", "ctw", "induction_head")
OWN = ("one_hot-q5-m3", "chain-q5", "tree-q5-d2", "hmm-q5")
N = 2048


def row(found: Evaluation, names: tuple[str, ...], length: int) -> str:
    """Excess KL of each."""
    of = {r.predictor: r for r in found.results if r.length == length}
    return " | ".join("at gold" if of[n].at_gold else f"{of[n].excess_kl:.2g}" for n in names)


def heading(first: str, names: tuple[str, ...]) -> str:
    """Of a table."""
    return f"| {first} | {' | '.join(f'`{n}`' for n in names)} |\n|{'---|' * (len(names) + first.count('|') + 1)}"


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    print(heading("world", BUILT))
    for world in (TASK, *(str(WORLDS / f"{name}.toml") for name in SHIFTS)):
        found = mdbench.evaluate(BUILT, task=TASK, world=world, lengths=[32], n_sequences=N, references=())
        print(f"| {Path(world).stem} | {row(found, BUILT, 32)} |", flush=True)
    print(f"\n{heading('world | T', COUNTING)}")
    for name in OWN:
        found = mdbench.evaluate(
            COUNTING, task=str(WORLDS / f"{name}.toml"), lengths=[32, 128], n_sequences=N, references=()
        )
        for length in (32, 128):
            print(f"| {name} | {length} | {row(found, COUNTING, length)} |", flush=True)
    diversity()


def diversity() -> None:
    """Two golds: the Bayes of K atoms, and that of the Dirichlet they were drawn from."""
    task = mdbench.load_task(TASK)
    assert isinstance(task, mdbench.MTD), "it is one"
    print(
        "\n| K | the Dirichlet's Bayes to the atoms' | `trained_l3` to the atoms' | `trained_l3` to the Dirichlet's |"
    )
    print("|---|---|---|---|")
    for n_atoms in (1, 2, 8, 32, 128, 512, 4096):
        world = mdbench.Atoms(f"atoms{n_atoms}", task.order, task.transition, n_atoms=n_atoms, atom_seed=0)
        found = mdbench.evaluate(
            ["bayes", "trained_l3"], task=task, world=world, lengths=[32], n_sequences=N, references=()
        )
        to_atoms = {r.predictor: r.excess_kl for r in found.results}
        probs = {name: of for (name, _, _), of in found.predictions.items()}
        to_dirichlet = kl(probs["bayes"][0], probs["trained_l3"].mean(axis=0)).mean()
        print(
            f"| {n_atoms} | {to_atoms['bayes']:.2g} | {to_atoms['trained_l3']:.2g} | {to_dirichlet:.2g} |", flush=True
        )


if __name__ == "__main__":
    main()
