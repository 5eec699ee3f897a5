"""Baselines: posterior methods, one a file.

Each is a dataclass of its options with one method, ``posterior(task, contexts, lengths, progress) -> Posterior``; its
file is called as its ``name``. ``mdbench.registry`` knows them all; only the two exact ones are imported here.
"""

from mdbench.baselines.baseline import APPROXIMATE, EXACT, GATED, Baseline, option
from mdbench.baselines.exact import Exact
from mdbench.baselines.posterior import Check, Draws, Posterior
from mdbench.baselines.urn import Urn

__all__ = ["APPROXIMATE", "EXACT", "GATED", "Baseline", "Check", "Draws", "Exact", "Posterior", "Urn", "option"]
