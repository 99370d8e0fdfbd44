"""The gateway's settings: the only reader of its environment."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, ValidationError, field_validator

from gateway.routes import Cors
from gateway.tables import Defaults
from gateway.upstream.names import Address, parse
from service_kit.settings import Hosts, KitSettings, Names, RedisUrl, ServiceSettings, VerifierSettings

_PUBLIC_PORT = 8000
_INTERNAL_PORT = 9000
_YEAR = 365 * 24 * 3600
# No wildcard of Allow-Headers covers Authorization. Pages send no cookie: a token, and a device's value, are headers.
_EVERY_HEADER: Final = ("*", "authorization")
_Seconds = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]
_CountOrNone = Annotated[int, Field(ge=0)]


class RouteSettings(KitSettings):
    """What reading the table of routes needs; the commands need no more."""

    # One folder a service, named like it, with its *.toml; and where services are that are not at http://NAME:8000.
    routes_dir: Path = Path("/etc/gateway/routes.d")
    upstreams: dict[str, str] = Field(default_factory=dict)
    # What holds for a route that says nothing else.
    first_byte_seconds: _Seconds = 5.0
    idle_seconds: _Seconds = 30.0
    body_max_bytes: _Count = 1024 * 1024
    # The origins whose pages may call every route that has no `cors` of its own; `loopback`: any of this machine.
    cors_origins: Names = ()

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, listed: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in listed:
            raise ValueError("list the origins: * is for the `cors` of a single route")
        try:
            return Cors(origins=listed).origins
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["ctx"]["error"])) from None

    @field_validator("upstreams", "upstream_internal", check_fields=False)
    @classmethod
    def _addresses(cls, services: dict[str, str]) -> dict[str, str]:
        for name, addresses in services.items():
            try:
                parse(addresses, _PUBLIC_PORT)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return services

    @property
    def defaults(self) -> Defaults:
        return Defaults(self.first_byte_seconds, self.idle_seconds, self.body_max_bytes, self.cors)

    @property
    def cors(self) -> Cors | None:
        if not self.cors_origins:
            return None
        return Cors(origins=self.cors_origins, expose=("*",), headers=_EVERY_HEADER)

    def upstream_of(self, service: str) -> list[Address]:
        """Where the service's public bind is: as set, else the host that is named like it."""
        return parse(self.upstreams.get(service, service), _PUBLIC_PORT)


class Settings(RouteSettings, ServiceSettings, VerifierSettings):
    """Every field is an environment variable of the same name in capitals."""

    # Where front passes on the socket of the published port, beside our own public bind; none: there is no front.
    listen_from: Path | None = None
    upstream_internal: dict[str, str] = Field(default_factory=dict)
    trusted_proxies: Hosts = ()
    # Those whose responses may say what has ended (service_kit.response_revocations).
    revoking_services: Names = ("auth-service", "user-service")

    limits_redis_url: RedisUrl | None = None
    limits_redis_user: str = "limits"
    limits_redis_password: SecretStr | None = None
    address_rate: Annotated[float, Field(ge=0)] = 2000.0
    address_burst: _Count = 4000

    # Connections of a peer that is no trusted proxy, and exchanges of a client; 0: no bound.
    address_connections: _CountOrNone = 1000
    address_exchanges: _CountOrNone = 500

    head_seconds: _Seconds = 10.0
    body_seconds: _Seconds = 15.0
    body_least_rate: Annotated[float, Field(ge=0)] = 1024.0
    keepalive_seconds: _Seconds = 75.0
    connect_seconds: _Seconds = 0.45
    upstream_idle_seconds: _Seconds = 15.0
    # In which a client or a service that is gone without a word is found.
    vanished_seconds: Annotated[float, Field(ge=6)] = 60.0
    socket_max_seconds: _Seconds = 12 * 3600.0

    connections_max: _Count = 10_000
    upstream_connections: _Count = 2560
    upstream_outstanding: _Count = 4096

    hsts_seconds: Annotated[int, Field(ge=0)] | None = None
    # The share of served requests that get a line; refusals by the services' fault (5xx) always do.
    access_log_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    # How long the API documents of the services are kept, and how often the folders of routes are looked at.
    document_seconds: _Seconds = 60.0
    routes_watch_seconds: _Seconds = 2.0
    # Where the workers' counts meet; set by gunicorn_conf (METRICS_DIR), nothing to set by hand.
    prometheus_multiproc_dir: Path | None = None

    @property
    def hsts_for(self) -> int:
        """Seconds for which browsers are told to come by TLS alone; where TLS is meant, a year unless said otherwise."""
        if self.hsts_seconds is not None:
            return self.hsts_seconds
        return _YEAR if self.public_url.startswith("https://") else 0

    def internal_of(self, service: str) -> list[Address]:
        """Where the service's internal bind is, for its health."""
        set_to = self.upstream_internal.get(service)
        if set_to is not None:
            return parse(set_to, _INTERNAL_PORT)
        return [(host, _INTERNAL_PORT) for host, _ in self.upstream_of(service)]
