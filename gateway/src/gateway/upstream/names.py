"""Where a service is: addresses as written, and host names that are asked for again."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

AGAIN_SECONDS: Final = 2.0
Address = tuple[str, int]


def parse(text: str, default_port: int) -> list[Address]:
    """`a:8000,b` as host and port pairs; an IPv6 address stands in brackets."""
    found = []
    for part in text.replace(" ", "").split(","):
        host, colon, port = part.rpartition(":")
        if not colon or (part.startswith("[") and part.endswith("]")):
            host, port = part, str(default_port)
        if not host or not port.isdigit():
            raise ValueError(f"{part!r} is not host:port")
        found.append((host.strip("[]"), int(port)))
    return found


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Names:
    """The addresses that the configured hosts have now."""

    def __init__(self, hosts: Sequence[Address]) -> None:
        self._hosts = hosts
        self.literal = all(is_literal(host) for host, _ in hosts)
        self._asking: asyncio.Task[set[Address]] | None = None

    async def resolve(self) -> set[Address]:
        """Asks now, or waits for a question already under way. A host that does not resolve has no address."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._resolve())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, _: object) -> None:
        self._asking = None

    async def _resolve(self) -> set[Address]:
        found: set[Address] = set()
        for answer in await asyncio.gather(*(self._resolve_host(host, port) for host, port in self._hosts)):
            found |= answer
        return found

    async def _resolve_host(self, host: str, port: int) -> set[Address]:
        if is_literal(host):
            return {(host, port)}
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return set()
        return {(str(info[4][0]), port) for info in infos}
