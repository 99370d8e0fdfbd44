"""The parts list: what the service is made of, and how the parts are put together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from redis.asyncio import Redis
from starlette.types import ASGIApp

from auth_service import __version__, audit, connections
from auth_service.clients.models import Client
from auth_service.clients.service import Clients
from auth_service.config import Settings, secret_keys
from auth_service.exceptions import OAuthError, Unavailable
from auth_service.keys.models import Policy
from auth_service.keys.router import router as keys_router
from auth_service.keys.service import KeyRing
from auth_service.records import Records
from auth_service.revocations.service import Revocations
from auth_service.sessions.models import Lifetimes
from auth_service.sessions.refresh_tokens import RefreshTokens
from auth_service.sessions.router import router as sessions_router
from auth_service.sessions.service import Sessions
from auth_service.store import Store, connect
from auth_service.throttle.devices import Devices
from auth_service.throttle.service import Limits, Throttle
from auth_service.tokens.access import AccessTokens, ServiceToken
from auth_service.tokens.introspection import Introspection
from auth_service.tokens.router import describe
from auth_service.tokens.router import router as tokens_router
from auth_service.tokens.schemas import ErrorResponse
from auth_service.tokens.service import Tokens
from auth_service.users.client import UsersClient
from auth_service.users.events import BLOCK_MS, UserEvents
from service_kit import application, logs
from service_kit.authenticator import Authenticator
from service_kit.revocations import Revocation
from service_kit.settings import load, secret_value

NAME: Final = "auth-service"
TITLE: Final = "Auth service"
LIMITS_TIMEOUT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running service holds; nothing is connected before it is used."""

    store: Store
    limits: Store
    events_redis: Redis
    keys: KeyRing
    sessions: Sessions
    clients: Clients
    users: UsersClient
    events: UserEvents
    authenticator: Authenticator
    introspection: Introspection
    tokens: Tokens

    async def close(self) -> None:
        self.users.close()
        await self.events_redis.aclose()
        await self.limits.close()
        await self.store.close()


def make_store(settings: Settings) -> Store:
    redis = connect(
        settings.redis_url,
        settings.redis_user,
        secret_value(settings.redis_password),
        timeout=settings.redis_timeout_seconds,
        replicas=settings.redis_replicas,
    )
    return Store(redis, settings.redis_replicas)


def make_records(settings: Settings, kind: str) -> Records:
    return Records(secret_keys(settings.key_encryption_key, settings.key_encryption_key_previous), kind)


def make_keys(settings: Settings, store: Store) -> KeyRing:
    return KeyRing(
        store,
        make_records(settings, "key ring"),
        Policy(
            jwks_lifetime=int(settings.jwks_lifetime_seconds),
            token_life=settings.access_token_seconds,
            skew=int(settings.token_leeway_seconds),
            rotation=settings.key_rotation_days * 86400,
        ),
        # Whoever was away may come back with a JWKS fetched just before the key was revoked.
        settings.revocation_retention_ms + 1000 * int(settings.jwks_lifetime_seconds),
    )


def make_clients(settings: Settings, store: Store) -> Clients:
    configured = {
        name: Client(name, tuple(each.secret_hashes), frozenset(each.scopes), frozenset(each.audiences))
        for name, each in settings.clients.items()
    }
    return Clients(store, make_records(settings, "client"), configured)


def make_limits(settings: Settings) -> Store:
    """Counters of failed sign-ins; while they are away, memory serves at once."""
    redis = connect(
        settings.limits_redis_url,
        settings.limits_redis_user,
        secret_value(settings.limits_redis_password),
        timeout=LIMITS_TIMEOUT_SECONDS,
    )
    return Store(redis)


def make_events_redis(settings: Settings) -> Redis:
    """Connections apart from the store's, since reading events waits for the next one."""
    return connect(
        settings.redis_url,
        settings.redis_user,
        secret_value(settings.redis_password),
        timeout=BLOCK_MS / 1000 + 1,
        connections=2,
        replicas=settings.redis_replicas,
    )


def make_sessions(settings: Settings, store: Store) -> Sessions:
    lifetimes = Lifetimes(
        settings.session_idle_seconds, settings.session_absolute_seconds, settings.sessions_per_person
    )
    refresh_tokens = RefreshTokens(secret_keys(settings.refresh_key, settings.refresh_key_previous))
    return Sessions(
        store,
        make_records(settings, "session"),
        refresh_tokens,
        lifetimes,
        settings.revocation_retention_ms,
    )


def make_users(settings: Settings, access: AccessTokens, keys: KeyRing) -> UsersClient:
    return UsersClient(
        settings.users_url,
        ServiceToken(access, keys, "user-service", ["credentials:verify", "users:read"]),
        timeout=settings.users_timeout_seconds,
        concurrency=settings.users_concurrency,
    )


def make_throttle(settings: Settings, limits: Store) -> Throttle:
    per_minute = Limits(
        settings.sign_in_address_per_minute,
        settings.sign_in_account_per_minute,
        settings.sign_in_global_per_minute,
    )
    return Throttle(limits, per_minute)


def make_parts(settings: Settings) -> Parts:
    store, limits, events_redis = make_store(settings), make_limits(settings), make_events_redis(settings)
    keys = make_keys(settings, store)
    access = AccessTokens(keys, settings.public_url, settings.access_token_seconds)
    sessions, users = make_sessions(settings, store), make_users(settings, access, keys)
    revocations = Revocations(store, settings.revocation_retention_ms)
    devices = Devices(secret_keys(settings.device_key)[0])
    authenticator = Authenticator(settings, NAME, fetch_keys=_own_keys(keys))
    return Parts(
        store=store,
        limits=limits,
        events_redis=events_redis,
        keys=keys,
        sessions=sessions,
        clients=make_clients(settings, store),
        users=users,
        events=UserEvents(events_redis, revocations),
        authenticator=authenticator,
        introspection=Introspection(authenticator),
        tokens=Tokens(
            sessions=sessions,
            users=users,
            access=access,
            revocations=revocations,
            throttle=make_throttle(settings, limits),
            devices=devices,
            issuer=settings.public_url,
            grant_password=settings.grant_password,
        ),
    )


def create_app(settings: Settings, parts: Parts) -> ASGIApp:
    """The service on its two binds."""
    parts.authenticator.revocations.on_change(_look_at_keys(parts.keys))
    public = public_api()
    if not settings.grant_password:
        _leave_out_password_flow(public)
    public.state.issuer = settings.public_url
    public.state.metadata = describe(settings.public_url, grant_password=settings.grant_password)
    public.state.tokens = parts.tokens
    public.state.introspection = parts.introspection
    public.state.clients = parts.clients
    public.state.sessions = parts.sessions
    public.state.keys = parts.keys
    return application.serve_both(
        public,
        internal_api(parts),
        settings,
        parts.authenticator,
        parts.keys.run,
        parts.events.run,
        parts.clients.run,
        partial(connections.watch_connections, {"redis": parts.store, "redis-limits": parts.limits}),
        partial(audit.tell_of_commands, parts.store, make_records(settings, "command")),
        close=parts.close,
    )


def public_api() -> FastAPI:
    """What the gateway may forward to; its OpenAPI document is the service's contract."""
    app = application.public_api(
        TITLE,
        __version__,
        (tokens_router, sessions_router, keys_router),
        schemas={OAuthError.schema: ErrorResponse.model_json_schema()},
        description="Sign-in sessions, refresh tokens, signing keys, access tokens and revocations.",
        openapi_tags=[
            {"name": "oauth", "description": "Sign in, refresh, sign out: start here."},
            {"name": "sessions", "description": "Where a person is signed in."},
            {"name": "keys", "description": "What verifies our tokens."},
        ],
    )
    app.add_exception_handler(OAuthError, _on_oauth_error)
    return app


def internal_api(parts: Parts) -> FastAPI:
    """What only operators reach."""

    async def keys_readable() -> str | None:
        return None if parts.keys.readable else "the signing keys were not read"

    checks = {"keys": keys_readable, "tokens": parts.authenticator.check}
    return application.internal_api(TITLE, __version__, checks)


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    settings = load(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, make_parts(settings))


async def _on_oauth_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OAuthError)
    return JSONResponse(
        {"error": error.error, "error_description": error.description, "code": error.code},
        error.status,
        {"cache-control": "no-store", "pragma": "no-cache"} | error.headers,
    )


def _leave_out_password_flow(app: FastAPI) -> None:
    """Where nobody can sign in with a password, no documentation offers it."""
    for scheme in app.openapi()["components"]["securitySchemes"].values():
        scheme.get("flows", {}).pop("password", None)


def _own_keys(keys: KeyRing) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def fetch() -> dict[str, Any]:
        try:
            return await keys.jwks()
        except Unavailable as failure:
            # What a key cache takes for an issuer that is away.
            raise ConnectionError(failure.code) from failure

    return fetch


def _look_at_keys(keys: KeyRing) -> Callable[[Revocation], None]:
    def look(revocation: Revocation) -> None:
        if revocation.kind == "key":
            keys.wake()

    return look
