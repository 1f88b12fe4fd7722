"""What one scenario has to itself: addresses of its own for a client and up to 64 servers."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.laboratory.network import DEVICE, Laboratory, client_address, server_address

SERVERS = 64
WEB = 1
"""The host number at which nginx serves every site; the other hosts are the scenario's own."""
NAME = "service.lab"
"""The server name that certificates are for."""


@dataclass
class Site:
    """One scenario's part of a laboratory. Sites are numbered from 1; host numbers are 0 to 63."""

    number: int
    laboratory: Laboratory
    secrets: Path
    """Directory of the certificates (see `certificates`)."""
    notes: list[str] = field(default_factory=list)
    """What the clients met, for people who read the report."""
    _ends: list[Callable[[], None]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        path = self.laboratory.directory / f"site-{self.number}"
        path.mkdir(exist_ok=True)
        return path

    def client(self, version: int = 4) -> str:
        return client_address(self.number, version)

    def server(self, host: int = 0, version: int = 4) -> str:
        return server_address(self.number * SERVERS + host, version)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at_end(self, end: Callable[[], None]) -> None:
        """Have something done when the laboratory is over."""
        self._ends.append(end)

    def keep(self, opened: socket.socket) -> socket.socket:
        """Have a socket closed with the site, whoever still waits on it."""
        self.at_end(lambda: _hang_up(opened))
        return opened

    def close(self) -> None:
        for end in self._ends:
            end()


def _hang_up(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
    opened.close()


def routes(sites: list[Site]) -> Iterator[str]:
    """Yield commands for `ip -batch`: each site's servers are reached from its own client address.

    So no client program has to be told where to bind.
    """
    for site in sites:
        yield f"address add {site.client(6)}/128 dev {DEVICE} nodad"
        yield f"route add {site.server()}/26 dev {DEVICE} src {site.client()}"
        yield f"route add {site.server(version=6)}/122 dev {DEVICE} src {site.client(6)}"


def wait_until(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Wait for a function to say yes."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready within {within_s} s")
        time.sleep(0.05)
