"""What an end does on an open TCP connection, one step after the other.

A talk is a list of steps, so a server that crashes in the middle of a download reads
`talk(read_request, send(half_of(page(1_000_000))), wait(1), reset)`.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable

Step = Callable[[socket.socket], None]

PATIENCE_S = 120.0
"""Longer than any laboratory: who waits, waits until its end."""


def talk(*steps: Step) -> Step:
    """Take the steps one by one, then close. What breaks the connection ends the talk."""

    def take(connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            for step in steps:
                step(connection)

    return take


def send(data: bytes) -> Step:
    return lambda connection: connection.sendall(data)


def request(path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP/1.1 request; `_` in a header's name stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: service.lab"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def page(size: int = 5000, status: str = "200 OK") -> bytes:
    """Return an HTTP/1.1 response with a body of that many bytes."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


def half_of(data: bytes) -> bytes:
    return data[: len(data) // 2]


def wait(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def read_request(connection: socket.socket) -> None:
    """Read the head of an HTTP request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)


def read_page(connection: socket.socket) -> None:
    """Read one response with a Content-Length to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = head.lower().split(b"content-length:")
    missing = (int(fields[1].split()[0]) if len(fields) > 1 else 0) - len(body)
    while missing > 0:
        missing -= len(_some(connection))


def read(size: int) -> Step:
    """Read that many bytes, and leave what else came in the receive buffer."""

    def step(connection: socket.socket) -> None:
        missing = size
        while missing > 0:
            missing -= len(_some(connection, missing))

    return step


def read_to_end(connection: socket.socket) -> None:
    """Read until the other end closes; for a server that never answers, wait for ever."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """Close with a reset rather than a FIN; what is not sent yet never will be."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def finish(connection: socket.socket) -> None:
    """Send the FIN and keep on receiving."""
    connection.shutdown(socket.SHUT_WR)


def _some(connection: socket.socket, size: int = 65536) -> bytes:
    data = connection.recv(min(size, 65536))
    if not data:
        raise ConnectionError("closed by the other end")
    return data
