"""Rules of the layout that a reader may rely on."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"mdbench": ROOT / "mdbench", "mdbench.tasks": ROOT / "tasks", "mdbench.baselines": ROOT / "baselines"}

# Imports flow one way: tasks <- baselines <- predictors <- evaluation <- report <- cli.
LAYERS = ["tasks", "baselines", "predictors", "evaluation", "report", "cli"]
ANYONE_MAY_IMPORT = {"mdbench.errors", "mdbench.files", "mdbench.predictor", "mdbench.metrics"}


def modules():
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            yield name, path


def layer(module):
    part = module.split(".")[1] if "." in module else ""
    aliases = {"registry": "predictors", "training": "predictors", "posteriors": "evaluation"}
    part = aliases.get(part, part)
    return LAYERS.index(part) if part in LAYERS else None


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_flow_one_way(name, path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        imported = [node.module] if isinstance(node, ast.ImportFrom) else []
        imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if imported == ["mdbench"]:
            imported = [f"mdbench.{alias.name}" for alias in node.names]
        for other in filter(None, imported):
            if other.startswith("mdbench") and other not in ANYONE_MAY_IMPORT:
                mine, theirs = layer(name), layer(other)
                assert mine is None or theirs is None or theirs <= mine, f"{name} imports {other}"


def test_every_package_is_listed_for_the_wheel():
    """An unlisted package works in an editable install and is missing from the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {name for name, path in modules() if path.name == "__init__.py"}


def test_no_path_of_a_machine_and_no_pickle():
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        for forbidden in ("/work/", "/home/", "/tmp/", "allow_pickle=True", "torch.load(", "import pickle"):
            assert forbidden not in text, f"{name} holds {forbidden}"
