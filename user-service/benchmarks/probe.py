"""`python -m benchmarks.probe PORT SECONDS`: how many seconds each look at /healthz took, as JSON.

A process of its own, so that nothing but the service, and the machine, keep it waiting. With PORT alone it is a
server that does nothing: a look at that tells what the machine's part is.
"""

import asyncio
import http.client
import json
import sys
import time
from contextlib import suppress

PER_SECOND = 50


def look(port: int, seconds: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    time.sleep(0.5)  # sign-ins are under way
    waits, began = list[float](), time.perf_counter()
    for number in range(int(seconds * PER_SECOND)):
        # From when it was due, if the answer before came later: a loop at a standstill is not asked less.
        asked = began + number / PER_SECOND
        if (early := asked - time.perf_counter()) > 0:
            time.sleep(early)
            asked = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        waits.append(time.perf_counter() - asked)
    json.dump(waits, sys.stdout)


async def do_nothing(port: int) -> None:
    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    await (await asyncio.start_server(response, "127.0.0.1", port)).serve_forever()


if __name__ == "__main__":
    if sys.argv[2:]:
        look(int(sys.argv[1]), float(sys.argv[2]))
    else:
        asyncio.run(do_nothing(int(sys.argv[1])))
