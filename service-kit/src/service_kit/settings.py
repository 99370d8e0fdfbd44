"""Settings every service shares: read from the environment, secrets from files, refused in one clear line."""

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

AnySettings = TypeVar("AnySettings", bound=BaseSettings)

_NEAR = 0.88  # of difflib's ratio: one letter of nine; no two settings of different services are so near
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")


def _split(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    for number, value in enumerate(values, start=1):
        try:
            ipaddress.ip_network(value)
        except ValueError:
            # All digits and dots, or with a slash or colon, it was meant as an address.
            if re.fullmatch(r"[0-9.]+", value) or not _HOST_NAME.fullmatch(value):
                raise ValueError(f"entry {number} is neither an address, a CIDR nor a host name") from None
    return values


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or re.search(r"[@\s]", value):
        raise ValueError("must be like https://api.example.com or http://localhost:8080")
    if value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("must have no path, no query and no slash at its end")
    return value


def _address_of(*schemes: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            well_formed = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            well_formed = False
        # A password in it would be in the environment, and in every log of a failure.
        if not well_formed or re.search(r"[@\s]", value):
            raise ValueError(f"must be like {example}, without credentials")
        return value

    return AfterValidator(check)


def _replicas(count: int) -> int:
    if count not in (0, 1, 2):
        raise ValueError("must be 0, 1 or 2: with more, an acknowledgement of one replica proves nothing")
    return count


# Host names, addresses or CIDRs; in the environment separated by commas or spaces.
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_hosts)]
# Names, separated as those are.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
# Scheme and authority alone. Tokens carry it byte for byte, so it is refused rather than cleaned.
Origin = Annotated[str, AfterValidator(_origin)]
HttpUrl = Annotated[str, _address_of("http", "https", example="http://127.0.0.1:9000/path")]
RedisUrl = Annotated[str, _address_of("redis", "rediss", example="redis://127.0.0.1:6379/0")]
Replicas = Annotated[int, AfterValidator(_replicas)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SecretFiles(PydanticBaseSettingsSource):
    """Reads each field typed SecretStr (or SecretStr | None) from the file of its name in `secrets_dir`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text without the newline that editors and `echo` leave, or None if there is no file."""
        try:
            text = (self._folder() / field_name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None, field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SecretUnreadable(field_name, type(error).__name__) from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text.strip():
            raise SecretUnreadable(field_name, "the file is empty")
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Every secret that has a file."""
        secrets = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
            if is_secret(field) and name not in self.current_state
        }
        return {name: text for name, text in secrets.items() if text is not None}

    def _folder(self) -> Path:
        default = self.settings_cls.model_fields["secrets_dir"].default
        return Path(self.current_state.get("secrets_dir") or default)


class SecretUnreadable(Exception):
    """A secret's file is there and of no use."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def is_secret(field: FieldInfo) -> bool:
    """Whether the field is a file: its type is SecretStr, perhaps optional."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def secret_value(secret: SecretStr | None) -> str | None:
    """The text of a secret, if there is one."""
    return None if secret is None else secret.get_secret_value()


class _NoSecrets(PydanticBaseSettingsSource):
    """The environment without secrets: variables are inherited by children and shown by `docker inspect`."""

    def __init__(self, environment: PydanticBaseSettingsSource) -> None:
        super().__init__(environment.settings_cls)
        self._environment = environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._environment.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        return {
            name: value
            for name, value in self._environment().items()
            if name not in fields or not is_secret(fields[name])
        }


class KitSettings(BaseSettings):
    """Variables are the fields in upper case; an empty variable counts as absent."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    secrets_dir: Path = Path("/run/secrets")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in wins over the environment; secrets come from files alone."""
        return init_settings, _NoSecrets(env_settings), SecretFiles(settings_cls)


class ServiceSettings(KitSettings):
    """What running any service needs."""

    bind_host: str = "127.0.0.1"
    public_port: Port = 8000
    internal_port: Port = 9000
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    drain_seconds: Seconds = 5.0
    graceful_seconds: Seconds = 25.0
    log_format: Literal["auto", "json", "text", "short"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: Path | None = None
    log_file_bytes: Annotated[int, Field(ge=1)] = 10_000_000
    log_file_backups: Annotated[int, Field(ge=1)] = 5
    gateway_peers: Hosts = ()
    metrics_dir: Path | None = None
    # What the image was built from: service/version+revision. Empty: the service and the version of its package.
    release: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+/-]{0,200}$")] = ""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.public_port == self.internal_port:
            raise ValueError("PUBLIC_PORT and INTERNAL_PORT must differ")
        if self.log_file and not os.access(self.log_file.parent, os.W_OK):
            raise ValueError("LOG_FILE: its folder is not there or cannot be written to")
        if self.graceful_seconds < self.drain_seconds + 2:
            raise ValueError("GRACEFUL_SECONDS must be at least DRAIN_SECONDS + 2")
        return self


class VerifierSettings(KitSettings):
    """What verifying tokens needs; mixed into a service's settings."""

    public_url: Origin
    # Each further issuer with the last day on which its tokens are accepted.
    issuers_also_accepted: dict[Origin, date] = {}
    jwks_url: HttpUrl
    revocations_redis_url: RedisUrl
    revocations_redis_user: str = "follower"
    revocations_redis_password: SecretStr | None = None
    redis_replicas: Replicas = 0
    revocation_ceiling_seconds: Annotated[Seconds, Field(ge=3)] = 60.0
    token_leeway_seconds: Annotated[Seconds, Field(le=60)] = 30.0
    token_max_lifetime_seconds: Annotated[Seconds, Field(gt=0)] = 3600.0
    jwks_lifetime_seconds: Annotated[Seconds, Field(ge=1)] = 300.0

    @model_validator(mode="after")
    def _proof_comes_in_time(self) -> Self:
        # A proof takes two rounds and a ping to the replicas: 2 to 3 s old at rest.
        if self.redis_replicas and self.revocation_ceiling_seconds < 10:
            raise ValueError("REVOCATION_CEILING_SECONDS must be at least 10 with REDIS_REPLICAS")
        return self


def misspelt(settings: type[BaseSettings], environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Variables whose name is nearly a setting's, with that; any other name may be somebody else's."""
    names = {field.upper() for field in settings.model_fields}
    for variable in environment:
        if variable.upper() not in names:
            for near in difflib.get_close_matches(variable.upper(), names, n=1, cutoff=_NEAR):
                yield variable, near


def load(settings: type[AnySettings]) -> AnySettings:
    """The settings, or one line per broken one on stderr and exit code 2; a value is never printed."""
    try:
        return settings()
    except ValidationError as invalid:
        lines = [_line(settings, error) for error in invalid.errors()]
    except SecretUnreadable as unreadable:
        lines = [f"secret {unreadable.field}: {unreadable.reason}"]
    except SettingsError as unparsable:
        # Its text names the field and the source; the value is in the cause alone.
        lines = [str(unparsable)]
    for line in lines:
        print(f"broken setting: {line}", file=sys.stderr)  # noqa: T201 - logging is not configured yet
    raise SystemExit(2)


def _line(settings: type[BaseSettings], error: ErrorDetails) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        secret = is_secret(settings.model_fields[field])
        return f"secret {field}: no such file in SECRETS_DIR" if secret else f"{field.upper()}: must be set"
    return f"{field.upper()}: {message}" if field else message
