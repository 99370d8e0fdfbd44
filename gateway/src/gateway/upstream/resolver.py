"""The addresses that host names have now: asked for again and again, and never on the event loop."""

import asyncio
import socket
from concurrent.futures import Future
from threading import Thread
from typing import Any, Final, NamedTuple

from gateway.routing.endpoints import Address, Endpoints, is_literal

AGAIN_SECONDS: Final = 2.0
_ADDRESSES_MAX: Final = 64  # that a name leads to; those beyond get no request
_QUESTIONS_MAX: Final = 100  # to the name service that wait for its answer: each has a thread,
_OF_A_SERVICE: Final = 4  # and so many of them at most


class _Question(NamedTuple):
    """What the name service is asked, and for the sake of which service first."""

    service: str
    response: Future[Any]


_questions: dict[str, _Question] = {}  # those under way, by host: of the process, as its name service is


async def resolve_host(host: str, service: str = "") -> set[str]:
    """Its addresses now; none if it does not resolve, or while too many hosts of that service are asked for.

    Each host is asked for in a thread of its own, and once at a time. In those of the event loop two hosts without an
    answer would keep every other one from being asked for, the stores' among them.
    """
    if is_literal(host):
        return {host}
    question = _questions.get(host)
    if question is None:
        asked_for = sum(one.service == service for one in _questions.values()) if service else 0
        if len(_questions) >= _QUESTIONS_MAX or asked_for >= _OF_A_SERVICE:
            return set()
        question = _questions[host] = _Question(service, Future())
        question.response.set_running_or_notify_cancel()  # whoever gives up does not end it for the others
        try:
            Thread(target=_ask, args=(host, question.response), name=f"resolve {host}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads now
            del _questions[host]
            return set()
    try:
        return {str(info[4][0]) for info in await asyncio.wrap_future(question.response)}
    except (OSError, UnicodeError):  # the latter where it can be no name
        return set()


def _ask(host: str, response: Future[Any]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - whoever waits has to hear it
        response.set_exception(error)
    else:
        response.set_result(found)
    finally:
        del _questions[host]


class Resolver:
    """The addresses that the configured hosts have now, each with its internal one."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.literal = all(is_literal(host) for host, _ in endpoints.public)
        self._lookup: asyncio.Task[dict[Address, Address]] | None = None
        self._places = asyncio.Semaphore(_OF_A_SERVICE)

    @property
    def written(self) -> dict[Address, Address]:
        """The addresses, where all of them are literal."""
        public = self._endpoints.public
        return {
            address: self._endpoints.internal_of(index, address[0]) for index, address in enumerate(public)
        }

    async def resolve(self) -> dict[Address, Address]:
        """Asks now, or waits for a question already under way. A host that does not resolve has no address."""
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._resolve())
            self._lookup.add_done_callback(self._forget_lookup)
        return await asyncio.shield(self._lookup)

    def _forget_lookup(self, _: object) -> None:
        self._lookup = None

    async def _resolve(self) -> dict[Address, Address]:
        found: dict[Address, Address] = {}
        hosts = self._endpoints.public
        for index, addresses in enumerate(
            await asyncio.gather(*(self._resolve_host(host) for host, _ in hosts))
        ):
            for host in sorted(addresses):
                if len(found) < _ADDRESSES_MAX:
                    found[host, hosts[index][1]] = self._endpoints.internal_of(index, host)
        return found

    async def _resolve_host(self, host: str) -> set[str]:
        async with self._places:
            return await resolve_host(host)
