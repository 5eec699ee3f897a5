"""One task of an evaluation, a shard of its sequences at a time: memory does not grow with their number."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from mdbench.core.cluster import AHEAD, CellFailure, Cluster
from mdbench.core.errors import PredictorError
from mdbench.core.progress import Advance
from mdbench.core.statistics import ten_digits
from mdbench.evaluation.cell import Cell, cells_with
from mdbench.evaluation.gold import begin_gold
from mdbench.evaluation.isolation import Isolated
from mdbench.evaluation.outcome import MOST_KEPT, Evaluation
from mdbench.evaluation.results import FAILED, Differences, Result, Scores, Skipped, Tally, Tie, is_tied, score_cell
from mdbench.evaluation.running import CHUNK, begin_predictions
from mdbench.evaluation.serving import Run, Served
from mdbench.predictors.predictor import is_told
from mdbench.tasks import Predictive, evaluation_sequences

SHARD = 32 * CHUNK  # sequences in memory at a time

MOST_TOGETHER = 16  # chunks that a worker is sent together


class _Scored(NamedTuple):
    """What one predictor said of a shard in one cell, with its scores and the seconds of its chunks."""

    probs: Float[np.ndarray, "R N q"]
    scores: Scores
    seconds: list[float]


ShardScores = list[tuple[Cell, dict[str, _Scored]]]
"""By length, shortest first: the cell, and what each predictor that did not fail said there."""


class Stream:
    """The cells of one task: what has been scored of them, by length and predictor."""

    def __init__(self, run: Run, served: Served, cluster: Cluster | None) -> None:
        self.run, self.served, self.cluster, self.label = run, served, cluster, run.label(served.task)
        self.world = run.drawn_from(served.task)
        self.n = run.n_of(self.world)
        self.blocks = self.world.blocks(self.n)
        self.lengths = sorted(length for length, by_name in served.servers.items() if by_name)
        self.failed = {(f.predictor, f.length): f for f in served.failed}
        self.tallies: dict[int, dict[str, Tally]] = {length: {} for length in self.lengths}
        self.differences = {length: Differences() for length in self.lengths}
        self.predictions: dict[tuple[str, str, int], list[np.ndarray]] = {}
        n_runs = sum(len(server.runs) for by_name in served.servers.values() for server in by_name.values())
        self._gold_advance = _begun_late(run, f"{served.task.name}: gold by {run.gold_of(served.task)}", self.n)
        self._advance = _begun_late(run, f"{served.task.name}: predictors", self.n * n_runs)

    @property
    def shards(self) -> list[slice]:
        """Of its sequences; one of none where nothing is scored."""
        if not self.lengths:
            return [slice(0, 0)]
        return [slice(k, min(k + SHARD, self.n)) for k in range(0, self.n, SHARD)]

    @property
    def n_ahead(self) -> int:
        """Shards that are begun before the first of them is waited for: so many that no worker waits."""
        if self.cluster is None:
            return 0
        return math.ceil(AHEAD * self.cluster.n_workers / math.ceil(min(SHARD, self.n) / CHUNK))

    def begin(self, part: slice) -> Callable[[], ShardScores]:
        """Draw a shard, and begin its gold and its predictions; what is returned waits for their scores."""
        if not self.lengths:
            return list
        run, task, cluster = self.run, self.served.task, self.cluster
        gold = run.gold_of(task)
        drawn = evaluation_sequences(self.world, self.lengths[-1], self.n, run.seed, part)
        blocks = None if self.blocks is None else self.blocks[part]
        contexts, sent = drawn.tokens[:, :-1], []
        if cluster is not None:
            sent = [cluster.send(contexts[k : k + CHUNK]) for k in range(0, len(contexts), CHUNK)]
        begun_gold: Callable[[], Predictive] | None = None
        if gold is not None:
            begun_gold = begin_gold(
                self.world, contexts, self.lengths, gold, self._gold_advance, run.kept_gold, cluster, sent, part.start
            )
        begun = {
            (length, name): [
                begin_predictions(
                    name,
                    one,
                    task,
                    self.world.cut(contexts, length),
                    drawn.theta,
                    self._advance,
                    server.kept,
                    k,
                    None if cluster is None else server.elsewhere(cluster, length, k, sent),
                )
                for k, one in enumerate(server.runs)
            ]
            for length in self.lengths
            for name, server in self.served.servers[length].items()
            if (name, length) not in self.failed
        }

        def wait() -> ShardScores:
            predictive = None
            if begun_gold is not None:
                self._gold_advance(0)
                try:
                    predictive = begun_gold()
                except CellFailure as error:
                    self._fail_all(f"gold by {gold} of task '{task.name}': {error}.")
                    return []
            self._advance(0)
            found = []
            for cell in cells_with(self.world, self.lengths, drawn, run.seed, gold, predictive, blocks):
                scored = {}
                for (length, name), runs in begun.items():
                    if length == cell.length and (name, length) not in self.failed:
                        try:
                            scored[name] = self._score(cell, name, [one() for one in runs])
                        except PredictorError as error:
                            self.failed[name, length] = Skipped(name, self.label, length, str(error), FAILED)
                found.append((cell, scored))
            return found

        return wait

    def _score(self, cell: Cell, name: str, runs: Sequence[tuple[np.ndarray, list[float]]]) -> _Scored:
        """Each chunk's seconds are those of one training seed, in the mean."""
        probs, told = np.stack([probs for probs, _ in runs]), is_told(self.served.servers[cell.length][name].built)
        seconds = np.mean([seconds for _, seconds in runs], axis=0).tolist()
        return _Scored(probs, score_cell(cell, probs, told, self.run.scores), seconds)

    def _fail_all(self, reason: str) -> None:
        for length in self.lengths:
            for name in self.served.servers[length]:
                self.failed.setdefault((name, length), Skipped(name, self.label, length, reason, FAILED))

    def add(self, shard: ShardScores) -> None:
        """Count the scores of a shard in."""
        for cell, scored in shard:
            length, tallies = cell.length, self.tallies[cell.length]
            for name, (probs, scores, seconds) in scored.items():
                tally = Tally(scores, seconds)
                if name in tallies:
                    tallies[name].add(tally)
                else:
                    tallies[name] = tally
                if self.n <= MOST_KEPT:
                    self.predictions.setdefault((name, self.label, length), []).append(probs)
            ranking = {name: s.scores.mean_ranking for name, s in scored.items()}
            known = {name: values for name, values in ranking.items() if values is not None}
            self.differences[length].add(known, cell.blocks)

    def frame(self, part: slice, shard: ShardScores) -> pd.DataFrame:
        """The scores of a shard, a row a sequence and predictor."""
        frames = []
        for cell, scored in shard:
            for name, (_, scores, _) in scored.items():
                where = {"predictor": name, "task": self.label, "length": cell.length}
                frames.append(scores.frame(part.start).assign(**where)[[*where, "sequence", *scores.values]])
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def ranked(self) -> list[tuple[int, list[Result]]]:
        """By length, the results in their order, without those that failed in a part of it."""
        gold, seed = self.run.gold_of(self.served.task), int(self.run.seed)
        found = []
        for length, tallies in self.tallies.items():
            ok = {name: tally for name, tally in tallies.items() if (name, length) not in self.failed}
            results = [tally.result(name, self.label, length, seed, gold) for name, tally in ok.items()]
            found.append((length, sorted(results, key=_rank_key)))
        return found

    def evaluation(self, frames: Sequence[pd.DataFrame] | None) -> Evaluation:
        """All that has been scored."""
        ranked = self.ranked()
        built = {name: s.built for by_name in self.served.servers.values() for name, s in by_name.items()}
        cards = {(name, self.label): getattr(one, "card", None) for name, one in built.items()}
        kept = {key: parts for key, parts in self.predictions.items() if (key[0], key[2]) not in self.failed}
        return Evaluation(
            [result for _, results in ranked for result in results],
            self.served.skipped,
            list(self.failed.values()),
            [tie for length, results in ranked for tie in _ties(results, self.differences[length])],
            None if frames is None else pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
            {key: card for key, card in cards.items() if card is not None},
            {name: one.defaults for name, one in built.items() if isinstance(one, Isolated)},
            {key: np.concatenate(parts, axis=1) for key, parts in kept.items()},
            {(self.label, length): found for length, found in self.differences.items()},
        )


def batch_of(streams: Sequence[Stream], cluster: Cluster) -> int:
    """How many chunks a worker is sent together: one where there are few, so that all workers have some."""
    n_chunks = sum(math.ceil(stream.n / CHUNK) for stream in streams)
    return max(1, min(MOST_TOGETHER, n_chunks // (AHEAD * AHEAD * cluster.n_workers)))


def _ties(results: Sequence[Result], differences: Differences) -> list[Tie]:
    """Neighbours in one cell's ranking that are not told apart: by chance or within the gold's error."""
    found = []
    for better, worse in pairwise(result for result in results if result.ranking is not None):
        difference = differences.between(worse.predictor, better.predictor)
        if is_tied(difference, better, worse):
            names = (better.predictor, worse.predictor)
            found.append(Tie(better.task, better.length, names, difference.mean, difference.interval))
    return found


def _rank_key(result: Result) -> float:
    """What ranks; what is told θ comes first, and equals stay in the order they were asked for."""
    return -1.0 if result.ranking is None else ten_digits(result.ranking)


def _begun_late(run: Run, description: str, total: int) -> Advance:
    """An :data:`Advance` of something that begins when it is first called."""
    begun: list[Advance] = []
    lock = threading.Lock()  # a cluster speaks from a thread of its own

    def advance(k: float) -> None:
        with lock:
            if not begun:
                begun.append(run.progress(description, total))
        begun[0](k)

    return advance
