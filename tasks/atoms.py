r"""The MTD whose weights come from a finite set of known *atoms*: k ~ Categorical(ρ), λ = λ^(k).

    k ~ Categorical(ρ),   y_1..y_m ~ Uniform,   z_t ~ Categorical(λ^(k)),   y_t ~ π(y_{t - z_t}, ·)   for t > m

| symbol | site      | shape (one sequence) |
|--------|-----------|----------------------|
| k      | `atom`    | ()                   |
| λ      | `weights` | (m,), fixed by k: θ  |

One-hot atoms, λ^(g) = e_g, are the selective induction heads of D'Angelo, Croce and Flammarion (ICLR 2025, arXiv
2509.08184): a sequence has one lag, to be found in context. Atoms that were drawn once, with the task, are its
diversity: a model that remembers them predicts by them, one that infers λ by the Dirichlet they came from (Raventós et
al., arXiv 2306.15063; Park et al., arXiv 2412.01003). Gold is enumeration (:mod:`mdbench.tasks.finite`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError, Unsupported
from mdbench.tasks.finite import FiniteMixture, check_weights
from mdbench.tasks.mixture import SharedMatrix
from mdbench.tasks.mtd import MTD
from mdbench.tasks.task import (
    LENGTHS,
    Real,
    Rows,
    Whole,
    as_floats,
    check_concentration,
    check_order,
    check_row,
    check_transition,
    is_whole,
)

MOST_ATOMS = 2**16


@dataclass(frozen=True, eq=False, init=False)
class Atoms(FiniteMixture, SharedMatrix):
    """A mixture of transition distributions whose weights are one of finitely many vectors.

    Say which by ``one_hot``, ``atoms``, or ``n_atoms`` with ``atom_seed`` and ``concentration``; what is kept is
    ``atoms``.

    Attributes:
        order: m, the number of lags, at least 1.
        transition: π, shape (q, q), row-stochastic.
        atoms: (K, m), each row weights that sum to 1.
        atom_probs: (K,) ρ; all alike if none are given.
        concentration: α of the symmetric Dirichlet that the atoms were drawn from; None where they were not drawn.
    """

    name: str
    order: int
    transition: Float[np.ndarray, "q q"]
    one_hot: bool = False
    atoms: Float[np.ndarray, "K m"] | None = None
    n_atoms: int | None = None
    atom_seed: int | None = None
    concentration: float | None = None
    atom_probs: Float[np.ndarray, " K"] | None = None
    lengths: tuple[int, ...] = LENGTHS
    version: int = 1

    family: ClassVar[str] = "atoms"
    kind: ClassVar[str] = "a mixture over lags with finitely many weights"

    def __init__(
        self,
        name: str,
        order: Whole,
        transition: Rows,
        one_hot: bool = False,
        atoms: Rows | None = None,
        n_atoms: Whole | None = None,
        atom_seed: Whole | None = None,
        concentration: Real | None = None,
        atom_probs: Rows | None = None,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        matrix = check_transition(transition)
        check_order(order)
        if not isinstance(one_hot, bool):
            raise InputError(f"one_hot must be true or false, not {one_hot!r}.")
        if one_hot + (atoms is not None) + (n_atoms is not None) != 1:
            raise InputError("say which weights there are by one of one_hot = true, atoms, or n_atoms.")
        if (atom_seed is not None) and n_atoms is None:
            raise InputError("atom_seed goes with n_atoms.")
        if concentration is not None and one_hot:
            raise InputError("concentration goes with n_atoms: one-hot atoms are not drawn.")
        alpha = None if concentration is None else check_concentration(concentration)
        if n_atoms is not None:
            alpha = 1.0 if alpha is None else alpha
            given = _drawn(int(order), n_atoms, 0 if atom_seed is None else atom_seed, alpha)
        else:
            given = np.eye(int(order)) if one_hot else _checked(atoms, int(order))
        given.setflags(write=False)
        probs = np.full(len(given), 1 / len(given)) if atom_probs is None else check_weights(atom_probs, "atom_probs")
        if len(probs) != len(given):
            raise InputError(f"atom_probs has {len(probs)} numbers for {len(given)} atoms.")
        probs.setflags(write=False)
        self.settle(
            name,
            lengths,
            version,
            order=int(order),
            transition=matrix,
            one_hot=False,
            atoms=given,
            n_atoms=None,
            atom_seed=None,
            concentration=alpha,
            atom_probs=probs,
        )

    @property
    def support(self) -> tuple[Float[Any, "K m"], Float[Any, " K"]]:
        """The atoms and their probabilities."""
        return self.atoms, self.atom_probs

    any_likelihoods = SharedMatrix.any_likelihoods

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        return f"{super().summary}, {len(self.support[0])} atoms"

    @property
    def dirichlet(self) -> MTD:
        """The MTD with the Dirichlet that the atoms were drawn from.

        Raises:
            Unsupported: they were not drawn from one.
        """
        if self.concentration is None:
            message = f"the atoms of task '{self.name}' were not drawn from a Dirichlet distribution."
            raise Unsupported(message, label="atoms were not drawn")
        return MTD(f"{self.name}-dirichlet", self.transition, self.order, self.concentration, self.lengths)

    def sample_weights(self) -> Any:
        """λ, one of the atoms."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        chosen = dist.Categorical(probs=jnp.asarray(self.atom_probs))
        atom = numpyro.sample("atom", chosen, infer={"enumerate": "parallel"})
        return numpyro.deterministic("weights", jnp.asarray(self.atoms)[atom])

    def relabelled(self, order: Int[np.ndarray, " q"]) -> Atoms:
        """New state k is the old state ``order[k]``."""
        matrix = self.transition[np.ix_(order, order)]
        alpha = self.concentration
        return type(self)(
            "relabelled", self.order, matrix, atoms=self.atoms, concentration=alpha, atom_probs=self.atom_probs
        )


def _drawn(order: int, n_atoms: Any, seed: Any, alpha: float) -> Float[np.ndarray, "K m"]:
    if not is_whole(n_atoms) or not 1 <= n_atoms <= MOST_ATOMS:
        raise InputError(f"n_atoms must be a whole number from 1 to {MOST_ATOMS}, not {n_atoms!r}.")
    if not is_whole(seed) or seed < 0:
        raise InputError(f"atom_seed must be a whole number of at least 0, not {seed!r}.")
    return np.random.default_rng(int(seed)).dirichlet(np.full(order, alpha), int(n_atoms))


def _checked(atoms: Any, order: int) -> Float[np.ndarray, "K m"]:
    rows = as_floats(atoms, "atoms")
    if rows.ndim != 2 or not 1 <= len(rows) <= MOST_ATOMS or rows.shape[1] != order:
        raise InputError(f"atoms must be rows of {order} weights, one for each lag, not of shape {rows.shape}.")
    for k, row in enumerate(rows, start=1):
        check_row(row, f"row {k} of atoms")
    return rows
