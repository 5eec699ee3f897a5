"""Names of predictors and baselines to objects. Nothing is imported before it is used."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast, get_args

from mdbench.errors import InputError, Unsupported, foreign, unknown_name, warn_once

GROUP = "mdbench.predictors"


@dataclass(frozen=True)
class Entry:
    """Where something stands, what it is in one line, and the options that the name already fixes."""

    name: str
    target: str  # "module:attribute"
    summary: str
    options: dict[str, Any] = field(default_factory=dict)
    distribution: str | None = "mdbench"
    kind: ClassVar[str] = "predictor"

    @property
    def version(self) -> str | None:
        """Of its distribution; None where it has none."""
        return None if self.distribution is None else version(self.distribution)

    @property
    def source(self) -> str:
        """Where it comes from, as messages have it."""
        return f"'{self.name}'" if self.distribution == "mdbench" else f"'{self.name}' ({self.summary})"

    def load(self) -> Any:
        """Import it.

        Raises:
            PredictorError: that fails, in whatever way.
        """
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            found = EntryPoint(self.name, self.target, GROUP).load()
            if not callable(found):
                raise TypeError(f"its entry point '{self.target}' is {type(found).__name__}, not a factory")
            inspect.signature(found)
        return found


# ------------------------------------------------------------------------------------------------------ baselines

EXACT, GATED, APPROXIMATE = "exact", "gated", "approximate"


@dataclass(frozen=True)
class BaselineEntry(Entry):
    """A posterior method, and how far it can be trusted.

    ``standing`` is ``exact``, ``gated`` (gold where every sequence passes its gates) or ``approximate`` (never gold).
    """

    standing: str = APPROXIMATE
    kind: ClassVar[str] = "baseline"


def _baseline(name: str, standing: str, summary: str) -> BaselineEntry:
    return BaselineEntry(name, f"mdbench.baselines.{name}:{name}", summary, standing=standing)


_BASELINES = [
    _baseline("exact", EXACT, "exact, by Gauss-Jacobi quadrature: the gold"),
    _baseline("urn", EXACT, "exact, by a Pólya-urn filter; its draws are independent"),
    _baseline("reference", GATED, "importance sampling with a standard error, for orders up to 16"),
    _baseline("nuts", GATED, "NUTS (NumPyro), the lags summed out"),
    _baseline("gibbs", GATED, "Gibbs sampling of lags and weights"),
    _baseline("pyro_nuts", GATED, "NUTS by Pyro on torch: the second opinion on nuts"),
    _baseline("vi_dirichlet", APPROXIMATE, "variational inference, Dirichlet guide (NumPyro)"),
    _baseline("vi_logistic_normal", APPROXIMATE, "variational inference, full-rank logistic normal guide (NumPyro)"),
    _baseline("laplace", APPROXIMATE, "a normal at the mode in softmax coordinates"),
    _baseline("pyro_svi", APPROXIMATE, "variational inference by Pyro: the second opinion on vi_dirichlet"),
]
BASELINES = {entry.name: entry for entry in _BASELINES}


@dataclass(frozen=True)
class Baseline:
    """A baseline with the options that somebody chose; ``(task, contexts, lengths=, progress=) -> Posterior``."""

    entry: BaselineEntry
    options: dict[str, Any]

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return self.entry.load()

    def __call__(self, task: Any, contexts: Any, **arguments: Any) -> Any:
        return self.function(task, contexts, **arguments, **self.options)

    @property
    def has_draws(self) -> bool:
        """Whether its posterior comes with draws, by the options chosen."""
        return (baseline_options(self.entry) | self.options).get("draws", 0) > 0

    def is_closed_form(self, task: Any) -> bool:
        """Whether the task's own closed form takes its place: exact is exact, by whatever route."""
        from mdbench.tasks import ClosedForm

        return self.entry.standing == EXACT and isinstance(task, ClosedForm)

    def next_token(self, task: Any, contexts: Any) -> Any:
        """p_B(· | y) of whole contexts, (B, q): by the task's closed form, or at what the baseline finds."""
        if self.is_closed_form(task):
            return task.predictive(contexts, [contexts.shape[1]]).probs[:, 0]
        return self(task, contexts).predictive(task, contexts).probs[:, 0]

    def check_fits(self, task: Any) -> None:
        """Raise :class:`Unsupported` for a task that it is not made for."""
        if not self.is_closed_form(task):
            check_fits(self.entry.name, self.function, task)

    def check_size(self, task: Any, length: int) -> None:
        """Likewise, and :class:`InputError` for a length of it that it refuses."""
        self.check_fits(task)
        if self.is_closed_form(task):
            return
        check = getattr(sys.modules[self.function.__module__], "check_size", None)
        if check:
            check(length - task.given, getattr(task, "n_components", task.prior_mean.size))

    @property
    def label(self) -> str:
        """The name with its options, in the form that :func:`build_baseline` takes."""
        options = ",".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return f"{self.entry.name}:{options}" if options else self.entry.name


def build_baseline(text: str, **more: Any) -> Baseline:
    """The baseline that ``name`` or ``name:option=value,option=value`` means; ``more`` are further options.

    Raises:
        InputError: there is no such baseline, or it takes no such option.
    """
    entry, options = _parse(text, "baseline", BASELINES)
    options |= more
    _check_options("baseline", entry, options, baseline_options(entry))
    return Baseline(entry, options)


def baseline_options(entry: BaselineEntry) -> dict[str, Any]:
    """Options with their defaults: what else a caller may choose is not for a name to set."""
    parameters = list(inspect.signature(entry.load()).parameters.values())[2:]  # after task and contexts
    return {p.name: p.default for p in parameters if p.name not in ("lengths", "progress", "tolerance")}


# ----------------------------------------------------------------------------------------------------- predictors

_MD = "mdbench.predictors.mirror_descent:MirrorDescent"
_TRAINED = "mdbench.predictors.trained:Trained"
_POSTERIOR_MEAN = "mdbench.predictors.reference:PosteriorMean"
SHIPPED_WEIGHTS = Path(__file__).parent / "predictors" / "weights"  # a folder for each trained predictor


def _of_weights(folder: Path) -> str:
    kind, _, depth = folder.name.rpartition("_l")
    model = "standard" if kind == "standard" else "disentangled"
    preset = "" if kind in ("trained", "standard") else f" with the preset {kind.replace('_', '-')}"
    return f"{depth}-layer {model} transformer, trained{preset}; option seed"


_BUILT_IN = [
    Entry("bayes", _POSTERIOR_MEAN, "p at the exact posterior mean, by the urn", {"baseline": "urn"}),
    Entry("oracle", "mdbench.predictors.reference:Oracle", "told θ, the weights λ of a mixture; not ranked"),
    Entry("uniform", "mdbench.predictors.reference:Uniform", "θ at its prior mean, such as λ = 1/m: infers nothing"),
    Entry("md", _MD, "Mirror Descent; options steps and eta (tuned, theory, smooth or a number)"),
    Entry("md1", _MD, "one step of Mirror Descent, tuned η", {"steps": 1}),
    Entry("md2", _MD, "two steps of Mirror Descent, tuned η", {"steps": 2}),
    Entry("md5", _MD, "five steps of Mirror Descent, tuned η", {"steps": 5}),
    Entry("em", "mdbench.predictors.maximum_likelihood:MaximumLikelihood", "maximum likelihood, EM's limit"),
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
    *(
        Entry(folder.name, _TRAINED, _of_weights(folder), {"name": folder.name})
        for folder in sorted(SHIPPED_WEIGHTS.iterdir())
    ),
    Entry("run", "mdbench.predictors.trained:run_folder", "run:FOLDER, a run of `mdbench train`"),
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
            found = getattr(module, attribute)
            if hasattr(found, "predict") and not isinstance(found, type):
                return lambda task: found  # noqa: ARG005
            if not callable(found):
                raise TypeError(f"'{attribute}' is {type(found).__name__}, not a function")
            if next(iter(inspect.signature(found).parameters), None) == "task":
                return found
            if isinstance(found, type):
                raise TypeError(f"the first parameter of the class '{attribute}' must be called task")
        from mdbench.predictor import FunctionPredictor  # numpy is not needed to list names

        return lambda task: FunctionPredictor(found)  # noqa: ARG005


def predictor_entries() -> dict[str, Entry]:
    """All predictors that can be named; a built-in wins over an entry point of the same name, with a warning."""
    found: dict[str, Entry] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.dist.name if p.dist else "")):
        source = f"from {point.dist.name} {point.dist.version}" if point.dist else "from an entry point"
        entry = Entry(point.name, point.value, source, distribution=point.dist.name if point.dist else None)
        if ":" in point.name:
            warn_once(f"'{point.name}' {source} is not used: a name with a colon cannot be asked for.")
        elif point.name in BUILT_IN:
            warn_once(f"'{point.name}' {source} is not used: a built-in predictor has that name.")
        elif point.name not in found:
            found[point.name] = entry
        elif found[point.name] != entry:
            warn_once(f"'{point.name}' {source} is not used: that name is taken, {found[point.name].summary}.")
    return found | BUILT_IN


def option_defaults(entry: Entry) -> dict[str, Any]:
    """Options that a person may give, with their defaults (``inspect.Parameter.empty``: must be given)."""
    if "baseline" in entry.options:
        return baseline_options(BASELINES[entry.options["baseline"]])
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
    defaults = option_defaults(_parse(text, "predictor", predictor_entries())[0])
    return {k: v for k, v in defaults.items() if v is not inspect.Parameter.empty}


def row_identity(text: str, defaults: dict[str, Any] | None = None) -> Identity:
    """The same for every way to write the same predictor: which row of a board it is.

    Nothing is imported where its ``known_defaults`` are given.
    """
    entry, given = _parse(text, "predictor", predictor_entries())
    if entry.name == "run":
        return Identity(entry, given, text)
    defaults = known_defaults(text) if defaults is None else defaults
    changed = {k: v for k, v in given.items() if k not in defaults or defaults[k] != v}
    written = ",".join(f"{k}={v}" for k, v in sorted(changed.items()))
    options = dict(sorted((entry.options | defaults | given).items()))
    return Identity(entry, options, f"{entry.name}:{written}" if written else entry.name)


def build_predictor(text: str, task: Any, device: str = "cpu") -> Any:
    """Build a named predictor for a task; ``device`` goes to those factories that take one."""
    entry, options = _parse(text, "predictor", predictor_entries())
    factory = entry.load()
    known, parameters = option_defaults(entry), inspect.signature(factory).parameters
    if entry.name in BUILT_IN or not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _check_options("predictor", entry, options, known)
    if "device" in parameters:
        options["device"] = device
    check_fits(entry.name, factory, task)
    if entry.name in BUILT_IN:
        return factory(task, **entry.options, **options)
    with foreign(f"predictor {entry.source} cannot be built", Unsupported):
        return factory(task, **entry.options, **options)


# ---------------------------------------------------------------------------------------------- what may run where


def needs(factory: Callable[..., Any]) -> Any:
    """The class of tasks that the first parameter of a factory or a baseline is annotated with; None: any task."""
    from mdbench.tasks import Task

    annotation = next(iter(inspect.signature(factory).parameters.values())).annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[factory.__module__]))  # its own module's words
        except Exception:  # names for the type checker alone
            return None
    classes = get_args(annotation) or (annotation,)
    return annotation if all(isinstance(c, type) and issubclass(c, Task) for c in classes) else None


def check_fits(name: str, factory: Callable[..., Any], task: Any) -> None:
    """Raise :class:`Unsupported` unless the task is one that the factory or baseline is annotated with."""
    wanted = needs(factory)
    if wanted is not None and not isinstance(task, wanted):
        kinds = " or ".join(c.kind for c in get_args(wanted) or (wanted,))
        raise Unsupported(f"'{name}' needs {kinds}; '{task.name}' is {task.kind}.", label="other tasks")


# --------------------------------------------------------------------------------------------------- names, options

_E = TypeVar("_E", bound=Entry)


def _parse(text: str, kind: str, entries: Mapping[str, _E]) -> tuple[_E, dict[str, Any]]:
    """``name``, ``name:option=value,option=value`` or ``run:FOLDER`` to the entry and the options given there."""
    if kind == "predictor" and (file := re.fullmatch(r"(.+\.py)(?::(.*))?", text)):
        path, attribute = file.groups()
        if not (attribute or "").isidentifier():
            raise InputError(f"name one function in the file, and no options: {path}:function, unlike '{text}'.")
        if not Path(path).is_file():
            raise InputError(f"there is no file '{path}' for the predictor '{text}'.")
        return cast(_E, FileEntry(text, text, "from a file")), {}
    name, _, rest = text.partition(":")
    if name not in entries:
        raise unknown_name(kind, name, entries)
    if name == "run":
        return entries[name], {"path": rest}
    options = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"{kind} '{text}': write options as {name}:option=value, not '{item}'.")
        if key.strip() in options:
            raise InputError(f"{kind} '{text}': option '{key.strip()}' is given twice.")
        options[key.strip()] = _literal(value.strip())
    return entries[name], options


def _check_options(kind: str, entry: Entry, options: dict[str, Any], known: dict[str, Any]) -> None:
    for key in options.keys() - known.keys():
        if not known:
            raise InputError(f"{kind} '{entry.name}' takes no options, so not '{key}'.")
        raise InputError(f"{kind} '{entry.name}': {unknown_name('option', key, known)}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in options:
            raise InputError(f"{kind} '{entry.name}' needs the option '{key}': write {entry.name}:{key}=...")


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def describe(entry: Entry) -> dict[str, Any]:
    """What ``mdbench show`` says of a predictor or a baseline."""
    if isinstance(entry, BaselineEntry):
        known = baseline_options(entry)
        more: dict[str, Any] = {"standing": entry.standing}
    else:
        known, more = option_defaults(entry), {"fixed": entry.options}
    required = inspect.Parameter.empty
    options = [f"{name} (required)" if default is required else f"{name}={default}" for name, default in known.items()]
    doc = inspect.getdoc(entry.load()) or ""
    return {"summary": entry.summary, "factory": entry.target, **more, "options": options, "doc": doc}
