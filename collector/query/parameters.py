"""Query strings: one model for each kind of question; what a model does not name is refused."""

import types
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from collector.errors import ProblemError
from collector.identity.maps import LABEL_FILTERS

Word = Annotated[str, StringConstraints(max_length=256)]
Words = Annotated[list[Word] | None, Field(max_length=64)]

MAX_STEPS: Final = 5000  # of one timeline
_TIME: Final = "RFC 3339, Unix seconds, or now, now-15m, now-1h, now-7d"
_SUBSCRIBER: Final = r"^([0-9a-f]{32})?$"
Pseudonym = Annotated[str, StringConstraints(pattern=_SUBSCRIBER)]


class Question(BaseModel):
    """A range of time and the dimensions to which it is narrowed.

    A dimension may stand several times: any of its values fits. An empty value means unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Word | None = Field(
        None, alias="from", description=f"Start, included, down to the minute. {_TIME}."
    )
    to: Word | None = Field(None, description=f"End, excluded, up to the minute. {_TIME}.")
    capture_point: Word | None = Field(
        None, description="The place of capture; the one with the most sessions if not given."
    )
    probe_id: Words = None
    cell_id: Words = None
    cell_source: Words = None
    subscriber_id: Annotated[list[Pseudonym] | None, Field(max_length=64)] = None
    subscriber_source: Words = None
    service: Words = None
    service_class: Words = None
    rat: Words = None
    apn: Words = None
    ran_node_id: Words = None
    tracking_area: Words = None
    imei_tac: Words = None
    qos_class: Words = None
    slice: Words = None
    transport: Words = None
    app_protocol: Words = None
    server_name: Words = None
    outcome: Words = None
    failure_cause: Words = None
    failure_stage: Words = None
    failure_side: Words = None
    site: Words = Field(None, description="Cells of a site, by the map of cells.")
    region: Words = Field(None, description="Cells of a region, by the map of cells.")
    vendor: Words = Field(None, description="Cells of a vendor, by the map of cells.")
    device_model: Words = Field(None, description="Device types, by the map of devices.")
    device_os: Words = Field(None, description="Device types, by the map of devices.")


class Page(BaseModel):
    """Which part of a list is wanted, in which order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(100, ge=1, le=1000)
    cursor: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        None, description="`next_cursor` of the page before; other parameters as there."
    )


class ListQuestion(Question, Page):
    """A list of aggregates."""

    sort: Word | None = Field(
        None, description="A sum, `qoe` or `failure_ratio`; a leading minus for the largest first."
    )
    group_by: Words = Field(None, description="Further dimensions that split each entry.")


class TimelineQuestion(Question, Page):
    """Aggregates step by step."""

    limit: int = Field(MAX_STEPS, ge=1, le=MAX_STEPS)
    sort: Literal["time", "-time"] = Field("time", description="Oldest or newest step first.")
    step: Word | None = Field(None, description="1m, 5m, 15m, 1h, 6h or 1d.")
    group_by: Words = Field(None, description="Dimensions that split each step.")


class RecordsQuestion(Question, Page):
    """A list of session records, newest first."""


class ProbesQuestion(Page):
    """A list of probes, by when their batches were received."""

    from_: Word | None = Field(None, alias="from", description=f"Start of arrival. {_TIME}.")
    to: Word | None = Field(None, description=f"End of arrival. {_TIME}.")
    probe_id: Words = None


class PathsQuestion(ProbesQuestion):
    """A list of paths, by when their batches were received."""

    capture_point: Words = None
    source: Words = None
    destination: Words = None
    end: Words = Field(None, description="The address of either end.")


class Nothing(BaseModel):
    """No parameter at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_NO_DIMENSIONS: Final = ("from_", "to", "capture_point", *LABEL_FILTERS)
FILTERS: Final = tuple(name for name in Question.model_fields if name not in _NO_DIMENSIONS)

M = TypeVar("M", bound=BaseModel)


def parse_query(request: web.Request, model: type[M]) -> M:
    """Return the query string as `model`, or raise `ProblemError` 400 that names each fault."""
    lists = {
        field.alias or name: _is_list(field.annotation)
        for name, field in model.model_fields.items()
    }
    values: dict[str, Any] = {}
    for name in request.query:
        given = request.query.getall(name)
        if lists.get(name):
            values[name] = given
        elif len(given) > 1:
            raise ProblemError(400, "Bad parameter", f"{name} stands more than once")
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProblemError(400, "Bad parameter", _faults(error, lists)) from None


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is list:
        return True
    nested = get_origin(annotation) in (Annotated, types.UnionType)
    return nested and any(_is_list(part) for part in get_args(annotation))


def _faults(error: ValidationError, known: dict[str, bool]) -> str:
    faults = []
    for entry in error.errors(include_url=False, include_input=False):
        name = str(entry["loc"][0])
        if entry["type"] == "extra_forbidden":
            faults.append(f"{name} is not a parameter here; allowed: {', '.join(known)}")
        else:
            faults.append(f"{name}: {entry['msg']}")
    return "; ".join(dict.fromkeys(faults))
