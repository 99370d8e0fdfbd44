"""How soon verifiers refuse the token of somebody whose password or roles changed, or who was disabled.

On a running system: row and event in one transaction, outbox, stream, auth-service, revocations, verifier.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any

import httpx

EVERY_SECONDS = 0.005
AT_MOST_SECONDS = 10.0
PER_PERSON = 15  # rounds; a third of them change the password, which nobody may do more often in a minute


async def measure(
    url: str,
    admin: str,
    password: str,
    rounds: int,
    *,
    verifiers: Sequence[str] = (),
    hooks: dict[str, list[Any]] | None = None,
) -> list[float]:
    """Seconds from the answer to a change until every verifier refuses the old token, one a round, sorted.

    `verifiers` are URLs beside the gateway's own; `hooks` are httpx's.
    """
    async with httpx.AsyncClient(base_url=url, timeout=AT_MOST_SECONDS, event_hooks=hooks) as client:
        seen = list[float]()
        for number in range(rounds):
            if number % PER_PERSON == 0:
                email, path = await _register(client, password)
                by = await _sign_in(client, admin, password)
            old = await _sign_in(client, email, password)
            (await client.get("/v1/users/me", headers=old)).raise_for_status()
            if number % 3 == 0:
                match = {"If-Match": (await client.get(path, headers=by)).headers["etag"]}
                roles = {"roles": ["editor"] if number % 2 else ["support"]}
                await _act(client, "PUT", f"{path}/roles", by | match, roles)
            elif number % 3 == 1:
                await _act(client, "POST", f"{path}/disable", by)
            else:
                # To the very same one: a change like any other.
                passwords = {"current_password": password, "new_password": password}
                await _act(client, "POST", "/v1/users/me/password", old, passwords)
            seen.append(await _until_refused(client, old, [url, *verifiers]))
            if number % 3 == 1:
                await _act(client, "POST", f"{path}/enable", by)
    return sorted(seen)


async def _register(client: httpx.AsyncClient, password: str) -> tuple[str, str]:
    email = f"{secrets.token_hex(8)}@example.com"
    person = {"email": email, "name": "Ada", "password": password}
    response = (await client.post("/v1/users", json=person)).raise_for_status()
    return email, f"/v1/users/{response.json()['id']}"


async def _sign_in(client: httpx.AsyncClient, email: str, password: str) -> dict[str, str]:
    form = {"grant_type": "password", "username": email, "password": password}
    response = (await client.post("/auth/token", data=form)).raise_for_status()
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def _act(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: object = None
) -> None:
    (await client.request(method, path, headers=headers, json=body)).raise_for_status()


async def _until_refused(client: httpx.AsyncClient, headers: dict[str, str], verifiers: list[str]) -> float:
    began = time.monotonic()

    async def refused(url: str) -> None:
        while (
            await client.get(f"{url}/v1/users/me", headers=headers)
        ).status_code != httpx.codes.UNAUTHORIZED:
            if time.monotonic() - began > AT_MOST_SECONDS:
                raise TimeoutError(f"the old token still works at {url}")
            await asyncio.sleep(EVERY_SECONDS)

    await asyncio.gather(*map(refused, verifiers))
    return time.monotonic() - began


def show(seen: list[float]) -> None:
    middle, late, latest = (seen[int((len(seen) - 1) * part)] * 1000 for part in (0.5, 0.99, 1))
    print(f"a change was seen, {len(seen)} rounds:")
    print(f"  p50 {middle:.0f} ms   p99 {late:.0f} ms   max {latest:.0f} ms")
