"""For atoms that were drawn once: what infers weights in context, and remembers none."""

from __future__ import annotations

from typing import Any

from mdbench.core.errors import InputError
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import Atoms, built_in_like


def of_dirichlet(task: Atoms, predictor: str = "bayes", device: str = "cpu") -> Any:
    """The predictor of that name, built for the Dirichlet that the task's atoms were drawn from.

    Raises:
        Unsupported: they were not drawn from one, or it cannot be built for that.
    """
    if not isinstance(predictor, str):
        raise InputError(f"predictor must be the name of one, not {predictor!r}.")
    whole = task.dirichlet
    return build_predictor(predictor, built_in_like(whole) or whole, device)
