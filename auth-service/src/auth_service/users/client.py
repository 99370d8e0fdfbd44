"""What we ask user-service: is this password right, and who is this person now."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.http import Answer, Client, NoAnswer
from auth_service.users.models import Refused, User
from service_kit.departures import WhileConnected
from service_kit.tracing import outgoing_headers

RETRY_SECONDS = 1.0
MOST_LINKS = 8  # questions about links at once: each is one row by its key

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UsersClient:
    """Bounded lanes, so that a pile of sign-ins never keeps a refresh waiting, nor a pile of refused ones a sign-in."""

    def __init__(self, url: str, token: Callable[[], str], *, timeout: float, concurrency: int) -> None:
        self._token = token
        self._http = Client(url, timeout)
        self._sign_ins = _Lane(self._http, concurrency, timeout)
        self._reads = _Lane(self._http, concurrency, timeout)
        self._links = _Lane(self._http, min(concurrency, MOST_LINKS), timeout)

    async def verify(self, email: str, password: str, while_connected: WhileConnected) -> User | Refused:
        answer = await while_connected(self._checked(email, password))
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return Refused("malformed")
        verdict = _read(answer, _verdict)
        if isinstance(verdict, Refused):
            # How soon it was found would tell who has an account. Waited for here, it holds no place in the lane:
            # else a few refusals a second, for each of which one second is due, would keep everybody out. And it counts,
            # whether its caller stays to hear it or not.
            await asyncio.sleep(verdict.wait)
        return verdict

    async def _checked(self, email: str, password: str) -> Answer:
        async with self._sign_ins.place():
            return await self._http.ask(
                "POST",
                "/internal/v1/credentials/verify?caller_waits=true",
                self._headers(),
                {"email": email, "password": password},
            )

    async def current(self, user_id: str) -> User | None:
        return await self._current(self._reads, user_id)

    async def owner_of_device(self, user_id: str) -> User | None:
        """As `current`, for somebody who is signing in."""
        return await self._current(self._sign_ins, user_id)

    async def followed_link(self, email: str, token: str | None = None) -> str | None:
        """The id of the link that was followed in a mail to this address within the hour: the one with this token, or
        the last one. None also while user-service cannot tell, or is older than the question."""
        try:
            async with self._links.place():
                answer = await self._http.ask(
                    "POST",
                    "/internal/v1/links/followed",
                    self._headers(),
                    {"email": email, "token": token},
                )
            if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
                return None
            return _read(answer, _followed)
        except UsersUnavailable:
            return None

    async def _current(self, lane: "_Lane", user_id: str) -> User | None:
        async with lane.place():
            answer = await self._http.ask(
                "GET", f"/internal/v1/users/{quote(user_id, safe='')}", self._headers()
            )
        # In these words alone: a 404 of whoever else is reached at this address must end nobody's session.
        if answer.status == HTTPStatus.NOT_FOUND and _code(answer) == "user_not_found":
            return None
        return _read(answer, User.read)

    def close(self) -> None:
        self._http.close()

    def _headers(self) -> dict[str, str]:
        return {**outgoing_headers(), "authorization": f"Bearer {self._token()}"}


class _Lane:
    """At most `width` calls at once, each within its deadline; the next is refused at once.

    Once a call got no answer, no other call did meanwhile, and no address is left to try, one call a second finds out
    whether that is over; the others are refused at once.
    """

    def __init__(self, http: Client, width: int, deadline: float) -> None:
        self._http = http
        self._free = width
        self._deadline = deadline
        self._answered_at = -math.inf
        self._next_try = 0.0  # not before then, if not 0: it is silent

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        began = time.monotonic()
        if self._free < 1 or began < self._next_try:
            raise UsersUnavailable
        if self._next_try:
            self._next_try = began + RETRY_SECONDS  # this one finds out
        self._free -= 1
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except (NoAnswer, TimeoutError) as failure:
            if self._answered_at < began and self._http.failing:
                self._next_try = time.monotonic() + RETRY_SECONDS
            logger.warning("user-service did not answer: %s", str(failure) or type(failure).__name__)
            raise UsersUnavailable from failure
        else:
            self._answered_at, self._next_try = time.monotonic(), 0.0
        finally:
            self._free += 1


def _verdict(body: Any) -> User | Refused:
    return User.read(body["user"]) if body["verified"] else Refused.read(body)


def _followed(body: Any) -> str | None:
    return None if body["link"] is None else str(body["link"])


def _code(answer: Answer) -> str | None:
    """A problem's code (RFC 9457)."""
    try:
        return str(answer.json()["code"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read(answer: Answer, reader: Callable[[Any], T]) -> T:
    """What the answer says; one that says something else is none."""
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise UsersUnavailable(_retry_after(answer))
    if answer.status != HTTPStatus.OK:
        logger.error("user-service answered %d", answer.status)
        raise UsersUnavailable
    try:
        return reader(answer.json())
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as malformed:
        logger.error("user-service's answer cannot be understood: %s", type(malformed).__name__)
        raise UsersUnavailable from malformed


def _retry_after(answer: Answer) -> int:
    value = answer.headers.get("retry-after", "")
    return min(int(value), 60) if value.isdecimal() and len(value) < 10 else 1
