"""A password of Redis may hold any character: whoever made it, every client of it reads it alike."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_settings

from auth_service import store
from service_kit import follower, testing
from service_kit.settings import secret_value

MAKE_SECRETS = Path(__file__).parents[2] / "deploy" / "compose" / "make_secrets.py"
PASSWORDS = (
    "pässwörd zażółć",
    "пароль 🔑",
    "a#b;c",
    "back\\slash\\",
    "'single' \"double\"",
    "  blanks  ",
    "p@s:s/%20?&",
)


@pytest.fixture(params=PASSWORDS)
def password(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What an operator chose, for two users of one server."""
    for place in ("auth-service/redis_password", "gateway/revocations_redis_password"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(f"{request.param}\n")
    subprocess.run([sys.executable, MAKE_SECRETS, tmp_path], check=True, capture_output=True)
    return str(request.param)


async def test_a_password_of_redis_may_hold_any_character(password: str, tmp_path: Path) -> None:
    held = make_settings("redis://127.0.0.1:1", "http://127.0.0.1:1", tmp_path / "auth-service")
    assert secret_value(held.redis_password) == secret_value(held.revocations_redis_password) == password
    rules = (tmp_path / "redis" / "users.acl").read_text().splitlines()
    with testing.redis_server(acl=rules) as server:
        own = store.connect(server.url, "auth", password, timeout=5)
        following = follower.connect(server.url, "follower", password)
        try:
            assert await own.get("auth:epoch") is None
            assert await following.get("auth:epoch") is None
        finally:
            await own.aclose()
            await following.aclose()
