"""Identification: known algorithms come out as themselves, and what is none of them as none."""

import json

import jax
import numpy as np
import pytest
import torch

from mdbench.algorithms.known import BY_NAME, Algorithm, Evidence
from mdbench.algorithms.tuning import tuned_step_size
from mdbench.core.errors import InputError, PredictorError, Unsupported
from mdbench.mechanism import identification
from mdbench.mechanism.adaptation import step_adaptation
from mdbench.mechanism.identification import identify
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import MTD, lag_likelihoods, load_task, next_token_probs, sample

TASK = load_task("mtd-q3-m2")


def found(predictor, length=16, **options):
    (verdict,) = identify(predictor, task=TASK, lengths=length, n_sequences=128, **options).verdicts
    return verdict


@pytest.fixture
def few(monkeypatch):
    """Only some algorithms of the family: each takes a second to compile."""

    def only(*names):
        monkeypatch.setattr(
            identification, "all_algorithms", lambda more=(): [*(BY_NAME[name] for name in names), *more]
        )

    return only


class Bigrams:
    """Outside the family: how often each token followed the last one, plus one half, with no regard to π."""

    def predict(self, contexts):
        follows = contexts[:, :-1] == contexts[:, -1:]
        counts = np.stack([(follows & (contexts[:, 1:] == b)).sum(axis=1) for b in range(TASK.n_states)], axis=1) + 0.5
        return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("predictor", "algorithm"),
    [
        pytest.param("constructed_l3", "md1", marks=pytest.mark.slow),
        pytest.param("md2", "md2", marks=pytest.mark.slow),
        ("md:steps=4,eta=0.07", "md4"),
        pytest.param("bayes", "bayes", marks=pytest.mark.slow),
        ("em", "em"),
        pytest.param("laplace", "laplace", marks=pytest.mark.slow),
        pytest.param("constructed_l5", "l5", marks=pytest.mark.slow),
        pytest.param("uniform", "uniform", marks=pytest.mark.slow),
    ],
)
def test_known_algorithms_come_out_as_themselves(predictor, algorithm):
    verdict = found(predictor)
    assert verdict.verdict == algorithm
    assert verdict[algorithm].kl <= 1e-9
    assert all(value <= 1e-8 for value in verdict[algorithm].elsewhere.values())  # and with other priors on λ


def test_a_step_size_comes_out_to_three_digits(few):
    few("bayes", "md1", "md2", "md2_free")
    eta = tuned_step_size(TASK, 2, 16)
    assert found("md2")["md2"].scalars["η"] == pytest.approx(eta, rel=1e-3)


def test_none_of_these():
    verdict = found(Bigrams())
    assert verdict.verdict is None
    assert verdict.fits[0].kl > 0.01
    assert verdict[verdict.nearest].score == min(fit.score for fit in verdict.fits)


def test_noise_on_bayes_is_still_bayes_and_much_of_it_is_none(few):
    few("bayes", "laplace", "uniform", "md1", "em", "md1+bayes", "dirichlet_em")
    bayes = build_predictor("bayes", TASK)

    class Noisy:
        """Mixed with a distribution that depends on the first token."""

        def __init__(self, share):
            self.share = share

        def predict(self, contexts):
            return (1 - self.share) * bayes.predict(contexts) + self.share * np.eye(TASK.n_states)[contexts[:, 0]]

    assert found(Noisy(1e-3)).verdict == "bayes"
    assert found(Noisy(0.1)).verdict is None


def test_step_sizes_move_with_the_length(few):
    few("bayes", "md1", "md2", "uniform")
    lengths = (8, 16, 32)
    exponents = identify("md:steps=1,eta=smooth", task=TASK, lengths=lengths, n_sequences=64).exponents
    expected = np.polyfit(np.log(lengths), -np.log(np.array(lengths) - TASK.order), 1)[0]  # η = 1/((T - m) m²)
    slope, low, high = exponents["md1"]
    assert slope == pytest.approx(expected, abs=1e-4)
    assert low < slope < high
    assert identify("uniform", task=TASK, lengths=(8, 16), n_sequences=16).exponents == {}


def test_fits_are_judged_at_the_other_lengths(few):
    """η = 0.5/(T - m) at every length: what one step fits at one length holds at another, and two steps' does not."""
    few("bayes", "uniform", "md1", "md2")

    class Steps:
        def __init__(self):
            self.by_length = {n: build_predictor(f"md:steps=1,eta={0.5 / (n - TASK.order)}", TASK) for n in (8, 16)}

        def predict(self, contexts):
            return self.by_length[contexts.shape[1]].predict(contexts)

    first, second = identify(Steps(), task=TASK, lengths=(8, 16), n_sequences=128).verdicts
    assert first.verdict == second.verdict == "md1"
    assert first["md1"].elsewhere["T = 16"] <= 1e-9
    assert second["md1"].elsewhere["T = 8"] <= 1e-9
    assert first["md2"].elsewhere["T = 16"] > 1e-8
    assert first["uniform"].elsewhere["T = 16"] == second["uniform"].kl  # nothing is fitted
    constant = identify("md:steps=1,eta=0.1", task=TASK, lengths=(8, 16), n_sequences=128).verdicts[0]
    assert constant["md1"].kl <= 1e-9 < 1e-6 < constant["md1"].elsewhere["T = 16"]  # its η does not move so


def test_the_same_seed_gives_the_same_and_it_is_json(few):
    few("bayes", "md1", "md2", "tokens_free", "md1+bayes")
    first, second = (identify("md1", task=TASK, lengths=8, n_sequences=128).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("oracle",), InputError, "'oracle' is told θ"),
        (("trained_l3", (17,)), Unsupported, "no weights for length 17"),
        (("md1", ()), InputError, "lengths is empty"),
        (("md1", (2,)), InputError, "length"),
    ],
)
def test_what_cannot_be_identified(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        identify(arguments[0], task=TASK, lengths=arguments[1] if len(arguments) > 1 else (8,))


# ------------------------------------------------------------------------------------- the algorithms in plain loops


def estimates(name, scalars, x, alpha=1.0):
    return np.asarray(BY_NAME[name].estimate(Evidence(x, alpha), np.asarray(scalars, dtype=float)))


def test_algorithms_that_no_predictor_runs_are_their_definitions(core_task):
    x = lag_likelihoods(core_task, sample(core_task, 20, 4, seed=0).contexts)
    n, m = x.shape[1:]
    for k, row in enumerate(x):
        quasi = np.full(m, 1 / m)
        for t, likelihood in enumerate(row, 1):
            gamma = quasi * likelihood / (quasi * likelihood).sum()
            quasi = quasi + (gamma - quasi) / (0.7 * m + t)
        np.testing.assert_allclose(estimates("quasi_bayes", [], x, 0.7)[k], quasi, rtol=1e-12)

        em = np.full(m, 1 / m)
        for _ in range(5):
            em = np.mean([em * likelihood / (em * likelihood).sum() for likelihood in row], axis=0)
        np.testing.assert_allclose(estimates("em5", [], x)[k], em, rtol=1e-12)

        fixed = estimates("dirichlet_em", [2.0], x)[k]
        gammas = np.array([fixed * likelihood / (fixed * likelihood).sum() for likelihood in row])
        np.testing.assert_allclose(fixed, (2.0 + gammas.sum(axis=0)) / (2.0 * m + n), atol=1e-8)

        soft = 2.0 + sum(likelihood / likelihood.sum() for likelihood in row)
        np.testing.assert_allclose(estimates("soft_counts", [2.0], x)[k], soft / soft.sum(), rtol=1e-12)

        hard = np.full(m, 2.0)
        for likelihood in row:
            best = np.flatnonzero(likelihood == likelihood.max())
            hard[best] += 1 / len(best)
        np.testing.assert_allclose(estimates("hard_counts", [2.0], x)[k], hard / hard.sum(), rtol=1e-12)


def test_a_counting_predictor_comes_out_with_its_count(few):
    few("bayes", "md1", "soft_counts", "hard_counts", "dirichlet_em")

    class Counts:
        def predict(self, contexts):
            return next_token_probs(TASK, estimates("soft_counts", [3.0], lag_likelihoods(TASK, contexts)), contexts)

    verdict = found(Counts())
    assert verdict.verdict == "soft_counts"
    assert verdict["soft_counts"].scalars["c"] == pytest.approx(3.0, rel=1e-3)


def planted(scalars, name="md1_adaptive_tuned", task=TASK):
    """A predictor that runs an algorithm of the family."""

    class Planted:
        def predict(self, contexts):
            evidence = identification.Sequences.of(task, contexts, identification.open_store(cache=False)).evidence
            weights = BY_NAME[name].estimate(evidence, np.asarray(scalars, dtype=float))
            return next_token_probs(task, np.asarray(weights), contexts)

    return Planted()


def test_a_planted_adaptive_step_comes_out_with_its_constants(few):
    few("bayes", "uniform", "md1", "md2", "md2_free", "md1_adaptive", "md1_adaptive_tuned", "md1_matrix", "md1+bayes")
    verdict = found(planted([3.7, 1.3]))
    assert verdict.verdict == "md1_adaptive_tuned"
    assert verdict["md1_adaptive_tuned"].scalars == pytest.approx({"a": 3.7, "b": 1.3}, rel=5e-3)
    assert verdict["md1"].kl > 1e-6
    low, high = verdict["md1"].explained_ci
    assert low < verdict["md1"].explained < high < 1


def test_planted_token_weights_come_out(few):
    few("bayes", "md1", "md1_adaptive_tuned", "tokens_sum", "tokens", "tokens_free")
    log_weights = [0.5, -0.5, 0.0]
    verdict = found(planted([8.0, *log_weights], "tokens"))
    assert verdict.verdict == "tokens"  # not tokens_free, which can do the same with nine scalars more
    fitted = verdict["tokens"].scalars
    assert fitted["β"] == pytest.approx(8.0, rel=1e-3)
    assert np.ptp([fitted[f"log w[{b}]"] - w for b, w in enumerate(log_weights)]) < 1e-3
    assert verdict["tokens_free"].kl == pytest.approx(0.0, abs=1e-8)
    assert verdict["tokens_free"].score > verdict["tokens"].score


def test_a_share_of_bayes_comes_out(few):
    few("bayes", "uniform", "md1", "md2", "uniform+bayes", "md1+bayes")
    verdict = found(planted([0.4], "uniform+bayes"))
    assert verdict.verdict == "uniform+bayes"
    assert verdict["uniform+bayes"].scalars["odds"] == pytest.approx(0.4, rel=1e-4)


def test_the_variants_of_token_weights_in_plain_loops():
    """Each against its formula; without weights and with log π all are one step."""
    contexts = sample(TASK, 12, 3, seed=0).contexts
    evidence = identification.Sequences.of(TASK, contexts, identification.open_store(cache=False)).evidence
    q, m, beta = TASK.n_states, TASK.order, 4.0
    rng = np.random.default_rng(0)
    log_w, matrix = rng.normal(size=q), rng.normal(size=(q, q))
    for k, context in enumerate(contexts):
        for name in ("tokens_sum", "tokens", "tokens_sum_free", "tokens_free", "tokens_leak"):
            total, weight_sum = np.zeros(m), 0.0
            for t in range(m, len(context)):
                lags = [context[t - g] for g in range(1, m + 1)]
                scores = None if name in ("tokens_sum", "tokens") else matrix[context[t], lags]
                e = TASK.transition[lags, context[t]] if scores is None else np.exp(scores)
                gamma = e / (e.sum() + (name == "tokens_leak"))
                total += np.exp(log_w[context[t]]) * gamma
                weight_sum += np.exp(log_w[context[t]])
            over = (len(context) - m) if "sum" in name else weight_sum / beta
            expected = np.exp(total / over) / np.exp(total / over).sum()
            first = [] if "sum" in name else [beta]
            scalars = np.array([*first, *log_w, *(matrix.ravel() if name not in ("tokens_sum", "tokens") else ())])
            np.testing.assert_allclose(BY_NAME[name].estimate(evidence, scalars)[k], expected, rtol=1e-12)
            assert len(scalars) == len(BY_NAME[name].names(q))


def test_training_seeds_are_each_identified_and_classed(few):
    few("bayes", "md1", "uniform")
    alike, other = build_predictor("md:steps=1,eta=0.2", TASK), build_predictor("md:steps=1,eta=0.4", TASK)

    class Seeds:
        def runs(self, _length):
            return [alike, other, alike]

        def predict(self, contexts):
            return alike.predict(contexts)

    result = identify(Seeds(), task=TASK, lengths=16, n_sequences=128)
    assert [v.row for v in result.verdicts] == [f"Seeds:seed={k}" for k in range(3)]
    assert [v.verdict for v in result.verdicts] == ["md1"] * 3
    assert [v["md1"].scalars["η"] for v in result.verdicts] == pytest.approx([0.2, 0.4, 0.2], rel=1e-3)
    assert result.classes == {16: [["Seeds:seed=0", "Seeds:seed=2"]]}


@pytest.mark.parametrize(("predictor", "slope"), [("md1", 0.0), ("md1_adaptive", 1.0)])
def test_the_effective_step_is_the_planted_one(predictor, slope, few):
    few("bayes", "md1", "uniform")
    found_ = found(predictor).adaptation
    assert found_.slope == pytest.approx(slope, abs=1e-6)
    assert found_.correlation == pytest.approx(slope, abs=1e-3)
    if predictor == "md1":
        assert found_.eta == pytest.approx(tuned_step_size(TASK, 1, 16), rel=1e-6)
    assert found_.n_sequences > 50
    assert found("uniform").adaptation is None  # it takes no steps


def test_where_all_sequences_have_one_eta_there_is_no_slope():
    task = MTD("symmetric", [[0.8, 0.2], [0.2, 0.8]], 2, lengths=(3,))
    contexts = sample(task, 3, 200, seed=0).contexts
    assert step_adaptation(task, contexts, build_predictor("bayes", task).predict(contexts)) is None


def test_relabelled_states_change_no_step():
    contexts = sample(TASK, 16, 200, seed=0).contexts
    order = np.array([2, 0, 1])
    other = TASK.relabelled(order)
    one = step_adaptation(TASK, contexts, build_predictor("bayes", TASK).predict(contexts))
    there = np.argsort(order)[contexts]
    two = step_adaptation(other, there, build_predictor("bayes", other).predict(there))
    assert (one.slope, one.correlation) == pytest.approx((two.slope, two.correlation), rel=1e-9)


def test_fits_are_kept_on_disk(few, monkeypatch, tmp_path):
    few("bayes", "md1", "md2", "uniform")
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path))
    first = identify("md2", task=TASK, lengths=8, n_sequences=64).to_dict()
    monkeypatch.setattr(identification, "_fit", lambda *_: pytest.fail("fitted again"))
    assert identify("md2", task=TASK, lengths=8, n_sequences=64).to_dict() == first
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        identify("md2", task=TASK, lengths=8, n_sequences=64, cache="none")


OWN = """
import jax
import mdbench

def halves(evidence):
    x = evidence.x
    return (x.mean(axis=1) / x.mean(axis=1).sum(axis=-1, keepdims=True) + 1 / x.shape[2]) / 2

def _power(evidence, scalars):
    return jax.nn.softmax(scalars[0] * evidence.x.mean(axis=1), axis=-1)

power = mdbench.Algorithm("power", "softmax of mean x", ("p",), _power)

def broken(evidence):
    return evidence.x

def negative(evidence):
    return 0 * evidence.x[:, 0] - 3

def _raises(evidence, scalars):
    raise ValueError("not today")

raises = mdbench.Algorithm("raises", "it raises", ("p",), _raises, positive=True)

number = 3
"""


def test_an_algorithm_of_ones_own(few, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    few("bayes", "md1", "uniform")
    x_mean = lambda contexts: lag_likelihoods(TASK, contexts).mean(axis=1)  # noqa: E731

    class Power:
        def predict(self, contexts):
            weights = np.exp(2.5 * x_mean(contexts))
            return next_token_probs(TASK, weights / weights.sum(axis=1, keepdims=True), contexts)

    from mdbench.mechanism.family import all_algorithms

    own = all_algorithms([f"{tmp_path}/own.py:power", f"{tmp_path}/own.py:halves"])[-2:]
    assert [a.name for a in own] == ["power", "halves"]
    verdict = found(Power(), algorithms=own)
    assert verdict.verdict == "power"
    assert verdict["power"].scalars["p"] == pytest.approx(2.5, rel=1e-3)
    assert verdict["halves"].kl > 1e-6
    for name, said in (
        ("broken", r"it must give λ: \(128, 2\) numbers"),
        ("negative", r"it must give λ: \(128, 2\) numbers that are finite, not negative and sum to 1"),
        ("raises", "not today"),
    ):
        with pytest.raises(PredictorError, match=f"algorithm '{name}' failed.*{said}"):
            found("md1", algorithms=all_algorithms([f"{tmp_path}/own.py:{name}"])[-1:])
    for text, said in (
        (f"{tmp_path}/own.py:number", r"must be an mdbench.Algorithm, or a function with one parameter.* it is 'int'"),
        (f"{tmp_path}/none.py:f", "there is no file"),
        ("md3x", "no algorithm 'md3x'; did you mean 'md3'.*FILE.py:name"),
    ):
        with pytest.raises(InputError, match=said):
            all_algorithms([text])
    with pytest.raises(InputError, match="two algorithms are called 'md1'"):
        all_algorithms([Algorithm("md1", "mine", estimate=lambda evidence, _: evidence.x[:, 0])])
    with pytest.raises(InputError, match="algorithm 'mine' has neither an estimate nor a baseline"):
        all_algorithms([Algorithm("mine", "mine")])


def test_a_temperature_below_all_counts_is_found(few):
    """Scalars that are no step sizes and no counts are searched from 1."""
    few("bayes", "md1", "uniform")
    sharp = Algorithm(
        "sharp",
        "softmax over a temperature",
        ("tau",),
        lambda evidence, scalars: jax.nn.softmax(0.1 * evidence.x.mean(axis=1) / scalars[0], axis=-1),
        positive=True,
    )

    class Sharp:
        def predict(self, contexts):
            weights = np.exp(0.1 * lag_likelihoods(TASK, contexts).mean(axis=1) / 0.01)
            return next_token_probs(TASK, weights / weights.sum(axis=1, keepdims=True), contexts)

    verdict = found(Sharp(), algorithms=[sharp])
    assert verdict.verdict == "sharp"
    assert verdict["sharp"].scalars["tau"] == pytest.approx(0.01, rel=1e-3)


def test_what_has_a_transformer_that_is_none_of_ours_is_identified_all_the_same(few):
    few("bayes", "md1", "uniform")
    built = build_predictor("md1", TASK)

    class Own:
        def transformer(self, _length):
            return torch.nn.Linear(2, 2)

        def predict(self, contexts):
            return built.predict(contexts)

    verdict = found(Own())
    assert verdict.verdict == "md1"
    assert verdict.leak is None


def test_an_algorithm_of_another_package(monkeypatch):
    from mdbench.mechanism import family as module

    entry = module.AlgorithmEntry("mine", "mdbench.algorithms.known:_UNIFORM", "from a package", distribution=None)
    monkeypatch.setattr(module, "with_plugins", lambda _group, _kind, taken: {"mine": entry} | taken)
    assert module.all_algorithms()[-1].name == "mine"
