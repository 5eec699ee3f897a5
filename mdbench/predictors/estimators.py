"""Predictors that put an estimate of λ into the mixture, by the algorithms that ``identify`` knows."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdbench.algorithms.known import BY_NAME
from mdbench.algorithms.maximum_likelihood import maximise_likelihood
from mdbench.core.errors import InputError
from mdbench.tasks import DirichletMixture, Mixture


class Estimator(ABC):
    """Predicts with p at the weights that :meth:`weights` finds."""

    def __init__(self, task: Mixture) -> None:
        self.task = task

    @abstractmethod
    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """λ̂ from the likelihoods x_t(g) of n transitions."""

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """P at λ̂."""
        return self.task.truth(np.asarray(self.weights(self.task.likelihoods(contexts))), contexts)


class Known(Estimator):
    """An algorithm of :mod:`mdbench.algorithms.known` that has nothing to fit."""

    task: DirichletMixture

    def __init__(self, task: DirichletMixture, algorithm: str) -> None:
        super().__init__(task)
        self.algorithm = algorithm
        self.scalars: tuple[float, ...] = ()

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """As the algorithm estimates it."""
        estimate = BY_NAME[self.algorithm].estimate
        assert estimate is not None, "a posterior method is a baseline"
        return np.asarray(estimate(jnp.asarray(x), jnp.asarray(self.scalars), self.task.concentration))


class Counting(Known):
    """One that adds ``c`` to every count: a number, or ``alpha``, the prior's α."""

    def __init__(self, task: DirichletMixture, algorithm: str, c: float | str = "alpha") -> None:
        super().__init__(task, algorithm)
        number = isinstance(c, numbers.Real) and not isinstance(c, bool)
        if c != "alpha" and not (number and 0 < float(c) < math.inf):
            raise InputError(f"c must be alpha or a positive number, not {c!r}.")
        self.scalars = (task.concentration if c == "alpha" else float(c),)


class MaximumLikelihood(Estimator):
    """Predicts with the weights that maximise the likelihood, to a duality gap of at most 1e-8 nats."""

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """The maximum-likelihood λ."""
        return maximise_likelihood(x)
