"""Every error as an OpenAI error body: our own, those of validation, and those of routing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from recollect.errors import EngineUnavailable, Forbidden, RecollectError, TooManyRequests, Unauthorized
from server.routes.invalid import describe
from server.routes.limits import MAX_DEPTH

MESSAGES = "/v1/messages"
_ANTHROPIC = {
    "model_not_found": "not_found_error",
    "not_found": "not_found_error",
    "unknown_url": "not_found_error",
    "request_too_large": "request_too_large",
    "engine_unavailable": "overloaded_error",
    "answer_timeout": "timeout_error",
}
DEFECT = "the server failed; its log names the defect by this request's x-request-id"
logger = logging.getLogger(__name__)


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an OpenAI error."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def body_of(exc: BaseException) -> dict[str, Any]:
    """The body for any error; what is not ours says no more than that it is a defect."""
    if isinstance(exc, RecollectError):
        return error_body(exc.message, exc.type, exc.param, exc.code)
    return error_body(DEFECT, "server_error", code="internal_error")


def shaped(body: dict[str, Any], path: str) -> dict[str, Any]:
    """The body as clients of the API under `path` read it: Anthropic's has the word `error` besides, and names of its own for the types."""
    if not (path == MESSAGES or path.startswith(f"{MESSAGES}/")):
        return body
    error = body["error"]
    named = _ANTHROPIC.get(error["code"]) or {"server_error": "api_error"}.get(error["type"], error["type"])
    return {"type": "error", "error": {**error, "type": named}}


def status_of(exc: BaseException) -> int:
    """The HTTP status for any error."""
    return exc.status if isinstance(exc, RecollectError) else 500


def headers_of(exc: BaseException) -> dict[str, str]:
    """`Retry-After` where trying again makes sense, and how to authenticate where that was not done."""
    match exc:
        case EngineUnavailable() | TooManyRequests():
            return {"retry-after": str(exc.retry_after_s)}
        case Unauthorized():
            return {"www-authenticate": "Bearer"}
        case Forbidden():
            return {"www-authenticate": f'Bearer error="insufficient_scope", scope="{exc.scope}"'}
        case _:
            return {}


def response_of(exc: BaseException, path: str) -> JSONResponse:
    """The response for any error of a request for `path`."""
    return JSONResponse(shaped(body_of(exc), path), status_of(exc), headers_of(exc))


def install(app: FastAPI) -> None:
    """Answer all errors of `app` in this way."""
    app.add_exception_handler(RecollectError, _recollect_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _recollect_error(request: Request, exc: Exception) -> JSONResponse:
    if status_of(exc) >= 500:
        logger.warning("%s %s: %s", request.method, request.scope["path"], cast("RecollectError", exc).message)
    return response_of(exc, request.scope["path"])


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    error = cast("HTTPException", exc)
    # FastAPI tells no more than that the body could not be parsed; the cause tells why.
    path = request.scope["path"]
    if unreadable := _unreadable(error.__cause__):
        return JSONResponse(shaped(unreadable, path), 400)
    messages = {404: f"no route {path}; the API is under /v1", 405: f"{request.method} is not allowed for {path}"}
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    return JSONResponse(shaped(error_body(message, "invalid_request_error", code=code), path), error.status_code, error.headers)


async def _validation_error(request: Request, exc: Exception) -> JSONResponse:
    error = cast("RequestValidationError", exc)
    errors = cast("Sequence[Mapping[str, Any]]", error.errors())
    part, *where = errors[0]["loc"]
    if errors[0]["type"] == "json_invalid":
        message = f"the body is not JSON: {errors[0]['ctx']['error']} (at character {where[0]})"
        return JSONResponse(shaped(error_body(message, "invalid_request_error", code="invalid_json"), request.scope["path"]), 400)
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    given = error.body if part == "body" else dict(request.query_params)
    invalid = describe([{**one, "loc": one["loc"][1:]} for one in errors if one["loc"][0] == part], given, model)
    body = error_body(invalid.message, "invalid_request_error", invalid.param, invalid.code)
    return JSONResponse(shaped(body, request.scope["path"]), 400)


def _unreadable(cause: BaseException | None) -> dict[str, Any] | None:
    """The error body for why a request's body could not be read as JSON; None if it is none of the reasons known."""
    if isinstance(cause, RecursionError):
        message, code = f"the body nests lists and objects more than {MAX_DEPTH} deep; flatten it", "invalid_value"
    elif isinstance(cause, UnicodeDecodeError):
        message, code = f"the body is not UTF-8 (at byte {cause.start}); send JSON in UTF-8, not compressed", "invalid_encoding"
    elif isinstance(cause, ValueError):
        digits = sys.get_int_max_str_digits()
        message, code = f"the body holds a number of more than {digits} digits; send a smaller one, or a text", "invalid_value"
    else:
        return None
    return error_body(message, "invalid_request_error", code=code)
