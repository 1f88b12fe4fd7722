"""Identities planted in the messages of every control plane, and the search for them.

Identities are of random digits: what is found is theirs, and no chance. They are sought in each
form that messages and programs have them in, and in parts of it: a wiped end does not hide the rest.
"""

import ipaddress
import random
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from probe.simulate.control.codes import PLMN, bcd, labels
from probe.simulate.control.connection import Connection, Gateway, Identity, Keys
from probe.simulate.control.frames import Framer
from probe.simulate.control.n4 import N4
from probe.simulate.control.ngap import Ngap
from probe.simulate.control.radius import Radius
from probe.simulate.control.s1ap import S1ap
from probe.simulate.control.s11 import S11
from probe.simulate.control.signalling import Exchange, Interface, Kind, Outcome, Transaction
from probe.simulate.control.views import GATEWAYS
from probe.simulate.flow import packed
from probe.simulate.network import build_network

START_NS: Final = 1_799_998_765_432_198_765
BETWEEN_NS: Final = 20_011  # from one frame to the next
GTPC_PORT, GTPU_PORT = 2123, 2152


def people(count: int, seed: int = 1) -> list[Identity]:
    """Return so many people, each with random digits of its own, the network's too."""
    drawn = random.Random(seed)

    def digits(length: int) -> str:
        while True:
            found = "".join(drawn.choices("0123456789", k=length))
            if not _looks_common(found):
                return found

    return [Identity(digits(15), digits(15), digits(16), "") for _ in range(count)]


def _looks_common(digits: str) -> bool:
    """Say whether binary-coded digits could be text or small numbers, of which memory is full."""
    windows = (window for form in FORMS[:2] for window in form.windows(digits))
    return any(sum(byte in _COMMON for byte in window) > 3 for window in windows)


def identities_of(everyone: Iterable[Identity]) -> Iterator[str]:
    for person in everyone:
        yield from (person.imsi, person.msisdn, person.imeisv)


# --------------------------------------------------------------------------------- the search

WINDOW: Final = 7  # bytes: 14 binary-coded digits, and any 16 digits as a number
TEXT: Final = 13  # digits in a row: the parts of an identity in ASCII that count
TAC: Final = 8  # digits of an IMEISV that are kept, one behind the other in a column
_MASK: Final = np.uint64((1 << 8 * WINDOW) - 1)
_SPREAD: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_PIECE: Final = 16 << 20


@dataclass(frozen=True)
class Form:
    """How an identity may be written, as windows of bytes."""

    name: str

    def windows(self, digits: str) -> Iterator[bytes]:
        if self.name.startswith("integer"):
            order = "little" if self.name.endswith("little") else "big"
            value = int(digits).to_bytes(WINDOW, order)  # type: ignore[arg-type]
            yield value
            return
        for start in range(len(digits) - 2 * WINDOW + 1):
            part = digits[start : start + 2 * WINDOW]
            yield bcd(part) if self.name == "swapped" else bytes.fromhex(part)


_COMMON: Final = b"0123456789abcdef" + bytes(range(17))
FORMS: Final = tuple(map(Form, ("swapped", "packed", "integer little", "integer big")))


class Needles:
    """Looks for any of hundreds of thousands of identities in any of their forms."""

    def __init__(self, identities: Sequence[str]) -> None:
        self._texts = {text: at for at, one in enumerate(identities) for text in _texts(one)}
        keys: list[int] = []
        meanings: list[tuple[int, int]] = []
        for number, form in enumerate(FORMS):
            for at, one in enumerate(identities):
                for window in form.windows(one):
                    keys.append(int.from_bytes(window, "little"))
                    meanings.append((number, at))
        unsorted = np.array(keys, np.uint64)
        order = np.argsort(unsorted)
        self._keys = unsorted[order]
        self._meanings = np.array(meanings, np.int64)[order]
        self._shift = np.uint64(64 - min(max(len(keys).bit_length() + 8, 12), 30))
        self._sieve = np.zeros(1 << (64 - int(self._shift) - 3), np.uint8)
        slots = self._slot(self._keys)
        np.bitwise_or.at(self._sieve, slots >> np.uint64(3), _bit(slots))

    def _slot(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return (keys * _SPREAD) >> self._shift

    def found_in(self, hay: bytes) -> "Finds":
        """Return what is in `hay`."""
        finds = Finds()
        for match in re.finditer(rb"[0-9]{%d,}" % TEXT, hay):
            digits = match[0].decode()
            for start in range(len(digits) - TEXT + 1):
                if (at := self._texts.get(digits[start : start + TEXT])) is not None:
                    finds.add("text", at)
        for start in range(0, len(hay), _PIECE):
            piece = hay[start : start + _PIECE + WINDOW] + bytes(8)
            for phase in range(8):
                words = np.frombuffer(piece, "<u8", (len(piece) - phase) // 8, phase)
                for number, at in self._hits(words & _MASK):
                    finds.add(FORMS[number].name, at)
        return finds

    def _hits(self, words: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        words = words[words != 0]
        slots = self._slot(words)
        words = words[self._sieve[slots >> np.uint64(3)] & _bit(slots) != 0]
        places = np.minimum(np.searchsorted(self._keys, words), len(self._keys) - 1)
        for place in places[self._keys[places] == words]:
            number, at = self._meanings[place]
            yield int(number), int(at)


def _bit(slots: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.left_shift(1, slots & np.uint64(7)).astype(np.uint8)


def _texts(digits: str) -> Iterator[str]:
    """Yield the parts that count; of an IMEISV those with most of what is not kept of it."""
    first = TAC + 7 - TEXT if len(digits) == 16 else 0
    for start in range(first, len(digits) - TEXT + 1):
        yield digits[start : start + TEXT]


class Finds:
    """Which identities were found, and in which forms how often."""

    def __init__(self) -> None:
        self.forms: Counter[str] = Counter()
        self.identities: set[int] = set()

    def add(self, form: str, identity: int) -> None:
        self.forms[form] += 1
        self.identities.add(identity)

    def update(self, other: "Finds") -> None:
        self.forms += other.forms
        self.identities |= other.identities

    def __bool__(self) -> bool:
        return bool(self.identities)

    def __repr__(self) -> str:
        return f"{len(self.identities)} identities as {dict(self.forms)}"


# ------------------------------------------------------------------------------- the messages


class Planted:
    """A capture in which everybody is named.

    Each person is told of on one of S11, N4, Gn and beside SGi, and attaches by S1AP or NGAP. Of
    some the request is refused, has no answer, is cut short, comes in fragments of IP or SCTP, or
    in some of them alone; some send packets through their tunnels.
    """

    def __init__(self, everyone: Sequence[Identity]) -> None:
        self.packets = 0
        self._framer = Framer()
        self._lte = build_network(1, 8, 1, 0, 0, rat="eutran").cells
        self._nr = build_network(1, 8, 1, 0, 0, rat="nr").cells
        self._cores = (
            (S11(GATEWAYS, self._framer), self._lte, (Kind.CREATE, Kind.ACTIVATE)),
            (N4(GATEWAYS, self._framer, START_NS), self._nr, (Kind.CREATE, Kind.ACTIVATE)),
            (
                Radius(GATEWAYS, self._framer, random.Random(1), START_NS),
                self._lte,
                (Kind.CREATE, Kind.STARTED),
            ),
            (Gn(self._framer), self._lte, (Kind.CREATE,)),
        )
        self._rans = (
            (S1ap(self._lte, self._framer), self._lte),
            (Ngap(self._nr, self._framer), self._nr),
        )
        self._everyone = everyone

    def capture(self) -> Iterator[bytes]:
        """Yield a pcap file, its header first, of nanosecond times."""
        yield struct.pack("<IHHiIII", 0xA1B2_3C4D, 2, 4, 0, 0, 65_535, 1)
        times = count(START_NS, BETWEEN_NS)
        for number, person in enumerate(self._everyone, start=1):
            for frame, length in self._of(number, person):
                yield _record(frame, length, next(times))
                self.packets += 1
        yield from self._others(next(times))

    def _of(self, number: int, person: Identity) -> Iterator[tuple[bytes, int]]:
        ran, cells = self._rans[number % 2]
        connection = _connection(number, person, cells[number % len(cells)])
        fate = number // len(self._cores) % 40
        for made in _asked(ran, connection, Kind.INITIAL)[0]:
            frame = _in_own_network(made, person)
            for part in _chunks(frame, number, shown=fate - 6) if fate in (7, 8) else [frame]:
                yield part, len(part)
        core, cells, steps = self._cores[number % len(self._cores)]
        connection = _connection(number, person, cells[number % len(cells)])
        for kind in steps:
            request, answer = _asked(core, connection, kind, refuse=fate == 1)
            if fate in _DAMAGES:
                damaged = [damage for frame in request for damage in _DAMAGES[fate](frame)]
                yield from damaged
                return
            for frame in (*request, *answer) if fate != 2 else request:
                yield frame, len(frame)
            if fate in (1, 2):
                return
        if fate < 12:
            for frame in self._user_packets(connection):
                yield frame, len(frame)

    def _user_packets(self, connection: Connection) -> Iterator[bytes]:
        """A datagram to a server and one back, in the tunnel."""
        server, client = ("198.18.0.9", 4433), (connection.ipv4, 10_000 + connection.number % 9)
        tunnel = (connection.cell.node_address, connection.gateway.address)
        for up in (True, False):
            ends = (client, server) if up else (server, client)
            inner = self._framer.udp(*ends, up, b"hello")[14:]
            teid = connection.teid_up if up else connection.teid_down
            outer = [(address, GTPU_PORT) for address in (tunnel if up else tunnel[::-1])]
            header = struct.pack("!BBHI", 0x30, 255, len(inner), teid)
            yield self._framer.udp(outer[0], outer[1], up, header + inner)

    def _others(self, start_ns: int) -> Iterator[bytes]:
        """Yield five minutes of packets that name nobody: what waits is given up."""
        payload = random.Random(2).randbytes(1200)
        for number in range(3000):
            ends = (f"192.0.2.{number % 250 + 1}", 5000), ("198.51.100.1", 5001)
            frame = self._framer.udp(*ends, True, payload)
            yield _record(frame, len(frame), start_ns + number * 100_000_000)
            self.packets += 1


def _connection(number: int, person: Identity, cell: object) -> Connection:
    gateway = GATEWAYS[number % len(GATEWAYS)]
    ipv4 = str(ipaddress.IPv4Address("100.64.0.0") + number)
    prefix = str(ipaddress.IPv6Network(((0x2001_0DB8 << 32 | number) << 64, 64)))
    key = 0x10_0000 + number
    keys = Keys(key, key, key, key, key, number, key, key)
    return Connection(
        number, person, "internet", cell, gateway, number, ipv4, prefix, keys, key, key, 0
    )  # type: ignore[arg-type]


def _asked(
    interface: Interface, connection: Connection, kind: Kind, *, refuse: bool = False
) -> tuple[list[bytes], list[bytes]]:
    """Return the frames of a request and of its answer."""
    keys = connection.keys
    exchange = Exchange(kind, connection, connection.cell, connection.teid_down, keys.node_ue_id, 0)
    transaction = Transaction(interface.name, "", 0)
    request = list(interface.request(exchange, transaction))
    if kind in interface.unanswered:
        return request, []
    outcome = Outcome.REFUSED if refuse else Outcome.ACCEPTED
    return request, list(interface.answer(exchange, transaction, outcome).frames)


def _cut(frame: bytes, kept: int) -> list[tuple[bytes, int]]:
    return [(frame[:-kept], len(frame))]


def _fragments(frame: bytes, shown: int) -> list[tuple[bytes, int]]:
    """Return a frame's IPv4 packet in fragments of 48 bytes, of which so many are shown."""
    header, payload, size = frame[14:34], frame[34:], 48
    starts = range(0, len(payload), size)
    parts = []
    for start in starts[:shown]:
        more = 0x2000 if start != starts[-1] else 0
        part = payload[start : start + size]
        flags = struct.pack("!H", more | start // 8)
        head = header[:2] + struct.pack("!H", 20 + len(part)) + header[4:6] + flags + header[8:]
        parts.append((frame[:14] + head + part, 34 + len(part)))
    return parts


def _in_own_network(frame: bytes, person: Identity) -> bytes:
    """Return the frame with the person's network in its SUCI (null scheme, TS 24.501 9.11.3.4)."""
    digits = [int(digit) for digit in person.imsi[:5]]
    network = (digits[1] << 4 | digits[0], 0xF0 | digits[2], digits[4] << 4 | digits[3])
    scheme = b"\xf0\xff\0\0"
    return frame.replace(b"\x01" + PLMN + scheme, b"\x01" + bytes(network) + scheme)


def _chunks(frame: bytes, number: int, shown: int) -> list[bytes]:
    """Return a frame's message in two chunks of an own association, of which so many are shown.

    RFC 9260 3.3.1: the flags say B and E, the length is without what fills up.
    """
    ip, head, (tsn,) = frame[:34], frame[34:46], struct.unpack_from("!I", frame, 50)
    length = struct.unpack_from("!H", frame, 48)[0]
    stream, message = frame[54:62], frame[62 : 46 + length]
    tagged = head[:4] + struct.pack("!I", number) + head[8:]
    half = len(message) // 8 * 4
    parts = []
    for flags, part in ((2, message[:half]), (1, message[half:])):
        chunk = struct.pack("!BBHI", 0, flags, 16 + len(part), tsn) + stream + part
        packet = tagged + chunk + bytes(-len(chunk) % 4)
        total = struct.pack("!H", 20 + len(packet))
        parts.append(ip[:16] + total + ip[18:] + packet)
        tsn = (tsn + 1) & 0xFFFF_FFFF
    return parts[:shown]


_DAMAGES: Final = {
    3: partial(_cut, kept=8),
    4: partial(_cut, kept=40),
    5: partial(_fragments, shown=99),
    6: partial(_fragments, shown=2),
}


def _record(frame: bytes, length: int, time_ns: int) -> bytes:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return struct.pack("<4I", seconds, rest, len(frame), length) + frame


class Gn:
    """GTPv1-C between SGSN and GGSN (TS 29.060 7.3.1 and 7.3.2), as far as sessions begin."""

    name = "gn"
    procedures: Final = {Kind.CREATE: "create_pdp_context"}
    unanswered: Final[frozenset[Kind]] = frozenset()

    def __init__(self, framer: Framer) -> None:
        self._framer = framer
        self._sequences = count(1)

    def request(self, exchange: Exchange, transaction: Transaction) -> list[bytes]:
        transaction.sequence = next(self._sequences) & 0xFFFF
        connection, identity = exchange.connection, exchange.connection.identity
        node, teid = packed(connection.cell.node_address), exchange.teid_down
        elements = b"".join(
            (
                b"\x02" + bcd(identity.imsi),
                struct.pack("!BBBIBIBB", 15, 0xFC, 16, teid, 17, teid, 20, 5),
                _element(128, b"\xf1\x21"),
                _element(131, labels("internet")),
                _element(133, node),
                _element(133, node),
                _element(134, b"\x91" + bcd(identity.msisdn)),
                _element(135, bytes(12)),
                _element(152, b"\x00" + PLMN + b"\x00\x01\x00\x02"),
                _element(154, bcd(identity.imeisv)),
            )
        )
        message = _gtpv1(16, 0, transaction.sequence, elements)
        ends = (connection.cell.node_address, GTPC_PORT), _ggsn(connection.gateway)
        return [self._framer.udp(*ends, True, message)]

    def answer(self, exchange: Exchange, transaction: Transaction, outcome: Outcome) -> "_Answer":
        connection = exchange.connection
        gateway, teid = packed(connection.gateway.address), connection.teid_up
        elements = struct.pack("!BB", 1, 128 if outcome is Outcome.ACCEPTED else 199)
        if outcome is Outcome.ACCEPTED:
            elements += b"".join(
                (
                    struct.pack("!BBBIBI", 14, 1, 16, teid, 17, teid),
                    _element(128, b"\xf1\x21" + packed(connection.ipv4)),
                    _element(133, gateway),
                    _element(133, gateway),
                )
            )
        message = _gtpv1(17, exchange.teid_down, transaction.sequence, elements)
        ends = _ggsn(connection.gateway), (connection.cell.node_address, GTPC_PORT)
        return _Answer([self._framer.udp(*ends, False, message)])

    def greetings(self) -> list[object]:
        return []

    def restart(self, gateway: Gateway, now_us: int) -> list[object]:
        return []


@dataclass(frozen=True)
class _Answer:
    frames: list[bytes]


def _ggsn(gateway: Gateway) -> tuple[str, int]:
    return gateway.control_address, GTPC_PORT


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("!BH", number, len(value)) + value


def _gtpv1(message_type: int, teid: int, sequence: int, elements: bytes) -> bytes:
    header = struct.pack("!BBHI", 0x32, message_type, 4 + len(elements), teid)
    return header + struct.pack("!HBB", sequence, 0, 0) + elements
