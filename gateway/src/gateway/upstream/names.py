"""Where a service is: addresses as written, and host names that are asked for again."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from concurrent.futures import Future
from threading import Thread
from typing import Any, Final, NamedTuple

AGAIN_SECONDS: Final = 2.0
PUBLIC_PORT: Final = 8000
INTERNAL_PORT: Final = 9000
_ADDRESSES_MAX: Final = 64  # that a name leads to; those beyond get no request
_WRITTEN_MAX: Final = 64
_QUESTIONS_MAX: Final = 100  # to the name service that wait for its answer: each has a thread,
_OF_A_SERVICE: Final = 4  # and so many of them at most
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_][A-Za-z0-9._-]{0,252})(?::([0-9]{1,5}))?")
Address = tuple[str, int]


class _Question(NamedTuple):
    """What the name service is asked, and for the sake of which service first."""

    service: str
    answer: Future[Any]


_questions: dict[str, _Question] = {}  # those under way, by host: of the process, as its name service is


def parse_address(text: str, default_port: int) -> Address:
    """`orders:8000`, `orders`, `[fd00::7]:8000`."""
    found = _ADDRESS.fullmatch(text)
    port = int(found[2]) if found and found[2] else default_port
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not host:port")
    host = found[1].strip("[]")
    if host != found[1] and not is_literal(host):
        raise ValueError(f"{text!r} is not host:port")
    return host, port


def parse(text: str, default_port: int) -> list[Address]:
    """`a:8000,b` as host and port pairs; an IPv6 address stands in brackets."""
    parts = text.replace(" ", "").split(",")
    if len(parts) > _WRITTEN_MAX:
        raise ValueError(f"more than {_WRITTEN_MAX} addresses")
    return [parse_address(part, default_port) for part in parts]


def authority_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
        question.answer.set_running_or_notify_cancel()  # whoever gives up does not end it for the others
        try:
            Thread(target=_ask, args=(host, question.answer), name=f"resolve {host}", daemon=True).start()
        except RuntimeError:  # the system gives no more threads now
            del _questions[host]
            return set()
    try:
        return {str(info[4][0]) for info in await asyncio.wrap_future(question.answer)}
    except (OSError, UnicodeError):  # the latter where it can be no name
        return set()


def _ask(host: str, answer: Future[Any]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - whoever waits has to hear it
        answer.set_exception(error)
    else:
        answer.set_result(found)
    finally:
        del _questions[host]


class Endpoints(NamedTuple):
    """The binds of a service: what the gateway forwards to, and where each of them says whether it is ready."""

    public: tuple[Address, ...]
    internal: tuple[Address, ...]

    @classmethod
    def of(cls, public: Iterable[Address], internal: Iterable[Address] = ()) -> "Endpoints":
        """The internal binds are beside the public ones where nothing else is said."""
        public = tuple(public)
        return cls(public, tuple(internal) or tuple((host, INTERNAL_PORT) for host, _ in public))

    def internal_of(self, index: int, found: str) -> Address:
        """The internal bind of the replica at the address that the public host of this index leads to."""
        paired = index if len(self.internal) == len(self.public) else 0
        host, port = self.internal[paired]
        return (found if host == self.public[paired][0] else host), port


class Names:
    """The addresses that the configured hosts have now, each with its internal one."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.literal = all(is_literal(host) for host, _ in endpoints.public)
        self._asking: asyncio.Task[dict[Address, Address]] | None = None
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
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._resolve())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, _: object) -> None:
        self._asking = None

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
