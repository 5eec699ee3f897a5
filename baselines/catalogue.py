"""Names of posterior methods to their classes. Nothing is imported before it is used."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from mdbench.core.entries import Entry, check_options, given_options, named, with_plugins
from mdbench.core.errors import Unsupported, foreign

if TYPE_CHECKING:
    from mdbench.baselines import Baseline


GROUP = "mdbench.baselines"


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

        kind = super().load()
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            if not (isinstance(kind, type) and issubclass(kind, Baseline)):
                raise TypeError(f"'{self.target}' does not derive from mdbench.baselines.Baseline")
            if getattr(kind, "name", None) != self.name:
                raise TypeError(f"'{self.target}' has the name {getattr(kind, 'name', None)!r}")
        return kind


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
    return with_plugins(GROUP, BaselineEntry, BASELINES)


def build_baseline(text: str, **more: Any) -> Baseline[Any]:
    """The baseline that ``name`` or ``name:option=value,option=value`` means; ``more`` are further options.

    Raises:
        InputError: there is no such baseline, or it takes no such option, or an option cannot be that.
    """
    entry, rest = named(text, "baseline", baseline_entries())
    options = given_options(entry, rest)
    check_options(entry, options, baseline_options(entry))
    if entry.name in BASELINES:
        return cast("Baseline[Any]", entry.load()(**options, **more))
    with foreign(f"baseline {entry.source} cannot be built", Unsupported):
        return cast("Baseline[Any]", entry.load()(**options, **more))


def baseline_options(entry: BaselineEntry) -> dict[str, Any]:
    """Options with their defaults."""
    required = {MISSING: inspect.Parameter.empty}
    return {each.name: required.get(each.default, each.default) for each in entry.load().options()}


def describe_baseline(entry: BaselineEntry) -> dict[str, Any]:
    """What ``mdbench show`` says of it."""
    kind = entry.load()
    options = [
        f"{o.name}{' (required)' if o.default is MISSING else f'={o.default}'} ({o.metadata.get('about', '')})"
        for o in kind.options()
    ]
    return {
        "summary": entry.summary,
        "factory": entry.target,
        "standing": kind.standing,
        "options": options,
        "doc": inspect.getdoc(kind) or "",
    }
