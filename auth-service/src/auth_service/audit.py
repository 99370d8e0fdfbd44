"""One event per security decision, as a log line and a metric; never a token, password or e-mail address."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter

from auth_service.exceptions import OAuthError, Unavailable
from auth_service.records import RecordForged, Records
from auth_service.store import Store
from service_kit.addresses import networks_of
from service_kit.problems import Problem

OURSELVES = "auth-service"  # the actor of what time asks for
OPERATOR = "operator"  # and of whatever a command did
COMMANDS = "auth:audit"
EVERY_SECONDS = 1

logger = logging.getLogger("auth_service.audit")  # events alone
commands = logging.getLogger("auth_service.commands")

EVENTS = Counter("auth_decisions", "Security decisions.", ["event", "outcome", "reason"])


@dataclass(frozen=True)
class AuditContext:
    """Where a request came from, coarse enough to be kept."""

    address: str = ""
    device: str = ""

    @cached_property
    def network(self) -> str:
        [network] = networks_of(self.address, (24,), (48,))
        return network

    @property
    def prefix(self) -> str:
        """The network as it is kept; empty if it is not known."""
        return self.network.removeprefix("unknown")


def record(
    event: str,
    outcome: str,
    reason: str = "",
    *,
    actor: str = "",
    subject: str = "",
    client: str = "",
    session: str = "",
    key: str = "",
    context: AuditContext = AuditContext(),
) -> None:
    """`actor` is a person's id, `client:<id>`, OPERATOR or OURSELVES; `subject` whom it concerns, if somebody else.

    `reason` is a stable code, one of few: it is a metric's label. The log adds the request id.
    """
    EVENTS.labels(event, outcome, reason).inc()
    logger.info(
        "%s %s",
        event,
        outcome,
        extra={
            "event": event,
            "outcome": outcome,
            "reason": reason,
            "actor": actor,
            "subject": subject,
            "client": client,
            "session": session,
            "key": key,
            "address": context.prefix,
        },
    )


@contextmanager
def refusals(event: str, **about: Any) -> Iterator[None]:
    """Records the refusal that leaves the block; that a part did not answer decides nothing."""
    try:
        yield
    except (OAuthError, Problem) as refusal:
        if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            record(event, "refused", getattr(refusal, "reason", refusal.code), **about)
        raise


async def leave(
    store: Store, records: Records, event: str, outcome: str, reason: str = "", **about: str
) -> None:
    """What a command did, for the running service to tell: nobody collects what an operator's shell prints."""
    entry = {"event": event, "outcome": outcome, "reason": reason, "actor": OPERATOR, **about}
    async with store.connection() as redis:
        await redis.rpush(COMMANDS, records.seal(COMMANDS, json.dumps(entry)))


async def tell_of_commands(store: Store, records: Records) -> None:
    """Record what commands have left, each by one replica, until cancelled; nothing that another has left there."""
    while True:
        try:
            async with store.connection() as redis:
                left = await redis.lpop(COMMANDS, 100)
        except Unavailable:
            left = None
        for entry in left or ():
            try:
                record(**json.loads(records.open(COMMANDS, entry).text))
            except RecordForged:
                record("commands", "refused", "command_forged", actor=OURSELVES)
            # Of a newer release: those left behind it must not be lost with it.
            except (ValueError, TypeError):
                commands.exception("what a command left cannot be told")
        await asyncio.sleep(EVERY_SECONDS)
