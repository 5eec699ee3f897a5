"""New predictors: what is written works as it is. (.ci/run installs one, and the example, beside the wheel.)"""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mdbench.core.errors import InputError
from mdbench.evaluation.contract import check
from mdbench.evaluation.scaffold import FRAMEWORKS, new_predictor
from mdbench.tasks import load_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "mdbench-online-eg"


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_written_keeps_the_contract(framework, tmp_path):
    folder = new_predictor("my_idea2", framework, tmp_path)
    files = [p for p in folder.glob("**/*") if p.is_file()]
    assert sorted(str(p.relative_to(folder)) for p in files) == [
        "README.md",
        "pyproject.toml",
        "src/my_idea2.py",
        "test_my_idea2.py",
    ]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "mdbench-my-idea2"
    assert project["entry-points"]["mdbench.predictors"] == {"my_idea2": "my_idea2:MyIdea2"}
    for path in files:
        assert "{{" not in path.read_text()
    built = module(folder / "src" / "my_idea2.py").MyIdea2(load_task("mtd-q3-m2"))
    checks = check(built, "mtd-q3-m2", [16])
    assert [(c.name, c.found) for c in checks if c.verdict == "fail"] == []
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", str(folder)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "framework", "said"),
    [
        ("md1", "numpy", "built-in"),
        ("My-Idea", "numpy", "small letters"),
        ("class", "numpy", "a word of Python's own"),
        ("typing_extensions", "numpy", "others import"),
        ("json", "numpy", "others import"),
        ("torch", "numpy", "others import"),
        ("mine", "tensorflow", "framework must be one of"),
        ("../up", "numpy", "small letters"),
    ],
)
def test_names_that_cannot_be(name, framework, said, tmp_path):
    with pytest.raises(InputError, match=said):
        new_predictor(name, framework, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("new-predictor", "new_one").code == 0
    assert "pip install -e new_one" in capsys.readouterr().out
    (tmp_path / "new_one" / "src" / "new_one.py").write_text("precious")
    assert run("new-predictor", "new_one").code == 2
    assert (tmp_path / "new_one" / "src" / "new_one.py").read_text() == "precious"


def test_the_example_keeps_the_contract():
    """All but what needs it installed; its own tests, which .ci/run runs, have that."""
    online = module(EXAMPLE / "online_eg.py").OnlineEg(load_task("mtd-q3-m2"))
    checks = {c.name: c.verdict for c in check(online, "mtd-q3-m2", [16])}
    assert "fail" not in checks.values()
    assert checks["predict_all"] == "pass"
