"""What we ask user-service: is this password right, and who is this person now."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from auth_service.users.bulkhead import Bulkhead
from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.http import Client, Response
from auth_service.users.models import Refused, User
from service_kit.departures import WhileConnected
from service_kit.tracing import outgoing_headers

MOST_LINKS = 8  # questions about links at once: each is one row by its key

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UsersClient:
    """Bulkheads, so that a pile of sign-ins never keeps a refresh waiting, nor a pile of refused ones a sign-in."""

    def __init__(self, url: str, token: Callable[[], str], *, timeout: float, concurrency: int) -> None:
        self._token = token
        self._http = Client(url, timeout)
        self._sign_ins = Bulkhead(self._http, concurrency, timeout)
        self._reads = Bulkhead(self._http, concurrency, timeout)
        self._links = Bulkhead(self._http, min(concurrency, MOST_LINKS), timeout)

    async def verify(
        self, email: str, password: str, network: str, while_connected: WhileConnected
    ) -> User | Refused:
        """`network` is where it is asked from: none takes the places of all others."""
        response = await while_connected(self._checked(email, password, network))
        if response.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return Refused("malformed")
        verdict = _read(response, _verdict)
        if isinstance(verdict, Refused):
            # How soon it was found would tell who has an account. Waited for here, it holds no place:
            # else a few refusals a second, for each of which one second is due, would keep everybody out. And it counts,
            # whether its caller stays to hear it or not.
            await asyncio.sleep(verdict.wait)
        return verdict

    async def _checked(self, email: str, password: str, network: str) -> Response:
        async with self._sign_ins.place(network):
            return await self._http.ask(
                "POST",
                "/internal/v1/credentials/verify?caller_waits=true",
                self._headers(),
                {"email": email, "password": password},
            )

    async def current(self, user_id: str) -> User | None:
        return await self._current(self._reads, user_id)

    async def owner_of_device(self, user_id: str, network: str) -> User | None:
        """As `current`, for somebody who is signing in."""
        return await self._current(self._sign_ins, user_id, network)

    async def followed_link(self, email: str, token: str | None = None) -> str | None:
        """The id of the link that was followed in a mail to this address within the hour: the one with this token, or
        the last one. None also while user-service cannot tell, or is older than the question."""
        try:
            async with self._links.place():
                response = await self._http.ask(
                    "POST",
                    "/internal/v1/links/followed",
                    self._headers(),
                    {"email": email, "token": token},
                )
            if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY):
                return None
            return _read(response, _followed)
        except UsersUnavailable:
            return None

    async def _current(self, bulkhead: Bulkhead, user_id: str, network: str = "") -> User | None:
        async with bulkhead.place(network):
            response = await self._http.ask(
                "GET", f"/internal/v1/users/{quote(user_id, safe='')}", self._headers()
            )
        # In these words alone: a 404 of whoever else is reached at this address must end nobody's session.
        if response.status == HTTPStatus.NOT_FOUND and _code(response) == "user_not_found":
            return None
        return _read(response, User.read)

    def close(self) -> None:
        self._http.close()

    def _headers(self) -> dict[str, str]:
        return {**outgoing_headers(), "authorization": f"Bearer {self._token()}"}


def _verdict(body: Any) -> User | Refused:
    return User.read(body["user"]) if body["verified"] else Refused.read(body)


def _followed(body: Any) -> str | None:
    return None if body["link"] is None else str(body["link"])


def _code(response: Response) -> str | None:
    """A problem's code (RFC 9457)."""
    try:
        return str(response.json()["code"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read(response: Response, reader: Callable[[Any], T]) -> T:
    """What the answer says; one that says something else is none."""
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise UsersUnavailable(_retry_after(response))
    if response.status != HTTPStatus.OK:
        logger.error("user-service answered %d", response.status)
        raise UsersUnavailable
    try:
        return reader(response.json())
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as malformed:
        logger.error("user-service's answer cannot be understood: %s", type(malformed).__name__)
        raise UsersUnavailable from malformed


def _retry_after(response: Response) -> int:
    value = response.headers.get("retry-after", "")
    return min(int(value), 60) if value.isdecimal() and len(value) < 10 else 1
