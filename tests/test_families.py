"""Families beside the MTD, end to end: densities, gold against brute force, calibration, and every command."""

import itertools
import json
import os
import tomllib
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import integrate, stats

import mdbench
from mdbench import registry
from mdbench.baselines import Exact, Urn
from mdbench.contract import check
from mdbench.errors import InputError, PredictorError, Unsupported
from mdbench.gold import gold
from mdbench.identification import identify
from mdbench.inspection import inspect
from mdbench.registry import build_baseline, build_predictor
from mdbench.tasks import MTD, Markov, PerLag, load_task, sample, task_from_json, task_to_json
from mdbench.validation import calibration, validate
from mdbench.validation_page import render
from tests.conftest import by_enumeration
from tests.test_records import run

RNG = np.random.default_rng(0)
TRANSITIONS = RNG.dirichlet(np.ones(3), (2, 3))
ALONE = np.array([0.2, 0.5, 0.3])
PER_LAG = PerLag("per-lag", TRANSITIONS, 0.7, ALONE, lengths=(8,))
MARKOV = Markov("markov", 3, 2, 0.5, lengths=(8,))
FAMILIES = [PER_LAG, MARKOV]
by_name = pytest.mark.parametrize("task", FAMILIES, ids=lambda task: task.name)

FILES = {
    "per_lag": f"""
model = "per_lag"
lengths = [8]
concentration = 0.7
transitions = {TRANSITIONS.tolist()}
independent = [0.2, 0.5, 0.3]
""",
    "markov": 'model = "markov"\nn_states = 3\norder = 2\nconcentration = 0.5\nlengths = [8]\n',
}


@pytest.fixture(params=FILES)
def file(request, tmp_path):
    path = tmp_path / f"{request.param}.toml"
    path.write_text(FILES[request.param])
    return path


# ------------------------------------------------------------------------------------------------------- models


def test_density_of_per_lag_is_the_closed_form():
    tokens, weights = np.array([0, 2, 1, 1, 2, 0]), np.array([0.2, 0.5, 0.3])
    by_hand = stats.dirichlet.logpdf(weights, [0.7] * 3) - 2 * np.log(3)
    for t in range(2, len(tokens)):
        of_lags = [TRANSITIONS[g, tokens[t - 1 - g], tokens[t]] for g in range(2)]
        by_hand += np.log(weights @ [*of_lags, ALONE[tokens[t]]])
    found = log_density(PER_LAG.model, (tokens,), {}, {"weights": weights})[0]
    assert found == pytest.approx(by_hand, abs=1e-12)
    total = 0.0
    for lags in itertools.product(range(3), repeat=4):
        total += np.exp(log_density(PER_LAG.lags, (tokens,), {}, {"weights": weights, "lag": np.array(lags)})[0])
    assert np.log(total) == pytest.approx(by_hand, abs=1e-12)


def test_density_of_markov_is_the_closed_form():
    tokens, rows = np.array([0, 2, 1, 1, 2, 0]), np.random.default_rng(1).dirichlet(np.ones(3), 9)
    by_hand = stats.dirichlet.logpdf(rows.T, [0.5] * 3).sum() - 2 * np.log(3)
    for t in range(2, len(tokens)):
        by_hand += np.log(rows[3 * tokens[t - 2] + tokens[t - 1], tokens[t]])  # lexicographic, oldest token first
    assert log_density(MARKOV.model, (tokens,), {}, {"rows": rows})[0] == pytest.approx(by_hand, abs=1e-12)
    assert MARKOV.truth(rows[None], tokens[None])[0] == pytest.approx(rows[6])  # after 2, 0


@by_name
def test_a_draw_comes_from_the_model(task):
    """How often each pair of tokens stands at a place, by two routes: `sample`, and θ and tokens in plain loops."""
    n, length = 4000, 6
    drawn = sample(task, length - 1, n, seed=0)
    rng, plain = np.random.default_rng(0), np.empty((n, length), dtype=int)
    for i in range(n):
        shape = task.prior_mean.shape
        theta = rng.dirichlet(np.full(shape[-1], task.concentration), *([shape[0]] if len(shape) == 2 else []))
        tokens = list(rng.integers(3, size=task.given))
        while len(tokens) < length:
            tokens.append(rng.choice(3, p=task.truth(theta[None], np.array([tokens]))[0]))
        plain[i] = tokens
    for t in range(1, length):
        a, b = (np.bincount(3 * rows[:, t - 1] + rows[:, t], minlength=9) for rows in (drawn.tokens, plain))
        assert stats.chi2_contingency([a, b]).pvalue > 1e-4
    np.testing.assert_allclose(drawn.theta.mean(axis=0), task.prior_mean, atol=0.03)
    np.testing.assert_array_equal(drawn.next_probs, task.truth(drawn.theta, drawn.tokens[:, :-1]))
    part = sample(task, length - 1, 5, seed=0, start=7)
    np.testing.assert_array_equal(part.tokens, drawn.tokens[7:12])


def test_equal_matrices_are_the_mtd_to_the_last_bit():
    mtd = MTD("mtd", TRANSITIONS[0], 2, 0.7)
    same = PerLag("same", TRANSITIONS[[0, 0]], 0.7)
    contexts = sample(mtd, 20, 10, seed=0).tokens[:, :-1]
    for method in (Exact(), Urn()):
        a, b = (method.posterior(task, contexts).predictive(task, contexts) for task in (mtd, same))
        np.testing.assert_array_equal(a.probs, b.probs)
    assert mtd.task_hash != same.task_hash


# --------------------------------------------------------------------------------------------------------- gold


@pytest.mark.parametrize("independent", [None, ALONE], ids=["lags", "independent"])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_gold_of_per_lag_is_what_enumeration_gives(alpha, independent):
    task = PerLag("p", TRANSITIONS, alpha, independent)
    contexts = np.random.default_rng(1).integers(3, size=(4, 8))
    for method in ("exact", "urn"):
        found = gold(task, contexts, [8], method)
        for k, x in enumerate(task.likelihoods(contexts)):
            mean, _, _ = by_enumeration(x, Fraction(alpha))
            truth = task.truth(np.array([[float(f) for f in mean]]), contexts[k : k + 1])[0]
            assert np.abs(found.probs[k, 0] - truth).max() < 1e-13


def test_gold_of_markov_is_what_integration_gives():
    """Two states, order 1: the two rows are independent numbers, of which only the last state's matters."""
    task = Markov("m", 2, 1, 0.8)
    context = np.array([0, 1, 1, 0, 1, 1, 1, 0])  # 0 was left twice, each time for 1

    def joint(a, power):
        """Of the model itself, at P(0 after 0) = a, times a to that power."""
        rows = np.array([[a, 1 - a], [0.3, 0.7]])
        return a**power * float(np.exp(log_density(task.model, (context,), {}, {"rows": rows})[0]))

    top, bottom = (integrate.quad(joint, 0, 1, args=(power,), epsabs=0, limit=200)[0] for power in (1, 0))
    assert gold(task, context[None], [8]).probs[0, 0, 0] == pytest.approx(top / bottom, rel=1e-8)
    assert top / bottom == pytest.approx(0.8 / 3.6, rel=1e-8)  # (0 + α)/(2 + 2α)


@by_name
def test_gold_is_calibrated(task):
    """In every bin of p_B with 200 expected hits, of 20,000 sequences."""
    drawn = sample(task, 8, 20_000, seed=3)
    probs, came = gold(task, drawn.tokens[:, :-1], [8]).probs[:, 0], drawn.tokens[:, -1]
    hit = came[:, None] == np.arange(3)
    bins = np.digitize(probs, np.linspace(0, 1, 21))
    looked_at = 0
    for k in range(1, 22):
        inside = bins == k
        expected = probs[inside].sum()
        if expected >= 200:
            looked_at += 1
            z = (hit[inside].sum() - expected) / np.sqrt((probs[inside] * (1 - probs[inside])).sum())
            assert abs(z) <= 3.5, (k, z)
    assert looked_at >= 5


@by_name
def test_other_names_of_the_states_change_nothing(task):
    order = np.array([2, 0, 1])
    contexts = np.random.default_rng(2).integers(3, size=(5, 8))
    other = gold(task.relabelled(order), np.argsort(order)[contexts], [8]).probs[:, 0]
    np.testing.assert_allclose(other, gold(task, contexts, [8]).probs[:, 0][:, order], atol=1e-14)


@by_name
def test_every_prefix_is_the_gold_of_that_prefix(task):
    contexts = np.random.default_rng(2).integers(3, size=(5, 8))
    whole = gold(task, contexts, [2, 5, 8])
    for p, length in enumerate((5, 8), start=1):
        np.testing.assert_allclose(
            whole.probs[:, p], gold(task, contexts[:, :length], [length]).probs[:, 0], atol=1e-14
        )
    prior = np.broadcast_to(task.prior_mean, (5, *task.prior_mean.shape))
    np.testing.assert_allclose(whole.probs[:, 0], task.truth(prior, contexts[:, :2]), atol=1e-14)


@pytest.mark.parametrize(
    "method",
    [
        "laplace",
        "vi_dirichlet:steps=200",
        "vi_logistic_normal:steps=200",
        "reference:standard_error=1e-3",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("nuts:draws=500", "gibbs:draws=500", "pyro_svi:steps=300")),
        pytest.param("pyro_nuts:draws=500", marks=pytest.mark.slow),
    ],
)
def test_posterior_methods_of_mixtures_run_on_one_matrix_per_lag(method):
    contexts = sample(PER_LAG, 8, 6, seed=0).tokens[:, :-1].astype(np.int64)
    truth, found = Exact().posterior(PER_LAG, contexts), build_baseline(method).posterior(PER_LAG, contexts)
    assert found.mean.shape == (6, 1, 3)
    allowed = 0.1 if found.mean_se is None else 5 * found.mean_se
    assert (np.abs(found.mean - truth.mean) < allowed).all()


@pytest.mark.slow
def test_nuts_takes_a_familys_own_model():
    """Against the closed form, with so few draws that most sequences fail their gates at first and are run again."""
    task = Markov("m", 3, 1, 0.5)
    contexts = sample(task, 16, 64, seed=0).tokens[:, :-1].astype(np.int64)
    found = build_baseline("nuts:draws=100,warmup=100").posterior(task, contexts)
    assert found.site == "rows"
    assert found.mean.shape == (64, 1, 9)
    assert found.draws.settings["n_rerun"] > 30
    by_nuts, truth = found.predictive(task, contexts), gold(task, contexts, [16])
    z = (by_nuts.probs - truth.probs) / by_nuts.standard_error
    assert 0.8 < np.sqrt((z**2).mean()) < 1.2
    counts = np.zeros((64, 3, 3))
    np.add.at(counts, (np.arange(64)[:, None], contexts[:, :-1], contexts[:, 1:]), 1)
    exact_mean = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 1.5)
    z = (found.mean[:, 0] - exact_mean.reshape(64, 9)) / found.mean_se[:, 0]
    assert 0.8 < np.sqrt((z**2).mean()) < 1.2
    assert list(found.to_arviz().posterior) == ["rows"]
    ranks = calibration(build_baseline("nuts:draws=100,warmup=100"), task, 16, 320, 0)
    assert len(ranks.p) == 10  # of each number of θ, and of the log likelihood
    assert min(ranks.p) > 1e-3


def test_variational_inference_takes_a_familys_own_model():
    """Of one Dirichlet row each a logistic normal is a good guide; validation holds it to the closed form."""
    task = Markov("m", 3, 1, 0.5)
    contexts = sample(task, 16, 8, seed=0).tokens[:, :-1].astype(np.int64)
    found = build_baseline("vi_logistic_normal").posterior(task, contexts)
    truth, probs = gold(task, contexts, [16]).probs, found.predictive(task, contexts).probs
    assert np.abs(probs - truth).max() < 0.02
    assert (truth * np.log(truth / probs)).sum(axis=-1).mean() < 2e-4
    assert found.next_token_se is None
    assert (found.site, found.mean.shape, found.draws.weights.shape) == ("rows", (8, 1, 9), (1, 1000, 8, 1, 9))
    np.testing.assert_allclose(found.draws.weights.mean(axis=(0, 1)), found.mean, atol=0.06)
    alone = build_baseline("vi_logistic_normal").posterior(task, contexts[[5]])
    np.testing.assert_allclose(alone.mean[0], found.mean[5], rtol=1e-9)

    sizes = {"length": 16, "n_sequences": 32, "calibration_length": 16, "n_simulations": 160, "cache": False}
    validation = validate(tasks=[task], methods=["vi_logistic_normal"], **sizes)
    (accuracy,), (ranks,), (verdict,) = validation.accuracies, validation.calibrations, validation.verdicts
    assert (accuracy.of, accuracy.largest_sd_error, verdict.verdict) == ("p", None, "approximate")
    assert accuracy.rms_error < 0.01
    assert ranks.quantities == (*(f"rows_{k}" for k in range(1, 10)), "log likelihood")
    assert min(ranks.p) > 1e-3
    for page in (validation.to_json(), render(validation, "mdbench baseline validate")):
        assert "rows_9" in page
    with pytest.raises(InputError, match="'gibbs' needs a mixture"):
        validate(tasks=[task], methods=["gibbs"], **sizes)


def test_nuts_refuses_more_numbers_than_it_can_judge():
    with pytest.raises(Unsupported, match="at most 300, and here are 1000"):
        build_predictor("nuts", Markov("m", 10, 2)).check_length(8)


# ----------------------------------------------------------------------------------------------- what fits where


def test_what_does_not_fit_says_so():
    for direct in (Exact(), build_baseline("gibbs")):
        with pytest.raises(Unsupported, match="needs a mixture of known components with a Dirichlet prior; 'markov'"):
            direct.posterior(MARKOV, np.zeros((1, 8), int))
    for name in ("md1", "laplace"):
        with pytest.raises(Unsupported, match="needs a mixture of known components with a Dirichlet prior; 'markov'"):
            build_predictor(name, MARKOV)
    with pytest.raises(Unsupported, match="'constructed_l3' needs a mixture of transition distributions"):
        build_predictor("constructed_l3", PER_LAG)
    with pytest.raises(Unsupported, match="'em' needs a mixture of known components; 'markov' is a Markov chain"):
        build_predictor("em", MARKOV)
    with pytest.raises(InputError, match=r"inspect .* mixture of transition distributions"):
        inspect("constructed_l3", task=PER_LAG, length=8)
    with pytest.raises(InputError, match="algorithms on λ need a mixture"):
        identify("bayes", task=MARKOV, lengths=8)
    with pytest.raises(InputError, match="needs a mixture"):
        gold(MARKOV, np.zeros((1, 8), int), [8], "gibbs")


def test_an_annotation_is_all_that_a_predictor_needs_to_say(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nimport numpy as np\nfrom mdbench.tasks import Markov\n"
        "class Mine:\n    def __init__(self, task: Markov): self.q = task.n_states\n"
        "    def predict(self, contexts): return np.full((len(contexts), self.q), 1 / self.q)\n"
    )
    found = mdbench.evaluate(f"{path}:Mine", task=[PER_LAG, MARKOV], n_sequences=8, references=())
    assert [r.task for r in found.results] == ["markov"]
    assert [(s.task, s.label) for s in found.skipped] == [("per-lag", "other tasks")]
    assert "needs a Markov chain with unknown rows; 'per-lag' is a mixture" in found.skipped[0].reason


@by_name
def test_default_rows_suit_the_family(task):
    found = mdbench.evaluate("uniform", task=task, n_sequences=64)
    assert {r.predictor for r in found.results} == set(task.references) | {"uniform"}
    assert not found.skipped
    assert next(r for r in found.results if r.predictor == "bayes").at_gold


@pytest.mark.parametrize("method", ["predict_given_theta", "predict_given_weights"])
def test_what_is_told_theta_gets_it(method):
    class Told:
        def __init__(self):
            setattr(self, method, self.answer)

        def answer(self, contexts, theta):
            return PER_LAG.truth(theta, contexts)

    (result,) = mdbench.evaluate(Told(), task=PER_LAG, n_sequences=8, references=()).results
    assert (result.kl, result.excess_kl) == (0.0, None)


# ------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("name", ["bayes", "uniform"])
@by_name
def test_the_contract_holds(task, name):
    checks = {c.name: c.verdict for c in check(name, task, [8])}
    assert "fail" not in checks.values()
    assert checks["relabelling"] == checks["fresh process"] == "pass"


def test_the_way_from_a_file(file, tmp_path, capsys):
    """`show`, `sample`, `train` with each target, `evaluate` what was trained, isolated and recorded in JSON."""
    task = load_task(file)
    assert run("show", file, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model"], shown["n_states"], shown["task_hash"]) == (task.family, 3, task.task_hash)
    assert run("show", file) == 0
    assert task.kind in " ".join(capsys.readouterr().out.split())
    assert run("sample", "--task", file, "--n-sequences", 4, "--length", 8, "--out", tmp_path / "s.npz") == 0
    with np.load(tmp_path / "s.npz") as arrays:
        theta = arrays[{"per_lag": "weights", "markov": "rows"}[task.family]]
        assert theta.shape == (4, *task.prior_mean.shape)
        np.testing.assert_allclose(arrays["next_probs"], task.truth(theta, arrays["tokens"][:, :-1]))
    for target in ("bayes", "conditional", "token"):
        options = ("--target", target, "--steps", 20, "--batch", 4, "--candidates", 1, "--out", tmp_path / target)
        assert run("train", "--task", file, "--lengths", 8, *options) == 0
    capsys.readouterr()
    name = f"run:{tmp_path / 'bayes' / task.name / 'T8' / 'seed0'}"
    assert run("evaluate", "--predictor", name, "--task", file, "--n-sequences", 8, "--isolate", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["predictor"] for r in found["results"]} == {name, *task.references}


@pytest.fixture
def coin(tmp_path, monkeypatch):
    """A task file of a family of another package, which also brings its posterior method; as if it were installed."""
    outside = Path(__file__).parent / "outside"
    project = tomllib.loads((outside / "pyproject.toml").read_text())["project"]
    about = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    )
    (about / "entry_points.txt").write_text("\n".join(groups))
    for folder in (outside, about.parent):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (outside, about.parent))))
    (tmp_path / "coin.toml").write_text('model = "coin"\nn_states = 3\nconcentration = 2.0\n')
    return tmp_path / "coin.toml"


def test_a_family_of_another_package_is_one_class(coin, capsys):
    task = load_task(coin)
    assert (task.kind, task.concentration, task.given) == ("a coin", 2.0, 0)
    drawn = sample(task, 8, 2000, seed=0)
    assert drawn.tokens.shape == (2000, 9)
    z = (np.bincount(drawn.tokens[:, -1], minlength=3) - 2000 / 3) / np.sqrt(2000 * 2 / 9)
    assert np.abs(z).max() < 4
    assert run("show", coin) == 0
    assert "a coin, 3 states, concentration 2" in " ".join(capsys.readouterr().out.split())
    assert {c.verdict for c in check("uniform", task, [8])} == {"pass", "not applicable"}
    found = mdbench.evaluate("uniform", task=task, n_sequences=8)
    assert {(r.predictor, r.gold) for r in found.results} == {("uniform", "counts"), ("counts", "counts")}
    with pytest.raises(InputError, match=r"'exact' needs a mixture of known components .* 'coin' is a coin"):
        mdbench.evaluate("uniform", task=task, n_sequences=8, gold="exact")


def test_a_posterior_method_of_another_package_is_one_class(coin, capsys):
    """It is gold, a row, and in `list` and `show`; what it finds is Dirichlet(α + counts)."""
    task = load_task(coin)
    contexts = sample(task, 8, 32, seed=0).tokens[:, :-1].astype(np.int64)
    counts = (contexts[..., None] == np.arange(3)).sum(axis=1)
    found = gold(task, contexts, [4, 8], "counts")
    np.testing.assert_allclose(found.probs[:, 1], (counts + 2) / (8 + 6), rtol=1e-14)
    arguments = ("--task", coin, "--n-sequences", 32, "--json")
    assert run("evaluate", "--predictor", "counts", "--predictor", "counts:draws=3", *arguments) == 0
    rows = {r["predictor"]: r for r in json.loads(capsys.readouterr().out)["results"]}
    assert max(rows["counts"]["excess_kl"], rows["counts:draws=3"]["excess_kl"]) < 1e-28 < rows["uniform"]["excess_kl"]
    n_states = np.arange(3)
    came = np.array([rows["counts"]["brier"], rows["counts"]["brier_se"]])
    tokens = sample(task, 8, 32, seed=0).tokens
    a = (tokens[:, :-1, None] == n_states).sum(axis=1) + 2
    brier = ((a / a.sum(axis=1, keepdims=True) - (tokens[:, -1:] == n_states)) ** 2).sum(axis=1)
    np.testing.assert_allclose(came, [brier.mean(), brier.std(ddof=1) / np.sqrt(32)])
    assert {c.verdict for c in check("counts", task, [8])} == {"pass", "not applicable"}
    assert run("show", "counts", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["standing"], shown["options"]) == ("exact", ["draws=0 (independent draws to return)"])
    assert run("list", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert "counts" in listing["baselines"]
    assert listing["families"]["coin"] == listing["scores"]["brier"] == "from mdbench-outside-eg 0.1.0"
    for name, said in (("coin", "a coin"), ("brier", "the squared distance")):
        assert run("show", name) == 0
        assert said in capsys.readouterr().out
    with pytest.raises(Unsupported, match="'counts' needs a coin; 'markov' is a Markov chain"):
        build_predictor("counts", MARKOV)


def test_gold_of_another_package_is_of_its_code(coin, tmp_path, monkeypatch):
    """Kept on disk, it is computed anew once that package has changed."""
    from mdbench import store

    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path / "cache"))
    store.package_hash.cache_clear()
    task = load_task(coin)
    contexts = np.zeros((2, 8), int)
    for _ in range(2):
        gold(task, contexts, [8], "counts")
        assert len(list((tmp_path / "cache").rglob("gold/*.cell"))) == 1
    edited = tmp_path / "outside_eg"
    edited.mkdir()
    (edited / "changed.py").write_text("")
    monkeypatch.setattr(store, "sources_of", lambda _module: [edited])
    store.package_hash.cache_clear()
    gold(task, contexts, [8], "counts")
    assert len(list((tmp_path / "cache").rglob("gold/*.cell"))) == 2


def test_what_is_no_baseline_says_so(monkeypatch):
    for value, said in (
        ("numpy:ndarray", "does not derive from mdbench.baselines.Baseline"),
        ("mdbench.baselines:Urn", "has the name 'urn'"),
        ("tests.nowhere:Counts", "cannot be loaded"),
    ):
        found = EntryPoint("mine", value, registry.BASELINE_GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group, found=found: [found] * (group == found.group))
        with pytest.raises(PredictorError, match=said):
            registry.build_baseline("mine")


@pytest.mark.slow
def test_a_family_without_gold_of_its_own_takes_nuts(coin):
    """θ's posterior is Dirichlet(α + counts)."""
    task = load_task(coin)
    contexts = sample(task, 8, 32, seed=0).tokens[:, :-1].astype(np.int64)
    found, truth = gold(task, contexts, [8], "nuts:draws=500"), gold(task, contexts, [8], "counts")
    z = (found.probs - truth.probs) / found.standard_error
    assert 0.7 < np.sqrt((z**2).mean()) < 1.3


@by_name
def test_a_process_of_its_own_gets_the_same_task(task):
    again = task_from_json(json.loads(json.dumps(task_to_json(task))))
    assert type(again) is type(task)
    assert again.task_hash == task.task_hash
    assert (again.name, again.lengths) == (task.name, task.lengths)


def test_a_hash_is_of_every_number():
    others = [
        PerLag("p", TRANSITIONS, 0.7),
        PerLag("p", TRANSITIONS[::-1], 0.7, ALONE),
        PerLag("p", TRANSITIONS, 0.8, ALONE),
        PerLag("p", TRANSITIONS, 0.7, ALONE[::-1]),
        Markov("m", 3, 2, 0.6),
        Markov("m", 3, 1, 0.5),
        Markov("m", 2, 2, 0.5),
    ]
    assert len({task.task_hash for task in [*FAMILIES, *others]}) == len(FAMILIES) + len(others)
    assert Markov("other name", 3, 2, 0.5, lengths=(9,)).task_hash == MARKOV.task_hash


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "perlag"', "model: no family of tasks 'perlag'; did you mean 'per_lag'"),
        ("model = 3", "model: a family has a name in quotes, not 3"),
        ('model = "per_lag"', "has no 'transitions'"),
        ('model = "per_lag"\ntransitions = []', "transitions must be a list of matrices"),
        ('model = "per_lag"\ntransitions = 3', "transitions must be a list of matrices"),
        ('model = "per_lag"\ntransitions = [[[1.0, 0.0], [0.5, 0.6]]]', "row 2 of the matrix of lag 1 sums to 1.1"),
        (
            'model = "per_lag"\ntransitions = [[[1.0, 0.0], [0.5, 0.5]], [[1.0]]]',
            "the matrix of lag 2 must be square with at least 2 states",
        ),
        (
            'model = "per_lag"\ntransitions = [[[1.0, 0.0], [0.5, 0.5]]]\nindependent = [0.5, 0.25, 0.25]',
            "independent must be 2 numbers, one for each state",
        ),
        ('model = "per_lag"\norder = 2\ntransitions = [[[1.0, 0.0], [0.5, 0.5]]]', "no field 'order'"),
        ('model = "markov"\nn_states = 3', "has no 'order'"),
        ('model = "markov"\nn_states = 1\norder = 1', "n_states must be a whole number of at least 2"),
        ('model = "markov"\nn_states = 10\norder = 5', "10\\^5 contexts; 10000 are the most"),
        ('model = "markov"\nn_states = 2\norder = 1\nconcentration = true', "concentration must be a number"),
        ('model = "markov"\nn_states = 2\norder = 2\nlengths = [2]', "length of at least order \\+ 1 = 3"),
    ],
)
def test_bad_files_are_said_in_a_sentence(text, said, tmp_path):
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_task(tmp_path / "t.toml")
