"""Errors that a person sees as a sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

log = logging.getLogger(__name__)

LONGEST_SHOWN = 80  # characters of what somebody gave, in a message


@functools.cache
def warn_once(sentence: str) -> None:
    """Log a warning, the same one never again."""
    log.warning("mdbench: %s", sentence)


class InputError(ValueError):
    """Something that the caller gave is wrong. The message says what, where and what would be right."""


class SequenceError(InputError):
    """Something is wrong with one sequence of many; ``index`` (from 0) says with which."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(index, what)
        self.index, self.what = index, what

    def __str__(self) -> str:
        return f"sequence {self.index + 1}: {self.what}"


class Unsupported(InputError):
    """A predictor cannot serve this task or length: the message says why, and ``label`` says it in a word or two."""

    def __init__(self, message: str, label: str = "unsupported") -> None:
        super().__init__(message)
        self.label = label


class PredictorError(RuntimeError):
    """A predictor broke its contract."""


@contextlib.contextmanager
def foreign(
    what: str, *passing: type[BaseException], kind: type[InputError] | type[PredictorError] = PredictorError
) -> Iterator[None]:
    """Turn whatever somebody else's code raises here, sys.exit too, into an error of that kind that begins so.

    What is a PredictorError already, or one of ``passing``, goes through.
    """
    through: tuple[type[BaseException], ...] = (PredictorError, *passing)
    try:
        yield
    except through:
        raise
    except SystemExit as error:
        raise kind(f"{what}: it called sys.exit({error.code!r}).") from error
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever its author derived it from
        raise kind(f"{what}: {reason_of(error)}") from error


@runtime_checkable
class Point(Protocol):
    """An entry point of ``importlib.metadata``, or of the backport that another package may have put in its place."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def value(self) -> str:
        """``module:attribute``."""

    @property
    def dist(self) -> Any:
        """The distribution that brings it, if that is known."""

    def load(self) -> Any:
        """Import it."""


def origin(point: Point) -> str:
    """Where an entry point comes from."""
    return f"from {point.dist.name} {point.dist.version}" if point.dist else "from an entry point"


def shown(given: object) -> str:
    """What somebody gave, in a message: quoted, its end cut off."""
    text = str(given)
    text = text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    return f"'{text}'" if text.isprintable() else ascii(text)


def reason_of(error: BaseException) -> str:
    """What somebody else's code raised, in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, InputError):  # it says all
        return f"{text}."
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An :class:`InputError` for a name that nobody knows, with the nearest one that somebody does."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name[:LONGEST_SHOWN], known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}." if known else "there are none."
    return InputError(f"no {kind} {shown(name)}; {hint}")
