"""Engine and schema agree, and the engine refuses what it does not understand."""

import json
import struct
from pathlib import Path

import pytest

from probe.engine import Engine, EngineError, capture_span, schema
from probe.record.schema import COLUMNS
from tests.probe.engine.conftest import Run, options, run_engine
from tests.probe.engine.packets import MINUTE, SYN, Capture, Dialogue, ipv4


def test_the_engine_writes_the_columns_of_the_schema() -> None:
    assert schema() == [(c.name, str(c.wire), c.nullable) for c in COLUMNS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unknown": 1}, "unknown field `unknown`"),
        ({"active_timeout_s": 0}, "active_timeout_s: 0 is not between 1 and 86400"),
        ({"subscriber_prefixes": ["10.0.0.1/8"]}, "10.0.0.1/8"),
        ({"captures": [{"capture_point": "x", "time_offset_ns": 0}]}, "files or an interface"),
        ({"client_address": "some"}, "unknown variant `some`"),
    ],
)
def test_wrong_options_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match="engine options: ") as failure:
        Engine(json.dumps(options(["x"], **change)), b"key")
    assert message in str(failure.value)


def test_a_missing_file_fails_at_the_start(tmp_path: Path) -> None:
    engine = Engine(json.dumps(options([str(tmp_path / "none.pcap")])), b"key")
    with pytest.raises(EngineError, match=r"none\.pcap: "):
        engine.start()


def test_a_truncated_capture_gives_its_records_and_then_one_line(tmp_path: Path) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    path = tmp_path / "cut.pcap"
    path.write_bytes(capture.pcap()[:-5])
    result = run_engine([str(path)])
    assert [row["packets_up"] + row["packets_down"] for row in result.rows] == [2]
    assert result.error is not None
    assert result.error.startswith(f"{path}: truncated")
    assert "\n" not in result.error


def test_every_packet_stands_in_the_ledger(run: Run) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    capture.add(MINUTE, ipv4("10.0.0.1", "192.0.2.1", 6, b"short"))
    capture.add(MINUTE, ipv4("10.0.0.1", "192.0.2.1", 89, b"ospf"))
    capture.packets.append((MINUTE, b"\xff" * 12 + b"\x08\x06" + bytes(28)))
    result = run(capture)
    assert (result.ledger("received"), result.ledger("decoded")) == (6, 3)
    assert result.undecodable() == {
        "transport_truncated": 1,
        "transport_unsupported": 1,
        "not_ip": 1,
    }


def test_the_span_of_a_capture_is_its_first_and_last_packet(tmp_path: Path) -> None:
    capture = Capture()
    end = Dialogue(capture).open(MINUTE)
    path = tmp_path / "span.pcap"
    path.write_bytes(capture.pcap())
    assert capture_span([str(path)]) == (MINUTE, end, 3)


def test_stop_hands_over_what_the_engine_holds(tmp_path: Path) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    path = tmp_path / "stop.pcap"
    path.write_bytes(capture.pcap())
    engine = Engine(json.dumps(options([str(path)])), b"key")
    engine.stop()
    engine.start()
    bodies = []
    while not engine.finished():
        bodies.append(engine.next_body(10.0))
    assert any(bodies)


def test_time_can_be_shifted(tmp_path: Path) -> None:
    capture = Capture()
    Dialogue(capture).open(MINUTE)
    path = tmp_path / "shift.pcap"
    path.write_bytes(capture.pcap())
    shifted = {"capture_point": "t", "files": [str(path)], "time_offset_ns": -1_000_000_000}
    rows = run_engine([], captures=[shifted]).rows
    assert rows[0]["start_time"] == "2023-11-14T22:13:59.000000000Z"


def pcapng(ticks: int, frame: bytes) -> bytes:
    """A pcapng file of one packet at `ticks` microseconds (draft-ietf-opsawg-pcapng 4)."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = 12 + len(body)
        return struct.pack("<II", kind, length) + body + struct.pack("<I", length)

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHI", 1, 0, 0))
    head = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return section + interface + block(6, head + frame)


@pytest.mark.parametrize("ticks", [2**64 - 1, 18_618_768_000_000_000, 2**54])
def test_times_at_the_end_of_what_can_be_written_do_not_stop_the_engine(
    tmp_path: Path, ticks: int
) -> None:
    capture = Capture()
    Dialogue(capture).up(MINUTE, SYN)
    path = tmp_path / "late.pcapng"
    path.write_bytes(pcapng(ticks, capture.packets[0][1]))
    result = run_engine([str(path)])
    assert (result.ledger("received"), len(result.rows)) == (1, 1)
