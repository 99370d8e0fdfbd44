"""What we ask user-service: is this password right, and who is this person now."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.models import Refused, User
from service_kit.tracing import outgoing_headers

RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class UsersClient:
    """Two bounded lanes, so that a pile of sign-ins never keeps a refresh waiting."""

    def __init__(self, url: str, token: Callable[[], str], *, timeout: float, concurrency: int) -> None:
        self._token = token
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 0.8)),
            limits=httpx.Limits(max_connections=2 * concurrency, keepalive_expiry=4),
            trust_env=False,
        )
        self._sign_ins = _Lane(concurrency, timeout)
        self._reads = _Lane(concurrency, timeout)

    async def verify(self, email: str, password: str) -> User | Refused:
        answer = await self._sign_ins.run(
            self._ask("POST", "/internal/v1/credentials/verify", {"email": email, "password": password})
        )
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            return Refused("malformed")
        body = _json_of(answer)
        return User.read(body["user"]) if body["verified"] else Refused(str(body["reason"]))

    async def current(self, user_id: str) -> User | None:
        answer = await self._reads.run(self._ask("GET", f"/internal/v1/users/{user_id}"))
        return None if answer.status_code == httpx.codes.NOT_FOUND else User.read(_json_of(answer))

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, json: Any = None) -> httpx.Response:
        headers = {**outgoing_headers(), "authorization": f"Bearer {self._token()}"}
        for last in (False, True):
            try:
                return await self._http.request(method, path, json=json, headers=headers)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                # A kept connection may be closed just as it is used again; both questions may be repeated.
                if last:
                    raise
        raise AssertionError


class _Lane:
    """At most `width` calls at once, the next is refused at once; each in a task that nobody cancels.

    httpx loses a pool slot for good when a call is cancelled while it connects, so a caller who goes away
    leaves the call to its own timeouts. Once a call got no answer, and no other call did meanwhile, one call a second
    finds out whether that is over; the others are refused at once.
    """

    def __init__(self, width: int, deadline: float) -> None:
        self._width = width
        self._deadline = deadline
        self._tasks: set[asyncio.Task[httpx.Response]] = set()
        self._answered_at = -math.inf
        self._next_try = 0.0  # not before then, if not 0: it is silent

    async def run(self, call: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
        began = time.monotonic()
        if len(self._tasks) >= self._width or began < self._next_try:
            call.close()
            raise UsersUnavailable
        if self._next_try:
            self._next_try = began + RETRY_SECONDS  # this one finds out
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        done, _ = await asyncio.wait({task}, timeout=self._deadline)
        failure = task.exception() if done else TimeoutError()
        if failure is None:
            return task.result()
        if not isinstance(failure, httpx.HTTPError | TimeoutError):
            raise failure
        if self._answered_at < began:
            self._next_try = time.monotonic() + RETRY_SECONDS
        logger.warning("user-service did not answer: %s", type(failure).__name__)
        raise UsersUnavailable from failure

    def _finished(self, task: asyncio.Task[httpx.Response]) -> None:
        self._tasks.discard(task)
        # An exception is retrieved also when the caller has gone.
        if not task.cancelled() and task.exception() is None:
            self._answered_at, self._next_try = time.monotonic(), 0.0


def _json_of(answer: httpx.Response) -> Any:
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise UsersUnavailable(_retry_after(answer))
    if answer.status_code != httpx.codes.OK:
        logger.error("user-service answered %d", answer.status_code)
        raise UsersUnavailable
    return answer.json()


def _retry_after(answer: httpx.Response) -> int:
    value = answer.headers.get("retry-after", "")
    return min(int(value), 60) if value.isdecimal() else 1
