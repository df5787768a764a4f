"""Policy: a base model plus a versioned adapter. Every generated token names the policy that sampled it.

An alias such as `memory` is what agents are configured with; a policy is what it stood for when a request began.
Names are immutable: `memory@v7` is one set of weights for ever, `memory@run<id>.<k>` a candidate inside a training run.
"""

from __future__ import annotations

import re

from recollect.errors import InvalidRequest
from recollect.model import Frozen

ALIAS = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSIONED = re.compile(rf"({ALIAS.pattern})@v([0-9]+)")
_CANDIDATE = re.compile(rf"({ALIAS.pattern})@run([0-9a-z]+)\.([0-9]+)")


class Policy(Frozen):
    """What samples: `base` is the engine's name of the base model; without an adapter it is the base alone."""

    base: str
    adapter: str | None = None
    version: int | None = None
    candidate: str | None = None
    """`<run id>.<k>` of a candidate that a training run loaded."""

    @property
    def name(self) -> str:
        """The model name that the engine knows this policy by."""
        if self.adapter is None:
            return self.base
        return f"{self.adapter}@run{self.candidate}" if self.candidate else f"{self.adapter}@v{self.version}"

    @classmethod
    def parse(cls, name: str, *, base: str) -> Policy:
        """The policy called `name` over `base`. Raises InvalidRequest for a name that is none of the three forms."""
        if name == base:
            return cls(base=base)
        if match := _VERSIONED.fullmatch(name):
            return cls(base=base, adapter=match[1], version=int(match[2]))
        if match := _CANDIDATE.fullmatch(name):
            return cls(base=base, adapter=match[1], candidate=f"{match[2]}.{match[3]}")
        raise InvalidRequest(f"{name!r} names no policy; write alias@v<number> or the base model {base!r}", param="policy")
