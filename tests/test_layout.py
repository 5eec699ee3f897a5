"""Rules of the layout that a reader may rely on."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"mdbench": ROOT / "mdbench", "mdbench.tasks": ROOT / "tasks", "mdbench.baselines": ROOT / "baselines"}

# Imports flow one way: tasks <- baselines <- predictors <- evaluation <- report <- cli.
LAYERS = ["tasks", "baselines", "predictors", "evaluation", "report", "cli"]
SAME_AS = {
    "registry": "predictors",
    "running": "predictors",
    "names": "predictors",
    "training_data": "predictors",
    "training_config": "predictors",
    "training": "evaluation",
    "training_process": "evaluation",
    "gold": "evaluation",
    "scores": "evaluation",
    "scoring": "evaluation",
    "isolation": "predictors",
    "scaffold": "predictors",
    "contract": "evaluation",
    "records": "evaluation",
    "marks": "evaluation",
    "times": "evaluation",
    "board": "evaluation",
    "board_page": "report",
    "posteriors": "evaluation",
    "validation": "evaluation",
    "identification": "evaluation",
    "inspection": "evaluation",
    "inspection_page": "report",
    "validation_page": "report",
}


def modules():
    for package, folder in PACKAGES.items():
        for path in (path for path in folder.rglob("*.py") if path.name != "__main__.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            yield name, path


def layer(module):
    """Height of a module; errors, files, metrics, the contract and the like are below all layers."""
    part = module.split(".")[1] if "." in module else "cli"  # the package itself only names what is elsewhere
    part = SAME_AS.get(part, part)
    return LAYERS.index(part) if part in LAYERS else -1


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from [f"mdbench.{alias.name}" for alias in node.names] if node.module == "mdbench" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_flow_one_way(name, path):
    for other in imports(path):
        if other.startswith("mdbench"):
            assert layer(other) <= layer(name), f"{name} imports {other}"


def test_the_two_routes_to_gold_share_no_code():
    """Beyond the lag likelihoods and the container of the result."""
    for name, other in (("exact", "urn"), ("urn", "exact")):
        imported = set(imports(ROOT / "baselines" / f"{name}.py"))
        assert not {module for module in imported if other in module or ("jacobi" in module and name == "urn")}


def test_every_package_is_listed_for_the_wheel():
    """An unlisted package works in an editable install and is missing from the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {name for name, path in modules() if path.name == "__init__.py"}


def test_no_path_of_a_machine_and_no_pickle():
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        for forbidden in ("/work/", "/home/", "/tmp/", "allow_pickle=True", "torch.load(", "import pickle"):
            assert forbidden not in text, f"{name} holds {forbidden}"


def test_the_second_opinion_shares_nothing():
    """Pyro's model imports nothing of mdbench, nor of what the first opinion is built on."""
    imported = {module.split(".")[0] for module in imports(ROOT / "baselines" / "pyro_model.py")}
    assert imported == {"__future__", "warnings", "typing", "numpy", "pyro", "torch"}
