r"""Online exponentiated gradient: a predictor for mdbench.

    λ_{t+1}(g) ∝ λ_t(g) exp(η x_t(g) / ⟨λ_t, x_t⟩),    λ_{m+1} = 1/m,

x_t(g) = π(y_{t-g}, y_t): a step of Mirror Descent on the log likelihood of each token as it comes. Its regret against
the best fixed λ grows as the root of T (Kivinen and Warmuth, 1997).
"""

import math

import numpy as np

import mdbench


class OnlineEg:
    """Predicts with the weights after the last token.

    Args:
        task: an mdbench task.
        eta: η > 0.
    """

    def __init__(self, task, eta=0.1):
        if not isinstance(eta, (int, float)) or isinstance(eta, bool) or not 0 < eta < math.inf:
            raise mdbench.InputError(f"online_eg: eta must be a positive number, not {eta!r}.")
        self.transition, self.order, self.eta = task.transition, task.order, eta

    def predict(self, contexts):
        """Probabilities of the next token, (B, q), for contexts (B, T)."""
        return self.predict_all(contexts)[:, -1]

    def predict_all(self, contexts):
        """The same after every prefix in one pass, (B, T, q); up to the first m tokens, NaN: there is nothing yet."""
        m, length = self.order, contexts.shape[1]
        found = np.full((*contexts.shape, len(self.transition)), np.nan)
        weights = np.full((len(contexts), m), 1 / m)
        for t in range(m, length):  # the token at index t is y_{t+1}
            x = self.transition[contexts[:, t - m : t][:, ::-1], contexts[:, t, None]]  # (B, m), lag 1 first
            logits = np.log(weights) + self.eta * x / (weights * x).sum(axis=1, keepdims=True)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            last = contexts[:, t - m + 1 : t + 1][:, ::-1]
            found[:, t] = np.einsum("bg,bgq->bq", weights, self.transition[last])
        return found
