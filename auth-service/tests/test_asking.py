"""Asking user-service over raw HTTP/1.1: connections are kept, no answer is ever taken for another's, and the questions
are spread over its addresses."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from auth_service.users import http
from auth_service.users.client import UsersClient
from auth_service.users.exceptions import UsersUnavailable
from auth_service.users.http import Client, NoResponse

PLAIN = b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"a":1}'


class Peer:
    """A server that answers as it is told, and counts connections and requests."""

    def __init__(self) -> None:
        self.response: bytes | Callable[[int], bytes] = PLAIN
        self.close_after = False
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                response = (
                    self.response if isinstance(self.response, bytes) else self.response(len(self.requests))
                )
                writer.write(response)
                await writer.drain()
                if self.close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    yield peer
    for writer in peer.open:
        writer.close()
    server.close()


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    client = Client(f"http://127.0.0.1:{peer.port}", 1.0)
    yield client
    client.close()


async def test_a_connection_is_used_again(peer: Peer, client: Client) -> None:
    for _ in range(3):
        assert (await client.ask("GET", "/", {"x-a": "b"})).json() == {"a": 1}
    assert peer.connections == 1
    assert b"host: 127.0.0.1" in peer.requests[0]
    assert b"x-a: b" in peer.requests[0]


async def test_a_kept_connection_that_was_closed_is_replaced_unseen(peer: Peer, client: Client) -> None:
    peer.close_after = True
    for _ in range(3):
        assert (await client.ask("GET", "/", {})).json() == {"a": 1}
    assert peer.connections == 3


async def test_several_at_once_have_a_connection_each(peer: Peer, client: Client) -> None:
    responses = await asyncio.gather(*(client.ask("GET", "/", {}) for _ in range(5)))
    assert [response.status for response in responses] == [200] * 5
    assert peer.connections == 5


async def test_whoever_gives_up_takes_the_connection_along(peer: Peer, client: Client) -> None:
    await client.ask("GET", "/", {})
    peer.response = b""  # none
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.ask("GET", "/first", {})
    peer.response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    assert (await client.ask("GET", "/second", {})).json() == {}
    assert peer.connections == 2


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n" + b'{"a"\r\n3\r\n:1}\r\n0\r\n\r\n',
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + PLAIN,
        PLAIN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
    ],
    ids=["in chunks", "after an interim one", "the last on its connection"],
)
async def test_an_answer_is_read_however_it_is_framed(peer: Peer, client: Client, response: bytes) -> None:
    peer.response = response
    for _ in range(2):
        got = await client.ask("GET", "/", {})
        assert (got.status, got.json()) == (200, {"a": 1})
        assert "link" not in got.headers


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no HTTP", "two lengths", "too large", "another protocol", "a chunk of no length"],
)
async def test_what_cannot_be_read_is_no_answer(peer: Peer, client: Client, response: bytes) -> None:
    peer.response = response
    with pytest.raises(NoResponse):
        await client.ask("GET", "/", {})
    peer.response = PLAIN
    assert (await client.ask("GET", "/", {})).json() == {"a": 1}


async def test_an_answer_cut_short_is_no_answer(peer: Peer, client: Client) -> None:
    peer.response, peer.close_after = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{", True
    with pytest.raises(NoResponse):
        await client.ask("GET", "/", {})


async def test_a_name_that_cannot_be_one_is_no_answer() -> None:
    with pytest.raises(NoResponse):
        await Client(f"http://{'a' * 64}.example", 1.0).ask("GET", "/", {})


async def test_surplus_bytes_are_nobodys_answer(peer: Peer, client: Client) -> None:
    peer.response = lambda number: (
        PLAIN + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + b"false" if number == 1 else PLAIN
    )
    for _ in range(3):
        assert (await client.ask("GET", "/", {})).json() == {"a": 1}
    assert peer.connections == 2


class Replicas:
    """A name that has several addresses, each of them a peer; one that nobody listens at is a peer that is closed."""

    def __init__(self) -> None:
        self.peers = {host: Peer() for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3")}
        self.addresses = ["127.0.0.1", "127.0.0.2"]
        self.port = 0

    def counts(self) -> list[int]:
        return [len(peer.requests) for peer in self.peers.values()]

    def resolve(self, host: str, port: int, *_: object, **__: object) -> list[Any]:
        if host != "users.example":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server is away")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.addresses]


@pytest.fixture
async def replicas(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
    replicas = Replicas()
    async with AsyncExitStack() as stack:
        for host in ("127.0.0.1", "127.0.0.2"):
            peer = replicas.peers[host]
            server = await asyncio.start_server(peer.serve, host, replicas.port)
            stack.callback(server.close)
            replicas.port = peer.port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", replicas.resolve)
        yield replicas
        for peer in replicas.peers.values():
            for writer in peer.open:
                writer.close()


@pytest.fixture
def spreading(replicas: Replicas) -> Iterator[Client]:
    client = Client(f"http://users.example:{replicas.port}", 1.0)
    yield client
    client.close()


async def test_questions_are_spread_over_the_addresses_of_a_name(
    replicas: Replicas, spreading: Client
) -> None:
    for _ in range(20):
        await spreading.ask("GET", "/", {})
    assert replicas.counts() == [10, 10, 0]
    assert [peer.connections for peer in replicas.peers.values()] == [1, 1, 0]
    assert b"host: users.example" in replicas.peers["127.0.0.2"].requests[0]


async def test_an_address_that_is_busy_gets_no_more_questions_than_it_answers(
    replicas: Replicas, spreading: Client
) -> None:
    replicas.peers["127.0.0.1"].response = b""  # not yet
    waiting = [asyncio.create_task(spreading.ask("GET", "/", {})) for _ in range(2)]
    async with asyncio.timeout(5):
        while sum(replicas.counts()) < 2:
            await asyncio.sleep(0.01)
    for _ in range(10):
        await spreading.ask("GET", "/", {})
    assert replicas.counts() == [1, 11, 0]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_an_address_that_nobody_listens_at_costs_no_question(
    replicas: Replicas, spreading: Client
) -> None:
    replicas.addresses = ["127.0.0.3", "127.0.0.1"]  # as while a name still leads to a pod that has gone
    for _ in range(10):
        assert (await spreading.ask("GET", "/", {})).status == 200
    assert replicas.counts() == [10, 0, 0]


async def test_a_question_that_an_address_drops_is_asked_at_another(
    replicas: Replicas, spreading: Client
) -> None:
    dying = replicas.peers["127.0.0.2"]
    dying.response, dying.close_after = b"", True
    for _ in range(10):
        assert (await spreading.ask("GET", "/", {})).status == 200
    assert replicas.counts() == [10, 1, 0]  # once it failed, it is tried last for a while


async def test_an_address_that_is_frozen_is_tried_last_for_a_while(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas.peers["127.0.0.1"].response = b""
    spreading = Client(f"http://users.example:{replicas.port}", 0.2)
    for _ in range(2):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await spreading.ask("GET", "/", {})
    assert replicas.counts()[0] == 1
    for _ in range(10):
        assert (await spreading.ask("GET", "/", {})).status == 200
    monkeypatch.setattr(http, "AVOIDED_SECONDS", 0)
    replicas.peers["127.0.0.1"].response = PLAIN
    for _ in range(10):
        await spreading.ask("GET", "/", {})
    assert replicas.counts()[0] > 2  # thawed
    spreading.close()


async def test_one_frozen_replica_keeps_nobody_out_who_is_asked_about_at_the_other(
    replicas: Replicas,
) -> None:
    replicas.peers["127.0.0.1"].response = b""
    body = b'{"code":"user_not_found"}'
    replicas.peers["127.0.0.2"].response = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )
    users = UsersClient(f"http://users.example:{replicas.port}", lambda: "token", timeout=0.2, concurrency=4)
    refused = 0
    for _ in range(20):
        try:
            assert await users.current("somebody") is None
        except UsersUnavailable:
            refused += 1
    users.close()
    assert refused == 1  # the one that waited at it


async def test_a_name_is_asked_for_again_and_what_it_said_last_stays_while_nobody_knows(
    replicas: Replicas, spreading: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "RESOLVE_SECONDS", 0)
    replicas.addresses = ["127.0.0.1"]
    await spreading.ask("GET", "/", {})
    replicas.addresses = ["127.0.0.2"]  # replaced
    async with asyncio.timeout(5):
        while not replicas.counts()[1]:
            await spreading.ask("GET", "/", {})
    before = replicas.counts()
    replicas.addresses = []
    for _ in range(5):
        await spreading.ask("GET", "/", {})
    assert replicas.counts() == [before[0], before[1] + 5, 0]
