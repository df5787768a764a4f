"""What installed packages add by entry points: importing a module of theirs registers what it defines."""

from __future__ import annotations

from importlib.metadata import entry_points

from recollect.errors import ConfigurationError


def load_installed(group: str, what: str) -> None:
    """Import every entry point of a group. Raises ConfigurationError, which says `what` cannot be loaded, and from where."""
    for point in entry_points(group=group):
        try:
            point.load()
        except Exception as exc:
            # The code is another package's and may fail in any way: whose it is has to be told.
            raise ConfigurationError(f"the {what} of {point.value} ({point.name}) cannot be loaded: {exc}", param=group) from exc
