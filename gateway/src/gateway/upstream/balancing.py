"""Which address of a service gets the next request, and which is left alone for a while."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

_FAILURES: Final = 3
_LONGEST: Final = 30.0


def choose(addresses: Sequence["Pool"], now: float, tried: "Pool | None") -> "Pool | None":
    """The address with the fewest requests outstanding; one tried before or ejected only if there is no other.

    Among equals, who are all of them while there is little to do, it is the one whose turn is longest ago. A new one gets
    one request until it has answered it: a replica has its name before it is ready to serve.
    """
    best: Pool | None = None
    best_rank = (True, True, True, 0, 0)
    turn = 0
    for address in addresses:
        outstanding = address.outstanding
        on_trial = address.new and outstanding > 0
        rank = (address is tried, address.ejected_until > now, on_trial, outstanding, address.turn)
        if best is None or rank < best_rank:
            best, best_rank = address, rank
        if address.turn > turn:  # max() would take as long as all the rest
            turn = address.turn
    if best is not None:
        best.turn = turn + 1
    return best


def failed(address: "Pool", now: float) -> bool:
    """Ejects an address after consecutive failures, each time for longer; choose() never runs out of addresses. Returns
    whether this one ejected it."""
    address.failures += 1
    if address.failures < _FAILURES:
        return False
    address.failures = 0
    address.ejections += 1
    address.ejected_until = now + min(_LONGEST, 2.0 ** (address.ejections - 1))
    return True


def succeeded(address: "Pool") -> None:
    address.new = False
    address.failures = 0
    address.ejections = 0
