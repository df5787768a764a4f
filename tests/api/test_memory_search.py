"""What a search may be asked for besides a query: filters, ranking, neighbours, a budget, and a state of the past."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Served

TALK = ("Shall we meet in Kelbo?", "Yes, at the harbour.", "Bring the cello.", "It is broken.", "Then the viola.")


async def post(served: Served, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await served.http.post(f"/v1/memories{path}", json=body)
    return answer.status_code, answer.json()


async def search(served: Served, query: str, **more: Any) -> list[dict[str, Any]]:
    status, body = await post(served, "/search", query=query, **more)
    assert status == 200, body
    return body["data"]


async def talk(served: Served) -> None:
    turns = [{"id": f"t{i}", "text": text, "kind": "episodic", "session": "monday"} for i, text in enumerate(TALK)]
    assert (await post(served, "/batch", memories=turns))[0] == 201


async def test_filters_leave_out_what_does_not_pass(served: Served) -> None:
    for name, more in {
        "a": {"tags": ["work", "music"], "trust": "tool", "valid_at": "2026-01-01T00:00:00+02:00"},
        "b": {"tags": ["work"], "valid_at": "2026-02-01T00:00:00Z", "invalid_at": "2026-03-01T00:00:00Z"},
        "c": {"kind": "procedural", "valid_at": "2026-03-01T00:00:00Z"},
    }.items():
        assert (await post(served, "", text=f"the cello {name}", id=name, **more))[0] == 201
    for filters, ids in (
        ({"tags": ["work"]}, {"a", "b"}),
        ({"tags": ["work", "music"]}, {"a"}),
        ({"trust": ["tool", "document"]}, {"a"}),
        ({"kind": "procedural"}, {"c"}),
        ({"since": "2026-01-31T23:00:00-01:00"}, {"b", "c"}),
        ({"until": "2026-02-01T00:00:00Z"}, {"a"}),
        ({"valid_at": "2026-03-01T00:00:00Z"}, {"a", "c"}),
        ({"tags": ["work"], "since": "2026-01-15T00:00:00Z", "trust": ["user"]}, {"b"}),
    ):
        assert {hit["id"] for hit in await search(served, "cello", filters=filters)} == ids, filters
    assert {hit["id"] for hit in await search(served, "cello", kind="procedural", filters={"kind": "procedural"})} == {"c"}


async def test_ranking_is_explained_in_the_parts(served: Served) -> None:
    for name, importance in (("a", 1.0), ("b", None), ("c", 0.2)):
        await post(served, "", text="the cello", id=name, importance=importance)
    assert [hit["id"] for hit in await search(served, "cello")] == ["c", "b", "a"]
    hits = await search(served, "cello", ranking={"importance": 0.5})
    assert [(hit["id"], hit["parts"]["importance"]) for hit in hits] == [("a", 1.0), ("c", pytest.approx(0.2)), ("b", 0.0)]


async def test_a_hit_comes_with_what_stands_around_it_in_its_session(served: Served) -> None:
    await talk(served)
    await post(served, "", text="The cello is in Kelbo.", id="fact")
    hits = {hit["id"]: hit for hit in await search(served, "cello broken", neighbours=2)}
    around = hits["t3"]["context"]
    assert [memory["id"] for memory in around["before"]] == ["t1", "t2"]
    assert [memory["text"] for memory in around["after"]] == ["Then the viola."]
    assert hits["fact"]["context"] == {"before": [], "after": []}
    assert "context" not in (await search(served, "cello"))[0]


async def test_the_neighbours_of_a_memory_are_its_session_in_order(served: Served) -> None:
    await talk(served)
    await post(served, "", text="The cello is in Kelbo.", id="fact")

    async def ids(memory_id: str, **query: int) -> list[str]:
        answer = await served.http.get(f"/v1/memories/{memory_id}/neighbours", params=query)
        assert answer.status_code == 200, answer.text
        return [memory["id"] for memory in answer.json()["data"]]

    assert await ids("t2") == ["t0", "t1", "t2", "t3", "t4"]
    assert await ids("t0", reach=1) == ["t0", "t1"]
    assert await ids("fact", reach=20) == ["fact"]
    await served.http.delete("/v1/memories/t3")
    assert await ids("t2", reach=1) == ["t1", "t2", "t4"]
    assert await ids("t2", reach=1, as_of=1) == ["t1", "t2", "t3"]
    unknown = await served.http.get("/v1/memories/t9/neighbours")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "memory_not_found")
    far = await served.http.get("/v1/memories/t2/neighbours", params={"reach": 21})
    assert (far.status_code, far.json()["error"]["param"]) == (400, "reach")


async def test_a_budget_gives_the_best_hits_that_fit_and_always_the_first(served: Served) -> None:
    for name in "abc":
        await post(served, "", text=f"cello {name}".ljust(40, "."), id=name)
    for max_tokens, count in ((1, 1), (19, 1), (20, 2), (29, 2), (30, 3)):
        assert len(await search(served, "cello", max_tokens=max_tokens)) == count, max_tokens
    assert len(await search(served, "cello", max_tokens=30, limit=2)) == 2


async def test_neighbours_count_in_the_budget(served: Served) -> None:
    await talk(served)
    all_hits = await search(served, "cello harbour viola", neighbours=1)
    assert len(all_hits) > 1
    assert len(await search(served, "cello harbour viola", neighbours=1, max_tokens=15)) == 1
    assert len(await search(served, "cello harbour viola", max_tokens=15)) == 3


async def test_a_state_of_the_past_is_listed_read_and_searched(served: Served) -> None:
    await post(served, "", text="Ada lives in Lisbon", id="home")
    await served.http.patch("/v1/memories/home", json={"text": "Ada lives in Oslo"})
    await served.http.delete("/v1/memories/home")
    for as_of, texts in ((0, []), (1, ["Ada lives in Lisbon"]), (2, ["Ada lives in Oslo"]), (3, []), (99, [])):
        listed = (await served.http.get("/v1/memories", params={"as_of": as_of})).json()
        assert ([memory["text"] for memory in listed["data"]], listed["seq"]) == (texts, min(as_of, 3))
        assert [hit["text"] for hit in await search(served, "Ada lives", as_of=as_of)] == texts
        one = await served.http.get("/v1/memories/home", params={"as_of": as_of})
        assert (one.json()["text"] if one.status_code == 200 else one.status_code) == (texts[0] if texts else 404)


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"filters": {"colour": "red"}}, "filters.colour", "unknown field 'filters.colour'"),
        ({"filters": {"kind": "magic"}}, "filters.kind", "'semantic'"),
        ({"filters": {"tags": "work"}}, "filters.tags", "valid list"),
        ({"filters": {"trust": ["friend"]}}, "filters.trust[0]", "'operator'"),
        ({"filters": {"since": "yesterday"}}, "filters.since", "datetime"),
        ({"filters": {"since": "2026-01-01T00:00:00"}}, "filters.since", "no time zone; write 2026-01-31T12:00:00Z"),
        ({"filters": {"kind": "episodic"}, "kind": "semantic"}, "filters.kind", "give one of them"),
        ({"ranking": {"recency": 11}}, "ranking.recency", "from 0 to 10"),
        ({"ranking": {"half_life_days": 0}}, "ranking.half_life_days", "above 0"),
        ({"ranking": {"recent": 1}}, "ranking.recent", "unknown field"),
        ({"neighbours": 21}, "neighbours", "less than or equal to 20"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"as_of": -1}, "as_of", "greater than or equal to 0"),
        ({"as_of": "3"}, "as_of", "integer"),
        ({"query": "\ud800"}, "query", "half of a surrogate pair"),
    ],
)
async def test_a_bad_search_names_its_field(served: Served, body: dict[str, Any], param: str, says: str) -> None:
    content = json.dumps({"query": "x", **body})
    answer = await served.http.post("/v1/memories/search", content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert says in error["message"]
