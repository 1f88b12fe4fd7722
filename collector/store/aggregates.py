"""What rollups hold: mergeable integer states, and how they are made, merged and read.

The same list drives the rollup tables, the materialized views that fill them and every question
about them, so a question means the same whether raw records or a rollup answer it. Every state is
an integer, a map of integers or a set of hashes: any order of merging gives the same result.

Expressions call the table that they read `s`.
"""

from dataclasses import dataclass
from typing import Final

from probe.record.enums import Outcome, RecordFlag, RecordKind
from probe.record.schema import COLUMNS, Meaning

ADDRESS_SOURCE: Final = "address"  # the `subscriber_source` of whom only an address is known


@dataclass(frozen=True)
class Aggregate:
    """One state: its column in a rollup, and the expressions that make, merge and read it."""

    name: str
    type: str
    make: str  # a state from raw records
    merge: str  # a state from states
    read_raw: str  # the value from raw records
    read: str  # the value from states
    since: int = 1  # the migration that brought it: older rows of rollups know nothing of it


def _sum(name: str, of_raw: str, since: int = 1) -> Aggregate:
    kind, merged = "SimpleAggregateFunction(sum, UInt64)", f"sum(s.{name})"
    return Aggregate(name, kind, of_raw, merged, of_raw, merged, since)


def _map(name: str, key: str, of_raw: str, since: int = 1) -> Aggregate:
    kind = f"SimpleAggregateFunction(sumMap, Map({key}, UInt64))"
    merged = f"sumMap(s.{name})"
    return Aggregate(name, kind, of_raw, merged, of_raw, merged, since)


def _histogram(name: str, since: int = 1) -> Aggregate:
    return _map(name, "UInt8", f"sumMap(CAST(s.{name}, 'Map(UInt8, UInt64)'))", since)


def _flagged(flag: RecordFlag) -> Aggregate:
    return _sum(f"records_{str(flag.name).lower()}", f"countIf(bitTest(s.flags, {_bit(flag)}))")


def _bit(flag: RecordFlag) -> int:
    return flag.value.bit_length() - 1


_FLOW = f"s.record_kind != '{RecordKind.TRANSACTION}'"
_FAILED = f"ifNull(s.outcome = '{Outcome.FAILED}', 0)"
_MISSED_START = f"bitTest(s.flags, {_bit(RecordFlag.MISSED_START)})"

# Each session has one record with interval 0, so counting those counts sessions in a way that adds.
SESSIONS: Final = _sum("sessions", f"countIf(s.interval_index = 0 AND {_FLOW})")
FAILURES: Final = _sum("failures", f"countIf({_FAILED})")

COUNTS: Final = (
    _sum("records", "count()"),
    SESSIONS,
    _sum("attempts", f"countIf(s.interval_index = 0 AND NOT {_MISSED_START} AND {_FLOW})"),
    FAILURES,
    _sum("transactions", f"countIf(NOT ({_FLOW}))"),
    _sum("transactions_failed", f"countIf(NOT ({_FLOW}) AND {_FAILED})"),
)

# Loss between the tap and the client, and the packets among which it could have been seen: those
# of records that measure loss at all. On the way up a hole at the tap was lost on the client's
# side; on the way down what was seen and had to be sent again was.
CLIENT_LOSS: Final = (
    _sum(
        "client_lost_packets",
        "sum(ifNull(s.lost_before_tap_up, 0) + ifNull(s.lost_after_tap_down, 0)"
        " + ifNull(s.rtp_packets_lost_up, 0))",
    ),
    _sum(
        "client_loss_base_packets",
        # A sum with a null in it is null and counts as 0: these records measure no loss.
        "sum(ifNull(s.packets_up + s.lost_before_tap_up, 0)"
        " + if(s.lost_after_tap_down IS NULL, 0, s.packets_down)"
        " + if(s.rtp_packets_lost_up IS NULL, 0, ifNull(s.rtp_packets_expected_up, 0)))",
    ),
)

# Bytes of IP, and those of them that are known to be a subscriber's (not merely an address's), a
# cell's, a base station's. The first is the base of the shares: rows from before it hold 0 in all
# four and say nothing.
_BYTES = "s.bytes_up + s.bytes_down"
_SUBSCRIBER_KNOWN = (
    f"s.subscriber_id != '' AND ifNull(s.subscriber_source, '{ADDRESS_SOURCE}')"
    f" != '{ADDRESS_SOURCE}'"
)
ATTRIBUTION: Final = (
    _sum("attributable_bytes", f"sum({_BYTES})", since=3),
    _sum("subscriber_bytes", f"sumIf({_BYTES}, {_SUBSCRIBER_KNOWN})", since=3),
    _sum("cell_bytes", f"sumIf({_BYTES}, s.cell_id != '')", since=3),
    _sum("ran_node_bytes", f"sumIf({_BYTES}, ifNull(s.ran_node_id, '') != '')", since=3),
)

SUMS: Final = tuple(
    _sum(
        column.name,
        f"sum(ifNull(s.{column.name}, 0))" if column.nullable else f"sum(s.{column.name})",
        since=4 if column.group == "tunnel" else 1,
    )
    for column in COLUMNS
    if column.meaning is Meaning.COUNT
)

QUALITY: Final = (
    *(_flagged(flag) for flag in RecordFlag),
    _sum("records_without_subscriber", "countIf(s.subscriber_id = '')"),
    _sum("records_without_cell", "countIf(s.cell_id = '')"),
)

HISTOGRAMS: Final = (_histogram("rtt_client_histogram"), _histogram("rtt_server_histogram"))

# Delay in the RAN and over the air, as the RAN reports it.
RAN_DELAYS: Final = (
    _histogram("ran_delay_up_histogram", since=4),
    _histogram("ran_delay_down_histogram", since=4),
)

CAUSES: Final = _map(
    "causes",
    "String",
    f"sumMap(if({_FAILED}, map(toString(ifNull(s.failure_cause, 'unknown')), toUInt64(1)),"
    " CAST(map(), 'Map(String, UInt64)')))",
)

SUBSCRIBERS: Final = Aggregate(
    name="subscribers",
    type="AggregateFunction(uniq, String)",
    make="uniqStateIf(s.subscriber_id, s.subscriber_id != '')",
    merge="uniqMergeState(s.subscribers)",
    read_raw="uniqIf(s.subscriber_id, s.subscriber_id != '')",
    read="uniqMerge(s.subscribers)",
)

# The newest arrival that a row holds: what retention counts from.
RECEIVED: Final = Aggregate(
    name="received_at",
    type="SimpleAggregateFunction(max, DateTime('UTC'))",
    make="max(toDateTime(s.received_at))",
    merge="max(s.received_at)",
    read_raw="max(toDateTime(s.received_at))",
    read="max(s.received_at)",
)

TRAFFIC: Final = (
    *COUNTS, *CLIENT_LOSS, *SUMS, *ATTRIBUTION, *QUALITY, *HISTOGRAMS, *RAN_DELAYS, CAUSES,
    SUBSCRIBERS, RECEIVED,
)  # fmt: skip
FAILED: Final = (FAILURES, SUBSCRIBERS, RECEIVED)
BY_NAME: Final = {aggregate.name: aggregate for aggregate in TRAFFIC}
