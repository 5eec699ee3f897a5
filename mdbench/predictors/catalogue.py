"""Names of predictors to objects. Nothing is imported before it is used."""

from __future__ import annotations

import inspect
import os
import re
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from mdbench.baselines.catalogue import _BASELINES, BASELINES, baseline_entries, baseline_options
from mdbench.core.entries import Entry, check_options, given_options, named, with_plugins
from mdbench.core.errors import InputError, Unsupported, foreign
from mdbench.predictors.predictor import as_object
from mdbench.tasks import Task

GROUP = "mdbench.predictors"

PREDICTOR_FILE = re.compile(r"([^:]+\.py)(?::(.*))?", re.DOTALL)  # a file, and what is in it

_MD = "mdbench.predictors.mirror_descent:MirrorDescent"

_TRAINED = "mdbench.predictors.trained:Trained"

_ESTIMATORS = "mdbench.predictors.estimators"

_POSTERIOR_MEAN = "mdbench.predictors.reference:PosteriorMean"

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"  # a folder for each trained predictor


def _of_weights(folder: Path) -> str:
    kind, _, depth = folder.name.rpartition("_l")
    model = "standard" if kind == "standard" else "disentangled"
    preset = "" if kind in ("trained", "standard") else f" with the preset {kind.replace('_', '-')}"
    return f"{depth}-layer {model} transformer, trained{preset}; option seed"


_BUILT_IN = [
    Entry("bayes", _POSTERIOR_MEAN, "p at the exact posterior mean, by the urn", {"baseline": "urn"}),
    Entry("oracle", "mdbench.predictors.reference:Oracle", "told θ, the weights λ of a mixture; not ranked"),
    Entry("uniform", "mdbench.predictors.reference:Uniform", "θ at its prior mean, such as λ = 1/m: infers nothing"),
    Entry("md", _MD, "Mirror Descent; options steps and eta (tuned, theory, smooth or a number; `mdbench show md`)"),
    Entry("md1", _MD, "one step of Mirror Descent, tuned η", {"steps": 1}),
    Entry("md2", _MD, "two steps of Mirror Descent, tuned η", {"steps": 2}),
    Entry("md5", _MD, "five steps of Mirror Descent, tuned η", {"steps": 5}),
    Entry(
        "md1_adaptive",
        _MD,
        "one step of a size that each sequence decides, nothing tuned",
        {"steps": 1, "eta": "adaptive"},
    ),
    Entry(
        "md_learned",
        "mdbench.predictors.learned_steps:LearnedSteps",
        "Mirror Descent whose step sizes are meta-trained; options steps and sizes (evidence, step, position)",
    ),
    *(
        Entry(name, f"mdbench.predictors.counting:{target}", summary)
        for name, target, summary in (
            ("add_constant", "AddConstant", "counts after the last tokens plus c; options order and c (0.5: KT)"),
            ("back_off", "BackOff", "counts after the longest context seen, shorter ones as priors; options order, s"),
            ("ctw", "ContextTreeWeighting", "context-tree weighting, whatever the task; options depth, c and stop"),
            ("one_lag", "OneLag", "averages over one-hot weights: as if every sequence had a single lag"),
        )
    ),
    *(
        Entry(name, f"mdbench.predictors.fitted:{target}", f"of recorded sequences: {summary}")
        for name, target, summary in (
            ("fitted_mtd", "FittedMTD", "the MTD fitted to their training part, its weights too"),
            ("fitted_chain", "FittedChain", "a Markov chain fitted to it; options order (0: independence) and c"),
            ("fitted_ctw", "FittedTree", "context-tree weighting that learned from it; options depth, c and stop"),
        )
    ),
    Entry(
        "dirichlet",
        "mdbench.predictors.inferring:of_dirichlet",
        "for atoms, Bayes of the Dirichlet that they were drawn from; option predictor: another one for that",
    ),
    Entry(
        "plug_in",
        "mdbench.predictors.plug_in:PlugIn",
        "one step of Mirror Descent on counts in the place of the matrix; options rounds and c",
    ),
    Entry(
        "induction_head",
        "mdbench.predictors.induction:InductionHead",
        "two layers by explicit weights that copy what came after the last token; option beta",
    ),
    Entry("ep", f"{_ESTIMATORS}:ExpectationPropagation", "expectation propagation with Dirichlet sites"),
    Entry("adf", f"{_ESTIMATORS}:AssumedDensityFilter", "one pass that keeps a Dirichlet; option split, for small α"),
    *(
        Entry(name, f"{_ESTIMATORS}:Known", summary, {"algorithm": name})
        for name, summary in (
            ("tierney_kadane", "ratios of Laplace's evidences"),
            ("cvb0", "collapsed variational inference of zero order"),
        )
    ),
    Entry("em", f"{_ESTIMATORS}:MaximumLikelihood", "maximum likelihood, EM's limit"),
    Entry("quasi_bayes", f"{_ESTIMATORS}:Known", "one pass: λ += (γ - λ)/(mα + t)", {"algorithm": "quasi_bayes"}),
    *(
        Entry(name, f"{_ESTIMATORS}:Counting", f"{summary}; option c (alpha or a number)", {"algorithm": name})
        for name, summary in (
            ("dirichlet_em", "EM with c pseudo-counts a lag, to its limit"),
            ("soft_counts", "counts of responsibilities plus c"),
            ("hard_counts", "counts of the likeliest lags plus c"),
        )
    ),
    Entry(
        "constructed_l3",
        "mdbench.predictors.constructed:ConstructedL3",
        "the paper's three-layer construction, equal to md1; option eta as md",
    ),
    *(
        Entry(
            f"constructed_l{depth}",
            "mdbench.predictors.constructed:Constructed",
            f"{depth} layers by explicit weights: transitions reweighted, all scalars tuned",
            {"depth": depth},
        )
        for depth in (4, 5, 7)
    ),
    Entry(
        "constructed_l3_adaptive",
        "mdbench.predictors.constructed:ConstructedL3Adaptive",
        "three layers of our own: transitions weighted by their token, all tuned",
    ),
    *(
        Entry(folder.name, _TRAINED, _of_weights(folder), {"name": folder.name})
        for folder in sorted(SHIPPED_WEIGHTS.iterdir())
    ),
    Entry(
        "run",
        "mdbench.predictors.runs:run_folder",
        "run:FOLDER, a run of `mdbench train`; run:FOLDER@STEP, a snapshot of it",
    ),
    *(
        Entry(
            baseline.name, _POSTERIOR_MEAN, f"p at the posterior mean: {baseline.summary}", {"baseline": baseline.name}
        )
        for baseline in _BASELINES
    ),
]

BUILT_IN = {entry.name: entry for entry in _BUILT_IN}

TOLD = ("oracle",)  # θ


def is_built_in(text: str) -> bool:
    """Whether that names a built-in predictor, options aside."""
    return text.partition(":")[0] in BUILT_IN


@dataclass(frozen=True)
class FileEntry(Entry):
    """``path/to/file.py:function``: a factory if its first parameter is called ``task``, else the prediction itself."""

    distribution: str | None = None

    def load(self) -> Any:
        """Run the file and take the function."""
        there = self.attribute()
        if hasattr(there, "predict") and not isinstance(there, type):
            return lambda task: there  # noqa: ARG005
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            if not callable(there):
                raise TypeError(f"'{self.target.rpartition(':')[2]}' is {type(there).__name__}, not a function")
            if next(iter(inspect.signature(there).parameters), None) == "task":
                return there
            if isinstance(there, type):
                raise TypeError(f"the first parameter of the class '{there.__name__}' must be called task")
        from mdbench.predictors.predictor import FunctionPredictor  # numpy is not needed to list names

        return lambda task: FunctionPredictor(there)  # noqa: ARG005

    def attribute(self) -> Any:
        """Run the file and take what has that name.

        Raises:
            PredictorError: the file fails, or has no such name.
        """
        path, _, attribute = self.target.rpartition(":")
        spec = spec_from_file_location(f"mdbench_file_{Path(path).stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        beside = str(Path(path).resolve().parent)
        if beside not in sys.path:
            sys.path.append(beside)  # where its own imports are
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            spec.loader.exec_module(module)
            return getattr(module, attribute)


def of_file(text: str, kind: type[FileEntry] = FileEntry) -> tuple[FileEntry, str] | None:
    """The entry of ``FILE.py:name`` and what follows it; None of a text that is no such thing.

    Raises:
        InputError: no name is given, or there is no such file.
    """
    found = PREDICTOR_FILE.fullmatch(text)
    if found is None:
        return None
    path = found[1]
    attribute, _, rest = (found[2] or "").partition(":")
    if not attribute.isidentifier():
        raise InputError(f"name one function or class in the file: {path}:function, unlike '{text}'.")
    if not os.path.isfile(path):  # False for whatever cannot be a path
        raise InputError(f"there is no file '{path}' for the {kind.kind} '{text}'.")
    name = f"{path}:{attribute}"
    return kind(name, name, "from a file"), rest


def predictor_entries() -> dict[str, Entry]:
    """All predictors that can be named: every baseline is one too."""
    plugins = {name: entry for name, entry in baseline_entries().items() if name not in BASELINES}
    as_predictors = {
        name: Entry(name, _POSTERIOR_MEAN, entry.summary, {"baseline": name}, entry.distribution)
        for name, entry in plugins.items()
    }
    return as_predictors | with_plugins(GROUP, Entry, BUILT_IN)


def option_defaults(entry: Entry) -> dict[str, Any]:
    """Options that a person may give, with their defaults (``inspect.Parameter.empty``: must be given)."""
    if "baseline" in entry.options:
        return baseline_options(baseline_entries()[entry.options["baseline"]])
    parameters = list(inspect.signature(entry.load()).parameters.values())[1:]  # the first is the task
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default for p in named if p.name != "device" and p.name not in entry.options}


@dataclass(frozen=True)
class Identity:
    """What a predictor's text means: the entry and all options. ``label`` leaves out those that are the default."""

    entry: Entry
    options: dict[str, Any]
    label: str


def known_defaults(text: str) -> dict[str, Any]:
    """Of the options of a predictor that may be left out; it is imported for that."""
    return _not_required(option_defaults(parse_name(text)[0]))


def _not_required(known: dict[str, Any]) -> dict[str, Any]:
    """Whatever is no plain value, such as a path, by its text: that is what a person types in its place."""
    plain = (str, int, float, type(None))
    given = {name: default for name, default in known.items() if default is not inspect.Parameter.empty}
    return {name: default if isinstance(default, plain) else str(default) for name, default in given.items()}


def row_identity(text: str, defaults: dict[str, Any] | None = None) -> Identity:
    """The same for every way to write the same predictor: which row of a board it is.

    Nothing is imported where its ``known_defaults`` are given.
    """
    entry, given = parse_name(text)
    if entry.name == "run":
        return Identity(entry, given, text)
    if defaults is None:
        known = option_defaults(entry)
        if entry.name in BUILT_IN:
            check_options(entry, given, known)
        defaults = _not_required(known)
    changed = {k: v for k, v in given.items() if k not in defaults or defaults[k] != v}
    written = ",".join(f"{k}={v}" for k, v in sorted(changed.items()))
    options = dict(sorted((entry.options | defaults | given).items()))
    return Identity(entry, options, f"{entry.name}:{written}" if written else entry.name)


def build_predictor(text: str, task: Any, device: str = "cpu") -> Any:
    """Build a named predictor for a task; ``device`` goes to those factories that take one."""
    entry, options = parse_name(text)
    factory = entry.load()
    known, parameters = option_defaults(entry), inspect.signature(factory).parameters
    if entry.name in BUILT_IN or not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_options(entry, options, known)
    if "device" in parameters:
        options["device"] = device
    from mdbench.tasks.needs import check_fits

    check_fits(entry.name, factory, task)
    if entry.name in BUILT_IN:
        return factory(task, **entry.options, **options)
    with foreign(f"predictor {entry.source} cannot be built", Unsupported):
        return factory(task, **entry.options, **options)


def parse_name(text: str) -> tuple[Entry, dict[str, Any]]:
    """The entry and the options in a name.

    It is ``name``, ``name:option=value,option=value``, ``FILE.py:function``, ``FILE.py:Class:option=value`` or
    ``run:FOLDER``.
    """
    if file := of_file(text):
        return file[0], given_options(*file)
    entry, rest = named(text, "predictor", predictor_entries())
    return entry, {"path": rest} if entry.name == "run" else given_options(entry, rest)


def as_predictor(given: Any, task: Task, device: str = "cpu") -> Any:
    """The predictor of that name built for a task, or what was given in its place (:func:`as_object`)."""
    return build_predictor(given, task, device) if isinstance(given, str) else as_object(given)


def describe_predictor(entry: Entry) -> dict[str, Any]:
    """What ``mdbench show`` says of it."""
    factory, required = entry.load(), inspect.Parameter.empty
    known = option_defaults(entry).items()
    return {
        "summary": entry.summary,
        "factory": entry.target,
        "fixed": entry.options,
        "options": [f"{name} (required)" if d is required else f"{name}={d}" for name, d in known],
        "doc": inspect.getdoc(factory) or "",
    }
