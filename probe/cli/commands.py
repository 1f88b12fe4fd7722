"""The arguments of each command, and the doors to the modules that do the work."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from probe.errors import ConfigError, ExtraMissingError, ProbeError

DEFAULT_CONFIG: Final = Path("/etc/edgeqoe/probe.yaml")

# ruff: noqa: PLC0415 - each command imports what it needs, and no other command pays for it


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"default {DEFAULT_CONFIG}",
    )


# -------------------------------------------------------------------------------------------- run


def declare_run(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)


def run(options: argparse.Namespace) -> int:
    from probe.agent import RELOAD_SIGNALS, STOP_SIGNALS, native_kit, run_agent
    from probe.config import load_probe_config

    config = load_probe_config(options.config)
    return asyncio.run(run_agent(config, native_kit(), STOP_SIGNALS, RELOAD_SIGNALS))


# ----------------------------------------------------------------------------------------- replay


def declare_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "captures",
        nargs="+",
        type=Path,
        metavar="PCAP",
        help="capture file, directory of captures, or - for standard input",
    )
    parser.add_argument(
        "--format",
        choices=("jsonl", "table", "msgpack"),
        default="jsonl",
        help="jsonl (default): one record a line; table: for people; msgpack: sealed batches",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default standard output")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="probe.yaml, for attribution and limits"
    )
    parser.add_argument(
        "--site-key-file",
        type=Path,
        metavar="FILE",
        help="key of the pseudonyms; without one a well-known key is used, with a warning",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="threads that measure flows, with the same records for any number; by default one for "
        "a small file, else one for each usable core, at most 8",
    )


def _workers(text: str) -> int:
    from probe.config import MAX_WORKERS

    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_WORKERS}")
    return int(text)


def replay(options: argparse.Namespace) -> int:
    from probe.cli.replay import replay_to

    return replay_to(
        options.captures,
        form=options.format,
        output=options.output,
        config_file=options.config,
        site_key_file=options.site_key_file,
        workers=options.workers,
    )


# ----------------------------------------------------------------------------------- check-config


def declare_check_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the configuration")


def check_config(options: argparse.Namespace) -> int:
    from probe.config import content_problems, load_probe_config

    config = load_probe_config(options.file)
    if problems := content_problems(config):
        raise ConfigError([f"{options.file}: {problem}" for problem in problems])
    print(f"{options.file}: correct", file=sys.stderr)
    return 0


# ----------------------------------------------------------------------------------------- doctor


def declare_doctor(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)


def doctor(options: argparse.Namespace) -> int:
    from probe.cli.doctor import examine
    from probe.config import load_probe_config

    return examine(load_probe_config(options.config))


# ---------------------------------------------------------------------------------------- explain


def declare_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("capture", type=Path, metavar="PCAP")
    parser.add_argument("--session", required=True, metavar="ID", help="session_id, 16 hex digits")
    parser.add_argument("--config", type=Path, metavar="FILE", help="as for replay")
    parser.add_argument("--site-key-file", type=Path, metavar="FILE", help="as for replay")


def explain(options: argparse.Namespace) -> int:
    from probe.cli.replay import replayed_rows
    from probe.explain import explain_session

    rows = list(
        replayed_rows(
            [options.capture],
            config_file=options.config,
            site_key_file=options.site_key_file,
        )
    )
    return explain_session(options.capture, options.session.lower(), rows)


# --------------------------------------------------------------------------------------- simulate


def declare_simulate(parser: argparse.ArgumentParser) -> None:
    from probe.simulate import add_arguments

    add_arguments(parser)


def simulate(options: argparse.Namespace) -> int:
    from probe.simulate import run as run_simulation

    try:
        return run_simulation(options)
    except ModuleNotFoundError as error:
        raise ExtraMissingError(
            f"simulate needs {error.name}; install it with: pip install 'edgeqoe[simulate]'"
        ) from error


# ------------------------------------------------------------------------------------------ spool


def declare_spool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "inspect", "drain"))
    _add_config(parser)
    parser.add_argument(
        "--path", type=Path, metavar="DIR", help="the spool itself, instead of a configuration"
    )


def spool(options: argparse.Namespace) -> int:
    from probe.cli import spool as actions
    from probe.config import load_probe_config

    if options.action == "drain":
        if options.path is not None:
            raise ConfigError(["spool drain: needs --config, which names the collector"])
        return asyncio.run(actions.drain(load_probe_config(options.config)))
    path = options.path or load_probe_config(options.config).spool.path
    if options.action == "status":
        return actions.status(path)
    if options.action == "inspect":
        return actions.inspect(path)
    raise ProbeError(f"spool: unknown action {options.action}")
