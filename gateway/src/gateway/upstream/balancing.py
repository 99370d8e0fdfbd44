"""Which address of a service gets the next request, and which is left alone for a while."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

_FAILURES: Final = 3
_LONGEST: Final = 30.0


def choose(pools: Sequence["Pool"], now: float, tried: "Pool | None") -> "Pool | None":
    """The address with the fewest requests outstanding; one tried before or ejected only if there is no other."""
    if len(pools) == 1:
        return pools[0]
    best: Pool | None = None
    best_rank = (True, True, 0)
    for pool in pools:
        rank = (pool is tried, pool.ejected_until > now, pool.outstanding)
        if best is None or rank < best_rank:
            best, best_rank = pool, rank
    return best


def failed(pool: "Pool", now: float) -> None:
    """Ejects an address after consecutive failures, each time for longer; choose() never runs out of addresses."""
    pool.failures += 1
    if pool.failures >= _FAILURES:
        pool.failures = 0
        pool.ejections += 1
        pool.ejected_until = now + min(_LONGEST, 2.0 ** (pool.ejections - 1))


def succeeded(pool: "Pool") -> None:
    pool.failures = 0
    pool.ejections = 0
