"""qoe-collector: the commands of the collector.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration. What a program may read is on standard
output, what is for people on standard error.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from collector import __version__
from collector.config import CollectorConfig, ConfigError, file_problems, load_config
from collector.errors import CollectorError
from collector.identity import audit, tokens
from collector.identity.operations import Role
from collector.identity.state import StateDatabase
from collector.service import admin, lifecycle, rooms, upkeep
from collector.store import Store

DEFAULT_CONFIG: Final = Path("/etc/edgeqoe/collector.yaml")

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(options.command(options))
    except ConfigError as error:
        _say(*error.problems)
        return 2
    except CollectorError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


# ------------------------------------------------------------------------------------- commands


def _serve(options: argparse.Namespace) -> int:
    asyncio.run(lifecycle.serve(load_config(options.config)))
    return 0


def _check_config(options: argparse.Namespace) -> int:
    config = load_config(options.file)
    if problems := file_problems(config) + rooms.content_problems(config):
        raise ConfigError(problems)
    _say(f"{options.file}: correct")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    if asyncio.run(admin.ask(config.admin_socket_path, "status")) is not None:
        _say("the running collector has migrated its store and state when it started")
        return 0
    rooms.open_state(config).close()
    _with_store(config, _nothing)
    _say("store and state are of this version")
    return 0


async def _nothing(_: Store) -> None:
    """Opening the store has migrated it."""


def _token_create(options: argparse.Namespace) -> int:
    def create(database: StateDatabase) -> str:
        with database.transaction() as connection:
            token = tokens.create(connection, options.role, options.name)
            what = f"token create role {options.role} name {options.name}"
            audit.record(connection, _me(), what, tokens.id_of(token))
        return token

    token = _with_state(options, create)
    _say(f"token {tokens.id_of(token)} for {options.role} {options.name}; it is shown only once")
    print(token, flush=True)
    return 0


def _token_list(options: argparse.Namespace) -> int:
    records = _with_state(options, lambda database: _read(database, tokens.listed))
    print("id\trole\tname\tcreated\tlast_used\trevoked")
    for record in records:
        times = (record.created_at, record.last_used_at, record.revoked_at)
        print("\t".join([record.id, record.role, record.name, *map(_time, times)]))
    return 0


def _token_revoke(options: argparse.Namespace) -> int:
    def revoke(database: StateDatabase) -> bool:
        with database.transaction() as connection:
            revoked = tokens.revoke(connection, options.id)
            if revoked:
                audit.record(connection, _me(), "token revoke", options.id)
        return revoked

    if not _with_state(options, revoke):
        raise CollectorError(f"no valid token has the id {options.id}; see token list")
    _say(f"token {options.id} is revoked")
    return 0


def _erase_subscriber(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    body = {"subscriber_id": options.subscriber_id}
    if asyncio.run(admin.ask(config.admin_socket_path, "erase-subscriber", body)) is None:
        with rooms.open_state(config) as database:
            erase = partial(
                upkeep.erase_subscriber,
                database=database,
                subscriber_id=options.subscriber_id,
                who=_me(),
            )
            _with_store(config, erase)
    _say(f"subscriber {options.subscriber_id} is erased")
    return 0


def _check_store(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    answer = asyncio.run(admin.ask(config.admin_socket_path, "check-store"))
    problems = _check_closed_store(config) if answer is None else answer["problems"]
    if problems:
        raise CollectorError("\n".join(problems))
    _say("the store is whole: files undamaged, rollups equal to raw records")
    return 0


def _check_closed_store(config: CollectorConfig) -> list[str]:
    with rooms.open_state(config) as database:
        check = partial(upkeep.check_store, database=database, config=config)
        problems: list[str] = _with_store(config, check)
    return problems


# -------------------------------------------------------------------------------------- parsing


def _parser() -> argparse.ArgumentParser:
    common = _common_options()
    parser = argparse.ArgumentParser(
        prog="qoe-collector",
        description="Collects session records from probes and answers for QoE.",
        epilog="example: qoe-collector serve --config /etc/edgeqoe/collector.yaml",
    )
    parser.add_argument("--version", action="version", version=f"qoe-collector {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(_add, commands, common)

    serve = add(
        "serve",
        _serve,
        summary="take batches and answer questions until SIGTERM",
        example="serve --config /etc/edgeqoe/collector.yaml",
    )
    _add_config(serve)
    check = add(
        "check-config",
        _check_config,
        summary="say all that is wrong with a configuration",
        example="check-config configs/collector.yaml",
    )
    check.add_argument("file", metavar="FILE", type=Path)
    _add_config(
        add("migrate", _migrate, summary="bring store and state to this version", example="migrate")
    )
    _add_token_commands(commands, common)
    erase = add(
        "erase-subscriber",
        _erase_subscriber,
        summary="delete all that is kept of a subscriber",
        example="erase-subscriber 0123456789abcdef0123456789abcdef",
    )
    erase.add_argument("subscriber_id", metavar="ID", type=_subscriber_id, help="32 hex digits")
    _add_config(erase)
    _add_config(
        add(
            "check-store",
            _check_store,
            summary="compare raw records and rollups",
            example="check-store",
        )
    )
    return parser


def _add_token_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    token = commands.add_parser(
        "token",
        help="make, list and revoke access tokens, while the collector serves too",
        epilog="example: qoe-collector token create --role probe --name edge-1 > token",
    )
    add = partial(
        _add, token.add_subparsers(title="commands", metavar="COMMAND", required=True), common
    )
    create = add(
        "create",
        _token_create,
        summary="make a token and print it, once",
        example="token create --role probe --name edge-1",
    )
    create.add_argument(
        "--role",
        required=True,
        type=Role,
        choices=list(Role),
        metavar="ROLE",
        help="probe, reader or admin",
    )
    create.add_argument("--name", required=True, help="the probe_id for a probe, else any name")
    _add_config(create)
    _add_config(
        add("list", _token_list, summary="list tokens, as tab-separated text", example="token list")
    )
    revoke = add(
        "revoke",
        _token_revoke,
        summary="refuse a token from now on",
        example="token revoke 0123456789ab",
    )
    revoke.add_argument("id", metavar="ID", help="as in token list")
    _add_config(revoke)


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], default="info"
    )
    common.add_argument("--version", action="version", version=f"qoe-collector {__version__}")
    return common


def _add(
    commands: Any,
    common: argparse.ArgumentParser,
    name: str,
    command: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"example: qoe-collector {example}",
        parents=[common],
    )
    parser.set_defaults(command=command)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"configuration, {DEFAULT_CONFIG} unless given",
    )


def _subscriber_id(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != 32 or set(lowered) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("a subscriber_id is 32 hex digits")
    return lowered


# -------------------------------------------------------------------------------------- helpers


def _with_state(options: argparse.Namespace, work: Callable[[StateDatabase], T]) -> T:
    with rooms.open_state(load_config(options.config)) as database:
        return work(database)


def _read(database: StateDatabase, work: Callable[[Any], T]) -> T:
    with database.transaction() as connection:
        return work(connection)


def _with_store(config: CollectorConfig, work: Callable[[Store], Any]) -> Any:
    """Return what `work` returns with the store open in this process."""

    async def run() -> Any:
        store = rooms.open_store(config)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _me() -> str:
    return f"uid {os.getuid()}"


def _time(second: int | None) -> str:
    return "-" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
