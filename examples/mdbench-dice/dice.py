"""Loaded dice: each sequence is thrown with one of K known dice, and which one is latent.

    k ~ Categorical(ρ),   y_t ~ p_k

It is a mixture whose weights are one-hot, so gold, draws and checks come from ``FiniteMixture``: what is left to say is
what each die says of each throw, and the NumPyro model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mdbench import InputError
from mdbench.tasks import FiniteMixture
from mdbench.tasks.finite import check_weights
from mdbench.tasks.task import LENGTHS, as_floats, check_row


@dataclass(frozen=True, eq=False, init=False)
class Dice(FiniteMixture):
    """Throws of one of several known dice.

    Attributes:
        dice: (K, q), a distribution over the q sides for each die.
        dice_probs: (K,) ρ; all alike if none are given.
    """

    name: str
    dice: np.ndarray
    dice_probs: np.ndarray | None = None
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "dice"
    kind: ClassVar[str] = "one of several known dice"

    def __init__(
        self,
        name: str,
        dice: Sequence[Sequence[float]],
        dice_probs: Sequence[float] | None = None,
        lengths: Sequence[int] = LENGTHS,
        version: int = 1,
    ) -> None:
        table = as_floats(dice, "dice")
        if table.ndim != 2 or not len(table) or table.shape[1] < 2:
            raise InputError(f"dice must be rows of at least 2 numbers, one for each die, not of shape {table.shape}.")
        for k, row in enumerate(table, start=1):
            check_row(row, f"row {k} of dice")
        table.setflags(write=False)
        probs = check_weights(np.full(len(table), 1 / len(table)) if dice_probs is None else dice_probs, "dice_probs")
        if len(probs) != len(table):
            raise InputError(f"dice_probs has {len(probs)} numbers for {len(table)} dice.")
        self.settle(name, lengths, version, dice=table, dice_probs=probs)

    @property
    def n_states(self) -> int:
        return self.dice.shape[1]

    @property
    def n_components(self) -> int:
        return len(self.dice)

    @property
    def given(self) -> int:
        return 0

    @property
    def positive(self) -> bool:
        return bool((self.dice > 0).all())

    @property
    def support(self) -> tuple[np.ndarray, np.ndarray]:
        """Each die alone."""
        return np.eye(self.n_components), self.dice_probs

    def any_likelihoods(self, tokens: np.ndarray) -> np.ndarray:
        """p_k(y_t), (B, T, K)."""
        return self.dice.T[tokens]

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """What every die says of the next throw, (B, K, q)."""
        return np.broadcast_to(self.dice, (len(contexts), *self.dice.shape))

    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence."""
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        chosen = dist.Categorical(probs=jnp.asarray(self.dice_probs))
        die = numpyro.sample("die", chosen, infer={"enumerate": "parallel"})
        numpyro.deterministic("weights", jax.nn.one_hot(die, self.n_components, dtype=float))
        with numpyro.plate("time", length if tokens is None else len(tokens)):
            return numpyro.sample("token", dist.Categorical(probs=jnp.asarray(self.dice)[die]), obs=tokens)

    def relabelled(self, order: np.ndarray) -> Dice:
        return type(self)("relabelled", self.dice[:, order], self.dice_probs)
