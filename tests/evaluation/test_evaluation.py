"""Evaluation: scores recomputed by hand, promises about batches and sequences, and what it refuses."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mdbench
from mdbench.core.errors import InputError, PredictorError
from mdbench.evaluation.running import CHUNK
from mdbench.tasks import MTD, load_task, next_token_probs, sample

TASK = "mtd-q3-m2"


def one(evaluation, predictor, length=16):
    """The result of one predictor and cell."""
    return next(r for r in evaluation.results if (r.predictor, r.length) == (predictor, length))


class LastToken:
    """A predictor from outside: lag 1 alone."""

    def __init__(self, change=lambda probs: probs):
        self.transition, self.change = load_task(TASK).transition, change

    def predict(self, contexts):
        return self.change(self.transition[contexts[:, -1]])


def test_scores_are_those_computed_by_hand():
    n = 300
    found = one(mdbench.evaluate(LastToken(), task=TASK, lengths=[16], n_sequences=n, seed=4), "LastToken")
    drawn = sample(load_task(TASK), 16, n, seed=4)
    p_hat = load_task(TASK).transition[drawn.tokens[:, -2]]
    kl = (drawn.next_probs * np.log(drawn.next_probs / p_hat)).sum(axis=1)
    assert found.kl == pytest.approx(kl.mean(), rel=1e-12)
    assert found.scores["kl"].se == pytest.approx(kl.std(ddof=1) / np.sqrt(n), rel=1e-12)
    cross_entropy = -(drawn.next_probs * np.log(p_hat)).sum(axis=1)
    assert found.cross_entropy == pytest.approx(cross_entropy.mean(), rel=1e-12)
    assert found.nll == pytest.approx(-np.log(p_hat[np.arange(n), drawn.tokens[:, -1]]).mean(), rel=1e-12)
    mean = np.array([s["posterior_mean"] for s in _posteriors(drawn)])
    bayes = next_token_probs(load_task(TASK), mean, drawn.tokens[:, :-1])
    assert found.excess_kl == pytest.approx((bayes * np.log(bayes / p_hat)).sum(axis=1).mean(), rel=1e-10)


def _posteriors(drawn):
    task = load_task(TASK)
    return mdbench.posterior(task.transition, task.order, drawn.contexts.tolist(), method="urn")["sequences"]


def test_references_stand_beside_and_bayes_is_at_gold(core_task):
    found = mdbench.evaluate("md2", task=core_task.name, lengths=[16], n_sequences=200)
    assert {r.predictor for r in found.results} == {"md2", "bayes", "md1", "constructed_l3", "uniform"}
    assert found.results[0].predictor == "bayes"
    assert found.results[0].at_gold
    assert not one(found, "md1").at_gold
    md1, constructed = one(found, "md1"), one(found, "constructed_l3")
    for score in ("kl", "excess_kl", "cross_entropy", "nll"):
        assert getattr(constructed, score) == pytest.approx(getattr(md1, score), rel=1e-11)
    assert {"md1", "constructed_l3"} in [set(tie.predictors) for tie in found.ties]


def test_longer_lengths_and_more_sequences_extend_the_same_sequences():
    small = mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=10, references=()).per_sequence
    large = mdbench.evaluate("md1", task=TASK, lengths=[16, 40], n_sequences=CHUNK + 40, references=()).per_sequence
    common = large[(large["length"] == 16) & (large["sequence"] < 10)].reset_index(drop=True)
    pd.testing.assert_frame_equal(small, common, rtol=1e-9, atol=1e-14)  # gold of a prefix may round otherwise


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    def numbers(seed):
        found = mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=64, seed=seed, references=["em"])
        return found.table.drop(columns="seconds")

    pd.testing.assert_frame_equal(numbers(1), numbers(1), check_exact=True)
    assert (numbers(1)["kl"] != numbers(2)["kl"]).all()


def test_sequences_of_evaluation_are_those_of_sample():
    seen = []

    class Spy(LastToken):
        def predict(self, contexts):
            seen.append(contexts.copy())
            return super().predict(contexts)

    mdbench.evaluate(Spy(), task=TASK, lengths=[16, 20], n_sequences=300, seed=2, references=())
    tokens = sample(load_task(TASK), 20, 300, seed=2).tokens
    np.testing.assert_array_equal(np.concatenate(seen[:2])[:300], tokens[:, :16])
    np.testing.assert_array_equal(np.concatenate(seen[2:])[:300], tokens[:, :20])
    assert {len(chunk) for chunk in seen} == {CHUNK}
    assert all(chunk.dtype == np.int64 for chunk in seen)


def test_the_oracle_has_scores_but_no_rank():
    found = mdbench.evaluate("oracle", task=TASK, lengths=[16], n_sequences=50)
    oracle = one(found, "oracle")
    assert oracle.kl == 0
    assert (oracle.excess_kl, oracle.scores["excess_kl"], oracle.gold_error) == (None,) * 3
    assert not any("oracle" in tie.predictors for tie in found.ties)


def test_a_zero_for_a_possible_token_scores_infinity_and_says_so():
    def sure(probs):
        return np.eye(3)[probs.argmax(axis=1)]

    found = mdbench.evaluate(LastToken(sure), task=TASK, lengths=[16], n_sequences=50, references=["uniform"])
    result = one(found, "LastToken")
    assert result.kl == result.excess_kl == result.cross_entropy == np.inf
    assert result.scores["excess_kl"].interval is None
    assert found.results[-1].predictor == "LastToken"
    assert not result.at_gold
    assert not found.ties
    parsed = json.loads(found.to_json())["results"][-1]
    assert (parsed["kl"], parsed["kl_se"], parsed["excess_kl_ci"]) == ("inf", None, None)


def test_an_output_within_a_thousandth_of_one_is_divided_by_its_sum():
    exact_sum = mdbench.evaluate(LastToken(), task=TASK, lengths=[16], n_sequences=50, references=())
    scaled = mdbench.evaluate(LastToken(lambda p: p * 1.0009), task=TASK, lengths=[16], n_sequences=50, references=())
    assert scaled.results[0].excess_kl == pytest.approx(exact_sum.results[0].excess_kl, rel=1e-12)


def put(probs, value):
    probs = probs.copy()
    probs[2, 1] = value
    return probs


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: p[:, :2], r"returned shape \(256, 2\); expected \(256, 3\)"),
        (lambda p: p[:-1], r"returned shape \(255, 3\)"),
        (lambda p: p * 1.01, "do not sum to one within 0.001 for sequence 1"),
        (lambda p: put(p, np.nan), "not finite for sequence 3"),
        (lambda p: put(p, np.inf), "not finite for sequence 3"),
        (lambda p: put(p, -1e-9), "a negative probability for sequence 3"),
        (lambda _: "no array", "returned str, not an array"),
        (lambda _: None, "returned NoneType, not an array"),
        (lambda p: np.ma.masked_array(p, mask=p > 0.5), "returned MaskedArray, not an array of numbers"),
        (lambda p: p + 1j, "complex128, not real numbers"),
        (lambda p: p.astype(str), "not real numbers"),
        (lambda p: p.astype(object), "object, not real numbers"),
    ],
)
def test_wrong_outputs_are_refused(change, sentence):
    with pytest.raises(PredictorError, match=f"predictor 'LastToken' .*{sentence}"):
        mdbench.evaluate(LastToken(change), task=TASK, lengths=[16], n_sequences=20, references=())


def test_outputs_from_other_frameworks():
    import jax.numpy as jnp
    import torch

    plain = mdbench.evaluate(LastToken(), task=TASK, lengths=[16], n_sequences=20, references=()).results[0]

    class DLPackAlone:
        def __init__(self, array):
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    for convert in (lambda p: torch.tensor(p, requires_grad=True), jnp.asarray, DLPackAlone):
        other = mdbench.evaluate(LastToken(convert), task=TASK, lengths=[16], n_sequences=20, references=())
        assert other.results[0].kl == plain.kl
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 0.1)):
        rounded = LastToken(lambda p, dtype=dtype: torch.tensor(p).to(dtype))
        if dtype == torch.bfloat16:  # three digits: off by more than a thousandth
            with pytest.raises(PredictorError, match="do not sum to one"):
                mdbench.evaluate(rounded, task=TASK, lengths=[16], n_sequences=20, references=())
        else:
            other = mdbench.evaluate(rounded, task=TASK, lengths=[16], n_sequences=20, references=())
            assert other.results[0].kl == pytest.approx(plain.kl, rel=tolerance)


def test_a_predictor_that_writes_into_its_contexts_spoils_nothing():
    class Vandal(LastToken):
        def predict(self, contexts):
            probs = super().predict(contexts)
            contexts[:] = 0
            return probs

    found = mdbench.evaluate(Vandal(), task=TASK, lengths=[16], n_sequences=20, references=["md1"])
    alone = mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=20, references=())
    assert one(found, "md1").kl == alone.results[0].kl


WITHOUT = 48  # a length that no weights are shipped for
WITH_GAP = MTD(TASK, load_task(TASK).transition, 2, lengths=(16, WITHOUT))


def test_a_length_without_weights_is_left_out_of_a_suite_but_refused_where_asked_for():
    found = mdbench.evaluate("trained_l3", task=WITH_GAP, n_sequences=8)  # the task's own lengths
    assert [(s.predictor, s.length) for s in found.skipped] == [("trained_l3", WITHOUT)]
    assert "no weights for length 48" in found.skipped[0].reason
    assert {r.length for r in found.results if r.predictor == "trained_l3"} == {16}
    assert {r.length for r in found.results if r.predictor == "md1"} == {16, WITHOUT}
    with pytest.raises(InputError, match=r"no weights for length 48 of mtd-q3-m2 \(it has 16, 32"):
        mdbench.evaluate("trained_l3", task=TASK, lengths=[16, WITHOUT], n_sequences=8)


def test_without_references_a_length_without_weights_is_left_out_too():
    found = mdbench.evaluate("trained_l3", task=WITH_GAP, n_sequences=8, references=())
    assert [r.length for r in found.results] == [16]
    assert [s.length for s in found.skipped] == [WITHOUT]
    other = MTD("mine", load_task(TASK).transition, 2, lengths=(16,))
    with pytest.raises(InputError, match="no weights for task 'mine'"):
        mdbench.evaluate("trained_l3", task=other, n_sequences=8, references=())


@pytest.mark.parametrize(
    ("task", "n"),
    [
        pytest.param(
            MTD("one-lag", np.array([[0.5, 0.5], [0.1, 0.9]]), order=1, lengths=(2, 9)), 5, marks=pytest.mark.slow
        ),
        (MTD("shortest", np.array([[0.5, 0.5], [0.1, 0.9]]), order=3, lengths=(4,)), 1),
        pytest.param(
            MTD("flat", np.array([[0.5, 0.5], [0.1, 0.9]]), order=2, concentration=1e3, lengths=(9,)),
            5,
            marks=pytest.mark.slow,
        ),
        (MTD("spiky", np.array([[0.5, 0.5], [0.1, 0.9]]), order=2, concentration=1e-3, lengths=(9,)), 5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_tasks_at_the_edge(task, n):
    found = mdbench.evaluate(["md2", "em"], task=task, n_sequences=n)
    assert len(found.results) == 6 * len(task.lengths)
    assert all(np.isfinite(r.kl) and np.isfinite(r.cross_entropy) for r in found.results)
    assert all(r.at_gold for r in found.results if r.predictor == "bayes")
    json.loads(found.to_json())


@pytest.mark.wrong_types
def test_what_python_callers_may_pass(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("order = 1\nlengths = [8]\ntransition = [[0.5, 0.5], [0.2, 0.8]]\n")
    a = mdbench.evaluate("md1", task=path, lengths=np.array([5, 4]), n_sequences=3, references=())
    assert [r.length for r in a.results] == [4, 5]
    json.loads(a.to_json())
    assert mdbench.evaluate("md1", task=path, lengths=5, n_sequences=3, references=()).results[0].kl == a.results[1].kl
    from mdbench.predictors.reference import Oracle

    assert mdbench.evaluate(Oracle(load_task(TASK)), task=TASK, lengths=16, n_sequences=3).results[0].kl == 0
    for wrong in (LastToken, 5, [object()]):
        with pytest.raises(
            InputError, match="a predictor is a name, a function from contexts to probabilities or an object"
        ):
            mdbench.evaluate(wrong, task=TASK, n_sequences=3)


def test_a_task_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("order = 2\nlengths = [8]\ntransition = [[0.5, 0.5, 0.0], [0.0, 0.3, 0.7], [0.9, 0.0, 0.1]]\n")
    found = mdbench.evaluate(["md1", "em"], task=str(path), n_sequences=30)
    assert {r.predictor for r in found.results} == {"md1", "em", "bayes", "constructed_l3", "uniform"}
    assert one(found, "bayes", 8).at_gold
    assert all(np.isfinite(r.kl) for r in found.results if r.predictor != "em")


@pytest.mark.parametrize(
    ("name", "lengths", "factor", "opponent"),
    [
        pytest.param("trained_l3", None, 1.1, "md1", marks=pytest.mark.slow),
        pytest.param("trained_l3", [192, 256], 1.1, "md1", marks=pytest.mark.slow),
        pytest.param("trained_l5", [16, 32, 64, 128], 1.3, "md2", marks=pytest.mark.slow),
    ],
)
def test_trained_transformers_meet_the_bar_wherever_there_are_weights(name, lengths, factor, opponent):
    """Their excess KL against that of tuned steps, on the first 2,048 sequences; at 192 and 256 of the best seed.

    There two of three seeds are not trained to the end (docs/trained_weights.md), so the mean says little.
    """
    found = mdbench.evaluate(
        name, task=None if lengths is None else "mtd-q5-m3", lengths=lengths, n_sequences=2048, references=[opponent]
    )
    trained = [result for result in found.results if result.predictor == name]
    assert trained
    for result in trained:
        (other,) = (
            r for r in found.results if (r.predictor, r.task, r.length) == (opponent, result.task, result.length)
        )
        excess_kl = min(result.runs) if result.length > 128 else result.excess_kl
        assert excess_kl <= factor * other.excess_kl


def test_several_training_seeds_are_averaged_and_shown():
    found = mdbench.evaluate(["trained_l3", "uniform"], task=TASK, lengths=[16], n_sequences=200, references=())
    whole, uniform = one(found, "trained_l3"), one(found, "uniform")
    assert uniform.runs is None
    alone = [
        mdbench.evaluate(f"trained_l3:seed={seed}", task=TASK, lengths=[16], n_sequences=200, references=()).results[0]
        for seed in range(len(whole.runs))
    ]
    assert len(alone) == 3
    np.testing.assert_allclose(whole.runs, [result.excess_kl for result in alone], rtol=1e-12)
    for score in ("kl", "excess_kl", "cross_entropy", "nll"):
        np.testing.assert_allclose(getattr(whole, score), np.mean([getattr(r, score) for r in alone]), rtol=1e-12)
    with pytest.raises(InputError, match="trained_l3 has no weights of seed 77"):
        mdbench.evaluate("trained_l3:seed=77", task=TASK, lengths=[16], n_sequences=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtd-q5-m3", "mtd-q10-m4"])
def test_the_order_of_the_algorithms(name):
    """In rank: bayes < md5 < md2 < md1 < uniform at every length, with tuned steps, 2,048 sequences and no ties."""
    found = mdbench.evaluate(["bayes", "md5", "md2", "md1", "uniform"], task=name, n_sequences=2048, references=())
    for length in (16, 32, 64, 128):
        assert [r.predictor for r in found.results if r.length == length] == ["bayes", "md5", "md2", "md1", "uniform"]
        assert one(found, "bayes", length).at_gold
    assert not found.ties


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"task": TASK, "suite": "core"}, "a task or a suite, not both"),
        ({"task": TASK, "n_sequences": 0}, "n-sequences must be a whole number of at least 1"),
        ({"task": TASK, "seed": -1}, "seed must be a whole number from 0"),
        ({"task": TASK, "lengths": [2]}, "at least order . 1 = 3"),
        ({"task": TASK, "lengths": []}, "lengths is empty"),
        ({"task": [TASK, TASK]}, "the same name"),
        ({"task": "mtd-q3-m22"}, "did you mean 'mtd-q3-m2'"),
        ({"suite": "cores"}, "did you mean 'core'"),
        ({"task": TASK, "device": "cudda"}, "device 'cudda' cannot be used here"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        mdbench.evaluate("md1", **arguments)


def test_two_predictors_of_one_name_are_refused():
    with pytest.raises(InputError, match="two predictors are called 'LastToken'"):
        mdbench.evaluate([LastToken(), LastToken()], task=TASK, lengths=[16], n_sequences=4)


def test_a_large_order_is_refused_with_what_would_fit():
    task = MTD("large", np.full((3, 3), 1 / 3), order=12, lengths=(64,))
    with pytest.raises(InputError, match="fit"):
        mdbench.evaluate("uniform", task=task, n_sequences=4, references=())


def test_a_notebook_has_a_bar_and_a_script_none(monkeypatch, capsys):
    import types

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=20, references=())
    assert f"{TASK}: predictors" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=20, references=())
    assert capsys.readouterr().err == ""


def test_compare_is_the_paired_difference():
    options = {"task": "mtd-q5-m3", "lengths": [16, 32], "n_sequences": 300}
    found = mdbench.compare("md1", "md2", **options)
    scores = mdbench.evaluate(["md1", "md2"], references=(), **options).per_sequence
    for row in found:
        of_row = scores[scores["length"] == row.length]
        a, b = (of_row[of_row["predictor"] == name]["excess_kl"].to_numpy() for name in ("md1", "md2"))
        assert row.difference == pytest.approx((a - b).mean(), rel=1e-12)
        half = stats.t.ppf(0.975, 299) * (a - b).std(ddof=1) / np.sqrt(300)
        assert row.difference_ci == pytest.approx(((a - b).mean() - half, (a - b).mean() + half), rel=1e-12)
        assert (row.excess_kl_a, row.excess_kl_b) == pytest.approx((a.mean(), b.mean()))
        assert row.verdict == "md2"
    back = mdbench.compare("md2", "md1", **options)
    assert [row.difference for row in back] == pytest.approx([-row.difference for row in found])


def test_compare_admits_ties():
    same = mdbench.compare("md1", "constructed_l3", task="mtd-q3-m2", lengths=[16], n_sequences=100)
    assert [row.verdict for row in same] == ["tied"]
    exact = mdbench.compare("bayes", "exact", task="mtd-q3-m2", lengths=[16], n_sequences=100)
    assert [row.verdict for row in exact] == ["tied"]
    alone = mdbench.compare("md1", "uniform", task="mtd-q3-m2", lengths=[16], n_sequences=1)
    assert alone[0].difference_ci is None
    assert (alone[0].verdict, alone[0].n_to_separate) == ("tied", None)
    assert exact[0].n_to_separate is None  # they differ by no more than the gold's error


def test_compare_says_how_many_sequences_would_separate_a_tied_pair():
    few = mdbench.compare("md2", "md5", task="mtd-q5-m3", lengths=[16], n_sequences=10, seed=2)[0]
    assert few.verdict == "tied"
    assert few.n_to_separate > 10
    assert mdbench.compare("md2", "md5", task="mtd-q5-m3", lengths=[16], n_sequences=2048)[0].n_to_separate is None


def test_compare_refuses_what_it_cannot_compare():
    with pytest.raises(InputError, match="told θ"):
        mdbench.compare("md1", "oracle", task="mtd-q3-m2", lengths=[16], n_sequences=10)
    with pytest.raises(InputError, match="two predictors are called 'md1'"):
        mdbench.compare("md1", "md1", task="mtd-q3-m2", lengths=[16], n_sequences=10)


@pytest.mark.slow
def test_every_baseline_is_a_predictor():
    """Better than ignoring the context, and as near to gold as what it states allows."""
    names = ["exact", "urn", "reference:standard_error=1e-3", "nuts:draws=200", "gibbs:draws=200", "laplace",
             "vi_dirichlet:steps=300", "vi_logistic_normal:steps=300", "pyro_svi:steps=300"]  # fmt: skip
    found = mdbench.evaluate(names, task="mtd-q3-m2", lengths=[16], n_sequences=40, references=("uniform",))
    assert {s.predictor for s in found.skipped} == set()
    excess = {r.predictor: r.excess_kl for r in found.results}
    assert len(excess) == 10
    for name in names:
        assert excess[name] < 0.1 * excess["uniform"]
    for name in ("exact", "urn"):
        assert next(r for r in found.results if r.predictor == name).at_gold
