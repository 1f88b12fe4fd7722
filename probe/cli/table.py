"""Session records as a table for people: milliseconds, short numbers, one row a record."""

from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from probe.record.codec import Row

_PIPE_WIDTH: Final = 220  # where there is no terminal to ask
_LEFT: Final = ("time", "client", "server", "protocol", "name", "outcome")
_RIGHT: Final = ("setup ms", "rtt client", "rtt server", "up", "down", "lost")
_ORDER: Final = (*_LEFT[:5], *_RIGHT, _LEFT[5])
_STYLE: Final = {"failed": "red", "degraded": "yellow"}


class RecordTable:
    """Gathers records and prints them. Round trips are the interval's median or the handshake's."""

    def __init__(self) -> None:
        self._table = Table(box=None, header_style="bold", pad_edge=False)
        for name in _ORDER:
            self._table.add_column(name, justify="right" if name in _RIGHT else "left")

    def add(self, row: Row) -> None:
        """Add a record in the form it has in JSON."""
        cells = [
            row["start_time"][11:23],
            endpoint(row["client_ip"], row["client_port"]),
            endpoint(row["server_ip"], row["server_port"]),
            row["app_protocol"] or row["transport"],
            row["server_name"] or row["dns_query"] or row["procedure"] or "",
            milliseconds(row["setup_us"]),
            milliseconds(_first(row["rtt_client_median_us"], row["handshake_rtt_client_us"])),
            milliseconds(_first(row["rtt_server_median_us"], row["handshake_rtt_server_us"])),
            size(row["bytes_up"]),
            size(row["bytes_down"]),
            _loss(row),
            _outcome(row),
        ]
        style = _STYLE.get(row["outcome"] or "")
        self._table.add_row(*(Text(printable(cell)) for cell in cells), style=style)

    def print(self, stream: TextIO) -> None:
        """Write the table, with colours only on a terminal."""
        width = None if stream.isatty() else _PIPE_WIDTH
        Console(file=stream, width=width, soft_wrap=False).print(self._table)


def endpoint(address: str | None, port: int | None) -> str:
    """Return address and port as people write them, IPv6 in brackets."""
    if address is None:
        return "-"
    host = f"[{address}]" if ":" in address else address
    return host if port is None else f"{host}:{port}"


def milliseconds(microseconds: int | None) -> str:
    """Return microseconds as milliseconds, with decimals while these matter."""
    if microseconds is None:
        return ""
    value = microseconds / 1000
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def size(number: int | None) -> str:
    """Return bytes with a decimal unit."""
    value = float(number or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def printable(text: str) -> str:
    """Return `text` without control characters: names come from strangers' packets."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _loss(row: dict[str, Any]) -> str:
    """Return the packets lost on either side of the tap, nothing where that is not known."""
    names = [f"lost_{side}_tap_{way}" for side in ("before", "after") for way in ("up", "down")]
    known = [row[name] for name in names if row[name] is not None]
    return str(sum(known)) if known else ""


def _outcome(row: dict[str, Any]) -> str:
    cause = row["failure_cause"]
    outcome = row["outcome"] or ""
    return f"{outcome}: {cause}" if cause and cause != "none" else outcome
