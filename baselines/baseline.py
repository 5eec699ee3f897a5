"""What a posterior method is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt

from mdbench.baselines.posterior import Posterior
from mdbench.core.errors import InputError, SequenceError, Unsupported
from mdbench.core.progress import Advance
from mdbench.tasks import ClosedForm, Mixture, Task
from mdbench.tasks.needs import check_fits
from mdbench.tasks.task import is_whole

EXACT, GATED, APPROXIMATE = "exact", "gated", "approximate"
SEEDS = 2**63 - 1  # the largest
MEMORY_LIMIT = 4 * 2**30  # bytes of all draws of one call; their diagnostics take a few times as many

TaskT = TypeVar("TaskT", bound=Task)
Contexts: TypeAlias = Int[np.ndarray, "B T"]
Lengths: TypeAlias = Sequence[int] | None  # prefixes to report; the whole sequence alone if None


def option(default: Any, about: str, *, least: int | None = None, most: int = 10**6) -> Any:
    """A field that is an option.

    Args:
        default: its default.
        about: what it is, in a line.
        least: it must be a whole number of at least that,
        most: and of at most that: more would run for ever.
    """
    return field(default=default, metadata={"about": about, "least": least, "most": most})


@dataclass(frozen=True)
class Baseline(ABC, Generic[TaskT]):
    """A posterior method with its options.

    A class of its own derives from this, says its ``name`` and has one method, :meth:`posterior`, whose annotation of
    ``task`` says what it is made for (``Task``: every model). An entry point of that name, in the group
    ``mdbench.baselines``, makes it known.

    Attributes:
        name: what it is asked for by.
        standing: how far it can be trusted: ``exact``, ``gated`` (gold where every sequence passes its gates) or
            ``approximate`` (never gold).
        deterministic: whether its posterior mean is the same for every seed.
        takes_closed_forms: whether a family's own closed form is taken in its place: exact is exact, by whatever route.
        alone: whether what it finds for a sequence does not depend on the sequences beside it.
        accuracy_options: what `mdbench baseline validate` sets, where the default costs too much, in its accuracy run.
        accuracy_sequences: the most sequences there, where each costs much.
        calibration_options: what it sets in the calibration run, which needs some draws.
    """

    name: ClassVar[str]
    standing: ClassVar[str] = APPROXIMATE
    deterministic: ClassVar[bool] = False
    takes_closed_forms: ClassVar[bool] = False
    alone: ClassVar[bool] = True
    accuracy_options: ClassVar[Mapping[str, Any]] = {}
    accuracy_sequences: ClassVar[int | None] = None
    calibration_options: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        for each in fields(self):
            least = each.metadata.get("least")
            if least is not None:
                check_whole_number(self.name, each.name, getattr(self, each.name), least, each.metadata["most"])

    @abstractmethod
    def posterior(
        self, task: TaskT, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """The posterior of θ for some sequences.

        Args:
            task: the model.
            contexts: (B, T) tokens.
            lengths: the prefixes to return (default: T alone).
            progress: called with the number of sequences that have just been finished.

        Raises:
            InputError: contexts or prefixes that cannot be, or a size that it refuses.
        """

    def check_size(self, task: TaskT, length: int) -> None:  # noqa: ARG002
        """Raise :class:`InputError` for a length of a task that is too much, or :class:`Unsupported` for the task.

        Unless told otherwise a method refuses what has nothing to infer: a mixture of one component.
        """
        if isinstance(task, Mixture) and task.n_components == 1:
            raise Unsupported("at order 1 there is nothing to infer (λ = 1); use exact.", "order 1")

    # -------------------------------------------------------------------------------------------- for all of them

    @classmethod
    def options(cls) -> list[Field[Any]]:
        """The fields that a name can set."""
        return list(fields(cls))

    @property
    def label(self) -> str:
        """The name with the options that are not the default, as `mdbench` takes it."""
        given = ((each.name, getattr(self, each.name), each.default) for each in self.options())
        written = ",".join(f"{name}={value}" for name, value, default in sorted(given) if value != default)
        return f"{self.name}:{written}" if written else self.name

    @property
    def n_draws(self) -> int:
        """How many draws its posterior has for each sequence and prefix, by its fields draws and chains; 0: none."""
        return int(getattr(self, "draws", 0)) * int(getattr(self, "chains", 1))

    def is_closed_form(self, task: Task) -> bool:
        """Whether the task's own closed form takes its place."""
        return self.takes_closed_forms and isinstance(task, ClosedForm)

    def next_token(self, task: TaskT, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """p_B(· | y) of whole contexts: by the task's closed form, or at what it finds."""
        if isinstance(task, ClosedForm) and self.is_closed_form(task):
            return task.predictive(contexts, [contexts.shape[1]]).probs[:, 0]
        return self.posterior(task, contexts).predictive(task, contexts).probs[:, 0]

    def check_fits(self, task: Task) -> None:
        """Raise :class:`Unsupported` for a task that it is not made for."""
        if not self.is_closed_form(task):
            check_fits(self.name, self.posterior, task)

    def check(self, task: Any, length: int) -> None:
        """Likewise, and :class:`InputError` for a length of it that it refuses."""
        self.check_fits(task)
        if not self.is_closed_form(task):
            self.check_size(task, length)

    def prepare(
        self, task: TaskT, contexts: Any, lengths: Sequence[int] | None
    ) -> tuple[Int[np.ndarray, "B T"], Any, tuple[int, ...]]:
        """What every method begins with, all checked: contexts, x_t(g) (B, n, m) of a mixture, prefixes to report."""
        check_fits(self.name, self.posterior, task)
        contexts = task.check_contexts(contexts)
        self.check_size(task, contexts.shape[1])
        wanted = _prefix_lengths(task, contexts.shape[1], lengths)
        numbers_each = max(task.prior_mean.size, task.n_states)
        needed = 8 * self.n_draws * len(contexts) * len(wanted) * numbers_each
        if needed > MEMORY_LIMIT:
            raise InputError(
                f"{self.name}: {self.n_draws} draws for {len(contexts)} sequences at {len(wanted)} lengths take "
                f"{needed / 2**30:.1f} GiB, more than the limit of {MEMORY_LIMIT // 2**30}; take fewer of one of these."
            )
        if isinstance(task, Mixture):
            return contexts, task.likelihoods(contexts), wanted
        impossible = np.flatnonzero(~task.possible(contexts))
        if impossible.size:
            raise SequenceError(int(impossible[0]), f"impossible under {task.kind} such as '{task.name}'.")
        return contexts, None, wanted


def _prefix_lengths(task: Task, length: int, lengths: Sequence[int] | None) -> tuple[int, ...]:
    """The prefixes to report: the whole sequence for None, else ``lengths``, checked to lie in given..length."""
    wanted = (length,) if lengths is None else tuple(sorted(set(lengths)))
    for wanted_length in wanted:
        if not is_whole(wanted_length) or not task.given <= wanted_length <= length:
            raise InputError(f"prefix length {wanted_length} is outside {task.given}..{length}.")
    return wanted


def check_whole_number(method: str, name: str, value: Any, least: int, most: int) -> None:
    """Raise :class:`InputError` unless an option is a whole number in that range."""
    if not is_whole(value) or not least <= value <= most:
        raise InputError(f"{method}: {name} must be a whole number from {least} to {most}, not {value!r}.")


def sequence_seeds(contexts: Int[np.ndarray, "B T"], seed: int) -> UInt[np.ndarray, "B 4"]:
    """128 bits for each sequence from its tokens and the seed: what it is given never depends on its neighbours."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, not {seed!r}.")
    rows = np.ascontiguousarray(contexts, dtype="<i8")
    digests = [hashlib.sha256(int(seed).to_bytes(8, "little") + row.tobytes()).digest() for row in rows]
    return np.stack([np.frombuffer(digest[:16], dtype="<u4") for digest in digests])


def prefix_seeds(contexts: Int[np.ndarray, "B T"], lengths: Sequence[int], seed: int) -> UInt[np.ndarray, "B P 4"]:
    """:func:`sequence_seeds` of every prefix: what one is given does not depend on which others were asked for."""
    return np.stack([sequence_seeds(contexts[:, :length], seed) for length in lengths], axis=1)
