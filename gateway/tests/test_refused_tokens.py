"""The gateway refuses every token that no verifier may accept, and forwards none of them."""

import asyncio
import re
from pathlib import Path

from service_kit.testing.refused import REFUSED
from tests.conftest import running


async def ask(port: int, token: bytes) -> tuple[int, str, bool]:
    """Status, code, and whether the challenge is that of a refused token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /private HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %b\r\n\r\n"
        % token
    )
    async with asyncio.timeout(10):
        response = (await reader.read()).decode("latin-1")
    writer.close()
    code = re.search(r'"code":"(\w+)"', response)
    challenged = re.search(r'^WWW-Authenticate: Bearer error="invalid_token"', response, re.M | re.I)
    return int(response[9:12]), code[1] if code else "", challenged is not None


async def test_no_token_that_no_verifier_may_accept_reaches_a_service(tmp_path: Path) -> None:
    # A refused token spends ten times what a request spends.
    async with running(tmp_path, address_rate=1e6, address_burst=1_000_000) as gateway:
        told, expected = {}, {}
        for bad in REFUSED:
            token = bad.make(gateway.issuer).encode("latin-1")
            if not token or token != token.strip(b" ") or re.search(rb"[\x00-\x1f\x7f]", token):
                continue  # that is no header's value, or not this one
            told[str(bad)] = await ask(gateway.port, token)
            expected[str(bad)] = 401, bad.code, True
        assert len(told) > 250
        assert told == expected
        assert gateway.upstream.got == []
        assert (await ask(gateway.port, gateway.issuer.token().encode()))[0] == 200
