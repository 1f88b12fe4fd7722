"""Sessions of a small network as a probe sends them: good cells, a slow one, hostile names."""

import math
from collections.abc import Sequence
from typing import Any

from probe.record import codec

Row = dict[str, Any]

START = 1_769_860_800 * 10**9  # 2026-01-31T12:00:00Z
MINUTES = 30
GOOD_CELLS = [f"001-01-0019B0{number}" for number in range(1, 5)]
BAD_CELL = "001-01-0019C01"
HOSTILE_NAME = '<img src=x onerror="window.harmed=true"><b>bold</b>'
HOSTILE_CELL = "<img src=x onerror='window.harmed=true'>"
UNHAPPY = "f" * 32  # fails to connect, and meets the hostile name
RARE = "e" * 32  # one session only
SECOND_NS = 10**9


def subscriber(number: int) -> str:
    return f"{number:032x}"


def network(shift_ns: int = 0) -> list[Row]:
    """Return the records of half an hour from `START` + `shift_ns`; the numbers never differ."""
    cells = [*GOOD_CELLS, BAD_CELL]
    rows = [_session(number, cells[number % len(cells)]) for number in range(900)]
    rows += [_failure(2000 + number) for number in range(12)]
    rows.append(_record(3000, 5, subscriber_id=UNHAPPY, server_name=HOSTILE_NAME, outcome="ok"))
    rows.append(_record(3001, 6, subscriber_id=RARE, server_name="www.example.org", outcome="ok"))
    rows.append(_record(3002, 7, cell_id=HOSTILE_CELL, outcome="ok"))
    # The same sessions as a second capture point sees them, which must not be counted again.
    rows += [row | {"capture_point": "sgi"} for row in rows[:100]]
    return [_moved(row, shift_ns) for row in rows]


def _moved(row: Row, shift_ns: int) -> Row:
    times = ("flow_start_time", "start_time", "end_time")
    return row | {
        name: codec.time_to_text(codec.time_from_text(row[name]) + shift_ns) for name in times
    }


def in_two_batches(rows: Sequence[Row]) -> list[bytes]:
    """Return batches 1 and 3 of a probe: the second never arrived. A twentieth was dropped."""
    ledger = [{"interface": "eth1", "received": 1900, "decoded": 1900, "dropped_kernel": 100}]
    half = len(rows) // 2
    return [
        codec.seal(
            codec.body_from_rows(list(part), ledger=ledger),
            probe_id="edge-1",
            epoch=1,
            sequence=sequence,
            created_at=START,
        )
        for sequence, part in ((1, rows[:half]), (3, rows[half:]))
    ]


def _session(number: int, cell_id: str) -> Row:
    round_trip_us = 300_000 if cell_id == BAD_CELL else 30_000 + 10_000 * (number % 4)
    failed = cell_id == BAD_CELL and number % 4 == 0
    return _record(
        number,
        number % MINUTES,
        cell_id=cell_id,
        subscriber_id=subscriber(number % 40),
        server_name="www.example.org",
        rtt_client_histogram={str(_bucket(round_trip_us)): 4},
        rtt_client_samples=4,
        rtt_client_median_us=round_trip_us,
        rtt_server_histogram={str(_bucket(20_000)): 4},
        outcome="failed" if failed else "ok",
        **(_cause("connect_timeout", "connect", "server") if failed else {}),
    )


def _failure(number: int) -> Row:
    return _record(
        number,
        number % MINUTES,
        subscriber_id=UNHAPPY,
        server_name="app.example.org",
        outcome="failed",
        **_cause("tls_timeout", "tls", "access"),
    )


def _cause(cause: str, stage: str, side: str) -> Row:
    return {"failure_cause": cause, "failure_stage": stage, "failure_side": side}


def _record(number: int, minute: int, **fields: Any) -> Row:
    start = START + minute * 60 * SECOND_NS + number % 60 * SECOND_NS
    return {
        "session_id": f"{number:016x}",
        "record_kind": "final",
        "interval_index": 0,
        "capture_point": "s1u",
        "flow_start_time": codec.time_to_text(start),
        "start_time": codec.time_to_text(start),
        "end_time": codec.time_to_text(start + SECOND_NS),
        "transport": "tcp",
        "app_protocol": "tls",
        "cell_id": GOOD_CELLS[0],
        "bytes_up": 1000 + number,
        "bytes_down": 20_000 + number,
        "payload_up": 900,
        "payload_down": 18_000,
        "packets_up": 20,
        "packets_down": 30,
        "active_us_up": 100_000,
        "active_us_down": 200_000,
        **fields,
    }


def _bucket(us: float) -> int:
    return math.floor(math.log(us / 50) / math.log(1.05))
