"""The probe's street: engine -> spool -> shipper, from the start to a clean stop.

Packets stay in the engine's threads. A dedicated thread takes each finished batch body from the
engine and puts it into the spool; only then does the event loop hear of it and ship it. So a
batch that was once taken is on disk, whatever happens next.
"""

import asyncio
import contextlib
import json
import logging
import os
import pwd
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import sdnotify

from probe.config import (
    FileCapture,
    InterfaceCapture,
    ProbeConfig,
    ReplayConfig,
    attribution_option,
    capture_files,
    engine_options,
    workers_for,
)
from probe.errors import (
    BatchError,
    CaptureError,
    ConfigError,
    ProbeError,
    SpoolError,
    SpoolWriteError,
)
from probe.health import HealthMeter
from probe.health.memory import MemoryWatch, own_bytes, sized
from probe.health.offloads import joining_offloads, switch_off_command
from probe.health.privileges import Privileges
from probe.metrics import Metrics, start_metrics_server
from probe.record.codec import seal
from probe.settings import read_secret
from probe.shipper import CollectorClient, Shipper
from probe.spool import Spool, bearers

log = logging.getLogger(__name__)

TAKE_TIMEOUT_S: Final = 0.25  # how long the thread waits for a body before it looks around
ENGINE_STOP_S: Final = 20.0  # the engine's time to hand over what it holds
CAP_NET_RAW: Final = 1 << 13  # capabilities(7)
LOAD_INTERVAL_S: Final = 0.5  # how often load and memory are looked at
LINK_INTERVAL_S: Final = 1.0  # how often interfaces are looked at
STUCK_AFTER_S: Final = 30.0  # without a sign of life from the engine's thread: not healthy

T = TypeVar("T")
CaptureSpan = Callable[[list[str]], tuple[int, int, int]]


class PacketEngine(Protocol):
    """What the agent needs of `probe.engine.Engine`; the meaning is described there."""

    def start(self) -> None: ...
    def next_body(self, timeout_s: float) -> bytes | None: ...
    def finished(self) -> bool: ...
    def stop(self) -> None: ...
    def progress(self) -> tuple[int, int] | None: ...
    def counters(self) -> dict[str, int]: ...
    def set_attribution(self, rules: str) -> None: ...
    def save_bearers(self) -> bytes: ...
    def load_bearers(self, sealed: bytes) -> None: ...
    def loads(self) -> list[tuple[str, str, int, int]]: ...
    def take_load_steps(self) -> list[tuple[str, int, str, str, str, int, int]]: ...
    def hold_memory(self, is_short: bool) -> None: ...
    def captures(self) -> list[tuple[str, int, str, dict[str, int], str]]: ...


@dataclass(frozen=True)
class EngineKit:
    """The native module's parts, handed in so that the agent runs without it in tests."""

    engine: Callable[[str, bytes], PacketEngine]
    error: type[Exception]
    capture_span: CaptureSpan
    forbid_dumps: Callable[[], None] = lambda: None
    become_user: Callable[[str, int, int], None] = lambda _name, _uid, _gid: None
    drop_capabilities: Callable[[], None] = lambda: None
    filter_system_calls: Callable[[bool], None] = lambda _packet_sockets: None
    table_bytes: Callable[[], dict[str, int]] = dict
    confines: bool = False  # what gives up privileges is real, so that what they did can be checked


def native_kit() -> EngineKit:
    """Return the native engine; raises `ProbeError` where it is not built."""
    try:
        from probe import engine  # noqa: PLC0415 - other commands must work without it
    except ImportError as error:
        raise ProbeError(f"the packet engine is not installed: {error}") from error
    return EngineKit(
        engine.Engine,
        engine.EngineError,
        engine.capture_span,
        engine.forbid_dumps,
        engine.become_user,
        engine.drop_capabilities,
        lambda packet_sockets: engine.filter_system_calls(packet_sockets=packet_sockets),
        engine.table_bytes,
        confines=True,
    )


def capture_options(config: ReplayConfig, kit: EngineKit, now_ns: int) -> list[dict[str, Any]]:
    """Return the engine's option `captures`; raises `ConfigError` or `CaptureError`.

    A capture with `time: now` is walked once here: its last packet is moved to `now_ns`.
    """
    options: list[dict[str, Any]] = []
    for capture in config.capture:
        if isinstance(capture, InterfaceCapture):
            source = _live_options(capture)
        else:
            files = capture_files(capture.paths())
            offset = _offset_to_now(files, kit, now_ns) if capture.time == "now" else 0
            workers = workers_for(files, capture.workers)
            source = {"files": files, "time_offset_ns": offset, "workers": workers}
        options.append({"capture_point": capture.capture_point, **source})
    return options


def _live_options(capture: InterfaceCapture) -> dict[str, Any]:
    try:
        program = capture.filter_program()
    except ValueError as error:
        raise CaptureError(f"{capture.interface}: filter: {error}") from error
    return {
        "interface": capture.interface,
        "ignore_outgoing": not capture.outgoing,
        "time_offset_ns": 0,
        "workers": capture.workers,
        "ring_bytes": capture.ring_size,
        "filter": program,
        "timestamps": capture.timestamps,
    }


def _offset_to_now(files: list[str], kit: EngineKit, now_ns: int) -> int:
    try:
        _, last_ns, packets = kit.capture_span(files)
    except kit.error as error:
        raise CaptureError(str(error)) from error
    return now_ns - last_ns if packets else 0


def build_engine(config: ProbeConfig, kit: EngineKit) -> PacketEngine:
    """Return the engine that `config` asks for, not started yet (`ProbeError`)."""
    captures = capture_options(config, kit, time.time_ns())
    limits = sized(config.limits, kit.table_bytes())
    missing = sorted(set(limits.cpus) - os.sched_getaffinity(0))
    if missing:
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise ConfigError([f"limits.cpus: {missing} cannot be used; allowed: {allowed}"])
    options = engine_options(
        config.model_copy(update={"limits": limits}),
        captures,
        client_address="prefix",
        privileges=config.privileges,
    )
    log.debug("engine options=%s", _without_subscribers(options))
    for capture in config.capture:
        if isinstance(capture, InterfaceCapture):
            log.info(
                "capture interface=%s capture_point=%s workers=%d timestamps=%s",
                capture.interface, capture.capture_point, capture.workers, capture.timestamps,
            )  # fmt: skip
    try:
        return kit.engine(options, read_secret(config.site_key_file))
    except kit.error as error:
        raise ProbeError(str(error)) from error


def _without_subscribers(options: str) -> str:
    document = json.loads(options)
    document["attribution"] = f"{len(document['attribution'])} rules"
    return json.dumps(document)


def _warn_of_offloads(interface: str) -> None:
    with contextlib.suppress(OSError):  # not every interface has any
        if joined := joining_offloads(interface):
            log.warning(
                "capture interface=%s offloads=%s: they join packets, so counts and times are "
                "not the wire's; switch them off with: %s",
                interface, "+".join(joined), switch_off_command(interface, joined),
            )  # fmt: skip


class Agent:
    """One run of the probe."""

    def __init__(
        self,
        config: ProbeConfig,
        engine: PacketEngine,
        engine_error: type[Exception],
        spool: Spool,
        metrics: Metrics | None = None,
        *,
        reload: asyncio.Event | None = None,
        kit: EngineKit | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._engine_error = engine_error
        self._spool = spool
        self._metrics = metrics or Metrics()
        self._kit = kit
        self._health = HealthMeter(config.spool.path)
        self._memory = MemoryWatch(config.limits.memory)
        self._links: dict[tuple[str, str], str] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine-taker")
        self._stop = asyncio.Event()
        self._reload = reload or asyncio.Event()
        self._give_up = asyncio.Event()
        self._stop_deadline: float | None = None
        self._last_beat = time.monotonic()
        self._engine_failure: str | None = None
        self._storing_fails = False
        self._systemd = sdnotify.SystemdNotifier()
        self._show_metrics()

    def stop(self) -> None:
        """Ask for a clean stop; asked again, do not wait for the collector any longer."""
        if self._stop.is_set():
            self._give_up.set()
        self._stop.set()

    def reload(self) -> None:
        """Ask for the attribution map to be read again."""
        self._reload.set()

    async def run(self) -> int:
        """Run until the captures end or a stop is asked for; return the exit code."""
        runner = await start_metrics_server(
            self._metrics, self._config.metrics.listen, self._healthy
        )
        try:
            async with CollectorClient(self._config.collector) as client:
                shipper = Shipper(
                    self._spool,
                    client,
                    self._metrics,
                    in_flight=self._config.collector.in_flight,
                    longest_retry_s=self._config.collector.longest_retry.total_seconds(),
                )
                await self._work(shipper)
        finally:
            await runner.cleanup()
            self._thread.shutdown(wait=False)
        return self._exit_code()

    async def _work(self, shipper: Shipper) -> None:
        await self._in_thread(self._load_bearers)
        await self._start_engine()
        await self._confine()
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(shipper.run()),
                group.create_task(self._stop_engine_when_asked(shipper)),
                group.create_task(self._watchdog()),
                group.create_task(self._reload_when_asked()),
                group.create_task(self._sync_now_and_then(shipper)),
                group.create_task(self._watch_load()),
                group.create_task(self._watch_links()),
            ]
            await self._take_bodies(shipper)
            await self._in_thread(self._save_bearers)
            await self._drain(shipper)
            for task in background:
                task.cancel()
        self._systemd.notify("STOPPING=1")

    async def _start_engine(self) -> None:
        for capture in self._config.capture:
            if isinstance(capture, InterfaceCapture):
                _warn_of_offloads(capture.interface)
        try:
            await self._in_thread(self._engine.start)
        except self._engine_error as error:
            raise CaptureError(str(error)) from error
        self._systemd.notify("READY=1")
        log.info(
            "agent started=yes captures=%d epoch=%d", len(self._config.capture), self._spool.epoch
        )

    async def _confine(self) -> None:
        """Give up what is not needed once the sockets are open; see docs/adr/0033-privileges.md."""
        kit, wanted = self._kit, self._config.privileges
        if kit is None or not kit.confines:
            return
        try:
            if wanted.drop_capabilities:
                await self._in_thread(kit.drop_capabilities)
                kit.drop_capabilities()
            if wanted.filter_system_calls:
                kit.filter_system_calls(wanted.reopen_interfaces)
        except (OSError, self._engine_error) as error:
            raise ProbeError(f"privileges cannot be given up: {error}") from error
        held = Privileges.of_process()
        kept = CAP_NET_RAW if wanted.reopen_interfaces else 0
        if wanted.drop_capabilities and held.capabilities & ~kept:
            raise ProbeError(f"privileges: threads still hold {held.capabilities:#x}")
        log.info(
            "privileges uid=%d capabilities=%#x no_new_privileges=%s system_calls_filtered=%s",
            held.uid,
            held.capabilities,
            "yes" if held.no_new_privileges else "no",
            "yes" if held.system_calls_filtered else "no",
        )

    # --------------------------------------------------------------------------- load and memory

    async def _watch_load(self) -> None:
        """Log each step of shedding, and keep the engine's tables within the memory allowed."""
        while True:
            self._say_load()
            if self._memory.look(taken := own_bytes()):
                self._engine.hold_memory(self._memory.is_short)
                state = "short" if self._memory.is_short else "enough"
                log.warning("memory state=%s own_mib=%d", state, taken >> 20)
            await asyncio.sleep(LOAD_INTERVAL_S)

    def _say_load(self) -> None:
        for point, _, before, after, why, waiting, lag_ns in self._engine.take_load_steps():
            log.warning(
                "overload capture_point=%s shed=%s before=%s why=%s ring_percent=%d lag_ms=%d",
                point, after, before, why, waiting, lag_ns // 1_000_000,
            )  # fmt: skip

    def _load_health(self) -> dict[str, Any]:
        """Return what the health of a batch says of overload; nothing while there is none."""
        shed = {point: shed for point, shed, _, _ in self._engine.loads() if shed != "nothing"}
        health: dict[str, Any] = {"shed": shed} if shed else {}
        return health | ({"memory_short": True} if self._memory.is_short else {})

    # --------------------------------------------------------------------------- engine to spool

    async def _take_bodies(self, shipper: Shipper) -> None:
        """Move bodies from the engine to the spool until the engine has none left."""
        while not await self._in_thread(self._take_one):
            shipper.wake()
            if self._stop_deadline is not None and time.monotonic() > self._stop_deadline:
                self._engine_failure = f"the engine did not stop within {ENGINE_STOP_S:.0f} s"
                log.error("engine stopped=no waited_s=%.0f", ENGINE_STOP_S)
                return
        await self._in_thread(self._sync)
        self._say_load()
        shipper.wake()

    def _take_one(self) -> bool:
        """Wait for one body and store it; True once there will be no more."""
        self._last_beat = time.monotonic()
        try:
            body = self._engine.next_body(TAKE_TIMEOUT_S)
        except self._engine_error as error:
            self._engine_failure = str(error)
            log.error("engine failed=%r", str(error))
            return False  # other captures may go on: finished() will say
        if body is None:
            return self._engine.finished()
        self._store(body)
        return False

    def _store(self, body: bytes) -> None:
        def sealed(epoch: int, sequence: int, gaps: list[dict[str, Any]]) -> bytes:
            return seal(
                body,
                probe_id=self._config.probe_id,
                epoch=epoch,
                sequence=sequence,
                created_at=time.time_ns(),
                health=self._health.snapshot() | self._load_health() | self._links_now(),
                gaps=gaps,
            )

        try:
            self._spool.append(sealed)
        except SpoolWriteError as error:
            self._say_storing_fails(error)
        except BatchError as error:
            self._metrics.bodies_unusable.inc()
            log.error("engine body=unusable reason=%r", str(error))
        else:
            self._storing_fails = False

    def _say_storing_fails(self, error: SpoolError) -> None:
        """Log the first loss in a row only; the counter and the gap tell of all."""
        if not self._storing_fails:
            log.error("spool storing=fails reason=%r", str(error))
        self._storing_fails = True

    async def _sync_now_and_then(self, shipper: Shipper) -> None:
        interval = self._config.spool.fsync
        if not isinstance(interval, timedelta):
            return
        while True:
            await asyncio.sleep(interval.total_seconds())
            await asyncio.to_thread(self._sync)
            shipper.wake()

    def _sync(self) -> None:
        try:
            self._spool.sync()
        except SpoolWriteError as error:
            self._say_storing_fails(error)

    # ------------------------------------------------------------------------- who is who, kept

    def _load_bearers(self) -> None:
        """Give the engine what the run before knew; what is of no use is said and counted."""
        directory = self._config.spool.path
        try:
            kept = bearers.take(directory)
            if kept is None:
                return
            self._engine.load_bearers(kept)
        except (OSError, self._engine_error) as error:
            self._metrics.bearer_files.labels("refused").inc()
            log.warning("bearers loaded=no aside=%s reason=%r", bearers.ASIDE, str(error))
            return
        self._metrics.bearer_files.labels("loaded").inc()
        log.info("bearers loaded=yes bytes=%d", len(kept))
        with contextlib.suppress(OSError):  # aside, it is never read again
            bearers.forget(directory)

    def _save_bearers(self) -> None:
        if not self._engine.finished():
            return  # it did not stop in time, which was said
        try:
            content = self._engine.save_bearers()
            bearers.keep(self._config.spool.path, content)
        except (OSError, self._engine_error) as error:
            self._metrics.bearer_files.labels("unsaved").inc()
            log.warning("bearers saved=no reason=%r", str(error))
        else:
            self._metrics.bearer_files.labels("saved").inc()
            log.info("bearers saved=yes bytes=%d", len(content))

    # --------------------------------------------------------------------------- stop and the end

    async def _stop_engine_when_asked(self, shipper: Shipper) -> None:
        await self._stop.wait()
        self._systemd.notify("STOPPING=1")
        log.info("agent stopping=yes")
        shipper.hurry()
        self._stop_deadline = time.monotonic() + ENGINE_STOP_S
        await asyncio.to_thread(self._engine.stop)

    async def _drain(self, shipper: Shipper) -> None:
        """Ship what is left: all of it after captures from files, else for a bounded time."""
        everything = asyncio.create_task(shipper.drained())
        asked_to_stop = asyncio.create_task(self._stop.wait())
        try:
            if self._only_files():
                await asyncio.wait([everything, asked_to_stop], return_when="FIRST_COMPLETED")
            if not everything.done():
                shipper.hurry()
                await self._drain_for_a_while(everything)
        finally:
            everything.cancel()
            asked_to_stop.cancel()

    async def _drain_for_a_while(self, everything: "asyncio.Task[None]") -> None:
        given_up = asyncio.create_task(self._give_up.wait())
        await asyncio.wait(
            [everything, given_up],
            timeout=self._config.collector.stop_timeout.total_seconds(),
            return_when="FIRST_COMPLETED",
        )
        given_up.cancel()
        if not everything.done():
            waiting = self._spool.status().pending_batches
            log.warning("agent unshipped=%d: they stay in the spool for the next start", waiting)

    def _only_files(self) -> bool:
        return all(isinstance(capture, FileCapture) for capture in self._config.capture)

    def _exit_code(self) -> int:
        """0 unless a source failed, or a batch of finished captures will never arrive."""
        lost = self._spool.status().lost
        if lost:
            log.error("agent lost=%s", " ".join(f"{why}:{n}" for why, n in sorted(lost.items())))
        if self._engine_failure is not None:
            return 1
        return 1 if lost and self._only_files() else 0

    @property
    def failure(self) -> str | None:
        """Why a source failed, in one line, if one did."""
        return self._engine_failure

    # ------------------------------------------------------------------------------ attribution map

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            outcome = await asyncio.to_thread(self._reload_map)
            self._metrics.map_reloads.labels(outcome).inc()

    def _reload_map(self) -> str:
        """Read the map's file again and give it to the engine; at a fault the old map stays."""
        try:
            rules = attribution_option(self._config.attribution.rules())
            self._engine.set_attribution(json.dumps(rules))
        except ConfigError as error:
            for problem in error.problems:
                log.error("attribution problem=%r", problem)
        except self._engine_error as error:
            log.error("attribution problem=%r", str(error))
        else:
            log.info("attribution reloaded=yes rules=%d", len(rules))
            return "loaded"
        log.error("attribution reloaded=no: the map from before stays in force")
        return "refused"

    # ---------------------------------------------------------------------------------- interfaces

    def _links_now(self) -> dict[str, dict[str, str]]:
        """Return the health entry of live captures: the state of each one's interface."""
        links = {
            f"{point}/{interface}": link
            for point, worker, link, _, interface in self._engine.captures()
            if worker == 0
        }
        return {"captures": links} if links else {}

    async def _watch_links(self) -> None:
        """Say when an interface goes and when it is back; records and metrics tell of it too."""
        while True:
            for point, worker, link, _, interface in self._engine.captures():
                before = self._links.get((point, interface), "up")
                if worker == 0 and link != before:
                    self._links[point, interface] = link
                    level = logging.INFO if link == "up" else logging.WARNING
                    log.log(
                        level, "capture interface=%s link=%s before=%s", interface, link, before
                    )
            await asyncio.sleep(LINK_INTERVAL_S)

    # ------------------------------------------------------------------------------- signs of life

    async def _watchdog(self) -> None:
        """Tell systemd that the probe lives, for as long as the engine's thread does."""
        interval_s = int(os.environ.get("WATCHDOG_USEC", "0") or 0) / 1e6 / 3
        while interval_s > 0:
            if self._healthy():
                self._systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    def _healthy(self) -> bool:
        return time.monotonic() - self._last_beat < STUCK_AFTER_S

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _show_metrics(self) -> None:
        self._metrics.show_counters("engine", self._engine.counters)
        self._metrics.show_by_reason(
            "batches_lost", "Batches that will never arrive", lambda: self._spool.status().lost
        )
        self._metrics.show_gauges("spool", self._spool_gauges)
        self._metrics.show_loads(self._engine.loads)
        self._metrics.show_gauges("memory", self._memory_gauges)
        self._metrics.show_captures(self._engine.captures)

    def _memory_gauges(self) -> dict[str, int | float]:
        limit = self._config.limits.memory
        short = int(self._memory.is_short)
        gauges: dict[str, int | float] = {"own_bytes": own_bytes(), "short": short}
        return gauges if limit is None else gauges | {"limit_bytes": limit}

    def _spool_gauges(self) -> dict[str, int | float]:
        status = self._spool.status()
        oldest = status.oldest_created_at
        return {
            "pending_batches": status.pending_batches,
            "pending_bytes": status.pending_bytes,
            "stored_bytes": status.stored_bytes,
            "oldest_batch_age_seconds": (time.time_ns() - oldest) / 1e9 if oldest else 0.0,
            "unannounced_gaps": status.unannounced_gaps,
            "damaged_segments": status.damaged_segments,
        }


def become_user(config: ProbeConfig, kit: EngineKit) -> None:
    """Go on as the user of the configuration where root has started the probe (`ProbeError`)."""
    if os.geteuid() != 0 or not kit.confines:
        return
    name = config.privileges.user
    if name is None:
        log.warning("privileges uid=0: give privileges.user, or start by the systemd unit")
        return
    try:
        entry = pwd.getpwnam(name)
        kit.become_user(name, entry.pw_uid, entry.pw_gid)
    except (KeyError, OSError) as error:
        raise ProbeError(f"privileges.user: cannot go on as {name}: {error}") from error


async def run_agent(
    config: ProbeConfig,
    kit: EngineKit,
    signals: Sequence[int] = (),
    reload_signals: Sequence[int] = (),
) -> int:
    """Run the probe as `config` says until its captures end or one of `signals` arrives.

    One of `reload_signals` has the attribution map read again.

    Returns the exit code; raises `ProbeError` where it cannot start.
    """
    become_user(config, kit)
    kit.forbid_dumps()  # identities of subscribers pass through memory
    loop = asyncio.get_running_loop()
    reload = asyncio.Event()
    for number in reload_signals:  # before anything that takes its time: SIGHUP would end the probe
        loop.add_signal_handler(number, reload.set)
    with ThreadPoolExecutor(1) as early:  # threads that outlive the start would keep capabilities
        engine = await loop.run_in_executor(early, build_engine, config, kit)
        spool = await loop.run_in_executor(early, Spool, config.spool)
    try:
        agent = Agent(config, engine, kit.error, spool, reload=reload, kit=kit)
        for number in signals:
            loop.add_signal_handler(number, agent.stop)
        return await agent.run()
    finally:
        await asyncio.to_thread(spool.close)


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNALS: Final = (signal.SIGHUP,)
