"""The batch codec: what was packed comes back, what was sent plain is still read, lies are refused.

The Rust writer is held against this reader in tests/probe/engine; here batches are packed by hand.
"""

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from probe.errors import BatchError
from probe.record import codec

HEAD = {"probe_id": "edge-1", "epoch": 1, "sequence": 2, "created_at": 3}
MODULUS = 1 << 64


def planes(numbers: Sequence[int], width: int) -> bytes:
    return bytes(number >> 8 * plane & 0xFF for plane in range(width) for number in numbers)


def packed(kind: str, numbers: Sequence[int], width: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "width": width, "data": planes(numbers, width), **more}


def words(*values: str, indexes: Sequence[int], **more: Any) -> dict[str, Any]:
    width = 0 if not any(indexes) else 1
    return packed("dictionary", indexes, width, values=list(values), **more)


REQUIRED = [
    *("interval_index", "packets_up", "packets_down", "active_us_up", "active_us_down"),
    *("bytes_up", "bytes_down", "payload_up", "payload_down", "flags"),
]
WIRE = dict.fromkeys(REQUIRED[:5], "u32") | dict.fromkeys(REQUIRED[5:9], "u64")


def columns(rows: int, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    zeros = {name: packed(WIRE.get(name, "u8"), [0] * rows, 0) for name in REQUIRED}
    times = {
        name: packed("u64", [0] * rows, 0)
        for name in ("session_id", "flow_start_time", "start_time", "end_time")
    }
    texts = {
        "record_kind": words("final", indexes=[0] * rows),
        "capture_point": words("s1u", indexes=[0] * rows),
        "transport": words("tcp", indexes=[0] * rows),
    }
    return {**zeros, **times, **texts, **more}


def decoded(rows: int, **more: dict[str, Any]) -> list[codec.Row]:
    body = {"rows": rows, "columns": columns(rows, **more), "links": [], "paths": [], "ledger": []}
    packed_body: bytes = msgpack.packb(body, use_bin_type=True)
    return list(codec.rows(codec.decode(codec.seal(packed_body, **HEAD))))


def test_numbers_come_back_from_the_bytes_that_they_need():
    rows = decoded(3, setup_us=packed("u32", [0x010203, 5], 3, nulls=b"\x02"))
    assert [row["setup_us"] for row in rows] == [0x010203, None, 5]


def test_zeros_need_no_byte_and_are_not_null():
    rows = decoded(2, setup_us=packed("u32", [0], 0, nulls=b"\x01"))
    assert [row["setup_us"] for row in rows] == [None, 0]


def test_times_are_counted_from_each_other_in_steps():
    rows = decoded(
        2,
        flow_start_time=packed("u64", [0, 7], 1, base=1_700_000_000_000_000_000, step=1000),
        start_time=packed("u64", [0, 1], 1, **{"from": "flow_start_time"}),
        end_time=packed("u64", [2, 3], 1, **{"from": "start_time", "step": 500}),
    )
    assert [row["flow_start_time"][-11:] for row in rows] == [".000000000Z", ".000007000Z"]
    assert [row["start_time"][-11:] for row in rows] == [".000000000Z", ".000007001Z"]
    assert [row["end_time"][-11:] for row in rows] == [".000001000Z", ".000008501Z"]


def test_sessions_are_counted_from_the_row_before_and_around_the_end():
    numbers = [MODULUS - 2, 1, 4]
    rows = decoded(3, session_id=packed("u64", numbers, 8, **{"from": "session_id"}))
    names = [row["session_id"] for row in rows]
    assert names == ["fffffffffffffffe", "ffffffffffffffff", "0000000000000003"]


def test_texts_and_histograms_of_rows_that_are_not_null_are_found():
    rows = decoded(
        3,
        server_name=words("a.example", "b.example", indexes=[1, 0], nulls=b"\x02"),
        rtt_client_histogram={
            "type": "binary",
            "width": 1,
            "lengths": bytes([2, 4]),
            "data": bytes([7, 1, 8, 2, 9, 3]),
            "nulls": b"\x01",
        },
    )
    assert [row["server_name"] for row in rows] == ["b.example", None, "a.example"]
    histograms = [row["rtt_client_histogram"] for row in rows]
    assert histograms == [None, {"7": 1}, {"8": 2, "9": 3}]


def test_plain_columns_of_older_probes_stand_beside_packed_ones():
    plain = {"type": "u32", "data": bytes([5, 0, 0, 0, 0, 0, 0, 0]), "nulls": b"\x02"}
    rows = decoded(2, setup_us=plain)
    assert [row["setup_us"] for row in rows] == [5, None]


@pytest.mark.parametrize(
    ("name", "column", "why"),
    [
        ("setup_us", packed("u32", [1, 2], 5), "width must be 0 to 4"),
        ("setup_us", {**packed("u32", [1, 2], 1), "width": True}, "width must be"),
        ("setup_us", {**packed("u32", [1, 2], 1), "width": -1}, "width must be"),
        ("setup_us", packed("u32", [1, 2], 1, nulls=b"\x01"), "data must be 1 bytes"),
        ("setup_us", packed("u32", [1, 2], 1, base=1), "only a u64 column"),
        ("end_time", packed("u64", [1, 2], 1, base=MODULUS - 1, step=-1), "base and step"),
        ("end_time", packed("u64", [1, 2], 1, **{"from": "bytes_up"}), "from must name"),
        ("start_time", packed("u64", [1, 2], 1, **{"from": "end_time"}), "from must name"),
        ("end_time", packed("u64", [1, 2], 1, **{"from": ["start_time"]}), "from must name"),
        ("bytes_up", packed("u64", [1, 2], 1, base=1 << 53), "2\\^53"),
        ("server_name", words("a", indexes=[0, 1]), "an index exceeds values"),
        ("server_name", words(indexes=[0, 0]), "an index exceeds values"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_column(
    name: str, column: dict[str, Any], why: str
):
    with pytest.raises(BatchError, match=f"column {name}: .*{why}"):
        decoded(2, **{name: column})


def test_only_a_body_is_sealed():
    for wrong in (b"", b"\xc0", msgpack.packb([1])):
        with pytest.raises(BatchError, match="not a body"):
            codec.seal(wrong, **HEAD)
