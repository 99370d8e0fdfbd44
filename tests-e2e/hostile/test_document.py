"""The published document taken at its word: generated requests at every operation, alone and in sequences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_e2e.api import Api, Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.document import operations
from gatehouse_e2e.people import People
from gatehouse_e2e.systems import Embedded, System

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SEED = 1  # of the quick run: two runs of one commit ask the same; FULL=1 asks anew each time
CREW = 6  # callers who take turns, so that no limit of one of them hides what is behind it
# What takes a secret that only a mail or another client holds is reached by the journeys.
NEEDS_MORE_THAN_THE_DOCUMENT = {
    ("POST", "/v1/users/links/{kind}"),
    ("POST", "/v1/users/links/confirm-registration"),
    ("POST", "/v1/users/links/reset-password"),
    ("POST", "/auth/introspect"),
}
Seen = dict[tuple[str, str], Counter[int]]


@pytest.mark.parametrize("who", ["an administrator", "a person", "nobody"])
def test_no_generated_request_finds_the_system_out(
    who: str, system: System, people: People, full: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    crew = [] if who == "nobody" else [people.registered() for _ in range(CREW)]
    spared: list[Person] = []
    if who == "an administrator":
        spared.append(request.getfixturevalue("first_admin"))
        for one in crew:
            people.promote(request.getfixturevalue("admin"), one)
    seen, _ = generated(
        system,
        people,
        crew,
        tmp_path,
        examples=30 if full else 4,
        seed=None if full else SEED,
        spared=spared,
    )
    for operation in operations(api_document(people)):
        statuses = seen[operation.method, operation.path]
        served = any(200 <= status < 300 for status in statuses)
        if who == "an administrator":
            reached = served or (operation.method, operation.path) in NEEDS_MORE_THAN_THE_DOCUMENT
            assert reached, (operation, statuses)
        if who == "nobody" and not operation.public:
            assert not served, (operation, statuses)


@pytest.mark.full
def test_a_run_that_outlives_its_tokens_is_hardly_ever_refused_for_them(
    short_lived: System, tmp_path: Path
) -> None:
    """Five minutes with access tokens of 30 s."""
    people = People(short_lived.url)
    first = people.registered()
    short_lived.make_admin(first.email)
    people.sign_in(first)
    assert first.tokens.expires_in == 30
    crew = [people.registered() for _ in range(CREW)]
    for one in crew:
        people.promote(first, one)
    _, with_a_good_token = generated(
        short_lived, people, crew, tmp_path, examples=100, seconds=300, spared=[first]
    )
    for operation in operations(api_document(people)):
        statuses = with_a_good_token[operation.method, operation.path]
        if not operation.public:
            assert any(200 <= status < 300 for status in statuses), (operation, statuses)
            assert statuses[401] <= max(1, statuses.total() // 50), (operation, statuses)
    people.close()


def test_every_operation_of_each_contract_is_published_and_nothing_else(system: System, api: Api) -> None:
    """So that what runs against the published document runs against each service's own contract."""
    document = api.http.get("/openapi.json").json()
    published = {(one.method, one.path) for one in operations(document)}
    contracts = [
        file for name in ("auth-service", "user-service") for file in [ROOT / name / "contract/openapi.json"]
    ]
    promised = set[tuple[str, str]]()
    for file in contracts:
        contract = json.loads(file.read_text())
        for path, item in contract["paths"].items():
            for method, operation in item.items():
                promised.add((method.upper(), path))
                told = document["paths"].get(path, {}).get(method, {})
                assert set(operation["responses"]) <= set(told.get("responses", ())), (method, path)
    ours = {"auth-service", "user-service"}
    if {part["name"] for part in document["x-services"]} - {"gateway"} == ours:
        assert published == promised
    else:
        assert promised <= published  # services of others stand beside ours


@pytest.fixture
def short_lived(system: System) -> Iterator[System]:
    """The system with access tokens that live 30 s."""
    if isinstance(system, Compose):
        system.up(print, overlays=["compose.short-lived.yaml"])
        try:
            yield system
        finally:
            system.up(print)
    elif isinstance(system, Embedded):
        another = Embedded.start(system.checkout, ACCESS_TOKEN_SECONDS="30")
        try:
            yield another
        finally:
            another.stop()
    else:
        pytest.skip(f"how long a token lives is a setting, and {system.url} is not ours")


def api_document(people: People) -> dict[str, Any]:
    return dict(people.api(people.stranger()).http.get("/openapi.json").json())


def generated(
    system: System,
    people: People,
    crew: list[Person],
    folder: Path,
    *,
    examples: int,
    seconds: int | None = None,
    seed: int | None = None,
    spared: list[Person],
) -> tuple[Seen, Seen]:
    """Runs schemathesis as the crew; how often each operation answered what: to anybody, and to the crew's tokens.

    A sequence finds everybody in the list of people; who is spared is changed by none of it.
    """
    options = {
        "--max-examples": examples, "--max-time": seconds, "--seed": seed, "--request-timeout": 15,
        "--generation-database": "none", "--report-dir": folder,
    }  # fmt: skip
    told = {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE), "E2E_URL": system.url,
        "E2E_CALLERS": json.dumps([{"id": one.id, "email": one.email, "password": one.password} for one in crew]),
        "E2E_PEOPLE": json.dumps([people.registered().id for _ in range(5)]), "E2E_SEEN": str(folder / "seen"),
        "E2E_SPARED": json.dumps([one.id for one in spared]),
    }  # fmt: skip
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")), "--config-file", str(HERE / "schemathesis.toml"),
            "run", f"{system.url}/openapi.json", "--continue-on-failure", "--no-color",
            *(part for name, value in options.items() if value is not None for part in (name, str(value))),
        ],
        env=os.environ | told, cwd=folder, capture_output=True, text=True, timeout=1000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-25_000:] + done.stderr[-4_000:]
    everything: Seen = defaultdict(Counter)
    with_our_token: Seen = defaultdict(Counter)
    for line in (folder / "seen").read_text().splitlines():
        one = json.loads(line)
        everything[one["method"], one["path"]][one["status"]] += 1
        if one["ours"]:
            with_our_token[one["method"], one["path"]][one["status"]] += 1
    return everything, with_our_token
