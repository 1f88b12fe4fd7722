"""The shapes of answers, for the OpenAPI document and for whoever reads them."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, create_model

from collector.query.aggregates import SUM_NAMES, quality_names
from probe.record.schema import COLUMNS, Column, Meaning, WireType


class Quantiles(BaseModel):
    """Percentiles of merged histograms, microseconds; null with fewer than 5 / (1 - p) samples."""

    p50: int | None
    p95: int | None
    p99: int | None
    samples: int


class Qoe(BaseModel):
    """A score from 0 to 100 with its 95 % interval; null where too little was measured."""

    value: float | None
    low: float | None
    high: float | None
    samples: int
    model: str = Field(description="Name and version of the model, default@1.")


_sums: dict[str, Any] = dict.fromkeys(SUM_NAMES, (int, ...))
_Sums = create_model("Sums", **_sums)


class Aggregate(_Sums):  # type: ignore[misc, valid-type]
    """Sums over a group of sessions. An unknown dimension is null."""

    # The dimensions it is split by with their labels, and `time`.
    model_config = ConfigDict(extra="allow")

    failure_ratio: float | None
    signalling_failure_ratio: float | None
    subscriber_share: float | None = Field(
        description="Part of `attributable_bytes` whose subscriber more than an address names."
    )
    cell_share: float | None
    ran_node_share: float | None
    tunnel_loss_up: float | None = Field(
        description="Part of the numbered packets in tunnels that was lost before the tap."
    )
    tunnel_loss_down: float | None
    subscribers: int
    rtt_client_us: Quantiles
    rtt_server_us: Quantiles
    ran_delay_up_us: Quantiles = Field(description="RAN and air, as the RAN reports it.")
    ran_delay_down_us: Quantiles
    causes: dict[str, int] = Field(description="Failures by cause, most frequent first.")
    qoe: Qoe


class Failure(BaseModel):
    """Failures of one cause."""

    model_config = ConfigDict(extra="allow")

    failure_cause: str | None
    failure_stage: str | None
    failure_side: str | None
    failures: int
    subscribers: int
    share: float = Field(description="Part of all failures of the question.")


class Probe(BaseModel):
    """What one probe has sent."""

    probe_id: str
    last_received_at: str
    last_created_at: str
    epoch: int
    sequence: int
    batches: int
    batches_missing: int = Field(description="Sequence numbers never received, in all epochs.")
    records: int
    health: dict[str, Any]
    gaps: list[Any]
    ledger: dict[str, dict[str, int]] = Field(
        description="Packets by interface and counter (`counter` or `counter.reason`)."
    )


class RoundTrips(BaseModel):
    """Round trips from the tap to the destination and back, microseconds; null without any."""

    min: int | None
    mean: int | None
    max: int | None
    samples: int


class Path(BaseModel):
    """What happened between two ends of GTP-U, told by one capture point of one probe."""

    probe_id: str
    capture_point: str
    source: str = Field(description="Who asks (echoes) or sends (all else).")
    destination: str
    echo_requests: int
    echo_responses: int
    echo_unanswered: int
    echo_rtt_us: RoundTrips
    error_indications: int = Field(description="Packets came for tunnels that `source` ended.")
    end_markers: int
    tunnel_packets: int = Field(description="Packets of `source` with a number.")
    tunnel_missing: int
    tunnel_late: int
    tunnel_jumps: int
    tunnel_loss: float | None
    n3_rtt_us: RoundTrips = Field(description="By QoS monitoring; `destination` is a gNB.")


_quality: dict[str, Any] = dict.fromkeys(quality_names(), (int, ...))
_Quality = create_model("QualitySums", **_quality)


class Quality(_Quality):  # type: ignore[misc, valid-type]
    """How far the records of one probe's capture point can be trusted."""

    probe_id: str
    capture_point: str | None
    subscriber_share: float | None
    cell_share: float | None
    ran_node_share: float | None


def _json_type(column: Column) -> Any:
    if column.meaning in (Meaning.CODES, Meaning.FLAGS):
        kind: Any = list[str]
    elif column.meaning is Meaning.HISTOGRAM:
        kind = dict[str, int]
    elif column.meaning is Meaning.BOOLEAN:
        kind = bool
    elif column.meaning in (Meaning.COUNT, Meaning.VALUE):
        kind = float if column.wire is WireType.F32 else int
    else:
        kind = str
    return kind | None if column.nullable else kind


_columns: dict[str, Any] = {column.name: (_json_type(column), ...) for column in COLUMNS}
_Record = create_model("RecordColumns", **_columns)


class Record(_Record):  # type: ignore[misc, valid-type]
    """A session record, as the probe wrote it, with its service and the labels of the maps."""

    probe_id: str
    service: str | None
    service_class: str
    received_at: str
    cell_name: str | None
    ran_node_name: str | None
    site: str | None
    region: str | None
    vendor: str | None
    latitude: float | None
    longitude: float | None
    azimuth: float | None
    device_model: str | None
    device_os: str | None


class Scope(BaseModel):
    """What an answer covers."""

    from_: str = Field(alias="from", description="Start of the range, included.")
    to: str = Field(description="End of the range, excluded.")


class AggregateScope(Scope):
    """What an answer about aggregates covers."""

    capture_point: str | None = Field(description="The one capture point whose records count.")


class AggregateAnswer(AggregateScope):
    """One aggregate."""

    data: Aggregate


class SubscriberAnswer(AggregateAnswer):
    """One subscriber; `linked` are other pseudonyms of the same person, part of the sums."""

    linked: list[str]


class AggregateList(AggregateScope):
    """A page of aggregates."""

    data: list[Aggregate]
    next_cursor: str | None


class Timeline(AggregateScope):
    """Aggregates step by step; a step without records is left out."""

    step: int = Field(description="Seconds.")
    data: list[Aggregate]
    next_cursor: str | None


class FailureList(AggregateScope):
    """A page of failure causes."""

    data: list[Failure]
    next_cursor: str | None


class RecordList(Scope):
    """A page of session records."""

    data: list[Record]
    next_cursor: str | None


class ProbeList(BaseModel):
    """A page of probes."""

    data: list[Probe]
    next_cursor: str | None


class PathList(BaseModel):
    """A page of paths."""

    data: list[Path]
    next_cursor: str | None


class QualityList(AggregateScope):
    """How far records can be trusted, by probe and capture point."""

    data: list[Quality]
    next_cursor: str | None


class RangeAnswer(BaseModel):
    """Where the data is; null in an empty store."""

    from_: str | None = Field(alias="from")
    to: str | None


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""


MEDIA_PROBLEM: Final = "application/problem+json"
