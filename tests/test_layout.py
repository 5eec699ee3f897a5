"""Rules of the layout that a reader may rely on."""

import ast
import graphlib
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"mdbench": ROOT / "mdbench", "mdbench.tasks": ROOT / "tasks", "mdbench.baselines": ROOT / "baselines"}

# A module's level is its folder, and imports flow one way; folders of one line know nothing of each other.
LEVELS = [
    {"core"},
    {"tasks"},
    {"baselines"},
    {"algorithms"},
    {"predictors"},
    {"evaluation"},
    {"posteriors", "training", "board", "mechanism"},
    {"series"},
    {"claims"},
    {"pages"},
    {"cli"},
    {""},  # the package itself, which only names what is elsewhere
]


def modules():
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            yield ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"), path


MODULES = dict(modules())


def folder_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (len(parts) > 2 or module != "mdbench.__main__") else ""


def level(module):
    return next(k for k, folders in enumerate(LEVELS) if folder_of(module) in folders)


def imports(path):
    """The modules that a file imports anywhere in it, functions and type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path):
    return {other for other in imports(path) if other.split(".")[0] == "mdbench"}


def test_every_module_stands_in_a_folder_that_has_a_level():
    assert {folder_of(name) for name in MODULES} == set().union(*LEVELS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_flow_one_way(name):
    for other in ours(MODULES[name]):
        beside = folder_of(other) != folder_of(name) and level(other) == level(name)
        assert level(other) <= level(name), f"{name} imports {other}, which stands above it"
        assert not beside, f"{name} imports {other}, which stands beside it"


def test_no_module_imports_itself_by_way_of_others():
    public = {name for name, path in MODULES.items() if path.name == "__init__.py"}  # they name what is in the folder
    graph = {name: ours(path) - public for name, path in MODULES.items() if name not in public}
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_function_is_called_as_its_module(name):
    """Otherwise ``from package import name`` is the one or the other, by what was imported before."""
    short = name.rpartition(".")[2]
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert short not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_tests_stand_in_the_same_folders_and_import_no_test():
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent.as_posix()
        assert folder == "." or folder in set().union(*LEVELS), path
        assert not any(module.split(".")[0] == "tests" for module in imports(path)), path


def test_the_two_routes_to_gold_share_no_code():
    """Beyond the lag likelihoods and the container of the result."""
    for name, other in (("exact", "urn"), ("urn", "exact")):
        imported = set(imports(ROOT / "baselines" / f"{name}.py"))
        assert not {module for module in imported if other in module or ("jacobi" in module and name == "urn")}


def test_every_package_is_listed_for_the_wheel():
    """An unlisted package works in an editable install and is missing from the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert listed == {name for name, path in MODULES.items() if path.name == "__init__.py"}


def test_no_path_of_a_machine_and_no_pickle():
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        for forbidden in ("/work/", "/home/", "/tmp/", "allow_pickle=True", "torch.load(", "import pickle"):
            assert forbidden not in text, f"{name} holds {forbidden}"


def test_the_second_opinion_shares_nothing():
    """Pyro's model imports nothing of mdbench, nor of what the first opinion is built on."""
    imported = {module.split(".")[0] for module in imports(ROOT / "baselines" / "pyro_model.py")}
    assert imported == {"__future__", "warnings", "typing", "numpy", "pyro", "torch"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git says whether a patch applies")
@pytest.mark.parametrize("patch", sorted((ROOT / "tests" / "planted").glob("*.patch")), ids=lambda patch: patch.stem)
def test_the_fault_of_each_planted_patch_can_still_be_planted(patch):
    command = ["git", "apply", "--check", "--unidiff-zero", "-C0", str(patch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
