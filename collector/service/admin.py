"""The local admin interface: HTTP on a Unix socket that only the collector's user can open.

Commands that need the store ask here while the collector serves, since chDB admits one process per
path. The file's mode 0600 is the authentication; the kernel tells who asked (SO_PEERCRED).
"""

import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collector import __version__
from collector.errors import CollectorError, ProblemError, StateError
from collector.identity.problem import problem_middleware
from collector.service import upkeep
from collector.service.rooms import Rooms

_PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path of unix(7), less its NUL
_ANSWER_TIMEOUT_S: Final = 3600.0  # erasure and checks read everything

_log = logging.getLogger(__name__)


class Erasure(BaseModel):
    """Whom to erase."""

    model_config = ConfigDict(extra="forbid")

    subscriber_id: str = Field(pattern=r"^[0-9a-f]{32}$")


class LocalAdmin:
    """Answers local commands of a running collector."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def application(self) -> web.Application:
        """Return the application to serve on the socket."""
        application = web.Application(middlewares=[problem_middleware])
        application.router.add_post("/status", self._status)
        application.router.add_post("/erase-subscriber", self._erase)
        application.router.add_post("/check-store", self._check)
        return application

    async def _status(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"version": __version__, "pid": os.getpid()})

    async def _erase(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = Erasure.model_validate_json(await request.read())
        except ValidationError as error:
            raise ProblemError(400, "Bad Request", "subscriber_id is 32 hex digits") from error
        rooms = self._rooms
        who = f"uid {_peer_uid(request)}"
        await upkeep.erase_subscriber(rooms.store, rooms.database, wanted.subscriber_id, who)
        return web.json_response({})

    async def _check(self, _: web.Request) -> web.StreamResponse:
        rooms = self._rooms
        problems = await upkeep.check_store(rooms.store, rooms.database, rooms.config)
        return web.json_response({"problems": problems})


def _peer_uid(request: web.Request) -> int:
    peer = request.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    uid: int = _PEER_CREDENTIALS.unpack(credentials)[1]
    return uid


def bound_socket(path: Path) -> socket.socket:
    """Return a socket bound to `path` with mode 0600; one that a dead process left is replaced."""
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise StateError(
            f"{path}: longer than the {_MAX_SOCKET_PATH_BYTES} bytes of a Unix socket's path;"
            " choose a shorter path for state"
        )
    admin = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        # fchmod before bind gives the file its mode from the start (unix(7), Linux).
        os.fchmod(admin.fileno(), 0o600)
        admin.bind(os.fspath(path))
    except OSError as error:
        admin.close()
        raise StateError(f"{path}: {error.strerror or error}") from error
    except BaseException:
        admin.close()
        raise
    return admin


def _remove_stale(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StateError(f"{path}: stands in the way of the admin socket")
        if _answers(path):
            raise StateError(f"{path}: another collector serves with this state file")
        path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)
        try:
            client.connect(os.fspath(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


async def ask(
    path: Path, command: str, body: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return the running collector's answer to `command`, None if no collector runs.

    Raises `CollectorError` with what it answers if that is an error.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    connector = aiohttp.UnixConnector(path=os.fspath(path))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(f"http://localhost/{command}", json=body or {}) as response,
        ):
            answer: dict[str, Any] = await response.json(content_type=None)
    except (aiohttp.ClientConnectorError, FileNotFoundError) as error:
        if _is_nobody(error):
            return None
        raise CollectorError(f"{path}: {error}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CollectorError(f"{path}: the collector did not answer: {error}") from error
    if response.status >= 400:
        detail = answer.get("detail") or answer.get("title")
        raise CollectorError(f"the collector answered {response.status}: {detail}")
    return answer


def _is_nobody(error: Exception) -> bool:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return getattr(cause, "errno", None) in (errno.ENOENT, errno.ECONNREFUSED)


@contextmanager
def claimed(path: Path) -> Iterator[socket.socket]:
    """Give the bound socket and remove it at the end. Blocks for a moment.

    Raises `StateError` if another collector has it, before anything else is opened.
    """
    with bound_socket(path) as admin:
        try:
            yield admin
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


@asynccontextmanager
async def serving(rooms: Rooms, admin: socket.socket) -> AsyncIterator[None]:
    """Serve the admin interface on the claimed socket while the block runs."""
    runner = web.AppRunner(LocalAdmin(rooms).application(), access_log=None, shutdown_timeout=5.0)
    try:
        await runner.setup()
        await web.SockSite(runner, admin).start()
        yield
    finally:
        await runner.cleanup()
