"""What a worker takes for a moment it gives back."""

import asyncio
import io
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import PASSWORD
from httpx import Response
from pictures import black_rows, chunk, jpeg, png
from PIL import Image
from sqlalchemy.engine import make_url
from system import begin_revocations, serving, until

from service_kit.testing import RedisServer, TestIssuer

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="where the C library can be asked for it")
async def test_what_sign_ins_and_pictures_took_goes_back(
    database_url: str, redis_server: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    begin_revocations(redis_server.url)
    async with serving(
        make_url(database_url), redis_server.url, tmp_path, issuer, HASHING_THREADS="4"
    ) as running:
        token = issuer.service_token("user-service", "credentials:verify")
        body = {"email": "nobody@example.com", "password": PASSWORD}
        async with (
            running.client(token, internal=True) as auth_service,
            running.client_of(str(uuid4())) as client,
        ):

            async def work(times: int) -> None:
                verify = "/internal/v1/credentials/verify"
                await asyncio.gather(*(auth_service.post(verify, json=body) for _ in range(times)))
                await client.put("/v1/users/me/avatar", content=_picture())

            await work(1)  # what is loaded or compiled at first use stays
            before = running.memory()
            await work(20)
            assert running.memory() - before > 30 * MIB
            await until(lambda: running.memory() < before, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
async def test_the_costliest_pictures_of_many_at_once_take_the_memory_of_one(
    database_url: str, redis_server: RedisServer, tmp_path: Path, issuer: TestIssuer
) -> None:
    begin_revocations(redis_server.url)
    progressive = jpeg(4800, 4800, frame=0xC2)
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
    of_a_palette = png(4000, 4000, palette, colours=3, rows=black_rows(4000, 4000, 8, 3))
    far_beyond = jpeg(16_000, 16_000, frame=0xC2), jpeg(65_500, 2047, frame=0xC2)
    async with serving(make_url(database_url), redis_server.url, tmp_path, issuer) as running:

        async def put(content: bytes) -> Response:
            async with running.client_of(str(uuid4())) as client:
                return await client.put("/v1/users/me/avatar", content=content)

        # Nobody of that name: a picture is refused once it has been decoded, and leaves nothing.
        assert (await put(_picture())).json()["code"] == "user_not_found"
        before = running.memory()
        answers = await asyncio.gather(*map(put, (progressive, of_a_palette, *far_beyond) * 4))
        codes = {response.json()["code"] for response in answers}
        assert {"user_not_found"} < codes <= {"user_not_found", "avatar_too_many_pixels", "avatars_busy"}
        assert running.peak_memory() - before < 250 * MIB
        assert max(response.elapsed.total_seconds() for response in answers) < 10


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(file, "PNG")
    return file.getvalue()
