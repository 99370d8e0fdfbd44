"""The parts list: what the service is made of, and how the parts are put together."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from argon2 import PasswordHasher
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import ASGIApp

from service_kit import application, background, logs
from service_kit.authenticator import Authenticator
from service_kit.redis_client import connect_once
from service_kit.settings import load, secret_value
from user_service import __version__, malloc
from user_service.account_links.pages import LinkPages
from user_service.account_links.router import confirmed_registration
from user_service.account_links.router import internal_router as account_links_internal_router
from user_service.account_links.router import router as account_links_router
from user_service.account_links.service import AccountLinkService
from user_service.audit.router import router as audit_router
from user_service.avatars.router import router as avatars_router
from user_service.avatars.service import AvatarService
from user_service.avatars.storage import Volume
from user_service.config import Settings
from user_service.credentials.router import internal_router as credentials_internal_router
from user_service.credentials.router import router as credentials_router
from user_service.credentials.service import CredentialService
from user_service.database import Database, DatabaseBusy, DatabaseUnavailable, create_engine
from user_service.events.relay import Relay
from user_service.events.stream import Stream
from user_service.mail import registering
from user_service.mail.sending import MailSender
from user_service.mail.smtp import SmtpServer
from user_service.passwords.breached import BreachedPasswords
from user_service.passwords.hashing import HASHER, Passwords, usable_threads
from user_service.passwords.policy import PasswordRules
from user_service.request_deadline import RequestDeadline
from user_service.retention import apply_retention
from user_service.users.allowance import own_changes, own_passwords
from user_service.users.router import router as users_router
from user_service.users.service import UserService

NAME: Final = "user-service"
TITLE: Final = "User service"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running service holds; routes find it as `app.state.parts`."""

    database: Database
    passwords: Passwords
    users: UserService
    credentials: CredentialService
    account_links: AccountLinkService
    avatars: AvatarService
    breached: BreachedPasswords | None
    mail_sender: MailSender | None
    relay: Relay
    events: Stream
    events_redis: Redis
    memory: malloc.FreedMemory
    idempotency_key: bytes
    token_life: float  # seconds that no token is accepted for longer
    link_pages: LinkPages
    https: bool

    async def close(self) -> None:
        await self.events_redis.aclose()
        await self.database.close()
        self.passwords.close()
        self.avatars.close()
        if self.breached:
            await self.breached.close()


def make_parts(settings: Settings, hasher: PasswordHasher = HASHER) -> Parts:
    """Every part, with nothing connected yet."""
    deadline = settings.database_deadline_seconds
    engine = create_engine(settings.url(), pool_size=settings.database_pool_size, deadline=deadline)
    database = Database(engine, deadline)
    memory = malloc.FreedMemory()
    passwords = Passwords(
        settings.hashing_threads or usable_threads(settings.workers),
        settings.hashing_queue,
        hasher,
        when_done=memory.work_ended,
    )
    breached = BreachedPasswords(url) if (url := settings.breached_passwords_url) else None
    rules = PasswordRules(settings.password_min_length, breached)
    storage = Volume(settings.avatars_dir)
    allowance = own_changes(settings.changes_per_hour)
    avatars = AvatarService(
        database,
        storage,
        settings.avatars_dir,
        settings.avatar_max_bytes,
        when_done=memory.work_ended,
        allowance=allowance,
    )
    events_redis = connect_once(
        settings.events_redis_url,
        settings.events_redis_user,
        secret_value(settings.events_redis_password),
        connect_seconds=1.0,
        seconds=2.0,
    )
    events = Stream(events_redis, settings.redis_replicas)
    return Parts(
        database=database,
        passwords=passwords,
        users=UserService(database, passwords, rules, registering, avatars.forget_files, allowance),
        credentials=CredentialService(
            database,
            passwords,
            rules,
            require_verified_email=settings.require_verified_email,
            allowance=own_passwords(settings.changes_per_hour),
        ),
        account_links=AccountLinkService(database, passwords, rules),
        avatars=avatars,
        breached=breached,
        mail_sender=_mail_sender(database, settings) if settings.smtp_host else None,
        relay=Relay(settings.url(), events, database.committed),
        events=events,
        events_redis=events_redis,
        memory=memory,
        idempotency_key=settings.idempotency_key.get_secret_value().encode(),
        token_life=settings.token_max_lifetime_seconds + settings.token_leeway_seconds,
        link_pages=LinkPages(settings.password_min_length, settings.public_url),
        https=settings.public_url.startswith("https:"),
    )


def create_app(settings: Settings, parts: Parts, authenticator: Authenticator) -> ASGIApp:
    """The service on its two binds."""
    works: list[background.Work] = [
        parts.relay.run,
        partial(apply_retention, parts.database),
        parts.memory.run,
    ]
    if parts.mail_sender:
        works.append(parts.mail_sender.run)
    public = public_api(confirm_registrations=settings.registration == "confirm")
    internal = internal_api(parts.database, parts.events, parts.avatars, authenticator)
    for app in (public, internal):
        app.state.parts = parts
        app.add_middleware(RequestDeadline, parts.database)
    return application.serve_both(public, internal, settings, authenticator, *works, close=parts.close)


def public_api(*, confirm_registrations: bool = False) -> FastAPI:
    """What the gateway may forward to; its OpenAPI document is the service's contract."""
    routers = (users_router, credentials_router, account_links_router, avatars_router, audit_router)
    return application.public_api(
        TITLE,
        __version__,
        # First come, first served: the confirmed registration before users_router's.
        (confirmed_registration, *routers) if confirm_registrations else routers,
        DatabaseUnavailable,
        DatabaseBusy,
        description="People: who they are, what they may do, and what they sign in with.",
        openapi_tags=[
            {"name": "users", "description": "Register, read and change people."},
            {"name": "mails", "description": "Ask for mails, and follow the links in them."},
            {"name": "avatars", "description": "Pictures of people."},
        ],
    )


def internal_api(
    database: Database, events: Stream, avatars: AvatarService, authenticator: Authenticator
) -> FastAPI:
    """What only the other services and the operators reach."""

    async def check_database() -> str | None:
        try:
            await database.read(AsyncConnection.exec_driver_sql, "SELECT 1")
        except DatabaseUnavailable:
            return "the database does not answer"
        return None

    checks = {
        "database": check_database,
        "events": events.unready,
        "tokens": authenticator.check,
        "avatars": avatars.check,
    }
    return application.internal_api(
        TITLE, __version__, checks, credentials_internal_router, account_links_internal_router, deadline=2.0
    )


def serve() -> ASGIApp:
    """What gunicorn calls in each worker."""
    malloc.use_one_arena()
    settings = load(Settings)
    logs.configure(settings, NAME)
    return create_app(settings, make_parts(settings), Authenticator(settings, NAME))


def _mail_sender(database: Database, settings: Settings) -> MailSender:
    server = SmtpServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_tls,
        settings.smtp_username,
        secret_value(settings.smtp_password),
        settings.smtp_timeout_seconds,
    )
    links = settings.app_url or f"{settings.public_url}/v1/users/links"
    return MailSender(database, server, settings.mail_from, links.rstrip("/"), own_pages=not settings.app_url)
