"""Posteriors of one's own data, from Python and from files."""

import collections
import json
import math
import sys

import numpy as np
import pytest

import mdbench
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError
from mdbench.posteriors.reading import read_transition

PI = [[0.75, 0.25], [0.35, 0.65]]


def test_two_transitions_by_hand():
    """For y = (0, 1, 1): one weight at m = 1; at m = 2, p(y_3) = (a + b) / 2 with a = π(1, 1) and b = π(0, 1)."""
    one = mdbench.posterior(PI, 1, [[0, 1, 1]])["sequences"][0]
    assert one["posterior_mean"] == [1.0]
    assert one["posterior_sd"] == [0.0]
    assert one["log_evidence"] == pytest.approx(math.log(0.25 * 0.65), rel=1e-14)
    np.testing.assert_allclose(one["next_token"], PI[1], rtol=1e-14)
    two = mdbench.posterior(PI, 2, [[0, 1, 1]])["sequences"][0]
    a, b = 0.65, 0.25
    assert two["log_evidence"] == pytest.approx(math.log((a + b) / 2), rel=1e-14)
    first = (2 * a + b) / (3 * (a + b))
    assert two["posterior_mean"] == pytest.approx([first, 1 - first], rel=1e-14)
    second = (3 * a + b) / (6 * (a + b))  # E[λ²] under Dirichlet(2, 1) is 1/2, under Dirichlet(1, 2) it is 1/6
    assert two["posterior_sd"][0] == pytest.approx(math.sqrt(second - first**2), rel=1e-12)
    assert two["next_token"] == pytest.approx(PI[1], rel=1e-14)
    assert two["error_estimate"] < 1e-12


@pytest.mark.parametrize("concentration", [0.3, 2.0])
def test_methods_agree_on_sequences_of_different_lengths(concentration):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 2, length).tolist() for length in (9, 4, 30, 9, 4)]
    a, b = (
        mdbench.posterior(PI, 3, sequences, concentration=concentration, method=method, prefixes=True)
        for method in ("exact", "urn")
    )
    assert (a["method"], b["method"]) == ("exact", "urn")
    for mine, other, sequence in zip(a["sequences"], b["sequences"], sequences, strict=True):
        assert mine["length"] == other["length"] == len(sequence)
        for key in ("log_evidence", "posterior_mean", "posterior_sd", "next_token"):
            np.testing.assert_allclose(mine[key], other[key], rtol=1e-10)
        assert mine["prefixes"]["length"] == list(range(3, len(sequence) + 1))
        np.testing.assert_allclose(mine["prefixes"]["posterior_mean"], other["prefixes"]["posterior_mean"], rtol=1e-10)
        assert mine["prefixes"]["posterior_mean"][-1] == mine["posterior_mean"]


def test_order_of_sequences_is_kept():
    sequences = [[0, 1, 1, 0], [1, 1, 1], [0, 0, 0, 0]]
    together = mdbench.posterior(PI, 2, sequences)["sequences"]
    alone = [mdbench.posterior(PI, 2, [sequence])["sequences"][0] for sequence in sequences]
    assert together == alone


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((PI, 2, [[0, 1, 1], [0, 1]]), "sequence 2: its length is 2; order 2 needs at least 3"),
        ((PI, 2, [[0, 1, 1], [0, 1, 2]]), r"sequence 2: state 2 at position 3 is outside 0\.\.1"),
        ((PI, 2, [[0, 1, 1], [0.5, 1, 1]]), "sequence 2: a state is a whole number or a label, not 0.5"),
        (([[1, 0], [0, 1]], 1, [[0, 0], [1, 1, 0]]), "sequence 2: impossible .* state 0 at position 3"),
        (([[0.5, 0.6], [0, 1]], 1, [[0, 0]]), "row 1 of the transition matrix sums to 1.1"),
        ((PI, 0, [[0, 0]]), "order must be a whole number"),
        ((PI, "2", [[0, 0]]), "order must be a whole number"),
        ((PI, 2, []), "there are no sequences"),
        ((PI, 2, [[]]), "sequence 1: its length is 0"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        mdbench.posterior(*arguments)
    with pytest.raises(InputError, match=sentence):
        mdbench.posterior(*arguments, method="urn")


def test_unknown_method():
    with pytest.raises(InputError, match="no baseline 'exat'; did you mean 'exact'"):
        mdbench.posterior(PI, 1, [[0, 1]], method="exat")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_transition(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\x80\x81\x00\x01")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        read_transition(tmp_path / "binary.csv")
    for text in ("", "\n \n", "# nothing\n"):
        (tmp_path / "empty.csv").write_text(text)
        with pytest.raises(InputError, match="is empty"):
            read_transition(tmp_path / "empty.csv")


def test_no_rule_is_built_once_all_sequences_have_converged(monkeypatch):
    """The exact rule for T = 3000 would take minutes to build."""
    module = sys.modules["mdbench.baselines.exact"]
    built = []
    original = module.beta_rule
    monkeypatch.setattr(module, "beta_rule", lambda n, a, b: built.append(n) or original(n, a, b))
    sequence = np.random.default_rng(0).integers(0, 2, 3000).tolist()
    mdbench.posterior(PI, 2, [sequence])
    assert max(built) < 200


@pytest.mark.slow
def test_sampling_methods_report_errors_and_gates():
    sequences = [[0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1]] * 2
    exact = mdbench.posterior(PI, 2, sequences)["sequences"][0]
    for method in ("nuts:draws=500", "gibbs:draws=500", "reference:standard_error=1e-3"):
        found = mdbench.posterior(PI, 2, sequences, method=method)
        assert found["method"] == build_baseline(method).label
        first = found["sequences"][0]
        gap = np.abs(np.subtract(first["posterior_mean"], exact["posterior_mean"]))
        assert (gap < 4.5 * np.array(first["standard_error"])).all()
        assert first["error_estimate"] is None
        assert {check["verdict"] for check in first["checks_made"]} <= {"pass", "not applicable"}
        assert first == found["sequences"][1]  # equal tokens, equal draws
        json.dumps(found, allow_nan=False)
    assert exact["standard_error"] is None
    assert exact["checks_made"] == []


@pytest.mark.slow
def test_draws_are_written_for_arviz(tmp_path):
    import arviz

    sequences = [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 1, 0]]
    path = tmp_path / "post.nc"
    for method in ("urn:draws=400", "gibbs:draws=400", "laplace"):
        found = mdbench.posterior(PI, 2, sequences, method=method, out=path)
        data = arviz.from_netcdf(path)
        assert data["posterior"].attrs["method"] == method.partition(":")[0]
        of_first = data["posterior"]["weights"].sel(sequence=1, length=8).mean(("chain", "draw")).values
        np.testing.assert_allclose(of_first, found["sequences"][0]["posterior_mean"], atol=0.05)
        assert len(arviz.summary(data)) == 4


@pytest.mark.parametrize(
    ("method", "out", "sequences", "message"),
    [
        ("exact", "post.nc", [[0, 1, 1, 0]], "no draws"),
        ("urn", "post.nc", [[0, 1, 1, 0]], "urn:draws=1000"),
        ("laplace", "post.csv", [[0, 1, 1, 0]], "netCDF"),
        ("laplace", "post.nc", [[0, 1, 1, 0], [0, 1, 1]], "one length"),
        ("laplace", "nowhere/post.nc", [[0, 1, 1, 0]], "no folder"),
        ("nuts", None, [[0, 1, 1, 0]], None),
    ],
)
def test_out_refuses_before_it_computes(tmp_path, method, out, sequences, message):
    if message is None:
        with pytest.raises(InputError, match="order 1"):
            mdbench.posterior(PI, 1, sequences, method=method)
        return
    with pytest.raises(InputError, match=message):
        mdbench.posterior(PI, 2, sequences, method=method, out=tmp_path / out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("method", "order"), [("exact", 7), ("urn", 7)])
def test_a_refusal_for_size_names_what_would_do(method, order):
    sequence = np.random.default_rng(0).integers(0, 2, 400)
    with pytest.raises(InputError, match=r"--method reference does this size\.$"):
        mdbench.posterior(PI, order, [sequence], method=method)


@pytest.mark.slow
def test_long_sequences_are_held_to_a_quadrature_in_logarithms():
    """A first-order chain of 40,000 states: λ is next to (1, 0), which learning finds too late for float64."""
    stay, y = 0.91, [0, 0]
    for u in np.random.default_rng(0).random(40_000):
        y.append(int(u < (stay if y[-1] else 1 - stay)))
    (found,) = mdbench.posterior([[stay, 1 - stay], [1 - stay, stay]], 2, [y])["sequences"]
    tokens, pi = np.array(y), np.array([[stay, 1 - stay], [1 - stay, stay]])
    kinds = collections.Counter(zip(pi[tokens[1:-1], tokens[2:]], pi[tokens[:-2], tokens[2:]], strict=True))
    lambdas = np.concatenate([np.linspace(0, 0.9, 10_001)[:-1], np.linspace(0.9, 1, 1_000_001)])
    log_density = sum(k * np.log(lambdas * a + (1 - lambdas) * b) for (a, b), k in kinds.items())
    weights = np.exp(log_density - log_density.max())
    total = np.trapezoid(weights, lambdas)
    mean = np.trapezoid(lambdas * weights, lambdas) / total
    sd = np.sqrt(np.trapezoid((lambdas - mean) ** 2 * weights, lambdas) / total)
    assert found["posterior_mean"][0] == pytest.approx(mean, abs=1e-8)
    assert found["posterior_sd"][0] == pytest.approx(sd, rel=1e-5)
    assert found["log_evidence"] == pytest.approx(log_density.max() + np.log(total), abs=1e-4)


def test_the_log_likelihood_of_each_transition_is_in_the_file(tmp_path):
    import arviz

    sequences = [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 1, 0, None, 0, 1, 0]]
    mdbench.posterior(PI, 2, sequences, method="urn:draws=400", pooled=True, out=tmp_path / "post.nc")
    data = arviz.from_netcdf(tmp_path / "post.nc")
    values = data["log_likelihood"]["token"]
    assert values.sizes["transition"] == 6 + 2 + 1  # what no gap touches
    weights = data["posterior"]["weights"].values[:, :, 0, 0]
    by_hand = np.log(weights @ [PI[1][1], PI[0][1]])  # the third token of the first: 1 after 1, and 1 after 0
    np.testing.assert_allclose(values.values[:, :, 0], by_hand)
    assert np.isfinite(arviz.loo(data).elpd_loo)
