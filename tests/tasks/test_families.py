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
from mdbench.baselines import Exact, Urn, catalogue
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError, PredictorError, Unsupported
from mdbench.evaluation.contract import check
from mdbench.evaluation.gold import gold_predictive
from mdbench.mechanism.identification import identify
from mdbench.mechanism.inspection import inspect
from mdbench.pages.validation import render
from mdbench.posteriors.validation import calibration, validate
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import MTD, Markov, PerLag, load_task, sample

RNG = np.random.default_rng(0)
TRANSITIONS = RNG.dirichlet(np.ones(3), (2, 3))
ALONE = np.array([0.2, 0.5, 0.3])
PER_LAG = PerLag("per-lag", TRANSITIONS, 0.7, ALONE, lengths=(8,))
MARKOV = Markov("markov", 3, 2, 0.5, lengths=(8,))

FILES = {
    "per_lag": f"""
model = "per_lag"
lengths = [8]
concentration = 0.7
transitions = {TRANSITIONS.tolist()}
independent = [0.2, 0.5, 0.3]
""",
    "markov": 'model = "markov"\nn_states = 3\norder = 2\nconcentration = 0.5\nlengths = [8]\n',
    "atoms": f'model = "atoms"\norder = 2\none_hot = true\ntransition = {TRANSITIONS[0].tolist()}\nlengths = [8]\n',
    "context_tree": 'model = "context_tree"\nn_states = 3\ndepth = 2\nlengths = [8]\n',
    "hmm": f"""
model = "hmm"
lengths = [8]
models = [
  {{initial = [0.5, 0.5], transition = [[0.9, 0.1], [0.2, 0.8]], emission = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]}},
  {{initial = [1, 0, 0], transition = {TRANSITIONS[0].tolist()}, emission = {TRANSITIONS[1].tolist()}}},
]
""",
}


QUICK = ("per_lag", "hmm")  # two that have nothing in common


@pytest.fixture(params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILES])
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


def test_equal_matrices_are_the_mtd_to_the_last_bit():
    mtd = MTD("mtd", TRANSITIONS[0], 2, 0.7)
    same = PerLag("same", TRANSITIONS[[0, 0]], 0.7)
    contexts = sample(mtd, 20, 10, seed=0).contexts
    for method in (Exact(), Urn()):
        a, b = (method.posterior(task, contexts).predictive(task, contexts) for task in (mtd, same))
        np.testing.assert_array_equal(a.probs, b.probs)
    assert mtd.task_hash != same.task_hash


# --------------------------------------------------------------------------------------------------------- gold


@pytest.mark.parametrize("independent", [None, ALONE], ids=["lags", "independent"])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_gold_of_per_lag_is_what_enumeration_gives(by_enumeration, alpha, independent):
    task = PerLag("p", TRANSITIONS, alpha, independent)
    contexts = np.random.default_rng(1).integers(3, size=(4, 8))
    for method in ("exact", "urn"):
        found = gold_predictive(task, contexts, [8], method)
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
    assert gold_predictive(task, context[None], [8]).probs[0, 0, 0] == pytest.approx(top / bottom, rel=1e-8)
    assert top / bottom == pytest.approx(0.8 / 3.6, rel=1e-8)  # (0 + α)/(2 + 2α)


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
    contexts = sample(PER_LAG, 8, 6, seed=0).contexts
    truth, found = Exact().posterior(PER_LAG, contexts), build_baseline(method).posterior(PER_LAG, contexts)
    assert found.mean.shape == (6, 1, 3)
    allowed = 0.1 if found.mean_se is None else 5 * found.mean_se
    assert (np.abs(found.mean - truth.mean) < allowed).all()


@pytest.mark.slow
def test_nuts_takes_a_familys_own_model():
    """Against the closed form, with so few draws that most sequences fail their gates at first and are run again."""
    task = Markov("m", 3, 1, 0.5)
    contexts = sample(task, 16, 64, seed=0).contexts
    found = build_baseline("nuts:draws=100,warmup=100").posterior(task, contexts)
    assert found.site == "rows"
    assert found.mean.shape == (64, 1, 9)
    assert found.draws.settings["n_rerun"] > 30
    by_nuts, truth = found.predictive(task, contexts), gold_predictive(task, contexts, [16])
    z = (by_nuts.probs - truth.probs) / by_nuts.standard_error
    assert 0.8 < np.sqrt((z**2).mean()) < 1.2
    counts = np.zeros((64, 3, 3))
    np.add.at(counts, (np.arange(64)[:, None], contexts[:, :-1], contexts[:, 1:]), 1)
    exact_mean = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 1.5)
    z = (found.mean[:, 0] - exact_mean.reshape(64, 9)) / found.mean_se[:, 0]
    assert 0.8 < np.sqrt((z**2).mean()) < 1.2
    assert list(found.to_arviz().posterior) == ["rows"]
    ranks = calibration(build_baseline("nuts:draws=100,warmup=100"), task, 16, 160, 0)
    assert len(ranks.p) == 10  # of each number of θ, and of the log likelihood
    assert min(ranks.p) > 1e-3


@pytest.mark.slow
def test_variational_inference_takes_a_familys_own_model():
    """Of one Dirichlet row each a logistic normal is a good guide; validation holds it to the closed form."""
    task = Markov("m", 3, 1, 0.5)
    contexts = sample(task, 16, 8, seed=0).contexts
    found = build_baseline("vi_logistic_normal").posterior(task, contexts)
    truth, probs = gold_predictive(task, contexts, [16]).probs, found.predictive(task, contexts).probs
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


@pytest.mark.wrong_types
def test_what_does_not_fit_says_so():
    with pytest.raises(Unsupported, match="needs a mixture of known components with a Dirichlet prior; 'markov'"):
        Exact().posterior(MARKOV, np.zeros((1, 8), int))
    with pytest.raises(Unsupported, match=r"Dirichlet prior or a mixture .* with an unknown matrix; 'markov' is"):
        build_baseline("gibbs").posterior(MARKOV, np.zeros((1, 8), int))
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
        gold_predictive(MARKOV, np.zeros((1, 8), int), [8], "gibbs")


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


def test_the_way_from_a_file(run, file, tmp_path, capsys):
    """`show`, `sample`, `train` with each target, `evaluate` what was trained, isolated and recorded in JSON."""
    task = load_task(file)
    assert run("show", file, "--json").code == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model"], shown["n_states"], shown["task_hash"]) == (task.family, 3, task.task_hash)
    assert run("show", file).code == 0
    assert task.kind in " ".join(capsys.readouterr().out.split())
    assert run("sample", "--task", file, "--n-sequences", 4, "--length", 8, "--out", tmp_path / "s.npz").code == 0
    with np.load(tmp_path / "s.npz") as arrays:
        theta = arrays[task.theta]
        assert theta.shape == (4, *task.prior_mean.shape)
        np.testing.assert_allclose(arrays["next_probs"], task.truth(theta, arrays["tokens"][:, :-1]))
    for target in ("bayes", "conditional", "token"):
        options = ("--target", target, "--steps", 20, "--batch", 4, "--candidates", 1, "--out", tmp_path / target)
        assert run("train", "--task", file, "--lengths", 8, *options).code == 0
    capsys.readouterr()
    name = f"run:{tmp_path / 'bayes' / task.name / 'T8' / 'seed0'}"
    assert run("evaluate", "--predictor", name, "--task", file, "--n-sequences", 8, "--isolate", "--json").code == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["predictor"] for r in found["results"]} == {name, *task.references}


@pytest.fixture
def coin(tmp_path, monkeypatch):
    """A task file of a family of another package, which also brings its posterior method; as if it were installed."""
    outside = Path(__file__).parents[1] / "outside"
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


def test_a_family_of_another_package_is_one_class(run, coin, capsys):
    task = load_task(coin)
    assert (task.kind, task.concentration, task.given) == ("a coin", 2.0, 0)
    drawn = sample(task, 8, 2000, seed=0)
    assert drawn.tokens.shape == (2000, 9)
    z = (np.bincount(drawn.tokens[:, -1], minlength=3) - 2000 / 3) / np.sqrt(2000 * 2 / 9)
    assert np.abs(z).max() < 4
    assert run("show", coin).code == 0
    assert "a coin, 3 states, concentration 2" in " ".join(capsys.readouterr().out.split())
    assert {c.verdict for c in check("uniform", task, [8])} == {"pass", "not applicable"}
    found = mdbench.evaluate("uniform", task=task, n_sequences=8)
    assert {(r.predictor, r.gold) for r in found.results} == {("uniform", "counts"), ("counts", "counts")}
    with pytest.raises(InputError, match=r"'exact' needs a mixture of known components .* 'coin' is a coin"):
        mdbench.evaluate("uniform", task=task, n_sequences=8, gold="exact")


def test_a_posterior_method_of_another_package_is_one_class(run, coin, capsys):
    """It is gold, a row, and in `list` and `show`; what it finds is Dirichlet(α + counts)."""
    task = load_task(coin)
    contexts = sample(task, 8, 32, seed=0).contexts
    counts = (contexts[..., None] == np.arange(3)).sum(axis=1)
    found = gold_predictive(task, contexts, [4, 8], "counts")
    np.testing.assert_allclose(found.probs[:, 1], (counts + 2) / (8 + 6), rtol=1e-14)
    arguments = ("--task", coin, "--n-sequences", 32, "--json")
    assert run("evaluate", "--predictor", "counts", "--predictor", "counts:draws=3", *arguments).code == 0
    rows = {r["predictor"]: r for r in json.loads(capsys.readouterr().out)["results"]}
    assert max(rows["counts"]["excess_kl"], rows["counts:draws=3"]["excess_kl"]) < 1e-28 < rows["uniform"]["excess_kl"]
    n_states = np.arange(3)
    came = np.array([rows["counts"]["brier"], rows["counts"]["brier_se"]])
    tokens = sample(task, 8, 32, seed=0).tokens
    a = (tokens[:, :-1, None] == n_states).sum(axis=1) + 2
    brier = ((a / a.sum(axis=1, keepdims=True) - (tokens[:, -1:] == n_states)) ** 2).sum(axis=1)
    np.testing.assert_allclose(came, [brier.mean(), brier.std(ddof=1) / np.sqrt(32)])
    assert {c.verdict for c in check("counts", task, [8])} == {"pass", "not applicable"}
    assert run("show", "counts", "--json").code == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["standing"], shown["options"]) == ("exact", ["draws=0 (independent draws to return)"])
    assert run("list", "--json").code == 0
    listing = json.loads(capsys.readouterr().out)
    assert "counts" in listing["baselines"]
    assert listing["families"]["coin"] == listing["scores"]["brier"] == "from mdbench-outside-eg 0.1.0"
    for name, said in (("coin", "a coin"), ("brier", "the squared distance")):
        assert run("show", name).code == 0
        assert said in capsys.readouterr().out
    with pytest.raises(Unsupported, match="'counts' needs a coin; 'markov' is a Markov chain"):
        build_predictor("counts", MARKOV)


def test_gold_of_another_package_is_of_its_code(coin, tmp_path, monkeypatch):
    """Kept on disk, it is computed anew once that package has changed."""
    from mdbench.core import store

    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path / "cache"))
    store.package_hash.cache_clear()
    task = load_task(coin)
    contexts = np.zeros((2, 8), int)
    for _ in range(2):
        gold_predictive(task, contexts, [8], "counts")
        assert len(list((tmp_path / "cache").rglob("gold/*.cell"))) == 1
    edited = tmp_path / "outside_eg"
    edited.mkdir()
    (edited / "changed.py").write_text("")
    monkeypatch.setattr(store, "sources_of", lambda _module: [edited])
    store.package_hash.cache_clear()
    gold_predictive(task, contexts, [8], "counts")
    assert len(list((tmp_path / "cache").rglob("gold/*.cell"))) == 2


def test_what_is_no_baseline_says_so(monkeypatch):
    for value, said in (
        ("numpy:ndarray", "does not derive from mdbench.baselines.Baseline"),
        ("mdbench.baselines:Urn", "has the name 'urn'"),
        ("tests.nowhere:Counts", "cannot be loaded"),
    ):
        found = EntryPoint("mine", value, catalogue.GROUP)
        monkeypatch.setattr(
            "mdbench.core.entries.entry_points", lambda group, found=found: [found] * (group == found.group)
        )
        with pytest.raises(PredictorError, match=said):
            catalogue.build_baseline("mine")


@pytest.mark.slow
def test_a_family_without_gold_of_its_own_takes_nuts(coin):
    """θ's posterior is Dirichlet(α + counts)."""
    task = load_task(coin)
    contexts = sample(task, 8, 32, seed=0).contexts
    found, truth = (
        gold_predictive(task, contexts, [8], "nuts:draws=500"),
        gold_predictive(task, contexts, [8], "counts"),
    )
    z = (found.probs - truth.probs) / found.standard_error
    assert 0.7 < np.sqrt((z**2).mean()) < 1.3


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
    assert len({task.task_hash for task in [PER_LAG, MARKOV, *others]}) == 2 + len(others)
    assert Markov("other name", 3, 2, 0.5, lengths=(9,)).task_hash == MARKOV.task_hash


@pytest.mark.wrong_types
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
