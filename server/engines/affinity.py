"""Which engine a call goes to: one conversation's calls to one engine, whose prefix cache holds it, as long as that is not the busier one.

What begins a prompt says which conversation it is. Rendezvous hashing: when engines come and go, only the conversations of those move,
and several servers in front of the same engines choose alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from recollect.messages import Message
from server.engines.member import Member

COMPARED_CHARS = 4096
"""Of one message."""
COMPARED_IDS = 128
"""Of a prompt: a template, and the beginning of what is asked or read."""
SPARE = 1
"""So many calls more than the least busy engine has in flight, and a quarter of those, make an engine clearly busier if exceeded."""


def conversation_key(messages: Iterable[Message], salt: str | None) -> bytes:
    """The same for all turns of a conversation: what stands up to its first message of a user."""
    digest = blake2b((salt or "").encode(), digest_size=8)
    for message in messages:
        digest.update(f"\0{message.role}\0{len(message.content)}\0{message.content[:COMPARED_CHARS]}".encode("utf-8", "replace"))
        if message.role == "user":
            break
    return digest.digest()


def prompt_key(ids: Sequence[int], salt: str | None) -> bytes:
    """The same for prompts that begin alike."""
    digest = blake2b((salt or "").encode(), digest_size=8)
    digest.update(array("q", ids[:COMPARED_IDS]).tobytes())
    return digest.digest()


def in_turn(members: Sequence[Member], key: bytes = b"") -> list[Member]:
    """In the order in which to try them: by the key, the clearly busier ones last. Without a key the least busy first."""
    if len(members) < 2:
        return list(members)
    if not key:
        return sorted(members, key=lambda member: member.in_flight)
    least = min(member.in_flight for member in members)
    bearable = least + SPARE + least // 4

    def place(member: Member) -> tuple[int, bytes]:
        weight = blake2b(member.name, key=key, digest_size=8).digest()
        return (member.in_flight if member.in_flight > bearable else 0), weight

    return sorted(members, key=place)
