r"""The mixture of transition distributions whose matrix is unknown too: both are drawn anew for each sequence.

    λ ~ Dirichlet(α, .., α),   π(a, ·) ~ Dirichlet(β, .., β) for each state a,
    y_1..y_m ~ Uniform,   z_t ~ Categorical(λ),   y_t ~ π(y_{t - z_t}, ·)   for t > m

| symbol | site         | shape (one sequence) |
|--------|--------------|----------------------|
| λ      | `weights`    | (m,)                 |
| π      | `matrix`     | (q, q)               |
| (λ, π) | `parameters` | (m + q²,): θ, the weights and then the matrix, row by row |
| y_1..m | `initial`    | (m,)                 |
| z_t    | `lag`        | (T - m,)             |
| y_t    | `token`      | (T - m,)             |

Given the lags z both are Dirichlet, but the sum over z has m^(T-m) terms and no closed form: gold is sampled, by Gibbs
(:mod:`mdbench.baselines.gibbs`), each sequence passing its gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks.mixture import tokens_before
from mdbench.tasks.mtd import MTD
from mdbench.tasks.task import LENGTHS, Real, Task, Whole, check_concentration, check_order, is_whole

MOST_STATES = 100  # θ has q² numbers and more


@dataclass(frozen=True, eq=False, init=False)
class UnknownMatrix(Task):
    """A mixture of transition distributions with unknown weights and unknown transition matrix.

    Attributes:
        n_states: q, at least 2.
        order: m, the number of lags, at least 2.
        concentration: α > 0 of the symmetric Dirichlet prior on the weights λ.
        row_concentration: β > 0 of the symmetric Dirichlet prior on every row of π.
    """

    name: str
    n_states: int
    order: int
    concentration: float = 1.0
    row_concentration: float = 1.0
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "unknown_matrix"
    kind: ClassVar[str] = "a mixture of transition distributions with an unknown matrix"
    theta: ClassVar[str] = "parameters"
    references: ClassVar[tuple[str, ...]] = ("gibbs", "uniform")
    gold: ClassVar[str] = "gibbs"

    def __init__(
        self,
        name: str,
        n_states: Whole,
        order: Whole,
        concentration: Real = 1.0,
        row_concentration: Real = 1.0,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        if not is_whole(n_states) or not 2 <= n_states <= MOST_STATES:
            raise InputError(f"n_states must be a whole number from 2 to {MOST_STATES}, not {n_states!r}.")
        check_order(order)
        if order == 1:
            raise InputError("at order 1 there are no lags to infer; a Markov chain (model = markov) has exact gold.")
        alpha = check_concentration(concentration)
        beta = check_concentration(row_concentration, "row_concentration")
        numbers = {"n_states": int(n_states), "order": int(order), "concentration": alpha, "row_concentration": beta}
        self.settle(name, lengths, version, **numbers)

    @property
    def given(self) -> int:
        """The first m tokens, which are uniform."""
        return self.order

    @property
    def prior_mean(self) -> Float[np.ndarray, " k"]:
        """Equal weights and uniform rows."""
        m, q = self.order, self.n_states
        return np.concatenate([np.full(m, 1 / m), np.full(q * q, 1 / q)])

    @property
    def concentrations(self) -> dict[str, float]:
        """α and β."""
        return {"concentration": self.concentration, "row_concentration": self.row_concentration}

    def truth(self, theta: Float[np.ndarray, "B k"], contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """p(b | λ, π, y) = Σ_g λ_g π(y_{T+1-g}, b)."""
        contexts, m, q = np.asarray(contexts), self.order, self.n_states
        matrices = theta[:, m:].reshape(-1, q, q)
        last = tokens_before(contexts, m, contexts.shape[1])
        return np.einsum("bg,bgq->bq", theta[:, :m], matrices[np.arange(len(last))[:, None], last])

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence with z summed out; its latents are λ and π."""
        return self._with_matrix(MTD.tokens_given, tokens, length)

    def draw(self, length: int) -> Any:
        """The model with explicit lags, which a sample has too."""
        return self._with_matrix(MTD.lags_given, None, length)

    def _with_matrix(self, rest: Any, tokens: Any, length: int | None) -> Any:
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        from mdbench.tasks.sampling import rebuilt

        q = self.n_states
        row = dist.Dirichlet(jnp.full(q, self.row_concentration, dtype=float))
        matrix = numpyro.sample("matrix", row.expand([q]).to_event(1))
        numbers = {"transition": matrix, "concentration": self.concentration}
        known: Any = rebuilt(MTD, (("order", self.order),), numbers)
        weights = known.sample_weights()
        numpyro.deterministic("parameters", jnp.concatenate([weights, matrix.ravel()]))
        return rest(known, weights, tokens, length)

    def relabelled(self, order: Int[np.ndarray, " q"]) -> UnknownMatrix:
        """The prior is the same whatever the states are called."""
        return type(self)("relabelled", len(order), self.order, self.concentration, self.row_concentration)
