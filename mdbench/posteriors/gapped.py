"""An MTD of sequences with gaps: what a gap touches says nothing of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.core.errors import SequenceError
from mdbench.posteriors.reading import GAP
from mdbench.tasks import MTD, DirichletMixture, tokens_before


@dataclass(frozen=True, eq=False)
class Gapped(DirichletMixture):
    """The likelihoods of an MTD, 1 for every lag where a token or one of its lags is missing (``GAP``).

    Such a transition multiplies the likelihood by Σ_g λ_g = 1: the posterior is that of the others.
    """

    mtd: MTD
    name: str = "posterior"
    lengths: tuple[int, ...] = field(default=(1,))
    version: int = 1

    family: ClassVar[str] = "gapped"
    kind: ClassVar[str] = "a mixture over lags with gaps"

    @property
    def concentration(self) -> float:  # type: ignore[override]
        """α, of the MTD."""
        return self.mtd.concentration

    @property
    def n_states(self) -> int:  # type: ignore[override]
        """q, of the MTD."""
        return self.mtd.n_states

    @property
    def given(self) -> int:
        """The first m tokens."""
        return self.mtd.order

    @property
    def n_components(self) -> int:
        """One for each lag."""
        return self.mtd.n_components

    def neutral(self, contexts: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, "B n"]:
        """Which transitions a gap touches."""
        gaps = np.asarray(contexts) == GAP
        after = np.arange(self.given, gaps.shape[1])
        return gaps[:, after] | tokens_before(gaps, self.given, after).any(axis=-1)

    def check_contexts(self, contexts: Any) -> Int[np.ndarray, "B T"]:
        """As the MTD's, gaps aside."""
        tokens = np.asarray(contexts)
        self.mtd.check_contexts(np.where(tokens == GAP, 0, tokens))
        return tokens.astype(np.int64)

    def likelihoods(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """x_t(g) of the MTD, or 1."""
        tokens = self.check_contexts(contexts)
        x, neutral = self.mtd.any_likelihoods(np.where(tokens == GAP, 0, tokens)), self.neutral(tokens)
        x = np.where(neutral[..., None], 1.0, x)
        impossible = np.argwhere(x.sum(axis=-1) == 0)
        if len(impossible):
            i, t = impossible[0]
            raise SequenceError(int(i), self.mtd.impossible(tokens[i], int(t)))
        return x

    def rows(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B c q"]:
        """Of the MTD; where a lag is missing they mean nothing."""
        return self.mtd.rows(np.where(np.asarray(contexts) == GAP, 0, contexts))

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of λ given one sequence with gaps; ``length`` is that of a sequence to draw, which has none."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        if tokens is None:
            return self.mtd.model(length=length)
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(self.n_components, self.concentration)))
        x = jnp.asarray(self.likelihoods(np.asarray(tokens)[None])[0])
        return numpyro.factor("tokens", jnp.log(x @ weights).sum())

    def relabelled(self, order: Int[np.ndarray, " q"]) -> Gapped:
        """The MTD with other names for its states."""
        return Gapped(self.mtd.relabelled(order))
