"""Pictures that cost as much as their sender could arrange, and uploads that never end: what everybody else notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx

from gatehouse_e2e.api import Person
from gatehouse_e2e.compose import Compose
from gatehouse_e2e.people import People
from gatehouse_e2e.pictures import png, progressive_jpeg
from gatehouse_e2e.plugin import PromiseFixture, SteadyFixture
from gatehouse_e2e.steady import API
from gatehouse_e2e.wire import RawClient, request_bytes

PATH = "/v1/users/me/avatar"
UPLOADS_OF_A_PERSON = 2
# Kilobytes that gunicorn's processes hold, and the most that they have held.
MEMORY = """
import pathlib, sys
print(sum(
    int(line.split()[1])
    for process in pathlib.Path("/proc").glob("[0-9]*")
    if b"gunicorn" in (process / "cmdline").read_bytes()
    for line in (process / "status").read_text().splitlines()
    if line.startswith(sys.argv[1])
))
"""

Open = Callable[[], RawClient]


def test_the_costliest_pictures_cost_a_bounded_memory_and_nobody_else_anything(
    parts: Compose, people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    """At the limits of what is taken, and far beyond."""
    costly = [
        progressive_jpeg(4800, 4800),
        png(4000),
        progressive_jpeg(16_000, 16_000),
        progressive_jpeg(65_500, 2047),
    ]
    senders = [people.signed_in() for _ in range(32 if full else 4)]

    def kilobytes(member: str) -> int:
        return int(parts.execute("user-service", "python", "-c", MEMORY, member))

    def put(number: int) -> httpx.Response:
        return upload(people, senders[number // UPLOADS_OF_A_PERSON], costly[number % len(costly)])

    with steady("costly pictures") as seen:
        for small in (png(64), progressive_jpeg(64, 64)):  # what is loaded at first use
            assert upload(people, senders[0], small).status_code == 204
        before = kilobytes("VmRSS")
        time.sleep(1)
        with seen.span("costly pictures"), ThreadPoolExecutor(UPLOADS_OF_A_PERSON * len(senders)) as pool:
            began = seen.now()
            answers = list(pool.map(put, range(UPLOADS_OF_A_PERSON * len(senders))))
            ended = seen.now()
        grown = (kilobytes("VmHWM") - before) / 1024
        time.sleep(1)
    taken, far_beyond = answers[0::4] + answers[1::4], answers[2::4] + answers[3::4]
    assert 204 in {answer.status_code for answer in taken} <= {204, 503}
    assert {answer.status_code for answer in far_beyond} <= {422, 503}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 503)
    slowest = max(answer.elapsed.total_seconds() for answer in answers)
    promise("costly pictures: memory added", grown, at_most=250, unit="MiB")
    promise("costly pictures: answered", slowest, at_most=5)
    failed = seen.failures(*API, since=began, before=ended)
    promise("costly pictures: others' API errors", len(failed), at_most=0, unit="")


def test_costly_pictures_of_few_people_keep_nobody_from_setting_one(
    people: People, steady: SteadyFixture, promise: PromiseFixture, full: bool
) -> None:
    costly = progressive_jpeg(4800, 4800)
    hostile = [people.signed_in() for _ in range(30 if full else 3)]
    honest = [people.signed_in() for _ in range(8)]
    ended = threading.Event()

    def send_again_and_again(person: Person) -> None:
        while not ended.is_set() and upload(people, person, costly).status_code in {204, 503}:
            pass

    senders = UPLOADS_OF_A_PERSON * len(hostile)
    with steady("few people's costly pictures") as seen, ThreadPoolExecutor(senders) as pool:
        for person in hostile * UPLOADS_OF_A_PERSON:
            pool.submit(send_again_and_again, person)
        with seen.span("costly pictures"):
            answers = [upload(people, one, png(64)) for one in honest]
        ended.set()
    assert {answer.status_code for answer in answers} == {204}
    slowest = max(answer.elapsed.total_seconds() for answer in answers)
    promise("few people's costly pictures: others' pictures", slowest, at_most=2)


def test_slow_uploads_of_one_person_keep_nobody_from_setting_a_picture(
    raw: Open, people: People, steady: SteadyFixture, promise: PromiseFixture
) -> None:
    dawdler, others = people.signed_in(), [people.signed_in() for _ in range(4)]
    with steady("slow uploads") as seen, ExitStack() as opened, seen.span("16 slow uploads"):
        for _ in range(16):
            wire = opened.enter_context(raw())
            headers = [*dawdler.tokens.bearer.items(), ("X-Forwarded-For", dawdler.address)]
            headers += [("Content-Type", "image/png"), ("Content-Length", "100000")]
            wire.send(request_bytes("PUT", PATH, wire.target.authority, headers) + png(64)[:50])
        time.sleep(1)
        answers = [upload(people, other, png(64)) for other in others]
    assert {answer.status_code for answer in answers} == {204}
    slowest = max(answer.elapsed.total_seconds() for answer in answers)
    promise("16 slow uploads of one person: others' pictures", slowest, at_most=1)


def upload(people: People, person: Person, picture: bytes) -> httpx.Response:
    headers = {**person.tokens.bearer, "Content-Type": "image/png"}
    return people.api(person).http.put(PATH, headers=headers, content=picture)
