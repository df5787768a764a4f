"""Where a namespace lies on disk: `<root>/<tenant>/<table>.lance`, safe on every file system."""

from __future__ import annotations

import hashlib
import re

from memory_store.location import Location
from recollect.errors import InvalidRequest
from recollect.memory import TENANT, Namespace

_UNSAFE = re.compile(r"[^a-z0-9]+")


def table_name(namespace: Namespace) -> str:
    """A name of at most 73 letters, digits and '-': a readable part, and a hash that tells namespaces apart.

    The namespace itself is in the table's metadata. Raises InvalidRequest for a namespace that does not read back as itself.
    """
    text = canonical(namespace)
    readable = _UNSAFE.sub("-", text.lower()).strip("-")[:40].strip("-")
    return f"{readable or 'ns'}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def canonical(namespace: Namespace) -> str:
    """The namespace as text, after it was checked. Raises InvalidRequest."""
    try:
        text = str(namespace)
        same = Namespace.parse(text, tenant=namespace.tenant) == namespace
    except UnicodeEncodeError as exc:
        raise InvalidRequest("the namespace is no valid Unicode", param="namespace") from exc
    if not same:
        raise InvalidRequest(f"{text!r} is no namespace: write it as user/42 or user/42:agent/coach", param="namespace")
    return text


def tenant_folder(root: Location, tenant: str) -> Location:
    """The folder of a tenant's database. Raises InvalidRequest for what is no tenant."""
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest(f"{tenant!r} is no tenant: use lower-case letters, digits, '-' and '_'", param="tenant")
    return root / tenant
