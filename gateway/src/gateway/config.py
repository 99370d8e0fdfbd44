"""The gateway's settings: the only reader of its environment."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator

from gateway.routing.endpoints import INTERNAL_PORT, PUBLIC_PORT, Endpoints, parse
from gateway.routing.files import Defaults
from gateway.routing.routes import Cors
from service_kit.settings import Hosts, KitSettings, Names, RedisUrl, ServiceSettings, VerifierSettings

_YEAR = 365 * 24 * 3600
# No wildcard of Allow-Headers covers Authorization. Pages send no cookie: a token, and a device's value, are headers.
_EVERY_HEADER: Final = ("*", "authorization")
_Seconds = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]
_CountOrNone = Annotated[int, Field(ge=0)]


class RouteSettings(KitSettings):
    """What reading the table of routes needs; the commands need no more."""

    # One folder a service, named like it, with its *.toml; and where services are that are neither where their
    # upstreams.toml says nor at NAME:8000 and NAME:9000.
    routes_dir: Path = Path("/etc/gateway/routes.d")
    upstreams: dict[str, str] = Field(default_factory=dict)
    upstream_internal: dict[str, str] = Field(default_factory=dict)
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

    @field_validator("upstreams", "upstream_internal")
    @classmethod
    def _addresses(cls, services: dict[str, str]) -> dict[str, str]:
        for name, addresses in services.items():
            try:
                parse(addresses, PUBLIC_PORT)
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

    def endpoints_of(self, service: str, published: Endpoints | None = None) -> Endpoints:
        """Where the service is: as set, else as published, else at the host that is named like it."""
        public, internal = published or Endpoints.of([(service, PUBLIC_PORT)])
        if service in self.upstreams:
            public, internal = Endpoints.of(parse(self.upstreams[service], PUBLIC_PORT))
        if service in self.upstream_internal:
            internal = tuple(parse(self.upstream_internal[service], INTERNAL_PORT))
        return Endpoints(public, internal)


class Settings(RouteSettings, ServiceSettings, VerifierSettings):
    """Every field is an environment variable of the same name in capitals."""

    # Where front passes on the socket of the published port, beside our own public bind; none: there is no front.
    listen_from: Path | None = None
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
    # Whether an address says that it is ready before its first request; off where somebody else balances.
    upstream_probe: Literal["on", "off"] = "on"
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
