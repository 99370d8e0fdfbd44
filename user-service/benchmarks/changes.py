"""How soon the gateway refuses the token of somebody whose roles changed or who was disabled, on a running system.

A change of password travels the same way: row and event in one transaction, outbox, stream, auth-service,
revocations, verifier.
"""

import asyncio
import secrets
import time

import httpx

EVERY_SECONDS = 0.005
AT_MOST_SECONDS = 10.0


async def measure(url: str, admin: str, password: str, rounds: int) -> list[float]:
    """Seconds from the answer to a change until its person's old token is refused, one a round, sorted."""
    async with httpx.AsyncClient(base_url=url, timeout=AT_MOST_SECONDS) as client:
        email = f"{secrets.token_hex(8)}@example.com"
        person = {"email": email, "name": "Ada", "password": password}
        path = f"/v1/users/{(await client.post('/v1/users', json=person)).raise_for_status().json()['id']}"
        by = await _sign_in(client, admin, password)
        seen = []
        for number in range(rounds):
            old = await _sign_in(client, email, password)
            (await client.get("/v1/users/me", headers=old)).raise_for_status()
            if number % 2:
                await _act(client, "POST", f"{path}/disable", by)
            else:
                match = {"If-Match": (await client.get(path, headers=by)).headers["etag"]}
                roles = {"roles": ["editor"] if number % 4 else ["support"]}
                await _act(client, "PUT", f"{path}/roles", by | match, roles)
            seen.append(await _until_refused(client, old))
            if number % 2:
                await _act(client, "POST", f"{path}/enable", by)
    return sorted(seen)


async def _sign_in(client: httpx.AsyncClient, email: str, password: str) -> dict[str, str]:
    form = {"grant_type": "password", "username": email, "password": password}
    answer = (await client.post("/auth/token", data=form)).raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def _act(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: object = None
) -> None:
    (await client.request(method, path, headers=headers, json=body)).raise_for_status()


async def _until_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> float:
    began = time.monotonic()
    while (await client.get("/v1/users/me", headers=headers)).status_code != httpx.codes.UNAUTHORIZED:
        if time.monotonic() - began > AT_MOST_SECONDS:
            raise TimeoutError("the old token still works")
        await asyncio.sleep(EVERY_SECONDS)
    return time.monotonic() - began


def show(seen: list[float]) -> None:
    middle, late, latest = (seen[int((len(seen) - 1) * part)] * 1000 for part in (0.5, 0.99, 1))
    print(f"a change was seen at the gateway, {len(seen)} rounds:")
    print(f"  p50 {middle:.0f} ms   p99 {late:.0f} ms   max {latest:.0f} ms")
