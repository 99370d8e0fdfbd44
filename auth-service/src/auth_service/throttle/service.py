"""Sign-in limits, spent before anything is hashed: by address, account or known device, and for everybody."""

import ipaddress
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from auth_service.exceptions import Unavailable
from auth_service.store import Script, Store
from auth_service.throttle.devices import Devices
from auth_service.throttle.exceptions import TooManyAttempts
from auth_service.throttle.local import LocalAllowances
from auth_service.throttle.models import Allowance, Verdict

SPEND = Script("throttle/spend.lua")
REFUND = Script("throttle/refund.lua")

FREE_FAILURES = 5
LONGEST_BACKOFF = 15 * 60 * 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Failed sign-ins a minute."""

    address: int
    account: int
    everybody: int


@dataclass(frozen=True, slots=True)
class Admission:
    """An attempt that may be tried: what it spent, and what it says to the client."""

    allowances: Sequence[Allowance]
    backoff: str
    verdict: Verdict


class Throttle:
    def __init__(self, store: Store, devices: Devices, limits: Limits) -> None:
        self._store = store
        self._devices = devices
        self._limits = limits
        self._local = LocalAllowances()

    async def admit(self, account: str, address: str, device: str | None) -> Admission:
        """Raises TooManyAttempts, by how often was tried alone: never by whether the account exists."""
        known = self._devices.known(account, device) if device else None
        allowances = self._of_device(known) if known else self._of_stranger(account, address)
        backoff = f"signin:backoff:{known or account}"
        verdict = await self._spend(allowances, backoff)
        if verdict.wait:
            raise TooManyAttempts(headers=verdict.headers())
        return Admission(allowances, backoff, verdict)

    async def give_back(self, admission: Admission, *, succeeded: bool) -> None:
        """Only failures count: an attempt that succeeded, or that nobody could decide, is given back."""
        if admission.verdict.in_memory:
            self._local.refund(admission.allowances)
            return
        try:
            await self._store.run(
                REFUND,
                allowances=_as_arguments(admission.allowances),
                backoff=admission.backoff,
                succeeded=succeeded,
            )
        except Unavailable:
            logger.warning("an attempt could not be given back to its limits")

    def _of_device(self, device: str) -> list[Allowance]:
        # Nothing that strangers can spend: neither the account's allowance nor their shared address's.
        return [_per_minute("device", device, self._limits.account)]

    def _of_stranger(self, account: str, address: str) -> list[Allowance]:
        return [
            _per_minute("account", account, self._limits.account),
            _per_minute("address", address_prefix(address), self._limits.address),
            _per_minute("everybody", "", self._limits.everybody),
        ]

    async def _spend(self, allowances: Sequence[Allowance], backoff: str) -> Verdict:
        try:
            wait, scarcest, left, reset = await self._store.run(
                SPEND,
                allowances=_as_arguments(allowances),
                backoff=backoff,
                free=FREE_FAILURES,
                longest=LONGEST_BACKOFF,
            )
        except Unavailable:
            return self._local.spend(allowances, int(time.monotonic() * 1000))
        return Verdict(wait, allowances[scarcest - 1], left, reset)


def address_prefix(address: str) -> str:
    """One customer's worth of addresses: a whole IPv4 address, the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _per_minute(name: str, key: str, count: int) -> Allowance:
    return Allowance(name, f"signin:{name}:{key}", burst=count, interval=60_000 // count)


def _as_arguments(allowances: Sequence[Allowance]) -> list[dict[str, object]]:
    return [{"key": each.key, "burst": each.burst, "interval": each.interval} for each in allowances]
