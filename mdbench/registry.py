"""Names of predictors and baselines to objects. Nothing is imported before it is used."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from mdbench.errors import InputError, Unsupported, foreign, origin, unknown_name, warn_once

if TYPE_CHECKING:
    from mdbench.baselines import Baseline

GROUP = "mdbench.predictors"
PREDICTOR_FILE = re.compile(r"([^:]+\.py)(?::(.*))?", re.DOTALL)  # a file, and what is in it


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


_E = TypeVar("_E", bound=Entry)


# ------------------------------------------------------------------------------------------------------ baselines

BASELINE_GROUP = "mdbench.baselines"


@dataclass(frozen=True)
class BaselineEntry(Entry):
    """A posterior method: a class that derives from :class:`mdbench.baselines.Baseline`."""

    kind: ClassVar[str] = "baseline"

    def load(self) -> Any:
        """Import it.

        Raises:
            PredictorError: that fails, or it is no baseline of that name.
        """
        from mdbench.baselines import Baseline

        found = super().load()
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            if not (isinstance(found, type) and issubclass(found, Baseline)):
                raise TypeError(f"'{self.target}' does not derive from mdbench.baselines.Baseline")
            if getattr(found, "name", None) != self.name:
                raise TypeError(f"'{self.target}' has the name {getattr(found, 'name', None)!r}")
        return found


def _baseline(name: str, attribute: str, summary: str) -> BaselineEntry:
    return BaselineEntry(name, f"mdbench.baselines.{name}:{attribute}", summary)


_BASELINES = [
    _baseline("exact", "Exact", "exact, by Gauss-Jacobi quadrature: the gold"),
    _baseline("urn", "Urn", "exact, by a Pólya-urn filter; its draws are independent"),
    _baseline("reference", "Reference", "importance sampling with a standard error, for orders up to 16; gated"),
    _baseline("nuts", "NUTS", "NUTS (NumPyro), for any model, the lags summed out; gated"),
    _baseline("gibbs", "Gibbs", "Gibbs sampling of lags and weights; gated"),
    _baseline("pyro_nuts", "PyroNUTS", "NUTS by Pyro on torch: the second opinion on nuts; gated"),
    _baseline("vi_dirichlet", "VIDirichlet", "variational inference, Dirichlet guide (NumPyro); approximate"),
    _baseline(
        "vi_logistic_normal",
        "VILogisticNormal",
        "variational inference for any model, full-rank logistic normal guide (NumPyro); approximate",
    ),
    _baseline("laplace", "Laplace", "a normal at the mode in softmax coordinates; approximate"),
    _baseline("pyro_svi", "PyroSVI", "variational inference by Pyro: the second opinion on vi_dirichlet; approximate"),
]
BASELINES = {entry.name: entry for entry in _BASELINES}


def baseline_entries() -> dict[str, BaselineEntry]:
    """All baselines that can be named."""
    return _with_plugins(BASELINE_GROUP, BaselineEntry, BASELINES)


def build_baseline(text: str, **more: Any) -> Baseline[Any]:
    """The baseline that ``name`` or ``name:option=value,option=value`` means; ``more`` are further options.

    Raises:
        InputError: there is no such baseline, or it takes no such option, or an option cannot be that.
    """
    entry, options = _parse(text, "baseline", baseline_entries())
    _check_options("baseline", entry, options, baseline_options(entry))
    if entry.name in BASELINES:
        return cast("Baseline[Any]", entry.load()(**options, **more))
    with foreign(f"baseline {entry.source} cannot be built", Unsupported):
        return cast("Baseline[Any]", entry.load()(**options, **more))


def baseline_options(entry: BaselineEntry) -> dict[str, Any]:
    """Options with their defaults."""
    required = {MISSING: inspect.Parameter.empty}
    return {each.name: required.get(each.default, each.default) for each in entry.load().options()}


# ----------------------------------------------------------------------------------------------------- predictors

_MD = "mdbench.predictors.mirror_descent:MirrorDescent"
_TRAINED = "mdbench.predictors.trained:Trained"
_ESTIMATORS = "mdbench.predictors.estimators"
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
    """All predictors that can be named: every baseline is one too."""
    plugins = {name: entry for name, entry in baseline_entries().items() if name not in BASELINES}
    as_predictors = {
        name: Entry(name, _POSTERIOR_MEAN, entry.summary, {"baseline": name}, entry.distribution)
        for name, entry in plugins.items()
    }
    return as_predictors | _with_plugins(GROUP, Entry, BUILT_IN)


def _with_plugins(group: str, kind: type[_E], built_in: Mapping[str, _E]) -> dict[str, _E]:
    """Entry points and what is built in, which wins over an entry point of the same name, with a warning."""
    found: dict[str, _E] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.dist.name if p.dist else "")):
        source = origin(point)
        entry = kind(point.name, point.value, source, distribution=point.dist.name if point.dist else None)
        if ":" in point.name:
            warn_once(f"'{point.name}' {source} is not used: a name with a colon cannot be asked for.")
        elif point.name in built_in:
            warn_once(f"'{point.name}' {source} is not used: a built-in {kind.kind} has that name.")
        elif point.name not in found:
            found[point.name] = entry
        elif found[point.name] != entry:
            warn_once(f"'{point.name}' {source} is not used: that name is taken, {found[point.name].summary}.")
    return found | dict(built_in)


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
    return _not_required(option_defaults(_parse(text, "predictor", predictor_entries())[0]))


def _not_required(known: dict[str, Any]) -> dict[str, Any]:
    return {name: default for name, default in known.items() if default is not inspect.Parameter.empty}


def row_identity(text: str, defaults: dict[str, Any] | None = None) -> Identity:
    """The same for every way to write the same predictor: which row of a board it is.

    Nothing is imported where its ``known_defaults`` are given.
    """
    entry, given = _parse(text, "predictor", predictor_entries())
    if entry.name == "run":
        return Identity(entry, given, text)
    if defaults is None:
        known = option_defaults(entry)
        if entry.name in BUILT_IN:
            _check_options("predictor", entry, given, known)
        defaults = _not_required(known)
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
    from mdbench.tasks.needs import check_fits

    check_fits(entry.name, factory, task)
    if entry.name in BUILT_IN:
        return factory(task, **entry.options, **options)
    with foreign(f"predictor {entry.source} cannot be built", Unsupported):
        return factory(task, **entry.options, **options)


# --------------------------------------------------------------------------------------------------- names, options


def _parse(text: str, kind: str, entries: Mapping[str, _E]) -> tuple[_E, dict[str, Any]]:
    """``name``, ``name:option=value,option=value`` or ``run:FOLDER`` to the entry and the options given there."""
    if kind == "predictor" and (file := PREDICTOR_FILE.fullmatch(text)):
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
        options[key.strip()] = literal(value.strip())
    return entries[name], options


def _check_options(kind: str, entry: Entry, options: dict[str, Any], known: dict[str, Any]) -> None:
    for key in options.keys() - known.keys():
        if not known:
            raise InputError(f"{kind} '{entry.name}' takes no options, so not '{key}'.")
        raise InputError(f"{kind} '{entry.name}': {unknown_name('option', key, known)}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in options:
            raise InputError(f"{kind} '{entry.name}' needs the option '{key}': write {entry.name}:{key}=...")


def literal(value: str) -> Any:
    """What an option's text means: a number, True, False, None, or the text itself.

    Raises:
        InputError: it is anything else that Python can write, or too large a number.
    """
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = value
    plain = found is None or isinstance(found, (bool, int, float)) or found == value
    if not plain or (isinstance(found, int) and abs(found) >= 2**63):
        raise InputError(f"an option is a number, True, False, None or a word, not {value[:50]}.")
    return found


def describe(entry: Entry) -> dict[str, Any]:
    """What ``mdbench show`` says of a predictor or a baseline."""
    found = entry.load()
    if isinstance(entry, BaselineEntry):
        more: dict[str, Any] = {"standing": found.standing}
        options = [
            f"{o.name}{' (required)' if o.default is MISSING else f'={o.default}'} ({o.metadata.get('about', '')})"
            for o in found.options()
        ]
    else:
        known, more = option_defaults(entry), {"fixed": entry.options}
        required = inspect.Parameter.empty
        options = [f"{name} (required)" if d is required else f"{name}={d}" for name, d in known.items()]
    doc = inspect.getdoc(found) or ""
    return {"summary": entry.summary, "factory": entry.target, **more, "options": options, "doc": doc}
