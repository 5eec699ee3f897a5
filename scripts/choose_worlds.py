"""Write the built-in tasks beside the MTDs: those of the suites selective, markov, hmm, tree and diversity.

One-hot and drawn atoms take the matrices of the MTDs. The hidden Markov models have sticky hidden states (0.9) and
emissions ~ Dirichlet(1), from the first of the seeds 0, 1, 2, .. that makes the task worth solving: no probability
below 0.02, and knowing nothing of θ (the predictor `uniform`) costs at least 0.01 nats at T = 64.

    python scripts/choose_worlds.py          # rewrites tasks/data/*.toml, the MTDs excepted
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.special import rel_entr

from mdbench.tasks import HMM, load_task, sample

DATA = Path(__file__).parents[1] / "tasks" / "data"
SELECTIVE = ("mtd-q3-m2", "mtd-q5-m3")
DIVERSITY = (2, 16, 128, 1024)
CHAINS = {"markov-q3-k1": (3, 1), "markov-q5-k1": (5, 1)}
TREES = {"tree-q2-d3": 2, "tree-q3-d3": 3}
HIDDEN = {"hmm-q3-h2-k4": (3, 2, 4), "hmm-q5-h3": (5, 3, 1)}  # states, hidden states, models
SMALLEST, SMALLEST_EXCESS_KL, LENGTH, N_SEQUENCES = 0.02, 0.01, 64, 2048
STAY = 0.9


def rows(matrix: np.ndarray, indent: str = "    ") -> str:
    """A matrix as TOML."""
    return "[\n" + "".join(f"{indent}{list(map(float, row))},\n" for row in matrix) + "]"


def write(name: str, about: str, text: str) -> None:
    """One task file."""
    (DATA / f"{name}.toml").write_text(
        f"# Written by scripts/choose_worlds.py: {about}.\nversion = 1\n{text}\n", encoding="utf-8"
    )
    print(name)


def hidden(q: int, h: int, k: int) -> tuple[HMM, int, float]:
    """The first models that are worth telling apart or following, their seed and what `uniform` costs."""
    stay = np.full((h, h), (1 - STAY) / (h - 1)) + (STAY - (1 - STAY) / (h - 1)) * np.eye(h)
    for seed in range(10_000):
        emission = np.random.default_rng(seed).dirichlet(np.ones(q), (k, h))
        if emission.min() < SMALLEST:
            continue
        arrays = np.full((k, h), 1 / h), np.broadcast_to(stay, (k, h, h)), emission
        task = HMM("hidden", *arrays)
        contexts = sample(task, LENGTH, N_SEQUENCES, 1).contexts
        bayes = task.predictive(contexts, [LENGTH]).probs[:, 0]
        cost = float(rel_entr(bayes, task.prior_predictive(contexts)).sum(axis=-1).mean())
        if cost >= SMALLEST_EXCESS_KL:
            return task, seed, cost
    raise RuntimeError(f"no seed makes {k} models of {h} hidden states over {q} states worth solving")


def main() -> None:
    """Write every task."""
    for name in SELECTIVE:
        mtd = load_task(name)
        text = f'model = "atoms"\norder = {mtd.order}\none_hot = true\ntransition = {rows(mtd.transition)}'
        write(name.replace("mtd", "selective"), f"{name} with one lag a sequence", text)
    mtd = load_task("mtd-q5-m3")
    for k in DIVERSITY:
        atoms = np.random.default_rng(0).dirichlet(np.full(mtd.order, mtd.concentration), k)
        text = f'model = "atoms"\norder = {mtd.order}\nconcentration = {mtd.concentration}\n'
        text += f"transition = {rows(mtd.transition)}\natoms = {rows(atoms)}"
        write(f"diversity-q5-m3-{k}", f"mtd-q5-m3 with {k} weights drawn from its prior, default_rng(0)", text)
    for name, (q, order) in CHAINS.items():
        write(
            name,
            "a chain whose rows ~ Dirichlet(1, .., 1)",
            f'model = "markov"\nn_states = {q}\norder = {order}\nconcentration = 1.0',
        )
    for name, q in TREES.items():
        write(
            name,
            "trees and rows drawn for each sequence",
            f'model = "context_tree"\nn_states = {q}\ndepth = 3\nconcentration = 0.5\nstop = 0.5',
        )
    for name, shape in HIDDEN.items():
        task, seed, cost = hidden(*shape)
        parts = zip(*task.matrices, strict=True)
        tables = [f"initial = {list(map(float, a))}\ntransition = {rows(b)}\nemission = {rows(c)}" for a, b, c in parts]
        text = 'model = "hmm"\n' + (tables[0] if len(tables) == 1 else "\n".join(f"[[models]]\n{t}" for t in tables))
        write(name, f"emissions by default_rng({seed}), excess KL of uniform at T = {LENGTH} {cost:.4f} nats", text)


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    main()
