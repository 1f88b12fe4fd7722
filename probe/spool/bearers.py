"""The file in the spool's directory that keeps who is who over a restart of the probe.

The engine seals its content (docs/adr/0027); here it is bytes. A file is used once: it is put aside
before it is read, and goes when it was of use, so that after a crash nothing is remembered rather
than what was true long ago. One that is of no use stays aside until the next such, for whoever
wants to know why.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from probe.spool.spool import sync_directory

NAME: Final = "bearers"
ASIDE: Final = "bearers.refused"
MAX_BYTES: Final = 512 << 20  # the engine opens no longer ones


def take(directory: Path) -> bytes | None:
    """Put aside what was kept and return it; None if nothing was (`OSError`).

    Only a regular file is read, and at most a byte more than the engine opens.
    """
    aside = directory / ASIDE
    try:
        (directory / NAME).replace(aside)
    except FileNotFoundError:
        return None
    sync_directory(directory)
    fd = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(MAX_BYTES + 1)


def forget(directory: Path) -> None:
    """Remove what was taken (`OSError`)."""
    (directory / ASIDE).unlink()


def keep(directory: Path, content: bytes) -> None:
    """Keep `content`: after a crash the file is whole, or is not there (`OSError`)."""
    fresh = directory / f"{NAME}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / NAME)
    sync_directory(directory)
