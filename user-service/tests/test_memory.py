"""What a worker takes for a moment it gives back."""

import asyncio
import io
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import PASSWORD
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


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(file, "PNG")
    return file.getvalue()
