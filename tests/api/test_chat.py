"""Chat completions with the real `openai` client: plain, streaming, and what is remembered and logged."""

from __future__ import annotations

from server.engines.scripted import ScriptedEngine
from tests.api.conftest import Served, serving


async def test_a_plain_answer_has_the_shape_that_the_openai_client_reads(served: Served) -> None:
    answer = await served.openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": "I live in Lisbon."}])
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "I live in Lisbon."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    extension = (answer.model_extra or {})["recollect"]
    assert answer.id == f"chatcmpl-{extension['trajectory_id']}"
    assert extension["policies"] == {"memory": "scripted"}
    [logged] = await served.logged()
    assert logged.trajectory.id == extension["trajectory_id"]
    assert logged.trajectory.answer == "I live in Lisbon."
    assert logged.trajectory.memory_seq_before == {"user/default": 0}
    assert logged.trajectory.memory_seq_after == {"user/default": 1}
    assert logged.trajectory.steps[0].trainable
