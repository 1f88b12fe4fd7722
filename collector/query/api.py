"""The read operations of the HTTP interface: from a request to a question to an answer."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from collector.errors import ProblemError
from collector.identity.maps import LABEL_FILTERS, Maps, MapsInForce
from collector.identity.operations import Operation
from collector.qoe import Models
from collector.query import answers, parameters, paths, probes, records
from collector.query.aggregates import SORTS, Reader, Slice
from collector.query.cursor import AFTER_RECORD, OFFSET, Cursor, decode, encode, question_mark
from collector.query.failures import failures
from collector.query.parameters import (
    MAX_STEPS,
    ListQuestion,
    Question,
    RecordsQuestion,
    TimelineQuestion,
)
from collector.query.plan import Ask, conditions, source_of, statement
from collector.query.quality import quality
from collector.query.range import asked_span, data_span, subscriber_span
from collector.query.subscribers import linked, of_person
from collector.query.times import NS, Span, default_step, parse_step
from collector.store import Store
from collector.store.aggregates import BY_NAME
from collector.store.links import Person
from probe.record.codec import time_to_text

Clock = Callable[[], int]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Row = dict[str, Any]

MAX_KEYS: Final = 4
MAX_CAPTURE_POINTS: Final = 1000  # looked at to choose one of them
MAX_LABELLED: Final = 5000  # identities that one label may stand for in a question
_API: Final = "/api/v1"
_CELL: Final = "{cell_id:[^/]+}"  # aiohttp's own pattern leaves out ids that hold a brace


def operations(
    store: Store,
    models: Models,
    maps: MapsInForce,
    capture_points: Sequence[str] = (),
    *,
    clock: Clock = time.time_ns,
) -> list[Operation]:
    """Return the read operations.

    `capture_points` are preferred, in this order, where a question names none; `clock` gives `now`
    in ns since the Unix epoch.
    """
    api = _Api(store, models, maps, tuple(capture_points), clock=clock)
    return [
        _get("/range", "Where the data is", api.range, parameters.Nothing, answers.RangeAnswer),
        _get("/network", "The whole network", api.network, Question, answers.AggregateAnswer),
        _get("/network/timeline", "The whole network step by step", api.network_timeline,
             TimelineQuestion, answers.Timeline),
        _get("/cells", "Cells, the worst first", api.list_of("cell_id"),
             ListQuestion, answers.AggregateList),
        _get(f"/cells/{_CELL}", "One cell", api.cell, Question, answers.AggregateAnswer),
        _get(f"/cells/{_CELL}/timeline", "One cell step by step", api.cell_timeline,
             TimelineQuestion, answers.Timeline),
        _get("/subscribers", "Subscribers, the worst first", api.list_of("subscriber_id"),
             ListQuestion, answers.AggregateList),
        _get("/subscribers/{id}", "One subscriber", api.subscriber,
             Question, answers.SubscriberAnswer),
        _get("/subscribers/{id}/timeline", "One subscriber step by step",
             api.subscriber_timeline, TimelineQuestion, answers.Timeline),
        _get("/subscribers/{id}/sessions", "Session records of one subscriber, newest first",
             api.subscriber_sessions, RecordsQuestion, answers.RecordList),
        _get("/subscribers/{id}/services", "Services of one subscriber",
             api.subscriber_services, ListQuestion, answers.AggregateList),
        _get("/subscribers/{id}/failures", "Failure causes of one subscriber", api.failures,
             ListQuestion, answers.FailureList),
        _get("/services", "Services, the worst first", api.list_of("service", "service_class"),
             ListQuestion, answers.AggregateList),
        _get("/devices", "Device types, the worst first", api.list_of("imei_tac"),
             ListQuestion, answers.AggregateList),
        _get("/failures", "Failure causes, the most frequent first", api.failures,
             ListQuestion, answers.FailureList),
        _get("/probes", "Probes and what they sent", api.probes,
             parameters.ProbesQuestion, answers.ProbeList),
        _get("/paths", "What tunnels and their ends say of the transport network", api.paths,
             parameters.PathsQuestion, answers.PathList),
        _get("/quality", "How far the records can be trusted", api.quality,
             ListQuestion, answers.QualityList),
    ]  # fmt: skip


def _get(path: str, summary: str, handler: Handler, query: Any, response: Any) -> Operation:
    return Operation("GET", _API + path, summary, handler, query=query, response=response)


@dataclass(frozen=True)
class _Scope:
    """A question with its range and its capture point decided."""

    ask: Ask
    capture_point: str | None

    def told(self) -> Row:
        return {**_span_told(self.ask.span), "capture_point": self.capture_point or None}


def _span_told(span: Span) -> Row:
    return {"from": time_to_text(span.start), "to": time_to_text(span.end)}


class _Api:
    def __init__(
        self,
        store: Store,
        models: Models,
        maps: MapsInForce,
        capture_points: tuple[str, ...],
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._maps = maps
        self._capture_points = capture_points
        self._reader = Reader(store, models)
        self._clock = clock

    # ------------------------------------------------------------------ range and network

    async def range(self, request: web.Request) -> web.Response:
        parameters.parse_query(request, parameters.Nothing)
        held = await data_span(self._store)
        return _json({"from": None, "to": None} if held is None else _span_told(held))

    async def network(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, Question)
        scope = await self._scope(question)
        return _json({"data": await self._reader.one(scope.ask), **scope.told()})

    async def network_timeline(self, request: web.Request) -> web.Response:
        return await self._timeline(request)

    # ------------------------------------------------------------------------------ cells

    async def cell(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, Question)
        cell_id = request.match_info["cell_id"]
        scope = await self._scope(question, cell_id=(cell_id,))
        data = _found(await self._reader.one(scope.ask))
        (labelled,) = self._maps.current.labelled([{"cell_id": cell_id, **data}])
        return _json({"data": labelled, **scope.told()})

    async def cell_timeline(self, request: web.Request) -> web.Response:
        return await self._timeline(request, cell_id=(request.match_info["cell_id"],))

    # ------------------------------------------------------------------------ subscribers

    async def subscriber(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, Question)
        whose = await self._person(request, question)
        scope = await self._scope(question, whose=whose)
        data = _found(await self._reader.one(scope.ask, by_session=True))
        return _json({"data": data, **scope.told(), "linked": list(whose.ids[1:])})

    async def subscriber_timeline(self, request: web.Request) -> web.Response:
        return await self._timeline(request, by_session=True)

    async def subscriber_services(self, request: web.Request) -> web.Response:
        return await self._list(request, ("service", "service_class"), by_session=True)

    async def subscriber_sessions(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, RecordsQuestion)
        mark = question_mark(question, request.path)
        cursor = decode(question.cursor, mark, AFTER_RECORD)
        whose = await self._person(request, question, cursor)
        span = cursor.span if cursor else await self._span(question, whose)
        asked = self._ask(question, span).narrowed("subscriber_id", *whose.ids)
        asked = replace(asked, periods=whose.periods)
        if question.capture_point is not None:
            asked = asked.narrowed("capture_point", question.capture_point)
        after = records.position_in(cursor) if cursor else None
        rows = await records.records(self._store, asked, after, question.limit + 1)
        shown = rows[: question.limit]
        going_on = None
        if len(rows) > question.limit:
            last = records.position(shown, after)
            going_on = encode(records.cursor_after(last, mark, span))
        data = self._maps.current.labelled(records.told(row) for row in shown)
        return _json({"data": data, "next_cursor": going_on, **_span_told(span)})

    async def _person(
        self, request: web.Request, question: Question, cursor: Cursor | None = None
    ) -> Person:
        """Return who is asked about, by the links of the range if the question gives one."""
        span = cursor.span if cursor else None
        if span is None and not (question.from_ is None and question.to is None):
            span = asked_span(question, None, self._clock())
        return await linked(self._store, request.match_info["id"], span)

    async def _person_if_any(
        self, request: web.Request, question: Question, cursor: Cursor | None
    ) -> Person | None:
        of_subscriber = "id" in request.match_info
        return await self._person(request, question, cursor) if of_subscriber else None

    # ------------------------------------------------------------------- lists of aggregates

    def list_of(self, *keys: str) -> Handler:
        """Return the handler that lists aggregates split by `keys`."""

        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._list(request, keys, by_session="subscriber_id" in keys)

        return handler

    async def _list(
        self, request: web.Request, keys: tuple[str, ...], *, by_session: bool
    ) -> web.Response:
        question = parameters.parse_query(request, ListQuestion)
        page = await self._page(request, question)
        asked = page.scope.ask.split(*keys, *(question.group_by or ()))
        sort, descending = _sort(question.sort or "qoe", (*SORTS, "qoe", *asked.keys))
        _check_keys(asked.keys)
        wanted = Slice(sort, descending, page.offset, question.limit + 1)
        by_session = by_session or "subscriber_id" in asked.keys
        rows = await self._reader.page(asked, wanted, by_session)
        return page.answer(self._maps.current.labelled(rows), question.limit)

    async def failures(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, ListQuestion)
        page = await self._page(request, question)
        asked = page.scope.ask.split(
            "failure_cause", "failure_stage", "failure_side", *(question.group_by or ())
        )
        _check_keys(asked.keys, MAX_KEYS + 3)
        allowed = ("failures", "subscribers", *asked.keys)
        sort, descending = _sort(question.sort or "-failures", allowed)
        wanted = Slice(sort, descending, page.offset, question.limit + 1)
        rows = await failures(self._store, asked, wanted)
        return page.answer(self._maps.current.labelled(rows), question.limit)

    async def quality(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, ListQuestion)
        if question.sort or question.group_by:
            raise ProblemError(400, "Bad parameter", "sort and group_by are not parameters here")
        cursor = decode(question.cursor, mark := question_mark(question, request.path), OFFSET)
        span = cursor.span if cursor else await self._span(question, None)
        asked = _with_capture_point(self._ask(question, span), question.capture_point)
        page = _ListPage(mark, _Scope(asked, question.capture_point), cursor)
        rows = await quality(self._store, asked, page.offset, question.limit + 1)
        return page.answer(rows, question.limit)

    async def probes(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, parameters.ProbesQuestion)
        page, wanted = self._page_of_arrivals(request, question)
        span = page.scope.ask.span
        rows = await probes.probes(self._store, span, question.probe_id, page.offset, wanted)
        return page.answer(rows, question.limit, scope=False)

    async def paths(self, request: web.Request) -> web.Response:
        question = parameters.parse_query(request, parameters.PathsQuestion)
        page, wanted = self._page_of_arrivals(request, question)
        rows = await paths.paths(self._store, page.scope.ask.span, question, page.offset, wanted)
        return page.answer(rows, question.limit, scope=False)

    def _page_of_arrivals(
        self, request: web.Request, question: parameters.ProbesQuestion
    ) -> tuple["_ListPage", int]:
        """Return the page of a question by time of arrival, and how many rows it may need."""
        cursor = decode(question.cursor, mark := question_mark(question, request.path), OFFSET)
        span = cursor.span if cursor else probes.asked_span(question, self._clock())
        return _ListPage(mark, _Scope(Ask(span, {}), None), cursor), question.limit + 1

    # ------------------------------------------------------------------------------ shared

    async def _page(self, request: web.Request, question: ListQuestion) -> "_ListPage":
        mark = question_mark(question, request.path)
        cursor = decode(question.cursor, mark, OFFSET)
        whose = await self._person_if_any(request, question, cursor)
        scope = await self._scope(question, cursor, whose)
        return _ListPage(mark, scope, cursor)

    async def _scope(
        self,
        question: Question,
        cursor: Cursor | None = None,
        whose: Person | None = None,
        **fixed: tuple[str, ...],
    ) -> _Scope:
        """Decide the range and the capture point of a question."""
        span = cursor.span if cursor else await self._span(question, whose)
        return await self._scope_in(span, question, cursor, whose, **fixed)

    async def _scope_in(
        self,
        span: Span,
        question: Question,
        cursor: Cursor | None,
        whose: Person | None,
        **fixed: tuple[str, ...],
    ) -> _Scope:
        """Decide the capture point of a question about `span`."""
        capture_point = cursor.capture_point if cursor else question.capture_point
        asked = self._ask(question, span)
        for name, values in fixed.items():
            asked = asked.narrowed(name, *values)
        if whose is not None:
            asked = await of_person(self._store, asked, whose)
        if capture_point is None:
            capture_point = await self._speaking_capture_point(asked)
        return _Scope(_with_capture_point(asked, capture_point), capture_point)

    def _ask(self, question: Question, span: Span) -> Ask:
        asked = _ask(question, span)
        for label in LABEL_FILTERS:
            if (wanted := getattr(question, label)) is not None:
                asked = _narrowed_by_label(asked, self._maps.current, label, wanted)
        return asked

    async def _span(self, question: Question, whose: Person | None) -> Span:
        held = None
        if question.from_ is None and question.to is None:
            held = await (
                data_span(self._store) if whose is None else subscriber_span(self._store, whose)
            )
        return asked_span(question, held, self._clock())

    async def _speaking_capture_point(self, asked: Ask) -> str | None:
        """Return the capture point that answers the question, None without records.

        The first of the preferred ones that has records of it, else the one with the most sessions.
        A session that two capture points see is counted by each, so their sums must not be added.
        """
        split = replace(asked, keys=("capture_point",))
        query = conditions(split, source := source_of(split))
        sql = statement(
            split, source, query, (BY_NAME["sessions"], BY_NAME["records"]),
            f"ORDER BY sessions DESC, records DESC, key_0 LIMIT {MAX_CAPTURE_POINTS:d}",
        )  # fmt: skip
        found = [str(row["key_0"]) for row in await self._store.fetch(sql, query.parameters)]
        preferred = (name for name in self._capture_points if name in found)
        return next(preferred, found[0] if found else None)

    async def _timeline(
        self, request: web.Request, by_session: bool = False, **fixed: tuple[str, ...]
    ) -> web.Response:
        question = parameters.parse_query(request, TimelineQuestion)
        mark = question_mark(question, request.path)
        cursor = decode(question.cursor, mark, OFFSET)
        whose = await self._person_if_any(request, question, cursor)
        given = cursor.span if cursor else await self._span(question, whose)
        step_s = parse_step(question.step) if question.step else default_step(given)
        # In whole steps first: they may hold capture points that the range itself does not.
        span = await self._steps_span(given, step_s)
        scope = await self._scope_in(span, question, cursor, whose, **fixed)
        keys = tuple(question.group_by or ())
        _check_keys(keys)
        asked = replace(scope.ask, step_s=step_s).split(*keys)
        rows = await self._reader.timeline(asked, by_session)
        if question.sort == "-time":
            rows.reverse()
        # The next page begins with the range as given: the default step follows from it.
        page = _ListPage(mark, replace(scope, ask=replace(scope.ask, span=given)), cursor)
        shown = rows[page.offset : page.offset + question.limit + 1]
        labelled = self._maps.current.labelled(shown)
        return page.answer(labelled, question.limit, step=step_s, **_span_told(span))

    async def _steps_span(self, span: Span, step_s: int) -> Span:
        """Return `span` in whole steps; a span of too many steps is cut to what holds data."""
        longest = MAX_STEPS * step_s * NS
        if span.end - span.start > longest:
            span = span.within(await data_span(self._store))
        if span.end - span.start > longest:
            raise ProblemError(
                400, "Bad parameter", f"more than {MAX_STEPS} steps; take a longer one"
            )
        return span.widened(step_s)


@dataclass(frozen=True)
class _ListPage:
    """One page of a list that goes on by offset."""

    mark: str
    scope: _Scope
    cursor: Cursor | None

    @property
    def offset(self) -> int:
        return self.cursor.position[0] if self.cursor else 0

    def answer(self, rows: list[Row], limit: int, scope: bool = True, **more: Any) -> web.Response:
        """Return `rows`, of which there is one more than `limit` if the list goes on."""
        going_on = self._next(limit) if len(rows) > limit else None
        told = self.scope.told() if scope else {}
        return _json({"data": rows[:limit], "next_cursor": going_on, **told, **more})

    def _next(self, limit: int) -> str:
        span = self.scope.ask.span
        return encode(
            Cursor(
                mark=self.mark,
                start=span.start,
                end=span.end,
                capture_point=self.scope.capture_point,
                position=[self.offset + limit],
            )
        )


def _ask(question: Question, span: Span) -> Ask:
    given: Mapping[str, Any] = question.model_dump(include={*parameters.FILTERS}, exclude_none=True)
    return Ask(span, {name: tuple(values) for name, values in given.items()})


def _narrowed_by_label(asked: Ask, maps: Maps, label: str, wanted: Sequence[str]) -> Ask:
    """Return `asked` narrowed to the identities that a map gives one of the `wanted` labels."""
    found = maps.identities(label, wanted)
    if len(found) > MAX_LABELLED:
        detail = f"{label}: stands for {len(found)} identities, more than {MAX_LABELLED}"
        raise ProblemError(400, "Bad parameter", detail)
    return asked.narrowed(LABEL_FILTERS[label], *found)


def _with_capture_point(asked: Ask, capture_point: str | None) -> Ask:
    return asked if capture_point is None else asked.narrowed("capture_point", capture_point)


def _check_keys(keys: tuple[str, ...], most: int = MAX_KEYS) -> None:
    allowed = {*parameters.FILTERS, "capture_point"}
    if unknown := [name for name in keys if name not in allowed]:
        detail = f"group_by: {unknown[0]} is no dimension; allowed: {', '.join(sorted(allowed))}"
        raise ProblemError(400, "Bad parameter", detail)
    if len(keys) > most:
        raise ProblemError(400, "Bad parameter", f"group_by: at most {most} dimensions in all")


def _sort(text: str, allowed: tuple[str, ...]) -> tuple[str, bool]:
    """Return the name to sort by and whether the largest comes first."""
    name = text.removeprefix("-")
    if name not in allowed:
        detail = f"sort must be one of {', '.join(dict.fromkeys(allowed))}"
        raise ProblemError(400, "Bad parameter", detail)
    return name, text.startswith("-")


def _found(aggregate: Row) -> Row:
    if not aggregate["records"]:
        raise ProblemError(404, "Not found", "no records of it in this range")
    return aggregate


def _json(value: Row) -> web.Response:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return web.Response(text=text, content_type="application/json")
