"""Gates on draws whose quality is known."""

import numpy as np
import pytest

from mdbench.baselines.gates import e_bfmi, from_draws
from mdbench.baselines.posterior import Draws
from mdbench.tasks import load_task, sample

TASK = load_task("mtd-q5-m3")
CONTEXTS = sample(TASK, 16, 3, 0).contexts
ALL = ["r_hat", "ess_bulk", "ess_tail", "mcse_next_token", "divergences", "e_bfmi"]


def posterior(weights, **stats):
    """Gates applied to draws (C, D, B, m)."""
    stats = {name: values[..., None] for name, values in stats.items()}
    return from_draws("test", TASK, CONTEXTS, (16,), Draws(weights[..., None, :], stats))


def independent(chains=4, draws=1000, seed=0):
    return np.random.default_rng(seed).dirichlet([2.0, 3.0, 4.0], (chains, draws, 3))


def test_a_probability_that_no_weight_moves_has_no_error():
    """Where the last tokens agree, so do all next tokens; a variance in one pass would be negative."""
    same = from_draws("test", TASK, np.full((3, 16), 4), (16,), Draws(independent()[..., None, :]))
    assert not same.failed.any()
    assert (same.next_token_se < 1e-15).all()


def verdicts(found, sequence=0):
    return {check.name: check.verdict(sequence) for check in found.checks_made}


def test_independent_draws_pass_and_their_mcse_is_the_textbook_one():
    weights = independent()
    energy = np.random.default_rng(1).gamma(2.0, size=weights.shape[:3])
    found = posterior(weights, diverging=np.zeros(weights.shape[:3], dtype=bool), energy=energy)
    assert verdicts(found) == dict.fromkeys(ALL, "pass")
    assert not found.failed.any()
    np.testing.assert_allclose(found.mean_se, found.sd / np.sqrt(4000), rtol=0.15)
    last = CONTEXTS[:, :-4:-1]
    next_token = np.einsum("cdbg,bgq->cdbq", weights, TASK.transition[last])
    np.testing.assert_allclose(found.next_token_se[:, 0], next_token.std(axis=(0, 1)) / np.sqrt(4000), rtol=0.15)


def test_what_a_sampler_does_not_have_is_not_applicable():
    found = verdicts(posterior(independent()))
    assert found["divergences"] == found["e_bfmi"] == "not applicable"
    assert found["r_hat"] == "pass"


def test_a_chain_that_never_moves_fails_wherever_it_stands():
    """ArviZ itself gives constant draws as many effective draws as draws."""
    weights = np.broadcast_to(independent().mean(axis=(0, 1)), (4, 1000, 3, 3)).copy()
    found = verdicts(posterior(weights))
    assert [found[name] for name in ALL[:4]] == ["fail"] * 4
    weights = independent()
    weights[0] = weights[0, :1]  # one of four
    assert verdicts(posterior(weights))["r_hat"] == "fail"


def test_each_fault_is_caught_by_its_gate():
    apart = independent()
    apart[0] = np.random.default_rng(5).dirichlet([3.0, 3.0, 3.0], (1000, 3))
    assert verdicts(posterior(apart))["r_hat"] == "fail"

    slow = np.repeat(independent(draws=50), 20, axis=1)  # each draw twenty times: 200 effective ones
    assert verdicts(posterior(slow))["ess_bulk"] == "fail"
    assert verdicts(posterior(independent(draws=50)))["ess_tail"] == "fail"
    assert verdicts(posterior(independent(chains=1, draws=10)))["mcse_next_token"] == "fail"

    diverging = np.zeros((4, 1000, 3), dtype=bool)
    diverging[2, 17, 1] = True
    found = posterior(independent(), diverging=diverging)
    assert [verdicts(found, k)["divergences"] for k in range(3)] == ["pass", "fail", "pass"]
    assert found.failed.tolist() == [False, True, False]

    wandering = np.cumsum(np.random.default_rng(6).standard_normal((4, 1000, 3)), axis=1)
    assert verdicts(posterior(independent(), energy=wandering))["e_bfmi"] == "fail"


def test_e_bfmi_of_independent_energies_is_two():
    energy = np.random.default_rng(0).standard_normal((4, 20_000, 2, 1))
    np.testing.assert_allclose(e_bfmi(energy), 2, rtol=0.05)
    assert np.isnan(e_bfmi(np.ones((2, 100, 1, 1)))).all()  # and NaN passes no gate


def test_draws_as_arviz_data():
    import arviz

    data = posterior(independent(), energy=np.random.default_rng(1).gamma(2.0, size=(4, 1000, 3))).to_arviz()
    table = arviz.summary(data)
    assert len(table) == 9
    assert (table["ess_bulk"] > 3000).all()
    assert data["posterior"]["weights"].dims == ("chain", "draw", "sequence", "length", "lag")
    assert data["posterior"]["lag"].values.tolist() == [1, 2, 3]
    assert set(data["checks_made"].data_vars) == {"r_hat", "ess_bulk", "ess_tail", "mcse_next_token", "e_bfmi"}
    arviz.plot_trace(data, var_names=["weights"], coords={"sequence": 1}, show=False)


def test_a_method_without_draws_says_so():
    from mdbench.baselines import Exact
    from mdbench.core.errors import InputError

    with pytest.raises(InputError, match="no draws"):
        Exact().posterior(TASK, CONTEXTS).to_arviz()
