"""The guard: who gets 401, 403 or through, on a real server."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from collector.identity import tokens
from collector.identity.authentication import IDENTITY, Authenticator
from collector.identity.operations import Operation, Role
from collector.identity.state import StateDatabase
from collector.metrics import Metrics
from collector.service.application import build_application

ROLES = {"/open": None, "/read": Role.READER, "/send": Role.PROBE, "/change": Role.ADMIN}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A server with one operation for each role, and a token for each role."""

    def __init__(self, database: StateDatabase, open_on_loopback: bool) -> None:
        self.database = database
        self.clock = Clock()
        self.metrics = Metrics("test")
        operations = [Operation("GET", path, path, _echo, role) for path, role in ROLES.items()]
        operations.append(Operation("GET", "/fails", "fails", _fail, role=None))
        application = build_application(
            operations,
            Authenticator(database, self.clock),
            self.metrics,
            open_on_loopback=open_on_loopback,
        )
        application.router.add_get("/forgotten", _echo)
        self.client = TestClient(TestServer(application))
        with database.transaction() as connection:
            self.tokens = {role: tokens.create(connection, role, f"a-{role}") for role in Role}

    async def status(self, path: str, token: str | None = None, **headers: str) -> int:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.client.get(path, headers=headers) as response:
            return response.status


async def _echo(request: web.Request) -> web.StreamResponse:
    identity = request.get(IDENTITY)
    return web.json_response({"name": identity.name if identity else None})


async def _fail(_: web.Request) -> web.StreamResponse:
    raise RuntimeError("secret detail /etc/passwd")


@pytest.fixture
def database(tmp_path: Path):
    with StateDatabase.open(tmp_path / "state.sqlite") as database:
        database.migrate("identity", tokens.STEPS)
        yield database


@pytest.fixture
async def served(database: StateDatabase) -> AsyncIterator[Served]:
    served = Served(database, open_on_loopback=False)
    async with served.client:
        yield served


@pytest.fixture
async def opened(database: StateDatabase) -> AsyncIterator[Served]:
    served = Served(database, open_on_loopback=True)
    async with served.client:
        yield served


ALLOWED = {
    Role.PROBE: {"/open", "/send"},
    Role.READER: {"/open", "/read"},
    Role.ADMIN: {"/open", "/read", "/change", "/forgotten"},
}


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_what_it_says_and_nothing_else(served: Served, role: Role) -> None:
    for path in (*ROLES, "/forgotten"):
        expected = 200 if path in ALLOWED[role] else 403
        assert await served.status(path, served.tokens[role]) == expected, path


async def test_without_a_token_only_what_is_open_answers(served: Served) -> None:
    statuses = {path: await served.status(path) for path in (*ROLES, "/forgotten")}
    assert statuses == {
        "/open": 200,
        "/read": 401,
        "/send": 401,
        "/change": 401,
        "/forgotten": 401,
    }


async def test_401_is_a_problem_with_a_challenge(served: Served) -> None:
    async with served.client.get("/read") as response:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.content_type == "application/problem+json"
        body = await response.json()
    assert (body["status"], body["title"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer eqo_x", "Basic YTpi", "eqo", "Bearer é", "Bearer " + "x" * 7000],
)
async def test_a_malformed_authorization_is_401(served: Served, header: str) -> None:
    async with served.client.get("/read", headers={"Authorization": header}) as response:
        assert response.status == 401


async def test_a_revoked_token_is_refused_once_the_cache_is_over(served: Served) -> None:
    token = served.tokens[Role.READER]
    assert await served.status("/read", token) == 200
    await served.database.run(partial(tokens.revoke, token_id=tokens.id_of(token)))
    served.clock.now += 1.001
    assert await served.status("/read", token) == 401


async def test_looking_up_a_token_again_does_not_ask_sqlite(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = served.tokens[Role.READER]
    assert await served.status("/read", token) == 200
    asked = []
    monkeypatch.setattr(tokens, "identify", lambda *args, **_: asked.append(args))
    for _ in range(5):
        assert await served.status("/read", token) == 200
    assert asked == []


async def test_the_use_of_a_token_is_noted(served: Served) -> None:
    assert await served.status("/read", served.tokens[Role.READER]) == 200
    records = await served.database.read(tokens.listed)
    used = {record.role for record in records if record.last_used_at is not None}
    assert used == {Role.READER}


async def test_open_on_loopback_opens_reading_and_nothing_more(opened: Served) -> None:
    statuses = {path: await opened.status(path) for path in (*ROLES, "/forgotten")}
    assert statuses == {
        "/open": 200,
        "/read": 200,
        "/send": 401,
        "/change": 401,
        "/forgotten": 401,
    }


async def test_open_on_loopback_still_refuses_a_wrong_token(opened: Served) -> None:
    assert await opened.status("/read", "eqo_" + "0" * 12 + "_" + "0" * 64) == 401


async def test_a_page_of_a_foreign_name_that_points_here_is_not_local(opened: Served) -> None:
    assert await opened.status("/read", Host="evil.example") == 401
    assert await opened.status("/read", Host="evil.example:8642") == 401
    assert await opened.status("/read", Host="localhost:8642") == 200
    assert await opened.status("/read", Host="[::1]:8642") == 200


async def test_what_a_proxy_forwards_is_not_local(opened: Served) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        assert await opened.status("/read", **{header: "198.51.100.7"}) == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("DELETE", "/open", 405), ("GET", "/fails", 500)],
)
async def test_every_error_is_problem_details(
    served: Served, method: str, path: str, status: int
) -> None:
    async with served.client.request(method, path) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        body = await response.json()
        assert body["status"] == status
        assert "secret" not in await response.text()
        if status == 405:
            assert "GET" in response.headers["Allow"]


async def test_requests_are_counted_by_route_and_status(served: Served) -> None:
    await served.status("/read")
    await served.status("/nowhere/1")
    await served.status("/nowhere/2")
    text = served.metrics.exposition().decode()
    assert 'qoe_collector_http_requests_total{method="GET",route="/read",status="401"} 1.0' in text
    assert 'method="any",route="unknown",status="404"} 2.0' in text
    assert 'qoe_collector_refused_requests_total{reason="missing"} 1.0' in text
