"""What every posterior method returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdbench.errors import InputError
from mdbench.tasks import Task


@dataclass(frozen=True)
class Posterior:
    """Posterior of the mixture weights λ for a batch of sequences, at some of their prefixes.

    Attributes:
        method: name of the baseline that made it.
        lengths: (P,) the prefix lengths, ascending; a prefix of length m gives the prior.
        mean: (B, P, m) E[λ | y_1..y_length].
        sd: (B, P, m) posterior standard deviations.
        log_evidence: (B, P) log p(y_{m+1}..y_length | y_1..y_m), in nats.
        error: (B,) bound, over the prefixes, on the absolute error of ``mean`` and on that of ``log_evidence`` relative
            to 1 + |log_evidence|.
    """

    method: str
    lengths: tuple[int, ...]
    mean: Float[np.ndarray, "B P m"]
    sd: Float[np.ndarray, "B P m"]
    log_evidence: Float[np.ndarray, "B P"]
    error: Float[np.ndarray, " B"]


def prefix_lengths(task: Task, length: int, lengths: Sequence[int] | None) -> tuple[int, ...]:
    """The prefixes to report: the whole sequence for None, else ``lengths``, checked to lie in order..length."""
    wanted = (length,) if lengths is None else tuple(sorted(set(lengths)))
    for wanted_length in wanted:
        if not task.order <= wanted_length <= length:
            raise InputError(f"prefix length {wanted_length} is outside {task.order}..{length}.")
    return wanted
