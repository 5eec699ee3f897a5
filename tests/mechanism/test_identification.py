"""Identification: known algorithms come out as themselves, and what is none of them as none."""

import json

import numpy as np
import pytest

from mdbench.algorithms.known import BY_NAME
from mdbench.algorithms.tuning import tuned_step_size
from mdbench.core.errors import InputError, Unsupported
from mdbench.mechanism import identification
from mdbench.mechanism.identification import identify
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import lag_likelihoods, load_task, next_token_probs, sample

TASK = load_task("mtd-q3-m2")


def found(predictor, length=16, **options):
    (verdict,) = identify(predictor, task=TASK, lengths=length, n_sequences=128, **options).verdicts
    return verdict


class Bigrams:
    """Outside the family: how often each token followed the last one, plus one half, with no regard to π."""

    def predict(self, contexts):
        follows = contexts[:, :-1] == contexts[:, -1:]
        counts = np.stack([(follows & (contexts[:, 1:] == b)).sum(axis=1) for b in range(TASK.n_states)], axis=1) + 0.5
        return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("predictor", "algorithm"),
    [
        ("constructed_l3", "md1"),
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


def test_a_step_size_comes_out_to_three_digits():
    eta = tuned_step_size(TASK, 2, 16)
    assert found("md2")["md2"].scalars["η"] == pytest.approx(eta, rel=1e-3)


def test_none_of_these():
    verdict = found(Bigrams())
    assert verdict.verdict is None
    assert verdict.fits[0].kl > 0.01
    assert verdict[verdict.nearest].tied


def test_noise_on_bayes_is_still_bayes_and_much_of_it_is_none():
    bayes = build_predictor("bayes", TASK)

    class Noisy:
        """Mixed with a distribution that depends on the first token."""

        def __init__(self, share):
            self.share = share

        def predict(self, contexts):
            return (1 - self.share) * bayes.predict(contexts) + self.share * np.eye(TASK.n_states)[contexts[:, 0]]

    assert found(Noisy(1e-3)).verdict == "bayes"
    assert found(Noisy(0.1)).verdict is None


def test_step_sizes_move_with_the_length(monkeypatch):
    few = [BY_NAME[name] for name in ("bayes", "md1", "md2", "uniform")]  # the others take minutes to compile
    monkeypatch.setattr(identification, "ALGORITHMS", few)
    lengths = (8, 16, 32)
    exponents = identify("md:steps=1,eta=smooth", task=TASK, lengths=lengths, n_sequences=64).exponents
    expected = np.polyfit(np.log(lengths), -np.log(np.array(lengths) - TASK.order), 1)[0]  # η = 1/((T - m) m²)
    slope, low, high = exponents["md1"]
    assert slope == pytest.approx(expected, abs=1e-4)
    assert low < slope < high
    assert identify("uniform", task=TASK, lengths=(8, 16), n_sequences=16).exponents == {}


@pytest.mark.slow
def test_fits_are_judged_at_the_other_lengths():
    """η = 0.5/(T - m) at every length: what one step fits at one length holds at another, and two steps' does not."""

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


@pytest.mark.slow
def test_the_same_seed_gives_the_same_and_it_is_json():
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
    return np.asarray(BY_NAME[name].estimate(x, np.asarray(scalars, dtype=float), alpha))


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


def test_a_counting_predictor_comes_out_with_its_count():
    class Counts:
        def predict(self, contexts):
            return next_token_probs(TASK, estimates("soft_counts", [3.0], lag_likelihoods(TASK, contexts)), contexts)

    verdict = found(Counts())
    assert verdict.verdict == "soft_counts"
    assert verdict["soft_counts"].scalars["c"] == pytest.approx(3.0, rel=1e-3)
