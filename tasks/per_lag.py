"""One transition matrix for each lag, and perhaps a component that looks at nothing: the MTDg of Berchtold (1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from mdbench.errors import InputError
from mdbench.tasks.mixture import LagMixture
from mdbench.tasks.task import check_concentration, check_row, check_transition


@dataclass(frozen=True, eq=False)
class PerLag(LagMixture):
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
    lengths: tuple[int, ...] = (16, 32, 64, 128)
    version: int = 1

    family: ClassVar[str] = "per_lag"
    kind: ClassVar[str] = "a mixture with one transition matrix per lag"

    def __post_init__(self) -> None:
        if not isinstance(self.transitions, (list, tuple, np.ndarray)) or not len(self.transitions):
            raise InputError("transitions must be a list of matrices, that of lag 1 first.")
        matrices = [check_transition(each, f"the matrix of lag {g}") for g, each in enumerate(self.transitions, 1)]
        for g, matrix in enumerate(matrices, start=1):
            if len(matrix) != len(matrices[0]):
                q = len(matrices[0])
                raise InputError(f"the matrix of lag {g} has {len(matrix)} states, but that of lag 1 has {q}.")
        transitions = np.stack(matrices)
        transitions.setflags(write=False)
        object.__setattr__(self, "transitions", transitions)
        if self.independent is not None:
            object.__setattr__(self, "independent", _distribution(self.independent, transitions.shape[-1]))
        object.__setattr__(self, "concentration", check_concentration(self.concentration))
        self.check_labels()

    @property
    def order(self) -> int:  # type: ignore[override]
        """m, the number of lags."""
        return len(self.transitions)

    @property
    def matrices(self) -> Float[np.ndarray, "m q q"]:
        """One for each lag."""
        return self.transitions

    def relabelled(self, order: Int[np.ndarray, " q"]) -> Self:
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
