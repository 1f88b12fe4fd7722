"""The OpenAPI document of the operations."""

import json

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from collector.identity.authentication import roles_of
from collector.identity.operations import Operation, Role
from collector.query import document
from collector.query.answers import Problem


async def test_the_document_is_valid_and_tells_every_operation(empty_api):
    listed = list(empty_api.operations.values())
    told = document(listed, "1.2.3")
    OpenAPIV31SpecValidator(told).validate()
    json.dumps(told, allow_nan=False)
    assert told["info"]["version"] == "1.2.3"
    assert told["paths"].keys() == {operation.route for operation in listed}
    assert "/api/v1/cells/{cell_id}" in told["paths"]
    cells = told["paths"]["/api/v1/cells"]["get"]
    names = {parameter["name"]: parameter for parameter in cells["parameters"]}
    assert {"from", "to", "cell_id", "sort", "limit", "cursor", "group_by"} <= names.keys()
    assert names["cell_id"]["schema"]["type"] == "array"
    assert names["from"]["schema"]["type"] == "string"
    assert names["limit"]["schema"]["maximum"] == 1000
    assert cells["security"] == [{"bearer": []}]
    assert told["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert "application/problem+json" in cells["responses"]["400"]["content"]


async def test_every_route_is_known_to_the_guard_by_its_name_in_the_router(empty_api):
    router = web.Application().router
    roles = roles_of(empty_api.operations.values())
    for operation in empty_api.operations.values():
        resource = router.add_get(operation.path, operation.handler).resource
        assert roles["GET", resource.canonical] is Role.READER


async def _handler(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize("path", ["/api/v1/things/{name:[a-z]{2}[0-9]+}/{id}", "/healthz", "/"])
def test_open_operations_bodies_and_patterns_are_told(path):
    operation = Operation("POST", path, "A thing", _handler, role=None, body=Problem)
    admin = Operation("DELETE", path, "No thing", _handler, role=Role.ADMIN)
    told = document([operation, admin], "1")
    OpenAPIV31SpecValidator(told).validate()
    (found,) = told["paths"]
    assert found == path.replace(":[a-z]{2}[0-9]+", "")
    assert told["paths"][found]["post"]["security"] == []
    assert "413" in told["paths"][found]["post"]["responses"]
