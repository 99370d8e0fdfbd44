"""HTTP/1.1 as bytes: what a polite client library would never send, and exactly what came back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


class BadAnswer(Exception):
    """The bytes are no HTTP/1.1 answer, or it ended too early."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order they came
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str | None:
        """The stable code of a problem or an OAuth error."""
        body = self.json()
        return body.get("code") if isinstance(body, dict) else None

    @property
    def keeps_open(self) -> bool:
        return (self.header("connection") or "").lower() != "close"


class AnswerReader:
    """Turns bytes into answers, one `feed` at a time; interim (1xx) answers are kept beside the final one."""

    def __init__(self, method: str) -> None:
        self._headless = method == "HEAD"
        self._held = b""
        self._head: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._body = b""
        self._left: int | None = None  # None: until the end of the stream
        self._chunked = False
        self.interim: list[Answer] = []
        self.surplus = b""

    def feed(self, data: bytes) -> Answer | None:
        self._held += data
        if self._head is None and not self._read_head():
            return None
        return self._read_body()

    def end(self) -> Answer:
        if self._head is None or self._chunked or self._left:
            raise BadAnswer("the stream ended inside an answer")
        return self._done()

    def _read_head(self) -> bool:
        while True:
            head, separator, rest = self._held.partition(b"\r\n\r\n")
            if not separator:
                return False
            self._held = rest
            status, headers = _parse_head(head)
            if status >= 200 or status == 101:
                self._head = (status, headers)
                self._frame(status, dict(headers))
                return True
            self.interim.append(Answer(status, headers, b""))

    def _frame(self, status: int, headers: dict[str, str]) -> None:
        if self._headless or status in (101, 204, 304):
            self._left = 0
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = True
        elif "content-length" in headers:
            self._left = int(headers["content-length"])

    def _read_body(self) -> Answer | None:
        if self._chunked:
            return self._read_chunks()
        if self._left is None:
            self._body += self._held
            self._held = b""
            return None
        taken, self._held = self._held[: self._left], self._held[self._left :]
        self._body += taken
        self._left -= len(taken)
        return None if self._left else self._done()

    def _read_chunks(self) -> Answer | None:
        while True:
            line, separator, rest = self._held.partition(b"\r\n")
            if not separator:
                return None
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                return self._read_trailers(rest)
            if len(rest) < size + 2:
                return None
            if rest[size : size + 2] != b"\r\n":
                raise BadAnswer("a chunk does not end where it said")
            self._body += rest[:size]
            self._held = rest[size + 2 :]

    def _read_trailers(self, rest: bytes) -> Answer | None:
        if rest.startswith(b"\r\n"):
            self._held = rest[2:]
        else:
            _, separator, after = rest.partition(b"\r\n\r\n")
            if not separator:
                return None
            self._held = after
        self._chunked = False
        return self._done()

    def _done(self) -> Answer:
        assert self._head is not None
        self._left = 0
        self.surplus = self._held
        return Answer(*self._head, self._body)


def _parse_head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
        raise BadAnswer(f"no status line: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), tuple((name.lower(), value.strip()) for name, _, value in pairs)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a base URL points to."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Target:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a base URL: {url!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        return self.host if self.port in (80, 443) else f"{self.host}:{self.port}"


def request_bytes(
    method: str,
    path: str,
    authority: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


class RawClient:
    """One connection that sends the bytes it is given: `with RawClient(url) as raw: raw.ask(b"...")`."""

    def __init__(self, url: str, seconds: float = 10) -> None:
        self.target = Target.of(url)
        self._socket = socket.create_connection((self.target.host, self.target.port), timeout=seconds)
        if self.target.tls:
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=self.target.host)
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next final answer; raises BadAnswer, TimeoutError or ConnectionResetError."""
        reader = AnswerReader(method)
        data, self._held = self._held, b""
        while (answer := reader.feed(data)) is None:
            data = self._socket.recv(65_536)
            if not data:
                return reader.end()
        self._held = reader.surplus
        return answer

    def status_so_far(self) -> int | None:
        """Without waiting: the status that has come already, 0 when the other side closed, None for neither."""
        patience = self._socket.gettimeout()
        self._socket.setblocking(False)
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return None
        except ConnectionError:
            return 0
        finally:
            self._socket.settimeout(patience)
        return int(data[9:12]) if data else 0

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        self.send(data)
        return self.answer(method)

    def read(self, size: int, within: float = 5) -> bytes:
        """Exactly so many bytes after the answer; EOFError when they end before."""
        self._socket.settimeout(within)
        while len(self._held) < size:
            data = self._socket.recv(65_536)
            if not data:
                raise EOFError
            self._held += data
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def end_of_stream(self, within: float = 5) -> bool:
        """True when the other side closed (or reset) with nothing further to say."""
        self._socket.settimeout(within)
        try:
            return not self._held and self._socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def abort(self) -> None:
        """Reset, as a crashed client does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._socket.close()


@dataclass(slots=True)
class Timing:
    """Seconds on time.monotonic's clock."""

    started: float
    first_byte: float | None = None


class Connections:
    """A small keep-alive pool for asyncio: never retries, so that every failure is seen."""

    def __init__(self, url: str) -> None:
        self.target = Target.of(url)
        self._tls = ssl.create_default_context() if self.target.tls else None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, method: str, data: bytes, timing: Timing) -> Answer:
        reader, writer = self._take() or await asyncio.open_connection(
            self.target.host, self.target.port, ssl=self._tls
        )
        reusable = False
        try:
            writer.write(data)
            answer, reusable = await _read(reader, method, timing)
            return answer
        finally:
            if reusable:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()


async def _read(reader: asyncio.StreamReader, method: str, timing: Timing) -> tuple[Answer, bool]:
    parser = AnswerReader(method)
    while True:
        data = await reader.read(65_536)
        if timing.first_byte is None:
            timing.first_byte = time.monotonic()
        if not data:
            return parser.end(), False
        if answer := parser.feed(data):
            return answer, answer.keeps_open and not parser.surplus
