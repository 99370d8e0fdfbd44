"""Origins as RFC 6454 compares them: scheme, host and port, where each scheme has its port and a WebSocket is HTTP."""

import re
from typing import Final, NamedTuple

_ORIGIN: Final = re.compile(
    rb"(http|https|ws|wss)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE
)
_HTTP: Final = {b"http": b"http", b"ws": b"http", b"https": b"https", b"wss": b"https"}
_PORTS: Final = {b"http": 80, b"https": 443}
_LOOPBACK: Final = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))


class Origin(NamedTuple):
    """Equal where a browser would call two of them the same origin."""

    scheme: bytes
    host: bytes
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the page comes from the machine of whoever looks at it."""
        return self.host in _LOOPBACK

    def __bytes__(self) -> bytes:
        """As a browser writes it: without the port that goes without saying."""
        place = self.scheme + b"://" + self.host
        return place if self.port == _PORTS[self.scheme] else b"%b:%d" % (place, self.port)


def parse(text: bytes) -> Origin | None:
    """None for what is no origin, or an opaque one (`null`)."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match.groups()
    scheme = _HTTP[scheme.lower()]
    return Origin(scheme, host.lower(), int(port) if port else _PORTS[scheme])
