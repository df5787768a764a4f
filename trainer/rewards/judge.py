"""A language model as judge of answers, over any OpenAI-compatible endpoint: 1.0, 0.0, or not scored; never 0 because something failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
from pydantic import Field, model_validator

from recollect.messages import Message
from recollect.model import Frozen
from trainer.rewards.judge_prompt import PROMPT, Label, asked, read
from trainer.rewards.reaction_prompt import REACTION, reacted
from trainer.rewards.verdicts import Verdicts, key_of

SCORES: dict[Label, float | None] = {"CORRECT": 1.0, "WRONG": 0.0, "UNKNOWN": None}
_PASSING = frozenset({408, 409, 425, 429})
"""Statuses that a later attempt may not meet, beside those from 500 on."""
LONGEST_WAIT_S = 60.0


class JudgeSettings(Frozen):
    """Where the judge is. Without a `url` there is none."""

    url: str = ""
    """Of an OpenAI-compatible server, with or without /v1."""
    model: str = ""
    api_key: str = ""
    max_tokens: int = Field(default=512, ge=1)
    timeout_s: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=4, ge=1)
    retry_after_s: float = Field(default=0.5, ge=0)
    """The wait before the second attempt; it doubles with each."""
    concurrency: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}; write http:// or https:// and the host")
        if self.url and not self.model:
            raise ValueError("model is empty; name the model that judges at url")
        return self


class Verdict(NamedTuple):
    """`score` None: the answer was not scored, and `reason` says why: unknown, unreadable or failed."""

    score: float | None
    reason: str | None = None


class Judge:
    """Asks once about each question, gold and answer; verdicts are kept in `folder`.

    `counts` has how many were asked of the endpoint, read from the folder (cached), and not scored, by reason.
    """

    def __init__(self, settings: JudgeSettings, folder: Path, http: httpx.AsyncClient) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._verdicts = Verdicts(folder)
        self._http = http
        self._free = asyncio.Semaphore(settings.concurrency)
        self._asking: dict[str, asyncio.Task[Verdict]] = {}

    async def verdict(self, question: str, gold: Sequence[str], answer: str) -> Verdict:
        """Whether the answer is right. Siblings that say the same share one call."""
        return await self._settled(key_of(self._settings.model, PROMPT, [question, *gold, answer]), asked(question, gold, answer))

    async def reaction(self, question: str, answer: str, said: str) -> Verdict:
        """Whether what the user said next takes the answer for right."""
        return await self._settled(key_of(self._settings.model, REACTION, [question, answer, said]), reacted(question, answer, said))

    async def _settled(self, key: str, messages: Sequence[Message]) -> Verdict:
        """The verdict that is kept under `key`, else the endpoint's on these messages."""
        if (kept := self._verdicts.get(key)) is not None:
            self.counts["cached"] += 1
            found = _of(kept)
        else:
            if (task := self._asking.get(key)) is None:
                task = self._asking[key] = asyncio.create_task(self._ask(key, messages))
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            found = await asyncio.shield(task)
        if found.reason:
            self.counts[found.reason] += 1
        return found

    async def close(self) -> None:
        """Give up what nobody waits for any more."""
        left = list(self._asking.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _ask(self, key: str, messages: Sequence[Message]) -> Verdict:
        sent = [{"role": m.role, "content": m.content} for m in messages]
        body = {"model": self._settings.model, "messages": sent, "temperature": 0.0, "max_tokens": self._settings.max_tokens}
        async with self._free:
            self.counts["asked"] += 1
            response = await self._sent(body)
        if response is None:
            return Verdict(None, "failed")
        reply = _reply(response)
        label = None if reply is None else read(reply)
        if label is None:
            return Verdict(None, "unreadable")
        self._verdicts.put(key, label)
        return _of(label)

    async def _sent(self, body: dict[str, Any]) -> httpx.Response | None:
        """The answer of the first attempt that succeeds; None if none does, or the endpoint refuses."""
        wait = self._settings.retry_after_s
        for attempt in range(1, self._settings.attempts + 1):
            try:
                response = await self._http.post("chat/completions", json=body)
            except httpx.HTTPError:
                response = None
            if response is not None and response.is_success:
                return response
            if response is not None and response.status_code < 500 and response.status_code not in _PASSING:
                return None
            if attempt < self._settings.attempts:
                await asyncio.sleep(max(wait, _wished(response)))
                wait = min(2 * wait, LONGEST_WAIT_S)
        return None


@asynccontextmanager
async def opened_judge(settings: JudgeSettings, folder: Path) -> AsyncGenerator[Judge | None]:
    """The judge that the settings name, its connections closed at the end; None if they name none."""
    if not settings.url:
        yield None
        return
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    root = settings.url.rstrip("/").removesuffix("/v1") + "/v1/"
    async with httpx.AsyncClient(base_url=root, headers=headers, timeout=settings.timeout_s, trust_env=False) as http:
        judge = Judge(settings, folder, http)
        try:
            yield judge
        finally:
            await judge.close()


def _of(label: Label) -> Verdict:
    score = SCORES[label]
    return Verdict(score, "unknown" if score is None else None)


def _reply(response: httpx.Response) -> str | None:
    """The text of a completion; None if the answer has none."""
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _wished(response: httpx.Response | None) -> float:
    """The seconds that the endpoint asks to wait, at most a minute; 0 if it does not say, or says a date."""
    text = response.headers.get("retry-after", "") if response is not None else ""
    return min(float(text), LONGEST_WAIT_S) if text.isdigit() else 0.0
