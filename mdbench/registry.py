"""Names of predictors, built-in and from entry points, to objects. Nothing is imported before it is built."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mdbench.errors import InputError, PredictorError, unknown_name

GROUP = "mdbench.predictors"


@dataclass(frozen=True)
class PredictorEntry:
    """Where a factory stands, what it is in one line, and the options that the name already fixes."""

    name: str
    target: str  # "module:attribute"
    summary: str
    options: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the factory ``build(task, **options)``."""
        try:
            return EntryPoint(self.name, self.target, GROUP).load()
        except (ImportError, AttributeError) as error:
            raise PredictorError(f"predictor '{self.name}' ({self.summary}) cannot be loaded: {error}.") from error


_MD = "mdbench.predictors.mirror_descent:MirrorDescent"
_BUILT_IN = [
    PredictorEntry("bayes", "mdbench.predictors.reference:Bayes", "p at the exact posterior mean, by the urn"),
    PredictorEntry("oracle", "mdbench.predictors.reference:Oracle", "told the weights λ; not ranked"),
    PredictorEntry("uniform", "mdbench.predictors.reference:Uniform", "λ = 1/m: ignores all but the last m tokens"),
    PredictorEntry("md", _MD, "Mirror Descent; options steps and eta (tuned, theory, smooth or a number)"),
    PredictorEntry("md1", _MD, "one step of Mirror Descent, tuned η", {"steps": 1}),
    PredictorEntry("md2", _MD, "two steps of Mirror Descent, tuned η", {"steps": 2}),
    PredictorEntry("md5", _MD, "five steps of Mirror Descent, tuned η", {"steps": 5}),
    PredictorEntry("em", "mdbench.predictors.maximum_likelihood:MaximumLikelihood", "maximum likelihood, EM's limit"),
    PredictorEntry(
        "constructed_l3",
        "mdbench.predictors.constructed:ConstructedL3",
        "the paper's three-layer construction, equal to md1; option eta as md",
    ),
    PredictorEntry(
        "trained_l3",
        "mdbench.predictors.trained:Trained",
        "three-layer disentangled transformer, trained",
        {"name": "trained_l3"},
    ),
    PredictorEntry("run", "mdbench.predictors.trained:Run", "run:FOLDER, a run of `mdbench train`"),
]
BUILT_IN = {entry.name: entry for entry in _BUILT_IN}


def predictor_entries() -> dict[str, PredictorEntry]:
    """All predictors that can be named; a built-in wins over an entry point of the same name."""
    found = {}
    for point in entry_points(group=GROUP):
        source = f"from {point.dist.name} {point.dist.version}" if point.dist else "from an entry point"
        found[point.name] = PredictorEntry(point.name, point.value, source)
    return found | BUILT_IN


def parse_predictor(text: str) -> tuple[PredictorEntry, dict[str, Any]]:
    """``name``, ``name:option=value,option=value`` or ``run:FOLDER`` to the entry and the options given there."""
    name, _, rest = text.partition(":")
    entries = predictor_entries()
    if name not in entries:
        raise unknown_name("predictor", name, entries)
    if name == "run":
        return entries[name], {"path": rest}
    options = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"predictor '{text}': write options as {name}:option=value, not '{item}'.")
        if key.strip() in options:
            raise InputError(f"predictor '{text}': option '{key.strip()}' is given twice.")
        options[key.strip()] = _literal(value.strip())
    return entries[name], options


def option_defaults(entry: PredictorEntry) -> dict[str, Any]:
    """Options that a person may give, with their defaults (``inspect.Parameter.empty``: must be given)."""
    parameters = list(inspect.signature(entry.load()).parameters.values())[1:]  # the first is the task
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default for p in named if p.name != "device" and p.name not in entry.options}


def build_predictor(text: str, task: Any, device: str = "cpu") -> Any:
    """Build a named predictor for a task; ``device`` goes to those factories that take one."""
    entry, options = parse_predictor(text)
    known = option_defaults(entry)
    factory = entry.load()
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in () if takes_any else options.keys() - known.keys():
        if not known:
            raise InputError(f"predictor '{entry.name}' takes no options, so not '{key}'.")
        raise InputError(f"predictor '{entry.name}': {unknown_name('option', key, known)}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in options:
            raise InputError(f"predictor '{entry.name}' needs the option '{key}': write {entry.name}:{key}=...")
    if "device" in parameters:
        options["device"] = device
    return factory(task, **entry.options, **options)


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def describe(entry: PredictorEntry) -> dict[str, Any]:
    """What ``mdbench show`` says of a predictor."""
    required = inspect.Parameter.empty
    options = [
        f"{name} (required)" if default is required else f"{name}={default}"
        for name, default in option_defaults(entry).items()
    ]
    doc = inspect.getdoc(entry.load()) or ""
    return {"summary": entry.summary, "factory": entry.target, "fixed": entry.options, "options": options, "doc": doc}
