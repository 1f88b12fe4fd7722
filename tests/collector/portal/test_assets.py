"""The portal over HTTP: a page that trusts only its own files, and files that browsers may keep."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from collector.identity.problem import problem_middleware
from collector.portal import operations
from collector.portal.assets import accepted_coding, load_assets

PLAIN = {"Accept-Encoding": "identity"}
STATIC = Path(__file__).parents[3] / "collector" / "portal" / "static"


@pytest.fixture
async def portal() -> AsyncIterator[TestClient[Any, Any]]:
    application = web.Application(middlewares=[problem_middleware])
    for operation in operations():
        application.router.add_get(operation.path, operation.handler)
    async with TestClient(TestServer(application), auto_decompress=False) as client:
        yield client


async def urls_of(portal: TestClient[Any, Any]) -> list[str]:
    page = await (await portal.get("/")).text()
    return sorted(set(re.findall(r'(?:href|src|data-plotly)="(/assets/[^"]+)"', page)))


# ------------------------------------------------------------------------------------- the page


async def test_the_page_needs_no_token() -> None:
    assert {operation.role for operation in operations()} == {None}


async def test_the_policy_admits_nothing_inline_and_nothing_from_elsewhere(
    portal: TestClient[Any, Any],
) -> None:
    answer = await portal.get("/")
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in str(policy)
    assert "http" not in str(policy)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_itself_has_nothing_inline_and_names_no_other_host(
    portal: TestClient[Any, Any],
) -> None:
    page = await (await portal.get("/")).text()
    assert re.findall(r"<script[^>]*>[^<]", page) == []
    assert re.findall(r"<style|\son\w+=|\sstyle=", page) == []
    assert re.findall(r"https?://|\"//", page) == []


async def test_the_page_is_asked_for_again_and_not_sent_again(portal: TestClient[Any, Any]) -> None:
    first = await portal.get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await portal.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    assert await again.read() == b""
    assert "Content-Security-Policy" in again.headers


# ------------------------------------------------------------------------------------ its files


async def test_every_file_that_the_page_names_is_there_and_may_be_kept_for_ever(
    portal: TestClient[Any, Any],
) -> None:
    urls = await urls_of(portal)
    assert {url.rpartition(".")[2] for url in urls} == {"css", "js", "svg"}
    for url in urls:
        answer = await portal.get(url, headers=PLAIN)
        assert answer.status == 200, url
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.content_type in ("text/css", "text/javascript", "image/svg+xml")


async def test_every_module_is_preloaded_and_each_import_has_its_file(
    portal: TestClient[Any, Any],
) -> None:
    names = {url.rpartition("/")[2] for url in await urls_of(portal)}
    modules = {path.name for path in STATIC.glob("*.js")}
    assert names >= modules
    imported = {
        name
        for path in STATIC.glob("*.js")
        for name in re.findall(r'from "\./([\w.]+)"', path.read_text())
    }
    assert imported == modules - {"app.js"}


async def test_plotly_comes_from_the_installed_package(portal: TestClient[Any, Any]) -> None:
    (url,) = [url for url in await urls_of(portal) if url.endswith("/plotly.min.js")]
    content = await (await portal.get(url, headers=PLAIN)).read()
    assert content.lstrip()[:40].startswith(b"/**\n* plotly.js v")
    assert len(content) > 1_000_000


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
async def test_each_coding_carries_the_same_bytes(
    portal: TestClient[Any, Any], coding: str
) -> None:
    (url,) = [url for url in await urls_of(portal) if url.endswith("/plotly.min.js")]
    plain = await (await portal.get(url, headers=PLAIN)).read()
    answer = await portal.get(url, headers={"Accept-Encoding": coding})
    assert answer.headers["Content-Encoding"] == coding
    packed = await answer.read()
    assert len(packed) < len(plain) / 3
    unpack = zstandard.decompress if coding == "zstd" else gzip.decompress
    assert unpack(packed) == plain


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=0.5, Zstd; q=0.1", "gzip"),
        ("zstd;q=0, gzip;q=0", None),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.5", "gzip"),
        ("gzip;q=nonsense", None),
        ("gzip;q=7", None),
        (",;=,,q=1;", None),
    ],
)
def test_the_coding_is_one_that_the_client_takes(header: str, coding: str | None) -> None:
    assert accepted_coding(header) == coding


@pytest.mark.parametrize("name", ["app.js", "..%2f..%2fendpoint.py", "causes.yaml", "%00"])
async def test_a_path_that_names_no_content_is_not_found_and_not_kept(
    portal: TestClient[Any, Any], name: str
) -> None:
    answer = await portal.get(f"/assets/{'0' * 20}/{name}")
    assert answer.status == 404
    assert answer.headers["Cache-Control"] == "no-store"


def test_other_content_has_another_path() -> None:
    (one,) = {asset.digest for asset in load_assets({"x.json": b"1"}) if asset.name != PLOTLY}
    (two,) = {asset.digest for asset in load_assets({"x.json": b"2"}) if asset.name != PLOTLY}
    (again,) = {asset.digest for asset in load_assets({"x.json": b"1"}) if asset.name != PLOTLY}
    assert one == again != two


PLOTLY = "plotly.min.js"
