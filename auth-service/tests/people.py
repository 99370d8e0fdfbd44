"""A user-service of real shape: the two internal routes over real HTTP, and the events it would send."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse


class People:
    """Who exists, and how the service behaves."""

    PASSWORD = "correct horse battery staple"

    def __init__(self) -> None:
        self.url = ""
        self.over = asyncio.Event()
        self.under_way = 0
        self.reset()

    def reset(self) -> None:
        self.over.set()  # whoever still waits for a delay
        self.over = asyncio.Event()
        self.known: dict[str, dict[str, Any]] = {}
        self.passwords: dict[str, str] = {}
        self.delay = 0.0
        self.status: int | None = None
        self.raw: Response | None = None  # instead of any answer
        self.requests: list[Request] = []
        self.links: dict[
            str, str
        ] = {}  # the tokens of links that were followed, and the addresses they were mailed to
        self.most_under_way = 0
        self.add("ada@example.com")

    def add(self, email: str, *roles: str) -> dict[str, Any]:
        person = {
            "id": str(uuid4()),
            "status": "active",
            "roles": list(roles),
            "credentials_version": 1,
            "sessions_cv": 1,
            "email_verified": True,
        }
        self.known[email] = person
        return person

    def __getitem__(self, email: str) -> dict[str, Any]:
        return self.known[email]

    def verdict(self, email: str, password: str) -> dict[str, Any]:
        person = self.known.get(email)
        if person is None:
            return {"verified": False, "reason": "unknown"}
        if password != self.passwords.get(email, self.PASSWORD):
            return {"verified": False, "reason": "wrong_password"}
        if person["status"] != "active":
            return {"verified": False, "reason": "disabled"}
        return {"verified": True, "user": person}

    def by_id(self, user_id: str) -> dict[str, Any] | None:
        return next((person for person in self.known.values() if person["id"] == user_id), None)

    def followed(self, email: str, token: str | None) -> str | None:
        found = [each for each, to in self.links.items() if to == email and token in (None, each)]
        return f"id-of-{found[-1]}" if found else None

    @property
    def hashed(self) -> int:
        """How many passwords were checked."""
        return sum(each.url.path.endswith("/verify") for each in self.requests)

    def change(self, email: str, *, ending: bool = True, **members: Any) -> dict[str, str]:
        """What a password change, a demotion or disabling does; returns the event that goes with it."""
        person = self.known[email]
        person.update(members, credentials_version=person["credentials_version"] + 1)
        if ending:
            person["sessions_cv"] = person["credentials_version"]
        return {
            "id": str(uuid4()),
            "type": "user.credentials_changed",
            "sub": person["id"],
            "cv": str(person["credentials_version"]),
            "sessions_cv": str(person["sessions_cv"]),
            "at": "2026-11-25T05:00:00Z",
            "request_id": "a-request",
        }


class Instead(Exception):
    """Answer with `raw`."""


def make_app(people: People) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(Instead)
    async def raw(_: Request, __: Instead) -> Response:
        assert people.raw is not None
        return people.raw

    async def behave(request: Request) -> None:
        people.requests.append(request)
        people.under_way += 1
        people.most_under_way = max(people.most_under_way, people.under_way)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(people.delay):
                    await people.over.wait()
        finally:
            people.under_way -= 1
        if people.raw is not None:
            raise Instead
        if people.status is not None:
            raise HTTPException(people.status, headers={"Retry-After": "7"})

    @app.post("/internal/v1/credentials/verify")
    async def verify(request: Request) -> dict[str, Any]:
        given = await request.json()
        await behave(request)
        if len(given["password"]) > 1024:
            raise HTTPException(422)
        return people.verdict(given["email"], given["password"])

    @app.post("/internal/v1/links/followed")
    async def followed(request: Request) -> dict[str, Any]:
        asked = await request.json()
        await behave(request)
        return {"link": people.followed(**asked)}

    @app.get("/internal/v1/users/{user_id}")
    async def read(user_id: str, request: Request) -> Any:
        await behave(request)
        person = people.by_id(user_id)
        return JSONResponse({"code": "user_not_found"}, 404) if person is None else person

    return app


@asynccontextmanager
async def serve_people(port: int = 0) -> AsyncIterator[People]:
    people = People()
    # Of TCP by name: to others asyncio gives no TCP_NODELAY, and each answer would come 40 ms late.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    people.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(make_app(people), log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield people
    finally:
        people.over.set()
        server.should_exit = True
        await task
