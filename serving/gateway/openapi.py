"""The OpenAPI document of the gateway.

Bodies are parsed by `serving.request.parse` and not by FastAPI, so their schemas are added here.
FastAPI's own parsing cannot name the field of a body that is not JSON, and answers 500 to some bodies with NaN.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from serving.answer import Refusal
from serving.gateway.refusals import MEANINGS
from serving.request import ExposureRequest, OneOrMoreEvents, RecommendationRequest


def documented(request: type[Any], answer: type[Any], *refusals: int) -> dict[str, Any]:
    """Arguments for a route from `request` to `answer` that may refuse with these statuses beside the usual ones."""
    body = {"required": True, "content": {"application/json": {"schema": _reference(request)}}}
    codes = sorted({400, 401, 408, 413, 415, 422, 429, 431, *refusals})
    return {
        "response_model": answer,
        "responses": {code: {"model": Refusal, "description": MEANINGS[code]} for code in codes},
        "openapi_extra": {"requestBody": body, "security": [{}, {"bearer": []}]},
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI document, made at the first call."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, definitions = models_json_schema(
            [(one, "validation") for one in (RecommendationRequest, ExposureRequest, OneOrMoreEvents)],
            ref_template="#/components/schemas/{model}",
        )
        schema["components"]["schemas"].update(definitions["$defs"])
        schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema


def _reference(model: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
