"""A progress bar on standard error, and nothing at all where that is not a terminal."""

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Reader(Protocol):
    """What can say how far it has read."""

    def progress(self) -> tuple[int, int] | None: ...


class Progress:
    """Shows how many bytes of the captures have been read."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("reading"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, reader: Reader) -> None:
        """Move the bar to where `reader` is."""
        if self._bar is None:
            return
        position = reader.progress()
        if position is not None:
            self._bar.update(self._task, completed=position[0], total=position[1])
