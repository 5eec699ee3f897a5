"""Predictors in processes of their own: whatever they do is their own failure, and the others go on."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import mdbench
from mdbench.core.errors import InputError, PredictorError, Unsupported
from mdbench.evaluation import sandbox
from mdbench.evaluation.isolation import Isolated, Limits, how_isolated
from mdbench.predictors.catalogue import build_predictor, row_identity
from mdbench.tasks import load_task, sample

TASK = load_task("mtd-q3-m2")

FILE = """
import os, sys, time
import numpy as np
from mdbench import load_task

transition = load_task("mtd-q3-m2").transition

def good(contexts):
    return transition[contexts[:, -1]]

def raises(contexts):
    raise KeyError("no such thing")

def hangs(contexts):
    time.sleep(1000)

def exits(contexts):
    sys.exit(3)

def dies(contexts):
    os.write(2, b"about to go\\n")
    os._exit(7)

def crashes(contexts):
    os.kill(os.getpid(), 11)

def prints(contexts):
    print("hello there\\n\\x1b[31m")
    return good(contexts)

def noisy(contexts):
    for _ in range(2**8):
        os.write(2, b"x" * 2**16)
    return good(contexts)

def greedy(contexts):
    held = [np.ones(2**24) for _ in range(16)]  # 2 GiB
    time.sleep(1000)

def objects(contexts):
    return np.array([{}] * len(contexts), dtype=object)

def masked(contexts):
    return np.ma.masked_array(good(contexts), mask=True)

def complexes(contexts):
    return good(contexts) + 1j

def strings(contexts):
    return np.full((len(contexts), 3), "1/3")

def huge(contexts):
    return np.ones((len(contexts), 16, 3, 9))

def unbuildable(task):
    raise ZeroDivisionError

class Asked:
    what = None
    def __init__(self, task):
        self.good = good
    def check_length(self, length):
        if self.what == "check_length":
            raise ValueError("of a length")
    def runs(self, length):
        return {"runs": 3, "no runs": []}.get(self.what, [self])
    def predict(self, contexts):
        import mdbench
        if self.what == "input":
            raise mdbench.InputError("of its own")
        if self.what == "exit":
            sys.exit(0)
        return good(contexts)

class many_runs(Asked):
    def runs(self, length):
        return (self for _ in iter(int, 1))  # without end

def asked(what):
    return type(f"asked_{what}", (Asked,), {"what": what})

asked_check_length, asked_runs, asked_no_runs = asked("check_length"), asked("runs"), asked("no runs")
asked_input, asked_exit = asked("input"), asked("exit")

def leaves_a_child(contexts):
    import subprocess
    child = subprocess.Popen(["sleep", "1000"])
    raise KeyError(f"child {child.pid}.")

def busy(contexts):
    print("busy now", flush=True)
    while True:
        pass

class Sized:
    def __init__(self, task, size=20, of="x"):
        self.task, self.size, self.of = task, size, of
    def predict(self, contexts):
        return self.task.transition[contexts[:, -1]] * (1 - 1 / self.size) + 1 / self.size / self.task.n_states

class Short:
    def __init__(self, task):
        self.task = task
    def check_length(self, length):
        from mdbench import Unsupported
        if length > 20:
            raise Unsupported("it does 20 at most.", label="too long")
    def predict(self, contexts):
        return self.task.transition[contexts[:, -1]].astype(np.float32)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "mine.py"
    path.write_text(FILE)
    return path


FAILURES = {
    "raises": "failed: KeyError: 'no such thing'",
    "hangs": "took longer than 6 seconds",
    "exits": r"called sys.exit\(3\)",
    "dies": "exit code 7. Its last words: about to go",
    "crashes": "was ended by SIGSEGV",
    "greedy": "more than 1.5 GiB",
    "objects": "returned what is no array of numbers: it is object",
    "masked": "returned what is no array of numbers: it is a masked array",
    "complexes": "returned what is no array of numbers: it is complex128",
    "strings": "returned what is no array of numbers: it is <U3",
    "huge": r"returned an array of shape \(4, 16, 3, 9\)",
    "many_runs": "gives more than 100 predictors",
    "unbuildable": "cannot be built: ZeroDivisionError",
}


WHERE_WALLS_MATTER = ("dies", "crashes", "greedy")  # what the processes around it decide


@pytest.fixture(params=["bubblewrap", "process"])
def walls(request, monkeypatch):
    """With the sandbox and without."""
    if request.param == "process":
        monkeypatch.setattr(sandbox, "missing", lambda: "bubblewrap (bwrap) is not wanted")
    elif sandbox.missing() is not None:
        pytest.skip(sandbox.missing())
    return request.param


@pytest.mark.parametrize(
    ("name", "walls"),
    [*((name, "bubblewrap") for name in FAILURES), *((name, "process") for name in WHERE_WALLS_MATTER)],
    indirect=["walls"],
)
@pytest.mark.usefixtures("walls")
def test_every_way_to_fail_is_the_predictors_own(file, name):
    limits = Limits(seconds=6 if name == "hangs" else 60, gibibytes=1.5)

    def use():
        isolated = Isolated(f"{file}:{name}", TASK, limits=limits)
        isolated.predict(sample(TASK, 16, 4, seed=0).contexts)
        isolated.runs(16)

    with pytest.raises(PredictorError, match=FAILURES[name]) as error:
        use()
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_after_it_has_ended_every_call_says_so(file):
    isolated = Isolated(f"{file}:dies", TASK)
    for _ in range(2):
        with pytest.raises(PredictorError, match="exit code 7"):
            isolated.predict(sample(TASK, 16, 4, seed=0).contexts)


@pytest.mark.slow
def test_others_go_on_beside_a_crash_and_a_hang_and_the_exit_code_says_so(run, file, capsys):
    names = [f"{file}:{name}" for name in ("good", "crashes", "Short", "hangs")]
    options = ["--task", TASK.name, "--lengths", "16", "--n-sequences", 20, "--no-references", "--isolate", "--json"]
    options += ["--time-limit", 7]
    assert run("evaluate", *[x for name in names for x in ("--predictor", name)], *options).code == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {r["predictor"] for r in found["results"]} == {names[0], names[2]}
    assert [f["predictor"] for f in found["failed"]] == [names[1], names[3]]
    assert "SIGSEGV" in found["failed"][0]["reason"]
    assert "longer than 7 seconds" in found["failed"][1]["reason"]
    assert "failed; the others have been scored" in captured.err
    direct = mdbench.evaluate(names[0], task=TASK, lengths=[16], n_sequences=20, references=())
    assert {r["predictor"]: r["excess_kl"] for r in found["results"]}[names[0]] == direct.results[0].excess_kl


def test_what_comes_back_is_what_the_predictor_says():
    isolated = Isolated("trained_l3", TASK)
    contexts = sample(TASK, 16, 300, seed=0).contexts
    direct = build_predictor("trained_l3", TASK)
    np.testing.assert_array_equal(isolated.predict(contexts), direct.predict(contexts))
    mine, theirs = isolated.runs(16), direct.runs(16)
    assert len(mine) == len(theirs) == 3
    np.testing.assert_array_equal(mine[2].predict(contexts), theirs[2].predict(contexts))
    assert isolated.card == direct.card
    with pytest.raises(Unsupported, match="no weights for length 17") as refusal:
        isolated.check_length(17)
    assert refusal.value.label == "no weights"


def test_the_process_ends_with_its_predictor(file):
    isolated = Isolated(f"{file}:good", TASK)
    pid = isolated._process.pid
    assert psutil.pid_exists(pid)
    del isolated
    for _ in range(50):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it still runs")


def test_it_gets_contexts_only_and_limits_must_be_limits():
    with pytest.raises(InputError, match="told θ"):
        Isolated("oracle", TASK)
    for limits in ({"seconds": 0}, {"gibibytes": -1}, {"seconds": float("nan")}):
        with pytest.raises(InputError, match="must be positive"):
            Limits(**limits)


def test_a_record_of_a_predictor_from_a_file_is_isolated_by_default(run, file, tmp_path, capsys):
    options = ["--task", TASK.name, "--lengths", "16", "--n-sequences", 20, "--no-references", "--record"]
    assert run("evaluate", "--predictor", f"{file}:prints", *options, "--leaderboard", tmp_path).code == 0
    assert "hello there" in capsys.readouterr().err
    (path,) = (tmp_path / "records" / TASK.name).glob("*.json")
    content = json.loads(path.read_text())
    assert content["host"]["isolation"] == how_isolated()
    assert (content["predictor"]["kind"], content["predictor"]["distribution"]) == ("contributed", None)
    assert run("verify", path).code == 0
    assert run("verify", path, "--rerun").code == 0


# ----------------------------------------------------------------------------------------------- files and functions


def test_a_file_may_hold_a_factory_a_class_or_the_prediction_itself(file):
    contexts = sample(TASK, 16, 5, seed=0).contexts
    expected = TASK.transition[contexts[:, -1]]
    for name in ("good", "Short"):
        np.testing.assert_allclose(build_predictor(f"{file}:{name}", TASK).predict(contexts), expected, rtol=1e-6)
    assert row_identity(f"{file}:good").label == f"{file}:good"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("nowhere.py:good", InputError, "no file 'nowhere.py'"),
        ("{file}:absent", PredictorError, "has no attribute 'absent'"),
        ("{file}:transition", PredictorError, "not a function"),
        ("{file}", InputError, "name one function or class in the file"),
        ("{file}:", InputError, "name one function or class in the file"),
        ("{file}:good:eta=1", InputError, "takes no options, so not 'eta'"),
        ("{file}:Short:eta=1", InputError, "takes no options, so not 'eta'"),
        ("{file}:Sized:sizes=1", InputError, "did you mean 'size'"),
        ("{file}:Sized:size", InputError, "option=value"),
        ("x" * 5000 + ".py:good", InputError, "there is no file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(file, text, error, said):
    with pytest.raises(error, match=said):
        build_predictor(text.format(file=file), TASK)


def test_a_file_that_does_not_run_says_why(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(PredictorError, match="cannot be loaded: SyntaxError"):
        build_predictor(f"{tmp_path / 'broken.py'}:f", TASK)


@pytest.mark.parametrize("isolate", [None, Limits(60)], ids=["here", "isolated"])
def test_whatever_is_asked_of_it_a_failure_is_its_own(file, isolate):
    names = [f"{file}:asked_{what}" for what in ("check_length", "runs", "no_runs", "input", "exit")]
    found = mdbench.evaluate(
        [*names, f"{file}:good"], task=TASK, lengths=[16], n_sequences=4, references=(), isolate=isolate
    )
    assert [r.predictor for r in found.results] == [f"{file}:good"]
    reasons = {f.predictor: f.reason for f in found.failed}
    for name, said in zip(
        names, ("of a length", "not iterable", "at least one", "of its own", "sys.exit(0)"), strict=True
    ):
        assert said in reasons[name]
        assert name in reasons[name]
    with pytest.raises(PredictorError, match="of its own"):
        mdbench.evaluate(f"{file}:asked_input", task=TASK, lengths=[16], n_sequences=4, isolate=isolate)


@pytest.mark.usefixtures("walls")
def test_what_it_started_ends_with_it(file):
    isolated = Isolated(f"{file}:leaves_a_child", TASK)
    with pytest.raises(PredictorError, match="child"):
        isolated.predict(sample(TASK, 16, 4, seed=0).contexts)
    started = psutil.Process(isolated._process.pid).children(recursive=True)
    assert any("sleep" in process.name() for process in started)
    isolated.close()
    for process in started:
        _ends(process.pid)


def test_it_ends_with_its_parent_however_busy(file):
    script = f"import mdbench\nmdbench.evaluate({f'{file}:busy'!r}, task='mtd-q3-m2', lengths=[16], n_sequences=4, "
    script += "isolate=mdbench.Limits(100))"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while "busy now" not in process.stderr.readline():  # what it prints comes through
        assert process.poll() is None
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    process.kill()
    process.wait()
    process.stderr.close()
    for child in started:
        _ends(child.pid)


def _ends(pid):
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_record_imports_nothing_of_it_here(run, file, tmp_path, capsys):
    (tmp_path / "here.py").write_text("import os\nos.environ['IT_WAS_IMPORTED'] = '1'\n" + file.read_text())
    (tmp_path / "bad.py").write_text("import sys\nsys.exit(0)\n")
    both = [x for name in ("bad.py:f", "here.py:good") for x in ("--predictor", tmp_path / name)]
    options = [
        "--task",
        TASK.name,
        "--lengths",
        16,
        "--n-sequences",
        8,
        "--record",
        "--leaderboard",
        tmp_path / "board",
    ]
    assert run("evaluate", *both, *options).code == 1
    assert "sys.exit(0)" in capsys.readouterr().out
    assert "IT_WAS_IMPORTED" not in os.environ
    assert len(list(tmp_path.glob("board/records/*/*.json"))) == 1


def test_a_notebook_shows_scores_failures_and_ties():
    def broken(_contexts):
        raise ValueError("<no luck>")

    shown = mdbench.evaluate([broken, "md1"], task=TASK, lengths=[16], n_sequences=20)._repr_html_()
    assert "at gold" in shown
    assert "&lt;no luck&gt;" in shown
    assert "Tied at mtd-q3-m2, T = 16: constructed_l3 and md1." in shown
    assert "<table" in mdbench.check("uniform", TASK, [16])._repr_html_()


@pytest.mark.parametrize(("given", "said"), [([], "at least one"), ([lambda c: c] * 2, "a __name__ of its own")])
def test_names_must_tell_predictors_apart(given, said):
    with pytest.raises(InputError, match=said):
        mdbench.evaluate(given, task=TASK, lengths=[16], n_sequences=4)

    def uniform(contexts):
        return contexts

    with pytest.raises(InputError, match="'uniform' is a built-in predictor"):
        mdbench.evaluate(uniform, task=TASK, lengths=[16], n_sequences=4)


@pytest.mark.wrong_types
def test_a_function_in_a_notebook_is_a_predictor():
    def last_token(contexts):
        return TASK.transition[contexts[:, -1]]

    found = mdbench.evaluate(last_token, task=TASK, lengths=[16], n_sequences=20)
    assert "last_token" in {r.predictor for r in found.results}
    with pytest.raises(InputError, match="a function from contexts to probabilities"):
        mdbench.evaluate(3, task=TASK, lengths=[16], n_sequences=20)


def test_a_predictor_that_raises_spoils_nothing_else():
    def broken(_contexts):
        raise ValueError("no\nsuch luck")

    found = mdbench.evaluate([broken, "md1"], task=TASK, lengths=[16], n_sequences=20, references=())
    assert [r.predictor for r in found.results] == ["md1"]
    assert found.failed[0].reason.endswith("ValueError: no such luck.")
    with pytest.raises(PredictorError, match="ValueError: no such luck"):
        mdbench.evaluate(broken, task=TASK, lengths=[16], n_sequences=20)


def test_a_predictor_of_numpy_has_a_process_without_jax_and_torch(tmp_path):
    """Which would take seconds to import, for every predictor and task."""
    (tmp_path / "light.py").write_text(
        "import sys\n\nimport numpy as np\n\n\ndef p(contexts):\n"
        "    heavy = {'jax', 'torch', 'numpyro', 'scipy', 'pandas'} & set(sys.modules)\n"
        "    if heavy:\n        raise RuntimeError(f'imported: {sorted(heavy)}')\n"
        "    return np.full((len(contexts), 3), 1 / 3)\n"
    )
    with_limits = {"task": "mtd-q3-m2", "lengths": [16], "n_sequences": 8, "references": (), "isolate": Limits(60)}
    assert len(mdbench.evaluate(f"{tmp_path / 'light.py'}:p", **with_limits).results) == 1


@pytest.mark.usefixtures("walls")
def test_the_process_has_a_cache_of_its_own_that_ends_with_it(tmp_path):
    (tmp_path / "nosy.py").write_text(
        "import os\n\nimport numpy as np\n\n\nclass P:\n    def __init__(self, task):\n"
        "        places = [os.environ['MDBENCH_CACHE'], os.environ['JAX_COMPILATION_CACHE_DIR']]\n"
        "        for place in places:\n            os.makedirs(place)\n"
        "        self.card = {'places': places}\n\n"
        "    def predict(self, contexts):\n        return np.full((len(contexts), 3), 1 / 3)\n"
    )
    isolated = Isolated(f"{tmp_path / 'nosy.py'}:P", TASK)
    places = isolated.card["places"]
    isolated.close()
    assert len(places) == 2
    for place in places:
        assert not place.startswith(os.environ["MDBENCH_CACHE"])
        assert not os.path.exists(place)


@pytest.mark.usefixtures("walls")
def test_what_it_prints_goes_to_stderr_with_an_end_and_no_escapes(file, capsys):
    isolated = Isolated(f"{file}:prints", TASK)
    isolated.predict(sample(TASK, 16, 4, seed=0).contexts)
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-2:] == ["hello there", "\\x1b[31m"]
    assert captured.out == ""
    isolated = Isolated(f"{file}:noisy", TASK)
    isolated.predict(sample(TASK, 16, 4, seed=0).contexts)
    captured = capsys.readouterr()
    assert 2**16 <= len(captured.err) < 2**18
    assert captured.err.count("prints is dropped") == 1


def test_a_class_in_a_file_takes_options(run, file, tmp_path):
    contexts = sample(TASK, 16, 5, seed=0).contexts
    for options, size in (("", 20), (":size=5", 5), (":size=20,of=y", 20)):
        expected = TASK.transition[contexts[:, -1]] * (1 - 1 / size) + 1 / size / 3
        np.testing.assert_allclose(build_predictor(f"{file}:Sized{options}", TASK).predict(contexts), expected)
    assert row_identity(f"{file}:Sized:of=x,size=20").label == f"{file}:Sized"
    options = ["--task", TASK.name, "--lengths", "16", "--n-sequences", 20, "--record", "--leaderboard", tmp_path]
    names = [f"{file}:Sized", f"{file}:Sized:size=5"]
    assert run("evaluate", *[x for n in names for x in ("--predictor", n)], *options).code == 0
    paths = sorted((tmp_path / "records" / TASK.name).glob("*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    assert sorted(r["predictor"]["label"] for r in records) == names
    assert sorted(r["predictor"]["options"]["size"] for r in records) == [5, 20]
    for path in paths:
        assert run("verify", path).code == 0
        assert run("verify", path, "--rerun", "--run-files").code == 0


CLAIMS = {
    "kind": b'{"kind": "anything"}',
    "no object": b"[1]",
    "no JSON": b"{",
    "deep": b"[" * 10**5,
    "array of objects": b'{"kind": "answer", "array": ["|O", [4, 3]]}',
    "array of 10^12": b'{"kind": "answer", "array": ["<f8", [1000000, 1000000]]}',
    "array of text": b'{"kind": "answer", "array": ["<U3", [0]]}',
    "array of nothing known": b'{"kind": "answer", "array": 7}',
    "no array": b'{"kind": "answer"}',
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_forged_reply_is_of_no_known_form(tmp_path, claim):
    """The pipe's number is the last argument of its process."""
    path = tmp_path / "forger.py"
    path.write_text(
        "import os, struct, sys, time\n\n\ndef f(contexts):\n"
        f"    text = {CLAIMS[claim]!r}\n"
        "    os.write(int(sys.argv[2]), struct.pack('<QQ', len(text), 0) + text)\n    time.sleep(100)\n"
    )
    with pytest.raises(PredictorError, match="sent a reply of no known form"):
        Isolated(f"{path}:f", TASK, limits=Limits(20)).predict(sample(TASK, 16, 4, seed=0).contexts)


@pytest.mark.parametrize(
    ("sizes", "said"), [((2**40, 0), "no known form"), ((2, 2**40), "no known form"), ((10, 0), "longer than 3 sec")]
)
def test_a_reply_is_as_large_as_it_may_be(tmp_path, sizes, said):
    path = tmp_path / "forger.py"
    path.write_text(
        "import os, struct, sys, time\n\n\ndef f(contexts):\n"
        f"    os.write(int(sys.argv[2]), struct.pack('<QQ', *{sizes!r}) + b'{{}}')\n    time.sleep(100)\n"
    )
    with pytest.raises(PredictorError, match=said):
        Isolated(f"{path}:f", TASK, limits=Limits(3)).predict(sample(TASK, 16, 4, seed=0).contexts)


@pytest.mark.parametrize("declares", ["precision = 16", "standard_error = '0'", "card = [1]", "fixed_to_task = 1"])
def test_what_it_declares_is_of_the_contracts_types(tmp_path, declares):
    path = tmp_path / "declares.py"
    path.write_text(
        f"class P:\n    {declares}\n\n    def __init__(self, task):\n        pass\n\n"
        "    def predict(self, contexts):\n        return None\n"
    )
    with pytest.raises(PredictorError, match=re.escape(f"declares {declares}")):
        Isolated(f"{path}:P", TASK)
