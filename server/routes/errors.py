"""Every error as an OpenAI error body: our own, those of validation, and those of routing."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from recollect.errors import EngineUnavailable, RecollectError

logger = logging.getLogger(__name__)

_SKIPPED = ("body", "query", "path", "header")


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an OpenAI error."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def body_of(exc: BaseException) -> dict[str, Any]:
    """The body for any error; what is not ours says no more than that it is a defect."""
    if isinstance(exc, RecollectError):
        return error_body(exc.message, exc.type, exc.param, exc.code)
    return error_body("the server failed; its log names the defect by this request's x-request-id", "server_error", code="internal_error")


def status_of(exc: BaseException) -> int:
    """The HTTP status for any error."""
    return exc.status if isinstance(exc, RecollectError) else 500


def headers_of(exc: BaseException) -> dict[str, str]:
    """`Retry-After` where trying again makes sense."""
    return {"retry-after": str(exc.retry_after_s)} if isinstance(exc, EngineUnavailable) else {}


def response_of(exc: BaseException) -> JSONResponse:
    """The response for any error."""
    return JSONResponse(body_of(exc), status_of(exc), headers_of(exc))


def install(app: FastAPI) -> None:
    """Answer all errors of `app` in this way."""
    app.add_exception_handler(RecollectError, _recollect_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _recollect_error(request: Request, exc: Exception) -> JSONResponse:
    if status_of(exc) >= 500:
        logger.warning("%s %s: %s", request.method, request.scope["path"], cast("RecollectError", exc).message)
    return response_of(exc)


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    error = cast("HTTPException", exc)
    path = request.scope["path"]
    messages = {404: f"no route {path}; the API is under /v1", 405: f"{request.method} is not allowed for {path}"}
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    return JSONResponse(error_body(message, "invalid_request_error", code=code), error.status_code, error.headers)


async def _validation_error(request: Request, exc: Exception) -> JSONResponse:
    first = cast("RequestValidationError", exc).errors()[0]
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    message, param, code = describe(first, model)
    return JSONResponse(error_body(message, "invalid_request_error", param, code), 400)


def describe(error: Mapping[str, Any], model: Any) -> tuple[str, str | None, str]:
    """Message, field and code of one validation error, without the value: that may be what a user wrote."""
    where = list(cast("Sequence[str | int]", error["loc"]))
    where = where[1:] if where and where[0] in _SKIPPED else where
    param = _path(where)
    kind = error["type"]
    if kind == "json_invalid":
        reason = error.get("ctx", {}).get("error", "it cannot be parsed")
        return f"the body is not JSON: {reason} (at character {where[0] if where else 0})", None, "invalid_json"
    if kind == "missing":
        return (
            f"{param or 'a JSON body'} is required" + ("" if param else ", with content-type application/json"),
            param,
            "missing_required_parameter",
        )
    if kind == "extra_forbidden":
        return f"unknown field {param!r}{_nearest(where, model)}", param, "unknown_parameter"
    if kind == "value_error":
        return f"{param or 'the body'}: {error['ctx']['error']}", param, "invalid_value"
    if not where:
        return f"the body must be a JSON object, with content-type application/json: {error['msg']}", None, "invalid_type"
    return f"{param}: {error['msg']}", param, f"invalid_{kind}"


def _path(where: Sequence[str | int]) -> str | None:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or None


def _nearest(where: Sequence[str | int], model: Any) -> str:
    if not isinstance(model, type) or not issubclass(model, BaseModel) or len(where) != 1:
        return ""
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(where[0]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
