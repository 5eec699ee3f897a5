"""How often the block-wise intervals of recorded sequences hold the true difference of two predictors.

Series are drawn from models that are known, and each is the test part of a task of its own. Two predictors with fixed
numbers look at the last token alone (a Markov chain) and at the last two (an MTD); what they differ by in the long run
follows from the stationary distribution of pairs of tokens. The third infers λ from the 32 tokens before, anew at every
token; what it differs by is the mean over all series.

``python scripts/block_coverage.py`` makes the table of docs/guides/own_benchmark.md, in minutes. One column takes
tokens as independent, for comparison.
"""

import argparse

import numpy as np
from tables import Table

from mdbench.core.statistics import mean_interval, moments
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import MTD, Recorded, load_task

LENGTH, N_SERIES = 32, 1000
TRAINING = 64  # tokens at the start, which nothing is scored on
WEIGHTS = np.array([0.6, 0.4])
STICKY = [[0.95, 0.05], [0.1, 0.9]]


def series_of(task, n, length, rng):
    """(n, length) tokens of the task's MTD with the weights above, after a thousand more."""
    tokens = rng.integers(task.n_states, size=(n, length + 1000))
    cumulative = task.transition.cumsum(axis=1)
    for t in range(2, tokens.shape[1]):
        back = 1 + (rng.random(n) >= WEIGHTS[0])
        before = tokens[np.arange(n), t - back]
        tokens[:, t] = (rng.random(n)[:, None] >= cumulative[before, :-1]).sum(axis=1)
    return tokens[:, 1000:]


def pairs_of(task):
    """Stationary distribution of (y_{t-2}, y_{t-1}), and p(y_t) after each, (q, q) and (q, q, q)."""
    q, pi = task.n_states, task.transition
    rows = WEIGHTS[0] * pi[None, :, :] + WEIGHTS[1] * pi[:, None, :]
    step = np.zeros((q * q, q * q))
    for a in range(q):
        for b in range(q):
            step[a * q + b, b * q : (b + 1) * q] = rows[a, b]
    return np.linalg.matrix_power(step, 10_000)[0].reshape(q, q), rows


def differences(task, n_series, n_test, rng):
    """Of every test token of every series, chain minus MTD and window minus MTD, and what they are in truth."""
    stationary, rows = pairs_of(task)
    chain = np.einsum("ab,abc->bc", stationary, rows) / stationary.sum(axis=0)[:, None]
    tokens = series_of(task, n_series, TRAINING + n_test, rng)
    at = np.arange(TRAINING, tokens.shape[1])
    a, b, c = tokens[:, at - 2], tokens[:, at - 1], tokens[:, at]
    of_mtd = -np.log(rows[a, b, c])
    fixed = -np.log(chain[b, c]) - of_mtd
    truth = float((stationary[..., None] * rows * (np.log(rows) - np.log(chain)[None])).sum())
    windows = np.lib.stride_tricks.sliding_window_view(tokens, LENGTH, axis=1)[:, TRAINING - LENGTH : -1]
    bayes = build_predictor("bayes", task)
    inferred = np.stack([-np.log(bayes.predict(w)[np.arange(n_test), y]) for w, y in zip(windows, c, strict=True)])
    window = inferred - of_mtd
    recorded = Recorded(
        "series", task.transition, 2, WEIGHTS, tokens[0], [tokens.shape[1]], [TRAINING], lengths=[LENGTH]
    )
    blocks = recorded.blocks(n_test)
    return blocks, {"chain - MTD": (fixed, truth), "window - MTD": (window, float(window.mean()))}


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    headings = ["model", "test tokens", "difference", "as if independent", "by blocks", "standard error"]
    table = Table("block coverage", headings)
    for task in (load_task("mtd-q3-m2"), MTD("sticky", STICKY, 2)):
        for n_test in (146, 365, 2000):
            count = N_SERIES if n_test < 1000 else N_SERIES // 4
            blocks, found = differences(task, count, n_test, np.random.default_rng(n_test))
            for what, (values, truth) in found.items():
                held = []
                for one in values:
                    intervals = [mean_interval(one).interval, moments(one, blocks).interval.interval]
                    held.append([low <= truth <= high for low, high in intervals])
                alone, by_blocks = np.mean(held, axis=0)
                error = (by_blocks * (1 - by_blocks) / count) ** 0.5
                shares = (f"{share:.3f}" for share in (alone, by_blocks, error))
                table.add(task.name, str(n_test), what, *shares)
    table.put()


if __name__ == "__main__":
    main()
