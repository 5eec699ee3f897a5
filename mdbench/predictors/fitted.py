"""Models fitted to the training part of recorded sequences: what they say of the next token never changes.

They learn nothing from the contexts that they are asked about, which only say what stood before. Contexts that the
training part never had get the prior: counts begin at c = 1/2, the rule of Krichevsky and Trofimov (IEEE Trans. Inf.
Theory 27:199-207, 1981), so nothing is impossible because it has not been seen, and nothing is clipped.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import Unsupported
from mdbench.predictors.counting import check_chain_order, positive_number
from mdbench.tasks import ContextTree, Recorded
from mdbench.tasks.markov import MOST_CONTEXTS, context_index


class FittedMTD:
    """The MTD of the task, with its fitted weights: Σ_g λ_g π(y_{T+1-g}, ·)."""

    def __init__(self, task: Recorded) -> None:
        self.task = task

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """Under λ of the fit, for every context."""
        weights = np.broadcast_to(self.task.weights, (len(contexts), self.task.order))
        return self.task.truth(weights, contexts)


class _LastTokens:
    """One row of probabilities for each context of ``order`` tokens: :attr:`rows`, in lexicographic order."""

    rows: Float[np.ndarray, "contexts q"]

    def __init__(self, task: Recorded, order: int) -> None:
        check_contexts(task, order)
        self.order, self.q = order, task.n_states

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for contexts that are shorter than what is looked at."""
        if length < self.order:
            raise Unsupported(f"it looks at {self.order} tokens, and contexts have {length}.", label="too short")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The row of the last tokens."""
        return self.rows[last_context(contexts, self.q, self.order)]


class FittedChain(_LastTokens):
    """A Markov chain whose rows are (N_c(b) + c)/(N_c + q c), counted in the training part.

    Args:
        task: the task.
        order: k; 0 is independence.
        c: what is added to every count.
    """

    def __init__(self, task: Recorded, order: int, c: float = 0.5) -> None:
        check_chain_order(order)
        super().__init__(task, order)
        counts = counts_after(task, order) + positive_number(c, "c")
        self.rows = counts / counts.sum(axis=1, keepdims=True)


class FittedTree(_LastTokens):
    """Context-tree weighting (:mod:`mdbench.tasks.context_tree`) that has learned from the training part alone.

    Args:
        task: the task.
        depth: D of the deepest trees.
        c: α, what is added to every count of a node.
        stop: β, the prior probability that a node is a leaf.
    """

    def __init__(self, task: Recorded, depth: int = 3, c: float = 0.5, stop: float = 0.5) -> None:
        super().__init__(task, depth)
        tree = ContextTree("weighted", task.n_states, depth, c, stop)
        counts, everywhere = counts_after(task, depth), np.arange(task.n_states**depth)
        self.rows = np.concatenate([tree.predicted(counts[None], everywhere[k : k + 1]) for k in everywhere])


def counts_after(task: Recorded, order: int) -> Float[np.ndarray, "contexts q"]:
    """How often each token came after each context of that many tokens in the training part; gaps are crossed by none.

    Contexts are in lexicographic order, oldest token first.
    """
    q = task.n_states
    windows = task.training_windows(order + 1)
    counts = np.zeros((q**order, q))
    np.add.at(counts, (last_context(windows[:, :-1], q, order), windows[:, -1]), 1)
    return counts


def last_context(contexts: Int[np.ndarray, "batch length"], q: int, order: int) -> Int[np.ndarray, " batch"]:
    """The place of the last tokens in lexicographic order, oldest first."""
    return context_index(contexts[:, contexts.shape[1] - order :], q, order)[:, 0]


def check_contexts(task: Recorded, order: int) -> None:
    """Raise :class:`Unsupported` where there would be too many rows."""
    if task.n_states**order > MOST_CONTEXTS:
        raise Unsupported(
            f"{order} tokens of {task.n_states} states have more than {MOST_CONTEXTS} contexts; take a lower one.",
            label="too large",
        )
