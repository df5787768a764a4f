"""`recollect serve`: one process that owns the home, listens, announces itself, and ends in order."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import json
import logging
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import uvicorn
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler

from recollect.errors import ConfigurationError
from recollect.keys import KeyRing
from recollect.settings import ServerSettings, Settings
from server import tracing
from server.app import create_app
from server.home_lock import announced, owned
from server.service import Service

GRACE_S = 30
LAST_S = 3
"""Of the grace: what still streams then is ended with an error event, instead of being cut off."""
PROGRESS_S = 0.25
KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections (httpx 5 s, aiohttp 15 s, Node 4 s): none sends a request into one that closes."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError for a host, port or home that cannot be had."""
    _log_to_stderr(settings.server)
    _check_host(settings.server, KeyRing(settings.home.resolve() / "keys"))
    # Against whom it does not know: h11 bounds the headers of a request, httptools does not
    parser = "auto" if is_loopback(settings.server.host) else "h11"
    with ExitStack() as stack:
        stack.enter_context(owned(settings.home.resolve()))
        listener = stack.enter_context(listening_on(settings.server))
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="on",
            http=parser,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop's, where it is installed
            runner.run(_serve(_Server(config), listener, app.state.service))


class _Server(uvicorn.Server):
    """Ends in order on a signal. uvicorn's own raises the signal once more, which would skip what is left to tidy."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


async def _serve(server: _Server, listener: socket.socket, service: Service) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    # Here and not in uvicorn's hands, which would log what goes wrong and end as if nothing had.
    await service.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    if server.started:
        with announced(service.home, url=url, token=service.owner_token, engine_urls=lambda: _engine_urls(service)) as write:
            service.announce = write
            tasks = [asyncio.create_task(_show_progress(service, url)), asyncio.create_task(_end_answers(server, service))]
            try:
                await serving
            finally:
                for task in tasks:
                    task.cancel()
    await serving


async def _end_answers(server: uvicorn.Server, service: Service) -> None:
    while not server.should_exit:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(PROGRESS_S)
    await asyncio.sleep(GRACE_S - LAST_S)
    await service.workers.close()  # first: a worker that is interrupted goes on, one whose answer is ended has failed
    service.chat.stop()


def _engine_urls(service: Service) -> list[str]:
    """Where a trainer may reach the engines."""
    engines = getattr(service.engine, "engines", (service.engine,))
    return [url for engine in engines if (url := getattr(engine, "url", None))]


async def _show_progress(service: Service, url: str) -> None:
    """On stderr: what is being waited for, then where to go."""
    console = Console(stderr=True, highlight=False)
    with console.status("starting") as line:
        while not (status := await service.status()).ready:
            line.update(f"{url} listens; waiting for: {status.detail}")
            await asyncio.sleep(PROGRESS_S)
    console.print(f"[bold]recollect[/bold] {url}/v1  models: {', '.join(status.models)}  MCP: {url}/mcp")
    # What is there once memory is open stays: a full collection would go through all of it, for some 40 ms in which nobody is
    # answered. Ready is earlier: the libraries of the store are still being loaded then.
    await service.opened()
    gc.collect()
    gc.freeze()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address. Raises ConfigurationError for what is none."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as exc:
        raise ConfigurationError(f"server.host {host!r} is no address; use 127.0.0.1", param="server.host") from exc


def _check_host(settings: ServerSettings, keys: KeyRing) -> None:
    if not is_loopback(settings.host) and not keys.in_force:
        raise ConfigurationError(
            f"server.host {settings.host!r} can be reached from other machines, and this home has no keys: anybody could read "
            "all memories. Make one first (recollect keys create NAME), or set server.host=127.0.0.1",
            param="server.host",
        )


@contextmanager
def listening_on(settings: ServerSettings) -> Generator[socket.socket]:
    """A socket at the host and the port of the settings. Raises ConfigurationError if they cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's algorithm off for such sockets alone: an answer that goes out in two
    # pieces would else wait 40 ms for the client's delayed acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(2048)
        except OSError as exc:
            if exc.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise
            raise ConfigurationError(
                f"server.port {settings.port} on {settings.host} cannot be had: {exc.strerror}; "
                "stop what uses it or set server.port (0: any free one)",
                param="server.port",
            ) from exc
        yield listener


def _log_to_stderr(settings: ServerSettings) -> None:
    if settings.log_format == "json":
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
    else:
        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=False, highlighter=NullHighlighter())
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """A line of JSON for each message. What users wrote is in no message, whatever the format."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line.update(tracing.ids())
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
