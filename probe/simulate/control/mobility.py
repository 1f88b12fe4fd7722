"""When devices attach, move, fall idle and leave, and when a gateway restarts."""

from dataclasses import dataclass
from random import Random
from typing import Final

from probe.simulate.control.connection import Gateway
from probe.simulate.control.core import Core
from probe.simulate.events import Timeline
from probe.simulate.network import Cell
from probe.simulate.traffic import Device

_ATTACHED_BY: Final = 0.2  # share of the time in which all devices attach
_LATEST_ATTACH_US: Final = 15_000_000
_FIRST_ATTACH_US: Final = 300_000  # after nodes have found each other
_IDLE_SHARE: Final = 0.15  # of subscribers, as the next
_DETACH_SHARE: Final = 0.08
_IN_USE_US: Final = 300_000  # a device that had packets so lately is in the middle of a flow
_SILENT_US: Final = 1_500_000  # a device without packets for so long may fall idle
_TRIES: Final = 200
_OFFLINE_US: Final = (1_000_000, 4_000_000)


@dataclass(frozen=True)
class Plan:
    """How many of what."""

    duration_us: int
    handovers: int
    restarts: int


class Mobility:
    """Carries a plan out on a timeline."""

    def __init__(
        self,
        timeline: Timeline,
        core: Core,
        devices: list[Device],
        cells: tuple[Cell, ...],
        random: Random,
    ) -> None:
        self._timeline = timeline
        self._core = core
        self._devices = devices
        self._cells = cells
        self._random = random

    def schedule(self, plan: Plan, gateways: tuple[Gateway, ...]) -> None:
        """Put everything of `plan` on the timeline."""
        last = min(int(plan.duration_us * _ATTACHED_BY), _LATEST_ATTACH_US)
        for device in self._devices:
            time_us = _FIRST_ATTACH_US + self._random.randrange(max(last, 1))
            self._timeline.at(time_us, self._core.attach, device, device.subscriber.cell)
        subscribers = len(self._devices)
        steps = (
            (plan.handovers, self._move),
            (int(subscribers * _IDLE_SHARE), self._suspend),
            (int(subscribers * _DETACH_SHARE), self._detach),
        )
        for number, step in steps:
            for time_us in self._times(number, plan.duration_us):
                self._timeline.at(time_us, step)
        for restart in range(plan.restarts):
            time_us = int(plan.duration_us * (0.55 + 0.3 * restart / plan.restarts))
            gateway = gateways[-1 - restart % len(gateways)]
            self._timeline.at(time_us, self._core.restart, gateway)

    def _times(self, number: int, duration_us: int) -> list[int]:
        """Return times between the first quarter and shortly before the end, evenly drawn."""
        span = range(int(duration_us * 0.25), int(duration_us * 0.95))
        return sorted(self._random.choices(span, k=number))

    def _move(self) -> None:
        """Hand a device over that is in the middle of a flow, if there is one."""
        device = self._pick(in_use=True) or self._pick(in_use=None)
        if device is None or len(self._cells) < 2:
            return
        others = [cell for cell in self._neighbours(device) if cell is not device.subscriber.cell]
        self._core.move(device, self._random.choice(others))

    def _neighbours(self, device: Device) -> tuple[Cell, ...]:
        """Return the three cells on either side, in a row of cells that is closed to a ring."""
        here, count = self._cells.index(device.subscriber.cell), len(self._cells)
        return tuple(self._cells[(here + step) % count] for step in range(-3, 4))

    def _suspend(self) -> None:
        device = self._pick(in_use=False)
        if device is not None:
            self._core.suspend(device)

    def _detach(self) -> None:
        device = self._pick(in_use=True) or self._pick(in_use=None)
        if device is None:
            return
        self._core.detach(device)
        pause = self._random.randint(*_OFFLINE_US)
        cell = self._random.choice(self._neighbours(device))
        self._timeline.after(pause, self._core.attach, device, cell)

    def _pick(self, in_use: bool | None) -> Device | None:
        """Return any device that can go through a procedure now; `in_use` None: busy or not."""
        for _ in range(_TRIES):
            device = self._random.choice(self._devices)
            if self._core.is_free(device) and self._suits(device, in_use):
                return device
        return None

    def _suits(self, device: Device, in_use: bool | None) -> bool:
        connection = device.connection
        assert connection is not None
        silent_us = self._timeline.now - connection.last_packet_us
        if in_use is None:
            return True
        return silent_us <= _IN_USE_US if in_use else silent_us >= _SILENT_US
