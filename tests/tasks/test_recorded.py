"""Recorded sequences: which tokens are scored and from what, no truth, blocks, fitted models, training."""

import json
import math
import sys
from itertools import pairwise

import numpy as np
import pytest

import mdbench
from mdbench.core.errors import InputError, Unsupported
from mdbench.core.statistics import BlockMoments, mean_interval, moments
from mdbench.evaluation.agreement import pairwise as pairwise_agreement
from mdbench.evaluation.contract import check
from mdbench.evaluation.evaluation import evaluate
from mdbench.evaluation.gold import check_gold
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import ContextTree, Recorded, load_task, task_from_json, task_to_json
from mdbench.tasks.recorded import read_packaged
from mdbench.training.data import Batches

PI = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]])
WEIGHTS = np.array([0.6, 0.4])


def series(length, seed, weights=WEIGHTS):
    """Tokens of an MTD, one after the other."""
    rng = np.random.default_rng(seed)
    tokens = [*rng.integers(3, size=2)]
    while len(tokens) < length:
        tokens.append(rng.choice(3, p=weights @ PI[tokens[-1:-3:-1]]))
    return np.array(tokens)


def recorded(sequences, trained, lengths=(4, 8), **changes):
    ends = np.cumsum([len(s) for s in sequences])
    given = {"transition": PI, "order": 2, "weights": WEIGHTS} | changes
    return Recorded("mine", **given, tokens=np.concatenate(sequences), ends=ends, trained=trained, lengths=lengths)


GAPPED = series(120, 1)
GAPPED[[30, 90]] = -1
TASK = recorded([series(600, 0), GAPPED, series(40, 2)], [400, 80, 20])


def scored_by_hand(task, length):
    """(context, next token) of every token that is to be scored, in plain loops."""
    found = []
    for tokens, n in zip(task.sequences, task.trained, strict=True):
        for t in range(n, len(tokens)):
            if t >= task.longest and (tokens[t - task.longest : t + 1] >= 0).all():
                found.append((tokens[t - length : t].tolist(), int(tokens[t])))
    return found


class Asked:
    """Says that all states are equally likely, and keeps what it was asked."""

    def __init__(self):
        self.contexts = []

    def predict(self, contexts):
        self.contexts += contexts.tolist()
        return np.full((len(contexts), 3), 1 / 3)


@pytest.mark.parametrize("length", [4, 8])
def test_every_test_token_is_predicted_from_the_tokens_before_it_and_no_other(length):
    asked = Asked()
    (result,) = evaluate(asked, task=TASK, lengths=[length], references=()).results
    by_hand = scored_by_hand(TASK, length)
    assert asked.contexts[: len(by_hand)] == [context for context, _ in by_hand]
    assert result.n_sequences == TASK.n_test == len(by_hand) == 200 + 40 - 1 - 8 + 20
    assert result.nll == pytest.approx(math.log(3), rel=1e-14)


def test_the_score_is_the_log_loss_of_the_token_that_came():
    (result,) = evaluate("fitted_mtd", task=TASK, lengths=[4], references=()).results
    by_hand = [-math.log(WEIGHTS @ PI[context[:-3:-1], came]) for context, came in scored_by_hand(TASK, 4)]
    assert result.nll == pytest.approx(np.mean(by_hand), rel=1e-13)
    flat = result.to_dict()
    assert all(flat[k] is None for k in ("kl", "excess_kl", "excess_kl_ci", "cross_entropy", "gold", "gold_error"))


def test_what_stands_in_the_test_part_after_a_token_changes_nothing_before_it():
    changed = TASK.tokens.copy()
    changed[599] = (changed[599] + 1) % 3  # the last of the first sequence
    other = recorded(np.split(changed, TASK.ends[:-1]), TASK.trained)
    names = ["fitted_chain:order=2", "fitted_ctw", "bayes"]
    one, two = (evaluate(names, task=t, lengths=[8], references=()) for t in (TASK, other))
    for name in names:
        a, b = (found.predictions[name, "mine", 8][0] for found in (one, two))
        np.testing.assert_array_equal(a, b)
    assert TASK.task_hash != other.task_hash


def test_rows_are_ranked_by_log_loss_with_ties_and_paired_by_block():
    found = evaluate("md1", task=TASK)
    for length in (4, 8):
        rows = [r for r in found.results if r.length == length]
        assert {r.predictor for r in rows} == {"md1", *TASK.references}
        assert [r.nll for r in rows] == sorted(r.nll for r in rows)
        for better, worse in pairwise(rows):
            difference = found.differences["mine", length].between(worse.predictor, better.predictor)
            frame = found.per_sequence[found.per_sequence.length == length].pivot(
                index="sequence", columns="predictor", values="nll"
            )
            by_hand = BlockMoments.of(
                (frame[worse.predictor] - frame[better.predictor]).to_numpy(), TASK.blocks(TASK.n_test)
            ).interval
            assert difference.interval == pytest.approx(by_hand.interval, rel=1e-9)
            tied = any(t.length == length and t.predictors == (better.predictor, worse.predictor) for t in found.ties)
            assert tied == difference.holds_zero
    (cell, *_) = mdbench.compare("fitted_mtd", "fitted_chain:order=0", task=TASK)
    assert (cell.score, cell.excess_kl_a, cell.gold_error_a, cell.verdict) == ("nll", None, None, "fitted_mtd")
    assert cell.difference == pytest.approx(cell.mean_a - cell.mean_b, rel=1e-12)


def test_tables_and_json_say_that_there_is_no_truth(tmp_path, run, monkeypatch):
    path = tmp_path / "mine.toml"
    np.savez(tmp_path / "data.npz", tokens=TASK.tokens, ends=TASK.ends, trained=TASK.trained)
    path.write_text(
        f'model = "recorded"\ndata = "data.npz"\norder = 2\nlengths = [8]\nweights = {WEIGHTS.tolist()}\n'
        f"transition = {PI.tolist()}\n"
    )
    ran = run("evaluate", "--predictor", "oracle", "--predictor", "uniform", "--task", path)
    assert "no truth" in ran.out
    assert "no gold" in ran.out
    assert "nobody knows one" in ran.out
    row = next(line for line in ran.out.splitlines() if "uniform" in line)
    assert row.count(" - ") == 3
    (one, *_) = json.loads(run("evaluate", "--predictor", "uniform", "--no-references", "--task", path, "--json").out)[
        "results"
    ]
    assert (one["kl"], one["excess_kl"], one["gold"], one["n_blocks"]) == (None, None, None, 9)
    for options, sentence in (
        (["--gold", "exact"], "there is no gold"),
        (["--seed", "3"], "leave out seed 3"),
        (["--lengths", "9"], "longer lengths"),
        (["--n-sequences", "1000"], "test tokens to predict, not 1000"),
        (["--world", "mtd-q3-m2"], "generative model"),
    ):
        refused = run("evaluate", "--predictor", "uniform", "--task", path, *options)
        assert refused.code == 2
        assert sentence in refused.err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.npz").unlink()
    assert "data.npz' cannot be read" in run("show", "mine.toml").err


def test_a_block_is_of_neighbours_in_one_sequence_and_a_tenth_of_all_at_least():
    blocks = TASK.blocks(TASK.n_test)
    owners = np.repeat([0, 1, 2], [200, 31, 20])  # 251: at least 26 each, so 7 blocks and one each of the others
    assert (np.diff(blocks) >= 0).all()
    assert (np.diff(blocks) <= 1).all()
    assert [len(set(blocks[owners == k])) for k in range(3)] == [7, 1, 1]
    assert all(len(set(owners[blocks == block])) == 1 for block in set(blocks))
    assert np.ptp(np.bincount(blocks)[:7]) <= 1


def test_block_moments_are_those_of_a_linear_regression_with_clusters():
    """Clusters of equal sizes: the interval of their means. Of unequal ones: the sandwich of the mean, by matrices."""
    rng = np.random.default_rng(0)
    values, blocks = rng.normal(size=60), np.repeat(np.arange(6), 10)
    of_means = mean_interval(values.reshape(6, 10).mean(axis=1))
    found = moments(values, blocks).interval
    assert found.interval == pytest.approx(of_means.interval, rel=1e-12)
    blocks = np.repeat(np.arange(4), [3, 17, 30, 10])
    member = (blocks[:, None] == np.arange(4)).astype(float)
    ones, residual = np.ones(60), values - values.mean()
    meat = ones @ np.diag(residual) @ member @ member.T @ np.diag(residual) @ ones
    assert moments(values, blocks).interval.se == pytest.approx(math.sqrt(4 / 3 * meat) / 60, rel=1e-12)
    parts = BlockMoments.of(values[:25], blocks[:25]) + BlockMoments.of(values[25:], blocks[25:])
    assert parts.interval.interval == pytest.approx(moments(values, blocks).interval.interval, rel=1e-12)
    assert moments(values[:3], blocks[:3]).interval.interval is None
    assert moments(np.where(blocks == 1, np.inf, values), blocks).interval.mean == np.inf


@pytest.mark.parametrize("by_blocks", [True, False])
def test_intervals_cover_the_true_difference_of_dependent_series(by_blocks):
    """A sticky chain against independence, both known: as often as they say by blocks, far too seldom without them."""
    rng, n, count, stay = np.random.default_rng(0), 1000, 400, 0.9
    tokens = (np.cumsum(rng.random((count, n + 8)) > stay, axis=1) + rng.integers(2, size=(count, 1))) % 2
    task = recorded([tokens[0]], [8], (8,), transition=[[stay, 1 - stay], [1 - stay, stay]], weights=[1.0, 0.0])
    chain = np.log(np.where(tokens[:, 8:] == tokens[:, 7:-1], stay, 1 - stay))
    differences = chain - np.log(np.where(tokens[:, 8:] == 1, 0.8, 0.2))
    truth = stay * math.log(stay) + (1 - stay) * math.log(1 - stay) - 0.5 * math.log(0.8 * 0.2)
    blocks = task.blocks(n) if by_blocks else None
    intervals = [moments(values, blocks).interval.interval for values in differences]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.91 < covered < 0.98 if by_blocks else covered < 0.85


def counted(task, context):
    """How often each state came after that context in the training part, in plain loops."""
    counts, k = np.zeros(3), len(context)
    for part in task.training:
        for t in range(k, len(part)):
            if part[t] >= 0 and part[t - k : t].tolist() == list(context):
                counts[part[t]] += 1
    return counts


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_fitted_chain_counts_the_training_part_and_gives_the_unseen_the_prior(order):
    few = recorded([series(60, 3)], [30], (8,))
    chain = build_predictor(f"fitted_chain:order={order}", few)
    contexts = np.random.default_rng(0).integers(3, size=(20, 8))
    for context, probs in zip(contexts, chain.predict(contexts), strict=True):
        counts = counted(few, context[8 - order :].tolist())
        np.testing.assert_allclose(probs, (counts + 0.5) / (counts.sum() + 1.5), rtol=1e-14)
    if order == 3:
        assert (np.abs(chain.predict(contexts) - 1 / 3).max(axis=1) < 1e-15).any()


def test_fitted_context_tree_weighting_is_the_gold_of_the_tree_on_the_training_part():
    one = recorded([series(80, 4)], [60], (8,))
    contexts = np.random.default_rng(1).integers(3, size=(12, 8))
    tree = ContextTree("tree", 3, 2)
    found = build_predictor("fitted_ctw:depth=2", one).predict(contexts)
    for context, probs in zip(contexts, found, strict=True):
        joined = np.concatenate([one.training[0], context])[None]
        # What stands between the two parts is no transition: the counts of the joined sequence less those.
        counts = np.zeros((1, 9, 3))
        for t in range(2, 60):
            counts[0, 3 * joined[0, t - 2] + joined[0, t - 1], joined[0, t]] += 1
        at = np.array([3 * context[-2] + context[-1]])
        np.testing.assert_allclose(probs, tree.predicted(counts, at)[0], rtol=1e-13)
    last = one.training[0][None]
    whole = tree.predictive(last, [60]).probs[0, 0]
    np.testing.assert_allclose(build_predictor("fitted_ctw:depth=2", one).predict(last[:, -8:])[0], whole, rtol=1e-12)


@pytest.mark.parametrize("name", ["fitted_chain:order=2", "fitted_ctw"])
def test_the_contract_holds(name):
    verdicts = {c.name: c.verdict for c in check(name, TASK, [8])}
    assert "fail" not in verdicts.values()
    assert verdicts["relabelling"] == verdicts["fresh process"] == "pass"
    assert verdicts["memorised"] == "not applicable"


def test_fitted_models_are_for_recorded_sequences_alone():
    with pytest.raises(Unsupported, match="needs recorded sequences"):
        build_predictor("fitted_ctw", mdbench.load_task("mtd-q3-m2"))
    with pytest.raises(InputError, match="there is no gold"):
        check_gold(TASK, 8, "exact")
    with pytest.raises(Unsupported, match="nobody knows one"):
        evaluate("oracle", task=TASK, lengths=[8], references=())


def test_training_draws_windows_of_the_training_part_and_no_other():
    batches = Batches(TASK, 8, "token", 64, 1, 0, "cpu")
    tokens, targets = batches[0]
    drawn = zip(map(tuple, tokens.tolist()), targets.argmax(1).tolist(), strict=True)
    there = set()
    for part in TASK.training:
        for t in range(8, len(part)):
            if (part[t - 8 : t + 1] >= 0).all():
                there.add((tuple(part[t - 8 : t].tolist()), int(part[t])))
    rows = set(drawn)
    assert rows <= there
    assert len(rows) > 40
    np.testing.assert_array_equal(tokens, Batches(TASK, 8, "token", 64, 1, 0, "cpu")[0][0])
    for target in ("bayes", "conditional"):
        with pytest.raises(InputError, match="take the target 'token'"):
            Batches(TASK, 8, target, 4, 1, 0, "cpu")


def test_how_far_predictors_are_apart_counts_blocks_and_not_tokens():
    """Every token twice, in its block, is no more evidence than once; independent tokens would be."""
    p, q = np.random.default_rng(0).dirichlet(np.ones(3), (2, 60))

    def half_width(times, task):
        probs = {name: np.repeat(rows, times, axis=0) for name, rows in (("p", p), ("q", q))}
        low, high = pairwise_agreement(probs, task, 4, "").pairs[0].kl_ci
        return high - low

    once, twice = (half_width(times, recorded([series(8 + 60 * times, 0)], [8])) for times in (1, 2))
    assert twice == pytest.approx(once, rel=1e-12)
    independent = load_task("mtd-q3-m2")
    assert half_width(2, independent) < 0.75 * half_width(1, independent)


@pytest.mark.parametrize("ask", [lambda: mdbench.agree(["fitted_mtd", "uniform"], task=TASK, length=8, n_sequences=9),
                                 lambda: mdbench.identify("fitted_mtd", task=TASK, lengths=[8])])  # fmt: skip
def test_nobody_is_given_drawn_sequences_for_recorded_ones(ask):
    with pytest.raises((InputError, Unsupported), match="the sequences of 'mine' were recorded"):
        ask()


PACKAGED = {"package": "vega_datasets", "extra": "data", "file": "_data/seattle-weather.csv"}
PACKAGED |= {"column": "precipitation", "bounds": [0.1, 5.0], "trained": 1096}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (5, "must be the name of a file, or a table with package"),
        ({"package": "vega_datasets"}, "must be the name of a file, or a table with package"),
        (PACKAGED | {"bounds": "a"}, "bounds cannot be 'a'"),
        (PACKAGED | {"bounds": ["a"]}, "bounds must be numbers"),
        (PACKAGED | {"bounds": [5.0, 0.1]}, "bounds must be ascending"),
        (PACKAGED | {"column": "weather"}, "column 'weather' of .* must be numbers"),
        (PACKAGED | {"column": "none"}, "column 'none' of .* must be numbers"),
        (PACKAGED | {"file": "none.csv"}, "cannot be read"),
        (PACKAGED | {"file": "../none.csv"}, "a path within it"),
        (PACKAGED | {"package": "json.tool"}, "the name of a package"),
    ],
    ids=range(10),
)
def test_a_task_file_can_name_no_other_data(data, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        Recorded.of_table({"data": data}, tmp_path)


def test_a_task_file_imports_nothing():
    """A module that prints when it is imported; it is no package with files."""
    with pytest.raises(InputError, match="the package this, which is not installed"):
        read_packaged(PACKAGED | {"package": "this"})
    assert "this" not in sys.modules


def test_a_process_of_its_own_gets_the_same_task():
    again = task_from_json(json.loads(json.dumps(task_to_json(TASK))))
    assert again.task_hash == TASK.task_hash
    np.testing.assert_array_equal(again.test_windows(slice(None)), TASK.test_windows(slice(None)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": [1.0]}, "weights must be 2 numbers"),
        ({"weights": [0.5, 0.6]}, "weights sums to"),
        ({"trained": [0]}, "the training part is empty"),
        ({"trained": [50]}, "no token after the training part has 8 tokens before it"),
        ({"trained": [51]}, "trained must say"),
        ({"tokens": np.full(50, 3)}, "tokens must be states 0..2"),
        ({"tokens": np.zeros(50)}, "whole numbers in a row"),
        ({"ends": [49]}, "ends must say"),
    ],
)
def test_what_cannot_be_is_refused(changes, sentence):
    given = {"transition": PI, "order": 2, "weights": WEIGHTS, "tokens": series(50, 0), "ends": [50], "trained": [30]}
    with pytest.raises(InputError, match=sentence):
        Recorded("mine", **given | changes, lengths=(8,))
