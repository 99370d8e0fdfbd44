"""What a service's response says has ended: applied before a byte of that response is passed on."""

import logging
import time
from collections.abc import Collection, Sequence
from typing import Final

from gateway.policy.shared_revocations import SharedRevocations
from service_kit.response_revocations import Malformed, TooLarge, read, write
from service_kit.revocations import Revocations

_log = logging.getLogger("gateway.revocations")
_MOST_HELD: Final = 200_000
_LOGGED_EVERY: Final = 60.0


class ResponseRevocations:
    """One worker's part: it believes the services that are entitled, and tells the other workers.

    Who can answer in the place of one of those services reads every password and token that is sent there, so a MAC
    would add a secret and protect nothing that is not lost already.
    """

    def __init__(
        self,
        revocations: Revocations,
        entitled: Collection[str],
        shared: SharedRevocations,
    ) -> None:
        self._revocations = revocations
        self._entitled = frozenset(entitled)
        self._shared = shared
        self._written = shared.written
        self._position = 0
        self._logged: dict[tuple[str, str], float] = {}
        self.counts: dict[tuple[str, ...], float] = {}  # by service and result

    def take(self, service: str, values: Sequence[bytes]) -> None:
        """From the header's lines. What is ignored here still comes by the stream, if it is true."""
        if service not in self._entitled:
            self._ignore(service, "not_entitled")
            return
        try:
            named = read(values)
        except (Malformed, TooLarge) as fault:
            self._ignore(service, "too_large" if isinstance(fault, TooLarge) else "malformed")
            return
        now = time.time()
        furthest = self._revocations.furthest(now)
        fit = [revocation for revocation in named if now < revocation.until <= furthest]
        if len(fit) < len(named):
            self._ignore(service, "until_out_of_range")
        if len(self._revocations) >= _MOST_HELD:
            self._ignore(service, "full")
        elif fit:
            self._count(service, "applied")
            if not self._shared.append([write(revocation).encode() for revocation in fit]):
                self._ignore(service, "not_shared")  # the other workers learn it by the stream
                for revocation in fit:
                    self._revocations.add(revocation)
            self.catch_up()

    def catch_up(self) -> None:
        """Apply what any worker was told. Comes before each check: the first line is all that it mostly costs."""
        if self._written[0] == self._position:
            return
        texts, self._position, overwritten = self._shared.since(self._position)
        now = time.time()
        for text in texts:
            for revocation in read([text]):
                if revocation.until > now:
                    self._revocations.add(revocation)
        if overwritten:
            # This worker did nothing for long. What it missed is in the stream, which has to prove itself again.
            _log.warning("revocations that other workers were told of were missed: the stream is read first")
            self._revocations.unprove()

    def _ignore(self, service: str, reason: str) -> None:
        self._count(service, reason)
        now = time.monotonic()
        if now - self._logged.get((service, reason), -_LOGGED_EVERY) >= _LOGGED_EVERY:
            self._logged[service, reason] = now
            _log.warning("what %s says has ended is ignored, reason=%s", service, reason)

    def _count(self, service: str, result: str) -> None:
        self.counts[service, result] = self.counts.get((service, result), 0) + 1
