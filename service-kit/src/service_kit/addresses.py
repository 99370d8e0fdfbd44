"""The client's address: X-Forwarded-For is believed from named peers only."""

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from fastapi import Request

from service_kit.resolver import resolve_host

RESOLVE_SECONDS: Final = 5.0
# Unknown peers have the names resolved again at most so often, and wait for it no longer than the second.
_MEET_SECONDS: Final = 0.2
_MEET_WAIT_SECONDS: Final = 1.0
# What a name led to while the name service cannot say; no longer, for an address may soon be somebody else's.
KEPT_SECONDS: Final = 60.0
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
# What some proxies write: 192.0.2.1:80, [2001:db8::1]:80, [2001:db8::1]. Without brackets the last colon could be either.
_WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]*:[^\[\]]*)\]|([0-9.]+)(?=:))(?::([0-9]{1,5}))?")
_MOST_PORT: Final = 65535
# A proxy may call a WebSocket by a scheme of its own (RFC 6455, section 3); its origin is that of the page.
_SCHEMES: Final = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}

logger = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """The rule. Peers are addresses, CIDRs or host names; names are resolved again while `run` runs."""

    def __init__(self, peers: Iterable[str]) -> None:
        self._networks: list[Network] = []
        self._names: list[str] = []
        for peer in peers:
            try:
                self._networks.append(ipaddress.ip_network(peer, strict=False))
            except ValueError:
                self._names.append(peer)
        self._resolved: frozenset[Address] = frozenset()
        self._kept: dict[str, tuple[frozenset[Address], float]] = {}  # by name, and until when
        self._meeting: asyncio.Task[None] | None = None
        self._meet_again = 0.0

    def trusts(self, peer: str) -> bool:
        """Whether what this peer says about a request's origin is believed."""
        address = _parsed(peer)
        return address is not None and self._holds(address)

    def of(self, peer: str, forwarded_for: Sequence[bytes]) -> str:
        """The rightmost untrusted address, given the connection's peer and every X-Forwarded-For value in order."""
        address = _parsed(peer)
        if address is None or not self._holds(address):
            return peer
        entries = b",".join(forwarded_for).split(b",") if forwarded_for else []
        for entry in reversed(entries):
            named = _named(entry.strip(b" \t").decode("latin-1"))
            if named is None:
                break  # whoever wrote this entry was not understood, so nothing left of it is believed
            address = named
            if not self._holds(named):
                break
        return str(address)

    def scheme(self, peer: str, forwarded_proto: Sequence[bytes], default: str) -> str:
        """http or https: X-Forwarded-Proto's if the peer is trusted and all of it agrees, else the connection's own."""
        if forwarded_proto and self.trusts(peer):
            said = {_SCHEMES.get(one.strip(b" \t").lower()) for one in b",".join(forwarded_proto).split(b",")}
            if len(said) == 1 and (scheme := said.pop()) is not None:
                return scheme
        return default

    async def resolve(self) -> None:
        """Resolve the host names once. A name that does not exist is nobody's; one that the name service cannot tell
        now stands for a while for what it stood for."""
        found: set[Address] = set()
        for name in self._names:
            found |= await self._addresses_of(name)
        if found != self._resolved:
            logger.info("the trusted peers' names now stand for %d addresses", len(found))
            self._resolved = frozenset(found)

    async def _addresses_of(self, name: str) -> frozenset[Address]:
        loop = asyncio.get_running_loop()
        try:
            hosts = await resolve_host(name)
        except OSError as error:
            kept, until = self._kept.get(name, (frozenset(), 0.0))
            return frozenset() if error.errno in _NO_SUCH_NAME or loop.time() >= until else kept
        found = frozenset(address for host in hosts if (address := _parsed(host)) is not None)
        self._kept[name] = found, loop.time() + KEPT_SECONDS
        return found

    async def meet(self, peer: str) -> None:
        """Resolves the names now if the peer is unknown: a gateway that has just started forwards before `run` looks."""
        if not self._names or self.trusts(peer):
            return
        now = asyncio.get_running_loop().time()
        if self._meeting is None or (self._meeting.done() and now >= self._meet_again):
            self._meeting = asyncio.create_task(self.resolve())
            self._meet_again = now + _MEET_SECONDS
        await asyncio.wait([self._meeting], timeout=_MEET_WAIT_SECONDS)

    async def run(self) -> None:
        """Resolve the host names again and again until cancelled."""
        while self._names:
            await self.resolve()
            await asyncio.sleep(RESOLVE_SECONDS)

    def _holds(self, address: Address) -> bool:
        return address in self._resolved or any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def networks_of(address: str, ipv4_bits: tuple[int, ...], ipv6_bits: tuple[int, ...]) -> tuple[str, ...]:
    """The networks of so many bits that an address is in; what is no address is in the one named `unknown`."""
    parsed = _parsed(address)
    if parsed is None:
        return ("unknown",)
    lengths = ipv4_bits if isinstance(parsed, ipaddress.IPv4Address) else ipv6_bits
    return tuple(str(ipaddress.ip_network((parsed, bits), strict=False)) for bits in lengths)


async def client_address(request: Request) -> str:
    """The client's address by `app.state.client_address`, a ClientAddress."""
    rule: ClientAddress = request.app.state.client_address
    peer = request.client.host if request.client else ""
    values = [value for name, value in request.scope["headers"] if name == b"x-forwarded-for"]
    if values:
        await rule.meet(peer)
    return rule.of(peer, values)


def _named(entry: str) -> Address | None:
    """The address that an entry of X-Forwarded-For names, with or without the port it came from."""
    found = _WITH_PORT.fullmatch(entry)
    if found is None:
        return _parsed(entry)
    inside, plain, port = found.groups()
    return None if port and int(port) > _MOST_PORT else _parsed(inside or plain)


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    # A dual-stack socket tells an IPv4 peer as ::ffff:192.0.2.1: the same party. And what follows a % names an
    # interface: it is another machine's word, and may be any text.
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
