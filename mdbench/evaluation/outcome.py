"""What an evaluation found: scores, ranks and ties, what failed, and how it is told."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from mdbench.core.files import json_ready
from mdbench.core.wording import title
from mdbench.evaluation.results import Differences, Result, Skipped, Tie, columns

SCHEMA_VERSION = 1

MOST_KEPT = 2**16  # sequences of a cell whose predictions and single scores are held as well


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` returns.

    Attributes:
        results: one a predictor and cell, ranked within the cell (the unranked oracle first): by excess KL, or by NLL
            where sequences were recorded.
        skipped: cells of the suite that a predictor cannot serve.
        failed: cells in which a predictor broke its contract or raised an error; the others went on.
        ties: neighbours in the ranking that these sequences cannot tell apart.
        per_sequence: every sequence's scores, in the columns predictor, task, length, sequence, and one a score: kl,
            excess_kl, cross_entropy, nll, and those of other packages; None where a cell has more than `MOST_KEPT`.
        cards: (predictor, task) -> what a predictor that has a ``card`` says of itself (JSON-ready).
        defaults: predictor -> the options that it takes, with their defaults, of what ran in a process of its own.
        predictions: (predictor, task, length) -> (R, N, q), the probabilities that were scored, by run (training seed);
            likewise.
        differences: (task, length) -> paired differences in what ranks between the predictors of that cell.
    """

    results: list[Result]
    skipped: list[Skipped]
    failed: list[Skipped]
    ties: list[Tie]
    per_sequence: pd.DataFrame | None = field(repr=False)
    cards: dict[tuple[str, str], Any] = field(repr=False)
    defaults: dict[str, dict[str, Any]] = field(repr=False)
    predictions: dict[tuple[str, str, int], Float[np.ndarray, "R N q"]] = field(repr=False)
    differences: dict[tuple[str, int], Differences] = field(repr=False)

    @classmethod
    def merged(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """One of several tasks, from those of each."""
        frames = [part.per_sequence for part in parts if part.per_sequence is not None and len(part.per_sequence)]
        kept = all(part.per_sequence is not None for part in parts)
        return cls(
            [r for part in parts for r in part.results],
            [s for part in parts for s in part.skipped],
            [f for part in parts for f in part.failed],
            [t for part in parts for t in part.ties],
            None if not kept else pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
            {key: card for part in parts for key, card in part.cards.items()},
            {name: defaults for part in parts for name, defaults in part.defaults.items()},
            {key: probs for part in parts for key, probs in part.predictions.items()},
            {key: found for part in parts for key, found in part.differences.items()},
        )

    @property
    def table(self) -> pd.DataFrame:
        """The results, one a row; an interval is two columns, so that it comes back from a CSV file as two numbers."""
        rows = []
        for result in self.results:
            row: dict[str, Any] = {}
            for name, value in result.to_dict().items():
                if name.endswith("_ci"):
                    row |= dict(zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True))
                else:
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def notes(self) -> list[str]:
        """A sentence each: what is missing and why, the ties, the scores by training seed."""
        notes = []
        for who, reason in dict.fromkeys((s.predictor, s.reason) for s in self.skipped):
            notes.append(f"Left out: {reason}" if who in reason else f"Left out: {who}: {reason}")
        notes += [f"Failed: {reason}" for reason in dict.fromkeys(f.reason for f in self.failed)]
        tied: dict[tuple[str, ...], list[str]] = {}
        for tie in self.ties:
            tied.setdefault((tie.task, *sorted(tie.predictors)), []).append(str(tie.length))
        for (task, a, b), lengths in tied.items():
            notes.append(f"Tied at {task}, T = {', '.join(lengths)}: {a} and {b}.")
        by_seed: dict[tuple[str, str, str], list[str]] = {}
        for r in self.results:
            if r.runs:
                seeds = ", ".join(f"{value:.3g}" for value in r.runs)
                by_seed.setdefault((r.predictor, r.task, title(r.ranked_by)), []).append(f"T = {r.length}: {seeds}")
        for (predictor, task, score), cells_of in by_seed.items():
            notes.append(f"{predictor} at {task}, {score} by training seed: {'; '.join(cells_of)}.")
        if any(r.at_gold for r in self.results):
            notes.append("at gold: excess KL below the error of the gold it is measured against.")
        return notes

    def __str__(self) -> str:
        return self.table.to_string(index=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: infinities as the strings "inf" and "-inf", what does not exist as null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "results": [json_ready(result.to_dict()) for result in self.results],
            "skipped": [json_ready(asdict(skipped)) for skipped in self.skipped],
            "failed": [json_ready(asdict(failed)) for failed in self.failed],
            "ties": [json_ready(asdict(tie)) for tie in self.ties],
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def _repr_html_(self) -> str:
        """What a notebook shows: scores and notes, as the command prints them."""
        tables = []
        for _, same in groupby(self.results, key=lambda r: r.ranked_by):
            results = list(same)
            rows = [[r.task, *r.row] for r in results]
            tables.append(pd.DataFrame(rows, columns=["task", *columns(results)]).to_html(index=False))
        return "".join(tables) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
