"""Questions with documents, from files of the SQuAD and the HotpotQA format."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, Field

from recollect.dataset_file import checked, items, parsed
from recollect.errors import InvalidRequest


class Document(NamedTuple):
    """A paragraph, with the title that stands before it if it has one."""

    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.title}\n{self.text}" if self.title else self.text


class Asked(NamedTuple):
    """A question, the documents that it needs, and those of its own that tempt (the same article, or the ones that were given with it)."""

    id: str
    question: str
    answers: tuple[str, ...]
    gold: tuple[Document, ...]
    tempting: tuple[Document, ...] = ()


class Library(NamedTuple):
    """The questions of a file, and all its documents, each once."""

    asked: list[Asked]
    documents: list[Document]


class _Answer(BaseModel):
    text: str


class _SquadQuestion(BaseModel):
    id: str
    question: str
    answers: list[_Answer] = Field(default_factory=list[_Answer])
    is_impossible: bool = False


class _Paragraph(BaseModel):
    context: str
    qas: list[_SquadQuestion]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _Squad(BaseModel):
    data: list[_Article]


class _HotpotQuestion(BaseModel):
    id: str = Field(alias="_id")
    question: str
    answer: str
    context: list[tuple[str, list[str]]]
    supporting_facts: list[tuple[str, int]]


def read_squad(path: Path) -> Library:
    """SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018); questions without an answer are left out. Raises InvalidRequest."""
    asked: list[Asked] = []
    documents: dict[Document, None] = {}
    for article in checked(_Squad, parsed(path), path, "").data:
        paragraphs = [Document("", paragraph.context) for paragraph in article.paragraphs]
        documents.update(dict.fromkeys(paragraphs))
        for document, paragraph in zip(paragraphs, article.paragraphs, strict=True):
            tempting = tuple(other for other in paragraphs if other != document)
            for question in paragraph.qas:
                answers = tuple(dict.fromkeys(answer.text for answer in question.answers))
                if answers and not question.is_impossible:
                    asked.append(Asked(question.id, question.question, answers, (document,), tempting))
    return _library(path, asked, list(documents))


def read_hotpotqa(path: Path) -> Library:
    """HotpotQA, distractor setting (Yang et al. 2018): ten paragraphs a question. Raises InvalidRequest that names the element."""
    asked: list[Asked] = []
    documents: dict[Document, None] = {}
    for index, item in enumerate(items(path, of="questions")):
        record = checked(_HotpotQuestion, item, path, str(index))
        own = [Document(title, "".join(sentences).strip()) for title, sentences in record.context]
        wanted = {title for title, _ in record.supporting_facts}
        if missing := wanted - {document.title for document in own}:
            name = f"{index}.supporting_facts"
            raise InvalidRequest(f"{path}: {name}: no paragraph has the title {min(missing)!r}", param=name)
        documents.update(dict.fromkeys(own))
        gold = tuple(document for document in own if document.title in wanted)
        tempting = tuple(document for document in own if document.title not in wanted)
        asked.append(Asked(record.id, record.question, (record.answer,), gold, tempting))
    return _library(path, asked, list(documents))


def _library(path: Path, asked: list[Asked], documents: list[Document]) -> Library:
    if not asked:
        raise InvalidRequest(f"{path} holds no question that has an answer", param="file")
    return Library(asked, documents)
