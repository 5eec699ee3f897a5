"""Baselines: posterior methods, one a file.

Each is a function ``(task, contexts, *, lengths=None, progress=None, **options) -> Posterior`` of the same name as its
file. ``mdbench.registry`` knows them all by name; only the two exact ones are imported here.
"""

from mdbench.baselines.exact import exact
from mdbench.baselines.posterior import Check, Draws, Posterior
from mdbench.baselines.urn import urn

__all__ = ["Check", "Draws", "Posterior", "exact", "urn"]
