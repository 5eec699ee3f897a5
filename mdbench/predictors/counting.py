"""Predictors that count what came after the same tokens before: they know no matrix and no λ, and take any task."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks import ContextTree, LagMixture, Task
from mdbench.tasks.task import is_whole

HIGHEST_ORDER = 20


def after_same_context(contexts: Int[np.ndarray, "batch length"], order: int, q: int) -> Float[np.ndarray, "batch q"]:
    """How often each token came after the last ``order`` tokens."""
    length = contexts.shape[1]
    if length <= order:
        return np.zeros((len(contexts), q))
    same = np.ones((len(contexts), length - order), dtype=bool)
    for back in range(order):  # a context ends where the next token stands
        same &= contexts[:, order - 1 - back : length - 1 - back] == contexts[:, length - 1 - back, None]
    came = contexts[:, order:, None] == np.arange(q)
    return (same[..., None] & came).sum(axis=1).astype(float)


class AddConstant:
    """(N_c(b) + c)/(N_c + q c), N_c(b) how often b came after the last ``order`` tokens.

    Args:
        task: the task; its number of states alone is used.
        order: of the chain that is assumed; 0 counts tokens alone.
        c: what is added to every count: 1 is Laplace's rule, 0.5 that of Krichevsky and Trofimov (IEEE Trans. Inf.
            Theory 27:199-207, 1981).
    """

    def __init__(self, task: Task, order: int = 1, c: float = 0.5) -> None:
        check_chain_order(order)
        self.q, self.order, self.c = task.n_states, order, positive_number(c, "c")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The smoothed frequencies."""
        counts = after_same_context(contexts, self.order, self.q) + self.c
        return counts / counts.sum(axis=1, keepdims=True)


class BackOff:
    """The longest context, of at most ``order`` tokens, that has been seen before; each shorter one is its prior.

    p_k(b) = (N_k(b) + s p_{k-1}(b))/(N_k + s) from p_{-1} = 1/q on: interpolation in the place of Katz's discounts.

    Args:
        task: the task; its number of states alone is used.
        order: of the longest context.
        s: how many observations the shorter context counts for.
    """

    def __init__(self, task: Task, order: int = 3, s: float = 5.0) -> None:
        check_chain_order(order)
        self.q, self.order, self.s = task.n_states, order, positive_number(s, "s")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """From no context to the longest."""
        probs = np.full((len(contexts), self.q), 1 / self.q)
        for order in range(self.order + 1):
            counts = after_same_context(contexts, order, self.q)
            probs = (counts + self.s * probs) / (counts.sum(axis=1, keepdims=True) + self.s)
        return probs


class ContextTreeWeighting:
    """The predictive of :class:`mdbench.tasks.ContextTree`, whatever the sequences come from.

    Args:
        task: the task; its number of states alone is used.
        depth: D of the deepest trees.
        c: α, what is added to every count of a node.
        stop: β, the prior probability that a node is a leaf.
    """

    def __init__(self, task: Task, depth: int = 3, c: float = 0.5, stop: float = 0.5) -> None:
        self.tree = ContextTree("weighted", task.n_states, depth, c, stop)

    def check_length(self, length: int) -> None:
        """Raise :class:`InputError` for contexts that are no longer than the tree is deep."""
        self.tree.check_length(length)

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """Of the weighted tree."""
        return self.tree.predictive(contexts, [contexts.shape[1]]).probs[:, 0]


class OneLag:
    """Bayes for whoever takes the weights to be one-hot: the lags' rows, weighted by the evidence of each lag alone."""

    def __init__(self, task: LagMixture) -> None:
        self.task = task

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """w_g ∝ Π_t x_t(g); where no lag alone could have made the sequence, all count the same."""
        with np.errstate(divide="ignore"):
            logs = np.log(self.task.likelihoods(contexts)).sum(axis=1)
        highest = logs.max(axis=1, keepdims=True)
        weights = np.where(np.isfinite(highest), np.exp(logs - np.where(np.isfinite(highest), highest, 0.0)), 1.0)
        return self.task.truth(weights / weights.sum(axis=1, keepdims=True), contexts)


def check_chain_order(order: Any) -> None:
    """Raise :class:`InputError` unless a chain can have that order; 0 is independence."""
    if not is_whole(order) or not 0 <= order <= HIGHEST_ORDER:
        raise InputError(f"order must be a whole number from 0 to {HIGHEST_ORDER}, not {order!r}.")


def positive_number(value: Any, name: str) -> float:
    """It as a float; raises :class:`InputError`, which has the option's name, unless it is positive and finite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < float("inf"):
        raise InputError(f"{name} must be a positive number, not {value!r}.")
    return float(value)
