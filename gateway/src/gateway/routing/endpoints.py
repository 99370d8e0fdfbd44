"""Where a service is, as it is written: hosts and ports, public and internal."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from service_kit.resolver import is_literal

PUBLIC_PORT: Final = 8000
INTERNAL_PORT: Final = 9000
_WRITTEN_MAX: Final = 64
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_][A-Za-z0-9._-]{0,252})(?::([0-9]{1,5}))?")
Address = tuple[str, int]


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
