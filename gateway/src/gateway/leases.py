"""The allowances of one worker: spent from memory, kept in step with the other workers through Redis."""

from gateway.routes import Limit


class Lease:
    """What this worker may admit for one holder at one route: a GCRA of its own share."""

    __slots__ = ("_arrival", "_interval", "_tolerance")

    def __init__(self, limit: Limit) -> None:
        self._interval = limit.per_seconds / limit.rate
        self._tolerance = ((limit.burst or limit.rate) - 1) * self._interval
        self._arrival = 0.0

    def spend(self, now: float) -> bool:
        arrival = max(self._arrival, now)
        if arrival - now > self._tolerance:
            return False
        self._arrival = arrival + self._interval
        return True

    def remaining(self, now: float) -> int:
        return max(0, int((self._tolerance - (max(self._arrival, now) - now)) / self._interval) + 1)

    def wait(self, now: float) -> float:
        """Seconds until the next request can be admitted."""
        return max(0.0, max(self._arrival, now) - now - self._tolerance)


class Leases:
    """One lease a holder and route."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def of(self, key: str, limit: Limit, now: float) -> Lease:
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = Lease(limit)
        return lease
