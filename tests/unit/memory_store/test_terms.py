"""Terms of full text search, and BM25 with its fusion."""

from __future__ import annotations

import numpy as np
import pytest

from memory_store.scoring import Postings, bm25, fuse
from memory_store.terms import query_terms, stem, terms_of


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("cats", "cat"),
        ("caress", "caress"),
        ("agreed", "agree"),
        ("feed", "feed"),
        ("plastered", "plaster"),
        ("motoring", "motor"),
        ("sing", "sing"),
        ("conflated", "conflate"),
        ("hopping", "hop"),
        ("hoped", "hope"),
        ("falling", "fall"),
        ("happy", "happi"),
        ("sky", "sky"),
    ],
)
def test_words_lose_their_inflection_as_in_porters_examples(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


def test_terms_are_folded_and_without_stop_words() -> None:
    assert list(terms_of("The Café of ZOË is open, isn't it? v1.2")) == ["cafe", "zoe", "open", "isn", "v1", "2"]


def test_scripts_without_blanks_are_cut_into_pairs() -> None:
    assert list(terms_of("日本語x が 한국어")) == ["日本", "本語", "x", "が", "한국어"]
    assert list(terms_of("🙂 … --")) == []


def test_a_query_has_each_term_once_and_a_bounded_number() -> None:
    assert query_terms("tea tea teas") == ["tea"]
    assert len(query_terms(" ".join(f"w{i}" for i in range(5000)))) == 256


def test_bm25_over_joined_parts_is_bm25_over_the_whole() -> None:
    documents = [["red", "tea"], ["tea", "tea", "house"], ["car"], ["red", "car", "house"], ["tea"]]
    alive = np.array([True, True, False, True, True])
    whole = bm25([Postings.of(documents)], ["tea", "red", "none"], alive)
    parts = [Postings.of(documents[:2]), Postings.of(documents[2:])]
    assert bm25(parts, ["tea", "red", "none"], alive)[alive] == pytest.approx(whole[alive])
    assert bm25([parts[0].joined(parts[1])], ["tea", "red"], alive)[alive] == pytest.approx(whole[alive])
    without = bm25([Postings.of([d for d, kept in zip(documents, alive, strict=True) if kept])], ["tea", "red"], np.ones(4, np.bool_))
    assert whole[alive] == pytest.approx(without)


def test_fusion_ranks_a_row_without_vector_by_its_words() -> None:
    dense = np.array([0.9, -0.1, np.nan], np.float32)
    text = np.array([0.0, 0.0, 3.0], np.float32)
    assert fuse(dense, text).tolist() == [0.5, 0.0, 0.5]
    assert np.isfinite(fuse(np.full(3, np.nan, np.float32), text)).all()
