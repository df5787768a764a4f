"""What counts as a secret in a memory, and that it is never told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memory_store.audit.secrets import kinds_in, secrets
from recollect.memory import MemoryRecord, content_hash

HELD = (
    ("The key is AKIAIOSFODNN7EXAMPLE, keep it", "AWS Access Key"),
    ("token ghp_" + "a1B2" * 9, "GitHub Token"),
    ("clone https://bo:s3cr3t@example.com/x", "Basic Auth Credentials"),
    ("first line\n-----BEGIN RSA PRIVATE KEY-----\nMIIE", "Private Key"),
    ("xoxb-123456789012-123456789012-abcdefghijkl", "Slack Token"),
    ('password = "correct horse"', "Secret Keyword"),
    ("My password for the bank is hunter2!", "Password in a sentence"),
    ("My PIN for the door is 4821.", "PIN in a sentence"),
)
HARMLESS = (
    "I like tea",
    "My password is very strong",
    "The key point is 'the budget'",
    "Ada told me a secret: she likes Bo",
    "The servers are 192.168.1.1 and 8.8.8.8",
    "Its id is '123e4567-e89b-12d3-a456-426614174000'",
    'password = "<your password here>"',
    "She pinned 4821 notes",
)


def version(memory_id: str, text: str, seq: int = 1, seq_to: int | None = None, **more: Any) -> MemoryRecord:
    fields: dict[str, Any] = {"id": memory_id, "namespace": "user/a", "kind": "semantic", "text": text, "seq_from": seq, "seq_to": seq_to}
    return MemoryRecord.model_validate({**fields, "created_at": datetime.now(UTC), "content_hash": content_hash(text), **more})


@pytest.mark.parametrize(("text", "kind"), HELD)
def test_secrets_are_found_by_their_kinds(text: str, kind: str) -> None:
    assert kind in set(kinds_in(text))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_sounds_like_a_secret_is_none(text: str) -> None:
    assert list(kinds_in(text)) == []


def test_a_finding_names_the_memory_and_the_places_and_not_the_secret() -> None:
    versions = [
        version("m1", HELD[0][0], seq_to=2),
        version("m1", "The key is in the safe", 2),
        version("m2", "tea", metadata={"api_key": "s3cr3t-and-long", "number": 3}),
        version("m3", "tea"),
    ]
    found = secrets(versions)
    assert [(one.id, one.places, one.versions, one.current) for one in found] == [
        ("m1", ("text",), 1, False),
        ("m2", ("metadata.api_key",), 1, True),
    ]
    assert not any(word in one.model_dump_json() for one in found for word in ("AKIA", "s3cr3t"))


@pytest.mark.parametrize("text", ["'" * 32_768, "password is " * 2_700, "pin for " * 4_000, "key='" * 6_000, "a" * 32_768])
def test_no_text_holds_the_detectors_up(text: str) -> None:
    began = datetime.now(UTC)
    list(kinds_in(text))
    assert (datetime.now(UTC) - began).total_seconds() < 10
