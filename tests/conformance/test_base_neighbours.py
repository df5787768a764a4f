"""Base level: the memories around one in its session."""

from __future__ import annotations

from recollect.memory import Provenance
from recollect.stores import BaseStore
from tests.conformance.writes import NS, add, delete, turn, update


async def ids(store: BaseStore, memory_id: str, reach: int = 2, as_of: int | None = None) -> list[str]:
    return [record.id for record in await store.neighbours(NS, memory_id, reach=reach, as_of=as_of)]


async def test_two_interleaved_sessions_are_kept_apart_and_in_order(store: BaseStore) -> None:
    for i in range(6):
        await store.apply(NS, [turn(f"a{i}", "a")])
        await store.apply(NS, [turn(f"b{i}", "b"), add(f"fact{i}", "a fact of no session")])
    assert await ids(store, "a3") == ["a1", "a2", "a3", "a4", "a5"]
    assert await ids(store, "b0") == ["b0", "b1", "b2"]
    assert await ids(store, "b5", 1) == ["b4", "b5"]
    assert await ids(store, "a2", 0) == ["a2"]
    assert await ids(store, "a2", 20) == [f"a{i}" for i in range(6)]


async def test_turns_of_one_batch_are_in_its_order(store: BaseStore) -> None:
    await store.apply(NS, [turn("z", "a"), turn("m", "a"), turn("other", "b"), turn("a", "a")])
    assert await ids(store, "m") == ["z", "m", "a"]


async def test_neighbours_are_whole_records(store: BaseStore) -> None:
    await store.apply(NS, [turn("a", "s", tags=["x"], importance=0.5), turn("b", "s")])
    assert await store.neighbours(NS, "b") == [await store.get(NS, "a"), await store.get(NS, "b")]


async def test_only_episodic_memories_of_a_session_have_neighbours(store: BaseStore) -> None:
    session = Provenance(session="s")
    await store.apply(NS, [turn("a", "s"), add("fact", "x", provenance=session), add("alone", "x", kind="episodic"), turn("b", "s")])
    assert await ids(store, "a") == ["a", "b"]
    assert await ids(store, "fact") == ["fact"]
    assert await ids(store, "alone") == ["alone"]
    assert await ids(store, "unknown") == []


async def test_sessions_are_told_apart_by_every_letter(store: BaseStore) -> None:
    await store.apply(
        NS, [turn("a", "s"), turn("b", "S"), turn("c", "s "), turn("d", "日記 'x'; --"), turn("e", "日記 'x'; --"), turn("f", "")]
    )
    for memory_id, found in (("a", ["a"]), ("b", ["b"]), ("c", ["c"]), ("d", ["d", "e"]), ("f", ["f"])):
        assert await ids(store, memory_id) == found


async def test_an_updated_turn_keeps_its_place(store: BaseStore) -> None:
    for name in "abcd":
        await store.apply(NS, [turn(name, "s")])
    for text in ("once more", "and again"):
        await store.apply(NS, [update("b", text, kind="episodic", provenance=Provenance(session="s"))])
    assert await ids(store, "c", 1) == ["b", "c", "d"]
    assert [record.text for record in await store.neighbours(NS, "b", reach=1)] == ["turn a", "and again", "turn c"]
    await store.apply(NS, [turn("e", "s"), update("a", "changed", kind="episodic", provenance=Provenance(session="s"))])
    assert await ids(store, "a", 20) == ["a", "b", "c", "d", "e"]


async def test_a_turn_that_moves_or_is_no_turn_any_more_leaves_its_session(store: BaseStore) -> None:
    await store.apply(NS, [turn("a", "s"), turn("b", "s"), turn("c", "s"), turn("z", "t")])
    await store.apply(NS, [update("b", "elsewhere", kind="episodic", provenance=Provenance(session="t"))])
    assert await ids(store, "a") == ["a", "c"]
    assert await ids(store, "z") == ["b", "z"]
    await store.apply(NS, [update("b", "a fact now", provenance=Provenance(session="t"))])
    assert await ids(store, "z") == ["z"]
    assert await ids(store, "b") == ["b"]


async def test_deleted_neighbours_are_left_out(store: BaseStore) -> None:
    await store.apply(NS, [turn(name, "s") for name in "abcde"])
    await store.apply(NS, [delete("b"), delete("d")])
    assert await ids(store, "c", 1) == ["a", "c", "e"]
    assert await ids(store, "b") == []


async def test_a_state_of_the_past_has_its_own_neighbours(store: BaseStore) -> None:
    await store.apply(NS, [turn("a", "s"), turn("b", "s")])
    await store.apply(NS, [turn("c", "s"), update("a", "changed", kind="episodic", provenance=Provenance(session="s"))])
    await store.apply(NS, [delete("b")])
    assert await ids(store, "a", as_of=0) == []
    assert await ids(store, "c", as_of=1) == []
    assert [record.text for record in await store.neighbours(NS, "b", as_of=1)] == ["turn a", "turn b"]
    assert [record.text for record in await store.neighbours(NS, "b", as_of=2)] == ["changed", "turn b", "turn c"]
    assert await ids(store, "c") == await ids(store, "c", as_of=3) == await ids(store, "c", as_of=99) == ["a", "c"]
