"""`POST /v1/feedback`: durable before it is answered, on trajectories that exist, also after a restart."""

from __future__ import annotations

from pathlib import Path

from recollect.log import read_log
from tests.api.conftest import Served, serving
from trainer.environments.from_log.tasks import tasks_from_log


async def test_feedback_is_logged_with_the_trajectory_it_belongs_to(served: Served) -> None:
    answer = await served.ask("What is 2 + 2?")
    trajectory_id = answer["recollect"]["trajectory_id"]
    given = await served.http.post("/v1/feedback", json={"id": answer["id"], "label": "down", "correction": "4"})
    assert given.json() == {"object": "feedback", "id": answer["id"], "trajectory_id": trajectory_id}
    also = await served.http.post("/v1/feedback", json={"id": trajectory_id, "score": 0.5, "citations": ["m1"], "comment": "meh"})
    assert also.status_code == 200
    [logged] = read_log(served.home / "trajectories", strict=True).trajectories
    assert [feedback.correction for feedback in logged.feedback] == ["4", None]
    assert [feedback.id for feedback in logged.feedback] == [trajectory_id] * 2
    assert (logged.feedback[1].score, logged.feedback[1].citations, logged.feedback[1].comment) == (0.5, ["m1"], "meh")


async def test_a_blank_correction_is_refused_and_not_logged(served: Served) -> None:
    answer = await served.ask("What is 2 + 2?")
    refused = await served.http.post("/v1/feedback", json={"id": answer["id"], "label": "down", "correction": " \n"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "correction")
    [logged] = read_log(served.home / "trajectories", strict=True).trajectories
    assert not logged.feedback


async def test_feedback_is_taken_after_a_restart_and_refused_for_what_was_never_answered(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as served:
        answer = await served.ask("hello")
    async with serving(tmp_path / "home") as served:
        assert (await served.http.post("/v1/feedback", json={"id": answer["id"], "label": "up"})).status_code == 200
        never = answer["id"][:-1] + ("0" if answer["id"][-1] != "0" else "1")
        refused = await served.http.post("/v1/feedback", json={"id": never, "label": "up"})
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "trajectory_not_found"


async def test_without_a_log_feedback_is_refused_and_answers_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", log={"enabled": False}) as served:
        answer = await served.ask("hello")
        refused = await served.http.post("/v1/feedback", json={"id": answer["id"], "label": "up"})
        assert refused.status_code == 409
        assert "log.enabled" in refused.json()["error"]["message"]


async def test_a_marked_citation_becomes_the_evidence_of_a_task_by_the_turn_that_told_it(served: Served) -> None:
    told = await served.ask("My locker code is 4821.")
    asked = await served.ask("What is my locker code?")
    [memory] = [one["id"] for one in asked["recollect"]["memories"]]
    await served.http.post("/v1/feedback", json={"id": asked["id"], "correction": "4821", "citations": [memory]})
    [task] = tasks_from_log(await served.logged(), tenant="local").tasks
    assert [turn.id for turn in task.conversation] == [told["recollect"]["trajectory_id"]]
    assert (task.gold, task.evidence) == (("4821",), (told["recollect"]["trajectory_id"],))
    [answering] = [step for step in (await served.logged())[-1].trajectory.steps if step.retrieved]
    assert [ref.trust for ref in answering.retrieved] == ["user"]
