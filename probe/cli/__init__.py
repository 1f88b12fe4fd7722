"""qoe-probe: the commands of the probe.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration. What a program may read is on standard
output, what is for people on standard error. Each command imports what it needs when it runs, so
that `--help` and `--version` answer at once.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from probe import __version__
from probe.cli import commands
from probe.errors import ConfigError, ProbeError

LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Command:
    """One subcommand: what --help says of it, its arguments, and what it does."""

    name: str
    summary: str
    example: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS: Final = (
    Command(
        "run",
        "run the live agent: capture, spool, ship",
        "qoe-probe run --config /etc/edgeqoe/probe.yaml",
        commands.declare_run,
        commands.run,
    ),
    Command(
        "replay",
        "print the session records of captures; - is standard input",
        "qoe-probe replay trace.pcap --format table",
        commands.declare_replay,
        commands.replay,
    ),
    Command(
        "check-config",
        "check a configuration and the files it names",
        "qoe-probe check-config /etc/edgeqoe/probe.yaml",
        commands.declare_check_config,
        commands.check_config,
    ),
    Command(
        "doctor",
        "say whether this host can capture, keep and ship, and why not",
        "qoe-probe doctor --config /etc/edgeqoe/probe.yaml",
        commands.declare_doctor,
        commands.doctor,
    ),
    Command(
        "explain",
        "show Wireshark's view of one session beside ours",
        "qoe-probe explain trace.pcap --session 00c0ffee12345678",
        commands.declare_explain,
        commands.explain,
    ),
    Command(
        "simulate",
        "write labelled traffic of a small mobile network",
        "qoe-probe simulate demo.pcap --duration 60s",
        commands.declare_simulate,
        commands.simulate,
    ),
    Command(
        "spool",
        "look into a spool directory, or ship what is in it",
        "qoe-probe spool status --config /etc/edgeqoe/probe.yaml",
        commands.declare_spool,
        commands.spool,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words).parse_args(words)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(options.run(options))
    except BrokenPipeError:
        return _reader_has_gone()
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
        return _failed(_first_known(group))
    except ProbeError as error:
        return _failed(error)


def _reader_has_gone() -> int:
    """End in silence: whoever read our output has seen enough (`| head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _first_known(group: BaseExceptionGroup[BaseException]) -> ProbeError:
    """Return the error meant for a person in a task group's failure; raise the group if none is."""
    known = group.subgroup(ProbeError)
    if known is None:
        raise group
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ProbeError)
    return error


def _failed(error: ProbeError) -> int:
    problems = error.problems if isinstance(error, ConfigError) else [" ".join(str(error).split())]
    for problem in problems:
        print(f"qoe-probe: {problem}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qoe-probe",
        description="Measures every session on a mirrored link and ships compact records.",
        epilog="example: qoe-probe replay trace.pcap --format table",
    )
    parser.add_argument("--version", action="version", version=f"qoe-probe {__version__}")
    parser.set_defaults(log_level="info")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog=f"example: {command.example}",
        )
        own.add_argument("--version", action="version", version=f"qoe-probe {__version__}")
        _add_log_level(own)
        if command.name in words:  # the others' arguments need not be known now
            command.declare(own)
        own.set_defaults(run=command.run)
    _add_log_level(parser)
    return parser


def _add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default=argparse.SUPPRESS,
        help="what to log on standard error, default info",
    )
