"""What is held because somebody does not read, a client its responses or a service what clients send: bounded in all.

Each connection holds little, and may be slow for honest reasons. So only when all is too much do connections end: of the
client's address that has the most unread, those with the most first.
"""

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.server.client_connection import ClientConnection

# Of a worker. What the kernel holds for the same clients is about twice that.
_MOST_BYTES: Final = 64 * 1024 * 1024


class SlowReaders:
    """The connections that were full at some time, with the address (`per_address.network_of`) that each counts for."""

    def __init__(self) -> None:
        self.most_bytes = _MOST_BYTES
        self._clients: dict[ClientConnection, bytes] = {}

    def add(self, client: "ClientConnection", network: bytes) -> None:
        self._clients[client] = network

    def remove(self, client: "ClientConnection") -> None:
        self._clients.pop(client, None)

    def sweep(self) -> None:
        """Forgets those of whom all has been read; ends as many connections as there are bytes too many."""
        unread = {client: unread for client in self._clients if (unread := client.unread_bytes)}
        self._clients = {client: self._clients[client] for client in unread}
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
