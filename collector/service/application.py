"""The HTTP application: every operation mounted, guarded, counted, its errors as problems."""

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Middleware

from collector.identity.authentication import Authenticator, Guard, roles_of
from collector.identity.operations import Operation
from collector.identity.problem import Handler, problem_middleware
from collector.metrics import Metrics
from collector.service.drain import Drain

_http_log = logging.getLogger("collector.http")
# What is not HTTP is answered 400 and closed; a log line for each would be a gift to a scanner.
_http_log.addFilter(lambda record: not _is_malformed_request(record))

_MAX_BODY_BYTES: Final = 1 << 20  # for handlers that ask aiohttp for the body; ingest reads its own
_HANDLER_ARGS: Final = {
    # aiohttp would decompress bodies in the event loop, where a batch would hold up every request.
    "auto_decompress": False,
    # A probe that goes away does not stop the insert of its batch: it will ask for it again.
    "handler_cancellation": False,
    "logger": _http_log,
    # No access log: paths name subscribers. Requests are counted by route instead.
    "access_log": None,
}


def build_application(
    operations: Sequence[Operation],
    authenticator: Authenticator,
    metrics: Metrics,
    *,
    open_on_loopback: bool,
    drain: Drain | None = None,
) -> web.Application:
    """Return the application that answers `operations` and nothing else."""
    guard = Guard(
        authenticator=authenticator,
        roles=roles_of(operations),
        open_on_loopback=open_on_loopback,
        refused=lambda reason: metrics.refused.labels(reason).inc(),
    )
    # From the outside in: counting sees the status of problems, problems come from the guard too.
    middlewares = [_counting(metrics), problem_middleware, guard.admit]
    if drain is not None:
        middlewares.insert(0, drain.middleware())
    application = web.Application(
        middlewares=middlewares, client_max_size=_MAX_BODY_BYTES, handler_args=_HANDLER_ARGS
    )
    for operation in operations:
        _mount(application, operation)
    return application


def _is_malformed_request(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)


def _mount(application: web.Application, operation: Operation) -> None:
    if operation.method == "GET":
        application.router.add_get(operation.path, operation.handler)  # HEAD too
    else:
        application.router.add_route(operation.method, operation.path, operation.handler)


def _counting(metrics: Metrics) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        # The pattern, not the path: labels must be few and must not name subscribers.
        route = resource.canonical if resource is not None else "unknown"
        method = request.method if resource is not None else "any"
        start = perf_counter()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            if not response.prepared:
                response.headers.setdefault("X-Content-Type-Options", "nosniff")
                response.headers["Server"] = "edgeqoe"  # not the versions of what it is built on
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            metrics.requests.labels(method, route, str(status)).inc()
            metrics.request_seconds.labels(route).observe(perf_counter() - start)

    return count
