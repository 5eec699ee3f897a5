r"""The likelihood of a mixture over lags as a function of weights and matrices together, and where it is largest.

    LL(λ, π) = Σ_k N_k log p_k,   p_k = Σ_g λ_g π_g(a_kg, b_k)   (nats)

over the different transitions k (N_k times b_k after a_k1, .., a_km), on a product of simplices: that of λ and those of
the rows of π. With one matrix for all lags it is the MTD of Raftery (JRSS B 47:528, 1985), with one for each lag the
MTDg of Berchtold. It is not concave and its maximum often lies on the boundary, so: EM from many starts side by side
(Lèbre and Bourguignon, Journal of Statistical Computation and Simulation 78:713, 2008), then from the best of them
Newton's method on the numbers that are above zero. A number that meets zero stays there until its derivative says
that it should grow: at the end the conditions of Karush, Kuhn and Tucker hold, and what is zero is exactly zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import linalg, sparse

from mdbench.core.errors import InputError
from mdbench.series.transitions import Counted

EM_STEPS = 60  # from each start
RANDOM_STARTS = 20
CLIMBED = 6  # starts that are followed to their end
NEWTON_STEPS = 500
DECREMENT = 1e-10  # nats: what a Newton step promises at the end
FLAT = 1e-8  # curvature over n, of directions in which nothing changes
LIFT = 1e-3  # of its simplex, for a number that leaves zero


class Climbed(NamedTuple):
    """A maximum, local or not: θ and its log-likelihood in nats."""

    theta: Float[np.ndarray, " P"]
    value: float


@dataclass(frozen=True)
class MixtureLikelihood:
    """The log-likelihood of θ: λ and then the rows of the matrices, one after the other.

    Attributes:
        data: different transitions.
        n_states: q.
        per_lag: whether every lag has a matrix of its own.
    """

    data: Counted
    n_states: int
    per_lag: bool = False

    @property
    def order(self) -> int:
        """How many lags, m."""
        return self.data.lagged.shape[1]

    @property
    def size(self) -> int:
        """P, how many numbers θ has."""
        return self.order + (self.order if self.per_lag else 1) * self.n_states**2

    @cached_property
    def total(self) -> float:
        """n, how many transitions there are."""
        return float(self.data.counts.sum())

    @cached_property
    def entry(self) -> Int[np.ndarray, "K m"]:
        """Which number of θ is π_g(a_kg, b_k)."""
        m, q = self.order, self.n_states
        lag = np.arange(m) if self.per_lag else np.zeros(m, dtype=np.int64)
        return m + (lag * q + self.data.lagged) * q + self.data.came[:, None]

    @cached_property
    def blocks(self) -> list[Int[np.ndarray, " s"]]:
        """The numbers of each simplex, λ first."""
        rows = np.arange(self.order, self.size).reshape(-1, self.n_states)
        return [np.arange(self.order), *rows]

    @cached_property
    def block_of(self) -> Int[np.ndarray, " P"]:
        """Which simplex a number belongs to."""
        return np.concatenate([np.full(len(block), b) for b, block in enumerate(self.blocks)])

    @cached_property
    def _gather(self) -> sparse.csr_matrix:
        """Sums of what stands for each π_g(a_kg, b_k), over θ: (P, K m)."""
        flat = self.entry.ravel()
        return sparse.csr_matrix((np.ones(flat.size), (flat, np.arange(flat.size))), shape=(self.size, flat.size))

    def matrices(self, theta: Float[np.ndarray, " P"]) -> Float[np.ndarray, "m q q"]:
        """One for each lag."""
        each = theta[self.order :].reshape(-1, self.n_states, self.n_states)
        return np.broadcast_to(each, (self.order, self.n_states, self.n_states))

    def value(self, theta: Float[np.ndarray, " P"]) -> float:
        """LL in nats; minus infinity where θ rules out what came."""
        probs = np.einsum("g,kg->k", theta[: self.order], theta[self.entry])
        return float(self.data.counts @ np.log(probs)) if probs.min() > 0 else -math.inf

    def derivatives(self, theta: Float[np.ndarray, " P"]) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"]]:
        """Gradient and Hessian of LL, where it is finite."""
        m, size = self.order, self.size
        x = theta[self.entry]
        probs = x @ theta[:m]
        weight = self.data.counts / probs
        places = [np.full(len(x), g) for g in range(m)] + list(self.entry.T)
        slopes = list(x.T) + [np.full(len(x), theta[g]) for g in range(m)]
        gradient, hessian = np.zeros(size), np.zeros(size * size)
        curvature = weight / probs
        for u in range(2 * m):
            gradient += np.bincount(places[u], weight * slopes[u], size)
            for v in range(2 * m):
                pairs = places[u] * size + places[v]
                hessian -= np.bincount(pairs, curvature * slopes[u] * slopes[v], size * size)
        for g in range(m):
            both = np.bincount(self.entry[:, g], weight, size)
            hessian[g * size : (g + 1) * size] += both
            hessian[g::size] += both
        return gradient, hessian.reshape(size, size)

    def em(self, thetas: Float[np.ndarray, "R P"], steps: int = EM_STEPS) -> Float[np.ndarray, "R P"]:
        """Some steps of EM from several starts, none of which rules out what came."""
        m = self.order
        for _ in range(steps):
            joint = thetas[:, None, :m] * thetas[:, self.entry]  # (R, K, m)
            shares = joint * (self.data.counts / joint.sum(axis=-1))[..., None]
            sums = (self._gather @ shares.reshape(len(thetas), -1).T).T
            sums[:, :m] = shares.sum(axis=1)
            for block in self.blocks:
                of_block = sums[:, block].sum(axis=1, keepdims=True)
                sums[:, block] = np.where(of_block > 0, sums[:, block], thetas[:, block])
                sums[:, block] /= sums[:, block].sum(axis=1, keepdims=True)
            thetas = sums
        return thetas

    # -------------------------------------------------------------------------------------------------- the maximum

    def maximum(self, starts: Float[np.ndarray, "R P"] | None = None) -> Climbed:
        """The largest that is found from some starts: the usual ones, and those that are given."""
        thetas = self.starts() if starts is None else np.concatenate([self.starts(), starts])
        thetas = self.em(thetas)
        values = np.array([self.value(theta) for theta in thetas])
        chosen = np.argsort(-values, kind="stable")[:CLIMBED]
        return max((self.climb(thetas[k]) for k in chosen), key=lambda climbed: climbed.value)

    def starts(self) -> Float[np.ndarray, "R P"]:
        """Each lag first among equals with its own pairs, equal weights, and random ones; always the same."""
        m, q, data, rng = self.order, self.n_states, self.data, np.random.default_rng(0)
        pairs = np.full((m, q, q), 0.5)
        for g in range(m):
            np.add.at(pairs[g], (data.lagged[:, g], data.came), data.counts)
        pairs /= pairs.sum(axis=-1, keepdims=True)
        first = [(np.where(np.arange(m) == g, 0.8, 0.2 / m), pairs[g]) for g in range(m)]
        drawn = [
            (rng.dirichlet(np.ones(m)), 0.95 * rng.dirichlet(np.ones(q), (m, q)) + 0.05 / q)
            for _ in range(RANDOM_STARTS)
        ]
        thetas = []
        for weights, matrix in [*first, (np.ones(m), pairs.mean(axis=0)), *drawn]:
            each = pairs if self.per_lag and matrix.ndim == 2 else np.broadcast_to(matrix, (m, q, q))
            rows = each if self.per_lag else each[:1]
            thetas.append(np.concatenate([weights / weights.sum(), rows.ravel()]))
        return np.stack(thetas)

    def climb(self, theta: Float[np.ndarray, " P"], fixed: int | None = None) -> Climbed:
        """Newton's method from a point of finite likelihood to a maximum; ``fixed`` keeps one number as it is.

        Raises:
            InputError: it does not end, which has not been seen.
        """
        theta, value = theta.copy(), self.value(theta)
        movable = np.arange(self.size) != fixed
        for _ in range(NEWTON_STEPS):
            gradient, hessian = self.derivatives(theta)
            free = (theta > 0) & movable
            step, promised = self._newton(theta, free, gradient, hessian)
            if promised < DECREMENT:
                lifted = self._lift(theta, value, movable, gradient)
                if lifted is None:
                    return Climbed(theta, value)
                theta, value = lifted
                continue
            falling = step < 0
            reach = np.full(self.size, math.inf)
            reach[falling] = -theta[falling] / step[falling]
            size = min(1.0, float(reach.min()))
            while True:
                there = np.where(reach <= size, 0.0, theta + size * step)
                found = self.value(there)
                if found >= value + 1e-4 * size * promised or size * promised < 1e-3 * DECREMENT:
                    break
                size /= 2
            if found < value:  # rounding: there is nothing to gain
                return Climbed(theta, value)
            theta, value = self._on_simplices(there), found
        raise InputError(f"the likelihood of order {self.order} has no maximum within {NEWTON_STEPS} steps.")

    def _newton(
        self,
        theta: Float[np.ndarray, " P"],
        free: Bool[np.ndarray, " P"],
        gradient: Float[np.ndarray, " P"],
        hessian: Float[np.ndarray, "P P"],
    ) -> tuple[Float[np.ndarray, " P"], float]:
        """The step within the simplices, uphill even where LL curves upwards, and what it promises in nats."""
        basis = self.tangents(theta, free)
        values, vectors = np.linalg.eigh(-basis.T @ hessian @ basis)
        slope = vectors.T @ (basis.T @ gradient)
        along = slope / np.maximum(np.abs(values), FLAT * self.total)
        return basis @ (vectors @ along), float(slope @ along)

    def tangents(self, theta: Float[np.ndarray, " P"], free: Bool[np.ndarray, " P"]) -> Float[np.ndarray, "P d"]:
        """Directions along the simplices that leave all else as it is, scaled by √θ: so all curve about alike."""
        columns = []
        for block in self.blocks:
            inside = block[free[block]]
            if len(inside) < 2:
                continue
            roots = np.sqrt(theta[inside])
            turned = linalg.qr(roots[:, None])[0][:, 1:]  # orthonormal to √θ
            part = np.zeros((self.size, len(inside) - 1))
            part[inside] = roots[:, None] * turned
            columns.append(part)
        return np.concatenate(columns, axis=1) if columns else np.zeros((self.size, 0))

    def _lift(
        self,
        theta: Float[np.ndarray, " P"],
        value: float,
        movable: Bool[np.ndarray, " P"],
        gradient: Float[np.ndarray, " P"],
    ) -> Climbed | None:
        """A number that is zero and should grow, grown at the cost of its simplex; None where there is none."""
        theta, gradient = self._ready(theta, gradient)
        free = (theta > 0) & movable
        held = np.bincount(self.block_of, np.where(free, theta, 0.0))
        price = np.bincount(self.block_of, np.where(free, theta * gradient, 0.0)) / np.where(held > 0, held, 1.0)
        gain = np.where((theta == 0) & movable & (held > 0)[self.block_of], gradient - price[self.block_of], 0.0)
        j = int(np.argmax(gain))
        if gain[j] <= 1e-6 * self.total:
            return None
        block = self.blocks[self.block_of[j]]
        share, inside = LIFT, block[free[block]]
        while share > 1e-12:
            there = theta.copy()
            there[inside] *= 1 - share
            there[j] = share * held[self.block_of[j]]
            found = self.value(there)
            if found > value:
                return Climbed(there, found)
            share /= 10
        return None

    def _ready(
        self, theta: Float[np.ndarray, " P"], gradient: Float[np.ndarray, " P"]
    ) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
        """θ and its gradient with matrices of lags without weight as these would begin to grow: LL is the same.

        Along λ_g it has the slope Σ_ab w(a, b) π_g(a, b), which is largest where every row is at its best token.
        """
        idle = np.flatnonzero(theta[: self.order] == 0)
        if not self.per_lag or not len(idle):
            return theta, gradient
        theta, gradient, q = theta.copy(), gradient.copy(), self.n_states
        weight = self.data.counts / np.einsum("g,kg->k", theta[: self.order], theta[self.entry])
        for g in idle:
            slopes = np.bincount(self.entry[:, g] - self.order - g * q * q, weight, q * q).reshape(q, q)
            theta[self.order + g * q * q :][: q * q] = np.eye(q)[slopes.argmax(axis=1)].ravel()
            gradient[g] = slopes.max(axis=1).sum()
        return theta, gradient

    def _on_simplices(self, theta: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """Without the rounding of many steps."""
        return theta / np.bincount(self.block_of, theta)[self.block_of]

    def inside(self, theta: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """θ with nothing zero: a hundredth of the middle of each simplex mixed in."""
        sizes = np.array([len(block) for block in self.blocks])
        return 0.99 * theta + 0.01 / sizes[self.block_of]

    # ------------------------------------------------------------------------------------------- around the maximum

    def curvature(self, theta: Float[np.ndarray, " P"]) -> tuple[Float[np.ndarray, " P"], int]:
        """Standard errors of the numbers above zero, infinite along flat directions, and how many directions are."""
        basis = self.tangents(theta, theta > 0)
        values, vectors = np.linalg.eigh(-basis.T @ self.derivatives(theta)[1] @ basis)
        flat = values <= FLAT * self.total
        moved = basis @ vectors
        variance = (moved[:, ~flat] ** 2 / values[~flat]).sum(axis=1)
        variance[(moved[:, flat] ** 2 > 1e-6 * theta[:, None]).any(axis=1)] = math.inf
        return np.sqrt(variance), int(flat.sum())
