"""The procedures of the control plane: attach, move, idle and back, detach, restart.

Each tells the tapped interfaces what happens, and changes what packets may do at the moment at
which the user plane changes. A device that is handed over sends from the target before the target
asks for the path (TS 36.300 10.1.2.1, TS 38.300 9.2.3.2): what goes up belongs to the target from
the request on, what comes down once the gateway accepts it. What a packet is labelled with is the
state at the tap: the cell that the tap sees it come from or go to.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from probe.simulate.control.connection import Connection, Gateway, Identity, Keys, State
from probe.simulate.control.fates import AttachFate, Fates, MoveFate
from probe.simulate.control.pools import Pool
from probe.simulate.control.signalling import Exchange, Kind, Outcome, Signalling
from probe.simulate.control.tunnels import Tunnels
from probe.simulate.events import Timeline
from probe.simulate.network import APN, Cell, device_addresses
from probe.simulate.tap import Tap
from probe.simulate.traffic import Device

WRONG_APN: Final = "internett"
_MILLISECOND: Final = 1000
_SETTLE_US: Final = 50 * _MILLISECOND  # until identifiers of an ended session are given out again
_AGAIN_US: Final = (2_000_000, 5_000_000)  # until a device tries again


class _Node:
    """The identifiers of one eNB or gNB. All nodes begin with the same ones, as real ones do."""

    def __init__(self) -> None:
        self.teids = Pool(0x101)
        self.ue_ids = Pool(1)


class _Site:
    """The identifiers of one gateway."""

    def __init__(self) -> None:
        self.teids = Pool(0x2001)
        self.sessions = Pool(0x3001)
        self.epoch = 0  # counts restarts: what was given out before is forgotten


class Core:
    """All sessions, and the nodes that keep them."""

    def __init__(
        self,
        timeline: Timeline,
        tap: Tap,
        signalling: Signalling,
        gateways: Sequence[Gateway],
        identities: Sequence[Identity],
        *,
        tunnels: Tunnels | None,
        random: Random,
    ) -> None:
        self.connections: list[Connection] = []
        self.moves = 0
        self._timeline = timeline
        self._tap = tap
        self._signalling = signalling
        self._gateways = gateways
        self._identities = identities
        self._tunnels = tunnels
        self._random = random
        self._fates = Fates(random)
        self._nodes: dict[str, _Node] = defaultdict(_Node)
        self._sites = {gateway.number: _Site() for gateway in gateways}
        self._slots, self._mme_teids, self._smf_seids = Pool(0), Pool(0x401), Pool(0x501)
        self._core_ue_ids = Pool(1)
        self._devices: dict[Connection, Device] = {}
        self._busy: set[Connection] = set()
        self._epochs: dict[Connection, int] = {}

    def is_free(self, device: Device) -> bool:
        """Say whether the device has a session that no procedure is changing."""
        connection = device.connection
        return connection is not None and connection.is_open and connection not in self._busy

    # ---------------------------------------------------------------------------------- attaching

    def attach(self, device: Device, cell: Cell, fate: AttachFate | None = None) -> None:
        """Begin a session in `cell`; what becomes of it is drawn unless given."""
        fate = self._fates.of_attach() if fate is None else fate
        apn = WRONG_APN if fate is AttachFate.WRONG_APN else APN
        connection = self._make(device, cell, apn)
        self._signalling.tell(Kind.INITIAL, connection)
        self._later(12, connection, self._create, connection, fate)

    def _make(self, device: Device, cell: Cell, apn: str) -> Connection:
        identity = self._identities[device.subscriber.number - 1]
        gateway = self._gateways[device.subscriber.number % len(self._gateways)]
        site, node, slot = self._sites[gateway.number], self._node(cell), self._slots.take()
        ipv4, prefix = device_addresses(slot + 1)
        session = site.sessions.take()
        keys = Keys(
            mme_teid=self._mme_teids.take(),
            sgw_teid=session,
            smf_seid=self._smf_seids.take(),
            upf_seid=session,
            core_ue_id=self._core_ue_ids.take(),
            node_ue_id=node.ue_ids.take(),
            charging_id=self._random.getrandbits(32),
            tmsi=self._random.getrandbits(32),
        )
        connection = Connection(
            number=len(self.connections),
            identity=identity,
            apn=apn,
            cell=cell,
            gateway=gateway,
            slot=slot,
            ipv4=ipv4,
            ipv6_prefix=prefix if device.subscriber.ipv6_prefix else None,
            keys=keys,
            teid_up=site.teids.take(),
            teid_down=node.teids.take(),
            start_us=self._timeline.now,
            wanted=self._wake,
        )
        self.connections.append(connection)
        self._devices[connection] = device
        self._epochs[connection] = site.epoch
        self._busy.add(connection)
        device.reserve(connection)
        return connection

    def _create(self, connection: Connection, fate: AttachFate) -> None:
        exchange = self._signalling.open(Kind.CREATE, connection)
        refused = partial(self._fail, connection, "refused")
        if fate is AttachFate.UNANSWERED:
            given_up = partial(self._fail, connection, "unanswered")
            self._signalling.ask_in_vain(exchange, given_up)
        elif fate is AttachFate.REFUSED:
            self._ask(exchange, 4, refused, Outcome.REFUSED)
        elif fate is AttachFate.WRONG_APN:
            self._ask(exchange, 4, refused, Outcome.UNKNOWN_APN)
        else:
            lost_answers = 1 if fate is AttachFate.REPEATED else 0
            created = partial(self._introduce, connection, fate)
            self._ask(exchange, 4, created, lost_answers=lost_answers)

    def _introduce(self, connection: Connection, fate: AttachFate) -> None:
        exchange = self._signalling.open(Kind.CONTEXT, connection)
        self._ask(exchange, 6, partial(self._set_up, connection, fate))

    def _set_up(self, connection: Connection, fate: AttachFate) -> None:
        exchange = self._signalling.open(Kind.SETUP, connection)
        if fate is AttachFate.RADIO_REFUSED:
            failed = partial(self._fail_at_radio, connection)
            self._ask(exchange, 8, failed, Outcome.REFUSED)
        else:
            self._ask(exchange, 8, partial(self._activate, connection))

    def _activate(self, connection: Connection) -> None:
        exchange = self._signalling.open(Kind.ACTIVATE, connection)
        self._ask(exchange, 2, partial(self._begin, connection))

    def _begin(self, connection: Connection) -> None:
        self._account(Kind.STARTED, connection)
        self._busy.discard(connection)
        device = self._devices[connection]
        device.connect(connection)
        connection.enter(self._timeline.now, connection.cell, connection.teid_down)

    def _fail_at_radio(self, connection: Connection) -> None:
        exchange = self._signalling.open(Kind.DELETE, connection)
        self._ask(exchange, 3, partial(self._fail, connection, "radio_refused"))

    def _fail(self, connection: Connection, reason: str) -> None:
        """End a session that has not begun, and let the device try again, without fault.

        A gateway that restarted meanwhile has ended it, and the device tries again by that.
        """
        if connection.state is State.GONE:
            return
        self._release(connection)
        self._end(connection, reason)
        device = self._devices[connection]
        pause = self._random.randint(*_AGAIN_US)
        again = partial(self.attach, device, connection.cell, AttachFate.GOOD)
        self._timeline.after(pause, again)

    # ------------------------------------------------------------------------------------- moving

    def move(self, device: Device, target: Cell) -> None:
        """Hand the device over to `target`, in the middle of what it does."""
        connection = _connection(device)
        self._busy.add(connection)
        node = self._node(target)
        ends = (node.teids.take(), node.ue_ids.take())
        switch = self._signalling.open(Kind.SWITCH, connection, target, *ends)
        fate = self._fates.of_move()
        if fate is not MoveFate.REFUSED:
            connection.arrive(self._timeline.now, target, switch.teid_down)
        self._later(2, connection, self._turn, connection, switch, fate)

    def _turn(self, connection: Connection, switch: Exchange, fate: MoveFate) -> None:
        ends = (switch.cell, switch.teid_down, switch.node_ue_id)
        exchange = self._signalling.open(Kind.MOVE, connection, *ends)
        if fate is MoveFate.REFUSED:
            stay = partial(self._stay, connection, switch)
            self._ask(exchange, 3, stay, Outcome.REFUSED)
        else:
            # The tunnel is turned by the first request, whatever becomes of the answer.
            self._later(2, connection, self._switch, connection, switch)
            lost_answers = 1 if fate is MoveFate.REPEATED else 0
            acknowledge = partial(self._acknowledge, connection, switch)
            self._ask(exchange, 3, acknowledge, lost_answers=lost_answers)

    def _switch(self, connection: Connection, switch: Exchange) -> None:
        left = connection.stay
        if left is not None and self._tunnels is not None:
            self._tap.write(self._timeline.now, self._tunnels.end_marker(left))
        self._leave_node(connection)
        self._change_cell(connection, switch.cell, switch.teid_down, switch.node_ue_id)
        self.moves += 1

    def _acknowledge(self, connection: Connection, switch: Exchange) -> None:
        self._ask(switch, 1, partial(self._busy.discard, connection))

    def _stay(self, connection: Connection, switch: Exchange) -> None:
        node = self._node(switch.cell)
        node.teids.give(switch.teid_down)
        node.ue_ids.give(switch.node_ue_id)
        self._ask(switch, 1, partial(self._busy.discard, connection), Outcome.REFUSED)

    def _change_cell(
        self, connection: Connection, cell: Cell, teid_down: int, node_ue_id: int
    ) -> None:
        moved = connection.cell is not cell
        connection.cell, connection.keys.node_ue_id = cell, node_ue_id
        if moved:
            self._account(Kind.MOVED, connection)
            self._devices[connection].move_to(cell)
        connection.enter(self._timeline.now, cell, teid_down)

    # ------------------------------------------------------------------------------ idle and back

    def suspend(self, device: Device) -> None:
        """Take the radio bearer of an inactive device away."""
        connection = _connection(device)
        self._busy.add(connection)
        self._signalling.tell(Kind.RELEASE_WANTED, connection)
        self._later(1, connection, self._suspend, connection)

    def _suspend(self, connection: Connection) -> None:
        exchange = self._signalling.open(Kind.SUSPEND, connection)
        self._ask(exchange, 2, partial(self._sleep, connection))

    def _sleep(self, connection: Connection) -> None:
        connection.leave(self._timeline.now)
        connection.state = State.IDLE
        self._release(connection)
        self._leave_node(connection)
        self._later(10, connection, self._busy.discard, connection)

    def _wake(self, connection: Connection) -> None:
        """A packet waits: the device comes back, half of them in another cell."""
        connection.state = State.RETURNING
        self._busy.add(connection)
        self._later(20, connection, self._return, connection)

    def _return(self, connection: Connection) -> None:
        cell = self._elsewhere(connection) if self._random.random() < 0.5 else connection.cell
        node = self._node(cell)
        ends = (cell, node.teids.take(), node.ue_ids.take())
        self._signalling.open(Kind.RETURN, connection, *ends)
        context = self._signalling.open(Kind.CONTEXT, connection, *ends)
        self._ask(context, 4, partial(self._set_up_again, connection, ends))

    def _set_up_again(self, connection: Connection, ends: tuple[Cell, int, int]) -> None:
        exchange = self._signalling.open(Kind.SETUP, connection, *ends)
        self._ask(exchange, 6, partial(self._resume, connection, ends))

    def _resume(self, connection: Connection, ends: tuple[Cell, int, int]) -> None:
        exchange = self._signalling.open(Kind.RESUME, connection, *ends)
        self._ask(exchange, 2, partial(self._resumed, connection, ends))

    def _resumed(self, connection: Connection, ends: tuple[Cell, int, int]) -> None:
        self._busy.discard(connection)
        self._change_cell(connection, *ends)

    def _elsewhere(self, connection: Connection) -> Cell:
        return self._random.choice(self._devices[connection].cells)

    # ---------------------------------------------------------------------------------- the end

    def detach(self, device: Device) -> None:
        """End the session; its addresses and tunnels go to whoever comes next."""
        connection = _connection(device)
        self._busy.add(connection)
        device.disconnect()
        connection.end(self._timeline.now, "detach")
        self._account(Kind.STOPPED, connection)
        exchange = self._signalling.open(Kind.DELETE, connection)
        self._ask(exchange, 3, partial(self._deleted, connection))

    def _deleted(self, connection: Connection) -> None:
        self._release(connection)
        self._forget(connection)

    def restart(self, gateway: Gateway) -> None:
        """Let a gateway forget all its sessions; their devices begin new ones."""
        site = self._sites[gateway.number]
        for connection in list(self._devices):
            if connection.gateway is gateway and connection.state is not State.GONE:
                self._lose(connection)
        site.epoch += 1
        site.teids.reset()
        site.sessions.reset()
        self._signalling.restart(gateway)

    def _lose(self, connection: Connection) -> None:
        device = self._devices[connection]
        device.disconnect()
        connection.end(self._timeline.now, "restart")
        self._later_always(5 + connection.number % 400, self._deleted, connection)
        pause = self._random.randint(1_000_000, 4_000_000)
        again = partial(self.attach, device, connection.cell, AttachFate.GOOD)
        self._timeline.after(pause, again)

    def _end(self, connection: Connection, reason: str) -> None:
        connection.end(self._timeline.now, reason)
        self._devices[connection].disconnect()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """Give the identifiers back once nothing of the session is under way any more."""
        self._busy.discard(connection)
        self._timeline.after(_SETTLE_US, self._give_back, connection)

    def _give_back(self, connection: Connection) -> None:
        keys, site = connection.keys, self._sites[connection.gateway.number]
        self._leave_node(connection)
        self._slots.give(connection.slot)
        self._mme_teids.give(keys.mme_teid)
        self._smf_seids.give(keys.smf_seid)
        self._core_ue_ids.give(keys.core_ue_id)
        if site.epoch == self._epochs[connection]:
            site.teids.give(connection.teid_up)
            site.sessions.give(keys.sgw_teid)
        del self._devices[connection]

    def _release(self, connection: Connection) -> None:
        exchange = self._signalling.open(Kind.RELEASE, connection)
        self._ask(exchange, 3, _nothing)

    def _leave_node(self, connection: Connection) -> None:
        """Give back the identifiers at the node that the device was at, if it was at one."""
        if connection.keys.node_ue_id:
            node = self._node(connection.cell)
            node.teids.give(connection.teid_down)
            node.ue_ids.give(connection.keys.node_ue_id)
            connection.keys.node_ue_id = 0

    # ------------------------------------------------------------------------------------- times

    def _account(self, kind: Kind, connection: Connection) -> None:
        exchange = self._signalling.open(kind, connection)
        lost_answers = self._fates.of_accounting()
        if lost_answers is None:
            self._signalling.ask_in_vain(exchange, _nothing)
        else:
            self._ask(exchange, 2, _nothing, lost_answers=lost_answers)

    def _ask(
        self,
        exchange: Exchange,
        latency_ms: int,
        done: Callable[[], None],
        outcome: Outcome = Outcome.ACCEPTED,
        *,
        lost_answers: int = 0,
    ) -> None:
        latency_us = latency_ms * _MILLISECOND + self._random.randrange(_MILLISECOND)
        self._signalling.ask(exchange, latency_us, done, outcome, lost_answers=lost_answers)

    def _later(
        self,
        delay_ms: int,
        connection: Connection,
        action: Callable[..., None],
        *arguments: object,
    ) -> None:
        """Do something unless the session has ended by then."""
        unless_gone = partial(_unless_gone, connection, action, *arguments)
        self._timeline.after(delay_ms * _MILLISECOND, unless_gone)

    def _later_always(self, delay_ms: int, action: Callable[..., None], *arguments: object) -> None:
        self._timeline.after(delay_ms * _MILLISECOND, action, *arguments)

    def _node(self, cell: Cell) -> _Node:
        return self._nodes[cell.node_address]


def _connection(device: Device) -> Connection:
    assert device.connection is not None
    return device.connection


def _unless_gone(connection: Connection, action: Callable[..., None], *arguments: object) -> None:
    if connection.state is not State.GONE:
        action(*arguments)


def _nothing() -> None:
    """Do nothing once an answer has come."""
