"""Write tasks/data/seattle-rain.toml: daily rain in Seattle, an MTD fitted to 2012 to 2014, 2015 to predict.

    python scripts/fit_seattle.py

Days are dry (0 mm), light (less than 5 mm) or heavy. The series is in the package vega_datasets, which the extra `data`
installs; the task file has the numbers of the fit, and no token. The column `weather` of the same table would not do:
its words change their meaning (fog stands for 5 days of 2012 and 151 of 2014, rain for 191 and 3).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mdbench.posteriors.reading import Tokens
from mdbench.series.benchmark import task_from_data
from mdbench.series.fitted import fit
from mdbench.tasks.recorded import read_packaged

DATA = {
    "package": "vega_datasets",
    "extra": "data",
    "file": "_data/seattle-weather.csv",
    "column": "precipitation",
    "bounds": [0.1, 5.0],
    "trained": 1096,
}
LABELS = ("dry", "light", "heavy")
ORDER = 2  # the smallest BIC of orders 2 to 7
START = 3  # as in the table of docs/seattle.md
LENGTHS = [16, 64]


def fitted() -> list[dict[str, Any]]:
    """All models of the training part."""
    tokens = read_packaged(DATA)["tokens"]
    return fit(Tokens([tokens[: DATA["trained"]]], labels=LABELS), 7)["fits"]


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    tokens = read_packaged(DATA)["tokens"]
    share = (DATA["trained"] + 0.5) / len(tokens)
    given = Tokens([tokens], labels=LABELS)
    task, _ = task_from_data(given, ORDER, "seattle-rain", share=share, start=START, lengths=LENGTHS)
    data = ", ".join(f"{key} = {value!r}" for key, value in DATA.items()).replace("'", '"')
    rows = "".join(f"    {row},\n" for row in task.transition.tolist())
    text = f"""# Days in Seattle: dry, less than 5 mm of rain, more. Made by scripts/fit_seattle.py.
model = "recorded"
data = {{ {data} }}
lengths = {LENGTHS}
order = {ORDER}
weights = {task.weights.tolist()}
transition = [
{rows}]
"""
    (Path(__file__).parents[1] / "tasks" / "data" / "seattle-rain.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
