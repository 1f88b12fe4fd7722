"""The OpenAPI 3.1 document of the HTTP interface, made from the operations themselves."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from collector.identity.operations import Operation
from collector.query.answers import MEDIA_PROBLEM, Problem

_REF: Final = "#/components/schemas/{model}"
_READ_ERRORS: Final = (400, 401, 403, 404, 429, 503)
_BODY_ERRORS: Final = (*_READ_ERRORS, 409, 413, 415)


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of `operations`; `version` is the program's."""
    listed = list(operations)
    names, schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        described = _operation(operation, names)
        paths.setdefault(operation.route, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EdgeQoE collector",
            "version": version,
            "description": "Times are RFC 3339; durations are integer microseconds; "
            "what is missing is null.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(
    operations: list[Operation],
) -> tuple[dict[type[BaseModel], str], dict[str, Any]]:
    """Return each body and response model's reference, and the definitions of all."""
    given = [model for operation in operations for model in (operation.body, operation.response)]
    distinct: list[type[BaseModel]] = list(
        dict.fromkeys([*(model for model in given if model is not None), Problem])
    )
    found, definitions = models_json_schema(
        [(model, "serialization") for model in distinct], by_alias=True, ref_template=_REF
    )
    references = {model: found[(model, "serialization")]["$ref"] for model in distinct}
    return references, definitions["$defs"]


def _operation(operation: Operation, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": [*_path_parameters(operation.route), *_query_parameters(operation.query)],
        "responses": {"200": _success(operation, names), **_errors(operation, names)},
        "security": [] if operation.role is None else [{"bearer": []}],
    }
    if operation.body is not None:
        schema = {"$ref": names[operation.body]}
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.route.removeprefix("/api/v1"))
    return "_".join([operation.method.lower(), *words]) or operation.method.lower()


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    """Return the fields of `model` as parameters; a list is a parameter that may be repeated."""
    if model is None:
        return []
    schema = model.model_json_schema(by_alias=True)
    required = set(schema.get("required", ()))
    return [
        _query_parameter(name, dict(field), name in required)
        for name, field in schema.get("properties", {}).items()
    ]


def _query_parameter(name: str, field: dict[str, Any], required: bool) -> dict[str, Any]:
    description = field.pop("description", None)
    field.pop("title", None)
    parameter: dict[str, Any] = {
        "name": name,
        "in": "query",
        "required": required,
        "schema": _without_null(field),
    }
    return parameter | ({"description": description} if description else {})


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that is present: a query string has no null."""
    if field.get("default", 0) is None:
        field.pop("default")
    present = [form for form in field.pop("anyOf", []) if form.get("type") != "null"]
    return {**field, **present[0]} if len(present) == 1 else field


def _success(operation: Operation, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.response is not None:
        schema = {"$ref": names[operation.response]}
        answer["content"] = {"application/json": {"schema": schema}}
    return answer


def _errors(operation: Operation, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    codes = _READ_ERRORS if operation.method == "GET" else _BODY_ERRORS
    schema = {"$ref": names[Problem]}
    return {
        str(code): {
            "description": HTTPStatus(code).phrase,
            "content": {MEDIA_PROBLEM: {"schema": schema}},
        }
        for code in codes
    }
