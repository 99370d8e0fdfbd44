"""Nothing synchronous on the event loop: no endpoint keeps every other request waiting."""

import asyncio
import io
import resource
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from argon2 import PasswordHasher
from conftest import PASSWORD, Service
from PIL import Image

from user_service.passwords.hashing import HASHER

# A password's hash takes 24 ms and more, decoding a picture longer; what asyncio runs in one go, a few.
LONGEST = 0.015
TRIES = 6


@pytest.fixture
def hasher() -> PasswordHasher:
    """As long a hash as everywhere else."""
    return HASHER


@contextmanager
def watched() -> Iterator[list[float]]:
    """How long each step of the loop worked or waited inside the block."""
    steps: list[float] = []
    run: Callable[[asyncio.Handle], None] = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began, worked, before = time.perf_counter(), time.thread_time(), _waits()
        run(handle)
        # A step that never gave its core away was at most interrupted: then its own work is what counts.
        waited = _waits() > before
        steps.append(time.perf_counter() - began if waited else time.thread_time() - worked)

    asyncio.Handle._run = timed  # type: ignore[method-assign,assignment] # what the loop calls for every step
    try:
        yield steps
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign,assignment] # as it was


def _waits() -> int:
    """How often this thread gave its core away of its own accord; all threads' count where a thread has none."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


async def longest_step(act: Callable[[], Coroutine[Any, Any, Any]]) -> float:
    """The longest step of the calmest try: a busy machine disturbs some tries, a blocking call all of them."""
    longest = []
    for _ in range(TRIES):
        with watched() as steps:
            await asyncio.create_task(act())
        longest.append(max(steps))
        if longest[-1] < LONGEST:
            break
    return min(longest)


def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((1500, 1500), 80).convert("RGB").save(file, "PNG")
    return file.getvalue()


async def test_a_blocking_call_is_noticed() -> None:
    async def block() -> None:
        await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - what must be noticed

    assert await longest_step(block) > LONGEST


@pytest.mark.parametrize(
    "act",
    [
        "register",
        "read",
        "change",
        "list",
        "sign_in",
        "sign_in_unknown",
        "change_password",
        "roles",
        "audit",
        "avatar",
        "reset_password",
    ],
)
async def test_no_endpoint_blocks_the_loop(service: Service, act: str) -> None:
    ada = await service.register()
    admin = service.admin()
    picture_bytes = picture() if act == "avatar" else b""
    password = PASSWORD

    async def change() -> object:
        match = {"If-Match": (await ada.client.get("/v1/users/me")).headers["etag"]}
        return await ada.client.patch("/v1/users/me", json={"name": "Grace"}, headers=match)

    async def roles() -> object:
        match = {"If-Match": (await ada.client.get("/v1/users/me")).headers["etag"]}
        return await admin.put(f"/v1/users/{ada.id}/roles", json={"roles": ["editor"]}, headers=match)

    async def change_password() -> object:
        nonlocal password
        body = {"current_password": password, "new_password": f"{PASSWORD} {time.monotonic()}"}
        password = body["new_password"]
        response = await ada.client.post("/v1/users/me/password", json=body)
        assert response.status_code == 204
        return response

    acts: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "register": service.register,
        "read": lambda: ada.client.get("/v1/users/me"),
        "change": change,
        "list": lambda: admin.get("/v1/users?limit=200"),
        "sign_in": lambda: service.verify(ada.email),
        "sign_in_unknown": lambda: service.verify("nobody@example.com"),
        "change_password": change_password,
        "roles": roles,
        "audit": lambda: admin.get(f"/v1/users/{ada.id}/audit"),
        "avatar": lambda: ada.client.put(
            "/v1/users/me/avatar", content=picture_bytes, headers={"Content-Type": "image/png"}
        ),
        "reset_password": lambda: service.anonymous.post(
            "/v1/users/password-reset", json={"email": ada.email}
        ),
    }
    assert await longest_step(acts[act]) < LONGEST
