"""How much each address holds open at this worker: counted, and never more than a bound."""

from math import inf


class PerAddress:
    """So many of one thing for each network address (`limits.network_of`); a bound of 0 is none."""

    __slots__ = ("_held", "most")

    def __init__(self, most: int) -> None:
        self.most = most or inf
        self._held: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, network: bytes) -> int:
        """Counts one more, beyond the bound too; returns how many there are."""
        held = self._held[network] = self._held.get(network, 0) + 1
        return held

    def take(self, network: bytes) -> bool:
        """Counts one more unless the bound is reached."""
        held = self._held.get(network, 0)
        if held >= self.most:
            return False
        self._held[network] = held + 1
        return True

    def leave(self, network: bytes) -> None:
        held = self._held[network] - 1
        if held:
            self._held[network] = held
        else:
            del self._held[network]
