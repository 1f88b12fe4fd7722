"""The session record: one table of columns that drives encoding, storage and presentation.

Every field of a record is one `Column` here. The engine (Rust), the batch codec, the collector's
tables and the HTTP answers take names, wire types and meaning from this table, so a new field is
one entry here, one in the engine's `record` module and one store migration. The definitions of the
measurements themselves are in docs/record.md.

Units stand in the names: `_us` microseconds, `_s` seconds, `_bps` bits per second, `bytes_` bytes.
`_up` is client to server, `_down` server to client. Missing is null, never 0 or -1.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCHEMA_VERSION: Final = 2


class WireType(StrEnum):
    """How a column's values are laid out in a batch (see `codec`)."""

    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    I64 = "i64"
    F32 = "f32"
    DICTIONARY = "dictionary"
    BINARY = "binary"


class Meaning(StrEnum):
    """What a column's wire value stands for, and so how people see it."""

    COUNT = "count"  # a sum over the interval: integer, addable
    VALUE = "value"  # a measured integer or float that must not be added
    TEXT = "text"
    TIME_NS = "time_ns"  # ns since the Unix epoch, UTC; RFC 3339 with 9 decimals in JSON
    SESSION_ID = "session_id"  # 8 bytes read big-endian as u64; 16 hex digits in JSON
    PSEUDONYM = "pseudonym"  # 16 bytes; 32 hex digits in JSON
    IP = "ip"  # 4 or 16 bytes, network order; text in JSON
    HISTOGRAM = "histogram"  # (bucket u8, count u8) pairs; {bucket: count} in JSON
    CODES = "codes"  # comma-joined codes; a list in JSON
    BOOLEAN = "boolean"  # 0 or 1
    FLAGS = "flags"  # bits of enums.RecordFlag; a list of lower-case names in JSON


@dataclass(frozen=True)
class Column:
    """One field of the session record."""

    name: str
    wire: WireType
    meaning: Meaning
    group: str
    nullable: bool = True


def _columns(group: str, wire: WireType, meaning: Meaning, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, wire, meaning, group) for name in names.split())


def _required(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    return tuple(Column(c.name, c.wire, c.meaning, c.group, nullable=False) for c in columns)


_U8, _U16, _U32, _U64 = WireType.U8, WireType.U16, WireType.U32, WireType.U64
_DICT, _BINARY, _F32 = WireType.DICTIONARY, WireType.BINARY, WireType.F32
_COUNT, _VALUE, _TEXT = Meaning.COUNT, Meaning.VALUE, Meaning.TEXT

# probe_id is not a column of the batch: it stands once in the batch's head, so that a probe can
# only write as itself, and `codec` gives it to every row.
COLUMNS: Final[tuple[Column, ...]] = (
    *_required(_columns("identity", _U64, Meaning.SESSION_ID, "session_id")),
    *_required(_columns("identity", _DICT, _TEXT, "record_kind")),
    *_required(_columns("identity", _U32, _VALUE, "interval_index")),
    *_required(_columns("identity", _DICT, _TEXT, "capture_point")),
    *_required(_columns("identity", _U64, Meaning.TIME_NS, "flow_start_time start_time end_time")),
    *_required(_columns("endpoints", _DICT, _TEXT, "transport")),
    *_columns("endpoints", _DICT, Meaning.IP, "client_ip"),
    *_columns("endpoints", _U16, _VALUE, "client_port"),
    *_columns("endpoints", _DICT, Meaning.IP, "server_ip"),
    *_columns("endpoints", _U16, _VALUE, "server_port"),
    *_columns("endpoints", _DICT, _TEXT, "initiator encapsulation"),
    *_columns("attribution", _DICT, Meaning.PSEUDONYM, "subscriber_id"),
    *_columns("attribution", _DICT, _TEXT, "subscriber_source cell_id cell_source"),
    *_columns("attribution", _U32, _VALUE, "cell_age_s"),
    *_columns("attribution", _DICT, _TEXT, "ran_node_id tracking_area rat apn imei_tac"),
    *_columns("attribution", _U8, _VALUE, "qos_class qfi"),
    *_columns("attribution", _DICT, _TEXT, "slice"),
    *_columns("service", _DICT, _TEXT, "app_protocol server_name server_name_source"),
    *_columns("service", _DICT, _TEXT, "alpn tls_version"),
    *_columns("service", _U8, Meaning.BOOLEAN, "ech"),
    *_columns("service", _U64, Meaning.TIME_NS, "certificate_not_after"),
    *_columns("service", _DICT, _TEXT, "dns_query"),
    *_columns(
        "accessibility",
        _U32,
        _VALUE,
        "handshake_rtt_client_us handshake_rtt_server_us setup_us",
    ),
    *_columns("accessibility", _U16, _COUNT, "syn_retransmissions"),
    *_columns("accessibility", _U32, _VALUE, "tls_setup_us dns_response_us"),
    *_columns("accessibility", _U16, _VALUE, "dns_rcode"),
    *_columns("accessibility", _U32, _VALUE, "time_to_first_byte_us"),
    *_columns("accessibility", _U16, _VALUE, "http_status"),
    *_columns("accessibility", _U32, _COUNT, "requests requests_failed"),
    *_columns("latency", _U32, _VALUE, "rtt_client_min_us rtt_client_median_us"),
    *_columns("latency", _U32, _COUNT, "rtt_client_samples"),
    *_columns("latency", _BINARY, Meaning.HISTOGRAM, "rtt_client_histogram"),
    *_columns("latency", _DICT, _TEXT, "rtt_client_method"),
    *_columns("latency", _U32, _VALUE, "rtt_server_min_us rtt_server_median_us"),
    *_columns("latency", _U32, _COUNT, "rtt_server_samples"),
    *_columns("latency", _BINARY, Meaning.HISTOGRAM, "rtt_server_histogram"),
    *_columns("latency", _DICT, _TEXT, "rtt_server_method"),
    *_required(
        _columns("volume", _U64, _COUNT, "bytes_up bytes_down payload_up payload_down")
        + _columns("volume", _U32, _COUNT, "packets_up packets_down")
        + _columns("volume", _U32, _COUNT, "active_us_up active_us_down")
    ),
    *_columns("volume", _U64, _VALUE, "peak_bytes_up peak_bytes_down"),
    *_columns("volume", _DICT, _TEXT, "limited_by"),
    *_columns(
        "loss",
        _U32,
        _COUNT,
        "retransmitted_packets_up retransmitted_packets_down "
        "retransmitted_bytes_up retransmitted_bytes_down "
        "lost_before_tap_up lost_before_tap_down lost_after_tap_up lost_after_tap_down "
        "out_of_order_packets_up out_of_order_packets_down "
        "duplicate_acks_up duplicate_acks_down zero_windows_up zero_windows_down stall_us",
    ),
    *_columns(
        "tunnel",
        _U32,
        _COUNT,
        "tunnel_packets_up tunnel_packets_down tunnel_missing_up tunnel_missing_down "
        "tunnel_late_up tunnel_late_down",
    ),
    *_columns("tunnel", _U32, _VALUE, "n3_rtt_median_us"),
    *_columns("tunnel", _U32, _COUNT, "n3_rtt_samples"),
    *_columns("tunnel", _U32, _VALUE, "ran_delay_up_median_us"),
    *_columns("tunnel", _U32, _COUNT, "ran_delay_up_samples"),
    *_columns("tunnel", _BINARY, Meaning.HISTOGRAM, "ran_delay_up_histogram"),
    *_columns("tunnel", _U32, _VALUE, "ran_delay_down_median_us"),
    *_columns("tunnel", _U32, _COUNT, "ran_delay_down_samples"),
    *_columns("tunnel", _BINARY, Meaning.HISTOGRAM, "ran_delay_down_histogram"),
    *_columns("tunnel", _DICT, _TEXT, "ran_delay_source"),
    *_columns("voice", _DICT, _TEXT, "rtp_codec"),
    *_columns(
        "voice",
        _U32,
        _COUNT,
        "rtp_packets_expected_up rtp_packets_expected_down "
        "rtp_packets_lost_up rtp_packets_lost_down "
        "rtp_packets_discarded_up rtp_packets_discarded_down "
        "rtp_loss_bursts_up rtp_loss_bursts_down",
    ),
    *_columns("voice", _U32, _VALUE, "rtp_jitter_us_up rtp_jitter_us_down"),
    *_columns("voice", _U16, _VALUE, "sip_code"),
    *_columns("video", _U32, _VALUE, "video_startup_us"),
    *_columns("video", _U32, _COUNT, "video_play_us video_stall_us"),
    *_columns("video", _U64, _VALUE, "video_bitrate_bps"),
    *_columns("video", _F32, _VALUE, "video_confidence"),
    *_columns("signalling", _DICT, _TEXT, "procedure"),
    *_columns("signalling", _U16, _VALUE, "cause_code"),
    *_columns("signalling", _U32, _VALUE, "response_us"),
    *_columns("signalling", _DICT, Meaning.IP, "peer_ip"),
    *_columns("outcome", _DICT, _TEXT, "outcome failure_cause failure_stage failure_side"),
    *_columns("outcome", _DICT, Meaning.CODES, "evidence"),
    *_columns("outcome", _DICT, _TEXT, "end_reason"),
    *_required(_columns("quality", _U8, Meaning.FLAGS, "flags")),
)

COLUMN_BY_NAME: Final = {column.name: column for column in COLUMNS}

# Latency histograms: bucket = floor(ln(us / 50) / ln 1.05), clamped to 0..255.
HISTOGRAM_BUCKETS: Final = 256
HISTOGRAM_FLOOR_US: Final = 50.0
HISTOGRAM_GROWTH: Final = 1.05


def histogram_bucket_us(bucket: int) -> float:
    """Return the value in microseconds that stands for `bucket`: its geometric middle.

    The error against any sample of the bucket is at most 2.5 %.
    """
    return float(HISTOGRAM_FLOOR_US * HISTOGRAM_GROWTH ** (bucket + 0.5))
