"""What is kept of each request: one line in the access log, plain integers for the metrics."""

import logging
import os
import threading
import time
from bisect import bisect_left
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple

from gateway.policy.proxy_request import ProxyRequest
from service_kit.logs import Finished, Json, Short, nameless
from service_kit.problems import Problem
from service_kit.tokens import Caller

_log = logging.getLogger("gateway.access")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FLUSH_AT: Final = 256  # so many are written while nobody is waited for: half a millisecond
_SUBJECTS: Final = 4096


class Series:
    """Requests of one route, method and status; and what their lines have in common."""

    __slots__ = ("buckets", "count", "method", "route", "seconds", "status")

    def __init__(self, service: str, route: str, method: bytes, status: int) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.method = method.decode()
        self.status = status
        self.route = f"service={service} route={route}"


# A request whose line is not written yet: when it ended and how long it took (by perf_counter), its series, path, bytes
# sent, client, caller, code, request id and trace. A plain tuple, as one is made for every request.
Entry = tuple[float, float, Series, bytes, int, bytes, Caller | None, str, tuple[bytes, bytes]]


class Form(NamedTuple):
    """What stands around the time, the message, the request id and the trace id of a line."""

    opening: str
    after_time: str
    after_message: str
    after_request_id: str
    end: str


class AccessLog:
    """Lines are made whole here, as the kit's formatters would, and written together once a tick: a log record a
    request costs more than all the rest of the request."""

    def __init__(self, share: float) -> None:
        self._entries: list[Entry | str] = []
        self._share = share
        self._owed = 0.0
        self._form, self._quote = _form_in_use()
        self._short = self._form is _SHORT
        self._epoch = time.time() - time.perf_counter()  # what a perf_counter reading is in Unix time
        self._second = 0
        self._second_text = ""
        self._subjects: dict[str, str] = {}
        self.series: dict[tuple[str, str, bytes, int], Series] = {}
        self.refusals: dict[str, int] = {}

    def record(self, request: ProxyRequest, status: int, sent: int, started: float, code: str = "") -> None:
        """One request is over. `started` is a perf_counter reading; `code` says why it was not served."""
        ended = time.perf_counter()
        seconds = ended - started
        route, head = request.route, request.head
        key = (route.service, route.name, head.method, status)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(*key)
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
        ids = request.request_id, request.trace
        self._entries.append(
            (ended, seconds, series, head.path, sent, request.client, request.caller, code, ids)
        )
        if len(self._entries) >= _FLUSH_AT:
            self.flush()

    def refused(self, peer: bytes, request_id: bytes, problem: Problem) -> None:
        """Something came that could not be read as a request."""
        self.refusals[problem.code] = self.refusals.get(problem.code, 0) + 1
        said = f"unread {int(problem.status)} client={peer.decode()} code={problem.code}"
        self._entries.append(self._line(time.perf_counter(), said, request_id.decode(), request_id.decode()))

    def flush(self) -> None:
        """Writes what has come together: one record, one write."""
        self._epoch = time.time() - time.perf_counter()  # the wall clock may have been set
        entries, self._entries = self._entries, []
        if entries and _log.isEnabledFor(logging.INFO):
            text = Finished("\n".join([e if isinstance(e, str) else self._format_entry(e) for e in entries]))
            _log.handle(logging.LogRecord(_log.name, logging.INFO, __file__, _LINE, text, None, None))

    def _format_entry(self, entry: Entry) -> str:
        ended, seconds, series, path, sent, client, caller, code, (request_id, trace) = entry
        if self._short:
            said = (
                f"{series.method} {nameless(path.decode())} {series.status} {seconds:.4f} s {code}".rstrip()
            )
            return self._line(ended, said, "", "")
        subject = "-" if caller is None else self._subjects.get(caller.subject) or self._name(caller.subject)
        said = (
            f"{series.method} {nameless(path.decode())} {series.status} {sent} B {seconds:.6f} s "
            f"client={client.decode()} {series.route} subject={subject} code={code or '-'}"
        )
        return self._line(ended, said, request_id.decode(), trace[3:35].decode())

    def _line(self, at: float, message: str, request_id: str, trace_id: str) -> str:
        at += self._epoch
        second = int(at)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        if self._short:
            return f"{self._second_text[11:19]} {message}"
        opening, after_time, after_message, after_request_id, end = self._form
        return (
            f"{opening}{self._second_text}{int((at - second) * 1000):03d}+00:00{after_time}{message}"
            f"{after_message}{request_id}{after_request_id}{trace_id}{end}"
        )

    def _name(self, subject: str) -> str:
        """The subject as it may stand in a line: it is the one part that could hold a quote or a backslash."""
        if len(self._subjects) >= _SUBJECTS:
            self._subjects.clear()
        name = quoted(subject)
        name = self._subjects[subject] = quoted(name)[1:-1] if self._quote else name
        return name


_SHORT: Final = Form("", "", "", "", "")  # the time of day and the message alone
_LINE: Final = AccessLog.record.__code__.co_firstlineno


def _form_in_use() -> tuple[Form, bool]:
    """The form that the kit's formatters are set to, and whether a message is quoted in it."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if any(isinstance(formatter, Short) for formatter in formatters):
        return _SHORT, False
    path, process, thread = (
        f"gateway/server/access_log.py:{_LINE}",
        os.getpid(),
        threading.current_thread().name,
    )
    if any(isinstance(formatter, Json) for formatter in formatters):
        after_time = (
            f'", "level": "INFO", "service": "gateway", "process": {process}, "thread": "{thread}", '
            f'"path": "{path}", "logger": "{_log.name}", "message": "'
        )
        return Form('{"time": "', after_time, '", "request_id": "', '", "trace_id": "', '"}'), True
    after_time = f" INFO    gateway [{process} {thread}] {path} {_log.name}: "
    return Form("", after_time, " request_id=", " trace_id=", ""), False
