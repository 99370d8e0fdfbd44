"""Clients that closed their sending half while their request is under way: they wait for the answer, or are gone.

Both leave nothing but a FIN until something is written to them; then whoever is gone answers with a reset. So each is
written `100 Continue`, which a client passes over (RFC 9110, 15.2), at each of the next sweeps: the second time for the
sake of a proxy such as docker's, which makes a FIN of a reset, and the third for one that passes on a FIN. Whoever is
still there is waited for like anybody, up to a bound, and those beyond it for a moment, in which most answers come.
Each place is given back with the first byte of the answer.
"""

from typing import TYPE_CHECKING, Final

from gateway.rate_limit.per_address import PerAddress

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

_MOST: Final = 256  # of a worker
_OF_AN_ADDRESS: Final = 16
_MOMENT_SECONDS: Final = 0.8
_PROBES: Final = 3  # Go's client takes five interim responses, and the service's own may come, too


class HalfClosed:
    """Those who wait, and those whose moment will be over."""

    def __init__(self) -> None:
        self._places: dict[ClientConnection, bytes] = {}
        self._moments: dict[ClientConnection, float] = {}
        self._probes: dict[ClientConnection, int] = {}  # how many are still to be written
        self._addresses = PerAddress(_OF_AN_ADDRESS)

    def add(self, client: "ClientConnection", network: bytes, now: float) -> None:
        self.remove(client)  # its requests before this one
        self._probes[client] = _PROBES
        if len(self._places) < _MOST and self._addresses.take(network):
            self._places[client] = network
        else:
            self._moments[client] = now + _MOMENT_SECONDS

    def remove(self, client: "ClientConnection") -> None:
        self._probes.pop(client, None)
        self._moments.pop(client, None)
        network = self._places.pop(client, None)
        if network is not None:
            self._addresses.leave(network)

    def sweep(self, now: float) -> None:
        """Gives back the places of those who are being answered, finds those who are gone, and hangs up on those whose
        moment is over."""
        for client in (*self._places, *self._moments):
            if not client.unanswered:
                self.remove(client)
            elif self._moments.get(client, now) < now:
                self.remove(client)
                client.abort()
            elif self._probes[client]:
                self._probes[client] -= 1
                client.probe()
