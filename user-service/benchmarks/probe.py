"""`python -m benchmarks.probe PORT SECONDS`: how many seconds each look at /healthz took, as JSON.

A process of its own, so that nothing but the service keeps it waiting.
"""

import http.client
import json
import sys
import time

PER_SECOND = 50


def main(port: int, seconds: float) -> None:
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


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
