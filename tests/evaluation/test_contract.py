"""The contract: honest predictors pass, and every planted fault, gross or small, is caught by name."""

import inspect
import json
import os

import numpy as np
import pytest

from mdbench.baselines import chains
from mdbench.core.errors import InputError
from mdbench.evaluation import contract
from mdbench.evaluation.contract import CLAUSES, check
from mdbench.evaluation.isolation import Limits
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import lag_likelihoods, load_task, next_token_probs, public_sequences

TASK = load_task("mtd-q3-m2")
GROSS, SMALL = 0.5, 1e-3


def honest(contexts, task=TASK):
    """One step of Mirror Descent, in numpy."""
    x = lag_likelihoods(task, contexts)
    logits = 0.2 * (x / x.sum(axis=-1, keepdims=True)).sum(axis=1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return next_token_probs(task, weights / weights.sum(axis=1, keepdims=True), contexts)


def mixed(probs, other, share):
    return (1 - share) * probs + share * other


def leaks_a_neighbour(share):
    def predict(contexts):
        probs = honest(contexts)
        return mixed(probs, np.roll(probs, 1, axis=0), share)

    return predict


def leaks_state_between_calls(share):
    memory = []

    def predict(contexts):
        probs = honest(contexts)
        memory.append(probs.mean(axis=0))
        return mixed(probs, memory[max(len(memory) - 2, 0)], share)

    return predict


def unnormalised(share):
    return lambda contexts: honest(contexts) * (1 + share)


def nan_for_one_state(share):
    def predict(contexts):
        probs = honest(contexts)
        bad = contexts[:, -1] == 1 if share == GROSS else (contexts == 1).all(axis=1)  # small: in one context
        probs[bad, 0] = np.nan
        return probs

    return predict


def negative(share):
    def predict(contexts):
        probs = honest(contexts)
        if share == GROSS:
            return probs * 2.0 - 1 / 3
        lowest = probs.argmin(axis=1)[0]
        probs[0, lowest], probs[0, (lowest + 1) % 3] = -share, probs[0, (lowest + 1) % 3] + probs[0, lowest] + share
        return probs

    return predict


def wrong_shape(share):
    if share == GROSS:
        return lambda contexts: honest(contexts).T
    return lambda contexts: honest(contexts).squeeze()  # wrong for a batch of one alone


def half_precision(share):
    if share == GROSS:
        return lambda contexts: honest(contexts).astype(np.float16)
    return lambda contexts: honest(contexts).astype(np.float16).astype(np.float64)


def random_without_a_seed(share):
    rng = np.random.default_rng()
    return lambda contexts: mixed(honest(contexts), rng.dirichlet(np.ones(3), len(contexts)), share)


def order_dependent(share):
    def predict(contexts):
        probs = honest(contexts)
        first = (np.arange(len(contexts)) == 0)[:, None]
        return np.where(first, mixed(probs, 1 / 3, share), probs)

    return predict


def crashes_or_differs_on_batch_1(share):
    def predict(contexts):
        if len(contexts) > 1:
            return honest(contexts)
        if share == GROSS:
            raise IndexError("batch of one")
        return mixed(honest(contexts), 1 / 3, share)

    return predict


def normalises_over_the_batch(share):
    def predict(contexts):
        probs = honest(contexts)
        return mixed(probs, probs.mean(axis=0), share)

    return predict


def mutates_its_input(share):
    def predict(contexts):
        probs = honest(contexts)
        if share == GROSS:
            contexts.sort(axis=1)
        else:
            contexts[-1, 0] = (contexts[-1, 0] + 1) % 3  # one token of one context
        return probs

    return predict


def memorised_answers(share):
    """On top of exact Bayes: nothing else hides a thousandth of the truth."""
    public, bayes = public_sequences(TASK.name), build_predictor("exact", TASK)
    truth = next_token_probs(TASK, public.weights, public.tokens[:, :16])
    known = {tuple(tokens): probs for tokens, probs in zip(public.tokens[:, :16].tolist(), truth, strict=True)}

    def predict(contexts):
        probs = bayes.predict(contexts)
        answers = np.stack([known.get(tuple(c), p) for c, p in zip(contexts.tolist(), probs, strict=True)])
        return mixed(probs, answers, share)

    return predict


def rules_out_what_can_come(share):
    def predict(contexts):
        probs = honest(contexts)
        rows = slice(None) if share == GROSS else (contexts == 2).all(axis=1)
        clipped = np.where(probs[rows] == probs[rows].min(axis=1, keepdims=True), 0.0, probs[rows])
        probs[rows] = clipped / clipped.sum(axis=1, keepdims=True)
        return probs

    return predict


class looks_ahead_in_predict_all:
    def __init__(self, share):
        self.share = share

    def predict(self, contexts):
        return honest(contexts)

    def predict_all(self, contexts):
        every = [np.full((len(contexts), 3), 1 / 3)] * 2
        every += [honest(contexts[:, :n]) for n in range(3, contexts.shape[1] + 1)]
        probs = np.stack(every, axis=1)
        ahead = np.eye(3)[np.roll(contexts, -1, axis=1)]
        return mixed(probs, ahead, self.share)


FAULTS = {
    leaks_a_neighbour: "neighbours",
    leaks_state_between_calls: "state",
    unnormalised: "normalised",
    nan_for_one_state: "finite",
    negative: "not negative",
    wrong_shape: "shape",
    half_precision: "precision",
    random_without_a_seed: "repeat",
    order_dependent: "order",
    crashes_or_differs_on_batch_1: "batch size",
    normalises_over_the_batch: "batch size",
    mutates_its_input: "input",
    memorised_answers: "memorised",
    rules_out_what_can_come: "possible",
    looks_ahead_in_predict_all: "predict_all",
}


def failed(predictor, **options):
    checks = check(predictor, TASK, [16], **options)
    assert [c.name for c in checks] == list(CLAUSES)
    for c in checks:
        assert c.expected
        assert "\n" not in c.found
        assert c.found or c.verdict == "pass"
    return {c.name: c.found for c in checks if c.verdict == "fail"}


@pytest.mark.parametrize("share", [GROSS, SMALL], ids=["gross", "small"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_planted_fault_is_caught_by_name(fault, share):
    assert FAULTS[fault] in failed(fault(share))


FILE = f"""
import numpy as np
from mdbench.tasks import lag_likelihoods, load_task, next_token_probs

TASK = load_task("mtd-q3-m2")

{inspect.getsource(honest)}
{inspect.getsource(mixed)}
"""
FAULTS_ANEW = """

def of_this_process_{name}(contexts):
    drawn = np.random.default_rng(abs(hash("a"))).dirichlet(np.ones(3))  # Python draws its hashes anew each time
    return mixed(honest(contexts), drawn, {share})

class Names_{name}:
    def __init__(self, task):
        self.task = task
    def predict(self, contexts):
        return mixed(honest(contexts, self.task), np.eye(3)[0], {share})  # state 0 is something special
"""


@pytest.mark.parametrize(("name", "share"), [("gross", GROSS), ("small", SMALL)])
def test_faults_that_show_when_it_is_built_anew(name, share, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    path = tmp_path / "file.py"
    path.write_text(FILE + FAULTS_ANEW.format(name=name, share=share))
    assert "fresh process" in failed(f"{path}:of_this_process_{name}")
    caught = failed(f"{path}:Names_{name}")
    assert set(caught) == {"relabelling"}
    assert "context" in caught["relabelling"]


def test_an_honest_predictor_passes_and_shows_what_did_not_apply():
    checks = {c.name: c for c in check(honest, TASK, [16, 20])}
    assert {c.verdict for c in checks.values()} == {"pass", "not applicable"}
    assert {name for name, c in checks.items() if c.verdict == "not applicable"} == {
        "fresh process",
        "runs",
        "relabelling",
        "predict_all",
    }
    assert "at T = 20" in checks["time"].found


def test_the_smallest_example_is_shown():
    found = failed(unnormalised(SMALL))["normalised"]
    assert found.startswith("context ")
    assert "sums to 1.001" in found


def test_a_declared_float32_has_its_tolerance_and_no_other():
    class Single:
        precision = "float32"

        def __init__(self, share):
            self.share = share

        def predict(self, contexts):
            noise = np.random.default_rng(len(contexts)).uniform(-1, 1, (len(contexts), 3))
            probs = honest(contexts) + self.share * (noise - noise.mean(axis=1, keepdims=True))
            return probs.astype(np.float32)

    assert failed(Single(1e-6)) == {}
    assert "batch size" in failed(Single(1e-4))
    Single.precision = "float64"
    assert "batch size" in failed(Single(1e-6))
    Single.precision = "float8"
    with pytest.raises(InputError, match="precision must be one of"):
        check(Single(1e-6), TASK, [16])


def test_a_declared_standard_error_is_its_tolerance():
    class Sampled:
        standard_error = 0.01

        def __init__(self, share):
            self.share, self.rng = share, np.random.default_rng(0)

        def predict(self, contexts):
            noise = self.rng.normal(0, self.share, (len(contexts), 3))
            return honest(contexts) + noise - noise.mean(axis=1, keepdims=True)

    assert failed(Sampled(0.005)) == {}
    assert "repeat" in failed(Sampled(0.1))


FILE_OF_ENDS = """
import sys, os, time
import numpy as np

def exits(contexts): sys.exit(0)
def dies(contexts): os._exit(0)
def hangs(contexts): time.sleep(60)
def builds_badly(task): sys.exit(0)
def loads_a_pickle(contexts):
    import pickle
    return pickle.loads(pickle.dumps(np.full((len(contexts), 3), 1 / 3)))
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exits", "sys.exit(0)"),
        ("dies", "exit code 0"),
        pytest.param("hangs", "longer than 8 seconds", marks=pytest.mark.slow),
        ("builds_badly", "sys.exit(0)"),
        ("loads_a_pickle", "loads a pickle"),
    ],
)
def test_what_ends_or_hangs_fails_once_and_does_nothing_here(name, said, tmp_path):
    (tmp_path / "ends.py").write_text(FILE_OF_ENDS)
    found = failed(f"{tmp_path / 'ends.py'}:{name}", limits=Limits(8))
    assert set(found) == {"fresh process"}
    assert said in found["fresh process"]


HOSTILE = """
import os
os.environ["IT_WAS_HERE"] = "1"
from mdbench.evaluation import contract
import numpy as np
contract.CLAUSES.clear()
seen = 0

def changes(contexts):
    contexts[0, 0] = 1 - contexts[0, 0]
    return np.full((len(contexts), 3), 1 / 3)

def ends_later(contexts):
    global seen
    seen += 1
    if seen == 9:
        os._exit(4)
    return np.full((len(contexts), 3), 1 / 3)

class All:
    def __init__(self, task):
        pass
    def predict(self, contexts):
        return np.full((len(contexts), 3), 1 / 3)
    def predict_all(self, contexts):
        return np.full((*contexts.shape, 3), 1 / 3)
    def runs(self, length):
        return [self]
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """One that rewrites the clauses where it runs."""
    monkeypatch.delenv("IT_WAS_HERE", raising=False)
    (tmp_path / "hostile.py").write_text(HOSTILE)
    yield tmp_path / "hostile.py"
    assert "IT_WAS_HERE" not in os.environ


def test_nothing_of_what_is_not_built_in_runs_here(hostile):
    assert set(failed(f"{hostile}:changes")) == {"input"}


@pytest.mark.slow
def test_what_its_process_has_optionally_is_held_too(hostile):
    verdicts = {c.name: c.verdict for c in check(f"{hostile}:All", TASK, [16])}
    assert verdicts["predict_all"] == verdicts["runs"] == "pass"


@pytest.mark.slow
def test_a_process_that_ends_in_the_middle_fails_one_clause(hostile):
    found = check(f"{hostile}:ends_later", TASK, [16])
    bad = [c for c in found if c.verdict == "fail"]
    assert len(bad) == 1
    assert "exit code 4" in bad[0].found
    assert all(c.found == f"mend '{bad[0].name}' first" for c in found[found.index(bad[0]) + 1 :])


def test_batches_of_the_size_that_evaluate_gives_are_tried():
    def chunked(contexts):
        probs = honest(contexts)
        probs[64::64] = probs[63:-1:64]  # a slip at the seams of chunks of 64
        return probs

    assert set(failed(chunked)) == {"batch size"}


class Runs:
    def __init__(self, runs):
        self.of = runs

    def predict(self, contexts):
        return honest(contexts)

    def runs(self, _length):
        return self.of


@pytest.mark.parametrize("runs", [[], None, [None], [Runs([])] * 2])
def test_runs_are_held_to_it_too(runs):
    good = isinstance(runs, list) and len(runs) == 2
    assert set(failed(Runs(runs))) == (set() if good else {"runs"})


def test_every_prefix_of_predict_all_is_looked_at():
    class Hole(looks_ahead_in_predict_all):
        def predict_all(self, contexts):
            probs = super().predict_all(contexts)
            probs[:, 9] = np.nan
            return probs

    assert set(failed(Hole(0.0))) == {"predict_all"}


@pytest.mark.slow
def test_every_state_has_another_name_in_relabelling(tmp_path):
    task = load_task("mtd-q10-m4")
    (tmp_path / "likes.py").write_text(
        "import numpy as np\n"
        "def make(state):\n"
        "    class Likes:\n"
        "        def __init__(self, task): self.q = task.n_states\n"
        "        def predict(self, contexts):\n"
        "            return np.tile((1 + np.eye(self.q)[state]) / (self.q + 1), (len(contexts), 1))\n"
        "    return Likes\n" + "".join(f"likes{k} = make({k})\n" for k in range(10))
    )
    for state in (2, 5, 8):
        checks = {c.name: c for c in check(f"{tmp_path / 'likes.py'}:likes{state}", task, [16])}
        assert checks["relabelling"].verdict == "fail"
        assert "fixed_to_task" in checks["relabelling"].found


@pytest.mark.parametrize("error", [1.0, -1, float("nan"), "x"])
def test_what_is_declared_is_bounded(error):
    class Sampled:
        standard_error = error

        def predict(self, contexts):
            return honest(contexts)

    with pytest.raises(InputError, match=r"standard_error must be a number from 0 to 0.05"):
        check(Sampled(), TASK, [16])


def test_what_is_right_is_not_rejected():
    """Round numbers, a function that declares, single precision that shows in the type."""
    assert failed(lambda contexts: np.tile([0.5, 0.25, 0.25], (len(contexts), 1))) == {}
    assert failed(lambda contexts: honest(contexts).astype(np.float32)) == {}

    def noisy(contexts):
        noise = np.random.default_rng().normal(0, 0.001, (len(contexts), 3))
        return honest(contexts) + noise - noise.mean(axis=1, keepdims=True)

    assert failed(noisy)
    noisy.standard_error = 0.002
    assert failed(noisy) == {}


FAST = [
    "uniform",
    "md1",
    "em",
    "adf",
    "constructed_l3",
    "trained_l3",
    "bayes",
]
SLOW = [
    "md:steps=1,eta=theory",
    "md5",
    "md1_adaptive",
    "md:steps=1,eta=matrix",
    "ep",
    "adf:split=2",
    "tierney_kadane",
    "cvb0",
    "dirichlet_em",
    "quasi_bayes",
    "constructed_l5",
    "soft_counts",
    "hard_counts:c=0.5",
    "md2",
    "md:steps=2,eta=smooth",
    "constructed_l3_adaptive",
    "constructed_l4",
    "constructed_l7",
    "exact",
    "laplace",
]
# nuts, pyro_nuts and vi_dirichlet take minutes each: `mdbench check nuts --lengths 16`
SAMPLED = ["gibbs:draws=200", "reference:standard_error=0.01", "vi_logistic_normal:steps=300", "pyro_svi:steps=60"]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in (*SLOW, *SAMPLED))])
def test_every_built_in_passes(name, monkeypatch):
    if name in SAMPLED:
        monkeypatch.setattr(contract, "CONTEXTS", 2)
        plain = inspect.unwrap(chains.Chains.run)  # without what checks its types
        monkeypatch.setitem(plain.__kwdefaults__, "chunk", 8)  # to which batches are filled up
    assert failed(name) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["md1", "constructed_l7", "trained_l3", "trained_l5", "exact"])
def test_built_ins_pass_at_a_larger_task(name):
    assert [c.name for c in check(name, "mtd-q5-m3", [32]) if c.verdict == "fail"] == []


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("predictor", "error", "said"),
    [
        ("oracle", InputError, "told θ"),
        ("trained_l3", InputError, "serves none of these lengths"),
        (3, InputError, "contexts to probabilities or an object"),
        ("nowhere.py:f", InputError, "no file"),
        ("md", InputError, "needs the option 'steps'"),
    ],
)
def test_what_cannot_be_checked(predictor, error, said):
    with pytest.raises(error, match=said):
        check(predictor, TASK, [17])


def test_the_command(run, tmp_path, capsys):
    (tmp_path / "p.py").write_text("def f(contexts):\n    return [[1, 2, 3]] * len(contexts)\n")
    assert run("check", f"{tmp_path / 'p.py'}:f", "--lengths", 16, "--json").code == 1
    captured = capsys.readouterr()
    assert {c["name"] for c in json.loads(captured.out) if c["verdict"] == "fail"} >= {"normalised", "shape"}
    assert "breaks the contract: shape" in captured.err
    assert run("check", "uniform", "--lengths", 16).code == 0
    assert "relabelling" in capsys.readouterr().out
    (tmp_path / "q.py").write_text("def f(task):\n    raise OSError('no disk')\n")
    assert run("check", f"{tmp_path / 'q.py'}:f", "--lengths", 16).code == 1
    assert "cannot be built: OSError: no disk" in " ".join(capsys.readouterr().out.split())
