r"""Mixtures of known components with unknown weights λ, which is what most posterior methods are for.

For each transition t the components give the token that came the probabilities x_t(g); the next token has
p_λ(b) = Σ_g λ_g rows(g, b). Components are lags here: g looks at the token that far back, and an independent component,
where there is one, at nothing.

| symbol | site      | shape (one sequence) |
|--------|-----------|----------------------|
| λ      | `weights` | (n_components,)      |
| y_1..m | `initial` | (m,)                 |
| z_t    | `lag`     | (T - m,), values 0..n_components-1 for lags 1..m and the independent component |
| y_t    | `token`   | (T - m,)             |
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.core.compilation import compiled
from mdbench.core.errors import SequenceError
from mdbench.tasks.task import Task


def tokens_before(tokens: Any, order: int, positions: Any) -> Any:
    """The ``order`` tokens before each position, lag 1 first: (..., T) to (..., *positions.shape, m).

    Of arrays of numpy, jax or torch. Position T is that of the next token.
    """
    return tokens[..., np.asarray(positions)[..., None] - np.arange(1, order + 1)]


class Mixture(Task):
    """Known components, unknown weights: θ = λ on the simplex of ``n_components``."""

    kind = "a mixture of known components"
    theta = "weights"

    @property
    @abstractmethod
    def n_components(self) -> int:
        """How many components there are."""

    @abstractmethod
    def likelihoods(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """x_t(g), what each component says of each of the n = T - given transitions (docs/mathematics.md, section 1).

        Raises:
            SequenceError: a transition is impossible by every component, so that the sequence has probability 0.
        """

    @abstractmethod
    def rows(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B c q"]:
        """Each component's distribution of the next token."""

    @property
    def prior_mean(self) -> Float[np.ndarray, " c"]:
        """Equal weights: the prior is symmetric."""
        return np.full(self.n_components, 1 / self.n_components)

    def truth(self, theta: Float[np.ndarray, "B c"], contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """p_λ(b | y) = Σ_g λ_g rows(g, b), linear in λ: Bayes at the mean of λ (docs/mathematics.md, section 1)."""
        return np.einsum("bg,bgq->bq", theta, self.rows(np.asarray(contexts)))


class DirichletMixture(Mixture):
    """A mixture whose weights have a symmetric Dirichlet prior: λ ~ Dirichlet(α, .., α)."""

    kind = "a mixture of known components with a Dirichlet prior"
    references: ClassVar[tuple[str, ...]] = ("bayes", "md1", "em", "uniform")
    concentration: float

    @property
    def concentrations(self) -> dict[str, float]:
        """α."""
        return {"concentration": self.concentration}

    def sample_weights(self) -> Any:
        """λ, as the NumPyro site ``weights``."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        return numpyro.sample("weights", dist.Dirichlet(jnp.full(self.n_components, self.concentration, dtype=float)))


class LagMixture(Mixture):
    """Components are transition matrices, one for each of the last m tokens, and perhaps one that looks at nothing."""

    kind = "a mixture over lags"
    order: int
    independent: Float[np.ndarray, " q"] | None = None  # the last component's distribution, where there is one

    @property
    @abstractmethod
    def matrices(self) -> Float[Any, "m q q"]:
        """One matrix for each lag, that of lag 1 first; ``matrices[g - 1, a, b]`` is P(b | a stood g before)."""

    @property
    def n_states(self) -> int:  # type: ignore[override]
        """q, the size of the vocabulary."""
        return self.matrices.shape[-1]

    @property
    def given(self) -> int:
        """The first m tokens, which are uniform."""
        return self.order

    @property
    def n_components(self) -> int:
        """One for each lag, and the independent one."""
        return self.order + (self.independent is not None)

    @property
    def positive(self) -> bool:
        """Whether no matrix holds a zero."""
        return bool((self.matrices > 0).all())

    def possible(self, contexts: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, " B"]:
        """Whether some component can make each transition."""
        if self.positive:
            return np.ones(len(contexts), dtype=bool)
        return (self.any_likelihoods(self.check_contexts(contexts)).sum(axis=-1) > 0).all(axis=1)

    def likelihoods(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """x_t(g) = π_g(y_{t-g}, y_t) for t = m+1..T (docs/mathematics.md, section 1)."""
        tokens = self.check_contexts(contexts)
        x = self.any_likelihoods(tokens)
        if not x.all() and len(impossible := np.argwhere(x.sum(axis=-1) == 0)):
            i, t = impossible[0]
            raise SequenceError(int(i), self.impossible(tokens[i], int(t)))
        return x

    def impossible(self, tokens: Int[np.ndarray, " T"], transition: int) -> str:
        """What is said of a transition that no component can make."""
        m = self.order
        return (
            f"impossible under this transition matrix: state {tokens[transition + m]} at position {transition + m + 1} "
            f"has probability 0 after each of the {m} states before it."
        )

    def any_likelihoods(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """:meth:`likelihoods` of checked contexts, impossible ones too."""
        x = _looked_up(*self.table, self.n_states, self.order, np.ascontiguousarray(tokens), self.n_components)
        if self.independent is not None:
            x[..., self.order] = self.independent.take(tokens[:, self.order :])
        return x

    @property
    def table(self) -> tuple[Float[np.ndarray, " entries"], int]:
        """The entries of the matrices, and how many there are from those of one lag to those of the next."""
        return np.ascontiguousarray(self.matrices).ravel(), self.n_states**2

    def rows(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B c q"]:
        """π_g(y_{T+1-g}, ·), and the independent distribution."""
        last = tokens_before(contexts, self.order, contexts.shape[-1])
        rows = self.matrices[np.arange(self.order), last]
        if self.independent is None:
            return rows
        return np.concatenate([rows, np.broadcast_to(self.independent, (len(rows), 1, self.n_states))], axis=1)

    # ------------------------------------------------------------------------------------------ as NumPyro models

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence with z summed out: λ is its only latent (for NUTS and SVI)."""
        return self.tokens_given(self.sample_weights(), tokens, length)

    def tokens_given(self, weights: Any, tokens: Any, length: int | None) -> Any:
        """The rest of :meth:`model`."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        from numpyro.contrib.control_flow import scan

        if tokens is not None:
            initial, rows = self._rows_of(tokens)
            with numpyro.plate("time", len(rows)):
                numpyro.sample("token", dist.Categorical(probs=weights @ rows), obs=tokens[self.order :])
            return tokens

        def step(window: Any, _: None) -> tuple[Any, Any]:  # window: (m,), lag 1 first
            token = numpyro.sample("token", dist.Categorical(probs=weights @ self._component_rows(window)))
            return jnp.concatenate([token[None], window[:-1]]), token

        initial = self._sample_initial()
        return jnp.concatenate([initial, scan(step, initial[::-1], None, length=_n_transitions(self, length))[1]])

    def lags(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model with explicit z (for enumeration, and to draw from); arguments as :meth:`model`."""
        return self.lags_given(self.sample_weights(), tokens, length)

    def lags_given(self, weights: Any, tokens: Any, length: int | None) -> Any:
        """The rest of :meth:`lags`."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        from numpyro.contrib.control_flow import scan

        if tokens is not None:
            initial, rows = self._rows_of(tokens)
            with numpyro.plate("time", len(rows)):
                lag = numpyro.sample("lag", dist.Categorical(probs=weights), infer={"enumerate": "parallel"})
                chosen = rows[jnp.arange(len(rows)), lag]
                numpyro.sample("token", dist.Categorical(probs=chosen), obs=tokens[self.order :])
            return tokens

        def step(window: Any, _: None) -> tuple[Any, Any]:
            lag = numpyro.sample("lag", dist.Categorical(probs=weights))
            token = numpyro.sample("token", dist.Categorical(probs=self._component_rows(window)[lag]))
            return jnp.concatenate([token[None], window[:-1]]), token

        initial = self._sample_initial()
        return jnp.concatenate([initial, scan(step, initial[::-1], None, length=_n_transitions(self, length))[1]])

    def draw(self, length: int) -> Any:
        """The model with explicit lags, which a sample has too."""
        return self.lags(length=length)

    @abstractmethod
    def sample_weights(self) -> Any:
        """λ, as the NumPyro site ``weights``."""

    def _sample_initial(self, tokens: Any = None) -> Any:
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        each = dist.Categorical(probs=jnp.full(self.n_states, 1 / self.n_states))
        return numpyro.sample("initial", each.expand([self.order]).to_event(1), obs=tokens)

    def _rows_of(self, tokens: Any) -> Any:
        """Observe y_1..y_m; return them and the components' rows for every later token, (n, c, q)."""
        import jax

        m, length = self.order, len(tokens)
        initial = self._sample_initial(tokens[:m])
        return initial, jax.vmap(self._component_rows)(tokens_before(tokens, m, np.arange(m, length)))

    def _component_rows(self, window: Any) -> Any:
        """Of the next token after a window (m,), lag 1 first: (c, q)."""
        import jax.numpy as jnp

        rows = jnp.asarray(self.matrices)[jnp.arange(self.order), window]
        return rows if self.independent is None else jnp.concatenate([rows, jnp.asarray(self.independent)[None]])


class SharedMatrix(LagMixture):
    """A mixture over lags that share one transition matrix."""

    transition: Float[np.ndarray, "q q"]

    @property
    def n_states(self) -> int:  # type: ignore[override]
        """q, the size of the vocabulary."""
        return len(self.transition)

    @property
    def matrices(self) -> Float[np.ndarray, "m q q"]:
        """π for every lag."""
        return np.broadcast_to(self.transition, (self.order, *self.transition.shape))

    @property
    def table(self) -> tuple[Float[np.ndarray, " entries"], int]:
        """Those of π, which are there once for all lags."""
        return np.ascontiguousarray(self.transition).ravel(), 0

    def _component_rows(self, window: Any) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(self.transition)[window]


class DirichletLagMixture(DirichletMixture, LagMixture):
    """A mixture over lags whose weights have a symmetric Dirichlet prior."""

    kind = "a mixture over lags with a Dirichlet prior"


@compiled
def _looked_up(
    table: Float[np.ndarray, " entries"], lag: int, q: int, m: int, tokens: Int[np.ndarray, "B T"], n_components: int
) -> Float[np.ndarray, "B n c"]:
    """π_g(y_{t-g}, y_t) of tokens that are known to be states; components after the lags are left open."""
    batch, length = tokens.shape
    x = np.empty((batch, length - m, n_components))
    for i in range(batch):
        row, found = tokens[i], x[i]
        for g in range(m):
            for t in range(m, length):
                entry = g * lag + row[t - g - 1] * q + row[t]
                found[t - m, g] = table[np.uint64(entry)]  # unsigned: no look at whether it counts from the end
    return x


def _n_transitions(task: LagMixture, length: int | None) -> int:
    if length is None:
        raise ValueError("give tokens to condition on, or a length to draw")
    return length - task.order


def lag_likelihoods(task: Mixture, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
    """What each lag says of each transition: :meth:`Mixture.likelihoods`."""
    return task.likelihoods(contexts)


def next_token_probs(
    task: Task, theta: Float[np.ndarray, "B ..."], contexts: Int[np.ndarray, "B T"]
) -> Float[np.ndarray, "B q"]:
    """What θ says of the next token: :meth:`Task.truth`."""
    return task.truth(theta, contexts)
