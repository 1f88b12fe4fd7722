"""The options of `qoe-probe simulate`, checked without scapy being there."""

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from probe.errors import ConfigError
from probe.settings import parse_duration
from probe.simulate.services import SERVICES

MAX_CELLS: Final = 500
MAX_SUBSCRIBERS: Final = 50_000
MAX_HANDOVERS: Final = 1_000_000
MAX_RESTARTS: Final = 9
MIN_SNAP_LENGTH: Final = 96
MAX_SNAP_LENGTH: Final = 262_144
DEFAULT_START: Final = "2026-01-05T08:00:00Z"  # fixed, so that a seed names one file
DEFAULT_BAD_SERVER: Final = "api.farapi.example"
_DEFAULT_CONGESTED_CELL: Final = 5
_SHORTEST_PAUSE_US: Final = 100_000
_DEFAULT_BAD_CELL, _DEFAULT_BAD_SUBSCRIBER, _DEFAULT_OLD_DEVICE = 3, 7, 11


VIEWS: Final = (
    "sgi",
    "s1u",
    "s1u+s11",
    "s1u+s1ap",
    "s1u+s11+s1ap",
    "n3+n4",
    "n3+n2",
    "n3+n4+n2",
    "sgi+radius",
)
_EPILOG: Final = """\
example: qoe-probe simulate demo.pcap --duration 60s --view s1u
example: qoe-probe simulate moves.pcap --view s1u+s11 --cells 50 --subscribers 400 --handovers 100

A view with a control plane shows the user plane of one place and the control messages that go
with it, in one capture: GTP-U on S1-U with GTPv2-C (s11) and S1AP (s1ap), GTP-U on N3 with PFCP
(n4) and NGAP (n2), or plain IP on SGi with RADIUS (radius). The same seed gives the same user
traffic in each of them. Devices attach, move between cells in the middle of flows, fall idle and
come back, detach and attach again with addresses and TEIDs that others have had; a gateway
restarts; requests are refused (no resources, wrong APN, no radio), repeated, or never answered.
The truth file then has, besides the sessions, `identities`, `attachments` (each with its
stays: cell, tunnels and bytes) and `signalling` (each request with result, cause and time),
and each session has `carried`: its bytes by stay. A move takes effect upwards when the target
asks for the path, downwards when the gateway turns the tunnel. No OUT.map.csv is written: the
control plane says who is who."""


@dataclass(frozen=True)
class SimulationSettings:
    """A simulation as asked for. Cell and subscriber numbers start at 1; 0 means none."""

    output: Path
    cells: int
    subscribers: int
    duration_us: int
    seed: int
    view: str  # one of VIEWS
    start_ns: int
    bad_cell: int
    bad_subscriber: int
    snap_length: int
    # What follows is for views with a control plane.
    rat: str  # "eutran" or "nr"
    handovers: int
    restarts: int
    old_device: int
    congested_cell: int
    bad_server: str | None
    skip_us: int
    mean_pause_us: int

    @property
    def has_control(self) -> bool:
        return "+" in self.view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command on `parser`."""
    parser.description = (
        "Write the traffic of a small mobile network with labelled faults: OUT.pcap, and beside\n"
        "it OUT.truth.json (what is in it) and OUT.map.csv (the attribution map)."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("output", metavar="OUT.pcap", type=Path, help="capture to write")
    parser.add_argument("--cells", type=int, default=8, help="default 8")
    parser.add_argument("--subscribers", type=int, default=40, help="default 40")
    parser.add_argument("--duration", default="120s", help="length of the capture, default 120s")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes; default 1")
    parser.add_argument(
        "--view",
        choices=VIEWS,
        default="sgi",
        metavar="VIEW",
        help="what is tapped: plain IP (sgi, default), GTP-U (s1u), or one with a control plane: "
        + ", ".join(VIEWS[2:]),
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
    parser.add_argument(
        "--pause",
        default="5s",
        help="mean time between the errands of a subscriber, default 5s",
    )
    _add_control_arguments(parser)


def _add_control_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("views with a control plane")
    group.add_argument(
        "--handovers", type=int, metavar="N", help="default one for every four subscribers"
    )
    group.add_argument(
        "--restarts", type=int, metavar="N", help="of gateways, default 1, 0 for none"
    )
    group.add_argument("--congested-cell", type=int, metavar="N", help="default 5, 0 for none")
    group.add_argument(
        "--bad-server",
        metavar="NAME",
        help=f"far away behind a lossy path, default {DEFAULT_BAD_SERVER}, 'none' for none",
    )
    group.add_argument("--old-device", type=int, metavar="N", help="default 11, 0 for none")
    group.add_argument(
        "--rat", choices=("eutran", "nr"), help="of sgi+radius, whose cells may be either"
    )
    group.add_argument(
        "--skip",
        metavar="DURATION",
        help="leave so much of the beginning out of capture and labels: sessions are under way",
    )


def read_arguments(arguments: argparse.Namespace) -> SimulationSettings:
    """Return the settings, or raise `ConfigError` that names every wrong option."""
    problems: list[str] = []
    _check_ranges(arguments, problems)
    duration_us = _duration_us(arguments.duration, problems)
    start_ns = _start_ns(arguments.start, problems)
    pause_us = _pause_us(arguments.pause, problems)
    skip_us = _duration_us(arguments.skip, problems, "--skip") if arguments.skip else 0
    _check_control(arguments, skip_us, duration_us, problems)
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
        rat=_rat(arguments),
        handovers=_default(arguments.handovers, arguments.subscribers // 4),
        restarts=_default(arguments.restarts, 1),
        old_device=_chosen(arguments.old_device, _DEFAULT_OLD_DEVICE, arguments.subscribers),
        congested_cell=_chosen(arguments.congested_cell, _DEFAULT_CONGESTED_CELL, arguments.cells),
        bad_server=_bad_server(arguments),
        skip_us=skip_us,
        mean_pause_us=pause_us,
    )


def _bad_server(arguments: argparse.Namespace) -> str | None:
    name: str = arguments.bad_server or DEFAULT_BAD_SERVER
    return None if name == "none" or "+" not in arguments.view else name


def _rat(arguments: argparse.Namespace) -> str:
    if arguments.view.startswith("n3"):
        return "nr"
    return arguments.rat or "eutran"


def _default(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def _check_control(
    arguments: argparse.Namespace, skip_us: int, duration_us: int, problems: list[str]
) -> None:
    control = (
        "handovers",
        "restarts",
        "congested_cell",
        "bad_server",
        "old_device",
        "rat",
        "skip",
    )
    if "+" not in arguments.view:
        problems += [
            f"--{name.replace('_', '-')}: is for views with a control plane: {', '.join(VIEWS[2:])}"
            for name in control
            if getattr(arguments, name) is not None
        ]
    names = [service.server_name for service in SERVICES]
    if arguments.bad_server not in (None, "none", *names):
        problems.append(
            f"--bad-server: {arguments.bad_server!r} is none of them; allowed: {', '.join(names)}"
        )
    if arguments.rat and arguments.view != "sgi+radius":
        problems.append("--rat: is for the view sgi+radius; the others have their own")
    if skip_us and skip_us >= duration_us:
        problems.append(f"--skip: {arguments.skip} leaves nothing of {arguments.duration}")


def _chosen(asked: int | None, default: int, most: int) -> int:
    return min(default, most) if asked is None else asked


def _check_ranges(arguments: argparse.Namespace, problems: list[str]) -> None:
    ranges = (
        ("--cells", arguments.cells, 1, MAX_CELLS),
        ("--subscribers", arguments.subscribers, 1, MAX_SUBSCRIBERS),
        ("--bad-cell", arguments.bad_cell, 0, arguments.cells),
        ("--bad-subscriber", arguments.bad_subscriber, 0, arguments.subscribers),
        ("--handovers", arguments.handovers, 0, MAX_HANDOVERS),
        ("--restarts", arguments.restarts, 0, MAX_RESTARTS),
        ("--congested-cell", arguments.congested_cell, 0, arguments.cells),
        ("--old-device", arguments.old_device, 0, arguments.subscribers),
        ("--snap-length", arguments.snap_length, MIN_SNAP_LENGTH, MAX_SNAP_LENGTH),
    )
    problems += [
        f"{name}: {value} is out of range; allowed: {least} to {most}"
        for name, value, least, most in ranges
        if value is not None and not least <= value <= most
    ]


def _duration_us(text: str, problems: list[str], option: str = "--duration") -> int:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        problems.append(f"{option}: {text!r}: {error}")
        return 0
    return round(duration.total_seconds() * 1_000_000)


def _pause_us(text: str, problems: list[str]) -> int:
    others = len(problems)
    pause_us = _duration_us(text, problems, "--pause")
    if len(problems) == others and pause_us < _SHORTEST_PAUSE_US:
        problems.append(f"--pause: {text} is too short; allowed: 100ms and more")
    return pause_us


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
