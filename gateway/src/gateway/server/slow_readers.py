"""Clients that do not read: what is held for all of them together has a bound.

Each of them holds little, and may be slow for honest reasons. So only when all is too much do connections end: of the
address that has the most unread, those with the most first.
"""

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

_MOST_BYTES: Final = (
    64 * 1024 * 1024
)  # of a worker; what the kernel holds for the same clients is about twice that


class SlowReaders:
    """The connections whose write buffer is full, with the address (`rate_limits.network_of`) that each counts for."""

    def __init__(self) -> None:
        self.most_bytes = _MOST_BYTES
        self._clients: dict[ClientConnection, bytes] = {}

    def add(self, client: "ClientConnection", network: bytes) -> None:
        self._clients[client] = network

    def remove(self, client: "ClientConnection") -> None:
        self._clients.pop(client, None)

    def sweep(self) -> None:
        """Ends as many connections as there are bytes too many."""
        unread = {client: client.unread_bytes for client in self._clients}
        excess = sum(unread.values()) - self.most_bytes
        if excess <= 0:
            return
        networks: dict[bytes, list[ClientConnection]] = {}
        for client in sorted(unread, key=unread.__getitem__):
            networks.setdefault(self._clients[client], []).append(client)
        greediest = [(-sum(unread[client] for client in of), network) for network, of in networks.items()]
        heapq.heapify(greediest)
        while excess > 0:
            negative, network = greediest[0]
            client = networks[network].pop()
            excess -= unread[client]
            heapq.heapreplace(greediest, (negative + unread[client], network))
            client.end_unread()
