"""From start to drained stop."""

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import sdnotify
from aiohttp import web

from collector.config import CollectorConfig, ConfigError, Tls, file_problems, is_loopback
from collector.errors import CollectorError
from collector.service import admin, upkeep
from collector.service.application import build_application
from collector.service.drain import Drain
from collector.service.rooms import Rooms, opened
from probe.settings import ListenAddress

_KEEP_ALIVE_S: Final = 75.0

_log = logging.getLogger(__name__)


async def serve(config: CollectorConfig) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and close the store.

    SIGHUP has the identity maps read again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reload = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    notifier = sdnotify.SystemdNotifier()
    async with running(config, reload) as url:
        _log.info("listening on %s", url)
        notifier.notify(f"READY=1\nSTATUS=Listening on {url}")
        await _until_stopped(stop, notifier)
        _log.info("stopping: finishing requests in flight")
        notifier.notify("STOPPING=1")
    _log.info("stopped")


@asynccontextmanager
async def running(
    config: CollectorConfig, reload: asyncio.Event | None = None
) -> AsyncIterator[str]:
    """Run a collector while the block runs, and give it the collector's URL.

    Each time `reload` is set, the identity maps are read again.

    Raises `CollectorError` or `ConfigError` for whatever keeps it from starting.
    """
    if problems := file_problems(config):
        raise ConfigError(problems)
    tls = _tls_context(config.tls) if config.tls else None
    with admin.claimed(config.admin_socket_path) as admin_socket:
        async with _serving(config, admin_socket, tls, reload or asyncio.Event()) as url:
            yield url


@asynccontextmanager
async def _serving(
    config: CollectorConfig,
    admin_socket: socket.socket,
    tls: ssl.SSLContext | None,
    reload: asyncio.Event,
) -> AsyncIterator[str]:
    async with (
        opened(config) as rooms,
        admin.serving(rooms, admin_socket),
        _listening(rooms, tls) as url,
        asyncio.TaskGroup() as group,
    ):
        tasks = [
            group.create_task(_prune_now_and_then(rooms)),
            group.create_task(_reload_when_asked(rooms, reload)),
        ]
        if config.incidents.enabled:
            every = config.incidents.every.total_seconds()
            tasks.append(group.create_task(rooms.evaluator.run(every)))
        try:
            yield url
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _listening(rooms: Rooms, tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    config, drain = rooms.config, Drain()
    drain_s = config.limits.drain_timeout.total_seconds()
    application = build_application(
        rooms.operations,
        rooms.authenticator,
        rooms.metrics,
        open_on_loopback=config.open_on_loopback,
        drain=drain,
    )
    runner = web.AppRunner(
        application,
        shutdown_timeout=drain_s,
        keepalive_timeout=_KEEP_ALIVE_S,
    )
    await runner.setup()
    try:
        await _bind(runner, config.listen, tls)
        _warn_of_plain_text(config)
        port = runner.addresses[0][1]
        yield f"{'https' if tls else 'http'}://{ListenAddress(config.listen.host, port)}"
    finally:
        for site in runner.sites:
            await site.stop()
        if not await drain.finished(drain_s):
            _log.warning("stopping although requests did not end within %g s", drain_s)
        await runner.cleanup()


async def _bind(runner: web.AppRunner, listen: ListenAddress, tls: ssl.SSLContext | None) -> None:
    try:
        await web.TCPSite(runner, listen.host, listen.port, ssl_context=tls).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "another process listens there"
        else:
            reason = error.strerror or str(error)
        raise CollectorError(f"listen: {listen}: {reason}") from error


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        if tls.client_ca_file is not None:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"tls: {tls.certificate_file}: {error}"]) from error
    return context


def _warn_of_plain_text(config: CollectorConfig) -> None:
    if config.tls is None and not is_loopback(config.listen.host):
        _log.warning("listen %s without tls: tokens cross the network in clear", config.listen)


async def _prune_now_and_then(rooms: Rooms) -> None:
    while True:
        await upkeep.try_prune(rooms.config, rooms.database)
        await asyncio.sleep(upkeep.PRUNE_EVERY_S)


async def _reload_when_asked(rooms: Rooms, reload: asyncio.Event) -> None:
    while True:
        await reload.wait()
        reload.clear()
        await rooms.maps.reload()


async def _until_stopped(stop: asyncio.Event, notifier: sdnotify.SystemdNotifier) -> None:
    """Wait for `stop`; pet systemd's watchdog, which so sees an event loop that stands still."""
    # sd_watchdog_enabled(3): notify at half of the time that systemd waits.
    every_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6 or None
    while not stop.is_set():
        try:
            async with asyncio.timeout(every_s):
                await stop.wait()
        except TimeoutError:
            notifier.notify("WATCHDOG=1")
