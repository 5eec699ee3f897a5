"""Choose the transition matrices of the built-in tasks and write tasks/data/mtd-*.toml.

The rows of π are Dirichlet(1) draws from the first of the seeds 0, 1, 2, .. that makes the task worth solving: no
entry below 0.005, and ignoring the context (the predictor `uniform`) costs at least 0.01 nats at T = 64. With nearly
equal rows nothing can be learnt, and a nearly impossible transition gives the lag away at once.

    python scripts/choose_tasks.py          # prints the seeds it tried and rewrites the files
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.special import rel_entr

from mdbench.baselines import Urn
from mdbench.tasks import MTD, Stream, next_token_probs, sample

SHAPES = [(3, 2), (5, 3), (10, 4)]  # (q, m)
SMALLEST_ENTRY = 0.005
SMALLEST_EXCESS_KL, LENGTH, N_SEQUENCES = 0.01, 64, 2048
LENGTHS = [16, 32, 64, 128]


def excess_kl_of_uniform(task: MTD) -> float:
    """Mean KL(p_B ‖ p at λ = 1/m) in nats over calibration sequences."""
    contexts = sample(task, LENGTH, N_SEQUENCES, seed=0, stream=Stream.CALIBRATION).contexts
    bayes = next_token_probs(task, Urn().posterior(task, contexts).mean[:, 0], contexts)
    uniform = next_token_probs(task, np.full((N_SEQUENCES, task.order), 1 / task.order), contexts)
    return float(rel_entr(bayes, uniform).sum(axis=-1).mean())


def choose(q: int, m: int) -> tuple[MTD, str]:
    """The first task that is worth solving, and a sentence on how it was found."""
    too_small = 0
    for seed in range(100_000):
        transition = np.random.default_rng(seed).dirichlet(np.ones(q), size=q)
        if transition.min() < SMALLEST_ENTRY:
            too_small += 1
            continue
        task = MTD(f"mtd-q{q}-m{m}", transition, m, 1.0, tuple(LENGTHS))
        excess = excess_kl_of_uniform(task)
        print(f"q={q} m={m} seed {seed}: smallest entry {transition.min():.4f}, excess KL of uniform {excess:.4f}")
        if excess >= SMALLEST_EXCESS_KL:
            return (
                task,
                f"numpy default_rng({seed}); smallest entry {transition.min():.4f}, excess KL of uniform "
                f"at T = {LENGTH} {excess:.4f} nats",
            )
    raise RuntimeError(f"no seed makes q={q}, m={m} worth solving")


def main() -> None:
    """Choose and write every task."""
    for q, m in SHAPES:
        task, how = choose(q, m)
        rows = ",\n".join("    [" + ", ".join(repr(float(p)) for p in row) + "]" for row in task.transition)
        text = (
            f"# Written by scripts/choose_tasks.py: rows ~ Dirichlet(1, .., 1), {how}.\n"
            f"version = {task.version}\norder = {m}\nconcentration = 1.0\nlengths = {LENGTHS}\n"
            f"transition = [\n{rows},\n]\n"
        )
        (Path(__file__).parents[1] / "tasks" / "data" / f"{task.name}.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
