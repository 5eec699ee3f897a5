"""A family of tasks: a coin with q sides, θ ~ Dirichlet(α), drawn anew for each sequence. No token is given."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mdbench import InputError
from mdbench.tasks import Task
from mdbench.tasks.task import check_concentration, is_whole


@dataclass(frozen=True, eq=False)
class Coin(Task):
    name: str
    n_states: int
    concentration: float = 1.0
    lengths: tuple[int, ...] = (8,)
    version: int = 1

    family: ClassVar[str] = "coin"
    kind: ClassVar[str] = "a coin"
    theta: ClassVar[str] = "probs"
    references: ClassVar[tuple[str, ...]] = ("counts", "uniform")
    gold: ClassVar[str] = "counts"
    given = 0

    def __post_init__(self):
        if not is_whole(self.n_states) or self.n_states < 2:
            raise InputError(f"n_states must be a whole number of at least 2, not {self.n_states!r}.")
        object.__setattr__(self, "concentration", check_concentration(self.concentration))
        self.check_labels()

    @property
    def prior_mean(self):
        return np.full(self.n_states, 1 / self.n_states)

    def model(self, tokens=None, length=None):
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        probs = numpyro.sample("probs", dist.Dirichlet(jnp.full(self.n_states, self.concentration)))
        with numpyro.plate("time", len(tokens) if length is None else length):
            return numpyro.sample("token", dist.Categorical(probs=probs), obs=tokens)

    def truth(self, theta, contexts):  # noqa: ARG002
        return theta

    def relabelled(self, order):
        return Coin("relabelled", len(order), self.concentration)
