"""The retrieval evaluation among turns of other conversations: they share the namespace, and each time is scored apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from memory_store.cli_eval import app
from memory_store.evaluate.chats import COLUMN, read_chats
from memory_store.evaluate.crowd import strangers
from memory_store.evaluate.files import read
from memory_store.evaluate.retrieval import Evaluation, evaluate
from recollect.errors import InvalidRequest

DATA = Path(__file__).parents[2] / "data"
LOCOMO, LONGMEMEVAL = DATA / "locomo_small.json", DATA / "longmemeval_small.json"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.csv"
    said = "User 1: Where does the accordion come from?\nUser 2: From my grandfather.\n\nnobody said this\nUser 1: Ah."
    rows = "".join(f'none,none,"{said} {number}"\n' for number in range(5))
    file.write_text(f"user 1 personas,user 2 personas,{COLUMN}\n{rows}", "utf-8")
    return file


def test_chats_are_read_as_conversations_of_one_session(chats: Path) -> None:
    first, *others = read_chats(chats)
    assert [(turn.id, turn.text) for turn in first.turns][1:] == [("T2", "User 2: From my grandfather."), ("T3", "User 1: Ah. 0")]
    assert len(others) == 4


def test_a_csv_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(InvalidRequest, match="has no column"):
        read_chats(file)


def test_strangers_are_whole_sessions_with_ids_of_their_own(chats: Path) -> None:
    found = strangers(read_chats(chats), 15)
    assert len({turn.id for turn in found}) == 15
    assert [turn.session == found[0].session for turn in found] == [True] * 3 + [False] * 12
    assert strangers(read_chats(chats), 6) == found[:6]
    with pytest.raises(InvalidRequest, match=r"16 turns of other conversations are needed, 15 are there"):
        strangers(read_chats(chats), 16)


async def test_without_strangers_the_scores_are_those_of_before(chats: Path) -> None:
    corpus = read(LOCOMO)
    (alone,) = await evaluate(corpus, None)
    none, once = await evaluate(corpus, None, others=read_chats(chats), times=(1, 0))
    assert none == alone
    assert (once.distractors, once.questions) == (1, alone.questions)
    assert once.scores["text"]["1-4"].mrr < alone.scores["text"]["1-4"].mrr


def test_the_command_prints_a_line_for_each_time(chats: Path) -> None:
    options = ["--times", "0", "--times", "1", "--distractors", str(chats), "--distractors", str(LONGMEMEVAL)]
    printed = CliRunner().invoke(app, ["retrieval", str(LOCOMO), "--json", *options, "embedder.kind=hash"])
    assert printed.exit_code == 0, printed.output
    assert [Evaluation.model_validate_json(line).distractors for line in printed.stdout.splitlines()] == [0, 1]
