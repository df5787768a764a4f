"""Requests made from the OpenAPI document, good and bad ones: none is answered with a defect, none hangs."""

from __future__ import annotations

import re

import pytest

from tests.clients.conftest import CLIENTS, Place

pytestmark = pytest.mark.clients
CASES = 10_000
LIMIT_S = 900


async def test_ten_thousand_requests_find_no_defect(place: Place) -> None:
    out = await place.run(
        *(CLIENTS / "bin" / "schemathesis", "run", f"{place.url}/openapi.json"),
        *("--max-examples", "300", "--phases", "coverage,fuzzing", "--seed", "7", "--continue-on-failure"),
        *("--checks", "not_a_server_error", "--request-timeout", "30", "--warnings", "off"),
        timeout_s=LIMIT_S,
    )
    found = re.search(r"(\d+) generated, (\d+) passed", out)
    assert found is not None, out
    assert int(found[1]) == int(found[2]) >= CASES, out
