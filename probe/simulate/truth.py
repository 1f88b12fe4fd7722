"""The labels: what truly happened to each session, as far as the tap could see it.

Names are those of the session record (docs/record.md) where the meaning is the same. Losses are
the model's own knowledge; everything else is read at the tap, packet by packet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from probe.simulate.control.connection import Stay, Volume

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10  # TCP flags, RFC 9293 3.1

Row = dict[str, Any]


@dataclass(slots=True)
class DirectionTruth:
    """Counters of one direction of a session. `bytes` are those of the IP packets."""

    packets: int = 0
    bytes: int = 0
    payload: int = 0
    retransmitted_packets: int = 0
    retransmitted_bytes: int = 0
    lost_before_tap: int = 0  # packets with payload
    lost_after_tap: int = 0
    sent_up_to: int = 0  # offset behind what passed the tap; a FIN takes one

    def count(self, ip_length: int, payload_length: int) -> None:
        self.packets += 1
        self.bytes += ip_length
        self.payload += payload_length

    def note_data(self, offset: int, payload_length: int, fin: bool) -> None:
        """Tell retransmissions from first transmissions: links never change the order."""
        end = offset + payload_length + fin
        if end <= self.sent_up_to:
            self.retransmitted_packets += 1
            self.retransmitted_bytes += payload_length
        self.sent_up_to = max(end, self.sent_up_to)


@dataclass(slots=True)
class HandshakeTruth:
    """Times at the tap of a TCP handshake, microseconds since the simulation's start."""

    syn_us: int | None = None
    syn_count: int = 0
    syn_ack_us: int | None = None
    syn_ack_count: int = 0
    established_us: int | None = None
    client_sample_good: bool = False  # Karn: the answered packet was sent once
    server_sample_good: bool = False

    def saw(self, now_us: int, up: bool, flags: int) -> None:
        if flags & SYN and up:
            self.syn_count += 1
            self.syn_us = now_us if self.syn_us is None else self.syn_us
        elif flags & SYN:
            self._saw_syn_ack(now_us)
        elif up and flags & ACK and not flags & RST and self._is_unanswered():
            self.established_us = now_us
            self.client_sample_good = self.syn_ack_count == 1

    def _saw_syn_ack(self, now_us: int) -> None:
        self.syn_ack_count += 1
        if self.syn_ack_us is None:
            self.syn_ack_us = now_us
            self.server_sample_good = self.syn_count == 1

    def _is_unanswered(self) -> bool:
        return self.syn_ack_us is not None and self.established_us is None

    @property
    def rtt_server_us(self) -> int | None:
        return _difference(self.syn_ack_us, self.syn_us) if self.server_sample_good else None

    @property
    def rtt_client_us(self) -> int | None:
        if not self.client_sample_good:
            return None
        return _difference(self.established_us, self.syn_ack_us)

    @property
    def setup_us(self) -> int | None:
        return _difference(self.established_us, self.syn_us)


def _difference(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier


@dataclass(slots=True)
class SessionTruth:
    """One session: a five-tuple with at least one packet at the tap."""

    subscriber: str
    cell_id: str
    service: str
    service_class: str
    transport: str
    app_protocol: str | None
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int
    server_name: str | None = None  # to be sent in the clear
    alpn: str | None = None  # what the client offers, joined by commas
    tls_version: str | None = None
    dns_query: str | None = None
    planned_cause: str | None = None
    up: DirectionTruth = field(default_factory=DirectionTruth)
    down: DirectionTruth = field(default_factory=DirectionTruth)
    handshake: HandshakeTruth = field(default_factory=HandshakeTruth)
    start_us: int | None = None
    end_us: int = 0
    fins: int = 0  # bit 0: from the client, bit 1: from the server
    reset_by: str | None = None
    first_query_us: int | None = None
    dns_response_us: int | None = None
    dns_rcode: int | None = None
    carried: list[tuple[Stay, Volume]] = field(default_factory=list)  # in order of time

    def direction(self, up: bool) -> DirectionTruth:
        return self.up if up else self.down

    def saw_packet(self, now_us: int, up: bool, ip_length: int, payload_length: int) -> None:
        """Count a packet that passes the tap."""
        self.start_us = now_us if self.start_us is None else self.start_us
        self.end_us = now_us
        self.direction(up).count(ip_length, payload_length)

    def saw_carried(self, stay: Stay, up: bool, ip_length: int) -> None:
        """Count the packet for the cell that carried it."""
        if not self.carried or self.carried[-1][0] is not stay:
            self.carried.append((stay, Volume()))
        self.carried[-1][1].count(up, ip_length)

    def saw_segment(
        self, now_us: int, up: bool, flags: int, offset: int, payload_length: int
    ) -> None:
        """Note what a TCP segment says; `offset` is that of its payload in the stream."""
        self.handshake.saw(now_us, up, flags)
        fin = bool(flags & FIN)
        if payload_length or fin:
            self.direction(up).note_data(offset, payload_length, fin)
        if fin:
            self.fins |= 1 if up else 2
        if flags & RST and self.reset_by is None:
            self.reset_by = "client" if up else "server"

    def saw_query(self, now_us: int) -> None:
        self.first_query_us = now_us if self.first_query_us is None else self.first_query_us

    def saw_answer(self, now_us: int, rcode: int) -> None:
        if self.dns_rcode is None:
            self.dns_rcode = rcode
            self.dns_response_us = _difference(now_us, self.first_query_us)

    @property
    def failure_cause(self) -> str | None:
        """The planned fault, once the tap has seen what gives it away."""
        cause = self.planned_cause
        return cause if cause is not None and _EVIDENCE[cause](self) else None

    @property
    def outcome(self) -> str:
        if self.failure_cause is not None:
            return "failed"
        return "ok" if self.up.packets and self.down.packets else "unknown"

    @property
    def end_reason(self) -> str | None:
        """Null where only the probe's time limit or the end of the capture ends the session."""
        if self.reset_by is not None:
            return "reset"
        return "fin" if self.fins == 3 else None

    def row(self, start_ns: int) -> Row:
        """Return the session's labels, times in ns since the Unix epoch."""
        greeted = self.up.payload > 0
        directions = [(suffix, name) for name in COUNTERS for suffix in ("up", "down")]
        return {
            **{name: getattr(self, name) for name in _COPIED},
            "server_name": self.server_name if greeted else None,
            "alpn": self.alpn if greeted else None,
            "tls_version": self.tls_version if greeted and self.down.payload else None,
            "app_protocol": self.app_protocol if greeted else None,
            "start_time": start_ns + 1000 * (self.start_us or 0),
            "end_time": start_ns + 1000 * self.end_us,
            "handshake_rtt_client_us": self.handshake.rtt_client_us,
            "handshake_rtt_server_us": self.handshake.rtt_server_us,
            "setup_us": self.handshake.setup_us,
            "syn_retransmissions": max(self.handshake.syn_count - 1, 0),
            **{f"{name}_{way}": getattr(getattr(self, way), name) for way, name in directions},
            **self._carried_row(),
        }

    def _carried_row(self) -> Row:
        """Return the first cell and the share of each; nothing where subscribers do not move."""
        if not self.carried:
            return {}
        shares = [{**stay.key(), **volume.row()} for stay, volume in self.carried]
        return {"cell_id": shares[0]["cell_id"], "carried": shares}


_COPIED: Final = (
    "subscriber",
    "cell_id",
    "service",
    "service_class",
    "transport",
    "client_ip",
    "client_port",
    "server_ip",
    "server_port",
    "dns_query",
    "dns_rcode",
    "dns_response_us",
    "outcome",
    "failure_cause",
    "end_reason",
)
COUNTERS: Final = (  # of DirectionTruth
    "packets",
    "bytes",
    "payload",
    "retransmitted_packets",
    "retransmitted_bytes",
    "lost_before_tap",
    "lost_after_tap",
)


def _server_spoke(session: SessionTruth) -> bool:
    return session.down.payload > 0


def _server_reset(session: SessionTruth) -> bool:
    return session.reset_by == "server"


def _unanswered(session: SessionTruth) -> bool:
    return session.up.packets > 0 and session.down.packets == 0


def _answered(session: SessionTruth) -> bool:
    return session.dns_rcode is not None


_EVIDENCE: Final[dict[str, Callable[[SessionTruth], bool]]] = {
    "connect_refused": _server_reset,
    "connect_timeout": _unanswered,
    "reset_by_server": _server_reset,
    "tls_no_common_cipher": _server_spoke,
    "tls_unknown_name": _server_spoke,
    "tls_version_unsupported": _server_spoke,
    "dns_servfail": _answered,
    "dns_refused": _answered,
    "dns_timeout": _unanswered,
}
