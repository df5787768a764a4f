"""Files that workers may read: those under the allowed folders, by their real paths, and none that is made to hold secrets."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.errors import InvalidRequest, NotFound

SECRET = ("*.key", "*.pem", "*.p12", "*.pfx", "*.kdbx", ".env", ".env.*", "*.env", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*")
SECRET_NAMES = (".netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", "credentials", "credentials.*", "secrets", "secrets.*")
"""Files, and"""
HIDDEN = (".git", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".recollect")
"""folders that are passed over."""
MAX_READ = 32_768
MAX_BYTES = 16 * 2**20
MAX_LISTED = 200
MAX_WALKED = 20_000
MAX_FOUND = 50
MAX_LINE = 400
_MASKED = re.compile("|".join(fnmatch.translate(pattern) for pattern in (*SECRET, *SECRET_NAMES)), re.I)


@dataclass(frozen=True, slots=True)
class Roots:
    """The allowed folders. A path in them is absolute, or relative to the first that has it."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Roots:
        """Their real paths."""
        return cls(tuple(Path(os.path.realpath(folder)) for folder in folders))

    def resolve(self, named: str) -> Path:
        """The real path of what was named. Raises InvalidRequest if it is outside or secret, NotFound if it is not there."""
        if not self.folders:
            raise InvalidRequest("no folder is allowed; name some under roots in the file of delegation.file", param="path")
        if "\0" in named:
            raise InvalidRequest("a path holds no zero byte", param="path")
        candidates = [Path(named)] if os.path.isabs(named) else [folder / named for folder in self.folders]
        real = [Path(os.path.realpath(path)) for path in candidates]
        inside = [path for path in real if any(path == folder or folder in path.parents for folder in self.folders)]
        if not inside:
            raise InvalidRequest(f"{named!r} is outside of the allowed folders", param="path")
        if any(self._is_secret(path) for path in inside):
            raise InvalidRequest(f"{named!r} is kept from workers: such files hold secrets", param="path")
        found = next((path for path in inside if path.exists()), None)
        if found is None:
            raise NotFound(f"no file {named!r}; list_files shows what there is", param="path")
        return found

    def shown(self, path: Path) -> str:
        """How a path is told: relative to its folder, with that one's number if there are several."""
        for folder in self.folders:
            if path == folder or folder in path.parents:
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
        lines = [f"{self.shown(path)} ({path.stat().st_size} bytes)" for path in found[:MAX_LISTED]]
        return "\n".join([*lines, *([f"[{len(found) - MAX_LISTED} more]"] if len(found) > MAX_LISTED else [])]) or "[no such file]"

    def search(self, text: str, named: str = ".", *, pattern: str = "*") -> str:
        """Lines that hold `text`, whatever its case, as `path:line: text`."""
        if not text:
            raise InvalidRequest("text is empty; say what is looked for", param="text")
        if not self.folders:
            self.resolve(named)
        wanted, found = text.casefold(), list[str]()
        for top in self.folders if named in ("", ".") else [self.resolve(named)]:
            for path in self._walk(top):
                if fnmatch.fnmatch(path.name, pattern):
                    found += self._matches(path, wanted)
                if len(found) >= MAX_FOUND:
                    return "\n".join([*found[:MAX_FOUND], "[more were left out]"])
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
            inner[:] = sorted(name for name in inner if name not in HIDDEN and not os.path.islink(os.path.join(folder, name)))
            for name in sorted(names):
                path = Path(folder, name)
                if not _MASKED.match(name) and path.is_file() and not path.is_symlink():
                    yield path
                seen += 1
                if seen >= MAX_WALKED:
                    return

    def _text(self, path: Path) -> str:
        if not path.is_file():
            raise InvalidRequest(f"{self.shown(path)} is no file; list_files shows what is in a folder", param="path")
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(f"{self.shown(path)} has more than {MAX_BYTES} bytes; read another file", param="path")
        try:
            # The path is real: what becomes a link now was swapped since, and is refused.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, encoding="utf-8") as file:
                return file.read()
        except UnicodeDecodeError as exc:
            raise InvalidRequest(f"{self.shown(path)} is no text in UTF-8", param="path") from exc
        except OSError as exc:
            raise InvalidRequest(f"{self.shown(path)} cannot be read: {exc.strerror}", param="path") from exc

    def _is_secret(self, path: Path) -> bool:
        folder = next(f for f in self.folders if path == f or f in path.parents)
        inner = path.relative_to(folder).parts
        return bool(inner) and (any(part in HIDDEN for part in inner) or _MASKED.match(inner[-1]) is not None)
