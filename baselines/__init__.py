"""Posterior methods: for some sequences of a task, the posterior of θ.

Each is a dataclass of its options with one method, ``posterior(task, contexts, lengths, progress) -> Posterior``; its
file is called as its ``name``. :mod:`mdbench.baselines.catalogue` knows them all, and imports none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdbench.baselines.baseline import APPROXIMATE, EXACT, GATED, Baseline, option
    from mdbench.baselines.exact import Exact
    from mdbench.baselines.posterior import Draws, Gate, Posterior
    from mdbench.baselines.urn import Urn

_HOMES = {
    "baseline": ("APPROXIMATE", "EXACT", "GATED", "Baseline", "option"),
    "exact": ("Exact",),
    "posterior": ("Draws", "Gate", "Posterior"),
    "urn": ("Urn",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["APPROXIMATE", "EXACT", "GATED", "Baseline", "Draws", "Exact", "Gate", "Posterior", "Urn", "option"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mdbench.baselines' has no attribute '{name}'")
    return getattr(import_module(f"mdbench.baselines.{_HOME_OF[name]}"), name)
