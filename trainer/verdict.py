"""What is decided of a run's last candidate."""

from __future__ import annotations

from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """`reasons` say why a candidate is not published; none: it is. `keep`: it is put into quarantine then. `gate` has the figures."""

    reasons: tuple[str, ...] = ()
    keep: bool = False
    gate: dict[str, Any] | None = None

    @property
    def refusal(self) -> str | None:
        """The reasons in one text; None without any."""
        return "; ".join(self.reasons) or None
