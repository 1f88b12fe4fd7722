"""Errors over HTTP: every one leaves as RFC 9457 problem details, and none tells internals."""

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from collector.errors import CollectorError, ProblemError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into problem details. It must be the outermost but for metrics."""
    try:
        return await handler(request)
    except ProblemError as error:
        return problem_response(error)
    except web.HTTPException as error:
        return _from_http_exception(error)
    except CollectorError as error:
        # The store or the state does not answer; the message may name paths, so it is only logged.
        _log.error("%s %s: %s", request.method, _route(request), error)
        return problem_response(unavailable("the collector cannot reach its store at the moment"))
    except (TimeoutError, ConnectionError) as error:
        _log.warning("%s %s: %s", request.method, _route(request), error or "timed out")
        return problem_response(unavailable("the request took too long"))
    except Exception:
        _log.exception("%s %s failed", request.method, _route(request))
        return problem_response(ProblemError(500, "Internal Server Error"))


def problem_response(problem: ProblemError) -> web.Response:
    """Return `problem` as an application/problem+json response."""
    body = {"type": "about:blank", "title": problem.title, "status": problem.status}
    if problem.detail:
        body["detail"] = problem.detail
    return web.Response(
        status=problem.status,
        text=json.dumps(body),
        content_type="application/problem+json",
        headers=problem.headers,
    )


def unavailable(detail: str, retry_after_s: int = 2) -> ProblemError:
    """Return a 503 that asks the client to keep what it has and to come back."""
    headers = {"Retry-After": str(retry_after_s)}
    return ProblemError(503, "Service Unavailable", detail, headers)


def _from_http_exception(error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        raise error  # a redirection is no problem
    title = HTTPStatus(error.status).phrase
    allowed = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return problem_response(ProblemError(error.status, title, headers=allowed))


def _route(request: web.Request) -> str:
    """Return the route's pattern and not the path, which may hold a subscriber's pseudonym."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"
