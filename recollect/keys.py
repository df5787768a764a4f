"""API keys: whose memories a request means and what it may do, in `keys/keys.json` of the home.

A key is shown once, when it is made; the file has its sha256. It is 32 random bytes, which nobody guesses: a slow hash would only
slow down every request. Once a key was made, requests without one are refused, also when all of them are revoked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from recollect.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from recollect.log_files import replacing
from recollect.memory import LOCAL_TENANT, TENANT
from recollect.model import Frozen
from recollect.trajectory import now

Scope = Literal["chat", "memory", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "rk_"


class Key(Frozen):
    """A key without its secret. It means the memories of `tenant`; 0 is no limit."""

    id: str
    name: str
    tenant: str = LOCAL_TENANT
    scopes: tuple[Scope, ...] = Field(default=SCOPES, min_length=1)
    sha256: str
    created_at: datetime = Field(default_factory=now)
    revoked_at: datetime | None = None
    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_day: int = Field(default=0, ge=0)


_KEYS = TypeAdapter(list[Key])


class KeyRing:
    """The keys of a home. What another process changes is seen by the next call."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "keys.json"
        self._read: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    @property
    def in_force(self) -> bool:
        """Whether a key was ever made: then nothing is answered without one. Raises ConfigurationError if the file cannot be read."""
        self._reload()
        return bool(self._keys)

    def all(self) -> Sequence[Key]:
        """Every key, revoked ones too, oldest first. Raises ConfigurationError if the file cannot be read."""
        self._reload()
        return list(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The key of that secret, unless it was revoked. Raises ConfigurationError if the file cannot be read."""
        self._reload()
        key = self._keys.get(_hash(secret))
        return None if key is None or key.revoked_at else key

    def create(
        self,
        name: str,
        *,
        tenant: str = LOCAL_TENANT,
        scopes: Sequence[Scope] = SCOPES,
        requests_per_minute: int = 0,
        tokens_per_day: int = 0,
    ) -> tuple[Key, str]:
        """A new key, and its secret, which is nowhere else. Raises InvalidRequest."""
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest(f"{tenant!r} is no tenant: use lower-case letters, digits, '-' and '_'", param="tenant")
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise InvalidRequest("name the key in 1 to 100 printable characters", param="name")
        secret = f"{PREFIX}{secrets.token_urlsafe(32)}"
        key = Key(
            id=f"key_{secrets.token_hex(4)}",
            name=name,
            tenant=tenant,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            sha256=_hash(secret),
            requests_per_minute=requests_per_minute,
            tokens_per_day=tokens_per_day,
        )
        self._change(lambda keys: [*keys, key])
        return key, secret

    def revoke(self, key_id: str) -> Key:
        """Refuse the key of this id, or of this name, from now on. Raises NotFound; Conflict where several in force have the name."""
        keys = self.all()
        found = next((key for key in keys if key.id == key_id), None)
        named = [key for key in keys if key.name == key_id and key.revoked_at is None]
        if found is None and len(named) > 1:
            raise Conflict(f"{len(named)} keys are called {key_id!r}; name one by its id: {', '.join(key.id for key in named)}", param="id")
        found = found or next(iter(named), None)
        if found is None:
            raise NotFound(f"no key {key_id!r}; see: recollect keys list", param="id", code="key_not_found")
        revoked = found.model_copy(update={"revoked_at": found.revoked_at or now()})
        self._change(lambda keys: [revoked if key.id == revoked.id else key for key in keys])
        return revoked

    def _change(self, change: Callable[[Sequence[Key]], list[Key]]) -> None:
        with self._locked():
            changed = change(self.all())
            with replacing(self._file) as file:
                file.write(_KEYS.dump_json(changed, indent=1) + b"\n")

    @contextmanager
    def _locked(self) -> Generator[None]:
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is that of the last folder alone
        self._root.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _reload(self) -> None:
        try:
            status = self._file.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            if state == self._read:
                return
            keys = _KEYS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            state, keys = None, list[Key]()
        except ValidationError as exc:
            raise ConfigurationError(f"{self._file} cannot be read ({exc.error_count()} errors); mend it, or put back a copy") from exc
        except OSError as exc:
            raise ConfigurationError(f"{self._file} cannot be read: {exc.strerror}") from exc
        if self._keys and not keys:
            raise ConfigurationError(f"{self._file} has no keys any more; put back a copy, or restart the server to do without keys")
        self._read, self._keys = state, {key.sha256: key for key in keys}


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
