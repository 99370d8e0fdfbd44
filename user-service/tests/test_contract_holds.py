"""Schemathesis: whatever the contract allows, and what it does not, the service answers as the contract says."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.types import ASGIApp

from service_kit.testing import TestIssuer, free_port

EXAMPLES = 8


@pytest.fixture
def base_url(app: ASGIApp) -> Iterator[str]:
    """The service on a socket, in a thread: its database connections stay on one event loop."""
    port = free_port()
    config = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_every_operation_answers_as_its_contract_says(base_url: str, issuer: TestIssuer) -> None:
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    headers = {"Authorization": f"Bearer {issuer.token(roles=['admin'])}"}
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)

        @given(case=found.ok().as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: schemathesis.Case[Any]) -> None:
            # Addresses, names and passwords have rules that a schema cannot say: valid there may be a 422 here.
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        holds()
        tried += 1
    assert tried > 20
