"""`/metrics`: what Prometheus is told, by agent and role, and of no user."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from recollect.errors import EngineUnavailable
from recollect.keys import KeyRing
from tests.api.conftest import Served, serving


async def _scraped(served: Served, **headers: str) -> dict[str, float]:
    answer = await served.http.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {f"{one.name}{{{','.join(f'{k}={v}' for k, v in sorted(one.labels.items()))}}}": one.value for one in samples}


async def test_answers_tokens_searches_and_failures_are_counted(served: Served) -> None:
    await served.ask("My cat is called Miso.", user="ada")
    await served.ask("What is my cat called?", user="ada")
    served.engine.trouble.fail = EngineUnavailable("the engine is away")
    failed = await served.http.post("/v1/chat/completions", json={"model": "memory", "messages": [{"role": "user", "content": "x"}]})
    assert failed.status_code == 503
    found = await _scraped(served)
    assert found["gen_ai_server_request_duration_seconds_count{agent=memory,error_type=}"] == 2
    assert found["gen_ai_server_request_duration_seconds_count{agent=memory,error_type=EngineUnavailable}"] == 1
    assert found["gen_ai_server_time_to_first_token_seconds_count{agent=memory}"] == 2
    assert found["recollect_model_calls_total{agent=memory,role=answerer}"] == 3
    assert found["gen_ai_client_token_usage_total{agent=memory,gen_ai_token_type=output,role=answerer}"] > 0
    assert found["recollect_memory_search_seconds_count{}"] >= 2
    assert found["recollect_memories_shown_sum{agent=memory}"] == 1
    assert found["recollect_adapter_info{policy=memory,serving=scripted}"] == 1
    assert (found["recollect_ready{}"], found["recollect_requests_in_flight{}"]) == (1, 0)


async def test_no_user_and_no_word_is_in_it(served: Served) -> None:
    await served.ask("My cat is called Miso.", user="ada")
    text = (await served.http.get("/metrics")).text
    assert not re.search(r"ada\b|Miso|tenant|user/", text)


async def test_where_there_are_keys_it_needs_one_with_admin(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ring = KeyRing(served.home / "keys")
        _, chat = ring.create("phone", scopes=("chat",))
        _, admin = ring.create("scraper", scopes=("admin",))
        assert (await served.http.get("/metrics")).status_code == 401
        assert (await served.http.get("/metrics", headers={"authorization": f"Bearer {chat}"})).status_code == 403
        assert await _scraped(served, authorization=f"Bearer {admin}")
