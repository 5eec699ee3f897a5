"""One transition matrix for each lag, and perhaps a component that looks at nothing: the MTDg of Berchtold (1996)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks.mixture import DirichletLagMixture
from mdbench.tasks.task import LENGTHS, Real, Rows, Whole, check_concentration, check_row, check_transition


@dataclass(frozen=True, eq=False, init=False)
class PerLag(DirichletLagMixture):
    """As the MTD, but lag g has a matrix π_g of its own: y_t ~ π_{z_t}(y_{t - z_t}, ·).

    Attributes:
        transitions: (m, q, q), that of lag 1 first.
        concentration: α > 0 of the symmetric Dirichlet prior on the weights.
        independent: (q,) distribution of one more component, which looks at nothing; None for none.
    """

    name: str
    transitions: Float[np.ndarray, "m q q"]
    concentration: float = 1.0
    independent: Float[np.ndarray, " q"] | None = None
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "per_lag"
    kind: ClassVar[str] = "a mixture with one transition matrix per lag"

    def __init__(
        self,
        name: str,
        transitions: Rows,
        concentration: Real = 1.0,
        independent: Rows | None = None,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        if not isinstance(transitions, (list, tuple, np.ndarray)) or not len(transitions):
            raise InputError("transitions must be a list of matrices, that of lag 1 first.")
        matrices = [check_transition(each, f"the matrix of lag {g}") for g, each in enumerate(transitions, 1)]
        for g, matrix in enumerate(matrices, start=1):
            if len(matrix) != len(matrices[0]):
                q = len(matrices[0])
                raise InputError(f"the matrix of lag {g} has {len(matrix)} states, but that of lag 1 has {q}.")
        stacked = np.stack(matrices)
        stacked.setflags(write=False)
        alone = None if independent is None else _distribution(independent, stacked.shape[-1])
        alpha = check_concentration(concentration)
        self.settle(name, lengths, version, transitions=stacked, concentration=alpha, independent=alone)

    @property
    def order(self) -> int:  # type: ignore[override]
        """m, the number of lags."""
        return len(self.transitions)

    @property
    def matrices(self) -> Float[Any, "m q q"]:
        """One for each lag."""
        return self.transitions

    def relabelled(self, order: Int[np.ndarray, " q"]) -> PerLag:
        """New state k is the old state ``order[k]``."""
        independent = None if self.independent is None else self.independent[order]
        transitions = self.transitions[:, order][:, :, order]
        return type(self)("relabelled", transitions, self.concentration, independent)


def _distribution(values: Any, q: int) -> Float[np.ndarray, " q"]:
    try:
        row = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"independent must be {q} numbers.") from None
    if row.shape != (q,):
        raise InputError(f"independent must be {q} numbers, one for each state, not of shape {row.shape}.")
    check_row(row, "independent")
    row.setflags(write=False)
    return row
