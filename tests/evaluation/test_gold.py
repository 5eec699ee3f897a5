"""What may be gold, and gold on disk."""

import subprocess
import sys

import numpy as np
import pytest

import mdbench
from mdbench.baselines import Exact
from mdbench.baselines.catalogue import BASELINES
from mdbench.core import store as store_module
from mdbench.core.errors import InputError
from mdbench.evaluation import gold as gold_module
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import MTD, load_task, next_token_probs, sample

TASK = load_task("mtd-q3-m2")
CONTEXTS = sample(TASK, 20, 10, seed=0).contexts


@pytest.fixture
def computed(monkeypatch, tmp_path):
    """The baselines that were really run, in a cache of its own."""
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path))
    calls = []
    for name in ("exact", "urn", "reference"):
        kind = BASELINES[name].load()

        def spy(self, *arguments, run=kind.posterior, **options):
            calls.append(self.label)
            return run(self, *arguments, **options)

        monkeypatch.setattr(kind, "posterior", spy)
    return calls


def test_gold_is_computed_once(computed):
    first, second = (gold_predictive(TASK, CONTEXTS, [10, 20]) for _ in range(2))
    assert computed == ["exact"]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    mean = Exact().posterior(TASK, CONTEXTS, lengths=[10, 20]).mean
    np.testing.assert_array_equal(first.probs[:, 1], next_token_probs(TASK, mean[:, 1], CONTEXTS))
    np.testing.assert_array_equal(first.probs[:, 0], next_token_probs(TASK, mean[:, 0], CONTEXTS[:, :10]))


def test_all_that_it_depends_on_is_in_the_key(computed):
    gold_predictive(TASK, CONTEXTS, [20])
    gold_predictive(TASK, CONTEXTS[:9], [20])
    gold_predictive(TASK, CONTEXTS, [15])
    gold_predictive(TASK, CONTEXTS, [20], "urn")
    gold_predictive(TASK, CONTEXTS, [20], "reference:standard_error=0.01")
    gold_predictive(TASK, CONTEXTS, [20], "reference:standard_error=0.02")
    other = MTD("other", TASK.transition, TASK.order, concentration=2.0)
    gold_predictive(other, CONTEXTS, [20])
    assert len(computed) == 7
    changed = CONTEXTS.copy()
    changed[3, 7] = (changed[3, 7] + 1) % 3
    gold_predictive(TASK, changed, [20])
    renamed = MTD("renamed", TASK.transition, TASK.order)
    gold_predictive(renamed, CONTEXTS, [20])  # a name is a label
    gold_predictive(TASK, CONTEXTS, [20], "urn:draws=0")  # the default, spelled out
    assert len(computed) == 8


def test_a_change_of_the_baselines_makes_it_stale(computed, monkeypatch):
    gold_predictive(TASK, CONTEXTS, [20])
    monkeypatch.setattr(gold_module, "code_hash", lambda *_packages: "another")
    gold_predictive(TASK, CONTEXTS, [20])
    assert len(computed) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_file_is_noticed_and_made_anew(computed, tmp_path, caplog, damage):
    whole = gold_predictive(TASK, CONTEXTS, [20])
    (path,) = tmp_path.rglob("*.cell")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-10], "flip": content, "empty": b"", "foreign": b"hello" * 100}[damage])
    again = gold_predictive(TASK, CONTEXTS, [20])
    assert "damaged" in caplog.text
    assert len(computed) == 2
    np.testing.assert_array_equal(again.probs, whole.probs)
    gold_predictive(TASK, CONTEXTS, [20])
    assert len(computed) == 2  # mended


@pytest.mark.usefixtures("computed")
def test_a_cache_that_cannot_be_written_costs_time_only(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path / "file"))
    gold_predictive(TASK, CONTEXTS, [20])
    assert "the next run computes them again" in caplog.text


@pytest.mark.slow
def test_two_processes_share_a_cache(tmp_path):
    """Both write the same file at once, and neither that nor what they print suffers."""
    script = (
        "import numpy as np, mdbench\n"
        "for seed in range(6):\n"
        "    print(mdbench.evaluate('md1', task='mtd-q3-m2', lengths=[8], n_sequences=50, seed=seed,\n"
        "          references=()).table.drop(columns='seconds').to_csv())\n"
    )
    environment = {"MDBENCH_CACHE": str(tmp_path), "PATH": "", "PYTHONWARNINGS": "ignore"}
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0] == printed[1]
    assert "md1" in printed[0]
    files = list(tmp_path.rglob("gold/*.cell"))
    assert len(files) == 6
    for file in files:
        assert store_module._read(file) is not None


@pytest.mark.parametrize("method", ["laplace", "vi_dirichlet", "vi_logistic_normal", "pyro_svi"])
def test_approximations_are_never_gold(method):
    with pytest.raises(InputError, match="never gold"):
        gold_predictive(TASK, CONTEXTS, [20], method)


@pytest.mark.slow
def test_a_sequence_that_fails_its_gates_is_refused():
    with pytest.raises(InputError, match=r"10 of 10 sequences fail a gate, the first of them sequence 1 \(.*ess_bulk"):
        gold_predictive(TASK, CONTEXTS, [20], "nuts:draws=8")


@pytest.mark.slow
def test_noisy_gold_says_how_far_it_is_off():
    """Against reference as gold, every excess KL is within the stated error of that against exact."""
    scores = {}
    for method in ("exact", "reference:standard_error=2e-3"):
        found = mdbench.evaluate("em", task=TASK, lengths=[12, 24], n_sequences=100, gold=method)
        scores[method] = {(r.predictor, r.length): r for r in found.results}
        assert all(r.gold == method for r in found.results)
    exact_scores, noisy = scores.values()
    errors = []
    for key, result in noisy.items():
        assert abs(result.excess_kl - exact_scores[key].excess_kl) <= result.gold_error
        errors.append(result.gold_error)
        assert result.gold_error > 1e3 * exact_scores[key].gold_error
    assert noisy["bayes", 24].at_gold
    assert not noisy["uniform", 24].at_gold
    assert max(errors) < 1e-3


def test_beyond_exact_the_message_names_what_goes_further():
    rng = np.random.default_rng(0)
    task = MTD("long", rng.dirichlet(np.ones(3), size=3), 9, lengths=(64,))
    with pytest.raises(InputError, match=r"--gold reference"):
        mdbench.evaluate("uniform", task=task, references=())
    found = mdbench.evaluate(
        ["uniform", "laplace", "bayes"], task=task, n_sequences=20, references=(), gold="reference:standard_error=1e-3"
    )
    assert [r.predictor for r in found.results] == ["laplace", "uniform"]
    assert [(s.predictor, s.label) for s in found.skipped] == [("bayes", "too large")]
