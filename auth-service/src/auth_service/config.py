"""The only reader of the environment: every setting with its default and its limits."""

from collections.abc import Sequence

from pydantic import BaseModel, Field, SecretStr, field_validator

from service_kit.settings import ServiceSettings, VerifierSettings


class ConfiguredClient(BaseModel, extra="forbid"):
    """A client known by settings; its secrets only as hashes (`python -m auth_service clients new-secret`)."""

    secret_hashes: list[str] = Field(min_length=1, max_length=2)
    scopes: set[str] = set()
    audiences: set[str] = set()

    @field_validator("scopes")
    @classmethod
    def no_client_can_be_given_everything(cls, scopes: set[str]) -> set[str]:
        if "*" in scopes:
            raise ValueError("the scope * belongs to the first-party client alone")
        return scopes


class Settings(ServiceSettings, VerifierSettings):
    jwks_url: str = ""  # never asked: our own keys are read from the ring
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_user: str = "auth"
    redis_password: SecretStr | None = None
    redis_replicas: int = Field(default=0, ge=0)
    redis_timeout_seconds: float = Field(default=0.7, gt=0)
    limits_redis_url: str = "redis://127.0.0.1:6379/1"
    limits_redis_user: str = "limits"
    limits_redis_password: SecretStr | None = None

    users_url: str = "http://127.0.0.1:9001"
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
    clients: dict[str, ConfiguredClient] = Field(default_factory=dict)

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

    @property
    def revocation_retention_ms(self) -> int:
        """How long an end can still matter: until a token signed at its request's last moment expires."""
        return 1000 * (
            self.access_token_seconds + int(self.token_leeway_seconds) + self.request_deadline_seconds
        )


def secret_keys(*keys: SecretStr | None) -> Sequence[bytes]:
    """The keys that are set, the current one first."""
    return [key.get_secret_value().encode() for key in keys if key is not None]
