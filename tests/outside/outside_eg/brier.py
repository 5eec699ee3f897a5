"""A score of predictions."""

import numpy as np


def brier(cell, probs):
    """Brier score: the squared distance of the probabilities from the token that came."""
    came = np.eye(probs.shape[1])[cell.next_tokens]
    return ((probs - came) ** 2).sum(axis=1)
