"""The options of `qoe-probe simulate`, checked without scapy being there."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from probe.errors import ConfigError
from probe.settings import parse_duration

MAX_CELLS: Final = 500
MAX_SUBSCRIBERS: Final = 50_000
MIN_SNAP_LENGTH: Final = 96
MAX_SNAP_LENGTH: Final = 262_144
DEFAULT_START: Final = "2026-01-05T08:00:00Z"  # fixed, so that a seed names one file
_DEFAULT_BAD_CELL, _DEFAULT_BAD_SUBSCRIBER = 3, 7


@dataclass(frozen=True)
class SimulationSettings:
    """A simulation as asked for. Cell and subscriber numbers start at 1; 0 means none."""

    output: Path
    cells: int
    subscribers: int
    duration_us: int
    seed: int
    view: str  # "sgi" or "s1u"
    start_ns: int
    bad_cell: int
    bad_subscriber: int
    snap_length: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command on `parser`."""
    parser.description = (
        "Write the traffic of a small mobile network with labelled faults: OUT.pcap, and beside it "
        "OUT.truth.json (what is in it) and OUT.map.csv (the attribution map)."
    )
    parser.epilog = "example: qoe-probe simulate demo.pcap --duration 60s --view s1u"
    parser.add_argument("output", metavar="OUT.pcap", type=Path, help="capture to write")
    parser.add_argument("--cells", type=int, default=8, help="default 8")
    parser.add_argument("--subscribers", type=int, default=40, help="default 40")
    parser.add_argument("--duration", default="120s", help="length of the capture, default 120s")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes; default 1")
    parser.add_argument(
        "--view", choices=("sgi", "s1u"), default="sgi", help="plain IP (default) or GTP-U"
    )
    parser.add_argument(
        "--start", default=DEFAULT_START, help=f"RFC 3339 time or 'now', default {DEFAULT_START}"
    )
    parser.add_argument("--bad-cell", type=int, metavar="N", help="default 3, 0 for none")
    parser.add_argument("--bad-subscriber", type=int, metavar="N", help="default 7, 0 for none")
    parser.add_argument(
        "--snap-length",
        type=int,
        default=MAX_SNAP_LENGTH,
        metavar="BYTES",
        help="keep at most so many bytes of a packet, default all",
    )


def read_arguments(arguments: argparse.Namespace) -> SimulationSettings:
    """Return the settings, or raise `ConfigError` that names every wrong option."""
    problems: list[str] = []
    _check_ranges(arguments, problems)
    duration_us = _duration_us(arguments.duration, problems)
    start_ns = _start_ns(arguments.start, problems)
    if problems:
        raise ConfigError(problems)
    return SimulationSettings(
        output=arguments.output,
        cells=arguments.cells,
        subscribers=arguments.subscribers,
        duration_us=duration_us,
        seed=arguments.seed,
        view=arguments.view,
        start_ns=start_ns,
        bad_cell=_chosen(arguments.bad_cell, _DEFAULT_BAD_CELL, arguments.cells),
        bad_subscriber=_chosen(
            arguments.bad_subscriber, _DEFAULT_BAD_SUBSCRIBER, arguments.subscribers
        ),
        snap_length=arguments.snap_length,
    )


def _chosen(asked: int | None, default: int, most: int) -> int:
    return min(default, most) if asked is None else asked


def _check_ranges(arguments: argparse.Namespace, problems: list[str]) -> None:
    ranges = (
        ("--cells", arguments.cells, 1, MAX_CELLS),
        ("--subscribers", arguments.subscribers, 1, MAX_SUBSCRIBERS),
        ("--bad-cell", arguments.bad_cell, 0, arguments.cells),
        ("--bad-subscriber", arguments.bad_subscriber, 0, arguments.subscribers),
        ("--snap-length", arguments.snap_length, MIN_SNAP_LENGTH, MAX_SNAP_LENGTH),
    )
    problems += [
        f"{name}: {value} is out of range; allowed: {least} to {most}"
        for name, value, least, most in ranges
        if value is not None and not least <= value <= most
    ]


def _duration_us(text: str, problems: list[str]) -> int:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        problems.append(f"--duration: {text!r}: {error}")
        return 0
    return round(duration.total_seconds() * 1_000_000)


def _start_ns(text: str, problems: list[str]) -> int:
    """Return whole microseconds, in ns: the resolution of the capture file."""
    if text == "now":
        return _nanoseconds(datetime.now(UTC))
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        start = None
    if start is None or start.tzinfo is None or not 1970 <= start.year < 2106:
        problems.append(
            f"--start: {text!r} is not a time; allowed: 'now' or RFC 3339 as in {DEFAULT_START}"
        )
        return 0
    return _nanoseconds(start)


def _nanoseconds(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
