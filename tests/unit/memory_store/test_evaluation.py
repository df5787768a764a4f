"""The retrieval evaluation reads both public formats, counts what it leaves out, and names the field of a bad file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memory_store.cli_eval import app
from memory_store.embedders.hash import HashEmbedder
from memory_store.evaluate.files import read
from memory_store.evaluate.retrieval import Evaluation, evaluate
from recollect.errors import InvalidRequest

DATA = Path(__file__).parents[2] / "data"
LOCOMO, LONGMEMEVAL = DATA / "locomo_small.json", DATA / "longmemeval_small.json"


def test_a_locomo_file_is_read_with_captions_dates_and_split_evidence() -> None:
    (conversation,) = read(LOCOMO).conversations
    assert len(conversation.turns) == 8
    second = conversation.turns[1]
    assert (second.id, second.at and second.at.isoformat()) == ("D1:2", "2031-03-04T09:15:00+00:00")
    assert second.text == (
        "Tobin: Lovely. I spent the weekend repairing my grandfather's accordion. "
        "(shares a photo: an accordion with a torn bellows on a table)"
    )
    assert [(sorted(q.evidence), q.unresolved) for q in conversation.questions][2:4] == [(["D2:1", "D2:2"], 0), (["D2:2"], 1)]


def test_a_longmemeval_file_is_read_with_the_turns_that_hold_the_answer() -> None:
    lamp, kayak = read(LONGMEMEVAL).conversations
    assert [sorted(q.evidence) for c in (lamp, kayak) for q in c.questions] == [["S1:1"], ["S1:1", "S2:1"]]
    assert [turn.at is None for turn in lamp.turns] == [False, False, True, True]


async def test_every_mode_finds_the_evidence_of_the_small_files() -> None:
    (evaluation,) = await evaluate(read(LOCOMO), HashEmbedder())
    assert (evaluation.questions, evaluation.without_evidence, evaluation.unresolved_evidence) == (6, 1, 2)
    assert set(evaluation.scores) == {"text", "dense", "hybrid"}
    for scores in evaluation.scores.values():
        assert [(name, score.questions) for name, score in scores.items()] == [("1", 1), ("2", 1), ("3", 1), ("4", 1), ("5", 1), ("1-4", 4)]
    text = evaluation.scores["text"]
    alone = (await evaluate(read(LOCOMO), None, context=False))[0].scores["text"]["1"]
    assert (alone.recall[1], alone.recall[5]) == (0.5, 0.5)
    assert (text["4"].recall[1], text["4"].mrr, text["1"].recall[1], text["1"].recall[5]) == (1.0, 1.0, 0.5, 1.0)
    mean = sum(text[category].recall[10] for category in "1234") / 4
    assert text["1-4"].recall[10] == pytest.approx(mean)


async def test_without_an_embedder_text_alone_is_measured_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    (evaluation,) = await evaluate(read(LONGMEMEVAL), None, lambda _, done, of: told.append((done, of)))
    assert list(evaluation.scores) == ["text"]
    assert evaluation.scores["text"]["all"].questions == 2
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_command_prints_a_table_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["retrieval", str(LOCOMO), "embedder.kind=hash"])
    assert shown.exit_code == 0, shown.output
    for word in ("multi-hop", "hybrid", "R@10", "MRR", "2 evidence ids name no turn"):
        assert word in shown.stdout
    printed = CliRunner().invoke(app, ["retrieval", str(LONGMEMEVAL), "--json", "embedder.kind=hash"])
    assert Evaluation.model_validate_json(printed.stdout).format == "LongMemEval"


def locomo_with(fields: dict[str, str]) -> str:
    turn = {"speaker": "A", "dia_id": "D2:1", "text": "hello"}
    said = {"session_1": [turn | {"dia_id": "D1:1"}], "session_2": [turn | fields]}
    return json.dumps([{"conversation": said, "qa": []}])


def longmemeval_with(content: str) -> str:
    sessions = [[{"role": "user", "content": "hello"}, {"role": "user", "content": content}]]
    question = {"question_id": "q", "question_type": "t", "question": "what?"}
    return json.dumps([question | {"haystack_dates": ["2023/05/20 (Sat) 02:21"], "haystack_sessions": sessions}])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["is not JSON"]),
        ("{}", ["holds dict, not a list"]),
        ("[]", ["holds no conversation"]),
        ("[{}]", ["'conversation'", "'haystack_sessions'"]),
        ("[" * 100_000, ["nested too deeply"]),
        (locomo_with({"dia_id": "no id!"}), ["0.conversation.session_2.0.dia_id", "'no id!' is no memory id"]),
        (locomo_with({"text": "x" * 32_768}), ["0.conversation.session_2.0.text", "32768"]),
        (locomo_with({"text": "\ud800"}), ["0.conversation.session_2.0.text"]),
        (longmemeval_with("x" * 32_768), ["0.haystack_sessions.0.1.content", "32768"]),
        ('[{"conversation": {"session_1": []}}]', ["0.qa", "Field required"]),
        ('[{"conversation": {"session_1": [{"speaker": "A", "dia_id": "D1:1"}]}, "qa": []}]', ["0.conversation.session_1.0.text"]),
        ('[{"conversation": {"session_1": 3}, "qa": []}]', ["0.conversation.session_1", "list"]),
        ('[{"conversation": {}, "qa": [{"question": "x", "category": "easy"}]}]', ["0.qa.0.category"]),
        ('[{"haystack_sessions": [], "question_id": 3}]', ["0.question_id"]),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_field(tmp_path: Path, content: str, words: list[str]) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content, "utf-8")
    result = CliRunner().invoke(app, ["retrieval", str(file), "embedder.kind=none"])
    assert isinstance(result.exception, InvalidRequest)
    assert all(word in str(result.exception) for word in [str(file), *words]), result.exception


def test_sessions_are_read_in_the_order_of_their_numbers_however_written(tmp_path: Path) -> None:
    turn = {"speaker": "A", "text": "hello"}
    said = {f"session_{number}": [turn | {"dia_id": f"D{number}"}] for number in ("10", "02", "1")}
    file = tmp_path / "numbers.json"
    file.write_text(json.dumps([{"conversation": said | {"session_" + "9" * 5000: []}, "qa": []}]), "utf-8")
    assert [turn.id for turn in read(file).conversations[0].turns] == ["D1", "D02", "D10"]


def test_dates_and_sessions_must_be_as_many(tmp_path: Path) -> None:
    records = json.loads(LONGMEMEVAL.read_text("utf-8"))
    records[1]["haystack_dates"].pop()
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(records), "utf-8")
    with pytest.raises(InvalidRequest, match="2 sessions need as many dates") as caught:
        read(file)
    assert caught.value.param == "1.haystack_dates"
