"""A new predictor as a complete package: ``mdbench new-predictor``."""

from __future__ import annotations

import keyword
import re
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import jinja2

from mdbench.core.errors import InputError, shown
from mdbench.core.files import make_folder, whole_folder, write_text
from mdbench.predictors.catalogue import BUILT_IN, predictor_entries

FRAMEWORKS = {"numpy": ("mdbench", "numpy"), "jax": ("mdbench", "jax"), "torch": ("mdbench", "torch")}


def new_predictor(name: str, framework: str = "numpy", where: str | Path = ".") -> Path:
    """Write the package ``where/name`` with a predictor that works, its entry point, a test and a README.

    Raises:
        InputError: the name is taken or cannot be one, or the folder exists.
    """
    if framework not in FRAMEWORKS:
        raise InputError(f"framework must be one of {', '.join(FRAMEWORKS)}, not {shown(framework)}.")
    if keyword.iskeyword(name):
        raise InputError(f"'{name}' is a word of Python's own; take another name.")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", name):
        raise InputError(
            f"a name has up to 80 small letters, digits and underscores, such as online_eg, unlike {shown(name)}."
        )
    if name in BUILT_IN:
        raise InputError(f"'{name}' is a built-in predictor, which would win; take another name.")
    folder = Path(where) / name
    if folder.exists():
        raise InputError(f"'{folder}' exists; take another name, or move it away.")
    taken = predictor_entries().get(name)
    if taken is not None:
        raise InputError(f"there is a predictor '{name}', {taken.summary}; take another name.")
    if name in sys.stdlib_module_names or name in FRAMEWORKS or find_spec(name) is not None:
        raise InputError(f"'{name}' is the name of a module that others import; take another.")
    values = {
        "name": name,
        "distribution": f"mdbench-{name.replace('_', '-')}",
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "dependencies": ", ".join(f'"{package}"' for package in FRAMEWORKS[framework]),
    }
    templates = resources.files("mdbench") / "templates" / "new_predictor"
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"test_{name}.py": "test_predictor.py",
        f"src/{name}.py": f"{framework}.py",  # a folder `name` that Python is started beside would hide `name.py` in it
    }
    texts = {}
    for file, template in files.items():
        source = (templates / f"{template}.jinja").read_text(encoding="utf-8")
        made = jinja2.Template(source, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
        texts[file] = made.render(values)
    with whole_folder(folder) as unfinished:
        make_folder(unfinished / "src")
        for file, text in texts.items():
            write_text(unfinished / file, text)
    return folder
