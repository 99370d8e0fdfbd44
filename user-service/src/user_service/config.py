"""The only reader of the environment."""

from typing import Annotated

from pydantic import Field, SecretStr
from sqlalchemy.engine import URL

from service_kit.settings import KitSettings, ServiceSettings, VerifierSettings
from user_service.database import database_url


class DatabaseSettings(ServiceSettings):
    """What a command on the database needs: migrations, cli."""

    database_url: str
    database_password: SecretStr | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    # One unit of work, waiting for a connection included.
    database_deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 2.5

    def url(self) -> URL:
        """The database's URL with the password from its secret file."""
        password = self.database_password
        return database_url(self.database_url, password.get_secret_value() if password else None)


class HashingSettings(KitSettings):
    """argon2id: 0 threads means one per core this process may use."""

    hashing_threads: Annotated[int, Field(ge=0, le=64)] = 0
    hashing_queue: Annotated[int, Field(ge=0, le=1000)] = 32
    password_min_length: Annotated[int, Field(ge=8, le=64)] = 12


class Settings(DatabaseSettings, HashingSettings, VerifierSettings):
    events_redis_url: str
    events_redis_user: str = "users"
    events_redis_password: SecretStr | None = None
    # The server key of Idempotency-Key fingerprints.
    idempotency_key: SecretStr
