"""Baselines: posterior methods, one a file. Each is a function (task, contexts, *, lengths=None) -> Posterior."""

from mdbench.baselines.exact import exact
from mdbench.baselines.posterior import Posterior
from mdbench.baselines.urn import urn

__all__ = ["Posterior", "exact", "urn"]
