"""Relative dates are resolved against the day on which they were said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cases import HOME, agent, context, engine, request

from recollect.stores import MemoryStore
from server.agents.dates import dated

SAID = datetime(2026, 11, 22, 15, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "resolved", "day"),
    [
        ("User went hiking yesterday.", "User went hiking yesterday (21 November 2026).", datetime(2026, 11, 21, tzinfo=UTC)),
        ("Last Friday Ida moved.", "Last Friday (20 November 2026) Ida moved.", datetime(2026, 11, 20, tzinfo=UTC)),
        ("User ran the day before yesterday", "User ran the day before yesterday (20 November 2026)", datetime(2026, 11, 20, tzinfo=UTC)),
        ("User flies in 3 days.", "User flies in 3 days (25 November 2026).", datetime(2026, 11, 25, tzinfo=UTC)),
        ("User bought a boat two years ago.", "User bought a boat two years ago (2024).", None),
        ("User was ill last month.", "User was ill last month (October 2026).", None),
        ("User was in Oslo last week.", "User was in Oslo last week (week of 15 November 2026).", None),
        (
            "Today Ida left, tomorrow she returns.",
            "Today (22 November 2026) Ida left, tomorrow (23 November 2026) she returns.",
            None,
        ),
        ("User likes tea.", "User likes tea.", None),
        ("User left yesterday (21 November 2026).", "User left yesterday (21 November 2026).", None),
        ("The band Yesterdays plays in May.", "The band Yesterdays plays in May.", None),
    ],
)
def test_the_date_stands_behind_the_words(text: str, resolved: str, day: datetime | None) -> None:
    assert dated(text, SAID) == (resolved, day)
    assert dated(resolved, SAID)[0] == resolved


def test_without_a_day_nothing_is_resolved() -> None:
    assert dated("User left yesterday.", None) == ("User left yesterday.", None)


async def test_a_fact_that_the_policy_writes_names_its_day(store: MemoryStore) -> None:
    ctx = replace(context(engine(lambda prompt: "ADD User went hiking yesterday."), store), at=SAID)
    await agent("memory", writing="operations").remember(request("I went hiking yesterday."), "an answer", ctx)
    (record,) = await store.list(HOME)
    assert (record.text, record.valid_at) == ("User went hiking yesterday (21 November 2026).", datetime(2026, 11, 21, tzinfo=UTC))
    assert [op.text for op in ctx.recorder.steps[0].memory_ops] == [record.text]


async def test_a_turn_is_kept_with_the_time_at_which_it_was_said_and_found_by_its_day(store: MemoryStore) -> None:
    ctx = replace(context(engine(lambda prompt: "Noted."), store), at=SAID)
    await agent("memory").acknowledge(request("I planted tulips."), ctx)
    (hit,) = await store.search(HOME, "22 November", mode="text")
    assert (hit.record.text, hit.record.valid_at) == ("I planted tulips.", SAID)
