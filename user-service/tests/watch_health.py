"""`python watch_health.py PORT`: look at /healthz until standard input ends; then how long each look took, in seconds.

A process of its own, so that nothing but the service can keep it waiting.
"""

import http.client
import json
import select
import sys
import time


def main(port: int) -> None:
    took = list[float]()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        took.append(time.perf_counter() - began)
        if response.status != 200:
            sys.exit(f"/healthz answers {response.status}")
    json.dump(took, sys.stdout)


main(int(sys.argv[1]))
