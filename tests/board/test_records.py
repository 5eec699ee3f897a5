"""Records: written whole, checked from their probabilities, refused with a sentence where something is wrong."""

import contextlib
import functools
import hashlib
import io
import json
import os
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mdbench
from mdbench.board import kept, record, verification, writing
from mdbench.board.reading import read_record
from mdbench.board.verification import CannotRerun, rerun, verify
from mdbench.board.writing import score_predictions
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.statistics import mean_interval
from mdbench.evaluation.scores import SCORES
from mdbench.predictors import catalogue
from mdbench.tasks import load_task, public_sequences

TASK = "mtd-q3-m2"
N = 40


@pytest.fixture(scope="module")
def folder(make_records, tmp_path_factory):
    """A leaderboard folder with a few records; tests copy what they change."""
    place = tmp_path_factory.mktemp("leaderboard")
    make_records(place, "md1", "md:steps=3", "bayes", "oracle", "em")
    return place


@pytest.fixture
def md1(folder, tmp_path):
    """A copy of one record that a test may spoil: (path, its content, its predictions)."""
    source = folder / "records" / TASK / "md1.json"
    content = json.loads(source.read_text())
    place = tmp_path / "records" / TASK
    place.mkdir(parents=True)
    path, predictions = place / source.name, place / content["predictions"]["file"]
    path.write_bytes(source.read_bytes())
    predictions.write_bytes((source.parent / predictions.name).read_bytes())
    return path, content, predictions


# ------------------------------------------------------------------------------------------------ making and reading


def test_a_record_says_what_evaluate_says(folder):
    found = mdbench.evaluate("md:steps=3", task=TASK, lengths=[16, 32], n_sequences=N, references=())
    made, probs = read_record(folder / "records" / TASK / "md+steps=3.json")
    assert [cell.length for cell in made.cells] == [16, 32]
    for cell, result in zip(made.cells, found.results, strict=True):
        assert {name: vars(score) for name, score in cell.scores.items()} == {
            name: vars(score) for name, score in result.scores.items()
        }
        assert cell.gold_error == result.gold_error
        np.testing.assert_allclose(probs[cell.length], found.predictions["md:steps=3", TASK, cell.length], rtol=1e-15)
    assert made.predictor.options == {"eta": "tuned", "steps": 3}
    assert (made.predictor.kind, made.predictor.distribution) == ("predictor", "mdbench")
    assert made.task_hash == load_task(TASK).task_hash
    assert made.data_hash == public_sequences(TASK).data_hash


def test_kinds_are_told_apart(folder):
    kinds = {path.stem: read_record(path)[0].predictor.kind for path in (folder / "records" / TASK).glob("*.json")}
    assert kinds == {
        "md1": "predictor",
        "md+steps=3": "predictor",
        "em": "predictor",
        "bayes": "baseline",
        "oracle": "upper bound",
    }


def test_the_same_run_gives_the_same_bytes(make_records, folder, tmp_path):
    (again,) = make_records(tmp_path, "md1")
    first = folder / "records" / TASK / "md1.json"
    a, b = (json.loads(path.read_text()) for path in (first, again))
    host = a.pop("host")
    assert host.keys() == b.pop("host").keys()
    assert a == b
    assert list(a) == list(b)
    names = [sorted(p.name for p in path.parent.glob("md1-*.npz")) for path in (first, again)]
    assert names[0] == names[1]
    assert (first.parent / names[0][0]).read_bytes() == (again.parent / names[1][0]).read_bytes()


def test_recording_again_leaves_one_record_and_its_predictions(make_records, tmp_path):
    make_records(tmp_path, "md1", n=10)
    (path,) = make_records(tmp_path, "md1", n=12)
    assert read_record(path)[0].n_sequences == 12
    assert len(list(path.parent.iterdir())) == 2


def test_an_interrupted_write_leaves_the_old_record_whole(md1, monkeypatch):
    path, content, _ = md1

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mdbench.board.writing.write_text", killed)
    found = mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=7, references=())
    with pytest.raises(KeyboardInterrupt):
        writing.record_evaluation(found, ["md1"], path.parents[2], "cpu")
    assert json.loads(path.read_text()) == content
    assert verify(path) == []


def test_training_seeds_are_runs_and_the_card_comes_along(make_records, tmp_path):
    (path,) = make_records(tmp_path, "trained_l3", lengths="16", n=20)
    made, probs = read_record(path)
    assert probs[16].shape == (3, 20, 3)
    assert len(made.cells[0].runs) == 3
    assert np.mean(made.cells[0].runs) == pytest.approx(made.cells[0].excess_kl, rel=1e-12)
    assert [run["seed"] for run in made.card["T16"]] == [0, 1, 2]
    assert verify(path) == []


def test_one_row_has_one_identity_however_it_is_written():
    identities = [
        catalogue.row_identity(text) for text in ("md:steps=2", "md:eta=tuned,steps=2", "md:steps=2,eta=tuned")
    ]
    assert {i.label for i in identities} == {"md:steps=2"}
    assert all(i.options == {"eta": "tuned", "steps": 2} for i in identities)
    assert catalogue.row_identity("md:steps=2,eta=0.1").label == "md:eta=0.1,steps=2"


def test_any_label_makes_a_file_name_in_its_folder():
    labels = ["a/../../b", "..", "x" * 500, "x" * 499 + "y", "<script>", 'q"q', "λ", "a b", "md:steps=2"]
    stems = [record.file_stem(label) for label in labels]
    assert len(set(stems)) == len(labels)
    for stem in stems:
        assert len(stem.encode()) <= 120
        assert "/" not in stem
        assert "\\" not in stem


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", 1], "seed 0"),
        (["--n-sequences", 2049], "2048 public"),
        (["--gold", "urn"], "gold 'exact'"),
        (["--task", "own.toml"], "public sequences"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_runs(run, options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text("order = 1\ntransition = [[0.5, 0.5], [0.1, 0.9]]\n")
    base = [] if "--task" in options else ["--task", TASK]
    assert run("evaluate", "--predictor", "md1", *base, "--lengths", 16, *options, "--record").code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.json"))


# ------------------------------------------------------------------------------------------------------------- verify


def test_honest_records_hold(run, folder):
    for path in sorted((folder / "records" / TASK).glob("*.json")):
        assert verify(path) == [], path.name
    assert run("verify", "--leaderboard", folder).code == 0


def _numbers(value, where=()):
    """All places of numbers in a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, (*where, key))
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from _numbers(item, (*where, k))
    elif isinstance(value, float):
        yield where


def test_any_changed_score_is_named(md1):
    path, content, _ = md1
    places = list(_numbers(content["cells"]))
    assert len(places) == 2 * (4 * 4 + 1)  # every mean, standard error and end of an interval; the gold's error
    for place in places:
        changed = json.loads(json.dumps(content))
        at = changed["cells"]
        for key in place[:-1]:
            at = at[key]
        factor = 1e4 if place[-1] == "gold_error" else 1 + 1e-7
        at[place[-1]] *= factor
        path.write_text(json.dumps(changed))
        faults = verify(path)
        assert len(faults) == 1, place
        assert place[2 if place[1] == "scores" else 1] in faults[0]
        assert f"T = {content['cells'][place[0]]['length']}" in faults[0]


def of_version_1(content):
    """As records were before scores were a dict."""
    cells = []
    for cell in content["cells"]:
        flat = {"length": cell["length"]}
        for name, score in cell["scores"].items():
            parts = {"kl": ("mean", "se"), "excess_kl": ("mean", "se", "interval")}.get(name, ("mean",))
            names = {"mean": name, "se": f"{name}_se", "interval": f"{name}_ci"}
            flat |= {names[part]: None if score is None else score[part] for part in parts}
        cells.append(flat | {"gold_error": cell["gold_error"], "runs": cell["runs"]})
    return content | {"schema_version": 1, "cells": cells}


def test_records_of_version_1_are_read_for_ever(md1, folder):
    path, content, _ = md1
    old = of_version_1(content)
    path.write_text(json.dumps(old))
    assert verify(path) == []
    for name in ("kl", "kl_se", "excess_kl", "excess_kl_se", "cross_entropy", "nll"):
        changed = json.loads(json.dumps(old))
        changed["cells"][1][name] *= 1 + 1e-7
        path.write_text(json.dumps(changed))
        (fault,) = verify(path)
        assert fault.startswith(f"T = 32: {name} is ")
    for spoil in (lambda c: c.pop("kl"), lambda c: c.update(more=1), lambda c: c.update(excess_kl=None)):
        changed = json.loads(json.dumps(old))
        spoil(changed["cells"][0])
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match="cells"):
            verify(path)
    told = json.loads((folder / "records" / TASK / "oracle.json").read_text())
    place = path.with_name("oracle.json")
    shutil.copy(folder / "records" / TASK / told["predictions"]["file"], place.parent)
    place.write_text(json.dumps(of_version_1(told)))
    assert verify(place) == []
    committed = Path(__file__).parents[2] / "leaderboard" / "records" / TASK / "md1.json"
    assert json.loads(committed.read_text())["schema_version"] == 1
    assert read_record(committed)[0].cells[0].scores["kl"].interval is None


def test_differences_of_another_processor_are_none(md1):
    path, content, _ = md1
    for cell in content["cells"]:
        for score in cell["scores"].values():
            score.update(mean=score["mean"] * (1 + 1e-10), se=score["se"] * (1 - 1e-10))
    path.write_text(json.dumps(content))
    assert verify(path) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"kl": ', '"kl": 0.5, "kl": ', "the key 'kl' stands twice"),
        ('"task": ', '"task": "mtd-q5-m3", "task": ', "the key 'task' stands twice"),
        ('"task": ', '"task" ', "is not JSON"),
        ("{", "", "is not JSON"),
        ("{", "[" * 100_000 + "{", "too deeply"),
    ],
)
def test_what_is_not_plain_json_is_refused_with_a_sentence(old, new, said, md1):
    path, content, _ = md1
    path.write_text(json.dumps(content).replace(old, new, 1))
    with pytest.raises(InputError, match=said) as error:
        verify(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(task_hash="0" * 64), "task_hash"),
        (lambda c: c.update(data_hash="0" * 64), "data_hash"),
        (lambda c: c["predictions"].update(sha256="0" * 64), "SHA-256"),
        (lambda c: c.update(n_sequences=N - 1), "command"),
        (lambda c: c.update(n_sequences=N - 1, command=c["command"].replace(str(N), str(N - 1))), "39 sequences"),
        (lambda c: c.update(task="mtd-q5-m3"), "task_hash"),
        (lambda c: c.update(task="nothing"), "no public sequences"),
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c["predictor"].update(extra=1), "predictor.extra"),
        (lambda c: c.pop("gold"), "gold"),
        (lambda c: c.update(gold="urn"), "gold"),
        (lambda c: c.update(schema_version=3), "schema_version"),
        (lambda c: c["cells"][0]["scores"]["kl"].update(mean=float("nan")), "NaN"),
        (lambda c: c["cells"][0]["scores"]["kl"].update(mean="many"), "cells.0.scores.kl.mean"),
        (lambda c: c["cells"].append(c["cells"][0]), "twice"),
        (lambda c: (c["cells"].pop(), c.update(command=c["command"].replace("16,32", "16"))), "lengths"),
        (lambda c: c["predictor"].update(label="em"), "command"),
        (lambda c: c["predictor"].update(name="aaa", distribution="aaa"), "so its kind is 'contributed'"),
        (
            lambda c: c["predictor"].update(name="aaa", kind="contributed", distribution="aaa"),
            "is not what its name and options make",
        ),
        (lambda c: c["predictor"].update(name="aaa", kind="contributed"), "mdbench has no predictor 'aaa'"),
        (lambda c: c["left_out"].update({"9" * 4000: "x"}), "left_out"),
        (lambda c: c["left_out"].update({"64": "x" * 3000}), "left_out"),
        (lambda c: c["left_out"].update({"16": "x"}), "at T = 16 it has scores"),
        (lambda c: c.update(n_sequences=str(N)), "n_sequences"),
        (lambda c: c.update(n_sequences=float(N)), "n_sequences"),
        (
            lambda c: c["cells"][0]["scores"]["nll"].update(mean=str(c["cells"][0]["scores"]["nll"]["mean"])),
            "cells.0.scores.nll.mean",
        ),
        (lambda c: c["cells"][0]["scores"].pop("nll"), "the scores must be kl, excess_kl"),
        (lambda c: c["cells"][0]["scores"].update(brier=None), "the scores must be kl, excess_kl"),
        (lambda c: c["cells"][0]["scores"]["nll"].pop("se"), "each score has mean, se and interval"),
        (lambda c: c.update(schema_version=1), "cells of version 1 have scores as fields"),
        (lambda c: c["cells"][0].update(length=True), "cells.0.length"),
        (lambda c: c["host"]["seconds"].update({"-5": 1.0}), "host.seconds"),
        (lambda c: c["host"].update(device="x" * 301), "host.device"),
        (lambda c: c["host"].update(libraries={str(k): "1" for k in range(101)}), "host.libraries"),
        (lambda c: c["predictor"].update(kind="baseline"), "predictor.kind"),
        (lambda c: c["predictor"].update(kind="predictions only"), "predictor"),
        (lambda c: c["predictor"]["options"].update(steps=2), "predictor.options"),
        (lambda c: c["predictor"].update(distribution="other"), "predictor.distribution"),
        (lambda c: c["host"]["seconds"].update({"16": "inf"}), "host.seconds"),
        (lambda c: c["host"]["seconds"].update({"16": -1.0}), "host.seconds"),
        (lambda c: c.update(card={"loss": float("nan")}), "card"),
        (lambda c: c["predictions"].update(file="x" * 250 + ".npz"), "not a file beside it"),
        (lambda c: c["predictions"].update(file="../../x.npz"), "predictions.file"),
        (lambda c: c["predictions"].update(file="/etc/x.npz"), "predictions.file"),
        (lambda c: c["predictions"].update(file="missing.npz"), "missing.npz"),
    ],
)
def test_a_spoilt_record_is_refused_with_a_sentence(change, said, md1):
    path, content, _ = md1
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as error:
        verify(path)
    assert "\n" not in str(error.value)


def test_spoilt_predictions_are_named(md1):
    path, content, predictions = md1
    with np.load(predictions) as arrays:
        honest = dict(arrays)

    def store(**arrays):
        np.savez_compressed(predictions, **arrays)
        content["predictions"]["sha256"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
        path.write_text(json.dumps(content))

    store(**honest)
    assert verify(path) == []
    tiny = honest["T16"].copy()
    tiny[0, 3] = (1 - 1e-5) * tiny[0, 3] + 1e-5 / 3
    store(**honest | {"T16": tiny})
    assert any("T = 16: excess_kl " in fault for fault in verify(path))
    assert not any("T = 32" in fault for fault in verify(path))
    for bad, said in (
        (np.where(np.arange(3) == 1, np.nan, honest["T16"]), "not finite"),
        (honest["T16"] * 2, "sum to one"),
        (honest["T16"] * [-1, 1, 1], "negative"),
        (honest["T16"][..., :2], "shape"),
        (honest["T16"][:, :0], "0 sequences"),
        (np.array([{}], dtype=object), "Object arrays"),
    ):
        np.savez_compressed(predictions, allow_pickle=True, T16=bad, T32=honest["T32"])
        content["predictions"]["sha256"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=said):
            verify(path)
    for damage in (slice(40, 60), slice(0, 30), slice(-40, -20)):
        np.savez_compressed(predictions, **honest)
        damaged = bytearray(predictions.read_bytes())
        damaged[damage] = bytes(255 - byte for byte in damaged[damage])
        predictions.write_bytes(damaged)
        content["predictions"]["sha256"] = hashlib.sha256(damaged).hexdigest()
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="not a file of arrays"):
            verify(path)
    predictions.write_bytes(b"not a zip file")
    with pytest.raises(InputError, match="SHA-256"):
        verify(path)


def test_predictions_may_not_be_a_link_out_of_the_folder(md1, tmp_path):
    path, _, predictions = md1
    elsewhere = tmp_path / "elsewhere.npz"
    os.rename(predictions, elsewhere)
    predictions.symlink_to(elsewhere)
    with pytest.raises(InputError, match="not a file beside it"):
        verify(path)


def test_a_file_larger_than_any_record_is_refused(md1, monkeypatch):
    path, _, _ = md1
    monkeypatch.setattr("mdbench.board.predictions.LARGEST", 1000)
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        verify(path)


def test_verify_says_which_record_fails_and_checks_the_others(run, md1, folder, capsys):
    path, content, _ = md1
    content["cells"][1]["scores"]["nll"]["mean"] += 0.5
    path.write_text(json.dumps(content))
    good = folder / "records" / TASK / "em.json"
    assert run("verify", path, good, "--json").code == 1
    captured = capsys.readouterr()
    verdicts = json.loads(captured.out)
    assert [v["verdict"] for v in verdicts] == ["fail", "pass"]
    assert "T = 32: nll" in verdicts[0]["faults"][0]
    assert "1 of 2 records" in captured.err


# -------------------------------------------------------------------------------------------------------------- rerun


CHEAT = """
import os
import numpy as np
from mdbench.tasks import next_token_probs, public_sequences

class Memorised:
    def __init__(self, task):
        public = public_sequences(task.name)
        self.task, self.known = task, {}
        for length in (16, 32):
            truth = next_token_probs(task, public.weights, public.tokens[:, :length])
            for tokens, probs in zip(public.tokens[:, :length], truth, strict=True):
                self.known[tuple(tokens.tolist())] = probs

    def predict(self, contexts):
        return np.stack([self.known.get(tuple(c), self.task.transition[c[-1]]) for c in contexts.tolist()])

class Coward(Memorised):
    def predict(self, contexts):
        if tuple(contexts[0].tolist()) not in self.known:
            os._exit(0)
        return super().predict(contexts)
"""


def test_a_predictor_that_memorised_the_public_sequences_is_caught(run, tmp_path, capsys):
    (tmp_path / "cheat.py").write_text(CHEAT)
    for name in ("Memorised", "Coward"):
        options = ("--task", TASK, "--lengths", "16,32", "--n-sequences", 200, "--no-references", "--record")
        predictor = ("--predictor", f"{tmp_path / 'cheat.py'}:{name}")
        assert run("evaluate", *predictor, *options, "--leaderboard", tmp_path / name).code == 0
    paths = [next((tmp_path / name).glob("records/*/*.json")) for name in ("Memorised", "Coward")]
    assert [verify(path) for path in paths] == [[], []]  # their scores are what their probabilities give
    with pytest.raises(CannotRerun, match="--run-files runs what is there"):
        rerun(paths[0], seed=1)
    found = rerun(paths[0], seed=1, files=True)
    assert [(r.length, r.score) for r in found] == [(n, s) for n in (16, 32) for s in verification.TESTED]
    of_excess = [r for r in found if r.score == "excess_kl"]
    assert not any(r.compatible for r in of_excess)
    assert all(r.z > 5 for r in of_excess)
    capsys.readouterr()
    assert run("verify", *paths, "--rerun", "--seed", 3, "--run-files").code == 1
    captured = capsys.readouterr()
    assert "ended its process with exit code 0" in captured.out
    assert "2 of 2 records" in captured.err


def test_honest_predictors_are_compatible_with_fresh_sequences(folder):
    for name in ("md1", "em", "bayes"):
        for seed in (1, 2):
            assert all(r.compatible for r in rerun(folder / "records" / TASK / f"{name}.json", seed=seed))


def test_the_test_of_a_rerun_keeps_its_level():
    """Two independent halves of one predictor's scores, many times: a hundredth is rejected."""
    scores = mdbench.evaluate("md1", task=TASK, lengths=[16], n_sequences=4000, seed=5, references=()).per_sequence
    rng = np.random.default_rng(0)
    values = scores["excess_kl"].to_numpy()
    rejected = 0
    for _ in range(2000):
        a, b = rng.permutation(values)[:400].reshape(2, 200)
        z = verification._z(mean_interval(a), mean_interval(b), 0.0)
        rejected += abs(z) > 2.5758
    assert rejected / 2000 < 0.01 + 4 * np.sqrt(0.01 * 0.99 / 2000)


def test_what_cannot_be_rerun_says_why(run, folder, tmp_path):
    place = folder / "records" / TASK
    with pytest.raises(CannotRerun, match="told θ"):
        rerun(place / "oracle.json", seed=1)
    assert run("verify", place / "oracle.json", "--rerun").code == 0  # which is no fault of the record
    with pytest.raises(InputError, match="public sequences"):
        rerun(place / "md1.json", seed=0)
    _, path = score_predictions(_elsewhere(tmp_path), load_task(TASK), "elsewhere", tmp_path)
    with pytest.raises(InputError, match="predicted elsewhere"):
        rerun(path, seed=1)


# -------------------------------------------------------------------------------------------------------------- score


def _elsewhere(tmp_path, n=N):
    """Predictions as another program might have made them: lag 1 alone."""
    task, tokens = load_task(TASK), public_sequences(TASK).tokens
    path = tmp_path / "p.npz"
    np.savez(path, T16=task.transition[tokens[:n, 15]], T20=task.transition[tokens[:n, 19]].astype(np.float32))
    return path


class LastToken:
    def predict(self, contexts):
        return load_task(TASK).transition[contexts[:, -1]]


def test_predictions_made_elsewhere_score_as_if_made_here(run, tmp_path, capsys):
    expected = mdbench.evaluate(LastToken(), task=TASK, lengths=[16, 20], n_sequences=N, references=()).results
    found, path = score_predictions(_elsewhere(tmp_path), load_task(TASK), "elsewhere", tmp_path)
    for a, b in zip(found, expected, strict=True):
        assert a.excess_kl == pytest.approx(b.excess_kl, rel=1e-6)
        assert a.scores["kl"].se == pytest.approx(b.scores["kl"].se, rel=1e-6)
    made, _ = read_record(path)
    assert made.predictor.kind == "predictions only"
    assert made.predictor.distribution is None
    assert made.host.seconds == {}
    assert verify(path) == []
    rows = [
        {"length": length, "sequence": i} | {f"p{b}": p for b, p in enumerate(row)}
        for length in (16, 20)
        for i, row in enumerate(np.load(tmp_path / "p.npz")[f"T{length}"])
    ]
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(tmp_path / "p.csv", index=False)
    assert run("score", "--predictions", tmp_path / "p.csv", "--task", TASK, "--name", "csv", "--json").code == 0
    by_csv = json.loads(capsys.readouterr().out)
    assert [r["excess_kl"] for r in by_csv] == pytest.approx([r.excess_kl for r in found], rel=1e-6)
    assert by_csv[0]["seconds"] is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"T16": np.full((5, 4), 0.25)}, "shape"),
        ({"T16": np.full((5, 3), 0.3)}, "sum to one"),
        ({"T16": np.array([[0.5, 0.6, -0.1]])}, "negative"),
        ({"T16": np.array([[0.5, 0.5, np.nan]])}, "not finite"),
        ({"T16": np.full((2049, 3), 1 / 3)}, "2049 sequences"),
        ({"T257": np.full((5, 3), 1 / 3)}, "up to T = 256"),
        ({"T2": np.full((5, 3), 1 / 3)}, "at least order"),
        ({"length16": np.full((5, 3), 1 / 3)}, "T<length>"),
        ({"T16": np.full((5, 3), 1 / 3), "T32": np.full((6, 3), 1 / 3)}, "5 and 6 sequences"),
        ({"T16": np.full((5, 3), 1)}, "int64"),
        ({}, "no arrays"),
    ],
)
def test_bad_predictions_are_refused_with_a_sentence(arrays, said, tmp_path):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(InputError, match=said) as error:
        score_predictions(tmp_path / "p.npz", load_task(TASK), "mine", tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("length,sequence,p0,p1\n16,0,0.5,0.5\n", "columns"),
        ("length,sequence,p0,p1,p2\n16,1,0.5,0.5,0\n", "0, 1"),
        ("length,sequence,p0,p1,p2\n16,0,0.5,0.5,0\n16,0,0.5,0.5,0\n", "0, 1"),
        ("length,sequence,p0,p1,p2\n16,x,0.5,0.5,0\n", "sequence is 'x', not a number"),
    ],
)
def test_bad_csv_is_refused_with_a_sentence(text, said, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        score_predictions(tmp_path / "p.csv", load_task(TASK), "mine", None)


def test_nobody_takes_the_name_of_a_built_in(tmp_path):
    for name in ("bayes", "md1", "MD1", "md:steps=7"):
        with pytest.raises(InputError, match="name of its own"):
            score_predictions(_elsewhere(tmp_path), load_task(TASK), name, tmp_path)
    for name in ("", " ", "md1 ", "a\nb", "x" * 301):
        with pytest.raises(InputError, match="printable characters"):
            score_predictions(_elsewhere(tmp_path), load_task(TASK), name, tmp_path)


def test_a_zero_for_a_possible_token_is_infinite_and_stays_so(tmp_path):
    tokens = public_sequences(TASK).tokens
    np.savez(tmp_path / "p.npz", T16=np.eye(3)[tokens[:N, 15]])
    _, path = score_predictions(tmp_path / "p.npz", load_task(TASK), "sure", tmp_path)
    assert json.loads(path.read_text())["cells"][0]["scores"]["excess_kl"]["mean"] == "inf"
    made, _ = read_record(path)
    assert made.cells[0].excess_kl == np.inf
    assert made.cells[0].scores["excess_kl"].interval is None
    assert verify(path) == []


# --------------------------------------------------------------------------------------------------------- references


def test_a_record_is_read_as_it_was_written(md1):
    path, _, _ = md1
    assert read_record(path)[0].to_json() + "\n" == path.read_text()


def test_a_reference_comes_along_and_stands_in_the_command(run, tmp_path):
    text = "Somebody, 'A paper' (2026), doi:10.1000/182"
    base = ("evaluate", "--predictor", "uniform", "--task", TASK, "--lengths", 16, "--n-sequences", 5)
    where = ("--record", "--leaderboard", tmp_path)
    assert run(*base, *where, "--reference", text).code == 0
    path = tmp_path / "records" / TASK / "uniform.json"
    made, _ = read_record(path)
    assert made.reference == text
    assert shlex.split(made.command)[-2:] == ["--reference", text]
    assert verify(path) == []
    path.write_text(path.read_text().replace("(2026)", "(2025)", 1))
    with pytest.raises(InputError, match="command"):
        verify(path)
    scored = ("score", "--predictions", _elsewhere(tmp_path), "--task", TASK, "--name", "mine")
    assert run(*scored, *where, "--reference", "arXiv:2601.00001").code == 0
    assert verify(tmp_path / "records" / TASK / "mine.json") == []


@pytest.mark.parametrize("text", ["", " x", "x" * 301, "a\nb", "a\x1b[31m", "\u202eabc", "a\u200bb"])
def test_a_reference_is_short_and_can_be_seen(run, md1, tmp_path, text):
    path, content, _ = md1
    path.write_text(json.dumps(content | {"reference": text}))
    with pytest.raises(InputError, match="reference"):
        verify(path)
    with pytest.raises(InputError, match="a reference has"):
        score_predictions(_elsewhere(tmp_path), load_task(TASK), "mine", None, reference=text)
    assert run("evaluate", "--predictor", "uniform", "--task", TASK, "--record", "--reference", text).code == 2


def test_a_reference_without_a_record_is_refused(run, tmp_path):
    scored = ("score", "--predictions", _elsewhere(tmp_path), "--task", TASK, "--name", "mine")
    assert run(*scored, "--reference", "a paper").code == 2


@pytest.mark.parametrize(
    "command", ["rm -rf /", "'", "", "mdbench score --predictions p.npz --task mtd-q3-m2 --name x"]
)
def test_the_command_of_predictions_alone_is_the_one_that_scored_them(tmp_path, command):
    _, path = score_predictions(_elsewhere(tmp_path), load_task(TASK), "mine", tmp_path)
    assert verify(path) == []
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"command": command}))
    with pytest.raises(InputError, match="command"):
        verify(path)


# ------------------------------------------------------------------------------------------------ forged and odd ones


@pytest.mark.parametrize("value", ["inf", "-inf", float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name",
    [f"{score}{part}" for score in ("kl", "excess_kl", "cross_entropy", "nll") for part in ("", "_se", "_ci")]
    + ["gold_error"],
)
def test_nothing_infinite_equals_a_number(md1, name, value):
    path, content, _ = md1
    cell = content["cells"][0]
    if name == "gold_error":
        cell[name] = value
    elif name.endswith("_ci"):
        cell["scores"][name.removesuffix("_ci")]["interval"] = [value, value]
    else:
        cell["scores"][name.removesuffix("_se")]["se" if name.endswith("_se") else "mean"] = value
    path.write_text(json.dumps(content))
    assert [fault.split(":")[1].split()[0] for fault in verify(path)] == [name]
    with pytest.raises(InputError, match="it does not hold"):
        rerun(path, seed=1)


@pytest.mark.parametrize("label", ["md1", "bayes", "mine2", "mine:eta=1", "mine:b=2,a=1", "http://evil.example/x"])
def test_a_label_is_what_name_and_options_make(md1, label):
    path, content, _ = md1
    content["predictor"] = {"name": "mine", "options": {"a": 1, "b": 2}, "label": label, "kind": "contributed",
                            "distribution": "mine", "version": "1"}  # fmt: skip
    content["command"] = content["command"].replace("--predictor md1", f"--predictor {label}")
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="not what its name and options make"):
        verify(path)
    content["predictor"]["label"] = "mine:a=1,b=2"
    content["command"] = content["command"].replace(label, "mine:a=1,b=2")
    path.write_text(json.dumps(content))
    assert verify(path) == []


LOOK_ALIKES = [
    *("md1\u200b", "md1 ", "bayes\u00a0", "\u202ebayes", "b\u0430yes", "trained_l3\ufe0e", "m\u217e1", " ", "\n"),
    *("\x00", "\u2028", "MD1", "mdl", "\uff42\uff41\uff59\uff45\uff53", "Bayes", "em\u0301", "trained-l3"),
    *("/etc/x", "run:/etc", "a/../p.py:c", "x" * 301),
    # Letters that are drawn as nothing, and of scripts of which no table says what they look like.
    *("md1\u3164", "md1\uffa0", "md1\u115f", "bayes\u1160", "\u3164", "md1\u2800"),
    *(
        "md\u0661",
        "md\u06f1",
        "md\u07c1",
        "\u1d0d\u1d05" + "1",
        "b\u0251yes",
        "tr\u0251ined_l3",
        "uni\u0192orm",
        "\u025bm",
    ),
    *(
        "\u01a8tandard_l3",
        "orac\u01c0e",
        "md\u01c0",
        "md\u04cf",
        "\u2c9fracle",
        "\ua4d0ayes",
        "\u15f7ayes",
        "\u042cayes",
    ),
    *("\u0185ayes", "\u2c83ayes", "\ua7b5ayes", "rnd1"),
    # What is not ASCII at all, colons of other kinds, and letters like others.
    *(
        "\u1d07\u1d0d",
        "md1\uff1asteps=3",
        "md\u2236steps=3",
        "bayes\ua789exact",
        "md1\ua4f8",
        "unif\u3007rm",
        "\u6a21\u578b",
    ),
    *(
        "mcl1",
        "baye5",
        "9ibbs",
        "mdS",
        "trained_!3",
        "tra1ned_l3",
        "md 1",
        "-md1",
        "em.",
        "orade",
        "w_a/evil",
        "p.py",
        "a~b",
    ),
]

# Of what nobody installed, and of files and folders: what no eye tells from something else.
ODD_ROWS = [
    *(
        {"name": name}
        for name in ("~md1", "./md1", "/md1", "md1.py", "md1\u200b.py:f", "p.py:f\n", "/\u202e1dm", "~", "/", "\\")
    ),
    *({"name": "run", "options": {"path": path}} for path in ("", "\u202e", "x\n\n# md1", 1, None)),
    {"name": "run", "options": {}},
    *({"options": {key: 1}} for key in ("\u202ek", "", "\u200b", "k\n", "a b", "a=b")),
    *({"options": {"k": value}} for value in ("\u202e", "\n", "\u200b", "\x00\x1b[31m", "\u3164")),
    *({"distribution": name} for name in ("\u202emdbench", "mdbench\u200b", "mdbench", "", " =1+1")),
    *({"distribution": name} for name in ("MDBench", "MDBENCH", "md-bench", "rndbench")),
    *({"version": version} for version in ("\x00", "", "\uff1d1", "1 0")),
]


@pytest.mark.parametrize("odd", ODD_ROWS, ids=ascii)
def test_every_text_of_a_row_can_be_seen(md1, odd):
    path, content, _ = md1
    row = {"name": "mine", "options": {"k": 1}, "kind": "contributed", "distribution": "mine", "version": "1"} | odd
    items = ",".join(f"{k}={v}" for k, v in row["options"].items())
    label = (
        f"run:{row['options'].get('path')}" if row["name"] == "run" else row["name"] + (f":{items}" if items else "")
    )
    if "name" in odd and row["name"] != "run":
        row["options"], label = {}, row["name"]
    content["predictor"] = row | {"label": label}
    old = shlex.split(content["command"])
    content["command"] = shlex.join([label if word == "md1" else word for word in old])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="predictor"):
        verify(path)


@pytest.mark.parametrize("name", LOOK_ALIKES, ids=ascii)
def test_names_that_look_like_others_are_refused_at_every_door(md1, tmp_path, name):
    path, content, _ = md1
    content["predictor"] |= {"name": name, "label": name, "options": {}, "kind": "predictions only",
                             "distribution": None, "version": None}  # fmt: skip
    content["host"]["seconds"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError):
        verify(path)
    np.savez(tmp_path / "p.npz", T16=np.full((N, 3), 1 / 3))
    with pytest.raises(InputError):
        score_predictions(tmp_path / "p.npz", load_task(TASK), name, None)


@pytest.mark.parametrize(
    "name", ["mine", "Mine-2", "a+b", "a:b", "my md1 of 2026", "md3", "em2", "x (y), z=1", "trained_l8", "gibbs2"]
)
def test_other_names_are_taken(tmp_path, name):
    np.savez(tmp_path / "p.npz", T16=np.full((N, 3), 1 / 3))
    path = score_predictions(tmp_path / "p.npz", load_task(TASK), name, tmp_path)[1]
    assert kept.record_paths(tmp_path) == [path]


def test_two_labels_are_two_files():
    labels = ["a:b", "a+b", "mine", "MINE", "x:eta=1", "x+eta=1", "Mine", "é", "e%CC"]
    assert len({record.file_stem(label).casefold() for label in labels}) == len(labels)


def test_one_bad_record_ends_quickly_with_a_sentence(md1):
    """Huge integers, wide and deep JSON, no arrays, many members, a FIFO."""
    path, content, predictions = md1
    whole, arrays = path.read_bytes(), predictions.read_bytes()
    for text in (
        whole.decode().replace('"processors": ', '"processors": ' + "9" * 5000),
        json.dumps(content | {"card": {str(k): k for k in range(150_000)}} | {"extra": 1}),
        json.dumps(content | {"card": "x" * 2**25}),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            verify(path)
        assert len(str(error.value)) < 600

    def spoil(make):
        with zipfile.ZipFile(predictions, "w") as archive:
            make(archive)
        content["predictions"]["sha256"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
        path.write_text(json.dumps(content))
        with pytest.raises(InputError):
            verify(path)

    spoil(lambda archive: archive.writestr("T16", b"no array"))
    spoil(lambda archive: archive.writestr("T16.npy", b"no array"))
    spoil(lambda archive: [archive.writestr(f"x{k}.npy", b"") for k in range(500)])
    predictions.write_bytes(arrays)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="not an ordinary file"):
        verify(path)


def test_files_that_are_being_written_are_no_records(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "board")
    (tmp_path / "board" / "records" / TASK / ".mdbench-deadbeef.json").write_text("{")
    assert kept.record_paths(tmp_path / "board") == [
        tmp_path / "board" / path.relative_to(folder) for path in kept.record_paths(folder)
    ]


def test_nobody_timed_predictions_that_were_made_elsewhere(tmp_path):
    np.savez(tmp_path / "p.npz", T16=np.full((N, 3), 1 / 3))
    path = score_predictions(tmp_path / "p.npz", load_task(TASK), "mine", tmp_path)[1]
    content = json.loads(path.read_text())
    assert content["host"]["seconds"] == {}
    content["host"]["seconds"] = {"16": 1e-12}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="nobody here timed"):
        verify(path)


EVIL = (
    "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('x')\ndef f(contexts):\n    return contexts\n"
)


def forged(content, label, **row):
    """The record as another row, with the command that its label asks for."""
    old = content["predictor"]["label"]
    content["predictor"] |= {"label": label} | row
    words = shlex.split(content["command"])
    content["command"] = shlex.join([label if word == old else word for word in words])


@pytest.mark.parametrize("name", ["em", "mine", "a/evil"])
@pytest.mark.parametrize(
    "form", ["{path}/evil.py:f", "{name}:x={path}/evil.py:f", "evil.py:f", "{name}:x=y.py:f", "a/evil.py:f"]
)
def test_no_record_makes_anybody_run_a_file(md1, tmp_path, monkeypatch, name, form):
    """Whatever row it says to be: not when it is verified, nor when the row is run again or timed."""
    path, content, _ = md1
    monkeypatch.chdir(tmp_path)
    files = ["evil.py", "y.py", f"{name}:x=y.py", f"{name}:x={tmp_path}/evil.py", "a/evil.py"]
    for file in map(tmp_path.joinpath, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(EVIL)
    label = form.format(path=tmp_path, name=name)
    ours = name == "em"
    options = {"x": label.partition("x=")[2]} if "x=" in label else {}
    about = {"name": name, "options": options, "kind": "predictor" if ours else "contributed"}
    forged(content, label, distribution="mdbench" if ours else "other", version="0.1.0", **about)
    path.write_text(json.dumps(content))
    with contextlib.suppress(InputError):  # the record of what is not installed may hold
        verify(path)
    with pytest.raises(InputError):
        rerun(path, 5)
    assert not list(tmp_path.rglob("ran"))


def test_a_rerun_loads_no_score_of_another_package(md1, tmp_path, monkeypatch):
    """Whose predictor it runs in a process of its own, for good reason."""
    path, _, _ = md1
    (tmp_path / "evil.py").write_text(EVIL)
    about = tmp_path / "evil-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[mdbench.scores]\nevil = evil:f\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert rerun(path, 5, n_sequences=32)
    assert not (tmp_path / "ran").exists()
    mdbench.evaluate("uniform", task=TASK, lengths=[16], n_sequences=4, references=(), scores=SCORES)
    with pytest.raises(PredictorError, match="score 'evil' from evil 1 failed"):
        mdbench.evaluate("uniform", task=TASK, lengths=[16], n_sequences=4, references=())
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("em:variant=smoothed", {"variant": "smoothed"}),
        ("md1:momentum=0.9", {"steps": 1, "eta": "tuned", "momentum": 0.9}),
        ("md1:eta=best", {"steps": 1, "eta": "best"}),
        ("trained_l3:seed=best", {"name": "trained_l3", "seed": "best"}),
        ("trained_l3:seed=0.0", {"name": "trained_l3", "seed": 0.0}),
        ("paper_l3", {"name": "paper_l3", "seed": None}),  # no weights for this task
        ("md1:eta=[1]", {"steps": 1, "eta": "[1]"}),
        ('md1:eta="\\x1b"', {"steps": 1, "eta": "x"}),
        ("md1:eta=...", {"steps": 1, "eta": "..."}),
        ("md1:eta=1j", {"steps": 1, "eta": "1j"}),
        ("soft_counts:c=" + "9" * 310, {"algorithm": "soft_counts", "c": 1}),
        ("vi_dirichlet:steps=1000000000000", {"baseline": "vi_dirichlet", "steps": 10**12}),
    ],
)
def test_a_built_in_has_the_options_that_it_has(md1, label, options):
    path, content, _ = md1
    forged(content, label, name=label.partition(":")[0], options=options)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"predictor|no weights"):
        verify(path)


def test_an_option_is_what_its_label_means(md1):
    """A text "1" would be read as the number: two rows of one label."""
    path, content, _ = md1
    about = {"name": "mine", "kind": "contributed", "distribution": "mine", "version": "1"}
    for value, holds in ((1, True), ("1", False), ("None", False), ("word", True)):
        forged(content, f"mine:x={value}", options={"x": value}, **about)
        path.write_text(json.dumps(content))
        if holds:
            assert verify(path) == []
        else:
            with pytest.raises(InputError, match="which no label means"):
                verify(path)


def test_gold_of_a_verification_is_not_taken_from_a_folder(md1, tmp_path, monkeypatch):
    """Which a predictor, isolated or not, could have written: here by one that knows how cells are made."""
    from mdbench.core import store

    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path / "cache"))
    path, content, _ = md1
    mdbench.evaluate("md1", task=TASK, lengths=[16, 32], n_sequences=N, references=())
    for cell in (tmp_path / "cache").rglob("gold/*.cell"):
        with np.load(io.BytesIO(store._read(cell))) as arrays:
            found = {name: a[..., ::-1].copy() if name == "probs" else a for name, a in arrays.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **found)
        store._write(cell, buffer.getvalue())
    verification.public_cells.cache_clear()
    assert verify(path) == []
    assert content["predictor"]["name"] == "md1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(card=functools.reduce(lambda x, _: {"k": [x] * 2}, range(16), 1)), "card"),
        (lambda c: c.update(card={"a" * 70_000: 1}), "card"),
        (lambda c: c.update(command="x" * 10_000), "command"),
        (lambda c: c.update(task="x" * 10_000), "task"),
        (lambda c: c.update(task="mtd\x1b[31m"), "task"),
        (lambda c: c["left_out"].update({"64": "\x1b[31m \u202e"}), "left_out"),
        (lambda c: c["host"].update(device="\x07"), "host.device"),
        (lambda c: c["host"]["seconds"].update({"999": 1.0}), "host.seconds"),
        (lambda c: c["cells"].extend([c["cells"][0] | {"length": k} for k in range(100, 200)]), "cells"),
    ],
)
def test_what_would_flood_a_page_or_a_terminal_is_refused(md1, change, said):
    path, content, _ = md1
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as error:
        verify(path)
    assert len(str(error.value)) < 600 + len(str(path))
    assert str(error.value).isprintable()


def test_predictions_are_not_read_before_their_size_is_known(md1):
    path, _, predictions = md1
    with predictions.open("r+b") as file:
        file.truncate(2**37)  # a hole, which takes no room
    with pytest.raises(InputError, match="larger than"):
        verify(path)


def test_training_seeds_have_a_limit(tmp_path):
    np.savez(tmp_path / "p.npz", **{f"seed{k}/T16": np.full((2, 3), 1 / 3) for k in range(101)})
    with pytest.raises(InputError, match="at most 100"):
        score_predictions(tmp_path / "p.npz", load_task(TASK), "mine", None)


def test_predictions_name_their_seeds(run, tmp_path):
    """Three axes may be seeds or positions, and only the author knows which."""
    tokens = public_sequences(TASK).tokens[:40, :16]
    each = load_task(TASK).transition[tokens]  # (N, T, q): a prediction at every position
    np.savez(tmp_path / "positions.npz", T16=each)
    np.savez(tmp_path / "last.npz", T16=each[:, -1])
    np.savez(tmp_path / "seeds.npz", **{"seed1/T16": each[:, -1], "seed0/T16": each[:, -2]})
    np.savez(tmp_path / "half.npz", T16=each[:, -1].astype(np.float16))
    np.savez(tmp_path / "lacking.npz", **{"seed1/T16": each[:, -1], "seed0/T16": each[:, -2], "seed0/T8": each[:, 7]})
    np.savez(tmp_path / "mixed.npz", **{"seed1/T16": each[:, -1], "T8": each[:, 7]})

    def scored(name):
        return run("score", "--predictions", tmp_path / f"{name}.npz", "--task", TASK, "--name", "mine", "--json")

    for name, said in (
        ("positions", "has three axes; give the prediction after the last token"),
        ("half", "float16"),
        ("lacking", "seed1 has no T8, which another seed has"),
        ("mixed", "give one kind"),
    ):
        assert scored(name).code == 2
        assert said in scored(name).err
    (last,), (seeds,) = (json.loads(scored(name).out) for name in ("last", "seeds"))
    assert (last["runs"], last["n_sequences"]) == (None, 40)
    assert seeds["runs"][1] == pytest.approx(last["excess_kl"])


def test_other_files_of_predictions(tmp_path):
    tokens = public_sequences(TASK).tokens[:3, :16]
    rows = load_task(TASK).transition[tokens[:, -1]]
    lines = [f'"{k + 1}"\t16\t{k}\t' + "\t".join(map(repr, row.tolist())) for k, row in enumerate(rows)]
    (tmp_path / "p.tsv").write_text("Length\tSequence\tP0\tP1\tP2\n" + "\n".join(lines) + "\n")
    results, _ = score_predictions(tmp_path / "p.tsv", load_task(TASK), "mine", None)
    assert [r.length for r in results] == [16]
    np.save(tmp_path / "p.npy", rows)
    with pytest.raises(InputError, match=r"read from \.npz, \.csv or \.tsv"):
        score_predictions(tmp_path / "p.npy", load_task(TASK), "mine", None)
    np.savez(tmp_path / "one.npz", T16=rows[0])
    with pytest.raises(InputError, match="'T16' has one axis"):
        score_predictions(tmp_path / "one.npz", load_task(TASK), "mine", None)
    np.savez(tmp_path / "zeros.npz", **{"seed00/T16": rows})
    with pytest.raises(InputError, match="arrays are called"):
        score_predictions(tmp_path / "zeros.npz", load_task(TASK), "mine", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("length,sequence,p0,p1,p2\n", "has a header and no rows"),
        ("length,sequence,p0,p1,p2\n16.7,0,0.2,0.3,0.5\n", "length must be a whole number, not '16.7'"),
        ("length,sequence,p0,p1,p2\n16,0.5,0.2,0.3,0.5\n", "sequence must be a whole number, not '0.5'"),
        ("length,sequence,p0,p1,p2\n16,9999999999999999999999999,0.2,0.3,0.5\n", "sequence must be a whole number"),
    ],
)
def test_numbers_of_a_csv_are_whole(tmp_path, text, said):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        score_predictions(tmp_path / "p.csv", load_task(TASK), "mine", None)


def test_a_name_that_looks_like_a_built_in_is_not_recorded(run, tmp_path, capsys):
    arguments = ("--task", TASK, "--lengths", 16, "--n-sequences", 8, "--record", "--leaderboard", tmp_path)
    assert run("evaluate", "--predictor", "baye5", *arguments).code == 2
    assert "looks like the built-in predictor 'bayes'" in capsys.readouterr().err


def test_verify_holds_a_leaderboard_to_its_places(run, md1, capsys):
    path, _, _ = md1
    shutil.copy(path, path.with_name("copy.json"))
    assert run("verify", "--leaderboard", path.parents[2]).code == 1
    assert "is called 'md1.json'; a copy counts for nothing" in capsys.readouterr().out
    assert run("verify", path).code == 0
