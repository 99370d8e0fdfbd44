"""Both Redis servers with the users that deploy/compose gives them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import make_settings
from people import People
from redis.asyncio import Redis

from auth_service.config import Settings
from service_kit import testing

MAKE_SECRETS = Path(__file__).parents[2] / "deploy" / "compose" / "make_secrets.py"
OPERATOR, PASSWORD = "operator", "a-password-of-the-tests"  # who looks at what the rules refused


@dataclass(frozen=True)
class Stores:
    """Both servers under the rules that are deployed, and the secrets that belong to them."""

    secrets: Path
    redis: testing.RedisServer
    limits: testing.RedisServer

    def settings(self, people: People) -> Settings:
        folder = self.secrets / "auth-service"
        return make_settings(self.redis.url, people.url, folder, limits_redis_url=self.limits.url)

    def secret(self, place: str) -> str:
        return (self.secrets / place).read_text()


@contextmanager
def running_stores(secrets: Path) -> Iterator[Stores]:
    subprocess.run([sys.executable, MAKE_SECRETS, secrets], check=True, capture_output=True)

    def rules(consumer: str) -> Sequence[str]:
        operator = f"user {OPERATOR} on >{PASSWORD} ~* &* +@all"
        return [*(secrets / consumer / "users.acl").read_text().splitlines(), operator]

    with (
        testing.redis_server(appendonly=True, acl=rules("redis")) as redis,
        testing.redis_server(acl=rules("redis-limits")) as limits,
    ):
        yield Stores(secrets, redis, limits)


def signed_in(server: testing.RedisServer, user: str | None, password: str | None) -> Any:
    return Redis.from_url(server.url, username=user, password=password, decode_responses=True)
