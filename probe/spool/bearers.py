"""The file in the spool's directory that keeps who is who over a restart of the probe.

The engine seals its content (docs/adr/0027); here it is bytes. A file is used once: it goes when it
has been read, so that after a crash nothing is remembered rather than what was true long ago.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

NAME: Final = "bearers"
MAX_BYTES: Final = 512 << 20  # the engine opens no longer ones


def take(directory: Path) -> bytes | None:
    """Return what was kept and forget it; None if nothing was (`OSError`).

    Only a regular file is read, and at most a byte more than the engine opens.
    """
    path = directory / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    path.unlink()
    _sync(directory)
    return content


def keep(directory: Path, content: bytes) -> None:
    """Keep `content`: after a crash at any moment the file is whole, or is not there (`OSError`)."""
    fresh = directory / f"{NAME}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / NAME)
    _sync(directory)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
