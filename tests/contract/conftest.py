"""One real vLLM for all contract tests, on the seed model if it is built, else on random weights of its shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recollect.settings import SEED_MODEL, EngineSettings
from server.engines.child import VllmChild


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, its tokenizer and a chat template."""
    if any(SEED_MODEL.glob("*.safetensors")):
        return SEED_MODEL
    from trainer.seed import build, tokenizer

    folder = tmp_path_factory.mktemp("random-model")
    tok = tokenizer.train(1, num_texts=500)
    tokenizer.save(tok, folder)
    build.model_of(build.Recipe(), tok.get_vocab_size()).save_pretrained(folder)
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmChild]:
    """vLLM, started and ready. When it is closed, none of its processes may be left."""
    child = VllmChild(EngineSettings(model=str(model_folder)), tmp_path_factory.mktemp("engine"))
    await child.start()
    try:
        await child.ready(600)
        yield child
    finally:
        keeper = [psutil.Process(child.pid)] if child.pid else []
        processes = [*keeper, *(process for one in keeper for process in one.children(recursive=True))]
        await child.close()
        assert not [process for process in processes if process.is_running()]
