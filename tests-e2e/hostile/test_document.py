"""The published document taken at its word: generated requests at every operation, alone and in sequences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.document import operations
from gatehouse_e2e.people import People
from gatehouse_e2e.systems import System

HERE = Path(__file__).parent
# What takes a secret that only a mail, a picture or another client holds is reached by the journeys.
NEEDS_MORE_THAN_THE_DOCUMENT = {
    ("POST", "/v1/users/links/{kind}"),
    ("POST", "/v1/users/links/reset-password"),
    ("POST", "/auth/introspect"),
    ("DELETE", "/auth/sessions/{session_id}"),
    ("PUT", "/v1/users/me/avatar"),
    ("GET", "/v1/users/{id}/avatar"),
}


@pytest.mark.full
def test_no_generated_request_finds_the_system_out(
    system: System, people: People, admin: Person, full: bool, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("st")
    options = {
        "--checks": "all", "--max-examples": "100" if full else "5", "--request-timeout": "15",
        "--generation-database": "none", "--report-dir": str(tmp_path),
    } | ({"--max-time": "300"} if full else {})  # fmt: skip
    told = {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE), "E2E_URL": system.url,
        "E2E_EMAIL": admin.email, "E2E_PASSWORD": admin.password, "E2E_ADDRESS": admin.address,
        "E2E_PEOPLE": json.dumps([people.registered().id for _ in range(5)]), "E2E_SEEN": str(tmp_path / "seen"),
    }  # fmt: skip
    done = subprocess.run(
        [
            str(program), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{system.url}/openapi.json",
            "--continue-on-failure", "--no-color", *(part for option in options.items() for part in option),
        ],
        env=os.environ | told, cwd=tmp_path, capture_output=True, text=True, timeout=900 if full else 240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-25_000:] + done.stderr[-4_000:]

    statuses: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for line in (tmp_path / "seen").read_text().splitlines():
        method, path, status = line.split(" ")
        statuses[method, path][int(status)] += 1
    document = people.api(admin).http.get("/openapi.json").json()
    for operation in operations(document):
        seen = statuses[operation.method, operation.path]
        if (operation.method, operation.path) not in NEEDS_MORE_THAN_THE_DOCUMENT:
            assert any(200 <= status < 300 for status in seen), (operation, seen)
