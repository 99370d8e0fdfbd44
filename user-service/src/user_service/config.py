"""The only reader of the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from sqlalchemy.engine import URL

from service_kit.settings import (
    KitSettings,
    Origin,
    Port,
    RedisUrl,
    Seconds,
    ServiceSettings,
    VerifierSettings,
    secret_value,
)
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
        return database_url(self.database_url, secret_value(self.database_password))


class HashingSettings(KitSettings):
    """argon2id: 0 threads means one per core this process may use."""

    hashing_threads: Annotated[int, Field(ge=0, le=64)] = 0
    hashing_queue: Annotated[int, Field(ge=0, le=1000)] = 32
    password_min_length: Annotated[int, Field(ge=8, le=64)] = 12


class MailSettings(KitSettings):
    """Without a host mails wait in the outbox; without a page of the app's, links lead to ours."""

    smtp_host: str = ""
    smtp_port: Port = 25
    smtp_tls: Literal["off", "starttls", "tls"] = "off"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_timeout_seconds: Annotated[Seconds, Field(gt=0, le=30)] = 10.0
    mail_from: Annotated[str, Field(pattern=r"^[^\r\n]+@[^\r\n]+$")] = "no-reply@localhost"
    app_url: Annotated[str, Field(pattern=r"^https?://[^\s#]+$")] | None = None


class AvatarSettings(KitSettings):
    # A volume: pictures, and uploads on their way, which would fill a /tmp that is memory.
    avatars_dir: Path = Path("/var/lib/user-service/avatars")
    avatar_max_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 5 * 1024 * 1024


class Settings(DatabaseSettings, HashingSettings, MailSettings, AvatarSettings, VerifierSettings):
    events_redis_url: RedisUrl
    events_redis_user: str = "users"
    events_redis_password: SecretStr | None = None
    # The server key of Idempotency-Key fingerprints.
    idempotency_key: SecretStr
    # "confirm": always 202 and a mail, and an account once its link is followed.
    registration: Literal["open", "confirm"] = "open"
    require_verified_email: bool = False
    # A person's own, of name and picture together, and of the password: each is a row of the audit for ever.
    changes_per_hour: Annotated[int, Field(ge=1, le=10_000)] = 60
    # A server of the range API of Have I Been Pwned, such as https://api.pwnedpasswords.com.
    breached_passwords_url: Origin | None = None
