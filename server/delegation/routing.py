"""Where a task goes: by its asker's word, else by the rules, to targets that can do it and are well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from recollect.errors import EngineUnavailable, InvalidRequest, RecollectError
from server.delegation.plan import Call, CodexProvider, Effort, ModelConfig, OwnProvider, Plan, Rule

REST_S = 30.0
"""How long a target that failed is passed over."""


class Target(NamedTuple):
    """A model of a provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Wish(NamedTuple):
    """What is to be done. `use`: whom the asker named, `provider` or `provider/model`; empty: by the rules."""

    call: Call
    chars: int
    task: str = ""
    effort: Effort | None = None
    use: str = ""


@dataclass(slots=True)
class Router:
    """Chooses, and remembers who failed."""

    plan: Plan
    _down: dict[Target, float] = field(default_factory=dict[Target, float])
    now: Callable[[], float] = time.monotonic

    def choose(self, wish: Wish) -> list[Target]:
        """Whom to ask, one after the other. Raises InvalidRequest that names why there is none, EngineUnavailable if all are down."""
        if wish.use:
            return [self._named(wish)]
        rule = next((rule for rule in self.plan.routing if _fits(rule, wish)), None)
        names = rule.use if rule else tuple(self.plan.providers)
        able = [target for name in names if (target := self._target(name)) and self._unable(target, wish) is None]
        if rule and rule.max_cost is not None:
            able = [target for target in able if self._config(target).cost <= rule.max_cost]
        if not able:
            where = "the rule that fits" if rule else "the file"
            raise InvalidRequest(
                f"{where} names no model that can do this ({wish.call}, {wish.chars} characters); see providers", param="use"
            )
        if rule and rule.prefer == "cheapest":
            able.sort(key=lambda target: self._config(target).cost)
        well = [target for target in able if self._down.get(target, 0.0) <= self.now()]
        if not well:
            seconds = min(self._down[target] for target in able) - self.now()
            raise EngineUnavailable("every model that could do this failed just now; see providers", retry_after_s=max(1, round(seconds)))
        return well

    def failed(self, target: Target) -> None:
        """It could not answer: pass it over for a while."""
        self._down[target] = self.now() + REST_S

    def gave_up(self, target: Target, exc: RecollectError) -> None:
        """It gave no answer. A wrong request is of this task alone, such as one that is too long for it."""
        if not isinstance(exc, InvalidRequest):
            self.failed(target)

    def answered(self, target: Target) -> None:
        """It is well."""
        self._down.pop(target, None)

    def rests(self, target: Target) -> bool:
        """Whether it is passed over now."""
        return self._down.get(target, 0.0) > self.now()

    def _named(self, wish: Wish) -> Target:
        target = self._target(wish.use)
        if target is None:
            known: Sequence[str] = self.plan.targets
            raise InvalidRequest(f"no model {wish.use[:80]!r}; there are {', '.join(known)}", param="use")
        if why := self._unable(target, wish):
            raise InvalidRequest(f"{target} {why}", param="use")
        return target

    def _target(self, name: str) -> Target | None:
        provider, _, model = name.partition("/")
        known = self.plan.providers.get(provider)
        if known is None:
            return None
        chosen = model or next(iter(known.models))
        return Target(provider, chosen) if chosen in known.models else None

    def _config(self, target: Target) -> ModelConfig:
        return self.plan.providers[target.provider].models[target.model]

    def _unable(self, target: Target, wish: Wish) -> str | None:
        """Why it cannot do it; None if it can."""
        provider, config = self.plan.providers[target.provider], self._config(target)
        if wish.call == "see" and (not config.vision or isinstance(provider, CodexProvider | OwnProvider)):
            return "takes no images; set vision on a model that does"
        if config.max_chars is not None and wish.chars > config.max_chars:
            return f"takes tasks of at most {config.max_chars} characters, this one has {wish.chars}"
        return None


def _fits(rule: Rule, wish: Wish) -> bool:
    return (
        (not rule.task or wish.task in rule.task or (wish.call == "see" and "see" in rule.task))
        and wish.chars >= rule.min_chars
        and (rule.max_chars is None or wish.chars <= rule.max_chars)
        and (not rule.effort or wish.effort in rule.effort)
    )
