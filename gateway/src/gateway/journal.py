"""What is kept of each request: one line in the access log, plain integers for the metrics."""

import logging
import os
import time
from bisect import bisect_left
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Final

from service_kit.problems import Problem

if TYPE_CHECKING:
    from gateway.pipeline import Passage

_log = logging.getLogger("gateway.access")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FLUSH_AT: Final = 256


class Series:
    """Requests of one route, method and status."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)


class Journal:
    """Lines are collected and written a few at a time: a write a request would cost more than the rest of the line."""

    def __init__(self, share: float) -> None:
        self._lines: list[str] = []
        self._share = share
        self._owed = 0.0
        self._process = os.getpid()
        self.series: dict[tuple[str, str, bytes, int], Series] = {}
        self.refusals: dict[str, int] = {}

    def record(self, passage: "Passage", status: int, sent: int, started: float, code: str = "") -> None:
        """One request is over. `started` is a perf_counter reading; `code` says why it was not served."""
        seconds = time.perf_counter() - started
        route, method = passage.route, passage.head.method
        key = (route.service, route.name, method, status)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.count += 1
        series.seconds += seconds
        series.buckets[bisect_left(BUCKETS, seconds)] += 1
        if code:
            self.refusals[code] = self.refusals.get(code, 0) + 1
        if self._share < 1.0 and status < 500:
            self._owed += self._share
            if self._owed < 1.0:
                return
            self._owed -= 1.0
        subject = quoted(passage.caller.subject) if passage.caller is not None else "-"
        self._write(
            f"{method.decode()} {passage.head.path.decode()} {status} {sent} B {seconds:.6f} s "
            f"client={passage.client.decode()} service={route.service} route={route.name} subject={subject} "
            f"code={code or '-'} request_id={passage.request_id.decode()} trace_id={passage.trace[3:35].decode()}"
        )

    def refused(self, peer: bytes, request_id: bytes, problem: Problem) -> None:
        """Something came that could not be read as a request."""
        self.refusals[problem.code] = self.refusals.get(problem.code, 0) + 1
        self._write(
            f"unread {int(problem.status)} client={peer.decode()} code={problem.code} request_id={request_id.decode()}"
        )

    def _write(self, fields: str) -> None:
        self._lines.append(fields)
        if len(self._lines) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            _log.info(line)
