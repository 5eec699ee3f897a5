"""The command line as a person uses it: what is printed where, and how it fails."""

import json
import os
import subprocess
import sys
import typing

import numpy as np
import pandas as pd
import pytest

from mdbench import cli
from mdbench.baselines import catalogue
from mdbench.evaluation.glossary import described
from mdbench.pages import terminal
from mdbench.tasks import load_task, sample
from mdbench.training.presets import preset_config

TASK = "mtd-q3-m2"


def test_help_imports_nothing_heavy():
    """In a fresh process: neither jax nor torch nor pandas is loaded for --help."""
    script = (
        "import sys; sys.argv = ['mdbench', '--help']\n"
        "from mdbench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'torch', 'numpy', 'pandas', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
    assert "evaluate" in found.stdout


def test_help_of_train_tells_the_defaults_that_the_models_have():
    options = typing.get_type_hints(cli.training.train, include_extras=True)
    for model, names in (("disentangled", ["d_rel"]), ("standard", ["width", "heads"])):
        for name in names:
            default = getattr(preset_config("bayes", 16, model=model), name)
            assert options[name].__metadata__[0].help.endswith(f" ({default}).")


def test_a_reader_who_has_enough_is_no_traceback():
    script = f"{sys.executable} -c 'from mdbench.cli import main; main()' list | head -n 1"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_evaluate_prints_one_json_object(run, tmp_path):
    arguments = (
        "evaluate",
        "--predictor",
        "md:steps=3,eta=0.1",
        "--task",
        TASK,
        "--lengths",
        "16,20",
        "--n-sequences",
        20,
    )
    out, scores = tmp_path / "out.json", tmp_path / "scores.csv"
    code, stdout, stderr = run(*arguments, "--json", "--out", out, "--per-sequence", scores)
    assert code == 0
    parsed = json.loads(stdout)
    assert parsed["schema_version"] == 1
    assert set(parsed["results"][0]) == {
        *("predictor", "task", "length", "n_sequences", "seed", "gold", "gold_error", "seconds", "runs"),
        *(f"{score}{part}" for score in ("kl", "excess_kl", "cross_entropy", "nll") for part in ("", "_se", "_ci")),
    }
    assert len(parsed["results"]) == 2 * 5
    assert json.loads(out.read_text()) == parsed
    assert "gold by exact" in stderr
    frame = pd.read_csv(scores)
    for result in parsed["results"]:
        rows = frame[(frame["predictor"] == result["predictor"]) & (frame["length"] == result["length"])]
        assert len(rows) == 20
        for score in ("kl", "excess_kl", "cross_entropy", "nll"):
            assert rows[score].mean() == pytest.approx(result[score], rel=1e-9)


def test_per_sequence_scores_as_parquet(run, tmp_path):
    path = tmp_path / "s.parquet"
    arguments = ("evaluate", "--predictor", "uniform", "--task", TASK, "--lengths", "16", "--n-sequences", 5)
    assert run(*arguments, "--no-references", "--per-sequence", path)[0] == 0
    assert len(pd.read_parquet(path)) == 5


def test_evaluate_prints_a_table(run, tmp_path):
    task = tmp_path / "gap.toml"  # the same task at a length for which there are no weights
    rows = load_task(TASK).transition.tolist()
    task.write_text(f'name = "{TASK}"\norder = 2\nlengths = [16, 48]\ntransition = {rows}\n')
    code, stdout, _ = run("evaluate", "--predictor", "trained_l3", "--task", task, "--n-sequences", 20)
    assert code == 0
    for text in (
        "trained_l3",
        "at gold",
        "no weights",
        "excess KL",
        "95% interval",
        "20 sequences",
        "Tied at",
        "by training seed",
    ):
        assert text in stdout


def test_no_number_is_cut_short_on_a_narrow_terminal(run, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(terminal, "console", lambda: Console(width=60))
    narrow = run("evaluate", "--predictor", "md:steps=3,eta=0.1", "--task", TASK, "--n-sequences", 20)[1]
    assert "excess KL" in narrow
    assert "NLL" not in narrow  # the last columns give way ..
    assert "…" not in narrow + run("show", "mtd-q10-m4")[1]  # .. and no number is shortened


def test_version(run):
    from importlib.metadata import version

    assert run("--version")[:2] == (0, f"mdbench {version('mdbench')}\n")


def test_an_interrupt_says_how_to_go_on(run, monkeypatch, tmp_path):

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mdbench.training.run.train", interrupt)
    code, _, stderr = run("train", "--task", TASK, "--lengths", "16", "--out", tmp_path)
    assert code == 130
    assert "the same command goes on from the last checkpoint" in stderr
    monkeypatch.setattr("mdbench.evaluation.evaluation.evaluate", interrupt)
    code, _, stderr = run("evaluate", "--predictor", "md1")
    assert (code, stderr.strip().splitlines()[-1]) == (130, "mdbench: interrupted.")


def test_sample_writes_what_evaluate_scores(run, tmp_path):
    path = tmp_path / "s.npz"
    assert run("sample", "--task", TASK, "--n-sequences", 7, "--length", 16, "--seed", 3, "--out", path)[0] == 0
    drawn = sample(load_task(TASK), 16, 7, seed=3)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"tokens", "weights", "next_probs", "transition"}
        np.testing.assert_array_equal(arrays["tokens"], drawn.tokens)
        np.testing.assert_array_equal(arrays["weights"], drawn.weights)
        np.testing.assert_array_equal(arrays["next_probs"], drawn.next_probs)
        np.testing.assert_array_equal(arrays["transition"], load_task(TASK).transition)


@pytest.fixture
def own_data(tmp_path):
    """CSV files of a matrix and two sequences, as options."""
    (tmp_path / "pi.csv").write_text("0.75,0.25\n0.35,0.65\n")
    (tmp_path / "seq.csv").write_text("0,1,1,0,1\n1,1,1\n")
    return ["--transition", tmp_path / "pi.csv", "--sequences", tmp_path / "seq.csv"]


def test_posterior_of_own_data(run, own_data):
    code, stdout, _ = run("posterior", *own_data, "--order", 2, "--prefixes", "--json", "--method", "urn")
    parsed = json.loads(stdout)
    assert code == 0
    assert (parsed["method"], parsed["order"], parsed["concentration"]) == ("urn", 2, 1.0)
    assert [s["length"] for s in parsed["sequences"]] == [5, 3]
    assert (parsed["labels"], parsed["understood"]) == (None, ["one sequence a line"])
    assert set(parsed["sequences"][0]) == {
        "name",
        *("length", "log_evidence", "posterior_mean", "posterior_sd", "next_token", "error_estimate", "prefixes"),
        *("standard_error", "next_token_standard_error", "checks_made"),
    }
    assert parsed["sequences"][0]["prefixes"]["length"] == [2, 3, 4, 5]
    for arguments in ((), ("--prefixes",)):
        code, stdout, _ = run("posterior", *own_data, "--order", 2, *arguments)
        assert (code, "order 2" in stdout) == (0, True)


def test_list_and_show_know_every_name(run):
    listing = json.loads(run("list", "--json")[1])
    assert set(listing) == {"tasks", "suites", "predictors", "baselines", "families", "scores"}
    assert set(listing["baselines"]) == set(catalogue.BASELINES)
    assert set(listing["baselines"]) <= set(listing["predictors"])
    printed = run("list")[1]
    for names in listing.values():
        for name in names:
            assert json.loads(json.dumps(described(name)))["kind"]
            assert name in printed
        for shown in (run("show", name), run("show", name, "--json")):
            assert shown.code == 0
            assert described(name)["kind"] in shown.out


@pytest.mark.slow
def test_train_tune_and_use_a_task_of_ones_own(run, tmp_path):
    task = tmp_path / "mine.toml"
    task.write_text("order = 1\nlengths = [6]\ntransition = [[0.5, 0.5], [0.2, 0.8]]\n")
    runs = tmp_path / "runs"
    arguments = ("train", "--task", task, "--lengths", "6,5", "--seeds", "0,3", "--batch", 4, "--out", runs)
    arguments = (*arguments, "--steps", 20, "--preset", "conditional")
    folders = [runs / "mine" / length / seed for length in ("T6", "T5") for seed in ("seed0", "seed3")]
    for _ in range(2):  # the second time they are finished already
        code, stdout, _ = run(*arguments)
        assert (code, stdout.split()) == (0, [str(folder) for folder in folders])
    assert "holds a run with depth = 3, not 2" in run(*arguments, "--depth", 2)[2]
    later = ("--lengths", "8,6", "--depth", 2)  # what stands at 6 is said before 8 is trained
    assert "T6/seed0' holds a run with depth = 3, not 2" in run(*arguments, *later)[2]
    assert not (runs / "mine" / "T8").exists()
    code, stdout, _ = run(
        "evaluate", "--predictor", f"run:{folders[1]}", "--task", task, "--n-sequences", 8, "--no-references", "--json"
    )
    assert (code, json.loads(stdout)["results"][0]["runs"]) == (0, None)
    config = json.loads((folders[0] / "card.json").read_text())["config"]
    assert (config["target"], config["steps"], config["learning_rate"]) == ("conditional", 20, 0.01)
    longer = ("train", "--task", task, "--lengths", 7, "--steps", 20, "--batch", 4, "--out", tmp_path / "longer")
    assert run(*longer, "--start-from", folders[0].parent)[0] == 0  # without the preset's candidates
    code, stdout, _ = run("tune", "--task", task, "--steps", "1", "--json", "--out", tmp_path / "eta.json")
    assert code == 0
    (row,) = json.loads(stdout)
    assert (row["length"], row["steps"]) == (6, 1)
    assert "mine" in (tmp_path / "eta.json").read_text()


@pytest.mark.slow
def test_tuned_scalars_go_beside_the_step_sizes(run, tmp_path):
    table = tmp_path / "tuned.json"
    for what in (("--steps", "1"), ("--depths", "4")):
        code, stdout, _ = run("tune", "--task", TASK, "--lengths", "8", *what, "--out", table)
        assert (code, "mtd-q3-m2" in stdout) == (0, True)
    (of_task,) = json.loads(table.read_text()).values()
    assert of_task["eta"]["1"]["8"] > 0
    assert len(of_task["scalars"]["4"]["8"]) == 5


@pytest.mark.slow
def test_inspect_and_identify(run, tmp_path):
    arguments = ("inspect", "constructed_l3", "--task", TASK, "--length", 8, "--n-sequences", 20, "--out", tmp_path)
    code, stdout, _ = run(*arguments)
    assert (code, "100.0%; 100.0%" in stdout) == (0, True)
    assert "attention maps of the first sequence" in (tmp_path / "inspection.html").read_text()
    code, stdout, _ = run(*arguments, "--json")
    assert (code, json.loads(stdout)["runs"][0]["step_size"]["r_squared"]) == (0, pytest.approx(1.0))

    arguments = ("identify", "md1", "--task", TASK, "--lengths", 8, "--n-sequences", 40, "--out", tmp_path)
    code, stdout, _ = run(*arguments)
    assert (code, "T = 8: md1 runs md1." in stdout) == (0, True)
    page = (tmp_path / "identification.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # what is explained, and the steps
    code, stdout, _ = run(*arguments, "--json")
    assert (code, [v["verdict"] for v in json.loads(stdout)["verdicts"]]) == (0, ["md1"])


SAMPLE = ("sample", "--task", TASK, "--length", 16, "--n-sequences")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("evaluate", "--predictor", "trained_l33"), "no predictor 'trained_l33'; did you mean 'trained_l3'?"),
        (("evaluate", "--predictor", "md1", "--task", "mtd-q5"), "no task 'mtd-q5'; did you mean 'mtd-q5-m3'?"),
        (("evaluate", "--predictor", "md1", "--suite", "coree"), "no suite 'coree'; did you mean 'core'?"),
        (("evaluate", "--predictor", "md1", "--n-sequences", 0), "n-sequences must be a whole number of at least 1"),
        (("evaluate", "--predictor", "md1", "--task", TASK, "--lengths", "16,x"), "--lengths takes whole numbers"),
        (("evaluate", "--predictor", "md1", "--task", TASK, "--lengths", "2"), "at least order + 1 = 3"),
        (("evaluate", "--predictor", "md1", "--out", "/nowhere/x.json"), "there is no folder '/nowhere'"),
        (("evaluate", "--predictor", "md1", "--out", "/"), "it is a folder"),
        (("evaluate", "--predictor", "md1", "--per-sequence", "x.txt"), "written as .csv or .parquet"),
        (("evaluate", "--predictor", "md1", "--device", "cuda:99"), "device 'cuda:99' cannot be used here"),
        (("evaluate", "--predictor", "trained_l3", "--task", TASK, "--lengths", "48"), "no weights for length 48"),
        ((*SAMPLE, 0, "--out", "x.npz"), "n-sequences must be a whole number of at least 1"),
        ((*SAMPLE, 5, "--out", "/nowhere/x.npz"), "there is no folder"),
        ((*SAMPLE, 5, "--out", "x.csv"), "writes .npz"),
        (("evaluate", "--predictor", "md1", "--task", TASK, "--lengths", "9" * 12), "is too long"),
        (("evaluate", "--predictor", "md1", "--suite", ""), "no suite ''"),
        (("evaluate", "--predictor", "md1", "--out", "x" * 300), "the name is too long"),
        (("evaluate", "--predictor", "md:steps=3,,", "--task", TASK), "write options as md:option=value"),
        ((*SAMPLE, 10**12, "--out", "x.npz"), "do not fit into memory"),
        (("sample", "--task", TASK), "Missing option"),
        (("posterior", "--order", "2.5"), "Invalid value for '--order'"),
        (("evaluat",), "No such command 'evaluat'"),
        (("tune", "--task", TASK, "--steps", "0", "--out", "t.json"), "steps must be a whole number from 1"),
        (("tune", "--task", TASK, "--out", "no/t.json"), "there is no folder"),
        (
            ("train", "--task", TASK, "--lengths", "16", "--out", "r", "--depth", 100),
            "depth of a disentangled model must be at most 10",
        ),
        (("train", "--task", TASK, "--lengths", "16", "--out", "r", "--learning-rate", "nan"), "learning_rate must be"),
        (("evaluate", "--predictor", "run:nowhere", "--task", TASK), "'nowhere' is not a finished run"),
        (("show", "md11"), "did you mean 'md1'?"),
        (("train", "--task", TASK, "--lengths", "16", "--out", "r", "--target", "x"), "target must be one of"),
        (("train", "--task", TASK, "--lengths", "16", "--out", "r", "--preset", "x"), "preset must be one of paper"),
        (("train", "--task", TASK, "--lengths", "16", "--out", "r", "--seeds", "1,b"), "--seeds takes whole numbers"),
        (("train", "--task", TASK, "--lengths", "16", "--out", "r", "--steps", 20), "give at least 100 steps, or one"),
        (
            ("train", "--task", TASK, "--lengths", "16", "--out", "r", "--device", "cuda:99"),
            "device 'cuda:99' cannot be used",
        ),
        (("tune", "--task", "nothing"), "no task 'nothing'"),
        (
            ("tune", "--task", TASK, "--depths", "6", "--out", "t.json"),
            "constructions with scalars of 3, 4, 5, 7 layers",
        ),
        (("identify", "oracle", "--task", TASK), "'oracle' is told θ"),
        (("identify", "md1", "--task", TASK, "--lengths", "a"), "--lengths takes whole numbers"),
        (("inspect", "md1", "--task", TASK), "'md1' is no transformer"),
        (("inspect", "trained_l3", "--task", TASK, "--out", "/proc/x"), "cannot make the folder '/proc/x'"),
        (("posterior", "--transition", "absent", "--sequences", "x", "--order", 1), "cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(run, monkeypatch, tmp_path, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    assert sentence in stderr
    lines = [line for line in stderr.splitlines() if not line.endswith("...")]
    assert len(lines) == 1
    assert lines[0].startswith("mdbench: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("pi.csv", "0.75,0.35\n0.35,0.65\n", "row 1 of the transition matrix sums to 1.1"),
        ("pi.csv", "1.25,-0.25\n0.35,0.65\n", "row 1 of the transition matrix holds -0.25"),
        ("pi.csv", "0.75,0.25\n", "must be square"),
        ("pi.csv", "a,b\n0.35,0.65\n", "must be square"),
        ("pi.csv", "", "is empty"),
        ("pi.csv", "1,0\n0,1\n", "sequence 1: impossible"),
        ("seq.csv", "0,1,2\n", "sequence 1: state 2 at position 3 is outside 0..1"),
        ("seq.csv", "0,1,1\n0,1\n", "sequence 2: its length is 2; order 2 needs at least 3"),
        ("seq.csv", "0,one,1\n", "'one' at position 2 is not a state"),
        ("seq.csv", "", "is empty"),
    ],
)
def test_bad_own_data(run, own_data, tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    code, stdout, stderr = run("posterior", *own_data, "--order", 2)
    assert (code, stdout) == (2, "")
    assert sentence in stderr.splitlines()[-1]


def test_a_predictor_that_breaks_its_contract_is_a_failed_run(run, monkeypatch):
    from mdbench.predictors.reference import Uniform

    monkeypatch.setattr(Uniform, "predict", lambda _self, contexts: np.zeros((len(contexts), 3)))
    asked = ("--predictor", "uniform", "--task", TASK, "--n-sequences", 5, "--no-cache")
    code, stdout, stderr = run("evaluate", *asked)
    assert (code, stdout) == (1, "")
    assert "predictor 'uniform' returned probabilities that do not sum to one" in stderr


def test_compare_prints_a_table_and_json(run):
    arguments = ("compare", "md1", "uniform", "--task", TASK, "--lengths", "16", "--n-sequences", 50)
    code, stdout, _ = run(*arguments)
    assert code == 0
    assert "md1 and uniform" in stdout
    parsed = json.loads(run(*arguments, "--json")[1])
    assert parsed[0]["verdict"] == "md1"
    assert parsed[0]["difference"] == pytest.approx(parsed[0]["excess_kl_a"] - parsed[0]["excess_kl_b"])
    code, _, stderr = run("compare", "md1", "nobody", "--task", TASK)
    assert (code, stderr.count("\n")) == (2, 1)


def test_validate_writes_its_report_and_fails_on_failure(run, tmp_path, monkeypatch):
    small = ("--task", TASK, "--method", "urn", "--method", "laplace", "--n-sequences", 10, "--n-simulations", 80,
             "--length", 12, "--calibration-length", 8)  # fmt: skip
    code, stdout, _ = run("baseline", "validate", *small, "--out", tmp_path)
    assert code == 0
    assert "pass" in stdout
    assert "approximate" in stdout
    page = (tmp_path / "validation.html").read_text()
    assert f"mdbench baseline validate --task {TASK}" in page
    assert str(tmp_path) not in page.replace(f"--out {tmp_path}", "")
    report = json.loads((tmp_path / "validation.json").read_text())
    assert [v["verdict"] for v in report["verdicts"]] == ["pass", "approximate"]

    from mdbench.baselines import Urn

    right = Urn.posterior

    def wrong(self, *arguments, **options):
        found = right(self, *arguments, **options)
        found.mean[0] = found.mean[0, :, ::-1]
        return found

    monkeypatch.setattr(Urn, "posterior", wrong)
    code, stdout, stderr = run("baseline", "validate", *small[:4], *small[6:], "--no-cache")
    assert code == 1
    assert "did not pass: urn on mtd-q3-m2" in stderr
    code, _, stderr = run("baseline", "validate", "--out", tmp_path / "validation.json")
    assert (code, stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--predictor", "md1", "--gold", "laplace"), "never gold"),
        (("evaluate", "--predictor", "md1", "--gold", "exat"), "did you mean 'exact'"),
        (("evaluate", "--predictor", "nuts:draw=3"), "did you mean 'draws'"),
        (("baseline", "validate", "--method", "nut"), "did you mean 'nuts'"),
        (("show", "gibs"), "did you mean 'gibbs'"),
    ],
)
def test_baselines_named_wrongly(run, arguments, message):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr.splitlines()[-1]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_terminal_that_is_not_utf_8_loses_nothing(own_data, encoding):
    """Greek letters come as escapes; the result and the exit code are the same."""
    commands = [("show", "quasi_bayes")]
    if encoding == "ascii":  # what the others have, it has not
        commands += [("posterior", *own_data, "--order", "2"), ("posterior", "--help"), ("list",)]
    for arguments in commands:
        command = [sys.executable, "-m", "mdbench", *map(str, arguments)]
        found = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert found.returncode == 0, found.stderr
        assert b"Traceback" not in found.stderr
        if arguments[0] == "show":
            assert rb"\u03bb" in found.stdout


def test_what_a_predictor_prints_is_no_part_of_the_result(run, tmp_path):
    path = tmp_path / "p.py"
    path.write_text(
        "import numpy as np\ndef f(contexts):\n    print('hello')\n    return np.full((len(contexts), 3), 1 / 3)\n"
    )
    found = run("evaluate", "--predictor", f"{path}:f", "--task", TASK, "--lengths", 16, "--n-sequences", 8, "--json")
    assert found.code == 0
    json.loads(found.out)
    assert "hello" in found.err


def test_an_error_has_an_end(run):
    found = run("evaluate", "--predictor", "x" * 100_000)
    assert found.code == 2
    assert len(found.err) <= 320


# --------------------------------------------------------------------------------------- streams, and what is installed


def mdbench_(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "mdbench", *arguments], capture_output=True, text=True, **options)


@pytest.mark.slow
def test_output_that_cannot_be_written_is_said():
    command = ["show", "md1"]
    run_it = [sys.executable, "-m", "mdbench", *command]
    with open("/dev/full", "w") as full:
        done = subprocess.run(run_it, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "mdbench: the output cannot be written: No space left on device.\n")
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *run_it], stderr=subprocess.PIPE, text=True)
    assert (closed.returncode, closed.stderr) == (1, "mdbench: the output cannot be written: Bad file descriptor.\n")
    silent = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *run_it], stdout=subprocess.PIPE, text=True)
    assert (silent.returncode, silent.stdout) == (0, mdbench_(*command).stdout)


BROKEN = {
    "METADATA": (b"Name: \xff\xfe", b"[mdbench.predictors]\nevil = x:y\n"),
    "entry points": (b"Metadata-Version: 2.1\nName: evil\nVersion: 1\n", b"[mdbench.predictors]\n\xff = x:y\n"),
    "no assignment": (b"Metadata-Version: 2.1\nName: evil\nVersion: 1\n", b"[mdbench.predictors]\nsome text\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_distribution_that_is_broken_ends_no_command(tmp_path, kind):
    for name, files in (("evil", BROKEN[kind]), ("good", (b"Metadata-Version: 2.1\nName: good\nVersion: 1\n",
                                                         b"[mdbench.predictors]\nmine = mine:f\n"))):  # fmt: skip
        about = tmp_path / f"{name}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_bytes(files[0])
        (about / "entry_points.txt").write_bytes(files[1])
    done = mdbench_("list", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0
    assert "mine" in done.stdout
    assert "evil" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert "evil-1.dist-info: its metadata cannot be read, so nothing of it is used" in line


def test_whatever_a_plugin_raises_is_a_sentence(tmp_path):
    about = tmp_path / "odd-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[mdbench.tasks]\nraising = odd:task\nitself = odd:name\n")
    (tmp_path / "odd.py").write_text(
        "class Odd(BaseException):\n    pass\n\n\nname = 'itself'\n\n\ndef task():\n    raise Odd('no')\n"
    )
    for task, said in (("raising", "cannot be loaded: Odd: no."), ("itself", "is str, not a task")):
        done = mdbench_("show", task, env=os.environ | {"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr) < 320
