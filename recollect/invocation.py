"""What the options before a command say, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recollect.settings import Settings
from recollect.settings_read import load


@dataclass(frozen=True, slots=True)
class Invocation:
    """`--config` and `--home` of one call of the command line; commands find it as `ctx.obj`."""

    config: Path | None = None
    home: Path | None = None

    @property
    def serving(self) -> str:
        """The command that starts the server of this home."""
        return "recollect serve" if self.home is None else f"recollect --home {self.home} serve"

    def settings(self, overrides: Iterable[str] = ()) -> Settings:
        """The resolved settings, with `section.key=value` overrides. Raises ConfigurationError."""
        chosen = () if self.home is None else (f"home={self.home}",)
        return load(self.config, (*chosen, *overrides))
