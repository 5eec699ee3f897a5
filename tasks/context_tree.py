r"""Context trees: variable-order Markov chains whose tree and rows are unknown.

A node is a context s of at most D tokens; the root is the empty one. Each node of depth below D is a leaf with
probability β, else it has q children, one for each token before; nodes of depth D are leaves. Leaves have rows.

    stop_s ~ Bernoulli(β),   θ_s ~ Dirichlet(α, .., α),   y_1..y_D ~ Uniform,   y_t ~ θ_{leaf of y_{t-1}, y_{t-2}, ..}

| symbol | site         | shape (one sequence) |
|--------|--------------|----------------------|
| stop   | `stop`       | (nodes of depth below D,), by depth, then in lexicographic order, oldest token first |
| θ_s    | `node_rows`  | (nodes, q), in the same order                                     |
| θ      | `rows`       | (q^D, q), of every context of D tokens: that of its leaf          |
| y_1..D | `initial`    | (D,)                                                              |
| y_t    | `token`      | (T - D,)                                                          |

Gold is context-tree weighting (Willems, Shtarkov and Tjalkens, IEEE Trans. Inf. Theory 41:653-664, 1995): with P_e(s)
the Dirichlet-multinomial evidence of the counts at s,

    P_w(s) = β P_e(s) + (1 - β) Π_a P_w(as),    P_w(s) = P_e(s) at depth D,    p_B(b) = P_w(y b)/P_w(y) at the root.

Only nodes along the current context change with b, so p_B is a mixture of their Dirichlet rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks.markov import ContextRows, context_index
from mdbench.tasks.task import LENGTHS, Predictive, Real, Whole, as_floats, check_concentration

ROUNDING = 256 * np.finfo(np.float64).eps  # of a probability, for each transition: sums of log-gammas
CHUNK = 2**22  # counts at once


@dataclass(frozen=True, eq=False, init=False)
class ContextTree(ContextRows):
    """A variable-order Markov chain with unknown tree and rows.

    Attributes:
        n_states: q, at least 2.
        depth: D, the most tokens that the next one depends on, at least 1.
        concentration: α > 0 of the symmetric Dirichlet prior on every row.
        stop: β, the probability that a node of depth below D is a leaf.
    """

    name: str
    n_states: int
    depth: int
    concentration: float = 0.5
    stop: float = 0.5
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "context_tree"
    kind: ClassVar[str] = "a context tree with unknown rows"
    discrete: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        n_states: Whole,
        depth: Whole,
        concentration: Real = 0.5,
        stop: Real = 0.5,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        self.check_rows(n_states, depth, "depth")
        beta = as_floats(stop, "stop", "a probability")
        if beta.ndim or not 0 <= beta <= 1:
            raise InputError(f"stop must be a probability, not {stop!r}.")
        alpha = check_concentration(concentration)
        numbers = {"n_states": int(n_states), "depth": int(depth), "concentration": alpha, "stop": float(beta)}
        self.settle(name, lengths, version, **numbers)

    @property
    def given(self) -> int:
        """The first D tokens, which are uniform."""
        return self.depth

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence, with the tree explicit: ``stop`` is discrete, rows are continuous."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        q, depth = self.n_states, self.depth
        inner, nodes = (sum(q**d for d in range(n)) for n in (depth, depth + 1))
        stop = numpyro.sample("stop", dist.Bernoulli(probs=jnp.full(inner, self.stop)).to_event(1))
        prior = dist.Dirichlet(jnp.full(q, self.concentration, dtype=float)).expand([nodes]).to_event(1)
        rows = numpyro.deterministic("rows", self._resolved(stop, numpyro.sample("node_rows", prior)))
        return self.chain(rows, tokens, length)

    def _resolved(self, stop: Any, rows: Any) -> Any:
        """The row of every context of D tokens: that of its shallowest leaf."""
        import jax.numpy as jnp

        q, contexts = self.n_states, np.arange(self.n_states**self.depth)
        first = [sum(q**d for d in range(depth)) for depth in range(self.depth + 1)]
        found = rows[first[self.depth] + contexts]
        for depth in range(self.depth - 1, -1, -1):  # a node is its last tokens
            node = first[depth] + contexts % q**depth
            found = jnp.where(stop[node][:, None] == 1, rows[node], found)
        return found

    def predictive(self, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Predictive:
        """By context-tree weighting."""
        contexts = self.check_contexts(contexts)
        n_each = self.n_states ** (self.depth + 1)
        at = range(max(CHUNK // n_each, 1), len(contexts), max(CHUNK // n_each, 1))
        probs = np.concatenate([self._weighted(part, lengths) for part in np.array_split(contexts, at)])
        n = np.maximum(np.asarray(lengths) - self.depth, 1)
        return Predictive(probs, np.broadcast_to(ROUNDING * n, probs.shape[:2]).copy(), np.zeros(probs.shape))

    def _weighted(self, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Float[np.ndarray, "B P q"]:
        q, depth, everyone = self.n_states, self.depth, np.arange(len(contexts))
        index = context_index(contexts, q, depth)  # before each token after the first D, and after the last
        counts = np.zeros((len(contexts), q**depth, q))
        probs, done = np.empty((len(contexts), len(lengths), q)), depth
        for p, length in enumerate(lengths):
            for t in range(done, length):
                counts[everyone, index[:, t - depth], contexts[:, t]] += 1
            done = max(done, length)
            probs[:, p] = self.predicted(counts, index[:, length - depth])
        return probs

    def predicted(
        self, counts: Float[np.ndarray, "B contexts q"], context: Int[np.ndarray, " B"]
    ) -> Float[np.ndarray, "B q"]:
        """p_B after a context, from the counts at depth D."""
        from mdbench.core.statistics import log_dirichlet_multinomial  # scipy, which a predictor does without

        q, alpha, everyone = self.n_states, self.concentration, np.arange(len(counts))

        def row(counts: np.ndarray, node: np.ndarray) -> np.ndarray:
            of_node = counts[everyone, node]
            return (of_node + alpha) / (of_node.sum(axis=-1, keepdims=True) + q * alpha)

        log_weighted = log_dirichlet_multinomial(counts, alpha)  # log P_w of every node of this depth
        predicted = row(counts, context)
        with np.errstate(divide="ignore"):
            log_stop, log_go = np.log(self.stop), np.log1p(-self.stop)
        for depth in range(self.depth - 1, -1, -1):
            counts = counts.reshape(len(counts), q, q**depth, q).sum(axis=1)  # over the oldest token
            own = log_stop + log_dirichlet_multinomial(counts, alpha)
            split = log_go + log_weighted.reshape(len(counts), q, q**depth).sum(axis=1)
            log_weighted = np.logaddexp(own, split)
            node = context % q**depth
            stopped = np.exp(own - log_weighted)[everyone, node][:, None]
            predicted = stopped * row(counts, node) + (1 - stopped) * predicted
        return predicted

    def relabelled(self, order: Int[np.ndarray, " q"]) -> ContextTree:
        """The prior is the same whatever the states are called."""
        return type(self)("relabelled", len(order), self.depth, self.concentration, self.stop)
