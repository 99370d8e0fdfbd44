"""Sign-in limits, spent before anything is hashed: by address, account or known device, and for everybody."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from auth_service.exceptions import Unavailable
from auth_service.store import Script, Store
from auth_service.throttle.exceptions import TooManyAttempts
from auth_service.throttle.local import LocalAllowances
from auth_service.throttle.models import Allowance, Verdict
from service_kit.addresses import networks_of

SPEND = Script("throttle/spend.lua")
REFUND = Script("throttle/refund.lua")
FORGET = Script("throttle/forget.lua")

FREE_FAILURES = 5
LONGEST_BACKOFF = 15 * 60 * 1000
LINK_KEPT = 2 * 3600 * 1000  # milliseconds: longer than user-service tells of a link that was followed
ACCOUNT = "account"  # the allowance that strangers have at one account
# A customer has an IPv4 address or a few, or a /64, a /56 or a /48 of IPv6 (RFC 6177). Each of these networks has so many
# times an address's allowance, so that nobody's networks spend what everybody has together.
IPV4_STEPS, IPV6_STEPS, STEP_FACTORS = (32, 24), (64, 56, 48), (1, 4, 16)


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
    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._local = LocalAllowances()

    async def admit(self, account: str, address: str, device: str | None) -> Admission:
        """`device` is the id of a known one. Raises TooManyAttempts, by how often was tried alone: never by whether the
        account exists."""
        allowances = self._of_device(device) if device else self._of_stranger(account, address)
        backoff = _backoff(device or account)
        verdict = await self._spend(allowances, backoff)
        if verdict.wait:
            raise TooManyAttempts(verdict.scarcest.name, verdict.headers())
        return Admission(allowances, backoff, verdict)

    async def admit_question(self, address: str) -> bool:
        """Whether user-service may be asked about a mailed link, before which nothing tells who is trying."""
        verdict = await self._spend(self._of_networks("link", address))
        return not verdict.wait

    async def forget_failures(self, account: str, link: str) -> bool:
        """The account's failures, as its person has followed this mailed link; once for each link."""
        try:
            forgotten = await self._store.run(
                FORGET,
                link=f"signin:followed:{link}",
                kept=LINK_KEPT,
                failures=[_backoff(account), *(each.key for each in self._of_account(account))],
            )
        except Unavailable:
            return False
        return bool(forgotten)

    async def refund(self, admission: Admission, *, succeeded: bool) -> None:
        """Only failures count: an attempt that succeeded, or that nobody could decide, is given back."""
        await self._give_back(admission.allowances, admission, succeeded=succeeded)

    async def forgive(self, admission: Admission) -> None:
        """Not held against the account, as its caller left: but it took a place all the same, and whoever leaves again
        and again would take all of them for nothing."""
        of_account = [each for each in admission.allowances if each.name == ACCOUNT]
        await self._give_back(of_account, admission, succeeded=False)

    async def _give_back(
        self, allowances: Sequence[Allowance], admission: Admission, *, succeeded: bool
    ) -> None:
        if admission.verdict.in_memory:
            self._local.refund(allowances)
            return
        try:
            await self._store.run(
                REFUND,
                allowances=_as_arguments(allowances),
                backoff=admission.backoff,
                succeeded=succeeded,
            )
        except Unavailable:
            logger.warning("an attempt could not be given back to its limits")

    def _of_device(self, device: str) -> list[Allowance]:
        # Nothing that strangers can spend: neither the account's allowance nor their shared address's.
        return [_per_minute("device", device, self._limits.account)]

    def _of_account(self, account: str) -> list[Allowance]:
        return [_per_minute(ACCOUNT, account, self._limits.account)]

    def _of_stranger(self, account: str, address: str) -> list[Allowance]:
        return [
            *self._of_account(account),
            *self._of_networks("address", address),
            _per_minute("everybody", "", self._limits.everybody),
        ]

    def _of_networks(self, name: str, address: str) -> list[Allowance]:
        networks = zip(networks_of(address, IPV4_STEPS, IPV6_STEPS), STEP_FACTORS, strict=False)
        return [_per_minute(name, network, factor * self._limits.address) for network, factor in networks]

    async def _spend(self, allowances: Sequence[Allowance], backoff: str | None = None) -> Verdict:
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


def _backoff(holder: str) -> str:
    return f"signin:backoff:{holder}"


def _per_minute(name: str, key: str, count: int) -> Allowance:
    return Allowance(name, f"signin:{name}:{key}", burst=count, interval=max(1, 60_000 // count))


def _as_arguments(allowances: Sequence[Allowance]) -> list[dict[str, object]]:
    return [{"key": each.key, "burst": each.burst, "interval": each.interval} for each in allowances]
