"""Settings every service shares: read from the environment, secrets from files, refused in one clear line."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import SecretStr
from pydantic_settings import BaseSettings, NoDecode

Settings = TypeVar("Settings", bound=BaseSettings)

# Host names, addresses or CIDRs; in the environment separated by commas or spaces.
Hosts = Annotated[tuple[str, ...], NoDecode]


class ServiceSettings(BaseSettings):
    """What running any service needs. A field typed SecretStr (or SecretStr | None) is a file in `secrets_dir`."""

    bind_host: str = "127.0.0.1"
    public_port: int = 8000
    internal_port: int = 9000
    workers: int = 1
    drain_seconds: float = 5.0
    graceful_seconds: float = 25.0
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: Path | None = None
    log_file_bytes: int = 10_000_000
    log_file_backups: int = 5
    gateway_peers: Hosts = ()
    secrets_dir: Path = Path("/run/secrets")
    metrics_dir: Path | None = None


class VerifierSettings(BaseSettings):
    """What verifying tokens needs; mixed into a service's settings."""

    public_url: str
    issuers_also_accepted: dict[str, date] = {}
    jwks_url: str
    revocations_redis_url: str
    revocations_redis_user: str = "follower"
    revocations_redis_password: SecretStr | None = None
    revocation_ceiling_seconds: float = 60.0
    token_leeway_seconds: float = 30.0
    token_max_lifetime_seconds: float = 3600.0
    jwks_lifetime_seconds: float = 300.0


def load(settings: type[Settings]) -> Settings:
    """The settings, or one line per broken one on stderr and exit code 2; a value is never printed."""
    raise NotImplementedError
