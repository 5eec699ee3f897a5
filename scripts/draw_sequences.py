"""Draw the public evaluation sequences of the built-in tasks: `python scripts/draw_sequences.py`.

They are committed once, since another release of jax, or another processor in the last digit, may draw others;
`tests/tasks/test_sequences.py` says whether it does. What is there is left as it is.
"""

import argparse
from pathlib import Path

import numpy as np

from mdbench.tasks import N_PUBLIC, PUBLIC_SEED, load_suite, load_task, sample, suite_names, task_names

FOLDER = Path(__file__).parents[1] / "tasks" / "data" / "sequences"

argparse.ArgumentParser(description=__doc__).parse_args()
suites = [load_suite(name) for name in suite_names()]
FOLDER.mkdir(exist_ok=True)
for name in task_names():
    if (FOLDER / f"{name}.npz").exists():
        print(f"{name}: its sequences are there, and stay.")
        continue
    task = load_task(name)
    lengths = [length for suite in suites if name in suite.tasks for length in suite.lengths]
    if not lengths:
        raise SystemExit(f"task '{name}' is in no suite; add it to one in tasks/data/suites.toml, which says how long.")
    drawn = sample(task, max(lengths), N_PUBLIC, PUBLIC_SEED)
    np.savez_compressed(FOLDER / f"{name}.npz", tokens=drawn.tokens.astype(np.uint8), **{task.theta: drawn.theta})
