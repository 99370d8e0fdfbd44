"""How much each address holds open at this worker: counted, and never more than a bound."""

from functools import lru_cache
from math import inf
from typing import Final

from service_kit.addresses import networks_of

# Who has an IPv6 /64 often has the /56 or the /48 around it, too: these have two and three times as much.
_IPV6_STEPS: Final = (64, 56, 48)
_COLON: Final = ord(":")  # only IPv6 has it


class PerAddress:
    """So many of one thing for each network address (`network_of`); a bound of 0 is none."""

    __slots__ = ("_held", "most")

    def __init__(self, most: int) -> None:
        self.most = most or inf
        self._held: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, network: bytes) -> float:
        """Counts one more, beyond the bound too; returns by how many there are too many."""
        over = -inf
        for step, each in enumerate(around(network), 1):
            held = self._held[each] = self._held.get(each, 0) + 1
            over = max(over, held - step * self.most)
        return over

    def take(self, network: bytes) -> bool:
        """Counts one more unless a bound is reached."""
        counted = around(network)
        for step, each in enumerate(counted, 1):
            if self._held.get(each, 0) >= step * self.most:
                return False
        for each in counted:
            self._held[each] = self._held.get(each, 0) + 1
        return True

    def leave(self, network: bytes) -> None:
        for each in around(network):
            held = self._held[each] - 1
            if held:
                self._held[each] = held
            else:
                del self._held[each]


def network_of(address: bytes) -> bytes:
    """The address, or an IPv6 address's /64, or the IPv4 address that it maps: whoever has one there has them all."""
    if _COLON not in address:
        return address
    [network] = networks_of(address.decode("latin-1"), (32,), (64,))
    return network.removesuffix("/32").encode()


def around(network: bytes) -> tuple[bytes, ...]:
    """The network and the larger ones that it is counted in."""
    return _steps(network) if _COLON in network else (network,)


@lru_cache(4096)
def _steps(network: bytes) -> tuple[bytes, ...]:
    address = network.decode("latin-1").partition("/")[0]
    return tuple(each.encode() for each in networks_of(address, (32,), _IPV6_STEPS))
