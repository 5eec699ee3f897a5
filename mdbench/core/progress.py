"""How long work says how far it is: ``progress(description, total)`` returns ``advance(k)``."""

from __future__ import annotations

import sys
from collections.abc import Callable

Advance = Callable[[float], None]
"""Called with how much more has just been done: sequences, steps, or a part of one."""

Progress = Callable[[str, int], Advance]
"""``progress(description, total)`` begins something that is done when its :data:`Advance` has been given ``total``."""


BEGAN, ENDED = "began", "ended"

Note = Callable[[str, str, int], object]
"""Called with :data:`BEGAN` or :data:`ENDED`, and the host and the process that something is computed by."""


def no_note(_event: str, _host: str, _process: int) -> None:
    """A :data:`Note` that nobody reads."""


def no_advance(_k: float) -> None:
    """An :data:`Advance` that shows nothing."""


def no_progress(_description: str, _total: int) -> Advance:
    """A :data:`Progress` that shows nothing."""
    return no_advance


def default_progress() -> Progress:
    """A bar in a notebook, nothing elsewhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return no_progress
    from tqdm.auto import tqdm

    def start(description: str, total: int) -> Advance:
        return tqdm(desc=description, total=total).update

    return start
