"""Upstream that takes one second for each answer, for as many requests at once as come."""

import asyncio
import os
import socket

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Slow(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):  # the suite sends heads only
            asyncio.get_running_loop().call_later(1.0, self.transport.write, ANSWER)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(
        Slow, "127.0.0.1", int(os.environ["PORT"]), family=socket.AF_INET, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
