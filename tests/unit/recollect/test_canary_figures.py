"""The comparison: what is taken back, what is promoted, how often by mistake, and that no namespace decides by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from recollect.canary_figures import Comparison, SideName


def compared(
    seed: int,
    rates: dict[SideName, float],
    *,
    users: int = 40,
    sessions: int = 4000,
    flood: Callable[[SideName], float] | None = None,
    min_rewards: int = 50,
) -> Comparison:
    """Sessions of some users, half of them the canary's, each right with its side's rate. `flood`: what another user says of a side,
    three times as often as all others together."""
    drawn = random.Random(seed)
    comparison = Comparison(min_rewards=min_rewards, margin=0.05)
    for number in range(sessions):
        side: SideName = drawn.choice(("canary", "in_force"))
        comparison.put(side, number, f"u{drawn.randrange(users)}", float(drawn.random() < rates[side]))
        for again in range(3 if flood else 0):
            side = drawn.choice(("canary", "in_force"))
            comparison.put(side, (number, again), "flood", flood(side) if flood else None)
        if comparison.decided is not None:
            break
    return comparison


def verdicts(number: int, rates: dict[SideName, float], **how: object) -> dict[str, int]:
    found = [compared(seed, rates, **how).decided for seed in range(number)]  # pyright: ignore[reportArgumentType]
    said = [ended.verdict if ended else "undecided" for ended in found]
    return {one: said.count(one) for one in ("promoted", "rolled_back", "undecided")}


def test_a_much_worse_one_is_taken_back_by_the_first_looks() -> None:
    comparison = compared(0, {"canary": 0.1, "in_force": 0.9})
    assert comparison.decided is not None
    assert comparison.decided.verdict == "rolled_back"
    figures = comparison.figures()
    assert figures.canary.sessions + figures.in_force.sessions < 60
    assert figures.high is not None
    assert figures.high < 0
    assert "worse for certain: -" in comparison.decided.reason


@pytest.mark.parametrize("users", [1, 2, 40])
def test_an_equal_one_is_promoted_when_enough_sessions_say_so(users: int) -> None:
    found = verdicts(100, {"canary": 0.8, "in_force": 0.8}, users=users)
    assert found["promoted"] >= 75
    decided = [compared(seed, {"canary": 0.8, "in_force": 0.8}, users=users) for seed in range(5)]
    assert all(min(one.figures().canary.sessions, one.figures().in_force.sessions) >= 50 for one in decided if _promoted(one))


def _promoted(comparison: Comparison) -> bool:
    return comparison.decided is not None and comparison.decided.verdict == "promoted"


def test_one_that_is_worse_by_ten_points_is_hardly_ever_promoted() -> None:
    found = verdicts(40, {"canary": 0.7, "in_force": 0.8})
    assert found["promoted"] <= 2
    assert found["rolled_back"] >= 38


def test_a_better_one_is_promoted() -> None:
    assert verdicts(30, {"canary": 0.85, "in_force": 0.7})["promoted"] >= 29


@pytest.mark.parametrize("users", [4, 20])
def test_who_floods_feedback_takes_no_equal_canary_back(users: int) -> None:
    found = verdicts(20, {"canary": 0.8, "in_force": 0.8}, users=users, sessions=1500, flood=lambda side: float(side == "in_force"))
    assert found["rolled_back"] <= 2


@pytest.mark.parametrize("rate", [0.6, 0.75])
def test_who_floods_feedback_promotes_no_worse_canary(rate: float) -> None:
    found = verdicts(20, {"canary": rate, "in_force": 0.8}, users=20, sessions=1500, flood=lambda side: float(side == "canary"))
    assert found["promoted"] <= 2


def test_nobody_hastens_a_look_and_few_sessions_decide_nothing() -> None:
    comparison = Comparison(min_rewards=50, margin=0.05)
    for number in range(1000):
        comparison.put("canary", number, "flood", 0.0)
        comparison.put("in_force", -1 - number, "flood", 1.0)
        if number < 7:
            for user in range(4):
                comparison.put("canary", ("u", user), f"u{user}", 0.5)
                comparison.put("in_force", ("v", user), f"u{user}", 0.5)
        if number >= 7:
            assert comparison.figures().canary.counted < 8
    assert comparison.decided is None


def test_later_feedback_changes_a_session_and_taking_it_away_removes_it() -> None:
    comparison = Comparison(min_rewards=8, margin=0.05)
    comparison.put("canary", "a", "u", 1.0)
    comparison.put("canary", "a", "u", 0.0)
    comparison.put("in_force", "b", "u", 1.0)
    assert comparison.figures().difference == -1.0
    comparison.put("canary", "a", "u", None)
    found = comparison.figures()
    assert (found.canary.sessions, found.canary.mean, found.difference) == (0, None, None)


def test_the_same_rewards_in_the_same_order_decide_the_same() -> None:
    one, other = (compared(3, {"canary": 0.6, "in_force": 0.8}) for _ in range(2))
    assert one.decided is not None
    assert other.decided is not None
    assert one.decided.figures == other.decided.figures


def test_the_interval_is_that_of_agresti_and_caffo_where_each_session_is_a_namespace() -> None:
    comparison = Comparison(min_rewards=50, margin=0.05)
    for number in range(20):
        comparison.put("canary", number, f"u{number}", float(number < 10))
        comparison.put("in_force", 100 + number, f"v{number}", float(number < 16))
    found = comparison.figures()
    p, q = 11 / 22, 17 / 22
    half = 1.959964 * (p * (1 - p) / 22 + q * (1 - q) / 22) ** 0.5
    assert found.difference == pytest.approx(-0.3)
    # Leaving a session out changes a mean by a little more than it says: the interval between namespaces is a little wider.
    assert found.low == pytest.approx(p - q - half, abs=0.02)
    assert found.high == pytest.approx(p - q + half, abs=0.02)
