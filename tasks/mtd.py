r"""The mixture of transition distributions (MTD), which is what the paper is about: all lags share one matrix π.

λ ~ Dirichlet(α, .., α),   y_1..y_m ~ Uniform,   z_t ~ Categorical(λ),   y_t ~ π(y_{t - z_t}, ·)   for t > m
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.tasks.mixture import DirichletLagMixture, SharedMatrix
from mdbench.tasks.task import LENGTHS, Real, Rows, Whole, check_concentration, check_order, check_transition


@dataclass(frozen=True, eq=False, init=False)
class MTD(SharedMatrix, DirichletLagMixture):
    """A mixture of transition distributions (MTD) with known transition matrix and unknown mixture weights.

    Attributes:
        transition: π, shape (q, q), row-stochastic; ``transition[a, b]`` is P(b after a).
        order: m, the number of lags, at least 1.
        concentration: α > 0 of the symmetric Dirichlet prior on the weights λ.
    """

    name: str
    transition: Float[np.ndarray, "q q"]
    order: int
    concentration: float = 1.0
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "mtd"
    kind: ClassVar[str] = "a mixture of transition distributions (MTD)"
    references: ClassVar[tuple[str, ...]] = ("bayes", "md1", "constructed_l3", "uniform")

    def __init__(
        self,
        name: str,
        transition: Rows,
        order: Whole,
        concentration: Real = 1.0,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        matrix = check_transition(transition)
        check_order(order)
        alpha = check_concentration(concentration)
        self.settle(name, lengths, version, transition=matrix, order=int(order), concentration=alpha)

    def relabelled(self, order: Int[np.ndarray, " q"]) -> MTD:
        """New state k is the old state ``order[k]``."""
        return type(self)("relabelled", self.transition[np.ix_(order, order)], self.order, self.concentration)


def mtd_model(task: DirichletLagMixture, tokens: Any = None, length: int | None = None) -> None:
    """NumPyro model of one sequence with z summed out: :meth:`DirichletLagMixture.model`."""
    task.model(tokens, length)


def mtd_lags(task: DirichletLagMixture, tokens: Any = None, length: int | None = None) -> None:
    """NumPyro model of one sequence with explicit lags: :meth:`DirichletLagMixture.lags`."""
    task.lags(tokens, length)
