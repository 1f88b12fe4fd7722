"""Incidents over HTTP."""

import base64
import binascii
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collector.errors import ProblemError
from collector.identity.operations import Operation, Role
from collector.identity.state import StateDatabase
from collector.incident import book
from collector.incident.book import Selection
from collector.incident.evaluation import Evaluator
from collector.incident.incident import CloseReason, Incident
from collector.incident.judgement import SHARE_KINDS, Kind

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_TIME: Final = 253_402_300_799  # the last second of year 9999


def parse_time(text: object) -> int:
    """Return the Unix second of an RFC 3339 time, of Unix seconds, of `now` or of `now-1h`."""
    value = str(text)
    if re.fullmatch(r"\d{1,12}", value):
        return min(int(value), _MAX_TIME)
    if ago := re.fullmatch(r"now(?:-(\d{1,9})([smhdw]))?", value):
        back = int(ago[1]) * _UNITS[ago[2]] if ago[1] else 0
        return max(0, int(time.time()) - back)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be RFC 3339, Unix seconds, now or now-1h") from None
    if moment.tzinfo is None:
        raise ValueError("must name its time zone, as in 2026-01-31T12:00:00Z")
    return max(0, int(moment.timestamp()))


Time = Annotated[int, BeforeValidator(parse_time)]


class IncidentQuery(BaseModel):
    """Which incidents to list: those that touch [from, to]."""

    model_config = ConfigDict(extra="forbid")

    since: Time | None = Field(default=None, alias="from")
    until: Time | None = Field(default=None, alias="to")
    status: Literal["open", "closed"] | None = None
    kind: Kind | None = None
    cell_id: str | None = Field(default=None, max_length=64)
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=200)


class IncidentAnswer(BaseModel):
    """An incident. Times are of the packets; sums are over its bad windows."""

    id: str
    cell_id: str | None = Field(description="Null where it is of a capture point as a whole.")
    capture_point: str | None = Field(description="Null where it is of a cell.")
    kind: Kind
    status: Literal["open", "closed"]
    title: str
    opened_at: str
    updated_at: str
    closed_at: str | None
    close_reason: CloseReason | None
    bad_windows: int
    attempts: int
    failures: int
    failure_ratio: float | None
    affected_subscribers: int
    causes: dict[str, int]
    worst_qoe: float | None
    worst_share: float | None = Field(description="Of the bytes, attributed to what `kind` names.")


class IncidentList(BaseModel):
    """Newest first; ask again with `cursor` set to `next_cursor` for more."""

    data: list[IncidentAnswer]
    next_cursor: str | None


class EvaluationAnswer(BaseModel):
    """How many windows of time were looked at."""

    windows: int


class IncidentEndpoint:
    """Answers for incidents."""

    def __init__(self, database: StateDatabase, evaluator: Evaluator) -> None:
        self._database = database
        self._evaluator = evaluator

    def operations(self) -> list[Operation]:
        """Return the operations of this room."""
        return [
            Operation(
                "GET",
                "/api/v1/incidents",
                "Incidents, newest first",
                self._list,
                query=IncidentQuery,
                response=IncidentList,
            ),
            Operation(
                "POST",
                "/api/v1/incidents/evaluate",
                "Look at every complete window now",
                self._evaluate,
                role=Role.ADMIN,
                response=EvaluationAnswer,
            ),
            Operation(
                "GET",
                "/api/v1/incidents/{id}",
                "One incident",
                self._one,
                response=IncidentAnswer,
            ),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        wanted = _selection(request)
        # One more than asked for tells whether there is a next page.
        more = replace(wanted, limit=wanted.limit + 1)
        found = await self._database.read(partial(book.select, wanted=more))
        shown = found[: wanted.limit]
        cursor = _cursor(shown[-1]) if len(found) > len(shown) else None
        answer = IncidentList(data=[presented(one) for one in shown], next_cursor=cursor)
        return _json(answer)

    async def _one(self, request: web.Request) -> web.StreamResponse:
        incident_id = request.match_info["id"]
        found = await self._database.read(partial(book.find, incident_id=incident_id))
        if found is None:
            raise ProblemError(404, "Not Found", "no incident has this id")
        return _json(presented(found))

    async def _evaluate(self, _: web.Request) -> web.StreamResponse:
        return _json(EvaluationAnswer(windows=await self._evaluator.evaluate()))


def presented(incident: Incident) -> IncidentAnswer:
    """Return `incident` as people see it."""
    return IncidentAnswer(
        id=incident.id,
        cell_id=incident.cell_id or None,
        capture_point=incident.capture_point or None,
        kind=incident.kind,
        status="open" if incident.closed_at is None else "closed",
        title=_title(incident),
        opened_at=_text(incident.opened_at),
        updated_at=_text(incident.updated_at),
        closed_at=None if incident.closed_at is None else _text(incident.closed_at),
        close_reason=incident.close_reason,
        bad_windows=incident.bad_windows,
        attempts=incident.attempts,
        failures=incident.failures,
        failure_ratio=incident.failure_ratio,
        affected_subscribers=incident.affected_subscribers,
        causes=dict(incident.causes),
        worst_qoe=incident.worst_qoe,
        worst_share=incident.worst_share,
    )


def _title(incident: Incident) -> str:
    if incident.kind is Kind.QOE:
        return f"Poor experience in cell {incident.cell_id}: QoE down to {incident.worst_qoe:.0f}"
    if incident.kind in SHARE_KINDS:
        what = incident.kind.removesuffix("_share").replace("_", " ").replace("ran", "RAN")
        share = incident.worst_share or 0.0
        return f"At {incident.capture_point} the {what} is known of {share:.1%} of bytes only"
    cause = max(incident.causes, key=lambda name: incident.causes[name], default="unknown")
    ratio = incident.failure_ratio or 0.0
    return f"{min(ratio, 1.0):.0%} of attempts fail in cell {incident.cell_id}, mostly {cause}"


def _text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"


def _json(answer: BaseModel) -> web.Response:
    return web.Response(text=answer.model_dump_json(), content_type="application/json")


def _selection(request: web.Request) -> Selection:
    try:
        query = IncidentQuery.model_validate(_single_values(request))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise ProblemError(400, "Bad Request", problems) from error
    return Selection(
        since=query.since,
        until=query.until,
        status=query.status,
        kind=query.kind,
        cell_id=query.cell_id,
        before=None if query.cursor is None else _position(query.cursor),
        limit=query.limit,
    )


def _single_values(request: web.Request) -> dict[str, Any]:
    repeated = {name for name in request.query if len(request.query.getall(name)) > 1}
    if repeated:
        raise ProblemError(400, "Bad Request", f"{min(repeated)}: stands more than once")
    return dict(request.query)


def _cursor(last: Incident) -> str:
    return base64.urlsafe_b64encode(f"{last.opened_at} {last.id}".encode()).decode()


def _position(cursor: str) -> tuple[int, str]:
    try:
        opened_at, _, incident_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return int(opened_at), incident_id
    except (binascii.Error, ValueError):
        raise ProblemError(400, "Bad Request", "cursor: not one that this endpoint gave") from None
