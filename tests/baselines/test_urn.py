"""The Pólya-urn filter against enumeration, rational arithmetic and the quadrature."""

from fractions import Fraction

import numpy as np
import pytest

from mdbench.baselines import Exact, Urn
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, lag_likelihoods, sample


@pytest.mark.parametrize("alpha", [Fraction(1, 10), Fraction(1), Fraction(10)])
@pytest.mark.parametrize(("m", "n"), [(1, 6), (2, 9), (3, 6), (4, 5), (5, 4)])
def test_against_enumeration_in_rational_arithmetic(by_enumeration, m, n, alpha):
    rng = np.random.default_rng(m)
    task = MTD("tiny", rng.dirichlet(np.ones(3), 3), m, float(alpha))
    alpha = Fraction(float(alpha))
    contexts = rng.integers(3, size=(3, n + m))  # any will do: all transitions are possible
    found = Urn().posterior(task, contexts)
    for k, x in enumerate(lag_likelihoods(task, contexts)):
        first, second, evidence = by_enumeration(x, alpha)
        np.testing.assert_allclose(np.exp(found.log_evidence[k, 0]), float(evidence), rtol=1e-13)
        np.testing.assert_allclose(found.mean[k, 0], [float(f) for f in first], rtol=0, atol=found.error[k])
        variance = [float(s - f * f) for f, s in zip(first, second, strict=True)]
        np.testing.assert_allclose(found.sd[k, 0] ** 2, variance, rtol=0, atol=1e-14)


def test_every_prefix_is_the_posterior_of_that_prefix(core_task):
    contexts = sample(core_task, 20, 5, seed=0).contexts
    whole = Urn().posterior(core_task, contexts, lengths=range(core_task.order, 21))
    np.testing.assert_allclose(whole.mean[:, 0], 1 / core_task.order, rtol=1e-15)
    np.testing.assert_array_equal(whole.log_evidence[:, 0], 0)
    for k, length in enumerate(whole.lengths[1:], start=1):
        alone = Urn().posterior(core_task, contexts[:, :length])
        np.testing.assert_allclose(whole.mean[:, k], alone.mean[:, 0], rtol=1e-13)
        np.testing.assert_allclose(whole.sd[:, k], alone.sd[:, 0], rtol=1e-10)
        np.testing.assert_allclose(whole.log_evidence[:, k], alone.log_evidence[:, 0], rtol=1e-13)


def agree(task, contexts):
    """Both routes agree within 1e-12 · (1 + |log Z|), and within their own error bounds."""
    lengths = [length for length in (16, 32, 64, 128, 256) if length <= contexts.shape[1]]
    a, b = Exact().posterior(task, contexts, lengths=lengths), Urn().posterior(task, contexts, lengths=lengths)
    scale = 1 + np.abs(a.log_evidence)
    assert np.abs(a.mean - b.mean).max() < 1e-12
    assert (np.abs(a.log_evidence - b.log_evidence) / scale).max() < 1e-12
    assert np.abs(a.sd - b.sd).max() < 1e-10
    both = (a.error + b.error)[:, None]
    assert (np.abs(a.mean - b.mean).max(axis=-1) <= both).all()
    assert (np.abs(a.log_evidence - b.log_evidence) / scale <= both).all()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_agrees_with_the_quadrature(core_task, alpha):
    task = MTD(core_task.name, core_task.transition, core_task.order, alpha)
    length, n = {2: (256, 64), 3: (128, 32), 4: (64, 8)}[core_task.order]
    agree(task, sample(task, length, n, seed=0).contexts)


@pytest.mark.slow
def test_agrees_with_the_quadrature_on_the_core_suite(core_task):
    agree(core_task, sample(core_task, 128, {2: 1024, 3: 1024, 4: 128}[core_task.order], seed=0).contexts)


def test_long_sequences_of_sharp_evidence_neither_overflow_nor_underflow():
    task = MTD("sharp", np.array([[0.999, 0.001], [0.001, 0.999]]), order=2)
    alternating = np.tile([0, 1], 560)[None]  # lag 2 explains every token, lag 1 none: log ratio 7 a step
    found = Urn().posterior(task, alternating)
    n = 1118
    k = np.arange(n + 1)
    from scipy.special import betaln, gammaln, logsumexp

    log_binomial = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    by_hand = logsumexp(log_binomial + betaln(1 + k, 1 + n - k) + k * np.log(0.001) + (n - k) * np.log(0.999))
    assert found.log_evidence[0, 0] == pytest.approx(by_hand, rel=1e-9)
    assert found.mean[0, 0, 1] > 0.995


def test_batch_and_order_of_sequences_change_nothing(core_task):
    contexts = sample(core_task, 24, 40, seed=0).contexts
    whole = Urn().posterior(core_task, contexts)
    one = Urn().posterior(core_task, contexts[17:18])
    np.testing.assert_array_equal(whole.mean[17], one.mean[0])
    np.testing.assert_array_equal(whole.log_evidence[17], one.log_evidence[0])


def test_relabelling_the_states_changes_nothing(core_task):
    contexts = sample(core_task, 24, 4, seed=0).contexts
    order = np.random.default_rng(0).permutation(core_task.n_states)
    new_names = np.argsort(order)[contexts]
    found = Urn().posterior(core_task.relabelled(order), new_names)
    np.testing.assert_allclose(found.mean, Urn().posterior(core_task, contexts).mean, rtol=1e-13)


def test_what_does_not_fit_is_refused_before_it_starts():
    task = MTD("large", np.full((3, 3), 1 / 3), order=7)
    with pytest.raises(
        InputError, match=r"the urn needs more than 4 GiB for order 7 at length 128; length \d+ would fit"
    ):
        Urn().posterior(task, np.zeros((1, 128), dtype=int))
    task = MTD("long", np.full((3, 3), 1 / 3), order=2)
    with pytest.raises(InputError, match=r"more than 2e\+11 additions .* length 4472\d\d would fit"):
        Urn().check(task, 1_000_000)  # 2 C(n + 2, 2) = 2e11 where n = 447,212


def test_prefix_lengths_outside_the_sequence_are_refused(core_task):
    with pytest.raises(InputError, match=r"prefix length 17 is outside"):
        Urn().posterior(core_task, sample(core_task, 16, 1, seed=0).contexts, lengths=[17])
