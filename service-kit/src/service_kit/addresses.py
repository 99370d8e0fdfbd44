"""The client's address: X-Forwarded-For is believed from named peers only."""

from collections.abc import Iterable, Sequence

from fastapi import Request


class ClientAddress:
    """The rule. Peers are addresses, CIDRs or host names; names are resolved again while `run` runs."""

    def __init__(self, peers: Iterable[str]) -> None:
        raise NotImplementedError

    def trusts(self, peer: str) -> bool:
        """Whether what this peer says about a request's origin is believed."""
        raise NotImplementedError

    def of(self, peer: str, forwarded_for: Sequence[bytes]) -> str:
        """The rightmost untrusted address, given the connection's peer and every X-Forwarded-For value in order."""
        raise NotImplementedError

    def scheme(self, peer: str, forwarded_proto: Sequence[bytes], default: str) -> str:
        """http or https: X-Forwarded-Proto's if the peer is trusted, else the connection's own."""
        raise NotImplementedError

    async def resolve(self) -> None:
        """Resolve the host names once."""
        raise NotImplementedError

    async def run(self) -> None:
        """Resolve the host names again and again until cancelled."""
        raise NotImplementedError


def client_address(request: Request) -> str:
    """The client's address by `app.state.client_address`, a ClientAddress."""
    raise NotImplementedError
