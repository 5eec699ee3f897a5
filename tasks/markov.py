r"""A Markov chain of order k whose transition probabilities are unknown.

    θ_c ~ Dirichlet(α, .., α) for each context c of k tokens,   y_1..y_k ~ Uniform,   y_t ~ θ_{y_{t-k}..y_{t-1}}

| symbol | site      | shape (one sequence) |
|--------|-----------|----------------------|
| θ      | `rows`    | (q^k, q), contexts in lexicographic order, oldest token first |
| y_1..k | `initial` | (k,)                 |
| y_t    | `token`   | (T - k,)             |

Dirichlet rows are conjugate: p_B(b) = (N_c(b) + α)/(N_c + qα), N_c(b) how often b came after the last context c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks.task import LENGTHS, ClosedForm, Predictive, Real, Whole, check_concentration, check_order, is_whole

MOST_CONTEXTS = 10_000  # q^k: each sequence has as many rows
ROUNDING = 4 * np.finfo(np.float64).eps  # of a quotient of two sums


class ContextRows(ClosedForm):
    """θ has a row for every context of as many tokens as are given, (q^k, q), in lexicographic order, oldest first."""

    theta: ClassVar[str] = "rows"

    @staticmethod
    def check_rows(n_states: Any, k: Any, word: str) -> None:
        """Raise :class:`InputError` unless there can be so many rows; ``word`` is what people call k."""
        if not is_whole(n_states) or n_states < 2:
            raise InputError(f"n_states must be a whole number of at least 2, not {n_states!r}.")
        check_order(k, word)
        if k > np.log(MOST_CONTEXTS) / np.log(n_states) + 1e-9:
            raise InputError(
                f"{word} {k} with {n_states} states has {n_states}^{k} contexts; {MOST_CONTEXTS} are the most."
            )

    @property
    def prior_mean(self) -> Float[np.ndarray, "contexts q"]:
        """Uniform rows."""
        return np.full((self.n_states**self.given, self.n_states), 1 / self.n_states)

    def truth(
        self, theta: Float[np.ndarray, "B contexts q"], contexts: Int[np.ndarray, "B T"]
    ) -> Float[np.ndarray, "B q"]:
        """The row of the last k tokens."""
        last = context_index(np.asarray(contexts)[:, -self.given :], self.n_states, self.given)[:, 0]
        return theta[np.arange(len(last)), last]

    def chain(self, rows: Any, tokens: Any, length: int | None) -> Any:
        """In a NumPyro model, what comes after the rows: the sites ``initial`` and ``token``; returns the tokens."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        from numpyro.contrib.control_flow import scan

        q, k = self.n_states, self.given
        uniform = dist.Categorical(probs=jnp.full(q, 1 / q)).expand([k]).to_event(1)
        place = q ** jnp.arange(k - 1, -1, -1)  # of each token of a context in its index, oldest first
        if tokens is not None:
            numpyro.sample("initial", uniform, obs=tokens[:k])
            n = len(tokens) - k
            index = sum(tokens[j : j + n] * place[j] for j in range(k))
            with numpyro.plate("time", n):
                numpyro.sample("token", dist.Categorical(probs=rows[index]), obs=tokens[k:])
            return tokens
        if length is None:
            raise ValueError("give tokens to condition on, or a length to draw")

        def step(window: Any, _: None) -> tuple[Any, Any]:  # window: (k,), oldest first
            token = numpyro.sample("token", dist.Categorical(probs=rows[window @ place]))
            return jnp.concatenate([window[1:], token[None]]), token

        initial = numpyro.sample("initial", uniform)
        return jnp.concatenate([initial, scan(step, initial, None, length=length - k)[1]])


@dataclass(frozen=True, eq=False, init=False)
class Markov(ContextRows):
    """A Markov chain with unknown rows.

    Attributes:
        n_states: q, at least 2.
        order: k, the number of tokens that the next one depends on, at least 1.
        concentration: α > 0 of the symmetric Dirichlet prior on every row.
    """

    name: str
    n_states: int
    order: int
    concentration: float = 1.0
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "markov"
    kind: ClassVar[str] = "a Markov chain with unknown rows"

    def __init__(
        self,
        name: str,
        n_states: Whole,
        order: Whole,
        concentration: Real = 1.0,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        self.check_rows(n_states, order, "order")
        alpha = check_concentration(concentration)
        self.settle(name, lengths, version, n_states=int(n_states), order=int(order), concentration=alpha)

    @property
    def given(self) -> int:
        """The first k tokens, which are uniform."""
        return self.order

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence; its latent is θ."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        q, k = self.n_states, self.order
        prior = dist.Dirichlet(jnp.full(q, self.concentration, dtype=float)).expand([q**k]).to_event(1)
        rows = numpyro.sample("rows", prior)
        return self.chain(rows, tokens, length)

    def predictive(self, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Predictive:
        """The closed form, from counts."""
        contexts = self.check_contexts(contexts)
        q, k = self.n_states, self.order
        index = context_index(contexts, q, k)  # (B, T-k+1): of the context before each token after the first k
        probs = np.empty((len(contexts), len(lengths), q))
        for p, length in enumerate(lengths):
            same = index[:, : length - k] == index[:, length - k, None]
            came = contexts[:, k:length, None] == np.arange(q)
            counts = np.einsum("bt,btq->bq", same.astype(float), came.astype(float))
            probs[:, p] = (counts + self.concentration) / (counts.sum(axis=1, keepdims=True) + q * self.concentration)
        return Predictive(probs, np.full(probs.shape[:2], ROUNDING), np.zeros(probs.shape))

    def relabelled(self, order: Int[np.ndarray, " q"]) -> Markov:
        """The prior is the same whatever the states are called."""
        return type(self)("relabelled", len(order), self.order, self.concentration)


def context_index(tokens: Int[np.ndarray, "B T"], q: int, order: int) -> Int[np.ndarray, "B n"]:
    """Of every ``order`` tokens in a row the place in lexicographic order, oldest first."""
    n = tokens.shape[1] - order + 1
    index = np.zeros((len(tokens), n), dtype=np.int64)
    for j in range(order):
        index = index * q + tokens[:, j : j + n]
    return index
