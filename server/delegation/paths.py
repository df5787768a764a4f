"""Files that workers may read: those under the allowed folders, by their real paths, and none that is made to hold secrets."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recollect.errors import ConfigurationError, Forbidden, InvalidRequest, NotFound

SECRET = ("*.key", "*.pem", "*.p12", "*.pfx", "*.kdbx", ".env", ".env.*", "*.env", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*")
SECRET_NAMES = (".netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", "credentials", "credentials.*", "secrets", "secrets.*")
"""Files, and"""
HIDDEN = (".git", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".recollect")
"""folders that are passed over."""
SCOPE = "roots"
MAX_READ = 32_768
MAX_BYTES = 16 * 2**20
MAX_LISTED = 200
MAX_WALKED = 20_000
MAX_SEARCHED = 256 * 2**20
"""Bytes of all files of one search."""
MAX_FOUND = 50
MAX_LINE = 400
_MASKED = re.compile("|".join(fnmatch.translate(pattern) for pattern in (*SECRET, *SECRET_NAMES)), re.I)


@dataclass(frozen=True, slots=True)
class Roots:
    """The allowed folders. A path in them is absolute, or relative to the first that has it."""

    folders: tuple[Path, ...]
    kept: tuple[Path, ...]
    """What this server keeps: nothing in it is read."""

    @classmethod
    def of(cls, folders: Sequence[Path], kept: Sequence[Path]) -> Roots:
        """Their real paths. Raises ConfigurationError for one inside of what is kept."""
        roots = cls(_real(folders), _real(kept))
        for folder in roots.folders:
            if any(_within(folder, own) for own in roots.kept):
                raise ConfigurationError(f"roots: {folder} holds what this server keeps, which workers must not read", param="roots")
        return roots

    def resolve(self, named: str) -> Path:
        """The real path of what was named. Raises Forbidden if it is outside or secret, NotFound if it is not there, InvalidRequest."""
        with _told():
            return self._resolved(named)

    def _resolved(self, named: str) -> Path:
        if not self.folders:
            raise InvalidRequest("no folder is allowed; name some under roots in the file of delegation.file", param="path")
        if "\0" in named:
            raise InvalidRequest("a path holds no zero byte", param="path")
        candidates = [Path(named)] if os.path.isabs(named) else [folder / named for folder in self.folders]
        real = [Path(os.path.realpath(path)) for path in candidates]
        inside = [path for path in real if any(_within(path, folder) for folder in self.folders)]
        if not inside:
            raise Forbidden("the path is outside of the allowed folders", scope=SCOPE)
        if any(self._is_secret(path) for path in inside):
            raise Forbidden("the path is kept from workers: such files hold secrets", scope=SCOPE)
        found = next((path for path in inside if path.exists()), None)
        if found is None:
            raise NotFound(f"no file {named!r}; list_files shows what there is", param="path")
        return found

    def shown(self, path: Path) -> str:
        """How a path is told: relative to the allowed folder if there is one, else whole."""
        for folder in self.folders:
            if _within(path, folder):
                inner = path.relative_to(folder)
                return str(inner) if len(self.folders) == 1 else str(path)
        return str(path)

    def read(self, named: str, *, offset: int = 0, limit: int = MAX_READ) -> str:
        """Characters of a text from `offset`, with a last line that says how many are left."""
        text = self._text(self.resolve(named))
        piece = text[offset : offset + min(limit, MAX_READ)]
        left = len(text) - offset - len(piece)
        return piece + (f"\n[{left} characters follow: offset={offset + len(piece)}]" if left > 0 else "")

    def list(self, named: str = ".", *, pattern: str = "*") -> str:
        """Files under a folder whose names match, a line each."""
        if not self.folders:
            self.resolve(named)
        tops = list(self.folders) if named in ("", ".") else [self.resolve(named)]
        found = [path for top in tops for path in self._walk(top) if fnmatch.fnmatch(path.name, pattern)]
        with _told():
            lines = [f"{self.shown(path)} ({path.stat().st_size} bytes)" for path in found[:MAX_LISTED]]
        return "\n".join([*lines, *([f"[{len(found) - MAX_LISTED} more]"] if len(found) > MAX_LISTED else [])]) or "[no such file]"

    def search(self, text: str, named: str = ".", *, pattern: str = "*") -> str:
        """Lines that hold `text`, whatever its case, as `path:line: text`."""
        if not text:
            raise InvalidRequest("text is empty; say what is looked for", param="text")
        if not self.folders:
            self.resolve(named)
        wanted, found, left = text.casefold(), list[str](), MAX_SEARCHED
        for top in self.folders if named in ("", ".") else [self.resolve(named)]:
            for path in self._walk(top):
                if fnmatch.fnmatch(path.name, pattern):
                    left -= path.stat().st_size if path.exists() else 0
                    found += self._matches(path, wanted)
                if len(found) >= MAX_FOUND or left < 0:
                    return "\n".join([*found[:MAX_FOUND], "[the rest was left out: name a folder or a pattern]"])
        return "\n".join(found) or "[not found]"

    def _matches(self, path: Path, wanted: str) -> list[str]:
        try:
            lines = self._text(path).splitlines()
        except InvalidRequest:  # it is no text: nothing is looked for in it
            return []
        return [f"{self.shown(path)}:{number}: {line[:MAX_LINE]}" for number, line in enumerate(lines, 1) if wanted in line.casefold()]

    def _walk(self, top: Path) -> Iterator[Path]:
        if top.is_file():
            yield top
            return
        seen = 0
        for folder, inner, names in os.walk(top):
            inner[:] = sorted(
                name
                for name in inner
                if name not in HIDDEN and not os.path.islink(at := os.path.join(folder, name)) and Path(at) not in self.kept
            )
            for name in sorted(names):
                path = Path(folder, name)
                if not _MASKED.match(name) and path.is_file() and not path.is_symlink():
                    yield path
                seen += 1
                if seen >= MAX_WALKED:
                    return

    def bytes_of(self, path: Path, limit: int) -> bytes:
        """The content of a file that `resolve` gave. Raises InvalidRequest for what is none, or larger, Forbidden for one that moved."""
        with _told():
            if not path.is_file():
                raise InvalidRequest(f"{self.shown(path)} is no file; list_files shows what is in a folder", param="path")
            # The path is real: what leads elsewhere now was swapped since.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if Path(os.path.realpath(f"/proc/self/fd/{file.fileno()}")) != path:
                    raise Forbidden("the path is outside of the allowed folders", scope=SCOPE)
                content = file.read(limit + 1)
        if len(content) > limit:
            raise InvalidRequest(f"{self.shown(path)} has more than {limit} bytes; read another file", param="path")
        return content

    def _text(self, path: Path) -> str:
        try:
            return self.bytes_of(path, MAX_BYTES).decode()
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"{self.shown(path)} is no text in UTF-8", param="path") from exc

    def _is_secret(self, path: Path) -> bool:
        if any(_within(path, own) for own in self.kept):
            return True
        inner = path.relative_to(next(folder for folder in self.folders if _within(path, folder))).parts
        return bool(inner) and (any(part in HIDDEN for part in inner) or _MASKED.match(inner[-1]) is not None)


def _real(paths: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(path)) for path in paths)


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


@contextmanager
def _told() -> Generator[None]:
    """What the system says of a path, as an error that a model can read."""
    try:
        yield
    except OSError as exc:
        raise InvalidRequest(f"the path cannot be read: {exc.strerror}", param="path") from exc
