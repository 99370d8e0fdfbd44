"""Clients that closed their sending half while their request is under way: they wait for the answer, or are gone.

Nothing on our side tells the two apart before something is written: a FIN is all that either leaves, and a proxy such as
docker's makes one of a reset. So a bounded number of them wait as long as anybody, and those beyond it for a moment, in
which most answers come. None of them is in the service's crowd (upstream/crowd.py), so thousands who hang up have nobody
refused; each place is given back with the first byte of the answer.
"""

from typing import Final, Protocol

from gateway.per_address import PerAddress

_MOST: Final = 256  # of a worker
_OF_AN_ADDRESS: Final = 16
_MOMENT_SECONDS: Final = 0.8


class Client(Protocol):
    """A client's connection that is half-closed."""

    @property
    def unanswered(self) -> bool: ...

    def hang_up(self) -> None: ...


class HalfClosed:
    """Those who wait, and those whose moment will be over."""

    def __init__(self) -> None:
        self._places: dict[Client, bytes] = {}
        self._moments: dict[Client, float] = {}
        self._addresses = PerAddress(_OF_AN_ADDRESS)

    def add(self, client: Client, network: bytes, now: float) -> None:
        self.remove(client)  # its requests before this one
        if len(self._places) < _MOST and self._addresses.take(network):
            self._places[client] = network
        else:
            self._moments[client] = now + _MOMENT_SECONDS

    def remove(self, client: Client) -> None:
        self._moments.pop(client, None)
        network = self._places.pop(client, None)
        if network is not None:
            self._addresses.leave(network)

    def sweep(self, now: float) -> None:
        """Gives back the places of those who are being answered, and hangs up on those whose moment is over."""
        for client in (*self._places, *self._moments):
            if not client.unanswered:
                self.remove(client)
            elif self._moments.get(client, now) < now:
                self.remove(client)
                client.hang_up()
