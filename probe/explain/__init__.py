"""Wireshark's view of one session beside ours, for people who want to check a record.

pyshark (an extra; it runs tshark) lists the session's packets. Both views are of the same file, so
what they disagree on is worth a look.
"""

import ipaddress
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from probe.errors import CaptureError, ExtraMissingError
from probe.record.codec import Row, time_from_text

_MARGIN_S: Final = 1.0  # packets this long before and after the records' times are shown too
_PORT_FIELDS: Final = {"tcp": "tcp.port", "udp": "udp.port", "sctp": "sctp.port"}


def explain_session(capture: Path, session_id: str, rows: Sequence[Row]) -> int:
    """Print the records of the session and tshark's packets of it; return the exit code.

    `rows` are the replay's records. Raises `CaptureError` where the session is not among them, and
    `ExtraMissingError` without pyshark or tshark.
    """
    records = [row for row in rows if row["session_id"] == session_id]
    if not records:
        raise CaptureError(f"{capture}: no record bears the session id {session_id}")
    packets = wireshark_packets(capture, display_filter(records))
    for record in records:
        print("\n".join(_own_view(record)))
    print(f"\nWireshark: {display_filter(records)}")
    for packet in packets:
        print(packet)
    return 0


def _own_view(record: Row) -> Iterator[str]:
    yield f"record {record['interval_index']} ({record['record_kind']})"
    for name, value in record.items():
        if value is not None and name not in ("interval_index", "record_kind"):
            yield f"  {name:32} {value}"


def display_filter(records: Sequence[Row]) -> str:
    """Return the Wireshark display filter for the packets of one session's records."""
    first = records[0]
    terms = [_address_term(first[f"{side}_ip"]) for side in ("client", "server")]
    field = _PORT_FIELDS.get(first["transport"])
    if field is not None:
        terms += [_port_term(field, first[f"{side}_port"]) for side in ("client", "server")]
    start = min(time_from_text(row["start_time"]) for row in records) / 1e9 - _MARGIN_S
    end = max(time_from_text(row["end_time"]) for row in records) / 1e9 + _MARGIN_S
    terms += [f"frame.time_epoch >= {start:.6f}", f"frame.time_epoch <= {end:.6f}"]
    return " && ".join(term for term in terms if term)


def _address_term(address: str | None) -> str:
    if address is None:
        return ""
    family = "ip" if ipaddress.ip_address(address).version == 4 else "ipv6"
    return f"{family}.addr == {address}"


def _port_term(field: str, port: int | None) -> str:
    return "" if port is None else f"{field} == {port}"


def wireshark_packets(capture: Path, filter_text: str) -> list[str]:
    """Return a line for each packet of `capture` that passes the filter."""
    try:
        import pyshark  # noqa: PLC0415 - an extra that only this command needs
    except ImportError as error:
        raise ExtraMissingError(
            "explain needs pyshark; install it with: pip install 'edgeqoe[explain]'"
        ) from error
    if shutil.which("tshark") is None:
        raise ExtraMissingError("explain needs tshark; install it with: apt-get install tshark")
    source = pyshark.FileCapture(str(capture), display_filter=filter_text, keep_packets=False)
    try:
        return [packet_line(packet) for packet in source]
    except pyshark.capture.capture.TSharkCrashException as error:
        raise CaptureError(f"{capture}: tshark failed: {' '.join(str(error).split())}") from error
    finally:
        source.close()


def packet_line(packet: Any) -> str:
    """Return tshark's view of one packet in one line: number, time, ends, and what it says of TCP.

    pyshark's own one-line summaries lose packets, so the line is made from the dissected fields.
    """
    network = [layer for layer in packet.layers if layer.layer_name in ("ip", "ipv6")]
    ends = f"{network[-1].src} -> {network[-1].dst}" if network else "-"
    protocols = str(packet.frame_info.protocols).split(":")
    words = [
        f"{packet.number:>7}",
        f"{packet.sniff_time:%H:%M:%S.%f}",
        ends,
        f"{packet.length} bytes",
        protocols[-1],
        *_tcp_words(packet),
    ]
    return " ".join(words)


def _tcp_words(packet: Any) -> Iterator[str]:
    tcp = next((layer for layer in packet.layers if layer.layer_name == "tcp"), None)
    if tcp is None:
        return
    flags = str(tcp.get("flags_str", "")).replace("\N{MIDDLE DOT}", "")
    yield f"[{flags}] seq {tcp.get('seq')} ack {tcp.get('ack')} payload {tcp.get('len')}"
    for name in sorted(tcp.field_names):
        if name.startswith("analysis_") and name not in ("analysis_flags", "analysis_acks_frame"):
            yield f"{name.removeprefix('analysis_')}={tcp.get(name)}"
