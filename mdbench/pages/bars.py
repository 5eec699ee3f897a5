"""Progress on stderr: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from mdbench.core.progress import Advance


class Bars:
    """``bars(description, total)`` returning ``advance(k)``: bars on stderr or, without a terminal, lines.

    The time left is judged from what has been done; where that is nothing, none is shown.
    """

    def __init__(self, stderr: Console) -> None:
        self.stderr = stderr
        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            _TimeLeft(),
        )
        self.bars = rich_progress.Progress(*columns, console=stderr, transient=True) if stderr.is_terminal else None

    def __call__(self, description: str, total: int) -> Advance:
        clock = _Clock(total)
        if (bars := self.bars) is not None:
            bar = bars.add_task(description, total=total, clock=clock)

            def advance(k: float) -> None:
                clock.advance(k)
                bars.advance(bar, k)

            return advance
        self._line(f"{description} ({total}) ...")
        shown = time.monotonic()

        def say(k: float) -> None:
            nonlocal shown
            clock.advance(k)
            now = time.monotonic()
            if now - shown >= PERIOD and clock.done < total:
                shown = now
                left = f", {clock.left}" if clock.left else ""
                self._line(f"{description}: {clock.done:.0f} of {total}{left} ...")

        return say

    def _line(self, text: str) -> None:
        self.stderr.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """While something else is printed."""
        if self.bars is not None:
            self.bars.stop()
        try:
            yield
        finally:
            if self.bars is not None:
                self.bars.start()


class _Clock:
    """How much is done, and how long the rest takes if it goes on as it went.

    Judged from the second call on: the first may report what an earlier, interrupted run did.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0.0
        self.first: tuple[float, float] | None = None
        self.last = (0.0, 0.0)

    def advance(self, k: float) -> None:
        self.done += k
        if k > 0:
            self.last = (time.monotonic(), self.done)
            self.first = self.first or self.last

    @property
    def left(self) -> str:
        """``about 12 s left``, or nothing where that is not known."""
        if self.first is None or self.last[1] <= self.first[1] or self.done >= self.total:
            return ""
        rate = (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])
        return f"about {rate * (self.total - self.done):.0f} s left"


class _TimeLeft(rich_progress.ProgressColumn):
    def render(self, task: Any) -> Text:
        return Text(task.fields["clock"].left)


@contextlib.contextmanager
def progress_bars() -> Iterator[Bars]:
    """:class:`Bars` while a command runs."""
    bars = Bars(Console(stderr=True, emoji=False))
    with bars.bars or contextlib.nullcontext():
        yield bars


PERIOD = 10.0  # seconds between lines of progress
