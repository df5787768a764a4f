"""Base level: text that is not English is found by its words."""

from __future__ import annotations

import pytest

from recollect.stores import BaseStore
from tests.conformance.writes import NS, add

LANGUAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "German": ("Ada wohnt jetzt in München.", "Größe und Straße sind egal.", ("München", "munchen", "wohnt Ada in MÜNCHEN?")),
    "Russian": ("Ада живёт в Москве.", "Боб играет в шахматы.", ("Москве", "МОСКВЕ", "где живет Ада", "живёт")),
    "Chinese": ("阿达住在北京。", "鲍勃喜欢下棋。", ("北京", "住在北京", "阿达住在哪里？")),
    "Japanese": ("エイダは京都に住んでいます。", "ボブはチェスが好きです。", ("京都", "エイダ", "京都に住んで")),
    "Arabic": ("تعيش آدا في القاهرة.", "يلعب بوب الشطرنج.", ("القاهرة", "آدا", "تعيش في القاهرة")),
    "Hindi": ("अदा दिल्ली में रहती है।", "बॉब शतरंज खेलता है।", ("दिल्ली", "अदा दिल्ली", "रहती")),
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_text_is_found_by_its_words(store: BaseStore, language: str) -> None:
    others = [other for name, (text, other, _) in LANGUAGES.items() for other in (text, other) if name != language]
    wanted, near, queries = LANGUAGES[language]
    await store.apply(NS, [add("wanted", wanted), add("near", near), *(add(f"o{i}", text) for i, text in enumerate(others))])
    for query in queries:
        found = [hit.record.id for hit in await store.search(NS, query, mode="text")]
        assert found[:1] == ["wanted"], query
        assert not any(name.startswith("o") for name in found), query


async def test_an_accent_is_no_other_letter(store: BaseStore) -> None:
    await store.apply(NS, [add("a", "Café in Évora"), add("b", "Cafe\u0301 in E\u0301vora"), add("c", "tea in Kelbo")])
    for query in ("cafe", "CAFÉ", "evora", "E\u0301vora"):
        assert {hit.record.id for hit in await store.search(NS, query, mode="text")} == {"a", "b"}, query


@pytest.mark.parametrize(("text", "query"), [("ＦＵＬＬ　ｗｉｄｔｈ", "full width"), ("ﬁnal oﬃce", "final office")])
async def test_forms_of_a_letter_are_one(store: BaseStore, text: str, query: str) -> None:
    await store.apply(NS, [add("a", text), add("b", "something else")])
    assert [hit.record.id for hit in await store.search(NS, query, mode="text")] == ["a"]
