"""The outermost layer of every request: request ids, the namespace in the URL, sizes, foreign hosts, and defects.

`/ns/<namespace>/v1/...` is `/v1/...` with the namespace set, for clients that can be given nothing but a base URL. The namespace
is written as everywhere (`/ns/user/a%3Ab:agent/c/v1`), or as one segment, encoded as a whole.
"""

from __future__ import annotations

import logging
import re
import secrets
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recollect.errors import ConfigurationError, Forbidden, TooManyRequests, Unauthorized
from server.principal import NOBODY, OPEN, Principal, authenticated, marked
from server.routes.errors import body_of, error_body, response_of, shaped
from server.routes.traced import traced
from server.service import Service
from server.service.exchange import defect

logger = logging.getLogger(__name__)

MAX_BODY = 32 * 2**20
FORM_BYTES = 64 * 2**10
"""What the form around an uploaded file may have."""
UPLOADS = "/v1/files"
_NAMESPACED = re.compile(r"/ns/(?P<namespace>.+?)(?P<path>/(?:v1(?:/.*)?|(?:(?:documents|delegate|all)/)?mcp/?))")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
_LOCAL_HOST = re.compile(r"(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])(?::\d+)?", re.I)


class Edge:
    """Wraps the application: who asks, and whether that one may. Without keys only requests that were sent to this machine by its own
    name are answered."""

    def __init__(self, app: ASGIApp, *, service: Service, max_body: int = MAX_BODY, max_file: int = MAX_BODY) -> None:
        """`max_file`: bytes of an uploaded file, which is streamed to the disk; everything else is held in memory."""
        self._app = app
        self._service = service
        self._told = ""
        self._max_body = max_body
        self._max_upload = max_file + FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        inner = dict(_namespaced(scope))
        with traced(self._service.telemetry, inner, headers, request_id) as told:
            try:
                await self._answer(inner, headers, receive, tagged)
            except Exception as exc:  # noqa: BLE001
                # The last boundary: a defect must not end the connection without a word, nor write a user's text to the log.
                logger.error("request %s failed: %s", request_id, defect(exc))
                if not status:
                    await JSONResponse(shaped(body_of(exc), inner["path"]), 500)(scope, receive, tagged)
            finally:
                told(status)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        limit = self._max_upload if (scope["method"], scope["path"]) == ("POST", UPLOADS) else self._max_body
        admitted = _refusal(headers, limit, scope["path"]) or self._admitted(headers, scope["path"])
        if isinstance(admitted, JSONResponse):
            await admitted(scope, receive, send)
            return
        scope.update(marked(admitted))
        await self._app(scope, _limited(receive, limit), send)

    def _admitted(self, headers: Headers, path: str) -> Principal | JSONResponse:
        """Who asks for a path, which that one may; its request is counted. Else why not."""
        try:
            principal = authenticated(headers, self._service.keys, self._service.owner_token)
            principal.require_for(path)
            if path not in OPEN:
                self._service.limits.take(principal)
        except Unauthorized as exc:
            return NOBODY if path in OPEN else response_of(exc, path)
        except (Forbidden, TooManyRequests) as exc:
            return response_of(exc, path)
        except ConfigurationError as exc:
            if path in OPEN:
                return NOBODY
            if exc.message != self._told:  # once, however many ask
                self._told = exc.message
                logger.error("nobody is let in: %s", exc.message)
            message = "the server cannot read its keys; its log says why"
            return JSONResponse(shaped(error_body(message, "server_error", code="keys_unreadable"), path), 503)
        return (_foreign(headers, path) if principal.unkeyed else None) or principal


def _foreign(headers: Headers, path: str) -> JSONResponse | None:
    """Why a request to a server without keys is none of this machine's; None if it is."""
    # A page in a browser may reach a loopback server under a name of its own (DNS rebinding): its Host gives it away.
    if not _LOCAL_HOST.fullmatch(headers.get("host", "")):
        message = "this server has no keys and answers requests to 127.0.0.1, localhost and [::1] alone"
        return JSONResponse(shaped(error_body(message, "invalid_request_error", "Host", "foreign_host"), path), 421)
    # A proxy in front lets in whom it likes, under whatever Host: what it says of whom it speaks for gives it away.
    if (told := next((name for name, _ in headers.raw if name in _FORWARDED), None)) is not None:
        message = "this server has no keys and answers nobody through a proxy; make one: recollect keys create NAME"
        return JSONResponse(shaped(error_body(message, "invalid_request_error", told.decode(), "proxied_without_keys"), path), 403)
    # Or it sends a form, which no browser asks the server about first: its Origin gives it away.
    if (origin := headers.get("origin")) is not None and not _LOCAL_HOST.fullmatch(urlsplit(origin).netloc):
        message = "this server has no keys and answers no pages of other sites; make one: recollect keys create NAME"
        return JSONResponse(shaped(error_body(message, "invalid_request_error", "Origin", "foreign_origin"), path), 403)
    return None


def _refusal(headers: Headers, limit: int, path: str) -> JSONResponse | None:
    if (coding := headers.get("content-encoding", "identity").lower()) not in ("", "identity"):
        message = f"a body with content-encoding {coding} is not read; send it uncompressed"
        return JSONResponse(
            shaped(error_body(message, "invalid_request_error", "Content-Encoding", "unsupported_content_encoding"), path), 415
        )
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        return JSONResponse(shaped(error_body(_too_large(limit), "invalid_request_error", code="request_too_large"), path), 413)
    return None


def _limited(receive: Receive, limit: int) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return limited


def _too_large(limit: int) -> str:
    return f"the request is larger than {limit} bytes; split it"


def _namespaced(scope: Scope) -> Scope:
    # In the decoded path `a%3Ab`, one name, cannot be told from `a:b`, two parts; so what the client sent is read.
    raw = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    match = _NAMESPACED.fullmatch(raw)
    if match is None:
        return scope
    named, path = match["namespace"], match["path"]
    # With a slash it is the namespace as it is written everywhere; without, one segment that was encoded as a whole.
    namespace = named if "/" in named else unquote(named)
    return {**scope, "path": unquote(path), "raw_path": path.encode("latin-1"), "recollect.namespace": namespace}
