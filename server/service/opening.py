"""Opens the memory store and its embedder as the settings say, without keeping the server from answering."""

from __future__ import annotations

import asyncio
import importlib
import logging
from functools import partial
from typing import Any

from memory_store.embedders.base import Embedder
from recollect.errors import ConfigurationError, RecollectError
from recollect.settings import Settings
from recollect.stores import LocalStore

logger = logging.getLogger(__name__)


class StoreOpener:
    """Opens the store; an embedder that must first be exported is given to it later."""

    def __init__(self, settings: Settings, embedder: Embedder | None, *, eager: bool) -> None:
        """`eager`: load LanceDB at once too, not with the first request that needs it; it takes a second and 200 MB.

        Raises ConfigurationError for an embedder that needs torch.
        """
        if settings.embedder.kind == "sentence-transformers":
            raise ConfigurationError(
                "embedder.kind sentence-transformers needs torch, which the server does without; give it the model as ONNX "
                "(embedder.kind=onnx), or an endpoint",
                param="embedder.kind",
            )
        self._home = settings.home.resolve()
        self._settings = settings
        self._embedder = embedder
        self._eager = eager
        self._attaching: asyncio.Task[None] | None = None

    async def open(self) -> LocalStore:
        """The store. Raises ConfigurationError, EmbedderError."""
        choosing, stores = await asyncio.to_thread(_libraries, eager=self._eager)
        if not self._settings.memory.uri:
            (self._home / "memory").mkdir(mode=0o700, exist_ok=True)
            (self._home / "memory").chmod(0o700)  # the home may be open to others, and Lance's files are
        opened = partial(stores.LanceMemoryStore, self._settings.memory_uri, storage_options=self._settings.memory.storage_options)
        if self._embedder is not None:
            return opened(self._embedder)
        if choosing.export_is_due(self._settings.embedder, self._home):
            store = opened(None)
            self._attaching = asyncio.create_task(self._attach(store, choosing))
            return store
        return opened(await choosing.choose(self._settings.embedder, self._home))

    async def close(self) -> None:
        """Stop an export that goes on."""
        if self._attaching is not None:
            self._attaching.cancel()
            await asyncio.gather(self._attaching, return_exceptions=True)

    async def _attach(self, store: Any, choosing: Any) -> None:
        logger.warning("the embedder is exported, once, which takes about half a minute; until then memories are searched by full text")
        try:
            embedder = await choosing.choose(self._settings.embedder, self._home)
            if embedder is not None:
                await store.attach(embedder)
        except RecollectError as exc:
            logger.warning("memories are searched by full text only: %s", exc.message)


def _libraries(*, eager: bool) -> tuple[Any, Any]:
    # Imported here, in a thread: they take seconds to load, and the server answers meanwhile.
    from memory_store import store
    from memory_store.embedders import choose

    if eager:
        importlib.import_module("memory_store.disk")
        importlib.import_module("memory_store.native")
    return choose, store
