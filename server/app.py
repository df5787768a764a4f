"""The application: routes, MCP and the service behind both, put together by constructor arguments."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from memory_store.embedders.base import Embedder
from recollect.settings import Settings
from recollect.stores import LocalStore
from server.engines.base import Engine
from server.engines.choose import open_engine, open_fallback
from server.mcp_app import build_mcp
from server.routes import (
    admin,
    audit,
    chat,
    edge,
    embeddings,
    errors,
    feedback,
    files,
    health,
    kept_responses,
    memories,
    messages,
    metrics,
    models,
    reembed,
    responses,
    rmm,
    usage,
)
from server.routes import (
    engine as engine_routes,
)
from server.service import Service


def create_app(
    settings: Settings, *, engine: Engine | None = None, store: LocalStore | None = None, embedder: Embedder | None = None
) -> FastAPI:
    """The application. `engine`, `store` and `embedder` are those of the settings if left out; an engine that is given is the
    caller's to start and to close.

    Raises ConfigurationError, StorageFull, OSError. It serves while its lifespan runs; `app.state.service` is its Service.
    """
    opened = open_engine(settings.engine, log_dir=settings.home / "logs") if engine is None else None
    fallback = open_fallback(settings.engine)
    service = Service(settings, engine=engine or opened, owns_engine=engine is None, fallback=fallback, store=store, embedder=embedder)
    mcp = build_mcp(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await service.start()
        try:
            async with AsyncExitStack() as managers:
                for manager in mcp.session_managers:
                    await managers.enter_async_context(manager.run())
                yield
        finally:
            await service.close()

    app = FastAPI(title="Recollect", version=service.version, lifespan=lifespan, redirect_slashes=False)
    app.state.service = service
    errors.install(app)
    for resource in (
        chat,
        messages,
        responses,
        kept_responses,
        embeddings,
        models,
        feedback,
        files,
        audit,
        memories,
        reembed,
        admin,
        engine_routes,
        usage,
        rmm,
        health,
        metrics,
    ):
        app.include_router(resource.router)
    app.router.routes.extend(mcp.routes)
    app.add_middleware(edge.Edge, service=service, max_file=settings.files.max_bytes)
    return app
