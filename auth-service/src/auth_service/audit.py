"""One event per security decision, as a log line and a metric; never a token, password or e-mail address."""

import ipaddress
import logging
from dataclasses import dataclass

from prometheus_client import Counter

logger = logging.getLogger("auth_service.audit")

EVENTS = Counter("auth_decisions", "Security decisions.", ["event", "outcome", "reason"])


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, coarse enough to be kept."""

    address: str = ""
    device: str = ""

    @property
    def prefix(self) -> str:
        try:
            parsed = ipaddress.ip_address(self.address)
        except ValueError:
            return ""
        return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def record(
    event: str,
    outcome: str,
    reason: str = "",
    *,
    actor: str = "",
    client: str = "",
    session: str = "",
    origin: Origin = Origin(),
) -> None:
    """`actor` is a user id or `client:<id>`; reason is a stable code. The log adds the request id."""
    EVENTS.labels(event, outcome, reason).inc()
    logger.info(
        "%s %s, reason=%s actor=%s client=%s session=%s address=%s",
        event,
        outcome,
        reason or "-",
        actor or "-",
        client or "-",
        session or "-",
        origin.prefix or "-",
        extra={
            "event": event,
            "outcome": outcome,
            "reason": reason,
            "actor": actor,
            "client": client,
            "session": session,
            "address": origin.prefix,
        },
    )
