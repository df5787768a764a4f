"""Rewards from the log alone: what users said, what their next words say, what the answers are worth; appended once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from recollect.cli_trajectories import app
from recollect.errors import ConfigurationError
from recollect.events import LogEvent, LoggedTrajectory
from recollect.invocation import Invocation
from recollect.log import LogWriter, read_log
from recollect.log_cursor import read_new, take
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import LogSettings, Settings
from recollect.settings_read import load
from recollect.trajectory import Feedback, MemoryOp, Step, Trajectory
from tests.unit.trainer.judge_stub import JudgeStub
from trainer.cli import training_config
from trainer.config import TrainConfig
from trainer.reverify.command import reverify
from trainer.reverify.next_turn import followed, hinted
from trainer.reverify.signals import rewards_of
from trainer.rewards.evidence import citation_f1

WHO = {"pool": "local", "policy": "memory"}


def said(number: int, text: str, answer: str = "Noted.", *feedback: dict[str, Any], **changed: Any) -> LoggedTrajectory:
    values = {"id": f"t{number}", "tenant": "local", "namespace": "user/ada", "session": "s", "agent": "memory", "agent_config_hash": "h"}
    more = {"request": [user(text)], "answer": answer, "memory_seq_before": {"user/ada": number}}
    given = [Feedback.model_validate({"id": f"t{number}", **one}) for one in feedback]
    return LoggedTrajectory(trajectory=Trajectory.model_validate({**values, **more, **changed}), feedback=given)


def home_of(root: Path, *items: LoggedTrajectory) -> Settings:
    writer = LogWriter(root / "trajectories", LogSettings())
    for item in items:
        name, body = item.trajectory.id, item.trajectory.model_dump(mode="json")
        writer.append(LogEvent(event_id=f"e-{name}", trajectory_id=name, kind="trajectory", body=body))
        for number, one in enumerate(item.feedback):
            writer.append(LogEvent(event_id=f"f-{name}-{number}", trajectory_id=name, kind="feedback", body=one.model_dump(mode="json")))
    writer.close()
    return load(None, [f"home={root}"], {})


def rewards(home: Path, name: str) -> dict[str, tuple[float | None, object]]:
    [found] = [one for one in read_log(home / "trajectories").trajectories if one.trajectory.id == name]
    return {reward.name: (reward.score, reward.metadata["source"]) for reward in found.trajectory.rewards}


ANSWERED = [Step(index=0, role="answerer", cited=["m1", "m2"])]


@pytest.mark.parametrize(
    ("feedback", "score"),
    [
        ([{"label": "up"}], 1.0),
        ([{"label": "down"}], 0.0),
        ([{"score": 0.25}], 0.25),
        ([{"correction": "Tarvo"}], 1.0),
        ([{"label": "down", "correction": "Rex"}], 0.0),
        ([{"label": "up"}, {"score": 0.8}], 0.9),
        ([{"label": "up"}, {"correction": "Rex"}], None),
    ],
)
def test_feedback_is_a_score_unless_it_contradicts_itself(feedback: list[dict[str, Any]], score: float | None) -> None:
    [found] = rewards_of(said(1, "My dog?", "tarvo [1]", *feedback), {"feedback"})
    assert found.score == (None if score is None else pytest.approx(score))
    assert found.metadata == {"source": "feedback"} | ({} if score is not None else {"reason": "contradicting feedback"})


@pytest.mark.parametrize(("marks", "score"), [(["m1", "m2"], 1.0), (["m1"], 2 / 3), (["m3"], 0.0), ([], 0.0)])
def test_marked_citations_score_what_the_answer_cites(marks: list[str], score: float) -> None:
    [found] = rewards_of(said(1, "Q", "A", {"citations": marks}, steps=ANSWERED), {"citation_marks", "feedback"})
    assert (found.name, found.score, found.weight) == ("citation_marks", pytest.approx(score), 0.0)


def test_citations_are_compared_by_every_name_of_a_memory() -> None:
    assert citation_f1([], []) == 1.0
    assert citation_f1([{"m1", "t1"}, {"m2"}], ["t1"]) == pytest.approx(2 / 3)


def test_what_nobody_said_anything_of_has_no_signal() -> None:
    assert rewards_of(said(1, "Q", "A", {"comment": "hm"}), {"feedback", "citation_marks", "valid_operation"}) == []


@pytest.mark.parametrize(
    ("answer_to", "words", "score"),
    [
        ("Where is my dog?", "No, it is in the garden.", 0.0),
        ("Where is my dog?", "That\u2019s wrong!", 0.0),
        ("Where is my dog?", "where is my dog now?", 0.0),
        ("Where is my dog?", "Thanks, and my cat?", 1.0),
        ("Where is my dog?", "that's right", 1.0),
        ("Where is my dog?", "Nothing else for today.", None),
        ("Where is my dog?", "What is the weather in Rome?", None),
    ],
)
def test_words_of_the_next_turn_are_a_hint(answer_to: str, words: str, score: float | None) -> None:
    [turn] = followed([said(1, answer_to, "Here."), said(2, words)])
    reward = hinted(turn)
    assert (reward.score if reward else None) == score
    assert reward is None or reward.metadata == {"source": "next_turn", "by": "words"}


def test_the_next_turn_is_that_of_the_same_session() -> None:
    items = [said(1, "a"), said(2, "b", session="other"), said(3, "c", namespace="user/bob"), said(4, "d")]
    assert [(turn.item.trajectory.id, turn.said) for turn in followed(items)] == [("t1", "d")]


async def test_rewards_are_appended_once_and_replaced_when_they_change(tmp_path: Path) -> None:
    ops = [Step(index=1, role="updater", policy=Policy(base="b"), memory_ops=[MemoryOp(op="add", id="m", text="x")])]
    settings = home_of(tmp_path, said(1, "My dog?", "Tarvo", {"label": "up"}, steps=ops), said(2, "Cat?", "Mira"))
    first = await reverify(settings, TrainConfig(), [], hints=False, write=True)
    assert (first["trajectories"], first["appended"], first["to_append"]) == (2, 2, 0)
    assert rewards(tmp_path, "t1") == {"feedback": (1.0, "feedback"), "valid_operation": (1.0, "operations")}
    again = await reverify(settings, TrainConfig(), [], hints=False, write=True)
    assert again["appended"] == 0
    assert {row["reward"]: row["unchanged"] for row in again["rewards"]} == {"feedback": 1, "valid_operation": 1}

    later = LogWriter(tmp_path / "trajectories", LogSettings())
    body = Feedback(id="t1", score=0.6).model_dump(mode="json")
    later.append(LogEvent(event_id="f-later", trajectory_id="t1", kind="feedback", body=body))
    later.close()
    changed = await reverify(settings, TrainConfig(), ["feedback"], hints=False, write=True)
    [row] = changed["rewards"]
    assert (row["changed"], row["mean"]) == (1, pytest.approx(0.8))
    assert rewards(tmp_path, "t1")["feedback"] == (0.8, "feedback")
    [one] = [one for one in read_log(tmp_path / "trajectories").trajectories if one.trajectory.id == "t1"]
    assert [reward.name for reward in one.trajectory.rewards] == ["valid_operation", "feedback"]


async def test_measures_compare_the_logged_answer_with_what_is_known_to_be_right(tmp_path: Path) -> None:
    right, wrong = said(1, "My dog?", "Tarvo", {"correction": "Tarvo"}), said(2, "My cat?", "Rex", {"correction": "Mira the cat"})
    settings = home_of(tmp_path, right, wrong, said(3, "My cow?", "Bella"))
    report = await reverify(settings, TrainConfig(), ["match", "f1"], hints=False, write=True)
    assert {row["reward"]: (row["source"], row["scored"], row["mean"]) for row in report["rewards"]} == {
        "exact_match": ("reverify", 2, 0.5),
        "f1": ("reverify", 2, 0.5),
    }
    assert rewards(tmp_path, "t3") == {}
    assert (await reverify(settings, TrainConfig(), ["exact_match", "f1"], hints=False, write=True))["appended"] == 0


async def test_what_is_computed_again_is_new_to_no_run_and_what_the_next_turn_says_is(tmp_path: Path) -> None:
    settings = home_of(tmp_path, said(1, "My dog?", "Tarvo"), said(2, "Thanks!", "Gladly.", {"label": "up"}))
    root = tmp_path / "trajectories"
    take(root, "run", read_new(root, **WHO).window, **WHO)
    await reverify(settings, TrainConfig(), ["feedback", "match"], hints=False, write=True)
    assert read_new(root, **WHO).fresh == set()
    await reverify(settings, TrainConfig(), ["next_turn"], hints=True, write=True)
    assert read_new(root, **WHO).fresh == {"t1"}
    assert (await reverify(settings, TrainConfig(), ["next_turn"], hints=True, write=True))["appended"] == 0


async def test_what_was_forgotten_or_may_not_be_used_is_skipped_and_counted(tmp_path: Path) -> None:
    settings = home_of(tmp_path, said(1, "Q", "A", {"label": "up"}), said(2, "Q", "A", {"label": "up"}, consent="none"))
    writer = LogWriter(tmp_path / "trajectories", LogSettings())
    writer.redact(["t1"])
    writer.close()
    report = await reverify(settings, TrainConfig(), [], hints=False, write=True)
    assert report["skipped"] == {"forgotten": 1, "no consent": 1}
    assert (report["rewards"], report["appended"]) == ([], 0)


@pytest.fixture
async def stub() -> AsyncGenerator[JudgeStub]:
    made = JudgeStub()
    async with TestServer(made.app()) as server:
        made.url = str(server.make_url("/"))
        yield made


async def test_a_judge_reads_the_next_turn_and_what_it_cannot_tell_is_not_scored(tmp_path: Path, stub: JudgeStub) -> None:
    settings = home_of(tmp_path, said(1, "My dog?", "Tarvo"), said(2, "<next>And my cat?", "Mira"), said(3, "no, Rex"))
    stub.replies = ["They go on.\nUNKNOWN", "They correct it.\nWRONG"]
    config = training_config(None, [f"judge.url={stub.url}", "judge.model=strict", "judge.concurrency=1"])
    report = await reverify(settings, config, ["next_turn"], hints=True, write=True)
    [row] = report["rewards"]
    assert (row["scored"], row["mean"], row["not_scored"]) == (1, 0.0, 1)
    assert rewards(tmp_path, "t1") == {"next_turn": (None, "next_turn")}
    assert rewards(tmp_path, "t2") == {"next_turn": (0.0, "next_turn")}
    asked = stub.bodies[0]["messages"][0]["content"]
    assert "Tarvo" in asked
    assert asked.count("<next>") == 1
    assert (await reverify(settings, config, ["next_turn"], hints=True, write=True))["appended"] == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["f2"], r"--rewards: unknown reward 'f2'; did you mean 'f1'.*or of the log itself: feedback, citation_marks"),
        (["judge"], r"judge\.url"),
        (["next_turn"], "--hints"),
    ],
)
async def test_a_name_that_is_not_known_or_has_no_judge_is_told(tmp_path: Path, names: list[str], message: str) -> None:
    settings = home_of(tmp_path, said(1, "Q", "A"))
    with pytest.raises(ConfigurationError, match=message):
        await reverify(settings, TrainConfig(), names, hints=False, write=True)


async def test_without_a_log_nothing_is_claimed_to_be_appended(tmp_path: Path) -> None:
    home_of(tmp_path, said(1, "Q", "A", {"label": "up"}))
    settings = load(None, [f"home={tmp_path}", "log.enabled=false"], {})
    with pytest.raises(ConfigurationError, match=r"log\.enabled"):
        await reverify(settings, TrainConfig(), [], hints=False, write=True)
    assert (await reverify(settings, TrainConfig(), [], hints=False, write=False))["to_append"] == 1


def test_the_command_tells_a_table_and_json(tmp_path: Path) -> None:
    home_of(tmp_path, said(1, "Q", "A", {"label": "up"}))
    with (tmp_path / "trajectories" / "20990101T000000.000000-7.jsonl").open("w") as file:
        file.write("not json\n")
    run = CliRunner()
    dry = run.invoke(app, ["reverify", "--dry-run", "--json"], obj=Invocation(home=tmp_path))
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["to_append"] == 1
    assert len(json.loads(dry.stdout)["corrupt_lines"]) == 1
    found = run.invoke(app, ["reverify"], obj=Invocation(home=tmp_path))
    assert "feedback" in found.stdout
    assert "1 trajectories read, skipped: none, corrupt lines: 1; 1 rewards appended" in " ".join(found.stdout.split())
    assert "skipped a corrupt line" in found.stderr
    shown = run.invoke(app, ["show", "t1"], obj=Invocation(home=tmp_path))
    assert "reward feedback: 1 (source feedback, weight 1)" in shown.stdout
