"""The sequences that predictors are evaluated on: the public ones, committed once, and any other seed's."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.tasks.catalogue import built_in_like, load_task
from mdbench.tasks.recorded import Recorded
from mdbench.tasks.task import Task, Whole, is_whole

PUBLIC_SEED, N_PUBLIC = 0, 2048


@dataclass(frozen=True)
class Sequences:
    """Sequences with the θ that each was drawn with.

    Attributes:
        tokens: (N, L+1): a context of length L and the token after it.
        theta: (N, ...): θ, such as the weights (N, m) of a mixture.
    """

    tokens: Int[np.ndarray, "N L1"]
    theta: Float[np.ndarray, "N ..."]

    @property
    def weights(self) -> Float[np.ndarray, "N m"]:
        """θ of a mixture: λ."""
        return self.theta

    @functools.cached_property
    def data_hash(self) -> str:
        """SHA-256 (hex) of tokens and θ, with their shapes."""
        digest = hashlib.sha256()
        for array, kind in ((self.tokens, "<i8"), (self.theta, "<f8")):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()


@functools.cache
def public_sequences(name: str) -> Sequences:
    """All public sequences of a built-in task, as they were committed (``scripts/draw_sequences.py``)."""
    with (
        (resources.files("mdbench.tasks") / "data" / "sequences" / f"{name}.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return Sequences(arrays["tokens"].astype(np.int32), arrays[load_task(name).theta])


def evaluation_sequences(
    task: Task, length: int, n_sequences: Whole, seed: Whole, part: slice = slice(None)
) -> Sequences:
    """The sequences of that seed: those of seed 0 are the public ones as far as these go, all others are drawn.

    Recorded ones are those of seed 0, and as long as they come, whatever ``length``; :meth:`Task.cut` cuts them.

    The public ones were drawn in the same way, but stay as they are when another release of jax draws others. ``part``
    says which of the ``n_sequences`` are wanted, if not all.

    Raises:
        InputError: a length, number or seed that cannot be.
    """
    if isinstance(task, Recorded):
        return _recorded(task, n_sequences, seed, part)
    if seed == PUBLIC_SEED and is_whole(n_sequences) and n_sequences >= 1:
        task.check_length(length)
        public = _public(task)
        if public is not None and n_sequences <= len(public.tokens) and length < public.tokens.shape[1]:
            theta = task.theta_of(public.theta[:n_sequences][part], int(length) + 1)
            return Sequences(public.tokens[:n_sequences, : length + 1][part], theta)
    from mdbench.tasks.sampling import sample  # jax, which the public ones do without

    if part != slice(None):
        first, end, _ = part.indices(int(n_sequences))
        drawn = sample(task, length, end - first, seed, start=first)
    else:
        drawn = sample(task, length, n_sequences, seed)
    return Sequences(drawn.tokens, drawn.theta)


def _recorded(task: Recorded, n_sequences: Whole, seed: Whole, part: slice) -> Sequences:
    """Test tokens with what stands before them; no θ is known of them."""
    if seed != PUBLIC_SEED:
        raise InputError(
            f"the sequences of '{task.name}' were recorded; there are no others, so leave out seed {seed}."
        )
    if not is_whole(n_sequences) or not 1 <= n_sequences <= task.n_test:
        raise InputError(f"'{task.name}' has {task.n_test} test tokens to predict, not {n_sequences}.")
    windows = task.test_windows(slice(*part.indices(int(n_sequences))))
    return Sequences(windows, np.empty((len(windows), 0)))


def public_of(task: Task) -> Sequences | None:
    """All that everybody has of it: the test tokens of recorded sequences, the public ones of a built-in task."""
    if isinstance(task, Recorded):
        return _recorded(task, task.n_test, PUBLIC_SEED, slice(None))
    return _public(task)


def _public(task: Task) -> Sequences | None:
    same = built_in_like(task)
    return None if same is None else public_sequences(same.name)
