"""A mail server that delivers nothing: it keeps what it gets in memory and shows it over HTTP.

    python catcher.py --smtp 127.0.0.1:2525 --http 127.0.0.1:8025

GET /messages?to=ADDRESS lists mails, newest first; GET / shows all to a person; DELETE /messages forgets all.
For first contact and tests: whoever reaches it reads every link, so it belongs on loopback or a test network.
Standard library only.
"""

import argparse
import asyncio
import contextlib
import html
import json
import signal
import socket
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

MOST_MAILS = 2000
MOST_BYTES = 1024 * 1024
IDLE_SECONDS = 60.0

Mail = dict[str, object]


class Mailbox:
    """The newest MOST_MAILS mails."""

    def __init__(self) -> None:
        self._mails: deque[Mail] = deque(maxlen=MOST_MAILS)
        self._last_id = 0

    def add(self, sender: str, recipients: list[str], content: bytes) -> None:
        message = BytesParser(EmailMessage, policy=policy.default).parsebytes(content)
        self._last_id += 1
        self._mails.appendleft(
            {
                "id": str(self._last_id),
                "from": sender,
                "to": recipients,
                "subject": str(message["Subject"] or ""),
                "text": part(message, "plain"),
                "html": part(message, "html"),
                "received_at": datetime.now(UTC).isoformat(),
            }
        )

    def to(self, address: str | None) -> list[Mail]:
        """All, or those to one address; its case does not matter, as it does not at sign-in."""
        return [mail for mail in self._mails if address is None or address.casefold() in folded(mail["to"])]

    def clear(self) -> None:
        self._mails.clear()


def part(message: EmailMessage, subtype: str) -> str:
    body = message.get_body((subtype,))
    return str(body.get_content()) if body is not None else ""


def folded(addresses: object) -> list[str]:
    return [str(address).casefold() for address in addresses] if isinstance(addresses, Iterable) else []


class SmtpSession:
    """One client's connection (RFC 5321): everything is accepted, nothing is checked."""

    def __init__(self, mailbox: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._mailbox = mailbox
        self._reader = reader
        self._writer = writer
        self._sender = ""
        self._recipients: list[str] = []

    async def serve(self) -> None:
        await self._say("220 mail catcher")
        while (line := await self._line()) is not None:
            verb, _, rest = line.partition(" ")
            if not await self._obey(verb.upper(), rest):
                return

    async def _obey(self, verb: str, rest: str) -> bool:
        match verb:
            case "EHLO" | "LHLO":
                await self._say("250-catcher", "250-8BITMIME", "250-SMTPUTF8", f"250 SIZE {MOST_BYTES}")
            case "MAIL":
                self._sender, self._recipients = path(rest), []
                await self._say("250 OK")
            case "RCPT":
                self._recipients.append(path(rest))
                await self._say("250 OK")
            case "DATA":
                await self._data()
            case "HELO" | "NOOP":
                await self._say("250 OK")
            case "RSET":
                self._sender, self._recipients = "", []
                await self._say("250 OK")
            case "QUIT":
                await self._say("221 Bye")
                return False
            case _:
                await self._say("502 Not here")
        return True

    async def _data(self) -> None:
        if not self._recipients:
            await self._say("503 Recipients first")
            return
        await self._say("354 End with a dot")
        content = bytearray()
        while (line := await self._bytes()) not in (b".\r\n", b""):
            content += line.removeprefix(b".")
            if len(content) > MOST_BYTES:
                await self._say("552 Too large")
                return
        self._mailbox.add(self._sender, self._recipients, bytes(content))
        await self._say("250 Kept")

    async def _line(self) -> str | None:
        line = await self._bytes()
        return line.decode("utf-8", "replace").strip() if line else None

    async def _bytes(self) -> bytes:
        return await asyncio.wait_for(self._reader.readline(), IDLE_SECONDS)

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()


def path(text: str) -> str:
    """The address in `FROM:<a@b> SIZE=1`."""
    return text.partition("<")[2].partition(">")[0]


class HttpSession:
    """One request, one answer."""

    def __init__(self, mailbox: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._mailbox = mailbox
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
        method, target, _ = head.decode("latin-1").split(" ", 2)
        status, kind, body = self._answer(method, target)
        self._writer.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
        )
        self._writer.write(b"" if method == "HEAD" else body)
        await self._writer.drain()

    def _answer(self, method: str, target: str) -> tuple[int, str, bytes]:
        url = urlsplit(target)
        if method == "DELETE" and url.path == "/messages":
            self._mailbox.clear()
            return 204, "text/plain", b""
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET or DELETE\n"
        match url.path:
            case "/messages":
                to = parse_qs(url.query).get("to", [None])[0]
                return 200, "application/json", json.dumps(self._mailbox.to(to)).encode()
            case "/":
                return 200, "text/html", page(self._mailbox.to(None)).encode()
            case _:
                return 404, "text/plain", b"GET /messages\n"


def page(mails: list[Mail]) -> str:
    """Every mail as its plain text, with its links to be clicked."""
    shown = "".join(
        f"<article><h2>{html.escape(str(mail['subject']))}</h2>"
        f"<p>to {html.escape(', '.join(folded(mail['to'])))}, {mail['received_at']}</p>"
        f"<pre>{linked(str(mail['text']))}</pre></article>"
        for mail in mails
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Mails</title>"
        "<style>body{font:16px sans-serif;max-width:720px;margin:auto}pre{white-space:pre-wrap}</style>"
        f"<h1>Mails</h1>{shown or 'None yet.'}"
    )


def linked(text: str) -> str:
    lines = (html.escape(line) for line in text.splitlines())
    return "\n".join(
        f'<a href="{line}">{line}</a>' if line.startswith(("http://", "https://")) else line for line in lines
    )


async def listen(
    mailbox: Mailbox, kind: type[SmtpSession | HttpSession], listener: socket.socket
) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            await kind(mailbox, reader, writer).serve()
        writer.close()

    return await asyncio.start_server(serve, sock=listener)


async def run(smtp: socket.socket, http: socket.socket) -> None:
    mailbox = Mailbox()
    servers = [await listen(mailbox, SmtpSession, smtp), await listen(mailbox, HttpSession, http)]
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    for server in servers:
        server.close()


def listener(text: str) -> socket.socket:
    """A new socket at host:port, or one that whoever starts us holds: fd://NUMBER."""
    if text.startswith("fd://"):
        return socket.socket(fileno=int(text.removeprefix("fd://")))
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smtp", type=listener, default="127.0.0.1:2525")
    parser.add_argument("--http", type=listener, default="127.0.0.1:8025")
    chosen = parser.parse_args()
    asyncio.run(run(chosen.smtp, chosen.http))
