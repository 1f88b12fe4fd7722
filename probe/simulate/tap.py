"""The tap: what passes it goes into the capture and into the labels."""

from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final

from scapy.utils import RawPcapWriter

from probe.simulate.gtpu import View
from probe.simulate.headers import Packet, Segment, encode
from probe.simulate.truth import SessionTruth

_LINKTYPE_ETHERNET: Final = 1


class Tap:
    """Writes packets to a capture file, microsecond times, in the order of their passing."""

    def __init__(
        self, path: Path, view: View, start_ns: int, snap_length: int, skip_us: int = 0
    ) -> None:
        self.packets = 0
        self.sessions: list[SessionTruth] = []  # in the order of their first packet
        self._view = view
        self._start_us = start_ns // 1000
        self._snap_length = snap_length
        self._skip_us = skip_us  # what passes before leaves no trace, neither here nor in labels
        self._identification = count(1)
        self._writer = RawPcapWriter(
            str(path),
            linktype=_LINKTYPE_ETHERNET,
            endianness="<",
            snaplen=snap_length,
            bufsz=1 << 20,
        )
        self._writer.write_header(None)

    def __enter__(self) -> "Tap":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def see(self, now_us: int, packet: Packet, ip_length: int) -> None:
        """Record a packet that passes now, `ip_length` bytes long from its IP header on."""
        if now_us < self._skip_us:
            return
        self._label(now_us, packet, ip_length)
        flow = packet.flow
        ip_packet = encode(packet, next(self._identification))
        self.write(now_us, self._view.frame(flow, packet.up, ip_packet))
        self.packets += 1

    def write(self, now_us: int, frame: bytes) -> None:
        """Record a frame that passes now and belongs to no session."""
        if now_us < self._skip_us:
            return
        seconds, microseconds = divmod(self._start_us + now_us, 1_000_000)
        kept = frame[: self._snap_length]
        self._writer.write_packet(
            kept, sec=seconds, usec=microseconds, caplen=len(kept), wirelen=len(frame)
        )

    def _label(self, now_us: int, packet: Packet, ip_length: int) -> None:
        truth = packet.flow.truth
        if truth.start_us is None:
            self.sessions.append(truth)
        payload_length = len(packet.payload)
        truth.saw_packet(now_us, packet.up, ip_length, payload_length)
        connection = packet.flow.connection
        if connection is not None:
            truth.saw_carried(connection.carry(now_us, packet.up, ip_length), packet.up, ip_length)
        if isinstance(packet, Segment):
            truth.saw_segment(now_us, packet.up, packet.flags, packet.offset, payload_length)
        elif packet.is_query:
            truth.saw_query(now_us)
        elif packet.dns_rcode is not None:
            truth.saw_answer(now_us, packet.dns_rcode)
