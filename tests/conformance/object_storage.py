"""An object storage on loopback: moto's server, with a bucket a test."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from memory_store.location import Location

_numbers = itertools.count()


@pytest.fixture(scope="session")
def object_storage() -> Iterator[str]:
    """The server's URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_storage: str) -> Location:
    """A bucket of its own."""
    name = f"memories-{next(_numbers)}"
    keys = {"aws_access_key_id": "loopback", "aws_secret_access_key": "loopback"}
    boto3.client("s3", endpoint_url=object_storage, region_name="us-east-1", **keys).create_bucket(Bucket=name)
    options = {"aws_endpoint": object_storage, "aws_region": "us-east-1", "allow_http": "true", **keys}
    return Location.of(f"s3://{name}/memory", options)
