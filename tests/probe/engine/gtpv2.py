"""GTPv2-C messages (TS 29.274) made byte by byte, as S11 carries them."""

import ipaddress
import struct
from dataclasses import dataclass, field

from tests.probe.engine.packets import Capture, ipv4, udp

MME, SGW = "10.6.0.1", "10.6.0.2"
CREATE_SESSION, CREATE_BEARER, MODIFY_BEARER = 32, 95, 34
ACCEPTED = 16
# Interface types of an F-TEID (8.22).
S1U_ENB, S1U_SGW, S11_MME, S11_SGW = 0, 1, 10, 11


def element(kind: int, value: bytes, instance: int = 0) -> bytes:
    return struct.pack(">BHB", kind, len(value), instance) + value


def tbcd(digits: str) -> bytes:
    padded = digits + "f" * (len(digits) % 2)
    return bytes(int(b + a, 16) for a, b in zip(padded[::2], padded[1::2], strict=True))


def imsi(digits: str) -> bytes:
    return element(1, tbcd(digits))


def cause(number: int = ACCEPTED) -> bytes:
    return element(2, bytes([number, 0]))


def apn(name: str) -> bytes:
    return element(71, bytes([len(name)]) + name.encode())


def ebi(number: int) -> bytes:
    return element(73, bytes([number]))


def paa(address: str) -> bytes:
    return element(79, b"\x01" + ipaddress.ip_address(address).packed)


def quality(qci: int) -> bytes:
    return element(80, bytes([0x44, qci]) + bytes(20))


def location(cell: int) -> bytes:
    """Return a ULI with TAI and ECGI in 001-01 (8.21)."""
    plmn = bytes([0x00, 0xF1, 0x10])
    return element(86, b"\x18" + plmn + struct.pack(">H", 1) + plmn + struct.pack(">I", cell))


def tunnel(interface: int, teid: int, address: str, instance: int = 0) -> bytes:
    body = struct.pack(">BI", 0x80 | interface, teid) + ipaddress.ip_address(address).packed
    return element(87, body, instance)


def bearer(*elements: bytes) -> bytes:
    return element(93, b"".join(elements))


@dataclass
class S11:
    """A subscriber's session between one MME and one SGW."""

    capture: Capture
    _sequence: int = field(default=0, init=False)

    def exchange(
        self, time_ns: int, procedure: int, request: bytes, answer: bytes, *, by_sgw: bool = False
    ) -> None:
        """Add a request and, 5 ms later, its answer."""
        self._sequence += 1
        first_teid = 0 if procedure == CREATE_SESSION else 0x101 if by_sgw else 0x201
        asks, answers = (SGW, MME) if by_sgw else (MME, SGW)
        teids = (first_teid, 0x201 if by_sgw else 0x101)
        for step, (kind, body, source, target) in enumerate(
            [(procedure, request, asks, answers), (procedure + 1, answer, answers, asks)]
        ):
            head = struct.pack(">BBHI", 0x48, kind, 8 + len(body), teids[step])
            message = head + self._sequence.to_bytes(3, "big") + b"\x00" + body
            packet = ipv4(source, target, 17, udp(2123, 2123, message))
            self.capture.add(time_ns + step * 5_000_000, packet)

    def attach(
        self, time_ns: int, who: str, address: str, cell: int, *, name: str, qci: int,
        enb: tuple[str, int], sgw: tuple[str, int],
    ) -> None:  # fmt: skip
        """Create a session with its default bearer 5, and the radio side of it."""
        asked = [imsi(who), location(cell), element(82, b"\x06"), apn(name)]
        asked += [tunnel(S11_MME, 0x101, MME), bearer(ebi(5), quality(qci))]
        granted = [cause(), tunnel(S11_SGW, 0x201, SGW), paa(address)]
        granted.append(bearer(ebi(5), cause(), tunnel(S1U_SGW, sgw[1], sgw[0])))
        self.exchange(time_ns, CREATE_SESSION, b"".join(asked), b"".join(granted))
        radio = bearer(ebi(5), tunnel(S1U_ENB, enb[1], enb[0]))
        done = cause() + bearer(ebi(5), cause())
        self.exchange(time_ns + 10_000_000, MODIFY_BEARER, radio, done)

    def dedicate(
        self, time_ns: int, number: int, *, qci: int, enb: tuple[str, int], sgw: tuple[str, int]
    ) -> None:
        """Create a dedicated bearer beside the default bearer 5."""
        gateway = (S1U_SGW, sgw[1], sgw[0])
        asked = ebi(5) + bearer(ebi(0), tunnel(*gateway), quality(qci))
        radio = tunnel(S1U_ENB, enb[1], enb[0])
        granted = cause() + bearer(ebi(number), cause(), radio, tunnel(*gateway, instance=1))
        self.exchange(time_ns, CREATE_BEARER, asked, granted, by_sgw=True)
