"""Pictures of people over HTTP: put, shown, replaced, refused and removed."""

import asyncio
import hashlib
import io
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from conftest import Service
from httpx import Response
from pictures import jpeg
from PIL import Image
from sqlalchemy.engine import make_url
from system import begin_revocations, serving, until

from service_kit.testing import RedisServer, TestIssuer
from user_service.audit.models import AuditContext
from user_service.avatars import decoder as avatar_decoder
from user_service.avatars import service as avatar_service
from user_service.avatars import upload as avatar_upload
from user_service.avatars.exceptions import AvatarsBusy
from user_service.avatars.upload import Pace
from user_service.config import Settings
from user_service.mail import registering
from user_service.main import Parts
from user_service.passwords.policy import PasswordRules
from user_service.users.allowance import TooManyChanges
from user_service.users.exceptions import UserNotFound
from user_service.users.service import UserService

BOUNDARY = "a-boundary"
MIB = 1024 * 1024


def picture(colour: str = "red", size: tuple[int, int] = (300, 200)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def form(content: bytes, *, end: bytes = b"\r\n--a-boundary--\r\n") -> bytes:
    return (
        b'--a-boundary\r\nContent-Disposition: form-data; name="note"\r\n\r\nnot this\r\n'
        b'--a-boundary\r\nContent-Disposition: form-data; name="file"; filename="me.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + end
    )


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def code(response: Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def files(settings: Settings) -> list[Path]:
    return [path for path in settings.avatars_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize("whose", ["{id}", "me"])
async def test_a_picture_is_put_shown_and_removed(service: Service, settings: Settings, whose: str) -> None:
    ada = await service.register()
    path = f"/v1/users/{whose.format(id=ada.id)}/avatar"
    assert code(await ada.client.get(path)) == (404, "avatar_not_found")
    put = await ada.client.put("/v1/users/me/avatar", content=picture())
    assert put.status_code == 204
    shown = await ada.client.get(path)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert shown.headers["etag"] == put.headers["etag"]
    assert Image.open(io.BytesIO(shown.content)).size == (300, 200)
    (file,) = files(settings)
    assert ada.id.hex in str(file).replace("-", "")
    assert file.name.startswith(hashlib.sha256(shown.content).hexdigest())
    for _ in range(2):
        assert (await ada.client.delete("/v1/users/me/avatar")).status_code == 204
    assert code(await ada.client.get(path)) == (404, "avatar_not_found")
    assert files(settings) == []


async def test_the_first_file_of_a_form_is_the_picture(service: Service) -> None:
    ada = await service.register()
    content = form(picture())

    async def drip() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    response = await ada.client.put("/v1/users/me/avatar", content=drip(), headers=FORM)
    assert response.status_code == 204, response.text
    assert (await ada.client.get(f"/v1/users/{ada.id}/avatar")).status_code == 200


async def test_a_form_that_ends_early_or_holds_no_file_is_refused(
    service: Service, settings: Settings
) -> None:
    ada = await service.register()
    nothing = b'--a-boundary\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--a-boundary--\r\n'
    for body in (form(picture(), end=b""), nothing, b"no form at all"):
        response = await ada.client.put("/v1/users/me/avatar", content=body, headers=FORM)
        assert code(response) == (415, "avatar_unsupported"), body[:20]
    response = await ada.client.put(
        "/v1/users/me/avatar", content=b"", headers={"Content-Type": "multipart/form-data"}
    )
    assert code(response) == (415, "avatar_unsupported")
    assert files(settings) == []


async def test_a_form_of_countless_parts_keeps_nobody_busy(service: Service) -> None:
    ada = await service.register()
    parts = b"--a-boundary\r\nA: b\r\n\r\n\r\n" * 190_000
    began = time.process_time()
    response = await ada.client.put("/v1/users/me/avatar", content=parts + form(picture()), headers=FORM)
    assert code(response) == (415, "avatar_unsupported")
    assert time.process_time() - began < 0.3


async def test_what_the_client_holds_is_not_sent_again(service: Service) -> None:
    ada = await service.register()
    tag = (await ada.client.put("/v1/users/me/avatar", content=picture())).headers["etag"]
    for header in (tag, f'W/{tag}, "other"', "*"):
        response = await ada.client.get(f"/v1/users/{ada.id}/avatar", headers={"If-None-Match": header})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    await ada.client.put("/v1/users/me/avatar", content=picture("blue"))
    response = await ada.client.get(f"/v1/users/{ada.id}/avatar", headers={"If-None-Match": tag})
    assert response.status_code == 200


async def test_a_part_can_be_asked_for(service: Service) -> None:
    ada = await service.register()
    await ada.client.put("/v1/users/me/avatar", content=picture())
    path = f"/v1/users/{ada.id}/avatar"
    whole = await ada.client.get(path)
    size = len(whole.content)
    for asked, first, end in [
        ("bytes=0-9", 0, 10),
        ("bytes=5-", 5, size),
        ("bytes=-4", size - 4, size),
        (f"bytes=0-{size * 2}", 0, size),
    ]:
        part = await ada.client.get(path, headers={"Range": asked})
        assert part.status_code == 206
        assert part.content == whole.content[first:end]
        assert part.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    beyond = await ada.client.get(path, headers={"Range": f"bytes={size}-"})
    assert code(beyond) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for ignored in ("bytes=0-1,3-4", "bytes=9-3", "lines=0-1", "bytes=-", "bytes=a-b"):
        assert (await ada.client.get(path, headers={"Range": ignored})).content == whole.content
    older = await ada.client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"older"'})
    assert older.status_code == 200


async def test_too_large_is_told_while_it_is_still_coming(service: Service, settings: Settings) -> None:
    ada = await service.register()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    assert code(await ada.client.put("/v1/users/me/avatar", content=endless())) == (413, "avatar_too_large")
    assert sent < settings.avatar_max_bytes + 1_000_000
    in_form = form(bytes(settings.avatar_max_bytes + 1))
    response = await ada.client.put("/v1/users/me/avatar", content=in_form, headers=FORM)
    assert code(response) == (413, "avatar_too_large")
    assert files(settings) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
async def test_an_upload_is_never_whole_in_memory(
    database_url: str, redis_server: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    begin_revocations(redis_server.url)

    async def body(mebibytes: int) -> AsyncIterator[bytes]:
        for _ in range(mebibytes):
            yield bytes(MIB)

    async def in_form(mebibytes: int) -> AsyncIterator[bytes]:
        yield form(b"", end=b"")
        async for piece in body(mebibytes):
            yield piece
        yield b"\r\n--a-boundary--\r\n"

    async with (
        serving(
            make_url(database_url), redis_server.url, tmp_path, issuer, AVATAR_MAX_BYTES=str(64 * MIB)
        ) as running,
        running.client_of(str(uuid4())) as client,
    ):

        async def put(content: AsyncIterator[bytes], headers: dict[str, str]) -> tuple[int, str]:
            return code(await client.put("/v1/users/me/avatar", content=content, headers=headers))

        for upload, headers in ((body, {"Content-Type": "image/png"}), (in_form, FORM)):
            assert await put(upload(1), headers) == (415, "avatar_unsupported")
            before = running.peak_memory()
            assert await put(upload(64), headers) == (415, "avatar_unsupported")
            assert await put(upload(80), headers) == (413, "avatar_too_large")
            assert running.peak_memory() - before < 8 * MIB


async def test_a_type_is_read_from_the_content_and_never_believed(service: Service) -> None:
    ada = await service.register()
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    png = {"Content-Type": "image/png"}
    response = await ada.client.put("/v1/users/me/avatar", content=script, headers=png)
    assert code(response) == (415, "avatar_unsupported")
    text = {"Content-Type": "text/html"}
    response = await ada.client.put("/v1/users/me/avatar", content=picture(), headers=text)
    assert response.status_code == 204


async def test_of_a_picture_that_is_a_script_too_the_picture_is_left(
    service: Service, settings: Settings
) -> None:
    """Its width reads as the beginning of a comment, which ends behind the last frame."""
    script = b"*/=1;alert(document.domain)//"
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;"
    polyglot = b"GIF89a/*\x01\0\x80\0\0\xff\0\0\0\0\xff" + frame + script
    assert Image.open(io.BytesIO(polyglot)).format == "GIF"
    ada = await service.register()
    for claimed in ("image/gif", "text/javascript"):
        kind = {"Content-Type": claimed}
        response = await ada.client.put("/v1/users/me/avatar", content=polyglot, headers=kind)
        assert response.status_code == 204, response.text
        shown = await ada.client.get(f"/v1/users/{ada.id}/avatar", headers={"Accept": claimed})
        assert shown.headers["content-type"] == "image/webp"
        assert "sandbox" in shown.headers["content-security-policy"]
        assert Image.open(io.BytesIO(shown.content)).format == "WEBP"
        for content in (shown.content, *(file.read_bytes() for file in files(settings))):
            assert content.startswith(b"RIFF")
            assert b"alert" not in content
            assert b"*/" not in content


async def test_an_upload_that_stands_still_ends_and_leaves_nothing(
    service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_service, "PACE", Pace(idle_seconds=0.1, total_seconds=60))
    ada = await service.register()

    async def stalled() -> AsyncIterator[bytes]:
        yield picture()[:50]
        await asyncio.sleep(5)

    assert code(await ada.client.put("/v1/users/me/avatar", content=stalled())) == (408, "upload_stalled")
    assert files(settings) == []


async def test_a_slow_upload_passes_as_long_as_it_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = 2.0
    monkeypatch.setattr(avatar_service, "PACE", Pace(idle, total_seconds=60))
    ada = await service.register()
    whole, began = picture(), time.monotonic()

    async def slow() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), -(-len(whole) // 10)):
            await asyncio.sleep(idle / 8)
            yield whole[start : start + -(-len(whole) // 10)]

    assert (await ada.client.put("/v1/users/me/avatar", content=slow())).status_code == 204
    assert time.monotonic() - began > idle


class Uploads:
    """Bodies that begin, and go on when they are told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        whole = picture()
        self.begun += 1
        yield whole[:50]
        await self.go_on.wait()
        yield whole[50:]


async def test_slow_uploads_of_one_person_keep_nobody_else_waiting(service: Service) -> None:
    eve, ada = await service.register(), await service.register()
    slow = Uploads()
    puts = [
        asyncio.create_task(eve.client.put("/v1/users/me/avatar", content=slow.body())) for _ in range(16)
    ]
    await until(lambda: slow.begun == 2 and sum(put.done() for put in puts) == 14, 10)
    refused = [put.result() for put in puts if put.done()]
    assert {code(response) for response in refused} == {(429, "uploads_at_once")}
    assert all(response.headers["retry-after"] for response in refused)
    assert (await ada.client.put("/v1/users/me/avatar", content=picture())).status_code == 204
    slow.go_on.set()
    assert sorted(response.status_code for response in await asyncio.gather(*puts)) == [204] * 2 + [429] * 14
    assert (await eve.client.put("/v1/users/me/avatar", content=picture())).status_code == 204


async def test_places_for_uploads_are_bounded_and_given_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_upload, "PLACES", 3)
    people = [await service.register() for _ in range(4)]
    slow = Uploads()
    puts = [
        asyncio.create_task(one.client.put("/v1/users/me/avatar", content=slow.body())) for one in people[:3]
    ]
    await until(lambda: slow.begun == 3, 10)
    response = await people[3].client.put("/v1/users/me/avatar", content=picture())
    assert code(response) == (503, "avatars_busy")
    puts[0].cancel()  # gone, and its place is free
    await asyncio.wait(puts[:1])
    assert (await people[3].client.put("/v1/users/me/avatar", content=picture())).status_code == 204
    slow.go_on.set()
    assert [response.status_code for response in await asyncio.gather(*puts[1:])] == [204, 204]


async def test_an_upload_that_drips_for_ever_ends(
    service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_service, "PACE", Pace(idle_seconds=5, total_seconds=0.3))
    ada = await service.register()

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    assert code(await ada.client.put("/v1/users/me/avatar", content=dripping())) == (408, "upload_stalled")
    assert files(settings) == []


async def test_with_all_places_taken_the_longest_upload_makes_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_upload, "PLACES", 4)
    hostile = [await service.register() for _ in range(2)]
    honest = [await service.register() for _ in range(3)]
    slow = Uploads()
    puts = [
        asyncio.create_task(one.client.put("/v1/users/me/avatar", content=slow.body())) for one in hostile * 2
    ]
    await until(lambda: slow.begun == 4, 10)
    refused = await honest[0].client.put("/v1/users/me/avatar", content=picture())
    assert code(refused) == (503, "avatars_busy")
    monkeypatch.setattr(avatar_upload, "SAFE_SECONDS", 0.0)
    for one in honest:
        assert (await one.client.put("/v1/users/me/avatar", content=picture())).status_code == 204
    # One place was enough for three who came one after the other.
    await until(lambda: sum(put.done() for put in puts) == 1, 10)
    assert code(next(put.result() for put in puts if put.done())) == (408, "upload_stalled")
    slow.go_on.set()
    assert sorted(response.status_code for response in await asyncio.gather(*puts)) == [204] * 3 + [408]


async def test_a_picture_waits_for_the_decoder_for_a_moment_only(
    service: Service, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avatar_decoder, "WAIT_SECONDS", 0.1)
    ada = await service.register()
    busy = threading.Event()
    decoding = asyncio.create_task(parts.avatars._decoder._light.run(uuid4(), 0.0, busy.wait))
    try:
        response = await ada.client.put("/v1/users/me/avatar", content=picture())
    finally:
        busy.set()
    assert code(response) == (503, "avatars_busy")
    assert response.headers["retry-after"] == "1"
    assert await decoding
    assert (await ada.client.put("/v1/users/me/avatar", content=picture())).status_code == 204


@pytest.mark.parametrize("accounts", [3, 30])
async def test_costly_pictures_of_few_people_keep_nobody_waiting(
    service: Service, parts: Parts, accounts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Turns are counted instead of seconds, which a busy machine stretches.
    monkeypatch.setattr(avatar_decoder, "WAIT_SECONDS", 60.0)
    costly = jpeg(5500, 5500, frame=0xC2, components=1, scans=30)
    ada, decoded = await service.register(), 0

    async def send_again_and_again(person: UUID) -> None:
        nonlocal decoded
        while True:
            with suppress(AvatarsBusy):
                await parts.avatars._decoder.reencode(person, io.BytesIO(costly))
                decoded += 1
            await asyncio.sleep(0.1)

    people = [uuid4() for _ in range(accounts)]
    for person in people:  # each has sent one before
        parts.avatars._decoder.shares.charge(person, 0.5)
    hostile = [asyncio.create_task(send_again_and_again(person)) for person in people for _ in range(2)]
    await until(lambda: decoded > 0, 20)
    for photo in [
        *map(picture, ("red", "green", "blue", "white")),
        # A costly one of somebody honest has its turn before a second one of those who sent one.
        jpeg(3000, 3000, frame=0xC2),
    ]:
        before = decoded
        response = await ada.client.put("/v1/users/me/avatar", content=photo)
        assert response.status_code == 204, response.text
        # The one that is being decoded, and one that ends while the answer is on its way.
        assert decoded - before <= 2
    for task in hostile:
        task.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)


async def test_whoever_had_the_least_of_the_decoder_is_next() -> None:
    decoder, busy, order = avatar_decoder.Decoder(), threading.Event(), list[str]()
    ada, eve = uuid4(), uuid4()
    decoder.shares.charge(eve, 1.0)
    lane = decoder._costly
    asked = [("first", eve, 0.5), ("eve", eve, 0.1), ("costly", ada, 0.4), ("light", ada, 0.1)]

    async def decode(name: str, person: UUID, seconds: float) -> None:
        await lane.run(person, seconds, lambda: busy.wait(10))
        order.append(name)

    works = [asyncio.create_task(decode(*each)) for each in asked]
    await asyncio.sleep(0)
    busy.set()
    await asyncio.gather(*works)
    assert order == ["first", "light", "costly", "eve"]
    decoder.close()


async def test_who_leaves_as_they_are_refused_gives_nobody_a_turn() -> None:
    decoder = avatar_decoder.Decoder()
    lane = decoder._costly
    await lane._take_turn(0.0)
    had = [9.0] + [1.0] * avatar_decoder.MOST_WAITING
    waiting = [asyncio.create_task(lane._take_turn(seconds)) for seconds in had]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the last has them refused, which they have not seen
    await asyncio.wait(waiting, timeout=0.05)
    assert [turn.done() for turn in waiting] == [True] + [False] * avatar_decoder.MOST_WAITING
    for turn in waiting:
        turn.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    decoder.close()


async def test_whoever_leaves_the_decoders_queue_takes_nobodys_turn() -> None:
    decoder, busy = avatar_decoder.Decoder(), threading.Event()
    lane = decoder._light
    works = [asyncio.create_task(lane.run(uuid4(), 0.0, lambda: busy.wait(10))) for _ in range(6)]
    await asyncio.sleep(0)
    for gone in works[1:6:2]:
        gone.cancel()
    busy.set()
    assert all(await asyncio.gather(*works[0:6:2]))
    assert await lane.run(uuid4(), 0.0, lambda: True)
    decoder.close()


async def test_beyond_a_bound_whoever_had_the_most_of_the_decoder_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(avatar_decoder, "MOST_WAITING", 2)
    decoder, busy, eve = avatar_decoder.Decoder(), threading.Event(), uuid4()
    decoder.shares.charge(eve, 1.0)
    lane = decoder._light
    people = [uuid4(), eve, uuid4(), uuid4()]
    works = [asyncio.create_task(lane.run(person, 0.0, lambda: busy.wait(10))) for person in people]
    await asyncio.sleep(0)
    busy.set()
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    decoder.close()
    assert [type(outcome) for outcome in outcomes] == [bool, AvatarsBusy, bool, bool]


def test_seconds_of_the_decoder_are_bounded_by_person_and_forgiven_with_time() -> None:
    now = 1000.0
    shares = avatar_decoder.DecoderShares(lambda: now)
    ada, eve = uuid4(), uuid4()
    for _ in range(62):
        shares.require(eve)
        shares.charge(eve, 0.5)
        now += 1
    with pytest.raises(TooManyChanges) as refused:
        shares.require(eve)
    wait = int((refused.value.headers or {})["Retry-After"])
    assert 0 < wait <= 120
    shares.require(ada)
    now += wait
    shares.require(eve)
    now += 3600
    shares.charge(ada, 0.1)
    assert len(shares) == 1


async def test_somebody_who_used_up_the_decoder_is_refused_before_anything_is_read(
    service: Service, parts: Parts
) -> None:
    ada = await service.register()
    parts.avatars._decoder.shares.charge(ada.id, avatar_decoder.SECONDS_AN_HOUR + 1)
    response = await ada.client.put("/v1/users/me/avatar", content=picture())
    assert code(response) == (429, "too_many_changes")
    assert 0 < int(response.headers["retry-after"]) <= 120


async def test_uploads_at_once_leave_one_whole_picture(service: Service, settings: Settings) -> None:
    ada = await service.register()
    answers = await asyncio.gather(
        *(ada.client.put("/v1/users/me/avatar", content=picture(colour)) for colour in ("red", "green"))
    )
    assert {response.status_code for response in answers} == {204}
    shown = await ada.client.get(f"/v1/users/{ada.id}/avatar")
    assert shown.headers["etag"] in {response.headers["etag"] for response in answers}
    assert len(files(settings)) == 1


async def test_a_picture_is_for_whoever_may_read_the_person(service: Service) -> None:
    ada, eve = await service.register(), await service.register()
    await ada.client.put("/v1/users/me/avatar", content=picture())
    path = f"/v1/users/{ada.id}/avatar"
    assert (await eve.client.get(path)).status_code == 403
    assert (await service.anonymous.get(path)).status_code == 401
    assert (await service.anonymous.put("/v1/users/me/avatar", content=picture())).status_code == 401
    assert (await service.admin().get(path)).status_code == 200


async def test_erasing_a_person_erases_their_picture(service: Service, settings: Settings) -> None:
    ada = await service.register()
    await ada.client.put("/v1/users/me/avatar", content=picture())
    admin = service.admin()
    await admin.delete(f"/v1/users/{ada.id}")
    assert len(files(settings)) == 1
    assert (await admin.post(f"/v1/users/{ada.id}/erase")).status_code == 204
    assert files(settings) == []


async def test_a_picture_that_comes_while_its_person_is_erased_goes_too(
    service: Service, settings: Settings, parts: Parts
) -> None:
    ada = await service.register()
    await service.admin().delete(f"/v1/users/{ada.id}")

    async def body() -> AsyncIterator[bytes]:
        yield picture()

    async def forget_and_receive_another(person: UUID) -> None:
        await parts.avatars.forget_files(person)
        with suppress(UserNotFound):
            await parts.avatars.put(person, body(), "image/png", AuditContext(str(person)))

    users = UserService(
        parts.database, parts.passwords, PasswordRules(12), registering, forget_and_receive_another
    )
    await users.erase(ada.id, AuditContext("command"))
    assert files(settings) == []


async def test_health_is_quick_while_a_large_picture_is_decoded(service: Service) -> None:
    ada = await service.register()
    photo = io.BytesIO()
    Image.effect_noise((2000, 1500), 90).save(photo, "PNG", compress_level=1)
    upload = asyncio.create_task(ada.client.put("/v1/users/me/avatar", content=photo.getvalue()))
    slowest, began = 0.0, time.monotonic()
    while not upload.done():
        before = time.monotonic()
        await asyncio.sleep(0.002)
        slowest = max(slowest, time.monotonic() - before)
    took = time.monotonic() - began
    assert (await upload).status_code == 204
    # Decoding is most of it: on the loop it would be one pause of nearly the whole length.
    assert slowest < took / 2


async def test_somebody_who_is_gone_gets_no_picture(
    service: Service, settings: Settings, issuer: TestIssuer
) -> None:
    ghost = service.client(issuer.token(sub=str(UUID(int=7))))
    response = await ghost.put("/v1/users/me/avatar", content=picture())
    assert code(response) == (404, "user_not_found")
    assert files(settings) == []


async def test_a_service_that_starts_is_not_ready_until_pictures_can_be_kept(
    service: Service, settings: Settings
) -> None:
    """Also when it is refused its volume later: its replicas have the same one, and all but pictures is served."""
    settings.avatars_dir.write_text("no folder")  # root too is refused

    async def reason() -> str | None:
        async with service.client(port=9000) as inside:
            response = await inside.get("/readyz")
        assert response.status_code == 503  # nothing is known of revocations here
        reasons: dict[str, str] = response.json()["reasons"]
        return reasons.get("avatars")

    assert await reason() == "the folder cannot be written: File exists"
    settings.avatars_dir.unlink()
    assert await reason() is None
    shutil.rmtree(settings.avatars_dir)
    settings.avatars_dir.write_text("no folder")
    assert await reason() is None


async def test_a_volume_that_fails_is_told_as_such_and_served_again_once_it_is_back(
    service: Service, settings: Settings
) -> None:
    ada = await service.register()
    assert (await ada.client.put("/v1/users/me/avatar", content=picture())).status_code == 204
    away = settings.avatars_dir.rename(settings.avatars_dir.with_name("away"))
    settings.avatars_dir.write_text("no folder")
    for response in (
        await ada.client.put("/v1/users/me/avatar", content=picture("blue")),
        await ada.client.get("/v1/users/me/avatar"),
    ):
        assert code(response) == (503, "avatars_unavailable")
        assert response.headers["Retry-After"] == "10"
    settings.avatars_dir.unlink()
    away.rename(settings.avatars_dir)
    assert (await ada.client.get("/v1/users/me/avatar")).status_code == 200
    assert (await ada.client.put("/v1/users/me/avatar", content=picture("blue"))).status_code == 204
