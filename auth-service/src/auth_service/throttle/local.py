"""GCRA in this process's memory, while the limits' store is away: a quarter of every allowance."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from auth_service.throttle.models import Allowance, Verdict
from service_kit import gcra


class LocalAllowances:
    def __init__(self, size: int = 10_000) -> None:
        self._tats: OrderedDict[str, int] = OrderedDict()
        self._size = size

    def spend(self, allowances: Sequence[Allowance], now: int) -> Verdict:
        """`now` in milliseconds, of any clock that does not step back."""
        strict = [_quarter(each) for each in allowances]
        tats = [gcra.spend(self._tats.get(each.key, 0), now, each.interval) for each in strict]
        verdicts = [
            Verdict(
                wait=gcra.wait(tat, now, each.interval, each.burst),
                scarcest=each,
                left=gcra.remaining(tat, now, each.interval, each.burst),
                reset=tat - now,
                in_memory=True,
            )
            for each, tat in zip(strict, tats, strict=True)
        ]
        verdict = max(verdicts, key=lambda each: (each.wait, -each.left))
        if not verdict.wait:
            for each, tat in zip(strict, tats, strict=True):
                self._tats[each.key] = tat
                self._tats.move_to_end(each.key)
            while len(self._tats) > self._size:
                self._tats.popitem(last=False)
        return verdict

    def refund(self, allowances: Sequence[Allowance]) -> None:
        """The attempt that spent them counts as not made."""
        for each in map(_quarter, allowances):
            if each.key in self._tats:
                self._tats[each.key] -= each.interval


def _quarter(allowance: Allowance) -> Allowance:
    return replace(allowance, burst=max(1, allowance.burst // 4), interval=allowance.interval * 4)
