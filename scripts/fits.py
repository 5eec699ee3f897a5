"""The tables of fits: docs/guides/real_sequences.md and docs/seattle.md.

    python scripts/fits.py [NAME ..]

Series that are read where they lie (the seizures and the wood pewee of Berchtold and Raftery 2002) are looked for in
the folder that `MDBENCH_SERIES` names.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fit_seattle import fitted
from tables import ROOT, make, put_found

import mdbench

HEADINGS = ("model", "order", "LL", "parameters", "BIC", "λ (95%)")
OTHERS = ("fitted_chain:order=0", "fitted_chain:order=1", "fitted_chain:order=2", "fitted_ctw", "bayes")
LONGEST = {"mtd": 4, "per_lag": 2}  # of the fits to Seattle that are shown
SERIES = Path(os.environ.get("MDBENCH_SERIES", ROOT.parent / "shared" / "data"))


def fit(data: Path, *options: str) -> dict[str, Any]:
    """What `mdbench fit` says."""
    said = subprocess.run(["mdbench", "fit", "--data", str(data), *options, "--json"], capture_output=True, check=True)
    return json.loads(said.stdout)


def rows_of(fits: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row a model; the least BIC has a star."""
    least = min(each["bic"] for each in fits)
    rows = []
    for each in fits:
        intervals = each["weights_ci"] or []
        weights = (
            f"{w:.4f} ({low:.3g} .. {high:.3g})"
            for w, (low, high) in zip(each["weights"] or [], intervals, strict=True)
        )
        bic = f"{each['bic']:.1f}" + (" *" if each["bic"] == least else "")
        numbers = f"{each['log_likelihood']:.4f}", str(each["n_parameters"]), bic
        rows.append([each["model"], str(each["order"]), *numbers, ", ".join(weights)])
    return rows


def published() -> None:
    """Berchtold and Raftery (2002), table 3."""
    found = fit(SERIES / "epileptic_seizures.csv", "--order", "2", "--start", "14")
    put_found("seizures", HEADINGS, rows_of([one for one in found["fits"] if one["model"] != "per_lag"]))


def pewee() -> None:
    """The song of a wood pewee, which is no mixture."""
    found = fit(SERIES / "wood_pewee.csv", "--order", "2", "--start", "4", "--bayes")
    best = next(one for one in found["fits"] if one["model"] == "mtd")
    first = next(one for one in found["bayes"]["predictive_checks"] if one["statistic"].endswith("at lag 1"))
    low, high = best["weights_ci"][0]
    rows = [
        ["λ of lag 1, likeliest, with its interval", f"{best['weights'][0]:.3g} ({low:.3g} .. {high:.3g})"],
        ["probability that lag 1 matters", f"{found['bayes']['lags_matter'][0]:.3f}"],
        ["Cramér's V at lag 1, in the data", f"{first['data']:.2f}"],
        ["in series of the posterior", f"{first['low']:.2f} .. {first['high']:.2f}"],
    ]
    put_found("wood pewee", ["what", "found"], rows)


def nights() -> None:
    """A panel with labels and gaps."""
    options = (
        "--order",
        "3",
        "--states",
        "wake,light,deep,rem",
        "--bayes",
        "--out",
        str(ROOT / "docs" / "real_sequences"),
    )
    found = fit(ROOT / "examples" / "nights.csv", *options)
    put_found("nights", HEADINGS, rows_of(found["fits"]))
    rows = [[str(lag), f"{p:.3f}"] for lag, p in enumerate(found["bayes"]["lags_matter"], 1)]
    put_found("lags of nights", ["lag", "probability that it matters"], rows)


def seattle() -> None:
    """Models of the training years; with more lags BIC only rises."""
    put_found(
        "seattle fits", HEADINGS, rows_of([one for one in fitted() if one["order"] <= LONGEST.get(one["model"], 3)])
    )


def test_year() -> None:
    """The fitted MTD against others in the year that no fit has seen."""
    rows = []
    for other in OTHERS:
        (found,) = mdbench.compare("fitted_mtd", other, task="seattle-rain", lengths=[64])
        assert found.difference_ci is not None, "it has nine blocks"
        interval = "{:.3g} .. {:.3g}".format(*found.difference_ci)
        verdict = "tied" if found.verdict == "tied" else f"`{found.verdict}` is better"
        rows.append([f"`{other}`", f"{found.mean_b:.4f}", f"{found.difference:.4f}", interval, verdict])
    rows.append(["`fitted_mtd`", f"{found.mean_a:.4f}", "", "", ""])
    put_found("seattle test", ["model", "its NLL", "MTD less that", "95% interval", "verdict"], rows)


TABLES: dict[str, Callable[[], None]] = {
    "seizures": published,
    "wood pewee": pewee,
    "nights": nights,
    "seattle fits": seattle,
    "seattle test": test_year,
}


if __name__ == "__main__":
    make(__doc__, TABLES)
