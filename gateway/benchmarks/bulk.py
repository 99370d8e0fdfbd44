"""One large body each way: throughput against nginx, and how much the gateway's memory grows meanwhile."""

import http.client
import time
from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.load import Spoilt
from benchmarks.processes import Memory
from benchmarks.targets import Target
from benchmarks.tokens import TokenMaker

BLOCK = bytes(256 * 1024)


def measure(gateway: Target, nginx: Target, tokens: TokenMaker, rounds: int, size: int) -> dict[str, float]:
    memory = Memory(gateway.programs[0].worker())
    for target in (gateway, nginx):
        _download(target, tokens.token(), len(BLOCK))
    speeds: dict[tuple[str, str], list[float]] = {}
    growth = []
    for _ in range(rounds):
        before = memory.resident()
        memory.mark()
        for way, transfer in (("down", _download), ("up", _upload)):
            for target in (gateway, nginx):
                seconds = _timed(transfer, target, tokens.token(), size)
                speeds.setdefault((target.name, way), []).append(size / seconds / 2**20)
        growth.append((memory.peak() - before) / 2**20)
    middle = {key: median(values) for key, values in speeds.items()}
    return {
        "mib_each_way": size / 2**20,
        "rss_growth_mib": max(growth),
        **{f"{name}_{way}_mib_per_second": speed for (name, way), speed in middle.items()},
        **{f"{way}_ratio": middle[gateway.name, way] / middle[nginx.name, way] for way in ("down", "up")},
    }


def _timed(transfer: Callable[[Target, str, int], None], target: Target, token: str, size: int) -> float:
    started = time.perf_counter()
    transfer(target, token, size)
    return time.perf_counter() - started


def _download(target: Target, token: str, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    connection.request("GET", f"/v1/bulk/{size}", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    buffer, received = bytearray(BLOCK), 0
    while count := response.readinto(buffer):
        received += count
    connection.close()
    if response.status != 200 or received != size:
        raise Spoilt(f"{target.name} answered {response.status} with {received:,} of {size:,} bytes")


def _upload(target: Target, token: str, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(size)}
    connection.request("PUT", f"/v1/bulk/{size}", _blocks(size), headers)
    status = connection.getresponse().status
    connection.close()
    if status != 200:
        raise Spoilt(f"{target.name} answered {status} to an upload of {size:,} bytes")


def _blocks(size: int) -> Iterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK
