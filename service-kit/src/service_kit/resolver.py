"""The addresses that a host name has now. Names without an answer hold up neither the event loop nor other names."""

import asyncio
import ipaddress
import socket
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Final, NamedTuple

LOOKUPS_MAX: Final = 100  # under way in the process: each has a thread,
SERVICE_LOOKUPS_MAX: Final = 4  # and those begun for one service


class _Lookup(NamedTuple):
    service: str
    addresses: Future[frozenset[str]]


_lookups: dict[str, _Lookup] = {}  # those under way, by host: of the process, as its name service is


async def resolve_host(host: str, service: str = "") -> frozenset[str]:
    """Raises OSError: EAI_NONAME for what can be no name, EAI_AGAIN while too many lookups are under way.

    Each host has a thread of its own, and one lookup at a time. In the threads of the event loop two hosts without an
    answer would hold up every other one, the stores' among them.
    """
    if is_literal(host):
        return frozenset((host,))
    lookup = _lookups.get(host) or _start(host, service)
    try:
        return await asyncio.wrap_future(lookup.addresses)
    except UnicodeError as error:  # a label too long for a name
        raise socket.gaierror(socket.EAI_NONAME, "it can be no name") from error


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _start(host: str, service: str) -> _Lookup:
    begun = sum(one.service == service for one in list(_lookups.values())) if service else 0
    if len(_lookups) >= LOOKUPS_MAX or begun >= SERVICE_LOOKUPS_MAX:
        raise socket.gaierror(socket.EAI_AGAIN, "too many lookups are under way")
    lookup = _lookups[host] = _Lookup(service, Future())
    lookup.addresses.set_running_or_notify_cancel()  # a caller that gives up does not end it for the others
    try:
        Thread(target=_look_up, args=(host, lookup.addresses), name=f"resolve {host}", daemon=True).start()
    except RuntimeError as error:
        del _lookups[host]
        raise socket.gaierror(socket.EAI_AGAIN, "the system gives no more threads now") from error
    return lookup


def _look_up(host: str, addresses: Future[frozenset[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - every caller that waits has to hear it
        finish = partial(addresses.set_exception, error)
    else:
        finish = partial(addresses.set_result, frozenset(str(info[4][0]) for info in found))
    del _lookups[host]  # first: a caller that heard this and asks again gets a lookup of its own
    finish()
