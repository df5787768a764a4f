"""One vLLM on another model than the seed's, for all tests of this folder that want one: a start costs most of a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.other_model import write_other_model
from trainer.demo.serving import Serving

COMMON = ("agents.prompts=default", "embedder.kind=none")


class OtherEngine(NamedTuple):
    """Where its weights lie, and where it answers."""

    model: Path
    url: str

    @property
    def serving(self) -> list[str]:
        """Settings of a server that uses it."""
        return ["engine.kind=attach", f"engine.urls=[{self.url}]", *COMMON]

    @property
    def training(self) -> list[str]:
        """Settings of a trainer beside such a server: it loads the weights itself."""
        return [f"engine.model={self.model}", *COMMON]


@pytest.fixture(scope="session")
def other_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherEngine]:
    """Started as a user starts it, by `recollect serve engine.model=PATH`, and used by others."""
    place = tmp_path_factory.mktemp("other")
    model = write_other_model(place / "model")
    serving = Serving(place / "home", [f"engine.model={model}", "embedder.kind=none"])
    try:
        serving.start(lambda _: None)
        yield OtherEngine(model, serving.engine_url)
    finally:
        serving.stop()
