"""The only reader of the environment: every setting with its default and its limits."""

import re
from collections.abc import Sequence, Set
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, field_validator, model_validator

from service_kit.settings import HttpUrl, RedisUrl, ServiceSettings, VerifierSettings

FIRST_PARTY_ID: Final = "first-party"
CLIENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}", re.ASCII)  # RFC 6749 section 3.3


def check_client_id(name: str) -> str:
    """A client's name, whoever registers it: settings or a command. ValueError if it is none."""
    if not CLIENT_ID.fullmatch(name):
        raise ValueError("a client's name has 1 to 64 letters, digits, '.', '_' or '-'")
    return name


def check_scopes(scopes: Set[str]) -> Set[str]:
    """What a registered client may be given; ValueError if it is not."""
    if not all(map(SCOPE.fullmatch, scopes)):
        raise ValueError("a scope has no spaces or quotes")
    if reserved := scopes & {"*", "account"}:
        raise ValueError(f"the scope {min(reserved)} belongs to the first-party client alone")
    return scopes


class ConfiguredClient(BaseModel, extra="forbid"):
    """A client known by settings; its secrets only as hashes (`python -m auth_service clients new-secret`)."""

    secret_hashes: list[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}\z")]] = Field(
        min_length=1, max_length=2
    )
    scopes: Annotated[set[str], AfterValidator(check_scopes)] = set()
    audiences: set[str] = set()


class Settings(ServiceSettings, VerifierSettings):
    jwks_url: str = ""  # never asked: our own keys are read from the ring
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    redis_user: str = "auth"
    redis_password: SecretStr | None = None
    redis_timeout_seconds: float = Field(default=1.0, gt=0)
    limits_redis_url: RedisUrl = "redis://127.0.0.1:6379/1"
    limits_redis_user: str = "limits"
    limits_redis_password: SecretStr | None = None

    users_url: HttpUrl = "http://127.0.0.1:9001"
    users_timeout_seconds: float = Field(default=2.0, gt=0)
    users_concurrency: int = Field(default=64, ge=1)

    refresh_key: SecretStr
    refresh_key_previous: SecretStr | None = None
    key_encryption_key: SecretStr
    key_encryption_key_previous: SecretStr | None = None
    device_key: SecretStr

    access_token_seconds: int = Field(default=300, ge=10, le=3600)
    session_idle_seconds: int = Field(default=14 * 86400, ge=60)
    session_absolute_seconds: int = Field(default=30 * 86400, ge=60)
    sessions_per_person: int = Field(default=50, ge=1)
    request_deadline_seconds: int = Field(default=30, ge=1)

    grant_password: bool = True
    clients: dict[Annotated[str, AfterValidator(check_client_id)], ConfiguredClient] = Field(
        default_factory=dict
    )

    key_rotation_days: float = Field(default=30, gt=0)

    sign_in_address_per_minute: int = Field(default=20, ge=1, le=6000)
    sign_in_account_per_minute: int = Field(default=10, ge=1, le=6000)
    sign_in_global_per_minute: int = Field(default=3000, ge=1, le=60_000)

    @field_validator(
        "refresh_key",
        "refresh_key_previous",
        "key_encryption_key",
        "key_encryption_key_previous",
        "device_key",
    )
    @classmethod
    def keys_are_long(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            raise ValueError("must be at least 32 characters")
        return key

    @field_validator("clients")
    @classmethod
    def clients_have_names_of_their_own(
        cls, clients: dict[str, ConfiguredClient]
    ) -> dict[str, ConfiguredClient]:
        if FIRST_PARTY_ID in clients:
            raise ValueError(f"{FIRST_PARTY_ID} is built in and has no secret")
        return clients

    @model_validator(mode="after")
    def _tokens_fit_their_verifiers(self) -> Self:
        if self.access_token_seconds > self.token_max_lifetime_seconds:
            raise ValueError("ACCESS_TOKEN_SECONDS must be at most TOKEN_MAX_LIFETIME_SECONDS")
        return self

    @property
    def revocation_retention_ms(self) -> int:
        """How long an end can still matter: until a token signed at its request's last moment expires."""
        return 1000 * (
            self.access_token_seconds + int(self.token_leeway_seconds) + self.request_deadline_seconds
        )


def secret_keys(*keys: SecretStr | None) -> Sequence[bytes]:
    """The keys that are set, the current one first."""
    return [key.get_secret_value().encode() for key in keys if key is not None]
