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
longest = max(length for name in suite_names() for length in load_suite(name).lengths)
FOLDER.mkdir(exist_ok=True)
for name in task_names():
    if (FOLDER / f"{name}.npz").exists():
        print(f"{name}: its sequences are there, and stay.")
        continue
    drawn = sample(load_task(name), longest, N_PUBLIC, PUBLIC_SEED)
    np.savez_compressed(FOLDER / f"{name}.npz", tokens=drawn.tokens.astype(np.uint8), weights=drawn.weights)
