"""Asks an address whether it is ready: `/readyz` at its internal bind, which also says what release it runs."""

import asyncio
import re
from typing import Final, NamedTuple

from gateway.routing.endpoints import Address, authority_of
from gateway.upstream.resolver import resolve_host

AGAIN_SECONDS: Final = 0.25
_RESPONSE_SECONDS: Final = 2.0  # a service itself may take one to find out
_HEAD_BYTES_MAX: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_RELEASE: Final = re.compile(
    rb"\r\nx-release:[ \t]*([a-z0-9][A-Za-z0-9._-]{0,62}/[A-Za-z0-9._+-]{1,100})[ \t]*\r\n", re.IGNORECASE
)
# A server without such a page cannot say that it is not ready.
_NO_SUCH_PAGE: Final = (404, 405, 410, 501)

_UNREACHABLE: Final = (OSError, TimeoutError)


class Finding(NamedTuple):
    """What an address said. `missing`: nobody listens at the internal bind, and somebody at the public one."""

    ready: bool
    reason: str = ""
    release: str = ""
    listens: bool = True
    missing: bool = False


async def ask(service: str, address: Address, internal: Address, connect_seconds: float) -> Finding:
    """Asks once. Bounded in time and size, and fails in no way."""
    try:
        async with asyncio.timeout(connect_seconds):
            reader, writer = await _open(service, internal)
    except _UNREACHABLE:
        listens = await _listens(service, address, connect_seconds)
        where = " at its internal bind" if listens else ""
        return Finding(False, f"nobody listens{where}", listens=listens, missing=listens)
    try:
        async with asyncio.timeout(_RESPONSE_SECONDS):
            writer.write(
                b"GET /readyz HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
                % authority_of(*internal).encode()
            )
            return _read(await reader.readuntil(b"\r\n\r\n"))
    except TimeoutError:
        return Finding(False, "/readyz did not answer in time")
    except (OSError, EOFError, asyncio.LimitOverrunError):
        return Finding(False, "/readyz gave no answer that can be read")
    finally:
        writer.transport.abort()


def _read(head: bytes) -> Finding:
    status = _STATUS.match(head)
    if status is None:
        return Finding(False, "/readyz gave no answer that can be read")
    found = _RELEASE.search(head)
    release = found[1].decode() if found else ""
    code = int(status[1])
    return Finding(code == 200 or code in _NO_SUCH_PAGE, f"/readyz answered {code}", release)


async def _listens(service: str, address: Address, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            _, writer = await _open(service, address)
    except _UNREACHABLE:
        return False
    writer.transport.abort()
    return True


async def _open(service: str, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first of the host's addresses that takes one."""
    host, port = address
    fault = OSError("the name leads to no address")
    for found in sorted(await resolve_host(host, service)):
        try:
            return await asyncio.open_connection(found, port, limit=_HEAD_BYTES_MAX)
        except OSError as error:
            fault = error
    raise fault
