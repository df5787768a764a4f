"""Fixtures of the store's tests."""

from __future__ import annotations

from tests.conformance.object_storage import bucket, object_storage

__all__ = ["bucket", "object_storage"]
