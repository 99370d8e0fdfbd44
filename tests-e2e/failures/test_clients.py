"""Clients that give up, dawdle, flood and forge, and services that fail: what everybody else notices."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlencode

import pytest

from gatehouse_e2e.api import Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.history import History, percentile
from gatehouse_e2e.load import FORM, Request, Sender, Share
from gatehouse_e2e.people import People
from gatehouse_e2e.pictures import png
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API, SIGNING_IN, many_reads
from gatehouse_e2e.waiting import NeverHappened, until
from gatehouse_e2e.wire import RawClient, request_bytes

MIB = 1 << 20
# Below this a percentile says more about the machine's scheduler than about the system.
NOISE_SECONDS = 0.02
FLOODS = 4
FLOOD_SECONDS = 12
# Of gunicorn's processes alone: the health check and this question are processes of the container too.
RESIDENT = """
import pathlib
print(sum(
    int(line.split()[1])
    for process in pathlib.Path("/proc").glob("[0-9]*")
    if b"gunicorn" in (process / "cmdline").read_bytes()
    for line in (process / "status").read_text().splitlines()
    if line.startswith("VmRSS")
))
"""
# How long the health of user-service's own port takes, in seconds at the 99th percentile, asked for so many seconds.
HEALTH = """
import sys, time, urllib.request
waits, ends = [], time.monotonic() + float(sys.argv[1])
while time.monotonic() < ends:
    began = time.monotonic()
    urllib.request.urlopen("http://127.0.0.1:9000/healthz", timeout=5).read()
    waits.append(time.monotonic() - began)
    time.sleep(0.01)
print(sorted(waits)[int(0.99 * len(waits))])
"""
# Asks for pages over 64 connections until its input ends, then says how often it got each status.
ASK_FOR_PAGES = """
import asyncio, collections, json, sys, urllib.parse
url, statuses = urllib.parse.urlsplit(sys.argv[1]), collections.Counter()
pages = ("/openapi.json", "/docs", "/", "/docs/swagger-ui.css")

async def ask(number):
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    while True:
        number += 1
        writer.write(f"GET {pages[number % 4]} HTTP/1.1\\r\\nHost: {url.netloc}\\r\\n\\r\\n".encode())
        head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\\r")[0]))
        statuses[head.split()[1]] += 1
        await asyncio.sleep(0.05)

async def main():
    asking = [asyncio.create_task(ask(number)) for number in range(64)]
    await asyncio.to_thread(sys.stdin.read)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)

asyncio.run(main())
print(json.dumps(statuses))
"""

Open = Callable[[], RawClient]


@pytest.mark.parametrize(
    "busy", [pytest.param(0, id="quiet"), pytest.param(2, id="busy cores", marks=pytest.mark.full)]
)
def test_thousands_of_clients_hang_up_and_all_others_sign_in_a_second_later(
    busy: int,
    parts: Compose,
    raw: Open,
    people: People,
    steady: SteadyFixture,
    promise: PromiseFixture,
    full: bool,
) -> None:
    """While they read, sign in, refresh and upload; on cores that `busy` loops each want for themselves, too."""
    row = "client aborts on busy cores" if busy else "client aborts"
    leavers, others = [people.signed_in() for _ in range(6)], [people.signed_in() for _ in range(10)]
    with raw() as wire:
        authority = wire.target.authority
    requests = [request for person in leavers for request in what_each_does(person, authority)]
    chance = random.Random(56)  # the same storm each time

    def abort(number: int) -> None:
        request, wire = requests[number % len(requests)], raw()
        # Half of those who upload leave before the picture is there.
        cut = chance.random() < 0.5 and request.startswith(b"PUT ")
        wire.send(request[: chance.randrange(500, len(request))] if cut else request)
        time.sleep(chance.random() * 0.05)
        wire.abort()

    def sign_in(number: int) -> int:
        person = others[number % len(others)]
        with raw() as wire:
            head = form_headers(person)
            return wire.ask(request_bytes("POST", "/auth/token", authority, head, signing_in(person))).status

    with busy_cores(busy), steady(row) as seen:
        time.sleep(1)
        with seen.span("aborts"), ThreadPoolExecutor(40) as pool:
            list(pool.map(abort, range(3000 if full else 300)))
        time.sleep(1)
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(sign_in, range(100)))
    promise(f"{row}: signed in of 100 after 1 s", statuses.count(200), at_least=100, unit="")

    taken = 0.0

    def all_given_back() -> bool:
        nonlocal taken
        taken = parts.metric("gateway", "gateway_upstream_outstanding")
        taken += parts.metric("user-service", "database_connections_in_use")
        return not taken

    with suppress(NeverHappened):  # the promise tells; a question about readiness takes a place now and then
        until(all_given_back, 5, "no place is taken", every=0.2)
    promise(f"{row}: places still taken", taken, at_most=0, unit="")


def what_each_does(person: Person, authority: str) -> list[bytes]:
    side = 128
    picture = png(side, rows=b"".join(b"\0" + secrets.token_bytes(3 * side) for _ in range(side)))
    image = (*bearer(person), ("Content-Type", "image/png"))
    return [
        request_bytes("GET", "/v1/users/me", authority, bearer(person)),
        request_bytes("POST", "/auth/token", authority, form_headers(person), signing_in(person)),
        request_bytes("POST", "/auth/token", authority, form_headers(person), refreshing(person)),
        request_bytes("PUT", "/v1/users/me/avatar", authority, image, picture),
    ]


@contextmanager
def busy_cores(each: int) -> Iterator[None]:
    """So many processes for each core that want all of it; an end of ours ends them too."""
    loop = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    processes = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(each * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_slow_headers_are_given_ten_seconds_in_all(
    raw: Open, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    with steady("slow headers") as seen, seen.span("slow headers"), raw() as wire:
        began = time.monotonic()
        wire.send(b"GET /docs HTTP/1.1\r\nHost: " + wire.target.authority.encode() + b"\r\n")
        status: int | None = None
        while time.monotonic() - began < 15 and status is None:
            try:
                wire.send(b"X-Slow: 1\r\n")
                time.sleep(0.25)
            except ConnectionError:
                status = 0
            else:
                status = wire.status_so_far()
        promise("slow headers: ended", time.monotonic() - began, at_most=10.5)
    assert status in (0, 408)


@pytest.mark.full
def test_a_slow_but_steady_body_passes_and_a_stalled_one_is_a_timeout(
    parts: Compose, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    pieces, piece, in_all, idle = 900, bytes(1000), 15, 30
    with (
        steady("slow bodies") as seen,
        seen.span("slow bodies"),
        RawClient(parts.url, seconds=60) as small,
        RawClient(parts.url, seconds=60) as large,
        RawClient(parts.url) as slow,
    ):
        began = time.monotonic()
        for wire, length in ((small, 9), (large, 90_000), (slow, pieces * len(piece))):
            head = [("Content-Length", str(length))]
            wire.send(
                request_bytes("POST", "/echo/slow", wire.target.authority, head, None)
                + b"x"[: wire is not slow]
            )
        stalled: dict[RawClient, float] = {}
        for _ in range(pieces):  # three times as long as a body may stand still
            slow.send(piece)
            time.sleep(0.1)
            for wire in (small, large):
                if wire not in stalled and wire.status_so_far() == 408:
                    stalled[wire] = time.monotonic() - began
        assert slow.answer("POST").json()["body"] == pieces * len(piece)
        promise("small stalled body: 408", stalled[small], at_most=in_all + 5)
        promise("stalled body: 408", stalled[large], at_most=idle + 5)


@pytest.mark.full
def test_thousands_of_sign_ins_that_drip_in_from_six_addresses_slow_nobody_else(
    raw: Open, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    drips, pause = 2760, 22
    attackers = [people.stranger() for _ in range(6)]
    with ExitStack() as opened, steady("dripping sign-ins", *many_reads(people)) as seen:
        calm = timed(seen)
        with seen.span("sign-ins drip in"):
            began, wires = seen.now(), []
            for number in range(drips):
                wire = opened.enter_context(raw())
                head = (*form_headers(attackers[number % 6]), ("Content-Length", "99"))
                wire.send(request_bytes("POST", "/auth/token", wire.target.authority, head) + b"g")
                wires.append(wire)
                time.sleep(0.002)
            time.sleep(max(0, pause - (seen.now() - began)))
            for wire in wires:
                with suppress(OSError):
                    wire.send(b"r")
            time.sleep(FLOOD_SECONDS)
        rough = (began, seen.now())

    def p99(times: tuple[float, float]) -> float:
        return percentile(0.99, seen.select("read", since=times[0], before=times[1]))

    promise(
        "dripping sign-ins: others' p99", p99(rough) / max(p99(calm), NOISE_SECONDS), at_most=1.5, unit="x"
    )
    refused = seen.failures(*API, *SIGNING_IN, since=began, before=rough[1])
    promise("dripping sign-ins: others refused", len(refused), at_most=0, unit="")


@pytest.mark.full
def test_a_reader_that_stalls_costs_the_gateway_next_to_nothing(
    parts: Compose, raw: Open, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    def resident() -> int:
        return int(parts.execute("gateway", "python", "-c", RESIDENT))

    with steady("stalled readers") as seen:
        with raw() as wire:
            wire.ask(request_bytes("GET", f"/echo/bytes/{MIB}", wire.target.authority))  # what is made once
        before = resident()
        stalled = [raw() for _ in range(8)]
        with seen.span("8 readers stall"):
            for wire in stalled:
                wire.send(request_bytes("GET", f"/echo/bytes/{64 * MIB}", wire.target.authority))
            time.sleep(3)
            grown = (resident() - before) / 1024 / len(stalled)
            for wire in stalled:
                wire.abort()
    promise("stalled reader: memory added", grown, at_most=1, unit="MiB")


@pytest.mark.full
def test_hundreds_who_ask_for_a_page_and_never_read_it_cost_the_gateway_next_to_nothing(
    parts: Compose, raw: Open, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    page, readers = "/docs/swagger-ui-bundle.js", 800
    strangers = [people.stranger() for _ in range(16)]

    def resident() -> int:
        return int(parts.execute("gateway", "python", "-c", RESIDENT))

    with ExitStack() as opened, steady("unread pages") as seen:
        with raw() as wire:
            assert wire.ask(request_bytes("GET", page, wire.target.authority)).status == 200
        before = resident()
        with seen.span(f"{readers} never read"):
            wires = [opened.enter_context(raw()) for _ in range(readers)]
            for number, wire in enumerate(wires):
                head = (("X-Forwarded-For", strangers[number % len(strangers)].address),)
                wire.send(request_bytes("GET", page, wire.target.authority, head))
            time.sleep(3)
            grown = (resident() - before) / 1024
            for wire in wires:
                wire.abort()
    promise(f"{readers} pages never read: memory added", grown, at_most=32, unit="MiB")


@pytest.mark.parametrize("how", ["status/503", "cut"])
def test_a_failing_service_is_not_asked_over_and_over(
    how: str, parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    """It answers 503 to all, or takes requests and closes."""
    http = people.api(people.stranger()).http
    key = secrets.token_hex(4)
    asked = 100
    with steady(f"retry storm ({how})") as seen, seen.span("the service fails"):
        for _ in range(asked):
            for method in ("GET", "POST"):
                assert http.request(method, f"/echo/{how}?key={key}").status_code in (502, 503)
    reached = json.loads(ask_echo(parts, f"/echo/seen?key={key}"))
    promise(f"retry storm ({how}): upstream load", reached.get("GET", 0) / asked, at_most=1.2, unit="x")
    promise(f"retry storm ({how}): a POST sent", reached.get("POST", 0) / asked, at_most=1, unit="x")
    until(lambda: http.get("/echo/well").is_success, 5, "the service is asked again")


@pytest.mark.full
def test_a_crowd_that_signs_in_at_once_starves_nobodys_health(
    parts: Compose, people: People, promise: PromiseFixture
) -> None:
    strangers = [people.stranger() for _ in range(150)]
    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        wires = [opened.enter_context(RawClient(parts.url, seconds=30)) for _ in strangers]
        health = pool.submit(parts.execute, "user-service", "python", "-c", HEALTH, "4")
        time.sleep(0.5)  # it is asked before the crowd comes, and after it has gone
        for wire, stranger in zip(wires, strangers, strict=True):
            head = form_headers(stranger)
            wire.send(request_bytes("POST", "/auth/token", wire.target.authority, head, signing_in(stranger)))
        answers = [wire.answer("POST") for wire in wires]
        promise("150 sign-ins at once: /healthz at p99", float(health.result()), at_most=0.1)
    statuses = {answer.status for answer in answers}
    assert 400 in statuses
    assert statuses <= {400, 429, 503}
    assert all(answer.header("retry-after") for answer in answers if answer.status != 400)


@pytest.mark.full
def test_a_flood_of_sign_ins_slows_nobody_else(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    def sign_in() -> Request:
        stranger = people.stranger()
        return Request("POST", "/auth/token", form_headers(stranger), signing_in(stranger))

    flood = Flood("auth:flood", sign_in)
    with steady("sign-in flood", Share(80, flood), *many_reads(people)) as seen:
        slowed = flooded(seen, flood, "sign-ins of strangers")
    promise("sign-in flood: others' p99", slowed, at_most=2, unit="x")
    said = seen.select("auth:flood", where=lambda one: one.status > 0)
    assert {one.status for one in said} <= {400, 429, 503}
    assert all(one.retry_after for one in said if one.status in (429, 503))


@pytest.mark.full
def test_a_flood_of_forged_tokens_from_one_address_slows_nobody_else(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    attacker = people.signed_in()
    signed, _, signature = attacker.tokens.access_token.rpartition(".")

    def forge() -> Request:
        forged = f"{signed}.{secrets.token_urlsafe(64)[: len(signature)]}"
        return Request("GET", "/v1/users/me", bearer(attacker, forged))

    flood = Flood("forged", forge)
    with steady("forged-token flood", Share(300, flood), *many_reads(people)) as seen:
        slowed = flooded(seen, flood, "forged tokens")
    promise("forged-token flood: others' p99", slowed, at_most=2, unit="x")
    statuses = {one.status for one in seen.select("forged", where=lambda one: one.status > 0)}
    assert statuses == {401, 429}


@pytest.mark.full
def test_a_flood_of_the_gateways_own_pages_slows_nobody_else(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    flood = PageFlood(parts.url)
    with steady("flood of pages", *many_reads(people)) as seen:
        slowed = flooded(seen, flood, "the gateway's own pages")
    promise("64 connections ask for pages: others' p99", slowed, at_most=1.5, unit="x")
    assert flood.statuses.keys() == {"200", "429"}


class PageFlood:
    """64 connections from one address ask for the gateway's own pages, each up to twenty times a
    second; from a process of their own, so that they take no time from what measures."""

    def __init__(self, url: str) -> None:
        self._command = (sys.executable, "-c", ASK_FOR_PAGES, url)
        self._process: subprocess.Popen[str] | None = None
        self.statuses: Counter[str] = Counter()

    def begin(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def end(self) -> None:
        assert self._process is not None
        said, _ = self._process.communicate("", timeout=30)  # the end of its input ends it
        self.statuses += Counter(json.loads(said))


class Flood:
    """Requests that nobody is owed a success for, sent while it is open."""

    def __init__(self, name: str, make: Callable[[], Request]) -> None:
        self._name = name
        self._make = make
        self._open = False

    def begin(self) -> None:
        self._open = True

    def end(self) -> None:
        self._open = False

    async def __call__(self, sender: Sender) -> None:
        if self._open:
            await sender.send(self._name, self._make(), may_succeed=False)


def flooded(seen: History, flood: Flood | PageFlood, name: str) -> float:
    """How many times slower the others' reads are at the 99th percentile while the flood lasts.

    Calm and flood take turns: both have the same minutes of the machine, and as many readings.
    """
    calm: list[tuple[float, float]] = []
    rough: list[tuple[float, float]] = []
    for _ in range(FLOODS):
        calm.append(timed(seen))
        with seen.span(name):
            flood.begin()
            rough.append(timed(seen))
            flood.end()
        time.sleep(2)  # until all who came are answered

    def p99(times: list[tuple[float, float]]) -> float:
        return percentile(0.99, [one for t in times for one in seen.select("read", since=t[0], before=t[1])])

    return p99(rough) / max(p99(calm), NOISE_SECONDS)


def timed(seen: History) -> tuple[float, float]:
    """From when to when a calm or a flood lasted."""
    began = seen.now()
    time.sleep(FLOOD_SECONDS)
    return began, seen.now()


def bearer(person: Person, token: str = "") -> tuple[tuple[str, str], ...]:
    return (
        ("Authorization", f"Bearer {token or person.tokens.access_token}"),
        ("X-Forwarded-For", person.address),
    )


def form_headers(person: Person) -> tuple[tuple[str, str], ...]:
    return (FORM, ("X-Forwarded-For", person.address))


def signing_in(person: Person) -> bytes:
    form = {"grant_type": "password", "username": person.email, "password": person.password}
    return urlencode(form).encode()


def refreshing(person: Person) -> bytes:
    form = {"grant_type": "refresh_token", "refresh_token": person.tokens.refresh_token}
    return urlencode(form).encode()


def ask_echo(parts: Compose, path: str) -> str:
    """Ask the tests' own service past the gateway."""
    ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000{path}').read().decode())"
    return parts.execute("echo", "python", "-c", ask)
