"""The reranker of one tenant that learns while it serves: it draws a choice, and learns from it what was cited.

Learning is exact through restarts: the weights, the samples that wait for the next update, and the count that the noise is drawn
from are on the disk before a sample counts. The process that holds the lease learns; others serve by the weights it saved last.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recollect.settings import RmmSettings
from server.agents.rmm.lease import Lease
from server.agents.rmm.scoring import Doubles, Floats, Places, Sample, best, noise, scores, updated
from server.agents.rmm.states import State, StateFiles

IN_FLIGHT = 1024
"""Draws whose answers are not known yet; of more, the oldest are not learned from."""
FROZEN = "frozen"
"""A file beside the tenant's folders of weights: while it is there, nothing is learned."""


class Choice(NamedTuple):
    """Places among the candidates, best first, and the score of every candidate, without noise."""

    chosen: Places
    scores: Doubles


@dataclass(frozen=True, slots=True)
class _Draw:
    query: Floats
    memories: Floats
    noise: Doubles
    chosen: Places


class OnlineReranker:
    """Of one tenant and one space of vectors. Its methods block, and may be called from several threads."""

    def __init__(self, folder: Path, dimension: int, settings: RmmSettings) -> None:
        self._files = StateFiles(folder)
        self._frozen = folder.parent / FROZEN
        self._dimension = dimension
        self._settings = settings
        self._lease = Lease(folder)
        self._lock = threading.Lock()
        self._draws: OrderedDict[str, _Draw] = OrderedDict()
        self._state = self._files.read(dimension)
        self._stamp = self._files.stamp()

    @property
    def state(self) -> State:
        """What it chooses by."""
        return self._state

    @property
    def learns(self) -> bool:
        """Whether this process learns: not frozen, and the lease is its own."""
        return self._settings.learn and not self._frozen.exists() and self._lease.valid

    def draw(self, key: str, query: Floats, memories: Floats, limit: int) -> Choice:
        """Choose `limit` of the memories (K, d) for a query (d,); with noise while it learns, and then `learn(key, ...)` may follow.

        Frozen, or without the lease, the choice is the best by score. Raises ConfigurationError for a damaged file.
        """
        with self._lock:
            self._refresh()
            plain = scores(self._state.weights, query, memories)
            if not self.learns:
                return Choice(best(plain, limit), plain)
            gumbel = noise(self._settings.seed, self._state.learned, query, len(memories))
            chosen = best(plain + gumbel, limit)
            self._draws[key] = _Draw(query, memories, gumbel, chosen)
            while len(self._draws) > IN_FLIGHT:
                self._draws.popitem(last=False)
            return Choice(chosen, plain)

    def learn(self, key: str, rewards: Mapping[int, float]) -> None:
        """Learn from what came of a draw: the rewards of chosen places; one that was not shown after all has none.

        No-op for a draw that is not known, or if this process does not learn now. Raises OSError if nothing could be saved.
        """
        with self._lock:
            draw = self._draws.pop(key, None)
            if draw is None or not rewards or not self.learns:
                return
            chosen = np.array([place for place in draw.chosen if int(place) in rewards], np.int64)
            advantages = np.array([rewards[int(place)] - self._settings.baseline for place in chosen])
            self._add(Sample(draw.query, draw.memories, draw.noise, chosen, advantages))

    def roll_back(self, step: int) -> None:
        """Go back to a kept state. Raises NotFound."""
        with self._lock:
            self._state = self._files.roll_back(step)
            self._stamp = self._files.stamp()
            self._draws.clear()

    def drop_pending(self) -> None:
        """Forget the samples and draws that wait: they hold vectors of what users said."""
        with self._lock:
            self._files.drop_pending()
            self._draws.clear()
            self._state = replace(self._state, pending=())

    def close(self) -> None:
        """Let another process learn."""
        self._lease.release()

    def _add(self, sample: Sample) -> None:
        state = replace(self._state, pending=(*self._state.pending, sample), learned=self._state.learned + 1)
        if len(state.pending) < self._settings.batch:
            self._files.write_pending(state)
        else:
            weights = updated(
                state.weights, state.pending, temperature=self._settings.temperature, learning_rate=self._settings.learning_rate
            )
            state = State(weights, state.step + 1, state.learned)
            self._files.write_weights(state)
            if state.step % self._settings.keep_every == 0:
                self._files.keep(state, self._settings.keep)
        self._state = state

    def _refresh(self) -> None:
        """Take the lease if it is free; where another process learned meanwhile, take over what it saved."""
        if self._lease.valid:
            return
        taken = self._settings.learn and self._lease.take()
        if taken or self._files.stamp() != self._stamp:
            self._draws.clear()
            self._state = self._files.read(self._dimension)
            self._stamp = self._files.stamp()
